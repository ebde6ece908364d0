//! The entropy device gives bytes, different ones each time, and no more than it should.

use super::{BYTES_A_REQUEST, Entropy};
use crate::contract::{Subject, device_contract};
use crate::guest::Guest;

struct Source;

impl Subject for Source {
    type Device = Entropy;
    const EAGER: usize = 0;

    fn new() -> Self {
        Self
    }

    fn device(&mut self) -> Entropy {
        Entropy::new()
    }

    fn exercise(&mut self, guest: &mut Guest) {
        let first = guest.exchange(0, &[], &[64]);
        let second = guest.exchange(0, &[], &[32, 32]);
        assert_eq!((first.length, second.length), (64, 64));
        assert_ne!(first.bytes, second.bytes);
        assert_ne!(first.bytes, [0; 64]);
    }
}

device_contract!(Source);

#[test]
fn gives_a_bounded_number_of_bytes() {
    let mut guest = Guest::new(Entropy::new());
    guest.start();
    let answer = guest.exchange(0, &[], &[BYTES_A_REQUEST + 5]);
    assert_eq!(answer.length as usize, BYTES_A_REQUEST);
    assert_eq!(answer.bytes[BYTES_A_REQUEST..], [0; 5]);
}

#[test]
fn answers_a_request_without_room_with_nothing() {
    let mut guest = Guest::new(Entropy::new());
    guest.start();
    assert_eq!(guest.exchange(0, &[b"give"], &[]).length, 0);
    assert_eq!(guest.exchange(0, &[], &[0]).length, 0);
    assert!(!guest.is_broken());
}
