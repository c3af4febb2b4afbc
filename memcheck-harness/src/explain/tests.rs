//! Small maps in, sentences out.

use super::*;
use crate::model::{
    ArenaFact, Confidence, Evidence, HeapFact, Item, Metric, Name, Perms, Piece, Place, ProcessTotals, StackState, ThreadFact,
};

const KIB: u64 = 1024;

/// A map of items: role, reserved KiB, anonymous KiB; with live thread names and a number of ended threads.
fn map(items: &[(Role, u64, u64)], live: &[&str], arenas: usize) -> MemoryMap {
    let mut start = 0;
    let pieces = items
        .iter()
        .enumerate()
        .map(|(item, (role, reserved, anon))| {
            start += reserved * KIB;
            Piece {
                start: start - reserved * KIB,
                end: start,
                role: *role,
                item,
                perms: Perms::default(),
                resident_bytes: None,
                anon_bytes: Some(anon * KIB),
                swap_bytes: None,
                proportional_bytes: None,
                committed: None,
                noreserve: None,
                evidence: Evidence {
                    text: "".into(),
                    confidence: Confidence::Certain,
                },
            }
        })
        .collect();
    let tid = |name: &&str| live.iter().position(|other| other == name).map_or(1, |at| 2 + at as i32);
    let thread = |name: &str, main| ThreadFact {
        tid: Some(tid(&name)),
        name: Some(Name::from(name)),
        main,
        state: StackState::Live,
        user_stack: false,
        stack: None,
        guard_bytes: None,
        deepest_bytes: None,
        start_address: None,
        start_function: None,
    };
    let heap = HeapFact {
        start: 0,
        size_bytes: 0,
        committed_bytes: 132 * KIB,
    };
    MemoryMap {
        page_bytes: 4096,
        pieces,
        items: items
            .iter()
            .map(|(role, ..)| Item {
                role: *role,
                subject: Name::from("/data/a\x1b.bin"),
                tid: None,
            })
            .collect(),
        threads: std::iter::once(thread("main", true))
            .chain(live.iter().map(|name| thread(name, false)))
            .collect(),
        by_mappings: false,
        thread_lists_known: true,
        arenas: Some(vec![
            ArenaFact {
                address: 0,
                heaps: vec![heap],
                ..ArenaFact::default()
            };
            arenas
        ]),
        malloc: None,
        breakpoint_anon_bytes: 0,
        process: ProcessTotals::default(),
        tree: None,
        hardening: None,
        platform_objects: BTreeSet::new(),
        own_objects: BTreeSet::new(),
        needed: Default::default(),
        stack_limit_bytes: Some(8192 * KIB),
        notes: Vec::new(),
    }
}

fn state(map: &MemoryMap) -> State {
    let rows = map.by_role().into_iter().map(|(role, sum)| {
        let row = Row {
            count: Cell::Value(sum.count),
            reserved: Cell::Value(sum.reserved),
            anon: sum.anon.map_or(Cell::Absent, Cell::Value),
        };
        (RowKey::Role(role), row)
    });
    let threads = Row {
        count: Cell::Value(map.threads.len() as u64),
        ..Row::default()
    };
    State {
        name: String::new(),
        child: None,
        rows: rows.chain([(RowKey::Threads, threads)]).collect(),
    }
}

fn explain(before: &MemoryMap, now: &MemoryMap) -> Vec<ChangeCause> {
    causes(Some(&state(before)), &state(now), now, &[])
}

fn over(metric: &str, limit: u64, value: u64) -> LimitResult {
    LimitResult {
        metric: Metric::parse(metric).unwrap(),
        rule: "max".to_owned(),
        limit: Some(limit),
        reference: None,
        value: Some(value),
        origin: Place::default(),
        verdict: Verdict::Over,
        reason: String::new(),
    }
}

