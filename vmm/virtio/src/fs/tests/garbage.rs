//! Numbers, lengths and counts that mean nothing, and more than there may be.

use std::fs;
use std::os::unix::fs::symlink;

use super::wire::*;
use crate::fs::abi::opcode;

#[test]
fn garbage_is_answered_with_an_error() {
    let files = Files::empty();
    fs::write(files.path("file"), "x").unwrap();
    let mut guest = files.guest(false);
    let share = lookup(&mut guest, 1, "0").unwrap();
    let file = lookup(&mut guest, share.node, "file").unwrap();
    for opcode in (0..60).chain([4096, u32::MAX]) {
        if [opcode::FORGET, opcode::BATCH_FORGET, opcode::DESTROY].contains(&opcode) {
            continue;
        }
        for node in [0, 1, share.node, file.node, 99, u64::MAX] {
            for filling in [0, 0xff] {
                for length in [0, 1, 7, 8, 16, 24, 40, 56, 88, 300] {
                    let fields = vec![filling; length];
                    let _ = request(&mut guest, opcode, node, &[&fields], 4096);
                    // Without room for the answer, or for any.
                    let all = [header(opcode, node, u32::MAX), fields].concat();
                    for room in [&[][..], &[1], &[16], &[17]] {
                        guest.exchange(REQUESTS, &[&all], room);
                    }
                }
            }
        }
    }
    // A request longer than any that means something.
    let long = vec![b'x'; 1 << 20];
    let answer = request(&mut guest, opcode::LOOKUP, share.node, &[&long], 128);
    assert_eq!(answer, Err(libc::EMSGSIZE));
    guest.start();
    // More bytes than there are, or than fit.
    let share = lookup(&mut guest, 1, "0").unwrap();
    let file = lookup(&mut guest, share.node, "file").unwrap();
    let handle = open_file(&mut guest, file.node, libc::O_RDWR).unwrap();
    let claim = [&handle[..], &[0; 8], &u32::MAX.to_le_bytes(), &[0; 20]].concat();
    let answer = request(&mut guest, opcode::WRITE, file.node, &[&claim, b"x"], 8);
    assert_eq!(answer, Err(libc::EINVAL));
    let answer = request(&mut guest, opcode::READ, file.node, &[&claim], 64);
    assert_eq!(answer.unwrap(), b"x");
    let far = [&handle[..], &[0xff; 8], &[8, 0, 0, 0], &[0; 20]].concat();
    assert!(request(&mut guest, opcode::READ, file.node, &[&far], 64).is_err());
    assert!(!guest.is_broken());
}

#[test]
fn what_is_forgotten_or_never_was_is_stale() {
    let files = Files::empty();
    fs::write(files.path("file"), "x").unwrap();
    let mut guest = files.guest(false);
    let share = lookup(&mut guest, 1, "0").unwrap();
    let file = lookup(&mut guest, share.node, "file").unwrap();
    lookup(&mut guest, share.node, "file").unwrap();
    let forget = |guest: &mut crate::guest::Guest, node, count: u64| {
        let message = [
            header(opcode::FORGET, node, 48),
            count.to_le_bytes().to_vec(),
        ]
        .concat();
        assert_eq!(guest.exchange(0, &[&message], &[]).length, 0);
    };
    forget(&mut guest, file.node, 1);
    assert!(open_file(&mut guest, file.node, libc::O_RDONLY).is_ok());
    forget(&mut guest, 12345, u64::MAX);
    forget(&mut guest, 1, u64::MAX);
    forget(&mut guest, file.node, u64::MAX);
    assert_eq!(
        open_file(&mut guest, file.node, libc::O_RDONLY),
        Err(libc::ESTALE)
    );
    // Many at once, more than there are.
    let many = [
        header(opcode::BATCH_FORGET, 0, 0),
        [u32::MAX.to_le_bytes(), [0; 4]].concat(),
        [share.node.to_le_bytes(), u64::MAX.to_le_bytes()].concat(),
    ]
    .concat();
    guest.exchange(0, &[&many], &[]);
    assert_eq!(lookup(&mut guest, share.node, "file"), Err(libc::ESTALE));
    assert!(lookup(&mut guest, 1, "0").is_ok());
}

/// A guest cannot make the server keep more than its bounds, and what it may keep works with few descriptors.
#[test]
fn what_a_guest_knows_and_opens_is_bounded() {
    let files = Files::empty();
    for number in 0..200 {
        fs::write(files.path(&number.to_string()), number.to_string()).unwrap();
    }
    let mut guest = files.guest(false);
    let share = lookup(&mut guest, 1, "0").unwrap();
    let nodes: Vec<_> = (0..200)
        .map_while(|number: u32| lookup(&mut guest, share.node, &number.to_string()).ok())
        .collect();
    assert_eq!(nodes.len(), files.bounds.nodes - 1);
    let open = fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(open < files.bounds.descriptors + 200, "{open}");
    // The first was closed long ago and is found again.
    for (number, node) in nodes.iter().enumerate() {
        let handle = open_file(&mut guest, node.node, libc::O_RDONLY).unwrap();
        let text = read_at(&mut guest, node.node, &handle, 0, 9).unwrap();
        assert_eq!(text, number.to_string().as_bytes());
        request(
            &mut guest,
            opcode::RELEASE,
            node.node,
            &[&handle, &[0; 16]],
            0,
        )
        .unwrap();
    }
    let handles: Vec<_> = (0..100)
        .map_while(|_| open_file(&mut guest, nodes[0].node, libc::O_RDONLY).ok())
        .collect();
    assert_eq!(handles.len(), files.bounds.descriptors / 2);
    // A handle is its node's.
    let answer = read_at(&mut guest, nodes[1].node, &handles[0], 0, 9);
    assert_eq!(answer, Err(libc::EBADF));
    // Another file with the name of one that was closed is not it.
    guest.start();
    let share = lookup(&mut guest, 1, "0").unwrap();
    let first = lookup(&mut guest, share.node, "0").unwrap();
    for number in 1..100 {
        lookup(&mut guest, share.node, &number.to_string()).unwrap();
    }
    fs::rename(files.path("0"), files.path("elsewhere")).unwrap();
    symlink(files.outside("secret"), files.path("0")).unwrap();
    assert_eq!(
        open_file(&mut guest, first.node, libc::O_RDONLY),
        Err(libc::ESTALE)
    );
}
