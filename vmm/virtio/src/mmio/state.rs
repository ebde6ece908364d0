//! A slot's saved state: what the driver set up, then the device's own facts. Refuses to believe what it decodes.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::{
    CONFIG, FAILED, Inner, Mmio, NEEDS_RESET, Registers, STEPS, TRANSPORT_FEATURES, USED, VERSION_1,
};
use super::{DRIVER_OK, FEATURES_OK};
use crate::StateError;
use crate::device::VirtioDevice;
use crate::queue::Queue;

#[derive(Serialize, Deserialize)]
struct Saved<S> {
    registers: Registers,
    interrupt_status: u32,
    started: bool,
    queues: Vec<Queue>,
    device: S,
}

impl<D: VirtioDevice> Mmio<D> {
    pub(super) fn save_state(&self) -> Result<Vec<u8>, StateError> {
        let inner = self.lock();
        let saved = Saved {
            registers: inner.registers.clone(),
            interrupt_status: self.interrupt_status.load(Ordering::SeqCst),
            started: self.started.load(Ordering::Relaxed),
            queues: inner.queues.to_vec(),
            device: inner.device.save(),
        };
        Ok(postcard::to_stdvec(&saved)?)
    }

    pub(super) fn restore_state(&self, state: &[u8]) -> Result<(), StateError> {
        let inner = &mut *self.lock();
        self.reset(inner);
        let saved: Saved<D::State> = postcard::from_bytes(state)?;
        check::<D>(inner, &saved)?;
        inner.device.restore(saved.device)?;
        inner.registers = saved.registers;
        inner.queues = saved.queues.into();
        self.started.store(saved.started, Ordering::Relaxed);
        self.interrupt_status
            .store(saved.interrupt_status, Ordering::SeqCst);
        if saved.interrupt_status != 0 {
            // The edge may have been lost on the way; one too many does no harm.
            self.notify.interrupt();
        }
        Ok(())
    }
}

fn check<D: VirtioDevice>(inner: &Inner<D>, saved: &Saved<D::State>) -> Result<(), StateError> {
    let registers = &saved.registers;
    let step = registers.status & !(FAILED | NEEDS_RESET);
    let reachable = step == 0 || STEPS.iter().any(|&(_, to)| to == step);
    if !reachable {
        return Err(StateError::Impossible("status"));
    }
    let offered = inner.device.features() | TRANSPORT_FEATURES;
    let negotiated = step & FEATURES_OK != 0;
    if negotiated
        && (registers.driver_features & !offered != 0 || registers.driver_features & VERSION_1 == 0)
    {
        return Err(StateError::Impossible("set of features"));
    }
    if saved.interrupt_status & !(USED | CONFIG) != 0 {
        return Err(StateError::Impossible("interrupt status"));
    }
    if step & DRIVER_OK != 0 && !saved.started {
        return Err(StateError::Impossible("start"));
    }
    let possible = saved.queues.len() == D::QUEUES.len()
        && (saved.queues.iter().zip(D::QUEUES))
            .all(|(queue, &max)| queue.is_possible(max) && (negotiated || !queue.0.ready));
    match possible {
        true => Ok(()),
        false => Err(StateError::Impossible("queue")),
    }
}
