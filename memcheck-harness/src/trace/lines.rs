//! The lines that the target writes, as far as points wait for them: put together from the writes as they come.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use regex::bytes::Regex;

use crate::error::{Error, Result};
use crate::model::{At, Stream};

use super::Point;
use super::calls::Call;

/// What is kept of a line: a longer one is judged by its beginning.
const LINE_BYTES: usize = 64 << 10;
/// Bytes read from the target at once.
const CHUNK_BYTES: u64 = 64 << 10;
/// `UIO_MAXIOV` (readv(2)).
const MAX_VECTORS: u64 = 1024;

/// A point that waits for a line.
#[derive(Debug)]
struct Wanted {
    index: usize,
    pattern: Regex,
    stream: Option<Stream>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lines {
    wanted: Vec<Wanted>,
    /// The unfinished line of each stream of each process.
    begun: BTreeMap<(i32, Stream), Vec<u8>>,
}

impl Lines {
    /// For these points.
    ///
    /// # Errors
    /// A pattern that is no regular expression.
    pub(super) fn new(points: &[Point]) -> Result<Self> {
        let mut wanted = Vec::new();
        for (index, point) in points.iter().enumerate() {
            let At::Output { pattern, stream } = &point.at else { continue };
            let pattern = Regex::new(pattern).map_err(|error| Error::config(format!("{}: {error}", point.at)))?;
            wanted.push(Wanted {
                index,
                pattern,
                stream: *stream,
            });
        }
        Ok(Self {
            wanted,
            ..Self::default()
        })
    }

    /// A call of a thread, of which its process comes first, has written `count` bytes. Gives the points whose lines were completed, one entry for each line.
    pub(super) fn written(
        &mut self,
        (process, tid): (i32, i32),
        call: &Call,
        stream: Stream,
        is_vector: bool,
        count: u64,
    ) -> Vec<usize> {
        let Ok(memory) = File::open(format!("/proc/{tid}/mem")) else {
            return Vec::new();
        };
        let mut hits = Vec::new();
        let mut left = count;
        for (mut address, length) in buffers(&memory, call, is_vector) {
            let mut length = length.min(left);
            left -= length;
            while length > 0 {
                let part = length.min(CHUNK_BYTES);
                let mut bytes = vec![0; usize::try_from(part).unwrap_or(0)];
                if memory.read_exact_at(&mut bytes, address).is_err() {
                    return hits;
                }
                hits.extend(self.add(process, stream, &bytes));
                address = address.wrapping_add(part);
                length -= part;
            }
        }
        hits
    }

    /// More bytes of a stream.
    fn add(&mut self, process: i32, stream: Stream, mut bytes: &[u8]) -> Vec<usize> {
        let mut hits = Vec::new();
        loop {
            let end = bytes.iter().position(|&byte| byte == b'\n');
            let part = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
            let begun = self.begun.entry((process, stream)).or_default();
            let room = LINE_BYTES.saturating_sub(begun.len());
            begun.extend_from_slice(part.get(..room.min(part.len())).unwrap_or_default());
            let Some(end) = end else { return hits };
            let line = begun.strip_suffix(b"\r").unwrap_or(begun);
            let wanted = self.wanted.iter();
            hits.extend(wanted.filter(|one| one.matches(stream, line)).map(|one| one.index));
            begun.clear();
            bytes = bytes.get(end + 1..).unwrap_or_default();
        }
    }

    /// The points that wait for lines.
    pub(super) fn points(&self) -> impl Iterator<Item = usize> {
        self.wanted.iter().map(|one| one.index)
    }

    /// True when an unfinished line is one that this point waits for.
    pub(super) fn begins(&self, index: usize) -> bool {
        let mut of_point = self.wanted.iter().filter(|one| one.index == index);
        of_point.any(|one| {
            let mut begun = self.begun.iter();
            begun.any(|((_, stream), line)| !line.is_empty() && one.matches(*stream, line))
        })
    }

    /// True when some line in `text` would have been one that this point waits for.
    pub(super) fn holds(&self, index: usize, text: &[u8]) -> bool {
        let mut of_point = self.wanted.iter().filter(|one| one.index == index);
        let lines = || text.split(|&byte| byte == b'\n' || byte == 0).filter(|line| !line.is_empty());
        of_point.any(|one| lines().any(|line| one.pattern.is_match(line)))
    }
}

impl Wanted {
    fn matches(&self, stream: Stream, line: &[u8]) -> bool {
        self.stream.is_none_or(|wanted| wanted == stream) && self.pattern.is_match(line)
    }
}

/// Where the bytes of a `write` or `writev` stand: address and length each.
fn buffers(memory: &File, call: &Call, is_vector: bool) -> Vec<(u64, u64)> {
    let [_, address, length, ..] = call.args;
    if !is_vector {
        return vec![(address, length)];
    }
    let mut bytes = vec![0; usize::try_from(length.min(MAX_VECTORS) * 16).unwrap_or(0)];
    if memory.read_exact_at(&mut bytes, address).is_err() {
        return Vec::new();
    }
    let (vectors, _) = bytes.as_chunks::<16>();
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
    vectors
        .iter()
        .map(|vector| (word(&vector[..8]), word(&vector[8..])))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(points: &[(&str, Option<Stream>)]) -> Lines {
        let points: Vec<Point> = points
            .iter()
            .map(|(pattern, stream)| {
                let at = At::Output {
                    pattern: (*pattern).to_owned(),
                    stream: *stream,
                };
                Point::new(at, 1)
            })
            .collect();
        Lines::new(&points).unwrap()
    }

    #[test]
    fn a_line_counts_when_it_is_complete() {
        let mut lines = lines(&[("^ready on [0-9]+$", None), ("x", Some(Stream::Stderr))]);
        assert_eq!(lines.add(1, Stream::Stdout, b"x\nread"), [0; 0]);
        assert_eq!(
            lines.add(1, Stream::Stderr, b"y on 80\n"),
            [0; 0],
            "each stream has its own lines"
        );
        assert_eq!(lines.add(1, Stream::Stdout, b"y on 80"), [0; 0]);
        assert_eq!(lines.add(1, Stream::Stdout, b"\r\nready on 1\nready"), [0, 0]);
        assert_eq!(lines.add(1, Stream::Stderr, b"axe\nx\n"), [1, 1]);
        assert_eq!(lines.add(1, Stream::Stdout, b"\nready "), [0; 0]);
        assert_eq!(lines.add(2, Stream::Stdout, b"on 2\n"), [0; 0], "so has each process");
        assert_eq!(lines.add(1, Stream::Stdout, b"on 1\n"), [0]);
    }

    #[test]
    fn an_endless_line_takes_little_memory() {
        let mut lines = lines(&[("^a+b", None)]);
        for _ in 0..100 {
            assert_eq!(lines.add(1, Stream::Stdout, &[b'a'; 10_000]), [0; 0]);
        }
        assert!(lines.begun[&(1, Stream::Stdout)].capacity() <= 4 * LINE_BYTES);
        assert_eq!(lines.add(1, Stream::Stdout, b"b\n"), [0; 0], "judged by its beginning");
        assert_eq!(lines.add(1, Stream::Stdout, b"ab\n"), [0]);
    }
}
