//! Real tracers as targets: strace and gdb of the distribution, whose children are let go when they are born.

use std::path::Path;
use std::time::Duration;

use memcheck_harness::model::{At, Cancel, End, LaunchLimits, Name, Stdin};
use memcheck_harness::trace::{self, Ended, Launch, Next, Point};

use crate::tools::{built, system_program};

/// Through `main` and `exit` to the end.
#[track_caller]
fn through(program: &Path, args: &[&str], lets_children_go: bool) -> Ended {
    let launch = Launch {
        watch_stacks: false,
        program: program.to_path_buf(),
        argv0: Name::from(program.file_name().unwrap().to_str().unwrap()),
        args: args.iter().map(Into::into).collect(),
        env: Some(vec![("LC_ALL".into(), "C".into()), ("PATH".into(), "/usr/bin:/bin".into())]),
        cwd: std::env::temp_dir(),
        stdin: Stdin::Null,
        tty: false,
        limits: LaunchLimits::default(),
        cpus: None,
        fixed: true,
        timeout: Duration::from_secs(60),
        dies_with_us: false,
        lets_children_go,
        output_tail_bytes: 1 << 20,
    };
    let points = [At::Main, At::Exit].map(|at| Point::new(at, 1));
    let mut running = trace::launch(&launch, &points, &Cancel::new()).unwrap();
    let mut reached = Vec::new();
    loop {
        match running.next().unwrap() {
            Next::Paused(stopped, index) => {
                reached.push(index);
                running = stopped.resume();
            }
            Next::Ended(ended) => {
                assert_eq!(reached, [0, 1], "{ended:?}");
                return ended;
            }
        }
    }
}

fn said(ended: &Ended) -> String {
    let text = |name: &Name| name.to_string();
    format!("{}{}", text(&ended.output.stdout), text(&ended.output.stderr))
}

#[test]
fn strace_traces_its_children() {
    let strace = system_program("strace");
    let args = [
        "-f",
        "-e",
        "trace=execve,exit_group",
        "sh",
        "-c",
        "true; sh -c 'exit 3'; exit 5",
    ];
    let ended = through(&strace, &args, true);
    assert_eq!((&ended.end, &*ended.notes), (&End::Exited(5), &[][..]), "{}", said(&ended));
    let lines = said(&ended);
    assert!(lines.contains("exit_group(3)") && lines.contains("exit_group(5)"), "{lines}");
    let refused = through(&strace, &args, false);
    assert_eq!(refused.end, End::Exited(1));
    assert!(
        refused
            .notes
            .iter()
            .any(|note| note.contains("strace was not let trace a child of its own")),
        "{refused:?}"
    );
}

#[test]
fn gdb_runs_a_program_to_its_breakpoint() {
    let gdb = system_program("gdb");
    let program = built("threads").to_str().unwrap();
    let args = [
        "-batch",
        "-nx",
        "-ex",
        "break main",
        "-ex",
        "run",
        "-ex",
        "bt",
        "-ex",
        "kill",
        program,
    ];
    let ended = through(&gdb, &args, true);
    assert_eq!(ended.end, End::Exited(0), "{}", said(&ended));
    assert!(said(&ended).contains("#0  main ("), "{}", said(&ended));
    let refused = through(&gdb, &args, false);
    assert!(
        refused
            .notes
            .iter()
            .any(|note| note.contains("gdb was not let trace a child of its own")),
        "{refused:?}"
    );
    assert!(!said(&refused).contains("#0  main ("), "{}", said(&refused));
}
