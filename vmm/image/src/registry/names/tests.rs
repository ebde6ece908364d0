//! What getent says, and what becomes of it when it says nothing.

use std::time::Instant;

use super::*;

#[test]
fn addresses_come_once_and_in_order() {
    let answer = "::1             STREAM localhost\n::1             DGRAM  \n127.0.0.1       STREAM \nfe80::1%eth0 RAW\nrubbish STREAM x\n\n";
    let found: Vec<String> = read(answer).iter().map(ToString::to_string).collect();
    assert_eq!(found, ["::1", "127.0.0.1", "fe80::1"]);
    assert!(read("").is_empty());
}

#[test]
fn the_machine_knows_itself_and_not_nobody() {
    let long = Duration::from_secs(20);
    let found = ask("getent", "localhost", long).unwrap();
    assert!(found.iter().any(IpAddr::is_loopback), "{found:?}");
    assert!(ask("getent", "nobody.invalid", long).unwrap().is_empty());
    assert!(ask("getent", "--help", long).unwrap().is_empty());
    let absent = ask("getent-is-not-here", "localhost", long).unwrap_err();
    assert_eq!(absent.kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_name_service_that_hangs_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let slow = directory.path().join("getent");
    std::fs::write(&slow, "#!/bin/sh\nsleep 100\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&slow, mode).unwrap();
    let started = Instant::now();
    let error = ask(slow.to_str().unwrap(), "x", Duration::from_millis(200)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_resolver_has_the_port_of_the_address() {
    let names = Names {
        getent: true,
        ..Names::new()
    };
    let timeout = NextTimeout {
        after: Duration::from_secs(20).into(),
        ..NextTimeout::default()
    };
    let resolve = |text: &str| {
        let uri: Uri = text.parse().unwrap();
        names.resolve(&uri, &Config::default(), timeout)
    };
    for (text, port) in [
        ("http://localhost/x", 80),
        ("https://localhost/", 443),
        ("https://localhost:5000/", 5000),
        ("http://127.0.0.1:81/", 81),
    ] {
        let found = resolve(text).unwrap();
        assert!(!found.is_empty(), "{text}");
        for address in &found[..] {
            assert!(
                address.ip().is_loopback() && address.port() == port,
                "{text} {address}"
            );
        }
    }
    assert!(matches!(
        resolve("http://nobody.invalid/"),
        Err(ureq::Error::HostNotFound)
    ));
}
