//! Parses `/proc/PID/maps`, and the head line that `smaps` shares with it. Bytes in, regions out; nothing is read here.
//!
//! The format is that of `show_map_vma` in the kernel's fs/proc/task_mmu.c:
//! `start-end perms offset major:minor inode`, blanks, name to the end of the line. A newline inside a name is printed as
//! `\012`, so a name can never forge a line.

use crate::error::{Error, Result};
use crate::model::{Name, Perms, Region};

/// Parses the text of `/proc/PID/maps`.
///
/// # Errors
/// A line that is no region, a text that does not end with a whole line, regions out of order or overlapping: the text was
/// torn (or is none).
pub fn parse_maps(bytes: &[u8]) -> Result<Vec<Region>> {
    let mut regions: Vec<Region> = Vec::new();
    for line in lines(bytes) {
        let region = head(line?).ok_or_else(|| torn("maps", "a line that is no region"))?;
        check_order(regions.last(), &region, "maps")?;
        regions.push(region);
    }
    Ok(regions)
}

/// A text that the kernel would not have printed in one piece.
pub(super) fn torn(file: &str, what: &str) -> Error {
    Error::not_judged(format!("the memory map of the process is inconsistent ({file}: {what})"))
}

/// The regions of one map ascend and never overlap.
pub(super) fn check_order(before: Option<&Region>, region: &Region, file: &str) -> Result<()> {
    if before.is_some_and(|before| before.end > region.start) {
        return Err(torn(file, "regions out of order"));
    }
    Ok(())
}

/// The lines of a text that ends with a newline; an error item when it does not.
fn lines(bytes: &[u8]) -> impl Iterator<Item = Result<&[u8]>> {
    bytes
        .split_inclusive(|&b| b == b'\n')
        .map(|line| line.strip_suffix(b"\n").ok_or_else(|| torn("maps", "the last line is cut")))
}

/// Where the first newline is. A head line has some eighty bytes, and they are looked at eight at a time.
#[inline]
pub(super) fn newline(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 0xff;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        // Zero where the newline is; the lowest byte that borrows is the first that is zero.
        let word = u64::from_le_bytes(*word) ^ (ONES * u64::from(b'\n'));
        let zero = word.wrapping_sub(ONES) & !word & (ONES << 7);
        if zero != 0 {
            return Some(8 * index + zero.trailing_zeros() as usize / 8);
        }
    }
    let after = rest.iter().position(|&b| b == b'\n')?;
    Some(8 * words.len() + after)
}

/// One head line, without its newline.
#[inline]
pub(super) fn head(line: &[u8]) -> Option<Region> {
    let (start, rest) = hex(line, b'-')?;
    let (end, rest) = hex(rest, b' ')?;
    let (perms, rest) = rest.split_at_checked(5)?;
    let perms = self::perms(perms)?;
    let (offset, rest) = hex(rest, b' ')?;
    let (major, rest) = hex(rest, b':')?;
    let (minor, rest) = hex(rest, b' ')?;
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let (inode, rest) = rest.split_at_checked(digits)?;
    // After the inode comes a blank, then blanks up to the column of the name; kernels print that blank without a name too.
    if !matches!(rest.first(), None | Some(b' ')) || start >= end {
        return None;
    }
    let blanks = rest.iter().take_while(|b| **b == b' ').count();
    Some(Region {
        start,
        end,
        perms,
        offset,
        dev: (u32::try_from(major).ok()?, u32::try_from(minor).ok()?),
        inode: decimal(inode)?,
        name: name(rest.get(blanks..)?),
        usage: None,
        flags: None,
    })
}

/// A hexadecimal number and what follows the byte that ends it.
fn hex(bytes: &[u8], end: u8) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (i, &byte) in bytes.iter().enumerate().take(17) {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ if byte == end && i > 0 => return Some((value, &bytes[i + 1..])),
            _ => return None,
        };
        value = value.checked_mul(16)? | u64::from(digit);
    }
    None
}

