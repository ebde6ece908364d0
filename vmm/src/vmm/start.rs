//! The messages between launcher and VMM, on one `SOCK_SEQPACKET` socket pair: `Start` with its descriptors goes in,
//! `Report` comes out. In between the launcher may have the machine held and written down ([`Order`]), of which it is told.
//!
//! A closed socket is a message too: the launcher is gone, end the guest.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use network::{Files, Neighbours, Port, Transport};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::VmConfig;
use crate::jail::Share;
use crate::machine::report::Report;
use crate::packet;

/// Most disks one virtual machine can have: each takes an interrupt line, and they run out.
pub(crate) const MOST_DISKS: usize = 8;
/// Sockets of published ports, and how long the message may be with them.
const MOST_PORTS: usize = network::MOST_PORTS;
const LONGEST_START: usize = 64 << 10;
/// Kernel log lines and names are short; a report that is longer is not ours.
const LONGEST_MESSAGE: usize = 16 << 10;
/// kvm, kernel, initramfs, channel.
const FIXED_DESCRIPTORS: usize = 4;
/// The files of a saved machine.
const REST_DESCRIPTORS: usize = 2;
/// Files of a network's journal.
const JOURNAL: usize = 2;
/// A network's way to others: the socket and the directory.
const NEIGHBOURS: usize = 2;
/// The device of a network card.
const TAP: usize = 1;
/// Where a network asks whom to ask for names.
const SERVERS: usize = 1;
/// Most shares.
pub(crate) const MOST_SHARES: usize = 64;
/// All at once.
const MOST_DESCRIPTORS: usize = FIXED_DESCRIPTORS
    + REST_DESCRIPTORS
    + MOST_DISKS
    + MOST_PORTS
    + JOURNAL
    + NEIGHBOURS
    + TAP
    + SERVERS
    + MOST_SHARES;

/// All that a VMM process needs.
#[derive(Debug)]
pub(crate) struct Start {
    /// The virtual machine's shape.
    pub(crate) config: VmConfig,
    /// `/dev/kvm`, open for reading and writing.
    pub(crate) kvm: OwnedFd,
    /// An uncompressed x86-64 kernel with a PVH entry point, open for reading.
    pub(crate) kernel: OwnedFd,
    /// A cpio archive with `/init`, open for reading.
    pub(crate) initramfs: OwnedFd,
    /// The VMM's end of the vsock channel (`SOCK_SEQPACKET`).
    pub(crate) channel: OwnedFd,
    /// `/dev/vda`, `/dev/vdb`, … in this order; at most [`MOST_DISKS`].
    pub(crate) disks: Vec<DiskFile>,
    /// Published ports; at most [`MOST_PORTS`].
    pub(crate) ports: Vec<Port>,
    /// Where the network writes down what passes.
    pub(crate) journal: Option<Files>,
    /// The way to the other guests of its network.
    pub(crate) neighbours: Option<Neighbours>,
    /// The device that its network card leads to, instead of a network of ours: a tap without a header of its own but virtio's.
    pub(crate) tap: Option<OwnedFd>,
    /// Who tells the network what name servers the host has now, when asked.
    pub(crate) servers: Option<OwnedFd>,
    /// Directories and files of the host that the guest finds, by these numbers, in its one file system device.
    pub(crate) shares: Vec<Share>,
    /// What is to become of the machine.
    pub(crate) goal: Goal,
}

/// What a VMM is started for.
#[derive(Debug)]
pub(crate) enum Goal {
    /// A container, from the kernel's first instruction on.
    Boot,
    /// A container, from where another machine was saved on.
    Restore {
        rest: Rest,
        /// What it is where that cannot be: a boot, for nothing of a container had happened when it was saved; or nothing.
        or_boot: bool,
    },
    /// To be saved, once the launcher says when.
    Save {
        /// Empty files, open for writing.
        rest: Rest,
        /// What the file is to say of the machine.
        about: Vec<u8>,
    },
}

