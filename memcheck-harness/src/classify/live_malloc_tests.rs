//! malloc of real processes: what a program counts of its own allocations, and what glibc's own statistics say, against the
//! walk through its chunks.

use std::collections::BTreeMap;

use tempfile::TempDir;

use super::live_tests::{COMMON, Target, build, metric, show};
use crate::model::{ArenaFact, MemoryMap};

/// Counts every allocation by standing in front of malloc, the loader's own included. At the end it prints `LIVE arena count
/// bytes` (whole chunks; the main arena is 0), `MAPPED count bytes`, and `malloc_info`. All but the arena in decimal.
const COUNTING: &str = r#"
#include <malloc.h>
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);
enum { MAX = 1 << 21 };
static void *live_blocks[MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static size_t slot(void *p) { return ((uintptr_t)p >> 4) * 0x9E3779B97F4A7C15u % MAX; }
static void *TOMB = (void *)1;
static void *add(void *p) {
  if (!p) return p;
  pthread_mutex_lock(&lock);
  size_t i = slot(p);
  while (live_blocks[i] && live_blocks[i] != TOMB) i = (i + 1) % MAX;
  live_blocks[i] = p;
  pthread_mutex_unlock(&lock);
  return p;
}
static void drop(void *p) {
  if (!p) return;
  pthread_mutex_lock(&lock);
  size_t i = slot(p);
  while (live_blocks[i] != p) { if (!live_blocks[i]) abort(); i = (i + 1) % MAX; }
  live_blocks[i] = TOMB;
  pthread_mutex_unlock(&lock);
}
void *malloc(size_t n) { return add(__libc_malloc(n)); }
void *calloc(size_t n, size_t m) { return add(__libc_calloc(n, m)); }
void *memalign(size_t a, size_t n) { return add(__libc_memalign(a, n)); }
void *aligned_alloc(size_t a, size_t n) { return add(__libc_memalign(a, n)); }
int posix_memalign(void **p, size_t a, size_t n) { *p = add(__libc_memalign(a, n)); return !*p; }
void free(void *p) { drop(p); __libc_free(p); }
void *realloc(void *p, size_t n) { drop(p); return add(__libc_realloc(p, n)); }
static struct { size_t arena, count, bytes; } sums[1000];
static char buffer[1 << 20];
static void tell(void) {
  size_t mapped = 0, mapped_bytes = 0;
  for (size_t i = 0; i < MAX; i++) {
    char *p = live_blocks[i];
    if (!p || p == TOMB) continue;
    size_t word = ((size_t *)p)[-1];
    if (word & 2) { mapped++; mapped_bytes += (word & ~7ul) + ((size_t *)p)[-2]; continue; }
    size_t arena = word & 4 ? *(size_t *)((uintptr_t)p & ~((64ul << 20) - 1)) : 0, k = 0;
    while (sums[k].count && sums[k].arena != arena) k++;
    sums[k].arena = arena; sums[k].count++; sums[k].bytes += malloc_usable_size(p) + 8;
  }
  for (int k = 0; sums[k].count; k++) printf("LIVE %zx %zu %zu\n", sums[k].arena, sums[k].count, sums[k].bytes);
  printf("MAPPED %zu %zu\n", mapped, mapped_bytes);
  struct mallinfo2 info = mallinfo2();
  printf("INFO %zu %zu\n", info.hblks, info.hblkhd);
  malloc_info(0, stdout);
}
static unsigned seed(unsigned *s) { return *s = *s * 1103515245 + 12345; }
static void churn(unsigned s, int count) {
  void **kept = calloc(count, sizeof *kept);
  for (int round = 0; round < 3; round++)
    for (int i = 0; i < count; i++) {
      unsigned n = seed(&s) >> 8;
      if (n & 1) { free(kept[i]); kept[i] = 0; }
      if (!kept[i]) kept[i] = malloc(n % 7 ? n % 200 : n % 5000);
      if (n % 11 == 0) kept[i] = realloc(kept[i], n % 3000);
      if (n % 4001 == 0) { free(kept[i]); kept[i] = memalign(256, n % 3000); }
    }
  for (int i = 0; i < count; i += 3) { free(kept[i]); kept[i] = 0; }
}
"#;

const CHURN: &str = r#"
static int concurrent, rounds, large;
static pthread_barrier_t every;
static void *work(void *n) {
  for (int i = 0; i < large; i++) if (!malloc(100000)) abort();
  churn((unsigned)(size_t)n + 1, rounds);
  if (concurrent) { self(); pthread_barrier_wait(&every); for (;;) pause(); }
  return 0;
}
int main(int argc, char **argv) {
  setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
  int threads = atoi(argv[1]); rounds = atoi(argv[2]); concurrent = argc > 3; large = argc > 4 ? 1400 : 0;
  pthread_barrier_init(&every, 0, threads + 1);
  churn(77, rounds);
  for (size_t i = 0; i < (size_t)threads; i++) {
    pthread_t t;
    if (pthread_create(&t, 0, work, (void *)i)) abort();
    if (!concurrent) pthread_join(t, 0);
  }
  if (concurrent) pthread_barrier_wait(&every);
  void *big = malloc(300000), *bigger = malloc(1000000), *aligned = memalign(65536, 400000), *gone = malloc(5000000);
  free(gone);
  ((char *)big)[1] = ((char *)bigger)[1] = ((char *)aligned)[1] = 1;
  tell();
  ready();
}
"#;

/// Bytes of `tcache_perthread_struct`'s chunk in the glibc of this machine, which malloc takes without asking itself: one for
/// each thread that uses it. 0 before 2.26.
fn cache_chunk(map: &MemoryMap, counted: &BTreeMap<u64, (u64, u64)>) -> u64 {
    let main = &map.malloc.as_ref().unwrap().main;
    let usage = main.usage.unwrap();
    let caches = usage.used_count - counted[&0].0;
    let bytes = (usage.used_bytes - counted[&0].1).checked_div(caches).unwrap_or(0);
    let threads = main.threads.as_ref().unwrap().len() as u64;
    assert!(caches == threads || caches == 0, "{}", show(map));
    // The main thread's is the first chunk of all; later ones may have got 16 bytes that were too few for a chunk.
    let sizes = [0, 0x250, 0x290, 0x300];
    sizes
        .into_iter()
        .rfind(|size| (*size..=size + 16).contains(&bytes))
        .unwrap_or_else(|| panic!("{bytes:x}\n{}", show(map)))
}

fn counted(said: &[String]) -> BTreeMap<u64, (u64, u64)> {
    let lines = said.iter().filter_map(|line| line.strip_prefix("LIVE "));
    lines
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let arena = u64::from_str_radix(words[0], 16).unwrap();
            (arena, (words[1].parse().unwrap(), words[2].parse().unwrap()))
        })
        .collect()
}

