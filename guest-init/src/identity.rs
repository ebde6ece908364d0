//! Whom a process runs as: `user[:group]` looked up in the image's /etc/passwd and /etc/group, as docker does it. Parses
//! by hand; knows no NSS and changes no credentials.

use alloc::string::String;
use alloc::vec::Vec;

use protocol::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fd::AsFd;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use thiserror::Error;

use crate::errno::SystemError;

/// A larger user or group file is refused.
const LARGEST_FILE: usize = 4 << 20;

/// The highest number that is a user or group; above, signed arithmetic of old programs breaks.
const LARGEST_NUMBER: u32 = i32::MAX.cast_unsigned();

/// Whom a process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user's number.
    pub uid: u32,
    /// The primary group's number.
    pub gid: u32,
    /// All groups, the primary one first.
    pub groups: Vec<u32>,
    /// The home directory, `/` for a user without entry.
    pub home: Vec<u8>,
}

/// Why there is no such identity.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The user is not a number and not in the image.
    #[error("User {0:?} is not in the image's /etc/passwd")]
    NoUser(String),
    /// The group is not a number and not in the image.
    #[error("Group {0:?} is not in the image's /etc/group")]
    NoGroup(String),
    /// A number no user or group can have.
    #[error("Number {0} is over {LARGEST_NUMBER}, the highest user or group")]
    Number(u32),
    /// The file is there but cannot be read.
    #[error("Cannot read the image's /{path}: {error}")]
    Unreadable {
        /// Which file.
        path: &'static str,
        /// The system's answer.
        error: SystemError,
    },
    /// The file is there but is not a plain file of reasonable size.
    #[error("The image's /{path} is not a regular file of at most {LARGEST_FILE} bytes")]
    NotAFile {
        /// Which file.
        path: &'static str,
    },
}

impl Identity {
    /// Looks up `user[:group]`, names or numbers, in the files beneath the directory `root`; empty
    /// means root. `more` are groups to be in besides.
    ///
    /// # Errors
    /// Unknown names, impossible numbers, unreadable files.
    pub fn find(user: &[u8], more: &[Bytes], root: impl AsFd) -> Result<Self, IdentityError> {
        let passwd = content(root.as_fd(), "etc/passwd")?;
        let group = content(root.as_fd(), "etc/group")?;
        Self::look_up(user, more, &passwd, &group)
    }

    /// Looks up `user[:group]` in the content of the two files, and `more` groups.
    ///
    /// # Errors
    /// Unknown names, impossible numbers.
    pub fn look_up(
        user: &[u8],
        more: &[Bytes],
        passwd: &[u8],
        group: &[u8],
    ) -> Result<Self, IdentityError> {
        let mut parts = user.splitn(2, |byte| *byte == b':');
        let user = parts.next().filter(|name| !name.is_empty()).unwrap_or(b"0");
        let wanted_group = parts.next().filter(|name| !name.is_empty());

        let user_number = number(user);
        let entry = entries(passwd)
            .filter_map(User::parse)
            .find(|entry| Some(entry.uid) == user_number || entry.name == user);
        let (uid, mut gid, home) = match (&entry, user_number) {
            (Some(entry), _) => (entry.uid, entry.gid, entry.home),
            (None, Some(number)) => (number, 0, b"/".as_slice()),
            (None, None) => return Err(IdentityError::NoUser(shown(user))),
        };

        let gid_of = |wanted: &[u8]| {
            let wanted_number = number(wanted);
            let found = entries(group)
                .filter_map(Group::parse)
                .find(|entry| Some(entry.gid) == wanted_number || entry.name == wanted);
            found
                .map(|entry| entry.gid)
                .or(wanted_number)
                .ok_or_else(|| IdentityError::NoGroup(shown(wanted)))
        };
        let mut groups = Vec::new();
        if let Some(wanted) = wanted_group {
            gid = gid_of(wanted)?;
        } else if let Some(user) = &entry {
            let of_user = entries(group)
                .filter_map(Group::parse)
                .filter(|entry| entry.has(user.name));
            groups = of_user.map(|entry| entry.gid).collect();
        }
        for wanted in more {
            groups.push(gid_of(wanted)?);
        }
        groups.retain(|other| *other != gid);
        groups.insert(0, gid);
        groups.truncate(MOST_GROUPS);
        if let Some(number) = [uid]
            .iter()
            .chain(&groups)
            .find(|number| **number > LARGEST_NUMBER)
        {
            return Err(IdentityError::Number(*number));
        }
        Ok(Self {
            uid,
            gid,
            groups,
            home: if home.is_empty() {
                b"/".to_vec()
            } else {
                home.to_vec()
            },
        })
    }
}

/// The kernel's NGROUPS_MAX.
const MOST_GROUPS: usize = 65_536;

/// A line of /etc/passwd: name, password, uid, gid, comment, home, shell.
struct User<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

impl<'a> User<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next()?;
        let uid = number(fields.nth(1)?)?;
        let gid = number(fields.next()?)?;
        let home = fields.nth(1).unwrap_or_default();
        Some(Self {
            name,
            uid,
            gid,
            home,
        })
    }
}

/// A line of /etc/group: name, password, gid, members.
struct Group<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

impl<'a> Group<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next()?;
        let gid = number(fields.nth(1)?)?;
        let members = fields.next().unwrap_or_default();
        Some(Self { name, gid, members })
    }

    fn has(&self, user: &[u8]) -> bool {
        self.members
            .split(|byte| *byte == b',')
            .any(|member| member == user)
    }
}

/// The lines that may be entries.
fn entries(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
}

/// A decimal number, digits only.
fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(text).ok()?.parse().ok()
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// The content of a file, nothing if there is none. Not opened in a way that could wait, as a fifo's open would.
fn content(root: impl AsFd, path: &'static str) -> Result<Vec<u8>, IdentityError> {
    let unreadable = |error: Errno| IdentityError::Unreadable {
        path,
        error: error.into(),
    };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(root, path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let status = rustix::fs::fstat(&file).map_err(unreadable)?;
    let size = usize::try_from(status.st_size).unwrap_or(usize::MAX);
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile || size > LARGEST_FILE {
        return Err(IdentityError::NotAFile { path });
    }
    // One byte more than it has, so that the end is seen without growing.
    let mut content = Vec::with_capacity(size + 1);
    while content.len() <= size {
        match rustix::io::read(&file, spare_capacity(&mut content)) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    Ok(content)
}

#[cfg(test)]
mod tests;
