//! Devices of a machine and the two kinds of event between them and KVM: kicks (ioeventfd) and interrupts (irqfd).
//! Knows no device by name.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use kvm_ioctls::{IoEventAddress, VmFd};
use thiserror::Error;
use virtio::{
    DeviceError, Mmio, Notify, QUEUE_ADDRESSES, QUEUE_NOTIFY, Slot, VirtioDevice, WINDOW,
};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::command_line::CommandLine;
use super::ending::Ending;
use super::layout;
use super::memory::GuestMemory;
use super::report::End;

/// What keeps a device from being plugged in.
#[derive(Debug, Error)]
pub(crate) enum PlugError {
    /// No interrupt line is left.
    #[error("A machine has at most {most} devices", most = layout::MOST_DEVICES)]
    TooMany,
    /// KVM or the host refused an event descriptor.
    #[error("Connecting the {0} device failed")]
    Connect(&'static str, #[source] io::Error),
}

/// A device in its place.
#[derive(Clone)]
pub(crate) struct Plugged {
    /// The device.
    pub(crate) slot: Arc<dyn Slot>,
    /// Who serves it.
    pub(crate) server: Server,
    wires: Arc<Wires>,
}

/// The threads that serve devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    /// The first one.
    Main,
    /// The one that is the guest's network.
    Network,
}

/// A device's way to the machine.
struct Wires {
    name: &'static str,
    interrupt: EventFd,
    kicks: Vec<EventFd>,
    ending: Arc<Ending>,
}

impl Notify for Wires {
    fn interrupt(&self) {
        // The counter is emptied by KVM at each write, so it cannot be full.
        let _ = self.interrupt.write(1);
    }

    fn kick_again(&self, queue: usize) {
        if let Some(kick) = self.kicks.get(queue) {
            let _ = kick.write(1);
        }
    }

    fn kick_server(&self, queue: usize) {
        self.kick_again(queue);
        // The guest looks for the answer as soon as it goes on: it finds it, and needs no interrupt.
        rustix::thread::sched_yield();
    }

    fn broken(&self, error: &DeviceError) {
        self.ending
            .remark(format!("The guest broke its {} device: {error}", self.name));
    }

    fn hung_up(&self) {
        self.ending.declare(End::HungUp);
    }
}

/// All devices of a machine, in the order of their windows and interrupt lines.
#[derive(Default)]
pub(crate) struct Devices(Vec<Plugged>);

impl Devices {
    /// Puts a device into the next window, with the next interrupt line.
    pub(crate) fn plug<D: VirtioDevice>(
        &mut self,
        vm: &VmFd,
        memory: &GuestMemory,
        ending: &Arc<Ending>,
        device: D,
        server: Server,
    ) -> Result<(), PlugError> {
        let (window, line) = place(self.0.len()).ok_or(PlugError::TooMany)?;
        let wires = wire::<D>(vm, ending, window, line)
            .map_err(|error| PlugError::Connect(D::NAME, error))?;
        let slot = Mmio::new(device, memory.view().clone(), wires.clone());
        self.0.push(Plugged {
            slot,
            server,
            wires,
        });
        Ok(())
    }

    /// The devices, for the bus.
    pub(crate) fn slots(&self) -> Vec<Arc<dyn Slot>> {
        self.0.iter().map(|plugged| plugged.slot.clone()).collect()
    }

    /// The devices with their events.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Plugged> {
        self.0.iter()
    }

    /// Their interrupt lines.
    pub(crate) fn lines(&self) -> Range<u8> {
        let count = u8::try_from(self.0.len()).unwrap_or(0);
        layout::FIRST_LINE..layout::FIRST_LINE + count
    }

    /// Tells the kernel where they are.
    pub(crate) fn announce(&self, line: &mut CommandLine) {
        for (window, number) in (0..self.0.len()).filter_map(place) {
            line.device(window, number);
        }
    }
}

impl Plugged {
    /// One descriptor a queue, readable when the guest notified it.
    pub(crate) fn kicks(&self) -> impl Iterator<Item = RawFd> {
        self.wires.kicks.iter().map(|kick| kick.as_raw_fd())
    }

    /// Whether its server was told to look at a queue.
    #[cfg(test)]
    pub(crate) fn was_kicked(&self, queue: usize) -> bool {
        self.wires.kicks[queue].read().is_ok()
    }

    /// Makes the device look at every queue again, and the driver at the device: after a restore.
    pub(crate) fn wake(&self) {
        for queue in 0..self.slot.queue_count() {
            match self.slot.blocks() || self.server == Server::Network {
                // Its own thread looks, whose system calls are those that it takes.
                true => self.wires.kick_again(queue),
                false => self.slot.kick(queue),
            }
        }
        if self.slot.started() {
            self.wires.interrupt();
        }
    }
}

/// Window and interrupt line of device number `index`.
fn place(index: usize) -> Option<(u64, u8)> {
    let number = u8::try_from(index)
        .ok()
        .filter(|_| index < layout::MOST_DEVICES)?;
    Some((
        layout::DEVICES + u64::from(number) * WINDOW,
        layout::FIRST_LINE + number,
    ))
}

fn wire<D: VirtioDevice>(
    vm: &VmFd,
    ending: &Arc<Ending>,
    window: u64,
    line: u8,
) -> io::Result<Arc<Wires>> {
    let interrupt = EventFd::new(EFD_NONBLOCK)?;
    vm.register_irqfd(&interrupt, line.into())?;
    let mut kicks = Vec::with_capacity(D::QUEUES.len());
    for queue in 0..u32::try_from(D::QUEUES.len()).unwrap_or(0) {
        let kick = EventFd::new(EFD_NONBLOCK)?;
        if !D::BLOCKS {
            vm.register_ioevent(&kick, &IoEventAddress::Mmio(window + QUEUE_NOTIFY), queue)?;
        }
        kicks.push(kick);
    }
    let addresses = IoEventAddress::Mmio(window + QUEUE_ADDRESSES.start);
    let length = QUEUE_ADDRESSES.end - QUEUE_ADDRESSES.start;
    vm.register_coalesced_mmio(addresses, u32::try_from(length).unwrap_or(0))?;
    Ok(Arc::new(Wires {
        name: D::NAME,
        interrupt,
        kicks,
        ending: ending.clone(),
    }))
}
