//! A harness test as users write one, but as a plain program: `door.rs` runs it in throw-away projects. Its cases need nothing
//! but `grow.c` there; those of `memcheck.toml` join when there is one.

use std::path::Path;
use std::process::ExitCode;

use memcheck_harness::harness::{Case, Checkpoint, Suite, value};
use memcheck_harness::model::MemoryMap;

fn main() -> ExitCode {
    let suite = if Path::new("memcheck.toml").exists() {
        Suite::of_file()
    } else {
        Suite::new()
    };
    memcheck_harness::main(suite.with(grows()).with(shrinks().ignored(true)))
}

fn grows() -> Case {
    Case::new("built-grows")
        .c("grow.c")
        .checkpoint(Checkpoint::new("start"))
        .checkpoint(Checkpoint::new("grown").budget("own.anon", "1 MiB").inspect(has_a_heap))
        .change("start", "grown", |change| assert_eq!(change.of("threads.count"), Ok(0)))
}

fn has_a_heap(map: &MemoryMap) -> Result<(), String> {
    match value(map, "main-heap.anon")? {
        0 => Err("no heap".to_owned()),
        _ => Ok(()),
    }
}

fn shrinks() -> Case {
    Case::new("built-shrinks")
        .c("grow.c")
        .set("snapshot", false)
        .checkpoint(Checkpoint::new("start"))
        .checkpoint(Checkpoint::new("grown"))
        .change("start", "grown", |change| match change.of("main-heap.anon")? {
            ..0 => Ok(()),
            more => Err(format!("the heap grew by {more} bytes")),
        })
}
