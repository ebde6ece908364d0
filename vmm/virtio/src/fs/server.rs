//! The FUSE server: which request is which operation, and what bytes answer it. Refuses to know queues.
//!
//! The guest is believed in nothing: a request that is too short, too long or senseless is answered with an error's number, and no
//! request makes more than a bounded piece of memory.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid, openat2};
use rustix::io::Errno;

use super::abi::{
    Answer, Fields, Header, IN_HEADER, MAJOR, MINOR, OUT_HEADER, ROOT, feature, opcode,
};
use super::handles::Handles;
use super::nodes::{Nodes, again};
use super::state::SavedHandle;
use super::{Bounds, Descriptors, Owners, Share};
use crate::chain::Chain;

/// Most bytes of a request that is not a write: the longest value of an attribute, and its name.
const LONGEST_REQUEST: usize = 68 << 10;
/// Most bytes read or written at once, and pages.
pub(super) const MOST_BYTES: u32 = 1 << 20;
const MOST_PAGES: u16 = 256;
/// What the guest may read ahead, in bytes.
const READ_AHEAD: u32 = 1 << 20;
/// Requests that the guest sends in the background at a time.
const BACKGROUND: u16 = 64;

const FEATURES: u32 = feature::ASYNC_READ
    | feature::ATOMIC_O_TRUNC
    | feature::BIG_WRITES
    | feature::AUTO_INVAL_DATA
    | feature::DO_READDIRPLUS
    | feature::READDIRPLUS_AUTO
    | feature::PARALLEL_DIROPS
    | feature::MAX_PAGES
    | feature::HANDLE_KILLPRIV_V2;
/// Where users have the same numbers, so have those in access control lists.
const WITH_LISTS: u32 = feature::POSIX_ACL | feature::DONT_MASK;

/// The server and what the guest has of it.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) nodes: Nodes,
    pub(super) handles: Handles,
    pub(super) owners: Owners,
    pub(super) own: Descriptors,
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    /// The process's, as far as it is known.
    pub(super) umask: u32,
    /// Devices of the host that were met, by which inode numbers are told apart.
    pub(super) devices: Vec<u64>,
    /// What was open when the device was saved, and is to be opened again.
    pub(super) saved: Vec<SavedHandle>,
    request: Vec<u8>,
    answer: Answer,
}

impl Server {
    pub(super) fn new(
        shares: Vec<Share>,
        owners: Owners,
        own: Descriptors,
        bounds: Bounds,
    ) -> Self {
        let half = bounds.descriptors.checked_div(2).unwrap_or(0);
        Self {
            nodes: Nodes::new(shares, bounds.nodes, half),
            handles: Handles::new(half),
            owners,
            own,
            uid: rustix::process::geteuid(),
            gid: rustix::process::getegid(),
            umask: u32::MAX,
            devices: Vec::new(),
            saved: Vec::new(),
            request: Vec::new(),
            answer: Answer::default(),
        }
    }

    /// Does what the chain asks for and writes the answer into it: so many bytes.
    pub(super) fn answer(&mut self, chain: &mut Chain<'_>) -> usize {
        let mut header = [0; IN_HEADER];
        let complete = chain.readable.read(&mut header) == IN_HEADER;
        let header = match Header::parse(&header) {
            Ok(header) if complete => header,
            _ => return reply(chain, 0, Err(Errno::INVAL), &[]),
        };
        match header.opcode {
            opcode::READ => return self.read(header, chain),
            opcode::WRITE => {
                self.answer.0.clear();
                let done = self.write(header, chain);
                return self.reply(chain, header, done);
            }
            _ => {}
        }
        let length = chain.readable.left().min(LONGEST_REQUEST);
        let mut request = std::mem::take(&mut self.request);
        request.clear();
        request.resize(length, 0);
        chain.readable.read(&mut request);
        self.answer.0.clear();
        let room = chain.writable.left().saturating_sub(OUT_HEADER);
        let done = match chain.readable.left() {
            0 => self.dispatch(header, Fields(&request), room),
            _ => Some(Err(Errno::MSGSIZE)),
        };
        self.request = request;
        match done {
            Some(done) => self.reply(chain, header, done),
            None => 0,
        }
    }

    fn reply(&self, chain: &mut Chain<'_>, header: Header, done: Result<(), Errno>) -> usize {
        reply(chain, header.unique, done, &self.answer.0)
    }

    /// Nothing for what has no answer.
    fn dispatch(
        &mut self,
        header: Header,
        mut fields: Fields<'_>,
        room: usize,
    ) -> Option<Result<(), Errno>> {
        let fields = &mut fields;
        Some(match header.opcode {
            opcode::FORGET => {
                if let Ok(count) = fields.u64() {
                    self.nodes.forget(header.node, count);
                }
                return None;
            }
            opcode::BATCH_FORGET => {
                let _ = self.forget_many(fields);
                return None;
            }
            opcode::INIT => self.init(fields),
            opcode::DESTROY => {
                self.reset();
                Ok(())
            }
            opcode::LOOKUP => self.lookup(header, fields),
            opcode::GETATTR => self.attributes(header, fields),
            opcode::SETATTR => self.set_attributes(header, fields),
            opcode::READLINK => self.read_link(header),
            opcode::SYMLINK => self.symlink(header, fields),
            opcode::MKNOD => self.make_node(header, fields),
            opcode::MKDIR => self.make_directory(header, fields),
            opcode::UNLINK => self.remove(header, fields, false),
            opcode::RMDIR => self.remove(header, fields, true),
            opcode::RENAME => self.rename(header, fields, false),
            opcode::RENAME2 => self.rename(header, fields, true),
            opcode::LINK => self.link(header, fields),
            opcode::OPEN => self.open(header, fields),
            opcode::CREATE => self.create(header, fields),
            opcode::TMPFILE => self.make_nameless(header, fields),
            opcode::STATFS => self.file_system(header),
            opcode::RELEASE | opcode::RELEASEDIR => {
                fields.u64().and_then(|handle| self.handles.remove(handle))
            }
            opcode::FSYNC => self.sync(header, fields, false),
            opcode::FSYNCDIR => self.sync(header, fields, true),
            opcode::SYNCFS => self.sync_all(header),
            opcode::SETXATTR => self.set_attribute(header, fields),
            opcode::GETXATTR => self.attribute(header, fields, room),
            opcode::LISTXATTR => self.list_attributes(header, fields, room),
            opcode::REMOVEXATTR => self.remove_attribute(header, fields),
            opcode::OPENDIR => self.open_directory(header),
            opcode::READDIR => self.read_directory(header, fields, room, false),
            opcode::READDIRPLUS => self.read_directory(header, fields, room, true),
            opcode::FALLOCATE => self.allocate(header, fields),
            opcode::LSEEK => self.seek(header, fields),
            opcode::COPY_FILE_RANGE => self.copy_range(header, fields),
            // Locks stay in the guest's kernel, and whatever else is asked it does itself or not at all.
            _ => Err(Errno::NOSYS),
        })
    }

