//! Where things lie: the repository's root and the directories under `target/` that the verbs share.
//! Knows paths only; what is in them is the business of the verb that writes them.

use std::path::PathBuf;

/// The repository's root directory.
///
/// Taken from where this package was compiled: `cargo xtask` always compiles it in the tree that it works on.
pub(crate) fn root() -> PathBuf {
    let package = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package).to_path_buf()
}

/// Cargo's target directory, where everything that is built or cached goes.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), |dir| root().join(dir))
}
