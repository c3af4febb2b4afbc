//! Arenas of malloc as the command tells them, against a program that counts for itself: a hundred threads at the same time, and
//! one after another.

use std::collections::BTreeSet;

use serde_json::Value;
use tests::Project;

use super::memcheck;

const SOURCE: &str = include_str!("../fixtures/hundred.c");

/// Sizes of the chunk that a thread's cache takes in its arena, which malloc does not ask itself for: none up to 2.25, then by
/// version of glibc.
const CACHES: [u64; 4] = [0, 0x250, 0x290, 0x300];

/// COUNT, BYTES and threads of each arena, as the program says.
type Told = BTreeSet<(u64, u64, Vec<u64>)>;

fn measured(project: &Project, how: &str) -> (Told, Value) {
    let json = ["show", "--message-format", "json", "--at", "probe:done", "--"];
    let run = memcheck(project, &[&json[..], &["./hundred", "100", how, "told"]].concat()).expect_code(0);
    let value: Value = serde_json::from_str(&run.stdout).unwrap();
    let line = |line: &str| {
        let mut numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        let mut threads = numbers.split_off(2);
        threads.sort_unstable();
        (numbers[0], numbers[1], threads)
    };
    (
        project.read("told").lines().map(line).collect(),
        value["checkpoints"][0].clone(),
    )
}

/// The arenas of the capture, without what the caches of the attached threads take.
fn ours(stop: &Value, cache: u64) -> Told {
    let one = |arena: &Value| {
        assert!(arena["doubt"].is_null(), "{arena}");
        let mut threads: Vec<u64> = arena["threads"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tid| tid.as_u64().unwrap())
            .collect();
        threads.sort_unstable();
        let number = |name: &str| arena["usage"][name].as_u64().unwrap();
        let caches = if cache == 0 { 0 } else { threads.len() as u64 };
        (number("used_count") - caches, number("used_bytes") - caches * cache, threads)
    };
    stop["arenas"].as_array().unwrap().iter().map(one).collect()
}

#[test]
fn a_hundred_threads_have_the_arenas_that_glibc_allows_and_a_hundred_in_turn_have_one() {
    let project = Project::new().file("hundred.c", SOURCE);
    let include = format!("-I{}/../memcheck-probe/include", env!("CARGO_MANIFEST_DIR"));
    let _ = project
        .run("cc".as_ref(), &["-O1", "-pthread", "-o", "hundred", "hundred.c", &include])
        .expect_code(0);
    let cores = std::thread::available_parallelism().unwrap().get();

    let (told, stop) = measured(&project, "together");
    // glibc's limit is 8 arenas for each core, the main one included.
    let expected = (8 * cores - 1).min(100);
    assert_eq!(stop["arenas"].as_array().unwrap().len(), expected);
    assert_eq!(stop["roles"]["thread-arena"]["count"], expected);
    let cache = CACHES.into_iter().find(|cache| ours(&stop, *cache) == told);
    assert!(cache.is_some(), "{told:?}\n{:?}", ours(&stop, 0x290));
    let threads: usize = told.iter().map(|(.., threads)| threads.len()).sum();
    // As in glibc: threads beyond the limit share arenas, the main one too.
    assert!((expected..=100).contains(&threads), "{threads}");

    let (told, stop) = measured(&project, "in-turn");
    assert_eq!((told.len(), stop["arenas"].as_array().unwrap().len()), (1, 1));
    assert_eq!(stop["roles"]["thread-arena"]["count"], 1);
    assert_eq!(ours(&stop, 0), told, "the caches of finished threads are gone");
}
