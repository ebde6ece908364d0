//! The event loop, one for each thread that serves devices: queue kicks, devices' host descriptors, the end of the machine, and whatever the launcher says.
//! Knows which descriptor belongs to whom, not what they do with it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use super::bus::Bus;
use super::devices::{Devices, Server};
use super::ending::Ending;
use crate::sys;

const ENDED: u64 = 0;
const CONTROL: u64 = 1;
const LOG: u64 = 2;
const WRITER: u64 = 3;
/// Devices' events: this plus device number × 256 plus queue number.
const DEVICE: u64 = 1 << 32;
/// In place of a queue number: the device's host descriptor.
const HOST: u64 = 255;

/// Events taken at a time.
const BATCH: usize = 16;

/// Why the loop came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Happening {
    /// The machine has ended; `Ending` knows why.
    Ended,
    /// The launcher's socket is readable or closed.
    Control,
    /// The process that writes memory down has ended.
    Written,
}

/// The loop's state.
pub(crate) struct Reactor {
    epoll: OwnedFd,
    ending: Arc<Ending>,
    /// What the guest's console prints, on its way to the log.
    console: Option<OwnedFd>,
    /// Queue notifications served.
    pub(crate) kicks: u64,
    /// Held while devices are served, where another thread may want them to stand still.
    turn: Option<Arc<Mutex<()>>>,
}

impl Reactor {
    /// Watches everything there is to watch for one of the servers.
    pub(crate) fn new(
        server: Server,
        devices: &Devices,
        ending: &Arc<Ending>,
        control: Option<BorrowedFd<'_>>,
        console: Option<OwnedFd>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let watch = |descriptor: RawFd, token: u64, events: EventFlags| -> io::Result<()> {
            let descriptor = sys::borrow(devices, descriptor).ok_or(io::ErrorKind::InvalidInput)?;
            Ok(epoll::add(
                &epoll,
                descriptor,
                EventData::new_u64(token),
                events,
            )?)
        };
        watch(ending.event(), ENDED, EventFlags::IN)?;
        if let Some(control) = control {
            watch(control.as_raw_fd(), CONTROL, EventFlags::IN)?;
        }
        if let Some(console) = &console {
            watch(console.as_raw_fd(), LOG, EventFlags::IN)?;
        }
        for (device, plugged) in (0..)
            .map(|number: u64| DEVICE + number * 256)
            .zip(devices.iter())
            .filter(|(_, plugged)| plugged.server == server && !plugged.slot.blocks())
        {
            for (queue, kick) in (0..).zip(plugged.kicks()) {
                // Edge-triggered: every write is an event, and nobody has to read the counter.
                watch(kick, device + queue, EventFlags::IN | EventFlags::ET)?;
            }
            if let Some(host) = plugged.slot.host_fd() {
                watch(host, device + HOST, EventFlags::IN)?;
            }
        }
        Ok(Self {
            epoll,
            ending: ending.clone(),
            console,
            kicks: 0,
            turn: None,
        })
    }

    /// Watches a socket whose other end is closed when the process that writes memory down ends.
    pub(crate) fn watch_writer(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let data = EventData::new_u64(WRITER);
        Ok(epoll::add(&self.epoll, socket, data, EventFlags::RDHUP)?)
    }

    /// Serves only while nobody else holds this.
    pub(crate) fn take_turns(&mut self, turn: Arc<Mutex<()>>) {
        self.turn = Some(turn);
    }

    /// Serves events until something happens that is for the caller to decide.
    pub(crate) fn serve(&mut self, bus: &Bus) -> io::Result<Happening> {
        let mut events = Vec::with_capacity(BATCH);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let (mut control, mut written) = (false, false);
            let turn = self.turn.clone();
            let _turn = turn
                .as_ref()
                .map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner));
            for event in &events {
                match event.data.u64() {
                    ENDED => {}
                    CONTROL => control = true,
                    WRITER => written = true,
                    LOG => self.pass_on(bus),
                    token => self.serve_device(bus, token - DEVICE),
                }
            }
            if self.ending.reason().is_some() {
                self.pass_on(bus);
                return Ok(Happening::Ended);
            }
            if written {
                return Ok(Happening::Written);
            }
            if control {
                return Ok(Happening::Control);
            }
        }
    }

    fn serve_device(&mut self, bus: &Bus, token: u64) {
        let (Ok(device), Ok(queue)) = (usize::try_from(token / 256), usize::try_from(token % 256))
        else {
            return;
        };
        let Some(slot) = bus.slot(device) else { return };
        if token % 256 == HOST {
            slot.host_ready();
        } else {
            self.kicks += 1;
            slot.kick(queue);
        }
    }

    /// Moves what the console printed to the log. The pipe does not block.
    fn pass_on(&self, bus: &Bus) {
        let Some(console) = &self.console else { return };
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = rustix::io::read(console, &mut bytes) {
            bus.log(bytes.get(..count).unwrap_or_default());
        }
    }
}