/// The files of a machine at rest.
#[derive(Debug)]
pub(crate) struct Rest {
    /// Processors and devices.
    pub(crate) machine: OwnedFd,
    /// The content of memory.
    pub(crate) memory: OwnedFd,
}

impl Goal {
    /// The files it takes.
    pub(crate) fn rest(&self) -> Option<&Rest> {
        match self {
            Self::Boot => None,
            Self::Restore { rest, .. } | Self::Save { rest, .. } => Some(rest),
        }
    }
}

/// A file the guest sees as a block device.
#[derive(Debug)]
pub(crate) struct DiskFile {
    /// The open file.
    pub(crate) file: OwnedFd,
    /// Whether the device refuses writes.
    pub(crate) read_only: bool,
}

/// What of `Start` is not a descriptor.
#[derive(Serialize, Deserialize)]
struct Letter {
    config: VmConfig,
    /// Which disks are read-only, and which shares, that come after them.
    read_only: Vec<bool>,
    ports: Vec<(Transport, u16)>,
    journal: bool,
    neighbours: bool,
    tap: bool,
    servers: bool,
    shares_read_only: Vec<bool>,
    goal: Purpose,
}

impl Letter {
    /// How many descriptors come with it, beside the fixed ones.
    fn count(&self) -> usize {
        let journal = if self.journal { JOURNAL } else { 0 };
        let neighbours = if self.neighbours { NEIGHBOURS } else { 0 };
        let rest = match self.goal {
            Purpose::Boot => 0,
            Purpose::Restore(_) | Purpose::Save(_) => REST_DESCRIPTORS,
        };
        let shares = self.shares_read_only.len();
        let tap = if self.tap { TAP } else { 0 };
        let servers = if self.servers { SERVERS } else { 0 };
        let network = self.ports.len() + journal + neighbours + tap + servers;
        rest + self.read_only.len() + shares + network
    }
}

/// [`Goal`] without its descriptors.
#[derive(Serialize, Deserialize)]
enum Purpose {
    Boot,
    /// Or to be booted, perhaps.
    Restore(bool),
    Save(Vec<u8>),
}

/// A message between launcher and VMM that did not pass.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    /// The socket refused.
    #[error("Passing a message between launcher and VMM failed")]
    Socket(#[from] Errno),
    /// The other side is gone.
    #[error("The other side closed the socket between launcher and VMM")]
    Closed,
    /// Bytes that are no such message.
    #[error("A message between launcher and VMM is malformed")]
    Malformed(#[from] postcard::Error),
    /// Descriptors are missing or too many.
    #[error("The launcher's message carries {0} descriptors, which do not fit its text")]
    Descriptors(usize),
    /// More disks than there are interrupt lines.
    #[error("A virtual machine has at most {MOST_DISKS} disks, not {0}")]
    Disks(usize),
    /// More sockets than a message carries.
    #[error(
        "A container has at most {MOST_PORTS} published ports, counted for IPv4 and IPv6 apart, not {0}"
    )]
    Ports(usize),
    /// More shares than descriptors pass.
    #[error("A container has at most {MOST_SHARES} volumes, not {0}")]
    Shares(usize),
}

