//! Golden messages: what a user reads, made from fabricated reports.

use super::super::fixtures::{
    KIB, broken, case as passed, checkpoint, limit, map, print, problem, run, snapshot, thread, unjoined,
};
use super::super::summary;
use super::*;
use crate::model::{ArenaFact, HeapFact, Name, ProblemKind, Role, StackState, ThreadFact};

const PLAIN: Style = Style {
    color: false,
    width: 80,
    verbose: 0,
};

fn text(report: &RunReport) -> String {
    print(|out| {
        for one in &report.cases {
            case(report, one, PLAIN, out)?;
        }
        summary(report, PLAIN, out)
    })
}

#[track_caller]
fn fits(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 80 || line.contains("cargo memcheck"), "{line}");
        assert_eq!(line.trim_end(), line);
    }
}

#[test]
fn one_more_unjoined_thread() {
    let text = text(&unjoined());
    fits(&text);
    assert_eq!(
        text,
        r#"        FAIL [   0.021s] (1/1) threads-unjoined @ spawned

  Budget exceeded: thread-stack.exited.count is 2, limit 1  (memcheck.toml:8)
  Snapshot differs: 2 rows

  Cause     1 more thread ended and is not joined or detached yet (2 in all):
            glibc keeps its stack mapped until pthread_join.
  Cost      +24 KiB anonymous memory; the other +8172 KiB is address space,
            guards included.
            Each stack: 8192 KiB reserved, equal to the stack limit (`ulimit
            -s`) the target runs with; 24 KiB anonymous.

                                approved        now     change  limit
  thread-stack.exited count            1          2         +1      1  OVER
                      reserved  8192 KiB  16384 KiB  +8192 KiB      -
                      anon        24 KiB     48 KiB    +24 KiB      -
  1 smaller change (guard): -v

  Same environment as approved. ASLR off, THP off, cpus 2.

  join threads   pthread_join or pthread_detach each; in C a thread may call
                 pthread_detach(pthread_self()), in Rust join or drop its
                 JoinHandle
  intended?      raise memcheck.toml:8, then
                 cargo memcheck accept threads-unjoined
                 (accept alone does not lift a budget)
  look closer    cargo memcheck -v threads-unjoined

measured 2 checkpoints in 1 case: 1 failed (1 budget, 1 snapshot)
"#
    );
}