const HEAP: (Role, u64, u64) = (Role::MainHeap, 132, 4);
const LIVE: (Role, u64, u64) = (Role::ThreadStackLive, 8192, 12);
const EXITED: (Role, u64, u64) = (Role::ThreadStackExited, 8192, 24);
const GUARD: (Role, u64, u64) = (Role::Guard, 4, 0);
const ARENA: (Role, u64, u64) = (Role::ThreadArena, 65536, 8);

#[test]
fn changes_are_ranked_bytes_first_and_varying_cells_are_left_out() {
    let before = state(&map(&[HEAP, (Role::AnonMap, 64, 8)], &[], 0));
    let mut now = state(&map(
        &[(Role::MainHeap, 132, 400), (Role::AnonMap, 64, 8), EXITED, GUARD],
        &["a"],
        0,
    ));
    if let Some(row) = now.rows.get_mut(&RowKey::Role(Role::AnonMap)) {
        row.anon = Cell::Varies;
    }
    let cells: Vec<String> = changes(&before, &now)
        .iter()
        .map(|change| format!("{} {} {:?} {:?}", change.row, change.column, change.before, change.now))
        .collect();
    assert_eq!(
        cells,
        [
            "thread-stack.exited reserved None Some(8388608)",
            "main-heap anon Some(4096) Some(409600)",
            "thread-stack.exited anon None Some(24576)",
            "guard reserved None Some(4096)",
            "thread-stack.exited count None Some(1)",
            "guard count None Some(1)",
            "threads count Some(1) Some(2)",
        ]
    );
    assert!(changes(&before, &before).is_empty());
}

#[test]
fn an_unjoined_thread_takes_its_guard_along() {
    let found = explain(&map(&[HEAP], &[], 0), &map(&[HEAP, EXITED, GUARD], &[], 0));
    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0].cause,
        "1 thread ended and is not joined or detached yet: glibc keeps its stack mapped until pthread_join."
    );
    assert_eq!(
        found[0].cost,
        "+24 KiB anonymous memory; the other +8172 KiB is address space, guards included.\nEach stack: 8192 KiB reserved, equal to the stack \
         limit (`ulimit -s`) the target runs with; 24 KiB anonymous."
    );
    assert!(found[0].remedies[0].contains("pthread_detach(pthread_self())"));
}

#[test]
fn which_thread_is_new_is_claimed_only_when_there_was_none() {
    let first = explain(&map(&[], &[], 0), &map(&[LIVE, LIVE], &["io-0", "io-1"], 0));
    assert_eq!(first[0].cause, "2 more threads: io-{0,1}.");
    let later = explain(&map(&[LIVE], &["io-0"], 0), &map(&[LIVE, LIVE], &["io-0", "io-1"], 0));
    assert_eq!(later[0].cause, "1 more thread (2 now besides the main one: io-{0,1}).");
    let fewer = explain(&map(&[LIVE, LIVE], &["a", "b"], 0), &map(&[LIVE], &["a"], 0));
    assert_eq!(fewer[0].cause, "1 fewer thread (1 now besides the main one: a).");
    assert_eq!(fewer[0].cost, "-8192 KiB reserved, -12 KiB anonymous.");
}

#[test]
fn arenas_are_one_each_only_when_the_counts_say_so() {
    let with = |tids: &[i32]| {
        let mut map = map(&[LIVE, ARENA], &["a"], 1);
        map.arenas.as_mut().unwrap()[0].threads = Some(tids.to_vec());
        map
    };
    let one = explain(&map(&[LIVE], &["a"], 0), &with(&[2]));
    // As many, but the thread does not allocate from it: left over by one that ended.
    let other = explain(&map(&[LIVE], &["a"], 0), &with(&[]));
    assert_eq!(
        other[0].cause,
        "1 more malloc arena: 1 arena and 1 thread now, besides the main ones."
    );
    assert_eq!(
        one[0].cause,
        "1 more malloc arena, attached to a: 1 thread, 1 arena: one each."
    );
    assert!(
        one[0]
            .cost
            .contains("64 MiB of address space each, of which only 132 KiB are committed")
    );
    assert!(one[0].remedies[0].contains("MALLOC_ARENA_MAX"));
    let none = explain(&map(&[], &[], 0), &map(&[ARENA], &[], 1));
    assert_eq!(
        none[0].cause,
        "1 more malloc arena: 1 arena and 0 threads now, besides the main ones."
    );
}

