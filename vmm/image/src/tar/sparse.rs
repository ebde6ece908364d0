//! Files with holes: GNU's old headers and the three PAX forms (0.0, 0.1, 1.0; GNU tar manual,
//! "Storing Sparse Files"). Yields a map of where stored data goes; never allocates by a claimed size.

use super::header::{BLOCK, Header, number};
use super::{Input, MAX_PATH, Reader, TarError, pax};

/// Most pieces a sparse file may have: 4 MiB of map.
pub const MAX_SEGMENTS: usize = 1 << 18;

/// A piece of a sparse file that is stored: `length` bytes at `offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where in the file.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// Sees that a map runs forwards within `size` and covers exactly the `stored` bytes.
pub(super) fn check(map: &[Segment], size: u64, stored: u64, at: u64) -> Result<(), TarError> {
    let mut end = 0_u64;
    let mut sum = 0_u64;
    for segment in map {
        if segment.offset < end {
            return Err(TarError::Sparse(at));
        }
        end = segment
            .offset
            .checked_add(segment.length)
            .ok_or(TarError::Sparse(at))?;
        sum = sum
            .checked_add(segment.length)
            .ok_or(TarError::Sparse(at))?;
    }
    if end > size || sum != stored || i64::try_from(size).is_err() {
        return Err(TarError::Sparse(at));
    }
    Ok(())
}

fn push(map: &mut Vec<Segment>, offset: u64, length: u64) -> Option<()> {
    if map.len() >= MAX_SEGMENTS {
        return None;
    }
    // A last empty piece only marks the end of the file.
    if length > 0 {
        map.push(Segment { offset, length });
    }
    Some(())
}

/// GNU's old form: four pieces in the header, 21 in each block that follows.
pub(super) fn old_gnu<R: Input>(
    header: &Header,
    reader: &mut Reader<R>,
) -> Result<(u64, Vec<Segment>), TarError> {
    let at = header.at;
    let size = number(header.field(483, 12)).and_then(|size| u64::try_from(size).ok());
    let size = size.ok_or(TarError::Sparse(at))?;
    let mut map = Vec::new();
    let mut more = pieces(&mut map, header.field(386, 96), header.field(482, 1), at)?;
    let (remaining, padding) = (reader.remaining, reader.padding);
    while more {
        let block = reader.block()?.ok_or(TarError::Truncated(at))?;
        let (table, rest) = block.split_at(504);
        more = pieces(&mut map, table, rest, at)?;
    }
    (reader.remaining, reader.padding) = (remaining, padding);
    Ok((size, map))
}

/// Reads 24-byte pieces up to the first empty one; says whether another block follows.
fn pieces(map: &mut Vec<Segment>, table: &[u8], mark: &[u8], at: u64) -> Result<bool, TarError> {
    let value = |field: &[u8]| number(field).and_then(|value| u64::try_from(value).ok());
    for piece in table.chunks_exact(24) {
        let (offset, length) = piece.split_at(12);
        if offset.first().is_none_or(|byte| *byte == 0) {
            break;
        }
        let (offset, length) = (value(offset), value(length));
        let pushed = offset
            .zip(length)
            .and_then(|(offset, length)| push(map, offset, length));
        pushed.ok_or(TarError::Sparse(at))?;
    }
    Ok(mark.first().is_some_and(|byte| *byte != 0))
}

/// What PAX records say of a sparse file.
#[derive(Default)]
pub(super) struct Pax {
    pub(super) name: Option<Vec<u8>>,
    size: Option<u64>,
    major: Option<u32>,
    minor: Option<u32>,
    /// 0.0 and 0.1 keep the map in the records.
    map: Option<Vec<Segment>>,
    /// An offset of form 0.0 whose length has not come yet.
    offset: Option<u64>,
}

impl Pax {
    pub(super) fn is_some(&self) -> bool {
        self.map.is_some() || self.major.is_some()
    }

    /// One `GNU.sparse.` record; none where it is malformed.
    pub(super) fn set(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        match name {
            b"name" if value.len() <= MAX_PATH && !value.contains(&0) => {
                self.name = Some(value.to_vec());
            }
            b"name" => return None,
            b"size" | b"realsize" => self.size = Some(pax::decimal(value)?),
            b"major" => self.major = Some(pax::decimal(value)?),
            b"minor" => self.minor = Some(pax::decimal(value)?),
            b"numblocks" => self.map.get_or_insert_default().clear(),
            b"offset" => self.offset = Some(pax::decimal(value)?),
            b"numbytes" => {
                push(
                    self.map.get_or_insert_default(),
                    self.offset.take()?,
                    pax::decimal(value)?,
                )?;
            }
            b"map" => {
                let map = self.map.get_or_insert_default();
                map.clear();
                let mut numbers = value.split(|byte| *byte == b',');
                while let Some(offset) = numbers.next() {
                    push(map, pax::decimal(offset)?, pax::decimal(numbers.next()?)?)?;
                }
            }
            _ => {}
        }
        Some(())
    }

    /// Size and map; form 1.0 keeps its map before the data, which is taken here.
    pub(super) fn map<R: Input>(
        self,
        reader: &mut Reader<R>,
        at: u64,
    ) -> Result<(u64, Vec<Segment>), TarError> {
        let size = self.size.ok_or(TarError::Sparse(at))?;
        match (self.major, self.minor, self.map) {
            (Some(1), Some(0), _) => Ok((size, leading_map(reader, at)?)),
            (None | Some(0), _, Some(map)) => Ok((size, map)),
            _ => Err(TarError::Sparse(at)),
        }
    }
}

/// Decimal numbers, one a line: count, then offset and length of each piece, padded to a block.
fn leading_map<R: Input>(reader: &mut Reader<R>, at: u64) -> Result<Vec<Segment>, TarError> {
    let mut map = Vec::new();
    let mut taken = 0_u64;
    let count = line(reader, &mut taken, at)?;
    for _ in 0..count {
        let offset = line(reader, &mut taken, at)?;
        let length = line(reader, &mut taken, at)?;
        push(&mut map, offset, length).ok_or(TarError::Sparse(at))?;
    }
    let mut rest = taken.wrapping_neg() % BLOCK as u64;
    while rest > 0 {
        let there = reader.data()?.len();
        let step = there.min(usize::try_from(rest).unwrap_or(usize::MAX));
        if step == 0 {
            return Err(TarError::Sparse(at));
        }
        reader.consume(step);
        rest -= step as u64;
    }
    Ok(map)
}

fn line<R: Input>(reader: &mut Reader<R>, taken: &mut u64, at: u64) -> Result<u64, TarError> {
    let mut digits = Vec::new();
    loop {
        let byte = *reader.data()?.first().ok_or(TarError::Sparse(at))?;
        reader.consume(1);
        *taken += 1;
        match byte {
            b'\n' => return pax::decimal(&digits).ok_or(TarError::Sparse(at)),
            _ if digits.len() >= 20 => return Err(TarError::Sparse(at)),
            byte => digits.push(byte),
        }
    }
}
