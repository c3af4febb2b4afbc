//! The library without the command: a recorded capture says the same offline, and a case gives the same text on a busy
//! machine, many times at once.

#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use memcheck_harness::capture::{self, ObjectCache};
use memcheck_harness::classify::classify;
use memcheck_harness::config::{self, Overrides};
use memcheck_harness::model::{
    At, Cancel, Capture, Case, CheckpointSpec, Defaults, LaunchLimits, MemoryMap, Metric, Name, Plan, ProblemKind, Reading,
    Recording, Role, Stdin, SyscallAt, Target,
};
use memcheck_harness::pipeline::{self, Event, Options};
use memcheck_harness::trace::{self, Launch, Next, Point};
use memcheck_harness::{build, normalize};

#[path = "support/proc_tree.rs"]
mod proc_tree;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The plan of this repository's own suite, reduced to one case.
fn plan(case: &str) -> Plan {
    let source = config::locate(&repository()).unwrap().unwrap();
    let workspace = build::discover(&source.root).unwrap();
    let overrides = Overrides {
        filters: vec![case.to_owned()],
        exact: true,
        ..Overrides::default()
    };
    let mut plan = config::plan(&source, workspace.as_ref(), &overrides, capture::page_bytes_here().unwrap()).unwrap();
    assert_eq!(plan.cases.len(), 1, "{case} is a case of memcheck.toml");
    // Builds of tests beside each other, and beside `cargo memcheck`, need no common lock.
    plan.data_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(case);
    plan
}

fn options() -> Options {
    Options {
        jobs: 1,
        write_pending: false,
        pending_dir: None,
        inherited: Vec::new(),
        ci: false,
        today: memcheck_harness::capture::today(),
    }
}

fn launch(case: &Case, program: &Path) -> Launch {
    Launch {
        watch_stacks: false,
        program: program.to_path_buf(),
        argv0: Name::from("program"),
        args: case.args.iter().map(Into::into).collect(),
        env: Some(vec![("LC_ALL".into(), "C".into())]),
        cwd: case.cwd.clone(),
        stdin: Stdin::Null,
        tty: false,
        dies_with_us: false,
        lets_children_go: false,
        limits: LaunchLimits::default(),
        cpus: None,
        fixed: true,
        timeout: Duration::from_secs(30),
        output_tail_bytes: 1024,
    }
}

/// Live: what a thread list, a heap and a stack say of themselves is followed in the target's memory. Offline: the same
/// words come from the recording.
#[test]
fn a_recorded_capture_says_the_same_offline() {
    let plan = plan("threads-two-unjoined");
    let case = &plan.cases[0];
    let cancel = Cancel::new();
    let binaries = build::build(&plan, None, &cancel, &|_| {}).unwrap();
    let binary = binaries[0].as_ref().unwrap();
    let own = config::ownership(&plan).unwrap();
    let points: Vec<Point> = case
        .checkpoints
        .iter()
        .map(|spec| Point::new(spec.at.clone(), spec.hit))
        .collect();
    assert!(points.iter().all(|point| matches!(point.at, At::Probe { .. })));

    let mut objects = ObjectCache::default();
    let mut running = trace::launch(&launch(case, &binary.path), &points, &cancel).unwrap();
    let mut seen = Vec::new();
    while let Next::Paused(stopped, index) = running.next().unwrap() {
        let (captured, memory) = capture::look(&stopped, Reading::EVERYTHING, &mut objects).unwrap();
        let live = classify(&captured, &memory, &own);
        let complete = Capture {
            recording: memory.into_recording(),
            ..captured
        };
        let text = serde_json::to_string(&complete).unwrap();
        let read: Capture = serde_json::from_str(&text).unwrap();
        assert_eq!(read, complete);
        assert_eq!(
            classify(&read, &read.recording, &own),
            live,
            "at {}",
            case.checkpoints[index].name
        );
        // The comparison means something: without the recording less is known.
        assert_ne!(classify(&read, &Recording::default(), &own), live);
        seen.push(live);
        running = stopped.resume();
    }
    assert_eq!(seen.len(), points.len());
    assert_eq!(seen[2].sum(|role| role == Role::ThreadStackExited).count, 2);
}

