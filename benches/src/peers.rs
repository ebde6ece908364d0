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
    for file in ["root/data", "root/random", "volume/data", "volume/random"] {
        std::fs::write(place.join(file), &data)?;
    }
    std::fs::copy(tests::target().join("bench/work"), place.join("root/work"))
        .context("`cargo xtask bench` makes work")?;
    compiler(&place.join("root"))?;
    for file in ["reboot.cpio", "network.cpio"] {
        std::fs::copy(tests::target().join("bench").join(file), place.join(file))
            .with_context(|| format!("`cargo xtask bench` makes {file}"))?;
    }
    let kernel = std::fs::read(place.join("lib/hull/vmlinux"))?;
    std::fs::write(place.join("qemu-vmlinux"), with_readable_note(kernel)?)?;
    Ok(())
}

/// A small compiler, with its libraries and something to compile.
fn compiler(root: &Path) -> Result<()> {
    let program = Path::new("/usr/bin/tcc");
    for file in libraries(program)?.into_iter().chain([program.into()]) {
        let copy = root.join(file.strip_prefix("/")?);
        std::fs::create_dir_all(copy.parent().context("A file needs a directory")?)?;
        std::fs::copy(&file, copy).with_context(|| format!("There is no {}", file.display()))?;
    }
    let mut source = "int f0(int a, int b) { return a - b; }\n".to_owned();
    for number in 1..2000 {
        let before = number - 1;
        source += &format!(
            "int f{number}(int a, int b) {{ int i, s = a; for (i = 0; i < b; i++) s = s * 31 + i % {number}; \
             return s > b ? s - b : f{before}(b, s); }}\n"
        );
    }
    Ok(std::fs::write(root.join("program.c"), source)?)
}

/// The shared libraries that a program loads.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let listed = Command::new("ldd").arg(program).output();
    let listed = listed.context("ldd does not run")?.stdout;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    let words = listed.split_whitespace();
    Ok(words
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect())
}

/// Unpacks Debian's layer of a fixture's archive, which is the first, into a root directory of this name.
pub(crate) fn unpack(place: &Path, name: &str) -> Result<()> {
    let root = place.join("roots").join(name);
    std::fs::create_dir_all(&root)?;
    let script =
        "layer=$(tar -xOf \"$1\" manifest.json | grep -o '[0-9a-f]*/layer.tar' | head -n 1)
        tar -xOf \"$1\" \"$layer\" | tar -xpf - -C \"$2\"";
    let mut unpack = Command::new("bash");
    unpack.args(["-o", "pipefail", "-c", script, "bash"]);
    unpack
        .arg(tests::fixture::path(&format!("{name}.tar")))
        .arg(root);
    let unpacked = unpack.output()?;
    measure::check(&unpack, &unpacked)
}

/// A container of another runtime, with the least isolation that all of them accept as one.
pub(crate) struct Bundle<'a> {
    pub(crate) root: PathBuf,
    pub(crate) words: &'a [&'a str],
    /// With a tmpfs and a volume.
    pub(crate) furnished: bool,
    /// Or the host's.
    pub(crate) own_network: bool,
}

impl Bundle<'_> {
    /// Writes it down as an OCI bundle of this name.
    pub(crate) fn make(&self, place: &Path, name: &str) -> Result<PathBuf> {
        let bundle = place.join("bundles").join(name);
        std::fs::create_dir_all(&bundle)?;
        let mut mounts = vec![
            json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
            json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] }),
        ];
        if self.furnished {
            let volume = place.join("volume");
            mounts.extend([
            json!({ "destination": "/memory", "type": "tmpfs", "source": "tmpfs" }),
            json!({ "destination": "/volume", "type": "bind", "source": volume, "options": ["rbind"] }),
        ]);
        }
        let mut namespaces = vec!["pid", "mount", "ipc", "uts", "cgroup"];
        namespaces.extend(self.own_network.then_some("network"));
        let namespaces: Vec<_> = namespaces
            .iter()
            .map(|kind| json!({ "type": kind }))
            .collect();
        let config = json!({
            "ociVersion": "1.0.2",
            "process": { "user": { "uid": 0, "gid": 0 }, "args": self.words, "env": ["PATH=/usr/bin:/bin"], "cwd": "/" },
            "root": { "path": self.root, "readonly": false },
            "hostname": "bench",
            "mounts": mounts,
            "linux": { "namespaces": namespaces },
        });
        std::fs::write(bundle.join("config.json"), config.to_string())?;
        Ok(bundle)
    }
}

/// hull's kernel in QEMU's smallest machine, with an init that reboots at once.
pub(crate) fn microvm(place: &Path) -> Command {
    // A boot that never ends is an error after some time, not a wait without end. The first run reads files of the outer
    // host, and the lab's clock runs on while that is busy.
    let mut command = qemu(place, "30", "auto-kernel-cmdline=off");
    command.arg("-initrd").arg(place.join("reboot.cpio"));
    command.args(["-append", "quiet loglevel=1 reboot=t panic=-1"]);
    command
}

/// The same with a network card, and an init that measures it and says the figures on the console.
pub(crate) fn networked(place: &Path, netdev: &str, mtu: &str) -> Command {
    let mut command = qemu(place, "300", "auto-kernel-cmdline=on");
    command.args(["-netdev", netdev, "-device", "virtio-net-device,netdev=net"]);
    command.args([
        "-chardev",
        "stdio,id=console,signal=off",
        "-device",
        "virtio-serial-device",
    ]);
    command.args(["-device", "virtconsole,chardev=console"]);
    command.arg("-initrd").arg(place.join("network.cpio"));
    let line = format!("console=hvc0 quiet loglevel=1 reboot=t panic=-1 mtu={mtu}");
    command.args(["-append", &line]);
    command
}

fn qemu(place: &Path, seconds: &str, machine: &str) -> Command {
    let plain = "microvm,accel=kvm,acpi=off,pit=on,pic=on,rtc=off,isa-serial=off";
    let mut command = Command::new("timeout");
    command.args([seconds, "qemu-system-x86_64", "-cpu", "host", "-m", "256M"]);
    command.args(["-M", &format!("{plain},{machine}"), "-nodefaults"]);
    command.args(["-no-user-config", "-display", "none", "-no-reboot"]);
    command.arg("-kernel").arg(place.join("qemu-vmlinux"));
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
    let pinned = place.join("pinned");
    std::fs::create_dir_all(&pinned)?;
    for file in libraries(&path)?
        .into_iter()
        .chain([path, "/etc/ld.so.cache".into()])
    {
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
