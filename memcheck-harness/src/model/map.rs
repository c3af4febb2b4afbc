//! `MemoryMap`: the classified process: pieces that cover every byte once, and the facts behind them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::metric::{ProcessMeasure, RoleMeasure};
use super::{Hardening, Metric, Name, Perms, Role, Subject, TreeTotals};

/// How sure a label is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// Follows from a structure that was checked (a list, a header, a program header, a kernel name).
    Certain,
    /// Follows from a shape or by elimination.
    Likely,
    /// Nothing better is known.
    Unknown,
}

/// Why a piece has its role: a short sentence, and how sure we are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// For example "TCB of thread 3 in the used list".
    pub text: Cow<'static, str>,
    /// How sure.
    pub confidence: Confidence,
}

/// A range of addresses with one role. A region may be cut into several pieces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// What it is for.
    pub role: Role,
    /// Index into [`MemoryMap::items`]: pieces of one stack, arena or segment share it.
    pub item: usize,
    /// Access bits of the region.
    pub perms: Perms,
    /// Resident bytes; absent when the region was cut and the kernel could not tell.
    pub resident_bytes: Option<u64>,
    /// Anonymous bytes, likewise.
    pub anon_bytes: Option<u64>,
    /// Swapped bytes, likewise.
    pub swap_bytes: Option<u64>,
    /// Proportional set size; absent for cut regions.
    pub proportional_bytes: Option<u64>,
    /// Counts against the commit limit (`VmFlags: ac`); absent without flags.
    pub committed: Option<bool>,
    /// Mapped `MAP_NORESERVE` (`VmFlags: nr`); absent without flags.
    pub noreserve: Option<bool>,
    /// Why.
    pub evidence: Evidence,
}

impl Piece {
    /// Size in bytes.
    #[must_use]
    pub fn reserved_bytes(&self) -> u64 {
        self.end - self.start
    }
}

/// One thing that pieces belong to: a stack, an arena, a segment, a mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Its role.
    pub role: Role,
    /// Whose it is: a thread's name, an object's file name, a mapped file; may be empty.
    pub subject: Name,
    /// Thread id of a live owner.
    pub tid: Option<i32>,
}

/// Where a thread's stack stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StackState {
    /// The thread runs.
    Live,
    /// It ended and nobody joined it.
    Exited,
    /// Kept by glibc for the next thread.
    Cached,
}

/// A thread, live or known only by the stack it left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadFact {
    /// Id of a live thread; of one that is gone only when its end was watched.
    pub tid: Option<i32>,
    /// Name, likewise.
    pub name: Option<Name>,
    /// True for the thread that runs `main`.
    pub main: bool,
    /// State of its stack.
    pub state: StackState,
    /// The stack was supplied by the program.
    pub user_stack: bool,
    /// Stack without guard: (first address, bytes); absent for the main thread.
    pub stack: Option<(u64, u64)>,
    /// Guard bytes as recorded by libc; absent when unknown.
    pub guard_bytes: Option<u64>,
    /// Bytes from the top of the stack to the deepest page that was used. Of a live stack by the pages it has now. glibc gives
    /// the pages of a finished thread back, so that its depth is known only when its end was watched.
    pub deepest_bytes: Option<u64>,
    /// Address of the function that the thread was started with; absent for the main thread and where libc keeps none.
    #[serde(default)]
    pub start_address: Option<u64>,
    /// That function's name, demangled; absent when no symbol table has it.
    #[serde(default)]
    pub start_function: Option<Name>,
}

/// One 64 MiB heap of an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapFact {
    /// Address, a multiple of the heap maximum.
    pub start: u64,
    /// Bytes in use by the arena (`heap_info.size`).
    pub size_bytes: u64,
    /// Bytes made writable (`heap_info.mprotect_size`).
    pub committed_bytes: u64,
}

/// What the walk over an arena's chunks found. Bytes of whole chunks: what `malloc_usable_size` tells, and 8 bytes more each.
/// Chunks in the caches of threads and in fastbins count as free. `used + free + top + overhead` is the arena's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArenaUse {
    /// Live chunks, those of the library itself included (a cache for each thread that allocates).
    pub used_count: u64,
    /// Bytes of live chunks.
    pub used_bytes: u64,
    /// Freed chunks below the top.
    pub free_count: u64,
    /// Bytes of freed chunks.
    pub free_bytes: u64,
    /// Those of them that are in a fastbin or in a thread's cache: malloc's own statistics count the latter as used.
    pub cached_bytes: u64,
    /// Bytes above the last chunk, which serve the next allocations.
    pub top_bytes: u64,
    /// Headers of heaps, padding and fences.
    pub overhead_bytes: u64,
    /// Largest run of free bytes without a live chunk inside; the top is one, or the end of one.
    pub largest_free_bytes: u64,
}

