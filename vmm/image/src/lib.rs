//! Container images: from a reference to an EROFS image in the store. Knows no VM.

pub mod digest;
pub mod reference;