#[test]
fn an_arena_s_further_heaps_are_told_by_their_size_alone() {
    let arena = |kib| map(&[(Role::ThreadArena, kib, 8)], &["a"], 1);
    let cause = |kib| explain(&arena(65536), &arena(kib))[0].cause.clone();
    assert_eq!(
        cause(2 * 65536),
        "An arena needed a further 64 MiB heap: as many malloc arenas as before."
    );
    assert_eq!(
        cause(3 * 65536),
        "Arenas needed 2 further 64 MiB heaps: as many malloc arenas as before."
    );
    // A stack in the arena's memory that is one no more gives its pages back to the row.
    assert_eq!(cause(65536 + 64), "More address space in as many malloc arenas as before.");
}

#[test]
fn the_main_stack_holds_more_than_calls() {
    let stack = |anon| map(&[(Role::MainStack, 132, anon)], &[], 0);
    let cause = explain(&stack(64), &stack(80)).remove(0).cause;
    assert!(cause.contains("longer arguments and environment"), "{cause}");
}

#[test]
fn another_stack_size_is_traced_to_the_limit_or_not() {
    let before = map(&[(Role::ThreadStackLive, 2048, 12)], &["a"], 0);
    let found = explain(&before, &map(&[LIVE], &["a"], 0));
    assert_eq!(
        found[0].cause,
        "Stacks of thread-stack.live changed from 2048 KiB to 8192 KiB each: now equal to the stack limit (`ulimit -s`) the \
         target runs with, 8192 KiB."
    );
    let back = explain(&map(&[LIVE], &["a"], 0), &before);
    assert!(back[0].cause.contains("so the size comes from elsewhere"));
    // Of several only the sum is known before, unless there is the map.
    let small = (Role::ThreadStackLive, 1024, 12);
    let mixed = map(&[small, (Role::ThreadStackLive, 3072, 12)], &["a", "b"], 0);
    let two = map(&[LIVE, LIVE], &["a", "b"], 0);
    assert_eq!(
        explain(&mixed, &two)[0].cause,
        "As many stacks of thread-stack.live as before, of other sizes: 8192 KiB each now, 2048 KiB on average before; the stack \
         limit (`ulimit -s`) the target runs with is as large."
    );
    assert!(!told(&mixed, &two)[0].contains("changed from"));
    assert!(told(&map(&[small, small], &["a", "b"], 0), &two)[0].contains("changed from 1024 KiB to 8192 KiB each"));
}

#[test]
fn other_memory_says_what_is_known_and_what_is_not() {
    let before = map(&[HEAP], &[], 0);
    let found = explain(
        &before,
        &map(
            &[
                (Role::MainHeap, 264, 140),
                (Role::MmapChunk, 1028, 4),
                (Role::FileMap, 8, 0),
                (Role::Unclassified, 4, 0),
            ],
            &[],
            0,
        ),
    );
    let causes: Vec<&str> = found.iter().map(|cause| cause.cause.as_str()).collect();
    assert_eq!(
        causes,
        [
            "1 more large allocation with a mapping of its own (malloc maps each request of 128 KiB and more by default); \
             which code asked for it is not known.",
            "The brk heap was extended: live and freed blocks of malloc need more room; which code asked for it is not known.",
            "1 more mapped file; mapped now: a\\x1b.bin.",
            "unclassified changed; it is not known which code did it.",
        ]
    );
    assert_eq!(
        found[0].cost,
        "+4 KiB anonymous memory; the other +1024 KiB is address space."
    );
}

