//! Frames pass through unchanged in both directions, over as many buffers as they take, and say what was left to the guest.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use rustix::event::{EventfdFlags, eventfd};

use super::{HEADER, Link, Net, Offload, RECEIVE, Received, TRANSMIT};
use crate::contract::{Subject, device_contract};
use crate::guest::Guest;
use crate::{Reader, Writer};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// What is at the other end of the cable.
#[derive(Debug, Default)]
struct End {
    header: [u8; HEADER],
    sent: Vec<Vec<u8>>,
    waiting: VecDeque<Vec<u8>>,
    received: Received,
    offload: Offload,
    busy: bool,
}

#[derive(Debug)]
struct Plug {
    end: Arc<Mutex<End>>,
    event: OwnedFd,
}

impl Link for Plug {
    fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    fn ready(&mut self) {}

    fn may_transmit(&mut self) -> bool {
        !self.end.lock().unwrap().busy
    }

    fn transmit(&mut self, header: [u8; HEADER], mut frame: Reader<'_>) {
        self.end.lock().unwrap().header = header;
        // No more than fits into a frame: the guest may claim anything.
        let mut bytes = vec![0; frame.left().min(1 << 16)];
        frame.read(&mut bytes);
        self.end.lock().unwrap().sent.push(bytes);
    }

    fn next(&mut self, offload: Offload) -> Option<(usize, usize)> {
        let mut end = self.end.lock().unwrap();
        end.offload = offload;
        end.waiting.front().map(|frame| (frame.len(), frame.len()))
    }

    fn receive(&mut self, room: &mut Writer<'_>, _: Offload) -> Option<Received> {
        let mut end = self.end.lock().unwrap();
        let frame = end.waiting.pop_front()?;
        let length = room.write(&frame);
        (length == frame.len()).then_some(Received {
            length,
            ..end.received
        })
    }

    fn reset(&mut self) {
        self.end.lock().unwrap().waiting.clear();
    }
}

struct Cable(Arc<Mutex<End>>);

impl Subject for Cable {
    type Device = Net<Plug>;
    const EAGER: usize = TRANSMIT;

    fn new() -> Self {
        Self(Arc::default())
    }

    fn device(&mut self) -> Net<Plug> {
        let event = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let end = Arc::clone(&self.0);
        Net::new(Plug { end, event }, MAC)
    }

