//! The life of one virtual machine: built, paused, running, ended. Knows KVM; knows no launcher, image or path.
//!
//! The order of KVM's set-up is the order of the functions here: memory, interrupt controller, devices, processors.
//! Building and restoring go the same way; a restore only pours saved state over what was built.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::{Kvm, VmFd};
use thiserror::Error;
use virtio::VirtioDevice;

use self::bus::Bus;
use self::command_line::{CommandLine, TooLong};
use self::devices::{Devices, PlugError};
use self::ending::Ending;
use self::kernel::LoadError;
use self::memory::GuestMemory;
use self::report::End;
use self::uart::Uart;
use self::vcpu::{Stop, Vcpu};
use crate::config::VmConfig;
use crate::sys;

mod bus;
mod command_line;
mod cpuid;
mod devices;
mod ending;
mod kernel;
mod layout;
pub(crate) mod memory;
mod mptable;
pub(crate) mod probe;
mod reactor;
mod registers;
pub(crate) mod report;
mod running;
pub(crate) mod state;
mod still;
mod uart;
mod vcpu;
mod waiter;

pub(crate) use devices::Server;
pub(crate) use reactor::Happening;
pub(crate) use running::Running;

/// What keeps a machine from being built, booted, saved or restored.
#[derive(Debug, Error)]
pub(crate) enum MachineError {
    /// A call to KVM or the host failed.
    #[error("{0} failed")]
    Host(&'static str, #[source] io::Error),
    /// A device does not fit.
    #[error(transparent)]
    Plug(#[from] PlugError),
    /// The kernel does not fit.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Too many options.
    #[error(transparent)]
    CommandLine(#[from] TooLong),
    /// A saved machine that this one is not.
    #[error("The saved machine has {0}, which this one has not")]
    Other(String),
    /// A device's state.
    #[error("The state of the {0} device does not pass")]
    Device(String, #[source] virtio::StateError),
    /// There is nothing to hold any more.
    #[error("The guest has just ended")]
    Over,
    /// A processor would not stop.
    #[error("A processor did not leave the guest within ten seconds")]
    Stuck,
}

/// Names the step that failed.
fn step<T, E: Into<io::Error>>(
    name: &'static str,
    result: Result<T, E>,
) -> Result<T, MachineError> {
    result.map_err(|error| MachineError::Host(name, error.into()))
}

/// A virtual machine in one of its states: [`Built`], [`Paused`], [`Running`].
pub(crate) struct Machine<S> {
    vm: VmFd,
    kvm: Kvm,
    config: VmConfig,
    memory: GuestMemory,
    devices: Devices,
    ending: Arc<Ending>,
    state: S,
}

/// Memory, interrupt controller and devices are there; processors are not.
pub(crate) struct Built(());

/// Everything is there and stands still.
pub(crate) struct Paused {
    vcpus: Vec<Vcpu>,
    bus: Arc<Bus>,
    /// Devices must look at their queues when the machine goes on.
    wake: bool,
}

impl Machine<Built> {
    /// A machine with memory and no devices.
    pub(crate) fn new(
        kvm: OwnedFd,
        config: VmConfig,
        memory: GuestMemory,
    ) -> Result<Self, MachineError> {
        let kvm = sys::kvm(kvm);
        let vm = step("Creating a virtual machine", kvm.create_vm())?;
        step(
            "Giving KVM the guest's memory",
            sys::give_memory(&vm, memory.view()),
        )?;
        step(
            "Placing the task state segment",
            vm.set_tss_address(layout::TSS),
        )?;
        step("Creating the interrupt controller", vm.create_irq_chip())?;
        let ending = Arc::new(step("Creating an event", Ending::new())?);
        Ok(Self {
            vm,
            kvm,
            config,
            memory,
            devices: Devices::default(),
            ending,
            state: Built(()),
        })
    }

    /// Plugs a device into the next place.
    pub(crate) fn plug<D: VirtioDevice>(&mut self, device: D) -> Result<(), MachineError> {
        self.plug_for(Server::Main, device)
    }

    /// Plugs in a device that this thread serves.
    pub(crate) fn plug_for<D: VirtioDevice>(
        &mut self,
        server: Server,
        device: D,
    ) -> Result<(), MachineError> {
        Ok(self
            .devices
            .plug(&self.vm, &self.memory, &self.ending, device, server)?)
    }

    /// Puts kernel and initramfs into memory and the first processor in front of it.
    pub(crate) fn boot(
        self,
        kernel: OwnedFd,
        initramfs: OwnedFd,
    ) -> Result<Machine<Paused>, MachineError> {
        let mut line = CommandLine::new(&self.config);
        self.devices.announce(&mut line);
        let (kernel, initramfs) = (sys::file(kernel), sys::file(initramfs));
        let mp_table = mptable::table(self.config.cpus, self.devices.lines());
        let entry = kernel::load(
            &self.memory,
            &kernel,
            &initramfs,
            &line.finish()?,
            &mp_table,
        )?;
        self.begin_at(entry)
    }

    /// Puts a few bytes of 32-bit code into memory and the first processor in front of them.
    pub(crate) fn boot_code(self, code: &[u8]) -> Result<Machine<Paused>, MachineError> {
        kernel::write_code(&self.memory, code).map_err(LoadError::from)?;
        self.begin_at(layout::HIGH_MEMORY)
    }

    /// Makes the processors; the first will begin at `entry`.
    fn begin_at(self, entry: u64) -> Result<Machine<Paused>, MachineError> {
        let vcpus = self.vcpus()?;
        if let Some(first) = vcpus.first() {
            step("Setting a processor's registers", first.begin_at(entry))?;
        }
        Ok(self.with(vcpus, false))
    }

    fn vcpus(&self) -> Result<Vec<Vcpu>, MachineError> {
        let supported = step(
            "Reading supported features",
            self.kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES),
        )?;
        let cpus = self.config.cpus;
        let make = |index| {
            let table: Vec<kvm_cpuid_entry2> = cpuid::table(supported.as_slice(), index, cpus);
            step("Creating a processor", Vcpu::new(&self.vm, index, &table))
        };
        (0..cpus.count()).map(make).collect()
    }

    fn with(self, vcpus: Vec<Vcpu>, wake: bool) -> Machine<Paused> {
        let bus = Arc::new(Bus::new(
            self.devices.slots(),
            Uart::new(self.config.kernel_log),
        ));
        self.into_state(|Built(())| Paused { vcpus, bus, wake })
    }
}

impl Machine<Paused> {
    /// Lets the guest run. `control` ends [`Machine::serve`] when it is readable; `console` is the reading end of a pipe
    /// that the console device writes, not blocking.
    pub(crate) fn run(
        self,
        control: Option<BorrowedFd<'_>>,
        console: Option<OwnedFd>,
    ) -> Result<Machine<Running>, MachineError> {
        let Self {
            vm,
            kvm,
            config,
            memory,
            devices,
            ending,
            state,
        } = self;
        let state = Running::begin(state, &devices, &ending, control, console)?;
        Ok(Machine {
            vm,
            kvm,
            config,
            memory,
            devices,
            ending,
            state,
        })
    }

    /// Runs the first processor in this very thread, without any device served: for code that is known to end.
    pub(crate) fn run_here(mut self) -> Stop {
        let bus = self.state.bus;
        match self.state.vcpus.first_mut() {
            Some(first) => first.run(&bus),
            None => Stop::Asked,
        }
    }

    /// The guest's time-stamp counter now and its ticks per millisecond.
    pub(crate) fn clock(&self) -> Result<(u64, u64), MachineError> {
        let Some(first) = self.state.vcpus.first() else {
            return Ok((0, 0));
        };
        step("Reading the time-stamp counter", first.clock())
    }
}

impl Machine<Running> {
    /// Has [`Machine::serve`] tell when the other end of this socket is closed: its process has written memory down, or has died.
    pub(crate) fn watch_writer(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.state.watch_writer(socket)
    }

    /// Serves devices until the machine ends or the launcher says something.
    pub(crate) fn serve(&mut self) -> Result<Happening, MachineError> {
        step("Waiting for events", self.state.serve())
    }

    /// Stops all processors for good and adds up what happened. Never waits longer than a second. What is left is to be dropped,
    /// which takes KVM a while.
    pub(crate) fn finish(&mut self) -> (End, report::Counts) {
        self.ending.declare(End::HungUp);
        let mut counts = self.state.finish(&self.ending);
        if self.config.timings {
            counts.memory_touched = self.memory.touched().unwrap_or(0);
        }
        counts.unused_devices = self
            .devices
            .iter()
            .filter(|plugged| !plugged.slot.started())
            .map(|plugged| {
                (
                    plugged.slot.name().to_owned(),
                    plugged.slot.kernel_option().to_owned(),
                )
            })
            .collect();
        counts.remarks = self.ending.remarks();
        (self.ending.reason().unwrap_or(End::HungUp), counts)
    }
}

impl<S> Machine<S> {
    /// Has something told in the report.
    pub(crate) fn remark(&self, remark: String) {
        self.ending.remark(remark);
    }

    fn into_state<T>(self, change: impl FnOnce(S) -> T) -> Machine<T> {
        let Self {
            vm,
            kvm,
            config,
            memory,
            devices,
            ending,
            state,
        } = self;
        Machine {
            vm,
            kvm,
            config,
            memory,
            devices,
            ending,
            state: change(state),
        }
    }
}

#[cfg(test)]
mod tests;
