//! What can be wrong with a tar archive.

use std::io;

use super::{MAX_EXTENSION, MAX_PATH};

/// Why a tar archive is refused.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The bytes could not be had; an unpacker's complaint is here too.
    #[error("The archive cannot be read")]
    Read(#[from] io::Error),
    /// The archive ends inside an entry.
    #[error("The archive is cut short at byte {0}")]
    Truncated(u64),
    /// The sum over a header is wrong: damage, or no tar at all.
    #[error("The header at byte {0} is damaged (its checksum is wrong)")]
    Checksum(u64),
    /// A field that is no number, or one out of range.
    #[error("The {field} field of the entry at byte {at} is not a valid number")]
    Number {
        /// Which field.
        field: &'static str,
        /// Where the entry starts.
        at: u64,
    },
    /// A PAX record that breaks the format.
    #[error("The PAX header at byte {0} is malformed")]
    Pax(u64),
    /// An extended header longer than is sane.
    #[error(
        "The extended header at byte {at} has {bytes} bytes, more than the {MAX_EXTENSION} allowed"
    )]
    Extension {
        /// Where it starts.
        at: u64,
        /// How long it says it is.
        bytes: u64,
    },
    /// A path or link target longer than Linux allows.
    #[error("The entry at byte {at} has a name of {bytes} bytes, more than the {MAX_PATH} allowed")]
    Name {
        /// Where the entry starts.
        at: u64,
        /// Length of the name.
        bytes: usize,
    },
    /// The map of a sparse file overlaps, runs backwards, or disagrees with the sizes.
    #[error("The sparse file at byte {0} has an impossible map")]
    Sparse(u64),
    /// A kind of entry that no layer may have (continued volumes, old long names).
    #[error("The entry at byte {at} is of the unknown kind {kind:?}")]
    Kind {
        /// Where the entry starts.
        at: u64,
        /// Its type flag.
        kind: char,
    },
}