#[test]
fn what_each_round_keeps_in_use_is_to_be_freed() {
    let now = map(&[(Role::MainHeap, 132 << 10, 48 << 10)], &[], 0);
    let told = |metric: &str, rule: &str| {
        let limits = [LimitResult {
            rule: rule.to_owned(),
            ..over(metric, 0, 112)
        }];
        causes(None, &state(&now), &now, &limits).remove(0).remedies
    };
    assert_eq!(
        told("main-heap.used", LimitResult::PER_ROUND),
        ["free it: main-heap.used grows by 112 B a round: free what each round allocates and keeps"]
    );
    // Pages of a heap grow without a block in use, and a size is no growth.
    assert!(told("main-heap.anon", LimitResult::PER_ROUND).is_empty());
    assert!(told("main-heap.used", "max").is_empty());
}

#[test]
fn a_broken_limit_is_explained_without_an_approved_state() {
    let now = map(&[HEAP, EXITED, EXITED, LIVE], &["io-1"], 0);
    let cause = |limit: LimitResult| causes(None, &state(&now), &now, &[limit])[0].clone();
    let exited = cause(over("thread-stack.exited.count", 1, 2));
    assert!(exited.cause.starts_with("2 threads ended and are not joined or detached yet"));
    assert!(exited.cost.starts_with("16 MiB reserved, 48 KiB anonymous in all."));
    assert_eq!(cause(over("thread-stack.count", 2, 3)), exited);
    assert_eq!(
        cause(over("threads.count", 1, 2)).cause,
        "1 thread besides the main one: io-1."
    );
    assert_eq!(
        cause(over("own.anon", 1, 4096)).cause,
        "The largest parts, anonymous memory: thread-stack.exited 48 KiB, thread-stack.live 12 KiB, main-heap 4 KiB."
    );
    assert!(causes(None, &state(&now), &now, &[]).is_empty());
}

#[test]
fn what_breaks_a_limit_comes_first() {
    let before = map(&[], &[], 0);
    let now = map(&[EXITED, (Role::AnonMap, 100_000, 100_000)], &[], 0);
    let limits = [over("thread-stack.exited.count", 0, 1)];
    let found = causes(Some(&state(&before)), &state(&now), &now, &limits);
    assert!(found[0].cause.contains("not joined"));
    assert!(found[1].cause.contains("anonymous mapping"));
}

#[test]
fn an_unknown_count_is_no_evidence() {
    let before = map(&[EXITED], &[], 0);
    let now = map(&[(Role::ThreadStackExited, 8192, 48)], &[], 0);
    let mut approved = state(&before);
    if let Some(row) = approved.rows.get_mut(&RowKey::Role(Role::ThreadStackExited)) {
        row.count = Cell::Varies;
    }
    let found = causes(Some(&approved), &state(&now), &now, &[]);
    assert_eq!(
        found[0].cause,
        "thread-stack.exited changed; it is not known which code did it."
    );
    assert_eq!(found[0].cost, "+24 KiB anonymous memory, no change of address space.");
}

fn named(names: &[&str]) -> BTreeSet<Name> {
    names.iter().map(|name| Name::from(*name)).collect()
}

fn told(before: &MemoryMap, now: &MemoryMap) -> Vec<String> {
    between(before, now).1.into_iter().map(|cause| cause.cause).collect()
}

#[test]
fn with_both_maps_the_new_threads_have_names() {
    let before = map(&[LIVE], &["io-0"], 0);
    let now = map(&[LIVE, LIVE, LIVE], &["io-0", "w-1", "w-2"], 0);
    assert_eq!(told(&before, &now), ["2 more threads: w-{1,2} (3 besides the main one)."]);
    assert_eq!(told(&now, &before), ["2 fewer threads: w-{1,2} (1 besides the main one)."]);
    // Renamed as well as more: which are new is not known.
    let other = map(&[LIVE, LIVE], &["a", "b"], 0);
    assert_eq!(told(&before, &other), ["1 more thread (2 now besides the main one: a, b)."]);
    assert!(told(&now, &now).is_empty());
}

