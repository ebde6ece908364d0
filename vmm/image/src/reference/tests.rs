//! References: docker's normalisation, the grammar's edges, and that what is printed reads back.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Reference {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn refused(text: &str) -> ReferenceError {
    text.parse::<Reference>().unwrap_err()
}

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn names_are_completed_as_docker_does() {
    for (typed, full, short) in [
        ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("alpine:3", "docker.io/library/alpine:3", "alpine:3"),
        ("a/b", "docker.io/a/b:latest", "a/b:latest"),
        (
            "docker.io/alpine",
            "docker.io/library/alpine:latest",
            "alpine:latest",
        ),
        (
            "index.docker.io/alpine",
            "docker.io/library/alpine:latest",
            "alpine:latest",
        ),
        ("index.docker.io/a/b:c", "docker.io/a/b:c", "a/b:c"),
        ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
        (
            "localhost:5000/x:y",
            "localhost:5000/x:y",
            "localhost:5000/x:y",
        ),
        (
            "quay.io/a/b/c",
            "quay.io/a/b/c:latest",
            "quay.io/a/b/c:latest",
        ),
        ("GHCR.io/a", "ghcr.io/a:latest", "ghcr.io/a:latest"),
        ("LOCALHOST/x", "localhost/x:latest", "localhost/x:latest"),
        ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
        (
            "a__b/c--d",
            "docker.io/a__b/c--d:latest",
            "a__b/c--d:latest",
        ),
        (
            "docker.io/library/a/b",
            "docker.io/library/a/b:latest",
            "library/a/b:latest",
        ),
        (
            "docker.io/a.b/c",
            "docker.io/a.b/c:latest",
            "docker.io/a.b/c:latest",
        ),
    ] {
        let reference = parse(typed);
        assert_eq!(reference.to_string(), full, "{typed}");
        assert_eq!(reference.familiar(), short, "{typed}");
        assert_eq!(parse(short), reference, "{short}");
    }
}

#[test]
fn a_digest_needs_no_tag_and_a_tag_stays_beside_it() {
    let pinned = parse(&format!("alpine@sha256:{HEX}"));
    assert_eq!(pinned.tag(), None);
    assert_eq!(pinned.digest().map(Digest::hex).as_deref(), Some(HEX));
    assert_eq!(
        pinned.to_string(),
        format!("docker.io/library/alpine@sha256:{HEX}")
    );
    let both = parse(&format!("alpine:3@sha256:{HEX}"));
    assert_eq!(both.tag(), Some("3"));
    assert_eq!(both.digest(), pinned.digest());
    assert_eq!(both.with_digest(Digest::of(b"")), pinned);
    assert_eq!(
        pinned.with_tag("9").unwrap().to_string(),
        "docker.io/library/alpine:9"
    );
    assert!(pinned.with_tag("a b").is_err());
}

#[test]
fn every_refusal_says_what_is_wrong() {
    use ReferenceError as E;
    assert!(matches!(refused(""), E::Empty(_)));
    assert!(matches!(refused("./x.tar"), E::Path(_)));
    assert!(matches!(refused("/x"), E::Path(_)));
    assert!(matches!(refused(HEX), E::Identifier(_)));
    assert!(matches!(refused("docker.io/Alpine"), E::Case(_)));
    assert!(matches!(refused("a/Alpine"), E::Case(_)));
    assert!(matches!(refused("Org/alpine"), E::Case(_)));
    assert!(matches!(refused("alpine:"), E::Tag(_)));
    assert!(matches!(refused("alpine:-x"), E::Tag(_)));
    assert!(matches!(
        refused(&format!("alpine:{}", "x".repeat(129))),
        E::Tag(_)
    ));
    assert!(matches!(refused("alpine:a:b"), E::Tag(_)));
    assert!(matches!(refused("alpine@sha256:00"), E::Digest(_)));
    assert!(matches!(
        refused("alpine@sha512:00"),
        E::Digest(DigestError::Algorithm(_))
    ));
    for domain in [
        "a_b.c/x",
        "-a.b/x",
        "a..b/x",
        "a:0/x",
        "a:99999/x",
        "a:+1/x",
        "[::g]/x:y",
        "[::1/x.y",
        "a:/x",
    ] {
        assert!(
            matches!(refused(domain), E::Domain(_)),
            "{domain}: {:?}",
            refused(domain)
        );
    }
    for path in [
        "a//b",
        "a/",
        "a___b",
        "a.-b",
        "a..b",
        "_a",
        "a_",
        "-a",
        "é",
        "a b",
        "a/\u{1b}[31m",
    ] {
        assert!(
            matches!(refused(path), E::Repository(_)),
            "{path}: {:?}",
            refused(path)
        );
    }
    assert!(matches!(refused(&"a/".repeat(200)), E::Repository(_)));
    assert!(matches!(refused(&"a".repeat(250)), E::Name(n) if n == 268));
    assert!(matches!(refused(&"a".repeat(2000)), E::Long(2000)));
    // What a terminal would act on is escaped in the text.
    assert!(!refused("a\u{1b}[31m").to_string().contains('\u{1b}'));
}

