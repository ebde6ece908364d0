//! `cargo xtask kernel`: the guest kernels, built once for each configuration and version.
//!
//! Decides where kernels come from and where they are kept. Knows nothing of what boots them; what goes into them is
//! written in `kernel-config/`.

mod build;
mod compact;
mod fragment;
mod patches;
mod pin;
mod source;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use rustix::fs::{FlockOperation, flock};

use crate::{progress, workspace};
use fragment::Fragment;
use patches::Patches;
use pin::Pin;

/// Debian packages that a kernel build needs.
pub(crate) const PACKAGES: &[&str] = &[
    "linux-source-6.12",
    "patch",
    "make",
    "gcc",
    "flex",
    "bison",
    "bc",
    "libelf-dev",
    "xz-utils",
    "binutils",
];

/// What can be typed after `cargo xtask kernel`.
#[derive(Debug, Default, Parser)]
pub(crate) struct Args {
    /// Which kernel: `up` for one vCPU, `smp` for up to 16 [default: both]
    #[arg(long, value_enum)]
    flavour: Option<Flavour>,
    /// Kernel source to build instead of Debian's /usr/src/linux-source-6.12.tar.xz
    #[arg(long, value_name = "TARBALL")]
    source: Option<PathBuf>,
    /// Build even if the cache has this kernel
    #[arg(long)]
    force: bool,
}

/// A kernel we ship.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Flavour {
    /// One vCPU, no SMP
    Up,
    /// 2 to 16 vCPUs
    Smp,
}

impl Flavour {
    const ALL: [Self; 2] = [Self::Up, Self::Smp];

    /// The name in file and directory names.
    const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Smp => "smp",
        }
    }

    /// The fragments in kernel-config/ that make up this flavour, in the order in which they apply.
    const fn fragments(self) -> &'static [&'static str] {
        match self {
            Self::Up => &["base.config"],
            Self::Smp => &["base.config", "smp.config"],
        }
    }
}

/// Where the two kernels are.
#[derive(Debug, Clone)]
pub(crate) struct Kernels {
    /// The kernel for one vCPU: an uncompressed ELF file with a PVH entry point.
    pub(crate) vmlinux: PathBuf,
    /// The kernel for 2 to 16 vCPUs.
    pub(crate) vmlinux_smp: PathBuf,
}

/// Builds the kernels asked for and prints where they are.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let flavours = args
        .flavour
        .map_or_else(|| Flavour::ALL.to_vec(), |one| vec![one]);
    for flavour in flavours {
        println!(
            "{}",
            kernel(flavour, args.source.as_deref(), args.force)?.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Both kernels, built now if they are not in the cache.
pub(crate) fn ensure() -> anyhow::Result<Kernels> {
    Ok(Kernels {
        vmlinux: kernel(Flavour::Up, None, false)?,
        vmlinux_smp: kernel(Flavour::Smp, None, false)?,
    })
}

/// The file of one kernel, built if it is not in the cache.
fn kernel(flavour: Flavour, tarball: Option<&Path>, force: bool) -> anyhow::Result<PathBuf> {
    let directory = workspace::target().join("kernel");
    fs::create_dir_all(&directory)
        .with_context(|| format!("Cannot create {}", directory.display()))?;
    let configs = workspace::root().join("kernel-config");
    let pin = Pin::read(&configs.join("VERSION"))?;
    let mut fragment = Fragment::default();
    for name in flavour.fragments() {
        fragment.add_file(&configs.join(name))?;
    }

    let patches = Patches::read(&configs.join("patches"))?;

    let _lock = lock(&directory)?;
    let source = source::unpacked(&directory, tarball, &pin, &patches)?;
    let home = directory.join(fragment.key(&source.release, &patches.text()));
    let vmlinux = home.join("vmlinux");
    if vmlinux.exists() && !force {
        return Ok(vmlinux);
    }
    progress::note(&format!(
        "Kernel {} ({}): {}",
        source.release,
        flavour.name(),
        pin.relation(&source.release)
    ));
    build::missing_tools()?;
    let objects = source
        .tree
        .with_file_name(format!("objects-{}", flavour.name()));
    let staged = tempfile::Builder::new()
        .prefix(".new-")
        .tempdir_in(&directory)?;
    build::build(&source.tree, &objects, &fragment, staged.path())?;
    if home.exists() {
        fs::remove_dir_all(&home)
            .with_context(|| format!("Cannot remove the old kernel {}", home.display()))?;
    }
    let staged = staged.keep();
    fs::rename(&staged, &home)
        .with_context(|| format!("Cannot move the new kernel to {}", home.display()))?;
    Ok(vmlinux)
}

/// Keeps others from building until the file is dropped: two builds in one tree would spoil each other.
fn lock(directory: &Path) -> anyhow::Result<File> {
    let path = directory.join("lock");
    let file = File::create(&path).with_context(|| format!("Cannot create {}", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => return Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            progress::note("Waiting for another kernel build to end …")
        }
        Err(error) => bail!("Cannot lock {}: {error}", path.display()),
    }
    flock(&file, FlockOperation::LockExclusive)
        .with_context(|| format!("Cannot lock {}", path.display()))?;
    Ok(file)
}
