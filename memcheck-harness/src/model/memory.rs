//! `Memory`: where classification reads the target's words from: a live process or a recording.

use super::{PageRun, Recording};

/// A source of the target's memory. Reading never changes what is measured: pages that are not resident are not read.
pub trait Memory {
    /// Fills `buffer` from `address`. False when any byte is not resident, not mapped or not recorded; the buffer is then
    /// unspecified.
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool;

    /// The page runs of `[start, end)`, in order, without the pages that are neither resident, swapped nor guards.
    /// `None` when that cannot be known here.
    fn pages(&self, start: u64, end: u64) -> Option<Vec<PageRun>>;

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
        let after = self.bytes.partition_point(|(start, _)| *start <= address);
        let Some((start, bytes)) = after.checked_sub(1).and_then(|i| self.bytes.get(i)) else {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_gives_back_what_was_read_and_nothing_else() {
        let recording = Recording {
            bytes: vec![(0x1000, vec![1, 0, 0, 0, 0, 0, 0, 0]), (0x3000, vec![7; 4])],
            scans: vec![],
        };
        assert_eq!(recording.u64(0x1000), Some(1));
        assert_eq!(recording.u32(0x1004), Some(0));
        assert_eq!(recording.u64(0x3000), None);
        assert_eq!(recording.u32(0x2000), None);
        assert_eq!(recording.pages(0, 4096), None);
    }
}