impl ArenaFact {
    /// [`ArenaFact::doubt`] of an arena whose chunks nobody asked for.
    pub const NOT_WALKED: &str =
        "its chunks were not walked, as no limit, snapshot or check asked for their figures when it was measured";
}

impl ArenaUse {
    /// How much of the free memory, in thousandths, lies outside of the largest run: 0 when one request could have it all.
    /// Absent when nothing is free.
    #[must_use]
    pub fn fragmentation_permille(&self) -> Option<u64> {
        let free = self.free_bytes.saturating_add(self.top_bytes);
        let scattered = u128::from(free.saturating_sub(self.largest_free_bytes)) * 1000;
        u64::try_from(scattered.checked_div(u128::from(free))?).ok()
    }
}

/// An arena of glibc's malloc.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArenaFact {
    /// Address of its `malloc_state`.
    pub address: u64,
    /// Its heaps in address order; empty for the main arena, which has the brk heap.
    pub heaps: Vec<HeapFact>,
    /// What its chunks are; absent when they could not be walked.
    #[serde(default)]
    pub usage: Option<ArenaUse>,
    /// Why `usage` is absent or only approximate, as a fragment ("its lock is held"); absent when `usage` is proven by the
    /// allocator's own books.
    #[serde(default)]
    pub doubt: Option<String>,
    /// Live threads that allocate from it, by id; absent when not known.
    #[serde(default)]
    pub threads: Option<Vec<i32>>,
}

/// The books that glibc's malloc keeps of the whole process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MallocFact {
    /// The main arena.
    pub main: ArenaFact,
    /// Allocations with a mapping of their own, (number, bytes), by `mp_.n_mmaps` and `mp_.mmapped_mem`.
    pub mmapped: Option<(u64, u64)>,
    /// Those bytes are the most there can be: glibc 2.43 counts too many of a mapping that was moved or resized.
    #[serde(default)]
    pub mmapped_is_most: bool,
}

/// A remark about how the map was made: what is approximate or unknown, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Note {
    /// A full sentence.
    pub text: String,
}

/// Sums over the process, bytes unless the name says otherwise; absent where unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "named as the metrics, which are documented in `metric`")]
pub struct ProcessTotals {
    pub reserved: Option<u64>,
    pub resident: Option<u64>,
    pub anon: Option<u64>,
    pub swap: Option<u64>,
    pub commit: Option<u64>,
    pub noreserve: Option<u64>,
    pub locked: Option<u64>,
    pub peak: Option<u64>,
    pub mappings: Option<u64>,
    pub wx: Option<u64>,
    pub pss: Option<u64>,
    pub uss: Option<u64>,
}

/// A classified process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryMap {
    /// Bytes per page.
    pub page_bytes: u64,
    /// Pieces in address order; together they cover every region exactly once (`[vsyscall]` is left out: the kernel does
    /// not count it either).
    pub pieces: Vec<Piece>,
    /// What the pieces belong to.
    pub items: Vec<Item>,
    /// Threads: the main thread first, then by stack address.
    pub threads: Vec<ThreadFact>,
    /// False when the thread lists could not be read, nor memory be searched instead: counts of exited and cached stacks are
    /// then absent.
    pub thread_lists_known: bool,
    /// Roles are told by the kernel's mappings alone (the memory could not be read): what takes the contents of memory to be
    /// told apart is anonymous memory, and no metric.
    #[serde(default)]
    pub by_mappings: bool,
    /// Secondary arenas by address; absent when glibc's malloc was not recognised.
    pub arenas: Option<Vec<ArenaFact>>,
    /// The main arena and malloc's own books; absent when the main arena was not found.
    #[serde(default)]
    pub malloc: Option<MallocFact>,
    /// Sums.
    pub process: ProcessTotals,
    /// Sums over all processes of the tree; absent when nobody asked for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<TreeTotals>,
    /// Anonymous bytes of text pages that are private copies because they hold, or held, a breakpoint of ours. They are
    /// taken out of the pieces' `anon_bytes` and of `process.anon`, so no figure depends on where breakpoints are; the
    /// pages' address space and residency stay with the segment. They are the whole of [`Role::Memcheck`].
    #[serde(default)]
    pub breakpoint_anon_bytes: u64,
    /// Hardening facts of the executable.
    pub hardening: Option<Hardening>,
    /// File names of system objects, sorted.
    pub platform_objects: BTreeSet<Name>,
    /// File names of own shared objects, sorted.
    pub own_objects: BTreeSet<Name>,
    /// File names of loaded libraries, each with those of the loaded objects that name it as needed (`DT_NEEDED`). A library that
    /// none names was opened at run time, or preloaded.
    #[serde(default)]
    pub needed: BTreeMap<Name, BTreeSet<Name>>,
    /// Soft stack limit the target runs with, bytes.
    pub stack_limit_bytes: Option<u64>,
    /// What is approximate.
    pub notes: Vec<Note>,
}

