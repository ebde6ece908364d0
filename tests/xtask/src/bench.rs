//! `cargo xtask bench`: the project's figures, against their targets and against others. Knows where each part is measured and
//! what becomes of the results; the scenarios are in `benches/`, the form of the results in `tests::bench`.

mod compare;
mod plot;
mod profile;
mod table;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::builder::PossibleValue;
use tests::bench::{Place, Results, Row, SCENARIOS, SCHEMA};

use crate::build::cargo;
use crate::cpio::Archive;
use crate::{apt, build, lab, progress, workspace};

/// Seconds that the lab may take for all its scenarios.
const LAB: u64 = 3600;

/// Memory of the lab: a hundred containers, and images in memory.
const MEMORY: &str = "6G";

/// Who is compared, and what works in containers.
const PROGRAMS: &[apt::Need] = &[
    ("crun", "crun"),
    ("runc", "runc"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("passt", "passt"),
    ("tcc", "tcc"),
    ("ip", "iproute2"),
];

/// The scenario behind `--profile`.
const PROFILE: &str = "profile";

/// What can be typed after `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to measure; everything when nothing is named
    #[arg(value_name = "SCENARIO", value_parser = scenarios())]
    scenarios: Vec<String>,

    /// Prints what target/bench/results.json has instead of a table
    #[arg(long)]
    json: bool,

    /// Whom to measure beside hull, as far as a scenario has something for them
    #[arg(
        long,
        value_name = "WHOM",
        value_delimiter = ',',
        value_parser = ["crun", "runc", "qemu", "passt"],
        default_values = ["crun", "runc", "qemu", "passt"]
    )]
    against: Vec<String>,

    /// Shows what has changed since this older results file
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,

    /// Measures on this machine, whose KVM has to boot Linux, with its own clock: the median of more runs, and their spread
    #[arg(long)]
    host: bool,

    /// Shows where one start goes besides: by phase, and within the guest's kernel by initcall; as a tree, and as a flame graph
    /// in target/bench/profile.svg
    #[arg(long)]
    profile: bool,

    /// Draws the results as start.svg, overhead.svg and so on into this directory
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,

    /// Measures nothing: takes this results file, and all of them when given several times
    #[arg(long, value_name = "FILE", conflicts_with_all = ["scenarios", "against", "host", "profile"])]
    from: Vec<PathBuf>,
}

fn scenarios() -> Vec<PossibleValue> {
    let value = |&(name, _, what): &(&'static str, Place, &'static str)| {
        PossibleValue::new(name).help(what)
    };
    SCENARIOS.iter().map(value).collect()
}