/// Ten at once while both processors are kept busy.
#[test]
fn the_same_text_every_time() {
    let plan = plan("threads-two-unjoined");
    let cancel = Cancel::new();
    let binaries = build::build(&plan, None, &cancel, &|_| {}).unwrap();
    let done = AtomicBool::new(false);
    let texts: Vec<String> = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let runs: Vec<_> = (0..10)
            .map(|_| scope.spawn(|| pipeline::run_built(&plan, &binaries, &options(), &cancel, &|_| {})))
            .collect();
        let ended: Vec<_> = runs.into_iter().map(|run| run.join()).collect();
        // Before anything can fail: the load ends only when it is told so.
        done.store(true, Ordering::Relaxed);
        ended
            .into_iter()
            .map(|run| {
                let report = run.unwrap().unwrap();
                let case = &report.cases[0];
                assert!(case.problem.is_none(), "{:?}", case.problem);
                case.snapshot.text.clone()
            })
            .collect()
    });
    assert!(texts[0].contains("thread-stack.exited"), "{}", texts[0]);
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:#?}");
    let states = normalize::parse(&texts[0]).unwrap();
    assert_eq!(normalize::render(&states), texts[0]);
}

/// What `show` calls the total is what the kernel sums itself, of the same stopped process: as is and with our settings.
#[test]
fn totals_equal_the_kernels_own_sums() {
    for as_is in [true, false] {
        let program = Target::Command {
            program: "/bin/sh".to_owned(),
        };
        let mut case = Case::new("sh", std::env::temp_dir(), program);
        case.args = ["-c", "x=$(echo 1); true"].map(str::to_owned).to_vec();
        case.as_is = as_is;
        case.checkpoints = [("exec", At::Exec), ("main", At::Main), ("exit", At::Exit)]
            .map(|(name, at)| CheckpointSpec::new(name, at))
            .to_vec();
        let plan = plan_of(case);
        let seen = Mutex::new(Vec::new());
        let reports = pipeline::observe(&plan, None, &options(), &Cancel::new(), &|event| {
            if let Event::Stopped {
                checkpoint, pid, map, ..
            } = event
            {
                let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
                seen.lock().unwrap().push((checkpoint, text, map.clone()));
            }
        })
        .unwrap();
        assert!(reports[0].problem.is_none(), "{:?}", reports[0].problem);
        let seen = seen.into_inner().unwrap();
        assert_eq!(seen.iter().map(|(index, ..)| *index).collect::<Vec<_>>(), [0, 1, 2]);
        for ((_, text, map), stop) in seen.iter().zip(&reports[0].checkpoints) {
            assert_eq!(map, &stop.map);
            let total = |name: &str| -> u64 {
                let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
                line.trim_start_matches(':')
                    .trim()
                    .trim_end_matches(" kB")
                    .parse::<u64>()
                    .unwrap()
                    << 10
            };
            assert_eq!(map.process.resident, Some(total("Rss")), "{text}");
            assert_eq!(
                map.process.anon.map(|bytes| bytes + map.breakpoint_anon_bytes),
                Some(total("Anonymous")),
                "{text}"
            );
            let all = map.sum(|_| true);
            assert_eq!(Some(all.reserved), map.process.reserved);
            assert_eq!(
                (all.resident, all.anon),
                (Some(total("Rss")), Some(total("Anonymous"))),
                "{text}"
            );
        }
    }
}

