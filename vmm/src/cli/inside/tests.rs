//! Values of the flags, as docker's users write them, and what is none.

use std::str::FromStr;

use super::*;

#[track_caller]
fn refused<T>(text: &str, why: &str)
where
    T: FromStr<Err: std::fmt::Display> + std::fmt::Debug,
{
    match text.parse::<T>() {
        Ok(value) => panic!("{text}: {value:?}"),
        Err(error) => assert!(error.to_string().contains(why), "{text}: {error}"),
    }
}

#[test]
fn capabilities_by_name() {
    for (text, bits) in [
        ("CHOWN", 1),
        ("cap_chown", 1),
        ("Cap_Sys_Admin", 1 << 21),
        ("NET_ADMIN", 1 << 12),
        ("bpf", 1 << 39),
        ("CHECKPOINT_RESTORE", 1 << 40),
        ("all", u64::MAX),
        ("CAP_ALL", u64::MAX),
    ] {
        assert_eq!(text.parse::<Capabilities>().unwrap().0, bits, "{text}");
    }
    refused::<Capabilities>("NET_ADMN", "is NET_ADMIN meant?");
    refused::<Capabilities>("CAP_SYSADMIN", "is SYS_ADMIN meant?");
    refused::<Capabilities>("CAP_CHOWNS", "is CHOWN meant?");
    for text in ["", "CAP_", "everything", "x", "CAP_CAP_CHOWN_"] {
        refused::<Capabilities>(text, "capabilities(7)");
    }
}

#[test]
fn security_options() {
    for (text, meant) in [
        ("no-new-privileges", Security::NoNewPrivileges(true)),
        ("no-new-privileges=true", Security::NoNewPrivileges(true)),
        ("no-new-privileges:false", Security::NoNewPrivileges(false)),
        ("seccomp=unconfined", Security::Seccomp(None)),
        ("seccomp:unconfined", Security::Seccomp(None)),
        ("seccomp=p.json", Security::Seccomp(Some("p.json".into()))),
        ("apparmor=unconfined", Security::AlwaysSo),
        ("label=disable", Security::AlwaysSo),
    ] {
        assert_eq!(text.parse::<Security>().unwrap(), meant, "{text}");
    }
    refused::<Security>("no-new-privileges=maybe", "=false");
    refused::<Security>("seccomp=builtin", "its own");
    refused::<Security>("seccomp", "its own");
    refused::<Security>("apparmor=docker-default", "AppArmor");
    refused::<Security>("label=type:x", "SELinux");
    refused::<Security>("systempaths=unconfined", "--privileged");
    refused::<Security>("other", "hull knows");
}

#[test]
fn ulimits() {
    let limit = |text: &str| {
        let Ulimit(limit) = text.parse().unwrap();
        (limit.resource, limit.soft, limit.hard)
    };
    assert_eq!(limit("nofile=1024"), (7, 1024, 1024));
    assert_eq!(limit("nofile=1024:2048"), (7, 1024, 2048));
    assert_eq!(limit("cpu=5"), (0, 5, 5));
    assert_eq!(limit("memlock=-1:-1"), (8, u64::MAX, u64::MAX));
    assert_eq!(limit("core=0:unlimited"), (4, 0, u64::MAX));
    assert_eq!(limit("rttime=1"), (15, 1, 1));
    refused::<Ulimit>("nofile", "write it as");
    refused::<Ulimit>(
        "files=1",
        "cpu fsize data stack core rss nproc nofile memlock locks",
    );
    refused::<Ulimit>("=1", "no resource");
    refused::<Ulimit>("nofile=2:1", "above the hard");
    refused::<Ulimit>("nofile=-1:1", "above the hard");
    for text in [
        "nofile=",
        "nofile=x",
        "nofile=1:",
        "nofile=1:2:3",
        "nofile=-2",
        "nofile=+1",
    ] {
        refused::<Ulimit>(text, "not a number");
    }
}

#[test]
fn hosts_and_parameters() {
    let host = |text: &str| {
        let Host { name, address, .. } = text.parse().unwrap();
        format!("{name} {address}")
    };
    assert_eq!(host("db:10.0.0.2"), "db 10.0.0.2");
    assert_eq!(host("db=10.0.0.2"), "db 10.0.0.2");
    assert_eq!(host("db:::1"), "db ::1");
    assert_eq!(host("db:[fe80::1]"), "db fe80::1");
    assert_eq!(host("db=fe80::1"), "db fe80::1");
    refused::<Host>("db", "HOST:IP");
    refused::<Host>(":1.2.3.4", "HOST:IP");
    refused::<Host>("a b:1.2.3.4", "HOST:IP");
    refused::<Host>("a\n:1.2.3.4", "HOST:IP");
    refused::<Host>("db:1.2.3", "not an address");
    refused::<Host>("db:", "not an address");
    let gateway: Host = "db:host-gateway".parse().unwrap();
    assert!(gateway.gateway && gateway.address == network::GATEWAY.0);
    let Parameter(parameter) = "kernel.domainname=a=b".parse().unwrap();
    assert_eq!(parameter.name, "kernel.domainname".into());
    assert_eq!(parameter.value, "a=b".into());
    refused::<Parameter>("kernel.domainname", "write it");
    refused::<Parameter>("=1", "write it");
}

fn tmpfs(text: &str) -> (String, String, [bool; 4]) {
    let Tmpfs(tmpfs) = text.parse().unwrap();
    told(&tmpfs)
}

