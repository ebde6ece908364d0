//! Policies: the strict form, which scope wins, how names must fit. Signatures are tested against a registry.

use std::fs;

use super::identity::Identity;
use super::*;

fn read(text: &str) -> Result<Policy, TrustError> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policy.json");
    fs::write(&file, text).unwrap();
    Policy::read(&file)
}

/// Which requirement a name meets: the reject whose scope is named in the error.
fn scope_of(policy: &Policy, name: &str) -> String {
    match policy.permits(&name.parse().unwrap()) {
        Err(TrustError::Rejected { scope, .. }) => scope,
        other => panic!("{name}: {other:?}"),
    }
}

const REJECT: &str = r#"[{"type":"reject"}]"#;
const ACCEPT: &str = r#"[{"type":"insecureAcceptAnything"}]"#;

#[test]
fn the_most_specific_scope_wins() {
    let scopes = [
        "docker.io/library/busybox:latest",
        "docker.io/library/busybox",
        "docker.io/library",
        "docker.io",
        "quay.io:5000",
        "*.example.com",
        "*.b.example.com",
        "",
    ];
    let entries: Vec<String> = scopes
        .iter()
        .map(|scope| format!("{scope:?}:{REJECT}"))
        .collect();
    let policy = read(&format!(
        r#"{{"default":{ACCEPT},"transports":{{"docker":{{{}}}}}}}"#,
        entries.join(",")
    ))
    .unwrap();
    let digest = crate::Digest::of(b"");
    for (name, scope) in [
        ("busybox", "docker: docker.io/library/busybox:latest"),
        ("busybox:1", "docker: docker.io/library/busybox"),
        ("alpine", "docker: docker.io/library"),
        ("a/b", "docker: docker.io"),
        ("quay.io:5000/a/b", "docker: quay.io:5000"),
        ("quay.io/a/b", "default of docker"),
        ("x.example.com/a", "docker: *.example.com"),
        ("x.example.com:8443/a", "docker: *.example.com"),
        ("a.b.example.com/a", "docker: *.b.example.com"),
        ("example.com/a", "default of docker"),
        ("docker.iox/a", "default of docker"),
    ] {
        assert_eq!(scope_of(&policy, name), scope, "{name}");
    }
    let pinned = format!("busybox:latest@{digest}");
    assert_eq!(
        scope_of(&policy, &pinned),
        "docker: docker.io/library/busybox:latest"
    );
    let pinned = format!("busybox@{digest}");
    assert_eq!(
        scope_of(&policy, &pinned),
        "docker: docker.io/library/busybox"
    );
}

#[test]
fn without_a_transport_the_default_applies() {
    let policy = read(&format!(
        r#"{{"default":{REJECT},"transports":{{"oci":{{"":{ACCEPT}}}}}}}"#
    ))
    .unwrap();
    assert_eq!(scope_of(&policy, "alpine"), "default");
    let error = policy.permits(&"alpine".parse().unwrap()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("docker.io/library/alpine:latest is rejected by the policy in /"),
        "{error}"
    );
    assert!(
        Policy::accept_anything()
            .permits(&"alpine".parse().unwrap())
            .is_ok()
    );
}

