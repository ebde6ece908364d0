//! Who is let in, and to whom credentials go.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use image::Platform;
use image::credentials::Login;
use image::registry::RegistryError;

use crate::faults::{Action, Faults, Seen};
use crate::fixture::{Home, Image, PASSWORD, Registry, USER, name, noise};
use crate::pull::{failure, published};

fn login(home: &Home, registry: &str, user: &str, secret: &str) {
    let auth = BASE64.encode(format!("{user}:{secret}"));
    let text = format!(r#"{{"auths":{{"{registry}":{{"auth":"{auth}"}}}}}}"#);
    home.write(".docker/config.json", text);
}

fn manifest(home: &Home, address: &str) -> Result<(), RegistryError> {
    let repository = home.client().open(&name(address, "app:1"))?;
    repository.manifest(&Platform::host()).map(|_| ())
}

#[test]
fn a_password_opens_a_registry_and_is_not_sent_unasked() {
    let registry = Registry::with_password();
    let home = Home::new();
    let faults = Faults::start(&registry.address, |_| Action::Pass);
    let error = manifest(&home, &faults.address).unwrap_err();
    assert!(
        matches!(
            error,
            RegistryError::Denied {
                identified: false,
                ..
            }
        ),
        "{error}"
    );
    login(&home, &faults.address, USER, "wrong");
    let error = manifest(&home, &faults.address).unwrap_err();
    assert!(
        matches!(
            error,
            RegistryError::Denied {
                identified: true,
                ..
            }
        ),
        "{error}"
    );
    assert!(!format!("{error} {error:?}").contains("wrong"));
    login(&home, &faults.address, USER, PASSWORD);
    let image = Image::new(vec![noise(1, 1000)]);
    image.publish(&home.client(), &name(&faults.address, "app:1"));
    image.assert_pulled(&home.client(), &name(&faults.address, "app:1"));
    let first = faults.seen().into_iter().next().unwrap();
    assert_eq!(first.header("authorization"), None);

    let client = home.client();
    let password = |secret: &str| {
        let text = format!(r#"{{"Username":"{USER}","Secret":"{secret}"}}"#);
        let pair: serde_json::Value = serde_json::from_str(&text).unwrap();
        Login::Password {
            user: pair["Username"].as_str().unwrap().to_owned(),
            secret: image::Secret::new(pair["Secret"].as_str().unwrap().to_owned()),
        }
    };
    let anywhere = registry.name("any");
    client.check(&anywhere, &password(PASSWORD)).unwrap();
    let error = client.check(&anywhere, &password("no")).unwrap_err();
    assert!(
        matches!(
            error,
            RegistryError::Denied {
                identified: true,
                ..
            }
        ),
        "{error}"
    );
}

/// A registry that wants a token from `realm` (with `{here}` for its own address), which it hands out itself.
fn with_tokens(registry: &Registry, realm: &'static str) -> Faults {
    Faults::start(&registry.address, move |seen| {
        if seen.target.starts_with("/token") {
            let token = r#"{"access_token":"letmein","expires_in":60}"#;
            return Action::Answer("HTTP/1.1 200 OK".to_owned(), token.into());
        }
        if seen.header("authorization") == Some("Bearer letmein") {
            return Action::Without("authorization");
        }
        let here = seen.header("host").unwrap_or_default();
        let realm = realm.replace("{here}", here);
        Action::Answer(
            format!(
                "HTTP/1.1 401 X\r\nWWW-Authenticate: Bearer realm=\"{realm}\",service=\"the service\",scope=\"repository:app:pull\""
            ),
            br#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#.to_vec(),
        )
    })
}

fn is_token(seen: &Seen) -> bool {
    seen.target.starts_with("/token")
}

#[test]
fn a_token_is_got_once_and_used_for_all() {
    let (registry, home, image) = published();
    let faults = with_tokens(&registry, "http://{here}/token");
    image.assert_pulled(&home.client(), &name(&faults.address, "app:1"));
    let asked: Vec<Seen> = faults.seen().into_iter().filter(is_token).collect();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0].target,
        "/token?service=the%20service&scope=repository%3Aapp%3Apull"
    );
    assert_eq!(asked[0].header("authorization"), None);

    login(&home, &faults.address, "me", "pw");
    image.assert_pulled(&home.client(), &name(&faults.address, "app:1"));
    let asked = faults.seen().into_iter().rfind(is_token).unwrap();
    assert!(asked.target.ends_with("&account=me"), "{}", asked.target);
    assert_eq!(asked.header("authorization"), Some("Basic bWU6cHc="));
    // The password itself never goes to the registry.
    assert_eq!(faults.count(|seen| !is_token(seen) && seen.header("authorization") == Some("Basic bWU6cHc=")), 0);
}

#[test]
fn a_push_asks_for_the_right_to_push() {
    let registry = Registry::start();
    let home = Home::new();
    let faults = with_tokens(&registry, "http://{here}/token");
    let image = Image::new(vec![noise(1, 1000)]);
    image.publish(&home.client(), &name(&faults.address, "app:1"));
    let asked: Vec<Seen> = faults.seen().into_iter().filter(is_token).collect();
    assert_eq!(asked.len(), 1);
    assert!(
        asked[0]
            .target
            .contains("scope=repository%3Aapp%3Apull%2Cpush"),
        "{}",
        asked[0].target
    );
}

