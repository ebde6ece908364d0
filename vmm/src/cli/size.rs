//! Sizes as docker takes them: a number with an optional unit of powers of 1024.

use std::str::FromStr;

/// A number of bytes: `512m`, `1.5g`, `64MiB`, `1048576`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

/// Why a size was not understood.
#[derive(Debug, thiserror::Error)]
#[error("not a size: write a number and a unit, such as 512m or 1.5g (b, k, m, g, t)")]
pub(crate) struct SizeError;

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let digits = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
            "" | "b" => 0_u32,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(SizeError),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let whole: u64 = whole.parse().map_err(|_| SizeError)?;
        let mut bytes = whole.checked_mul(1 << shift).ok_or(SizeError)?;
        if number.contains('.') {
            // Nine decimals are more than a byte of a terabyte.
            if fraction.is_empty() || fraction.len() > 9 {
                return Err(SizeError);
            }
            let value: u64 = fraction.parse().map_err(|_| SizeError)?;
            let unit = u128::from(1_u64 << shift);
            let scale = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| SizeError)?);
            let part = u64::try_from(u128::from(value) * unit / scale).map_err(|_| SizeError)?;
            bytes = bytes.checked_add(part).ok_or(SizeError)?;
        }
        Ok(Self(bytes))
    }
}
