//! Capture and classification of one stopped process, against the kernel's own text of it and against pmap; stopping many
//! threads; header facts of large objects. Each ratio is of one run. Ends with 1 when one is above its limit.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use benches::{Contender, Fallible, Reach, Table, compile, times};
use memcheck_harness::capture::{self, ObjectCache};
use memcheck_harness::classify::classify;
use memcheck_harness::error::Result;
use memcheck_harness::model::{At, Cancel, CaptureLevel, LaunchLimits, MemoryMap, Name, Reading, Stdin};
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

fn main() -> ExitCode {
    let mut table = Table::from_arguments();
    let result = run(&mut table);
    table.end(result)
}

fn run(table: &mut Table) -> Fallible<()> {
    let dir = tempfile::tempdir()?;
    let program = compile(dir.path(), "many", SOURCE, &["-pthread"])?;
    levels(table, &program, "45 regions", 0, 201, (Some(1.8), None))?;
    levels(table, &program, "200 regions", 160, 101, (None, Some(0.35)))?;
    levels(table, &program, "60 000 regions", 60_000, 11, (Some(1.25), Some(0.35)))?;
    against_pmap(table, &program)?;
    many_threads(table, &program)?;
    headers(table, dir.path())
}

/// Full capture against the raw text, and the fast level against the full one; with their limits.
fn levels(
    table: &mut Table,
    program: &Path,
    what: &str,
    regions: u64,
    rounds: usize,
    limits: (Option<f64>, Option<f64>),
) -> Fallible<()> {
    let names = [
        format!("{what}: capture + classify / raw smaps"),
        format!("{what}: fast level / full level"),
    ];
    if !table.wants(&[&names[0], &names[1]], Reach::Near) {
        return Ok(());
    }
    let stopped = stopped(program, regions, 0)?;
    let times = {
        let (mut full, mut fast) = (ObjectCache::default(), ObjectCache::default());
        let mut contenders = [
            Contender::new(|| raw_smaps(stopped.pid())),
            Contender::new(|| drop(capture_at(&stopped, CaptureLevel::Full, &mut full))),
            Contender::new(|| drop(capture_at(&stopped, CaptureLevel::Fast, &mut fast))),
        ];
        times(&mut contenders, table.rounds(rounds))
    };
    stopped.kill()?;
    if let Some(limit) = limits.0 {
        table.row(&names[0], &times[1], &times[0], limit)?;
    }
    if let Some(limit) = limits.1 {
        table.row(&names[1], &times[2], &times[1], limit)?;
    }
    Ok(())
}

fn capture_at(stopped: &Stopped, level: CaptureLevel, objects: &mut ObjectCache) -> MemoryMap {
    let Ok((captured, memory)) = capture::look(stopped, Reading { level, chunks: true }, objects) else {
        panic!("the capture failed");
    };
    let map = classify(&captured, &memory, &|_| true);
    capture::note_pages(stopped, &memory, objects);
    assert!(map.process.anon.is_some());
    map
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

fn against_pmap(table: &mut Table, program: &Path) -> Fallible<()> {
    let names = [
        "60 000 regions: capture + classify / pmap -x",
        "60 000 regions: capture + classify / pmap -X",
    ];
    if !table.wants(&names, Reach::Near) {
        return Ok(());
    }
    let stopped = stopped(program, 60_000, 0)?;
    let pid = stopped.pid().to_string();
    let times = {
        let mut cache = ObjectCache::default();
        let mut contenders = [
            Contender::new(|| drop(capture_at(&stopped, CaptureLevel::Full, &mut cache))),
            Contender::new(|| pmap("-x", &pid)),
            Contender::new(|| pmap("-X", &pid)),
        ];
        times(&mut contenders, table.rounds(5))
    };
    stopped.kill()?;
    table.row(names[0], &times[0], &times[1], 0.55)?;
    table.row(names[1], &times[0], &times[2], 0.22)?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the peer of the bench is pmap")]
fn pmap(mode: &str, pid: &str) {
    let status = Command::new("pmap").args([mode, pid]).stdout(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "pmap is needed for this bench");
}

/// Run to the next pass of the marker, stop every thread, read registers, find every stack.
fn many_threads(table: &mut Table, program: &Path) -> Fallible<()> {
    let name = "stop + registers + stacks: 10 000 threads / 1 000";
    if !table.wants(&[name], Reach::Near) {
        return Ok(());
    }
    let (mut few, mut many) = (Threads::start(program, 1_000)?, Threads::start(program, 10_000)?);
    let times = {
        let mut contenders = [Contender::new(|| many.round()), Contender::new(|| few.round())];
        times(&mut contenders, table.rounds(5))
    };
    few.end()?;
    many.end()?;
    Ok(table.row(name, &times[0], &times[1], 15.0)?)
}

/// A target with so many threads besides the main one.
struct Threads {
    threads: u64,
    stopped: Option<Stopped>,
    cache: ObjectCache,
}

impl Threads {
    fn start(program: &Path, threads: u64) -> Fallible<Self> {
        Ok(Self {
            threads,
            stopped: Some(stopped(program, 0, threads)?),
            cache: ObjectCache::default(),
        })
    }

    fn round(&mut self) {
        let Some(stopped) = self.stopped.take().and_then(|stopped| paused(stopped.resume()).ok()) else {
            panic!("the target does not stop again");
        };
        let map = capture_at(&stopped, CaptureLevel::Fast, &mut self.cache);
        assert_eq!(map.threads.len() as u64, self.threads + 1);
        self.stopped = Some(stopped);
    }

    fn end(self) -> Result<()> {
        self.stopped.map_or(Ok(()), |stopped| stopped.kill().map(drop))
    }
}

/// Header facts of a large and of a small object.
fn headers(table: &mut Table, dir: &Path) -> Fallible<()> {
    let name = "ELF facts of a 300 MB object / of a 1 MB one";
    if !table.wants(&[name], Reach::Far) {
        return Ok(());
    }
    let (small, large) = (blob(dir, "small", SMALL)?, blob(dir, "large", LARGE)?);
    let facts = |path: &Path| {
        for _ in 0..20 {
            let facts = File::open(path).map(|file| memcheck_harness::elf::facts(&file));
            assert!(facts.is_ok_and(|facts| facts.is_ok()));
        }
    };
    let mut contenders = [Contender::new(|| facts(&large)), Contender::new(|| facts(&small))];
    let times = times(&mut contenders, table.rounds(51));
    Ok(table.row(name, &times[0], &times[1], 1.5)?)
}

/// A shared object with so many bytes beside its code, as debug information lies there.
fn blob(dir: &Path, name: &str, bytes: u64) -> std::io::Result<PathBuf> {
    let source =
        format!("__asm__(\".section .blob,\\\"\\\",@progbits\\n.zero {bytes}\\n.text\");\nint {name}(void) {{ return 1; }}\n");
    compile(dir, name, &source, &["-shared", "-fPIC"])
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
        lets_children_go: false,
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
