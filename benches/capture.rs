//! Capture and classification of one stopped process, against the kernel's own text of it and against pmap; stopping many
//! threads; header facts of large objects. Each ratio is of one run. Ends with 1 when one is above its limit.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use benches::{Contender, medians, ratio};
use memcheck_harness::capture::{self, ObjectCache};
use memcheck_harness::classify::classify;
use memcheck_harness::error::Result;
use memcheck_harness::model::{At, Cancel, CaptureLevel, LaunchLimits, Name, Stdin};
use memcheck_harness::trace::{self, Launch, Next, Point, Running, Stopped};

/// Makes ARGV[1] regions of one page each, starts ARGV[2] threads that wait, and passes the marker again and again.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include "memcheck.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
static pthread_barrier_t barrier;
static void *work(void *argument) {
    pthread_barrier_wait(&barrier);
    for (;;) pause();
    return argument;
}
__attribute__((noinline)) void again(void) { MEMCHECK_CHECKPOINT(again); }
int main(int argc, char **argv) {
    long regions = argc > 1 ? atol(argv[1]) : 0, threads = argc > 2 ? atol(argv[2]) : 0;
    if (regions) {
        char *map = mmap(0, regions * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memset(map, 1, regions * 4096);
        for (long i = 0; i < regions; i += 2)
            if (mprotect(map + i * 4096, 4096, PROT_READ)) abort();
    }
    free(malloc(100));
    pthread_barrier_init(&barrier, 0, threads + 1);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 64 << 10);
    for (long i = 0; i < threads; i++)
        if (pthread_create(&(pthread_t){0}, &attr, work, 0)) abort();
    pthread_barrier_wait(&barrier);
    for (;;) again();
}
"#;

/// Bytes of the large object, and of the small one.
const LARGE: u64 = 300 << 20;
const SMALL: u64 = 1 << 20;

type Fallible<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Fallible<bool> {
    let dir = tempfile::tempdir()?;
    let program = build(dir.path())?;
    let mut kept = true;
    kept &= levels(&program, "45 regions", 0, 201, Some(1.8), None)?;
    kept &= levels(&program, "200 regions", 160, 101, None, Some(0.35))?;
    kept &= levels(&program, "60 000 regions", 60_000, 11, Some(1.25), Some(0.35))?;
    kept &= against_pmap(&program)?;
    kept &= many_threads(&program)?;
    kept &= headers(dir.path())?;
    Ok(kept)
}

/// Full capture against the raw text, and the fast level against the full one.
fn levels(
    program: &Path,
    what: &str,
    regions: u64,
    rounds: usize,
    full_limit: Option<f64>,
    fast_limit: Option<f64>,
) -> Fallible<bool> {
    let stopped = stopped(program, regions, 0)?;
    let mut times = {
        let (mut full, mut fast) = (ObjectCache::default(), ObjectCache::default());
        let mut contenders = [
            Contender {
                name: "raw smaps",
                work: Box::new(|| raw_smaps(stopped.pid())),
            },
            Contender {
                name: "full",
                work: Box::new(|| capture_at(&stopped, CaptureLevel::Full, &mut full)),
            },
            Contender {
                name: "fast",
                work: Box::new(|| capture_at(&stopped, CaptureLevel::Fast, &mut fast)),
            },
        ];
        medians(&mut contenders, rounds).into_iter()
    };
    let (Some(raw), Some(full), Some(fast)) = (times.next(), times.next(), times.next()) else {
        return Ok(false);
    };
    stopped.kill()?;
    let mut out = std::io::stdout();
    let full_limit = full_limit.unwrap_or(f64::INFINITY);
    let fast_limit = fast_limit.unwrap_or(f64::INFINITY);
    let mut kept = ratio(
        &mut out,
        &format!("{what}: full capture + classification / raw smaps"),
        full,
        raw,
        full_limit,
    )?;
    kept &= ratio(&mut out, &format!("{what}: fast / full"), fast, full, fast_limit)?;
    Ok(kept)
}

fn capture_at(stopped: &Stopped, level: CaptureLevel, objects: &mut ObjectCache) {
    let captured = capture::read_at(stopped, level, objects);
    let memory = capture::memory(stopped);
    let (Ok(captured), Ok(memory)) = (captured, memory) else {
        panic!("the capture failed");
    };
    let map = classify(&captured, &memory, &|_| true);
    assert!(map.process.anon.is_some());
}

/// As fast as the text can be had: one buffer, used again.
fn raw_smaps(pid: i32) {
    let mut buffer = vec![0; 64 << 10];
    let mut read = || -> std::io::Result<u64> {
        let mut file = File::open(format!("/proc/{pid}/smaps"))?;
        let mut bytes = 0;
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(bytes),
                count => bytes += count as u64,
            }
        }
    };
    assert!(read().is_ok_and(|bytes| bytes > 0), "smaps");
}

