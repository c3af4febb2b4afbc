//! Programs under every C library a user may have: five threads in five fates (`fixtures/stacks.c`) on glibc 2.31 to the newest,
//! dynamic and static, with and without symbols, and on musl. `.ci/glibcs` unpacks the libraries; what is missing fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use memcheck_harness::capture::{self, ObjectCache};
use memcheck_harness::classify::classify;
use memcheck_harness::model::{Cancel, Capture, LaunchLimits, MemoryMap, Metric, Name, Role, StackState, Stdin};
use memcheck_harness::trace::{self, Launch, Next, Point};
use tempfile::TempDir;

use crate::stop::{probe, show, visit};
use crate::tools::{command, output};

const RELEASES: [&str; 4] = ["bullseye", "bookworm", "trixie", "sid"];
const PAGE: u64 = 4096;
const INCLUDE: &str = concat!("-I", env!("CARGO_MANIFEST_DIR"), "/../memcheck-probe/include");
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/stacks.c");

const LARGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/large.c");
const HUNDRED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/hundred.c");

/// The unpacked root of a release.
#[track_caller]
fn root(release: &str) -> PathBuf {
    tests::glibc::root(env!("CARGO_TARGET_TMPDIR"), release)
}

fn built(dir: &TempDir, release: &str, flags: &[&str]) -> PathBuf {
    built_of(SOURCE, dir, release, flags)
}

/// A program built against a release's libc and started by its loader.
fn built_of(source: &str, dir: &TempDir, release: &str, flags: &[&str]) -> PathBuf {
    let root = root(release);
    let program = dir.path().join("stacks");
    let _ = output(
        command("gcc")
            .args(["-O1", "-g", "-pthread", "-fcf-protection=none", "-Wl,-z,now"])
            .args(tests::glibc::flags(&root))
            .args([INCLUDE, source])
            .args(flags)
            .arg("-o")
            .arg(&program),
    );
    program
}

/// What the program says of its threads (name → state, depth), the capture and the map at its marker.
fn measured(dir: &TempDir, program: &Path) -> (BTreeMap<String, (String, u64)>, Capture, MemoryMap) {
    let truth = dir.path().join("truth");
    let launch = Launch {
        program: program.to_path_buf(),
        argv0: Name::from("stacks"),
        args: vec![truth.clone().into()],
        env: Some(vec![("LC_ALL".into(), "C".into())]),
        cwd: dir.path().to_path_buf(),
        stdin: Stdin::Null,
        limits: LaunchLimits::default(),
        cpus: None,
        fixed: true,
        tty: false,
        dies_with_us: false,
        lets_children_go: false,
        watch_stacks: true,
        timeout: Duration::from_secs(60),
        output_tail_bytes: 1024,
    };
    let points = [Point::new(probe("done"), 1)];
    let stopped = match trace::launch(&launch, &points, &Cancel::new()).unwrap().next().unwrap() {
        Next::Paused(stopped, _) => stopped,
        Next::Ended(ended) => panic!("{}: {ended:#?}", program.display()),
    };
    let rollup = || {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", stopped.pid())).unwrap();
        let of = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches(':')
                .trim()
                .trim_end_matches(" kB")
                .parse::<u64>()
                .unwrap()
                << 10
        };
        [of("Rss"), of("Anonymous"), of("Swap")]
    };
    let before = rollup();
    let mut objects = ObjectCache::default();
    let capture = capture::read(&stopped, &mut objects).unwrap();
    let memory = capture::memory(&stopped).unwrap();
    // The rule of DESIGN and README: the executable is own, and so is what the program asked for; the C library is not.
    let mut map = classify(&capture, &memory, &|_| false);
    capture::name_starts(&capture, &mut map, &mut objects).unwrap();
    assert_eq!(rollup(), before, "looking changes nothing");
    let all = map.sum(|_| true);
    let sums = [all.resident, all.anon, map.process.swap];
    assert_eq!(sums, before.map(Some), "{}", show(&map));
    assert_eq!(map.sum(|role| role == Role::Unclassified).reserved, 0, "{}", show(&map));
    stopped.kill().unwrap();
    let text = fs::read_to_string(&truth).unwrap();
    let told = text.lines().map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words[2].to_owned(), (words[0].to_owned(), words[1].parse().unwrap()))
    });
    (told.collect(), capture, map)
}