/// A decimal number; `None` when empty, too large or anything else.
pub(super) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// Four letters and a blank.
fn perms(bytes: &[u8]) -> Option<Perms> {
    let &[r, w, x, s, b' '] = bytes else {
        return None;
    };
    let bit = |byte: u8, set: u8| match byte {
        b'-' => Some(false),
        _ if byte == set => Some(true),
        _ => None,
    };
    Some(Perms {
        read: bit(r, b'r')?,
        write: bit(w, b'w')?,
        execute: bit(x, b'x')?,
        shared: match s {
            b's' => true,
            b'p' => false,
            _ => return None,
        },
    })
}

/// The name with `\012` decoded: the only thing the kernel escapes here (`seq_path` with "\n").
fn name(bytes: &[u8]) -> Name {
    const NEWLINE: &[u8] = b"\\012";
    if !bytes.contains(&b'\\') {
        return Name::new(bytes);
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(&byte) = rest.first() {
        if let Some(after) = rest.strip_prefix(NEWLINE) {
            out.push(b'\n');
            rest = after;
        } else {
            out.push(byte);
            rest = &rest[1..];
        }
    }
    Name::new(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "\
00400000-00452000 r-xp 00000000 08:02 173521                             /usr/bin/dbus daemon
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
";

    #[test]
    fn a_line_becomes_a_region() {
        let regions = parse_maps(TWO.as_bytes()).unwrap();
        assert_eq!(
            (regions[0].start, regions[0].end, regions[0].inode),
            (0x40_0000, 0x45_2000, 173_521)
        );
        assert_eq!((regions[0].dev, regions[0].perms.to_string().as_str()), ((8, 2), "r-xp"));
        assert_eq!(regions[0].name, Name::from("/usr/bin/dbus daemon"));
        assert_eq!(regions[1].size_bytes(), 4096);
    }

    #[test]
    fn a_name_ends_the_line_and_is_never_parsed_again() {
        for (printed, bytes) in [
            ("", &b""[..]),
            ("/a\\0127f00-8f00 rw-p 0 0:0 0 [heap]", b"/a\n7f00-8f00 rw-p 0 0:0 0 [heap]"),
            ("/x (deleted) ", b"/x (deleted) "),
            ("/back\\slash\\01", b"/back\\slash\\01"),
            ("[anon: glibc: malloc]", b"[anon: glibc: malloc]"),
        ] {
            let regions = parse_maps(format!("1000-2000 rw-p 00000000 00:00 7    {printed}\n").as_bytes()).unwrap();
            assert_eq!(regions.len(), 1);
            assert_eq!(regions[0].name, Name::new(bytes));
        }
        let raw = parse_maps(b"1000-2000 rw-p 00000000 00:00 7 /\xff\x1b[31m\n").unwrap();
        assert_eq!(raw[0].name, Name::new(&b"/\xff\x1b[31m"[..]));
    }

    #[test]
    fn the_first_newline_is_found_wherever_it_is() {
        for len in 0..30 {
            for at in 0..len {
                for other in [0, b'\n' - 1, b'\n' + 1, 0x8a, 0xff] {
                    let mut bytes = vec![other; len];
                    assert_eq!(newline(&bytes), None);
                    (bytes[at], bytes[len - 1]) = (b'\n', b'\n');
                    assert_eq!(newline(&bytes), Some(at));
                }
            }
        }
    }

    #[test]
    fn torn_texts_are_refused() {
        let line = "1000-3000 rw-p 00000000 00:00 0 \n";
        for text in [
            "1000-3000 rw-p 00000000 00:00 0",
            &format!("{line}2000-4000 rw-p 00000000 00:00 0 \n"),
            &format!("{line}0-1000 rw-p 00000000 00:00 0 \n"),
            "3000-3000 rw-p 00000000 00:00 0 \n",
            "1000-3000 rwxz 00000000 00:00 0 \n",
            "1000-11111111111111111 rw-p 00000000 00:00 0 \n",
            "1000-3000 rw-p 00000000 00:00 99999999999999999999 \n",
            "1000-3000 rw-p 00000000 00:00 0x \n",
            "\n",
            "Rss: 4 kB\n",
        ] {
            assert!(parse_maps(text.as_bytes()).is_err(), "{text:?}");
        }
        assert_eq!(parse_maps(b"").unwrap(), []);
    }
}
