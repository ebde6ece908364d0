//! What fuzzing needs of each device: a host side, and requests that make sense. Refuses to know how bytes become steps.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};

pub(super) use self::files::Files;
pub(super) use self::volume::Volume;
use super::Input;
use crate::guest::{Guest, WRITE};
use crate::{
    Access, Balloon, Block, Console, Entropy, Link, Net, Offload, Reader, Received, VirtioDevice,
    Vsock, Writer,
};

mod files;
mod volume;

/// A device with its host side.
pub(super) trait Target {
    type Device: VirtioDevice;
    const QUEUES: usize = Self::Device::QUEUES.len();
    /// Whether descriptors, registers and memory are made up, beside what makes sense.
    const RAW: bool = true;

    /// A fresh device.
    fn device(&mut self) -> Self::Device;

    /// Guest or host does something of sense.
    fn act(&mut self, guest: &mut Guest, input: &mut Input<'_>);

    /// What must hold after all.
    fn end(&self) {}
}

pub(super) struct Random;

impl Target for Random {
    type Device = Entropy;

    fn device(&mut self) -> Entropy {
        Entropy::new()
    }

    fn act(&mut self, guest: &mut Guest, input: &mut Input<'_>) {
        if guest.may_offer(0, 2) {
            let lengths = [input.byte().into(), input.half().into()];
            guest.offer(0, &[], &lengths);
            guest.slot.kick(0);
        }
    }
}

pub(super) struct Pages;

impl Target for Pages {
    type Device = Balloon;

    fn device(&mut self) -> Balloon {
        Balloon::new()
    }

    fn act(&mut self, guest: &mut Guest, input: &mut Input<'_>) {
        if !guest.may_offer(0, 1) || !guest.may_offer(2, 1) {
            return;
        }
        match input.byte() & 1 {
            0 => guest.offer(0, &[input.bytes()], &[]),
            _ => guest.offer_buffers(2, &[(input.address(), input.length(), WRITE)]),
        };
        guest.slot.kick(0);
        guest.slot.kick(2);
    }
}

pub(super) struct Disk(File, Access);

impl Disk {
    fn new(access: Access) -> Self {
        let file = File::from(memfd_create("disk", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(1 << 16).unwrap();
        Self(file, access)
    }

    pub(super) fn read_only() -> Self {
        Self::new(Access::ReadOnly)
    }

    pub(super) fn writable() -> Self {
        Self::new(Access::Writable)
    }
}

impl Target for Disk {
    type Device = Block;

    fn device(&mut self) -> Block {
        Block::new(self.0.try_clone().unwrap(), self.1, "fuzz").unwrap()
    }

    fn act(&mut self, guest: &mut Guest, input: &mut Input<'_>) {
        let (kind, sector) = (u32::from(input.byte()), u64::from(input.byte()));
        let length = usize::from(input.byte()) * 256;
        let header = [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat();
        if guest.may_offer(0, 3) {
            match kind {
                0 => guest.offer(0, &[&header], &[length, 1]),
                11 => guest.offer(0, &[&header, input.bytes()], &[1]),
                _ => guest.offer(0, &[&header, &vec![0xaa; length]], &[1]),
            };
            guest.slot.kick(0);
        }
    }
}

/// A console with a reader and a typist.
pub(super) struct Terminal {
    printed: File,
    typed: File,
    output: OwnedFd,
    input: OwnedFd,
}

impl Terminal {
    pub(super) fn new() -> Self {
        let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
        let (printed, output) = pipe_with(flags).unwrap();
        let (input, typed) = pipe_with(flags).unwrap();
        Self {
            printed: printed.into(),
            typed: typed.into(),
            output,
            input,
        }
    }
}

impl Target for Terminal {
    type Device = Console;

    fn device(&mut self) -> Console {
        let input = self.input.try_clone().unwrap();
        Console::new(self.output.try_clone().unwrap(), Some(input)).unwrap()
    }

    fn act(&mut self, guest: &mut Guest, input: &mut Input<'_>) {
        match input.byte() % 3 {
            // A full or an empty pipe is as good as any.
            0 => drop(self.typed.write(input.bytes())),
            1 => drop(self.printed.read(&mut [0; 1 << 16])),
            _ => {
                let text = vec![b'x'; input.half().into()];
                if guest.may_offer(1, 1) {
                    guest.offer(1, &[&text], &[]);
                    guest.slot.kick(1);
                }
            }
        }
    }
}

/// A network card and what is at the other end of its cable.
pub(super) struct Card(Arc<Mutex<VecDeque<Vec<u8>>>>);

pub(super) struct Cable {
    waiting: Arc<Mutex<VecDeque<Vec<u8>>>>,
    event: OwnedFd,
    busy: bool,
}

impl Card {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }
}

impl Link for Cable {
    fn may_transmit(&mut self) -> bool {
        // Every other time.
        self.busy = !self.busy;
        !self.busy
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    fn ready(&mut self) {}

    fn transmit(&mut self, _: [u8; crate::HEADER], mut frame: Reader<'_>) {
        frame.read(&mut [0; 1 << 16]);
    }

    fn next(&mut self, _: Offload) -> Option<(usize, usize)> {
        let waiting = self.waiting.lock().unwrap();
        let length = waiting.front()?.len();
        Some((length.min(60), length))
    }

    fn receive(&mut self, room: &mut Writer<'_>, _: Offload) -> Option<Received> {
        let frame = self.waiting.lock().unwrap().pop_front()?;
        let length = room.write(&frame);
        (length != 0).then_some(Received {
            length,
            checksum: (length > 40).then_some((34, 16)),
            segments: (length > 1500).then_some((1460, 54, false)),
        })
    }

    fn reset(&mut self) {
        self.waiting.lock().unwrap().clear();
    }
}

impl Target for Card {
    type Device = Net<Cable>;

    fn device(&mut self) -> Net<Cable> {
        let event = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let waiting = Arc::clone(&self.0);
        let busy = false;
        Net::new(
            Cable {
                waiting,
                event,
                busy,
            },
            [2; 6],
        )
    }

    fn act(&mut self, guest: &mut Guest, input: &mut Input<'_>) {
        match input.byte() % 4 {
            0 => {
                let frame = vec![b'x'; input.half().into()];
                self.0.lock().unwrap().push_back(frame);
                guest.slot.host_ready();
            }
            1 => {
                let frame = [&[0; 12], input.bytes()].concat();
                if guest.may_offer(1, 1) {
                    guest.offer(1, &[&frame], &[]);
                    guest.slot.kick(1);
                }
            }
            _ => {
                let length = input.half();
                for _ in 0..input.byte() % 32 {
                    if guest.may_offer(0, 1) {
                        guest.offer(0, &[], &[length.into()]);
                    }
                }
                guest.slot.kick(0);
            }
        }
    }
}

/// A socket device with a launcher.
pub(super) struct Sockets {
    channel: OwnedFd,
    streams: Vec<UnixStream>,
    /// The next device hands over no connections.
    forgets: bool,
}

impl Sockets {
    pub(super) fn new() -> Self {
        Self {
            channel: pair().0,
            streams: Vec::new(),
            forgets: false,
        }
    }

    fn accept(&mut self) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut port = [0; 4];
        let mut slices = [std::io::IoSliceMut::new(&mut port)];
        if recvmsg(
            &self.channel,
            &mut slices,
            &mut ancillary,
            RecvFlags::DONTWAIT,
        )
        .is_ok()
        {
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(streams) = message {
                    self.streams.extend(streams.map(UnixStream::from));
                }
            }
        }
    }

    fn connect(&mut self, port: u8) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let streams = [theirs.as_fd()];
        ancillary.push(SendAncillaryMessage::ScmRights(&streams));
        let port = u32::from(port).to_le_bytes();
        let message = [std::io::IoSlice::new(&port)];
        // A full channel is as good as any.
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let _ = sendmsg(&self.channel, &message, &mut ancillary, flags);
        self.streams.push(ours);
    }
}

fn pair() -> (OwnedFd, OwnedFd) {
    let kind = SocketType::SEQPACKET;
    socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap()
}

impl Target for Sockets {
    type Device = Vsock;