#[test]
fn a_library_is_told_with_who_needs_it() {
    let before = map(&[HEAP], &[], 0);
    let mut now = map(&[HEAP, (Role::Platform, 900, 8)], &[], 0);
    now.items[1].subject = Name::from("libm.so.6");
    now.platform_objects = named(&["libm.so.6"]);
    now.needed = [(Name::from("libm.so.6"), named(&["server"]))].into();
    let found = between(&before, &now).1;
    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0].cause,
        "A further system library is loaded: libm.so.6, needed by server."
    );
    assert!(
        found[0].cost.starts_with("+900 KiB reserved, +8 KiB anonymous."),
        "{}",
        found[0].cost
    );
    now.needed.clear();
    assert!(told(&before, &now)[0].ends_with("opened at run time, or preloaded."));
    assert_eq!(told(&now, &before), ["No longer loaded: the system library libm.so.6."]);
}

#[test]
fn an_own_library_takes_its_rows_along() {
    let before = map(&[HEAP], &[], 0);
    let mut now = map(&[HEAP, (Role::LibText, 40, 0), (Role::LibData, 8, 8)], &[], 0);
    for item in &mut now.items[1..] {
        item.subject = Name::from("libown.so");
    }
    now.own_objects = named(&["libown.so"]);
    let found = between(&before, &now).1;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].cause.starts_with("A further own library is loaded: libown.so"));
    assert_eq!(found[0].cost, "+48 KiB reserved, +8 KiB anonymous.");
}

#[test]
fn relro_moves_bytes_from_one_row_to_another() {
    use crate::model::{Hardening, Relro};
    let hardened = |relro| {
        Some(Hardening {
            relro,
            nx: true,
            pie: true,
            canary: None,
        })
    };
    let mut before = map(&[(Role::ExeData, 160, 160)], &[], 0);
    let mut now = map(&[(Role::ExeRelro, 160, 160), (Role::ExeData, 4, 4)], &[], 0);
    (before.hardening, now.hardening) = (hardened(Relro::No), hardened(Relro::Partial));
    (before.process.mappings, now.process.mappings) = (Some(20), Some(21));
    let found = between(&before, &now).1;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].cause.starts_with("GNU_RELRO added (relro none → partial)"));
    assert_eq!(
        found[0].cost,
        "+4 KiB reserved, +4 KiB anonymous.\n+1 region of the process in all.\nexe.relro is 160 KiB now, 160 KiB of it anonymous."
    );
    assert!(told(&now, &before)[0].starts_with("GNU_RELRO removed"));
    // More than RELRO can take: the rest is told to be something else.
    let mut more = map(&[(Role::ExeRelro, 160, 160), (Role::ExeData, 1028, 4)], &[], 0);
    more.hardening = now.hardening;
    let cost = &between(&before, &more).1[0].cost;
    assert!(
        cost.starts_with("+1028 KiB reserved, +4 KiB anonymous.\nRELRO by itself takes no more than two pages"),
        "{cost}"
    );
}

#[test]
fn the_old_map_tells_which_file_and_which_flag_is_new() {
    let mut before = map(&[(Role::FileMap, 8, 0)], &[], 0);
    before.items[0].subject = Name::from("/data/old.bin");
    let mut now = map(
        &[(Role::FileMap, 8, 0), (Role::FileMap, 8, 0), (Role::AnonMap, 1024, 0)],
        &[],
        0,
    );
    now.items[0].subject = Name::from("/data/old.bin");
    now.items[1].subject = Name::from("/data/new.bin");
    before.pieces.iter_mut().for_each(|piece| piece.noreserve = Some(false));
    now.pieces
        .iter_mut()
        .for_each(|piece| piece.noreserve = Some(piece.role == Role::AnonMap));
    let found = told(&before, &now);
    assert_eq!(
        found,
        [
            "1 more anonymous mapping that no stack, heap or allocator known here accounts for, with MAP_NORESERVE: not counted against \
             the commit limit; which code made it is not known.",
            "1 more mapped file: new.bin."
        ]
    );
}

