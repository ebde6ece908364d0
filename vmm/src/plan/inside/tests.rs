//! Flags together, as docker understands them.

use clap::Parser;
use protocol::Bytes;

use super::*;
use crate::cli::Source;
use crate::config::Root;

#[derive(Parser)]
struct Typed {
    #[command(flatten)]
    inside: Inside,
}

fn flags(words: &[&str]) -> Inside {
    Typed::try_parse_from([&["x"], words].concat())
        .unwrap()
        .inside
}

fn made(words: &[&str]) -> Result<Container, PlanError> {
    let flags = flags(words);
    let volumes = volumes(&flags, &Execution::default())?;
    container(
        &flags,
        &volumes,
        &VmConfig::default(),
        None,
        "box".to_owned(),
    )
}

#[test]
fn without_flags_it_is_dockers_default() {
    let flags = flags(&[]);
    assert_eq!(privileges(&flags), Privileges::DOCKER);
    assert_eq!((limits(&flags), groups(&flags)), (Vec::new(), Vec::new()));
    let container = container(&flags, &[], &VmConfig::default(), None, "box".to_owned()).unwrap();
    assert!(container.confined && !container.read_only);
    assert_eq!((container.pids, container.shm_size), (None, None));
    assert!(container.sysctls.is_empty() && container.tmpfs.is_empty());
}

#[test]
fn capabilities_are_added_and_dropped_as_docker_does() {
    let bits = |words: &[&str]| privileges(&flags(words)).capabilities;
    let docker = Privileges::DOCKER.capabilities;
    assert_eq!(bits(&["--cap-add", "NET_ADMIN"]), docker | 1 << 12);
    assert_eq!(bits(&["--cap-drop", "chown"]), docker & !1);
    assert_eq!(bits(&["--cap-drop=ALL"]), 0);
    assert_eq!(bits(&["--cap-drop=ALL", "--cap-add=KILL"]), 1 << 5);
    assert_eq!(bits(&["--cap-add=ALL"]), u64::MAX);
    assert_eq!(bits(&["--cap-add=ALL", "--cap-drop=SYS_ADMIN"]), !(1 << 21));
    // What is named in both is there.
    assert_eq!(bits(&["--cap-add=CHOWN", "--cap-drop=CHOWN"]), docker);
    assert_eq!(bits(&["--privileged"]), u64::MAX);
    assert_eq!(bits(&["--privileged", "--cap-drop=NET_RAW"]), !(1 << 13));
    assert_eq!(bits(&["--privileged=false"]), docker);
}

#[test]
fn privileged_is_not_confined() {
    assert!(!made(&["--privileged"]).unwrap().confined);
    assert!(made(&["--privileged=false"]).unwrap().confined);
    assert!(made(&["--cap-add=ALL"]).unwrap().confined);
    assert!(made(&["--read-only"]).unwrap().read_only);
    assert!(!made(&["--read-only=false"]).unwrap().read_only);
}

#[test]
fn the_last_word_on_new_privileges_counts() {
    let no_new = |words: &[&str]| privileges(&flags(words)).no_new;
    assert!(no_new(&["--security-opt", "no-new-privileges"]));
    assert!(!no_new(&[
        "--security-opt=no-new-privileges",
        "--security-opt=no-new-privileges=false"
    ]));
    assert!(no_new(&[
        "--security-opt=no-new-privileges",
        "--security-opt=seccomp=unconfined"
    ]));
}

#[test]
fn limits_of_processes_and_memory() {
    for (typed, meant) in [("100", Some(100)), ("0", None), ("-1", None)] {
        let container = made(&["--pids-limit", typed]).unwrap();
        assert_eq!(container.pids, meant, "{typed}");
    }
    let container = made(&["--shm-size", "1m"]).unwrap();
    assert_eq!(container.shm_size, Some(1 << 20));
    assert_eq!(made(&["--shm-size", "0"]).unwrap().shm_size, None);
    let limits = limits(&flags(&["--ulimit=core=0", "--ulimit", "nofile=1:2"]));
    let resources: Vec<_> = limits.iter().map(|limit| limit.resource).collect();
    assert_eq!(resources, [4, 7]);
}

