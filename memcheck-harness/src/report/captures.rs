//! The raw captures of a run: one JSON object a line, in the order in which cases ended, so that a run can write them as it
//! goes. They hold what the kernel and the ELF headers said and the control words that were read, never contents.

use serde::{Deserialize, Serialize};

use crate::model::{CapturesFile, KeptCapture, RunReport};

/// No file of captures is larger.
pub const MAX_CAPTURES_BYTES: u64 = 1 << 30;

/// FNV-1a, 64 bits: offset basis and prime (RFC 9923).
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

#[derive(Serialize)]
struct Written<'a> {
    schema: u32,
    case: &'a str,
    checkpoint: &'a str,
    #[serde(flatten)]
    kept: &'a KeptCapture,
}

/// A capture with the names of its case and checkpoint.
#[derive(Clone, Debug, Deserialize)]
pub struct NamedCapture {
    schema: u32,
    /// The case.
    pub case: String,
    /// The checkpoint.
    pub checkpoint: String,
    /// The capture.
    #[serde(flatten)]
    pub kept: KeptCapture,
}

/// Counts and digests a file of captures while it is written.
#[derive(Clone, Copy, Debug)]
pub struct Digest {
    count: u64,
    hash: u64,
}

impl Digest {
    /// Of an empty file.
    #[must_use]
    pub fn new() -> Self {
        Self {
            count: 0,
            hash: FNV_BASIS,
        }
    }

    /// One more line.
    pub fn add(&mut self, line: &[u8]) {
        self.count += 1;
        self.hash = fnv(self.hash, line);
    }

    /// What the results say of the file.
    #[must_use]
    pub fn file(self) -> CapturesFile {
        CapturesFile {
            count: self.count,
            digest: format!("{:016x}", self.hash),
        }
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self::new()
    }
}

/// FNV-1a of some more bytes. Equal on every machine and in every version, as shards are dealt out by it too.
fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

/// One line of the file, its end included.
#[must_use]
pub fn capture_line(case: &str, checkpoint: &str, kept: &KeptCapture) -> Vec<u8> {
    let written = Written {
        schema: RunReport::SCHEMA,
        case,
        checkpoint,
        kept,
    };
    let mut line = serde_json::to_vec(&written).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Reads a file of captures. With `of`, it must be the one that those results speak of.
///
/// # Errors
/// It is no such file, was cut off, or belongs to another run. The text says which.
pub fn read_captures(bytes: &[u8], of: Option<&CapturesFile>) -> Result<Vec<NamedCapture>, String> {
    if bytes.len() as u64 > MAX_CAPTURES_BYTES {
        return Err("it is larger than 1 GiB: no file of captures is".to_owned());
    }
    let lines = || bytes.split_inclusive(|byte| *byte == b'\n');
    let mut digest = Digest::new();
    lines().for_each(|line| digest.add(line));
    if of.is_some_and(|of| *of != digest.file()) {
        return Err("it belongs to another run, or was cut off".to_owned());
    }
    lines()
        .enumerate()
        .map(|(index, line)| {
            let read: NamedCapture =
                serde_json::from_slice(line).map_err(|error| format!("line {} holds no capture: {error}", index + 1))?;
            if read.schema != RunReport::SCHEMA {
                return Err(format!("line {} has schema {}", index + 1, read.schema));
            }
            check(&read.kept).map_err(|why| format!("the capture of {} @ {} cannot be: {why}", read.case, read.checkpoint))?;
            Ok(read)
        })
        .collect()
}

/// What classification takes for granted, as the parsers of `/proc` give nothing else.
fn check(kept: &KeptCapture) -> Result<(), &'static str> {
    let capture = &kept.capture;
    if !capture.page_bytes.is_power_of_two() || !(1 << 10..=1 << 21).contains(&capture.page_bytes) {
        return Err("no machine has pages of that size");
    }
    let mut end = 0;
    for region in &capture.regions {
        if region.start < end || region.end <= region.start {
            return Err("its regions are not in order");
        }
        end = region.end;
    }
    let mut end = 0;
    for (address, bytes) in capture.recording.bytes.iter() {
        if address < end {
            return Err("what was read is not in order");
        }
        end = address.checked_add(bytes.len() as u64).ok_or("what was read has no end")?;
    }
    let scans = &capture.recording.scans;
    let runs = scans.iter().flat_map(|(_, _, runs)| runs.iter().flatten());
    if scans.iter().any(|(start, end, _)| start > end) || runs.into_iter().any(|run| run.start > run.end) {
        return Err("a scan ends before it begins");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_fnv_1a() {
        // Published test vectors of FNV-1a 64: the empty input and "a".
        assert_eq!(Digest::new().file().digest, "cbf29ce484222325");
        let mut a = Digest::new();
        a.add(b"a");
        assert_eq!((a.file().digest.as_str(), a.file().count), ("af63dc4c8601ec8c", 1));
    }

    #[test]
    fn no_captures_and_no_file_of_captures() {
        assert!(read_captures(b"", Some(&Digest::new().file())).unwrap().is_empty());
        let other = CapturesFile {
            count: 3,
            digest: "0".to_owned(),
        };
        assert!(read_captures(b"", Some(&other)).unwrap_err().contains("another run"));
        assert!(read_captures(b"{}\n", None).unwrap_err().contains("line 1"));
    }
}
