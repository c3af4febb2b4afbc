//! Strings that tell what is linked into a file: messages of allocators and a runtime's mark, which no `strip` takes out.

use std::collections::BTreeMap;

use goblin::elf::program_header::{PF_W, PF_X, PT_LOAD};

use super::header::Elf;
use crate::error::Result;

/// Most bytes of one file looked through.
const MAX_BYTES: u64 = 32 << 20;

/// Looks for the strings in the loaded parts of a file: read-only data where it stands apart, else everything read-only; and
/// for those that begin with `\u{ff}` (one byte 0xff) at the beginning of the writable data. String → address in the file.
pub(super) fn find(elf: &Elf<'_>, wanted: &[&str]) -> Result<BTreeMap<String, u64>> {
    let (marks, messages): (Vec<&str>, Vec<&str>) = wanted.iter().partition(|text| text.starts_with('\u{ff}'));
    let loads = || elf.segments.iter().filter(|segment| segment.p_type == PT_LOAD);
    let read_only =
        |executable: bool| loads().filter(move |segment| segment.p_flags & (PF_W | PF_X) == if executable { PF_X } else { 0 });
    let mut found = BTreeMap::new();
    let mut left = MAX_BYTES;
    let mut look = |segment: &goblin::elf::ProgramHeader, most: u64, wanted: &[&str]| -> Result<()> {
        let bytes = elf
            .reader
            .up_to(segment.p_offset, segment.p_filesz.min(most).min(left), "read-only data")?;
        left -= bytes.len() as u64;
        for text in wanted {
            // The mark of Go begins with a byte that is no text.
            let needle: Vec<u8> = match text.strip_prefix('\u{ff}') {
                Some(rest) => [b"\xff", rest.as_bytes()].concat(),
                None => text.as_bytes().to_vec(),
            };
            if let Some(at) = position(&bytes, &needle) {
                found.insert((*text).to_owned(), segment.p_vaddr.wrapping_add(at as u64));
            }
        }
        Ok(())
    };
    // One segment holds the headers alone, or all of them.
    let apart = read_only(false).any(|segment| segment.p_filesz > 0) && read_only(false).count() > 1;
    for segment in read_only(!apart).chain(read_only(false).filter(|_| !apart)) {
        look(segment, u64::MAX, &messages)?;
    }
    for segment in loads().filter(|segment| segment.p_flags & PF_X == 0) {
        look(segment, 1 << 16, &marks)?;
    }
    Ok(found)
}

/// Where a needle stands. Its rarest byte by a fixed guess is looked for first: punctuation is rarer than letters.
fn position(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let rare = needle.iter().position(|byte| !byte.is_ascii_lowercase()).unwrap_or(0);
    let first = *needle.get(rare)?;
    let mut from = rare;
    while let Some(next) = bytes.get(from..).and_then(|rest| rest.iter().position(|byte| *byte == first)) {
        let start = from + next - rare;
        if bytes.get(start..).is_some_and(|rest| rest.starts_with(needle)) {
            return Some(start);
        }
        from += next + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_needle_is_found_where_it_stands() {
        assert_eq!(position(b"xx: mimalloc: x", b"mimalloc: "), Some(4));
        assert_eq!(position(b"mimalloc:", b"mimalloc: "), None);
        assert_eq!(position(b": ", b"mimalloc: "), None);
        assert_eq!(position(b"\0\xff Go buildinf:\x08", b"\xff Go buildinf:"), Some(1));
    }
}
