//! What POSIX says of files, through raw FUSE.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::wire::*;
use crate::fs::Owners;
use crate::fs::abi::opcode;
use crate::guest::Guest;

fn create(guest: &mut Guest, parent: u64, name: &str, flags: i32) -> Result<(Entry, Vec<u8>), i32> {
    let flags = u32::try_from(flags).unwrap();
    let fields = [flags, 0o640, 0o022, 0].map(u32::to_le_bytes).concat();
    let answer = request(guest, opcode::CREATE, parent, &[&fields, &text(name)], 144)?;
    Ok((entry(&answer), answer[128..136].to_vec()))
}

/// A file whose name is gone goes on as long as it is open, also when its descriptor was closed to spare it.
#[test]
fn a_removed_file_lives_as_long_as_it_is_open() {
    let files = Files::empty();
    let mut guest = files.guest(false);
    let share = lookup(&mut guest, 1, "0").unwrap();
    let (file, handle) = create(&mut guest, share.node, "file", libc::O_RDWR).unwrap();
    assert_eq!(
        write_at(&mut guest, file.node, &handle, 0, b"alive").unwrap(),
        5
    );
    request(&mut guest, opcode::UNLINK, share.node, &[&text("file")], 0).unwrap();
    assert!(!files.path("file").exists());
    for number in 0..100 {
        let name = number.to_string();
        let (other, handle) = create(&mut guest, share.node, &name, libc::O_RDWR).unwrap();
        request(
            &mut guest,
            opcode::RELEASE,
            other.node,
            &[&handle, &[0; 16]],
            0,
        )
        .unwrap();
    }
    let attributes = request(&mut guest, opcode::GETATTR, file.node, &[&[0; 16]], 104).unwrap();
    assert_eq!(attributes[24..32], 5_u64.to_le_bytes());
    assert_eq!(
        read_at(&mut guest, file.node, &handle, 0, 9).unwrap(),
        b"alive"
    );
    request(
        &mut guest,
        opcode::RELEASE,
        file.node,
        &[&handle, &[0; 16]],
        0,
    )
    .unwrap();
    let gone = read_at(&mut guest, file.node, &handle, 0, 9);
    assert_eq!(gone, Err(libc::EBADF));
}

#[test]
fn renames_replace_exchange_and_keep() {
    let files = Files::empty();
    fs::write(files.path("a"), "a").unwrap();
    fs::write(files.path("b"), "b").unwrap();
    fs::create_dir(files.path("inner")).unwrap();
    let mut guest = files.guest(false);
    let share = lookup(&mut guest, 1, "0").unwrap();
    let inner = lookup(&mut guest, share.node, "inner").unwrap();
    let a = lookup(&mut guest, share.node, "a").unwrap();
    let mut rename = |to: u64, flags: u32, old, new| {
        let fields = [&to.to_le_bytes()[..], &flags.to_le_bytes(), &[0; 4]].concat();
        let names = [text(old), text(new)].concat();
        request(
            &mut guest,
            opcode::RENAME2,
            share.node,
            &[&fields, &names],
            0,
        )
    };
    assert_eq!(rename(share.node, 1, "a", "b"), Err(libc::EEXIST));
    assert_eq!(
        rename(share.node, 4, "a", "c"),
        Err(libc::EINVAL),
        "no whiteouts"
    );
    rename(share.node, 2, "a", "b").unwrap();
    assert_eq!(fs::read(files.path("a")).unwrap(), b"b");
    rename(share.node, 0, "b", "a").unwrap();
    assert_eq!(fs::read(files.path("a")).unwrap(), b"a");
    rename(inner.node, 0, "a", "deep").unwrap();
    assert_eq!(fs::read(files.path("inner/deep")).unwrap(), b"a");
    let known = lookup(&mut guest, inner.node, "deep").unwrap();
    assert_eq!(known.node, a.node);
}

