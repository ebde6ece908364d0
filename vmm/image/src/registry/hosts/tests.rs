//! registries.conf: prefixes, mirrors, moves, blocks, drop-ins.

use super::*;

fn registries(text: &str) -> Registries {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("registries.conf");
    fs::write(&file, text).unwrap();
    Registries::from_environment(&|name| {
        (name == "CONTAINERS_REGISTRIES_CONF").then(|| file.clone().into())
    })
    .unwrap()
}

fn locations(registries: &Registries, name: &str) -> Vec<String> {
    registries
        .locations(&name.parse().unwrap())
        .unwrap()
        .into_iter()
        .map(|l| {
            format!(
                "{}/{}{}",
                l.domain,
                l.path,
                if l.insecure { " insecure" } else { "" }
            )
        })
        .collect()
}

const TEXT: &str = r#"
unqualified-search-registries = ["docker.io"]
[[registry]]
prefix = "docker.io"
location = "docker.io"
[[registry.mirror]]
location = "mirror.local:5000"
insecure = true
[[registry.mirror]]
location = "tags.local/hub"
pull-from-mirror = "tag-only"
[[registry]]
prefix = "example.com/foo"
location = "inner.net/bar"
token-realms = ["login.inner.net"]
[[registry]]
location = "plain.local:5000"
insecure = true
[[registry]]
prefix = "*.wild.org"
[[registry.mirror]]
location = "wild.mirror"
pull-from-mirror = "digest-only"
[[registry]]
prefix = "evil.com/x"
blocked = true
"#;

#[test]
fn mirrors_come_before_the_registry_itself() {
    let all = registries(TEXT);
    let digest = format!("@{}", crate::Digest::of(b""));
    assert_eq!(
        locations(&all, "alpine"),
        [
            "mirror.local:5000/library/alpine insecure",
            "tags.local/hub/library/alpine",
            "docker.io/library/alpine"
        ]
    );
    assert_eq!(
        locations(&all, &format!("alpine{digest}")),
        [
            "mirror.local:5000/library/alpine insecure",
            "docker.io/library/alpine"
        ]
    );
    assert_eq!(locations(&all, "example.com/foo/a:1"), ["inner.net/bar/a"]);
    assert_eq!(locations(&all, "example.com/foo:1"), ["inner.net/bar"]);
    assert_eq!(locations(&all, "example.com/food"), ["example.com/food"]);
    assert_eq!(
        locations(&all, "plain.local:5000/x"),
        ["plain.local:5000/x insecure"]
    );
    assert_eq!(locations(&all, "plain.local/x"), ["plain.local/x"]);
    assert_eq!(locations(&all, "a.b.wild.org/x"), ["a.b.wild.org/x"]);
    assert_eq!(
        locations(&all, &format!("a.wild.org/x{digest}")),
        ["wild.mirror/x", "a.wild.org/x"]
    );
    assert_eq!(locations(&all, "wild.org/x"), ["wild.org/x"]);
    let moved = all
        .locations(&"example.com/foo/a".parse().unwrap())
        .unwrap();
    assert_eq!(
        moved.first().map(|l| l.realms.clone()),
        Some(vec!["login.inner.net".to_owned()])
    );
    assert_eq!(
        all.primary(&"alpine".parse().unwrap())
            .unwrap()
            .map(|l| l.domain)
            .as_deref(),
        Some("docker.io")
    );
}

#[test]
fn a_block_names_its_entry() {
    let refused = registries(TEXT)
        .locations(&"evil.com/x/y".parse().unwrap())
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        r#"evil.com/x/y is blocked by the registries.conf entry "evil.com/x""#
    );
    assert_eq!(locations(&registries(TEXT), "evil.com/xy"), ["evil.com/xy"]);
    assert_eq!(
        locations(&Registries::default(), "alpine"),
        ["docker.io/library/alpine"]
    );
}

#[test]
fn drop_ins_replace_and_broken_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hull/registries.conf");
    fs::create_dir_all(directory.path().join("hull/registries.conf.d")).unwrap();
    fs::write(&file, "[[registry]]\nlocation = \"a.io\"\n").unwrap();
    let variable = |name: &str| (name == "XDG_CONFIG_HOME").then(|| directory.path().into());
    let drop_in = directory.path().join("hull/registries.conf.d/50-a.conf");
    fs::write(
        &drop_in,
        "[[registry]]\nlocation = \"a.io\"\ninsecure = true\n",
    )
    .unwrap();
    let read = Registries::from_environment(&variable).unwrap();
    assert_eq!(locations(&read, "a.io/x"), ["a.io/x insecure"]);
    for broken in [
        "[[registry]",
        "[[registry]]\ninsecure = 3\nlocation='x'",
        "[[registry]]\nblocked = true",
    ] {
        fs::write(&drop_in, broken).unwrap();
        let refused = Registries::from_environment(&variable).unwrap_err();
        assert!(
            matches!(&refused, RegistriesError::Form { path, .. } if *path == drop_in),
            "{refused}"
        );
    }
}
