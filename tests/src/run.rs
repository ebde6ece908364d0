//! One run of the real program and what came of it. Knows hull's command line; knows no test.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::{PATIENCE, fixture, late};

/// The built program: `$HULL`, else what `cargo xtask build` has made.
#[must_use]
pub fn program() -> PathBuf {
    std::env::var_os("HULL").map_or_else(|| crate::target().join("hull/bin/hull"), Into::into)
}

/// The processes of hull, by id: their program is ours.
#[must_use]
pub fn processes() -> BTreeSet<String> {
    let program = std::fs::canonicalize(program()).unwrap();
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        if std::fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == program) {
            found.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

/// The store that the tests share: an image is converted by the first that needs it.
#[must_use]
pub fn store() -> PathBuf {
    crate::target().join("tests/store")
}

/// What a program is put [`Vm::under`] to run as this user, with a KVM that it may open.
#[must_use]
pub fn as_user(user: u32) -> [String; 6] {
    let script = format!(
        "mount -t tmpfs kvm /mnt && mknod -m 666 /mnt/kvm c 10 232 && mount --bind /mnt/kvm /dev/kvm &&
        exec setpriv --reuid {user} --regid {user} --clear-groups \"$@\""
    );
    ["unshare", "--mount", "sh", "-c", &script, "sh"].map(str::to_owned)
}

/// A run of hull with these arguments.
pub fn hull<W: Into<OsString>>(arguments: impl IntoIterator<Item = W>) -> Vm {
    Vm {
        under: Vec::new(),
        verb: arguments.into_iter().map(Into::into).collect(),
        image: None,
        options: Vec::new(),
        command: Vec::new(),
        stdin: Stdin::Nothing,
        environment: Vec::new(),
        limit: PATIENCE,
    }
}

/// A `hull run` of the busybox image, to be told more.
#[must_use]
pub fn vm() -> Vm {
    Vm {
        image: Some(fixture::busybox()),
        ..hull(["run", "--rm"])
    }
}

/// What standard input is.
enum Stdin {
    Nothing,
    Bytes(Vec<u8>),
    Open,
}

/// A run that is being described.
pub struct Vm {
    under: Vec<OsString>,
    verb: Vec<OsString>,
    image: Option<String>,
    options: Vec<OsString>,
    command: Vec<OsString>,
    stdin: Stdin,
    environment: Vec<(OsString, Option<OsString>)>,
    limit: Duration,
}

impl Vm {
    /// Another image.
    #[must_use]
    pub fn image(mut self, image: &str) -> Self {
        self.image = Some(image.to_owned());
        self
    }

    /// Adds an option of `hull run`.
    #[must_use]
    pub fn option(mut self, word: impl AsRef<OsStr>) -> Self {
        self.options.push(word.as_ref().to_owned());
        self
    }

    /// Adds options of `hull run`.
    #[must_use]
    pub fn options<W: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.options
            .extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// The command, instead of the image's own.
    #[must_use]
    pub fn command<W: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.command = words
            .into_iter()
            .map(|word| word.as_ref().to_owned())
            .collect();
        self
    }

    /// Passes these bytes to the command (with `-i`).
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Stdin::Bytes(bytes.into());
        self.option("-i")
    }

    /// Gives hull itself these bytes.
    #[must_use]
    pub fn feed(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Stdin::Bytes(bytes.into());
        self
    }

    /// Keeps standard input open without a byte (with `-i`).
    #[must_use]
    pub fn stdin_open(mut self) -> Self {
        self.stdin = Stdin::Open;
        self.option("-i")
    }

    /// Runs hull under another program: its name and its options.
    #[must_use]
    pub fn under<W: Into<OsString>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.under = words.into_iter().map(Into::into).collect();
        self
    }

    /// Sets a variable of the launcher's own environment.
    #[must_use]
    pub fn host_env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let value = value.as_ref().to_owned();
        self.environment.push((name.into(), Some(value)));
        self
    }

    /// Removes one.
    #[must_use]
    pub fn no_host_env(mut self, name: &str) -> Self {
        self.environment.push((name.into(), None));
        self
    }

    /// Allows it more or less time than the usual.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs a shell script in the container.
    #[must_use]
    pub fn run(self, script: &str) -> Outcome {
        self.command(["sh", "-c", script]).finish()
    }

    /// Runs what has been described to its end.
    #[must_use]
    pub fn finish(self) -> Outcome {
        self.start().finish()
    }

    /// Starts what has been described.
    #[must_use]
    pub fn start(self) -> Running {
        let program = OsString::from(program());
        let mut words = self.under.iter().chain([&program]);
        let mut command = Command::new(words.next().unwrap_or(&program));
        // The makers of templates that runs leave behind would take time from tests of other things.
        command.env("HULL_ROOT", store()).env("HULL_START", "cold");
        for (name, value) in self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
            .args(words)
            .args(&self.verb)
            .args(&self.options)
            .args(&self.image)
            .args(&self.command);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if matches!(self.stdin, Stdin::Nothing) {
            Stdio::null()
        } else {
            Stdio::piped()
        });
        let mut set = command.get_envs();
        let root = set.find_map(|(name, value)| value.filter(|_| name == "HULL_ROOT"));
        let root = root.map_or_else(|| store().into(), OsStr::to_owned);
        let told = format!("{command:?}");
        let started = Instant::now();
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{told} does not start: {error}"));
        let stdin = child.stdin.take();
        let stdin = match self.stdin {
            Stdin::Bytes(bytes) => {
                // A command that does not read to the end is no failure of the run.
                stdin.map(|mut pipe| thread::spawn(move || drop(pipe.write_all(&bytes))));
                None
            }
            Stdin::Nothing | Stdin::Open => stdin,
        };
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        Running {
            told,
            root,
            child,
            started,
            limit: self.limit,
            stdin,
            stdout,
            stderr,
        }
    }
}

