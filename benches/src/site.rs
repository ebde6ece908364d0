//! Where the lab's scenarios happen: a directory in memory with hull, an image, and a container's root directory that holds the
//! same files for other runtimes. Programs and images in memory, as on a machine that has used them before.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tests::run::program;

use crate::{measure, peers};

/// What hull is told wherever it is compared: others do without network and template too.
pub(crate) const PLAIN: [&str; 4] = ["--start", "cold", "--network", "none"];

/// Bytes of the file `/data` of the image.
pub(crate) const DATA: usize = 8 << 20;

pub(crate) struct Site {
    place: tempfile::TempDir,
    /// The image of busybox, as an archive.
    archive: String,
    against: Vec<String>,
    containers: Cell<u32>,
}

impl Site {
    /// Makes it, with what it takes to compare with these.
    pub(crate) fn new(against: &[&str]) -> Result<Self> {
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
        for program in against {
            peers::pin(peers::program(program), at)?;
        }
        peers::furnish(at)?;
        let site = Self {
            archive,
            against: against.iter().map(|&peer| peer.to_owned()).collect(),
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

    /// Whether the user wants to compare with this.
    pub(crate) fn compares(&self, peer: &str) -> bool {
        self.against.iter().any(|wanted| wanted == peer)
    }

    /// Which of these runtimes are wanted; hull always is.
    pub(crate) fn runtimes<'a>(&self, of: &[&'a str]) -> Vec<&'a str> {
        let wanted = of.iter().copied().filter(|peer| self.compares(peer));
        std::iter::once("hull").chain(wanted).collect()
    }

    /// hull with these arguments.
    pub(crate) fn hull(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.place().join("bin/hull"));
        command
            .env("HULL_ROOT", self.place().join("store"))
            .args(words);
        command
    }

    /// A run of the busybox image.
    pub(crate) fn run(&self, options: &[&str], words: &[&str]) -> Command {
        let mut command = self.hull(&["run", "--rm"]);
        command.args(options).arg(&self.archive).args(words);
        command
    }

    /// Runs these words in a container with the least that each runtime can be told to isolate.
    pub(crate) fn container(&self, runtime: &str, words: &[&str]) -> Result<Command> {
        if runtime == "hull" {
            return Ok(self.run(&PLAIN, words));
        }
        self.peer(runtime, words, false)
    }

    /// Another runtime with these words.
    fn peer(&self, runtime: &str, words: &[&str], furnished: bool) -> Result<Command> {
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
            .arg(peers::bundle(self.place(), &name, words, furnished)?)
            .arg(name);
        Ok(command)
    }

    /// The same with a file of [`DATA`] bytes in the image, a tmpfs at `/memory` and a directory of the host at `/volume`.
    pub(crate) fn furnished(&self, runtime: &str, words: &[&str]) -> Result<Command> {
        if runtime != "hull" {
            return self.peer(runtime, words, true);
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
