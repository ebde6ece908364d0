//! What guest init does by itself for the host, and what the standard streams of such a process carry: frames, each one
//! [`Item`], and after a file's its content. Knows no file.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::{Bytes, Message};

/// Something that init does without a program of the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// Write a file, or a directory with all that is in it, to standard output as [`Item::Entry`]s whose paths start there.
    Pack {
        /// An absolute path.
        path: Bytes,
        /// A link at the very path is followed.
        follow: bool,
        /// This is the container's whole root file system: nothing that is mounted on it counts.
        whole: bool,
    },
    /// Make what standard input says in [`Item::Entry`]s.
    Unpack {
        /// An absolute path: where the first entry goes, or below which, if it is a directory that is there.
        path: Bytes,
        /// What the first entry is called below it; empty means that the entries have names of their own.
        name: Bytes,
    },
    /// Tell what differs from the image, as [`Item::Change`]s on standard output.
    Changes,
    /// Tell which processes there are: [`Item::Uptime`], then [`Item::Process`]es on standard output.
    Processes,
}

/// A frame of such a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item {
    /// A file, with so many bytes after this frame, or something else that has a path.
    Entry(Entry),
    /// Nothing follows; without it the stream was cut short.
    End,
    /// A path differs from the image.
    Change(Change, Bytes),
    /// A process.
    Process {
        /// Its `/proc/PID/stat`.
        stat: Bytes,
        /// Its effective user.
        uid: u32,
        /// Its `/proc/PID/cmdline`.
        command: Bytes,
    },
    /// The seconds that the machine has been up.
    Uptime(u64),
}

impl Message for Item {
    /// Room for a path, a target, and attributes as EROFS and ext4 hold them.
    const LIMIT: usize = 1 << 20;
}

/// How a path differs from the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// The image does not have it.
    Added,
    /// The image has another.
    Changed,
    /// The image has it, the container not.
    Removed,
}

/// Something that has a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its path below where the stream starts, components with one slash between them; empty is that itself.
    pub path: Bytes,
    /// What it is.
    pub kind: EntryKind,
    /// Permissions, setuid, setgid and sticky bits.
    pub mode: u16,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// When it was changed, in seconds since 1970, and what is left of one.
    pub seconds: i64,
    /// Nanoseconds.
    pub nanoseconds: u32,
    /// Names and values of extended attributes.
    pub attributes: Vec<(Bytes, Bytes)>,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A file.
    File {
        /// Its bytes, which follow the frame.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Symlink(Bytes),
    /// Another name of the entry with this path.
    HardLink(Bytes),
    /// A character device of this major and minor number.
    Character(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}
