//! `cargo xtask build`: hull and what it boots, laid out as they are installed. Knows which files there are and how each
//! is made; not what they do.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::cpio::Archive;
use crate::{apt, kernel, progress, workspace};

/// What kernels and initramfs are built with.
pub(crate) const GUEST: &[apt::Need] = &[
    ("/usr/src/linux-source-6.12.tar.xz", "linux-source-6.12"),
    ("make", "make"),
    ("patch", "patch"),
    ("gcc", "gcc"),
    ("ld", "binutils"),
    ("flex", "flex"),
    ("bison", "bison"),
    ("bc", "bc"),
    ("xz", "xz-utils"),
    ("/usr/include/libelf.h", "libelf-dev"),
];

/// What the images are made of and with.
pub(crate) const IMAGES: &[apt::Need] = &[
    ("/bin/busybox", "busybox-static"),
    ("mmdebstrap", "mmdebstrap"),
    // For those who are not root.
    ("newuidmap", "uidmap"),
];

/// What can be typed after `cargo xtask build`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only what runs in the guest: kernels and initramfs
    #[arg(long)]
    guest: bool,

    /// Only the images that the tests run, into target/fixtures
    #[arg(long, conflicts_with = "guest")]
    images: bool,
}

/// Builds and prints where the files are.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let made = if args.images {
        images()?;
        tests::fixture::path("")
    } else if args.guest {
        guest()?
    } else {
        ensure()?
    };
    println!("{}", made.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds everything and returns the program, which finds the rest by itself; quick when nothing has changed.
pub(crate) fn ensure() -> Result<PathBuf> {
    guest()?;
    program()
}

/// Makes the images that the tests run; those of Debian take two minutes each, once.
pub(crate) fn images() -> Result<()> {
    apt::need(IMAGES)?;
    progress::step("Making the small images", tests::fixture::make)?;
    progress::step("Building the hostile guest", tests::hostile::make)?;
    progress::step(
        "Making an image of Debian with python3",
        tests::fixture::make_python,
    )?;
    progress::step(
        "Making an image of Debian with redis, nginx and postgresql",
        tests::fixture::make_servers,
    )
}

/// What makes hull smaller at no cost: nothing unwinds a program that aborts when it panics, and of an address to relocate
/// a bit is enough (6,000 of them, 24 bytes each otherwise, read at each start). The script, found from the workspace's root,
/// leaves out the tables that std and libc bring.
const SMALLER: &str = " -C force-unwind-tables=no -C link-arg=-Wl,-z,pack-relative-relocs -C link-arg=-Wl,-T,vmm/hull.ld";

/// The linker script that puts what a start runs together (`cargo xtask order`).
pub(crate) const ORDER: &str = "vmm/start.ld";

/// Where the linker says what is where in hull.
pub(crate) fn map() -> PathBuf {
    workspace::target().join("static/hull.map")
}

/// Builds the program.
fn program() -> Result<PathBuf> {
    let built = progress::step("Building hull", || hull(&[]))?;
    let hull = workspace::target().join("hull/bin/hull");
    install(&built, &hull)?;
    Ok(hull)
}

/// Builds hull with a VMM that does what its guest tells it to, where the rest of an installation is found too.
pub(crate) fn taken_over() -> Result<PathBuf> {
    // The map is the program's.
    let options = [
        "--features",
        "hostile",
        "--",
        "-C",
        "link-arg=-Wl,-Map=/dev/null",
    ];
    let built = progress::step("Building hull with a hostile VMM", || hull(&options))?;
    beside_a_guest(&built, "taken-over")
}

fn hull(options: &[&str]) -> Result<PathBuf> {
    let map = map();
    // Flags that name a checkout would give its functions hashes of their own, which the script could not know.
    let map = map
        .strip_prefix(workspace::root())
        .unwrap_or(&map)
        .display();
    let order = format!("{SMALLER} -C link-arg=-Wl,-T,{ORDER} -C link-arg=-Wl,-Map={map}");
    linked("static", "release", "hull", "hull", options, &order)
}

/// Puts another build of hull where it finds the rest of an installation.
fn beside_a_guest(built: &Path, directory: &str) -> Result<PathBuf> {
    let place = workspace::target().join(directory).join("hull");
    let hull = place.join("bin/hull");
    install(built, &hull)?;
    for file in ["initramfs", "vmlinux", "vmlinux-smp"].map(|name| format!("lib/hull/{name}")) {
        let from = workspace::target().join("hull").join(&file);
        install(&from, &place.join(&file))?;
    }
    Ok(hull)
}

/// Builds hull with the address sanitizer, where the rest of an installation is found too. Its flags with -Z are not stable, which is why
/// the compiler is told to allow them.
pub(crate) fn sanitized() -> Result<PathBuf> {
    let (triple, profile) = ("x86_64-unknown-linux-gnu", "sanitized");
    let directory = workspace::target().join(profile);
    let mut words: Vec<OsString> = vec!["build".into(), "--target".into(), triple.into()];
    words.extend(["--profile", profile, "--package", "hull", "--bin", "hull"].map(Into::into));
    words.extend([OsString::from("--target-dir"), directory.clone().into()]);
    let flags = "-Zsanitizer=address --cfg sanitized";
    progress::step("Building hull with the address sanitizer", || {
        cargo(&words, &[("RUSTFLAGS", flags), ("RUSTC_BOOTSTRAP", "1")])
    })?;
    beside_a_guest(&directory.join(triple).join(profile).join("hull"), profile)
}

/// Builds what the benchmarks run in containers.
pub(crate) fn work() -> Result<PathBuf> {
    linked("static", "release", "benches", "work", &[], SMALLER)
}

/// Builds kernels and initramfs.
fn guest() -> Result<PathBuf> {
    apt::need(GUEST)?;
    let library = workspace::target().join("hull/lib/hull");
    let init = progress::step("Building guest-init", guest_init)?;
    replace(
        &library.join("initramfs"),
        &initramfs(&std::fs::read(init)?),
    )?;
    let kernels = progress::step("Building the guest kernels", kernel::ensure)?;
    install(&kernels.vmlinux, &library.join("vmlinux"))?;
    install(&kernels.vmlinux_smp, &library.join("vmlinux-smp"))?;
    Ok(library)
}

/// Builds the guest's process 1, at a fixed address: nobody is there to relocate it, and it has nothing to hide.
fn guest_init() -> Result<PathBuf> {
    linked(
        "guest",
        "guest",
        "guest-init",
        "guest-init",
        &["--features", "bare"],
        " -C relocation-model=static",
    )
}

/// Builds a program that needs no library at run time: init has none, and hull starts seven times faster.
///
/// A target of its own keeps the flags away from build scripts, and a directory of its own from all other builds.
fn linked(
    directory: &str,
    profile: &str,
    package: &str,
    program: &str,
    options: &[&str],
    flags: &str,
) -> Result<PathBuf> {
    let triple = "x86_64-unknown-linux-gnu";
    let directory = workspace::target().join(directory);
    let mut words: Vec<OsString> = vec!["rustc".into(), "--target".into(), triple.into()];
    words.extend(["--profile", profile, "--package", package, "--target-dir"].map(Into::into));
    words.push(directory.clone().into());
    words.extend(["--bin", program].map(Into::into));
    words.extend(options.iter().map(Into::into));
    cargo(
        &words,
        &[(
            "RUSTFLAGS",
            &format!("-C target-feature=+crt-static{flags}"),
        )],
    )?;
    Ok(directory.join(triple).join(profile).join(program))
}

/// What the guest kernel unpacks: process 1 and the places where it mounts.
fn initramfs(init: &[u8]) -> Vec<u8> {
    let mut archive = Archive::new();
    for directory in ["dev", "lower", "upper", "merged", "stage"] {
        archive.directory(directory);
    }
    // The kernel opens the console for process 1 before anything is mounted.
    archive.character_device("dev/console", 0o600, 5, 1);
    archive.character_device("dev/null", 0o666, 1, 3);
    archive.file("init", 0o755, init);
    archive.finish()
}

/// Runs cargo, which tells its own progress.
pub(crate) fn cargo(
    arguments: &[impl AsRef<std::ffi::OsStr>],
    environment: &[(&str, &str)],
) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(workspace::root());
    let status = command.status().context("cargo does not run")?;
    if !status.success() {
        let words: Vec<_> = arguments
            .iter()
            .map(|word| word.as_ref().to_string_lossy())
            .collect();
        bail!("cargo {} failed", words.join(" "));
    }
    Ok(())
}

/// Puts a file in its place, with its permissions.
fn install(from: &Path, to: &Path) -> Result<()> {
    let bytes = std::fs::read(from).with_context(|| format!("{} was not built", from.display()))?;
    replace(to, &bytes)?;
    std::fs::set_permissions(to, std::fs::metadata(from)?.permissions())?;
    Ok(())
}

/// Writes a file, unless it has this content already, so that nobody ever finds half of it.
fn replace(path: &Path, content: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let directory = path.parent().context("A file needs a directory")?;
    std::fs::create_dir_all(directory)?;
    let new = tempfile::NamedTempFile::new_in(directory)?;
    std::fs::write(new.path(), content)?;
    std::fs::set_permissions(
        new.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )?;
    new.persist(path)?;
    Ok(())
}
