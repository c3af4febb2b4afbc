//! What the memory of a stopped process holds, for whoever asks: the resident pages of a role, piece by piece. Pages that are not
//! in memory are not read, so that looking changes nothing.

use std::rc::Rc;

use super::live_directory;
use super::memory::LiveMemory;
use super::pages::Known;
use crate::error::{Error, Result};
use crate::model::{FoundString, Memory as _, MemoryMap, Name, Piece, Thread};

/// Bytes read at once.
const STEP: u64 = 64 << 10;

/// Shortest run of printable characters that is a string, as strings(1) has it.
const SHORTEST: usize = 4;

/// Most bytes of strings that are kept of one stop, and longest string: a longer one is cut into several.
const MAX_TEXT: usize = 64 << 20;
const LONGEST: usize = 4096;

/// The memory of a stopped process, for its contents.
#[derive(Debug)]
pub struct ContentReader {
    memory: LiveMemory,
}

/// How many bytes of a piece were read, and how many of its pages could not be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes in memory that cannot be read (no access, a device).
    pub unreadable_bytes: u64,
}

/// Opens the memory of a process that stands still and was classified.
///
/// # Errors
/// Not permitted, or the process is ending.
pub fn content_reader(pid: i32, map: &MemoryMap) -> Result<ContentReader> {
    let thread = |tid| Thread {
        tid,
        name: Name::default(),
        stack_pointer: None,
        program_counter: None,
        tls_base: None,
    };
    let threads: Vec<Thread> = map.threads.iter().filter_map(|fact| fact.tid).map(thread).collect();
    let (dir, task) = live_directory(pid, &threads)?;
    let memory = LiveMemory::open(Rc::new(dir), task, map.page_bytes, false, Known::default());
    Ok(ContentReader { memory })
}

impl ContentReader {
    /// Gives the resident bytes of a piece to `sink`, in order, each part with its offset in the piece.
    ///
    /// # Errors
    /// The kernel does not tell which pages are in memory; those of the sink.
    pub fn read(&self, piece: &Piece, sink: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<Counted> {
        let runs = self.memory.pages(piece.start, piece.end).ok_or_else(|| {
            Error::machine("it is not known here which pages are in memory, and reading the others would change the process")
        })?;
        let mut counted = Counted::default();
        let mut buffer = Vec::new();
        for run in runs.iter().filter(|run| run.resident && !run.guard) {
            let mut at = run.start.max(piece.start);
            let until = run.end.min(piece.end);
            while at < until {
                let len = STEP.min(until - at);
                buffer.resize(usize::try_from(len).unwrap_or(0), 0);
                if self.memory.read(at, &mut buffer) {
                    sink(at - piece.start, &buffer)?;
                    counted.read_bytes += len;
                } else {
                    counted.unreadable_bytes += len;
                }
                at += len;
            }
        }
        Ok(counted)
    }
}

/// Finds printable strings in bytes that come in order.
#[derive(Debug, Default)]
pub struct Strings {
    found: Vec<FoundString>,
    text_bytes: usize,
    more: bool,
    /// Where the current run began, and its bytes.
    run: Option<(u64, Vec<u8>)>,
}

impl Strings {
    /// Looks at the bytes from an offset; a gap before them ends a string.
    pub fn take(&mut self, offset: u64, bytes: &[u8]) {
        let continues = |(from, run): &(u64, Vec<u8>)| from + run.len() as u64 == offset;
        if self.run.as_ref().is_some_and(|run| !continues(run)) {
            self.end();
        }
        for (at, byte) in (offset..).zip(bytes) {
            let printable = *byte == b'\t' || (b' '..=b'~').contains(byte);
            match &mut self.run {
                Some((_, run)) if printable && run.len() < LONGEST => run.push(*byte),
                run => {
                    if run.is_some() {
                        self.end();
                    }
                    if printable {
                        self.run = Some((at, vec![*byte]));
                    }
                }
            }
        }
    }

    fn end(&mut self) {
        let Some((offset, run)) = self.run.take() else { return };
        if run.len() < SHORTEST {
            return;
        }
        if self.text_bytes + run.len() > MAX_TEXT {
            self.more = true;
            return;
        }
        self.text_bytes += run.len();
        self.found.push(FoundString {
            offset,
            text: String::from_utf8_lossy(&run).into_owned(),
        });
    }

    /// The strings since the last call, and whether some were left out for their number.
    pub fn finish(&mut self) -> (Vec<FoundString>, bool) {
        self.end();
        (std::mem::take(&mut self.found), std::mem::take(&mut self.more))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strings(parts: &[(u64, &[u8])]) -> Vec<(u64, String)> {
        let mut strings = Strings::default();
        for (offset, bytes) in parts {
            strings.take(*offset, bytes);
        }
        let (found, more) = strings.finish();
        assert!(!more);
        found.into_iter().map(|found| (found.offset, found.text)).collect()
    }

    #[test]
    fn runs_of_four_and_more_with_their_offsets() {
        assert_eq!(
            strings(&[
                (0, b"\0abc\0ab"),
                (7, b"cd\x80\ttab\xff\x1b[31m"),
                (100, b"xy"),
                (200, b"z123")
            ]),
            [
                (5, "abcd".to_owned()),
                (10, "\ttab".to_owned()),
                (16, "[31m".to_owned()),
                (200, "z123".to_owned())
            ]
        );
    }

    proptest! {
        #[test]
        fn how_bytes_are_cut_makes_no_difference(bytes in prop::collection::vec(prop_oneof![Just(b'a'), Just(0), any::<u8>()], 0..300),
                                                 cut in 0_usize..300) {
            let cut = cut.min(bytes.len());
            let (a, b) = bytes.split_at(cut);
            prop_assert_eq!(strings(&[(0, a), (cut as u64, b)]), strings(&[(0, &bytes)]));
        }
    }
}
