//! The host's end of a guest init that runs in a PID namespace of this machine.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use protocol::{
    Container, Failure, FromGuest, FromHost, Opening, Privileges, Process, ProcessId, Status,
    Stream,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

const FIRST: ProcessId = ProcessId(1);
const LIMIT: Timespec = Timespec {
    tv_sec: 120,
    tv_nsec: 0,
};

/// A guest init and its connections.
pub(crate) struct Guest {
    init: Child,
    control: UnixStream,
    listener: UnixListener,
    streams: HashMap<(ProcessId, Stream), UnixStream>,
    /// How many connections for output each process had.
    outputs: HashMap<ProcessId, u8>,
    _directory: tempfile::TempDir,
}

/// How a process ended, and all it wrote.
#[derive(Debug)]
pub(crate) struct End {
    pub status: Status,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

pub(crate) fn process(argv: &[&str]) -> Process {
    Process {
        id: FIRST,
        argv: argv.iter().map(|argument| (*argument).into()).collect(),
        env: Vec::new(),
        cwd: "".into(),
        user: "".into(),
        groups: Vec::new(),
        stdin: false,
        terminal: None,
        privileges: Privileges::FULL,
        limits: Vec::new(),
        filters: Vec::new(),
    }
}

pub(crate) fn sh(script: &str) -> Process {
    process(&["sh", "-c", script])
}

impl Guest {
    fn start(process: &Process) -> Self {
        Self::start_in(
            None,
            &Container {
                hostname: "test".into(),
                ..Container::default()
            },
            process,
        )
    }

