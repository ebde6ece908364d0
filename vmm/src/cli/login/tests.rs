//! Which words name a registry.

use super::*;

#[test]
fn a_registry_is_named_by_its_host() {
    for (text, domain) in [
        ("docker.io", "docker.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("quay.io", "quay.io"),
        ("localhost:5000", "localhost:5000"),
        ("https://Registry.example.com/", "registry.example.com"),
    ] {
        let name = registry(text).unwrap_or_else(|failure| panic!("{text}: {}", failure.line()));
        assert_eq!(name.domain(), domain);
    }
    for text in ["", "nothost", "a b", "https://", "x_y.z", "-"] {
        assert!(registry(text).is_err(), "{text}");
    }
}
