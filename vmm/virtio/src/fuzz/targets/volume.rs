//! The file system device over directories that may be changed, and requests that are whole. What they say of lengths is bounded: made-up
//! requests must not fill a disk. Refuses to know what the device answers.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::Mode;

use super::files::look;
use super::{Input, Target};
use crate::fs::{Bounds, Descriptors, Fs, Owners, Share};
use crate::guest::Guest;

/// Each operation's number, and what follows the header: a letter for each field, as [`Volume::field`] has them.
const REQUESTS: &[(u32, &str)] = &[
    (1, "n"),               // LOOKUP
    (1, "d"),               // and of what is there from the start
    (2, "o"),               // FORGET
    (3, ""),                // GETATTR
    (4, "w0hoooooww0w0ww"), // SETATTR
    (5, ""),                // READLINK
    (6, "nn"),              // SYMLINK
    (8, "m0w0n"),           // MKNOD
    (9, "wwn"),             // MKDIR
    (10, "n"),              // UNLINK
    (11, "n"),              // RMDIR
    (12, "Nnn"),            // RENAME
    (13, "Nn"),             // LINK
    (14, "w0"),             // OPEN
    (14, "ww"),             // OPEN that drops setuid bits
    (15, "hos"),            // READ
    (16, "hosw00w0b"),      // WRITE
    (17, ""),               // STATFS
    (18, "h"),              // RELEASE
    (20, "hw"),             // FSYNC
    (21, "swxb"),           // SETXATTR
    (22, "s0x"),            // GETXATTR
    (23, "s0"),             // LISTXATTR
    (24, "x"),              // REMOVEXATTR
    (26, "wwii"),           // INIT
    (27, ""),               // OPENDIR
    (28, "hoS"),            // READDIR
    (29, "h"),              // RELEASEDIR
    (30, "hw"),             // FSYNCDIR
    (35, "www0n"),          // CREATE
    (38, ""),               // DESTROY
    (42, "s0NoNoNo"),       // BATCH_FORGET
    (43, "hoow"),           // FALLOCATE
    (44, "hoS"),            // READDIRPLUS
    (45, "Nw0nn"),          // RENAME2
    (46, "how"),            // LSEEK
    (47, "hoNhooo"),        // COPY_FILE_RANGE
    (50, "o"),              // SYNCFS
    (51, "www"),            // TMPFILE
];

/// Names of entries: of the device's root, of a share, and some that are none.
const NAMES: &[&[u8]] = &[
    b"0",
    b"1",
    b"2",
    b"a",
    b"b",
    b"f",
    b"d",
    b"l",
    b"",
    b"..",
    b"a/b",
    b"7",
    &[b'n'; 300],
    b"3",
];
/// Names of extended attributes.
const ATTRIBUTES: &[&[u8]] = &[
    b"user.a",
    b"user.b",
    b"security.capability",
    b"system.posix_acl_access",
    b"trusted.a",
];
/// What stays as it is.
const KEPT: &str = "kept";

/// A share that may be changed, one that may not, a file, and a part of the first, all in a directory of their own; beside them what must
/// not be reached.
pub(in crate::fuzz) struct Volume {
    directory: Place,
    owners: Owners,
}

impl Volume {
    pub(in crate::fuzz) fn new(owners: u8) -> Self {
        let directory = Place::new();
        for path in ["w/d", "r/d", "outside"] {
            fs::create_dir_all(directory.0.join(path)).unwrap();
        }
        for path in ["w/f", "w/d/f", "r/f", "file", "outside/f"] {
            fs::write(directory.0.join(path), KEPT).unwrap();
        }
        for path in ["w/l", "r/l"] {
            symlink("../outside", directory.0.join(path)).unwrap();
        }
        let owners = match owners & 1 {
            0 => Owners::Own,
            _ => Owners::Same,
        };
        Self { directory, owners }
    }

