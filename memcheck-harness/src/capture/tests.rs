//! Tests of the reading half on real, stopped children that gcc builds on the spot.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use tempfile::TempDir;

use super::*;
use crate::elf::tests::gcc;
use crate::model::{Memory, Object, ObjectKind, PageRun, Usage};

const FAST: Reading = Reading {
    level: CaptureLevel::Fast,
    ..Reading::EVERYTHING
};

/// Touches a bit of everything, prints an address it wrote to, then waits for ever.
const TARGET: &str = r#"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
static char bss[40960];
static void *thread(void *arg) { free(malloc(100)); for (;;) pause(); return arg; }
int main(int argc, char **argv) {
  char *map = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  char *shared = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  volatile char sum = 0;
  memcpy(map + 8190, "hello", 5);
  for (int i = 64; i < 80; i++) sum += map[i * 4096]; /* zero pages */
  memset(shared, 1, 8192);
  bss[20000] = 1;
  memset(malloc(300000), 1, 300000);
  pthread_t id;
  pthread_create(&id, 0, thread, 0);
  printf("%p\n", (void *)map);
  fflush(stdout);
  if (argc > 1) pthread_exit(0);
  for (;;) pause();
}"#;

/// A child that has printed its line and now sleeps; killed when dropped.
struct Target {
    child: Child,
    map: u64,
}

impl Target {
    fn start(program: &Path, args: &[&str]) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a test needs a process to look at")]
        let mut child = std::process::Command::new(program)
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut byte = [0];
        let out = child.stdout.as_mut().unwrap();
        while !line.ends_with('\n') && out.read(&mut byte).unwrap() == 1 {
            line.push(char::from(byte[0]));
        }
        let map = u64::from_str_radix(line.trim().trim_start_matches("0x"), 16).unwrap();
        // All threads asleep: after the line nothing but the way into pause() is left.
        let target = Self { child, map };
        while !target.tids().iter().all(|tid| matches!(target.state(*tid), 'S' | 'Z')) {
            std::thread::yield_now();
        }
        target
    }

    fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    fn tids(&self) -> Vec<i32> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        tasks
            .map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap())
            .collect()
    }

    fn state(&self, tid: i32) -> char {
        let stat = fs::read_to_string(format!("/proc/{}/task/{tid}/stat", self.pid())).unwrap();
        stat.rsplit(')').next().unwrap().trim().chars().next().unwrap()
    }

    fn threads(&self) -> Vec<Thread> {
        let thread = |tid| Thread {
            tid,
            name: Name::default(),
            stack_pointer: None,
            program_counter: None,
            tls_base: None,
        };
        self.tids().into_iter().map(thread).collect()
    }

    fn capture(&self) -> Capture {
        self.capture_with(&mut ObjectCache::default())
    }

    fn capture_with(&self, cache: &mut ObjectCache) -> Capture {
        read_process(self.pid(), &self.threads(), Vec::new(), cache).unwrap()
    }

    fn rollup(&self) -> BTreeMap<String, u64> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid())).unwrap();
        let figure = |line: &str| {
            let (key, value) = line.split_once(':')?;
            Some((key.to_owned(), value.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024))
        };
        text.lines().filter_map(figure).collect()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn build(flags: &[&str]) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = gcc(dir.path(), "target", TARGET, &[&["-pthread"], flags].concat());
    (dir, path)
}

fn total(capture: &Capture, field: impl Fn(&Usage) -> u64) -> u64 {
    capture
        .regions
        .iter()
        .map(|region| field(region.usage.as_ref().unwrap()))
        .sum()
}

fn executable(capture: &Capture) -> &Object {
    let mut found = capture.objects.iter().filter(|object| object.kind == ObjectKind::Executable);
    let first = found.next().unwrap();
    assert_eq!(found.next(), None);
    first
}

