//! Credentials: where they are looked for, what matches, helpers good and bad, and how they are kept.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::*;

/// A home of its own; `PATH` has a directory for helpers before the system's.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        fs::create_dir(home.path().join("bin")).unwrap();
        home
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn credentials(&self, more: &'static [&'static str]) -> Credentials {
        let root = self.path().to_owned();
        Credentials::from_environment(&move |name| match name {
            "HOME" => Some(root.clone().into()),
            "PATH" => Some(format!("{}/bin:/usr/bin:/bin", root.display()).into()),
            other if more.contains(&other) => Some(root.join(other).into()),
            _ => None,
        })
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn helper(&self, name: &str, script: &str) {
        let path = self.write(
            &format!("bin/docker-credential-{name}"),
            &format!("#!/bin/sh\n{script}\n"),
        );
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn password(user: &str, secret: &str) -> Login {
    Login::new(user.to_owned(), secret.to_owned())
}

fn auth(user: &str, secret: &str) -> String {
    BASE64.encode(format!("{user}:{secret}"))
}

#[test]
fn the_most_specific_entry_wins() {
    let home = Home::new();
    home.write(
        ".docker/config.json",
        &format!(
            r#"{{"auths":{{
                "https://index.docker.io/v1/":{{"auth":"{}"}},
                "quay.io":{{"auth":"{}"}},
                "quay.io/org/team":{{"auth":"{}"}},
                "http://legacy.io/v2/":{{"username":"l","password":"p"}},
                "token.io":{{"identitytoken":"idt","auth":"{}"}},
                "colon.io":{{"auth":"{}"}},
                "empty.io":{{}}
            }}}}"#,
            auth("hub", "h"),
            auth("q", "general"),
            auth("q", "team"),
            auth("ignored", "x"),
            auth("c", "a:b:c\0\0"),
        ),
    );
    let found = |domain: &str, path: &str| home.credentials(&[]).find(domain, path).unwrap();
    assert_eq!(
        found("docker.io", "library/alpine"),
        Some(password("hub", "h"))
    );
    assert_eq!(
        found("quay.io", "org/other"),
        Some(password("q", "general"))
    );
    assert_eq!(found("quay.io", "org/team/x"), Some(password("q", "team")));
    assert_eq!(
        found("quay.io", "org/teams"),
        Some(password("q", "general"))
    );
    assert_eq!(found("legacy.io", "x"), Some(password("l", "p")));
    assert_eq!(found("colon.io", "x"), Some(password("c", "a:b:c")));
    assert_eq!(
        found("token.io", "x"),
        Some(Login::Identity(Secret::new("idt".to_owned())))
    );
    for absent in [
        "empty.io",
        "evil.quay.io",
        "quay.io:5000",
        "quay.io.evil.com",
        "uay.io",
    ] {
        assert_eq!(found(absent, "x"), None, "{absent}");
    }
}

#[test]
fn files_are_read_in_order_and_one_may_be_the_only_one() {
    let home = Home::new();
    let entry = |secret: &str| {
        format!(
            r#"{{"auths":{{"r.io":{{"auth":"{}"}}}}}}"#,
            auth("u", secret)
        )
    };
    home.write(".docker/config.json", &entry("docker"));
    let find = |more| home.credentials(more).find("r.io", "x").unwrap();
    assert_eq!(find(&[]), Some(password("u", "docker")));
    home.write(".config/containers/auth.json", &entry("podman"));
    assert_eq!(find(&[]), Some(password("u", "podman")));
    home.write("XDG_RUNTIME_DIR/containers/auth.json", &entry("runtime"));
    assert_eq!(find(&["XDG_RUNTIME_DIR"]), Some(password("u", "runtime")));
    home.write("DOCKER_CONFIG/config.json", "{}");
    fs::remove_dir_all(home.path().join(".config")).unwrap();
    assert_eq!(find(&["DOCKER_CONFIG"]), None);
    assert_eq!(find(&["REGISTRY_AUTH_FILE"]), None);
    home.write("REGISTRY_AUTH_FILE", &entry("only"));
    assert_eq!(
        find(&["REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"]),
        Some(password("u", "only"))
    );
}

