//! What can be wrong with an entry of a layer.

use super::{MAX_DEPTH, MAX_NAME};

/// Why an entry cannot be put into the tree.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// `..` in a name: it would climb out.
    #[error("{0:?} climbs out of the image")]
    Climbs(String),
    /// A component that no Linux file can have.
    #[error("{0:?} has a component that is longer than {MAX_NAME} bytes or contains a NUL")]
    Name(String),
    /// A file where a directory is needed.
    #[error("{0:?} lies below something that is not a directory")]
    NotDirectory(String),
    /// Symbolic links that lead in circles.
    #[error("{0:?} lies behind too many symbolic links")]
    Links(String),
    /// A hard link to nothing: also what a circle of hard links looks like.
    #[error("{path:?} is a hard link to {target:?}, which does not exist")]
    NoTarget {
        /// The new name.
        path: String,
        /// What it should be the same as.
        target: String,
    },
    /// A hard link to a directory.
    #[error("{path:?} is a hard link to {target:?}, which is a directory")]
    DirectoryTarget {
        /// The new name.
        path: String,
        /// The directory.
        target: String,
    },
    /// The root replaced by something else.
    #[error("The image's root is not a directory")]
    Root,
    /// Deeper than [`MAX_DEPTH`].
    #[error("{0:?} is nested more than {MAX_DEPTH} directories deep")]
    Depth(String),
    /// [`Limits::entries`](crate::Limits::entries).
    #[error("The image has more than {0} files")]
    TooMany(usize),
    /// [`Limits::metadata`](crate::Limits::metadata).
    #[error("The image's names, links and attributes need more than {0} bytes")]
    TooMuch(u64),
    /// [`Limits::steps`](crate::Limits::steps).
    #[error("The image's paths and whiteouts need more than {0} steps to follow")]
    TooLong(u64),
}
