//! `cargo xtask test`: everything that can be checked, from the format to containers in virtual machines. A list of steps in
//! the order in which a failure is cheapest; each step fails loudly, and none is skipped.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::{apt, bench, build, demo, fuzz, lab, lint, progress, workspace};

/// Seconds that each fuzz target runs.
const FUZZ: u32 = 30;

/// The acts of a VMM that was taken over.
const TAKEN_OVER: &[&str] = &["--package", "tests", "--test", "taken-over"];

/// What makes system calls fail.
pub(crate) const STRACE: (&str, &str) = ("strace", "strace");

/// What can be typed after `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the end-to-end tests whose names contain this
    #[arg(long, value_name = "TEXT")]
    end_to_end: Option<String>,

    /// Only a VMM that was taken over: what becomes of its acts, in a table
    #[arg(long, conflicts_with = "end_to_end")]
    taken_over: bool,
}

/// Runs every test, or the end-to-end tests asked for.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut packages = demo::packages();
    packages.extend(build::IMAGES);
    packages.extend([
        ("fsck.erofs", "erofs-utils"),
        ("fsck.ext4", "e2fsprogs"),
        // What the registry client is tested with and against.
        ("docker-registry", "docker-registry"),
        ("podman", "podman"),
        ("dockerd", "docker.io"),
        ("openssl", "openssl"),
        ("skopeo", "skopeo"),
        ("umoci", "umoci"),
        // What loads servers in containers, and what they are measured against.
        ("iperf3", "iperf3"),
        ("redis-benchmark", "redis-tools"),
        ("/usr/lib/postgresql/15/bin/pgbench", "postgresql-15"),
        // What joins containers to networks of others.
        ("/usr/lib/cni/bridge", "containernetworking-plugins"),
        STRACE,
    ]);
    apt::need(&packages)?;
    if let Some(filter) = &args.end_to_end {
        return end_to_end(Some(filter)).map(|()| ExitCode::SUCCESS);
    }
    if args.taken_over {
        return taken_over().map(|()| ExitCode::SUCCESS);
    }
    let start = Instant::now();
    lint::check()?;
    lint::dependencies()?;
    let kvm = Path::new("/dev/kvm").exists();
    progress::step("Running the unit tests", || unit(kvm))?;
    end_to_end(None)?;
    bench::check()?;
    progress::step("Testing the lab", lab_itself)?;
    // Last, for what it finds is new each time, and all that is known is right by then.
    fuzz::all(&[], FUZZ)?;
    progress::note(&format!(
        "Every test has passed, in {:.0} s.",
        start.elapsed().as_secs_f64()
    ));
    Ok(ExitCode::SUCCESS)
}

/// The tests beside the code, the fuzz corpora among them. Those of the machine need some KVM: where there is none, they
/// only run in the lab.
fn unit(kvm: bool) -> Result<()> {
    let nextest = Command::new("cargo-nextest")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    let runner: &[&str] = if nextest.is_ok_and(|status| status.success()) {
        &[
            "nextest",
            "run",
            "--no-fail-fast",
            "--config-file",
            "tests/nextest.toml",
        ]
    } else {
        &["test"]
    };
    let mut words = [runner, &["--workspace"]].concat();
    if !kvm {
        progress::note("There is no /dev/kvm: hull's own unit tests run in the lab only.");
        words.extend(["--exclude", "hull"]);
    }
    build::cargo(&words, &[])
}

/// Containers in virtual machines, and the machine's tests on a KVM that is real.
fn end_to_end(filter: Option<&str>) -> Result<()> {
    let hull = build::ensure()?;
    build::images()?;
    let suite = executable(&["--package", "tests", "--test", "end-to-end"])?;
    let machine = executable(&["--package", "hull", "--bin", "hull"])?;
    if filter.is_none() {
        let archives = executable(&["--package", "tests", "--test", "archives"])?;
        progress::step("Testing archives that mean harm", || {
            // One by one: one of them times kills by how long a conversion takes.
            succeed(again(&archives)?.arg("--test-threads=1"))
        })?;
    }
    let attacks = match filter {
        Some(_) => None,
        None => Some(Attacks::build()?),
    };
    if demo::boots_linux(&hull)? {
        progress::step("Running the end-to-end tests", || {
            succeed(&mut suite_command(&suite, filter)?)
        })?;
        return attacks.map_or(Ok(()), |attacks| attacks.run(&suite));
    }
    progress::note(
        "This machine's KVM boots no Linux (`hull doctor` says why): testing in the lab.",
    );
    if filter.is_none() {
        let unfit = executable(&["--package", "tests", "--test", "unfit-host"])?;
        progress::step("Testing what hull says here", || {
            succeed(again(&unfit)?.env("XTASK", std::env::current_exe()?))
        })?;
    }
    progress::step(
        "Running the end-to-end tests in the lab",
        || match attacks {
            None => in_lab(suite_command(&suite, filter)?),
            Some(attacks) => in_two_labs(&machine, &attacks, &suite),
        },
    )
}

/// A VMM that was taken over, alone.
fn taken_over() -> Result<()> {
    let hull = build::ensure()?;
    build::images()?;
    let mut program = OsString::from("HULL=");
    program.push(build::taken_over()?);
    let mut command = Command::new("env");
    command.arg(program).arg(executable(TAKEN_OVER)?);
    command.arg("--nocapture");
    match demo::boots_linux(&hull)? {
        true => succeed(&mut command),
        false => in_lab(command),
    }
}

