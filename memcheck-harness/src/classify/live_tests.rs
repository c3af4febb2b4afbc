//! Classifications of real, blocked processes built on the spot, held against what the program itself says of its memory.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use tempfile::TempDir;

use super::fake::covers_every_byte_once;
use crate::capture::{self, ObjectCache};
use crate::model::{
    ArenaFact, ArenaUse, Capture, CaptureLevel, Memory, MemoryMap, Metric, Name, ObjectKind, Reading, Recording, Region, Role,
    StackState, Thread,
};

/// A program that has said `READY` and now sleeps in all its threads. It prints `T tid tls-base` for each live thread and
/// `IS role start bytes` for what it knows; both in hexadecimal but the tid.
pub(super) struct Target {
    pub(super) child: Child,
    threads: Vec<Thread>,
    truth: Vec<(String, u64, u64)>,
    /// Other lines it printed.
    pub(super) said: Vec<String>,
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Target {
    pub(super) fn start(program: &Path) -> Self {
        Self::start_with(program, &[], &[])
    }

    pub(super) fn start_with(program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a test needs a process to look at")]
        let child = std::process::Command::new(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut target = Self {
            threads: vec![],
            truth: vec![],
            said: vec![],
            child,
        };
        let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
        for line in BufReader::new(target.child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["T", tid, base] => {
                    let tid = tid.parse().unwrap();
                    let name = fs::read(format!("/proc/self/task/{tid}/comm")).unwrap_or_default();
                    target.threads.push(Thread {
                        tid,
                        name: Name::new(name),
                        stack_pointer: Some(0),
                        program_counter: None,
                        tls_base: Some(hex(base)),
                    });
                }
                ["IS", role, start, bytes] => target.truth.push((role.to_owned(), hex(start), hex(bytes))),
                ["READY"] => break,
                _ => target.said.push(line),
            }
        }
        let sleeps = |tid: i32| {
            let stat = fs::read_to_string(format!("/proc/{tid}/stat")).unwrap_or_default();
            stat.rsplit_once(')')
                .is_some_and(|(_, rest)| rest.trim_start().starts_with('S'))
        };
        // Threads that ended, or are about to, are gone when the tasks are those that said they stay.
        let tasks = || fs::read_dir(format!("/proc/{}/task", target.child.id())).unwrap().count();
        while tasks() != target.threads.len() || !target.threads.iter().all(|thread| sleeps(thread.tid)) {
            std::thread::yield_now();
        }
        target
    }

    pub(super) fn measure(&self) -> (Capture, MemoryMap) {
        let pid = i32::try_from(self.child.id()).unwrap();
        let mut capture = capture::read_process(pid, &self.threads, vec![], &mut ObjectCache::default()).unwrap();
        let memory = capture::memory_of(pid, &self.threads).unwrap();
        let map = super::classify(&capture, &memory, &is_own);
        capture.recording = memory.into_recording();
        holds_for_every_process(&capture, &map);
        assert_eq!(
            super::classify(&capture, &capture.recording as &dyn Memory, &is_own),
            map,
            "a recording tells the same"
        );
        holds_without_chunks(&mut capture, &map);
        holds_with_what_is_known(&capture);
        self.fast_level_tells_the_same(pid, &map);
        for (role, start, bytes) in &self.truth {
            let end = start + bytes;
            let pieces = map.pieces.iter().filter(|piece| piece.start < end && *start < piece.end);
            for piece in pieces {
                assert_eq!(piece.role.name(), role, "{start:x}+{bytes:x}\n{}", show(&map));
            }
        }
        (capture, map)
    }
}

impl Target {
    /// Every metric that the fast level is trusted with.
    fn fast_level_tells_the_same(&self, pid: i32, full: &MemoryMap) {
        let reading = Reading {
            level: CaptureLevel::Fast,
            ..Reading::EVERYTHING
        };
        let how = (reading, None);
        let fast = capture::read_process_at(pid, &self.threads, vec![], how, &mut ObjectCache::default()).unwrap();
        let memory = capture::memory_of(pid, &self.threads).unwrap();
        let fast = super::classify(&fast, &memory, &is_own);
        for metric in Metric::all().into_iter().filter(Metric::is_fast) {
            assert_eq!(
                fast.metric(&metric),
                full.metric(&metric),
                "{}\n{}\nin full:\n{}",
                metric.name(),
                show(&fast),
                show(full)
            );
        }
    }
}

fn is_own(path: &Name) -> bool {
    !path.as_bytes().starts_with(b"/usr") && !path.as_bytes().starts_with(b"/lib")
}

pub(super) fn show(map: &MemoryMap) -> String {
    let mut text = format!("{:#?}\n{:#?}\n{:#?}\n", map.notes, map.malloc, map.arenas);
    for piece in &map.pieces {
        text += &format!(
            "{:x}-{:x} {} {:>9}K rss {:>6} anon {:>6} {:<20} {:<18} {}\n",
            piece.start,
            piece.end,
            piece.perms,
            piece.reserved_bytes() >> 10,
            piece.resident_bytes.map_or(-1, |b| (b >> 10) as i64),
            piece.anon_bytes.map_or(-1, |b| (b >> 10) as i64),
            piece.role,
            map.items[piece.item].subject,
            piece.evidence.text
        );
    }
    text
}

/// What is known of pages from reading the regions spares questions and changes no answer, at either level; both levels give the
/// same figures of each region; and whatever was read, they are those of before.
fn holds_with_what_is_known(before: &Capture) {
    let (pid, threads) = (before.pid, &before.threads);
    // Pages of files that nobody wrote to may be taken by the kernel at any time; more can come by our doing only.
    let same = |now: &Capture| {
        let figures = |region: &Region| Some((region.start, region.usage?.anon_bytes, region.usage?.resident_bytes));
        assert_eq!(now.regions.len(), before.regions.len());
        for (now, before) in now.regions.iter().zip(&before.regions) {
            let (Some(is), Some(was)) = (figures(now), figures(before)) else {
                panic!("no figures of {before:?}");
            };
            let kept = if before.inode == 0 { is.2 == was.2 } else { is.2 <= was.2 };
            assert!((is.0, is.1) == (was.0, was.1) && kept, "{now:?}\n{before:?}");
        }
    };
    for level in [CaptureLevel::Full, CaptureLevel::Fast] {
        let reading = Reading { level, chunks: true };
        let (capture, memory) = capture::look_of(pid, threads, reading).unwrap();
        let asking = capture::memory_of(pid, threads).unwrap();
        let map = super::classify(&capture, &memory, &is_own);
        assert_eq!(super::classify(&capture, &asking, &is_own), map, "{level:?}");
        assert_eq!(memory.into_recording(), asking.into_recording(), "{level:?}");
        same(&capture);
    }
    same(&capture::read_process(pid, threads, vec![], &mut ObjectCache::default()).unwrap());
}

/// Leaving out the walk through malloc's chunks leaves out their figures and nothing else, live and recorded, and says so.
fn holds_without_chunks(capture: &mut Capture, map: &MemoryMap) {
    capture.without_chunks = true;
    let memory = capture::memory_of(capture.pid, &capture.threads).unwrap();
    let mut without = super::classify(capture, &memory, &is_own);
    let recording = memory.into_recording();
    let bytes = |recording: &Recording| recording.bytes.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    assert!(bytes(&recording) <= bytes(&capture.recording));
    assert_eq!(super::classify(capture, &recording as &dyn Memory, &is_own), without);
    let walked = map
        .arenas
        .iter()
        .flatten()
        .chain(map.malloc.iter().map(|malloc| &malloc.main));
    let arenas = without.arenas.iter_mut().flatten();
    for (arena, walked) in arenas
        .chain(without.malloc.iter_mut().map(|malloc| &mut malloc.main))
        .zip(walked)
    {
        let is_empty = walked.usage == Some(ArenaUse::default());
        let expected = (!is_empty).then(|| ArenaFact::NOT_WALKED.to_owned());
        assert_eq!((arena.usage.is_none(), &arena.doubt), (!is_empty, &expected));
        (arena.usage, arena.doubt) = (walked.usage, walked.doubt.clone());
    }
    assert_eq!(&without, map);
    capture.without_chunks = false;
}

/// Nothing unclassified, and the pieces sum to what the kernel says of the regions.
fn holds_for_every_process(capture: &Capture, map: &MemoryMap) {
    covers_every_byte_once(capture, map);
    let all = map.sum(|_| true);
    assert_eq!(map.sum(|role| role == Role::Unclassified).reserved, 0, "{}", show(map));
    assert_eq!(
        (all.resident, all.anon),
        (map.process.resident, map.process.anon),
        "{}",
        show(map)
    );
    assert!(all.resident.is_some());
    assert_eq!(map.process.reserved, capture.status.reserved_bytes);
    if std::env::args().any(|argument| argument == "--nocapture") {
        show_it(map);
    }
}

#[expect(clippy::print_stderr, reason = "shown by `cargo test -- --nocapture` only")]
fn show_it(map: &MemoryMap) {
    eprintln!("{}", show(map));
}

#[expect(clippy::disallowed_methods, reason = "a test needs a compiler")]
pub(super) fn build(dir: &TempDir, compiler: &str, name: &str, source: &str, args: &[&str]) -> PathBuf {
    let file = dir.path().join(name);
    fs::write(&file, source).unwrap();
    let program = file.with_extension("");
    let status = std::process::Command::new(compiler)
        .arg(&file)
        .args(args)
        .arg("-o")
        .arg(&program)
        .status()
        .unwrap();
    assert!(status.success());
    program
}

pub(super) const COMMON: &str = r#"
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>
static pthread_barrier_t barrier;
static void is(const char *role, void *start, size_t bytes) { printf("IS %s %p %zx\n", role, start, bytes); }
static void self(void) { printf("T %ld %lx\n", syscall(SYS_gettid), (long)pthread_self()); }
static void ready(void) { self(); printf("READY\n"); fflush(stdout); for (;;) pause(); }
static void stack(const char *role) {
  pthread_attr_t a; void *start; size_t size, guard;
  pthread_getattr_np(pthread_self(), &a);
  pthread_attr_getstack(&a, &start, &size);
  pthread_attr_getguardsize(&a, &guard);
  /* glibc from 2.27 reports the stack above the guard */
  is(role, start, size);
  if (guard) is("guard", (char *)start - guard, guard);
}
static void *live(void *role) { stack(role); self(); pthread_barrier_wait(&barrier); for (;;) pause(); return 0; }
static void *quick(void *role) { stack(role); return 0; }
static pthread_t make(void *(*f)(void *), const char *role, size_t size, long guard, void *own, int detach) {
  pthread_attr_t a; pthread_t t;
  pthread_attr_init(&a);
  if (own) pthread_attr_setstack(&a, own, size); else if (size) pthread_attr_setstacksize(&a, size);
  if (guard >= 0) pthread_attr_setguardsize(&a, guard);
  if (detach) pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
  if (pthread_create(&t, &a, f, (void *)role)) abort();
  return t;
}
"#;

const THREADS: &str = r#"
int main(void) {
#ifdef LOADS
  void *dlopen(const char *, int);
  if (!dlopen(LOADS, 2)) return 1;
#endif
  pthread_barrier_init(&barrier, 0, 7);
  make(live, "thread-stack.live", 0, -1, 0, 0);
  make(live, "thread-stack.live", 256 << 10, -1, 0, 0);
  make(live, "thread-stack.live", 300 << 10, 0, 0, 0);
  make(live, "thread-stack.live", 400 << 10, 65536, 0, 0);
  make(live, "thread-stack.user", 512 << 10, -1, mmap(0, 512 << 10, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 0);
  void *block;
  if (posix_memalign(&block, 4096, 200 << 10)) return 1;
  make(live, "thread-stack.user", 200 << 10, -1, block, 0);
  make(quick, "thread-stack.exited", 1 << 20, -1, 0, 0);
  make(quick, "thread-stack.exited", 1 << 20, -1, 0, 0);
  usleep(100000);
  make(quick, "thread-stack.cached", 2 << 20, -1, 0, 1);
  usleep(100000);
  pthread_join(make(quick, "thread-stack.cached", 3 << 20, -1, 0, 0), 0);
  pthread_barrier_wait(&barrier);
  ready();
}
"#;

pub(super) fn metric(map: &MemoryMap, name: &str) -> Option<u64> {
    map.metric(&Metric::parse(name).unwrap())
}

fn check_threads(map: &MemoryMap) {
    assert!(map.thread_lists_known, "{}", show(map));
    let counts = ["live", "user", "exited", "cached"].map(|state| metric(map, &format!("thread-stack.{state}.count")));
    assert_eq!(counts, [Some(4), Some(2), Some(2), Some(2)], "{}", show(map));
    assert_eq!(
        map.threads.iter().filter(|thread| thread.state == StackState::Live).count(),
        7
    );
    assert_eq!(metric(map, "threads.count"), Some(7));
    assert!(metric(map, "thread-stack.deepest").is_some_and(|bytes| (4096..1 << 20).contains(&bytes)));
    assert!(map.threads[0].main && map.threads[0].stack.is_none());
}

#[test]
fn every_kind_of_thread_stack_is_told() {
    let dir = TempDir::new().unwrap();
    let program = build(&dir, "gcc", "threads.c", &format!("{COMMON}{THREADS}"), &["-O1", "-pthread"]);
    let target = Target::start(&program);
    let (mut capture, map) = target.measure();
    check_threads(&map);
    // Whether libc's words for debuggers are known, from its file or in memory, is chance; nothing may depend on it.
    let same = |capture: &Capture| {
        let memory = capture::memory_of(capture.pid, &target.threads).unwrap();
        assert_eq!(super::classify(capture, &memory, &is_own), map);
    };
    // Nor on who has started the program: of another one than the kernel the loader looks like a library.
    let mut by_hand = capture.clone();
    for object in by_hand
        .objects
        .iter_mut()
        .filter(|object| object.kind == ObjectKind::Interpreter)
    {
        object.kind = ObjectKind::Library;
    }
    let memory = capture::memory_of(capture.pid, &target.threads).unwrap();
    check_threads(&super::classify(&by_hand, &memory, &is_own));
    for object in &mut capture.objects {
        std::sync::Arc::make_mut(&mut object.constants).clear();
    }
    same(&capture);
    for object in &mut capture.objects {
        std::sync::Arc::make_mut(&mut object.symbols).clear();
    }
    same(&capture);
    assert!(map.arenas.is_some());
    assert!(map.notes.is_empty(), "{:?}", map.notes);
    assert!(map.platform_objects.contains(&Name::from("libc.so.6")) && map.own_objects.is_empty());
}

#[test]
fn a_static_program_tells_its_threads_by_its_symbols() {
    let dir = TempDir::new().unwrap();
    let program = build(
        &dir,
        "gcc",
        "static.c",
        &format!("{COMMON}{THREADS}"),
        &["-O1", "-pthread", "-static"],
    );
    let (_, map) = Target::start(&program).measure();
    check_threads(&map);
    // Stripped, the lists are found through the main thread.
    let (_, map) = {
        let program = build(
            &dir,
            "gcc",
            "stripped.c",
            &format!("{COMMON}{THREADS}"),
            &["-O1", "-pthread", "-static", "-s"],
        );
        Target::start(&program).measure()
    };
    check_threads(&map);
}

/// It brings a second loader and libc into memory, whose thread lists nobody uses.
#[cfg(target_env = "gnu")]
#[test]
fn a_static_program_that_loads_a_library_tells_its_threads_by_its_own_lists() {
    let dir = TempDir::new().unwrap();
    for more in [&[][..], &["-s"]] {
        let options = [&["-O1", "-pthread", "-static", "-DLOADS=\"libm.so.6\"", "-ldl"], more].concat();
        let program = build(&dir, "gcc", "loads.c", &format!("{COMMON}{THREADS}"), &options);
        let (capture, map) = Target::start(&program).measure();
        let mut objects = capture.objects.iter();
        assert!(
            objects.any(|object| object.symbols.contains_key("_rtld_global")),
            "{:?}",
            capture.objects
        );
        check_threads(&map);
        assert!(
            map.notes.iter().all(|note| !note.text.contains("no list of libc")),
            "{:?}",
            map.notes
        );
    }
}

const MEMORY: &str = r#"
static __thread char thread_local_bytes[20000];
static void *allocate(void *arg) {
  char *p = malloc(1000); is("thread-arena", p, 1000);
  for (int i = 0; arg && i < 700; i++) is("thread-arena", memset(malloc(100000), 1, 100000), 100000);
  return live("thread-stack.live");
}
static void *map(size_t bytes) { return mmap(0, bytes, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }
int main(void) {
  memset(thread_local_bytes, 1, sizeof thread_local_bytes);
  is("tls", (void *)(((uintptr_t)thread_local_bytes + 4095) & ~4095ul), 12288);
  char *small = map(4096), *large = map(1 << 20);
  is("anon-map", small, 4096);
  is("anon-map", large, 1 << 20);
  large[5000] = 1;
  char *chunk = malloc(300000); chunk[1] = 1;
  is("mmap-chunk", chunk, 300000);
  char *after = map(1 << 20); after[70000] = 1;
  is("anon-map", after, 1 << 20);
  char *second = malloc(500000); second[200000] = 1;
  is("mmap-chunk", second, 500000);
  is("main-heap", malloc(100), 100);
  int fd = memfd_create("shared", 0);
  if (ftruncate(fd, 65536)) return 1;
  char *shared = mmap(0, 65536, 3, MAP_SHARED, fd, 0); shared[1] = 1;
  is("shared-map", shared, 65536);
  is("shared-map", mmap(0, 8192, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0), 8192);
  is("anon-map", mmap(0, 1 << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), 1 << 30);
  FILE *f = fopen("/proc/self/exe", "r");
  volatile char *file = mmap(0, 8192, PROT_READ, MAP_PRIVATE, fileno(f), 0); (void)file[0];
  is("file-map", (void *)file, 8192);
  int local; is("main-stack", &local, 4);
  pthread_barrier_init(&barrier, 0, 4);
  pthread_create(&(pthread_t){0}, 0, allocate, 0);
  pthread_create(&(pthread_t){0}, 0, allocate, "much");
  pthread_create(&(pthread_t){0}, 0, live, "thread-stack.live");
  pthread_barrier_wait(&barrier);
  ready();
}
"#;

#[test]
fn allocations_and_mappings_are_told_apart_even_where_the_kernel_merged_them() {
    let dir = TempDir::new().unwrap();
    let program = build(&dir, "gcc", "memory.c", &format!("{COMMON}{MEMORY}"), &["-O1", "-pthread"]);
    let (_, map) = Target::start(&program).measure();
    let arenas = map.arenas.as_ref().unwrap();
    let mut heaps: Vec<usize> = arenas.iter().map(|arena| arena.heaps.len()).collect();
    heaps.sort_unstable();
    // One CPU allows eight arenas, so each of three threads has its own.
    assert_eq!(heaps, [1, 1, 2], "{}", show(&map));
    assert_eq!(metric(&map, "thread-arena.reserved"), Some(4 << 26));
    assert_eq!(metric(&map, "thread-arena.heaps"), Some(4));
    let rows: BTreeMap<Role, u64> = map.by_role().into_iter().map(|(role, sum)| (role, sum.count)).collect();
    assert_eq!(
        (rows[&Role::MmapChunk], rows[&Role::Tls], rows[&Role::FileMap]),
        (2, 1, 1),
        "{}",
        show(&map)
    );
    assert!(map.process.noreserve.is_some_and(|bytes| bytes >= 1 << 30));
    assert!(map.notes.is_empty(), "{:?}", map.notes);
}

const RUST: &str = r#"
use std::arch::asm;
fn base() -> u64 { let base: u64; unsafe { asm!("mov {}, fs:[0]", out(reg) base) }; base }
unsafe extern "C" { fn gettid() -> i32; fn pause() -> i32; }
fn me() { println!("T {} {:x}", unsafe { gettid() }, base()); }
fn main() {
    let (tx, rx) = std::sync::mpsc::channel();
    for i in 0..3 {
        let tx = tx.clone();
        std::thread::spawn(move || { me(); let v = vec![1_u8; 5000 * (i + 1)]; tx.send(v.len()).unwrap(); loop { unsafe { pause() }; } });
    }
    std::mem::forget(std::thread::spawn(|| ()));
    for _ in 0..3 { rx.recv().unwrap(); }
    std::thread::spawn(|| ()).join().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    me();
    println!("READY");
    loop { unsafe { pause() }; }
}
"#;

#[cfg(target_arch = "x86_64")]
#[test]
fn a_rust_program_with_its_signal_stacks() {
    let dir = TempDir::new().unwrap();
    let program = build(&dir, "rustc", "rusty.rs", RUST, &["--edition", "2024", "-O"]);
    let (capture, map) = Target::start(&program).measure();
    assert_eq!(metric(&map, "thread-stack.live.count"), Some(3), "{}", show(&map));
    assert_eq!(metric(&map, "thread-stack.exited.count"), Some(1), "{}", show(&map));
    let tells_map_stack = capture
        .regions
        .iter()
        .any(|r| r.flags.as_ref().is_some_and(|flags| flags.has(b"nh")));
    if tells_map_stack {
        assert_eq!(metric(&map, "signal-stack.count"), Some(4), "{}", show(&map));
        assert_eq!(metric(&map, "anon-map.reserved"), Some(0), "{}", show(&map));
    }
}
