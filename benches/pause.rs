//! What a target feels of us: its launch, its stops at checkpoints, a whole run, and the markers when nobody looks; against
//! posix_spawn, gdb, massif, heaptrack and the same program without markers. Ends with 1 when a limit is missed.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use benches::{Contender, Fallible, Program, Reach, Table, compile, times};
use memcheck_harness::capture::{self, LiveMemory, ObjectCache};
use memcheck_harness::classify::classify;
use memcheck_harness::error::Result;
use memcheck_harness::model::{At, Cancel, Capture, LaunchLimits, MemoryMap, Name, Reading, Stdin};
use memcheck_harness::trace::{self, Launch, Next, Point};

/// Ends at once.
const NOTHING: &str = "int main(void) { return 0; }\n";

/// Makes itself ARGV[2] mappings, passes a marker ARGV[1] times, and prints the median nanoseconds that a pass took: of the first
/// three, and of the others; then how many mappings it has.
const PASSES: &str = r#"
#define _GNU_SOURCE
#include "memcheck.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
__attribute__((noinline)) void again(void) { MEMCHECK_CHECKPOINT(again); }
static long mappings(void) { /* without the kernel's own */
    FILE *file = fopen("/proc/self/maps", "r");
    char line[8192];
    long count = 0;
    while (file && fgets(line, sizeof line, file)) count += !strstr(line, "[vsyscall]");
    if (!file || fclose(file)) abort();
    return count;
}
static void map(long pages) { /* those before the last can be written, the last not: it touches none of its kind */
    char *at = mmap(0, pages * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED || (pages > 1 && mprotect(at, 4096, PROT_READ | PROT_WRITE))) abort();
    if (pages > 1) at[0] = 1;
}
static long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}
static int less(const void *a, const void *b) { return (*(long *)a > *(long *)b) - (*(long *)a < *(long *)b); }
static long median(long *of, long count) {
    qsort(of, count, sizeof *of, less);
    return of[count / 2];
}
int main(int argc, char **argv) {
    if (argc < 3) return 2;
    long passes = atol(argv[1]), wanted = atol(argv[2]), *took = calloc(passes, sizeof *took);
    for (long count = mappings(); count < wanted; count += 2) map(count + 1 < wanted ? 2 : 1);
    for (long i = 0; i < passes; i++) {
        long start = now();
        again();
        took[i] = now() - start;
    }
    fprintf(stderr, "%ld %ld %ld\n", median(took, 3), median(took + 3, passes - 3), mappings());
    return 0;
}
"#;