#[test]
fn mounts_come_in_an_order_that_hides_none() {
    let container = made(&[
        "--tmpfs",
        "/a/b:size=1m",
        "--mount=type=tmpfs,target=/a",
        "--tmpfs=/c",
    ]);
    let paths: Vec<_> = container.unwrap().tmpfs;
    let paths: Vec<_> = paths.iter().map(|tmpfs| tmpfs.path.clone()).collect();
    assert_eq!(paths, ["/a", "/a/b", "/c"].map(Bytes::from));
    let twice = made(&["--tmpfs=/a/", "--mount=type=tmpfs,target=/a"]);
    assert!(matches!(twice, Err(PlanError::MountedTwice(path)) if path == "/a"));
}

fn text(bytes: &Option<Bytes>) -> String {
    String::from_utf8_lossy(bytes.as_ref().unwrap()).into_owned()
}

#[test]
fn a_card_on_a_device_of_the_hosts_has_its_own_addresses_and_name_servers() {
    let flags = flags(&["--dns=192.0.2.53"]);
    let machine = VmConfig {
        network: Some(::network::Settings::default()),
        ..VmConfig::default()
    };
    let mut uplink = Uplink::Tap {
        device: "tap0".to_owned(),
        card: crate::uplink::Card {
            addresses: vec!["192.0.2.5/24".parse().unwrap()],
            ways: Vec::new(),
        },
    };
    let made = container(&flags, &[], &machine, Some(&uplink), "box".to_owned()).unwrap();
    assert!(text(&made.hosts).ends_with("192.0.2.5\tbox\n"));
    assert_eq!(text(&made.resolv_conf), "nameserver 192.0.2.53\n");
    assert_eq!(made.network.unwrap().addresses.len(), 1);
    // Without an address of its own, and without a name server of its own: never hull's, which is not there.
    if let Uplink::Tap { card, .. } = &mut uplink {
        card.addresses.clear();
    }
    let made = container(
        &self::flags(&[]),
        &[],
        &machine,
        Some(&uplink),
        "box".to_owned(),
    )
    .unwrap();
    assert!(text(&made.hosts).ends_with("127.0.1.1\tbox\n"));
    assert!(!text(&made.resolv_conf).contains("10.0.2.2"));
}

#[test]
fn hosts_have_the_names_given() {
    let plain = text(&made(&[]).unwrap().hosts);
    assert!(plain.ends_with("127.0.1.1\tbox\n"), "{plain}");
    let container = made(&[
        "--domainname=example.org",
        "--add-host=db:10.0.0.2",
        "--add-host=six=::1",
    ])
    .unwrap();
    let hosts = text(&container.hosts);
    assert!(
        hosts.ends_with("127.0.1.1\tbox.example.org box\n10.0.0.2\tdb\n::1\tsix\n"),
        "{hosts}"
    );
    let domainname = container.sysctls.first().unwrap();
    assert_eq!(domainname.name, "kernel.domainname".into());
    assert_eq!(domainname.value, "example.org".into());
    assert!(matches!(
        made(&["--domainname=a b"]),
        Err(PlanError::Domainname(_))
    ));
}

#[test]
fn the_resolver_is_told_what_was_typed() {
    let resolv_conf = |words: &[&str]| made(words).map(|made| text(&made.resolv_conf));
    assert_eq!(
        resolv_conf(&[]).unwrap(),
        "# This container has no network.\n"
    );
    assert_eq!(
        resolv_conf(&[
            "--dns=192.0.2.1",
            "--dns=::1",
            "--dns-search=a.example",
            "--dns-search=b.example",
            "--dns-option=ndots:2",
            "--dns-opt=rotate"
        ])
        .unwrap(),
        "nameserver 192.0.2.1\nnameserver ::1\nsearch a.example b.example\noptions ndots:2 rotate\n"
    );
    let none = resolv_conf(&["--dns=192.0.2.1", "--dns-search=."]).unwrap();
    assert_eq!(none, "nameserver 192.0.2.1\n");
    for word in [
        "--dns-search=",
        "--dns-search=a b",
        "--dns-option=a\nnameserver 1.2.3.4",
    ] {
        let refused = resolv_conf(&[word]);
        assert!(matches!(refused, Err(PlanError::Word { .. })), "{word}");
    }
}

