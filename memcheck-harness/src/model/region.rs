//! `Region`: one line of `/proc/PID/maps` with what `smaps` adds. A region is the kernel's grain; pieces of it get roles later.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Name;

/// Access bits of a mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Perms {
    /// `r`
    pub read: bool,
    /// `w`
    pub write: bool,
    /// `x`
    pub execute: bool,
    /// `s` (otherwise private, `p`)
    pub shared: bool,
}

impl fmt::Display for Perms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bit = |set, c| if set { c } else { '-' };
        let text: String = [
            bit(self.read, 'r'),
            bit(self.write, 'w'),
            bit(self.execute, 'x'),
            if self.shared { 's' } else { 'p' },
        ]
        .into_iter()
        .collect();
        f.pad(&text)
    }
}

/// The two-letter codes of `smaps`' `VmFlags` line, sorted; unknown ones are kept.
/// Source: `show_smap_vma_flags` in the kernel's fs/proc/task_mmu.c.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<[u8; 2]>", into = "Vec<[u8; 2]>")]
pub struct VmFlags {
    // Tens of thousands of regions share a few combinations.
    codes: Arc<[[u8; 2]]>,
    /// Which of [`ASKED`] are set, a bit each.
    asked: u8,
}

/// The codes that are asked for, of every region and more than once.
const ASKED: [[u8; 2]; 6] = [*b"ac", *b"nr", *b"dp", *b"gu", *b"ht", *b"nh"];

impl From<Vec<[u8; 2]>> for VmFlags {
    fn from(codes: Vec<[u8; 2]>) -> Self {
        Self::new(codes)
    }
}

impl From<VmFlags> for Vec<[u8; 2]> {
    fn from(flags: VmFlags) -> Self {
        flags.codes.to_vec()
    }
}

impl VmFlags {
    /// Sorts and keeps the codes.
    #[must_use]
    pub fn new(mut codes: Vec<[u8; 2]>) -> Self {
        codes.sort_unstable();
        codes.dedup();
        let bits = (0..).zip(&ASKED).filter(|(_, code)| codes.contains(code));
        Self {
            asked: bits.fold(0, |asked, (bit, _)| asked | 1 << bit),
            codes: codes.into(),
        }
    }

    /// True when the flag (for example `b"nr"`) is set.
    #[must_use]
    #[inline]
    pub fn has(&self, code: &[u8; 2]) -> bool {
        match (0..).zip(&ASKED).find(|(_, asked)| *asked == code) {
            Some((bit, _)) => self.asked & (1 << bit) != 0,
            None => self.codes.contains(code),
        }
    }

    /// The codes in order.
    #[must_use]
    pub fn codes(&self) -> &[[u8; 2]] {
        &self.codes
    }
}

/// What a region holds, in bytes: what both levels of capture give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// `Rss`
    pub resident_bytes: u64,
    /// `Anonymous`: resident pages that belong to no file.
    pub anon_bytes: u64,
    /// `Swap`
    pub swap_bytes: u64,
    /// What only `smaps` gives.
    pub detail: Option<UsageDetail>,
}

/// The other figures of `smaps`, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageDetail {
    /// `Pss`: each resident page divided by the number of its mappers; depends on the rest of the machine.
    pub proportional_bytes: u64,
    /// `Shared_Clean`
    pub shared_clean_bytes: u64,
    /// `Shared_Dirty`
    pub shared_dirty_bytes: u64,
    /// `Private_Clean`
    pub private_clean_bytes: u64,
    /// `Private_Dirty`: counts file pages too.
    pub private_dirty_bytes: u64,
    /// `AnonHugePages`
    pub anon_huge_bytes: u64,
    /// `Locked`
    pub locked_bytes: u64,
    /// `Private_Hugetlb` and `Shared_Hugetlb`: pages of hugetlbfs, which are in none of the other figures.
    #[serde(default)]
    pub hugetlb_bytes: u64,
}

/// One virtual memory area.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Access bits.
    pub perms: Perms,
    /// Offset into the mapped file, bytes.
    pub offset: u64,
    /// Device (major, minor) of the mapped file; (0, 0) for none.
    pub dev: (u32, u32),
    /// Inode of the mapped file; 0 for none.
    pub inode: u64,
    /// Path, `[heap]`, `[anon:…]`, empty: as the kernel printed it, `\012` decoded.
    pub name: Name,
    /// Figures; absent where nothing but the map could be read.
    pub usage: Option<Usage>,
    /// `VmFlags`; absent at the fast level and on kernels that print none.
    pub flags: Option<VmFlags>,
}

impl Region {
    /// Size in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.end - self.start
    }

    /// True when the address lies inside.
    #[must_use]
    pub fn contains(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_set_when_they_are_among_the_codes() {
        let all = [&ASKED[..], &[*b"rd", *b"zz"]].concat();
        for set in 0..1_u16 << all.len() {
            let is_set = |index: usize| set & (1 << index) != 0;
            let codes = all.iter().enumerate().filter(|(index, _)| is_set(*index));
            let flags = VmFlags::new(codes.map(|(_, code)| *code).collect());
            for (index, code) in all.iter().enumerate() {
                assert_eq!(flags.has(code), is_set(index));
            }
            assert_eq!(VmFlags::from(Vec::from(flags.clone())), flags);
        }
        assert_eq!(VmFlags::default(), VmFlags::new(Vec::new()));
    }
}
