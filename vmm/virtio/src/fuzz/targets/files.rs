//! The file system device over a small directory, which is read-only: made-up requests must not fill a disk.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, open};

use super::{Input, Target};
use crate::fs::{Bounds, Descriptors, Fs, Owners, Share};
use crate::guest::Guest;

/// A directory with a file, a directory and a link that leads out.
pub(in crate::fuzz) struct Files(PathBuf);

impl Files {
    pub(in crate::fuzz) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("hull-fuzz-{}", std::process::id()));
        // There from the second run on.
        let _ = std::fs::create_dir_all(path.join("d"));
        std::fs::write(path.join("f"), "content").unwrap();
        let _ = std::os::unix::fs::symlink("/etc", path.join("l"));
        Self(path)
    }
}

pub(super) fn look(path: &Path) -> OwnedFd {
    open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

impl Target for Files {
    type Device = Fs;

    fn device(&mut self) -> Fs {
        let share = Share {
            root: look(&self.0),
            read_only: true,
        };
        let descriptors = Descriptors {
            directory: Arc::new(look(Path::new("/proc/self/fd"))),
            prefix: "/proc/self/fd/",
        };
        let bounds = Bounds {
            descriptors: 8,
            nodes: 8,
        };
        Fs::new("fuzz", vec![share], Owners::Own, descriptors, bounds)
    }

    /// A request with a header that is right, and numbers that may be.
    fn act(&mut self, guest: &mut Guest, input: &mut Input<'_>) {
        let (opcode, node) = (u32::from(input.byte()) % 64, u64::from(input.byte()) % 8);
        let header = [
            &[0; 4][..],
            &opcode.to_le_bytes(),
            &[7; 8],
            &node.to_le_bytes(),
            &[0; 16],
        ]
        .concat();
        let fields: &[u8] = match input.byte() % 8 {
            0 => b"0\0",
            1 => b"f\0",
            2 => b"d\0",
            3 => b"l\0",
            // The first handle, from the beginning, for one page.
            4 => &[
                1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0,
            ],
            5 => &[0; 40],
            _ => input.bytes(),
        };
        let room = usize::from(input.half()) % 8192;
        if guest.may_offer(1, 3) {
            guest.offer(1, &[&header, fields], &[room]);
            guest.slot.kick(1);
        }
    }
}