impl Start {
    /// Sends everything to the VMM at the other end of `socket`. May be called before the VMM process exists.
    pub(crate) fn send(&self, socket: impl AsFd) -> Result<(), StartError> {
        if self.disks.len() > MOST_DISKS {
            return Err(StartError::Disks(self.disks.len()));
        }
        if self.ports.len() > MOST_PORTS {
            return Err(StartError::Ports(self.ports.len()));
        }
        if self.shares.len() > MOST_SHARES {
            return Err(StartError::Shares(self.shares.len()));
        }
        let letter = Letter {
            config: self.config.clone(),
            read_only: self.disks.iter().map(|disk| disk.read_only).collect(),
            shares_read_only: self.shares.iter().map(|share| share.read_only).collect(),
            goal: match &self.goal {
                Goal::Boot => Purpose::Boot,
                Goal::Restore { or_boot, .. } => Purpose::Restore(*or_boot),
                Goal::Save { about, .. } => Purpose::Save(about.clone()),
            },
            ports: self
                .ports
                .iter()
                .map(|port| (port.transport, port.guest))
                .collect(),
            journal: self.journal.is_some(),
            neighbours: self.neighbours.is_some(),
            tap: self.tap.is_some(),
            servers: self.servers.is_some(),
        };
        let journal = self.journal.iter();
        let neighbours = self.neighbours.iter();
        let text = postcard::to_allocvec(&letter)?;
        let fixed = [&self.kvm, &self.kernel, &self.initramfs, &self.channel];
        let descriptors: Vec<BorrowedFd<'_>> = fixed
            .into_iter()
            .chain(
                self.goal
                    .rest()
                    .into_iter()
                    .flat_map(|rest| [&rest.machine, &rest.memory]),
            )
            .chain(self.disks.iter().map(|disk| &disk.file))
            .chain(self.shares.iter().map(|share| &share.root))
            .chain(self.ports.iter().map(|port| &port.socket))
            .chain(neighbours.flat_map(|way| [&way.socket, &way.directory]))
            .chain(&self.tap)
            .chain(&self.servers)
            .chain(journal.flat_map(|files| [&files.log, &files.counts]))
            .map(AsFd::as_fd)
            .collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(
            socket,
            &[IoSlice::new(&text)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )?;
        Ok(())
    }

    /// Waits for the launcher's message.
    pub(crate) fn receive(socket: impl AsFd) -> Result<Self, StartError> {
        let mut text = packet::room(&socket, LONGEST_START, RecvFlags::empty())?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut text)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        if received.bytes == 0 {
            return Err(StartError::Closed);
        }
        let mut descriptors: Vec<OwnedFd> = Vec::with_capacity(MOST_DESCRIPTORS);
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                descriptors.extend(some);
            }
        }
        let letter: Letter = postcard::from_bytes(text.get(..received.bytes).unwrap_or_default())?;
        let count = descriptors.len();
        if received.flags.contains(ReturnFlags::CTRUNC)
            || count != FIXED_DESCRIPTORS + letter.count()
        {
            return Err(StartError::Descriptors(count));
        }
        let mut descriptors = descriptors.into_iter();
        let (Some(kvm), Some(kernel), Some(initramfs), Some(channel)) = (
            descriptors.next(),
            descriptors.next(),
            descriptors.next(),
            descriptors.next(),
        ) else {
            return Err(StartError::Descriptors(count));
        };
        let mut rest = || {
            let mut next = || descriptors.next().ok_or(StartError::Descriptors(count));
            let (machine, memory) = (next()?, next()?);
            Ok::<_, StartError>(Rest { machine, memory })
        };
        let goal = match letter.goal {
            Purpose::Boot => Goal::Boot,
            Purpose::Restore(or_boot) => Goal::Restore {
                rest: rest()?,
                or_boot,
            },
            Purpose::Save(about) => Goal::Save {
                rest: rest()?,
                about,
            },
        };
        let disks = descriptors.by_ref().take(letter.read_only.len());
        let disks = disks
            .zip(letter.read_only)
            .map(|(file, read_only)| DiskFile { file, read_only })
            .collect();
        let shares = descriptors.by_ref().take(letter.shares_read_only.len());
        let shares = shares
            .zip(letter.shares_read_only)
            .map(|(root, read_only)| Share { root, read_only })
            .collect();
        let ports = descriptors.by_ref().take(letter.ports.len());
        let ports = ports
            .zip(letter.ports)
            .map(|(socket, (transport, guest))| Port {
                transport,
                guest,
                socket,
            })
            .collect();
        let neighbours = match letter.neighbours {
            false => None,
            true => match (descriptors.next(), descriptors.next()) {
                (Some(socket), Some(directory)) => Some(Neighbours {
                    socket,
                    directory,
                    prefix: "",
                }),
                _ => return Err(StartError::Descriptors(count)),
            },
        };
        let mut one = |is_there: bool| match is_there {
            true => descriptors
                .next()
                .map(Some)
                .ok_or(StartError::Descriptors(count)),
            false => Ok(None),
        };
        let (tap, servers) = (one(letter.tap)?, one(letter.servers)?);
        let journal = match (descriptors.next(), descriptors.next()) {
            (Some(log), Some(counts)) => Some(Files { log, counts }),
            _ => None,
        };
        Ok(Self {
            config: letter.config,
            kvm,
            kernel,
            initramfs,
            channel,
            disks,
            goal,
            ports,
            journal,
            neighbours,
            tap,
            servers,
            shares,
        })
    }
}

