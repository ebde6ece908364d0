//! The launcher's end of the lab's four ports: the command's three streams and the control lines. Knows nothing of what
//! the command is; see `inside.rs` for the other end.
//!
//! Standard input travels in blocks, each after its length (32 bits, little-endian), an empty one being the end of input.
//! Output travels as it is. Control lines from the lab: `ready`, then `exit CODE STDOUT STDERR` with the number of bytes
//! that the streams have carried, or `failed WHY`. Control lines to the lab: `size ROWS COLUMNS`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::Result;

/// The ports' numbers on the virtio-serial device; number 0 is kept for a console by virtio 1.2 §5.3.
pub(crate) const CONTROL: u32 = 1;
/// See [`CONTROL`].
pub(crate) const STDIN: u32 = 2;
/// See [`CONTROL`].
pub(crate) const STDOUT: u32 = 3;
/// See [`CONTROL`].
pub(crate) const STDERR: u32 = 4;

/// What happens in a lab, seen from outside.
pub(crate) enum Event {
    /// The command has been started.
    Ready,
    /// The command has ended, and all of its output has been written.
    Ended(u8),
    /// The agent could not run the command.
    Failed(String),
    /// The launcher's own standard output or error takes no more.
    Unread,
    /// The machine is gone.
    Gone,
}

/// The launcher's ends of the ports, to be started once the machine runs.
pub(crate) struct Streams {
    control: UnixStream,
    stdin: UnixStream,
    stdout: UnixStream,
    stderr: UnixStream,
}

impl Streams {
    /// The streams and the machine's ends of them, by port.
    pub(crate) fn new() -> Result<(Self, Vec<(u32, OwnedFd)>)> {
        let (control, theirs_control) = UnixStream::pair()?;
        let (stdin, theirs_stdin) = UnixStream::pair()?;
        let (stdout, theirs_stdout) = UnixStream::pair()?;
        let (stderr, theirs_stderr) = UnixStream::pair()?;
        let theirs = vec![
            (CONTROL, theirs_control.into()),
            (STDIN, theirs_stdin.into()),
            (STDOUT, theirs_stdout.into()),
            (STDERR, theirs_stderr.into()),
        ];
        Ok((
            Self {
                control,
                stdin,
                stdout,
                stderr,
            },
            theirs,
        ))
    }

    /// Starts carrying. Standard input is not touched before the command runs.
    pub(crate) fn start(self, terminal: bool) -> Result<Receiver<Event>> {
        let (events, receiver) = channel();
        let (stdout_total, stdout_done) = channel();
        let (stderr_total, stderr_done) = channel();
        let (to_stdout, to_stderr) = (rustix::stdio::stdout(), rustix::stdio::stderr());
        let to_stdout = File::from(to_stdout.try_clone_to_owned()?);
        let to_stderr = File::from(to_stderr.try_clone_to_owned()?);
        carry(self.stdout, to_stdout, stdout_total, events.clone());
        carry(self.stderr, to_stderr, stderr_total, events.clone());
        let (control, stdin) = (self.control, self.stdin);
        thread::spawn(move || {
            let mut stdin = Some(stdin);
            let Ok(sizes) = control.try_clone() else {
                return;
            };
            for line in BufReader::new(control).lines().map_while(Result::ok) {
                let words: Vec<&str> = line.split_whitespace().collect();
                match words.as_slice() {
                    ["ready"] => {
                        if let Some(stdin) = stdin.take() {
                            thread::spawn(move || feed(stdin));
                        }
                        if terminal && let Ok(sizes) = sizes.try_clone() {
                            thread::spawn(move || follow_size(sizes));
                        }
                        let _ = events.send(Event::Ready);
                    }
                    ["exit", code, stdout, stderr] => {
                        wait_for_bytes(&stdout_done, stdout);
                        wait_for_bytes(&stderr_done, stderr);
                        let _ = events.send(Event::Ended(code.parse().unwrap_or(u8::MAX)));
                    }
                    _ => {
                        let text = line.strip_prefix("failed ").unwrap_or(&line).to_owned();
                        let _ = events.send(Event::Failed(text));
                    }
                }
            }
            let _ = events.send(Event::Gone);
        });
        Ok(receiver)
    }
}

/// Carries an output stream and tells the total number of bytes written after each block.
fn carry(mut from: UnixStream, mut to: File, total: Sender<u64>, events: Sender<Event>) {
    thread::spawn(move || {
        let mut carried = 0;
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if buffer
                .get(..count)
                .is_none_or(|bytes| to.write_all(bytes).is_err())
            {
                let _ = events.send(Event::Unread);
                return;
            }
            carried += count as u64;
            let _ = total.send(carried);
        }
    });
}

/// Waits until a stream has carried as many bytes as the lab has sent.
fn wait_for_bytes(done: &Receiver<u64>, sent: &str) {
    let sent: u64 = sent.parse().unwrap_or(0);
    let mut carried = 0;
    while carried < sent {
        match done.recv() {
            Ok(total) => carried = total,
            Err(_) => return,
        }
    }
}

/// Carries our standard input to the lab, block by block, and then its end.
fn feed(mut to: UnixStream) {
    let mut from = std::io::stdin().lock();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => 0,
        };
        let length = u32::try_from(count).unwrap_or(0).to_le_bytes();
        let block = buffer.get(..count).unwrap_or_default();
        if to
            .write_all(&length)
            .and_then(|()| to.write_all(block))
            .is_err()
        {
            return;
        }
        if count == 0 {
            // Stay: a port that closes under a reader would lose what is still on its way.
            loop {
                thread::park();
            }
        }
    }
}

/// Tells the lab the size of our terminal, now and when it has changed.
fn follow_size(mut to: UnixStream) {
    let mut last = None;
    loop {
        let size = rustix::termios::tcgetwinsize(rustix::stdio::stdin())
            .ok()
            .map(|size| (size.ws_row, size.ws_col));
        if size != last
            && let Some((rows, columns)) = size
            && writeln!(to, "size {rows} {columns}").is_err()
        {
            return;
        }
        last = size;
        thread::sleep(Duration::from_millis(500));
    }
}