    fn exercise(&mut self, guest: &mut Guest) {
        self.0.lock().unwrap().sent.clear();
        let header: [u8; HEADER] = std::array::from_fn(|n| u8::try_from(n).unwrap());
        let answer = guest.exchange(TRANSMIT, &[&header, b"to the ", b"host"], &[]);
        assert_eq!(answer.length, 0);
        assert_eq!(self.0.lock().unwrap().header, header);
        assert_eq!(self.0.lock().unwrap().sent, [b"to the host".to_vec()]);
        self.0
            .lock()
            .unwrap()
            .waiting
            .push_back(b"to the guest".to_vec());
        let answer = guest.exchange(RECEIVE, &[], &[64]);
        assert_eq!(answer.length, 24);
        assert_eq!(answer.bytes[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(answer.bytes[12..24], *b"to the guest");
    }
}

device_contract!(Cable);

fn started() -> (Cable, Guest) {
    let mut cable = Cable::new();
    let mut guest = Guest::new(cable.device());
    guest.start();
    (cable, guest)
}

#[test]
fn merges_as_many_buffers_as_a_frame_takes() {
    let (cable, mut guest) = started();
    let frame: Vec<u8> = (0..5000_u32).map(|n| n.to_le_bytes()[0]).collect();
    cable.0.lock().unwrap().waiting.push_back(frame.clone());
    cable.0.lock().unwrap().waiting.push_back(vec![7; 20]);
    for _ in 0..4 {
        guest.offer(RECEIVE, &[], &[1500]);
    }
    guest.host_ready();
    let first = guest.take(RECEIVE).unwrap();
    assert_eq!(first.bytes[10..12], [4, 0]);
    let mut bytes = first.bytes[12..].to_vec();
    for _ in 0..3 {
        let next = guest.take(RECEIVE).unwrap();
        bytes.extend(&next.bytes[..next.length as usize]);
    }
    assert_eq!(bytes, frame);
    assert_eq!(guest.take(RECEIVE), None, "there is no room for the second");
    let before = guest.offer(RECEIVE, &[], &[100]);
    let _ = before;
    guest.kick(RECEIVE);
    let second = guest.take(RECEIVE).unwrap();
    assert_eq!((second.length, &second.bytes[10..12]), (32, &[1, 0][..]));
}

#[test]
fn asks_to_be_told_of_buffers_only_while_they_are_too_few() {
    let (cable, mut guest) = started();
    guest.offer(RECEIVE, &[], &[64]);
    guest.offer(RECEIVE, &[], &[64]);
    cable.0.lock().unwrap().waiting.push_back(vec![1; 150]);
    guest.host_ready();
    assert_eq!(guest.take(RECEIVE), None);
    guest.offer(RECEIVE, &[], &[64]);
    assert!(guest.kick_if_wanted(RECEIVE, 2));
    assert_eq!(guest.take(RECEIVE).unwrap().bytes[10..12], [3, 0]);
    assert!(guest.interrupt() & 1 != 0);
    for _ in 0..2 {
        guest.take(RECEIVE).unwrap();
    }
}

#[test]
fn says_what_it_left_to_the_guest() {
    let (cable, mut guest) = started();
    {
        let mut end = cable.0.lock().unwrap();
        end.received.checksum = Some((34, 16));
        end.received.segments = Some((1460, 54, false));
        end.waiting.push_back(vec![9; 30]);
    }
    let answer = guest.exchange(RECEIVE, &[], &[64]);
    let header = [1, 1, 54, 0, 180, 5, 34, 0, 16, 0, 1, 0];
    assert_eq!(answer.bytes[..12], header);
    let whole = Offload {
        checksum: true,
        segments: true,
    };
    assert_eq!(cable.0.lock().unwrap().offload, whole);
    cable.0.lock().unwrap().received.segments = Some((1440, 74, true));
    cable.0.lock().unwrap().waiting.push_back(vec![9; 30]);
    assert_eq!(guest.exchange(RECEIVE, &[], &[64]).bytes[1], 4);
}

#[test]
fn a_driver_without_merging_gets_a_frame_a_buffer() {
    let (cable, mut guest) = started();
    guest.start_with(guest.offered() & !(1 << 15 | 1 << 1));
    for length in [50, 500, 40] {
        cable.0.lock().unwrap().waiting.push_back(vec![3; length]);
        guest.offer(RECEIVE, &[], &[100]);
    }
    guest.host_ready();
    assert_eq!(guest.take(RECEIVE).unwrap().length, 62);
    // The second did not fit and is gone.
    assert_eq!(guest.take(RECEIVE).unwrap().length, 52);
    assert!(!guest.is_broken());
    assert!(!cable.0.lock().unwrap().offload.checksum);
}

#[test]
fn a_frame_without_a_header_breaks_the_device() {
    let (_cable, mut guest) = started();
    guest.offer(TRANSMIT, &[b"short"], &[]);
    guest.kick(TRANSMIT);
    assert!(guest.is_broken());
}

#[test]
fn what_a_guest_may_not_send_yet_waits_in_its_queue() {
    let (cable, mut guest) = started();
    cable.0.lock().unwrap().busy = true;
    for frame in [b"one", b"two"] {
        guest.offer(TRANSMIT, &[&[0; 12], frame], &[]);
    }
    guest.kick(TRANSMIT);
    guest.host_ready();
    assert!(guest.take(TRANSMIT).is_none());
    cable.0.lock().unwrap().busy = false;
    guest.host_ready();
    assert!(guest.take(TRANSMIT).is_some() && guest.take(TRANSMIT).is_some());
    let sent = &cable.0.lock().unwrap().sent;
    assert_eq!(*sent, [b"one".to_vec(), b"two".to_vec()]);
}