/// Reads a stream to its end, telling each block.
fn collect(stream: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        let Some(mut stream) = stream else { return };
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if sender
                .send(buffer.iter().take(count).copied().collect())
                .is_err()
            {
                return;
            }
        }
    });
    receiver
}

/// A run that goes on.
pub struct Running {
    told: String,
    root: OsString,
    child: Child,
    started: Instant,
    limit: Duration,
    stdin: Option<std::process::ChildStdin>,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
}

impl Running {
    /// The launcher's process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until standard output has said `text`; returns what it has said so far.
    pub fn wait_for(&mut self, text: &str) -> String {
        let mut said = Vec::new();
        while !String::from_utf8_lossy(&said).contains(text) {
            let left = self.limit.saturating_sub(self.started.elapsed());
            match self.stdout.recv_timeout(left) {
                Ok(block) => said.extend(block),
                Err(_) => {
                    let seen = late::look(&self.root);
                    let _ = self.child.kill();
                    let stderr: Vec<u8> = self.stderr.iter().flatten().collect();
                    let (said, stderr) = (
                        String::from_utf8_lossy(&said),
                        String::from_utf8_lossy(&stderr),
                    );
                    panic!(
                        "{} never said {text:?}\nstdout: {said}\nstderr: {stderr}\n{seen}",
                        self.told
                    );
                }
            }
        }
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Writes to the standard input that was kept open, and ends it.
    #[must_use]
    pub fn say(mut self, text: &str) -> Self {
        let mut stdin = self.stdin.take();
        let said = stdin.as_mut().map(|pipe| pipe.write_all(text.as_bytes()));
        assert!(matches!(said, Some(Ok(()))), "{}: {said:?}", self.told);
        self
    }

    /// Sends the launcher a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        let sent = id.map(|id| rustix::process::kill_process(id, signal));
        assert_eq!(
            sent,
            Some(Ok(())),
            "{}: the signal could not be sent",
            self.told
        );
    }

    /// Waits for the end.
    #[must_use]
    pub fn finish(mut self) -> Outcome {
        drop(self.stdin.take());
        let mut seen = None;
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if self.started.elapsed() < self.limit => {
                    thread::sleep(Duration::from_millis(5))
                }
                _ => {
                    seen = Some(late::look(&self.root));
                    let _ = self.child.kill();
                    break self.child.wait().unwrap_or(ExitStatus::from_raw(9));
                }
            }
        };
        let took = self.started.elapsed();
        let stdout = self.stdout.iter().flatten().collect();
        let stderr = self.stderr.iter().flatten().collect();
        let outcome = Outcome {
            told: self.told,
            status,
            took,
            stdout,
            stderr,
        };
        if let Some(seen) = seen {
            panic!(
                "The run took longer than {:?}: {outcome:?}\n{seen}",
                self.limit
            );
        }
        outcome
    }
}

/// What came of a run.
pub struct Outcome {
    told: String,
    /// How the launcher ended.
    pub status: ExitStatus,
    /// How long it took on the wall clock.
    pub took: Duration,
    /// All of standard output.
    pub stdout: Vec<u8>,
    /// All of standard error.
    pub stderr: Vec<u8>,
}

impl Outcome {
    /// Standard output as text.
    #[must_use]
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    #[must_use]
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// The launcher ended with this exit code.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.status.code(), Some(code), "exit code of {self:?}");
        self
    }

    /// It ended well and said just this on standard output.
    #[track_caller]
    pub fn prints(&self, text: &str) -> &Self {
        assert_eq!(self.out(), text, "standard output of {self:?}");
        self.exits(0)
    }

    /// It said this, among other things, on standard error.
    #[track_caller]
    pub fn complains(&self, text: &str) -> &Self {
        assert!(
            self.err().contains(text),
            "{text:?} is not on standard error of {self:?}"
        );
        self
    }
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let short = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            text.chars().take(4000).collect::<String>()
        };
        writeln!(f, "{}\n  {} after {:?}", self.told, self.status, self.took)?;
        writeln!(f, "  stdout: {}", short(&self.stdout))?;
        write!(f, "  stderr: {}", short(&self.stderr))
    }
}
