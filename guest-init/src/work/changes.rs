//! What differs from the image: the upper layer, read as overlayfs writes it.

use alloc::string::String;
use alloc::vec::Vec;

use protocol::{Change, Item};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, StatxAttributes};
use rustix::io::Errno;

use super::{Out, failed, join, names, pack};
use crate::root::Layers;

/// What init itself writes; docker mounts these, and does not tell of them.
const OWN: [&[u8]; 3] = [b"etc/hostname", b"etc/hosts", b"etc/resolv.conf"];
/// Where those are: it is told of only with something else in it, or when it is new.
const OWN_DIRECTORY: &[u8] = b"etc";

const OPAQUE: &[u8] = b"trusted.overlay.opaque";
const REDIRECT: &[u8] = b"trusted.overlay.redirect";

struct Walk<'a, 'b> {
    out: &'a mut Out<'b>,
    layers: &'a Layers,
    /// A directory that is told of once something in it is.
    waiting: Option<Vec<u8>>,
}

pub(super) fn changes(out: &mut Out, layers: &Layers) -> Result<(), String> {
    let mut walk = Walk {
        out,
        layers,
        waiting: None,
    };
    walk.directory(b"")
}

impl Walk<'_, '_> {
    fn tell(&mut self, change: Change, path: &[u8]) -> Result<(), String> {
        if let Some(waiting) = self.waiting.take_if(|waiting| path.starts_with(waiting)) {
            self.tell(Change::Changed, &waiting)?;
        }
        self.waiting = None;
        let path = [b"/", path].concat();
        self.out.item(&Item::Change(change, path.into()))
    }

    fn directory(&mut self, path: &[u8]) -> Result<(), String> {
        let failed = |errno| failed("read", path, errno);
        let names = open(&self.layers.upper, path)
            .and_then(|directory| names(&directory))
            .map_err(failed)?;
        for name in names {
            let path = join(path, &name);
            // Files of init's own, and the points on which something is mounted.
            if !OWN.contains(&path.as_slice()) && !is_mount(&path) {
                self.entry(&path)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &[u8]) -> Result<(), String> {
        let upper = stat(&self.layers.upper, path).map_err(|errno| failed("read", path, errno))?;
        let lower = stat(&self.layers.lower, path).ok();
        let kind = FileType::from_raw_mode(upper.st_mode);
        if kind == FileType::CharacterDevice && upper.st_rdev == 0 {
            return match lower {
                Some(_) => self.tell(Change::Removed, path),
                None => Ok(()),
            };
        }
        let change = match lower {
            Some(_) => Change::Changed,
            None => Change::Added,
        };
        if path == OWN_DIRECTORY && lower.is_some_and(|lower| is_same(&lower, &upper)) {
            self.waiting = Some(path.to_vec());
        } else {
            self.tell(change, path)?;
        }
        if kind != FileType::Directory {
            return Ok(());
        }
        if self.has(path, REDIRECT) {
            return self.moved(path);
        }
        if self.has(path, OPAQUE) && lower.is_some() {
            self.replaced(path)?;
        }
        self.directory(path)
    }

    fn has(&self, path: &[u8], attribute: &[u8]) -> bool {
        // There is no call for an attribute below a directory that is open, but for one of what is open.
        open(&self.layers.upper, path).is_ok_and(|directory| {
            let mut value = [0; 4096];
            rustix::fs::fgetxattr(directory, attribute, &mut value[..]).is_ok()
        })
    }

    /// A directory of the image under another name: all that it shows is new here.
    fn moved(&mut self, path: &[u8]) -> Result<(), String> {
        let shown = join(b"/", path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let list = rustix::fs::open(shown.as_slice(), flags, Mode::empty())
            .and_then(|directory| names(&directory))
            .map_err(|errno| failed("read", &shown, errno))?;
        for name in list {
            let path = join(path, &name);
            self.tell(Change::Added, &path)?;
            let status = pack::status(&join(b"/", &path));
            let is_directory =
                |mode: u16| FileType::from_raw_mode(mode.into()) == FileType::Directory;
            if status.is_ok_and(|status| is_directory(status.stx_mode)) {
                self.moved(&path)?;
            }
        }
        Ok(())
    }

    /// A directory in place of one of the image: what that had and this has not is gone.
    fn replaced(&mut self, path: &[u8]) -> Result<(), String> {
        let Ok(before) = open(&self.layers.lower, path).and_then(|lower| names(&lower)) else {
            return Ok(());
        };
        for name in before {
            let path = join(path, &name);
            if stat(&self.layers.upper, &path).is_err() {
                self.tell(Change::Removed, &path)?;
            }
        }
        Ok(())
    }
}

fn open(layer: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let path = if path.is_empty() { b"." } else { path };
    rustix::fs::openat(layer, path, flags, Mode::empty())
}

fn stat(layer: &OwnedFd, path: &[u8]) -> Result<Stat, Errno> {
    rustix::fs::statat(layer, path, AtFlags::SYMLINK_NOFOLLOW)
}

fn is_mount(path: &[u8]) -> bool {
    pack::status(&join(b"/", path))
        .is_ok_and(|status| status.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Whether nothing but what is in a directory has changed.
fn is_same(one: &Stat, other: &Stat) -> bool {
    (one.st_mode, one.st_uid, one.st_gid) == (other.st_mode, other.st_uid, other.st_gid)
}
