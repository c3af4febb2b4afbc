//! `cargo memcheck show --at PLACE -- PROGRAM` for every kind of place that the command knows, on programs of the distribution that
//! nobody prepared: sqlite3 and python3. Behind the feature `oracles`, as it needs both; where each stops is held against nm and
//! `/proc` by `oracles/kinds.rs`.

use std::collections::BTreeSet;

use tests::{Project, Run};

use super::memcheck;

const SQL: [&str; 3] = [
    "/usr/bin/sqlite3",
    ":memory:",
    "create table t(a); insert into t values (1); select 'row ' || a from t;",
];

/// A signal, a thread, lines on both streams, a library, and a rest.
const BUSY: &str = "
import os, signal, threading, time, sqlite3, sys
signal.signal(signal.SIGUSR1, lambda *_: None)
os.kill(os.getpid(), signal.SIGUSR1)
thread = threading.Thread(target=time.sleep, args=(0.01,)); thread.start(); thread.join()
print('ready on', 80, flush=True)
print('warned', file=sys.stderr, flush=True)
time.sleep(0.5)
";
const PYTHON: [&str; 3] = ["/usr/bin/python3", "-c", BUSY];

/// A list within a list within a list, written by recursion in C on a small stack.
const DEEP: &str = "
import sys, threading
deep = []
for _ in range(1000000): deep = [deep]
sys.setrecursionlimit(10000000)
threading.stack_size(256 << 10)
threading.Thread(target=repr, args=(deep,)).start()
";
const RECURSION: [&str; 3] = ["/usr/bin/python3", "-c", DEEP];

/// How the command tells a place, one such place, where it is, and how the table calls it. The two places that need a program built
/// for them have tests of their own: a line, and the end of steps, which only a case has.
const PLACES: [(&str, &str, [&str; 3], &str); 19] = [
    ("exec", "exec", SQL, "sqlite3 @ exec"),
    ("main", "main", SQL, "sqlite3 @ main"),
    ("exit", "exit", SQL, "sqlite3 @ exit"),
    (
        "probe:NAME",
        "probe:python:import__find__load__start",
        PYTHON,
        "python3 @ probe python:import__find__load__start",
    ),
    (
        "function:SYMBOL",
        "function:sqlite3_step",
        SQL,
        "sqlite3 @ function sqlite3_step",
    ),
    (
        "returns:SYMBOL",
        "returns:sqlite3_step",
        SQL,
        "sqlite3 @ return of sqlite3_step",
    ),
    ("syscall:NAME", "syscall:clone3", PYTHON, "python3 @ syscall clone3"),
    ("signal:NAME", "signal:SIGUSR1", PYTHON, "python3 @ signal SIGUSR1"),
    ("output:REGEX", "output:^row [0-9]$", SQL, "sqlite3 @ output /^row [0-9]$/"),
    (
        "stdout:REGEX",
        "stdout:^ready on 80$",
        PYTHON,
        "python3 @ stdout /^ready on 80$/",
    ),
    ("stderr:REGEX", "stderr:^warned", PYTHON, "python3 @ stderr /^warned/"),
    ("thread:start[:NAME]", "thread:start", PYTHON, "python3 @ start of a thread"),
    (
        "thread:end[:NAME]",
        "thread:end:python3",
        PYTHON,
        "python3 @ end of thread python3",
    ),
    ("library:NAME", "library:libsqlite3", PYTHON, "python3 @ library libsqlite3"),
    (
        "touch:VARIABLE",
        "touch:Py_OptimizeFlag",
        PYTHON,
        "python3 @ touch of Py_OptimizeFlag",
    ),
    ("touch:guard", "touch:guard", RECURSION, "python3 @ touch of a guard page"),
    ("touch:stack", "touch:stack", PYTHON, "python3 @ touch of a stack"),
    ("after:TIME", "after:50ms", PYTHON, "python3 @ after 50 ms"),
    ("idle", "idle", PYTHON, "python3 @ idle"),
];

#[track_caller]
fn show(project: &Project, at: &str, program: &[&str]) -> Run {
    memcheck(project, &[&["show", "--at", at, "--"], program].concat())
}

