//! What may not pass yet waits, each way for itself. The clock is the test's.

use std::cell::Cell;

use super::*;
use crate::Rates;

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(1_000_000_000) };
}

fn guest(rates: Rates) -> Guest {
    let mut guest = Guest::with(Settings {
        rates,
        ..Settings::default()
    });
    guest.stack.now = || NOW.get();
    guest
}

/// An echo to the gateway, which answers with as much.
fn echo(guest: &mut Guest) {
    let mut message = vec![8, 0, 0, 0, 0, 1, 0, 1];
    message.resize(1000, 0);
    guest.send(&frame(gateway(), wire::ICMP, &message));
}

#[test]
fn the_guest_waits_until_its_line_is_free() {
    let mut guest = guest(Rates {
        inward: None,
        outward: Some(10_000),
    });
    let mut sent = 0;
    while guest.stack.may_transmit() {
        echo(&mut guest);
        sent += 1;
    }
    // A tenth of a second's worth in hand.
    assert_eq!(sent, 1);
    assert!(guest.take().is_some(), "the other way is free");
    // Its 1034 bytes, less what was in hand.
    NOW.set(NOW.get() + 3_399_999);
    assert!(!guest.stack.may_transmit());
    NOW.set(NOW.get() + 1);
    assert!(guest.stack.may_transmit());
}

#[test]
fn frames_for_the_guest_wait_and_are_not_lost() {
    let mut guest = guest(Rates {
        inward: Some(10_000),
        outward: None,
    });
    for _ in 0..3 {
        assert!(guest.stack.may_transmit());
        echo(&mut guest);
    }
    for later in [3_400_000, 103_400_000, 103_400_000] {
        assert!(guest.take().is_some());
        assert!(guest.take().is_none());
        NOW.set(NOW.get() + later);
    }
    assert!(guest.take().is_none());
    assert_eq!(guest.stack.journal.counts.received, 3 * 1034);
}