#[test]
fn hard_links_are_one_file() {
    let files = Files::empty();
    let mut guest = files.guest(false);
    let share = lookup(&mut guest, 1, "0").unwrap();
    let (file, _) = create(&mut guest, share.node, "file", libc::O_RDWR).unwrap();
    let fields = [file.node.to_le_bytes().to_vec(), text("link")].concat();
    let link = request(&mut guest, opcode::LINK, share.node, &[&fields], 128).unwrap();
    let link = entry(&link);
    assert_eq!(
        (link.node, link.inode, link.links),
        (file.node, file.inode, 2)
    );
    let fields = [share.node.to_le_bytes().to_vec(), text("loop")].concat();
    let answer = request(&mut guest, opcode::LINK, share.node, &[&fields], 128);
    assert_eq!(answer, Err(libc::EPERM), "of a directory");
}

#[test]
fn a_nameless_file_can_be_given_a_name() {
    let files = Files::empty();
    let mut guest = files.guest(false);
    let share = lookup(&mut guest, 1, "0").unwrap();
    let flags = u32::try_from(libc::O_TMPFILE | libc::O_RDWR).unwrap();
    let fields = [flags, 0o600, 0, 0].map(u32::to_le_bytes).concat();
    let made = request(
        &mut guest,
        opcode::TMPFILE,
        share.node,
        &[&fields, &text("/")],
        144,
    );
    let made = made.unwrap();
    let (file, handle) = (entry(&made), &made[128..136]);
    write_at(&mut guest, file.node, handle, 0, b"late").unwrap();
    assert_eq!(fs::read_dir(files.path(".")).unwrap().count(), 0);
    let fields = [file.node.to_le_bytes().to_vec(), text("named")].concat();
    request(&mut guest, opcode::LINK, share.node, &[&fields], 128).unwrap();
    assert_eq!(fs::read(files.path("named")).unwrap(), b"late");
}

#[test]
fn appended_bytes_go_to_the_end_whatever_the_guest_believes() {
    let files = Files::empty();
    fs::write(files.path("log"), "one\n").unwrap();
    let mut guest = files.guest(false);
    let share = lookup(&mut guest, 1, "0").unwrap();
    let file = lookup(&mut guest, share.node, "log").unwrap();
    let flags = libc::O_WRONLY | libc::O_APPEND;
    let handle = open_file(&mut guest, file.node, flags).unwrap();
    fs::write(files.path("log"), "one\ntwo\n").unwrap();
    let append = u32::try_from(flags).unwrap().to_le_bytes();
    let fields = [
        &handle[..],
        &4_u64.to_le_bytes(),
        &6_u32.to_le_bytes(),
        &[0; 12],
        &append,
        &[0; 4],
    ];
    request(
        &mut guest,
        opcode::WRITE,
        file.node,
        &[&fields.concat(), b"three\n"],
        8,
    )
    .unwrap();
    assert_eq!(fs::read(files.path("log")).unwrap(), b"one\ntwo\nthree\n");
    // What comes out of the page cache stays where it belongs.
    let cached = [
        &handle[..],
        &[0; 8],
        &3_u32.to_le_bytes(),
        &[1, 0, 0, 0],
        &[0; 8],
        &append,
        &[0; 4],
    ];
    request(
        &mut guest,
        opcode::WRITE,
        file.node,
        &[&cached.concat(), b"ONE"],
        8,
    )
    .unwrap();
    assert_eq!(fs::read(files.path("log")).unwrap(), b"ONE\ntwo\nthree\n");
}

#[test]
fn a_writer_takes_setuid_and_setgid_away_when_told_to() {
    use std::os::unix::fs::PermissionsExt;
    let files = Files::empty();
    fs::write(files.path("tool"), "x").unwrap();
    fs::set_permissions(files.path("tool"), fs::Permissions::from_mode(0o6755)).unwrap();
    let mut guest = files.guest(false);
    let share = lookup(&mut guest, 1, "0").unwrap();
    let file = lookup(&mut guest, share.node, "tool").unwrap();
    let handle = open_file(&mut guest, file.node, libc::O_RDWR).unwrap();
    let fields = [
        &handle[..],
        &[0; 8],
        &1_u32.to_le_bytes(),
        &[4, 0, 0, 0],
        &[0; 16],
    ]
    .concat();
    request(&mut guest, opcode::WRITE, file.node, &[&fields, b"y"], 8).unwrap();
    assert_eq!(
        fs::metadata(files.path("tool")).unwrap().mode() & 0o7777,
        0o755
    );
}

