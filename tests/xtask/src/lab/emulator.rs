//! The lab's emulator: Debian's QEMU without a mistake of it. Knows nothing of labs.
//!
//! A hypervisor enters its guest with an interrupt for it (AMD64 manual 2, 15.20, EVENTINJ). QEMU 7.2 hands that over within the
//! instruction, but leaves its number where its main loop looks for exceptions. When that is called away before the guest's next
//! exit, as it often is where instructions are the clock, the guest gets the interrupt a second time, whether it lets interrupts
//! through or not. Most guests survive it; of those that boot ten at once, one of a hundred waits forever for what it has itself
//! begun to write.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::progress;

const DEBIANS: &str = "/usr/bin/qemu-system-x86_64";
const MODULES: &str = "/usr/lib/x86_64-linux-gnu/qemu";
const DATA: [&str; 2] = ["/usr/share/qemu", "/usr/share/seabios"];

/// `error_code`, then `exception_index`, then `exception_is_int` and `exception_next_eip`, as `helper_vmrun` sets them.
const STORES: [&[u8]; 3] = [
    &[0x44, 0x89, 0xab, 0x80, 0x33, 0, 0],
    &[0x89, 0xb3, 0x54, 0xef, 0xff, 0xff],
    &[
        0xc7, 0x83, 0x84, 0x33, 0, 0, 0, 0, 0, 0, 0x48, 0xc7, 0x83, 0x88, 0x33, 0, 0, 0xff, 0xff,
        0xff, 0xff,
    ],
];
/// An instruction that does nothing, as long as the second.
const NOTHING: [u8; 6] = [0x66, 0x0f, 0x1f, 0x44, 0, 0];

/// What it is made of and how.
pub(super) fn recipe() -> Result<String> {
    let about = std::fs::metadata(DEBIANS).with_context(|| format!("{DEBIANS} is missing"))?;
    let (length, time) = (about.len(), about.mtime());
    Ok(format!(
        "QEMU of {length} bytes and {time}, without {STORES:x?}"
    ))
}

/// The program, made from Debian's. A build that is another one is taken as it is.
pub(super) fn make() -> Result<Vec<u8>> {
    let mut program = std::fs::read(DEBIANS)?;
    if !mend(&mut program) {
        progress::note(
            "This QEMU's mistake is not where it was: in the lab, guests may stand still",
        );
    }
    Ok(program)
}

/// The program, told where its own files are.
pub(super) fn command(emulator: &Path) -> Command {
    let mut qemu = Command::new(emulator);
    qemu.env("QEMU_MODULE_DIR", MODULES);
    qemu.args(DATA.iter().flat_map(|data| ["-L", data]));
    qemu
}

/// Takes the one store away; `false` where there is not just one such place.
fn mend(program: &mut [u8]) -> bool {
    let stores = STORES.concat();
    let mut places = program.windows(stores.len()).enumerate();
    let mut next = || places.find(|(_, bytes)| *bytes == stores);
    let (Some((place, _)), None) = (next(), next()) else {
        return false;
    };
    let start = place + STORES[0].len();
    program[start..start + NOTHING.len()].copy_from_slice(&NOTHING);
    true
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn one_instruction_is_replaced_and_only_where_there_is_one_place() {
        let stores = STORES.concat();
        let mut program = [&[0x90; 100][..], &stores, &[0x90; 100]].concat();
        let before = program.clone();
        assert!(mend(&mut program));
        let differing = program.iter().zip(&before).filter(|(new, old)| new != old);
        assert_eq!(differing.count(), NOTHING.len());
        assert!(!mend(&mut program));
        assert!(!mend(&mut [&stores[..], &stores].concat()));
    }

    #[test]
    fn what_is_made_runs() {
        let place = tempfile::tempdir().unwrap();
        let emulator = place.path().join("qemu");
        std::fs::write(&emulator, make().unwrap()).unwrap();
        std::fs::set_permissions(&emulator, Permissions::from_mode(0o755)).unwrap();
        let output = command(&emulator).arg("--version").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.starts_with("QEMU emulator"), "{output:?}");
    }
}