/// The same work with and without the markers of C and of Rust; only what happens inside `work` is counted.
const MARKED_C: &str = r#"
#ifdef MARKED
#include "memcheck.h"
#else
#define MEMCHECK_CHECKPOINT(name)
#endif
#include <stdlib.h>
__attribute__((noinline)) void step(volatile long *sum, long i) {
    *sum += i;
    MEMCHECK_CHECKPOINT(step);
    *sum ^= i;
}
__attribute__((noinline)) void work(long passes) {
    volatile long sum = 0;
    for (long i = 0; i < passes; i++) step(&sum, i);
}
int main(int argc, char **argv) { work(argc > 1 ? atol(argv[1]) : 0); return 0; }
"#;
const MARKED_RUST: &str = r#"
macro_rules! mark { () => { #[cfg(marked)] memcheck_probe::checkpoint!("step"); } }
#[inline(never)]
fn step(sum: &mut u64, i: u64) {
    *sum = std::hint::black_box(*sum + i);
    mark!();
    *sum = std::hint::black_box(*sum ^ i);
}
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn work(passes: u64) {
    let mut sum = 0;
    for i in 0..passes {
        step(&mut sum, i);
    }
    std::hint::black_box(sum);
}
fn main() { work(std::env::args().nth(1).map_or(0, |passes| passes.parse().unwrap())); }
"#;

/// Passes of the marker in a run that is timed.
const PASS_COUNT: u64 = 30;
/// Mappings of the program that is paused.
const MAPPINGS: u64 = 45;
/// Passes of the marker in a run that is counted.
const COUNTED_PASSES: u64 = 10_000;
/// What a fat harness holds.
const FAT: usize = 2 << 30;

fn main() -> ExitCode {
    let mut table = Table::from_arguments();
    let result = run(&mut table);
    table.end(result)
}

fn run(table: &mut Table) -> Fallible<()> {
    let dir = tempfile::tempdir()?;
    launches(table, dir.path())?;
    stops(table, dir.path())?;
    markers(table, dir.path())
}

/// Launch, run and reap, small and while we hold 2 GB.
fn launches(table: &mut Table, dir: &Path) -> Fallible<()> {
    let names = [
        "launch + end / posix_spawn + wait",
        "the same, from a harness that holds 2 GB",
    ];
    if !table.wants(&names, Reach::Near) {
        return Ok(());
    }
    let nothing = compile(dir, "nothing", NOTHING, &[])?;
    let mut ballast = Vec::new();
    for (name, bytes) in names.into_iter().zip([0, FAT]) {
        ballast.resize(bytes, 1_u8);
        let mut contenders = [
            Contender::new(|| assert!(ours(&nothing, &[], &[], |_| (), |()| ()).is_ok_and(|out| out.is_empty()))),
            Contender::new(|| spawn(&nothing)),
        ];
        let times = times(&mut contenders, table.rounds(201));
        table.row(name, &times[0], &times[1], 1.1)?;
    }
    drop(std::hint::black_box(ballast));
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the peer of the bench is a plain spawn")]
fn spawn(program: &Path) {
    let mut command = Command::new(program);
    // As we give it: cargo's own makes the loader look for libraries in more places.
    command.env_clear().env("LC_ALL", "C");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().is_ok_and(|status| status.success()));
}

/// What stops cost the target, by its own clock.
fn stops(table: &mut Table, dir: &Path) -> Fallible<()> {
    let names = [
        "marker, stop and go / gdb breakpoint",
        "full pause / gdb info proc mappings",
        "the same, first three",
        "its capture alone: smaps, status, ELF headers / gdb",
        "its capture alone, first three",
    ];
    if !table.wants(&names, Reach::Near) {
        return Ok(());
    }
    let program = compile(dir, "passes", PASSES, &[])?;
    let points: Vec<Point> = (1..=PASS_COUNT).map(|hit| probe("again", hit)).collect();
    let arguments = [PASS_COUNT.to_string(), MAPPINGS.to_string()];
    let mut seen: [Vec<(Duration, Duration)>; 5] = Default::default();
    for round in 0..=table.rounds(15) {
        let mut cache = ObjectCache::default();
        let stop_and_go = ours(&program, &arguments, &points, |_| (), |()| ())?;
        let full = ours(&program, &arguments, &points, |stopped| full(stopped, &mut cache), put_away)?;
        let mut cache = ObjectCache::default();
        let capture = ours(&program, &arguments, &points, |stopped| captured(stopped, &mut cache), drop)?;
        let breakpoint = gdb(dir, &program, "")?;
        let mappings = gdb(dir, &program, "info proc mappings\n")?;
        for (seen, text) in seen.iter_mut().zip([stop_and_go, full, breakpoint, mappings, capture]) {
            let (felt, mappings) = felt(&text).ok_or_else(|| format!("the target did not tell its times: {text:?}"))?;
            if mappings != MAPPINGS {
                return Err(format!("the target has {mappings} mappings and was to have {MAPPINGS}").into());
            }
            if round > 0 {
                seen.push(felt);
            }
        }
    }
    let column =
        |index: usize, of: fn(&(Duration, Duration)) -> Duration| -> Vec<Duration> { seen[index].iter().map(of).collect() };
    table.row(names[0], &column(0, |felt| felt.1), &column(2, |felt| felt.1), 0.15)?;
    table.row(names[1], &column(1, |felt| felt.1), &column(3, |felt| felt.1), 0.20)?;
    table.row(names[2], &column(1, |felt| felt.0), &column(3, |felt| felt.0), 0.30)?;
    table.row(names[3], &column(4, |felt| felt.1), &column(3, |felt| felt.1), 0.20)?;
    table.row(names[4], &column(4, |felt| felt.0), &column(3, |felt| felt.0), 0.30)?;
    Ok(())
}

/// The two medians that the target printed last, and its mappings.
fn felt(text: &str) -> Option<((Duration, Duration), u64)> {
    let mut numbers = text.lines().last()?.split(' ').map(|number| number.parse().ok());
    let mut next = || numbers.next().flatten();
    Some(((Duration::from_nanos(next()?), Duration::from_nanos(next()?)), next()?))
}

/// What is done of a checkpoint while the target stands.
fn full(stopped: &trace::Stopped, cache: &mut ObjectCache) -> (Capture, MemoryMap, LiveMemory) {
    let (captured, memory) = captured(stopped, cache);
    let mut map = classify(&captured, &memory, &|_| true);
    capture::note_pages(stopped, &memory, cache);
    assert!(capture::name_starts(&captured, &mut map, cache).is_ok());
    (captured, map, memory)
}

/// What is read before anything is understood.
fn captured(stopped: &trace::Stopped, cache: &mut ObjectCache) -> (Capture, LiveMemory) {
    let Ok(seen) = capture::look(stopped, Reading::EVERYTHING, cache) else {
        panic!("the capture failed");
    };
    seen
}

/// And what when it was let go.
fn put_away((captured, map, memory): (Capture, MemoryMap, LiveMemory)) {
    assert!(!memory.into_recording().bytes.is_empty());
    drop((captured, map));
}

/// Runs the program from point to point to its end; what it wrote to standard error. `after` gets what was made `at_stop`, when
/// the program runs on.
fn ours<T>(
    program: &Path,
    args: &[String],
    points: &[Point],
    mut at_stop: impl FnMut(&trace::Stopped) -> T,
    mut after: impl FnMut(T),
) -> Result<String> {
    let launch = Launch {
        program: program.to_path_buf(),
        argv0: Name::from("bench"),
        args: args.iter().map(Into::into).collect(),
        env: Some(vec![("LC_ALL".into(), "C".into())]),
        cwd: std::env::temp_dir(),
        stdin: Stdin::Null,
        limits: LaunchLimits::default(),
        cpus: None,
        fixed: true,
        tty: false,
        dies_with_us: false,
        lets_children_go: false,
        watch_stacks: false,
        timeout: Duration::from_secs(60),
        output_tail_bytes: 1024,
    };
    let mut running = trace::launch(&launch, points, &Cancel::new())?;
    loop {
        match running.next()? {
            Next::Paused(stopped, _) => {
                let made = at_stop(&stopped);
                running = stopped.resume();
                after(made);
            }
            Next::Ended(ended) => return Ok(ended.output.stderr.as_str().unwrap_or_default().to_owned()),
        }
    }
}

fn probe(name: &str, hit: u64) -> Point {
    let at = At::Probe {
        provider: "memcheck".to_owned(),
        name: name.to_owned(),
    };
    Point::new(at, hit)
}

/// gdb with a breakpoint at the function around the marker; what the target wrote to standard error.
#[expect(clippy::disallowed_methods, reason = "the peer of the bench is gdb")]
fn gdb(dir: &Path, program: &Path, commands: &str) -> Fallible<String> {
    let (script, errors) = (dir.join("script.gdb"), dir.join("stderr"));
    let text = format!(
        "set pagination off\nbreak again\ncommands\nsilent\n{commands}continue\nend\nrun {PASS_COUNT} {MAPPINGS} 2>{}\n",
        errors.display()
    );
    std::fs::write(&script, text)?;
    let status = Command::new("gdb")
        .args(["-nx", "-batch", "-x"])
        .arg(&script)
        .arg(program)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|error| format!("gdb is needed for this bench: {error}"))?;
    if !status.success() {
        return Err("gdb failed".into());
    }
    Ok(std::fs::read_to_string(errors)?)
}

/// Instructions of the same work with markers, their nops taken off, and without.
fn markers(table: &mut Table, dir: &Path) -> Fallible<()> {
    let names = [
        "instructions with C markers but nops / without",
        "instructions with Rust markers but nops / without",
    ];
    if !table.wants(&names, Reach::Far) {
        return Ok(());
    }
    let c = |name, flags: &[&str]| compile(dir, name, MARKED_C, flags);
    let pairs = [
        (c("with", &["-DMARKED"])?, c("none", &[])?),
        (rust(dir, "rust-with", true)?, rust(dir, "rust-none", false)?),
    ];
    for (name, (with, without)) in names.into_iter().zip(pairs) {
        let (with, without) = (instructions(&with)?, instructions(&without)?);
        if without < COUNTED_PASSES * 4 || with < without + COUNTED_PASSES {
            return Err(format!("{with} and {without} instructions are not those of the work").into());
        }
        table.counts(name, with - COUNTED_PASSES, without, 1.0)?;
    }
    Ok(())
}

/// What callgrind counts inside `work`.
#[expect(clippy::disallowed_methods, reason = "the bench counts with callgrind")]
fn instructions(program: &Path) -> Fallible<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=work"])
        .arg(program)
        .arg(COUNTED_PASSES.to_string())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind is needed for this bench: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let collected = text
        .lines()
        .find_map(|line| line.split_once("Collected :"))
        .map(|(_, count)| count.trim());
    Ok(collected
        .ok_or_else(|| format!("callgrind counted nothing:\n{text}"))?
        .parse()?)
}

