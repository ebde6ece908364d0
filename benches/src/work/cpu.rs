//! Work of the processor and of memory alone: the machine has nothing to do with it but to have been entered.

use std::hint::black_box;

use anyhow::Result;

use crate::{Numbers, succeed, time};

/// Bytes that are hashed.
const HASHED: usize = 16 << 20;
/// Words of memory that are read and written: 32 MiB.
const WORDS: usize = 4 << 20;

/// A hash loop and a compiler.
pub(crate) fn compute() -> Result<()> {
    let bytes = vec![0x5a_u8; HASHED];
    time("hash 16 MiB (FNV-1a)", || {
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
        Ok(black_box(hash))
    })?;
    let compile = || {
        succeed(
            "/usr/bin/tcc",
            &["-c", "-o", "/memory/program.o", "/program.c"],
        )
    };
    // Once for the program and its libraries to be in memory.
    compile()?;
    time("compile 2,000 functions of C (tcc)", compile)
}

/// In order and out of order, in memory that was touched before.
pub(crate) fn memory() -> Result<()> {
    let mut words = vec![1_u64; WORDS];
    time("write 32 MiB of memory, 4 times", || {
        for round in 0..4 {
            black_box(&mut words).fill(round);
        }
        Ok(())
    })?;
    time("copy 16 MiB of memory, 8 times", || {
        for _ in 0..8 {
            let (from, to) = words.split_at_mut(WORDS / 2);
            black_box(to).copy_from_slice(black_box(from));
        }
        Ok(())
    })?;
    let mut numbers = Numbers::new();
    time("read 1,000,000 words of 32 MiB at random", || {
        let places = std::iter::repeat_with(|| numbers.below(WORDS as u64));
        let read = places
            .take(1_000_000)
            .filter_map(|place| words.get(usize::try_from(place).ok()?));
        Ok(read.fold(0_u64, |sum, word| sum.wrapping_add(*word)))
    })
}
