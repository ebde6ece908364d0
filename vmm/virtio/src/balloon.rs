//! The memory balloon (virtio 1.2 §5.5) with free page reporting: pages the guest has no use for go back to the host. Refuses to
//! ask the guest for any: the host wants none that are in use.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::device::{Io, Served, VirtioDevice};
use crate::{DeviceError, StateError};

const INFLATE: usize = 0;
const DEFLATE: usize = 1;

/// `VIRTIO_BALLOON_F_REPORTING`: there is a queue for pages that are free at the moment.
const REPORTING: u64 = 1 << 5;

/// Unit of the page numbers in the inflate queue, in bytes.
const PAGE: usize = 4096;

/// Most pages taken of one inflate request. Linux sends as many at most; others keep what is more.
const PAGES_A_REQUEST: usize = 256;

/// Where the driver writes how many pages it gave; before it is how many the host wants.
const ACTUAL: usize = 4;

/// A balloon, for memory that is a private mapping: what is given back reads as zeros, or as the file that is mapped.
#[derive(Debug, Default)]
pub struct Balloon {
    /// Pages in the balloon, as the driver says.
    actual: [u8; 4],
}

/// What a snapshot says of a balloon.
#[derive(Debug, Serialize, Deserialize)]
pub struct BalloonState {
    actual: [u8; 4],
}

impl Balloon {
    /// An empty balloon.
    pub fn new() -> Self {
        Self::default()
    }
}

impl VirtioDevice for Balloon {
    const ID: u32 = 5;
    const NAME: &'static str = "balloon";
    const KERNEL: &'static str = "CONFIG_VIRTIO_BALLOON";
    /// Inflate, deflate, report. Linux reports up to 32 ranges at once and wants a queue as long.
    const QUEUES: &'static [u16] = &[8, 8, 32];
    type State = BalloonState;

    fn features(&self) -> u64 {
        REPORTING
    }

    fn config(&self) -> impl AsRef<[u8]> {
        let [a0, a1, a2, a3] = self.actual;
        [0, 0, 0, 0, a0, a1, a2, a3]
    }

    fn write_config(&mut self, offset: usize, data: &[u8]) {
        if let (ACTUAL, Ok(actual)) = (offset, data.try_into()) {
            self.actual = actual;
        }
    }

    fn kick(&mut self, queue: usize, io: &mut Io<'_>) -> Result<(), DeviceError> {
        let memory = io.memory();
        io.serve(queue, |chain| {
            match queue {
                INFLATE => {
                    for _ in 0..PAGES_A_REQUEST {
                        let Ok(number) = chain.readable.read_array() else {
                            break;
                        };
                        let start = u64::from(u32::from_le_bytes(number)) << PAGE.trailing_zeros();
                        memory.discard(start, PAGE);
                    }
                }
                // Pages come back when the guest touches them.
                DEFLATE => (),
                _ => chain.writable.discard(),
            }
            Ok(Served::Done(0))
        })
    }

    fn reset(&mut self) {
        self.actual = [0; 4];
    }

    fn save(&self) -> BalloonState {
        BalloonState {
            actual: self.actual,
        }
    }

    fn restore(&mut self, state: BalloonState) -> Result<(), StateError> {
        self.actual = state.actual;
        Ok(())
    }
}
