//! The runs of a matrix: what one more thread costs, where the arenas of malloc stop, and the limits on it.

use std::process::Command;

use serde_json::Value;
use tests::Project;

use super::{memcheck, one, snap};

const ARENAS: &str = include_str!("../../examples/c/arenas.c");

const NUMBERS: [u64; 8] = [1, 2, 4, 8, 16, 32, 64, 100];

fn arenas(mode: &str, rest: &str) -> Project {
    let runs: Vec<String> = NUMBERS.iter().map(|number| format!("[\"{number}\"]")).collect();
    one(
        "arenas",
        ARENAS,
        &format!(
            "args = [\"{mode}\"]\nmatrix = {{ args = [{}], unit = \"thread\" }}\nsnapshot = false\n{rest}",
            runs.join(", ")
        ),
    )
}

/// Processors that are online, as the C library says.
#[expect(clippy::disallowed_methods, reason = "a program that asks for the truth is no target")]
fn processors() -> u64 {
    let output = Command::new("getconf").arg("_NPROCESSORS_ONLN").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn scaling(project: &Project, metric: &str) -> Value {
    let results: Value = serde_json::from_str(&project.read("target/memcheck-data/results.json")).unwrap();
    let last = results["cases"].as_array().unwrap().last().unwrap();
    assert_eq!(last["name"], "arenas.100");
    let all = last["scaling"].as_array().unwrap();
    all.iter().find(|one| one["metric"] == metric).unwrap().clone()
}

#[test]
fn threads_that_live_at_once_meet_the_limit_of_arenas() {
    let project = arenas(
        "alive",
        "[[case.checkpoint]]\nname = \"loaded\"\nbudget.thread-stack.reserved = { max_per_unit = \"8 MiB\", max_constant = \"0 B\" }\n",
    );
    let run = memcheck(&project, &["-v"])
        .expect_code(0)
        .expect_stderr("loaded 1, 2, 4, 8, 16, 32, 64, 100 threads")
        .expect_stderr("thread-stack.reserved  +8 MiB for each thread")
        .expect_stderr("measured 8 checkpoints in 8 cases: all passed")
        .expect_no_stderr("nothing is gated");
    let (cpus, counts) = (processors(), scaling(&project, "thread-arena.count"));
    let limit = 8 * cpus - 1;
    for (number, point) in NUMBERS.iter().zip(counts["points"].as_array().unwrap()) {
        assert_eq!(point, &serde_json::json!([number, limit.min(*number)]));
    }
    // A line needs two runs on either side.
    if limit <= 32 {
        let _ = run.expect_stderr(&format!(
            "up to {limit} threads, then the same for any number ({limit} + main = 8 × {cpus} processors, glibc's limit)"
        ));
    } else if limit > 100 {
        assert_eq!(counts["knee"], Value::Null);
    }
    // Half a stack is not enough; nor may the stacks that are there be forgotten.
    let text = project.read("memcheck.toml").replace("\"8 MiB\"", "\"4 MiB\"");
    project.write("memcheck.toml", &text);
    let _ = memcheck(&project, &[])
        .expect_code(3)
        .expect_stderr("arenas.100 @ loaded")
        .expect_stderr("Budget exceeded: thread-stack.reserved costs 8 MiB for each thread, limit 4 MiB (memcheck.toml:")
        .expect_stderr("measured 8 checkpoints in 8 cases: 1 failed (1 budget)");
    let _ = memcheck(&project, &["report", "target/memcheck-data/results.json", "--replay"])
        .expect_code(3)
        .expect_stdout("thread-stack.reserved costs 8 MiB for each thread");
    // A part of the runs is no line.
    let _ = memcheck(&project, &["arenas.4", "-v"]).expect_code(0);
}

#[test]
fn threads_one_after_another_cost_what_one_does() {
    let project = arenas(
        "turn",
        "[[case.checkpoint]]\nname = \"loaded\"\nbudget.thread-stack.reserved.max_per_unit = \"0 B\"\n",
    );
    let _ = memcheck(&project, &[])
        .expect_code(0)
        .expect_stderr("thread-stack.reserved  the same for any number");
    assert_eq!(scaling(&project, "thread-arena.count")["line"]["slope_milli"], 0);
}

#[test]
fn a_known_limit_is_named_and_each_run_has_a_snapshot() {
    let project = arenas(
        "alive",
        "env = { MALLOC_ARENA_MAX = \"5\" }\n[[case.checkpoint]]\nname = \"loaded\"\n",
    );
    let text = project.read("memcheck.toml").replace("snapshot = false\n", "");
    project.write("memcheck.toml", &text);
    let _ = memcheck(&project, &["accept"]).expect_code(0);
    assert!(project.read(&snap("arenas.100")).contains("checkpoint loaded"));
    let _ = memcheck(&project, &[])
        .expect_code(0)
        .expect_stderr("up to 4 threads, then the same for any number (4 + main = 5 = MALLOC_ARENA_MAX)");
}