    /// What a letter of [`REQUESTS`] stands for.
    fn field(letter: u8, input: &mut Input<'_>) -> Vec<u8> {
        let among =
            |all: &[&[u8]], choice: u8| [all[usize::from(choice) % all.len()], &[0]].concat();
        match letter {
            b'n' => among(NAMES, input.byte()),
            b'd' => among(&NAMES[..8], input.byte()),
            b'x' => among(ATTRIBUTES, input.byte()),
            b'N' | b'h' => u64::from(input.byte() % 16).to_le_bytes().into(),
            b'o' => u64::from(input.half()).to_le_bytes().into(),
            b's' => u32::from(input.byte()).to_le_bytes().into(),
            b'S' => (u32::from(input.byte()) * 16).to_le_bytes().into(),
            b'w' => u32::from(input.half()).to_le_bytes().into(),
            // A type of file in its highest bits.
            b'm' => (u32::from(input.byte()) << 12 | 0o644).to_le_bytes().into(),
            b'i' => input.word().to_le_bytes().into(),
            b'b' => input.bytes().into(),
            _ => vec![0; 4],
        }
    }
}

impl Target for Volume {
    type Device = Fs;
    const RAW: bool = false;

    fn device(&mut self) -> Fs {
        let share = |name, read_only| Share {
            root: look(&self.directory.0.join(name)),
            read_only,
        };
        let descriptors = Descriptors {
            directory: Arc::new(look(Path::new("/proc/self/fd"))),
            prefix: "/proc/self/fd/",
        };
        let bounds = Bounds {
            descriptors: 8,
            nodes: 12,
        };
        let shares = vec![
            share("w", false),
            share("r", true),
            share("file", false),
            share("w/d", false),
        ];
        Fs::new("fuzz", shares, self.owners, descriptors, bounds)
    }

    fn act(&mut self, guest: &mut Guest, input: &mut Input<'_>) {
        let (opcode, letters) = REQUESTS[usize::from(input.byte()) % REQUESTS.len()];
        let (node, user) = (u64::from(input.byte() % 16), u32::from(input.byte() & 1));
        let header = [
            &[0; 4][..],
            &opcode.to_le_bytes(),
            &[7; 8],
            &node.to_le_bytes(),
            &user.to_le_bytes(),
            &user.to_le_bytes(),
            &[0; 8],
        ]
        .concat();
        let fields: Vec<_> = letters
            .bytes()
            .flat_map(|letter| Self::field(letter, input))
            .collect();
        let room = usize::from(input.byte()) * 16;
        if guest.may_offer(1, 3) {
            guest.offer(1, &[&header, &fields], &[room]);
            guest.slot.kick(1);
        }
    }

    fn end(&self) {
        for path in ["outside/f", "r/f", "r/d"] {
            let path = self.directory.0.join(path);
            let kept = path.is_dir() || fs::read(&path).is_ok_and(|text| text == KEPT.as_bytes());
            assert!(kept, "{} is another", path.display());
        }
    }
}

/// A directory of its own, which goes with all that is in it.
pub(super) struct Place(pub(super) PathBuf);

impl Place {
    pub(super) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // In memory, if possible: requests make durable what they write.
        let memory = Path::new("/dev/shm");
        let parent = match memory.is_dir() {
            true => memory.to_owned(),
            false => std::env::temp_dir(),
        };
        // The device's own, from the run before.
        rustix::process::umask(Mode::from_raw_mode(0o022));
        let directory = parent.join(format!("hull-fuzz-{process}-{count}"));
        fs::create_dir(&directory).unwrap();
        Self(directory)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        clear(&self.0);
    }
}

/// Removes a directory, whatever became of the rights in it.
fn clear(directory: &Path) {
    let _ = fs::set_permissions(directory, Permissions::from_mode(0o700));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => clear(&entry.path()),
            _ => drop(fs::remove_file(entry.path())),
        }
    }
    let _ = fs::remove_dir(directory);
}
