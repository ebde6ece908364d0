//! Files there and back; and a guest that means harm.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use protocol::{Bytes, Entry, EntryKind, Item};

use super::disk::Taker;
use super::*;
use std::path::Path;

const OWNED: Keep = Keep { owner: false };

fn entry(path: &str, kind: EntryKind) -> Entry {
    Entry {
        path: path.into(),
        kind,
        mode: 0o4755,
        uid: 0,
        gid: 0,
        seconds: 1_000_000_000,
        nanoseconds: 5,
        attributes: Vec::new(),
    }
}

fn file(path: &str) -> Entry {
    entry(path, EntryKind::File { size: 3 })
}

/// All items of a stream, with their contents left out.
fn items(mut stream: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    loop {
        match protocol::read(&mut stream).unwrap() {
            Some(Item::Entry(entry)) => {
                if let EntryKind::File { size } = entry.kind {
                    stream = &stream[usize::try_from(size).unwrap()..];
                }
                entries.push(entry);
            }
            Some(Item::End) => return entries,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn no_name_and_no_link_of_a_guest_leads_out() {
    let outside = tempfile::tempdir().unwrap();
    let inside = tempfile::tempdir().unwrap();
    let link = |path: &str| {
        let target = outside.path().to_str().unwrap();
        entry(path, EntryKind::Symlink(target.into()))
    };
    let tries: [&[Entry]; 7] = [
        &[file("../x")],
        &[file("a/../../x")],
        &[file("..")],
        &[link("l"), file("l/x")],
        &[link("l"), entry("l/d", EntryKind::Directory)],
        &[link("l"), file("l"), file("l/x")],
        &[
            link("m"),
            entry("h", EntryKind::HardLink("m/secret".into())),
        ],
    ];
    fs::write(outside.path().join("secret"), "secret").unwrap();
    for (number, entries) in tries.iter().enumerate() {
        let to = inside.path().join(number.to_string());
        fs::create_dir(&to).unwrap();
        let mut taker = Taker::new(&to, b"", OWNED);
        let mut done = entries
            .iter()
            .map(|entry| taker.take(entry, &mut &b"abc"[..]));
        assert!(done.any(|done| done.is_err()), "{number}");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"secret");
    // A link that was there before is replaced, not followed.
    let to = inside.path().join("replaced");
    fs::create_dir(&to).unwrap();
    symlink(outside.path().join("secret"), to.join("f")).unwrap();
    let mut taker = Taker::new(&to, b"", OWNED);
    taker.take(&file("f"), &mut &b"abc"[..]).unwrap();
    taker.finish().unwrap();
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"secret");
    let made = fs::symlink_metadata(to.join("f")).unwrap();
    assert!(made.is_file());
    assert_eq!(
        made.mode() & 0o7777,
        0o755,
        "no setuid bit without its owner"
    );
    assert_eq!((made.mtime(), made.mtime_nsec()), (1_000_000_000, 5));
}

#[test]
fn a_copy_goes_where_cp_puts_it() {
    let there = tempfile::tempdir().unwrap();
    let at = |path: &str| there.path().join(path);
    let directory = entry("", EntryKind::Directory);
    let copy = |to: &Path, name: &[u8], entries: &[Entry]| -> Result<(), CopyError> {
        let mut taker = Taker::new(to, name, OWNED);
        for entry in entries {
            taker.take(entry, &mut &b"abc"[..])?;
        }
        taker.finish()
    };
    let tree = [directory, file("f")];
    // Under a new name, below what is there, and only what is in it.
    copy(&at("new"), b"src", &tree).unwrap();
    copy(&at("new"), b"src", &tree).unwrap();
    copy(&at("new"), b"", &tree).unwrap();
    assert!(at("new/f").is_file() && at("new/src/f").is_file());
    assert_eq!(
        fs::metadata(at("new/src")).unwrap().permissions().mode() & 0o777,
        0o755
    );
    copy(&at("one"), b"f", &[file("")]).unwrap();
    copy(&at("one"), b"f", &[file("")]).unwrap();
    copy(&at("new/"), b"g", &[file("")]).unwrap();
    assert!(at("one").is_file() && at("new/g").is_file());
    copy(&at("one"), b"src", &tree).unwrap_err();
    copy(&at("none/"), b"f", &[file("")]).unwrap_err();
    copy(&at("none/x"), b"f", &[file("")]).unwrap_err();
    copy(&at("new"), b"src", &[file("")]).unwrap_err();
}

#[test]
fn a_tree_is_sent_as_it_is_and_a_tar_as_it_says() {
    let there = tempfile::tempdir().unwrap();
    fs::create_dir(there.path().join("d")).unwrap();
    fs::write(there.path().join("d/a"), "abc").unwrap();
    fs::hard_link(there.path().join("d/a"), there.path().join("d/b")).unwrap();
    symlink("a", there.path().join("d/c")).unwrap();
    let mut stream = Vec::new();
    disk::send(&there.path().join("d"), false, OWNED, &mut stream).unwrap();
    let sent = items(&stream);
    let told: Vec<_> = sent
        .iter()
        .map(|e| (e.path.0.as_slice(), &e.kind))
        .collect();
    let expected = [
        (&b""[..], &EntryKind::Directory),
        (b"a", &EntryKind::File { size: 3 }),
        (b"b", &EntryKind::HardLink("a".into())),
        (b"c", &EntryKind::Symlink("a".into())),
    ];
    assert_eq!(told, expected);
    // The same through an archive.
    let mut archive = Vec::new();
    for entry in sent.clone() {
        tar::write(&mut archive, b"top", entry, &mut &b"abc"[..]).unwrap();
    }
    tar::end(&mut archive).unwrap();
    let mut again = Vec::new();
    tar::send(archive.as_slice(), OWNED, &mut again).unwrap();
    for (mut before, after) in sent.into_iter().zip(items(&again)) {
        let below = |path: &[u8]| match path {
            b"" => Bytes(b"top".to_vec()),
            path => Bytes([b"top/", path].concat()),
        };
        before.path = below(&before.path);
        if let EntryKind::HardLink(target) = &mut before.kind {
            *target = below(target);
        }
        assert_eq!(before, after);
    }
    let mut bad = Vec::new();
    tar::write(&mut bad, b"a/..", file("x"), &mut &b"abc"[..]).unwrap();
    tar::send(bad.as_slice(), OWNED, &mut Vec::new()).unwrap_err();
}
