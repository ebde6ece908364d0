//! One 512-byte tar header: fields and their number formats. Knows nothing of extended headers.

use super::TarError;

/// Length of a header and unit of everything in a tar, in bytes.
pub(super) const BLOCK: usize = 512;

/// A header whose checksum is right.
pub(super) struct Header {
    block: [u8; BLOCK],
    /// Where it starts in the archive.
    pub(super) at: u64,
}

impl Header {
    /// Checks the sum: unsigned as POSIX says, or signed as old writers did.
    pub(super) fn check(block: [u8; BLOCK], at: u64) -> Result<Self, TarError> {
        let header = Self { block, at };
        let expected = octal(header.field(148, 8)).ok_or(TarError::Checksum(at))?;
        let mut unsigned = 0_u64;
        let mut signed = 0_i64;
        for (position, byte) in block.iter().enumerate() {
            let byte = if (148..156).contains(&position) {
                b' '
            } else {
                *byte
            };
            unsigned += u64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        if expected == unsigned || i64::try_from(expected) == Ok(signed) {
            Ok(header)
        } else {
            Err(TarError::Checksum(at))
        }
    }

    /// `length` bytes from `start`; both are constants of the format.
    pub(super) fn field(&self, start: usize, length: usize) -> &[u8] {
        self.block.get(start..start + length).unwrap_or_default()
    }

    fn number(&self, name: &'static str, start: usize, length: usize) -> Result<i64, TarError> {
        number(self.field(start, length)).ok_or(TarError::Number {
            field: name,
            at: self.at,
        })
    }

    fn small(&self, name: &'static str, start: usize, length: usize) -> Result<u32, TarError> {
        u32::try_from(self.number(name, start, length)?).map_err(|_| TarError::Number {
            field: name,
            at: self.at,
        })
    }

    pub(super) fn kind(&self) -> u8 {
        self.block[156]
    }

    pub(super) fn size(&self) -> Result<u64, TarError> {
        u64::try_from(self.number("size", 124, 12)?).map_err(|_| TarError::Number {
            field: "size",
            at: self.at,
        })
    }

    pub(super) fn mode(&self) -> Result<u16, TarError> {
        // Bits above the permissions repeat the kind in some writers.
        let mode = self.number("mode", 100, 8)? & 0o7777;
        u16::try_from(mode).map_err(|_| TarError::Number {
            field: "mode",
            at: self.at,
        })
    }

    pub(super) fn uid(&self) -> Result<u32, TarError> {
        self.small("uid", 108, 8)
    }

    pub(super) fn gid(&self) -> Result<u32, TarError> {
        self.small("gid", 116, 8)
    }

    pub(super) fn mtime(&self) -> Result<i64, TarError> {
        self.number("mtime", 136, 12)
    }

    pub(super) fn major(&self) -> Result<u32, TarError> {
        self.small("devmajor", 329, 8)
    }

    pub(super) fn minor(&self) -> Result<u32, TarError> {
        self.small("devminor", 337, 8)
    }

    pub(super) fn link(&self) -> Vec<u8> {
        text(self.field(157, 100)).to_vec()
    }

    /// The name, after the prefix where the format has one: POSIX and star, not GNU.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = text(self.field(0, 100));
        let prefix = match (self.field(257, 6), self.field(508, 4)) {
            (b"ustar\0", b"tar\0") => text(self.field(345, 131)),
            (b"ustar\0", _) => text(self.field(345, 155)),
            _ => &[],
        };
        if prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }
}

/// A field up to its NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Octal digits amid spaces and NULs; nothing is 0.
fn octal(field: &[u8]) -> Option<u64> {
    let padding = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field
        .iter()
        .position(|byte| !padding(byte))
        .unwrap_or(field.len());
    let mut digits = field.get(start..)?.iter();
    let mut value = 0_u64;
    for byte in digits.by_ref() {
        match byte {
            b'0'..=b'7' => value = value.checked_mul(8)?.checked_add(u64::from(byte - b'0'))?,
            byte if padding(byte) => break,
            _ => return None,
        }
    }
    Some(value)
}

/// Octal, or GNU's base 256: big-endian two's complement with the top bit as its mark.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 == 0 {
        return i64::try_from(octal(field)?).ok();
    }
    let negative = first & 0x40 != 0;
    let mut value = i128::from(first & 0x3f) - if negative { 0x40 } else { 0 };
    for byte in rest {
        value = value.checked_mul(256)?.checked_add(i128::from(*byte))?;
    }
    i64::try_from(value).ok()
}
