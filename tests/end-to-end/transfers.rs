//! A snapshot goes to another store as one stream, and nothing but a whole one arrives; what is damaged is known.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tests::{eventually, fixture};

use crate::snapshots::{Store, WRITES_IN_MEMORY};

/// Counts, and has a file of its own.
const COUNTS: &str = "echo early > /file; n=0; while :; do n=$((n+1)); echo $n > /new; mv /new /count; sleep 0.05; done";

fn count(store: &Store, name: &str) -> u64 {
    store.exec(name, "cat /count").trim().parse().unwrap_or(0)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A store with the image and nothing else.
fn with_image(name: &str) -> Store {
    let store = Store::new(name);
    let run = store.hull(&["run", "--rm"]).image(&fixture::busybox());
    run.run("true").exits(0);
    store
}

fn is_empty(store: &Store) -> bool {
    let listed = store.hull(&["snapshot", "ls", "-q"]).finish();
    let drafts = fs::read_dir(store.0.join("snapshots/tmp"));
    listed.exits(0).out().is_empty() && drafts.map_or(0, Iterator::count) == 0
}

/// The archive of a snapshot `one` of a container that counts, in its store's directory.
fn exported(store: &Store, options: &[&str]) -> PathBuf {
    store.run("source", options, COUNTS);
    store.save("source", "one");
    let file = store.0.join("one.tar");
    let export = ["snapshot", "export", "-o", text(&file), "one"];
    store.hull(&export).finish().prints("");
    file
}

#[test]
fn a_container_goes_on_in_another_store() {
    let (here, there) = (Store::new("transfer-here"), Store::new("transfer-there"));
    let file = exported(&here, &["--storage", "129m"]);
    let before = count(&here, "source");
    here.hull(&["rm", "-f", "source"]).finish().exits(0);
    // What is holes is not in it.
    assert!(fs::metadata(&file).unwrap().len() < 200 << 20);
    let import = ["snapshot", "import", text(&file)];
    let import = there.hull(&import).finish();
    import.prints("one\n").complains("which the store has not");
    let run = ["run", "-d", "--from", "one", "--name", "copy"];
    let missing = there.hull(&run).finish();
    missing.exits(125).complains("which the store has not");
    missing.complains("hint: Bring the same image into the store");
    let load = ["load", "-q", &fixture::busybox()];
    there.hull(&load).finish().exits(0);
    there.hull(&run).finish().exits(0);
    assert_eq!(there.exec("copy", "cat /file"), "early\n");
    eventually("a copy that counts", || count(&there, "copy") > before);
    // Another name, through a pipe, out of a copy's copy.
    let export = there.hull(&["snapshot", "export", "one"]).finish();
    let stream = export.exits(0).stdout.clone();
    let import = there.hull(&["snapshot", "import", "two", "-"]);
    import.feed(stream).finish().prints("two\n");
    let verify = ["snapshot", "inspect", "--verify", "-f", "{{.Name}}"];
    let verify = verify.into_iter().chain(["one", "two"]);
    let verify: Vec<&str> = verify.collect();
    there.hull(&verify).finish().prints("one\ntwo\n");
    there.hull(&["rm", "-f", "copy"]).finish().exits(0);
    // The same image again is not the same file, and as good.
    let prune = ["image", "prune", "-a", "-f"];
    there.hull(&prune).finish().exits(0);
    let rmi = there.hull(&["rmi", "busybox"]).finish();
    rmi.exits(1).complains("in use by snapshot");
    there.hull(&["rmi", "-f", "busybox"]).finish().exits(0);
    there.hull(&run).finish().exits(125);
    there.hull(&load).finish().exits(0);
    there.hull(&run).finish().exits(0);
    assert_eq!(there.exec("copy", "cat /file"), "early\n");
}

#[test]
fn other_programs_read_the_archive() {
    let store = Store::new("transfer-tar");
    let file = exported(&store, WRITES_IN_MEMORY);
    let tar = |words: &[&str]| {
        let mut tar = Command::new("tar");
        let tar = tar.args(words).current_dir(&store.0);
        let out = tar.stderr(Stdio::inherit()).output().unwrap();
        assert!(out.status.success());
        String::from_utf8(out.stdout).unwrap()
    };
    let names = "one/container\none/machine\none/memory\n";
    assert_eq!(tar(&["-tf", text(&file)]), names);
    fs::create_dir(store.0.join("unpacked")).unwrap();
    tar(&["-xf", text(&file), "-C", "unpacked"]);
    for name in ["container", "machine", "memory"] {
        let original = fs::read(store.0.join("snapshots/one").join(name)).unwrap();
        let unpacked = fs::read(store.0.join("unpacked/one").join(name)).unwrap();
        assert!(original == unpacked, "{name}");
    }
}

#[test]
fn what_is_damaged_is_known_and_goes_nowhere() {
    let store = Store::new("transfer-damaged");
    let file = exported(&store, &["--storage", "64m"]);
    let check = || store.hull(&["system", "check"]).finish();
    check().prints("");
    for name in ["memory", "disk"] {
        let path = store.0.join("snapshots/one").join(name);
        let saved = fs::File::options().read(true).write(true).open(path);
        let saved = saved.unwrap();
        let mut byte = [0];
        saved.read_exact_at(&mut byte, 9 << 20).unwrap();
        saved.write_all_at(&[byte[0] ^ 1], 9 << 20).unwrap();
        let words = format!("Snapshot one is damaged: the sum of its {name} is wrong");
        let verify = ["snapshot", "inspect", "--verify", "one"];
        store.hull(&verify).finish().exits(1).complains(&words);
        let checked = check();
        checked.exits(1).complains("The store has 1 problems");
        assert!(checked.out().contains(&words), "{checked:?}");
        let out = store.0.join("bad.tar");
        let export = ["snapshot", "export", "-o", text(&out), "one"];
        store.hull(&export).finish().exits(1).complains(&words);
        let left = fs::read_dir(&store.0).unwrap().flatten();
        let left = left.filter(|entry| entry.file_name().to_string_lossy().contains("bad"));
        assert_eq!(left.count(), 0);
        saved.write_all_at(&byte, 9 << 20).unwrap();
        store.hull(&verify).finish().exits(0);
    }
    let there = with_image("transfer-half");
    let bytes = fs::read(&file).unwrap();
    let import = |bytes: &[u8]| {
        let import = there.hull(&["snapshot", "import", "-"]);
        import.feed(bytes).finish()
    };
    for length in [0, 100, 5000, bytes.len() / 2, bytes.len() - 4096] {
        let half = import(&bytes[..length]);
        half.exits(1).complains("hint: It must be all of what one");
        assert!(is_empty(&there));
    }
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    import(&damaged)
        .exits(1)
        .complains("is damaged: the sum of its");
    assert!(is_empty(&there));
    let unpack = import(&[0x28, 0xb5, 0x2f, 0xfd, 0]);
    unpack.exits(1).complains("zstd -dc FILE");
}

#[test]
fn an_import_that_dies_or_finds_no_room_leaves_nothing() {
    let store = Store::new("transfer-dies");
    let file = exported(&store, WRITES_IN_MEMORY);
    let there = Store::new("transfer-room");
    // Killed in the middle of memory.
    let bytes = fs::read(&file).unwrap();
    for part in [3, 2] {
        let import = there.hull(&["snapshot", "import", "-"]);
        let mut child = Command::new(tests::run::program())
            .args(["snapshot", "import", "-"])
            .env("HULL_ROOT", &there.0)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(&bytes[..bytes.len() / part]).unwrap();
        let drafts = fs::read_dir(there.0.join("snapshots/tmp")).unwrap();
        assert_eq!(drafts.count(), 1);
        child.kill().unwrap();
        child.wait().unwrap();
        drop(pipe);
        assert!(is_empty(&there));
        import.feed(bytes.clone()).finish().prints("one\n");
        let remove = ["snapshot", "rm", "one"];
        there.hull(&remove).finish().exits(0);
    }
    // A disk that has no room for it.
    let disk = there.0.join("disk");
    fs::create_dir(&disk).unwrap();
    let mount = |words: &[&str]| {
        assert!(
            Command::new(words[0])
                .args(&words[1..])
                .status()
                .unwrap()
                .success()
        )
    };
    mount(&["mount", "-t", "tmpfs", "-o", "size=4m", "none", text(&disk)]);
    let import = tests::hull(["snapshot", "import", text(&file)]).host_env("HULL_ROOT", &disk);
    let full = import.finish();
    let left = fs::read_dir(disk.join("snapshots/tmp")).unwrap().count();
    let listed = tests::hull(["snapshot", "ls", "-q"]).host_env("HULL_ROOT", &disk);
    let listed = listed.finish().out();
    mount(&["umount", text(&disk)]);
    full.exits(1).complains("No space left");
    assert_eq!((left, &listed[..]), (0, ""));
}

#[test]
fn what_the_user_asks_for_in_vain() {
    let store = Store::new("transfer-vain");
    let refused = |words: &[&str], code: i32, text: &str| {
        let words: Vec<&str> = ["snapshot"].iter().chain(words).copied().collect();
        store.hull(&words).finish().exits(code).complains(text);
    };
    refused(&["export", "none"], 1, "There is no snapshot \"none\"");
    refused(&["import", "/none"], 1, "/none cannot be opened");
    refused(&["import"], 125, "<FILE>");
    refused(&["inspect", "--verify", "none"], 1, "There is no snapshot");
    let kernel = fixture::path("../hull/lib/hull/vmlinux");
    let options = ["--storage", "0", "--kernel", text(&kernel)];
    store.run("own", &options, "sleep 1000");
    store.save("own", "own");
    refused(&["export", "own"], 1, "a kernel of its user's");
    let import = store
        .hull(&["snapshot", "import", "-"])
        .stdin_open()
        .start();
    import.signal(Signal::TERM);
    let _ = import.finish();
    assert_eq!(
        store.hull(&["snapshot", "ls", "-q"]).finish().out(),
        "own\n"
    );
}
