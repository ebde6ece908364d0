//! hull itself: a run from start to end, its phases, its counts and its memory.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tests::run::program;

use crate::measure::{self, RUNS, settle};
use crate::table::{Table, Target};

/// Measures in a directory that is in memory.
pub(crate) fn measure(place: &Path, table: &mut Table) -> Result<()> {
    // Programs and images in memory, as on a machine that has used them before.
    let hull = copy(&program(), &place.join("bin/hull"))?;
    let library = program()
        .ancestors()
        .nth(2)
        .context("hull lies in no directory")?
        .join("lib/hull");
    for file in ["vmlinux", "vmlinux-smp", "initramfs"] {
        copy(&library.join(file), &place.join("lib/hull").join(file))?;
    }
    let image = format!(
        "docker-archive:{}",
        copy(
            &tests::fixture::path("busybox.tar"),
            &place.join("busybox.tar")
        )?
    );
    let run = |options: &[&str], words: &[&str]| {
        let mut command = Command::new(&hull);
        command
            .env("HULL_ROOT", place.join("store"))
            .args(["run", "--rm"])
            .args(options)
            .arg(&image)
            .args(words);
        command
    };

    // An archive that changed within the last seconds is looked into again at each run.
    std::thread::sleep(Duration::from_secs(4));
    let milliseconds =
        measure::milliseconds(|| run(&["--start", "cold"], &["/bin/busybox", "true"]))?;
    table.add(
        "hull run --rm IMAGE /bin/busybox true, start to end",
        milliseconds,
        "ms",
        &Target::AtMost(35.0),
    );
    let cold = ["--start", "cold", "--network", "none"];
    let milliseconds = measure::milliseconds(|| run(&cold, &["/bin/busybox", "true"]))?;
    table.add(
        "the same with --network none",
        milliseconds,
        "ms",
        &Target::AtMost(35.0),
    );
    let warm = ["--start", "warm"];
    let milliseconds = measure::milliseconds(|| run(&warm, &["/bin/busybox", "true"]))?;
    table.add(
        "  the same from a template, --start warm",
        milliseconds,
        "ms",
        &Target::AtMost(8.0),
    );
    let rows = [
        (
            "image",
            "  of it: image name to open image",
            "ms",
            Target::None,
            1.0,
        ),
        (
            "VMM start",
            "  of it: VMM start to the first entry of the guest",
            "ms",
            Target::None,
            1.0,
        ),
        (
            "kernel",
            "  of it: kernel entry to guest init",
            "ms",
            Target::AtMost(15.0),
            1.0,
        ),
        (
            "init",
            "  of it: guest init to the command",
            "ms",
            Target::None,
            1.0,
        ),
        ("workload", "  of it: the command", "ms", Target::None, 1.0),
        (
            "exit",
            "  of it: the command's end to its status at the launcher",
            "ms",
            Target::None,
            1.0,
        ),
        (
            "exits",
            "exits to user space, whole run",
            "",
            Target::AtMost(300.0),
            1.0,
        ),
        (
            "memory touched",
            "guest memory touched",
            "MiB",
            Target::AtMost(20.0),
            1.0 / 1024.0,
        ),
    ];
    let mut least = [f64::INFINITY; 8];
    for _ in 0..RUNS {
        let mut command = run(
            &[&["--timings"][..], &cold].concat(),
            &["/bin/busybox", "true"],
        );
        settle();
        let output = command.stdin(Stdio::null()).output()?;
        measure::check(&command, &output)?;
        let timings = String::from_utf8_lossy(&output.stderr);
        for (least, (name, ..)) in least.iter_mut().zip(&rows) {
            *least = least.min(figure(&timings, name)?);
        }
    }
    for (least, (_, what, unit, target, scale)) in least.into_iter().zip(rows) {
        table.add(what, least * scale, unit, &target);
    }

    let private = private_memory(run(&cold, &["/bin/busybox", "sleep", "60"]))?;
    table.add(
        "private memory of the VMM process without the guest's",
        private,
        "MiB",
        &Target::AtMost(5.0),
    );
    for (what, file, most) in [
        ("hull binary", Path::new(&hull), 6.0),
        ("kernel for one CPU", &library.join("vmlinux"), 8.0),
        ("kernel for more CPUs", &library.join("vmlinux-smp"), 8.0),
    ] {
        let kilobytes = u32::try_from(std::fs::metadata(file)?.len() / 1000)?;
        table.add(
            what,
            f64::from(kilobytes) / 1000.0,
            "MB",
            &Target::AtMost(most),
        );
    }
    Ok(())
}

/// The figure of a row of `--timings`.
fn figure(timings: &str, row: &str) -> Result<f64> {
    let line = timings.lines().find_map(|line| line.strip_prefix(row));
    let figure = line.and_then(|line| line.split_whitespace().next());
    let figure = figure.and_then(|word| word.parse().ok());
    figure.with_context(|| format!("--timings says nothing of {row}:\n{timings}"))
}

fn copy(from: &Path, to: &Path) -> Result<String> {
    std::fs::create_dir_all(to.parent().context("A file needs a directory")?)?;
    std::fs::copy(from, to)
        .with_context(|| format!("{} is missing: run cargo xtask build", from.display()))?;
    Ok(to.display().to_string())
}

/// Private resident memory of a run's VMM in MiB, without the mappings as large as the guest.
fn private_memory(mut command: Command) -> Result<f64> {
    let mut launcher = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let result = settled_private_memory(launcher.id());
    launcher.kill()?;
    launcher.wait()?;
    result
}

fn settled_private_memory(launcher: u32) -> Result<f64> {
    // The command sleeps by then: on the lab's clock every boot takes less.
    std::thread::sleep(Duration::from_secs(2));
    let vmm = child(&child(&launcher.to_string())?)?;
    let maps = std::fs::read_to_string(format!("/proc/{vmm}/smaps"))?;
    let (mut guest, mut kibibytes, mut found_guest) = (false, 0, false);
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        let value: u64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        match name {
            // The guest has 256 MiB, less a hole or two.
            "Size:" => guest = value >= 128 << 10,
            "Private_Clean:" | "Private_Dirty:" if !guest => kibibytes += value,
            _ => {}
        }
        found_guest |= guest;
    }
    if !found_guest {
        bail!("The VMM maps no guest memory:\n{maps}");
    }
    Ok(mebibytes(kibibytes << 10))
}

/// A process's only child: the launcher's is the supervisor, whose is the VMM.
fn child(process: &str) -> Result<String> {
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children"))?;
    let first = children.split_whitespace().next();
    Ok(first.context("A process has no child")?.to_owned())
}

fn mebibytes(bytes: u64) -> f64 {
    let kibibytes = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
    f64::from(kibibytes) / 1024.0
}
