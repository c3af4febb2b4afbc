//! Every kind of place that needs no preparation, on programs of the distribution that nobody prepared: sqlite3 and python3.
//! Where it stops is held against nm and `/proc`.

use std::fs;
use std::time::Duration;

use memcheck_harness::model::{At, Capture, Stream, SyscallAt, ThreadEdge, Touched};

use crate::stop::visit;
use crate::tools::{run, system_program};

const SQL: [&str; 2] = [
    ":memory:",
    "create table t(a); insert into t values (1); select 'row ' || a from t;",
];

const PYTHON: &str = "
import os, signal, threading, time, sqlite3
signal.signal(signal.SIGUSR1, lambda *_: None)
os.kill(os.getpid(), signal.SIGUSR1)
thread = threading.Thread(target=time.sleep, args=(0.01,)); thread.start(); thread.join()
print('ready on', 80, flush=True)
time.sleep(0.5)
";

/// Where a mapped file begins: its first mapping.
fn base(capture: &Capture, file: &str) -> Option<u64> {
    let mut regions = capture.regions.iter();
    let is_it = |name: &[u8]| {
        String::from_utf8_lossy(name)
            .rsplit('/')
            .next()
            .is_some_and(|last| last.starts_with(file))
    };
    regions
        .find(|region| region.offset == 0 && is_it(region.name.as_bytes()))
        .map(|region| region.start)
}

/// The file behind a mapped library, and value and size of a symbol of it by nm.
#[track_caller]
fn symbol(capture: &Capture, file: &str, name: &str) -> (u64, u64) {
    let path = capture.objects.iter().map(|object| object.path.to_string());
    let path = path
        .into_iter()
        .find(|path| path.contains(file))
        .unwrap_or_else(|| panic!("no {file}"));
    let text = run("nm", &["-D", "-S", "--defined-only", &path]);
    let line = text.lines().find(|line| {
        line.split_whitespace()
            .last()
            .is_some_and(|last| last.split('@').next() == Some(name))
    });
    let fields: Vec<&str> = line.unwrap_or_else(|| panic!("no {name}")).split_whitespace().collect();
    let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
    (hex(fields[0]), hex(fields[1]))
}

fn pc(stopped: &memcheck_harness::trace::Stopped) -> u64 {
    stopped.threads()[0].program_counter.unwrap()
}

#[test]
fn functions_of_a_library() {
    let step = || "sqlite3_step".to_owned();
    visit(
        &system_program("sqlite3"),
        &SQL,
        &[At::Function(step())],
        |_, stopped, capture, _| {
            let (value, _) = symbol(capture, "libsqlite3", "sqlite3_step");
            let entry = base(capture, "libsqlite3").unwrap() + value;
            assert_eq!(pc(stopped), entry, "at its first instruction");
        },
    );
    visit(
        &system_program("sqlite3"),
        &SQL,
        &[At::Returns(step())],
        |_, stopped, capture, _| {
            let (value, size) = symbol(capture, "libsqlite3", "sqlite3_step");
            let entry = base(capture, "libsqlite3").unwrap() + value;
            assert!(!(entry..entry + size).contains(&pc(stopped)), "it has been left");
        },
    );
}

#[test]
fn the_mapping_of_a_library() {
    // sqlite3's module of python, and with it the library, is loaded by `import`.
    let at = [At::Main, At::Library("libsqlite3".to_owned())];
    visit(&system_program("python3"), &["-c", PYTHON], &at, |index, _, capture, _| {
        assert_eq!(base(capture, "libsqlite3").is_some(), index == 1);
    });
}

#[test]
fn system_calls_signals_output_and_threads() {
    let clone = SyscallAt {
        name: "clone3".to_owned(),
        args: std::collections::BTreeMap::new(),
    };
    let at = [
        At::Exec,
        At::Main,
        At::Signal("SIGUSR1".to_owned()),
        At::Syscall(clone),
        At::Thread {
            edge: ThreadEdge::Start,
            name: None,
        },
        At::Output {
            pattern: "^ready on 80$".to_owned(),
            stream: Some(Stream::Stdout),
        },
        At::After(Duration::from_millis(20)),
        At::Exit,
    ];
    let mut threads = Vec::new();
    visit(&system_program("python3"), &["-c", PYTHON], &at, |index, stopped, _, _| {
        threads.push(stopped.threads().len());
        let pid = stopped.pid();
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        assert_eq!(maps.contains("libc.so.6"), index > 0, "before the loader runs, and after");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let kernels = status.lines().find_map(|line| line.strip_prefix("Threads:")).unwrap();
        assert_eq!(kernels.trim().parse(), Ok(stopped.threads().len()), "{index}");
    });
    assert_eq!(threads[..5], [1, 1, 1, 1, 2], "{threads:?}");
    visit(
        &system_program("python3"),
        &["-c", "import time; time.sleep(5)"],
        &[At::Idle],
        |_, stopped, _, _| {
            assert_eq!(stopped.threads().len(), 1);
        },
    );
}

/// A thread that runs out of its stack: python3 writes a list within a list within a list, and so on, by recursion in C.
#[test]
fn the_guard_of_a_stack() {
    const DEEP: &str = "
import sys, threading
deep = []
for _ in range(1000000): deep = [deep]
sys.setrecursionlimit(10000000)
threading.stack_size(256 << 10)
threading.Thread(target=repr, args=(deep,)).start()
";
    let at = [At::Touch(Touched::Guard)];
    visit(&system_program("python3"), &["-c", DEEP], &at, |_, stopped, capture, _| {
        let sp = stopped.threads().iter().filter_map(|thread| thread.stack_pointer);
        let is_guard = |sp: u64| {
            let mut regions = capture.regions.iter();
            // A function touches what it is about to use: below its stack pointer, or there.
            regions.any(|region| !region.perms.read && !region.perms.write && region.end.abs_diff(sp) < 1 << 16)
        };
        assert!(sp.into_iter().any(is_guard), "{:x?}", stopped.threads());
    });
}

#[test]
fn a_probe_that_python_brings_along() {
    let probe = At::Probe {
        provider: "python".to_owned(),
        name: "import__find__load__start".to_owned(),
    };
    visit(&system_program("python3"), &["-c", PYTHON], &[probe], |_, stopped, _, map| {
        assert_eq!(stopped.threads().len(), 1);
        assert!(map.breakpoint_anon_bytes > 0, "what we add is known");
    });
}

/// `None` of python is an object of 16 bytes in its data: too large for a watchpoint, and written all the time.
#[test]
fn memory_that_is_written() {
    let touch = |name: &str| At::Touch(Touched::Symbol(name.to_owned()));
    let python = system_program("python3");
    for name in ["_Py_NoneStruct", "Py_OptimizeFlag"] {
        visit(&python, &["-c", "pass"], &[touch(name)], |_, stopped, capture, map| {
            assert_eq!(map.breakpoint_anon_bytes, 0, "no code was changed");
            assert!(base(capture, "python3").is_some_and(|base| pc(stopped) > base), "{name}");
            assert!(stopped.patched().is_empty());
        });
    }
    visit(&python, &["-c", "pass"], &[At::Touch(Touched::Stack)], |_, _, capture, _| {
        let stacks = capture
            .regions
            .iter()
            .filter(|region| region.name.as_bytes() == b"[stack]")
            .count();
        assert_eq!(stacks, 1, "the mapping of the stack is one, as without us");
    });
}
