//! A machine at rest as plain data, without its memory. Where it is written and how it is encoded is for others to say.

use std::io;

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, kvm_clock_data,
    kvm_cpuid_entry2,
};
use kvm_ioctls::{Kvm, VmFd};
use serde::{Deserialize, Serialize};

use super::devices::Devices;
use super::vcpu::{Vcpu, VcpuState, msr_numbers};
use super::{MachineError, step};
use crate::sys;

const CONTROLLERS: [u32; 3] = [
    KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE,
    KVM_IRQCHIP_IOAPIC,
];

/// Everything of a machine but its memory.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MachineState {
    /// The guest's kvm-clock, nanoseconds.
    clock: u64,
    controllers: Vec<Vec<u8>>,
    vcpus: Vec<VcpuState>,
    devices: Vec<DeviceState>,
}

#[derive(Debug, Serialize, Deserialize)]
struct DeviceState {
    name: String,
    state: Vec<u8>,
}

impl MachineState {
    /// Reads everything. Processors stand still.
    pub(super) fn of(
        kvm: &Kvm,
        vm: &VmFd,
        vcpus: &[Vcpu],
        devices: &Devices,
    ) -> Result<Self, MachineError> {
        let mut saved = Vec::new();
        for plugged in devices.iter() {
            let name = plugged.slot.name().to_owned();
            let state = plugged
                .slot
                .save()
                .map_err(|error| MachineError::Device(name.clone(), error))?;
            saved.push(DeviceState { name, state });
        }
        let numbers = step("Listing model-specific registers", msr_numbers(kvm))?;
        let vcpus: io::Result<_> = vcpus.iter().map(|vcpu| vcpu.save(&numbers)).collect();
        let controllers: io::Result<_> = CONTROLLERS
            .iter()
            .map(|which| sys::interrupt_controller(vm, *which))
            .collect();
        Ok(Self {
            vcpus: step("Reading a processor's state", vcpus)?,
            controllers: step("Reading the interrupt controllers", controllers)?,
            clock: step("Reading the guest's clock", vm.get_clock())?.clock,
            devices: saved,
        })
    }

    /// Pours this over a machine that was built the same way. Nothing in it is trusted.
    pub(super) fn pour(
        &self,
        vm: &VmFd,
        vcpus: &[Vcpu],
        devices: &Devices,
    ) -> Result<(), MachineError> {
        self.compare(vcpus, devices)?;
        // The processors' kvm-clock pages are written by the first KVM_RUN, from this.
        let clock = kvm_clock_data {
            clock: self.clock,
            ..Default::default()
        };
        step("Setting the guest's clock", vm.set_clock(&clock))?;
        for (which, bytes) in CONTROLLERS.iter().zip(&self.controllers) {
            step(
                "Setting an interrupt controller",
                sys::set_interrupt_controller(vm, *which, bytes),
            )?;
        }
        for (vcpu, state) in vcpus.iter().zip(&self.vcpus) {
            step("Setting a processor's state", vcpu.restore(state))?;
        }
        for (plugged, saved) in devices.iter().zip(&self.devices) {
            let pour = plugged.slot.restore(&saved.state);
            pour.map_err(|error| MachineError::Device(saved.name.clone(), error))?;
        }
        Ok(())
    }

    /// Whether that machine is of the same shape, on processors of the same features.
    fn compare(&self, vcpus: &[Vcpu], devices: &Devices) -> Result<(), MachineError> {
        if vcpus.len() != self.vcpus.len() {
            return Err(MachineError::Other(format!(
                "{} processors",
                self.vcpus.len()
            )));
        }
        if self.controllers.len() != CONTROLLERS.len() {
            return Err(MachineError::Other(format!(
                "{} interrupt controllers",
                self.controllers.len()
            )));
        }
        let names = || devices.iter().map(|plugged| plugged.slot.name());
        if !names().eq(self.devices.iter().map(|device| device.name.as_str())) {
            let theirs: Vec<_> = self
                .devices
                .iter()
                .map(|device| device.name.as_str())
                .collect();
            return Err(MachineError::Other(format!(
                "the devices {}",
                theirs.join(", ")
            )));
        }
        for (vcpu, state) in vcpus.iter().zip(&self.vcpus) {
            let ours = step("Reading a processor's features", vcpu.features())?;
            let missing = state
                .cpuid
                .iter()
                .find(|leaf| !ours.iter().any(|own| same(own, leaf)));
            if let Some(leaf) = missing {
                return Err(MachineError::Other(format!(
                    "a processor whose features differ (CPUID leaf {:#x}, {})",
                    leaf.function, leaf.index
                )));
            }
        }
        Ok(())
    }
}

/// Whether two leaves say the same, but for what changes while a processor runs: what of its save area is enabled (0xd),
/// whether the system enabled XSAVE (1, bit 27 of ECX), protection keys (7, bit 4 of ECX) or its APIC (1, bit 9 of EDX), the
/// clock's scale (KVM's timing leaf).
fn same(own: &kvm_cpuid_entry2, other: &kvm_cpuid_entry2) -> bool {
    let fixed = |leaf: &kvm_cpuid_entry2| {
        let (a, mut b, mut c, mut d) = (leaf.eax, leaf.ebx, leaf.ecx, leaf.edx);
        match (leaf.function, leaf.index) {
            (0x1, _) => (c, d) = (c & !(1 << 27), d & !(1 << 9)),
            (0x7, 0) => c &= !(1 << 4),
            (0xd, 0 | 1) => b = 0,
            (0x8000_0001, _) => d &= !(1 << 9),
            _ => {}
        }
        (leaf.function, leaf.index, a, b, c, d)
    };
    fixed(own) == fixed(other)
}
