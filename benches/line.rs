//! The line on prebuilt binaries, against its peers in the same run: `gdb -batch` with three `info proc mappings`, massif and
//! heaptrack, and plainly spawning the same processes. Ends with 1 when a ratio is above its limit or a peer is missing.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use benches::{Contender, Fallible, Reach, Table, compile, times};
use memcheck_harness::error::Result;
use memcheck_harness::model::{At, Binary, Cancel, Case, CheckpointSpec, Defaults, Name, Plan, Target};
use memcheck_harness::pipeline::{self, Options};

const SOURCE: &str = r#"
#include "memcheck.h"
#include <stdlib.h>
#include <string.h>
__attribute__((noinline)) void first(void) { MEMCHECK_CHECKPOINT(first); }
__attribute__((noinline)) void second(void) { MEMCHECK_CHECKPOINT(second); }
__attribute__((noinline)) void third(void) { MEMCHECK_CHECKPOINT(third); }
int main(void) {
    first();
    char *block = malloc(1 << 20);
    memset(block, 1, 1 << 20);
#ifdef ALLOCATIONS
    static char *blocks[ALLOCATIONS];
    for (int i = 0; i < ALLOCATIONS; i++) blocks[i] = malloc(16 + i % 97);
    for (int i = 0; i < ALLOCATIONS; i += 2) free(blocks[i]);
#endif
    second();
    free(block);
    third();
    return 0;
}
"#;

/// Cases of the suite bench.
const CASES: usize = 100;

const SMALL: &str = "whole run of a small program, 3 checkpoints / gdb";
const SUITE: &str = "100 cases with 3 checkpoints / plain spawns";
/// Names of the rows of one whole run of a program that allocates, and their limits.
const WHOLE: [(&str, f64); 3] = [
    ("60 000 allocations, 3 checkpoints / gdb", 0.06),
    ("60 000 allocations, 3 checkpoints / massif", 0.05),
    ("60 000 allocations, 3 checkpoints / heaptrack", 0.08),
];

fn main() -> ExitCode {
    let mut table = Table::from_arguments();
    let result = run(&mut table);
    table.end(result)
}

fn run(table: &mut Table) -> Fallible<()> {
    let dir = tempfile::tempdir()?;
    let program = compile(dir.path(), "bench", SOURCE, &[])?;
    let worker = compile(dir.path(), "worker", SOURCE, &["-DALLOCATIONS=60000"])?;
    let one = plan(dir.path(), 1);
    if table.wants(&[SMALL], Reach::Far) {
        let mut contenders = [Contender::new(|| measure(&one, &program)), Contender::new(|| gdb(&program))];
        let times = times(&mut contenders, table.rounds(11));
        table.row(SMALL, &times[0], &times[1], 0.06)?;
    }
    let peers: [&dyn Fn(); 3] = [
        &|| gdb(&worker),
        &|| profile(&["valgrind", "--tool=massif", "--massif-out-file=/dev/null"], &worker),
        &|| profile(&["heaptrack", "-o", &dir.path().join("heap").to_string_lossy()], &worker),
    ];
    for ((name, limit), peer) in WHOLE.into_iter().zip(peers) {
        // heaptrack is the only one that CI does not have.
        let reach = if name.ends_with("heaptrack") {
            Reach::Near
        } else {
            Reach::Far
        };
        if table.wants(&[name], reach) {
            let mut contenders = [Contender::new(|| measure(&one, &worker)), Contender::new(peer)];
            let times = times(&mut contenders, table.rounds(11));
            table.row(name, &times[0], &times[1], limit)?;
        }
    }
    if table.wants(&[SUITE], Reach::Near) {
        let many = plan(dir.path(), CASES);
        let mut contenders = [
            Contender::new(|| measure(&many, &program)),
            Contender::new(|| spawn_all(&program)),
        ];
        let times = times(&mut contenders, table.rounds(11));
        table.row(SUITE, &times[0], &times[1], 2.5)?;
    }
    Ok(())
}

/// Measures every case of the plan; a bench of something that failed would be a lie.
fn measure(plan: &Plan, program: &Path) {
    let binary = Binary {
        path: program.to_path_buf(),
        label: "bench".to_owned(),
        script: false,
        toolchain: None,
        argv0: Name::from("bench"),
    };
    let binaries: Vec<Result<Binary>> = plan.cases.iter().map(|_| Ok(binary.clone())).collect();
    let options = Options {
        jobs: jobs(),
        write_pending: false,
        pending_dir: None,
        inherited: Vec::new(),
        ci: false,
        today: memcheck_harness::capture::today(),
    };
    let report = pipeline::run_built(plan, &binaries, &options, &Cancel::new(), &|_| {});
    let measured = report.map(|report| report.checkpoints());
    assert_eq!(measured, Ok(plan.cases.len() * 3));
}

/// Spawns and reaps the same processes, as many at a time as the line measures, in the environment that it gives them: cargo's own makes
/// the loader look for libraries in more places.
#[expect(clippy::disallowed_methods, reason = "the peer of the bench is a plain spawn")]
fn spawn_all(program: &Path) {
    let started = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs() {
            scope.spawn(|| {
                while started.fetch_add(1, Ordering::SeqCst) < CASES {
                    let status = Command::new(program)
                        .env_clear()
                        .env("LC_ALL", "C")
                        .stdin(Stdio::null())
                        .stdout(Stdio::piped())
                        .stderr(Stdio::piped())
                        .status();
                    assert!(status.is_ok_and(|status| status.success()), "the peer failed");
                }
            });
        }
    });
}

/// Runs the program below another one that follows its allocations.
#[expect(clippy::disallowed_methods, reason = "the peers of the bench are other people's programs")]
fn profile(command: &[&str], program: &Path) {
    let status = Command::new(command[0])
        .args(&command[1..])
        .arg(program)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "{} is needed for this bench",
        command[0]
    );
}

#[expect(clippy::disallowed_methods, reason = "the peer of the bench is gdb")]
fn gdb(program: &Path) {
    let mut command = Command::new("gdb");
    command.args(["-nx", "-batch", "-ex", "set pagination off"]);
    for function in ["first", "second", "third"] {
        command.args(["-ex", &format!("break {function}")]);
    }
    command.args(["-ex", "run"]);
    for _ in 0..3 {
        command.args(["-ex", "info proc mappings", "-ex", "continue"]);
    }
    let output = command.arg(program).stdin(Stdio::null()).output();
    let text = output
        .map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
        .unwrap_or_default();
    assert_eq!(
        text.matches("Start Addr").count(),
        3,
        "gdb is needed for this bench, and must show three maps:\n{text}"
    );
}

fn jobs() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(CASES)
}

fn plan(dir: &Path, cases: usize) -> Plan {
    let case = |index: usize| {
        let mut case = Case::new(
            format!("case-{index}"),
            dir,
            Target::Command {
                program: "bench".to_owned(),
            },
        );
        case.checkpoints = ["first", "second", "third"]
            .map(|name| {
                CheckpointSpec::new(
                    name,
                    At::Probe {
                        provider: "memcheck".to_owned(),
                        name: name.to_owned(),
                    },
                )
            })
            .into();
        case
    };
    Plan {
        root: dir.to_path_buf(),
        file: PathBuf::from("memcheck.toml"),
        is_cargo: false,
        data_dir: dir.join("data"),
        defaults: Defaults::default(),
        cases: (0..cases).map(case).collect(),
        cases_in_file: cases,
        partition: None,
    }
}
