//! A disk with hardly any room left, during a container's whole life.

use std::path::PathBuf;
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use tests::{amount, hull};

use super::{Home, busybox, fs, scratch};

/// What is done on it. Whatever has no room says so.
const LIFE: [&[&str]; 7] = [
    &[
        "run",
        "-d",
        "--name",
        "victim",
        "IMAGE",
        "sh",
        "-c",
        "yes | head -c 100000; sleep 1000",
    ],
    &[
        "exec",
        "victim",
        "sh",
        "-c",
        "head -c 300000 /dev/zero >/big && sync",
    ],
    &["logs", "--tail", "1", "victim"],
    &["stop", "-t", "0", "victim"],
    &["start", "victim"],
    &["commit", "victim", "kept"],
    &["rm", "-f", "victim"],
];

/// A disk of its own, gone when dropped.
struct Disk(PathBuf);

impl Disk {
    fn new() -> Self {
        let directory = scratch("full").unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=32m", "tmpfs"]);
        assert!(mount.arg(&directory).status().unwrap().success());
        Self(directory)
    }

    /// Takes all room but this.
    fn fill(&self, left: u64) {
        let room = statvfs(&self.0).unwrap();
        let file = fs::File::create(self.filler()).unwrap();
        let taken = (room.f_bavail * room.f_frsize).saturating_sub(left);
        fallocate(&file, FallocateFlags::empty(), 0, taken).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

/// From no room at all to 1 MiB, in so many steps: every command does what it is for or says why not, and when there is room again
/// nothing is left of it.
#[test]
fn alone_a_full_disk_ends_in_words_or_not_at_all() {
    const MOST: u64 = 1 << 20;
    let disk = Disk::new();
    let place = disk.0.join("home");
    fs::create_dir(&place).unwrap();
    let home = Home::at(place, "cold");
    let before = home.left();
    let (steps, mut told, mut done) = (amount("FULL", 3), 0, 0);
    for step in 0..steps {
        let left = step * MOST / steps;
        disk.fill(left);
        for words in LIFE {
            let image = busybox();
            let words = words.iter().map(|word| match *word {
                "IMAGE" => &image,
                word => word,
            });
            let outcome = home.vm(hull(words)).finish();
            let place = format!("{left} bytes left: {outcome:?}");
            let code = outcome.status.code();
            assert!(
                code.is_some() && !outcome.err().contains("panicked at"),
                "{place}"
            );
            assert!(code == Some(0) || !outcome.err().is_empty(), "{place}");
            told += u64::from(code != Some(0));
            done += u64::from(code == Some(0));
            // What there is can always be asked for.
            home.hull(&["ps", "-a"]).exits(0);
        }
        fs::remove_file(disk.filler()).unwrap();
        let _ = home.hull(&["rmi", "kept"]);
        home.recovers(&before, &format!("with {left} bytes left"));
    }
    println!("{steps} full disks: {told} commands were told so, {done} had room enough");
}
