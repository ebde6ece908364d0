//! `cargo xtask bench`: the project's figures, against their targets and against others. Knows where each part is measured and
//! what becomes of the results; the scenarios are in `benches/`, the form of the results in `tests::bench`.

mod check;
mod compare;
mod plot;
mod profile;
mod subject;
mod table;

pub(crate) use self::check::run as check;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::builder::PossibleValue;
use tests::bench::{Place, Results, Row, SCENARIOS, SCHEMA};

use crate::build::cargo;
use crate::cpio::Archive;
use crate::{apt, build, demo, lab, progress, workspace};

/// Seconds that a scenario may take on a machine that has much else to do, building its lab included.
const LONGEST: u64 = 3600;

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

/// The scenarios behind `--profile`, and what each shows.
const PROFILES: [(&str, &str); 2] = [
    ("profile", "one run of `true`"),
    ("profile-warm", "one run of `true`, from a template"),
];

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

    /// Shows besides where one start goes, and where one from a template: by phase, and within the guest's kernel by initcall; as
    /// trees, and as flame graphs in target/bench/profile.svg and profile-warm.svg
    #[arg(long)]
    profile: bool,

    /// Draws the results as start.svg, overhead.svg and so on into this directory
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,

    /// Runs a short set in the lab once, hull alone, and fails where a count is more than benches/baseline.json has and its slack
    #[arg(long, conflicts_with_all = ["scenarios", "json", "compare", "host", "profile", "plot", "from"])]
    check: bool,

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
    if args.check {
        return check().map(|()| ExitCode::SUCCESS);
    }
    let mut failed = Vec::new();
    let results = match &args.from[..] {
        [] => {
            let (results, without) = measure(args)?;
            failed = without;
            results
        }
        [first, others @ ..] => {
            let mut results = read(first)?;
            for other in others {
                results.results.extend(read(other)?.results);
            }
            compare::with_crun(&mut results.results);
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
    for (scenario, what) in PROFILES {
        let rows = results.results.iter();
        let rows: Vec<&Row> = rows.filter(|row| row.scenario == scenario).collect();
        if let [first, ..] = rows[..] {
            let whole = profile::Part::of(what, &rows);
            let file = workspace::target().join(format!("bench/{scenario}.svg"));
            std::fs::write(&file, whole.picture(&first.unit))?;
            eprint!("\n{}", whole.text(&first.unit));
            progress::note(&format!("Drawn: {}", file.display()));
        }
    }
    if let Some(older) = older {
        let changes = compare::changes(&older, &results);
        // Where JSON was asked for, standard output is JSON alone.
        match args.json {
            true => eprint!("{changes}"),
            false => print!("\n{changes}"),
        }
    }
    if !failed.is_empty() {
        bail!("Not measured, for the reasons above: {}", failed.join(", "));
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

/// Builds what is measured and measures it, scenario by scenario, which are kept in a file as they come. Tells besides which
/// of them have failed.
fn measure(args: &Args) -> Result<(Results, Vec<&'static str>)> {
    let wanted =
        |name: &str| args.scenarios.is_empty() || args.scenarios.iter().any(|one| one == name);
    let mut scenarios: Vec<(&str, Place)> = SCENARIOS
        .iter()
        .filter(|(name, ..)| wanted(name))
        .map(|&(name, place, _)| (name, place))
        .collect();
    if args.profile {
        scenarios.extend(PROFILES.map(|(name, _)| (name, Place::Lab)));
    }
    let hull = build::ensure()?;
    if args.host && !demo::boots_linux(&hull)? {
        bail!(
            "This machine's KVM boots no Linux (`hull doctor` says why): without --host the lab measures, on any machine"
        );
    }
    let program = prepare(&hull, "release")?;
    let home = home();
    let mut results = Results {
        schema: SCHEMA,
        revision: subject::revision(),
        machine: subject::machine(),
        results: Vec::new(),
    };
    let file = home.join("results.json");
    let mut failed = Vec::new();
    for (scenario, place) in scenarios {
        let against = args.against.join(",");
        let measured = match place {
            Place::Lab if !args.host => in_lab(&program, "lab", &against, &[scenario]),
            _ => here(&program, &against, scenario),
        };
        match measured {
            Ok(rows) => results.results.extend(rows),
            Err(error) => {
                progress::note(&format!("{scenario} failed: {error:#}"));
                failed.push(scenario);
                // What it has measured before stays.
                results
                    .results
                    .extend(take(&home.join("part.json")).unwrap_or_default());
            }
        }
        compare::with_crun(&mut results.results);
        std::fs::write(&file, serde_json::to_string_pretty(&results)?)?;
    }
    progress::note(&format!("The results are in {}", file.display()));
    Ok((results, failed))
}

/// Where everything that belongs to measuring is.
fn home() -> PathBuf {
    workspace::target().join("bench")
}

/// What these scenarios measure in a lab.
fn in_lab(program: &Path, clock: &str, against: &str, scenarios: &[&str]) -> Result<Vec<Row>> {
    let part = empty_part()?;
    let mut command: Vec<OsString> = vec![program.into(), (&part).into()];
    command.extend([clock, against].map(Into::into));
    command.extend(scenarios.iter().map(Into::into));
    let lab = lab::Args::new(command)
        .icount()
        .memory(MEMORY)
        .share_rw(home())
        .timeout(LONGEST);
    let what = format!("Measuring {} in the lab", scenarios.join(", "));
    match progress::step(&what, || lab::exit_code(lab))? {
        0 => take(&part),
        code => bail!("the lab ended with exit code {code}"),
    }
}

/// What a scenario measures on this machine.
fn here(program: &Path, against: &str, scenario: &str) -> Result<Vec<Row>> {
    let part = empty_part()?;
    let mut command = Command::new("timeout");
    command.arg(LONGEST.to_string()).arg(program).arg(&part);
    command
        .args(["host", against, scenario])
        .stdin(Stdio::null());
    progress::step(&format!("Measuring {scenario} on this machine"), || {
        let status = command.status().context("The scenario does not start")?;
        match status.code() {
            Some(124) => bail!("it took longer than {LONGEST} s"),
            _ => ensure!(status.success(), "it ended with {status}"),
        }
        Ok(())
    })?;
    take(&part)
}

/// Builds and makes all that scenarios need; returns the program that has them.
fn prepare(hull: &Path, profile: &str) -> Result<PathBuf> {
    apt::need(PROGRAMS)?;
    build::images()?;
    let home = home();
    std::fs::create_dir_all(&home)?;
    progress::step("Building the scenarios", || {
        let profile = format!(
            "--profile={}",
            if profile == "debug" { "dev" } else { profile }
        );
        cargo(
            &[
                "build",
                &profile,
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
            let mut load = Command::new(hull);
            load.env("HULL_ROOT", &store).args(["load", "--input"]);
            let status = load
                .arg(tests::fixture::path(archive))
                .stdout(Stdio::null())
                .status()?;
            ensure!(status.success(), "{load:?} failed");
        }
        Ok(())
    })?;
    Ok(workspace::target().join(profile).join("benches"))
}

/// Where a part writes what it has measured. What one that was killed has left there is not this one's.
fn empty_part() -> Result<PathBuf> {
    let part = home().join("part.json");
    match std::fs::remove_file(&part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(part),
    }
}

/// What one part has measured; a part that fails afterwards leaves nothing that could be taken for its own.
fn take(part: &Path) -> Result<Vec<Row>> {
    let rows = serde_json::from_slice(&std::fs::read(part)?)?;
    std::fs::remove_file(part)?;
    Ok(rows)
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