fn two(said: &[String], name: &str) -> (u64, u64) {
    let line = said.iter().find_map(|line| line.strip_prefix(name)).unwrap();
    let (count, bytes) = line.trim().split_once(' ').unwrap();
    (count.parse().unwrap(), bytes.parse().unwrap())
}

/// (free bytes without caches but with the top, bytes from the system) of each `<heap>` of `malloc_info`.
fn malloc_info(said: &[String]) -> Vec<(u64, u64)> {
    let size = |line: &str| -> u64 {
        let (_, rest) = line.split_once("size=\"").unwrap();
        rest.split('"').next().unwrap().parse().unwrap()
    };
    let mut heaps: Vec<(u64, u64)> = vec![];
    let mut inside = false;
    for line in said {
        if line.starts_with("<heap ") {
            inside = true;
            heaps.push((0, 0));
        } else if line == "</heap>" {
            inside = false;
        } else if let Some(heap) = heaps.last_mut().filter(|_| inside) {
            if line.starts_with("<total type=\"fast\"") || line.starts_with("<total type=\"rest\"") {
                heap.0 += size(line);
            } else if line.starts_with("<system type=\"current\"") {
                heap.1 = size(line);
            }
        }
    }
    heaps.sort_unstable();
    heaps
}

fn holds(map: &MemoryMap, said: &[String]) {
    let main = &map.malloc.as_ref().unwrap().main;
    let arenas = map.arenas.as_ref().unwrap();
    assert!(
        arenas.iter().chain([main]).all(|arena| arena.doubt.is_none()),
        "{}",
        show(map)
    );

    // The program's own count, for each arena: what malloc took for itself is a cache for each live thread that uses it.
    let counted = counted(said);
    let cache = cache_chunk(map, &counted);
    for arena in arenas {
        let (count, bytes) = counted.get(&arena.address).copied().unwrap_or_default();
        let usage = arena.usage.unwrap();
        let threads = if cache == 0 {
            0
        } else {
            arena.threads.as_ref().unwrap().len() as u64
        };
        assert_eq!(usage.used_count, count + threads, "{:x}\n{}", arena.address, show(map));
        let caches = usage.used_bytes - bytes;
        let padding = caches - threads * cache;
        assert!(
            padding.is_multiple_of(16) && padding <= 16 * threads,
            "{:x} {caches}\n{}",
            arena.address,
            show(map)
        );
    }
    assert_eq!(metric(map, "main-heap.used"), main.usage.map(|usage| usage.used_bytes));

    // glibc's statistics.
    let ours = |arena: &ArenaFact| {
        let usage = arena.usage.unwrap();
        let all = usage.used_bytes + usage.free_bytes + usage.top_bytes + usage.overhead_bytes;
        assert!(
            usage.overhead_bytes < 0x1000 * (1 + arena.heaps.len() as u64),
            "{}",
            show(map)
        );
        (usage, all)
    };
    let mut told: Vec<(u64, u64)> = arenas
        .iter()
        .chain([main])
        .map(|arena| {
            let (usage, all) = ours(arena);
            (usage.free_bytes + usage.top_bytes, all)
        })
        .collect();
    told.sort_unstable();
    // What is in the caches of threads glibc counts as used.
    let cached_in_threads: u64 =
        told.iter().map(|heap| heap.0).sum::<u64>() - malloc_info(said).iter().map(|heap| heap.0).sum::<u64>();
    let most: u64 = arenas
        .iter()
        .chain([main])
        .map(|arena| arena.usage.unwrap().cached_bytes)
        .sum();
    assert!(cached_in_threads <= most, "{cached_in_threads} {most}");
    let systems = |heaps: &[(u64, u64)]| -> u64 { heaps.iter().map(|heap| heap.1).sum() };
    assert_eq!(systems(&told), systems(&malloc_info(said)), "{}", show(map));

    assert_eq!(
        map.malloc.as_ref().unwrap().mmapped,
        Some(two(said, "MAPPED ")),
        "{}",
        show(map)
    );
    assert_eq!(two(said, "MAPPED "), two(said, "INFO "));
    assert_eq!(metric(map, "mmap-chunk.count"), Some(two(said, "MAPPED ").0), "{}", show(map));
    assert_eq!(
        metric(map, "mmap-chunk.reserved"),
        Some(two(said, "MAPPED ").1),
        "{}",
        show(map)
    );
    let attached: usize = arenas
        .iter()
        .chain([main])
        .map(|arena| arena.threads.as_ref().unwrap().len())
        .sum();
    assert_eq!(attached as u64, metric(map, "threads.count").unwrap());
}