    fn init(&mut self, fields: &mut Fields<'_>) -> Result<(), Errno> {
        let (major, _minor) = (fields.u32()?, fields.u32()?);
        let (read_ahead, offered) = (fields.u32()?, fields.u32()?);
        if major < MAJOR {
            return Err(Errno::PROTO);
        }
        self.reset();
        self.answer.u32(MAJOR).u32(MINOR);
        if major > MAJOR {
            // The guest asks again.
            return Ok(());
        }
        let features = match self.owners {
            Owners::Same => FEATURES | WITH_LISTS,
            Owners::Own => FEATURES,
        };
        self.answer
            .u32(read_ahead.min(READ_AHEAD))
            .u32(features & offered)
            .u16(BACKGROUND)
            .u16(BACKGROUND)
            .u32(MOST_BYTES)
            // Times are in nanoseconds.
            .u32(1)
            .u16(MOST_PAGES)
            .u16(0)
            .bytes(&[0; 32]);
        Ok(())
    }

    fn forget_many(&mut self, fields: &mut Fields<'_>) -> Result<(), Errno> {
        let (count, _) = (fields.u32()?, fields.u32()?);
        for _ in 0..count {
            let (node, times) = (fields.u64()?, fields.u64()?);
            self.nodes.forget(node, times);
        }
        Ok(())
    }

    /// The guest begins anew, or ends.
    pub(super) fn reset(&mut self) {
        self.nodes.clear();
        self.handles.clear();
        self.saved.clear();
    }

    /// Where answers are written.
    pub(super) fn out(&mut self) -> &mut Answer {
        &mut self.answer
    }

    /// A node's descriptor; what has lost its name is found by what is open of it.
    pub(super) fn descriptor(&mut self, number: u64) -> Result<Arc<OwnedFd>, Errno> {
        match self.nodes.descriptor(number) {
            Err(Errno::STALE) => {
                let handle = self.handles.of_node(number).ok_or(Errno::STALE)?;
                let file = Arc::clone(&handle.file);
                let descriptor = Arc::new(self.reopen(&file, OFlags::PATH)?);
                self.nodes.give(number, Arc::clone(&descriptor))?;
                Ok(descriptor)
            }
            result => result,
        }
    }

    /// Opens once more what is open, in another way.
    pub(super) fn reopen(&self, open: &OwnedFd, flags: OFlags) -> Result<OwnedFd, Errno> {
        let (directory, name) = (self.own.directory.as_fd(), number(open));
        let flags = flags | OFlags::CLOEXEC;
        again(|| {
            openat2(
                directory,
                &name,
                flags,
                Mode::empty(),
                ResolveFlags::empty(),
            )
        })
    }

    /// A path to what is open, for calls that take nothing else.
    pub(super) fn path(&self, open: &OwnedFd) -> String {
        format!("{}{}", self.own.prefix, number(open))
    }

    /// Whether this is the root, which has nothing of the host's.
    pub(super) fn is_root(header: Header) -> bool {
        header.node == ROOT
    }
}

/// A descriptor's name in `/proc/self/fd`.
pub(super) fn number(open: &OwnedFd) -> String {
    use std::os::fd::AsRawFd;
    open.as_raw_fd().to_string()
}

/// An answer's header, and `body` if all went well. An answer that does not fit is an error.
pub(super) fn reply(
    chain: &mut Chain<'_>,
    unique: u64,
    done: Result<(), Errno>,
    body: &[u8],
) -> usize {
    let room = chain.writable.left();
    if room < OUT_HEADER {
        return 0;
    }
    let done = match OUT_HEADER.checked_add(body.len()) {
        Some(length) if length <= room => done,
        _ => done.and(Err(Errno::RANGE)),
    };
    let body = if done.is_ok() { body } else { &[] };
    let written = write_header(chain, unique, done, body.len());
    written.saturating_add(chain.writable.write(body))
}

/// An answer's header, for a body of this length.
pub(super) fn write_header(
    chain: &mut Chain<'_>,
    unique: u64,
    done: Result<(), Errno>,
    body: usize,
) -> usize {
    let length = OUT_HEADER.saturating_add(body);
    let error = done
        .err()
        .map_or(0, |errno| errno.raw_os_error().wrapping_neg());
    let mut header = Answer::default();
    header
        .u32(u32::try_from(length).unwrap_or(u32::MAX))
        .u32(error.cast_unsigned())
        .u64(unique);
    chain.writable.write(&header.0)
}
