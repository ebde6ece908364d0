//! Writes tar headers: POSIX with PAX records for what does not fit. The same entry gives the same
//! bytes. Knows no files.

use super::header::BLOCK;
use super::{Entry, Kind, Segment};

/// Largest number of a 7- and of an 11-digit octal field.
const SMALL: u64 = 0o7_777_777;
const LARGE: u64 = 0o77_777_777_777;

/// The header of `entry`, extended header before it included; of a file with holes also the map of what is stored (PAX 1.0).
/// Its stored data follows, padded to 512 bytes.
#[must_use]
pub fn header(entry: &Entry) -> Vec<u8> {
    let mut map = Vec::new();
    let (flag, size, link, device): (u8, u64, &[u8], (u32, u32)) = match &entry.kind {
        Kind::File { size, map: None } => (b'0', *size, b"", (0, 0)),
        Kind::File {
            size,
            map: Some(segments),
        } => {
            map = leading_map(segments, *size);
            let stored: u64 = segments.iter().map(|segment| segment.length).sum();
            (b'0', stored.saturating_add(map.len() as u64), b"", (0, 0))
        }
        Kind::HardLink(target) => (b'1', 0, target, (0, 0)),
        Kind::Symlink(target) => (b'2', 0, target, (0, 0)),
        Kind::CharDevice { major, minor } => (b'3', 0, b"", (*major, *minor)),
        Kind::BlockDevice { major, minor } => (b'4', 0, b"", (*major, *minor)),
        Kind::Directory => (b'5', 0, b"", (0, 0)),
        Kind::Fifo => (b'6', 0, b"", (0, 0)),
    };
    let mut records = Vec::new();
    let mut record = |key: &[u8], value: &[u8]| records.extend(pax_record(key, value));
    if let Kind::File { size, map: Some(_) } = &entry.kind {
        record(b"GNU.sparse.major", b"1");
        record(b"GNU.sparse.minor", b"0");
        record(b"GNU.sparse.name", &entry.path);
        record(b"GNU.sparse.realsize", size.to_string().as_bytes());
    }
    if entry.path.len() > 100 || !entry.path.is_ascii() {
        record(b"path", &entry.path);
    }
    if link.len() > 100 || !link.is_ascii() {
        record(b"linkpath", link);
    }
    if size > LARGE {
        record(b"size", size.to_string().as_bytes());
    }
    for (key, value) in [(&b"uid"[..], entry.uid), (b"gid", entry.gid)] {
        if u64::from(value) > SMALL {
            record(key, value.to_string().as_bytes());
        }
    }
    let time = entry.mtime;
    let seconds = u64::try_from(time.seconds)
        .ok()
        .filter(|seconds| *seconds <= LARGE);
    if seconds.is_none() || time.nanoseconds > 0 {
        record(
            b"mtime",
            pax_time(time.seconds, time.nanoseconds).as_bytes(),
        );
    }
    for (name, value) in &entry.xattrs {
        record(&[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    let mut bytes = Vec::new();
    if !records.is_empty() {
        let length = records.len() as u64;
        bytes.extend(block(
            b"PaxHeader",
            b'x',
            length,
            0o644,
            (0, 0),
            0,
            b"",
            (0, 0),
        ));
        bytes.append(&mut records);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    }
    let owner = (
        u64::from(entry.uid).min(SMALL),
        u64::from(entry.gid).min(SMALL),
    );
    bytes.extend(block(
        &entry.path,
        flag,
        size.min(LARGE),
        entry.mode,
        owner,
        seconds.unwrap_or(0),
        link,
        device,
    ));
    bytes.append(&mut map);
    bytes
}

/// Decimal numbers, one a line: count, then offset and length of each piece, padded to a block. An empty piece at the end tells
/// GNU tar how long the file is.
fn leading_map(segments: &[Segment], size: u64) -> Vec<u8> {
    let end = Segment {
        offset: size,
        length: 0,
    };
    let pieces = segments.iter().chain([&end]);
    let numbers = pieces.flat_map(|piece| [piece.offset, piece.length]);
    let count = segments.len().saturating_add(1) as u64;
    let lines = std::iter::once(count).chain(numbers);
    let mut map: Vec<u8> = lines
        .flat_map(|number| format!("{number}\n").into_bytes())
        .collect();
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

#[expect(clippy::too_many_arguments, reason = "a header has that many fields")]
fn block(
    path: &[u8],
    flag: u8,
    size: u64,
    mode: u16,
    (uid, gid): (u64, u64),
    mtime: u64,
    link: &[u8],
    (major, minor): (u32, u32),
) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| {
        let room = block.get_mut(at..).into_iter().flatten();
        room.zip(bytes).for_each(|(to, from)| *to = *from);
    };
    put(0, path.get(..100).unwrap_or(path));
    put(100, format!("{mode:07o}").as_bytes());
    put(108, format!("{uid:07o}").as_bytes());
    put(116, format!("{gid:07o}").as_bytes());
    put(124, format!("{size:011o}").as_bytes());
    put(136, format!("{mtime:011o}").as_bytes());
    put(148, b"        ");
    put(156, &[flag]);
    put(157, link.get(..100).unwrap_or(link));
    put(257, b"ustar\x0000");
    put(329, format!("{major:07o}").as_bytes());
    put(337, format!("{minor:07o}").as_bytes());
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let mut put = |at: usize, bytes: &[u8]| {
        let room = block.get_mut(at..).into_iter().flatten();
        room.zip(bytes).for_each(|(to, from)| *to = *from);
    };
    put(148, format!("{sum:06o}\0").as_bytes());
    block
}

/// `LENGTH KEY=VALUE\n`; the length counts itself.
fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// Seconds with their fraction; before 1970 both count backwards.
fn pax_time(seconds: i64, nanoseconds: u32) -> String {
    match (seconds < 0, nanoseconds) {
        (_, 0) => seconds.to_string(),
        (false, _) => format!("{seconds}.{nanoseconds:09}"),
        (true, _) => {
            let whole = seconds.unsigned_abs().saturating_sub(1);
            format!(
                "-{whole}.{:09}",
                1_000_000_000_u32.saturating_sub(nanoseconds)
            )
        }
    }
}