#[test]
fn four_more_threads_with_an_arena_each() {
    let text = text(&server());
    fits(&text);
    assert_eq!(
        text,
        r#"        FAIL [   0.021s] (1/1) server @ ready

  Budget exceeded: thread-arena.count is 8 at ready, limit 4  (memcheck.toml:8)
  Snapshot differs: 5 rows

  Cause     4 more threads (8 now besides the main one: worker-{0..7}); 8
            threads, 8 arenas: one each.
  Cost      +208 KiB anonymous memory; the other +270192 KiB is address space,
            guards and signal stacks included.
            Each thread: 67600 KiB reserved, 52 KiB anonymous.
            glibc gives each thread that calls malloc at the same time as others
            its own arena: 64 MiB of address space each, of which only 1056 KiB
            are committed in all.

                                approved         now       change  limit
  thread-arena      count              4           8           +4      4  OVER
                    reserved  262144 KiB  524288 KiB  +262144 KiB      -
                    anon         176 KiB     352 KiB     +176 KiB      -
  thread-stack.live count              4           8           +4      -
                    reserved    8192 KiB   16384 KiB    +8192 KiB      -
                    anon          32 KiB      64 KiB      +32 KiB      -
  threads           count              5           9           +4      -
  2 smaller changes (signal-stack, guard): -v

  @ done: the same as @ ready.

  Same environment as approved.

  fewer arenas   env = { MALLOC_ARENA_MAX = "2" } in memcheck.toml, and in
                 production (glibc's own limit is 8 per core)
  intended?      raise memcheck.toml:8, then  cargo memcheck accept server
                 (accept alone does not lift a budget)
  look closer    cargo memcheck -v server

measured 2 checkpoints in 1 case: 1 failed (1 budget, 1 snapshot)
"#
    );
}

fn server() -> RunReport {
    let of = |threads: u64| {
        let each = [
            (Role::ThreadArena, 65536, 44),
            (Role::ThreadStackLive, 2048, 8),
            (Role::Guard, 4, 0),
            (Role::SignalStack, 12, 0),
        ];
        let items: Vec<_> = each.into_iter().flat_map(|item| (0..threads).map(move |_| item)).collect();
        let mut map = map(&items);
        map.threads.extend((0..threads).map(|i| ThreadFact {
            tid: Some(100 + i as i32),
            ..thread(&format!("worker-{i}"), false, StackState::Live)
        }));
        map.arenas = Some(
            (0..threads)
                .map(|i| ArenaFact {
                    address: i,
                    heaps: vec![HeapFact {
                        start: 0,
                        size_bytes: 132 * KIB,
                        committed_bytes: 132 * KIB,
                    }],
                    threads: Some(vec![100 + i as i32]),
                    ..ArenaFact::default()
                })
                .collect(),
        );
        map
    };
    let mut case = passed("server");
    let limits = vec![limit("thread-arena.count", 4, Some(8), 8)];
    case.checkpoints = vec![
        checkpoint("ready", Some(&of(4)), of(8), limits),
        checkpoint("done", Some(&of(4)), of(8), Vec::new()),
    ];
    case.checkpoints_planned = 2;
    case.snapshot.status = SnapshotStatus::Differs;
    case.snapshot.rows = 5;
    run(vec![case])
}

#[test]
fn a_broken_limit_without_an_approved_snapshot() {
    let mut case = passed("pool");
    let now = map(&[(Role::ThreadStackExited, 8192, 24), (Role::ThreadStackExited, 8192, 24)]);
    case.checkpoints = vec![checkpoint(
        "end",
        None,
        now,
        vec![
            limit("thread-stack.exited.count", 1, Some(2), 8),
            limit("main-heap.used", 4096, None, 9),
        ],
    )];
    case.checkpoints[0].limits[1].reason = "chunks are not walked yet".to_owned();
    case.snapshot.status = SnapshotStatus::New;
    let text = text(&run(vec![case]));
    fits(&text);
    assert_eq!(
        text,
        r#"        FAIL [   0.021s] (1/1) pool @ end

  Budget exceeded: thread-stack.exited.count is 2, limit 1  (memcheck.toml:8)
  Budget not judged: main-heap.used is not known here: chunks are not walked
    yet (memcheck.toml:9)
  Snapshot missing: no approved snapshot yet: cargo memcheck accept pool

  Cause     2 threads ended and are not joined or detached yet: glibc keeps
            their stacks mapped until pthread_join.
  Cost      16 MiB reserved, 48 KiB anonymous in all.
            Each stack: 8192 KiB reserved, equal to the stack limit (`ulimit
            -s`) the target runs with; 24 KiB anonymous.

                                approved        now  change  limit
  thread-stack.exited count            -          2       -      1  OVER
                      reserved         -  16384 KiB       -      -
                      anon             -     48 KiB       -      -
  main-heap           used             -    unknown       -  4 KiB  ?

  Same environment as approved.

  join threads   pthread_join or pthread_detach each; in C a thread may call
                 pthread_detach(pthread_self()), in Rust join or drop its
                 JoinHandle
  intended?      raise memcheck.toml:8, then  cargo memcheck accept pool
                 (accept alone does not lift a budget)
  look closer    cargo memcheck -v pool

measured 1 checkpoint in 1 case: 1 failed (1 budget, 1 snapshot)
"#
    );
}

#[test]
fn a_checkpoint_that_was_not_reached() {
    let mut case = problem(passed("pool"), ProblemKind::NotJudged);
    case.checkpoints_planned = 2;
    case.end = Some(crate::model::End::Exited(1));
    if let Some(problem) = &mut case.problem {
        problem.details = vec!["did you mean `spawn`? probes of this program: spawn, ready".to_owned()];
    }
    case.output.stderr = Name::new(&b"starting\n\x1b[2J::error::pwned\n"[..]);
    case.output.stderr_dropped_bytes = 70;
    let text = text(&run(vec![case]));
    fits(&text);
    assert_eq!(
        text,
        r#"        FAIL [   0.021s] (1/1) pool

  Could not judge: checkpoint `spawned` was not reached
    did you mean `spawn`? probes of this program: spawn, ready

  Reached   start (1 of 2 checkpoints)
  Ended     exit code 1

  The target's standard error (70 bytes before were dropped)
  | starting
  | \x1b[2J::error::pwned

measured 1 checkpoint in 1 case: 1 failed (1 not judged)
"#
    );
}

#[test]
fn a_warning_and_a_pass_are_one_line_each() {
    let mut report = run(vec![passed("a"), snapshot(passed("b"), SnapshotStatus::Differs)]);
    report
        .environment_status
        .differences
        .push(("glibc".to_owned(), "2.36".to_owned(), "2.41".to_owned()));
    let text = text(&report);
    assert_eq!(
        text.lines().take(2).collect::<Vec<_>>(),
        [
            "        PASS [   0.021s] (1/2) a",
            "        WARN [   0.021s] (2/2) b: snapshot differs, 3 rows"
        ]
    );
}

#[test]
fn names_only_differ_then_the_difference_itself_is_shown() {
    let mut case = snapshot(passed("a"), SnapshotStatus::Differs);
    case.snapshot.rows = 0;
    case.snapshot.diff = "-  platform  libc.so.6\n+  platform  libc.so.7\n".to_owned();
    let text = text(&run(vec![case]));
    assert!(
        text.contains("  Snapshot differs: names or the hardening line, no row\n"),
        "{text}"
    );
    assert!(
        text.contains("\n  -  platform  libc.so.6\n  +  platform  libc.so.7\n"),
        "{text}"
    );
    assert!(text.contains("  intended?      cargo memcheck accept a\n"), "{text}");
}

#[test]
fn verbose_shows_everything_and_colour_changes_no_word() {
    let report = unjoined();
    let verbose = Style { verbose: 1, ..PLAIN };
    let all = print(|out| case(&report, &report.cases[0], verbose, out));
    for part in [
        "+  guard  +2",
        "limit: thread-stack.exited.count is 2, max 1  (memcheck.toml:8)",
        "guard",
    ] {
        assert!(all.contains(part), "{part}\n{all}");
    }
    assert!(!all.contains("look closer"));
    let colored = print(|out| case(&report, &report.cases[0], Style { color: true, ..PLAIN }, out));
    assert!(colored.contains("\x1b["));
    let mut plain = String::new();
    let mut rest = colored.as_str();
    while let Some((before, after)) = rest.split_once('\x1b') {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |split| split.1);
    }
    plain.push_str(rest);
    assert_eq!(plain, print(|out| case(&report, &report.cases[0], PLAIN, out)));
}

#[test]
fn hostile_names_are_harmless() {
    let evil = "x\x1b]0;t\x07\r\n::error::y\u{202e}";
    let mut case = broken(problem(passed(evil), ProblemKind::NotJudged));
    case.package = Some(evil.to_owned());
    case.notes.push(evil.to_owned());
    case.snapshot.status = SnapshotStatus::Differs;
    case.snapshot.diff = evil.to_owned();
    case.snapshot.varying.push(evil.to_owned());
    case.output.stdout = Name::from(evil);
    case.checkpoints[0].name = evil.to_owned();
    case.checkpoints[0].at = evil.to_owned();
    case.checkpoints[0].limits[0].origin.file = evil.to_owned();
    if let Some(problem) = &mut case.problem {
        problem.title = evil.to_owned();
        problem.details.push(evil.to_owned());
    }
    let mut now = map(&[(Role::FileMap, 4, 0)]);
    now.items[0].subject = Name::from(evil);
    case.checkpoints.push(checkpoint("b", Some(&map(&[])), now, Vec::new()));
    let mut report = run(vec![case.clone(), case]);
    report
        .environment_status
        .differences
        .push((evil.to_owned(), evil.to_owned(), evil.to_owned()));
    for verbose in [0, 1] {
        let style = Style { verbose, ..PLAIN };
        let text = print(|out| {
            super::case(&report, &report.cases[0], style, out)?;
            summary(&report, style, out)
        });
        assert!(!text.contains(['\x1b', '\r', '\u{7}', '\u{202e}']), "{text}");
        assert!(text.lines().all(|line| !line.trim_start().starts_with("::")), "{text}");
    }
}

#[test]
fn a_broken_pipe_is_the_callers() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let report = unjoined();
    let error = case(&report, &report.cases[0], PLAIN, &mut Closed).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn a_long_name_breaks_no_command_and_no_column() {
    let mut run = unjoined();
    run.cases[0].name = "a-name-of-more-than-thirty-characters".to_owned();
    let text = text(&run);
    assert!(
        text.contains(
            "  intended?      raise memcheck.toml:8, then\n                 cargo memcheck accept a-name-of-more-than-thirty-characters\n"
        ),
        "{text}"
    );
    fits(&text);
}

#[test]
fn what_is_the_same_as_one_of_several_is_said_once_for_each() {
    let sections = Sections {
        affected: Vec::new(),
        full: Vec::new(),
        same: vec![
            ("here.3", "here.1"),
            ("here.4", "here.2"),
            ("here.5", "here.1"),
            ("here.6", "here.2"),
        ],
        left: Vec::new(),
    };
    let text = print(|out| repetitions(&sections, PLAIN, out));
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(
        lines,
        [
            "@ here.3, here.5: the same as @ here.1.",
            "@ here.4, here.6: the same as @ here.2."
        ]
    );
}
