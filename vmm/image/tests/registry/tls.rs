//! Certificates: who is trusted, and by what configuration.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use image::Platform;
use image::registry::{Fault, RegistryError};

use crate::faults::{Action, Faults};
use crate::fixture::{Home, Image, Registry, name, noise};

fn outcome(home: &Home, registry: &Registry) -> Result<(), RegistryError> {
    let repository = home.client().open(&registry.name("app:1")).unwrap();
    match repository.manifest(&Platform::host()) {
        Ok(_) => Ok(()),
        Err(RegistryError::Absent { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

fn untrusted(result: Result<(), RegistryError>) {
    match result {
        Err(RegistryError::Exchange(error)) if matches!(error.fault, Fault::Handshake(_)) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_unknown_authority_is_refused_until_it_is_made_known() {
    let registry = Registry::with_tls();
    let certificate = registry.directory.path().join("cert.pem");
    let mut home = Home::new();
    // This machine's own registries are let off unless one insists.
    home.tls_verify = Some(true);
    untrusted(outcome(&home, &registry));

    let directory = format!(".config/containers/certs.d/{}", registry.address);
    let known = home.write(
        &format!("{directory}/ca.crt"),
        fs::read(&certificate).unwrap(),
    );
    outcome(&home, &registry).unwrap();
    fs::remove_file(known).unwrap();
    untrusted(outcome(&home, &registry));

    home.write(&format!("{directory}/ca.crt"), "no certificate");
    let error = outcome(&home, &registry).unwrap_err();
    assert!(
        error.to_string().contains("holds no certificate"),
        "{error}"
    );
    fs::remove_dir_all(home.path().join(".config")).unwrap();

    home.variable("SSL_CERT_FILE", &certificate);
    outcome(&home, &registry).unwrap();
    let image = Image::new(vec![noise(1, 300_000)]);
    image.publish(&home.client(), &registry.name("app:1"));
    image.assert_pulled(&home.client(), &registry.name("app:1"));
    home.variable("SSL_CERT_FILE", "/nowhere.pem");
    let error = outcome(&home, &registry).unwrap_err();
    assert!(error.to_string().contains("/nowhere.pem"), "{error}");
}

#[test]
fn verification_can_be_given_up() {
    let registry = Registry::with_tls();
    let mut home = Home::new();
    home.tls_verify = Some(false);
    outcome(&home, &registry).unwrap();
    home.tls_verify = None;
    home.write(
        "registries.conf",
        format!(
            "[[registry]]\nlocation='{}'\ninsecure=true\n",
            registry.address
        ),
    );
    outcome(&home, &registry).unwrap();
}

#[test]
fn plain_http_is_not_spoken_where_tls_is_wanted() {
    let registry = Registry::start();
    let mut home = Home::new();
    home.tls_verify = Some(true);
    untrusted(outcome(&home, &registry));
    home.tls_verify = Some(false);
    outcome(&home, &registry).unwrap();
}

#[test]
fn a_client_certificate_needs_its_key() {
    let registry = Registry::with_tls();
    let other = Registry::with_tls();
    let home = Home::new();
    let read =
        |registry: &Registry, name: &str| fs::read(registry.directory.path().join(name)).unwrap();
    let directory = format!(".config/containers/certs.d/{}", registry.address);
    let file = |name: &str| format!("{directory}/{name}");
    home.write(&file("ca.crt"), read(&registry, "cert.pem"));
    home.write(&file("client.cert"), read(&registry, "cert.pem"));
    let error = outcome(&home, &registry).unwrap_err();
    assert!(error.to_string().contains("client.key"), "{error}");
    home.write(&file("client.key"), read(&other, "key.pem"));
    let error = outcome(&home, &registry).unwrap_err();
    assert!(
        error.to_string().contains("do not work together"),
        "{error}"
    );
    home.write(&file("client.key"), read(&registry, "key.pem"));
    outcome(&home, &registry).unwrap();
}

/// OpenSSL's server, which sends files as whole answers.
struct Canned(std::process::Child);

impl Drop for Canned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn encrypted_does_not_lead_to_plain() {
    let registry = Registry::with_tls();
    let plain = Faults::start("127.0.0.1:9", |_| Action::Close);
    let mut home = Home::new();
    home.tls_verify = Some(true);
    let file = |name: &str| registry.directory.path().join(name);
    home.variable("SSL_CERT_FILE", file("cert.pem"));
    home.write(
        "v2/app/manifests/1",
        format!(
            "HTTP/1.1 302 X\r\nContent-Length: 0\r\nLocation: http://{}/x\r\n\r\n",
            plain.address
        ),
    );
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let child = Command::new("setpriv")
        .args([
            "--pdeathsig",
            "KILL",
            "openssl",
            "s_server",
            "-quiet",
            "-HTTP",
            "-accept",
        ])
        .arg(format!("127.0.0.1:{port}"))
        .arg("-cert")
        .arg(file("cert.pem"))
        .arg("-key")
        .arg(file("key.pem"))
        .current_dir(home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl is needed");
    let _server = Canned(child);
    let up = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    let until = Instant::now() + Duration::from_secs(10);
    while !up() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    let from = name(&format!("127.0.0.1:{port}"), "app:1");
    let error = home
        .client()
        .open(&from)
        .unwrap()
        .manifest(&Platform::host())
        .unwrap_err();
    assert!(
        matches!(&error, RegistryError::Exchange(e) if matches!(e.fault, Fault::Redirect { .. })),
        "{error}"
    );
    assert!(plain.seen().is_empty());
}
