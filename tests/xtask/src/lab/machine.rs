//! The lab's machine: QEMU and one virtiofsd for each shared directory, as child processes that end when we do. Knows how
//! they are called, and nothing of what runs inside.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use rustix::fs::MemfdFlags;
use rustix::io::FdFlags;

use super::emulator;
use super::system::System;
use crate::sys;

/// Without `erms` and `fsrm` kernels copy by the word: each byte of a `rep movsb` is an instruction to the emulator, and one
/// that it looks at twice in a page whose code it has translated. Half of a lab's time went there.
const CPU: &str = "-cpu max,-erms,-fsrm";

/// One instruction is one nanosecond.
const ICOUNT: &str = "-accel tcg -icount shift=0,sleep=off";

/// As fast as it goes.
const PLAIN: &str = "-accel tcg,thread=multi";

/// Registers before each piece of code that lies where Linux puts a program without randomized addresses.
const TRACE: &str = "-d cpu,nochain -dfilter 0x7ffff7000000..0x7fffffffffff";

/// Where Debian has virtiofsd.
const SERVER: &str = "/usr/lib/qemu/virtiofsd";

/// The kernel's command line: no self-tests, certificates or calibrations, which take an emulator seconds. `norandmaps` would save it
/// another quarter, but in three labs of some twenty that had it guests slept for ever.
const KERNEL: &str = "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check tsc=reliable cryptomgr.notests \
    initcall_blacklist=load_system_certificate_list,jent_mod_init,bpf_tcp_ca_kfunc_init";

/// What a machine is made of.
pub(crate) struct Shape {
    /// One instruction is one nanosecond of the machine's clock; one CPU only.
    pub(crate) icount: bool,
    /// Virtual CPUs.
    pub(crate) cpus: u32,
    /// Memory, in QEMU's notation.
    pub(crate) memory: String,
    /// Directories of the outer host that the lab may write to.
    pub(crate) shares: Vec<PathBuf>,
    /// Where to write what programs without randomized addresses run.
    pub(crate) trace: Option<PathBuf>,
}

/// A running machine. Dropped, it is ended at once.
pub(crate) struct Machine {
    processes: Vec<Child>,
    /// What the kernel's serial console and the processes themselves have said; nobody reads it where all goes well.
    log: File,
}

impl Machine {
    /// Starts the machine. `own` is the initramfs of this lab alone, `ports` the machine's ends of the streams.
    pub(crate) fn start(
        shape: &Shape,
        system: &System,
        own: &[u8],
        ports: Vec<(u32, OwnedFd)>,
    ) -> Result<Self> {
        let log: File = rustix::fs::memfd_create("lab-log", MemfdFlags::CLOEXEC)?.into();
        let mut machine = Self {
            processes: Vec::new(),
            log,
        };
        // The servers first: they must not inherit what is meant for QEMU, or its end would not be seen.
        let root = PathBuf::from("/");
        let mut shared = vec![("outer".to_owned(), machine.share(&root, true)?)];
        for (index, directory) in shape.shares.iter().enumerate() {
            shared.push((
                format!("share{}", index + 1),
                machine.share(directory, false)?,
            ));
        }
        let mut inherited: Vec<OwnedFd> = Vec::new();
        let mut pass = |fd: OwnedFd| -> Result<i32> {
            rustix::io::fcntl_setfd(&fd, FdFlags::empty())?;
            let number = fd.as_raw_fd();
            inherited.push(fd);
            Ok(number)
        };
        let initramfs = pass(machine.initramfs(system, own)?)?;
        let console = pass(machine.log.as_fd().try_clone_to_owned()?)?;
        let Shape { cpus, memory, .. } = shape;
        let mut options = vec![
            "-nodefaults -no-user-config -no-reboot -display none".to_owned(),
            format!("-M pc,usb=off,hpet=off,memory-backend=memory -smp {cpus} -m {memory}"),
            format!("-object memory-backend-memfd,id=memory,size={memory},share=on"),
            format!("{} {CPU}", if shape.icount { ICOUNT } else { PLAIN }),
            format!("-chardev file,id=console,append=on,path=/proc/self/fd/{console}"),
            format!("-serial chardev:console -initrd /proc/self/fd/{initramfs}"),
            // The ports' names inside begin with the place of their device: this one is the first. Slots four apart
            // share an interrupt line, and each line costs the kernel 0.1 s of ACPI to set up.
            "-device virtio-serial-pci,id=ports,max_ports=8,addr=4".to_owned(),
        ];
        for (number, fd) in ports {
            let fd = pass(fd)?;
            options.push(format!("-chardev socket,id=port{number},fd={fd}"));
            options.push(format!(
                "-device virtserialport,bus=ports.0,nr={number},chardev=port{number}"
            ));
        }
        for (index, (tag, fd)) in shared.into_iter().enumerate() {
            let fd = pass(fd)?;
            let slot = if index < 6 {
                format!(",addr={:#x}", 8 + 4 * index)
            } else {
                String::new()
            };
            options.push(format!("-chardev socket,id={tag},fd={fd}"));
            options.push(format!(
                "-device vhost-user-fs-pci,queue-size=1024,chardev={tag},tag={tag}{slot}"
            ));
        }
        let mut qemu = emulator::command(&system.emulator);
        qemu.args(options.iter().flat_map(|line| line.split(' ')));
        if let Some(trace) = &shape.trace {
            qemu.args(TRACE.split(' ')).arg("-D").arg(trace);
        }
        // Without ACPI's interrupt routing a boot is a third shorter, but finds one CPU only.
        let routing = if shape.cpus == 1 { " acpi=noirq" } else { "" };
        qemu.arg("-kernel")
            .arg(&system.kernel)
            .args(["-append", &format!("{KERNEL}{routing}")]);
        machine.spawn(qemu.stdin(Stdio::null()).stdout(Stdio::null()))?;
        Ok(machine)
    }

