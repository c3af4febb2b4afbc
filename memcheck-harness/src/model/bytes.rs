//! `ByteSize`: an exact number of bytes, written and read without floats or rounding.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An exact number of bytes. Printing chooses the largest unit that divides the value, so nothing is ever rounded away:
/// 8388608 is `8 MiB`, 8392704 is `8196 KiB`, 8388609 is `8388609 B`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

/// Why a text is no byte size; `Display` is the sentence for the user, with the accepted form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ByteSizeError {
    /// Not `<integer> <unit>` at all.
    Malformed(String),
    /// A unit with two meanings (`8 MB`, `8M`, `8k`); the second value is the unit to write instead.
    Ambiguous(String, &'static str),
    /// More than 2^64 - 1 bytes.
    TooLarge(String),
}

impl fmt::Display for ByteSizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(text) => {
                write!(
                    f,
                    "`{text}` is not a size: write a whole number and a unit, as in \"64 KiB\" (B, KiB, MiB, GiB, TiB, pages)"
                )
            }
            Self::Ambiguous(text, hint) => {
                write!(f, "`{text}` could mean powers of 1000 or of 1024: write \"{hint}\"")
            }
            Self::TooLarge(text) => write!(f, "`{text}` is more than 2^64 - 1 bytes"),
        }
    }
}

impl std::error::Error for ByteSizeError {}

const UNITS: [(&str, u32); 5] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];

impl ByteSize {
    /// Whole KiB.
    #[must_use]
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// Whole MiB.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// Reads `<integer> <unit>`; `page_size` (bytes) gives `pages` its meaning.
    ///
    /// # Errors
    /// [`ByteSizeError`] for anything else, for ambiguous units and for overflow.
    pub fn parse(text: &str, page_size: u64) -> Result<Self, ByteSizeError> {
        let trimmed = text.trim();
        let digits_end = trimmed
            .find(|c: char| !(c.is_ascii_digit() || c == '_'))
            .unwrap_or(trimmed.len());
        let (digits, unit) = trimmed.split_at(digits_end);
        let unit = unit.trim_start();
        let digits: String = digits.chars().filter(|c| *c != '_').collect();
        if digits.is_empty() || (unit.is_empty() && digits != "0") {
            return Err(ByteSizeError::Malformed(text.to_owned()));
        }
        let multiplier = match unit {
            "" => 1, // only "0" gets here
            "pages" | "page" => page_size,
            _ => match UNITS.iter().find(|(name, _)| *name == unit) {
                Some((_, shift)) => 1_u64 << shift,
                None => return Err(unknown_unit(text, &digits, unit)),
            },
        };
        digits
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(multiplier))
            .map(Self)
            .ok_or_else(|| ByteSizeError::TooLarge(text.to_owned()))
    }
}

fn unknown_unit(text: &str, digits: &str, unit: &str) -> ByteSizeError {
    let meant = match unit.to_ascii_lowercase().as_str() {
        "k" | "kb" | "kib" => "KiB",
        "m" | "mb" | "mib" => "MiB",
        "g" | "gb" | "gib" => "GiB",
        "t" | "tb" | "tib" => "TiB",
        "b" | "byte" | "bytes" => "B",
        _ => return ByteSizeError::Malformed(text.to_owned()),
    };
    // The hint borrows nothing: there are only so many units, and the number stands in the quoted text already.
    let _ = digits;
    ByteSizeError::Ambiguous(text.to_owned(), meant)
}

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    /// As [`ByteSize::parse`] with 4096-byte pages.
    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        Self::parse(text, 4096)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, shift) = UNITS
            .iter()
            .find(|(_, shift)| self.0 != 0 && self.0 & ((1_u64 << shift) - 1) == 0)
            .unwrap_or(&("B", 0));
        f.pad(&format!("{} {name}", self.0 >> shift))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact_both_ways() {
        for (text, bytes, shown) in [
            ("8 MiB", 8 << 20, "8 MiB"),
            ("8196 KiB", 8196 << 10, "8196 KiB"),
            ("8388609 B", 8_388_609, "8388609 B"),
            ("3 pages", 12_288, "12 KiB"),
            ("0", 0, "0 B"),
            ("1_024 KiB", 1 << 20, "1 MiB"),
            ("2GiB", 2 << 30, "2 GiB"),
        ] {
            assert_eq!(ByteSize::parse(text, 4096), Ok(ByteSize(bytes)));
            assert_eq!(ByteSize(bytes).to_string(), shown);
        }
    }

    #[test]
    fn ambiguous_and_impossible_sizes_are_refused_with_a_hint() {
        for text in ["8 MB", "8M", "8k", "8mib"] {
            assert!(
                matches!(ByteSize::parse(text, 4096), Err(ByteSizeError::Ambiguous(..))),
                "{text}"
            );
        }
        for text in ["", "MiB", "8", "1.5 GiB", "-1 B", "8 MiBB"] {
            assert!(
                matches!(ByteSize::parse(text, 4096), Err(ByteSizeError::Malformed(_))),
                "{text}"
            );
        }
        assert!(matches!(
            ByteSize::parse("16777217 TiB", 4096),
            Err(ByteSizeError::TooLarge(_))
        ));
        assert!(matches!(
            ByteSize::parse("99999999999999999999 B", 4096),
            Err(ByteSizeError::TooLarge(_))
        ));
    }
}
