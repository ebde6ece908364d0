//! The entropy device (virtio 1.2 §5.4): random bytes of the host's kernel. Refuses to hold any.

#[cfg(test)]
mod tests;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::device::{Io, Served, VirtioDevice};
use crate::{DeviceError, StateError};

/// Most bytes given for one request; a driver that wants more asks again. Linux asks for 64.
const BYTES_A_REQUEST: usize = 256;

/// A source of entropy.
#[derive(Debug, Default)]
pub struct Entropy(());

impl Entropy {
    /// The device has no options.
    pub fn new() -> Self {
        Self::default()
    }
}

impl VirtioDevice for Entropy {
    const ID: u32 = 4;
    const NAME: &'static str = "entropy";
    const KERNEL: &'static str = "CONFIG_HW_RANDOM_VIRTIO";
    const QUEUES: &'static [u16] = &[8];
    type State = ();

    fn kick(&mut self, queue: usize, io: &mut Io<'_>) -> Result<(), DeviceError> {
        io.serve(queue, |chain| {
            let mut bytes = [0; BYTES_A_REQUEST];
            let length = chain.writable.left().min(BYTES_A_REQUEST);
            let bytes = bytes.get_mut(..length).unwrap_or_default();
            let length =
                getrandom(&mut *bytes, GetRandomFlags::empty()).map_err(std::io::Error::from)?;
            let bytes = bytes.get(..length).unwrap_or_default();
            Ok(Served::Done(chain.writable.write(bytes)))
        })
    }

    fn save(&self) -> Self::State {}

    fn restore(&mut self, (): Self::State) -> Result<(), StateError> {
        Ok(())
    }
}
