//! What a template was made of, as one name: whatever differs in it makes another template. Refuses to know how one is made.

use std::arch::x86_64::__cpuid_count;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use image::Digest;

use super::Model;
use crate::snapshot;

/// Leaves that say what processor this is and what it can do. None changes while it runs, nor with the processor that asks,
/// but for the bits masked below.
const LEAVES: [(u32, u32); 8] = [
    (0, 0),
    (1, 0),
    (7, 0),
    (7, 1),
    (0xd, 0),
    (0xd, 1),
    (0x8000_0001, 0),
    (0x8000_0008, 0),
];

/// The name of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    text: String,
}

impl Key {
    /// For a machine of this shape out of these files.
    pub(crate) fn of(model: &Model<'_>) -> io::Result<Self> {
        let parts = model.parts;
        let mut text = format!(
            "hull {}, format {}, protocol {}\n",
            env!("CARGO_PKG_VERSION"),
            snapshot::VERSION,
            protocol::VERSION
        );
        let program = std::fs::metadata("/proc/self/exe")?;
        describe(&mut text, "program", &program);
        let files: [(&str, Option<&File>); 3] = [
            ("kernel", Some(&parts.kernel.file)),
            ("initramfs", Some(&parts.initramfs.file)),
            ("root", parts.root.as_ref()),
        ];
        let there = files
            .into_iter()
            .filter_map(|(name, file)| Some((name, file?)));
        for (name, file) in there {
            describe(&mut text, name, &file.metadata()?);
        }
        let host = rustix::system::uname();
        let (release, version) = (
            host.release().to_string_lossy(),
            host.version().to_string_lossy(),
        );
        let _ = writeln!(text, "host {release} {version}");
        for (leaf, index) in LEAVES {
            let (mut a, mut b, mut c, mut d) = registers(leaf, index);
            match leaf {
                // The processor that asks; whether it has its APIC and XSAVE on.
                1 => (b, c, d) = (b & 0x00ff_ffff, c & !(1 << 27), d & !(1 << 9)),
                // Sizes of what is enabled now.
                0xd => (b, c) = (0, 0),
                0x8000_0001 => d &= !(1 << 9),
                7 => c &= !(1 << 4),
                _ => {}
            }
            if leaf == 0xd && index == 0 {
                a &= 0xff;
            }
            let _ = writeln!(text, "cpu {leaf:x} {index} {a:x} {b:x} {c:x} {d:x}");
        }
        let _ = writeln!(text, "storage {}", model.storage);
        let _ = writeln!(text, "{:?}", model.machine.shape());
        Ok(Self { text })
    }

    /// A name for a file.
    pub(crate) fn name(&self) -> String {
        let mut name = Digest::of(self.text.as_bytes()).hex();
        name.truncate(32);
        name
    }

    /// All that it stands for, a line each.
    pub(crate) fn about(&self) -> &[u8] {
        self.text.as_bytes()
    }

    #[cfg(test)]
    pub(crate) fn of_test(text: &str) -> Self {
        let text = text.to_owned();
        Self { text }
    }
}

/// Which file this is.
pub(super) fn identity(file: &std::fs::Metadata) -> String {
    format!("{}:{}", file.dev(), file.ino())
}

/// Which file was the root, in a key's text.
pub(super) fn root_in(text: &str) -> Option<&str> {
    let line = text.lines().find_map(|line| line.strip_prefix("root "))?;
    line.split(' ').next()
}

/// A file that has not changed is the same; one that was replaced is not.
fn describe(text: &mut String, name: &str, file: &std::fs::Metadata) {
    let _ = writeln!(text, "{name} {}", fingerprint(file));
}

/// The same for one file.
fn fingerprint(file: &std::fs::Metadata) -> String {
    format!(
        "{} {} {}.{} {}.{}",
        identity(file),
        file.size(),
        file.mtime(),
        file.mtime_nsec(),
        file.ctime(),
        file.ctime_nsec()
    )
}

fn registers(leaf: u32, index: u32) -> (u32, u32, u32, u32) {
    let found = __cpuid_count(leaf, index);
    (found.eax, found.ebx, found.ecx, found.edx)
}