#[test]
fn an_identity_token_is_exchanged_in_the_body() {
    let (registry, home, image) = published();
    let faults = with_tokens(&registry, "http://{here}/token");
    let text = format!(
        r#"{{"auths":{{"{}":{{"identitytoken":"id+t"}}}}}}"#,
        faults.address
    );
    home.write(".docker/config.json", text);
    image.assert_pulled(&home.client(), &name(&faults.address, "app:1"));
    let asked = faults.seen().into_iter().find(is_token).unwrap();
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str()),
        ("POST", "/token")
    );
    assert_eq!(
        String::from_utf8(asked.body).unwrap(),
        "grant_type=refresh_token&client_id=hull&service=the%20service&refresh_token=id%2Bt&scope=repository%3Aapp%3Apull"
    );
}

#[test]
fn credentials_do_not_go_to_a_realm_elsewhere() {
    let (registry, home, image) = published();
    let elsewhere = Faults::start(&registry.address, |_| {
        Action::Answer(
            "HTTP/1.1 200 OK".to_owned(),
            br#"{"token":"letmein"}"#.to_vec(),
        )
    });
    let realm: &'static str =
        Box::leak(format!("http://{}/token", elsewhere.address).into_boxed_str());
    let faults = with_tokens(&registry, realm);
    // Without credentials there is nothing to lose.
    image.assert_pulled(&home.client(), &name(&faults.address, "app:1"));
    assert_eq!(elsewhere.seen().len(), 1);
    login(&home, &faults.address, "me", "pw");
    let error = failure(&home, &faults.address);
    assert!(matches!(error, RegistryError::Realm { .. }), "{error}");
    assert_eq!(elsewhere.seen().len(), 1);
    // The administrator can say that the two belong together.
    home.write(
        "registries.conf",
        format!(
            "[[registry]]\nlocation='{}'\ntoken-realms=['{}']\n",
            faults.address, elsewhere.address
        ),
    );
    image.assert_pulled(&home.client(), &name(&faults.address, "app:1"));
    assert_eq!(
        elsewhere.seen()[1].header("authorization"),
        Some("Basic bWU6cHc=")
    );
}

#[test]
fn credentials_do_not_follow_a_redirect_elsewhere() {
    let registry = Registry::with_password();
    let home = Home::new();
    login(&home, &registry.address, USER, PASSWORD);
    let image = Image::new(vec![noise(1, 1000)]);
    image.publish(&home.client(), &registry.name("app:1"));
    // Another host that asks for a password of its own.
    let trap = Faults::start(&registry.address, |_| {
        Action::Answer(
            "HTTP/1.1 401 X\r\nWWW-Authenticate: Basic realm=\"give\"".to_owned(),
            Vec::new(),
        )
    });
    let to = trap.address.clone();
    let faults = Faults::start(&registry.address, move |seen| match seen.is_blob() {
        true if seen.header("authorization").is_some() => Action::Answer(
            format!("HTTP/1.1 307 X\r\nLocation: http://{to}{}", seen.target),
            Vec::new(),
        ),
        _ => Action::Pass,
    });
    login(&home, &faults.address, USER, PASSWORD);
    let error = failure(&home, &faults.address);
    assert!(
        matches!(&error, RegistryError::Denied { host, .. } if *host == trap.address),
        "{error}"
    );
    assert!(!trap.seen().is_empty());
    assert_eq!(trap.count(|seen| seen.header("authorization").is_some()), 0);
}

#[test]
fn a_token_that_ran_out_is_renewed() {
    let (registry, home, image) = published();
    let served = std::sync::atomic::AtomicUsize::new(0);
    let faults = Faults::start(&registry.address, move |seen| {
        use std::sync::atomic::Ordering::Relaxed;
        if is_token(seen) {
            let token = format!(r#"{{"token":"t{}"}}"#, served.fetch_add(1, Relaxed));
            return Action::Answer("HTTP/1.1 200 OK".to_owned(), token.into_bytes());
        }
        // The token for the manifest is none for blobs.
        let newest = format!("Bearer t{}", if seen.is_blob() { 1 } else { 0 });
        if seen.header("authorization") == Some(&newest) {
            return Action::Without("authorization");
        }
        let here = seen.header("host").unwrap_or_default();
        Action::Answer(
            format!("HTTP/1.1 401 X\r\nWWW-Authenticate: Bearer realm=\"http://{here}/token\""),
            Vec::new(),
        )
    });
    image.assert_pulled(&home.client(), &name(&faults.address, "app:1"));
    assert_eq!(faults.count(is_token), 2);
}

#[test]
fn token_servers_that_misbehave_are_refused() {
    let (registry, home, _) = published();
    for (answer, expected) in [
        (
            &br#"{"token":"a\nb: c"}"#[..],
            "cannot be part of a request",
        ),
        (br#"{"token":"\u001b[31m"}"#, "cannot be part of a request"),
        (br#"{"tok":"x"}"#, "holds none"),
        (br#"{"token":"","access_token":null}"#, "holds none"),
        (b"<html>", "is no token"),
    ] {
        let faults = Faults::start(&registry.address, move |seen| match is_token(seen) {
            true => Action::Answer("HTTP/1.1 200 OK".to_owned(), answer.to_vec()),
            false => {
                let here = seen.header("host").unwrap_or_default();
                Action::Answer(
                    format!(
                        "HTTP/1.1 401 X\r\nWWW-Authenticate: Bearer realm=\"http://{here}/token\""
                    ),
                    Vec::new(),
                )
            }
        });
        let error = failure(&home, &faults.address);
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!format!("{error:?}").contains('\x1b'));
    }
    let faults = with_tokens(&registry, "ftp://{here}/token");
    assert!(
        failure(&home, &faults.address)
            .to_string()
            .contains("no http address")
    );
}
