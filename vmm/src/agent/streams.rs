//! The workload's standard streams. A stream that carries nothing costs nothing:
//! its thread starts with its first byte. Threads, because standard output may
//! block for as long as its reader likes, and signals must pass all the while.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use protocol::Stream;

/// As much as a pipe holds.
const CHUNK: usize = 64 << 10;

/// A stream from the guest to this process's standard output or error.
#[derive(Debug)]
pub(super) struct Output {
    which: Stream,
    state: State,
}

#[derive(Debug)]
enum State {
    /// No byte has been seen yet, but for those that came with the opening frame.
    Idle(UnixStream, Vec<u8>),
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
    pub(super) fn new(which: Stream, stream: UnixStream, first: Vec<u8>) -> Self {
        let state = State::Idle(stream, first);
        Self { which, state }
    }

    pub(super) fn stream(&self) -> Stream {
        self.which
    }

    /// Whether the guest has closed it and every byte is written.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Goes one step on; called when [`Output::as_fd`] is readable.
    pub(super) fn serve(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Done) {
            State::Idle(mut stream, mut first) => {
                let mut bytes = [0; 4096];
                match stream.read(&mut bytes) {
                    Ok(count) => first.extend(bytes.iter().take(count)),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // A connection reset by the guest ends like one that it closed.
                    Err(_) => {}
                }
                if first.is_empty() {
                    State::Done
                } else {
                    copy(self.which, stream, first)
                }
            }
            // The thread's end of the pair is closed: it has ended.
            State::Copying { .. } | State::Done => State::Done,
        };
    }

    /// After the workload's exit: ends a stream that the guest holds open without using it.
    pub(super) fn give_up_when_idle(&mut self) {
        match &mut self.state {
            State::Idle(..) => self.state = State::Done,
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
            State::Idle(stream, _) | State::Copying { thread: stream, .. } => stream.as_fd(),
            State::Done => rustix::stdio::stdin(),
        }
    }
}

fn copy(which: Stream, stream: UnixStream, first: Vec<u8>) -> State {
    let stream = Arc::new(stream);
    let progress = Arc::new(Progress::default());
    let Ok((thread, ends_with_thread)) = UnixStream::pair() else {
        return State::Done;
    };
    let (source, told) = (Arc::clone(&stream), Arc::clone(&progress));
    thread::spawn(move || {
        let sink = if which != Stream::Stderr {
            rustix::stdio::stdout()
        } else {
            rustix::stdio::stderr()
        };
        if pump(&source, sink, &first, &told).is_err() {
            // Nobody reads our output any more: the workload shall learn it.
            let _ = source.shutdown(Shutdown::Both);
        }
        drop(ends_with_thread);
    });
    State::Copying {
        thread,
        stream,
        progress,
        seen: 0,
    }
}

fn pump(
    mut source: &UnixStream,
    sink: BorrowedFd<'_>,
    first: &[u8],
    progress: &Progress,
) -> io::Result<()> {
    write_all(sink, first, progress)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => write_all(sink, buffer.get(..count).unwrap_or_default(), progress)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Ok(()),
        }
    }
}

fn write_all(sink: BorrowedFd<'_>, mut bytes: &[u8], progress: &Progress) -> io::Result<()> {
    progress.writing.store(true, Ordering::Relaxed);
    while !bytes.is_empty() {
        match rustix::io::write(sink, bytes) {
            Ok(count) => {
                progress.bytes.fetch_add(count as u64, Ordering::Relaxed);
                bytes = bytes.get(count..).unwrap_or_default();
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                // Somebody made our standard output non-blocking: wait as if it were not.
                let mut ready = [rustix::event::PollFd::from_borrowed_fd(
                    sink,
                    rustix::event::PollFlags::OUT,
                )];
                let _ = rustix::event::poll(&mut ready, None);
            }
            Err(error) => return Err(error.into()),
        }
    }
    progress.writing.store(false, Ordering::Relaxed);
    Ok(())
}

/// Copies this process's standard input into the guest until either side ends.
pub(super) fn serve_stdin(stream: UnixStream) {
    thread::spawn(move || {
        let mut stream = stream;
        let mut buffer = vec![0; CHUNK];
        loop {
            match rustix::io::read(rustix::stdio::stdin(), &mut buffer[..]) {
                Ok(0) => break,
                Ok(count) => {
                    if stream
                        .write_all(buffer.get(..count).unwrap_or_default())
                        .is_err()
                    {
                        break;
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    let stdin = rustix::stdio::stdin();
                    let mut ready = [rustix::event::PollFd::from_borrowed_fd(
                        stdin,
                        rustix::event::PollFlags::IN,
                    )];
                    let _ = rustix::event::poll(&mut ready, None);
                }
                Err(_) => break,
            }
        }
        let _ = stream.shutdown(Shutdown::Write);
    });
}
