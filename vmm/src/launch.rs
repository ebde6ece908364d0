//! Starts a VMM process and holds the two sockets that lead to it: the channel
//! of vsock connections and the one for start and report. It knows no agent.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitStatus;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
    recvmsg, socketpair,
};
use rustix::process::Signal;

use crate::cgroup::Limits;
use crate::config::VmConfig;
use crate::jail::{Process, Share};
use crate::library::Opened;
use crate::machine::report::Report;
use crate::vmm::{DiskFile, Goal, Order, Start, StartError, Word, receive_word};

/// The device that runs guests.
pub(crate) const KVM: &str = "/dev/kvm";

/// What a VMM and the host's kernel may take for a machine, in bytes, beside its memory and a sixteenth of that for the tables that lead
/// to it: most of it for what goes through the host's page cache and sockets.
const OVERHEAD: u64 = 256 << 20;
/// Threads beside those of processors: of devices, of the host's kernel, and of whatever saves the machine.
const TASKS: u64 = 16;

/// Why there is no VMM process.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("Cannot open {KVM}")]
    Kvm(#[source] io::Error),
    #[error("Cannot make a socket pair")]
    Socket(#[source] Errno),
    #[error("Cannot start the VMM process")]
    Process(#[source] io::Error),
    #[error(transparent)]
    Start(#[from] StartError),
}

/// A VMM process that boots its guest. Dropping it ends the guest, for the VMM
/// ends when its sockets close.
#[derive(Debug)]
pub(crate) struct Vmm {
    process: Process,
    report: OwnedFd,
    channel: OwnedFd,
    /// Bytes of its guest's memory, if its own memory has a limit.
    memory: Option<u64>,
}

/// Whether a file lies on a tmpfs.
fn is_memory(file: &OwnedFd) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|about| about.f_type == libc::TMPFS_MAGIC)
}

/// Bytes that a VMM with so much guest memory may take.
fn most_memory(guest: u64) -> u64 {
    guest / 16 * 17 + OVERHEAD
}

/// What of the host a machine's devices lead to, beside its disks.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    /// Published ports.
    pub(crate) ports: Vec<network::Port>,
    /// Where its network writes.
    pub(crate) journal: Option<network::Files>,
    /// The way to the other guests of its network.
    pub(crate) neighbours: Option<network::Neighbours>,
    /// The device that its network card leads to instead.
    pub(crate) tap: Option<OwnedFd>,
    /// Who tells it of other name servers.
    pub(crate) servers: Option<OwnedFd>,
    /// Directories and files that it sees.
    pub(crate) shares: Vec<Share>,
}

/// Opens `/dev/kvm` as a VMM needs it.
pub(crate) fn open_kvm() -> Result<OwnedFd, LaunchError> {
    let file = OpenOptions::new().read(true).write(true).open(KVM);
    Ok(file.map_err(LaunchError::Kvm)?.into())
}

impl Vmm {
    /// Starts this program again as a VMM and hands it all it will ever have.
    pub(crate) fn start(
        config: VmConfig,
        kernel: Opened,
        initramfs: Opened,
        disks: Vec<DiskFile>,
        outside: Outside,
        goal: Goal,
    ) -> Result<Self, LaunchError> {
        let kvm = open_kvm()?;
        let (report, report_end) = pair()?;
        let (channel, channel_end) = pair()?;
        // Where files are memory, it has as much of that as it may write.
        let has_limit = disks.iter().all(|disk| !is_memory(&disk.file))
            && outside.shares.iter().all(|share| share.read_only);
        let memory = has_limit.then_some(config.memory.bytes());
        let limits = Limits {
            memory: memory.map(most_memory),
            tasks: u64::from(config.cpus.count()) + TASKS,
        };
        let start = Start {
            config,
            kvm,
            kernel: kernel.file.into(),
            initramfs: initramfs.file.into(),
            channel: channel_end,
            disks,
            shares: outside.shares,
            goal,
            ports: outside.ports,
            journal: outside.journal,
            neighbours: outside.neighbours,
            tap: outside.tap,
            servers: outside.servers,
        };
        start.send(&report)?;
        let process = Process::start(&report_end, limits).map_err(LaunchError::Process)?;
        Ok(Self {
            process,
            report,
            channel,
            memory,
        })
    }

