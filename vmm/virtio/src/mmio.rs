//! The MMIO transport, modern interface (virtio 1.2 §4.2.2): registers, status, interrupts. Refuses to know what a
//! device does with its queues.
//!
//! Whatever the guest writes, of any width, at any offset and in any order, has a defined effect, most often none.

mod register;
mod state;
#[cfg(test)]
mod tests;

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vm_memory::GuestMemoryMmap;

use crate::device::{Io, VirtioDevice};
use crate::queue::{EVENT_IDX, INDIRECT_DESC, Queue};
use crate::{DeviceError, Notify, Slot, StateError};

/// "virt", little-endian.
const MAGIC: u32 = 0x7472_6976;
/// The modern interface.
const VERSION: u32 = 2;
/// "hull", little-endian.
const VENDOR: u32 = 0x6c6c_7568;

/// `VIRTIO_F_VERSION_1`: without it this device does not work.
const VERSION_1: u64 = 1 << 32;
const TRANSPORT_FEATURES: u64 = VERSION_1 | EVENT_IDX | INDIRECT_DESC;

const ACKNOWLEDGE: u32 = 1;
const DRIVER: u32 = 2;
const DRIVER_OK: u32 = 4;
const FEATURES_OK: u32 = 8;
const NEEDS_RESET: u32 = 64;
const FAILED: u32 = 128;

/// The steps of a driver's way up (virtio 1.2 §3.1.1). `FAILED` may be added to any, and 0 written at any time.
const STEPS: [(u32, u32); 4] = [
    (0, ACKNOWLEDGE),
    (ACKNOWLEDGE, ACKNOWLEDGE | DRIVER),
    (ACKNOWLEDGE | DRIVER, ACKNOWLEDGE | DRIVER | FEATURES_OK),
    (
        ACKNOWLEDGE | DRIVER | FEATURES_OK,
        ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK,
    ),
];

/// Bits of the interrupt status: a queue has used chains, the configuration changed.
const USED: u32 = 1;
const CONFIG: u32 = 2;

/// A device behind its register window.
pub struct Mmio<D> {
    memory: Arc<GuestMemoryMmap>,
    notify: Arc<dyn Notify>,
    host_fd: Option<RawFd>,
    /// Read and acknowledged by the guest at every interrupt, so kept outside the lock.
    interrupt_status: AtomicU32,
    started: AtomicBool,
    inner: Mutex<Inner<D>>,
}

struct Inner<D> {
    device: D,
    registers: Registers,
    queues: Box<[Queue]>,
    /// Whether the machine was told that the guest broke the device.
    said_broken: bool,
}

/// What the guest has written, all zero after a reset.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
struct Registers {
    status: u32,
    device_features_sel: u32,
    driver_features_sel: u32,
    driver_features: u64,
    queue_sel: u32,
}