#[test]
fn broken_files_are_refused_without_their_content() {
    let home = Home::new();
    for text in [
        r#"{"auths":{"r.io":{"auth":"sekrit!"}}}"#,
        r#"{"auths":{"r.io":{"auth":"c2Vrcml0"}}}"#,
        r#"["sekrit"]"#,
        r#"{"sekrit"#,
    ] {
        home.write(".docker/config.json", text);
        let error = home.credentials(&[]).find("r.io", "x").unwrap_err();
        assert!(
            matches!(error, CredentialsError::Form { .. }),
            "{text}: {error:?}"
        );
        assert!(!format!("{error} {error:?}").contains("ekrit"), "{error:?}");
    }
    home.write(".docker/config.json", "");
    assert_eq!(home.credentials(&[]).find("r.io", "x").unwrap(), None);
}

#[test]
fn helpers_are_asked_by_registry_and_by_default() {
    let home = Home::new();
    home.helper(
        "mine",
        r#"read server; [ "$1" = get ] || exit 9
        case $server in
        r.io) echo '{"ServerURL":"r.io","Username":"u","Secret":"from helper"}';;
        t.io) echo '{"Username":"<token>","Secret":"idt"}';;
        *) echo "credentials not found in native keychain"; exit 1;; esac"#,
    );
    home.write(
        ".docker/config.json",
        r#"{"credHelpers":{"r.io":"mine","t.io":"mine","none.io":"mine"},"credsStore":"mine","auths":{"https://r.io":{}}}"#,
    );
    let credentials = home.credentials(&[]);
    assert_eq!(
        credentials.find("r.io", "x").unwrap(),
        Some(password("u", "from helper"))
    );
    assert_eq!(
        credentials.find("t.io", "x").unwrap(),
        Some(Login::Identity(Secret::new("idt".to_owned())))
    );
    assert_eq!(credentials.find("none.io", "x").unwrap(), None);
    assert_eq!(credentials.find("unlisted.io", "x").unwrap(), None);
}

#[test]
fn a_bad_helper_ends_with_an_error_and_in_time() {
    let home = Home::new();
    home.helper("fails", "echo 'locked \x1b[31m'; exit 1");
    home.helper(
        "leaks",
        "echo '{\"Username\":\"u\",\"Secret\":\"sekrit\"'; exit 1",
    );
    home.helper("garbles", "echo '{\"Secret\":\"sekrit\"'");
    home.helper("floods", "exec cat /dev/zero");
    home.helper("hangs", "sleep 300 & wait");
    home.helper("closes", "exec >&-; sleep 300");
    let path = Some(format!("{}/bin:/usr/bin:/bin", home.path().display()).into());
    let run = |name: &str, patience| {
        let error = match helper::run(name, "get", b"r.io", path.as_ref(), patience) {
            Err(error) => error,
            Ok(answer) => panic!("{name}: {} bytes", answer.map_or(0, |a| a.len())),
        };
        let text = format!("{error} {error:?}");
        assert!(!text.contains("sekrit") && !text.contains('\x1b'), "{text}");
        error
    };
    let long = Duration::from_secs(20);
    let short = Duration::from_millis(400);
    let started = Instant::now();
    assert!(
        matches!(run("fails", long), CredentialsError::HelperFailed { reason, .. } if reason.starts_with("locked \\u{1b}"))
    );
    assert!(matches!(
        run("leaks", long),
        CredentialsError::HelperFailed { .. }
    ));
    assert!(matches!(
        run("absent", long),
        CredentialsError::HelperRun { .. }
    ));
    assert!(matches!(
        run("../../sh", long),
        CredentialsError::HelperName(_)
    ));
    assert!(matches!(run("", long), CredentialsError::HelperName(_)));
    assert!(matches!(
        run("hangs", short),
        CredentialsError::HelperSilent { .. }
    ));
    assert!(matches!(
        run("closes", short),
        CredentialsError::HelperSilent { .. }
    ));
    // Its answer is cut, and it dies of the closed pipe.
    assert!(matches!(
        run("floods", long),
        CredentialsError::HelperFailed { .. }
    ));
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "{:?}",
        started.elapsed()
    );
    home.write(
        ".docker/config.json",
        r#"{"credHelpers":{"r.io":"garbles"}}"#,
    );
    let error = home.credentials(&[]).find("r.io", "x").unwrap_err();
    assert!(
        !format!("{error} {error:?}").contains("sekrit"),
        "{error:?}"
    );
}

