//! Growth from round to round: a loop that leaks and one that does not, in the program of the examples, whose leak it counts
//! itself; long series, of which not every round is kept; and the same judged again from the results.

use serde_json::Value;
use tests::Project;

use super::{memcheck, one};

const ROUNDS: &str = include_str!("../../examples/c/rounds.c");

/// Rounds in which one holds a further mebibyte.
const SPIKE: &str = r#"
#include <stdlib.h>
#include <string.h>
#include "memcheck.h"

int main(int argc, char **argv) {
    for (int i = 1; i <= atoi(argv[1]); i++) {
        char *volatile block = i == atoi(argv[argc - 1]) ? malloc(1 << 20) : NULL;
        if (block) memset(block, 1, 1 << 20);
        MEMCHECK_CHECKPOINT(round);
        free(block);
    }
    return 0;
}
"#;

const RESULTS: &str = "target/memcheck-data/results.json";

fn rounds(count: u32, mode: &str, checkpoint: &str) -> Project {
    one(
        "loop",
        ROUNDS,
        &format!(
            "args = [\"{count}\", \"{mode}\"]\nsnapshot = false\nafter_last = \"run\"\n[[case.checkpoint]]\nname = \"round\"\n{checkpoint}\n"
        ),
    )
}

fn results(project: &Project) -> Value {
    serde_json::from_str(&project.read(RESULTS)).unwrap()
}

#[test]
fn a_loop_that_leaks_64_bytes_and_one_that_does_not() {
    // Over 2000 rounds, of which every tenth is read.
    let leak = rounds(
        2000,
        "leak",
        "every = 10\nlimit = 200\nbudget.main-heap.used.max_per_round = \"0 B\"\nbudget.main-heap.anon.max_per_round = \"90 B\"",
    );
    let run = memcheck(&leak, &[]).expect_code(3);
    let results = results(&leak);
    let case = &results["cases"][0];
    // The program has counted for itself.
    let told = case["output"]["stderr"].as_str().unwrap();
    let (number, _) = told.split_once(" bytes per round").unwrap_or_else(|| panic!("{told:?}"));
    let bytes: u64 = number.parse().unwrap();
    let run = run
        .expect_stderr(&format!(
            "Budget exceeded: main-heap.used grows {bytes} B per round, limit 0 B (memcheck.toml:"
        ))
        .expect_stderr("round 200 of 1991 rounds read, one in 10, the first 20 of them warm-up; the memory of 51 is kept")
        .expect_stderr("measured 200 checkpoints in 1 case: 1 failed (1 budget)")
        .expect_stderr("  free it        main-heap.used grows by ")
        .expect_no_stderr("nothing is gated");
    assert!(run.stderr.contains("▁▁▂▂▃▃▄▄▄▅▅▆▆▇▇█  r² 1.000"), "{}", run.stderr);
    let trend = &case["series"][0]["trends"]["main-heap.used"];
    assert_eq!(
        (&trend["direction"], &trend["slope_milli"]),
        (&"grows".into(), &(bytes * 1000).into())
    );
    // In pages it is less exact, and the same verdict.
    let pages = &case["series"][0]["trends"]["main-heap.anon"];
    let slope = pages["slope_milli"].as_u64().unwrap();
    assert_eq!(pages["direction"], "grows");
    assert!(slope.abs_diff(bytes * 1000) <= 3000, "{slope}");
    // Judged again by a limit that allows it, and by one on a metric that was not read.
    let raised = leak.read("memcheck.toml").replace("\"0 B\"", &format!("\"{bytes} B\""));
    leak.write("memcheck.toml", &raised);
    let replay = ["report", RESULTS, "--replay"];
    let _ = memcheck(&leak, &replay).expect_code(0);
    leak.write("memcheck.toml", &raised.replace("main-heap.anon.max", "main-heap.free.max"));
    let _ = memcheck(&leak, &replay)
        .expect_code(3)
        .expect_stdout("growth of main-heap.free per round: it was not read in");

    let clean = rounds(
        50,
        "clean",
        "every = true\nlimit = 50\nbudget.main-heap.used.max_per_round = \"0 B\"\nbudget.own.anon = { max_per_round = \"0 B\" }",
    );
    let _ = memcheck(&clean, &["-v"])
        .expect_code(0)
        .expect_stderr("round 50 rounds, the first 5 of them warm-up")
        .expect_stderr("main-heap.used         flat");
    let _ = memcheck(&clean, &["budget"]).expect_code(0).expect_stdout("max_per_round");
}

#[test]
fn too_few_rounds_are_no_verdict() {
    let project = rounds(
        7,
        "clean",
        "every = true\nlimit = 50\nbudget.main-heap.used.max_per_round = \"0 B\"",
    );
    let _ = memcheck(&project, &[]).expect_code(3).expect_stderr(
        "Budget not judged: growth of main-heap.used per round: series `round` had 6 rounds after a warm-up of 1; a verdict needs 8",
    );
}

/// Of 150 rounds the memory of 51 is kept; what happens in the others counts all the same.
#[test]
fn a_round_that_is_not_kept_still_breaks_its_limit() {
    let project = one(
        "loop",
        SPIKE,
        "args = [\"150\", \"77\"]\nsnapshot = false\n[[case.checkpoint]]\nname = \"round\"\nevery = true\nlimit = 150\n\
         budget.process.anon = \"900 KiB\"\nbudget.main-heap.used.max_per_round = \"0 B\"\n",
    );
    let _ = memcheck(&project, &[])
        .expect_code(3)
        .expect_stderr("Budget exceeded: process.anon is ")
        .expect_stderr("in round 77, limit 900 KiB")
        .expect_stderr("measured 150 checkpoints in 1 case: 1 failed");
    assert_eq!(results(&project)["cases"][0]["checkpoints"].as_array().unwrap().len(), 51);
    let _ = memcheck(&project, &["report", RESULTS, "--replay"])
        .expect_code(3)
        .expect_stdout("in round 77, limit 900 KiB");
    // A single round is no growth.
    let text = project.read("memcheck.toml").replace("900 KiB", "2 MiB");
    project.write("memcheck.toml", &text);
    let _ = memcheck(&project, &[]).expect_code(0);
}

/// A pair of more than 100 repetitions: what is left behind by each, and from one to the next.
#[test]
fn a_repeated_phase_may_leave_so_much_and_no_more() {
    // The first malloc makes its own table besides.
    let source = r#"
#include <stdlib.h>
#include <string.h>

static char *volatile block;
__attribute__((noinline)) void handle(int n) { block = malloc(100); memset(block, n, 100); }

int main(void) {
    for (int i = 0; i < 120; i++) handle(i);
    return 0;
}
"#;
    let project = one(
        "loop",
        source,
        "snapshot = false\n[[case.checkpoint]]\nname = \"turn\"\nfrom = { function = \"handle\" }\nto = { returns = \"handle\" }\nlimit = 120\n\
         budget.main-heap.used = { max_growth = \"1 KiB\", over = \"from\", max_per_round = \"0 B\" }\n",
    );
    let _ = memcheck(&project, &[])
        .expect_code(3)
        .expect_stderr("Budget exceeded: main-heap.used grows 112 B per round, limit 0 B")
        .expect_stderr("measured 240 checkpoints in 1 case: 1 failed (1 budget)");
    let text = project.read("memcheck.toml").replace("\"0 B\"", "\"112 B\"");
    project.write("memcheck.toml", &text);
    let _ = memcheck(&project, &[]).expect_code(0).expect_no_stderr("nothing is gated");
}
