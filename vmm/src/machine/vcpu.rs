//! A virtual processor: its loop, and its state while it stands still. Knows the bus, no device and no memory.

use std::io;
use std::sync::Arc;

use kvm_bindings::{CpuId, kvm_coalesced_mmio, kvm_sregs, kvm_xcrs};
use kvm_bindings::{KVM_INTERNAL_ERROR_EMULATION, kvm_cpuid_entry2};
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};

use super::bus::{Bus, Reset};
use super::registers;
use super::report::{Counts, End};
use crate::sys::{self, ExitSwitch};

mod state;

pub(crate) use state::{VcpuState, msr_numbers};

/// More writes than KVM lets wait at once: what one page holds.
const MOST_LATE: usize = 4096 / size_of::<kvm_coalesced_mmio>();

/// Model-specific register of the time-stamp counter.
const TSC: u32 = 0x10;

/// A processor that stands still. While it runs, its thread has it.
#[derive(Debug)]
pub(crate) struct Vcpu {
    fd: VcpuFd,
    index: u8,
    /// What happened on this processor.
    pub(crate) counts: Counts,
}

/// Why a processor stands still again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Its exit switch was set; no half-done access is left behind.
    Asked,
    /// The machine is over.
    End(End),
}

/// Extended control registers with these save area components enabled.
fn enabled(components: u64) -> kvm_xcrs {
    let mut xcrs = kvm_xcrs {
        nr_xcrs: 1,
        ..Default::default()
    };
    if let Some(first) = xcrs.xcrs.first_mut() {
        first.value = components;
    }
    xcrs
}

impl Vcpu {
    /// Makes processor number `index` of `vm`. All but the first wait for the first to start them.
    pub(crate) fn new(vm: &VmFd, index: u8, cpuid: &[kvm_cpuid_entry2]) -> io::Result<Self> {
        let mut fd = vm.create_vcpu(index.into())?;
        fd.map_coalesced_mmio_ring()?;
        let table =
            CpuId::from_entries(cpuid).map_err(|error| io::Error::other(format!("{error:?}")))?;
        fd.set_cpuid2(&table)?;
        if let Some(components) = cpuid
            .iter()
            .find(|leaf| (leaf.function, leaf.index) == (0xd, 0))
        {
            // A kernel sets XCR0 to just this; set here, the sizes in its CPUID are right also on hosts (QEMU without
            // hardware) that let a guest's XSETBV pass unseen.
            fd.set_xcrs(&enabled(components.eax.into()))?;
        }
        Ok(Self {
            fd,
            index,
            counts: Counts::default(),
        })
    }

    /// Places the processor at a PVH entry point.
    pub(crate) fn begin_at(&self, entry: u64) -> io::Result<()> {
        let reset: kvm_sregs = self.fd.get_sregs()?;
        self.fd.set_sregs(&registers::special(reset))?;
        self.fd.set_regs(&registers::general(entry))?;
        Ok(())
    }

    /// Its number.
    pub(crate) fn index(&self) -> u8 {
        self.index
    }

    /// The guest's time-stamp counter now, and its ticks per millisecond.
    pub(crate) fn clock(&self) -> io::Result<(u64, u64)> {
        let now = state::read_msr(&self.fd, TSC)?;
        Ok((now.unwrap_or(0), self.fd.get_tsc_khz()?.into()))
    }

    /// A switch that makes it leave the guest.
    pub(crate) fn exit_switch(&self) -> io::Result<Arc<ExitSwitch>> {
        Ok(Arc::new(ExitSwitch::new(&self.fd)?))
    }

    /// Runs the guest until something stops it. Clears no exit switch: one that was set before it began counts.
    pub(crate) fn run(&mut self, bus: &Bus) -> Stop {
        loop {
            let end = match self.fd.run() {
                Ok(VcpuExit::MmioRead(address, data)) => {
                    self.counts.mmio += 1;
                    bus.read(address, data);
                    continue;
                }
                Ok(VcpuExit::MmioWrite(address, data)) => {
                    self.counts.mmio += 1;
                    let (mut copy, length) = ([0; 8], data.len().min(8));
                    copy[..length].copy_from_slice(&data[..length]);
                    self.bring_late_writes(bus);
                    bus.write(address, &copy[..length]);
                    continue;
                }
                Ok(VcpuExit::IoIn(port, data)) => {
                    self.counts.port += 1;
                    bus.port_read(port, data);
                    continue;
                }
                Ok(VcpuExit::IoOut(port, data)) => {
                    self.counts.port += 1;
                    match bus.port_write(port, data) {
                        None => continue,
                        Some(Reset) => End::Orderly,
                    }
                }
                Ok(VcpuExit::Shutdown) => End::TripleFault,
                Ok(VcpuExit::InternalError) => self.internal_error(),
                Ok(other) => End::Failed {
                    cause: format!("The processor stopped unexpectedly: {other:?}"),
                },
                Err(error) if error.errno() == rustix::io::Errno::INTR.raw_os_error() => {
                    self.counts.interrupted += 1;
                    if self.asked_to_leave() {
                        self.bring_late_writes(bus);
                        return Stop::Asked;
                    }
                    continue;
                }
                // A processor that had been waiting to be started was.
                Err(error) if error.errno() == rustix::io::Errno::AGAIN.raw_os_error() => continue,
                Err(error) => End::Failed {
                    cause: format!("KVM_RUN failed: {error}"),
                },
            };
            self.counts.other += 1;
            // A panic ends in a reset or, if things are bad, in a triple fault; the message is what matters.
            return Stop::End(bus.panic().map_or(end, |message| End::Panic { message }));
        }
    }

    /// Lets the writes that KVM let wait take effect. All processors share its list: whoever comes takes all that is there.
    fn bring_late_writes(&mut self, bus: &Bus) {
        let _turn = bus.late();
        // Bounded, for other processors may write on.
        for _ in 0..MOST_LATE {
            let Ok(Some(late)) = self.fd.coalesced_mmio_read() else {
                return;
            };
            let length = usize::try_from(late.len).unwrap_or(usize::MAX);
            bus.write(late.phys_addr, late.data.get(..length).unwrap_or_default());
        }
    }

    fn asked_to_leave(&mut self) -> bool {
        self.fd.get_kvm_run().immediate_exit != 0
    }

    fn internal_error(&mut self) -> End {
        let (error, bytes) = sys::internal_error(&mut self.fd);
        if error != KVM_INTERNAL_ERROR_EMULATION {
            return End::Failed {
                cause: format!("KVM reports internal error {error}"),
            };
        }
        let place = self.fd.get_regs().map_or(0, |registers| registers.rip);
        let mut reason = format!(
            "This host's KVM interprets kernel code and cannot do the instruction at {place:#x}:"
        );
        for byte in bytes {
            reason.push_str(&format!(" {byte:02x}"));
        }
        End::Emulation { reason }
    }
}