/// Exactly this stop is shown, with a table that adds up to something.
#[track_caller]
fn is_shown(run: &Run, title: &str) {
    let mut titles = run.stdout.lines().filter(|line| line.contains(" @ "));
    assert_eq!((titles.next(), titles.next()), (Some(title), None), "{run:?}");
    let total = run.stdout.lines().find_map(|line| line.strip_prefix("  total "));
    let total: Vec<u64> = total
        .unwrap_or_else(|| panic!("no total: {run:?}"))
        .split_whitespace()
        .map(|figure| figure.parse().unwrap())
        .collect();
    assert!(
        total.len() == 4 && total[0] >= total[1] && total[1] >= total[2] && total[2] > 0,
        "{run:?}"
    );
}

#[test]
fn every_kind_of_place_in_programs_that_nobody_prepared() {
    let project = Project::new();
    for (_, at, program, title) in PLACES {
        let run = show(&project, at, &program).expect_code(0);
        is_shown(&run, title);
        // One that stops at the end tells how that was; all others were ended by us.
        assert_eq!(run.stdout.contains("  end:  it exited with code 0"), at == "exit", "{run:?}");
    }
    assert!(project.files().is_empty());
}

/// A kind that is new is a line to be written in `PLACES`.
#[test]
fn every_kind_that_the_command_knows_is_shown() {
    let told = show(&Project::new(), "nowhere", &SQL).expect_code(2).stderr;
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    let (_, list) = told.split_once("places: ").unwrap();
    let told: BTreeSet<&str> = list.split_once(';').unwrap().0.split(", ").collect();
    let shown: BTreeSet<&str> = PLACES.iter().map(|(spelling, ..)| *spelling).collect();
    let others = ["line:FILE:LINE", "step-done"];
    assert_eq!(told, shown.into_iter().chain(others).collect());
}

/// The sixth line of `work.c`, wherever the line tables are: in the program, in a file that was split off, compressed there as
/// distributions do it, or beside a `.dwo` file.
#[test]
fn a_line_of_a_program_with_debug_information() {
    const SOURCE: &str = "#include <stdlib.h>\nchar *volatile block;\nint main(void) {\n    block = malloc(1 << 20);\n    \
                          block[0] = 1;\n    free(block);\n    return 0;\n}\n";
    let project = Project::new().file("work.c", SOURCE);
    let sh = |line: &str| {
        let _ = super::shell(&project, line).expect_code(0);
    };
    sh("gcc -g -O1 -o plain work.c");
    sh(
        "gcc -g -O1 -o split work.c && objcopy --only-keep-debug split split.debug && objcopy -g --add-gnu-debuglink=split.debug split",
    );
    sh(
        "gcc -g -O1 -o packed work.c && objcopy --only-keep-debug --compress-debug-sections packed packed.debug && \
        objcopy -g --add-gnu-debuglink=packed.debug packed",
    );
    sh("gcc -g -gsplit-dwarf -O1 -o dwo work.c");
    for name in ["plain", "split", "packed", "dwo"] {
        let run = show(&project, "line:work.c:6", &[&format!("./{name}")]).expect_code(0);
        is_shown(&run, &format!("{name} @ line work.c:6"));
        // Allocated and not freed: a mapping of its own.
        assert!(run.stdout.contains("  mmap-chunk "), "{run:?}");
    }
    sh("gcc -O1 -o bare work.c");
    let run = show(&project, "line:work.c:6", &["./bare"]).expect_code(7);
    let said = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("has line tables for work.c: compile with -g"), "{run:?}");
}

/// There are steps in a case only.
#[test]
fn the_end_of_steps() {
    const SOURCE: &str =
        "#include <unistd.h>\n#include \"memcheck.h\"\nint main(void) { MEMCHECK_CHECKPOINT(ready); for (;;) pause(); }\n";
    let rest = "checkpoint = [{ name = \"ready\" }, { name = \"done\", at = \"step-done\" }]\n\
                [[case.step]]\nafter = \"ready\"\nrun = [\"sleep\", \"0.2\"]\n";
    let project = super::one("server", SOURCE, rest);
    let run = memcheck(&project, &["show", "server", "--at", "step-done"]).expect_code(0);
    is_shown(&run, "server @ step-done");
    let _ = show(&project, "step-done", &SQL)
        .expect_code(2)
        .expect_stderr("has no step whose end could be waited for");
}
