//! Rewrites a kernel's ELF file so that it holds only what a boot loader copies into memory.
//!
//! The linker pads the kernel to 2 MiB borders and stores tables that are still all zero; with symbols and section headers
//! that is more than half of the file, and each byte costs time at each boot. Here long runs of zeros become gaps between
//! segments (guest memory starts as zeros), and sections go. Knows ELF (System V ABI, chapters 4 and 5) and nothing of Linux.

use anyhow::{Context, bail};

/// Zeros shorter than this stay in the file: a further segment costs the loader a system call, about as much as copying this.
const SHORTEST_GAP: usize = 16 * 1024;
/// Gaps begin and end on page borders, so that a gap's pages stay untouched.
const PAGE: usize = 4096;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const FILE_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;

/// A program header and the bytes it names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment<'a> {
    kind: u32,
    flags: u32,
    virtual_address: u64,
    physical_address: u64,
    memory_size: u64,
    data: &'a [u8],
}

/// The same program without sections, symbols and long runs of zeros.
pub(super) fn compact(elf: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut pieces = Vec::new();
    for segment in segments(elf)? {
        match segment.kind {
            PT_LOAD => split(&segment, &mut pieces),
            PT_NOTE => pieces.push(segment),
            _ => {}
        }
    }
    let count = u16::try_from(pieces.len()).context("It falls into too many segments")?;
    let mut file = elf
        .get(..FILE_HEADER)
        .context("It has no file header")?
        .to_vec();
    put(&mut file, 32, &(FILE_HEADER as u64).to_le_bytes()); // e_phoff
    put(&mut file, 40, &0_u64.to_le_bytes()); // e_shoff
    put(&mut file, 56, &count.to_le_bytes()); // e_phnum
    put(&mut file, 58, &[0; 6]); // e_shentsize, e_shnum, e_shstrndx
    let mut offset = FILE_HEADER + pieces.len() * PROGRAM_HEADER;
    let mut body = Vec::new();
    for piece in &pieces {
        // As far into a page of the file as into a page of memory: whoever wants to map the file can.
        let padding = usize::try_from(piece.physical_address)?.wrapping_sub(offset) % PAGE;
        body.resize(body.len() + padding, 0);
        offset += padding;
        file.extend(piece.kind.to_le_bytes());
        file.extend(piece.flags.to_le_bytes());
        // Readers of notes step through them by this; all of these have borders of 4 bytes.
        let align = if piece.kind == PT_NOTE {
            4
        } else {
            PAGE as u64
        };
        let words = [
            offset as u64,
            piece.virtual_address,
            piece.physical_address,
            piece.data.len() as u64,
        ];
        file.extend(
            words
                .into_iter()
                .chain([piece.memory_size, align])
                .flat_map(u64::to_le_bytes),
        );
        body.extend_from_slice(piece.data);
        offset += piece.data.len();
    }
    file.append(&mut body);
    Ok(file)
}

/// The program headers of a little-endian 64-bit ELF file.
fn segments(elf: &[u8]) -> anyhow::Result<Vec<Segment<'_>>> {
    if elf.get(..6) != Some(b"\x7fELF\x02\x01") {
        bail!("It is not a little-endian 64-bit ELF file");
    }
    let table = usize::try_from(u64_at(elf, 32)?)?;
    let count = usize::from(u16::from_le_bytes(bytes_at(elf, 56)?));
    let mut segments = Vec::new();
    for at in (0..count).map(|index| table + index * PROGRAM_HEADER) {
        let (offset, length) = (
            usize::try_from(u64_at(elf, at + 8)?)?,
            usize::try_from(u64_at(elf, at + 32)?)?,
        );
        segments.push(Segment {
            kind: u32::from_le_bytes(bytes_at(elf, at)?),
            flags: u32::from_le_bytes(bytes_at(elf, at + 4)?),
            virtual_address: u64_at(elf, at + 16)?,
            physical_address: u64_at(elf, at + 24)?,
            memory_size: u64_at(elf, at + 40)?,
            data: elf
                .get(offset..)
                .and_then(|rest| rest.get(..length))
                .context("A segment lies outside the file")?,
        });
    }
    Ok(segments)
}

/// Cuts a segment at its long runs of zero pages. Each piece's memory reaches to where the next begins.
fn split<'a>(segment: &Segment<'a>, pieces: &mut Vec<Segment<'a>>) {
    let part = |from: usize, data: &'a [u8], end: u64| Segment {
        virtual_address: segment.virtual_address + from as u64,
        physical_address: segment.physical_address + from as u64,
        memory_size: end - from as u64,
        data,
        ..segment.clone()
    };
    let zero = |page: &&[u8]| page.iter().all(|&byte| byte == 0);
    let mut kept: Option<(usize, usize)> = None; // the piece being gathered: where it begins and ends
    for (index, page) in segment
        .data
        .chunks(PAGE)
        .enumerate()
        .filter(|(_, page)| !zero(page))
    {
        let (begin, end) = (index * PAGE, index * PAGE + page.len());
        kept = match kept {
            Some((from, to)) if begin - to >= SHORTEST_GAP => {
                pieces.push(part(from, &segment.data[from..to], begin as u64));
                Some((begin, end))
            }
            Some((from, _)) => Some((from, end)),
            None => Some((begin, end)),
        };
    }
    let (from, to) = kept.unwrap_or((0, 0));
    pieces.push(part(from, &segment.data[from..to], segment.memory_size));
}

fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in file.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

fn bytes_at<const N: usize>(elf: &[u8], at: usize) -> anyhow::Result<[u8; N]> {
    let bytes = elf.get(at..).and_then(|rest| rest.first_chunk());
    bytes.copied().context("It ends in the middle of a header")
}

fn u64_at(elf: &[u8], at: usize) -> anyhow::Result<u64> {
    Ok(u64::from_le_bytes(bytes_at(elf, at)?))
}

#[cfg(test)]
mod tests;
