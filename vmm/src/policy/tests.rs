//! Who is restricted by what, and files that are not to be trusted.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use image::reference::Source;
use image::trust::Origin;

use super::*;
use crate::config::{Cpus, Memory};

const POLICY: &str = r#"
[[rule]]
name = "everybody"
cpus = 8

[[rule]]
name = "students"
users = ["4001", "nobody"]
groups = ["4100"]
images = ["docker.io/library/", "localhost:5000/course", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]
memory = "512m"
cpus = 2
"#;

fn policy(user: u32, groups: &[u32]) -> Policy {
    let groups = groups.to_vec();
    Policy::parse(POLICY, &Caller { user, groups }).unwrap()
}

fn shape(mib: u64, cpus: u64) -> VmConfig {
    VmConfig {
        memory: Memory::mib(mib).unwrap(),
        cpus: Cpus::new(cpus).unwrap(),
        ..VmConfig::default()
    }
}

/// What is written down of an image that came from `text`.
fn origins(text: &str) -> Vec<String> {
    let source = Source::parse(OsStr::new(text)).unwrap();
    vec![Origin::of(&source).to_string()]
}

#[test]
fn a_rule_holds_for_those_it_names_and_refusals_name_the_rule() {
    let (student, teacher) = (policy(4001, &[]), policy(4002, &[]));
    assert!(student.permits_shape(&shape(512, 2), None).is_ok());
    assert!(teacher.permits_shape(&shape(4096, 8), None).is_ok());
    let refusals = [
        (student.permits_shape(&shape(513, 1), None), "students"),
        (student.permits_shape(&shape(64, 3), None), "students"),
        (teacher.permits_shape(&shape(64, 9), None), "everybody"),
        (
            student.permits_image(&origins("ghcr.io/x/y"), &[]),
            "students",
        ),
    ];
    for (refusal, rule) in refusals {
        let text = refusal.unwrap_err().to_string();
        assert!(text.contains(rule), "{text}");
    }
    assert!(
        policy(7, &[1, 4100])
            .permits_shape(&shape(513, 1), None)
            .is_err()
    );
    assert!(
        policy(65534, &[])
            .permits_shape(&shape(513, 1), None)
            .is_err(),
        "nobody, by name"
    );
}

#[test]
fn images_are_allowed_by_whole_parts_of_their_name() {
    let student = policy(4001, &[]);
    let allowed = |text: &str| student.permits_image(&origins(text), &[]).is_ok();
    assert!(
        allowed("alpine")
            && allowed("localhost:5000/course:v1")
            && allowed("localhost:5000/course/a")
    );
    assert!(!allowed("localhost:5000/courses") && !allowed("someone/alpine"));
    assert!(!allowed("docker-archive:/tmp/x.tar"));
    assert!(student.permits_fetch("docker.io/someone/x:1").is_ok());
    // One good place is enough: it is the same image. None is not.
    let both = [origins("ghcr.io/x/y"), origins("alpine")].concat();
    assert!(student.permits_image(&both, &[]).is_ok());
    assert!(student.permits_image(&[], &[]).is_err());
}

#[test]
fn images_are_allowed_by_digest_whatever_their_name() {
    let student = policy(4001, &[]);
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let other = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b856";
    let local = origins("docker-archive:/tmp/x.tar");
    // A name alone does not decide while a digest may.
    assert!(student.permits_fetch(&local[0]).is_ok());
    assert!(
        student
            .permits_image(&local, &[&digest.parse().unwrap()])
            .is_ok()
    );
    assert!(
        student
            .permits_image(&local, &[&other.parse().unwrap()])
            .is_err()
    );
}

#[test]
fn what_is_not_understood_is_refused() {
    let caller = Caller {
        user: 0,
        groups: vec![0],
    };
    // What `hull run` has no flags for cannot be restricted, and nobody is left to believe it is.
    for key in ["ports", "devices"] {
        let text = format!("[[rule]]\nname = 'x'\n{key} = []\n");
        let error = Policy::parse(&text, &caller).unwrap_err();
        let reason = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            reason.contains(&format!("unknown field `{key}`")) && reason.contains("`images`"),
            "{reason}"
        );
    }
    for text in [
        "[[rule]]\nname = 'x'\ncpu = 1\n",
        "[[rules]]\nname = 'x'\n",
        "[[rule]]\ncpus = 1\n",
        "[[rule]]\nname = 'x'\ncpus = -1\n",
        "=",
    ] {
        assert!(
            matches!(Policy::parse(text, &caller), Err(PolicyError::Syntax(..))),
            "{text}"
        );
    }
    let policy = Policy::parse("[[rule]]\nname = 'x'\nmemory = 'much'\n", &caller).unwrap();
    let refusal = policy.permits_shape(&shape(64, 1), None);
    assert!(
        matches!(refusal, Err(PolicyError::Memory { .. })),
        "{refusal:?}"
    );
}