impl<D: VirtioDevice> Mmio<D> {
    /// Puts `device` behind a window; `memory` is the whole memory of the guest.
    pub fn new(device: D, memory: Arc<GuestMemoryMmap>, notify: Arc<dyn Notify>) -> Arc<Self> {
        Arc::new(Self {
            memory,
            notify,
            host_fd: device.host_fd().map(|fd| fd.as_raw_fd()),
            interrupt_status: AtomicU32::new(0),
            started: AtomicBool::new(false),
            inner: Mutex::new(Inner {
                device,
                registers: Registers::default(),
                queues: D::QUEUES.iter().map(|&size| Queue::new(size)).collect(),
                said_broken: false,
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner<D>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the device do one step, with its queues if the driver is ready, and tells the guest what came of it.
    fn step(
        &self,
        inner: &mut Inner<D>,
        step: impl FnOnce(&mut D, &mut Io<'_>) -> Result<(), DeviceError>,
    ) {
        let live = inner.registers.status & (DRIVER_OK | NEEDS_RESET | FAILED) == DRIVER_OK;
        let queues = match live {
            true => &mut *inner.queues,
            false => &mut [],
        };
        let features = inner.registers.driver_features;
        let mut io = Io::new(&self.memory, queues, features, &*self.notify);
        let result = step(&mut inner.device, &mut io);
        let mut raised = if io.used { USED } else { 0 };
        if let Err(error) = result
            && live
        {
            inner.registers.status |= NEEDS_RESET;
            inner.device.reset();
            raised |= CONFIG;
            if !std::mem::replace(&mut inner.said_broken, true) {
                self.notify.broken(&error);
            }
        }
        if raised != 0 {
            // Still under the lock, so that nothing is raised after a reset.
            self.interrupt_status.fetch_or(raised, Ordering::SeqCst);
            self.notify.interrupt();
        }
    }

    fn reset(&self, inner: &mut Inner<D>) {
        inner.device.reset();
        inner.registers = Registers::default();
        for (queue, &size) in inner.queues.iter_mut().zip(D::QUEUES) {
            *queue = Queue::new(size);
        }
        self.interrupt_status.store(0, Ordering::SeqCst);
    }

    fn set_status(&self, inner: &mut Inner<D>, value: u32) {
        if value == 0 {
            return self.reset(inner);
        }
        let now = inner.registers.status;
        let value = value & !NEEDS_RESET;
        if value == now & !NEEDS_RESET | FAILED {
            inner.registers.status |= FAILED;
        }
        if !STEPS.contains(&(now, value)) {
            return;
        }
        let features = inner.registers.driver_features;
        let offered = inner.device.features() | TRANSPORT_FEATURES;
        let acceptable = features & !offered == 0 && features & VERSION_1 != 0;
        if value & FEATURES_OK == 0 || acceptable {
            inner.registers.status = value;
        }
        if value & DRIVER_OK != 0 {
            self.started.store(true, Ordering::Relaxed);
        }
    }

    fn read_register(&self, offset: u64) -> u32 {
        if offset == register::INTERRUPT_STATUS {
            return self.interrupt_status.load(Ordering::SeqCst);
        }
        let inner = self.lock();
        let registers = &inner.registers;
        let selected = usize::try_from(registers.queue_sel).unwrap_or(usize::MAX);
        let queue = inner.queues.get(selected);
        match offset {
            register::MAGIC_VALUE => MAGIC,
            register::VERSION => VERSION,
            register::DEVICE_ID => D::ID,
            register::VENDOR_ID => VENDOR,
            register::DEVICE_FEATURES => {
                let features = inner.device.features() | TRANSPORT_FEATURES;
                register::half(features, registers.device_features_sel)
            }
            register::QUEUE_SIZE_MAX => queue.map_or(0, |queue| queue.0.max_size).into(),
            register::QUEUE_READY => queue.is_some_and(|queue| queue.0.ready).into(),
            register::STATUS => registers.status,
            // There are no shared memory regions: a length of -1 says so.
            register::SHM_LEN_LOW..=register::SHM_BASE_HIGH => u32::MAX,
            // No device changes its configuration on its own.
            register::CONFIG_GENERATION => 0,
            _ => 0,
        }
    }

    fn write_register(&self, offset: u64, value: u32) {
        if offset == register::INTERRUPT_ACK {
            self.interrupt_status.fetch_and(!value, Ordering::SeqCst);
            return;
        }
        if D::BLOCKS && offset == register::QUEUE_NOTIFY {
            // Not under the lock, which its thread holds as long as it works.
            self.notify
                .kick_server(usize::try_from(value).unwrap_or(usize::MAX));
            return;
        }
        let inner = &mut *self.lock();
        let registers = &mut inner.registers;
        match offset {
            register::DEVICE_FEATURES_SEL => registers.device_features_sel = value,
            register::DRIVER_FEATURES_SEL => registers.driver_features_sel = value,
            register::DRIVER_FEATURES if registers.status == ACKNOWLEDGE | DRIVER => {
                let half = registers.driver_features_sel;
                register::set_half(&mut registers.driver_features, half, value);
            }
            register::QUEUE_SEL => registers.queue_sel = value,
            register::QUEUE_NOTIFY => {
                let queue = usize::try_from(value).unwrap_or(usize::MAX);
                self.step(inner, |device, io| kick(device, queue, io));
            }
            register::STATUS => self.set_status(inner, value),
            // Frozen once the driver is ready, and of no use before its features are known.
            register::QUEUE_SIZE..=register::QUEUE_DEVICE_HIGH
                if registers.status == ACKNOWLEDGE | DRIVER | FEATURES_OK =>
            {
                let selected = usize::try_from(registers.queue_sel).unwrap_or(usize::MAX);
                if let Some(queue) = inner.queues.get_mut(selected) {
                    set_queue(queue, offset, value);
                }
            }
            _ => (),
        }
    }
}

fn kick<D: VirtioDevice>(device: &mut D, queue: usize, io: &mut Io<'_>) -> Result<(), DeviceError> {
    match queue < D::QUEUES.len() {
        true => device.kick(queue, io),
        false => Ok(()),
    }
}

fn set_queue(queue: &mut Queue, offset: u64, value: u32) {
    let allowed = queue.may_be(value);
    let state = &mut queue.0;
    match offset {
        register::QUEUE_READY => state.ready = value == 1,
        _ if state.ready => (),
        register::QUEUE_SIZE if allowed => {
            state.size = u16::try_from(value).unwrap_or(state.max_size);
        }
        register::QUEUE_DESC_LOW => register::set_half(&mut state.desc_table, 0, value),
        register::QUEUE_DESC_HIGH => register::set_half(&mut state.desc_table, 1, value),
        register::QUEUE_DRIVER_LOW => register::set_half(&mut state.avail_ring, 0, value),
        register::QUEUE_DRIVER_HIGH => register::set_half(&mut state.avail_ring, 1, value),
        register::QUEUE_DEVICE_LOW => register::set_half(&mut state.used_ring, 0, value),
        register::QUEUE_DEVICE_HIGH => register::set_half(&mut state.used_ring, 1, value),
        _ => (),
    }
}

impl<D: VirtioDevice> Slot for Mmio<D> {
    fn name(&self) -> &'static str {
        D::NAME
    }

    fn kernel_option(&self) -> &'static str {
        D::KERNEL
    }

    fn queue_count(&self) -> usize {
        D::QUEUES.len()
    }

    fn blocks(&self) -> bool {
        D::BLOCKS
    }

    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(start) = offset.checked_sub(register::CONFIG) {
            let inner = self.lock();
            let config = inner.device.config();
            let start = usize::try_from(start).unwrap_or(usize::MAX);
            let config = config.as_ref().get(start..).unwrap_or_default();
            for (byte, &value) in data.iter_mut().zip(config) {
                *byte = value;
            }
        } else if let Ok(data) = <&mut [u8; 4]>::try_from(data) {
            *data = self.read_register(offset).to_le_bytes();
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let Some(start) = offset.checked_sub(register::CONFIG) {
            let start = usize::try_from(start).unwrap_or(usize::MAX);
            self.lock().device.write_config(start, data);
        } else if let Ok(&data) = <&[u8; 4]>::try_from(data) {
            self.write_register(offset, u32::from_le_bytes(data));
        }
    }

    fn kick(&self, queue: usize) {
        self.step(&mut self.lock(), |device, io| kick(device, queue, io));
    }

    fn host_fd(&self) -> Option<RawFd> {
        self.host_fd
    }

    fn host_ready(&self) {
        self.step(&mut self.lock(), VirtioDevice::host_ready);
    }

    fn started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }

    fn save(&self) -> Result<Vec<u8>, StateError> {
        self.save_state()
    }

    fn restore(&self, state: &[u8]) -> Result<(), StateError> {
        self.restore_state(state)
    }
}