#[test]
fn a_program_and_the_walk_count_the_same_allocations() {
    let dir = TempDir::new().unwrap();
    let program = build(
        &dir,
        "gcc",
        "churn.c",
        &format!("{COMMON}{COUNTING}{CHURN}"),
        &["-O1", "-pthread"],
    );
    let cores = std::thread::available_parallelism().unwrap().get();

    // Alone.
    let target = Target::start_with(&program, &["0", "5000"], &[]);
    let (_, map) = target.measure();
    holds(&map, &target.said);
    assert_eq!(metric(&map, "thread-arena.used"), Some(0));

    // A hundred threads at the same time: as many arenas as glibc allows; a hundred, one after the other: one.
    let target = Target::start_with(&program, &["100", "2000", "concurrent"], &[]);
    let (_, map) = target.measure();
    holds(&map, &target.said);
    assert_eq!(metric(&map, "thread-arena.count"), Some((8 * cores - 1).min(100) as u64));
    let target = Target::start_with(&program, &["100", "2000"], &[]);
    let (_, map) = target.measure();
    holds(&map, &target.said);
    assert_eq!(metric(&map, "thread-arena.count"), Some(1));

    // More than one heap in an arena.
    let target = Target::start_with(&program, &["2", "2000", "concurrent", "large"], &[]);
    let (_, map) = target.measure();
    holds(&map, &target.said);
    assert_eq!(metric(&map, "thread-arena.heaps"), Some(6), "{}", show(&map));
}

/// Large allocations before, between and behind mappings of the program's own that hold more than is looked through for
/// nothing, with words in the midst of them that look like the header of a chunk.
const BESIDE: &str = r#"
static void *volatile kept[1];
static char *own(size_t bytes) {
  char *map = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(map, 1, bytes);
  return map;
}
int main(void) {
  setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
  char *early = malloc(3 << 20), *first = own(70 << 20), *between = malloc(300000), *aligned = memalign(65536, 400000);
  char *second = own(2 << 20), *late = malloc(500000);
  kept[0] = malloc(100);
  size_t *data = (size_t *)(second + (1 << 20));
  data[0] = 0;
  data[1] = 1 << 19 | 2;
  early[1] = between[1] = aligned[1] = late[1] = first[1] = 1;
  tell();
  is("anon-map", data, 4096);
  ready();
}
"#;

#[test]
fn malloc_s_books_tell_large_allocations_from_what_looks_like_them() {
    let dir = TempDir::new().unwrap();
    let source = format!("{COMMON}{COUNTING}{BESIDE}");
    let dynamic = build(&dir, "gcc", "beside.c", &source, &["-O1", "-pthread"]);
    let target = Target::start(&dynamic);
    let (_, map) = target.measure();
    holds(&map, &target.said);
    assert!(map.notes.is_empty(), "{}", show(&map));
}

