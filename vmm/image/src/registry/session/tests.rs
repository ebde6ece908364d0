//! Who may see a registry's credentials.

use super::*;

fn trusted(registry: &str, realm: &str, domain: &str, realms: &[&str]) -> bool {
    let location = Location {
        domain: domain.to_owned(),
        path: "x".to_owned(),
        insecure: false,
        realms: realms.iter().map(ToString::to_string).collect(),
    };
    let origin = |text: &str| Url::parse(text).unwrap().origin().clone();
    is_trusted_realm(&origin(registry), &origin(realm), &location)
}

#[test]
fn credentials_stay_with_the_registry_and_the_domains_above_it() {
    for (registry, realm, expected) in [
        ("https://ghcr.io/", "https://ghcr.io/token", true),
        ("https://r.io:5050/", "https://r.io/token", true),
        ("https://r.io/", "http://r.io/token", false),
        ("http://r.io:5000/", "http://r.io:5000/token", true),
        ("http://r.io:5000/", "http://r.io:5001/token", false),
        (
            "https://registry.gitlab.com/",
            "https://gitlab.com/jwt/auth",
            true,
        ),
        (
            "https://registry.gitlab.com/",
            "http://gitlab.com/jwt/auth",
            false,
        ),
        ("https://r.io/", "https://evil.r.io/token", false),
        ("https://r.io/", "https://er.io/token", false),
        ("https://er.io/", "https://r.io/token", false),
        ("https://a.com/", "https://com/token", false),
        ("https://r.io/", "https://evil.com/token", false),
        ("https://r.io/", "https://auth.docker.io/token", false),
        ("https://10.0.0.1/", "https://0.0.1/token", false),
    ] {
        assert_eq!(
            trusted(registry, realm, "r.io", &[]),
            expected,
            "{registry} {realm}"
        );
    }
}

#[test]
fn docker_hub_and_the_administrator_name_others() {
    let hub = "https://registry-1.docker.io/";
    assert!(trusted(
        hub,
        "https://auth.docker.io/token",
        "docker.io",
        &[]
    ));
    assert!(!trusted(
        hub,
        "http://auth.docker.io/token",
        "docker.io",
        &[]
    ));
    assert!(!trusted(
        hub,
        "https://auth.docker.io.evil.com/token",
        "docker.io",
        &[]
    ));
    let allowed = ["login.inner.net", "other.net:8443"];
    assert!(trusted(
        "https://r.io/",
        "https://login.inner.net/t",
        "r.io",
        &allowed
    ));
    assert!(!trusted(
        "https://r.io/",
        "https://login.inner.net:8443/t",
        "r.io",
        &allowed
    ));
    assert!(trusted(
        "https://r.io/",
        "https://other.net:8443/t",
        "r.io",
        &allowed
    ));
}

#[test]
fn secrets_do_not_show() {
    let login = Login::Password {
        user: "u".to_owned(),
        secret: Secret::new("hunter2".to_owned()),
    };
    let header = basic(&login);
    assert_eq!(header.expose(), "Basic dTpodW50ZXIy");
    assert!(!format!("{header:?} {login:?}").contains("hunter2"));
    assert!(!format!("{header:?}").contains("dTpo"));
}