/// All entries come exactly once, however small the pieces, and while others come and go; with what they are, or without.
#[test]
fn a_directory_is_listed_whole_while_it_changes() {
    const ENTRIES: usize = 1000;
    for (opcode, before) in [(opcode::READDIR, 0), (opcode::READDIRPLUS, 128)] {
        let files = Files::empty();
        for number in 0..ENTRIES {
            fs::write(files.path(&format!("entry-{number}")), "four").unwrap();
        }
        let mut guest = files.guest(false);
        let share = lookup(&mut guest, 1, "0").unwrap();
        let opened = request(&mut guest, opcode::OPENDIR, share.node, &[&[0; 8]], 16).unwrap();
        let (mut offset, mut names, mut told) = (0_u64, Vec::new(), 0);
        loop {
            let fields = [
                &opened[..8],
                &offset.to_le_bytes(),
                &512_u32.to_le_bytes(),
                &[0; 20],
            ]
            .concat();
            let bytes = request(&mut guest, opcode, share.node, &[&fields], 512).unwrap();
            if bytes.is_empty() {
                break;
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (plus, plain) = rest.split_at(before);
                offset = u64::from_le_bytes(plain[8..16].try_into().unwrap());
                let length = u32::from_le_bytes(plain[16..20].try_into().unwrap()) as usize;
                let name = String::from_utf8(plain[24..24 + length].to_vec()).unwrap();
                if before != 0 && entry(plus).node != 0 {
                    // The guest forgets it again, and has room for the next.
                    let seen = entry(plus);
                    assert_eq!(seen, lookup(&mut guest, share.node, &name).unwrap());
                    assert!(
                        seen.size == 4 || name.starts_with("new-"),
                        "{name} {seen:?}"
                    );
                    let forget = [&1_u32.to_le_bytes()[..], &[0; 4]];
                    let one = [&seen.node.to_le_bytes()[..], &2_u64.to_le_bytes()];
                    let parts = [forget.concat(), one.concat()].concat();
                    let header = header(opcode::BATCH_FORGET, 0, 0);
                    guest.exchange(REQUESTS, &[&header, &parts], &[]);
                    told += 1;
                }
                names.push(name);
                rest = &plain[(24 + length).next_multiple_of(8)..];
            }
            let turn = names.len();
            let _ = fs::write(files.path(&format!("new-{turn}")), "");
            let _ = fs::remove_file(files.path(&format!("new-{}", turn / 2)));
        }
        let mut old: Vec<_> = names
            .iter()
            .filter(|name| name.starts_with("entry-"))
            .collect();
        old.sort();
        old.dedup();
        assert_eq!(old.len(), ENTRIES);
        assert!(names.contains(&".".to_owned()) && names.contains(&"..".to_owned()));
        assert!(before == 0 || told >= ENTRIES, "{told}");
    }
}

/// Where users are the host's, so are the rights that files give: a setuid bit is no less.
#[test]
fn capabilities_and_access_lists_pass_among_the_same_users() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: giving files capabilities needs root");
        return;
    }
    let files = Files::empty();
    fs::write(files.path("file"), "").unwrap();
    let mut guest = started(files.fs_with(Owners::Same, false));
    let share = lookup(&mut guest, 1, "0").unwrap();
    let file = lookup(&mut guest, share.node, "file").unwrap();
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
    // cap_net_bind_service=ep; and user::rw-,user:1000:r--,group::r--,mask::r--,other::---
    let capability: Vec<u8> = words(&[0x0200_0001, 1 << 10, 0, 0, 0]);
    let none = u32::MAX;
    let list: Vec<u8> = words(&[
        2,
        0x0006_0001,
        none,
        0x0004_0002,
        1000,
        0x0004_0004,
        none,
        0x0004_0010,
        none,
        0x0000_0020,
        none,
    ]);
    for (name, value) in [
        ("security.capability", &capability),
        ("system.posix_acl_access", &list),
    ] {
        let size = u32::try_from(value.len()).unwrap().to_le_bytes();
        let fields = [&size[..], &[0; 4], &text(name), value].concat();
        request(&mut guest, opcode::SETXATTR, file.node, &[&fields], 0).unwrap();
        let ask = [&64_u32.to_le_bytes()[..], &[0; 4], &text(name)].concat();
        let got = request(&mut guest, opcode::GETXATTR, file.node, &[&ask], 64).unwrap();
        assert_eq!(&got, value, "{name}");
        let mut host = [0; 64];
        let length = rustix::fs::getxattr(files.path("file"), name, &mut host[..]).unwrap();
        assert_eq!(host[..length], value[..], "{name}");
    }
    assert_eq!(
        fs::metadata(files.path("file")).unwrap().mode() & 0o777,
        0o640
    );
    for name in ["trusted.overlay.opaque", "security.selinux", "system.x"] {
        let fields = [&1_u32.to_le_bytes()[..], &[0; 4], &text(name), b"v"].concat();
        let answer = request(&mut guest, opcode::SETXATTR, file.node, &[&fields], 0);
        assert_eq!(answer, Err(libc::EOPNOTSUPP), "{name}");
    }
}