#[test]
fn a_login_is_kept_for_its_owner_only_and_beside_the_rest() {
    let home = Home::new();
    let credentials = home.credentials(&[]);
    let path = home.path().join(".docker/config.json");
    let login = password("u", "p:q");
    assert_eq!(
        credentials.store("r.io", &login).unwrap(),
        Stored::File(path.clone())
    );
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(credentials.find("r.io", "x").unwrap(), Some(login));

    fs::write(
        &path,
        r#"{"psFormat":"x","auths":{"https://r.io/v1/":{"auth":"eDp5"},"s.io":{"auth":"eDp5"}}}"#,
    )
    .unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let newer = password("u", "2");
    credentials.store("r.io", &newer).unwrap();
    credentials.store("docker.io", &newer).unwrap();
    assert_eq!(mode(&path), 0o600);
    let text = fs::read_to_string(&path).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["psFormat"], "x");
    let keys: Vec<_> = document["auths"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["https://index.docker.io/v1/", "r.io", "s.io"]);
    assert_eq!(credentials.find("r.io", "x").unwrap(), Some(newer.clone()));
    assert_eq!(credentials.find("docker.io", "x").unwrap(), Some(newer));

    assert!(credentials.erase("docker.io").unwrap());
    assert!(!credentials.erase("docker.io").unwrap());
    assert_eq!(credentials.find("docker.io", "x").unwrap(), None);
    assert_eq!(
        credentials.find("s.io", "x").unwrap(),
        Some(password("x", "y"))
    );
    // Nothing else is left lying about.
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn a_linked_file_stays_a_link_and_an_impossible_place_is_an_error() {
    let home = Home::new();
    let real = home.write("dotfiles/docker.json", "{}");
    fs::create_dir(home.path().join(".docker")).unwrap();
    let link = home.path().join(".docker/config.json");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    home.credentials(&[])
        .store("r.io", &password("u", "p"))
        .unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(real).unwrap().contains("r.io"));

    let nowhere = Credentials::from_environment(&|_| None);
    let refused = nowhere.store("r.io", &password("u", "p"));
    assert!(matches!(refused, Err(CredentialsError::NoPlace)));
    for (user, secret) in [("", "p"), ("a:b", "p"), ("u", "p\n"), ("u\0", "p")] {
        let login = Login::Password {
            user: user.to_owned(),
            secret: Secret::new(secret.to_owned()),
        };
        let refused = home.credentials(&[]).store("r.io", &login);
        assert!(
            matches!(refused, Err(CredentialsError::Unstorable)),
            "{user:?}"
        );
    }
}

#[test]
fn a_helper_keeps_and_forgets() {
    let home = Home::new();
    home.helper(
        "kept",
        r#"store=$(dirname "$0")/store
        case $1 in
        store) cat > "$store";;
        get) [ -e "$store" ] && cat "$store" || { echo "credentials not found in native keychain"; exit 1; };;
        erase) rm "$store";; esac"#,
    );
    let path = home.write(".docker/config.json", r#"{"credsStore":"kept"}"#);
    let credentials = home.credentials(&[]);
    let login = password("u", "p\"q");
    assert_eq!(
        credentials.store("r.io", &login).unwrap(),
        Stored::Helper("kept".to_owned())
    );
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("r.io") && !text.contains("p\\\"q"), "{text}");
    assert_eq!(credentials.find("r.io", "x").unwrap(), Some(login));
    assert!(credentials.erase("r.io").unwrap());
    assert_eq!(credentials.find("r.io", "x").unwrap(), None);
    assert!(!home.path().join("bin/store").exists());
}

#[test]
fn logins_at_the_same_time_all_stay() {
    let home = Home::new();
    let credentials = home.credentials(&[]);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let credentials = &credentials;
            scope.spawn(move || {
                credentials
                    .store(&format!("r{number}.io"), &password("u", "p"))
                    .unwrap()
            });
        }
    });
    for number in 0..8 {
        assert!(
            credentials
                .find(&format!("r{number}.io"), "x")
                .unwrap()
                .is_some(),
            "{number}"
        );
    }
}
