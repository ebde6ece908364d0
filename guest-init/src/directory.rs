//! Directories that are made where they are missing. Knows no use of them.

use rustix::fs::Mode;
use rustix::io::Errno;

/// Makes a directory and what is missing on the way to it, all with mode 0755. A relative path starts where init is: at
/// the root.
///
/// # Errors
/// Something on the way is no directory, or cannot be written.
pub fn create(path: &[u8]) -> Result<(), Errno> {
    let ends = (1..path.len()).filter(|at| path.get(*at) == Some(&b'/'));
    for end in ends.chain([path.len()]) {
        let part = path.get(..end).unwrap_or(path);
        match rustix::fs::mkdir(part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
