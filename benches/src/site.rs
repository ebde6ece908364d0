//! Where the lab's scenarios happen: a directory in memory with hull, an image, and a container's root directory that holds the
//! same files for other runtimes. Programs and images in memory, as on a machine that has used them before.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tests::run::program;

use crate::record::Clock;
use crate::{measure, peers};

/// An image, with a root directory for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Image {
    /// The benchmarks' own: busybox, the program that works, and files to read.
    Busybox,
    /// Debian with python3.
    Python,
    /// Debian with redis.
    Servers,
}

impl Image {
    /// As `docker load` would call it.
    fn name(self) -> &'static str {
        match self {
            Self::Busybox => "bench",
            Self::Python => "python",
            Self::Servers => "servers",
        }
    }
}

/// What hull is told wherever it is compared: others do without network and template too.
pub(crate) const PLAIN: [&str; 4] = ["--start", "cold", "--network", "none"];

/// Bytes of the file `/data` of the image.
pub(crate) const DATA: usize = 8 << 20;

pub(crate) struct Site {
    place: tempfile::TempDir,
    /// The image of busybox, as an archive.
    archive: String,
    against: Vec<String>,
    clock: Clock,
    containers: Cell<u32>,
}

impl Site {
    /// Makes it, to compare with these, and with these of Debian's images.
    pub(crate) fn new(against: &[&str], clock: Clock, images: &[Image]) -> Result<Self> {
        let place = tempfile::tempdir_in("/dev/shm")?;
        let at = place.path();
        copy(&program(), &at.join("bin/hull"))?;
        let library = library()?;
        for file in ["vmlinux", "vmlinux-smp", "initramfs"] {
            copy(&library.join(file), &at.join("lib/hull").join(file))?;
        }
        let file = at.join("busybox.tar");
        copy(&tests::fixture::path("busybox.tar"), &file)?;
        let archive = format!("docker-archive:{}", file.display());
        if !images.is_empty() {
            // hull has no use for their directories.
            for image in images.iter().filter(|_| !against.is_empty()) {
                peers::unpack(at, image.name())?;
            }
            // `cargo xtask bench` has converted them.
            let store = tests::target().join("bench/store");
            let mut copy = Command::new("cp");
            copy.arg("-a").arg(store).arg(at.join("store"));
            let copied = copy.output()?;
            measure::check(&copy, &copied)?;
        }
        peers::furnish(at)?;
        let site = Self {
            archive,
            against: against.iter().map(|&peer| peer.to_owned()).collect(),
            clock,
            containers: Cell::new(0),
            place,
        };
        // An archive that changed within the last seconds is looked into again at each run.
        std::thread::sleep(Duration::from_secs(4));
        site.import()?;
        Ok(site)
    }

    pub(crate) fn place(&self) -> &Path {
        self.place.path()
    }

    /// Whether the user wants to compare with this; then it is there.
    pub(crate) fn compares(&self, peer: &str) -> Result<bool> {
        let wanted = self.against.iter().any(|wanted| wanted == peer);
        // Only the lab's files are elsewhere; and a user's machine is left as it is.
        if wanted && self.clock != Clock::Machine {
            peers::pin(peers::program(peer), self.place())?;
        }
        Ok(wanted)
    }

