//! Digests as text and as hashes.

use super::*;

#[test]
fn known_value_and_round_trip() {
    let digest = Digest::of(b"abc");
    let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(digest.to_string(), text);
    assert_eq!(text.parse(), Ok(digest));
    assert_eq!(
        serde_json::from_str::<Digest>(&serde_json::to_string(&digest).unwrap()).unwrap(),
        digest
    );
}

#[test]
fn refuses_what_is_no_digest() {
    for text in [
        "",
        "sha256:",
        "sha256:xyz",
        "md5:00",
        "ba7816bf",
        "sha256:../../etc/passwd",
    ] {
        assert!(
            matches!(text.parse::<Digest>(), Err(DigestError::Malformed(_))),
            "{text}"
        );
    }
    let upper = format!("sha256:{}", "A".repeat(64));
    assert!(upper.parse::<Digest>().is_err());
    let other = format!("sha512:{}", "a".repeat(128));
    assert_eq!(
        other.parse::<Digest>(),
        Err(DigestError::Algorithm("sha512".into()))
    );
}