/// Without a symbol table the main arena alone tells that malloc is glibc's.
#[test]
fn a_stripped_static_program_has_its_large_allocations() {
    const LARGE: &str = r#"
#include <malloc.h>
static void *volatile kept[3];
int main(void) {
  kept[0] = malloc(100);
  kept[1] = malloc(300000);
  kept[2] = malloc(1000000);
  struct mallinfo2 info = mallinfo2();
  printf("INFO %zu %zu\n", info.hblks, info.hblkhd);
  ready();
}
"#;
    let dir = TempDir::new().unwrap();
    let flags = ["-O1", "-pthread", "-static", "-s"];
    let target = Target::start(&build(&dir, "gcc", "stripped.c", &format!("{COMMON}{LARGE}"), &flags));
    let (_, map) = target.measure();
    let (count, bytes) = two(&target.said, "INFO ");
    assert_eq!((count, metric(&map, "mmap-chunk.count")), (2, Some(2)), "{}", show(&map));
    assert_eq!(metric(&map, "mmap-chunk.reserved"), Some(bytes));
}

/// The next of a sequence that is the same on every run.
fn random(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    state.rotate_right(16)
}

/// A figure that is printed without a doubt stays right when any word but one kind is something else; and when many are, nothing
/// panics or goes on for ever.
///
/// That kind are the heads of fastbins, the one list that nothing counts: without its head a chunk is lost to malloc as well,
/// which is what the figures then say.
#[test]
fn broken_memory_is_doubted_not_believed() {
    let dir = TempDir::new().unwrap();
    let program = build(
        &dir,
        "gcc",
        "churn.c",
        &format!("{COMMON}{COUNTING}{CHURN}"),
        &["-O1", "-pthread"],
    );
    let target = Target::start_with(&program, &["2", "150", "concurrent"], &[]);
    let (capture, map) = target.measure();
    holds(&map, &target.said);
    let figures = |map: &MemoryMap| {
        ["main-heap.used", "main-heap.free", "thread-arena.used", "thread-arena.free"].map(|name| metric(map, name))
    };
    let truth = figures(&map);
    // From after the mutex and its flags to the first bin, in every version.
    let arenas = map.arenas.iter().flatten().chain([&map.malloc.as_ref().unwrap().main]);
    let heads: Vec<_> = arenas.map(|arena| arena.address + 8..arena.address + 0x70).collect();
    let (mut seed, mut doubted) = (1, 0);
    for round in 0..300 {
        let mut broken = capture.clone();
        let ranges: &mut Vec<(u64, Vec<u8>)> = &mut broken
            .recording
            .bytes
            .iter()
            .map(|(at, bytes)| (at, bytes.to_vec()))
            .collect();
        let changes = if round < 200 { 1 } else { 1 << (round % 8) };
        let mut counted = changes == 1;
        for _ in 0..changes {
            let word = |seed: &mut u64, ranges: &[(u64, Vec<u8>)]| {
                let range = random(seed) as usize % ranges.len();
                let words = ranges[range].1.len() / 8;
                (range, random(seed) as usize % words.max(1) * 8)
            };
            let (range, at) = word(&mut seed, ranges);
            let (other, from) = word(&mut seed, ranges);
            let value = match random(&mut seed) % 6 {
                0 => random(&mut seed),
                1 => 0,
                // Lists that lead back into themselves, and sizes of other chunks.
                2 => ranges[other].0 + from as u64,
                3 => ranges[other]
                    .1
                    .get(from..from + 8)
                    .map_or(0, |word| u64::from_le_bytes(word.try_into().unwrap())),
                4 => random(&mut seed) % 0x1000,
                _ => 1 << (random(&mut seed) % 64),
            };
            let address = ranges[range].0 + at as u64;
            counted &= !heads.iter().any(|heads| heads.contains(&address));
            if let Some(word) = ranges[range].1.get_mut(at..at + 8) {
                word.copy_from_slice(&value.to_le_bytes());
            }
        }
        broken.recording.bytes = std::mem::take(ranges).into_iter().collect();
        let map = super::classify(&broken, &broken.recording, &|_| true);
        super::fake::covers_every_byte_once(&broken, &map);
        for (ours, truth) in figures(&map).into_iter().zip(truth) {
            doubted += usize::from(ours.is_none());
            if counted {
                assert!(
                    ours.is_none() || ours == truth,
                    "round {round}: {ours:?}, not {truth:?}\n{}",
                    show(&map)
                );
            }
        }
    }
    assert!(doubted > 50, "{doubted}");
}
