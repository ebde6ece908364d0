//! Reads and writes of files: of the image, of a tmpfs and of a volume. Each of them has the same files.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Result;

use crate::{Numbers, time};

/// Bytes of a large file.
const LARGE: u64 = 8 << 20;
/// Bytes of one read or write in order.
const PIECE: usize = 64 << 10;
/// Bytes of one at random.
const BLOCK: usize = 4 << 10;
/// How many of those.
const BLOCKS: usize = 512;
/// Small files.
const SMALL: usize = 100;

/// Everywhere.
pub(crate) fn all() -> Result<()> {
    // On a tmpfs there is nothing that was not written there.
    for (place, directory, filled) in [
        ("image", "/", true),
        ("tmpfs", "/memory", false),
        ("volume", "/volume", true),
    ] {
        let directory = Path::new(directory);
        if filled {
            reads(place, directory)?;
        }
        writes(place, directory)?;
        names(place, directory)?;
    }
    Ok(())
}

/// Files that were there before: for the first time, and again.
fn reads(place: &str, directory: &Path) -> Result<()> {
    let random = File::open(directory.join("random"))?;
    time(
        &format!("{place}: read 512 times 4 KiB at random, first"),
        || at_random(|at, block| random.read_exact_at(block, at)),
    )?;
    for again in ["first", "again"] {
        let mut file = File::open(directory.join("data"))?;
        let mut piece = vec![0; PIECE];
        time(&format!("{place}: read 8 MiB, {again}"), || {
            while file.read(&mut piece)? > 0 {}
            Ok(())
        })?;
    }
    Ok(())
}

/// A file that is new.
fn writes(place: &str, directory: &Path) -> Result<()> {
    let path = directory.join("written");
    let _ = fs::remove_file(&path);
    let piece = vec![1; PIECE];
    time(&format!("{place}: write 8 MiB"), || {
        let mut file = File::create(&path)?;
        (0..LARGE / PIECE as u64).try_for_each(|_| file.write_all(&piece))?;
        Ok(())
    })?;
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    time(&format!("{place}: write 512 times 4 KiB at random"), || {
        at_random(|at, block| file.write_all_at(block, at))
    })?;
    fs::remove_file(&path)?;
    Ok(())
}

fn at_random(mut of: impl FnMut(u64, &mut [u8]) -> std::io::Result<()>) -> Result<()> {
    let (mut numbers, mut block) = (Numbers::new(), [1; BLOCK]);
    for _ in 0..BLOCKS {
        of(
            numbers.below(LARGE / BLOCK as u64) * BLOCK as u64,
            &mut block,
        )?;
    }
    Ok(())
}

/// What a directory is asked for.
fn names(place: &str, directory: &Path) -> Result<()> {
    let directory = directory.join("new");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir(&directory)?;
    let files: Vec<_> = (0..SMALL)
        .map(|number| directory.join(number.to_string()))
        .collect();
    let each = |of: &dyn Fn(&Path) -> std::io::Result<()>| -> Result<()> {
        Ok(files.iter().try_for_each(|file| of(file))?)
    };
    time(&format!("{place}: make 100 files"), || {
        each(&|file| File::create(file).map(drop))
    })?;
    time(&format!("{place}: stat 100 files"), || {
        each(&|file| fs::metadata(file).map(drop))
    })?;
    time(&format!("{place}: list 100 files"), || {
        Ok(fs::read_dir(&directory)?.count())
    })?;
    time(&format!("{place}: remove 100 files"), || {
        each(&|file| fs::remove_file(file))
    })?;
    fs::remove_dir(&directory)?;
    Ok(())
}