#[test]
fn a_policy_that_others_could_write_is_not_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    assert!(read(&path).unwrap().is_none());
    fs::write(&path, "").unwrap();
    for mode in [0o666, 0o664, 0o622] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        assert!(
            matches!(read(&path), Err(PolicyError::Loose(_))),
            "{mode:o}"
        );
    }
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let trusted = read(&path);
    if rustix::process::geteuid().is_root() {
        assert!(trusted.unwrap().is_some());
    } else {
        assert!(matches!(trusted, Err(PolicyError::Loose(_))));
    }
}

#[test]
fn networks_and_ports_are_restricted() {
    let text = r#"
[[rule]]
name = "quiet"
networks = ["default", "front"]
host-gateway = false
publish = ["8000-8010", "53"]
"#;
    let caller = Caller {
        user: 1,
        groups: Vec::new(),
    };
    let policy = Policy::parse(text, &caller).unwrap();
    let mut config = shape(64, 1);
    let refused = |own| match policy.permits_shape(&config, own) {
        Err(PolicyError::Network { network, .. }) => network,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        (refused(None).as_str(), refused(Some("back")).as_str()),
        ("none", "back")
    );
    config.network = Some(network::Settings::default());
    policy.permits_shape(&config, None).unwrap();
    policy.permits_shape(&config, Some("front")).unwrap();
    assert!(policy.permits_shape(&config, Some("back")).is_err());
    config.network.as_mut().unwrap().host = true;
    assert!(matches!(
        policy.permits_shape(&config, None),
        Err(PolicyError::HostGateway { .. })
    ));
    let ports = |text: &str| policy.permits_ports(&text.parse::<publish::Published>().unwrap().0);
    ports("8000-8010:1-11").unwrap();
    ports("53:53/udp").unwrap();
    for refused in ["8011:80", "80", "7999-8000:1-2"] {
        assert!(
            matches!(ports(refused), Err(PolicyError::Publish { .. })),
            "{refused}"
        );
    }
    let text = text.replace("\"53\"", "\"dns\"");
    let policy = Policy::parse(&text, &caller).unwrap();
    assert!(matches!(
        policy.permits_ports(&[]),
        Err(PolicyError::Port { .. })
    ));
}

#[test]
fn directories_of_the_host_are_allowed_one_by_one() {
    let caller = Caller {
        user: 0,
        groups: vec![0],
    };
    let policy = |keys: &str| {
        let text = format!("[[rule]]\nname = 'x'\n{keys}\n");
        Policy::parse(&text, &caller).unwrap()
    };
    let permits = |policy: &Policy, path: &str, read_only| {
        policy.permits_volume(Path::new(path), read_only).is_ok()
    };
    let free = policy("cpus = 1");
    assert!(permits(&free, "/", false));
    let bound = policy("volumes = ['/srv/data', '/home/']\nvolumes_read_only = ['/usr']");
    for path in ["/srv/data", "/srv/data/a", "/home/u"] {
        assert!(
            permits(&bound, path, false) && permits(&bound, path, true),
            "{path}"
        );
    }
    for path in ["/", "/srv", "/srv/database", "/etc"] {
        assert!(
            !permits(&bound, path, false) && !permits(&bound, path, true),
            "{path}"
        );
    }
    assert!(permits(&bound, "/usr/share", true) && !permits(&bound, "/usr/share", false));
    let refusal = bound.permits_volume(Path::new("/usr/share"), false);
    assert!(
        refusal
            .unwrap_err()
            .to_string()
            .contains("unless it is read-only")
    );
    for none in ["volumes = []", "volumes_read_only = ['/usr']"] {
        assert!(!permits(&policy(none), "/srv", false), "{none}");
    }
}

#[test]
fn a_directory_as_the_root_is_an_image_and_a_directory_of_the_host() {
    let caller = Caller {
        user: 0,
        groups: vec![0],
    };
    let permits = |keys: &str, path: &str, read_only| {
        let text = format!("[[rule]]\nname = 'x'\n{keys}\n");
        let policy = Policy::parse(&text, &caller).unwrap();
        policy.permits_rootfs(Path::new(path), read_only)
    };
    permits("cpus = 1", "/srv/tree", false).unwrap();
    permits("images = ['rootfs:/srv/']", "/srv/tree", false).unwrap();
    let refusal = permits("images = ['docker.io/library/']", "/srv/tree", true).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "Rule \"x\" of /etc/hull/policy.toml does not allow the image rootfs:/srv/tree"
    );
    // No digest says what is in it.
    let digest = format!("images = ['sha256:{}']", "0".repeat(64));
    permits(&digest, "/srv/tree", true).unwrap_err();
    let bound = "volumes = ['/srv/mine']\nvolumes_read_only = ['/srv']";
    permits(bound, "/srv/mine/tree", false).unwrap();
    permits(bound, "/srv/tree", true).unwrap();
    permits(bound, "/srv/tree", false).unwrap_err();
}
