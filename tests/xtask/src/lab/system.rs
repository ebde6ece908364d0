//! The lab's operating system: Debian's cloud kernel with its modules and a first initramfs, made once and kept under
//! `target/lab` with the emulator that boots it. Knows nothing of commands or machines.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::fs::FlockOperation;

use super::emulator;
use crate::cpio::Archive;
use crate::{apt, progress, workspace};

/// The kernel that the figures of this project were measured with. Another 6.12 is taken when the archive has lost it.
const PREFERRED: &str = "linux-image-6.12.117+deb12-cloud-amd64";

/// Loaded in this order, each after what it depends on.
const MODULES: [&str; 16] = [
    "irqbypass",
    "kvm",
    "kvm_amd",
    "overlay",
    "virtio_blk",
    "erofs",
    "loop",
    "tun",
    "vhost_net",
    "vhost_vsock",
    "veth",
    "bridge",
    "dummy",
    "sch_ingress",
    "cls_matchall",
    "act_mirred",
];

/// What a lab boots.
pub(crate) struct System {
    /// What it is booted on.
    pub(crate) emulator: PathBuf,
    /// The uncompressed kernel: an ELF file with a PVH entry, which saves the time to decompress it in an emulator.
    pub(crate) kernel: PathBuf,
    /// The part of the initramfs that is the same for every lab.
    pub(crate) initramfs: PathBuf,
}

/// What the lab is made of.
pub(crate) const PACKAGES: &[apt::Need] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("/usr/lib/qemu/virtiofsd", "qemu-system-common"),
    ("/bin/busybox", "busybox-static"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
];

/// Finds the system under `target/lab` or makes it.
pub(crate) fn get() -> Result<System> {
    apt::need(PACKAGES)?;
    let home = workspace::target().join("lab");
    std::fs::create_dir_all(&home).with_context(|| format!("{} cannot be made", home.display()))?;
    // Two labs may start at once on a machine that has neither.
    let lock = File::create(home.join("lock"))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
    let kernel = home.join("vmlinux");
    let initramfs = home.join("initramfs");
    let emulator = home.join("qemu-system-x86_64");
    let recipe = home.join("recipe");
    let wanted = format!(
        "{}\n{} without signatures\n{}",
        include_str!("stage1.sh"),
        MODULES.join(" "),
        emulator::recipe()?
    );
    if !kernel.exists()
        || !initramfs.exists()
        || !emulator.exists()
        || std::fs::read_to_string(&recipe).ok().as_ref() != Some(&wanted)
    {
        let package = home.join("package");
        if !package.join("boot").exists() {
            progress::step("Fetching the lab's kernel", || fetch(&package))?;
        }
        progress::step("Making the lab's system", || {
            uncompress_kernel(&package, &kernel)?;
            write(&initramfs, &pack(&package)?)?;
            write(&emulator, &emulator::make()?)?;
            std::fs::set_permissions(&emulator, Permissions::from_mode(0o755))?;
            write(&recipe, wanted.as_bytes())
        })?;
    }
    Ok(System {
        emulator,
        kernel,
        initramfs,
    })
}

fn fetch(package: &Path) -> Result<()> {
    let name = apt::newest("linux-image-6.12", "-cloud-amd64", PREFERRED)?;
    std::fs::create_dir_all(package)?;
    apt::unpack(&name, package)
}