fn source(text: &str) -> Source {
    Source::parse(OsStr::new(text)).unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn a_transport_is_a_prefix() {
    let alpine = parse("alpine");
    assert_eq!(source("alpine"), Source::Registry(alpine.clone()));
    assert_eq!(source("docker://alpine"), Source::Registry(alpine.clone()));
    assert_eq!(source("docker://oci:x"), Source::Registry(parse("oci:x")));
    assert_eq!(source("-"), Source::Stdin);
    assert_eq!(
        source("docker-archive:/a/b.tar:alpine:3"),
        Source::DockerArchive {
            path: "/a/b.tar".into(),
            name: Some("alpine:3".into())
        }
    );
    assert_eq!(
        source("oci:dir"),
        Source::Oci {
            path: "dir".into(),
            tag: None
        }
    );
    assert_eq!(
        source("oci-archive:x.tar:v1"),
        Source::OciArchive {
            path: "x.tar".into(),
            tag: Some("v1".into())
        }
    );
    assert_eq!(source("dir:/r"), Source::Directory("/r".into()));
    assert_eq!(source("rootfs:/a:b"), Source::Directory("/a:b".into()));
    assert_eq!(
        source("docker-daemon:alpine"),
        Source::DockerDaemon(alpine.clone())
    );
    assert_eq!(
        source("containers-storage:alpine"),
        Source::ContainersStorage(alpine)
    );
}

#[test]
fn a_transport_without_a_place_or_an_unknown_one_is_refused() {
    let refused = |text: &str| Source::parse(OsStr::new(text)).unwrap_err();
    for text in [
        "docker-archive:",
        "oci:",
        "oci:dir:",
        "oci-archive::x",
        "dir:",
        "rootfs:",
    ] {
        assert!(matches!(refused(text), ReferenceError::Empty(_)), "{text}");
    }
    assert!(matches!(refused("docker://"), ReferenceError::Empty(_)));
    assert!(
        matches!(refused("https://quay.io/x"), ReferenceError::Transport(t) if t == "https://")
    );
    let raw = OsStr::from_bytes(b"alp\xffine");
    assert!(matches!(
        Source::parse(raw),
        Err(ReferenceError::Encoding(_))
    ));
    let path = OsStr::from_bytes(b"oci:/a\xff");
    assert!(matches!(Source::parse(path), Ok(Source::Oci { .. })));
}

/// Parses anything; what is accepted must print and read back the same. Also the body of the fuzz target.
pub(crate) fn reads_back(data: &[u8]) {
    let Ok(source) = Source::parse(OsStr::from_bytes(data)) else {
        return;
    };
    if let Source::Registry(reference) = &source {
        assert_eq!(&parse(&reference.to_string()), reference);
        assert_eq!(&parse(&reference.familiar()), reference);
        assert!(reference.repository().len() <= NAME_MAX);
        assert!(reference.tag().is_some() || reference.digest().is_some());
    }
    if let Ok(text) = std::str::from_utf8(data)
        && !text.starts_with("docker://")
        && matches!(
            source,
            Source::Oci { .. }
                | Source::OciArchive { .. }
                | Source::DockerArchive { .. }
                | Source::Stdin
        )
    {
        assert_eq!(source.to_string(), text);
    }
}

proptest! {
    #[test]
    fn anything_is_accepted_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        reads_back(&bytes);
    }

    #[test]
    fn near_misses_are_accepted_or_refused(text in "(docker://|oci:|[a-zA-Z0-9.]{0,6}/)?[a-z0-9._:/@-]{0,40}(:[a-zA-Z0-9._-]{0,8})?(@sha256:[0-9a-f]{64})?") {
        reads_back(text.as_bytes());
    }

    #[test]
    fn well_formed_references_keep_every_part(
        domain in "[a-z]{1,8}\\.[a-z]{2,3}(:[1-9][0-9]{0,3})?",
        path in "[a-z0-9]{1,6}([._-][a-z0-9]{1,4}){0,2}(/[a-z0-9]{1,6}){0,3}",
        tag in "[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}",
    ) {
        prop_assume!(domain != "docker.io");
        let reference = parse(&format!("{domain}/{path}:{tag}"));
        prop_assert_eq!(reference.domain(), domain);
        prop_assert_eq!(reference.path(), path);
        prop_assert_eq!(reference.tag(), Some(tag.as_str()));
    }
}
