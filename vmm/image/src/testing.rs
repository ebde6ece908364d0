//! What the tests of this package share: archives byte by byte, and a reader of EROFS images that
//! knows the format from its documentation and nothing of the writer.

pub(crate) mod archive;
pub(crate) mod erofs;
pub(crate) mod mount;
