//! Images come from a registry: pulled when they are missing, run, pushed, and run again somewhere else. A policy decides which
//! may.

use std::path::Path;
use std::process::Command;

use tests::fixture::{self, scratch};
use tests::registry::Registry;
use tests::{Vm, hull, vm};

/// Puts the busybox image there.
fn publish(to: &str) {
    publish_as(to, &[]);
}

fn publish_as(to: &str, options: &[&str]) {
    copy(&fixture::busybox(), to, options);
}

/// Puts an image there with skopeo.
pub(crate) fn copy(image: &str, to: &str, options: &[&str]) {
    let status = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "-q", "--dest-tls-verify=false"])
        .args(options)
        .arg(image)
        .arg(format!("docker://{to}"))
        .status()
        .expect("skopeo is needed");
    assert!(status.success());
}

fn in_store(vm: Vm, store: &Path) -> Vm {
    vm.host_env("HULL_ROOT", store).host_env("HOME", store)
}

#[test]
fn an_image_is_pulled_run_pushed_and_run_elsewhere() {
    let registry = Registry::start().unwrap();
    let first = registry.name("busybox:1");
    publish(&first);
    let stores = scratch("registry-stores").unwrap();
    let here = stores.join("here");
    let run = |image: &str, store: &Path, pull: &str| {
        let vm = hull(["run", "--rm", "--pull", pull]).image(image);
        in_store(vm, store).run("echo it came a long way")
    };
    run(&first, &here, "never")
        .exits(125)
        .complains("hull pull");
    run(&first, &here, "missing").prints("it came a long way\n");
    run(&first, &here, "never").prints("it came a long way\n");

    let second = registry.name("copies/busybox:2");
    in_store(hull(["push", "-q", &first, &second]), &here)
        .finish()
        .prints(&format!("{second}\n"));
    let elsewhere = stores.join("elsewhere");
    in_store(hull(["pull", "-q", &second]), &elsewhere)
        .finish()
        .prints(&format!("{second}\n"));
    drop(registry);
    run(&second, &elsewhere, "missing").prints("it came a long way\n");
    std::fs::remove_dir_all(stores).unwrap();
}

