//! `Page`: a page of the target that was read, in whole or in part, and what was asked for of it.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

/// Room for pages, which one stop leaves to the next.
pub(super) type Spare = Rc<RefCell<Vec<Rc<Page>>>>;

/// A page is read in lines, so many that a word has a bit for each: 64 bytes of a page of 4 KiB.
const LINES: usize = 64;
/// Every line.
pub(super) const WHOLE: u64 = u64::MAX;

/// A page that was fetched, and which of its bytes were asked for, one bit each.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) bytes: Vec<u8>,
    /// Lines that hold what stands in the target.
    pub(super) lines: u64,
    /// Lines that somebody looked at; others were fetched beside such.
    looked: Cell<u64>,
    asked: Vec<Cell<u64>>,
}

impl Page {
    pub(super) fn new(bytes: Vec<u8>, lines: u64) -> Self {
        Self {
            asked: vec![Cell::new(0); bytes.len().div_ceil(64)],
            looked: Cell::new(0),
            lines,
            bytes,
        }
    }

    /// Room for these lines of a page.
    pub(super) fn blank(spare: &Spare, bytes: usize, lines: u64) -> Rc<Self> {
        let mut known = spare.borrow_mut().pop();
        match known.as_mut().and_then(Rc::get_mut).filter(|page| page.bytes.len() == bytes) {
            Some(page) => {
                page.asked.fill(Cell::new(0));
                page.looked.set(0);
                page.lines = lines;
            }
            None => known = None,
        }
        known.unwrap_or_else(|| Rc::new(Self::new(vec![0; bytes], lines)))
    }

    /// The lines of a range of a page of so many bytes; a range that leaves the page has all to its end.
    pub(super) fn lines_of(range: Range<usize>, bytes: usize) -> u64 {
        let line = (bytes / LINES).max(1);
        let (first, last) = (range.start / line, range.end.saturating_sub(1) / line);
        let from = WHOLE.checked_shl(u32::try_from(first).unwrap_or(u32::MAX)).unwrap_or(0);
        let to = WHOLE.checked_shr(63_u32.saturating_sub(u32::try_from(last).unwrap_or(63)));
        from & to.unwrap_or(WHOLE)
    }

    /// The bytes from the first to the last of some lines of a page of so many bytes.
    pub(super) fn hull(lines: u64, bytes: usize) -> Range<usize> {
        let line = bytes / LINES;
        let (first, end) = (lines.trailing_zeros() as usize, LINES - lines.leading_zeros() as usize);
        if line == 0 || lines == 0 {
            return 0..bytes;
        }
        first * line..end * line
    }

    /// Notes that somebody looks at these lines. False where not all of them are here.
    pub(super) fn look(&self, lines: u64) -> bool {
        self.looked.set(self.looked.get() | lines);
        lines & !self.lines == 0
    }

    /// Lines that somebody looked at.
    pub(super) fn looked(&self) -> u64 {
        self.looked.get()
    }

    /// Takes over what was asked for of another reading of the same page.
    pub(super) fn inherit(&self, other: &Self) {
        self.looked.set(other.looked.get());
        for (asked, before) in self.asked.iter().zip(&other.asked) {
            asked.set(before.get());
        }
    }

    /// Notes that bytes were asked for.
    pub(super) fn ask(&self, from: usize, count: usize) {
        let mut at = from;
        while at < from + count {
            let bit = at % 64;
            let bits = (64 - bit).min(from + count - at);
            if let Some(word) = self.asked.get(at / 64) {
                word.set(word.get() | (u64::MAX >> (64 - bits)) << bit);
            }
            at += bits;
        }
    }

    /// The ranges of bytes that were asked for.
    pub(super) fn ranges(&self) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = Vec::with_capacity(8);
        let words_of_line = (self.asked.len() / LINES).max(1);
        let mut lines = self.looked.get();
        while lines != 0 {
            let first = lines.trailing_zeros() as usize * words_of_line;
            lines &= lines - 1;
            let words = self.asked.get(first..first + words_of_line).unwrap_or_default();
            for (index, word) in (first..).zip(words) {
                ranges_of(index, word.get(), &mut ranges);
            }
        }
        ranges
    }
}

/// Adds the ranges of bytes that a word has bits for, the n-th of a page.
fn ranges_of(index: usize, mut left: u64, ranges: &mut Vec<Range<usize>>) {
    while left != 0 {
        let bit = left.trailing_zeros() as usize;
        let count = (left >> bit).trailing_ones() as usize;
        let range = index * 64 + bit..index * 64 + bit + count;
        match ranges.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => ranges.push(range),
        }
        left = left.checked_shr(u32::try_from(bit + count).unwrap_or(64)).unwrap_or(0);
        left = left.checked_shl(u32::try_from(bit + count).unwrap_or(64)).unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_page_knows_which_bytes_were_asked_for() {
        let page = Page::new(vec![0; 4096], WHOLE);
        page.look(WHOLE);
        for (from, count) in [(0, 8), (8, 4), (60, 70), (130, 0), (200, 1), (248, 8), (252, 4)] {
            page.ask(from, count);
        }
        assert_eq!(page.ranges(), [0..12, 60..130, 200..201, 248..256]);
        page.ask(0, 256);
        assert_eq!(page.ranges().first(), Some(&(0..256)));
    }

    proptest! {
        #[test]
        fn lines_hold_the_range_that_they_are_of(shift in 9_u32..17, from in 0_usize..65536, count in 1_usize..65536) {
            let bytes = 1_usize << shift;
            let from = from % bytes;
            let range = from..from + count.min(bytes - from);
            let lines = Page::lines_of(range.clone(), bytes);
            let (hull, line) = (Page::hull(lines, bytes), bytes / 64);
            prop_assert!(hull.start <= range.start && range.end <= hull.end);
            prop_assert!(range.start - hull.start < line && hull.end - range.end < line);
            prop_assert_eq!(lines.count_ones() as usize * line, hull.len());
        }
    }
}
