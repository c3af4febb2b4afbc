//! Sums over all processes of a target's tree, which stand still at once: what several of them share counts once. There are none
//! while a live process of the tree is not traced (`CLONE_UNTRACED`).

use serde::{Deserialize, Serialize};

use super::metric::{Tier, Unit};

/// What is summed, bytes unless the name says otherwise; absent where unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeTotals {
    /// Processes that have a memory, the target itself included; those that share one (vfork) count each.
    pub processes: u64,
    /// Anonymous memory: a page that fork left to several processes counts once. The pages that our breakpoints copied are
    /// left out. Only processes of the tree can share such a page, so the sum of their proportional sizes is that of the pages;
    /// the kernel rounds each process' down by less than 1 KiB, and the sum is rounded up to whole pages.
    pub anon: Option<u64>,
    /// Memory that was mapped to be shared (memfd, SysV, shared anonymous): once, unless a process outside maps it too.
    pub shared: Option<u64>,
    /// The sum of the proportional sizes, pages of files included.
    pub pss: Option<u64>,
}

/// Measures of the whole tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is described in TREE below")]
pub enum TreeMeasure {
    Processes,
    Anon,
    Shared,
    Pss,
}

/// A row of the table of metrics: word, measure, unit, tier, source, meaning.
pub(super) type TreeRow = (&'static str, TreeMeasure, Unit, Tier, &'static str, &'static str);

/// `tree.*`
pub(super) const TREE: [TreeRow; 4] = [
    (
        "processes",
        TreeMeasure::Processes,
        Unit::Count,
        Tier::Exact,
        "tracer",
        "processes of the target's tree, itself included, all stopped",
    ),
    (
        "anon",
        TreeMeasure::Anon,
        Unit::Bytes,
        Tier::Tolerant,
        "smaps_rollup Pss_Anon",
        "anonymous pages of all of them, shared ones counted once; exact up to three processes, else low by less than 1 KiB each",
    ),
    (
        "shared",
        TreeMeasure::Shared,
        Unit::Bytes,
        Tier::Tolerant,
        "smaps_rollup Pss_Shmem",
        "pages of shared memory of all of them, counted once; less where a process outside maps them too",
    ),
    (
        "pss",
        TreeMeasure::Pss,
        Unit::Bytes,
        Tier::ReportOnly,
        "smaps_rollup Pss",
        "resident pages of all of them divided by their mappers: depends on other processes",
    ),
];

impl TreeTotals {
    /// The value of a measure.
    #[must_use]
    pub fn get(&self, measure: TreeMeasure) -> Option<u64> {
        match measure {
            TreeMeasure::Processes => Some(self.processes),
            TreeMeasure::Anon => self.anon,
            TreeMeasure::Shared => self.shared,
            TreeMeasure::Pss => self.pss,
        }
    }
}
