//! What every device must stand, as one suite that each device's tests instantiate. Refuses to know any device.

pub(crate) mod hostile;

use crate::guest::Guest;
use crate::queue::{EVENT_IDX, INDIRECT_DESC};
use crate::{QUEUE_NOTIFY, VirtioDevice};

/// A device with its host side, and a use of it that shows whether it works.
pub(crate) trait Subject: Sized {
    type Device: VirtioDevice;

    /// A queue whose chains the device takes at once, whatever is in them.
    const EAGER: usize;

    fn new() -> Self;

    /// A device, fresh from the machine; called again for the device that a state is restored to.
    fn device(&mut self) -> Self::Device;

    /// Uses the device the guest has started, and asserts that it does what it is for.
    fn exercise(&mut self, guest: &mut Guest);
}

/// Instantiates the suite.
macro_rules! device_contract {
    ($subject:ty) => {
        mod contract {
            use super::*;
            use crate::contract;

            #[test]
            fn works_with_any_set_of_transport_features() {
                contract::works_with_any_set_of_transport_features::<$subject>();
            }

            #[test]
            fn is_not_started_without_version_1() {
                contract::is_not_started_without_version_1::<$subject>();
            }

            #[test]
            fn works_again_after_a_reset() {
                contract::works_again_after_a_reset::<$subject>();
            }

            #[test]
            fn goes_on_where_its_state_is_restored() {
                contract::goes_on_where_its_state_is_restored::<$subject>();
            }

            #[test]
            fn refuses_states_it_cannot_have_saved() {
                contract::refuses_states_it_cannot_have_saved::<$subject>();
            }

            #[test]
            fn touches_no_queue_before_the_driver_is_ready() {
                contract::touches_no_queue_before_the_driver_is_ready::<$subject>();
            }

            #[test]
            fn keeps_queues_as_they_were_when_the_driver_became_ready() {
                contract::keeps_queues_as_they_were::<$subject>();
            }

            #[test]
            fn survives_malformed_chains() {
                contract::hostile::survives_malformed_chains::<$subject>();
            }

            #[test]
            fn survives_jumps_of_the_available_index() {
                contract::hostile::survives_jumps_of_the_available_index::<$subject>();
            }

            #[test]
            fn survives_rings_outside_memory() {
                contract::hostile::survives_rings_outside_memory::<$subject>();
            }

            #[test]
            fn survives_any_register_access() {
                contract::hostile::survives_any_register_access::<$subject>();
            }

            #[test]
            fn survives_any_ring_contents() {
                contract::hostile::survives_any_ring_contents::<$subject>();
            }
        }
    };
}
pub(crate) use device_contract;

fn fresh<S: Subject>() -> (S, Guest) {
    let mut subject = S::new();
    let guest = Guest::new(subject.device());
    (subject, guest)
}

fn started<S: Subject>() -> (S, Guest) {
    let (subject, mut guest) = fresh::<S>();
    guest.start();
    (subject, guest)
}

/// Whatever was done to it, a reset makes the device work again.
fn recovers<S: Subject>(subject: &mut S, guest: &mut Guest) {
    guest.start();
    assert!(!guest.is_broken());
    subject.exercise(guest);
}

pub(crate) fn works_with_any_set_of_transport_features<S: Subject>() {
    for without in [0, EVENT_IDX, INDIRECT_DESC, EVENT_IDX | INDIRECT_DESC] {
        let (mut subject, mut guest) = fresh::<S>();
        assert!(!guest.slot.started());
        let features = guest.offered();
        assert_eq!(features & without, without);
        guest.start_with(features & !without);
        assert_eq!(guest.read(0x70), 15);
        assert!(guest.slot.started());
        for _ in 0..3 {
            subject.exercise(&mut guest);
        }
        assert!(guest.told.broken.lock().unwrap().is_empty());
    }
}

pub(crate) fn is_not_started_without_version_1<S: Subject>() {
    let (mut subject, mut guest) = fresh::<S>();
    guest.start_with(guest.offered() & !(1 << 32));
    assert_eq!(guest.read(0x70), 3);
    assert!(!guest.slot.started());
    guest.start_with(guest.offered() | 1 << 63);
    assert_eq!(guest.read(0x70), 3);
    recovers(&mut subject, &mut guest);
}