    fn device(&mut self) -> Vsock {
        let (ours, theirs) = pair();
        self.channel = ours;
        let device = Vsock::new(3, theirs).unwrap();
        match self.forgets {
            true => device.without_survivors(),
            false => device,
        }
    }

    fn act(&mut self, guest: &mut Guest, input: &mut Input<'_>) {
        let which = input.byte();
        let action = input.byte();
        let stream = match self.streams.len() {
            0 => None,
            count => self.streams.get(usize::from(which) % count),
        };
        if let Some(stream) = stream {
            stream.set_nonblocking(true).unwrap();
        }
        let kind = match action {
            0xe0.. => action,
            _ => action % 9,
        };
        match (kind, stream) {
            (0xe0, _) => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                let _ = rustix::net::send(&self.channel, &[which], flags);
            }
            // The launcher is gone.
            (0xe1, _) => self.channel = pair().0,
            (0xe2, _) => self.forgets = true,
            (0, _) => self.accept(),
            (1, _) => self.connect(which),
            (2, Some(mut stream)) => drop(stream.write(&vec![b'x'; input.half().into()])),
            (3, Some(mut stream)) => drop(stream.read(&mut [0; 1 << 16])),
            (4, Some(stream)) => drop(stream.shutdown(std::net::Shutdown::Write)),
            (5, Some(stream)) => drop(stream.shutdown(std::net::Shutdown::Read)),
            (6, Some(_)) => drop(self.streams.pop()),
            _ => send(guest, input),
        }
    }
}

/// A packet with a header that may be right.
fn send(guest: &mut Guest, input: &mut Input<'_>) {
    let (operation, flags) = (u16::from(input.byte()), u32::from(input.byte()));
    let (guest_port, host_port) = (u32::from(input.byte()), u32::from(input.byte()));
    let host_port = host_port | u32::from(operation & 0x80) << 23;
    let (capacity, forwarded) = (u32::from(input.half()), u32::from(input.half()));
    let data = vec![b'x'; input.half().into()];
    let header = [
        &3_u64.to_le_bytes()[..],
        &2_u64.to_le_bytes(),
        &guest_port.to_le_bytes(),
        &host_port.to_le_bytes(),
        &u32::try_from(data.len()).unwrap().to_le_bytes(),
        &1_u16.to_le_bytes(),
        &(operation & 0x7f).to_le_bytes(),
        &flags.to_le_bytes(),
        &capacity.to_le_bytes(),
        &forwarded.to_le_bytes(),
    ]
    .concat();
    if guest.may_offer(1, 2) {
        guest.offer(1, &[&header, &data], &[]);
        guest.slot.kick(1);
    }
}
