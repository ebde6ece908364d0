//! Keeps KVM in use for the lab's whole life. Runs no guest.
//!
//! KVM patches the kernel's code when the first virtual machine comes and when the last one goes, and when a processor's APIC is
//! off (as each is at first) or missing (static keys). QEMU's processors, each a thread, may translate such code while it
//! changes and keep what they have seen: the lab's kernel then dies of a breakpoint that is no longer there (QEMU before 8.1).
//! Machines that stay have the patching done once, before any command runs.

use anyhow::{Context, Result};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

/// Two virtual machines that nobody runs: one whose processor's APIC is still off, one whose processor has none.
#[derive(Debug)]
pub(crate) struct Kept {
    _machines: [(VcpuFd, VmFd); 2],
}

/// Makes the machines; they last until they are dropped.
pub(crate) fn keep_in_use() -> Result<Kept> {
    let make = |with_apic: bool| -> Result<(VcpuFd, VmFd), kvm_ioctls::Error> {
        let machine = Kvm::new()?.create_vm()?;
        if with_apic {
            machine.create_irq_chip()?;
        }
        Ok((machine.create_vcpu(0)?, machine))
    };
    let machines = [make(true), make(false)];
    let [with, without] =
        machines.map(|made| made.context("The lab's KVM gives no virtual machine"));
    Ok(Kept {
        _machines: [with?, without?],
    })
}
