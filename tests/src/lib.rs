//! What the end-to-end tests are written with: real images, and runs of the real program with what came of them.
//!
//! ```ignore
//! vm().run("exit 7").exits(7);
//! vm().option("-i").stdin(b"b\na\n").command(["sort"]).finish().prints("a\nb\n");
//! ```

pub mod archive;
pub mod fixture;
pub mod registry;
pub mod run;

pub use run::{Outcome, Vm, hull, vm};

use std::path::PathBuf;

/// Cargo's target directory of this repository.
pub fn target() -> PathBuf {
    let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = package
        .parent()
        .map_or(package.clone(), std::path::Path::to_path_buf);
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |target| root.join(target))
}
