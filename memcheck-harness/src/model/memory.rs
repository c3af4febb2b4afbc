//! `Memory`: where classification reads the target's words from: a live process or a recording.

use super::{PageRun, Recording};

/// Tells which words a search wants: gets the address of the first of some that lie one behind the other, and adds the addresses
/// of those wanted. Many at once, as nearly all of millions are not.
pub type Wanted<'w> = dyn FnMut(u64, &[[u8; 8]], &mut Vec<u64>) + 'w;

/// A source of the target's memory. Reading never changes what is measured: pages that are not resident are not read.
pub trait Memory {
    /// Fills `buffer` from `address`. False when any byte is not resident, not mapped or not recorded; the buffer is then
    /// unspecified.
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool;

    /// These addresses are read next. A source where many at once are cheaper than one by one gets them now.
    fn expect(&self, addresses: &[u64]) {
        let _ = addresses;
    }

    /// The page runs of `[start, end)`, in order, without the pages that are neither resident, swapped nor guards.
    /// `None` when that cannot be known here.
    fn pages(&self, start: u64, end: u64) -> Option<Vec<PageRun>>;

    /// Addresses in `[start, end)`, multiples of 8 and in order, whose resident word is wanted. Only the words found count as read:
    /// a recording tells the same and holds no contents.
    fn search(&self, start: u64, end: u64, wanted: &mut Wanted<'_>) -> Vec<u64> {
        let mut found = Vec::new();
        let mut at = start.next_multiple_of(8);
        while at < end {
            let mut word = [0; 8];
            if self.read(at, &mut word) {
                wanted(at, &[word], &mut found);
            }
            let Some(next) = at.checked_add(8) else { break };
            at = next;
        }
        found
    }

    /// A little-endian word of 8 bytes.
    fn u64(&self, address: u64) -> Option<u64> {
        let mut buffer = [0; 8];
        self.read(address, &mut buffer).then(|| u64::from_le_bytes(buffer))
    }

    /// A little-endian word of 4 bytes.
    fn u32(&self, address: u64) -> Option<u32> {
        let mut buffer = [0; 4];
        self.read(address, &mut buffer).then(|| u32::from_le_bytes(buffer))
    }
}

impl Memory for Recording {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        let Some((start, bytes)) = self.bytes.at(address) else {
            return false;
        };
        let Some(offset) = usize::try_from(address - start).ok() else {
            return false;
        };
        let Some(found) = offset.checked_add(buffer.len()).and_then(|end| bytes.get(offset..end)) else {
            return false;
        };
        buffer.copy_from_slice(found);
        true
    }

    fn pages(&self, start: u64, end: u64) -> Option<Vec<PageRun>> {
        self.scans
            .iter()
            .find(|scan| (scan.0, scan.1) == (start, end))
            .and_then(|scan| scan.2.clone())
    }

    fn search(&self, start: u64, end: u64, wanted: &mut Wanted<'_>) -> Vec<u64> {
        let mut found = Vec::new();
        for (from, bytes) in self.bytes.iter() {
            let until = from.saturating_add(bytes.len() as u64).min(end);
            let first = start.max(from).saturating_add(7) & !7;
            // Behind the last whole word of the address space there is none.
            let inside = first.checked_sub(from).and_then(|inside| inside.try_into().ok());
            let inside = inside.zip(until.saturating_sub(from).try_into().ok());
            if let Some(words) = inside.and_then(|(from, until): (usize, usize)| bytes.get(from..until)) {
                wanted(first, words.as_chunks::<8>().0, &mut found);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_gives_back_what_was_read_and_nothing_else() {
        let recording = Recording {
            bytes: [(0x1000, vec![1, 0, 0, 0, 0, 0, 0, 0]), (0x3000, vec![7; 4])]
                .into_iter()
                .collect(),
            ..Recording::default()
        };
        assert_eq!(recording.u64(0x1000), Some(1));
        assert_eq!(recording.u32(0x1004), Some(0));
        assert_eq!(recording.u64(0x3000), None);
        assert_eq!(recording.u32(0x2000), None);
        assert_eq!(recording.pages(0, 4096), None);
        let mut ones = |first: u64, words: &[[u8; 8]], found: &mut Vec<u64>| {
            found.extend(
                (first..)
                    .step_by(8)
                    .zip(words)
                    .filter(|(_, word)| word[0] == 1)
                    .map(|(at, _)| at),
            );
        };
        assert_eq!(recording.search(0, u64::MAX, &mut ones), [0x1000]);
        assert!(
            recording
                .search(0x1008, u64::MAX, &mut |_, words, _| assert!(words.is_empty()))
                .is_empty(),
            "half a word is none"
        );
        let at_the_end = Recording {
            bytes: [(u64::MAX - 3, vec![1, 2, 3])].into_iter().collect(),
            ..Recording::default()
        };
        assert!(at_the_end.search(0, u64::MAX, &mut ones).is_empty());
    }
}