/// Sum of one role (or of several) in a map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleSum {
    /// Number of items.
    pub count: u64,
    /// Bytes of address space.
    pub reserved: u64,
    /// Anonymous bytes; absent if any piece's are.
    pub anon: Option<u64>,
    /// Resident bytes, likewise.
    pub resident: Option<u64>,
}

impl RoleSum {
    /// Of nothing.
    fn zero() -> Self {
        Self {
            anon: Some(0),
            resident: Some(0),
            ..Self::default()
        }
    }

    /// Adds the bytes of a piece.
    fn add(&mut self, piece: &Piece) {
        self.reserved = self.reserved.saturating_add(piece.reserved_bytes());
        self.anon = self.anon.zip(piece.anon_bytes).map(|(a, b)| a.saturating_add(b));
        self.resident = self.resident.zip(piece.resident_bytes).map(|(a, b)| a.saturating_add(b));
    }
}

impl MemoryMap {
    /// The sum over all pieces of the given roles. A role that does not occur sums to zero. [`Role::Memcheck`] has no
    /// pieces: it counts the pages of [`MemoryMap::breakpoint_anon_bytes`] and reserves nothing.
    #[must_use]
    pub fn sum(&self, include: impl Fn(Role) -> bool) -> RoleSum {
        let mut items = Vec::new();
        let mut sum = RoleSum::zero();
        for piece in self.pieces.iter().filter(|piece| include(piece.role)) {
            items.push(piece.item);
            sum.add(piece);
        }
        items.sort_unstable();
        items.dedup();
        sum.count = items.len() as u64;
        if include(Role::Memcheck) {
            self.add_breakpoints(&mut sum);
        }
        sum
    }

    fn add_breakpoints(&self, sum: &mut RoleSum) {
        sum.count += self.breakpoint_anon_bytes / self.page_bytes.max(1);
        sum.anon = sum.anon.map(|bytes| bytes.saturating_add(self.breakpoint_anon_bytes));
    }

    /// The sum of each role that occurs.
    #[must_use]
    pub fn by_role(&self) -> BTreeMap<Role, RoleSum> {
        let mut pieces: Vec<&Piece> = self.pieces.iter().collect();
        pieces.sort_unstable_by_key(|piece| (piece.role, piece.item));
        let same_role = |a: &&Piece, b: &&Piece| a.role == b.role;
        let mut sums: BTreeMap<Role, RoleSum> = pieces
            .chunk_by(same_role)
            .filter_map(|of_role| {
                let mut sum = RoleSum::zero();
                of_role.iter().for_each(|piece| sum.add(piece));
                sum.count = of_role.chunk_by(|a, b| a.item == b.item).count() as u64;
                Some((of_role.first()?.role, sum))
            })
            .collect();
        if self.breakpoint_anon_bytes > 0 {
            self.add_breakpoints(sums.entry(Role::Memcheck).or_insert_with(RoleSum::zero));
        }
        sums
    }

    /// The value of a metric: bytes, or a number for counts. `None` means that this machine, build or version of the
    /// tool cannot give it, never zero.
    #[must_use]
    pub fn metric(&self, metric: &Metric) -> Option<u64> {
        match metric.subject() {
            Subject::Threads => Some(self.threads.iter().filter(|t| t.state == StackState::Live).count() as u64),
            Subject::Process(measure) => self.process_total(measure),
            Subject::Tree(measure) => self.tree.as_ref()?.get(measure),
            Subject::Own(measure) => self.role_measure(&|role| role.is_own(), measure),
            Subject::Roles { roles, measure } => {
                if !self.thread_lists_known
                    && roles
                        .iter()
                        .any(|r| matches!(r, Role::ThreadStackExited | Role::ThreadStackCached))
                {
                    return None;
                }
                let of_thread = |role: &Role| matches!(role, Role::ThreadStackLive | Role::ThreadStackUser);
                if roles.iter().any(of_thread) && self.lacks_stacks() {
                    return None;
                }
                // Where glibc's malloc was not recognised, nobody looked for what it made.
                let of_malloc = |role: &Role| matches!(role, Role::ThreadArena | Role::MmapChunk);
                if roles.iter().any(of_malloc) && self.arenas.is_none() {
                    return None;
                }
                if self.by_mappings && roles.iter().any(|role| role.needs_contents()) {
                    return None;
                }
                self.role_measure(&|role| roles.contains(&role), measure)
            }
        }
    }

