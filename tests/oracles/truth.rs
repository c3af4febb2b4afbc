//! A program that counts its own threads, stacks, arenas and chunks (`fixtures/truth.c`), held against the classification at
//! each of its checkpoints.

use std::collections::{BTreeMap, BTreeSet};

use memcheck_harness::model::{MemoryMap, Metric, Role, StackState};

use crate::pmap::all_is_equal;
use crate::stop::{probe, show, visit};
use crate::tools::{built, hex};

/// The checkpoints of the program, in order.
pub(crate) const CHECKPOINTS: [&str; 11] = [
    "none", "one", "three", "user", "unjoined", "cached", "reused", "arenas", "orphaned", "mapped", "freed",
];

/// What the program says at one checkpoint. Addresses and bytes.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    threads: u64,
    /// (state, start, bytes, guard)
    stacks: Vec<(String, u64, u64, u64)>,
    /// (start, bytes, resident bytes)
    resident: Vec<(u64, u64, u64)>,
    /// (role, start, bytes)
    ranges: Vec<(String, u64, u64)>,
    pub(crate) heap_bytes: u64,
    mmapped: (u64, u64),
    arenas: Vec<Arena>,
}

/// One `<heap>` of `malloc_info`: an arena, the main one first.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Arena {
    size_bytes: u64,
    committed_bytes: u64,
    heaps: u64,
}

fn attribute(line: &str, name: &str) -> Option<u64> {
    let (_, rest) = line.split_once(&format!("{name}=\""))?;
    rest.split('"').next()?.parse().ok()
}

/// Reads what the program printed: name of the checkpoint → truth.
pub(crate) fn parse(text: &str) -> BTreeMap<String, Truth> {
    let mut all = BTreeMap::new();
    let (mut name, mut in_heap) = ("", false);
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["checkpoint", now] = words[..] {
            name = now;
            all.insert(now.to_owned(), Truth::default());
            continue;
        }
        let truth: &mut Truth = all.get_mut(name).unwrap();
        match words[..] {
            ["threads", n] => truth.threads = hex(n),
            ["stack", state, start, bytes, guard] => truth.stacks.push((state.to_owned(), hex(start), hex(bytes), hex(guard))),
            ["resident", start, bytes, resident] => truth.resident.push((hex(start), hex(bytes), hex(resident))),
            ["is", role, start, bytes] => truth.ranges.push((role.to_owned(), hex(start), hex(bytes))),
            ["heap", bytes] => truth.heap_bytes = hex(bytes),
            ["mmapped", count, bytes] => truth.mmapped = (hex(count), hex(bytes)),
            ["<heap", _] => {
                in_heap = true;
                truth.arenas.push(Arena::default());
            }
            ["</heap>"] => in_heap = false,
            ["<aspace", kind, _] if in_heap => {
                let value = attribute(line, "size").unwrap();
                let arena = truth.arenas.last_mut().unwrap();
                match kind {
                    "type=\"total\"" => arena.size_bytes = value,
                    "type=\"mprotect\"" => arena.committed_bytes = value,
                    "type=\"subheaps\"" => arena.heaps = value,
                    _ => panic!("{line}"),
                }
            }
            _ => assert!(line.starts_with('<') || line.starts_with("  <"), "{line:?}"),
        }
    }
    all
}

fn metric(map: &MemoryMap, name: &str) -> Option<u64> {
    map.metric(&Metric::parse(name).unwrap())
}

fn threads_are_equal(truth: &Truth, map: &MemoryMap) {
    assert!(map.thread_lists_known);
    assert_eq!(metric(map, "threads.count"), Some(truth.threads));
    for state in ["live", "exited", "cached", "user"] {
        let stacks: Vec<_> = truth.stacks.iter().filter(|stack| stack.0 == state).collect();
        let role = format!("thread-stack.{state}");
        let bytes: u64 = stacks.iter().map(|stack| stack.2).sum();
        assert_eq!(metric(map, &format!("{role}.count")), Some(stacks.len() as u64), "{role}");
        assert_eq!(metric(map, &format!("{role}.reserved")), Some(bytes), "{role}");
    }
    let told: BTreeSet<(u64, u64, StackState, bool)> = truth
        .stacks
        .iter()
        .map(|(state, start, bytes, _)| {
            let is = match &state[..] {
                "exited" => StackState::Exited,
                "cached" => StackState::Cached,
                _ => StackState::Live,
            };
            (*start, *bytes, is, state == "user")
        })
        .collect();
    let ours: BTreeSet<(u64, u64, StackState, bool)> = map
        .threads
        .iter()
        .filter(|fact| !fact.main)
        .map(|fact| {
            let (start, bytes) = fact.stack.unwrap();
            (start, bytes, fact.state, fact.user_stack)
        })
        .collect();
    assert_eq!(ours, told);
    for (state, start, _, guard) in truth.stacks.iter().filter(|stack| stack.0 != "user") {
        let fact = map
            .threads
            .iter()
            .find(|fact| fact.stack.is_some_and(|stack| stack.0 == *start));
        assert_eq!(fact.and_then(|fact| fact.guard_bytes), Some(*guard), "{state} {start:x}");
    }
    let guards: u64 = truth
        .stacks
        .iter()
        .filter(|stack| stack.0 != "user")
        .map(|stack| stack.3)
        .sum();
    assert_eq!(metric(map, "guard.reserved"), Some(guards));
}