/// What several processes share counts once: by what the fixture knows, by the kernel's own sums, and (for root) by the pages
/// themselves. All of them stand still meanwhile.
#[test]
fn a_tree_is_summed_with_shared_pages_once() {
    let measured = |pages: [u64; 4]| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tree.c");
        let target = Target::C {
            sources: vec![source],
            cflags: vec!["-O1".to_owned()],
            ldflags: Vec::new(),
            compiler: None,
        };
        let mut case = Case::new("tree", std::env::temp_dir(), target);
        case.args = pages.map(|count| count.to_string()).to_vec();
        case.tree = true;
        let call = SyscallAt {
            name: "getppid".to_owned(),
            args: BTreeMap::new(),
        };
        case.checkpoints = vec![CheckpointSpec::new("all", At::Syscall(call))];
        let mut plan = plan_of(case);
        plan.data_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tree");
        let seen = Mutex::new(None);
        let reports = pipeline::observe(&plan, None, &options(), &Cancel::new(), &|event| {
            if let Event::Stopped { pid, map, .. } = event {
                *seen.lock().unwrap() = Some((proc_tree::looked_at(pid), map.clone()));
            }
        })
        .unwrap();
        assert!(reports[0].problem.is_none(), "{:?}", reports[0].problem);
        seen.into_inner().unwrap().unwrap()
    };
    let (plain, less) = measured([100, 0, 0, 0]);
    let (copied, more) = measured([200, 10, 20, 40]);
    let of = |map: &MemoryMap, name: &str| map.metric(&Metric::parse(name).unwrap()).unwrap();
    for (looked, map) in [(&plain, &less), (&copied, &more)] {
        assert_eq!(of(map, "tree.processes"), 4);
        assert_eq!(of(map, "tree.shared"), 32 * 4096);
        assert_eq!((looked.processes, looked.running), (4, 0), "all stand");
        let anon = of(map, "tree.anon") + map.breakpoint_anon_bytes;
        assert!((looked.pss_anon..looked.pss_anon + 4096).contains(&anon), "{anon} {looked:?}");
        if let Some(pages) = looked.anon_frames {
            assert_eq!(anon, pages * 4096, "{looked:?}");
        }
    }
    let grown = of(&more, "tree.anon") - of(&less, "tree.anon");
    // The kernel writes the number of the processor to a page of each memory when it moves a process (rseq(2)): whether that page is
    // still shared is the scheduler's matter.
    assert!(grown.abs_diff((100 + 10 + 20 + 40) * 4096) <= 3 * 4096, "{grown}");
    // The sum over the processes would have counted the block three times.
    assert!(of(&less, "process.anon") * 3 > of(&less, "tree.anon") + 200 * 4096);
}

/// A fault of the tool in one case is that case's problem: the others have their results, and the target is gone.
#[test]
fn a_panic_within_a_case_is_its_own() {
    let plan = plan_of(shell("first"));
    let plan = Plan {
        cases: ["first", "second", "third"].map(shell).to_vec(),
        ..plan
    };
    let pids = Mutex::new(Vec::new());
    let reports = pipeline::observe(&plan, None, &options(), &Cancel::new(), &|event| {
        if let Event::Stopped { case, pid, .. } = event {
            pids.lock().unwrap().push(pid);
            assert!(case.name != "second", "planted: {}", case.name);
        }
    })
    .unwrap();
    let problems: Vec<_> = reports.iter().map(|report| report.problem.as_ref()).collect();
    assert_eq!((problems[0], problems[2]), (None, None));
    let problem = problems[1].unwrap();
    assert_eq!(problem.kind, ProblemKind::Tool);
    assert!(problem.title.contains("panicked: planted: second"), "{problem:?}");
    for pid in pids.into_inner().unwrap() {
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
    for report in [&reports[0], &reports[2]] {
        assert_eq!(report.checkpoints.len(), 1);
    }
}

fn shell(name: &str) -> Case {
    let program = Target::Command {
        program: "/bin/sh".to_owned(),
    };
    let mut case = Case::new(name, std::env::temp_dir(), program);
    case.checkpoints = vec![CheckpointSpec::new("exec", At::Exec)];
    case
}

/// A plan of one case that no file holds.
fn plan_of(case: Case) -> Plan {
    Plan {
        root: std::env::temp_dir(),
        file: "memcheck.toml".into(),
        is_cargo: false,
        data_dir: Path::new(env!("CARGO_TARGET_TMPDIR")).join("observe"),
        defaults: Defaults::default(),
        cases: vec![case],
        cases_in_file: 1,
        partition: None,
    }
}