#[test]
fn the_regions_add_up_to_what_the_kernel_says_of_the_whole() {
    let (_dir, path) = build(&[]);
    let target = Target::start(&path, &[]);
    let (capture, rollup) = (target.capture(), target.rollup());
    assert_eq!(total(&capture, |usage| usage.resident_bytes), rollup["Rss"]);
    assert_eq!(total(&capture, |usage| usage.anon_bytes), rollup["Anonymous"]);
    assert_eq!(capture.status.reserved_bytes, sum_of(&capture.regions));
    assert_eq!((capture.status.threads, capture.threads.len()), (Some(2), 2));
    assert_eq!(capture.exe, Name::from(path.to_str().unwrap()));
    assert!(
        capture
            .regions
            .iter()
            .any(|region| region.name.as_bytes() == b"[heap]" && Some(region.start) == capture.start_brk)
    );
    let stack = capture
        .regions
        .iter()
        .find(|region| region.name.as_bytes() == b"[stack]")
        .unwrap();
    assert!(stack.contains(capture.start_stack.unwrap()));
}

/// Resident and anonymous bytes of a range.
fn counted(runs: &[PageRun]) -> (u64, u64) {
    let sum = |of: fn(&PageRun) -> bool| runs.iter().filter(|run| of(run)).map(|run| run.end - run.start).sum();
    (sum(|run| run.resident), sum(|run| run.anon))
}

#[test]
fn page_runs_count_what_smaps_counts_in_every_region() {
    let (_dir, path) = build(&[]);
    let target = Target::start(&path, &[]);
    let capture = target.capture();
    let memory = memory_of(target.pid(), &target.threads()).unwrap();
    let mut compared = 0;
    for region in capture.regions.iter().filter(|region| region.start < 1 << 63) {
        // A kernel without PAGEMAP_SCAN cannot tell zero pages from others.
        let Some(runs) = memory.pages(region.start, region.end) else {
            continue;
        };
        let usage = region.usage.unwrap();
        assert_eq!(counted(&runs), (usage.resident_bytes, usage.anon_bytes), "{region:?}");
        assert!(runs.windows(2).all(|pair| pair[0].end <= pair[1].start));
        compared += 1;
    }
    assert!(compared > 10, "{compared} of {} regions", capture.regions.len());
    let recording = memory.into_recording();
    assert_eq!(
        recording.scans.len(),
        capture.regions.iter().filter(|region| region.start < 1 << 63).count()
    );
    let first = &capture.regions[0];
    assert_eq!(recording.pages(first.start, first.end), recording.scans[0].2);
}

#[test]
fn what_is_known_beforehand_changes_no_answer_and_no_recording() {
    let (_dir, path) = build(&[]);
    let target = Target::start(&path, &[]);
    let capture = target.capture();
    let ask_at = |memory: &LiveMemory, inside: u64| {
        let mut words = Vec::new();
        for region in capture
            .regions
            .iter()
            .filter(|region| region.perms.read && region.start < 1 << 63)
        {
            let ends = [region.start, region.end - capture.page_bytes];
            words.extend(ends.map(|page| memory.u64(page + inside)));
        }
        words
    };
    let ask = |memory: &LiveMemory| ask_at(memory, 8);
    let plain = memory_of(target.pid(), &target.threads()).unwrap();
    let expected = ask(&plain);
    assert!(expected.iter().any(Option::is_some) && expected.iter().any(Option::is_none));
    let likely = plain.asked_for();
    let (_, prepared) = look_of(target.pid(), &target.threads(), Reading::EVERYTHING).unwrap();
    // Of these, one is not mapped and one is not asked for.
    let unused = capture
        .regions
        .iter()
        .find(|region| region.contains(capture.start_stack.unwrap()))
        .unwrap();
    let others = [0x1000, unused.end - 2 * capture.page_bytes];
    prepared.expect(&others);
    let prepared = prepared.nothing_is_shared();
    prepared.expect_again(&likely);
    assert_eq!(ask(&prepared), expected);
    assert_eq!(prepared.asked_for(), likely);
    // Of the pages that were read in part, what was not read.
    for inside in [4088, 2048, 60, 0] {
        assert_eq!(ask_at(&prepared, inside), ask_at(&plain, inside));
    }
    assert_eq!(prepared.into_recording(), plain.into_recording());
    let after = target.capture();
    let resident = |capture: &Capture| total(capture, |usage| usage.resident_bytes);
    // The kernel may take clean pages of files back meanwhile.
    assert!(resident(&after) <= resident(&capture), "nothing was faulted in");
}

