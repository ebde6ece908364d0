//! Packets, of which each gets the room that it needs.

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};

use super::*;

#[test]
fn room_is_what_the_next_packet_needs_and_at_most_what_is_allowed() {
    let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    let (one, other) = socketpair(AddressFamily::UNIX, kind, flags, None).unwrap();
    assert_eq!(room(&other, 8, RecvFlags::DONTWAIT), Err(Errno::AGAIN));
    send(&one, b"seven b", SendFlags::empty()).unwrap();
    send(&one, b"9", SendFlags::empty()).unwrap();
    for (longest, expected) in [(8, 7), (4, 4), (7, 7)] {
        let room = room(&other, longest, RecvFlags::empty()).unwrap();
        assert_eq!(room.capacity(), expected);
    }
    let mut text = room(&other, 8, RecvFlags::empty()).unwrap();
    let (length, _) = recv(&other, &mut text[..], RecvFlags::empty()).unwrap();
    assert_eq!((length, &text[..]), (7, &b"seven b"[..]));
    assert_eq!(room(&other, 8, RecvFlags::empty()).unwrap().len(), 1);
    recv(&other, &mut [0; 1][..], RecvFlags::empty()).unwrap();
    drop(one);
    assert!(room(&other, 8, RecvFlags::empty()).unwrap().is_empty());
}