#[test]
fn local_images_have_scopes_of_paths() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    let inner = root.join("a/b");
    fs::create_dir_all(&inner).unwrap();
    std::os::unix::fs::symlink(&inner, root.join("link")).unwrap();
    let policy = read(&format!(
        r#"{{"default":{ACCEPT},"transports":{{"oci":{{"{0}/a":{REJECT},"{0}/a/b:good":{ACCEPT}}},"dir":{{"":{REJECT}}},
        "docker-archive":{{"":[{{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k"}}]}}}}}}"#,
        root.display()
    ))
    .unwrap();
    let oci = |path: &std::path::Path, tag: Option<&str>| {
        let source = Source::Oci {
            path: path.to_owned(),
            tag: tag.map(str::to_owned),
        };
        policy.judge(&Origin::of(&source), &[])
    };
    assert!(matches!(
        oci(&inner, None),
        Err(TrustError::Rejected { .. })
    ));
    assert!(matches!(
        oci(&root.join("link"), None),
        Err(TrustError::Rejected { .. })
    ));
    assert!(matches!(oci(&inner, Some("good")), Ok(Verdict::Unchecked)));
    assert!(matches!(oci(&root, None), Ok(Verdict::Unchecked)));
    let plain = policy.judge(&Origin::of(&Source::Directory(root)), &[]);
    assert!(matches!(plain, Err(TrustError::Rejected { .. })));
    let archive = policy.judge(&Origin::of(&Source::Stdin), &[]).unwrap_err();
    assert!(
        matches!(archive, TrustError::Unsupported { ref kind, .. } if kind == "signedBy"),
        "{archive}"
    );
}

const P256_PEM: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt
6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==
-----END PUBLIC KEY-----
";

#[test]
fn the_form_is_strict() {
    let signed = |more: &str| format!(r#"{{"default":[{{"type":"sigstoreSigned"{more}}}]}}"#);
    for text in [
        "",
        "{}",
        r#"{"default":[]}"#,
        r#"{"default":[{"type":"insecureAcceptAnything"}],"more":1}"#,
        r#"{"default":[{"type":"insecureAcceptAnything","more":1}]}"#,
        r#"{"default":[{"type":"insecureAcceptAnything","keyPath":"/x"}]}"#,
        r#"{"default":[{"type":"trustMe"}]}"#,
        r#"{"default":[{"type":"reject"}],"default":[{"type":"insecureAcceptAnything"}]}"#,
        r#"{"default":[{"type":"reject"}],"transports":{"docker":{"a.io":[]}}}"#,
        r#"{"default":[{"type":"reject"}],"transports":{"docker":{"a.io":[{"type":"reject"}],"a.io":[{"type":"insecureAcceptAnything"}]}}}"#,
        r#"{"default":[{"type":"reject"}],"transports":{"docker":{},"docker":{}}}"#,
        &signed(""),
        &signed(r#","keyData":"!""#),
        &signed(r#","keyData":"eA==""#),
        &signed(r#","keyPaths":[]"#),
        &signed(r#","keyPath":"/etc/passwd""#),
        &signed(r#","keyPath":"/a","keyData":"eA==""#),
    ] {
        assert!(
            matches!(read(text), Err(TrustError::Form { .. })),
            "{text}: {:?}",
            read(text)
        );
    }
    let absent = read(&signed(r#","keyPath":"/no/such/key.pub""#)).unwrap_err();
    assert!(
        matches!(absent, TrustError::Read { ref path, .. } if path.ends_with("key.pub")),
        "{absent}"
    );
}

#[test]
fn keys_and_identities_are_read_or_refused() {
    use base64::Engine;
    let data = base64::engine::general_purpose::STANDARD.encode(P256_PEM);
    let with = |identity: &str| {
        read(&format!(
            r#"{{"default":[{{"type":"sigstoreSigned","keyData":"{data}","signedIdentity":{identity}}}]}}"#
        ))
    };
    for identity in [
        r#"{"type":"matchExact"}"#,
        r#"{"type":"matchRepoDigestOrExact"}"#,
        r#"{"type":"matchRepository"}"#,
        r#"{"type":"exactReference","dockerReference":"a.io/b:c"}"#,
        r#"{"type":"exactRepository","dockerRepository":"a.io/b"}"#,
        r#"{"type":"remapIdentity","prefix":"a.io:5000/b","signedPrefix":"c.io"}"#,
    ] {
        with(identity).unwrap_or_else(|error| panic!("{identity}: {error}"));
    }
    for identity in [
        r#"{"type":"matchAll"}"#,
        r#"{"type":"matchExact","prefix":"x"}"#,
        r#"{"type":"exactReference","dockerReference":"a.io/b"}"#,
        r#"{"type":"exactReference"}"#,
        r#"{"type":"exactRepository","dockerRepository":"a.io/b:c"}"#,
        r#"{"type":"remapIdentity","prefix":"","signedPrefix":"c.io"}"#,
        r#"{"type":"remapIdentity","prefix":"a.io/b:tag","signedPrefix":"c.io"}"#,
        r#"{}"#,
    ] {
        assert!(
            matches!(with(identity), Err(TrustError::Form { .. })),
            "{identity}"
        );
    }
    // Valid, but hull cannot check it: nothing is accepted.
    let keyless =
        read(r#"{"default":[{"type":"sigstoreSigned","fulcio":{"caPath":"/x"}}]}"#).unwrap();
    let refused = keyless.permits(&"alpine".parse().unwrap());
    assert!(matches!(refused, Err(TrustError::Unsupported { .. })));
}

#[test]
fn names_in_signatures_must_fit() {
    let digest = crate::Digest::of(b"");
    let pinned = format!("a.io/b@{digest}");
    let remap =
        |prefix: &str, signed: &str| Identity::remap(prefix.to_owned(), signed.to_owned()).unwrap();
    for (identity, claimed, image, expected) in [
        (Identity::MatchExact, "a.io/b:1", "a.io/b:1", true),
        (Identity::MatchExact, "a.io/b:1", "a.io/b:2", false),
        (Identity::MatchExact, "a.io/b", "a.io/b:latest", false),
        (Identity::MatchExact, "a.io/b:1", pinned.as_str(), false),
        (Identity::MatchExact, pinned.as_str(), pinned.as_str(), true),
        (
            Identity::MatchRepoDigestOrExact,
            "a.io/b",
            "a.io/b:latest",
            false,
        ),
        (
            Identity::MatchRepoDigestOrExact,
            "a.io/b:latest",
            "a.io/b",
            true,
        ),
        (
            Identity::MatchRepoDigestOrExact,
            "a.io/b",
            pinned.as_str(),
            true,
        ),
        (
            Identity::MatchRepoDigestOrExact,
            "a.io/c",
            pinned.as_str(),
            false,
        ),
        (Identity::MatchRepository, "a.io/b", "a.io/b:1", true),
        (Identity::MatchRepository, "a.io/b:9", "a.io/b:1", true),
        (Identity::MatchRepository, "a.io/bb", "a.io/b:1", false),
        (
            Identity::MatchRepository,
            "alpine",
            "docker.io/library/alpine:3",
            true,
        ),
        (Identity::MatchRepository, "NO NAME", "a.io/b:1", false),
        (
            Identity::exact_reference("v.io/x:1").unwrap(),
            "v.io/x:1",
            "a.io/b:1",
            true,
        ),
        (
            Identity::exact_reference("v.io/x:1").unwrap(),
            "v.io/x",
            "a.io/b:1",
            false,
        ),
        (
            Identity::exact_repository("v.io/x").unwrap(),
            "v.io/x",
            "a.io/b:1",
            true,
        ),
        (
            Identity::exact_repository("v.io/x").unwrap(),
            "v.io/y",
            "a.io/b:1",
            false,
        ),
        (
            remap("m:5000/v", "v.io"),
            "v.io/p/i:1",
            "m:5000/v/p/i:1",
            true,
        ),
        (
            remap("m:5000/v", "v.io"),
            "v.io/p/i:1",
            "m:5000/v/p/i:2",
            false,
        ),
        (
            remap("m:5000/v", "v.io"),
            "v.io/p/i:1",
            "m:5000/vv/p/i:1",
            false,
        ),
        (remap("m:5000/v", "v.io"), "a.io/b:1", "a.io/b:1", true),
        (
            remap("m.io", "v.io"),
            "v.io:5000/b:1",
            "m.io:5000/b:1",
            false,
        ),
    ] {
        assert_eq!(
            identity.accepts(claimed, &image.parse().unwrap()),
            expected,
            "{identity:?} {claimed} {image}"
        );
    }
}
