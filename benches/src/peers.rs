//! What others need for the same or less: crun, runc and QEMU's microvm. Knows how they are told what to run.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::measure;
use crate::site::DATA;

/// The program of a peer.
pub(crate) fn program(peer: &str) -> &str {
    match peer {
        "qemu" => "qemu-system-x86_64",
        same => same,
    }
}

/// Makes the root directory of their containers, the directory that is their volume, and what QEMU boots.
pub(crate) fn furnish(place: &Path) -> Result<()> {
    for directory in [
        "root/bin",
        "root/proc",
        "root/dev",
        "root/sys",
        "root/memory",
        "root/volume",
        "volume",
    ] {
        std::fs::create_dir_all(place.join(directory))?;
    }
    std::fs::copy("/bin/busybox", place.join("root/bin/busybox"))
        .context("There is no /bin/busybox")?;
    // No two pages alike, and none of zeros.
    let pages = (0..DATA / 4096).flat_map(|page| {
        let text = format!("page {page}\n");
        text.into_bytes().into_iter().cycle().take(4096)
    });
    let data: Vec<u8> = pages.collect();
    std::fs::write(place.join("root/data"), data)?;
    std::fs::copy(
        tests::target().join("bench/reboot.cpio"),
        place.join("reboot.cpio"),
    )
    .context("`cargo xtask bench` makes reboot.cpio")?;
    let kernel = std::fs::read(place.join("lib/hull/vmlinux"))?;
    std::fs::write(place.join("qemu-vmlinux"), with_readable_note(kernel)?)?;
    Ok(())
}

/// An OCI bundle of this name for these words, with the least isolation that both runtimes accept as a container, and a
/// tmpfs and a volume if it is to be furnished.
pub(crate) fn bundle(place: &Path, name: &str, words: &[&str], furnished: bool) -> Result<PathBuf> {
    let bundle = place.join("bundles").join(name);
    std::fs::create_dir_all(&bundle)?;
    let mut mounts = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
        json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] }),
    ];
    if furnished {
        let volume = place.join("volume");
        mounts.extend([
            json!({ "destination": "/memory", "type": "tmpfs", "source": "tmpfs" }),
            json!({ "destination": "/volume", "type": "bind", "source": volume, "options": ["rbind"] }),
        ]);
    }
    let namespaces =
        ["pid", "mount", "ipc", "uts", "network", "cgroup"].map(|kind| json!({ "type": kind }));
    let config = json!({
        "ociVersion": "1.0.2",
        "process": { "user": { "uid": 0, "gid": 0 }, "args": words, "env": [], "cwd": "/" },
        "root": { "path": place.join("root"), "readonly": false },
        "hostname": "bench",
        "mounts": mounts,
        "linux": { "namespaces": namespaces },
    });
    std::fs::write(bundle.join("config.json"), config.to_string())?;
    Ok(bundle)
}

/// hull's kernel in QEMU's smallest machine, with an init that reboots at once.
pub(crate) fn microvm(place: &Path) -> Command {
    // A boot that never ends is an error after some time, not a wait without end. The first run reads files of the outer
    // host, and the lab's clock runs on while that is busy.
    let mut command = Command::new("timeout");
    command.args(["30", "qemu-system-x86_64"]);
    command.args([
        "-M",
        "microvm,accel=kvm,acpi=off,pit=on,pic=on,rtc=off,isa-serial=off,auto-kernel-cmdline=off",
        "-cpu",
        "host",
    ]);
    command.args([
        "-m",
        "256M",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
    ]);
    command.arg("-kernel").arg(place.join("qemu-vmlinux"));
    command.arg("-initrd").arg(place.join("reboot.cpio"));
    command.args(["-append", "quiet loglevel=1 reboot=t panic=-1"]);
    command
}

/// The kernel with its note aligned as notes are. Ours is aligned to a page, which QEMU takes for padding within the note
/// (ELF-64: program headers of 56 bytes from `e_phoff`; PT_NOTE is 4, `p_align` the last eight bytes).
fn with_readable_note(mut kernel: Vec<u8>) -> Result<Vec<u8>> {
    let start = kernel
        .get(32..40)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u64::from_le_bytes);
    let start = usize::try_from(start.context("The kernel is no ELF file")?)?;
    for header in kernel
        .get_mut(start..)
        .unwrap_or_default()
        .chunks_exact_mut(56)
        .take(32)
    {
        if header.starts_with(&[4, 0, 0, 0]) {
            header[48..].copy_from_slice(&4_u64.to_le_bytes());
            return Ok(kernel);
        }
    }
    bail!("The kernel has no note")
}

/// Puts copies in memory over a program and the libraries that it loads. Without this each start would wait for the outer
/// host to open a dozen files, and the lab's clock runs on while it waits.
pub(crate) fn pin(program: &str, place: &Path) -> Result<()> {
    let path = ["/usr/bin", "/usr/sbin"].map(|directory| Path::new(directory).join(program));
    let path = path
        .into_iter()
        .find(|path| path.exists())
        .with_context(|| format!("There is no {program}"))?;
    let listed = Command::new("ldd")
        .arg(&path)
        .output()
        .context("ldd does not run")?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let libraries = listed
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from);
    let pinned = place.join("pinned");
    std::fs::create_dir_all(&pinned)?;
    for file in libraries.chain([path, "/etc/ld.so.cache".into()]) {
        let file = std::fs::canonicalize(&file)?;
        let copy = pinned.join(file.file_name().context("A file has a name")?);
        if copy.exists() {
            continue;
        }
        std::fs::copy(&file, &copy)?;
        let mut mount = Command::new("mount");
        let mounted = mount.arg("--bind").arg(&copy).arg(&file).output()?;
        measure::check(&mount, &mounted)?;
    }
    Ok(())
}