    /// The two initramfs archives, one after the other, in a file that has no name.
    fn initramfs(&self, system: &System, own: &[u8]) -> Result<OwnedFd> {
        let mut file: File = rustix::fs::memfd_create("lab-initramfs", MemfdFlags::CLOEXEC)?.into();
        std::io::copy(&mut File::open(&system.initramfs)?, &mut file)?;
        file.write_all(own)?;
        Ok(file.into())
    }

    /// Starts a file server for a directory and returns the connection to it.
    ///
    /// The outer host's root does not change under a lab that lives for seconds, so everything may be cached; a directory
    /// that is written from both sides may not.
    fn share(&mut self, directory: &Path, root: bool) -> Result<OwnedFd> {
        let place = tempfile::tempdir()?;
        let listener = UnixListener::bind(place.path().join("socket"))
            .context("No socket for the file server")?;
        let stream = UnixStream::connect(place.path().join("socket"))?;
        // The server has to be root. Its socket is its standard output, a descriptor that sudo passes on and that
        // virtiofsd, unlike standard input, leaves alone.
        let mut server = Command::new(SERVER);
        if !rustix::process::geteuid().is_root() {
            server = Command::new("sudo");
            server.args(["-n", SERVER]);
        }
        server.arg("--fd=1").stdout(OwnedFd::from(listener));
        server.arg("-o").arg({
            let mut option = std::ffi::OsString::from("source=");
            option.push(directory);
            option
        });
        server.args(["-o", if root { "cache=always" } else { "cache=auto" }]);
        server.args(["-o", "xattr", "-o", "sandbox=chroot", "-o", "log_level=err"]);
        self.spawn(server.stdin(Stdio::null()))?;
        Ok(stream.into())
    }

    fn spawn(&mut self, command: &mut Command) -> Result<()> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stderr(self.log.try_clone()?);
        let child = sys::end_with_us(command)
            .spawn()
            .with_context(|| format!("{name} does not start"))?;
        self.processes.push(child);
        Ok(())
    }

    /// Whether its kernel has died, as opposed to its never having started.
    pub(crate) fn has_panicked(&mut self) -> bool {
        self.last_words().contains("Kernel panic")
    }

    /// The end of what the kernel and the processes have said.
    pub(crate) fn last_words(&mut self) -> String {
        let mut bytes = Vec::new();
        let _ = self.log.rewind();
        let _ = self.log.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
        }
        for process in &mut self.processes {
            let _ = process.wait();
        }
    }
}
