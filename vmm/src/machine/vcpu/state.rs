//! Everything of a virtual processor that must survive a save. Order matters on the way back; it is explained there.

use std::io;

use kvm_bindings::{
    KVM_MAX_CPUID_ENTRIES, Msrs, kvm_cpuid_entry2, kvm_debugregs, kvm_lapic_state, kvm_mp_state,
    kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::{Kvm, VcpuFd};
use serde::{Deserialize, Serialize};

use super::{TSC, Vcpu};
use crate::sys;

/// Registers a single KVM call takes at most.
const MSR_BATCH: usize = 64;
/// More milliseconds than what KVM takes for the same moment when time-stamp counters are set.
const ANOTHER_MOMENT: u64 = 4_000;

/// A processor at rest.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct VcpuState {
    /// Features it was made with, to be compared with those of the host that restores it.
    pub(crate) cpuid: Vec<kvm_cpuid_entry2>,
    tsc_khz: u32,
    mp_state: kvm_mp_state,
    regs: kvm_regs,
    sregs: kvm_sregs,
    xsave: kvm_xsave,
    xcrs: kvm_xcrs,
    debug: kvm_debugregs,
    lapic: kvm_lapic_state,
    msrs: Vec<kvm_msr_entry>,
    events: kvm_vcpu_events,
}

/// Numbers of the model-specific registers this KVM saves.
pub(crate) fn msr_numbers(kvm: &Kvm) -> io::Result<Vec<u32>> {
    Ok(kvm.get_msr_index_list()?.as_slice().to_vec())
}

/// One register, if the processor has it.
pub(super) fn read_msr(fd: &VcpuFd, index: u32) -> io::Result<Option<u64>> {
    Ok(read_msrs(fd, &[index])?.first().map(|entry| entry.data))
}

/// The registers that the processor has out of those asked for: KVM stops at the first that it has not.
fn read_msrs(fd: &VcpuFd, mut numbers: &[u32]) -> io::Result<Vec<kvm_msr_entry>> {
    let mut found = Vec::with_capacity(numbers.len());
    while !numbers.is_empty() {
        let batch: Vec<_> = numbers
            .iter()
            .take(MSR_BATCH)
            .map(|index| kvm_msr_entry {
                index: *index,
                ..Default::default()
            })
            .collect();
        let mut msrs =
            Msrs::from_entries(&batch).map_err(|error| io::Error::other(format!("{error:?}")))?;
        let count = fd.get_msrs(&mut msrs)?.min(batch.len());
        found.extend_from_slice(msrs.as_slice().get(..count).unwrap_or_default());
        let skipped = usize::from(count < batch.len());
        numbers = numbers.get(count + skipped..).unwrap_or_default();
    }
    Ok(found)
}

fn write_msrs(fd: &VcpuFd, entries: &[kvm_msr_entry]) -> io::Result<()> {
    for batch in entries.chunks(MSR_BATCH) {
        let msrs =
            Msrs::from_entries(batch).map_err(|error| io::Error::other(format!("{error:?}")))?;
        let count = fd.set_msrs(&msrs)?;
        if let Some(refused) = batch.get(count) {
            return Err(io::Error::other(format!(
                "The processor refuses {:#x} in its register {:#x}",
                refused.data, refused.index
            )));
        }
    }
    Ok(())
}

/// What to write into the first processor's registers. Its time-stamp counter is set to another moment before its own.
///
/// A counter within a second of the one that KVM was given last is put in step with that, for processors shall agree. Before Linux
/// 6.8 a new machine's zero counts as given, and a guest that has lived for less than a second would see its counter go back.
fn first_of_all(msrs: &[kvm_msr_entry], tsc_khz: u32) -> Vec<kvm_msr_entry> {
    let counter = msrs.iter().find(|entry| entry.index == TSC);
    let elsewhere = counter.map(|entry| kvm_msr_entry {
        data: entry.data.wrapping_add(ANOTHER_MOMENT * u64::from(tsc_khz)),
        ..*entry
    });
    elsewhere.into_iter().chain(msrs.iter().copied()).collect()
}

impl Vcpu {
    /// Features it was made with.
    pub(crate) fn features(&self) -> io::Result<Vec<kvm_cpuid_entry2>> {
        Ok(self
            .fd
            .get_cpuid2(KVM_MAX_CPUID_ENTRIES)?
            .as_slice()
            .to_vec())
    }

    /// Reads the state. The processor stands still, with no access half done.
    pub(crate) fn save(&self, msr_numbers: &[u32]) -> io::Result<VcpuState> {
        let fd = &self.fd;
        // First: KVM brings events and the processor's state up to date when it is asked for.
        let mp_state = fd.get_mp_state()?;
        Ok(VcpuState {
            mp_state,
            cpuid: self.features()?,
            tsc_khz: fd.get_tsc_khz()?,
            regs: fd.get_regs()?,
            sregs: fd.get_sregs()?,
            xsave: fd.get_xsave()?,
            xcrs: fd.get_xcrs()?,
            debug: fd.get_debug_regs()?,
            lapic: fd.get_lapic()?,
            msrs: read_msrs(fd, msr_numbers)?,
            events: fd.get_vcpu_events()?,
        })
    }

    /// Pours a state over a processor that was just made. Nothing in it is trusted: KVM refuses what no processor can hold.
    pub(crate) fn restore(&self, state: &VcpuState) -> io::Result<()> {
        let fd = &self.fd;
        if fd.get_tsc_khz()? != state.tsc_khz {
            fd.set_tsc_khz(state.tsc_khz)?;
        }
        fd.set_mp_state(state.mp_state)?;
        fd.set_regs(&state.regs)?;
        // Holds the APIC's base and mode, which decide how the APIC's registers are read.
        fd.set_sregs(&state.sregs)?;
        // XCR0 decides which parts of the save area count.
        fd.set_xcrs(&state.xcrs)?;
        sys::set_xsave(fd, &state.xsave)?;
        fd.set_debug_regs(&state.debug)?;
        fd.set_lapic(&state.lapic)?;
        // After the APIC: setting its timer's mode clears the deadline.
        match self.index {
            0 => write_msrs(fd, &first_of_all(&state.msrs, state.tsc_khz))?,
            _ => write_msrs(fd, &state.msrs)?,
        }
        // Last: the others may raise or clear events.
        fd.set_vcpu_events(&state.events)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_processors_time_is_set_from_afar() {
        let entry = |index, data| kvm_msr_entry {
            index,
            data,
            ..Default::default()
        };
        let saved = [entry(1, 2), entry(TSC, 50)];
        let [far, rest @ ..] = &first_of_all(&saved, 1_000)[..] else {
            panic!("nothing is written");
        };
        assert_eq!((far.index, far.data), (TSC, 4_000_050));
        assert_eq!(rest, saved);
        assert_eq!(first_of_all(&saved[..1], 1_000), saved[..1]);
    }
}
