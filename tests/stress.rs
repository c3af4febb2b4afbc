//! Thread lists under fire: a program starts and ends threads all the time and is stopped again and again in the middle of it.
//! At each stop the classifier must agree with the kernel, and with what the program can never be.

#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use memcheck_harness::capture::{self, ObjectCache};
use memcheck_harness::classify::classify;
use memcheck_harness::model::{At, Cancel, LaunchLimits, MemoryMap, Name, Role, StackState, Stdin};
use memcheck_harness::trace::{self, Launch, Next, Point};

/// Stops in one run.
const STOPS: usize = 200;

/// Threads of the program that start and end others.
const SPAWNERS: usize = 3;

/// Threads that ended before the first stop and are never joined.
const LEFT: usize = 2;

/// How `churn.c` treats the threads it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Each is joined by the thread that started it.
    Joined,
    /// Nobody joins them, and nobody has to.
    Detached,
}

fn churn() -> (tempfile::TempDir, PathBuf) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("churn");
    #[expect(clippy::disallowed_methods, reason = "a test builds its own target")]
    let built = std::process::Command::new("cc")
        .args(["-O1", "-Wall", "-pthread", "-I"])
        .arg(here.join("../memcheck-probe/include"))
        .arg(here.join("fixtures/churn.c"))
        .arg("-o")
        .arg(&program)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    (dir, program)
}

/// Stops the program [`STOPS`] times and hands each stop's process id and map to `look`.
fn stopped(mode: Mode, mut look: impl FnMut(i32, &MemoryMap)) {
    let (dir, program) = churn();
    let args = if mode == Mode::Joined { "joined" } else { "detached" };
    let launch = Launch {
        watch_stacks: false,
        program,
        argv0: Name::from("churn"),
        args: vec![args.into(), SPAWNERS.to_string().into(), LEFT.to_string().into()],
        env: Some(vec![("LC_ALL".into(), "C".into())]),
        cwd: dir.path().to_path_buf(),
        stdin: Stdin::Null,
        tty: false,
        dies_with_us: true,
        lets_children_go: false,
        limits: LaunchLimits::default(),
        cpus: None,
        fixed: true,
        timeout: Duration::from_secs(120),
        output_tail_bytes: 1 << 16,
    };
    let at = At::Probe {
        provider: "memcheck".to_owned(),
        name: "tick".to_owned(),
    };
    let points: Vec<Point> = (1..=STOPS as u64).map(|hit| Point::new(at.clone(), hit)).collect();
    let mut objects = ObjectCache::default();
    let mut running = trace::launch(&launch, &points, &Cancel::new()).unwrap();
    for stop in 1..=STOPS {
        let stopped = match running.next().unwrap() {
            Next::Paused(stopped, _) => stopped,
            Next::Ended(ended) => panic!("ended before stop {stop}: {ended:#?}"),
        };
        let capture = capture::read(&stopped, &mut objects).unwrap();
        let memory = capture::memory(&stopped).unwrap();
        let map = classify(&capture, &memory, &|path| path.as_bytes().ends_with(b"churn"));
        look(stopped.pid(), &map);
        if stop == STOPS {
            let _ = stopped.kill().unwrap();
            return;
        }
        running = stopped.resume();
    }
}

/// Threads of a process that the kernel has not ended: a zombie's task is gone in all but name.
fn live_tasks(pid: i32) -> BTreeSet<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .filter(|tid: &i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).unwrap_or_default();
            let state = stat.rsplit(") ").next().unwrap_or_default();
            !state.is_empty() && !state.starts_with(['Z', 'X'])
        })
        .collect()
}

fn holds(pid: i32, map: &MemoryMap) {
    let told = || format!("{:#?}\n{:#?}", map.threads, map.notes);
    assert!(map.thread_lists_known, "{}", told());
    assert_eq!(map.sum(|role| role == Role::Unclassified).reserved, 0, "{}", told());
    let live: BTreeSet<i32> = map
        .threads
        .iter()
        .filter(|thread| thread.state == StackState::Live)
        .filter_map(|thread| thread.tid)
        .collect();
    assert_eq!(live, live_tasks(pid), "{}", told());
    // No stack twice, and none within another.
    let mut stacks: Vec<(u64, u64)> = map.threads.iter().filter_map(|thread| thread.stack).collect();
    stacks.sort_unstable();
    for pair in stacks.windows(2) {
        assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:x?}\n{}", told());
    }
    let tids: Vec<i32> = map.threads.iter().filter_map(|thread| thread.tid).collect();
    assert_eq!(tids.len(), tids.iter().collect::<BTreeSet<_>>().len(), "{}", told());
    // A byte of a stack has the role of its state.
    let roles: BTreeMap<u64, Role> = map.pieces.iter().map(|piece| (piece.start, piece.role)).collect();
    for thread in map.threads.iter().filter(|thread| !thread.main) {
        let Some((start, bytes)) = thread.stack else { continue };
        let expected = match thread.state {
            StackState::Live => Role::ThreadStackLive,
            StackState::Exited => Role::ThreadStackExited,
            StackState::Cached => Role::ThreadStackCached,
        };
        let top = roles.range(..start + bytes).next_back().map(|(_, role)| *role);
        assert!(
            matches!(top, Some(role) if role == expected || role == Role::Tls),
            "{top:?} for {thread:?}\n{}",
            told()
        );
    }
}

fn exited(map: &MemoryMap) -> usize {
    let exited = map.threads.iter().filter(|thread| thread.state == StackState::Exited);
    exited.count()
}

/// How many threads live, have ended, and left a stack for the next one. Their sum alone says little: a stack that is left is used again.
fn states(map: &MemoryMap) -> [usize; 3] {
    [StackState::Live, StackState::Exited, StackState::Cached]
        .map(|state| map.threads.iter().filter(|thread| thread.state == state).count())
}

#[test]
fn detached_threads_are_never_called_unjoined() {
    let mut seen = BTreeSet::new();
    stopped(Mode::Detached, |pid, map| {
        holds(pid, map);
        assert_eq!(exited(map), LEFT, "{:#?}", map.threads);
        seen.insert(states(map));
    });
    assert!(seen.len() > 2, "the stops saw threads come and go: {seen:?}");
}

#[test]
fn joined_threads_wait_for_their_join_at_most() {
    let mut seen = BTreeSet::new();
    stopped(Mode::Joined, |pid, map| {
        holds(pid, map);
        // Each spawner has one thread at a time that it is about to join.
        assert!((LEFT..=LEFT + SPAWNERS).contains(&exited(map)), "{:#?}", map.threads);
        seen.insert(states(map));
    });
    assert!(seen.len() > 2, "the stops saw threads come and go: {seen:?}");
}
