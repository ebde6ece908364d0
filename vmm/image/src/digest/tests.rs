//! Digests: FIPS 180 examples, the strict form, and that text and bytes agree.

use proptest::prelude::*;

use super::*;

#[test]
fn known_answers() {
    assert_eq!(
        Digest::of(b"abc").to_string(),
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert_eq!(
        Digest::of(b"").hex(),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
}

#[test]
fn refuses_what_is_not_a_sha256() {
    let hex = Digest::of(b"x").hex();
    assert!(matches!("".parse::<Digest>(), Err(DigestError::Form(_))));
    assert!(matches!(hex.parse::<Digest>(), Err(DigestError::Form(_))));
    assert!(matches!(
        format!("sha512:{hex}{hex}").parse::<Digest>(),
        Err(DigestError::Algorithm(a)) if a == "sha512"
    ));
    for value in [
        hex.to_uppercase(),
        hex.get(1..).unwrap_or_default().to_owned(),
        format!("{hex}0"),
        format!("{}é", hex.get(2..).unwrap_or_default()),
    ] {
        assert!(
            matches!(
                format!("sha256:{value}").parse::<Digest>(),
                Err(DigestError::Value(_))
            ),
            "{value}"
        );
    }
}

proptest! {
    #[test]
    fn text_and_value_agree(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let digest = Digest::of(&bytes);
        prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        let json = serde_json::to_string(&digest).unwrap();
        prop_assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
    }

    #[test]
    fn pieces_do_not_matter(bytes in proptest::collection::vec(any::<u8>(), 0..512), cut in 0usize..512) {
        let (a, b) = bytes.split_at(cut.min(bytes.len()));
        let mut hasher = Hasher::new();
        hasher.update(a);
        hasher.update(b);
        prop_assert_eq!(hasher.finish(), Digest::of(&bytes));
    }

    #[test]
    fn never_panics(text in ".{0,200}") {
        let _ = text.parse::<Digest>();
    }
}
