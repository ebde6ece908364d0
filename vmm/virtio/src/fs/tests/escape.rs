//! What a hostile guest tries: names that lead out, links, races, what is read-only, numbers and lengths of garbage.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::wire::*;
use crate::fs::Share;
use crate::fs::abi::opcode;

/// Every opcode that takes names, with all but the names.
fn named() -> Vec<(u32, Vec<u8>, bool)> {
    vec![
        (opcode::LOOKUP, vec![], false),
        (
            opcode::MKNOD,
            [0o100_644_u32.to_le_bytes(), [0; 4], [0; 4], [0; 4]].concat(),
            false,
        ),
        (opcode::MKDIR, vec![0; 8], false),
        (opcode::UNLINK, vec![], false),
        (opcode::RMDIR, vec![], false),
        (opcode::SYMLINK, vec![], true),
        (opcode::RENAME, 2_u64.to_le_bytes().to_vec(), true),
        (
            opcode::RENAME2,
            [2_u64.to_le_bytes(), [0; 8]].concat(),
            true,
        ),
        (
            opcode::CREATE,
            [0x42_u32.to_le_bytes(), [0xff, 1, 0, 0], [0; 4], [0; 4]].concat(),
            false,
        ),
    ]
}

#[test]
fn no_name_leads_out() {
    let files = Files::empty();
    let mut guest = files.guest(false);
    let share = lookup(&mut guest, 1, "0").unwrap();
    assert_eq!(share.node, 2);
    let long = "x".repeat(256);
    let bad = [
        "",
        ".",
        "..",
        "../secret",
        "/etc/passwd",
        "a/b",
        "./a",
        "a/",
        &long,
    ];
    for (opcode, fields, two) in named() {
        for name in bad {
            let names = match two {
                true => [text(name), text("target")].concat(),
                false => text(name),
            };
            let answer = request(&mut guest, opcode, share.node, &[&fields, &names], 256);
            assert!(
                matches!(answer, Err(libc::EINVAL | libc::ENAMETOOLONG)),
                "{opcode} {name:?}: {answer:?}"
            );
        }
        // A name without an end.
        let answer = request(&mut guest, opcode, share.node, &[&fields, b"name"], 256);
        assert_eq!(answer, Err(libc::EINVAL), "{opcode}");
    }
    // The second name of a rename and of a link.
    fs::write(files.path("file"), "x").unwrap();
    let file = lookup(&mut guest, share.node, "file").unwrap();
    for name in bad {
        let names = [2_u64.to_le_bytes().to_vec(), text("file"), text(name)].concat();
        let answer = request(&mut guest, opcode::RENAME, share.node, &[&names], 256);
        assert!(answer.is_err(), "{name:?}");
        let link = [file.node.to_le_bytes().to_vec(), text(name)].concat();
        let answer = request(&mut guest, opcode::LINK, share.node, &[&link], 256);
        assert!(answer.is_err(), "{name:?}");
    }
    assert_eq!(fs::read_dir(files.path(".")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(files.outside(".")).unwrap().count(), 2);
}

#[test]
fn links_are_the_guests_to_follow() {
    let files = Files::empty();
    symlink(files.outside("secret"), files.path("absolute")).unwrap();
    symlink("../secret", files.path("relative")).unwrap();
    symlink("..", files.path("up")).unwrap();
    symlink("/proc/self/root", files.path("magic")).unwrap();
    let mut guest = files.guest(false);
    let share = lookup(&mut guest, 1, "0").unwrap();
    for name in ["absolute", "relative", "up", "magic"] {
        let link = lookup(&mut guest, share.node, name).unwrap();
        assert_eq!(link.mode & 0o170_000, 0o120_000);
        let target = request(&mut guest, opcode::READLINK, link.node, &[], 4096).unwrap();
        let meant = fs::read_link(files.path(name)).unwrap();
        assert_eq!(target, meant.to_str().unwrap().as_bytes());
        // It is no directory and no file, whatever is asked of it.
        assert!(lookup(&mut guest, link.node, "secret").is_err());
        assert!(open_file(&mut guest, link.node, libc::O_RDONLY).is_err());
        assert!(request(&mut guest, opcode::OPENDIR, link.node, &[&[0; 8]], 16).is_err());
        let truncate = [&8_u32.to_le_bytes()[..], &[0; 84]].concat();
        assert!(request(&mut guest, opcode::SETATTR, link.node, &[&truncate], 104).is_err());
        let mode = [
            &1_u32.to_le_bytes()[..],
            &[0; 64],
            &[0xff, 1, 0, 0],
            &[0; 16],
        ]
        .concat();
        assert!(request(&mut guest, opcode::SETATTR, link.node, &[&mode], 104).is_err());
    }
    assert_eq!(
        fs::read_to_string(files.outside("secret")).unwrap(),
        "secret"
    );
    // A link that the guest makes may say anything, and leads nowhere here.
    let names = [text("made"), text("/etc/passwd")].concat();
    let made = request(&mut guest, opcode::SYMLINK, share.node, &[&names], 128).unwrap();
    assert!(open_file(&mut guest, entry(&made).node, libc::O_RDONLY).is_err());
}

/// A directory that somebody on the host keeps replacing by a link never leads through it.
#[test]
fn a_race_of_renames_leads_nowhere() {
    let files = Files::empty();
    fs::create_dir(files.path("a")).unwrap();
    fs::write(files.path("a/secret"), "public").unwrap();
    symlink(files.outside("."), files.path("b")).unwrap();
    let mut guest = files.guest(false);
    let share = lookup(&mut guest, 1, "0").unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let racer = std::thread::spawn({
        let (a, b, stop) = (files.path("a"), files.path("b"), stop.clone());
        move || {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            let here = rustix::fs::CWD;
            while !stop.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(here, &a, here, &b, flags).unwrap();
            }
        }
    });
    let mut seen = 0;
    for _ in 0..3000 {
        let Ok(directory) = lookup(&mut guest, share.node, "a") else {
            continue;
        };
        if let Ok(file) = lookup(&mut guest, directory.node, "secret")
            && let Ok(handle) = open_file(&mut guest, file.node, libc::O_RDONLY)
        {
            assert_eq!(
                read_at(&mut guest, file.node, &handle, 0, 16).unwrap(),
                b"public"
            );
            request(
                &mut guest,
                opcode::RELEASE,
                file.node,
                &[&handle, &[0; 16]],
                0,
            )
            .unwrap();
            seen += 1;
        }
    }
    stop.store(true, Ordering::Relaxed);
    racer.join().unwrap();
    assert!(seen > 0);
}

