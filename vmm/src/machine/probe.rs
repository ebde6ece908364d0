//! Finds out in a few milliseconds whether this host's KVM can run a kernel, by running a few bytes of one.
//!
//! Software KVMs pass guest user code to the processor and interpret the rest with an emulator that was made for single
//! instructions: it is slow, and lacks instructions no kernel does without.

use std::arch::x86_64::__cpuid;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use kvm_ioctls::Cap;
use thiserror::Error;

use super::memory::GuestMemory;
use super::report::End;
use super::vcpu::Stop;
use super::{Machine, MachineError};
use crate::config::{Memory, VmConfig};
use crate::sys;

/// What this program needs of KVM.
const API_VERSION: i32 = 12;
const NEEDED: [(Cap, &str); 6] = [
    (Cap::Irqchip, "an interrupt controller (KVM_CAP_IRQCHIP)"),
    (Cap::Irqfd, "interrupts by event descriptor (KVM_CAP_IRQFD)"),
    (
        Cap::Ioeventfd,
        "notifications by event descriptor (KVM_CAP_IOEVENTFD)",
    ),
    (
        Cap::ImmediateExit,
        "immediate exits (KVM_CAP_IMMEDIATE_EXIT)",
    ),
    (
        Cap::TscDeadlineTimer,
        "deadline timers (KVM_CAP_TSC_DEADLINE_TIMER)",
    ),
    (Cap::Xcrs, "extended control registers (KVM_CAP_XCRS)"),
];

/// Rounds of the timed loop, each of two instructions: some microseconds on a processor, 11 ms in an emulator.
const ROUNDS: u32 = 10_000;
/// Longer than any interruption a busy host will see three times in a row.
const TOO_LONG: Duration = Duration::from_millis(5);
const ATTEMPTS: u32 = 3;

/// Why a KVM cannot run hull's guests.
#[derive(Debug, Error)]
pub(crate) enum Unfit {
    /// Something else answers.
    #[error("/dev/kvm is not KVM: it answers version {0} instead of {API_VERSION}")]
    Version(i32),
    /// Too old, or cut down.
    #[error("This host's KVM lacks {0}")]
    Lacks(&'static str),
    /// Kernel code is interpreted, and this instruction stopped it.
    #[error("{0}")]
    Emulated(String),
    /// Kernel code is interpreted.
    #[error("This host's KVM interprets kernel code, at {0} ns an instruction")]
    Slow(u128),
    /// A call failed.
    #[error("KVM on this host cannot be used")]
    Machine(#[from] MachineError),
    /// The probe ended in a way that no processor ends it.
    #[error("KVM on this host runs code wrongly: {0:?}")]
    Wrong(End),
}

/// Whether the processor itself has virtualisation (VMX or SVM). Where it has, KVM uses it and [`probe`] would succeed.
pub(crate) fn has_virtualisation() -> bool {
    const VMX: u32 = 1 << 5;
    const SVM: u32 = 1 << 2;
    __cpuid(1).ecx & VMX != 0
        || __cpuid(0x8000_0000).eax > 0x8000_0000 && __cpuid(0x8000_0001).ecx & SVM != 0
}

/// Runs a few bytes of kernel code. Takes less than 1 ms where it works, 20 ms where it does not.
pub(crate) fn probe(device: OwnedFd) -> Result<(), Unfit> {
    let kvm = sys::kvm(device);
    let version = kvm.get_api_version();
    if version != API_VERSION {
        return Err(Unfit::Version(version));
    }
    if let Some((_, name)) = NEEDED
        .iter()
        .find(|(capability, _)| !kvm.check_extension(*capability))
    {
        return Err(Unfit::Lacks(name));
    }
    // Whichever instruction an emulator lacks first, kernels have it within their first millisecond.
    run(&kvm, &[0xf3, 0x0f, 0xb8, 0xc0])?; // popcnt eax, eax
    let [low, next, high, highest] = ROUNDS.to_le_bytes();
    let timed = [0xb9, low, next, high, highest, 0x49, 0x75, 0xfd]; // mov ecx, ROUNDS; again: dec ecx; jnz again
    let mut shortest = Duration::MAX;
    for _ in 0..ATTEMPTS {
        shortest = shortest.min(run(&kvm, &timed)?);
        if shortest < TOO_LONG {
            return Ok(());
        }
    }
    Err(Unfit::Slow(shortest.as_nanos() / u128::from(2 * ROUNDS)))
}

/// Runs `code` in 32-bit kernel mode; gives the time it took.
fn run(kvm: &kvm_ioctls::Kvm, code: &[u8]) -> Result<Duration, Unfit> {
    let host = |error: io::Error| MachineError::Host("Getting memory for a probe", error);
    let config = VmConfig {
        memory: Memory::SMALLEST,
        ..VmConfig::default()
    };
    let memory = GuestMemory::new(config.memory).map_err(host)?;
    let device = sys::duplicate(kvm).map_err(host)?;
    let machine = Machine::new(device, config, memory)?;
    let mut code = code.to_vec();
    code.extend([0xb0, 0xfe, 0xe6, 0x64]); // mov al, 0xfe; out 0x64, al: the orderly end
    let machine = machine.boot_code(&code)?;
    let start = Instant::now();
    match machine.run_here() {
        Stop::End(End::Orderly) => Ok(start.elapsed()),
        Stop::End(End::Emulation { reason }) => Err(Unfit::Emulated(reason)),
        Stop::End(end) => Err(Unfit::Wrong(end)),
        Stop::Asked => Err(Unfit::Wrong(End::HungUp)),
    }
}

#[cfg(test)]
mod tests;