fn state(thread: &memcheck_harness::model::ThreadFact) -> &'static str {
    match (thread.user_stack, thread.state) {
        (true, StackState::Live) => "user",
        (_, StackState::Live) => "live",
        (_, StackState::Exited) => "exited",
        (_, StackState::Cached) => "cached",
    }
}

/// All five states, each thread's name, start routine and depth.
#[track_caller]
fn five_fates(told: &BTreeMap<String, (String, u64)>, map: &MemoryMap) {
    assert!(map.thread_lists_known, "{}", show(map));
    let threads: Vec<_> = map.threads.iter().filter(|thread| !thread.main).collect();
    let mut states: Vec<&str> = threads.iter().map(|thread| state(thread)).collect();
    states.sort_unstable();
    assert_eq!(states, ["cached", "exited", "exited", "live", "user"], "{}", show(map));
    for thread in threads {
        let name = thread.name.as_ref().unwrap().to_string();
        let (expected, depth) = &told[&name];
        assert_eq!(state(thread), expected, "{name}");
        let deepest = thread.deepest_bytes.unwrap();
        assert!(
            (*depth..*depth + PAGE).contains(&deepest),
            "{name}: {deepest}, touched {depth}"
        );
    }
}

/// Rows of what is the program's own, but for its segments, which another linker makes differently.
fn own_rows(map: &MemoryMap) -> Vec<(Role, u64, u64)> {
    let rows = map.by_role().into_iter();
    rows.filter(|(role, _)| role.is_own() && !role.is_elf())
        .map(|(role, sum)| (role, sum.count, sum.reserved))
        .collect()
}

#[expect(clippy::print_stderr, reason = "the versions are what one wants to know of this test")]
#[test]
fn five_fates_and_the_same_own_memory_on_every_glibc() {
    let mut rows = Vec::new();
    for release in RELEASES {
        let dir = TempDir::new().unwrap();
        let (told, capture, map) = measured(&dir, &built(&dir, release, &[]));
        five_fates(&told, &map);
        for thread in map.threads.iter().filter(|thread| !thread.main) {
            assert_eq!(thread.start_function, Some(Name::from("work")), "{release}");
        }
        assert!(map.arenas.is_some() && map.notes.is_empty(), "{release}: {}", show(&map));
        let libc = capture
            .objects
            .iter()
            .find(|object| object.path.to_string().contains("/libc"))
            .unwrap();
        assert!(libc.path.to_string().contains(release), "{release}: {}", libc.path);
        assert!(map.own_objects.is_empty() && map.platform_objects.contains(&libc.path.file_name()));
        eprintln!("{}", version(release));
        rows.push((release, own_rows(&map)));
    }
    for (release, own) in &rows[1..] {
        assert_eq!(own, &rows[0].1, "{release} against {}", rows[0].0);
    }
}

/// Arenas, live bytes and threads of each as the program counts them, whatever the layout of malloc's structures.
#[test]
fn a_hundred_threads_and_their_arenas_on_every_glibc() {
    let cores = std::thread::available_parallelism().unwrap().get();
    for release in RELEASES {
        let dir = TempDir::new().unwrap();
        let program = built_of(HUNDRED, &dir, release, &[]);
        let told = dir.path().join("told");
        let mut seen = None;
        visit(
            &program,
            &["100", "together", told.to_str().unwrap()],
            &[probe("done")],
            |_, _, _, map| {
                seen = Some(map.clone());
            },
        );
        let map = seen.unwrap();
        let arenas = map.arenas.as_ref().unwrap();
        assert_eq!(arenas.len(), (8 * cores - 1).min(100), "{release}");
        let told: BTreeSet<Vec<u64>> = fs::read_to_string(&told)
            .unwrap()
            .lines()
            .map(|line| {
                let mut numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
                numbers[2..].sort_unstable();
                numbers
            })
            .collect();
        // One chunk for the cache of each attached thread, of which malloc is not asked by the program (none from 2.42 on).
        let ours = |cache: u64| -> BTreeSet<Vec<u64>> {
            let counts = arenas.iter().map(|arena| {
                assert_eq!(arena.doubt, None, "{release}: {}", show(&map));
                let (usage, mut threads) = (arena.usage.unwrap(), arena.threads.clone().unwrap());
                threads.sort_unstable();
                let caches = if cache == 0 { 0 } else { threads.len() as u64 };
                let mut numbers = vec![usage.used_count - caches, usage.used_bytes - caches * cache];
                numbers.extend(threads.into_iter().map(|tid| u64::try_from(tid).unwrap()));
                numbers
            });
            counts.collect()
        };
        let fits = [0, 0x250, 0x290, 0x300].into_iter().any(|cache| ours(cache) == told);
        assert!(fits, "{release}: {told:?}\n{:?}", ours(0x290));
    }
}

