//! The system calls of the ground-truth program, run by itself under strace, replayed into a list of mappings: the stacks,
//! arenas and heap that must then exist are those we say exist, and nothing else was mapped.

use std::collections::BTreeMap;

use memcheck_harness::model::{At, MemoryMap, Metric};

use crate::stop::{probe, show, visit};
use crate::tools::{built, hex, output, with_stack_limit};
use crate::truth::CHECKPOINTS;

/// A mapping made by a system call.
#[derive(Clone, Debug)]
struct Mapping {
    start: u64,
    end: u64,
    flags: String,
    writable: bool,
    /// Number of the `mmap` that made it: cutting keeps it.
    made_by: usize,
}

/// What strace has seen so far.
#[derive(Clone, Debug, Default)]
struct Replay {
    mappings: Vec<Mapping>,
    first_break: u64,
    last_break: u64,
    calls: usize,
}

impl Replay {
    /// Cuts `[start, end)` out and gives back what was there.
    fn take(&mut self, start: u64, end: u64) -> Vec<Mapping> {
        let (mut kept, mut taken) = (Vec::new(), Vec::new());
        for mapping in self.mappings.drain(..) {
            let part = |from: u64, to: u64| Mapping {
                start: mapping.start.max(from),
                end: mapping.end.min(to),
                ..mapping.clone()
            };
            taken.push(part(start, end));
            kept.extend([part(0, start), part(end, u64::MAX)]);
        }
        taken.retain(|mapping| mapping.start < mapping.end);
        kept.retain(|mapping| mapping.start < mapping.end);
        self.mappings = kept;
        taken
    }

    /// One finished call: name, arguments, result.
    fn call(&mut self, name: &str, args: &[&str], result: u64) {
        let number = |at: usize| -> u64 {
            let text = args[at];
            text.parse().unwrap_or_else(|_| hex(text))
        };
        let up = |bytes: u64| bytes.next_multiple_of(4096);
        self.calls += 1;
        match name {
            "brk" => {
                if self.first_break == 0 {
                    self.first_break = result;
                }
                self.last_break = result;
            }
            "mmap" => {
                let end = result + up(number(1));
                self.take(result, end);
                self.mappings.push(Mapping {
                    start: result,
                    end,
                    flags: args[3].to_owned(),
                    writable: args[2].contains("PROT_WRITE"),
                    made_by: self.calls,
                });
            }
            "munmap" => {
                self.take(number(0), number(0) + up(number(1)));
            }
            "mprotect" => {
                let changed = self.take(number(0), number(0) + up(number(1)));
                let writable = args[2].contains("PROT_WRITE");
                self.mappings
                    .extend(changed.into_iter().map(|mapping| Mapping { writable, ..mapping }));
            }
            "mremap" => {
                let old = self.take(number(0), number(0) + up(number(1)));
                let end = result + up(number(2));
                let first = old.first().expect("mremap of something mapped").clone();
                self.mappings.push(Mapping {
                    start: result,
                    end,
                    ..first
                });
            }
            "madvise" | "mincore" | "pkey_alloc" | "memfd_create" | "mlock" | "munlock" | "mbind" | "msync" => {}
            _ => panic!("{name} is not understood here"),
        }
    }

    /// Bytes of the mappings that were made with a flag.
    fn bytes(&self, include: impl Fn(&Mapping) -> bool) -> u64 {
        self.mappings.iter().filter(|m| include(m)).map(|m| m.end - m.start).sum()
    }

    /// Sizes of what is left of each `mmap` with `MAP_STACK`.
    fn stacks(&self) -> Vec<u64> {
        let mut sizes: BTreeMap<usize, u64> = BTreeMap::new();
        for mapping in self.mappings.iter().filter(|m| m.flags.contains("MAP_STACK")) {
            *sizes.entry(mapping.made_by).or_default() += mapping.end - mapping.start;
        }
        let mut sizes: Vec<u64> = sizes.into_values().collect();
        sizes.sort_unstable();
        sizes
    }
}

