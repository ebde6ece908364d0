//! `hull doctor` says whether a host is fit and what to do if not; `hull run` on one that is not says the same.

use std::process::{Command, Output};

use tests::hull;
use tests::run::{program, store};

#[test]
fn a_fit_host_is_called_fit() {
    let outcome = hull(["doctor"]).finish();
    outcome.exits(0);
    assert!(!outcome.out().contains("FAIL"), "{outcome:?}");
}

/// Runs a script where hull is `$hull`, in a mount namespace of its own, which nobody has to be root for.
fn elsewhere(script: &str) -> Output {
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .env("hull", program())
        .env("HULL_START", "cold")
        .env("HULL_ROOT", store());
    command
        .env("image", tests::fixture::busybox())
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[test]
fn a_host_without_kvm_is_told_so() {
    let hide = "mount -t tmpfs none /dev &&";
    let doctor = elsewhere(&format!("{hide} $hull doctor"));
    assert_eq!(doctor.status.code(), Some(1), "{}", text(&doctor));
    assert!(text(&doctor).contains("/dev/kvm"), "{}", text(&doctor));
    let run = elsewhere(&format!("{hide} $hull run $image true"));
    assert_eq!(run.status.code(), Some(125), "{}", text(&run));
    assert!(text(&run).contains("/dev/kvm"), "{}", text(&run));
}

#[test]
fn a_missing_library_is_told() {
    let outcome = hull(["doctor"])
        .host_env("HULL_LIB", "/no/such/library")
        .finish();
    outcome.exits(1);
    assert!(outcome.out().contains("/no/such/library"), "{outcome:?}");
    let run = tests::vm()
        .host_env("HULL_LIB", "/no/such/library")
        .run("true");
    run.exits(125).complains("/no/such/library");
}

#[test]
fn version_completion_and_manual() {
    assert!(hull(["version"]).finish().exits(0).out().contains("hull"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            hull(["completion", shell])
                .finish()
                .exits(0)
                .out()
                .contains("hull"),
            "{shell}"
        );
    }
    let directory = tests::fixture::scratch("man").unwrap();
    hull(["man".into(), directory.clone().into_os_string()])
        .finish()
        .exits(0);
    assert!(std::fs::read_dir(&directory).unwrap().count() > 3);
    std::fs::remove_dir_all(directory).unwrap();
}

/// A full disk or a reader that has gone away is no reason to panic, and is not taken for success.
#[test]
fn output_that_cannot_be_written_is_told() {
    let version = |redirected: &str| {
        let mut command = Command::new("sh");
        let script = format!("$hull version {redirected}");
        let output = command
            .args(["-c", &script])
            .env("hull", program())
            .output()
            .unwrap();
        (output.status.code(), text(&output))
    };
    let (code, said) = version(">/dev/full");
    assert_eq!(code, Some(125), "{said}");
    assert!(
        said.starts_with("error: Standard output cannot be written"),
        "{said}"
    );
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let unread = Command::new(program())
        .arg("version")
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(
        (unread.status.code(), text(&unread).as_str()),
        (Some(141), "")
    );
    let (code, said) = version("--unknown 2>/dev/full");
    assert_eq!((code, said.as_str()), (Some(125), ""));
}