fn malloc_is_equal(truth: &Truth, map: &MemoryMap) {
    assert_eq!(metric(map, "main-heap.reserved"), Some(truth.heap_bytes));
    let (count, bytes) = truth.mmapped;
    assert_eq!(metric(map, "mmap-chunk.reserved"), Some(bytes));
    assert_eq!(metric(map, "mmap-chunk.count"), Some(count));
    let mut told: Vec<&Arena> = truth.arenas.iter().skip(1).collect();
    told.sort();
    let mut ours: Vec<Arena> = map
        .arenas
        .as_ref()
        .expect("glibc's malloc")
        .iter()
        .map(|arena| Arena {
            size_bytes: arena.heaps.iter().map(|heap| heap.size_bytes).sum(),
            committed_bytes: arena.heaps.iter().map(|heap| heap.committed_bytes).sum(),
            heaps: arena.heaps.len() as u64,
        })
        .collect();
    ours.sort();
    assert_eq!(ours.iter().collect::<Vec<_>>(), told);
    let heaps: u64 = told.iter().map(|arena| arena.heaps).sum();
    assert_eq!(metric(map, "thread-arena.count"), Some(told.len() as u64));
    assert_eq!(metric(map, "thread-arena.heaps"), Some(heaps));
    assert_eq!(metric(map, "thread-arena.reserved"), Some(heaps << 26));
    assert_eq!(
        metric(map, "thread-arena.committed"),
        Some(told.iter().map(|arena| arena.committed_bytes).sum())
    );
}

fn ranges_are_equal(truth: &Truth, map: &MemoryMap) {
    for (role, start, bytes) in &truth.ranges {
        let inside: Vec<&str> = map
            .pieces
            .iter()
            .filter(|piece| piece.start < start + bytes && *start < piece.end)
            .map(|piece| piece.role.name())
            .collect();
        assert!(
            !inside.is_empty() && inside.iter().all(|name| name == role),
            "{start:x}+{bytes:x}: {inside:?}, not {role}"
        );
    }
    let by_role = |name: &str| -> u64 { truth.ranges.iter().filter(|range| range.0 == name).map(|range| range.2).sum() };
    assert_eq!(metric(map, "anon-map.reserved"), Some(by_role("anon-map")));
    assert_eq!(metric(map, "shared-map.reserved"), Some(by_role("shared-map")));
    for (start, bytes, resident) in &truth.resident {
        let inside = map
            .pieces
            .iter()
            .filter(|piece| *start <= piece.start && piece.end <= start + bytes);
        let ours: Option<u64> = inside.map(|piece| piece.resident_bytes).sum();
        assert_eq!(ours, Some(*resident), "mincore of {start:x}+{bytes:x}");
    }
}

#[test]
fn the_program_and_the_map_agree_at_every_checkpoint() {
    let points = CHECKPOINTS.map(probe);
    let mut maps = Vec::new();
    let ended = visit(built("truth"), &[], &points, |_, _, capture, map| {
        all_is_equal(capture, map);
        maps.push(map.clone());
    });
    let truths = parse(ended.output.stdout.as_str().unwrap());
    for (name, map) in CHECKPOINTS.iter().zip(&maps) {
        let truth = &truths[*name];
        let compared = std::panic::catch_unwind(|| {
            threads_are_equal(truth, map);
            malloc_is_equal(truth, map);
            ranges_are_equal(truth, map);
            assert_eq!(map.sum(|role| role == Role::Unclassified).reserved, 0);
            assert!(map.notes.is_empty(), "{:?}", map.notes);
        });
        assert!(compared.is_ok(), "at {name} (see above):\n{truth:#x?}\n{}", show(map));
    }
    let counts =
        |name: &str| ["live", "exited", "cached", "user"].map(|s| truths[name].stacks.iter().filter(|t| t.0 == s).count());
    // The program itself did what its name says.
    assert_eq!(counts("none"), [0, 0, 0, 0]);
    assert_eq!(counts("three"), [3, 0, 0, 0]);
    assert_eq!(counts("user"), [3, 0, 0, 1]);
    assert_eq!(counts("unjoined"), [3, 2, 0, 1]);
    assert_eq!(counts("cached"), [3, 2, 3, 1]);
    assert_eq!(counts("reused"), [4, 2, 2, 1]);
    assert_eq!(counts("orphaned"), [7, 3, 2, 1]);
    assert_eq!(truths["arenas"].arenas.len(), 5);
    assert_eq!(truths["orphaned"].arenas.len(), 5);
    assert_eq!((truths["mapped"].mmapped.0, truths["freed"].mmapped.0), (4, 3));
}