/// Measures, or reads what was measured, and shows it.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let older = args.compare.as_deref().map(read).transpose()?;
    let results = match &args.from[..] {
        [] => measure(args)?,
        [first, others @ ..] => {
            let mut results = read(first)?;
            for other in others {
                results.results.extend(read(other)?.results);
            }
            results
        }
    };
    if let Some(directory) = &args.plot {
        plot::draw(&results.results, directory)?;
    }
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&results)?),
        false => print!("{}", table::of(&results)),
    }
    let profile: Vec<&Row> = results
        .results
        .iter()
        .filter(|row| row.scenario == PROFILE)
        .collect();
    if let [first, ..] = profile[..] {
        let whole = profile::Part::of("one run of `true`", &profile);
        let file = workspace::target().join("bench/profile.svg");
        std::fs::write(&file, whole.picture(&first.unit))?;
        eprint!("\n{}", whole.text(&first.unit));
        progress::note(&format!("Drawn: {}", file.display()));
    }
    if let Some(older) = older {
        let changes = compare::changes(&older, &results);
        // Where JSON was asked for, standard output is JSON alone.
        match args.json {
            true => eprint!("{changes}"),
            false => print!("\n{changes}"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> Result<Results> {
    let text = std::fs::read(file).with_context(|| format!("Reading {}", file.display()))?;
    let results: Results = serde_json::from_slice(&text)
        .with_context(|| format!("{} has no results", file.display()))?;
    let schema = results.schema;
    ensure!(
        schema == SCHEMA,
        "{} has schema {schema}, and this program knows {SCHEMA}",
        file.display()
    );
    Ok(results)
}

/// Builds what is measured and measures it; the results are kept in a file.
fn measure(args: &Args) -> Result<Results> {
    let chosen = |place: Place| -> Vec<&str> {
        let wanted =
            |name: &str| args.scenarios.is_empty() || args.scenarios.iter().any(|one| one == name);
        let here = SCENARIOS
            .iter()
            .filter(|(name, of, _)| *of == place && wanted(name));
        here.map(|(name, ..)| *name).collect()
    };
    let (mut in_lab, mut here) = (chosen(Place::Lab), chosen(Place::Machine));
    if args.profile {
        in_lab.push(PROFILE);
    }
    if args.host {
        here.splice(0..0, in_lab.drain(..));
    }
    let home = prepare()?;
    let program = workspace::target().join("release/benches");
    let part = home.join("part.json");
    let command = |scenarios: &[&str]| -> Vec<OsString> {
        let clock = if scenarios == in_lab {
            "lab"
        } else {
            "machine"
        };
        let words = [
            program.clone().into(),
            part.clone().into(),
            clock.into(),
            args.against.join(",").into(),
        ];
        words
            .into_iter()
            .chain(scenarios.iter().map(Into::into))
            .collect()
    };
    let mut rows = Vec::new();
    if !in_lab.is_empty() {
        let lab = lab::Args::new(command(&in_lab))
            .icount()
            .memory(MEMORY)
            .share_rw(home.clone());
        let code = progress::step("Measuring in the lab", || lab::exit_code(lab.timeout(LAB)))?;
        if code != 0 {
            bail!("The scenarios in the lab failed (exit code {code})");
        }
        rows.extend(take(&part)?);
    }
    if !here.is_empty() {
        let mut words = command(&here).into_iter();
        let mut scenarios = Command::new(words.next().unwrap_or_default());
        scenarios.args(words).stdin(Stdio::null());
        progress::step("Measuring on this machine", || {
            let status = scenarios.status().context("The scenarios do not start")?;
            ensure!(status.success(), "The scenarios on this machine failed");
            Ok(())
        })?;
        rows.extend(take(&part)?);
    }
    let results = Results {
        schema: SCHEMA,
        revision: revision(),
        machine: machine(),
        results: rows,
    };
    let file = home.join("results.json");
    std::fs::write(&file, serde_json::to_string_pretty(&results)?)?;
    progress::note(&format!("The results are in {}", file.display()));
    Ok(results)
}

/// Builds and makes all that scenarios need; returns the directory that has it.
fn prepare() -> Result<PathBuf> {
    apt::need(PROGRAMS)?;
    let hull = build::ensure()?;
    build::images()?;
    let home = workspace::target().join("bench");
    std::fs::create_dir_all(&home)?;
    progress::step("Building the scenarios", || {
        cargo(
            &[
                "build",
                "--release",
                "--package",
                "benches",
                "--bin",
                "benches",
            ],
            &[],
        )?;
        let work = std::fs::read(build::work()?)?;
        initramfs(&home.join("reboot.cpio"), &[], "")?;
        initramfs(&home.join("network.cpio"), &work, ASK)?;
        std::fs::write(home.join("work"), work)?;
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(home.join("work"), all)?;
        Ok(())
    })?;
    // So that the lab, which is slower, only has to copy them.
    progress::step("Converting Debian's images", || {
        let store = home.join("store");
        let _ = std::fs::remove_dir_all(&store);
        for archive in ["python.tar", "servers.tar"] {
            let mut load = Command::new(&hull);
            load.env("HULL_ROOT", &store).args(["load", "--input"]);
            let status = load
                .arg(tests::fixture::path(archive))
                .stdout(Stdio::null())
                .status()?;
            ensure!(status.success(), "{load:?} failed");
        }
        Ok(())
    })?;
    Ok(home)
}

/// What one part has measured; a part that fails afterwards leaves nothing that could be taken for its own.
fn take(part: &Path) -> Result<Vec<Row>> {
    let rows = serde_json::from_slice(&std::fs::read(part)?)?;
    std::fs::remove_file(part)?;
    Ok(rows)
}

/// Which state of the source this is, as git calls it.
fn revision() -> String {
    let git = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .current_dir(workspace::root())
        .output();
    let said = git.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    said.unwrap_or_default()
}

/// Processors, memory and kernel.
fn machine() -> String {
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors
        .lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split_once(": "))
        .map_or("an unknown processor", |(_, model)| model);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let count = processors
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse::<u64>().ok());
    let gibibytes = memory.unwrap_or(0) >> 20;
    let governor = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
    let governor = std::fs::read_to_string(governor).map_or_else(
        |_| String::new(),
        |name| format!(", governor {}", name.trim()),
    );
    format!(
        "{model}, {count} processors{governor}, {gibibytes} GiB, Linux {}",
        kernel.trim()
    )
}

/// Measures a network card, in a guest that has nothing else. The kernel makes variables of options that it does not know.
const ASK: &str = "b=/bin/busybox
$b ip link set lo up
$b ip link set eth0 mtu $mtu up
$b ip addr add 10.0.2.15/24 dev eth0
$b ip route add default via 10.0.2.2
/work network 10.0.2.2
";

/// The least that a kernel can be given to run: an init that does this and reboots.
fn initramfs(file: &Path, work: &[u8], script: &str) -> Result<()> {
    let mut archive = Archive::new();
    for directory in ["bin", "dev", "proc"] {
        archive.directory(directory);
    }
    archive.character_device("dev/console", 0o600, 5, 1);
    let busybox = std::fs::read("/bin/busybox").context("There is no /bin/busybox")?;
    archive.file("bin/busybox", 0o755, &busybox);
    if !work.is_empty() {
        archive.file("work", 0o755, work);
    }
    let init = format!("#!/bin/busybox sh\n{script}exec /bin/busybox reboot -f\n");
    archive.file("init", 0o755, init.as_bytes());
    Ok(std::fs::write(file, archive.finish())?)
}
