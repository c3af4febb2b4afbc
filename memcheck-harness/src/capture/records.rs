//! `Records`: those of a text of `smaps`, kept for the next one. From stop to stop most stay as they are to the byte, and a
//! comparison costs a tenth of reading one.

use std::ops::Range;
use std::rc::Rc;

use crate::model::Region;

/// More than a text has that is taken at once: of longer ones nothing is kept.
const MAX_RECORDS: usize = 1024;

/// The records of a text, in order, and how far the next text has come.
#[derive(Debug, Default)]
pub(super) struct Records {
    text: Vec<u8>,
    known: Vec<(Range<usize>, Rc<Region>)>,
    /// The first that may still come.
    next: usize,
    /// Those of the text that is read: where each begins, and which of `known` it is. No more than a short text has.
    now: Vec<(usize, Option<Rc<Region>>)>,
}

impl Records {
    /// Another text begins.
    pub(super) fn begin(&mut self) {
        self.next = 0;
        self.now.clear();
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
        self.next += 1;
        self.now.push((at, Some(Rc::clone(region))));
        Some((Region::clone(region), rest))
    }

    /// A record is read, of a region that begins at this address: those before are gone.
    pub(super) fn skip_to(&mut self, start: u64, at: usize) {
        let left = self.known.get(self.next..).unwrap_or_default();
        self.next += left.iter().take_while(|(_, region)| region.start <= start).count();
        if self.now.len() < MAX_RECORDS {
            self.now.push((at, None));
        }
    }

    /// Keeps a text of so many bytes that was read at once, of which these are the regions, and gives the room of that before. Of 0
    /// bytes: nothing is known of the next.
    pub(super) fn keep(&mut self, text: &mut Vec<u8>, bytes: usize, regions: &[Region]) {
        self.known.clear();
        if bytes == 0 || self.now.len() != regions.len() {
            return;
        }
        std::mem::swap(&mut self.text, text);
        let ends = self.now.iter().skip(1).map(|(at, _)| *at).chain([bytes]);
        let ends: Vec<usize> = ends.collect();
        for (((at, known), end), region) in self.now.drain(..).zip(ends).zip(regions) {
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
