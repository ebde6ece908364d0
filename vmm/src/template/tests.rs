//! What is found, made, removed, and what of it survives whom.

use std::io::{Read, Seek, Write};
use std::time::Duration;

use super::*;

struct Place {
    _root: tempfile::TempDir,
    templates: Templates,
}

fn place(most: u64) -> Place {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("templates");
    Place {
        _root: root,
        templates: Templates { path, most },
    }
}

fn key(name: &str) -> Key {
    Key::of_test(name)
}

/// A template of 64 KiB, last used so many seconds ago.
fn made(templates: &Templates, name: &str, age: u64) {
    let mut draft = templates.begin(&key(name)).unwrap().unwrap();
    draft.machine.write_all(name.as_bytes()).unwrap();
    draft.memory.write_all(&[7; 64 << 10]).unwrap();
    let used = SystemTime::now() - Duration::from_secs(age);
    draft.machine.set_modified(used).unwrap();
    draft.finish().unwrap();
}

fn is_there(templates: &Templates, name: &str) -> bool {
    templates.path.join(key(name).name()).join(MACHINE).exists()
}

fn drafts(templates: &Templates) -> usize {
    std::fs::read_dir(templates.path.join(DRAFTS)).map_or(0, Iterator::count)
}

#[test]
fn what_was_made_is_found_and_nothing_else() {
    let place = place(u64::MAX);
    assert!(place.templates.find(&key("one")).is_none());
    assert_eq!(place.templates.usage(), Usage::default());
    made(&place.templates, "one", 0);
    let rest = place.templates.find(&key("one")).unwrap();
    let mut text = String::new();
    File::from(rest.machine).read_to_string(&mut text).unwrap();
    assert_eq!(text, "one");
    assert!(place.templates.find(&key("two")).is_none());
    let usage = place.templates.usage();
    assert_eq!(usage.count, 1);
    assert!(usage.bytes >= 64 << 10, "{usage:?}");
    assert_eq!(drafts(&place.templates), 0);
}

#[test]
fn one_maker_at_a_time_and_none_when_it_is_there() {
    let place = place(u64::MAX);
    let draft = place.templates.begin(&key("one")).unwrap().unwrap();
    assert!(place.templates.begin(&key("one")).unwrap().is_none());
    assert!(place.templates.begin(&key("two")).unwrap().is_some());
    draft.finish().unwrap();
    assert!(place.templates.begin(&key("one")).unwrap().is_none());
    // Nor does whoever only looked leave anything.
    assert_eq!(drafts(&place.templates), 0);
}

#[test]
fn a_draft_that_is_given_up_leaves_nothing() {
    let place = place(u64::MAX);
    let draft = place.templates.begin(&key("one")).unwrap().unwrap();
    assert_eq!(drafts(&place.templates), 1);
    drop(draft);
    assert_eq!(drafts(&place.templates), 0);
    assert!(place.templates.find(&key("one")).is_none());
}

#[test]
fn what_a_killed_maker_left_hinders_nobody() {
    let place = place(u64::MAX);
    for name in ["one", "two"] {
        let mut draft = place.templates.begin(&key(name)).unwrap().unwrap();
        draft.memory.write_all(b"half").unwrap();
        // As a kill would: the lock goes, the files stay.
        draft.is_done = true;
    }
    assert_eq!(drafts(&place.templates), 2);
    let mut draft = place.templates.begin(&key("one")).unwrap().unwrap();
    let mut old = Vec::new();
    draft.memory.rewind().unwrap();
    draft.memory.read_to_end(&mut old).unwrap();
    assert!(old.is_empty(), "it begins anew");
    draft.finish().unwrap();
    place.templates.evict(&key("one"));
    assert_eq!(drafts(&place.templates), 0);
    assert!(is_there(&place.templates, "one"));
}

#[test]
fn a_half_removed_one_is_made_again() {
    let place = place(u64::MAX);
    made(&place.templates, "one", 0);
    std::fs::remove_file(place.templates.path.join(key("one").name()).join(MACHINE)).unwrap();
    assert!(place.templates.find(&key("one")).is_none());
    made(&place.templates, "one", 0);
    assert!(place.templates.find(&key("one")).is_some());
}

#[test]
fn the_longest_unused_go_first_and_who_has_one_open_keeps_it() {
    let place = place(150 << 10);
    for (name, age) in [("old", 30), ("older", 40), ("new", 10)] {
        made(&place.templates, name, age);
    }
    // It is used, and with that the newest.
    let rest = place.templates.find(&key("older")).unwrap();
    place.templates.evict(&key("new"));
    let left = ["old", "older", "new"].map(|name| is_there(&place.templates, name));
    assert_eq!(left, [false, true, true]);
    // One that is larger than all there may be evicts the others, not itself.
    let small = Templates {
        path: place.templates.path.clone(),
        most: 1,
    };
    small.evict(&key("new"));
    assert_eq!(
        ["older", "new"].map(|name| is_there(&small, name)),
        [false, true]
    );
    let (mut memory, mut bytes) = (File::from(rest.memory), Vec::new());
    memory.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, [7; 64 << 10]);
}

#[test]
fn those_of_removed_images_go() {
    let place = place(u64::MAX);
    let root = tempfile::NamedTempFile::new().unwrap();
    let data = root.as_file().metadata().unwrap();
    let text = format!("hull\nroot {}:{} 0\n", data.dev(), data.ino());
    let about = |text: &str| {
        let state = &[][..];
        let parts = snapshot::Parts {
            about: text.as_bytes(),
            pages: &[],
            state,
        };
        snapshot::encode(&parts)
    };
    for (name, text) in [
        ("there", text.as_str()),
        ("gone", "root 1:1 0\n"),
        ("odd", ""),
    ] {
        let mut draft = place.templates.begin(&key(name)).unwrap().unwrap();
        draft.machine.write_all(&about(text)).unwrap();
        draft.finish().unwrap();
    }
    place.templates.sweep(root.path().parent().unwrap());
    let left = ["there", "gone", "odd"].map(|name| is_there(&place.templates, name));
    assert_eq!(left, [true, false, false]);
}
