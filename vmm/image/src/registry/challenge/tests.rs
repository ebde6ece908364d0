//! Challenges as real registries send them, and broken ones.

use proptest::prelude::*;

use super::*;

fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
    Challenge::Bearer {
        realm: realm.to_owned(),
        service: service.map(str::to_owned),
        scope: scope.map(str::to_owned),
    }
}

fn one(header: &str) -> Vec<Challenge> {
    read(std::iter::once(header))
}

#[test]
fn what_registries_send() {
    assert_eq!(
        one(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull,push""#
        ),
        [bearer(
            "https://auth.docker.io/token",
            Some("registry.docker.io"),
            Some("repository:library/alpine:pull,push")
        )]
    );
    assert_eq!(one(r#"Basic realm="basic-realm""#), [Challenge::Basic]);
    assert_eq!(one("basic"), [Challenge::Basic]);
    assert_eq!(
        one(r#"BEARER Realm = "https://x/t" , SERVICE=plain"#),
        [bearer("https://x/t", Some("plain"), None)]
    );
    assert_eq!(
        one(r#"Bearer realm="https://x/a\"b",error="invalid_token""#),
        [bearer("https://x/a\"b", None, None)]
    );
}

#[test]
fn several_challenges_with_the_strongest_first() {
    let both = [Challenge::Basic, bearer("https://x/t", None, None)];
    let sorted = [both[1].clone(), both[0].clone()];
    assert_eq!(
        one(r#"Basic realm="a", Bearer realm="https://x/t""#),
        sorted
    );
    assert_eq!(
        read(["Basic", r#"Bearer realm="https://x/t""#].into_iter()),
        sorted
    );
    assert_eq!(one("Negotiate, Basic realm=\"x\""), [Challenge::Basic]);
}

#[test]
fn broken_ones_are_left_out() {
    for header in [
        "",
        ",,,",
        "Bearer",
        "Bearer realm",
        "Bearer realm=",
        "Bearer realm=\"open",
        "Bearer realm=\"open\\",
        "Digest realm=\"x\"",
        "=\"x\"",
        "é",
    ] {
        assert_eq!(one(header), [], "{header}");
    }
    assert_eq!(one(&format!("Basic realm=\"{}\"", "x".repeat(10_000))), []);
}

proptest! {
    #[test]
    fn any_header_is_read_in_bounds(header in r#"[ -~]{0,200}|((Bearer|Basic|x) ?(realm|scope|a)?=?"?[a-z\\," =]{0,20}){0,40}"#) {
        prop_assert!(one(&header).len() <= COUNT_MAX);
    }
}
