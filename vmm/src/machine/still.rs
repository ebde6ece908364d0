//! A machine that stands still: paused, saved, restored in another process. The way there and back is that of a boot;
//! a restore only pours saved state over what was built.

use super::memory::GuestMemory;
use super::state::MachineState;
use super::{Built, Machine, MachineError, Paused, Running};

impl Machine<Built> {
    /// Goes on where another machine of the same shape was saved.
    pub(crate) fn restore(self, state: &MachineState) -> Result<Machine<Paused>, MachineError> {
        let vcpus = self.vcpus()?;
        state.pour(&self.vm, &vcpus, &self.devices)?;
        Ok(self.with(vcpus, true))
    }
}

impl Machine<Paused> {
    /// Everything but memory, which is [`Machine::memory`]. The machine may go on afterwards.
    pub(crate) fn save(&self) -> Result<MachineState, MachineError> {
        MachineState::of(&self.kvm, &self.vm, &self.state.vcpus, &self.devices)
    }
}

impl Machine<Running> {
    /// Stops everything where it is, has `act` look at the state and at memory, and lets it go on.
    pub(crate) fn hold<T>(
        &self,
        act: impl FnOnce(Result<MachineState, MachineError>) -> T,
    ) -> Result<T, MachineError> {
        self.state.hold(&self.ending, |vcpus| {
            act(MachineState::of(&self.kvm, &self.vm, vcpus, &self.devices))
        })
    }

    /// Stops all processors where they are, with no access half done.
    pub(crate) fn pause(self) -> Result<Machine<Paused>, MachineError> {
        let Self {
            vm,
            kvm,
            config,
            memory,
            devices,
            ending,
            state,
        } = self;
        let state = state.pause(&ending)?;
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
}

impl<S> Machine<S> {
    /// The guest's memory.
    pub(crate) fn memory(&self) -> &GuestMemory {
        &self.memory
    }
}
