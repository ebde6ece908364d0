//! What others need for the same or less, measured in the same way: a bare process, crun, runc and QEMU's microvm.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::measure;
use crate::table::{Table, Target};

/// Measures in a directory that is in memory.
pub(crate) fn measure(place: &Path, table: &mut Table) -> Result<()> {
    for program in ["crun", "runc", "qemu-system-x86_64"] {
        pin(program, place)?;
    }
    let bundle = bundle(place)?;
    let busybox = bundle.join("rootfs/bin/busybox");
    let process = measure::milliseconds(|| {
        let mut command = Command::new(&busybox);
        command.arg("true");
        command
    })?;
    table.add(
        "fork, exec and wait of busybox true",
        process,
        "ms",
        &Target::None,
    );
    for runtime in ["crun", "runc"] {
        let mut number = 0;
        let milliseconds = measure::milliseconds(|| {
            number += 1;
            let mut command = Command::new(runtime);
            // Otherwise crun reads the time zone's file from the outer host.
            command.env("TZ", "UTC0");
            command
                .arg("--root")
                .arg(place.join(runtime))
                .args(["run", "--bundle"])
                .arg(&bundle);
            command.arg(format!("bench-{number}"));
            command
        })?;
        table.add(
            &format!("{runtime} run, the same command in a bundle"),
            milliseconds,
            "ms",
            &Target::None,
        );
    }
    let kernel = place.join("qemu-vmlinux");
    std::fs::write(
        &kernel,
        with_readable_note(std::fs::read(place.join("lib/hull/vmlinux"))?)?,
    )?;
    let milliseconds = measure::milliseconds(|| {
        // A boot that never ends is an error after some time, not a wait without end.
        let mut command = Command::new("timeout");
        command.args(["2", "qemu-system-x86_64"]);
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
        command.arg("-kernel").arg(&kernel);
        command.arg("-initrd").arg(place.join("reboot.cpio"));
        command.args(["-append", "quiet loglevel=1 reboot=t panic=-1"]);
        command
    });
    table.add(
        "QEMU microvm, the same kernel to an init that reboots",
        milliseconds?,
        "ms",
        &Target::None,
    );
    Ok(())
}

/// An OCI bundle whose root has just busybox, and the least isolation that both runtimes accept as a container.
fn bundle(place: &Path) -> Result<std::path::PathBuf> {
    let bundle = place.join("bundle");
    for directory in ["bin", "proc", "dev", "sys"] {
        std::fs::create_dir_all(bundle.join("rootfs").join(directory))?;
    }
    std::fs::copy("/bin/busybox", bundle.join("rootfs/bin/busybox"))
        .context("There is no /bin/busybox")?;
    let namespaces =
        ["pid", "mount", "ipc", "uts", "network", "cgroup"].map(|kind| json!({ "type": kind }));
    let config = json!({
        "ociVersion": "1.0.2",
        "process": { "user": { "uid": 0, "gid": 0 }, "args": ["/bin/busybox", "true"], "env": [], "cwd": "/" },
        "root": { "path": "rootfs", "readonly": false },
        "hostname": "bench",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
        ],
        "linux": { "namespaces": namespaces },
    });
    std::fs::write(bundle.join("config.json"), config.to_string())?;
    std::fs::copy(
        tests::target().join("bench/reboot.cpio"),
        place.join("reboot.cpio"),
    )
    .context("`cargo xtask bench` makes reboot.cpio")?;
    Ok(bundle)
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
fn pin(program: &str, place: &Path) -> Result<()> {
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