fn with_heap(mut map: MemoryMap, used: u64, free: u64) -> MemoryMap {
    map.malloc = Some(crate::model::MallocFact {
        main: ArenaFact {
            usage: Some(crate::model::ArenaUse {
                used_bytes: used * KIB,
                free_bytes: free * KIB,
                ..Default::default()
            }),
            ..ArenaFact::default()
        },
        mmapped: None,
        mmapped_is_most: false,
    });
    map
}

#[test]
fn a_heap_has_grown_or_is_fragmented() {
    let before = with_heap(map(&[HEAP], &[], 0), 100, 0);
    let larger = || map(&[(Role::MainHeap, 528, 400)], &[], 0);
    let grown = told(&before, &with_heap(larger(), 480, 8));
    assert_eq!(
        grown,
        [
            "The brk heap was extended: it grew, as more is live (live blocks +380 KiB, freed ones +8 KiB); which code asked for \
             it is not known."
        ]
    );
    let fragmented = told(&before, &with_heap(larger(), 90, 400));
    assert!(fragmented[0].contains("more of it lies free, not more is live (live blocks -10 KiB, freed ones +400 KiB)"));
    assert!(told(&before, &larger())[0].contains("live and freed blocks of malloc need more room"));
}

#[test]
fn that_chunks_were_not_walked_is_said_where_they_would_have_told_more() {
    let walked = |role| with_heap(map(&[(role, 132, 8)], &[], 0), 100, 0);
    let unwalked = |role, reserved, anon| {
        let mut map = with_heap(map(&[(role, reserved, anon)], &[], 0), 0, 0);
        let arena = ArenaFact {
            doubt: Some(ArenaFact::NOT_WALKED.to_owned()),
            ..ArenaFact::default()
        };
        map.arenas = Some(vec![arena.clone()]);
        map.malloc = Some(crate::model::MallocFact {
            main: arena,
            mmapped: None,
            mmapped_is_most: false,
        });
        map
    };
    for (role, reserved, anon) in [
        (Role::MainHeap, 528, 400),
        (Role::MainHeap, 132, 12),
        (Role::ThreadArena, 132, 12),
    ] {
        let told = told(&walked(role), &unwalked(role, reserved, anon));
        assert!(told[0].contains("not known, as malloc's chunks were not walked;"), "{told:?}");
    }
}

#[test]
fn an_arena_is_told_with_its_thread() {
    let with = |names: &[&str], users: &[i32]| {
        let items: Vec<(Role, u64, u64)> = names.iter().map(|_| LIVE).chain(users.iter().map(|_| ARENA)).collect();
        let mut map = map(&items, names, users.len());
        for (tid, thread) in (1..).zip(&mut map.threads) {
            thread.tid = Some(tid);
        }
        for (arena, tid) in map.arenas.iter_mut().flatten().zip(users) {
            arena.threads = Some(vec![*tid]);
        }
        map
    };
    let (none, one, both) = (with(&["a", "b"], &[]), with(&["a", "b"], &[3]), with(&["a", "b"], &[2, 3]));
    assert!(told(&none, &one)[0].starts_with("1 more malloc arena, attached to b:"));
    assert!(told(&one, &both)[0].starts_with("1 more malloc arena, attached to a:"));
    assert!(told(&none, &both)[0].starts_with("2 more malloc arenas, attached to a, b:"));
    // Shared by two threads: none opened it alone.
    let mut shared = with(&["a", "b"], &[3]);
    shared
        .arenas
        .iter_mut()
        .flatten()
        .for_each(|arena| arena.threads = Some(vec![2, 3]));
    assert!(!told(&none, &shared)[0].contains("attached to"));
}
