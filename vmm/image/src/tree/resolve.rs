//! From a path in a layer to a place in the tree. Follows symbolic links of parents, as unpacking
//! below a changed root would, and never leaves the tree.

use super::{Attributes, Content, InodeId, MAX_NAME, Tree, TreeError, shown};

/// Most symbolic links on the way to one place, as in Linux.
const MAX_LINKS: usize = 40;

/// Path of the directory and last name.
type Split<'a> = (&'a [u8], &'a [u8]);

/// Parent and last name of a path; none for the root itself. Refuses `..`, NUL and long names.
pub(super) fn split(path: &[u8]) -> Result<Option<Split<'_>>, TreeError> {
    let mut last = None;
    let mut start = 0;
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => return Err(TreeError::Climbs(shown(path))),
            name if name.len() > MAX_NAME || name.contains(&0) => {
                return Err(TreeError::Name(shown(path)));
            }
            name => last = Some((start, name)),
        }
        start += component.len() + 1;
    }
    Ok(last.map(|(start, name)| (path.get(..start).unwrap_or_default(), name)))
}

impl Tree {
    /// Parent directory and last name of an entry; directories that are missing are made. None for
    /// the root.
    pub(super) fn place<'a>(
        &mut self,
        path: &'a [u8],
    ) -> Result<Option<(InodeId, &'a [u8])>, TreeError> {
        let Some((directory, name)) = split(path)? else {
            return Ok(None);
        };
        // With `make` a walk always arrives.
        let parent = self.walk(directory, true)?.unwrap_or(InodeId::ROOT);
        Ok(Some((parent, name)))
    }

    /// The inode an entry of the archive names, itself not followed.
    pub(super) fn find(&mut self, path: &[u8]) -> Result<Option<InodeId>, TreeError> {
        let Some((directory, name)) = split(path)? else {
            return Ok(Some(InodeId::ROOT));
        };
        let parent = self.find_directory(directory)?;
        Ok(parent
            .and_then(|parent| self.child(parent, name))
            .map(|child| child.inode))
    }

    /// The directory at `path`, or none where there is no such thing.
    pub(super) fn find_directory(&mut self, path: &[u8]) -> Result<Option<InodeId>, TreeError> {
        split(path)?;
        match self.walk(path, false) {
            Err(TreeError::NotDirectory(_)) => Ok(None),
            other => other,
        }
    }

    fn walk(&mut self, path: &[u8], make: bool) -> Result<Option<InodeId>, TreeError> {
        let mut here = InodeId::ROOT;
        let mut links = 0;
        // Components still to go, in pieces of path; the last piece first.
        let mut pending: Vec<Vec<u8>> = Vec::new();
        let mut rest: &[u8] = path;
        let mut owned: Vec<u8>;
        loop {
            self.work()?;
            let (component, next) = match rest.iter().position(|byte| *byte == b'/') {
                Some(end) => (rest.get(..end), rest.get(end + 1..)),
                None => (Some(rest), None),
            };
            let component = component.unwrap_or_default();
            let mut target = None;
            match component {
                b"" | b"." => {}
                b".." => here = self.parent(here),
                name => match self.child(here, name) {
                    Some(child) => match self.inode(child.inode).map(|inode| &inode.content) {
                        Some(Content::Directory(_)) => {
                            if make {
                                self.touch(here, name);
                            }
                            here = child.inode;
                        }
                        Some(Content::Symlink(link)) => {
                            links += 1;
                            if links > MAX_LINKS {
                                return Err(TreeError::Links(shown(path)));
                            }
                            target = Some(link.to_vec());
                        }
                        _ => return Err(TreeError::NotDirectory(shown(path))),
                    },
                    None if make && name.len() <= MAX_NAME => {
                        let attributes = Attributes {
                            mode: 0o755,
                            ..Attributes::default()
                        };
                        here = self.make_directory(here, name, attributes, path)?;
                    }
                    None if make => return Err(TreeError::Name(shown(path))),
                    None => return Ok(None),
                },
            }
            if let Some(target) = target {
                if target.first() == Some(&b'/') {
                    here = InodeId::ROOT;
                }
                pending.extend(next.map(<[u8]>::to_vec));
                owned = target;
                rest = &owned;
            } else if let Some(next) = next {
                rest = next;
            } else if let Some(piece) = pending.pop() {
                owned = piece;
                rest = &owned;
            } else {
                return Ok(Some(here));
            }
        }
    }
}