#[test]
fn the_fast_level_says_what_smaps_says_in_every_region() {
    let (_dir, path) = build(&[]);
    let target = Target::start(&path, &[]);
    let full = target.capture();
    let fast = read_process_at(
        target.pid(),
        &target.threads(),
        Vec::new(),
        (FAST, None),
        &mut ObjectCache::default(),
    )
    .unwrap();
    assert_eq!(fast.regions.len(), full.regions.len());
    // A kernel without PAGEMAP_SCAN gives the full level instead.
    let is_fast = fast.regions.iter().all(|region| region.flags.is_none());
    for (ours, theirs) in fast.regions.iter().zip(&full.regions) {
        let expected = theirs.usage.map(|usage| Usage {
            detail: usage.detail.filter(|_| !is_fast),
            ..usage
        });
        assert_eq!(ours.usage, expected, "{theirs:?}");
    }
    assert_eq!(fast.objects, full.objects);
    assert!(
        is_fast
            || memory_of(target.pid(), &target.threads())
                .unwrap()
                .pages(0x1000, 0x2000)
                .is_none()
    );
}

/// Pages, some of them made guards (`MADV_GUARD_INSTALL`, Linux 6.13), and a file of huge pages where the machine has some.
const GUARDED: &str = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
int main(void) {
  char *map = mmap(0, 64 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(map, 1, 64 * 4096);
  madvise(map + 8 * 4096, 16 * 4096, 102);
  char *huge = mmap(0, 2 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, memfd_create("huge", MFD_HUGETLB), 0);
  if (huge != MAP_FAILED) huge[0] = 1;
  printf("%p\n", (void *)map);
  fflush(stdout);
  for (;;) pause();
}"#;

#[test]
fn the_fast_level_takes_guards_for_nothing_and_huge_pages_as_smaps_does() {
    let dir = TempDir::new().unwrap();
    let target = Target::start(&gcc(dir.path(), "guarded", GUARDED, &[]), &[]);
    let full = target.capture();
    let how = (FAST, None);
    let cache = &mut ObjectCache::default();
    let fast = read_process_at(target.pid(), &target.threads(), Vec::new(), how, cache).unwrap();
    let figures = |capture: &Capture| {
        let of = |figure: fn(&Usage) -> u64| total(capture, figure);
        [
            of(|usage| usage.resident_bytes),
            of(|usage| usage.anon_bytes),
            of(|usage| usage.swap_bytes),
        ]
    };
    assert_eq!(figures(&fast), figures(&full));
}

#[test]
fn entries_of_pagemap_say_the_same_where_they_can_tell() {
    let (_dir, path) = build(&[]);
    let target = Target::start(&path, &[]);
    let capture = target.capture();
    let memory = memory_of(target.pid(), &target.threads()).unwrap();
    let regions = capture.regions.iter().filter(|region| region.start < 1 << 63);
    let told: Vec<_> = regions
        .filter_map(|region| Some((region, memory.scan_entries(region.start, region.end)?)))
        .collect();
    for (region, runs) in &told {
        let usage = region.usage.unwrap();
        assert_eq!(counted(runs), (usage.resident_bytes, usage.anon_bytes), "{region:?}");
    }
    // The region with the zero pages is the one (vvar may be another) of which they cannot.
    assert!(told.len() > 10 && !told.iter().any(|(region, _)| region.contains(target.map)));
}

#[test]
fn reading_memory_changes_no_figure_and_is_remembered() {
    let (_dir, path) = build(&[]);
    let target = Target::start(&path, &[]);
    let before = target.capture();
    let memory = memory_of(target.pid(), &target.threads()).unwrap();
    let mut word = [0; 5];
    assert!(memory.read(target.map + 8190, &mut word), "across a page boundary");
    assert_eq!(&word, b"hello");
    assert!(!memory.read(target.map + 512 * 1024, &mut word), "never touched");
    assert!(
        !memory.read(8, &mut word) && !memory.read(u64::MAX - 2, &mut word),
        "not mapped"
    );
    let mut resident = 0;
    for region in &before.regions {
        for page in (region.start..region.end.min(region.start.saturating_add(1 << 24))).step_by(4096) {
            resident += u64::from(memory.read(page, &mut [0; 8]));
        }
    }
    assert!(resident > 100);
    let after = target.capture();
    // Pss and the private and shared figures of file pages measure the rest of the machine too.
    let figures = |capture: &Capture| -> Vec<_> {
        let of = |region: &Region| {
            region
                .usage
                .map(|usage| (region.start, usage.resident_bytes, usage.anon_bytes, usage.swap_bytes))
        };
        capture.regions.iter().map(of).collect()
    };
    assert_eq!(figures(&after), figures(&before));
    let recording = memory.into_recording();
    assert!(recording.read(target.map + 8190, &mut word) && &word == b"hello");
    assert!(!recording.read(target.map + 512 * 1024, &mut word));
}

#[test]
fn objects_have_kinds_biases_facts_and_thread_symbols() {
    let (_dir, path) = build(&["-pie"]);
    let target = Target::start(&path, &[]);
    let capture = target.capture();
    let exe = executable(&capture);
    assert_eq!(exe.path, capture.exe);
    let auxv: BTreeMap<u64, u64> = capture.auxv.iter().copied().collect();
    assert_eq!(exe.bias + exe.facts.as_ref().unwrap().entry, auxv[&9]);
    let loader = capture
        .objects
        .iter()
        .find(|object| object.kind == ObjectKind::Interpreter)
        .unwrap();
    assert_eq!(loader.bias, auxv[&7]);
    assert!(
        capture.objects.iter().all(|object| object.facts_missing.is_none()),
        "{:?}",
        capture.objects
    );
    assert!(capture.objects.windows(2).all(|pair| pair[0].bias < pair[1].bias));
    #[cfg(target_env = "gnu")]
    assert!(
        capture
            .objects
            .iter()
            .any(|object| object.symbols.contains_key("_thread_db_pthread_list"))
    );
}

/// What the file says is what stands in memory.
#[cfg(target_env = "gnu")]
#[test]
fn constants_of_libc_are_those_of_the_process() {
    use std::os::unix::fs::FileExt;
    for options in [&[][..], &["-static"]] {
        let (_dir, path) = build(options);
        let target = Target::start(&path, &[]);
        let memory = fs::File::open(format!("/proc/{}/mem", target.pid())).unwrap();
        let capture = target.capture();
        let mut compared = 0;
        for object in &capture.objects {
            for (name, words) in object.constants.iter() {
                let mut bytes = [0; 12];
                let of_three = !name.starts_with("_thread_db_sizeof") && !name.contains("_const_");
                let bytes = &mut bytes[..if of_three { 12 } else { 4 }];
                memory.read_exact_at(bytes, object.bias + object.symbols[name]).unwrap();
                let words = words.map(u32::to_ne_bytes);
                assert_eq!(*bytes, words.as_flattened()[..bytes.len()], "{name}");
                compared += 1;
            }
        }
        // A static program keeps what a debugger asks for only where its linker was told so.
        assert!(compared > 3 || !options.is_empty(), "{compared}");
    }
}

#[test]
fn a_static_executable_has_its_own_thread_symbols() {
    let (_dir, path) = build(&["-static"]);
    let capture = Target::start(&path, &[]).capture();
    assert_eq!(capture.objects.len(), 1);
    assert_eq!(executable(&capture).bias, 0);
    assert!(executable(&capture).symbols.contains_key("main_arena"));
}

#[test]
fn a_deleted_executable_still_tells_its_facts() {
    let (_dir, path) = build(&[]);
    let target = Target::start(&path, &[]);
    fs::remove_file(&path).unwrap();
    assert!(executable(&target.capture()).facts.is_some());
}

#[test]
fn a_file_put_in_the_place_of_a_mapped_one_is_never_reported() {
    let (dir, path) = build(&["-Wl,--build-id=0x01"]);
    let other = gcc(dir.path(), "other", "int main(void) { return 0; }", &["-Wl,--build-id=0x02"]);
    let mut cache = ObjectCache::default();
    let target = Target::start(&path, &[]);
    fs::rename(&other, &path).unwrap();
    let capture = target.capture_with(&mut cache);
    assert_eq!(executable(&capture).facts.as_ref().unwrap().build_id.as_deref(), Some("01"));
    // As a library it has only its path, where the tool may not use map_files.
    let dir = ProcDir::open(target.pid(), None).unwrap();
    let exe = executable(&capture);
    let regions: Vec<Region> = capture
        .regions
        .iter()
        .filter(|region| region.inode == exe.inode)
        .cloned()
        .collect();
    let moved: Vec<Region> = regions
        .into_iter()
        .map(|region| Region {
            end: region.end + 1,
            ..region
        })
        .collect();
    let why = objects::open(&dir, (exe.dev, exe.inode), &moved.iter().collect::<Vec<_>>(), false);
    // The kernel names the mapping with " (deleted)", and no file has that name; with the new file's name it is refused too.
    assert_eq!(why.unwrap_err(), "the file was deleted or moved");
    let named: Vec<Region> = moved
        .iter()
        .map(|region| Region {
            name: Name::from(path.to_str().unwrap()),
            ..region.clone()
        })
        .collect();
    let why = objects::open(&dir, (exe.dev, exe.inode), &named.iter().collect::<Vec<_>>(), false);
    assert_eq!(why.unwrap_err(), "another file stands at its path now");
}

#[test]
fn the_cache_answers_the_next_checkpoint_and_sees_a_new_file() {
    let (_dir, path) = build(&["-Wl,--build-id=0x01"]);
    let mut cache = ObjectCache::default();
    let target = Target::start(&path, &[]);
    let first = target.capture_with(&mut cache);
    assert_eq!(target.capture_with(&mut cache).objects, first.objects);
    drop(target);
    // Rewritten in place: the same inode.
    let (_dir2, other) = build(&["-Wl,--build-id=0x02"]);
    fs::write(&path, fs::read(other).unwrap()).unwrap();
    let second = Target::start(&path, &[]).capture_with(&mut cache);
    assert_eq!(executable(&second).inode, executable(&first).inode);
    assert_eq!(executable(&second).facts.as_ref().unwrap().build_id.as_deref(), Some("02"));
}

#[test]
fn a_zombie_leader_is_read_through_a_living_thread() {
    let (_dir, path) = build(&[]);
    let target = Target::start(&path, &["exit-main"]);
    while target.state(target.pid()) != 'Z' {
        std::thread::yield_now();
    }
    assert_eq!(fs::read(format!("/proc/{}/maps", target.pid())).unwrap_or_default(), b"");
    let capture = target.capture();
    assert!(executable(&capture).facts.is_some() && capture.regions.len() > 10);
    let memory = memory_of(target.pid(), &target.threads()).unwrap();
    let mut word = [0; 5];
    assert!(memory.read(target.map + 8190, &mut word) && &word == b"hello");
}

#[test]
fn a_process_that_is_gone_is_an_error() {
    let (_dir, path) = build(&[]);
    let mut target = Target::start(&path, &[]);
    let threads = target.threads();
    target.child.kill().unwrap();
    // The first thread may be dead while others, which still have the memory, are about to die.
    let tasks = || fs::read_dir(format!("/proc/{}/task", target.pid())).unwrap().count();
    while target.state(target.pid()) != 'Z' || tasks() > 1 {
        std::thread::yield_now();
    }
    assert!(read_process(target.pid(), &threads, Vec::new(), &mut ObjectCache::default()).is_err());
    target.child.wait().unwrap();
    assert!(read_process(target.pid(), &threads, Vec::new(), &mut ObjectCache::default()).is_err());
}