#[test]
fn nothing_read_only_changes() {
    let files = Files::empty();
    fs::write(files.path("file"), "kept").unwrap();
    fs::create_dir(files.path("inner")).unwrap();
    let before = fs::metadata(files.path("file")).unwrap();
    let mut guest = files.guest(true);
    let share = lookup(&mut guest, 1, "0").unwrap();
    let file = lookup(&mut guest, share.node, "file").unwrap();
    for (opcode, fields, two) in named()
        .into_iter()
        .filter(|(code, ..)| *code != opcode::LOOKUP)
    {
        let names = match two {
            true => [text("file"), text("other")].concat(),
            false => text("new"),
        };
        let answer = request(&mut guest, opcode, share.node, &[&fields, &names], 256);
        assert_eq!(answer, Err(libc::EROFS), "{opcode}");
    }
    for flags in [libc::O_WRONLY, libc::O_RDWR, libc::O_TRUNC] {
        assert_eq!(open_file(&mut guest, file.node, flags), Err(libc::EROFS));
    }
    let handle = open_file(&mut guest, file.node, libc::O_RDONLY).unwrap();
    assert_eq!(
        write_at(&mut guest, file.node, &handle, 0, b"x"),
        Err(libc::EROFS)
    );
    let link = [file.node.to_le_bytes().to_vec(), text("hard")].concat();
    let all = [&0x1ff_u32.to_le_bytes()[..], &[0; 84]].concat();
    let attribute = [&1_u32.to_le_bytes()[..], &[0; 4], b"user.a\0", b"v"].concat();
    let hole = [&handle[..], &[0; 8], &[1; 8], &[0; 8]].concat();
    let copy = [
        &handle[..],
        &[0; 8],
        &file.node.to_le_bytes(),
        &handle,
        &[0; 8],
        &[1; 16],
    ]
    .concat();
    let changes: [(u32, u64, &[u8]); 7] = [
        (opcode::LINK, share.node, &link),
        (opcode::SETATTR, file.node, &all),
        (opcode::SETXATTR, file.node, &attribute),
        (opcode::REMOVEXATTR, file.node, b"user.a\0"),
        (opcode::FALLOCATE, file.node, &hole),
        (opcode::COPY_FILE_RANGE, file.node, &copy),
        (opcode::TMPFILE, share.node, &[2; 24]),
    ];
    for (opcode, node, fields) in changes {
        let answer = request(&mut guest, opcode, node, &[fields], 256);
        assert_eq!(answer, Err(libc::EROFS), "{opcode}");
    }
    let after = fs::metadata(files.path("file")).unwrap();
    assert_eq!(
        (before.mtime(), before.ctime_nsec()),
        (after.mtime(), after.ctime_nsec())
    );
    assert_eq!(fs::read(files.path("file")).unwrap(), b"kept");
}

