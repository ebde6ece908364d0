//! The file system device over a small directory, which is read-only: made-up requests must not fill a disk.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, open};

use super::volume::Place;
use super::{Input, Target};
use crate::fs::{Bounds, Descriptors, Fs, Owners, Share};
use crate::guest::Guest;

/// A directory with a file, a directory and a link that leads out.
pub(in crate::fuzz) struct Files(Place);

impl Files {
    pub(in crate::fuzz) fn new() -> Self {
        let place = Place::new();
        std::fs::create_dir(place.0.join("d")).unwrap();
        std::fs::write(place.0.join("f"), "content").unwrap();
        std::os::unix::fs::symlink("/etc", place.0.join("l")).unwrap();
        Self(place)
    }
}

pub(super) fn look(path: &Path) -> OwnedFd {
    open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

impl Target for Files {
    type Device = Fs;

    fn device(&mut self) -> Fs {
        let share = Share {
            root: look(&self.0.0),
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
