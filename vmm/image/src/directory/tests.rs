//! Directories as layers, against what `tar` says of them.

use std::collections::BTreeMap;
use std::process::Command;

use super::*;
use crate::tar::Reader;

fn read(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    Tar::new(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn shell(directory: &Path, script: &str) {
    let status = Command::new("sh")
        .arg("-ec")
        .arg(script)
        .current_dir(directory)
        .status()
        .unwrap();
    assert!(status.success());
}

const TREE: &str = "
    mkdir -p a/b 'odd name' z; echo one > a/one; ln a/one a/b/two; ln -s ../a/one a/link
    mkfifo pipe; head -c 5000 /dev/zero | tr '\\0' x > data; : > empty
    touch -d '1969-12-31T23:59:58.25Z' a/one; touch -d '2001-02-03T04:05:06.789012345Z' data
    chmod 4711 data; chmod 1777 z
    python3 -c \"open(b'n\\xff'+b'l'*150, 'w').write('non-ascii')\"";

/// Paths with everything the reader of tars knows of them.
fn entries(bytes: &[u8]) -> BTreeMap<Vec<u8>, String> {
    let mut reader = Reader::new(bytes);
    let mut entries = BTreeMap::new();
    while let Some(entry) = reader.next().unwrap() {
        let mut path = entry.path.clone();
        if path.starts_with(b"./") && path.len() > 2 {
            path.drain(..2);
        }
        let mut data = Vec::new();
        loop {
            let piece = reader.data().unwrap();
            if piece.is_empty() {
                break;
            }
            data.extend_from_slice(piece);
            let count = piece.len();
            reader.consume(count);
        }
        let (mode, owner, time) = (entry.mode, (entry.uid, entry.gid), entry.mtime);
        let text = format!(
            "{mode:o} {owner:?} {time:?} {:?} {}",
            entry.kind,
            Digest::of(&data)
        );
        // Both archives name the same file first, but GNU tar may write links with ./ before.
        entries.insert(path, text.replace("[46, 47, ", "["));
    }
    entries
}

#[test]
fn says_what_tar_says() {
    let work = tempfile::tempdir().unwrap();
    shell(work.path(), TREE);
    let ours = read(work.path());
    let theirs = Command::new("tar")
        .args(["-c", "--format=pax", "--sort=name", "."])
        .current_dir(work.path())
        .output()
        .unwrap();
    assert!(theirs.status.success());
    assert_eq!(entries(&ours), entries(&theirs.stdout));
    assert_eq!(ours, read(work.path()), "the same bytes each time");
    // And tar reads what we write.
    let listed = Command::new("tar")
        .arg("-tf")
        .arg("-")
        .stdin(std::process::Stdio::piped())
        .spawn();
    let mut listed = listed.unwrap();
    std::io::Write::write_all(&mut listed.stdin.take().unwrap(), &ours).unwrap();
    assert!(listed.wait().unwrap().success());
}

#[test]
fn its_measure_is_its_bytes() {
    let work = tempfile::tempdir().unwrap();
    shell(work.path(), TREE);
    let bytes = read(work.path());
    let measured = measure(work.path()).unwrap();
    assert_eq!(
        (measured.diff_id, measured.size),
        (Digest::of(&bytes), bytes.len() as u64)
    );
}

#[test]
fn a_fingerprint_changes_with_anything() {
    let work = tempfile::tempdir().unwrap();
    shell(work.path(), TREE);
    let mut last = fingerprint(work.path()).unwrap().digest;
    assert_eq!(fingerprint(work.path()).unwrap().digest, last);
    for change in [
        "chmod 600 data",
        "echo two >> a/one",
        "mv empty full",
        "touch z",
        "rm pipe",
    ] {
        shell(work.path(), change);
        let now = fingerprint(work.path()).unwrap().digest;
        assert_ne!(now, last, "{change}");
        last = now;
    }
}

#[test]
fn links_are_not_followed_and_other_file_systems_not_entered() {
    let work = tempfile::tempdir().unwrap();
    let (inside, outside) = (work.path().join("inside"), work.path().join("outside"));
    std::fs::create_dir_all(inside.join("mnt")).unwrap();
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), b"secret").unwrap();
    std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
    let mounted = rustix::process::geteuid().is_root();
    if mounted {
        shell(&inside, "mount -t tmpfs none mnt && echo x > mnt/other");
    } else {
        eprintln!("SKIPPED: mounting needs root");
    }
    let found = entries(&read(&inside));
    if mounted {
        shell(&inside, "umount mnt");
    }
    let paths: Vec<_> = found
        .keys()
        .map(|path| String::from_utf8_lossy(path))
        .collect();
    assert_eq!(paths, [".", "link", "mnt"]);
}

#[test]
fn what_is_missing_or_too_deep_is_refused() {
    let work = tempfile::tempdir().unwrap();
    assert!(matches!(
        measure(&work.path().join("none")),
        Err(WalkError::Read { .. })
    ));
    let deep = work.path().join("d/".repeat(300));
    std::fs::create_dir_all(deep).unwrap();
    assert!(matches!(measure(work.path()), Err(WalkError::Depth(_))));
}
