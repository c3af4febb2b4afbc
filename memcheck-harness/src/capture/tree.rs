//! The sums over a process tree that stands still: `smaps_rollup` of each memory.
//!
//! A page is divided among those who map it (Documentation/filesystems/proc.rst, "Pss"), so that over all mappers it counts
//! once. Anonymous pages are shared by fork alone: all mappers are in the tree. `Pss_Anon` and `Pss_Shmem` are there since
//! Linux 5.4.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::procdir::ProcDir;
use crate::error::Result;
use crate::model::TreeTotals;
use crate::trace::TreeMember;

/// Bits of an entry of `pagemap` (Documentation/admin-guide/mm/pagemap.rst): present, of a file or shared memory, mapped once.
const PRESENT: u64 = 1 << 63;
const OF_FILE: u64 = 1 << 61;
const EXCLUSIVE: u64 = 1 << 56;

/// Sums over the processes of a tree that stands still.
///
/// # Errors
/// Not permitted; one of them is gone.
pub fn tree(members: &[TreeMember]) -> Result<TreeTotals> {
    let page_bytes = super::page_bytes_of_ours()?;
    let processes = members.iter().map(|member| member.processes).sum();
    // Who shares a memory with whom is not known here: it would count twice.
    if members.iter().any(|member| member.is_doubtful) {
        return Ok(TreeTotals {
            processes,
            ..TreeTotals::default()
        });
    }
    let mut sums = Some(Rollup::default());
    let mut ours = Ours::default();
    for member in members {
        let dir = ProcDir::open(member.pid, Some(member.tid))?;
        let read = dir.try_file("smaps_rollup").is_ok().then(|| dir.read("smaps_rollup"));
        sums = match (sums, read) {
            (Some(sums), Some(read)) => Some(sums.and(parse(&read?))),
            _ => None,
        };
        if let Ok(pagemap) = dir.try_file("pagemap") {
            ours.add(member, &pagemap, page_bytes);
        }
    }
    let sums = sums.unwrap_or(Rollup::UNKNOWN);
    let whole = |bytes: u64| bytes.checked_next_multiple_of(page_bytes);
    Ok(TreeTotals {
        processes,
        anon: sums
            .anon
            .and_then(whole)
            .map(|bytes| bytes.saturating_sub(ours.bytes(page_bytes))),
        shared: sums.shared.and_then(whole),
        pss: sums.pss,
    })
}

/// Bytes of one memory, or of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rollup {
    pss: Option<u64>,
    anon: Option<u64>,
    shared: Option<u64>,
}

impl Default for Rollup {
    fn default() -> Self {
        Self {
            pss: Some(0),
            anon: Some(0),
            shared: Some(0),
        }
    }
}

impl Rollup {
    const UNKNOWN: Self = Self {
        pss: None,
        anon: None,
        shared: None,
    };

    fn and(self, other: Self) -> Self {
        let sum = |a: Option<u64>, b: Option<u64>| a?.checked_add(b?);
        Self {
            pss: sum(self.pss, other.pss),
            anon: sum(self.anon, other.anon),
            shared: sum(self.shared, other.shared),
        }
    }
}

/// The figures of `/proc/PID/smaps_rollup`.
fn parse(text: &[u8]) -> Rollup {
    let text = String::from_utf8_lossy(text);
    let figure = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
        kib.checked_mul(1024)
    };
    Rollup {
        pss: figure("Pss"),
        anon: figure("Pss_Anon"),
        shared: figure("Pss_Shmem"),
    }
}

/// Pages that are anonymous because they hold or held a breakpoint of ours.
#[derive(Default)]
struct Ours {
    alone: u64,
    /// Families and addresses of those that fork left to several: one page each.
    shared: BTreeSet<(u64, u64)>,
}

impl Ours {
    fn add(&mut self, member: &TreeMember, pagemap: &File, page_bytes: u64) {
        for page in &member.patched {
            let mut entry = [0; 8];
            if pagemap.read_exact_at(&mut entry, page.address / page_bytes * 8).is_err() {
                continue;
            }
            self.count((member.family, page.address), u64::from_ne_bytes(entry));
        }
    }

    fn count(&mut self, page: (u64, u64), entry: u64) {
        if entry & PRESENT == 0 || entry & OF_FILE != 0 {
            return;
        }
        if entry & EXCLUSIVE != 0 {
            self.alone += 1;
        } else {
            self.shared.insert(page);
        }
    }

    fn bytes(&self, page_bytes: u64) -> u64 {
        (self.alone + self.shared.len() as u64).saturating_mul(page_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_families_share_different_pages_at_one_address() {
        let mut ours = Ours::default();
        for (family, entry) in [
            (1, PRESENT),
            (1, PRESENT),
            (2, PRESENT),
            (2, PRESENT),
            (2, PRESENT | EXCLUSIVE),
            (3, PRESENT | OF_FILE),
            (4, 0),
        ] {
            ours.count((family, 0x40_1000), entry);
        }
        assert_eq!(ours.bytes(4096), 3 * 4096);
    }

    #[test]
    fn what_a_kernel_does_not_tell_is_absent() {
        let text = "5000-7000 ---p 00000000 00:00 0    [rollup]\nRss:     20 kB\nPss:     15 kB\nPss_Dirty:  3 kB\nPss_Anon:     7 kB\n\
                    Pss_File: 8 kB\nPss_Shmem:   0 kB\n";
        let all = parse(text.as_bytes());
        let expected = Rollup {
            pss: Some(15 << 10),
            anon: Some(7 << 10),
            shared: Some(0),
        };
        assert_eq!(all, expected);
        let old = parse(b"Pss:  15 kB\nPss_Anon: x kB\n");
        assert_eq!((old.pss, old.anon, old.shared), (Some(15 << 10), None, None));
        assert_eq!(all.and(old).anon, None);
        assert_eq!(all.and(all).pss, Some(30 << 10));
    }
}
