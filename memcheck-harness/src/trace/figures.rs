//! The figures of a process' memory that a point with `settle` waits for: its mappings with the anonymous memory in each, and
//! how many threads it has. Read while it runs; what they come to is judged by `settle`.

use std::fs;

use super::Totals;
use super::{maps, proc};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Figures {
    mappings: Vec<Mapping>,
    threads: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    /// `rw-p`
    access: [u8; 4],
    anon_kib: u64,
}

impl Figures {
    pub(super) fn totals(&self) -> Totals {
        Totals {
            mappings: self.mappings.len(),
            reserved: self
                .mappings
                .iter()
                .map(|mapping| mapping.end.saturating_sub(mapping.start))
                .sum(),
            anon: self.mappings.iter().map(|mapping| mapping.anon_kib).sum::<u64>() * 1024,
            threads: self.threads,
        }
    }
}

/// Of a process, by one of its threads that has not ended; absent when it is gone.
pub(super) fn read(pid: i32, tid: i32) -> Option<Figures> {
    let smaps = fs::read(format!("/proc/{pid}/task/{tid}/smaps")).ok()?;
    let figures = parse(&smaps, proc::threads(pid).len());
    (!figures.mappings.is_empty() && figures.threads > 0).then_some(figures)
}

/// From the text of `smaps` (proc_pid_smaps(5)): a line `start-end perms …` for each mapping, then fields, whose names begin
/// with a capital letter.
pub(super) fn parse(smaps: &[u8], threads: usize) -> Figures {
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in smaps.split(|&byte| byte == b'\n') {
        if let Some(value) = line.strip_prefix(b"Anonymous:") {
            if let Some(last) = mappings.last_mut() {
                last.anon_kib = number(value);
            }
        } else if !line.first().is_some_and(u8::is_ascii_uppercase) {
            mappings.extend(maps::line(line).map(|line| Mapping {
                start: line.start,
                end: line.end,
                access: line.access,
                anon_kib: 0,
            }));
        }
    }
    Figures { mappings, threads }
}

/// `       12 kB`
fn number(text: &[u8]) -> u64 {
    let text = text.trim_ascii().strip_suffix(b" kB").unwrap_or_default();
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"555555554000-555555556000 r--p 00000000 fe:00 12 /tmp/a b\nSize:                  8 kB\n\
        Anonymous:             0 kB\nVmFlags: rd mr\n7ffff7d00000-7ffff7d04000 rw-p 00000000 00:00 0 \n\
        Anonymous:            12 kB\nLazyFree:              0 kB\n";

    #[test]
    fn mappings_and_their_anonymous_memory() {
        let totals = parse(TEXT, 2).totals();
        assert_eq!(
            totals,
            Totals {
                mappings: 2,
                reserved: 0x6000,
                anon: 12 << 10,
                threads: 2
            }
        );
        assert_ne!(parse(TEXT, 2), parse(TEXT, 3));
        let moved = String::from_utf8_lossy(TEXT).replace("rw-p", "rwxp");
        assert_ne!(parse(TEXT, 2), parse(moved.as_bytes(), 2));
    }

    #[test]
    fn our_own_memory() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let totals = read(pid, pid).unwrap().totals();
        assert!(totals.mappings > 5 && totals.anon > 0 && totals.threads > 0, "{totals:?}");
    }
}
