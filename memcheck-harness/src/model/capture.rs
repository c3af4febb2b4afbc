//! `Capture`: everything read of one stopped process at one checkpoint, before anybody interprets it.

use serde::{Deserialize, Serialize};

use super::{Name, Object, Ranges, Region, TreeTotals};

/// The memory lines of `/proc/PID/status`, in bytes; absent where the kernel prints none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// `VmPeak`
    pub peak_reserved_bytes: Option<u64>,
    /// `VmSize`
    pub reserved_bytes: Option<u64>,
    /// `VmHWM`: the peak since exec, low by up to 31 pages per CPU (per-CPU counter batches).
    pub peak_resident_bytes: Option<u64>,
    /// `VmRSS`
    pub resident_bytes: Option<u64>,
    /// `VmLck`
    pub locked_bytes: Option<u64>,
    /// `VmSwap`
    pub swap_bytes: Option<u64>,
    /// `Threads`
    pub threads: Option<u64>,
}

/// One thread of the process, stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// Thread id.
    pub tid: i32,
    /// `/proc/PID/task/TID/comm` without the newline.
    pub name: Name,
    /// Stack pointer; absent when the thread has no registers any more (a zombie leader).
    pub stack_pointer: Option<u64>,
    /// Program counter, likewise.
    pub program_counter: Option<u64>,
    /// TLS base (x86-64 `fs_base`, aarch64 `TPIDR_EL0`), likewise.
    pub tls_base: Option<u64>,
}

/// A text page that holds, or held, one of our breakpoints: it became private anonymous memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PatchedPage {
    /// Address of the page.
    pub address: u64,
}

/// Consecutive pages of one kind inside a scanned range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRun {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Present in memory (zero pages are not counted, as in `smaps`).
    pub resident: bool,
    /// Present, and of no file: what `smaps` counts as `Anonymous`.
    pub anon: bool,
    /// In swap.
    pub swapped: bool,
    /// A guard installed with `MADV_GUARD_INSTALL` (Linux 6.13 and later).
    pub guard: bool,
}

/// What classification read of the target, kept so that the capture can be classified again elsewhere.
/// Control words only, never contents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// In order, not overlapping.
    pub bytes: Ranges,
    /// (start, end, runs) of each scanned range; `None` when the kernel could not tell.
    pub scans: Vec<(u64, u64, Option<Vec<PageRun>>)>,
}

/// A capture and which of its objects count as own: enough to classify it again elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptCapture {
    /// Paths of own objects, sorted.
    pub own: Vec<Name>,
    /// What was read.
    pub capture: Capture,
}

/// The stack of a thread of the main process as it was when the C library was about to give its pages back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishedStack {
    /// TLS base of the thread: which stack.
    pub tls_base: u64,
    /// Id that the thread had.
    pub tid: i32,
    /// Its name.
    pub name: Name,
    /// Lowest page of the stack that was in memory or in swap.
    pub lowest: u64,
}

/// One process at one checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// Bytes per page.
    pub page_bytes: u64,
    /// Process id.
    pub pid: i32,
    /// `readlink /proc/PID/exe`.
    pub exe: Name,
    /// Regions in address order.
    pub regions: Vec<Region>,
    /// `/proc/PID/status`.
    pub status: Status,
    /// Soft `RLIMIT_STACK` in bytes; absent when unlimited.
    pub stack_limit_bytes: Option<u64>,
    /// The auxiliary vector: (type, value), without the final `AT_NULL`.
    pub auxv: Vec<(u64, u64)>,
    /// `start_brk` of `/proc/PID/stat` (field 47).
    pub start_brk: Option<u64>,
    /// `startstack` of `/proc/PID/stat` (field 28): inside the main stack.
    pub start_stack: Option<u64>,
    /// Threads by id.
    pub threads: Vec<Thread>,
    /// Loaded objects in address order.
    pub objects: Vec<Object>,
    /// Text pages holding breakpoints of ours, sorted.
    pub patched: Vec<PatchedPage>,
    /// The contents of memory are out of reach: all there is are the mappings and their figures.
    #[serde(default)]
    pub by_mappings: bool,
    /// Nobody asks what malloc's chunks are: its arenas are not walked.
    #[serde(default)]
    pub without_chunks: bool,
    /// How many mappings were joined with their neighbours by what we did, beyond those that are counted.
    #[serde(default)]
    pub joined_mappings: u64,
    /// Stacks of threads that ended since the target was launched, the last one of each place, by TLS base; absent when nobody
    /// watched (`watch = "stacks"`).
    #[serde(default)]
    pub finished_stacks: Option<Vec<FinishedStack>>,
    /// Sums over all processes of the tree, which stood still meanwhile; absent when nobody asked for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<TreeTotals>,
    /// What was read of the target's memory so far.
    pub recording: Recording,
}
