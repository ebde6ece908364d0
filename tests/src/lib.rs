//! What the end-to-end tests are written with: real images, and runs of the real program with what came of them.
//!
//! ```ignore
//! vm().run("exit 7").exits(7);
//! vm().option("-i").stdin(b"b\na\n").command(["sort"]).finish().prints("a\nb\n");
//! ```

pub mod archive;
pub mod bench;
mod container;
pub mod fixture;
pub mod hostile;
mod late;
pub mod registry;
pub mod run;
pub mod timings;

pub use container::Container;
pub use run::{Outcome, Vm, as_user, hull, vm};

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a test waits for what comes in a moment where the machine is not very slow: a limit, never a measure.
pub const PATIENCE: Duration = Duration::from_secs(400);

/// Waits for what comes in a moment.
pub fn eventually(what: &str, mut is_there: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_there() {
        assert!(start.elapsed() < PATIENCE, "never {what:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Cargo's target directory of this repository.
pub fn target() -> PathBuf {
    let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = package
        .parent()
        .map_or(package.clone(), std::path::Path::to_path_buf);
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |target| root.join(target))
}

/// How much of something a test does: what `cargo xtask soak` asks for in `$HULL_SOAK_NAME`, else what an ordinary run has the
/// time for.
#[must_use]
pub fn amount(name: &str, usual: u64) -> u64 {
    asked(name).unwrap_or(usual)
}

/// How much of it is asked for, if anything is.
#[must_use]
pub fn asked(name: &str) -> Option<u64> {
    std::env::var(format!("HULL_SOAK_{name}"))
        .ok()?
        .parse()
        .ok()
}