#[test]
fn extended_attributes_of_users_pass_and_no_others() {
    let files = Files::empty();
    fs::write(files.path("file"), "").unwrap();
    let mut guest = files.guest(false);
    let share = lookup(&mut guest, 1, "0").unwrap();
    let file = lookup(&mut guest, share.node, "file").unwrap();
    let mut set = |name: &str| {
        let fields = [&5_u32.to_le_bytes()[..], &[0; 4], &text(name), b"value"].concat();
        request(&mut guest, opcode::SETXATTR, file.node, &[&fields], 0)
    };
    for name in [
        "security.capability",
        "trusted.overlay.opaque",
        "system.posix_acl_access",
        "x",
    ] {
        assert_eq!(set(name), Err(libc::EOPNOTSUPP), "{name}");
    }
    set("user.colour").unwrap();
    let get = |room: u32| [&room.to_le_bytes()[..], &[0; 4], &text("user.colour")].concat();
    let ask = get(0);
    let length = request(&mut guest, opcode::GETXATTR, file.node, &[&ask], 8).unwrap();
    assert_eq!(length[..4], 5_u32.to_le_bytes());
    let value = request(&mut guest, opcode::GETXATTR, file.node, &[&get(64)], 64).unwrap();
    assert_eq!(value, b"value");
    let short = request(&mut guest, opcode::GETXATTR, file.node, &[&get(2)], 64);
    assert_eq!(short, Err(libc::ERANGE));
    let list = [64_u32.to_le_bytes(), [0; 4]].concat();
    let names = request(&mut guest, opcode::LISTXATTR, file.node, &[&list], 64).unwrap();
    assert_eq!(names, b"user.colour\0");
    request(
        &mut guest,
        opcode::REMOVEXATTR,
        file.node,
        &[&text("user.colour")],
        0,
    )
    .unwrap();
    let gone = request(&mut guest, opcode::GETXATTR, file.node, &[&get(64)], 64);
    assert_eq!(gone, Err(libc::ENODATA));
}

/// Offsets beyond 32 bits, holes, and room made in advance.
#[test]
fn large_offsets_and_holes() {
    let files = Files::empty();
    let mut guest = files.guest(false);
    let share = lookup(&mut guest, 1, "0").unwrap();
    let (file, handle) = create(&mut guest, share.node, "large", libc::O_RDWR).unwrap();
    let far = 5_u64 << 30;
    write_at(&mut guest, file.node, &handle, far, b"end").unwrap();
    assert_eq!(
        read_at(&mut guest, file.node, &handle, far, 9).unwrap(),
        b"end"
    );
    assert_eq!(fs::metadata(files.path("large")).unwrap().size(), far + 3);
    let seek = [&handle[..], &[0; 8], &3_u32.to_le_bytes(), &[0; 4]].concat();
    let data = request(&mut guest, opcode::LSEEK, file.node, &[&seek], 8).unwrap();
    assert!(u64::from_le_bytes(data.try_into().unwrap()) > 1 << 30);
    let room = [
        &handle[..],
        &[0; 8],
        &4096_u64.to_le_bytes(),
        &1_u32.to_le_bytes(),
        &[0; 4],
    ]
    .concat();
    request(&mut guest, opcode::FALLOCATE, file.node, &[&room], 0).unwrap();
    let after = fs::metadata(files.path("large")).unwrap();
    assert_eq!(after.size(), far + 3);
    assert!(after.blocks() >= 16, "{}", after.blocks());
}
