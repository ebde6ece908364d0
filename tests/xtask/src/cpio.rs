//! Writes cpio archives in the `newc` form that the kernel unpacks as an initramfs. Knows no file of any of them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// An archive in memory. Entries appear in the order in which they are added, so the same calls give the same bytes.
pub(crate) struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

/// The kind and permissions of an entry, as in `st_mode`.
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

impl Archive {
    /// An archive with nothing in it.
    pub(crate) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            inode: 0,
        }
    }

    /// Adds a directory. Parents must have been added before.
    pub(crate) fn directory(&mut self, path: &str) {
        self.entry(OsStr::new(path), DIRECTORY | 0o755, (0, 0), &[]);
    }

    /// Adds a regular file.
    pub(crate) fn file(&mut self, path: &str, permissions: u32, content: &[u8]) {
        self.entry(OsStr::new(path), FILE | permissions, (0, 0), content);
    }

    /// Adds a character device.
    pub(crate) fn character_device(
        &mut self,
        path: &str,
        permissions: u32,
        major: u32,
        minor: u32,
    ) {
        self.entry(
            OsStr::new(path),
            CHARACTER_DEVICE | permissions,
            (major, minor),
            &[],
        );
    }

    /// Ends the archive and returns it. The kernel accepts several archives one after the other.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.entry(OsStr::new("TRAILER!!!"), 0, (0, 0), &[]);
        while !self.bytes.len().is_multiple_of(512) {
            self.bytes.push(0);
        }
        self.bytes
    }

    fn entry(&mut self, path: &OsStr, mode: u32, device: (u32, u32), content: &[u8]) {
        self.inode += 1;
        let links = if mode & 0o170_000 == DIRECTORY { 2 } else { 1 };
        // inode, mode, uid, gid, links, time, size, device of the file (2), device that it is (2), length of the name, sum
        let name = path.as_bytes();
        let fields = [
            u64::from(self.inode),
            u64::from(mode),
            0,
            0,
            links,
            0,
            content.len() as u64,
            0,
            0,
            u64::from(device.0),
            u64::from(device.1),
            name.len() as u64 + 1,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

#[cfg(test)]
mod tests;