    fn start_in(image: Option<&Path>, container: &Container, process: &Process) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "These tests make namespaces: run them as root"
        );
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("host")).unwrap();
        std::fs::create_dir(directory.path().join("root")).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
        if let Some(image) = image {
            command
                .args(["--uts", "--ipc", "--net"])
                .env("HULL_TEST_IMAGE", image);
        }
        let init = command
            .args(["env", "--default-signal", env!("CARGO_BIN_EXE_supervise")])
            .env("HULL_TEST_DIRECTORY", directory.path())
            .stdout(Stdio::piped())
            .current_dir("/")
            .spawn()
            .unwrap();
        let mut control = accept(&listener);
        let hello = protocol::read::<Opening>(&mut control).unwrap();
        assert!(
            matches!(&hello, Some(Opening::Hello(hello)) if hello.tsc_at_start > 0),
            "{hello:?}"
        );
        let mut guest = Self {
            init,
            control,
            listener,
            streams: HashMap::new(),
            outputs: HashMap::new(),
            _directory: directory,
        };
        guest.send(&FromHost::Run {
            container: container.clone(),
            process: process.clone(),
        });
        guest
    }

    /// Starts the first process in a furnished root over the files of `image`.
    pub(crate) fn run_in(image: &Path, container: &Container, process: &Process) -> Self {
        let mut guest = Self::start_in(Some(image), container, process);
        guest.started(process);
        guest
    }

    /// Asks for a container that cannot be furnished, and gives why.
    pub(crate) fn refuse(image: &Path, container: &Container) -> String {
        Self::start_in(Some(image), container, &process(&["true"])).last_words()
    }

    /// Starts the first process.
    pub(crate) fn run(process: Process) -> Self {
        let mut guest = Self::start(&process);
        guest.started(&process);
        guest
    }

    /// Starts a further process.
    pub(crate) fn exec(&mut self, process: Process) {
        self.send(&FromHost::Exec {
            process: process.clone(),
        });
        self.started(&process);
    }

    fn started(&mut self, process: &Process) {
        let answer = self.receive();
        assert!(
            matches!(answer, Some(FromGuest::Started { process: id, .. }) if id == process.id),
            "{answer:?}"
        );
    }

    /// Takes the next connection.
    fn take_stream(&mut self) {
        let mut stream = accept(&self.listener);
        let attach = match protocol::read(&mut stream).unwrap() {
            Some(Opening::Attach(attach)) => attach,
            // Made for a process that then could not run.
            None => return,
            Some(other) => panic!("{other:?}"),
        };
        if attach.stream != Stream::Stdin {
            *self.outputs.entry(attach.process).or_default() += 1;
        }
        let before = self.streams.insert((attach.process, attach.stream), stream);
        assert!(before.is_none());
    }

    /// Asks for a process that cannot run.
    pub(crate) fn fail(process: Process) -> (Failure, String) {
        let mut guest = Self::start(&process);
        match guest.receive() {
            Some(FromGuest::Failed {
                process: FIRST,
                failure,
                message,
            }) => (failure, message),
            other => panic!("{other:?}"),
        }
    }

    /// Takes a stream's connection out: it is not read by `finish` any more.
    pub(crate) fn stream(&mut self, stream: Stream) -> UnixStream {
        self.stream_of(FIRST, stream)
    }

    pub(crate) fn stream_of(&mut self, process: ProcessId, stream: Stream) -> UnixStream {
        loop {
            match self.streams.remove(&(process, stream)) {
                Some(stream) => return stream,
                None => self.take_stream(),
            }
        }
    }

    pub(crate) fn send(&mut self, message: &FromHost) {
        protocol::write(&mut self.control, message).unwrap();
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.control.write_all(bytes).unwrap();
    }

    pub(crate) fn signal(&mut self, signal: u8) {
        self.send(&FromHost::Signal {
            process: FIRST,
            signal,
        });
    }

    pub(crate) fn receive(&mut self) -> Option<FromGuest> {
        protocol::read(&mut self.control).unwrap()
    }

    /// How this process ends and what it writes until then, as far as nobody else reads it.
    pub(crate) fn end_of(&mut self, process: ProcessId) -> End {
        let (mut stdout, mut stderr) = (None, None);
        let mut end = None;
        let status = loop {
            for (which, reader) in [(Stream::Stdout, &mut stdout), (Stream::Stderr, &mut stderr)] {
                let stream = self.streams.remove(&(process, which));
                *reader = reader.take().or(stream.map(read_all));
            }
            if let Some((status, outputs)) = end
                && self.outputs(process) >= outputs
            {
                assert_eq!(self.outputs(process), outputs);
                break status;
            }
            let [connected, told] = self.wait();
            if connected {
                self.take_stream();
            } else if told {
                end = Some(match self.receive() {
                    Some(FromGuest::Exited {
                        process: ended,
                        status,
                        outputs,
                        ..
                    }) if ended == process => (status, outputs),
                    other => panic!("{other:?}"),
                });
            }
        };
        let all = |reader: Option<JoinHandle<Vec<u8>>>| {
            reader.map_or(Vec::new(), |reader| reader.join().unwrap())
        };
        End {
            status,
            stdout: all(stdout),
            stderr: all(stderr),
        }
    }

    /// How many connections it had for its output so far.
    pub(crate) fn outputs(&self, process: ProcessId) -> u8 {
        self.outputs.get(&process).copied().unwrap_or(0)
    }

    /// Whether there is a connection, and whether init has said something.
    fn wait(&self) -> [bool; 2] {
        let mut wanted = [
            PollFd::new(&self.listener, PollFlags::IN),
            PollFd::new(&self.control, PollFlags::IN),
        ];
        assert_ne!(poll(&mut wanted, Some(&LIMIT)), Ok(0), "nothing happens");
        wanted.map(|fd| !fd.revents().is_empty())
    }

    /// The first process's end, and init's after it.
    pub(crate) fn finish(mut self) -> End {
        let end = self.end_of(FIRST);
        self.hang_up();
        assert_eq!(self.last_words(), "The host closed the connection\n");
        end
    }

    pub(crate) fn hang_up(&mut self) {
        self.control.shutdown(std::net::Shutdown::Both).unwrap();
    }

    /// Waits for init's end and gives what it said.
    pub(crate) fn last_words(mut self) -> String {
        let mut words = String::new();
        self.init
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut words)
            .unwrap();
        assert!(self.init.wait().unwrap().success());
        words
    }

    /// How many descriptors init has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .unwrap()
            .count()
    }

    /// Init's number outside its namespace.
    fn pid(&self) -> String {
        let children = format!("/proc/{0}/task/{0}/children", self.init.id());
        std::fs::read_to_string(children).unwrap().trim().to_owned()
    }

    /// Processor time that init has used so far.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        // utime and stime, in hundredths of a second.
        let ticks: u64 = [11, 12]
            .iter()
            .map(|at: &usize| fields[*at].parse::<u64>().unwrap())
            .sum();
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Its namespace goes with it.
        let _ = self.init.kill();
        let _ = self.init.wait();
    }
}

/// The next connection; a guest init that does not dial in fails the test.
fn accept(listener: &UnixListener) -> UnixStream {
    let mut wanted = [PollFd::new(listener, PollFlags::IN)];
    assert_eq!(
        poll(&mut wanted, Some(&LIMIT)),
        Ok(1),
        "guest init should dial in"
    );
    let (stream, _) = listener.accept().unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(120)))
        .unwrap();
    stream
}

fn read_all(mut stream: UnixStream) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    })
}
