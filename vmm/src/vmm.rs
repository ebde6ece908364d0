//! The VMM process: `hull vmm`, started by the launcher with one socket as its standard input.
//!
//! Everything it works with arrives as descriptors in one message on that socket, and its report leaves by the same way.
//! It opens no path, and knows no image, no command line and no store.

mod start;

pub(crate) use start::{DiskFile, Start, StartError, receive_report, send_report};
