//! Layers packed in every way, cut, damaged, swollen.

use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use crate::testing::archive::{Packing, pack};

fn expect(packed: &[u8], plain: &[u8]) -> Expected {
    let digest = Some(Digest::of(packed));
    Expected {
        digest,
        size: packed.len() as u64,
        diff_id: Digest::of(plain),
    }
}

fn run(packed: &[u8], expected: &Expected, limits: &Limits) -> Result<(Found, Vec<u8>), Broken> {
    let mut plain = Vec::new();
    let source = Box::new(Cursor::new(packed.to_vec()));
    let found = unpack(source, expected, limits, limits.unpacked, |input| {
        input
            .read_to_end(&mut plain)
            .map_err(Broken::Read)
            .map(drop)
    })?;
    Ok((found, plain))
}

#[derive(Debug)]
enum Broken {
    Stream(StreamError),
    Read(io::Error),
}

impl From<StreamError> for Broken {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

/// The error the unpacking side sent through the reader.
fn sent(error: Broken) -> StreamError {
    match error {
        Broken::Read(error) => *error.into_inner().unwrap().downcast().unwrap(),
        Broken::Stream(error) => error,
    }
}

#[test]
fn every_packing_gives_the_plain_bytes() {
    let plain: Vec<u8> = (0..3_000_000_u32)
        .flat_map(|n| (n / 100).to_le_bytes())
        .collect();
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let packed = pack(&plain, packing);
        let (found, unpacked) = run(&packed, &expect(&packed, &plain), &Limits::default()).unwrap();
        assert!(unpacked == plain);
        assert_eq!(found.digest, Digest::of(&packed));
        assert_eq!(found.unpacked, plain.len() as u64);
    }
}

#[test]
fn several_members_are_one_layer() {
    for packing in [Packing::Gzip, Packing::Zstd] {
        let packed = [pack(b"one ", packing), pack(b"two", packing)].concat();
        let (_, plain) = run(&packed, &expect(&packed, b"one two"), &Limits::default()).unwrap();
        assert_eq!(plain, b"one two");
    }
}

#[test]
fn wrong_digests_and_sizes() {
    let limits = Limits::default();
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let packed = pack(b"layer", packing);
        let right = expect(&packed, b"layer");
        let other = Digest::of(b"other");
        let wrong = Expected {
            digest: Some(other),
            ..right
        };
        let error = sent(run(&packed, &wrong, &limits).unwrap_err());
        assert!(matches!(error, StreamError::Digest { expected, .. } if expected == other));
        let wrong = Expected {
            diff_id: other,
            ..right
        };
        let error = sent(run(&packed, &wrong, &limits).unwrap_err());
        assert!(matches!(error, StreamError::DiffId { expected, .. } if expected == other));
        let wrong = Expected {
            size: right.size + 1,
            ..right
        };
        let error = sent(run(&packed, &wrong, &limits).unwrap_err());
        assert!(matches!(error, StreamError::Shorter { .. }));
        let wrong = Expected {
            size: right.size - 1,
            ..right
        };
        let error = sent(run(&packed, &wrong, &limits).unwrap_err());
        assert!(matches!(error, StreamError::Longer(_)), "{error:?}");
    }
}

#[test]
fn bombs_go_off_harmlessly() {
    let plain = vec![0; 50 << 20];
    for packing in [Packing::Gzip, Packing::Zstd] {
        let packed = pack(&plain, packing);
        let limits = Limits {
            expansion: 10,
            free_expansion: 1 << 20,
            ..Limits::default()
        };
        let error = sent(run(&packed, &expect(&packed, &plain), &limits).unwrap_err());
        assert!(matches!(error, StreamError::Bomb { .. }), "{error:?}");
    }
    let limits = Limits {
        unpacked: 1 << 20,
        ..Limits::default()
    };
    let error = sent(run(&plain, &expect(&plain, &plain), &limits).unwrap_err());
    assert!(matches!(error, StreamError::Bomb { .. }), "{error:?}");
}

#[test]
fn a_reader_that_stops_early_stops_the_unpacking() {
    let plain = vec![7; 20 << 20];
    let packed = pack(&plain, Packing::Gzip);
    let source = Box::new(Cursor::new(packed.clone()));
    let expected = expect(&packed, &plain);
    let result = unpack(source, &expected, &Limits::default(), u64::MAX, |input| {
        input.fill_buf().map_err(Broken::Read)?;
        Err(Broken::Read(io::Error::other("enough")))
    });
    assert!(matches!(result, Err(Broken::Read(error)) if error.to_string() == "enough"));
}

#[test]
fn a_large_zstd_window_is_refused() {
    let mut packer = zstd::Encoder::new(Vec::new(), 1).unwrap();
    packer.window_log(28).unwrap();
    io::Write::write_all(&mut packer, &[1; 1000]).unwrap();
    let packed = packer.finish().unwrap();
    let expected = expect(&packed, &[1; 1000]);
    assert!(matches!(
        run(&packed, &expected, &Limits::default()),
        Err(Broken::Read(_))
    ));
}

proptest! {
    #[test]
    fn damage_is_never_accepted(
        plain in prop::collection::vec(any::<u8>(), 1..2000),
        packing in prop::sample::select(vec![Packing::Plain, Packing::Gzip, Packing::Zstd]),
        at: prop::sample::Index,
        flip in 1_u8..,
        cut: bool,
    ) {
        let mut packed = pack(&plain, packing);
        let expected = expect(&packed, &plain);
        let at = at.index(packed.len());
        if cut {
            packed.truncate(at);
        } else {
            packed[at] ^= flip;
        }
        prop_assert!(run(&packed, &expected, &Limits::default()).is_err());
    }
}