/// The state at each `checkpoint NAME` that the program printed.
fn replay(trace: &str) -> BTreeMap<String, Replay> {
    let mut states = BTreeMap::new();
    let mut now = Replay::default();
    let mut unfinished: BTreeMap<&str, String> = BTreeMap::new();
    for line in trace.lines() {
        let (pid, rest) = line.split_once(' ').unwrap();
        let rest = rest.trim_start();
        if let Some((before, _)) = rest.split_once(" <unfinished ...>") {
            unfinished.insert(pid, before.to_owned());
            continue;
        }
        let joined = match rest.strip_prefix("<... ") {
            Some(resumed) => {
                let (_, after) = resumed.split_once(" resumed>").unwrap();
                unfinished.remove(pid).unwrap() + after
            }
            None => rest.to_owned(),
        };
        let Some((name, rest)) = joined.split_once('(') else {
            continue;
        };
        let Some((args, result)) = rest.rsplit_once(" = ") else {
            continue;
        };
        let args = args.trim_end().trim_end_matches(')');
        if name == "write" {
            if let Some((_, text)) = args.split_once("\"checkpoint ") {
                let name = text.split("\\n").next().unwrap();
                states.insert(name.to_owned(), now.clone());
            }
            continue;
        }
        let result = result.split_whitespace().next().unwrap();
        // A call that failed gives -1 and changed nothing.
        if name.chars().all(|c| c.is_ascii_lowercase() || c == '_') && result != "-1" {
            let args: Vec<&str> = args.split(", ").collect();
            now.call(name, &args, result.parse().unwrap_or_else(|_| hex(result)));
        }
    }
    states
}

fn strace() -> BTreeMap<String, Replay> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trace");
    let mut command = with_stack_limit("strace");
    command.args(["-f", "-s", "64", "-e", "trace=%memory,write", "-e", "signal=none", "-o"]);
    output(command.arg(&file).arg(built("truth")));
    replay(&std::fs::read_to_string(file).unwrap())
}

fn metric(map: &MemoryMap, name: &str) -> u64 {
    map.metric(&Metric::parse(name).unwrap())
        .unwrap_or_else(|| panic!("{name} is absent"))
}

fn compare(replay: &Replay, map: &MemoryMap, mapped_since_exec: u64) {
    let heap = replay.last_break - replay.first_break;
    assert_eq!(metric(map, "main-heap.reserved"), heap);
    assert_eq!(
        mapped_since_exec,
        replay.bytes(|_| true) + heap,
        "all that was mapped since exec"
    );

    let of_libc = map.threads.iter().filter(|fact| !fact.main && !fact.user_stack);
    let mut ours: Vec<u64> = of_libc
        .map(|fact| fact.stack.unwrap().1 + fact.guard_bytes.unwrap())
        .collect();
    ours.sort_unstable();
    assert_eq!(ours, replay.stacks(), "stacks with their guards");

    // Heaps are what is left of 128 MiB mapped without access: 64 MiB at a multiple of that.
    let is_heap = |m: &Mapping| m.flags.contains("MAP_NORESERVE") && !(m.end - m.start).is_multiple_of(1 << 30);
    assert_eq!(metric(map, "thread-arena.reserved"), replay.bytes(is_heap));
    assert_eq!(
        metric(map, "thread-arena.committed"),
        replay.bytes(|m| is_heap(m) && m.writable)
    );
}

#[test]
fn what_was_mapped_is_what_we_name() {
    let states = strace();
    let mut points = vec![At::Exec];
    points.extend(CHECKPOINTS.map(probe));
    let mut at_exec = 0;
    visit(built("truth"), &[], &points, |index, _, _, map| {
        let reserved = map.process.reserved.unwrap();
        let Some(name) = index.checked_sub(1).map(|i| CHECKPOINTS[i]) else {
            at_exec = reserved;
            return;
        };
        let state = states.get(name).unwrap_or_else(|| panic!("strace saw no checkpoint {name}"));
        let compared = std::panic::catch_unwind(|| compare(state, map, reserved - at_exec));
        assert!(compared.is_ok(), "at {name} (see above):\n{state:#x?}\n{}", show(map));
    });
}