    /// Which of these runtimes are wanted; hull always is.
    pub(crate) fn runtimes<'a>(&self, of: &[&'a str]) -> Result<Vec<&'a str>> {
        let mut wanted = vec!["hull"];
        for peer in of {
            if self.compares(peer)? {
                wanted.push(peer);
            }
        }
        Ok(wanted)
    }

    /// hull with these arguments.
    pub(crate) fn hull(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.place().join("bin/hull"));
        command
            .env("HULL_ROOT", self.place().join("store"))
            // Nothing is to be left that works on while others are measured.
            .env("HULL_START", "cold")
            .args(words);
        command
    }

    /// A run of the busybox image.
    pub(crate) fn run(&self, options: &[&str], words: &[&str]) -> Command {
        self.run_kept(&[&["--rm"], options].concat(), words)
    }

    /// A run of the busybox image whose container stays, and so has a disk.
    pub(crate) fn run_kept(&self, options: &[&str], words: &[&str]) -> Command {
        let mut command = self.hull(&["run"]);
        command.args(options).arg(&self.archive).args(words);
        command
    }

    /// Runs these words in a container with the least that each runtime can be told to isolate.
    pub(crate) fn container(&self, runtime: &str, words: &[&str]) -> Result<Command> {
        if runtime == "hull" {
            return Ok(self.run(&PLAIN, words));
        }
        self.peer(runtime, &self.bundle(Image::Busybox, words))
    }

    /// Runs these words in a container of an image, with the host's network or one that publishes a server's port.
    pub(crate) fn image(&self, runtime: &str, image: Image, words: &[&str]) -> Result<Command> {
        if runtime == "hull" {
            return Ok(self.hull_image(&["--start", "cold"], image, words));
        }
        let shared = peers::Bundle {
            own_network: false,
            ..self.bundle(image, words)
        };
        self.peer(runtime, &shared)
    }

    /// The same for hull alone, with these options.
    pub(crate) fn hull_image(&self, options: &[&str], image: Image, words: &[&str]) -> Command {
        let mut command = self.hull(&[
            "run",
            "--rm",
            "--pull",
            "never",
            "-p",
            "127.0.0.1:8000:8000",
        ]);
        command.args(options).arg(image.name()).args(words);
        command
    }

    fn bundle<'a>(&self, image: Image, words: &'a [&'a str]) -> peers::Bundle<'a> {
        let root = match image {
            Image::Busybox => self.place().join("root"),
            other => self.place().join("roots").join(other.name()),
        };
        peers::Bundle {
            root,
            words,
            furnished: false,
            own_network: true,
        }
    }

    /// Another runtime with such a container.
    fn peer(&self, runtime: &str, bundle: &peers::Bundle<'_>) -> Result<Command> {
        let number = self.containers.get() + 1;
        self.containers.set(number);
        let name = format!("bench-{number}");
        let mut command = Command::new(peers::program(runtime));
        // Otherwise crun reads the time zone's file from the outer host.
        command
            .env("TZ", "UTC0")
            .arg("--root")
            .arg(self.place().join(runtime))
            .args(["run", "--bundle"])
            .arg(bundle.make(self.place(), &name)?)
            .arg(name);
        Ok(command)
    }

    /// The same with a file of [`DATA`] bytes in the image, a tmpfs at `/memory` and a directory of the host at `/volume`.
    pub(crate) fn furnished(&self, runtime: &str, words: &[&str]) -> Result<Command> {
        if runtime != "hull" {
            let furnished = peers::Bundle {
                furnished: true,
                ..self.bundle(Image::Busybox, words)
            };
            return self.peer(runtime, &furnished);
        }
        let volume = format!("{}:/volume", self.place().join("volume").display());
        let mut command = self.hull(&["run", "--rm"]);
        command
            .args(PLAIN)
            .args(["--tmpfs", "/memory", "--volume", &volume, "bench"])
            .args(words);
        Ok(command)
    }

    /// Makes an image named `bench` of the root directory that the others use.
    fn import(&self) -> Result<()> {
        let tar = self.place().join("root.tar");
        for command in [
            Command::new("tar")
                .arg("-C")
                .arg(self.place().join("root"))
                .arg("-cf")
                .arg(&tar)
                .arg("."),
            self.hull(&["import"]).arg(&tar).arg("bench"),
        ] {
            let output = command.stdin(Stdio::null()).output()?;
            measure::check(command, &output)?;
        }
        Ok(())
    }
}

/// Where `cargo xtask build` puts kernels and initramfs.
pub(crate) fn library() -> Result<PathBuf> {
    let program = program();
    let prefix = program.ancestors().nth(2);
    Ok(prefix
        .context("hull lies in no directory")?
        .join("lib/hull"))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to.parent().context("A file needs a directory")?)?;
    std::fs::copy(from, to)
        .with_context(|| format!("{} is missing: run cargo xtask build", from.display()))?;
    Ok(())
}
