//! `Records`: those of a text of `smaps`, kept for the next one. From stop to stop most stay as they are to the byte, and a
//! comparison costs a tenth of reading one.

use std::ops::Range;
use std::rc::Rc;

use crate::model::Region;

/// More than a text has that is taken at once: of longer ones nothing is kept.
const MAX_RECORDS: usize = 1024;

/// Records that come next, if they are as long as they were.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coming {
    pub(super) bytes: usize,
    /// None comes after them.
    pub(super) is_all: bool,
}

/// The records of a text, in order, and how far the next text has come.
#[derive(Debug, Default)]
pub(super) struct Records {
    text: Vec<u8>,
    known: Vec<(Range<usize>, Rc<Region>)>,
    /// The first that may still come.
    next: usize,
    /// Those of the text that is read: where each begins, and which of `known` it is. No more than a short text has. Absent as long as
    /// they are those of the text before, at the same places.
    now: Option<Vec<(usize, Option<Rc<Region>>)>>,
}

impl Records {
    /// Another text begins.
    pub(super) fn begin(&mut self) {
        self.next = 0;
        self.now = None;
    }

    /// The region that a text begins with, and what follows, if its record stands there as it did. `at`: how much of the whole text
    /// stands before.
    pub(super) fn known<'t>(&mut self, text: &'t [u8], at: usize) -> Option<(Region, &'t [u8])> {
        let (range, region) = self.known.get(self.next)?;
        let rest = text.strip_prefix(self.text.get(range.clone())?)?;
        // Another figure would be one of this record.
        if rest.first().is_some_and(u8::is_ascii_uppercase) {
            return None;
        }
        let (region, is_moved) = (Rc::clone(region), range.start != at);
        if is_moved || self.now.is_some() {
            let same = Some(Rc::clone(&region));
            self.listed().push((at, same));
        }
        self.next += 1;
        Some((Region::clone(&region), rest))
    }

    /// The records that come next where the text has come to this place, if they stand there as they did: as many as `most` bytes have
    /// room for.
    pub(super) fn coming(&self, at: usize, most: usize) -> Option<Coming> {
        let first = self.known.binary_search_by_key(&at, |(range, _)| range.start).ok()?;
        let coming = self.known.get(first..)?.iter().map(|(range, _)| range.end);
        let end = coming.take_while(|end| end - at <= most).last()?;
        Some(Coming {
            bytes: end - at,
            is_all: self.known.last().is_some_and(|(last, _)| last.end == end),
        })
    }

    /// A record is read, of a region that begins at this address: those before are gone.
    pub(super) fn skip_to(&mut self, start: u64, at: usize) {
        let now = self.listed();
        if now.len() < MAX_RECORDS {
            now.push((at, None));
        }
        let left = self.known.get(self.next..).unwrap_or_default();
        self.next += left.iter().take_while(|(_, region)| region.start <= start).count();
    }

    fn listed(&mut self) -> &mut Vec<(usize, Option<Rc<Region>>)> {
        let before = self.known.iter().take(self.next);
        let same = || before.map(|(range, region)| (range.start, Some(Rc::clone(region))));
        self.now.get_or_insert_with(|| same().collect())
    }

    /// Keeps a text of so many bytes that was read at once, of which these are the regions, and gives the room of that before. Of 0
    /// bytes: nothing is known of the next.
    pub(super) fn keep(&mut self, text: &mut Vec<u8>, bytes: usize, regions: &[Region]) {
        let now = self.now.take();
        let count = now.as_ref().map_or(self.next, Vec::len);
        if bytes == 0 || count != regions.len() {
            self.known.clear();
            return;
        }
        std::mem::swap(&mut self.text, text);
        let Some(now) = now else {
            self.known.truncate(count);
            return;
        };
        let ends = now.iter().skip(1).map(|(at, _)| *at).chain([bytes]);
        let ends: Vec<usize> = ends.collect();
        self.known.clear();
        for (((at, known), end), region) in now.into_iter().zip(ends).zip(regions) {
            self.known.push((at..end, known.unwrap_or_else(|| Rc::new(region.clone()))));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::smaps::{Parser, parse_smaps};

    fn text(records: &[(u64, u64, bool)]) -> String {
        let mut text = String::new();
        for (index, pages, more) in records {
            let start = 0x10_0000 * (index + 1);
            let more = if *more { "VmFlags: rd mr \n" } else { "" };
            text += &format!(
                "{start:08x}-{:08x} rw-p 00000000 00:00 0 \nSize: {:>16} kB\nRss: {pages:>17} kB\n{more}",
                start + 0x1_0000,
                64
            );
        }
        text
    }

    #[test]
    fn whole_records_come_as_long_as_they_were() {
        let text = text(&[(0, 1, false), (1, 1, true), (2, 1, false)]);
        let ends: Vec<usize> = text.match_indices("0020").map(|(at, _)| at).collect();
        let (second, third) = (ends[0], text.match_indices("0030").next().unwrap().0);
        let mut parser = Parser::new("smaps", 0);
        assert!(parser.coming(0, 4096).is_none());
        parser.lines(text.as_bytes()).unwrap();
        parser.finish(&mut text.clone().into_bytes(), text.len());
        let parser = parser.again(0);
        let coming = |at, most| parser.coming(at, most).map(|coming| (coming.bytes, coming.is_all));
        assert_eq!(coming(0, third), Some((third, false)));
        assert_eq!(coming(0, third - 1), Some((second, false)));
        assert_eq!(coming(0, second - 1), None);
        assert_eq!(coming(second, 4096), Some((text.len() - second, true)));
        assert_eq!((coming(second + 1, 4096), coming(text.len(), 4096)), (None, None));
    }

    proptest! {
        #[test]
        fn what_was_read_before_changes_no_answer(texts in prop::collection::vec(
            prop::collection::btree_map(0_u64..6, (0_u64..3, any::<bool>()), 0..6), 1..5)) {
            let mut parser = Parser::new("smaps", 0);
            for records in texts {
                let records: Vec<(u64, u64, bool)> = records.into_iter().map(|(index, (pages, more))| (index, pages, more)).collect();
                let text = text(&records);
                parser = parser.again(0);
                parser.lines(text.as_bytes()).unwrap();
                let regions = parser.finish(&mut text.clone().into_bytes(), text.len());
                prop_assert_eq!(regions, parse_smaps(text.as_bytes()).unwrap());
            }
        }
    }
}