#[test]
fn a_network_brings_its_card_its_name_and_its_name_server() {
    let mut card = Settings::default();
    let with = |card: &Settings, words: &[&str]| {
        let machine = VmConfig {
            network: Some(card.clone()),
            ..VmConfig::default()
        };
        container(&flags(words), &[], &machine, None, "box".to_owned()).unwrap()
    };
    let made = with(&card, &["--dns-search=.", "--dns-option=x"]);
    assert_eq!(text(&made.resolv_conf), "nameserver 10.0.2.2\noptions x\n");
    assert!(text(&made.hosts).contains("10.0.2.15\tbox\n"));
    let network = made.network.unwrap();
    let addresses: Vec<&[u8]> = network.addresses.iter().map(|a| &a.address[..]).collect();
    assert_eq!(
        addresses.iter().map(|a| a.len()).collect::<Vec<_>>(),
        [4, 16]
    );
    assert_eq!(addresses[0], [10, 0, 2, 15]);
    let words = ["--dns=192.0.2.1", "--dns-search=.", "--dns-option=x"];
    let own = "nameserver 192.0.2.1\noptions x\n";
    assert_eq!(text(&with(&card, &words).resolv_conf), own);
    // Where names decide, the gateway must hear them.
    card.egress = Some(Vec::new());
    let heard = "nameserver 10.0.2.2\noptions x\n";
    assert_eq!(text(&with(&card, &words).resolv_conf), heard);
    let line = "10.0.2.2\thost.hull.internal\n";
    let made = with(&card, &["--add-host=host.hull.internal:host-gateway"]);
    assert!(text(&made.hosts).ends_with(line));
}

#[test]
fn volumes_are_numbered_behind_a_directory_that_is_the_root() {
    let numbers = |root| {
        let machine = VmConfig {
            root,
            ..VmConfig::default()
        };
        let flags = flags(&["-v=/a", "-v=name:/b:ro"]);
        let volumes = volumes(&flags, &Execution::default()).unwrap();
        let made = container(&flags, &volumes, &machine, None, "box".to_owned()).unwrap();
        made.volumes
            .iter()
            .map(|one| one.number)
            .collect::<Vec<_>>()
    };
    assert_eq!(numbers(Root::Image), [0, 1]);
    assert_eq!(numbers(Root::Lower), [1, 2]);
    assert_eq!(numbers(Root::Direct), [1, 2]);
}

#[test]
fn an_images_volumes_are_made_where_nothing_else_is_mounted() {
    let image = |paths: &[&str]| Execution {
        volumes: paths
            .iter()
            .map(|path| ((*path).to_owned(), Default::default()))
            .collect(),
        ..Execution::default()
    };
    let targets = |words: &[&str], paths: &[&str]| {
        let all = volumes(&flags(words), &image(paths)).unwrap();
        let target = |volume: Volume| (volume.target, volume.source == Source::Nameless);
        all.into_iter().map(target).collect::<Vec<_>>()
    };
    let data = || ("/data".to_owned(), true);
    assert_eq!(targets(&[], &["/data", "/data/"]), [data()]);
    let words = [
        "-v=name:/a/",
        "--tmpfs=/b",
        "--mount=type=tmpfs,target=/c",
        "--mount=type=bind,source=/srv,target=/d",
    ];
    let found = targets(&words, &["/a", "//b", "/c/.", "/d", "/data"]);
    let own = |target: &str| (target.to_owned(), false);
    assert_eq!(found, [own("/a"), own("/d"), data()]);
    // An image is somebody else's.
    for path in ["/", "", "data", "/..", "/proc/self", "/a/../sys"] {
        let refused = volumes(&flags(&[]), &image(&[path]));
        assert!(matches!(refused, Err(PlanError::Volume(_))), "{path}");
    }
}