    /// A VMM of a test's own making: `process` and the VMM's ends of report and channel.
    #[cfg(test)]
    pub(crate) fn of_test(process: Process) -> (Self, OwnedFd, OwnedFd) {
        let (report, report_end) = pair().unwrap();
        let (channel, channel_end) = pair().unwrap();
        let vmm = Self {
            process,
            report,
            channel,
            memory: None,
        };
        (vmm, report_end, channel_end)
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Stops the process where it is, its guest with it, or lets it go on.
    pub(crate) fn freeze(&self, freeze: bool) -> Result<(), Errno> {
        self.process
            .signal(if freeze { Signal::STOP } else { Signal::CONT })
    }

    /// Lets it have its guest's memory `twice`, while the one is written and the other goes on, or once again.
    pub(crate) fn have_memory(&self, twice: bool) -> io::Result<()> {
        let Some(memory) = self.memory else {
            return Ok(());
        };
        let copy = if twice { memory } else { 0 };
        self.process.limit_memory(most_memory(memory) + copy)
    }

    /// Ends the process, whatever it does.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.signal(Signal::KILL);
        let _ = self.process.wait();
    }

    /// Lets go of its sockets, which ends the guest.
    pub(crate) fn into_process(self) -> Process {
        self.process
    }

    /// Readable when the VMM has said its last word or died.
    pub(crate) fn report_fd(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }

    /// Readable when the guest has opened a connection.
    pub(crate) fn channel_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// The VMM's next word; an exit status when it died without one.
    pub(crate) fn word(&mut self) -> Result<Word, Died> {
        receive_word(&self.report).map_err(|_| {
            // Its sockets are closed, so it is past its last instruction, or will be once killed.
            let _ = self.process.signal(Signal::KILL);
            let status = self.process.wait().ok();
            let out_of_memory = self.process.was_out_of_memory();
            Died {
                status,
                out_of_memory,
            }
        })
    }

    /// Its last one.
    pub(crate) fn report(&mut self) -> Result<Report, Died> {
        loop {
            if let Word::Report(report) = self.word()? {
                return Ok(report);
            }
        }
    }

    /// Has it do something.
    pub(crate) fn order(&self, order: &Order) -> Result<(), StartError> {
        order.send(&self.report)
    }

    /// The next connection that the guest opened; `None` when the channel is closed.
    pub(crate) fn accept(&self) -> Result<Option<Accepted>, Errno> {
        let mut text = [0; 8];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let message = recvmsg(
            &self.channel,
            &mut [IoSliceMut::new(&mut text)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
        )?;
        let stream = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        let [p0, p1, p2, p3, ..] = text;
        let port = u32::from_le_bytes([p0, p1, p2, p3]);
        let accepted = |stream: OwnedFd, survived| Accepted {
            port,
            stream: stream.into(),
            survived,
        };
        Ok(match (stream, message.bytes) {
            (Some(stream), 4) => Some(accepted(stream, false)),
            (Some(stream), 8) => Some(accepted(stream, true)),
            _ => None,
        })
    }
}

/// A connection of the guest's.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// The port that it asked for.
    pub(crate) port: u32,
    pub(crate) stream: UnixStream,
    /// The guest opened it before it was saved.
    pub(crate) survived: bool,
}

/// A VMM process that ended without a report.
#[derive(Debug)]
pub(crate) struct Died {
    status: Option<ExitStatus>,
    out_of_memory: bool,
}

/// The end of a sentence that says so.
impl fmt::Display for Died {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            _ if self.out_of_memory => write!(
                out,
                ": with all that the host did for it, it took more than {} MiB beside its guest's memory",
                OVERHEAD >> 20
            ),
            Some(status) => write!(out, " ({status})"),
            None => Ok(()),
        }
    }
}

fn pair() -> Result<(OwnedFd, OwnedFd), LaunchError> {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(LaunchError::Socket)
}
