//! What the administrator lets whom run: `/etc/hull/policy.toml`, in a mount namespace where it is there.

use std::path::Path;
use std::process::{Command, Output};

use tests::fixture::{self, scratch};
use tests::run::program;

/// Runs hull under a policy.
fn under(policy: &Path, store: &Path, words: &[&str]) -> Output {
    // (An empty /etc/hull is all that stays.)
    let script = "mkdir -p /etc/hull && mount -t tmpfs policy /etc/hull && cp \"$1\" /etc/hull/policy.toml && shift && exec \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(policy)
        .arg(program())
        .args(words)
        .env("HULL_START", "cold")
        .env("HULL_ROOT", store)
        .stdin(std::process::Stdio::null());
    command.output().expect("unshare (util-linux) is needed")
}

#[test]
fn a_run_is_refused_by_the_rule_that_forbids_it() {
    let directory = scratch("policy").unwrap();
    let (policy, store) = (directory.join("policy.toml"), directory.join("store"));
    let busybox = fixture::busybox();
    let file = fixture::path("busybox.tar").canonicalize().unwrap();
    let folder = file.parent().unwrap().display().to_string();
    let write = |rule: &str| {
        let text = format!("[[rule]]\nname = \"course\"\nusers = [\"root\"]\n{rule}\n");
        std::fs::write(&policy, text).unwrap();
    };
    let runs = |words: &[&str]| {
        let words = [&["run", "--rm"], words, &["echo", "it runs"]].concat();
        let output = under(&policy, &store, &words);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(
            (said.as_str(), output.status.code()),
            ("it runs\n", Some(0)),
            "{output:?}"
        );
    };
    let refused = |words: &[&str], why: &str| {
        let words = [&["run", "--rm"], words, &["true"]].concat();
        let output = under(&policy, &store, &words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(125), "{said}");
        assert!(said.contains(why), "{said}");
    };
    write(&format!(
        "images = [\"docker-archive:{folder}/\"]\nmemory = \"128m\"\ncpus = 1"
    ));
    refused(&[&busybox], "\"course\"");
    refused(&["--memory", "64m", "--cpus", "2", &busybox], "processors");
    refused(
        &["--memory", "64m", "alpine"],
        "does not allow the image docker.io/library/alpine:latest",
    );
    let memory = ["--memory", "64m"];
    runs(&[&memory[..], &[&busybox]].concat());

    // Another name says nothing about where an image came from, and neither does its id.
    write("images = [\"docker.io/library/\"]");
    let archive = file.display().to_string();
    for words in [
        &["load", "-i", &archive][..],
        &["tag", "busybox", "alpine:1"],
    ] {
        assert!(under(&policy, &store, words).status.success());
    }
    let output = under(&policy, &store, &["images", "-q", "--no-trunc"]);
    let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    for image in ["alpine:1", "busybox", &id, &id[7..19], &busybox] {
        refused(&[image], "\"course\"");
    }
    // By digest it is this image, whatever it is called.
    write(&format!("images = [\"{id}\"]"));
    for image in ["alpine:1", &id, &busybox] {
        runs(&[image]);
    }
    // Nobody is left to believe in what is not restricted.
    write("colours = [\"red\"]");
    refused(&[&busybox], "unknown field `colours`");
    std::fs::remove_dir_all(directory).unwrap();
}