fn mount(text: &str) -> (String, String, [bool; 4]) {
    let Mount::Tmpfs(Tmpfs(tmpfs)) = text.parse().unwrap() else {
        panic!("{text}");
    };
    told(&tmpfs)
}

/// Path, options, and the flags: read-only, noexec, nodev, nosuid.
fn told(tmpfs: &protocol::Tmpfs) -> (String, String, [bool; 4]) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let flags = tmpfs.flags;
    (
        text(&tmpfs.path),
        text(&tmpfs.options),
        [flags.read_only, flags.no_exec, flags.no_dev, flags.no_suid],
    )
}

fn expected(path: &str, options: &str, flags: [bool; 4]) -> (String, String, [bool; 4]) {
    (path.to_owned(), options.to_owned(), flags)
}

const CAREFUL: [bool; 4] = [false, true, true, true];

#[test]
fn file_systems_in_memory() {
    assert_eq!(tmpfs("/run"), expected("/run", "", CAREFUL));
    assert_eq!(tmpfs("/a//b/./../c/"), expected("/a/c", "", CAREFUL));
    assert_eq!(
        tmpfs("/run:rw,exec,size=64m,mode=1770,uid=5"),
        expected(
            "/run",
            "size=64m,mode=1770,uid=5",
            [false, false, true, true]
        )
    );
    assert_eq!(
        tmpfs("/x:ro,suid,dev"),
        expected("/x", "", [true, true, false, false])
    );
    refused::<Tmpfs>("run", "not an absolute path");
    refused::<Tmpfs>("", "not an absolute path");
    for path in ["/", "/..", "/proc/x", "/x/../sys"] {
        refused::<Tmpfs>(path, "nothing can be mounted");
    }
    for option in ["size", "size=", "lowerdir=/x", "bogus"] {
        refused::<Tmpfs>(&format!("/x:{option}"), "no option");
    }
}

#[test]
fn mounts() {
    assert_eq!(
        mount("type=tmpfs,target=/run"),
        expected("/run", "", CAREFUL)
    );
    assert_eq!(
        mount("type=tmpfs,dst=/x,tmpfs-size=1m,tmpfs-mode=0700,readonly"),
        expected("/x", "size=1048576,mode=700", [true, true, true, true])
    );
    assert_eq!(
        mount("destination=/x,readonly=false,type=tmpfs"),
        expected("/x", "", CAREFUL)
    );
    refused::<Mount>(
        "type=bind,source=/a,target=/b,bind-propagation=shared",
        "bind-propagation",
    );
    refused::<Mount>("type=bind,target=/b", "source=");
    refused::<Mount>("type=bind,source=name,target=/b", "source=");
    refused::<Mount>("type=volume,source=/a,target=/b", "no name");
    refused::<Mount>("type=bind,source=/a,target=/b,tmpfs-size=1m", "tmpfs-size");
    refused::<Mount>("source=name,target=/proc/x", "nothing can be mounted");
    refused::<Mount>("type=npipe,target=/b", "npipe");
    refused::<Mount>("type=tmpfs", "target=DIR");
    refused::<Mount>("type=tmpfs,target=b", "not an absolute path");
    refused::<Mount>("type=tmpfs,target=/b,source=/a", "no source");
    refused::<Mount>("type=tmpfs,target=/b,colour=red", "colour");
    refused::<Mount>("type=tmpfs,target=/b,tmpfs-size=big", "size, such as");
    refused::<Mount>("type=tmpfs,target=/b,tmpfs-mode=9", "mode, such as");
    refused::<Mount>("type=tmpfs,target=/b,tmpfs-mode=77777", "mode, such as");
    refused::<Mount>("type=tmpfs,target=/b,ro=perhaps", "true or false");
}

#[test]
fn volumes() {
    let volume = |source, target: &str, read_only, fill, make| Volume {
        source,
        target: target.to_owned(),
        read_only,
        fill,
        make,
    };
    let path = |text: &str| Source::Path(text.into());
    let name = |text: &str| Source::Name(text.to_owned());
    let short = |text: &str| text.parse::<Volume>().unwrap();
    assert_eq!(short("/a:/b"), volume(path("/a"), "/b", false, false, true));
    assert_eq!(
        short("./a:/b/../c:ro"),
        volume(path("./a"), "/c", true, false, true)
    );
    assert_eq!(
        short("data:/b:rw,z"),
        volume(name("data"), "/b", false, true, true)
    );
    assert_eq!(
        short("data:/b:nocopy"),
        volume(name("data"), "/b", false, false, true)
    );
    assert_eq!(
        short("/b"),
        volume(Source::Nameless, "/b", false, true, true)
    );
    refused::<Volume>("a:/b", "no name of a volume");
    refused::<Volume>("a/b:/c", "no name of a volume");
    refused::<Volume>("/a:b", "not an absolute path");
    refused::<Volume>("/a:/", "nothing can be mounted");
    refused::<Volume>("/a:/b:shared", "shared");
    refused::<Volume>("/a:/b:ro:rw", "[SOURCE:]TARGET");
    let long = |text: &str| match text.parse().unwrap() {
        Mount::Volume(volume) => volume,
        Mount::Tmpfs(tmpfs) => panic!("{tmpfs:?}"),
    };
    assert_eq!(
        long("type=bind,src=/a,dst=/b,ro"),
        volume(path("/a"), "/b", true, false, false)
    );
    assert_eq!(
        long("source=data,target=/b"),
        volume(name("data"), "/b", false, true, false)
    );
    assert_eq!(
        long("target=/b,volume-nocopy,readonly=true"),
        volume(Source::Nameless, "/b", true, false, false)
    );
}
