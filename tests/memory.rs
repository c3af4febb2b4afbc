//! Our harness on our examples: every case of the repository's `memcheck.toml`, and the story of a worker pool told in Rust,
//! with checks that a limit on one number cannot say. Runs under `cargo test`, `cargo nextest run` and `cargo memcheck`.

use std::process::ExitCode;

use memcheck_harness::harness::{Case, Change, Checkpoint, Limit, Suite, value};
use memcheck_harness::model::{MemoryMap, StackState};

/// As examples/pool.rs has it.
const WORKERS: u64 = 3;

fn main() -> ExitCode {
    memcheck_harness::main(Suite::of_file().with(each_worker_has_its_own()).with(what_a_round_leaves()))
}

/// What a worker costs while it waits: a stack of 2 MiB, an arena of 64 MiB of which little is memory.
fn each_worker_has_its_own() -> Case {
    Case::new("pool-workers")
        .example("pool")
        .set("snapshot.roles", ["thread-arena", "thread-stack.live"])
        .set("snapshot.tolerance.thread-arena", "16 KiB")
        .set("snapshot.tolerance.thread-stack.live", "16 KiB")
        .checkpoint(
            Checkpoint::new("idle")
                .budget("threads.count", Limit::exactly(WORKERS + 1))
                .budget("thread-arena.count", WORKERS)
                .inspect(workers_are_named)
                .inspect(|map| -> Result<(), String> {
                    let (stacks, arenas) = (
                        value(map, "thread-stack.live.reserved")?,
                        value(map, "thread-arena.reserved")?,
                    );
                    // The price of a worker is address space: less than a hundredth of it is memory.
                    let memory = value(map, "thread-stack.live.anon")? + value(map, "thread-arena.anon")?;
                    if memory * 100 > stacks + arenas {
                        return Err(format!(
                            "{memory} bytes of memory in {stacks} + {arenas} bytes of address space"
                        ));
                    }
                    Ok(())
                }),
        )
}

fn workers_are_named(map: &MemoryMap) {
    let mut names: Vec<String> = map
        .threads
        .iter()
        .filter(|thread| !thread.main && thread.state == StackState::Live)
        .filter_map(|thread| Some(thread.name.as_ref()?.to_string()))
        .collect();
    names.sort();
    assert_eq!(names, ["worker-0", "worker-1", "worker-2"]);
}

/// A round of work and its end: what grows, what comes back, and what does not.
fn what_a_round_leaves() -> Case {
    Case::new("pool-rounds")
        .example("pool")
        .after_last("run")
        .set("snapshot", false)
        .checkpoint(Checkpoint::new("idle"))
        .checkpoint(Checkpoint::new("loaded").budget("thread-arena.anon", Limit::growth("216 KiB", "idle")))
        .checkpoint(Checkpoint::new("drained"))
        .checkpoint(Checkpoint::new("joined").budget("thread-stack.exited.count", 0))
        .change("idle", "loaded", |change: &Change<'_>| -> Result<(), String> {
            assert_eq!(change.of("threads.count")?, 0, "no worker comes or goes");
            assert_eq!(change.of("mmap-chunk.count")?, 1, "the large block");
            assert!(
                change.of("thread-arena.anon")? >= i128::from(WORKERS) * 64 * 1024,
                "64 blocks each"
            );
            Ok(())
        })
        .change("loaded", "drained", |change: &Change<'_>| -> Result<(), String> {
            assert_eq!(change.of("mmap-chunk.count")?, -1, "malloc gives a large block back");
            assert_eq!(change.of("thread-arena.anon")?, 0, "and keeps the pages of small ones");
            Ok(())
        })
        .change("drained", "joined", |change: &Change<'_>| -> Result<(), String> {
            assert_eq!(change.of("thread-stack.live.count")?, -i128::from(WORKERS));
            assert_eq!(change.of("thread-stack.cached.count")?, i128::from(WORKERS));
            assert_eq!(change.of("thread-arena.count")?, 0, "arenas wait for the next threads");
            Ok(())
        })
}
