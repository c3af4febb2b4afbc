//! Forty cases at once, again and again in one process and beside others that keep every processor busy: each says the same in every
//! round, and nothing of a round is left in the tool: no descriptor, no process, no thread, no memory.
//!
//! `MEMCHECK_SOAK` says for how many seconds: `just soak` 20 minutes, `.ci/run` one; both with `MALLOC_ARENA_MAX=1`, so that what the
//! threads of a round freed serves those of the next.

#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use memcheck_harness::build;
use memcheck_harness::capture;
use memcheck_harness::config::{self, Overrides};
use memcheck_harness::model::{Alone, Cancel, Plan, RunReport, Target};
use memcheck_harness::pipeline::{self, Options};

/// Cases at the same time.
const AT_ONCE: usize = 40;
/// Rounds before memory is compared: caches fill, and the allocator takes what it keeps.
const WARM_UP: usize = 3;
/// What the allocator may keep more at the end than after the warm-up: forty threads have as many arenas, in which what was freed
/// lies in another order each time. A leak of a capture in each round is many times that.
const ROOM: u64 = 24 << 20;

/// Cases of this repository's own suite that take only a C compiler, until there are enough.
fn plan() -> Plan {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let source = config::locate(&root).unwrap().unwrap();
    let workspace = build::discover(&source.root).unwrap();
    let page_bytes = capture::page_bytes_here().unwrap();
    let mut plan = config::plan(&source, workspace.as_ref(), &Overrides::default(), page_bytes).unwrap();
    plan.data_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak");
    plan.cases
        .retain(|case| matches!(case.target, Target::C { .. }) && case.alone == Alone::No);
    let own = plan.cases.clone();
    while plan.cases.len() < AT_ONCE {
        let again = plan.cases.len() % own.len();
        plan.cases.push(own[again].clone());
    }
    plan.cases.truncate(AT_ONCE);
    plan
}

/// What this process holds.
#[derive(Debug)]
struct Held {
    descriptors: usize,
    processes: usize,
    threads: usize,
    resident: u64,
}

fn held() -> Held {
    let tasks: Vec<_> = fs::read_dir("/proc/self/task").unwrap().flatten().collect();
    let children = |task: &fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    Held {
        // The listing itself is open meanwhile.
        descriptors: fs::read_dir("/proc/self/fd").unwrap().count() - 1,
        processes: tasks.iter().map(|task| children(task).split_whitespace().count()).sum(),
        threads: tasks.len(),
        resident: resident.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10,
    }
}

/// What is said of each case, by its place: it must not change.
fn said(report: &RunReport) -> BTreeMap<usize, String> {
    let cases = report.cases.iter().enumerate();
    cases
        .map(|(at, case)| {
            assert!(case.problem.is_none(), "{}: {:?}", case.name, case.problem);
            let limits = case.checkpoints.iter().flat_map(|checkpoint| &checkpoint.limits);
            let verdicts: Vec<String> = limits.map(|limit| format!("{} {:?}", limit.metric, limit.verdict)).collect();
            (at, format!("{}\n{}\n{verdicts:?}", case.name, case.snapshot.text))
        })
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "a recipe says how long")]
fn seconds() -> u64 {
    let text = std::env::var("MEMCHECK_SOAK").ok();
    text.map_or(5, |text| text.parse().unwrap())
}

#[test]
fn forty_cases_at_once_say_the_same_and_leave_nothing() {
    let plan = plan();
    let cancel = Cancel::new();
    let binaries = build::build(&plan, None, &cancel, &|_| {}).unwrap();
    let options = Options {
        jobs: AT_ONCE,
        write_pending: false,
        pending_dir: None,
        inherited: Vec::new(),
        ci: false,
        today: capture::today(),
    };
    let until = Instant::now() + Duration::from_secs(seconds());
    let done = AtomicBool::new(false);
    let processors = std::thread::available_parallelism().unwrap().get();
    std::thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        // The load ends even where a round fails.
        let rounds = scope.spawn(|| {
            let (mut first, mut warm) = (None, None);
            let before = held();
            let mut count = 0;
            while count <= WARM_UP || Instant::now() < until {
                let report = pipeline::run_built(&plan, &binaries, &options, &cancel, &|_| {}).unwrap();
                assert_eq!(report.cases.len(), AT_ONCE);
                let said = said(&report);
                let first = first.get_or_insert_with(|| said.clone());
                for (at, text) in &said {
                    assert_eq!(Some(text), first.get(at), "round {count} says something else");
                }
                drop(report);
                count += 1;
                // A thread that was joined is listed until the kernel is done with it; those that read all output and tell the time
                // stay.
                let gone = tests::until(Duration::from_secs(20), || held().threads <= before.threads + 2);
                let now = held();
                assert!(gone, "round {count}: {now:?}, at the start {before:?}");
                if count == WARM_UP {
                    warm = Some(now);
                } else if let Some(warm) = &warm {
                    let same = (now.descriptors, now.processes);
                    assert_eq!(same, (warm.descriptors, warm.processes), "round {count}: {now:?}");
                    assert!(now.resident <= warm.resident + ROOM, "round {count}: {now:?}, was {warm:?}");
                }
            }
            (count, warm, held())
        });
        let ended = rounds.join();
        done.store(true, Ordering::Relaxed);
        let (count, warm, now) = ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert_eq!(now.processes, 0, "{now:?}");
        #[expect(clippy::print_stderr, reason = "a long run says what it did")]
        {
            eprintln!("{count} rounds of {AT_ONCE} cases at once: after {WARM_UP} {warm:?}, now {now:?}");
        }
    });
}