pub(crate) fn works_again_after_a_reset<S: Subject>() {
    let (mut subject, mut guest) = started::<S>();
    subject.exercise(&mut guest);
    guest.write(0x70, 0);
    assert_eq!(guest.read(0x70), 0);
    assert_eq!(guest.read(0x60), 0);
    guest.kick(S::EAGER);
    assert_eq!(guest.read(0x60), 0);
    recovers(&mut subject, &mut guest);
}

pub(crate) fn goes_on_where_its_state_is_restored<S: Subject>() {
    let (mut subject, mut guest) = started::<S>();
    for _ in 0..3 {
        subject.exercise(&mut guest);
        let state = guest.slot.save().unwrap();
        // The slot that was saved goes on too.
        subject.exercise(&mut guest);
        let ahead = guest.slot.save().unwrap();
        guest.slot.restore(&ahead).unwrap();
        assert!(guest.slot.restore(&state).is_ok());
        guest.slot.restore(&ahead).unwrap();
        guest.move_to(subject.device());
        guest.slot.restore(&ahead).unwrap();
        assert!(guest.slot.started());
        for queue in 0..guest.slot.queue_count() {
            guest.slot.kick(queue);
        }
        assert!(!guest.is_broken());
        subject.exercise(&mut guest);
    }
}

pub(crate) fn refuses_states_it_cannot_have_saved<S: Subject>() {
    let (mut subject, mut guest) = started::<S>();
    subject.exercise(&mut guest);
    let state = guest.slot.save().unwrap();
    for length in 0..state.len() {
        assert!(guest.slot.restore(&state[..length]).is_err(), "{length}");
        assert_eq!(guest.read(0x70), 0, "as after a reset");
    }
    for position in 0..state.len() {
        for bit in 0..8 {
            let mut state = state.clone();
            state[position] ^= 1 << bit;
            // Some of them are possible; none may do harm.
            let _ = guest.slot.restore(&state);
            for queue in 0..guest.slot.queue_count() {
                guest.slot.kick(queue);
            }
            guest.told.again.lock().unwrap().clear();
        }
    }
    recovers(&mut subject, &mut guest);
}

pub(crate) fn touches_no_queue_before_the_driver_is_ready<S: Subject>() {
    let (mut subject, mut guest) = started::<S>();
    guest.write(0x70, 0);
    for status in [1, 3, 11] {
        guest.write(0x70, status);
        if status == 3 {
            guest.write(0x24, 1);
            guest.write(0x20, 1);
        }
        assert_eq!(guest.read(0x70), status);
        guest.offer(S::EAGER, &[&[0; 64]], &[64]);
        guest.kick(S::EAGER);
        guest.slot.kick(S::EAGER);
        assert_eq!(guest.take(S::EAGER), None);
        assert_eq!(guest.read(0x60), 0);
    }
    // Steps that are none leave the status as it is.
    for status in [1, 2, 3, 4, 7, 8, 12, 14, 27, 64, 0x100, u32::MAX] {
        guest.write(0x70, status);
        assert_eq!(guest.read(0x70), 11, "{status}");
    }
    guest.write(0x70, 11 | 128);
    assert_eq!(guest.read(0x70), 11 | 128);
    guest.write(0x70, 15 | 128);
    assert_eq!(guest.read(0x70), 11 | 128);
    recovers(&mut subject, &mut guest);
}

pub(crate) fn keeps_queues_as_they_were<S: Subject>() {
    let (mut subject, mut guest) = started::<S>();
    let queues = u32::try_from(guest.slot.queue_count()).unwrap();
    for queue in 0..=queues {
        guest.write(0x30, queue);
        for register in (0x38..=0xa4).step_by(4) {
            if ![QUEUE_NOTIFY, 0x60, 0x64, 0x70].contains(&register) {
                guest.write(register, 0);
                guest.write(register, 0xffff_fff0);
            }
        }
        assert_eq!(guest.read(0x44), u32::from(queue < queues));
    }
    guest.write(0x24, 0);
    guest.write(0x20, u32::MAX);
    subject.exercise(&mut guest);
    assert!(!guest.is_broken());
}