fn against_pmap(program: &Path) -> Fallible<bool> {
    let stopped = stopped(program, 60_000, 0)?;
    let pid = stopped.pid().to_string();
    let times = {
        let mut cache = ObjectCache::default();
        let mut contenders = [
            Contender {
                name: "full",
                work: Box::new(|| capture_at(&stopped, CaptureLevel::Full, &mut cache)),
            },
            Contender {
                name: "pmap -x",
                work: Box::new(|| pmap("-x", &pid)),
            },
            Contender {
                name: "pmap -X",
                work: Box::new(|| pmap("-X", &pid)),
            },
        ];
        medians(&mut contenders, 5)
    };
    stopped.kill()?;
    let mut out = std::io::stdout();
    let mut kept = ratio(
        &mut out,
        "60 000 regions: full capture + classification / pmap -x",
        times[0],
        times[1],
        0.55,
    )?;
    kept &= ratio(
        &mut out,
        "60 000 regions: full capture + classification / pmap -X",
        times[0],
        times[2],
        0.22,
    )?;
    Ok(kept)
}

#[expect(clippy::disallowed_methods, reason = "the peer of the bench is pmap")]
fn pmap(mode: &str, pid: &str) {
    let status = Command::new("pmap").args([mode, pid]).stdout(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "pmap is needed for this bench");
}

/// Run to the next pass of the marker, stop every thread, read registers, find every stack.
fn many_threads(program: &Path) -> Fallible<bool> {
    let time = |threads: u64| -> Fallible<Duration> {
        let mut stopped = stopped(program, 0, threads)?;
        let mut cache = ObjectCache::default();
        let mut times = Vec::new();
        for round in 0..6 {
            let start = Instant::now();
            stopped = paused(stopped.resume())?;
            let captured = capture::read_at(&stopped, CaptureLevel::Fast, &mut cache)?;
            let map = classify(&captured, &capture::memory(&stopped)?, &|_| true);
            if round > 0 {
                times.push(start.elapsed());
            }
            assert_eq!(map.threads.len() as u64, threads + 1);
        }
        stopped.kill()?;
        times.sort_unstable();
        Ok(times[times.len() / 2])
    };
    let (few, many) = (time(1_000)?, time(10_000)?);
    let what = "stop + registers + stacks: 10 000 threads / 1 000";
    Ok(ratio(&mut std::io::stdout(), what, many, few, 15.0)?)
}

/// Header facts of a large and of a small object.
fn headers(dir: &Path) -> Fallible<bool> {
    let (small, large) = (blob(dir, "small", SMALL)?, blob(dir, "large", LARGE)?);
    let facts = |path: &Path| {
        for _ in 0..20 {
            let facts = File::open(path).map(|file| memcheck_harness::elf::facts(&file));
            assert!(facts.is_ok_and(|facts| facts.is_ok()));
        }
    };
    let mut contenders = [
        Contender {
            name: "large",
            work: Box::new(|| facts(&large)),
        },
        Contender {
            name: "small",
            work: Box::new(|| facts(&small)),
        },
    ];
    let times = medians(&mut contenders, 51);
    let what = "ELF facts of a 300 MB object / of a 1 MB one";
    Ok(ratio(&mut std::io::stdout(), what, times[0], times[1], 1.5)?)
}

/// A shared object with so many bytes beside its code, as debug information lies there.
fn blob(dir: &Path, name: &str, bytes: u64) -> std::io::Result<PathBuf> {
    let source =
        format!("__asm__(\".section .blob,\\\"\\\",@progbits\\n.zero {bytes}\\n.text\");\nint {name}(void) {{ return 1; }}\n");
    let path = dir.join(format!("{name}.c"));
    std::fs::write(&path, source)?;
    compile(&path, &dir.join(format!("lib{name}.so")), &["-shared", "-fPIC"])
}

fn stopped(program: &Path, regions: u64, threads: u64) -> Fallible<Stopped> {
    let launch = Launch {
        program: program.to_path_buf(),
        argv0: Name::from("bench"),
        args: vec![regions.to_string().into(), threads.to_string().into()],
        env: Some(vec![("LC_ALL".into(), "C".into())]),
        cwd: std::env::temp_dir(),
        stdin: Stdin::Null,
        limits: LaunchLimits::default(),
        cpus: None,
        fixed: true,
        tty: false,
        dies_with_us: false,
        watch_stacks: false,
        timeout: Duration::from_secs(600),
        output_tail_bytes: 1024,
    };
    let again = At::Probe {
        provider: "memcheck".to_owned(),
        name: "again".to_owned(),
    };
    let point = |hit| Point::new(again.clone(), hit);
    let points: Vec<Point> = (1..=8).map(point).collect();
    Ok(paused(trace::launch(&launch, &points, &Cancel::new())?)?)
}

fn paused(running: Running) -> Result<Stopped> {
    match running.next()? {
        Next::Paused(stopped, _) => Ok(stopped),
        Next::Ended(ended) => panic!("the target ended: {:?}", ended.end),
    }
}

fn build(dir: &Path) -> std::io::Result<PathBuf> {
    std::fs::write(dir.join("memcheck.h"), memcheck_probe::HEADER)?;
    std::fs::write(dir.join("many.c"), SOURCE)?;
    compile(&dir.join("many.c"), &dir.join("many"), &["-pthread"])
}

#[expect(clippy::disallowed_methods, reason = "the bench builds its own programs")]
fn compile(source: &Path, to: &Path, flags: &[&str]) -> std::io::Result<PathBuf> {
    let status = Command::new("cc")
        .arg("-O1")
        .arg(source)
        .arg("-o")
        .arg(to)
        .args(flags)
        .status()?;
    if status.success() {
        Ok(to.to_path_buf())
    } else {
        Err(std::io::Error::other("cc failed"))
    }
}
