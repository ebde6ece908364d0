//! A process's standard streams on their way to whoever reads them. A stream that carries nothing costs nothing:
//! its thread starts with its first byte. Threads, because a reader may take as long as it likes, and signals must
//! pass all the while.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Builder;

use protocol::Stream;

use super::fan::Fan;
use crate::terminal::Watch;

/// As much as a pipe holds.
const CHUNK: usize = 64 << 10;

/// A stream from the guest.
#[derive(Debug)]
pub(crate) struct Output {
    sink: Sink,
    state: State,
}

/// Where a stream goes.
#[derive(Debug, Clone)]
pub(crate) enum Sink {
    /// To this process's standard output, or error.
    Own(Stream),
    /// To everybody who wants it.
    Fan(Fan),
    /// Nowhere.
    Nobody,
}

#[derive(Debug)]
enum State {
    /// No byte has been seen yet.
    Idle(UnixStream),
    /// A thread copies; `thread` reads as closed when it has ended.
    Copying {
        thread: UnixStream,
        stream: Arc<UnixStream>,
        progress: Arc<Progress>,
        seen: u64,
    },
    Done,
}

/// How far a copying thread is.
#[derive(Debug, Default)]
struct Progress {
    bytes: AtomicU64,
    /// It waits for whoever reads our output, not for the guest.
    writing: AtomicBool,
}

impl Output {
    /// `first` came with the opening frame.
    pub(crate) fn new(sink: Sink, stream: UnixStream, first: Vec<u8>) -> io::Result<Self> {
        let state = match first.is_empty() {
            true => State::Idle(stream),
            false => copy(sink.clone(), stream, first)?,
        };
        Ok(Self { sink, state })
    }

    /// Another end of the connection, to write to: a terminal's goes both ways.
    pub(crate) fn input(&self) -> Option<UnixStream> {
        match &self.state {
            State::Idle(stream) => stream.try_clone().ok(),
            State::Copying { stream, .. } => stream.try_clone().ok(),
            State::Done => None,
        }
    }

    /// Whether it is this stream of the container's.
    pub(crate) fn carries(&self, which: Stream) -> bool {
        matches!(&self.sink, Sink::Fan(fan) if fan.stream() == which)
    }

    /// Whether the guest has closed it and every byte is written.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Goes one step on; called when [`Output::as_fd`] is readable.
    pub(crate) fn serve(&mut self) -> io::Result<()> {
        self.state = match std::mem::replace(&mut self.state, State::Done) {
            State::Idle(stream) => {
                let mut first = vec![0; 4096];
                // A connection reset by the guest ends like one that it closed.
                let count = rustix::io::retry_on_intr(|| rustix::io::read(&stream, &mut first));
                first.truncate(count.unwrap_or(0));
                if first.is_empty() {
                    self.sink.close();
                    State::Done
                } else {
                    copy(self.sink.clone(), stream, first)?
                }
            }
            // The thread's end of the pair is closed: it has ended.
            State::Copying { .. } | State::Done => State::Done,
        };
        Ok(())
    }

    /// After the workload's exit: ends a stream that the guest holds open without using it.
    pub(crate) fn give_up_when_idle(&mut self) {
        match &mut self.state {
            State::Idle(_) => {
                self.sink.close();
                self.state = State::Done;
            }
            State::Copying {
                stream,
                progress,
                seen,
                ..
            } => {
                let bytes = progress.bytes.load(Ordering::Relaxed);
                if bytes == *seen && !progress.writing.load(Ordering::Relaxed) {
                    let _ = stream.shutdown(Shutdown::Read);
                }
                *seen = bytes;
            }
            State::Done => {}
        }
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.state {
            State::Idle(stream) | State::Copying { thread: stream, .. } => stream.as_fd(),
            State::Done => rustix::stdio::stdin(),
        }
    }
}

impl Sink {
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Own(Stream::Stderr) => write_all(rustix::stdio::stderr(), bytes),
            Self::Own(_) => write_all(rustix::stdio::stdout(), bytes),
            Self::Fan(fan) => fan.write(bytes),
            Self::Nobody => Ok(()),
        }
    }

    fn close(&self) {
        if let Self::Fan(fan) = self {
            fan.close();
        }
    }
}

fn copy(sink: Sink, stream: UnixStream, first: Vec<u8>) -> io::Result<State> {
    let stream = Arc::new(stream);
    let progress = Arc::new(Progress::default());
    let (thread, ends_with_thread) = UnixStream::pair()?;
    let (source, told) = (Arc::clone(&stream), Arc::clone(&progress));
    Builder::new().spawn(move || {
        if pump(&source, &sink, &first, &told).is_err() {
            // Nobody reads our output any more: the workload shall learn it.
            let _ = source.shutdown(Shutdown::Both);
        }
        sink.close();
        drop(ends_with_thread);
    })?;
    Ok(State::Copying {
        thread,
        stream,
        progress,
        seen: 0,
    })
}

fn pump(mut source: &UnixStream, sink: &Sink, first: &[u8], progress: &Progress) -> io::Result<()> {
    let write = |bytes: &[u8]| -> io::Result<()> {
        progress.writing.store(true, Ordering::Relaxed);
        sink.write(bytes)?;
        progress
            .bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        progress.writing.store(false, Ordering::Relaxed);
        Ok(())
    };
    write(first)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => write(buffer.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Ok(()),
        }
    }
}

fn write_all(sink: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(sink, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            // Somebody made our standard output non-blocking: wait as if it were not.
            Err(rustix::io::Errno::AGAIN) => {
                wait_for(sink, rustix::event::PollFlags::OUT);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn wait_for(descriptor: BorrowedFd<'_>, what: rustix::event::PollFlags) {
    let mut ready = [rustix::event::PollFd::from_borrowed_fd(descriptor, what)];
    let _ = rustix::event::poll(&mut ready, None);
}

/// Copies this process's standard input into the guest until either side ends. At its own end it closes the guest's, if
/// `once`. With `detached`, these keys are looked for, and it ends (so that who holds the other end sees it) when they
/// were typed.
pub(crate) fn serve_stdin(
    stream: UnixStream,
    once: bool,
    mut detached: Option<(UnixStream, Watch)>,
) -> io::Result<()> {
    let thread = Builder::new().spawn(move || {
        let mut stream = stream;
        let mut buffer = vec![0; CHUNK];
        loop {
            let bytes = match rustix::io::read(rustix::stdio::stdin(), &mut buffer[..]) {
                Ok(0) => break,
                Ok(count) => buffer.get(..count).unwrap_or_default(),
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::AGAIN) => {
                    wait_for(rustix::stdio::stdin(), rustix::event::PollFlags::IN);
                    continue;
                }
                Err(_) => break,
            };
            let kept;
            let bytes = match &mut detached {
                None => bytes,
                Some((_, watch)) => {
                    kept = watch.pass(bytes);
                    &kept
                }
            };
            if stream.write_all(bytes).is_err() {
                break;
            }
            if let Some((detached, watch)) = &detached
                && watch.is_over()
            {
                drop(stream);
                let _ = (&*detached).write_all(b"d");
                return;
            }
        }
        if once {
            let _ = stream.shutdown(Shutdown::Write);
        }
    });
    thread.map(drop)
}