    /// Threads run whose stacks were not found, where libc's lists do not tell of any either: on another architecture, or made
    /// by something else than libc.
    fn lacks_stacks(&self) -> bool {
        let unknown = |thread: &ThreadFact| thread.state == StackState::Live && !thread.main && thread.stack.is_none();
        !self.thread_lists_known && self.threads.iter().any(unknown)
    }

    fn role_measure(&self, include: &dyn Fn(Role) -> bool, measure: RoleMeasure) -> Option<u64> {
        let flagged = |flag: fn(&Piece) -> Option<bool>| {
            self.pieces
                .iter()
                .filter(|piece| include(piece.role))
                .try_fold(0, |sum, piece| {
                    Some(if flag(piece)? { sum + piece.reserved_bytes() } else { sum })
                })
        };
        match measure {
            RoleMeasure::Count => Some(self.sum(include).count),
            RoleMeasure::Reserved => Some(self.sum(include).reserved),
            RoleMeasure::Anon => self.sum(include).anon,
            RoleMeasure::Resident => self.sum(include).resident,
            RoleMeasure::Commit => flagged(|piece| piece.committed),
            RoleMeasure::Noreserve => flagged(|piece| piece.noreserve),
            RoleMeasure::Committed => Some(
                self.arenas
                    .as_ref()?
                    .iter()
                    .flat_map(|a| &a.heaps)
                    .map(|heap| heap.committed_bytes)
                    .sum(),
            ),
            RoleMeasure::Heaps => Some(self.arenas.as_ref()?.iter().map(|arena| arena.heaps.len() as u64).sum()),
            RoleMeasure::Deepest => self
                .threads
                .iter()
                .filter(|t| !t.main && (t.state == StackState::Live || t.deepest_bytes.is_some()))
                .map(|t| t.deepest_bytes)
                .try_fold(0, |deepest, bytes| Some(deepest.max(bytes?))),
            RoleMeasure::Used => self.arena_use(include, |usage| usage.used_bytes),
            RoleMeasure::Free => self.arena_use(include, |usage| usage.free_bytes),
            RoleMeasure::Top => self.arena_use(include, |usage| usage.top_bytes),
        }
    }

    /// The sum over the main or the secondary arenas; `None` when one of them could not be walked, or is in doubt.
    fn arena_use(&self, include: &dyn Fn(Role) -> bool, figure: fn(&ArenaUse) -> u64) -> Option<u64> {
        self.arenas_of(include)?
            .iter()
            .map(|arena| {
                let proven = arena.usage.as_ref().filter(|_| arena.doubt.is_none());
                proven.map(figure)
            })
            .try_fold(0_u64, |sum, bytes| Some(sum.saturating_add(bytes?)))
    }

    /// The arenas behind [`Role::MainHeap`] or [`Role::ThreadArena`].
    fn arenas_of(&self, include: &dyn Fn(Role) -> bool) -> Option<&[ArenaFact]> {
        if include(Role::MainHeap) {
            self.malloc.as_ref().map(|malloc| std::slice::from_ref(&malloc.main))
        } else {
            self.arenas.as_deref()
        }
    }

    /// Why the chunks of the main heap or of the secondary arenas are not known exactly, as a fragment.
    #[must_use]
    pub fn malloc_doubt(&self, role: Role) -> Option<String> {
        match self.arenas_of(&|other| other == role) {
            None if self.arenas.is_none() => Some("glibc's malloc was not recognised in this process".to_owned()),
            None => Some("the main arena of glibc's malloc was not found".to_owned()),
            Some(arenas) => arenas.iter().find_map(|arena| arena.doubt.clone()),
        }
    }

    fn process_total(&self, measure: ProcessMeasure) -> Option<u64> {
        let totals = &self.process;
        match measure {
            ProcessMeasure::Reserved => totals.reserved,
            ProcessMeasure::Resident => totals.resident,
            ProcessMeasure::Anon => totals.anon,
            ProcessMeasure::Swap => totals.swap,
            ProcessMeasure::Commit => totals.commit,
            ProcessMeasure::Noreserve => totals.noreserve,
            ProcessMeasure::Locked => totals.locked,
            ProcessMeasure::Peak => totals.peak,
            ProcessMeasure::Mappings => totals.mappings,
            ProcessMeasure::Wx => totals.wx,
            ProcessMeasure::Pss => totals.pss,
            ProcessMeasure::Uss => totals.uss,
        }
    }
}
