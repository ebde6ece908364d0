//! Applies one layer's tar to the tree, its file data to the image (OCI image spec, "Layer Filesystem
//! Changeset"). Knows nothing of where the layer comes from.

use crate::erofs::{DataWriter, FileData, WriteError, xattr_name};
use crate::tar::{Entry, Input, Kind, Reader, TarError};
use crate::tree::{Attributes, Content, Tree, TreeError, shown};

/// Prefix of names that remove what lower layers have.
const WHITEOUT: &[u8] = b".wh.";
/// Prefix of names that say something about their directory.
const META: &[u8] = b".wh..wh.";
/// Hides everything lower layers have in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Why a layer is refused.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// Sizes or digests are wrong.
    #[error(transparent)]
    Stream(crate::stream::StreamError),
    /// The archive is broken.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// An entry is impossible.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The image cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Applies all of `input` and reads it to its end.
pub(crate) fn apply<R: Input>(
    input: R,
    tree: &mut Tree,
    data: &mut DataWriter<'_>,
) -> Result<(), LayerError> {
    tree.next_layer();
    let mut reader = Reader::new(input);
    while let Some(entry) = reader.next()? {
        apply_entry(entry, &mut reader, tree, data)?;
        for dropped in tree.take_dropped() {
            data.discard(&dropped)?;
        }
    }
    reader.drain()?;
    Ok(())
}

fn apply_entry<R: Input>(
    entry: Entry,
    reader: &mut Reader<R>,
    tree: &mut Tree,
    data: &mut DataWriter<'_>,
) -> Result<(), LayerError> {
    let Entry {
        path,
        kind,
        mode,
        uid,
        gid,
        mtime,
        xattrs,
    } = entry;
    let name_start = path
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |slash| slash + 1);
    let (directory, name) = path.split_at(name_start);
    if name == OPAQUE {
        return Ok(tree.opaque(directory)?);
    }
    if name.starts_with(META) {
        // Bookkeeping of AUFS: nothing to see for anyone else.
        return Ok(());
    }
    if let Some(hidden) = name.strip_prefix(WHITEOUT) {
        // `.wh.`, `.wh..` and `.wh...` would hide the directory itself, or one above it.
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(TreeError::Name(shown(&path)).into());
        }
        return Ok(tree.whiteout(&[directory, hidden].concat())?);
    }
    let xattrs = xattrs
        .into_iter()
        .filter(|(name, _)| is_kept(name))
        .collect();
    let attributes = Attributes {
        mode,
        uid,
        gid,
        mtime,
        xattrs,
    };
    let content = match kind {
        Kind::Directory => return Ok(tree.put_directory(&path, attributes)?),
        Kind::HardLink(target) => return Ok(tree.link(&path, &target)?),
        Kind::File { size, map } => Content::File(file(size, map, reader, data)?),
        Kind::Symlink(target) => Content::Symlink(target.into()),
        Kind::CharDevice { major, minor } => Content::CharDevice { major, minor },
        Kind::BlockDevice { major, minor } => Content::BlockDevice { major, minor },
        Kind::Fifo => Content::Fifo,
    };
    Ok(tree.put(&path, attributes, content)?)
}

fn file<R: Input>(
    size: u64,
    map: Option<Vec<crate::tar::Segment>>,
    reader: &mut Reader<R>,
    data: &mut DataWriter<'_>,
) -> Result<FileData, LayerError> {
    data.begin(size, map)?;
    loop {
        let piece = reader.data()?;
        if piece.is_empty() {
            return Ok(data.end()?);
        }
        data.append(piece)?;
        let count = piece.len();
        reader.consume(count);
    }
}

/// Whether an attribute becomes part of the image: those Linux has, less the ones by which overlayfs
/// talks to itself. Those would change what the guest's overlay shows.
fn is_kept(name: &[u8]) -> bool {
    xattr_name(name).is_some()
        && !name.starts_with(b"trusted.overlay.")
        && !name.starts_with(b"user.overlay.")
}

#[cfg(test)]
mod tests;