/// Takes the ELF file out of the bzImage (Linux, Documentation/arch/x86/boot.rst: `payload_offset`, `payload_length`).
fn uncompress_kernel(package: &Path, kernel: &Path) -> Result<()> {
    let image = only_file(&package.join("boot"), "vmlinuz-")?;
    let bytes = std::fs::read(&image)?;
    let payload = || -> Option<&[u8]> {
        let word =
            |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
        let start = (usize::from(*bytes.get(0x1f1)?) + 1) * 512 + word(0x248)?;
        bytes.get(start..start + word(0x24c)?)
    };
    let payload = payload().with_context(|| format!("{} has no payload", image.display()))?;
    let partial = kernel.with_extension("partial");
    let mut zstd = Command::new("zstd");
    zstd.arg("-dc")
        .stdin(Stdio::piped())
        .stdout(File::create(&partial)?)
        .stderr(Stdio::null());
    let mut zstd = zstd.spawn().context("zstd does not run")?;
    // The payload's last four bytes are its uncompressed length, not zstd's.
    let (stream, length) = payload.split_at(payload.len().saturating_sub(4));
    std::io::Write::write_all(
        &mut zstd.stdin.take().context("zstd has no standard input")?,
        stream,
    )?;
    zstd.wait()?;
    let expected = u32::from_le_bytes(length.try_into()?);
    if std::fs::metadata(&partial)?.len() != u64::from(expected) {
        bail!(
            "{} does not decompress to the {expected} bytes that it promises",
            image.display()
        );
    }
    std::fs::rename(&partial, kernel)?;
    Ok(())
}

/// The first initramfs: busybox, the modules in the order in which they can be loaded, and the first program.
fn pack(package: &Path) -> Result<Vec<u8>> {
    let mut files = BTreeMap::new();
    find_modules(&package.join("lib/modules"), &mut files)?;
    let mut ordered = Vec::new();
    for module in MODULES {
        resolve(module, &files, &mut ordered)?;
    }
    let mut archive = Archive::new();
    for directory in ["bin", "dev", "proc", "lab", "modules"] {
        archive.directory(directory);
    }
    archive.character_device("dev/console", 0o600, 5, 1);
    archive.file("bin/busybox", 0o755, &std::fs::read("/bin/busybox")?);
    archive.file("init", 0o755, include_bytes!("stage1.sh"));
    let mut order = String::new();
    for (name, bytes) in &ordered {
        archive.file(&format!("modules/{name}.ko"), 0o644, bytes);
        order.push_str(name);
        order.push('\n');
    }
    archive.file("modules/order", 0o644, order.as_bytes());
    Ok(archive.finish())
}

/// Adds a module after those that it depends on. Depends on what the module itself says, for `depmod` has not run.
fn resolve(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    ordered: &mut Vec<(String, Vec<u8>)>,
) -> Result<()> {
    if ordered.iter().any(|(known, _)| known == name) {
        return Ok(());
    }
    let file = files
        .get(name)
        .with_context(|| format!("The lab's kernel has no module {name}"))?;
    let output = Command::new("xz")
        .arg("-dc")
        .arg(file)
        .output()
        .context("xz does not run")?;
    if !output.status.success() {
        bail!("{} does not decompress", file.display());
    }
    let start = b"depends=";
    let depends = output
        .stdout
        .split(|byte| *byte == 0)
        .find_map(|field| field.strip_prefix(start.as_slice()));
    for dependency in String::from_utf8_lossy(depends.unwrap_or_default())
        .split(',')
        .filter(|name| !name.is_empty())
    {
        resolve(&dependency.replace('-', "_"), files, ordered)?;
    }
    let mut module = output.stdout;
    module.truncate(unsigned_length(&module));
    ordered.push((name.to_owned(), module));
    Ok(())
}

/// The length of a module without the signature at its end: nobody asks for one here, and to verify them all takes an
/// emulator a second (Linux, include/linux/module_signature.h).
fn unsigned_length(module: &[u8]) -> usize {
    let unsigned = || -> Option<usize> {
        let signed = module.strip_suffix(b"~Module signature appended~\n")?;
        let length = u32::from_be_bytes(*signed.last_chunk()?) as usize;
        signed.len().checked_sub(length + 12)
    };
    unsigned().unwrap_or(module.len())
}

fn find_modules(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            find_modules(&entry.path(), files)?;
        } else if let Some(name) = entry.file_name().to_string_lossy().strip_suffix(".ko.xz") {
            files.insert(name.replace('-', "_"), entry.path());
        }
    }
    Ok(())
}

fn only_file(directory: &Path, start: &str) -> Result<PathBuf> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(start) {
            return Ok(entry.path());
        }
    }
    bail!("{} has no {start}*", directory.display())
}

/// Writes a file so that it is either there in full or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, bytes)?;
    std::fs::rename(&partial, path)?;
    Ok(())
}