/// Builds of hull that are attacked from inside, and the program that does so with the second.
struct Attacks {
    sanitized: PathBuf,
    taken_over: PathBuf,
    acts: PathBuf,
}

impl Attacks {
    fn build() -> Result<Self> {
        Ok(Self {
            sanitized: build::sanitized()?,
            taken_over: build::taken_over()?,
            acts: executable(TAKEN_OVER)?,
        })
    }

    fn run(&self, suite: &Path) -> Result<()> {
        progress::step("Attacking hull with the address sanitizer", || {
            let mut attack = again(suite)?;
            attack.envs(sanitized(&self.sanitized));
            succeed(attack.args(["--test-threads=1", "hostile::"]))
        })?;
        progress::step("Attacking the host from a VMM that was taken over", || {
            succeed(again(&self.acts)?.env("HULL", &self.taken_over))
        })
    }
}

/// All of the tests, in two labs at once: a lab has one processor. The first has the machine's own tests too, the second those
/// that look at everything that runs on their machine, one by one at the end, the hostile guest once more, and last, for it leaves its
/// VMMs dead, the one that was taken over.
fn in_two_labs(machine: &Path, attacks: &Attacks, suite: &Path) -> Result<()> {
    let names = tests_of(suite)?;
    let shared: Vec<_> = names
        .iter()
        .filter(|name| !name.contains("alone_"))
        .collect();
    let half = |first: bool| {
        let own = shared.iter().enumerate();
        own.filter(move |(number, _)| (number % 5 < 3) == first)
            .map(|(_, name)| name)
    };
    let own = std::env::current_exe()?;
    let lab = |script: &str, half| {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command.args([&own, machine, &attacks.sanitized]);
        command.args([&attacks.acts, &attacks.taken_over, suite]);
        command.args(["--test-threads=2", "--exact"]).args(half);
        in_lab(command)
    };
    // The machine's tests are threads of one process, some of which fork: what another has just closed, a lock or a port, would
    // be open in that child.
    let first = r#""$0" again "$1" --test-threads=1 && shift 4 && exec "$0" again "$@""#;
    let second = r#"hull=$2; acts=$3; taken_over=$4; shift 4;
        "$0" again "$@" && "$0" again "$1" --test-threads=1 alone_ &&
        HULL="$hull" HULL_SOAK_SANITIZED=1 "$0" again "$1" --test-threads=1 hostile:: &&
        HULL="$taken_over" exec "$0" again "$acts""#;
    thread::scope(|scope| {
        let first = scope.spawn(|| lab(first, half(true)));
        let second = lab(second, half(false));
        let first = first
            .join()
            .unwrap_or_else(|_| bail!("A lab's thread has died"));
        first.and(second)
    })
}

/// Runs a test program, and what of it fails once more.
fn again(program: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("again").arg(program);
    Ok(command)
}

/// What tells tests of a hull with the address sanitizer.
pub(crate) fn sanitized(hull: &Path) -> [(&'static str, OsString); 2] {
    [("HULL", hull.into()), ("HULL_SOAK_SANITIZED", "1".into())]
}

/// Runs a command in a lab; it must succeed.
fn in_lab(command: Command) -> Result<()> {
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    let lab = lab::Args::new(words.map(OsString::from).collect()).memory("8G");
    match lab::exit_code(lab.timeout(60 * 60))? {
        0 => Ok(()),
        code => bail!("The tests in the lab failed (exit code {code})"),
    }
}

/// The names of a test program's tests.
fn tests_of(program: &Path) -> Result<Vec<String>> {
    let output = Command::new(program)
        .args(["--list", "--format", "terse"])
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
    let names: Vec<_> = names.map(str::to_owned).collect();
    // To run none of them is to run all.
    ensure!(!names.is_empty(), "{} has no tests", program.display());
    Ok(names)
}

/// Runs the end-to-end tests of the program `$2` by xtask, `$0`: two at a time, and then alone those that look at everything that
/// runs on the machine. With a text `$1`, those that match it, one by one.
const SUITE: &str = r#"
    [ -z "$1" ] || exec "$0" again "$2" --test-threads=1 "$1"
    "$0" again "$2" --test-threads=2 --skip alone_ && exec "$0" again "$2" --test-threads=1 alone_"#;

fn suite_command(suite: &Path, filter: Option<&str>) -> Result<Command> {
    let mut command = Command::new("sh");
    command
        .args(["-c", SUITE])
        .arg(std::env::current_exe()?)
        .arg(filter.unwrap_or_default())
        .arg(suite);
    Ok(command)
}

/// The lab's own promises, tested from outside.
fn lab_itself() -> Result<()> {
    let suite = executable(&["--package", "tests", "--test", "lab"])?;
    succeed(
        again(&suite)?
            .arg("--test-threads=2")
            .env("XTASK", std::env::current_exe()?),
    )
}

/// Builds a test program and returns where it is.
pub(crate) fn executable(selection: &[&str]) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args([
            "test",
            "--no-run",
            "--message-format=json-render-diagnostics",
        ])
        .args(selection);
    let output = command
        .current_dir(workspace::root())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo does not run")?;
    if !output.status.success() {
        bail!("cargo test --no-run {} failed", selection.join(" "));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut executables = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message.get("executable")?.as_str()?))
    });
    executables
        .next_back()
        .with_context(|| format!("cargo test --no-run {} built nothing", selection.join(" ")))
}

fn succeed(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("{name} does not start"))?;
    if status.success() {
        Ok(())
    } else {
        bail!("{name} failed ({status})")
    }
}