/// A Rust program with the probe crate, or with markers that are nothing.
#[expect(clippy::disallowed_methods, reason = "the bench builds its own programs")]
fn rust(dir: &Path, name: &str, marked: bool) -> Fallible<Program> {
    let probe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../memcheck-probe/src/lib.rs");
    let source = dir.join(format!("{name}.rs"));
    std::fs::write(&source, MARKED_RUST)?;
    let rustc = |arguments: &[&std::ffi::OsStr]| -> Fallible<()> {
        let status = Command::new("rustc")
            .args(["--edition", "2024", "-Copt-level=2", "-Awarnings", "--out-dir"])
            .arg(dir)
            .args(arguments)
            .status()?;
        if status.success() {
            Ok(())
        } else {
            Err("rustc failed".into())
        }
    };
    rustc(&[
        "--crate-name=memcheck_probe".as_ref(),
        "--crate-type=rlib".as_ref(),
        probe.as_os_str(),
    ])?;
    let mut arguments: Vec<&std::ffi::OsStr> = vec![
        source.as_os_str(),
        "--extern=memcheck_probe".as_ref(),
        "-L".as_ref(),
        dir.as_os_str(),
    ];
    if marked {
        arguments.push("--cfg=marked".as_ref());
    }
    rustc(&arguments)?;
    Ok(dir.join(name))
}