#[test]
fn a_policy_that_became_stricter_is_obeyed_by_runs() {
    let registry = Registry::start().unwrap();
    let name = registry.name("busybox:1");
    publish(&name);
    let stores = scratch("registry-policy").unwrap();
    let home = stores.join("home");
    let run = |options: &[&str], image: &str| {
        let vm = hull(["run", "--rm"]).image(image).options(options);
        in_store(vm, &home)
            .host_env("XDG_CONFIG_HOME", stores.join("config"))
            .run("echo it runs")
    };
    // Without a policy unsigned images are accepted, which is said once, in one line.
    let said = |text: &str| {
        text.lines()
            .filter(|line| line.contains("unsigned"))
            .count()
    };
    let first = run(&[], &name);
    first.prints("it runs\n");
    assert_eq!(said(&first.err()), 1, "{first:?}");
    let again = run(&["--pull", "always"], &name);
    again.prints("it runs\n");
    assert_eq!(said(&again.err()), 0, "{again:?}");

    let ids = in_store(hull(["images", "-q"]), &home).finish().out();
    let policy = stores.join("config/hull/policy.json");
    std::fs::create_dir_all(policy.parent().unwrap()).unwrap();
    std::fs::write(&policy, r#"{"default":[{"type":"reject"}]}"#).unwrap();
    for (image, pull) in [
        (name.as_str(), "missing"),
        (&name, "never"),
        (&name, "always"),
        (ids.trim(), "missing"),
        (&fixture::busybox(), "missing"),
    ] {
        run(&["--pull", pull], image)
            .exits(125)
            .complains("rejected")
            .complains("--insecure-options=image");
        run(&["--pull", pull, "--insecure-options", "image"], image).prints("it runs\n");
    }
    for verb in [["load", "-i"], ["import", "--message="]] {
        let file = fixture::path("busybox.tar");
        in_store(hull(verb).image(file.to_str().unwrap()), &home)
            .host_env("XDG_CONFIG_HOME", stores.join("config"))
            .finish()
            .exits(1)
            .complains("rejected");
    }
    // One that demands a signature asks the registry for one, and there is none.
    let key = "LS0tLS1CRUdJTiBQVUJMSUMgS0VZLS0tLS0KTUNvd0JRWURLMlZ3QXlFQUpObFdNTDNITmlvYktWTUZOeHY2clN6bnV6ZjkzMmRlT3ZGUmtuQllvbzQ9Ci0tLS0tRU5EIFBVQkxJQyBLRVktLS0tLQo=";
    let demand = format!(r#"{{"default":[{{"type":"sigstoreSigned","keyData":"{key}"}}]}}"#);
    std::fs::write(&policy, demand).unwrap();
    for pull in ["missing", "never", "always"] {
        run(&["--pull", pull], &name)
            .exits(125)
            .complains("there is no signature");
    }
    std::fs::remove_dir_all(stores).unwrap();
}

#[test]
fn progress_is_bars_on_a_terminal_lines_elsewhere_and_nothing_when_quiet() {
    let registry = Registry::start().unwrap();
    let name = registry.name("busybox:1");
    publish(&name);
    let stores = scratch("registry-progress").unwrap();
    let pull = |label: &str, options: &[&str]| {
        let vm = hull(["pull"]).options(options).image(&name);
        let outcome = in_store(vm, &stores.join(label)).finish();
        outcome.exits(0);
        (outcome.out(), outcome.err())
    };
    let (out, err) = pull("lines", &[]);
    assert!(
        out.contains("Digest: sha256:") && out.contains("Downloaded newer image"),
        "{out}"
    );
    let lines: Vec<&str> = err
        .lines()
        .filter(|line| line.ends_with(" complete"))
        .collect();
    assert!(lines.len() == 1 && !err.contains('\u{1b}'), "{err}");
    assert_eq!(lines[0].len(), 12 + " complete".len());
    let (out, err) = pull("quiet", &["-q"]);
    assert_eq!(out, format!("{name}\n"));
    assert!(!err.contains("complete"), "{err}");
    // `script` gives it a terminal.
    let mut script = Command::new("script");
    script
        .args(["-q", "-e", "-c"])
        .arg(format!("{} pull {name}", tests::run::program().display()));
    let output = script
        .arg("/dev/null")
        .env("HULL_ROOT", stores.join("bars"))
        .env("TERM", "xterm")
        .output()
        .expect("script (bsdutils) is needed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains('\u{1b}') && said.contains("complete"),
        "{said:?}"
    );
    std::fs::remove_dir_all(stores).unwrap();
}

#[test]
fn a_login_opens_a_private_registry_until_the_logout() {
    let registry = Registry::with_password().unwrap();
    let (name, host) = (registry.name("busybox:1"), registry.address.clone());
    let login = format!("{}:{}", tests::registry::USER, tests::registry::PASSWORD);
    publish_as(&name, &["--dest-creds", &login]);
    let home = scratch("registry-login").unwrap();
    let hull = |words: &[&str]| in_store(hull(words.iter().copied()), &home);
    let denied = |word: &str| {
        hull(&["pull", "-q", &name])
            .finish()
            .exits(125)
            .complains(word);
    };
    denied("hull login");
    let user = tests::registry::USER;
    let login = ["login", "--username", user, "--password-stdin", &host];
    hull(&login).feed("wrong").finish().exits(125);
    denied("hull login");
    hull(&login)
        .feed(tests::registry::PASSWORD)
        .finish()
        .prints("Login succeeded\n");
    let file = home.join(".docker/config.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    hull(&["pull", "-q", &name]).finish().exits(0);
    hull(&["logout", &host]).finish().exits(0);
    in_store(vm().image(&name).options(["--pull", "always"]), &home)
        .run("true")
        .exits(125)
        .complains("hull login");
    in_store(vm().image(&name), &home)
        .run("echo it runs")
        .prints("it runs\n");
    std::fs::remove_dir_all(home).unwrap();
}