/// Large allocations between mappings of the program's own, resized, aligned, in a thread: as many and as large as malloc says, in
/// every version's way of writing them.
#[test]
fn large_allocations_on_every_glibc() {
    for release in RELEASES {
        for flags in [&[][..], &["-static"], &["-static", "-s"]] {
            let dir = TempDir::new().unwrap();
            let program = built_of(LARGE, &dir, release, flags);
            let told = dir.path().join("told");
            visit(&program, &[told.to_str().unwrap()], &[probe("done")], |_, _, _, map| {
                let metric = |name| map.metric(&Metric::parse(name).unwrap());
                let text = fs::read_to_string(&told).unwrap();
                let numbers: Vec<u64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
                let [count, bytes, blocks] = numbers[..] else {
                    panic!("{text}")
                };
                assert_eq!(count, blocks, "{release}: the program knows how many blocks are large");
                assert_eq!(metric("mmap-chunk.count"), Some(count), "{release} {flags:?}: {}", show(map));
                assert_eq!(
                    metric("mmap-chunk.reserved"),
                    Some(bytes / PAGE * PAGE),
                    "{release} {flags:?}: {}",
                    show(map)
                );
                assert!(map.notes.is_empty(), "{release} {flags:?}: {}", show(map));
            });
        }
    }
}

/// The version a libc states itself.
fn version(release: &str) -> String {
    let root = root(release);
    let file = ["lib", "usr/lib"].map(|lib| root.join(lib).join("x86_64-linux-gnu/libc.so.6"));
    let bytes = file.iter().find_map(|file| fs::read(file).ok()).unwrap();
    let text = b"GNU C Library (";
    let at = bytes.windows(text.len()).position(|window| window == text).unwrap();
    let line = bytes[at..].split(|byte| *byte == b'\n').next().unwrap();
    format!("{release}: {}", String::from_utf8_lossy(line))
}

#[test]
fn static_programs_with_and_without_symbols() {
    for release in RELEASES {
        for flags in [&["-static"][..], &["-static", "-s"]] {
            let dir = TempDir::new().unwrap();
            let (told, _, map) = measured(&dir, &built(&dir, release, flags));
            five_fates(&told, &map);
        }
    }
}

/// musl keeps the pages of a thread until it is joined, unmaps the stack of a detached one, and has no cache.
#[test]
fn static_musl() {
    let dir = TempDir::new().unwrap();
    let program = dir.path().join("stacks");
    let kernel = dir.path().join("kernel");
    fs::create_dir(&kernel).unwrap();
    for (name, target) in [
        ("linux", "/usr/include/linux"),
        ("asm", "/usr/include/x86_64-linux-gnu/asm"),
        ("asm-generic", "/usr/include/asm-generic"),
    ] {
        std::os::unix::fs::symlink(target, kernel.join(name)).unwrap();
    }
    for strip in ["-g", "-s"] {
        let _ = output(
            command("musl-gcc")
                .args(["-O1", "-static", strip, "-idirafter"])
                .arg(&kernel)
                .args([INCLUDE, SOURCE, "-o"])
                .arg(&program),
        );
        let (told, _, map) = measured(&dir, &program);
        assert!(map.thread_lists_known, "{}", show(&map));
        let threads: Vec<_> = map.threads.iter().filter(|thread| !thread.main).collect();
        let mut states: Vec<&str> = threads.iter().map(|thread| state(thread)).collect();
        states.sort_unstable();
        assert_eq!(states, ["exited", "exited", "live", "user"], "{}", show(&map));
        let mut depths: Vec<u64> = threads.iter().filter_map(|thread| thread.deepest_bytes).collect();
        let mut expected: Vec<u64> = told.values().filter(|told| told.0 != "cached").map(|told| told.1).collect();
        depths.sort_unstable();
        expected.sort_unstable();
        for (deepest, touched) in depths.iter().zip(&expected) {
            // The descriptor and TLS lie above what musl calls the end of the stack.
            assert!((*touched..*touched + 2 * PAGE).contains(deepest), "{depths:?} {expected:?}");
        }
        assert_eq!(depths.len(), 4);
    }
}
