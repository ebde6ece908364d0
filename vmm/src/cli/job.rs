//! Something that guest init does for a verb, in a container that runs or, on its disk, in one that does not: how it is
//! asked, and the streams that come of it. What the guest says is bounded, timed, and told escaped.

use std::io::{self, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use protocol::{FrameError, Item, Status, Stream, Work};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::container::Container;
use crate::control::{Answer, Ended, Request, Socket};
use crate::failure::Failure;
use crate::supervise::{self, Parts};
use crate::{host, session, store};

/// From the question to the streams: a supervisor answers at once, a machine has to boot.
const LIMIT: Duration = Duration::from_secs(200);
/// How long the end may take after the last byte.
const END_LIMIT: Duration = Duration::from_secs(30);
/// Bytes of a complaint that are shown.
const LONGEST: u64 = 4096;

/// Why the stream of items is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum ItemsError {
    #[error("The guest sent something else than was asked for")]
    Unexpected,
    #[error("The guest's answer was cut short")]
    Short,
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// A piece of work under way.
#[derive(Debug)]
pub(super) struct Job {
    socket: Socket,
    output: BufReader<Box<dyn Source>>,
    input: Option<UnixStream>,
    complaint: JoinHandle<String>,
}

/// Where bytes come from.
trait Source: Read + Send + std::fmt::Debug {}

impl<T: Read + Send + std::fmt::Debug> Source for T {}

impl Job {
    /// Has it done in this container.
    pub(super) fn start(
        container: &Container,
        root: Option<PathBuf>,
        work: Work,
    ) -> Result<Self, Failure> {
        let stdin = matches!(work, Work::Unpack { .. });
        let socket = match super::ask::connect(container)? {
            Some(_) => {
                let socket = super::ask::awake(container)?;
                socket.send(&Request::Work(work), None)?;
                socket
            }
            None => alone(container, root, work)?,
        };
        let mut streams = Streams::default();
        let start = Instant::now();
        while !streams.are_there(stdin) {
            let left = LIMIT.checked_sub(start.elapsed());
            let left = left.ok_or_else(|| silent(container))?;
            if wait(&socket, left)?
                && let Some((answer, descriptor)) = socket.receive::<Answer>(false)?
            {
                streams.take(answer, descriptor)?;
            }
        }
        let Streams {
            output: Some((first, output)),
            error: Some((said, error)),
            input,
        } = streams
        else {
            return Err(silent(container));
        };
        let complaint = Builder::new().spawn(move || {
            let mut text = said;
            let _ = error.take(LONGEST).read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        })?;
        Ok(Self {
            socket,
            output: BufReader::with_capacity(
                64 << 10,
                Box::new(io::Cursor::new(first).chain(output)),
            ),
            input,
            complaint,
        })
    }

    /// The next item; nothing at the end. `bytes` reads what follows it.
    pub(super) fn next(&mut self) -> Result<Option<Item>, ItemsError> {
        match protocol::read(&mut self.output)? {
            Some(Item::End) => Ok(None),
            Some(item) => Ok(Some(item)),
            None => Err(ItemsError::Short),
        }
    }

    /// The bytes after an item.
    pub(super) fn bytes(&mut self) -> &mut dyn Read {
        &mut self.output
    }

    /// Where to write items and the bytes after them.
    pub(super) fn input(&mut self) -> Result<&mut dyn Write, Failure> {
        match &mut self.input {
            Some(input) => Ok(input),
            None => Err(Failure::new("The guest takes no input")),
        }
    }

    /// Waits for the end. `done` is how the caller fared; why the guest gave up says more than that its stream broke.
    pub(super) fn finish(mut self, done: Result<(), Failure>) -> Result<(), Failure> {
        drop(self.input.take());
        drop(self.output);
        let start = Instant::now();
        let ended = loop {
            let Some(left) = END_LIMIT.checked_sub(start.elapsed()) else {
                break None;
            };
            if wait(&self.socket, left)?
                && let Some((Answer::Ended(ended), _)) = self.socket.receive(false)?
            {
                break Some(*ended);
            }
        };
        let Some(Ended { result, .. }) = ended else {
            done?;
            return Err(Failure::new("The guest does not come to an end"));
        };
        match result? {
            Status::Code(0) => done,
            status => {
                let complaint = self.complaint.join().unwrap_or_default();
                match complaint.is_empty() {
                    // It was cut off because the caller had enough.
                    true => done.and_then(|()| {
                        let code = session::exit_code(status);
                        Err(Failure::new(format!("Guest init gave up ({code})")))
                    }),
                    false => Err(Failure::new(complaint)),
                }
            }
        }
        .map_err(|failure| failure.code(1))
    }
}

/// In a machine of its own, on the disk that the container has left.
fn alone(container: &Container, root: Option<PathBuf>, work: Work) -> Result<Socket, Failure> {
    let name = &container.config.name;
    if !container.config.keeps() {
        let text = format!("Container {name} does not run, and what it wrote was in its memory");
        return Err(Failure::new(text)
            .code(1)
            .hint("Containers made without --rm, or with --storage SIZE, keep a disk."));
    }
    host::check()?;
    let parts = Parts::of(container, &store::open(root)?)?;
    let supervision = container.supervise()?;
    supervise::work(container, supervision, container.task()?, &parts, work)
}

fn silent(container: &Container) -> Failure {
    let name = &container.config.name;
    Failure::new(format!("The guest of container {name} does not answer")).code(1)
}

/// Whether something came within this time.
fn wait(socket: &Socket, limit: Duration) -> Result<bool, Failure> {
    let timeout = Timespec::try_from(limit).ok();
    let mut ready = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)];
    match poll(&mut ready, timeout.as_ref()) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[derive(Default)]
struct Streams {
    output: Option<(Vec<u8>, UnixStream)>,
    error: Option<(Vec<u8>, UnixStream)>,
    input: Option<UnixStream>,
}

impl Streams {
    fn are_there(&self, stdin: bool) -> bool {
        self.output.is_some() && self.error.is_some() && (self.input.is_some() || !stdin)
    }

    fn take(&mut self, answer: Answer, descriptor: Option<OwnedFd>) -> Result<(), Failure> {
        match (answer, descriptor.map(UnixStream::from)) {
            (Answer::Stream(Stream::Stdout, first), Some(stream)) => {
                self.output = Some((first, stream));
            }
            (Answer::Stream(_, first), Some(stream)) => self.error = Some((first, stream)),
            (Answer::Stdin, Some(stream)) => self.input = Some(stream),
            (Answer::Refused(why), _) => return Err(Failure::new(why).code(1)),
            (Answer::Ended(ended), _) => {
                ended.result?;
                return Err(Failure::new("The container has ended").code(1));
            }
            _ => {}
        }
        Ok(())
    }
}