/// Two shares: what is known of one is worth nothing in the other.
#[test]
fn shares_are_apart() {
    let files = Files::empty();
    fs::create_dir(files.path("one")).unwrap();
    fs::create_dir(files.path("two")).unwrap();
    fs::write(files.path("two/file"), "two").unwrap();
    fs::write(files.path("single"), "single").unwrap();
    let share = |name, read_only| Share {
        root: path_only(&files.path(name)),
        read_only,
    };
    let shares = vec![
        share("one", false),
        share("two", true),
        share("two", false),
        share("single", false),
    ];
    let mut guest = started(files.fs_of(shares));
    let [one, two, again, single] =
        ["0", "1", "2", "3"].map(|name| lookup(&mut guest, 1, name).unwrap());
    // The same directory twice is two: one of them is read-only.
    assert_ne!(two.node, again.node);
    let moved = [one.node.to_le_bytes().to_vec(), text("file"), text("file")].concat();
    let answer = request(&mut guest, opcode::RENAME, again.node, &[&moved], 16);
    assert_eq!(answer, Err(libc::EXDEV));
    let read_only = lookup(&mut guest, two.node, "file").unwrap();
    let writable = lookup(&mut guest, again.node, "file").unwrap();
    assert_eq!(
        open_file(&mut guest, read_only.node, libc::O_RDWR),
        Err(libc::EROFS)
    );
    let handle = open_file(&mut guest, writable.node, libc::O_RDWR).unwrap();
    assert_eq!(
        write_at(&mut guest, read_only.node, &handle, 0, b"x"),
        Err(libc::EROFS)
    );
    let link = [read_only.node.to_le_bytes().to_vec(), text("hard")].concat();
    let answer = request(&mut guest, opcode::LINK, again.node, &[&link], 128);
    assert_eq!(answer, Err(libc::EROFS));
    // A single file is no way to its neighbours.
    assert!(lookup(&mut guest, single.node, "one").is_err());
    let handle = open_file(&mut guest, single.node, libc::O_RDWR).unwrap();
    assert_eq!(
        read_at(&mut guest, single.node, &handle, 0, 9).unwrap(),
        b"single"
    );
    // The root has nothing but shares, and nothing is made in it.
    for name in ["4", "-1", "one", "00000", "65536"] {
        let answer = lookup(&mut guest, 1, name);
        assert!(answer.is_err() || name == "00000", "{name}");
    }
    let answer = request(&mut guest, opcode::MKDIR, 1, &[&[0; 8], &text("new")], 128);
    assert_eq!(answer, Err(libc::EPERM));
}

#[test]
fn only_files_and_directories_are_opened() {
    let files = Files::empty();
    let here = rustix::fs::CWD;
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(here, files.path("pipe"), kind, mode, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(files.path("socket")).unwrap();
    let mut guest = files.guest(false);
    let share = lookup(&mut guest, 1, "0").unwrap();
    for name in ["pipe", "socket"] {
        let node = lookup(&mut guest, share.node, name).unwrap().node;
        for flags in [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR] {
            assert_eq!(open_file(&mut guest, node, flags), Err(libc::ENXIO));
        }
        let create = [&2_u32.to_le_bytes()[..], &[0xff; 4], &[0; 8], &text(name)].concat();
        let answer = request(&mut guest, opcode::CREATE, share.node, &[&create], 256);
        assert_eq!(answer, Err(libc::ENXIO));
    }
    for kind in [0o020_000_u32, 0o060_000, 0o040_000, 0] {
        let device = [&(kind | 0o666).to_le_bytes()[..], &[3, 1, 0, 0], &[0; 8]].concat();
        let name = text("device");
        let answer = request(
            &mut guest,
            opcode::MKNOD,
            share.node,
            &[&device, &name],
            128,
        );
        assert_eq!(answer, Err(libc::EPERM), "{kind:o}");
    }
}
