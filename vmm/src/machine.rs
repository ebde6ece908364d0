//! The life of one virtual machine, from descriptors to its report.

pub(crate) mod report;