/// What a launcher says while the guest runs.
#[derive(Debug)]
pub(crate) enum Order {
    /// Save the machine and end: it was started for that.
    Save,
    /// Hold the machine where it is, write it into these empty files, and say so.
    Hold(Rest),
    /// The same, with its memory written by a process of its own, while the machine goes on: that is told by itself.
    Part(Rest),
    /// Let it go on.
    GoOn,
}

impl Order {
    /// Sends it to the VMM.
    pub(crate) fn send(&self, socket: impl AsFd) -> Result<(), StartError> {
        let (word, files) = match self {
            Self::Save => (1, Vec::new()),
            Self::Hold(rest) => (2, vec![rest.machine.as_fd(), rest.memory.as_fd()]),
            Self::GoOn => (3, Vec::new()),
            Self::Part(rest) => (4, vec![rest.machine.as_fd(), rest.memory.as_fd()]),
        };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(REST_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&files));
        }
        let text = [word];
        let flags = SendFlags::NOSIGNAL;
        sendmsg(socket, &[IoSlice::new(&text)], &mut ancillary, flags)?;
        Ok(())
    }

    /// Waits for the launcher's next one. `Closed` where it has none to give any more.
    pub(crate) fn receive(socket: impl AsFd) -> Result<Self, StartError> {
        let mut text = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(REST_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut text)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        let mut files = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        });
        let mut files = files.next().into_iter().flatten();
        match (received.bytes, text, files.next(), files.next()) {
            (1, [1], None, None) => Ok(Self::Save),
            (1, [2], Some(machine), Some(memory)) => Ok(Self::Hold(Rest { machine, memory })),
            (1, [3], None, None) => Ok(Self::GoOn),
            (1, [4], Some(machine), Some(memory)) => Ok(Self::Part(Rest { machine, memory })),
            _ => Err(StartError::Closed),
        }
    }
}

/// What a VMM says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Word {
    /// Its last.
    Report(Report),
    /// The machine is held and written down, or its memory is about to be by a process of its own; or why not, and then it runs.
    Held(Result<(), String>),
    /// That process has written the memory, or why not.
    Written(Result<(), String>),
}

/// Says it to the launcher.
pub(crate) fn send_word(socket: impl AsFd, word: &Word) -> Result<(), StartError> {
    let text = postcard::to_allocvec(word)?;
    rustix::net::send(socket, &text, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits for the VMM's next word, or, on a stream, for the only one of the process that writes memory; `Closed` means that it died
/// without any.
pub(crate) fn receive_word(socket: impl AsFd) -> Result<Word, StartError> {
    let mut text = vec![0; LONGEST_MESSAGE];
    let (length, _) = rustix::net::recv(socket, &mut text[..], RecvFlags::empty())?;
    if length == 0 {
        return Err(StartError::Closed);
    }
    Ok(postcard::from_bytes(
        text.get(..length).unwrap_or_default(),
    )?)
}

#[cfg(test)]
mod tests;
