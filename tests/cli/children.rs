//! Child processes through the whole line: checkpoints in them, all of them captured at their ends, and the story of running
//! out of memory ten times.

use serde_json::Value;
use tests::{Project, Run};

use super::{memcheck, one, snap};

const MULTI_OOM: &str = include_str!("../../examples/c/multi_oom.c");

/// Each round begins with no more than the first one, and comes as deep.
fn multi_oom(variant: &str) -> Project {
    let rest = format!(
        "args = [\"{variant}\"]\nlimits = {{ as = \"64 MiB\" }}\nsnapshot = false\n\
         [[case.checkpoint]]\nname = \"begun\"\nchild = \"main.*\"\nlimit = 10\n\
         budget.main-heap.anon = {{ max_growth = \"64 KiB\", over = \"begun.1\" }}\n\
         [[case.checkpoint]]\nname = \"full\"\nchild = \"main.*\"\nlimit = 10\n\
         [[case.checkpoint]]\nname = \"done\"\nat = \"exit\"\n"
    );
    one("oom", MULTI_OOM, &rest)
}

fn case_of(run: &Run) -> Value {
    let first = run.stdout.lines().next().unwrap_or_default();
    serde_json::from_str(first).unwrap_or_else(|error| panic!("{error}: {}", run.stdout))
}

/// Blocks of their own in each round, by its number.
fn depths(case: &Value) -> Vec<u64> {
    let checkpoints = case["checkpoints"].as_array().unwrap();
    let full = checkpoints
        .iter()
        .filter(|checkpoint| checkpoint["name"].as_str().unwrap().starts_with("full."));
    full.map(|checkpoint| {
        let number = checkpoint["name"].as_str().unwrap().trim_start_matches("full.");
        assert_eq!(checkpoint["child"], format!("main.{number}"));
        checkpoint["roles"]["mmap-chunk"]["count"].as_u64().unwrap()
    })
    .collect()
}

/// What the program says of itself.
fn told(case: &Value) -> Vec<u64> {
    let stdout = case["output"]["stdout"].as_str().unwrap();
    let depth = |line: &str| line.split_once(": depth ")?.1.parse().ok();
    stdout.split("\\x0a").filter_map(depth).collect()
}

#[test]
fn ten_rounds_out_of_memory_are_told_by_their_depth() {
    let run = memcheck(&multi_oom("clean"), &["--message-format", "json"]).expect_code(0);
    let case = case_of(&run);
    assert_eq!(told(&case).len(), 10, "{case}");
    assert_eq!(depths(&case), told(&case));
    assert_eq!(depths(&case), [depths(&case)[0]; 10]);

    let leaking = multi_oom("leaking");
    let run = memcheck(&leaking, &["--message-format", "json"]).expect_code(3);
    let case = case_of(&run);
    assert_eq!(depths(&case), told(&case));
    assert!(depths(&case).is_sorted_by(|before, after| before > after), "{case}");
    let run = memcheck(&leaking, &[]).expect_code(3);
    let text = &run.stderr;
    assert!(text.contains("Budget exceeded: main-heap.anon is"), "{text}");
    assert!(text.contains("begun.2") && text.contains("max_growth over"), "{text}");
}

/// Three children that end in an order of their own, one of them another program.
const THREE: &str = r#"
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    (void)argv;
    if (argc > 1) return 0;
    for (int i = 1; i <= 3; i++) {
        if (fork()) continue;
        if (i == 2) execl("/proc/self/exe", "three", "again", (char *)0);
        volatile char *kept = malloc(i << 20);
        kept[0] = 1;
        usleep(1000 * (3 - i));
        _exit(0);
    }
    while (wait(NULL) > 0) {}
    return 0;
}
"#;

#[test]
fn every_child_is_captured_at_its_end_in_the_order_of_birth() {
    let rest = "children = \"capture\"\n[[case.checkpoint]]\nname = \"done\"\nat = \"exit\"\n";
    let project = one("three", THREE, rest);
    let _ = memcheck(&project, &["list"])
        .expect_code(0)
        .expect_stdout("done (the end of each child)");
    let _ = memcheck(&project, &["accept"]).expect_code(0);
    let text = project.read(&snap("three"));
    let heads: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("checkpoint ")).collect();
    assert_eq!(
        heads,
        [
            "done (KiB, sum of the row)",
            "main.1 in main.1 (KiB, sum of the row)",
            "main.2 in main.2 (change since main.1)",
            "main.3 in main.3 (change since main.2)",
        ]
    );
    for _ in 0..5 {
        let _ = memcheck(&project, &[]).expect_code(0);
    }
    let _ = memcheck(&project, &["report", "target/memcheck-data/results.json", "--replay"]).expect_code(0);
    let shown = memcheck(&project, &["show", "target/memcheck-data/results.json", "three@main.3"]).expect_code(0);
    assert!(shown.stdout.contains("mmap-chunk"), "{}", shown.stdout);
}

#[test]
fn a_child_that_is_not_there_is_told_with_those_that_are() {
    let rest = "[[case.checkpoint]]\nname = \"ready\"\nchild = \"worker.1\"\n";
    let run = memcheck(&one("three", THREE, rest), &[]).expect_code(7);
    let words = run.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains("there was no child worker.1; there were: main.1, main.2, main.3"),
        "{}",
        run.stderr
    );
    assert!(!words.contains("any such probe"), "{}", run.stderr);
}

/// What the parent keeps is counted once, whoever shares it; a limit on the tree asks for its sums.
#[test]
fn a_limit_on_the_tree_counts_shared_pages_once() {
    let with = |variant: &str, budget: &str| {
        let project = multi_oom(variant);
        super::gate::edit(&project, "budget.main-heap.anon", &format!("{budget}\nbudget.main-heap.anon"));
        memcheck(&project, &["--message-format", "json"])
    };
    let growth = "budget.tree.anon = { max_growth = \"256 KiB\", over = \"begun.1\" }\nbudget.tree.processes = 2";
    let clean = case_of(&with("clean", growth).expect_code(0));
    let leaking = case_of(&with("leaking", growth).expect_code(3));
    let anon = |case: &Value, round: u64| {
        let all = case["checkpoints"].as_array().unwrap();
        let found = all.iter().find(|one| one["name"] == format!("begun.{round}")).unwrap();
        assert_eq!(found["tree"]["processes"], 2);
        found["tree"]["anon"].as_u64().unwrap()
    };
    assert!(anon(&clean, 10).abs_diff(anon(&clean, 1)) <= 64 << 10);
    // Nine rounds of notes, 1040 KiB each, which parent and child both have.
    let grown = anon(&leaking, 10) - anon(&leaking, 1);
    assert!(grown.abs_diff(9 * (1040 << 10)) <= 64 << 10, "{grown}");
    let limits = leaking["checkpoints"][9]["limits"].to_string();
    assert!(
        limits.contains("tree.anon") && limits.contains("max_growth over begun.1"),
        "{limits}"
    );
}
