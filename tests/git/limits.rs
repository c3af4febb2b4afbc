//! Limits in `compare --base`: whose they are, that a change cannot escape them, and that each run counts.

use tests::{Project, Run};

use super::{LIMITED, PROGRAM, TOML, commit, edit, memcheck, nothing_left, repository, says};

const MAX: &str = "budget.own.anon = \"100 KiB\"";

/// A repository whose base limits its only case, and the text of its `memcheck.toml`.
fn limited() -> (Project, String) {
    let toml = TOML.replace("checkpoint", &format!("{MAX}\ncheckpoint"));
    (repository(&[("main.c", PROGRAM), ("memcheck.toml", &toml)]), toml)
}

#[test]
fn limits_of_the_base_hold_for_the_change() {
    let (project, _) = limited();
    edit(&project, "main.c", "KIB 40", "KIB 400");
    edit(&project, "memcheck.toml", MAX, "budget.own.anon = \"1 MiB\"");
    let _ = memcheck(&project, &["compare"]).expect_code(0);
    // Cited is the line of the base's file, wherever the change has the limit.
    edit(&project, "memcheck.toml", "[[case]]", "# A line more.\n[[case]]");
    let run = memcheck(&project, &["compare", "--limits-from", "base"]).expect_code(3);
    says(&run, "limit 100 KiB (base memcheck.toml:5)");
    // What the sum was stands beside what it is.
    let row = run.stdout.lines().find(|line| line.trim_start().starts_with("own ")).unwrap();
    let words: Vec<&str> = row.split_whitespace().collect();
    assert!(
        matches!(words[..], ["own", "anon", _, "KiB", _, "KiB", change, "KiB", "100", "KiB", "OVER"] if change.starts_with('+')),
        "{row}"
    );
}

#[test]
fn a_change_escapes_no_limit_of_the_base_by_removing_what_it_speaks_of() {
    let (project, toml) = limited();
    edit(&project, "main.c", "KIB 40", "KIB 400");
    // The checkpoint.
    project.write("memcheck.toml", &toml.replace(", { name = \"done\" }", ""));
    let run = memcheck(&project, &["compare", "--limits-from", "base"]).expect_code(3);
    says(
        &run,
        "Budget not judged: own.anon (max) at done: the change has no such checkpoint any more (base memcheck.toml:5)",
    );
    let unjudged = |run: &Run| {
        assert!(run.stdout.trim_end().ends_with("1 with a limit not judged"), "{}", run.stdout);
    };
    unjudged(&run);
    let _ = memcheck(&project, &["compare"]).expect_code(0);
    // The case, by another name.
    project.write("memcheck.toml", &toml.replace("\"block\"", "\"other\""));
    let run = memcheck(&project, &["compare", "--limits-from", "base"]).expect_code(3);
    says(&run, "FAIL block");
    says(&run, "own.anon (max) at start: the change has no such case any more");
    says(&run, "own.anon (max) at done: the change has no such case any more");
    unjudged(&run);
    let json = memcheck(&project, &["compare", "--limits-from", "base", "--message-format", "json"]).expect_code(3);
    assert!(
        json.stdout.contains("\"escaped\":[{\"checkpoint\":\"start\""),
        "{}",
        json.stdout
    );
    // What the case runs.
    project.write(
        "memcheck.toml",
        &toml
            .replace("name = \"done\"", "name = \"done\", at = \"main\"")
            .replace("{ name = \"start\" }, ", ""),
    );
    let run = memcheck(&project, &["compare", "--limits-from", "base"]).expect_code(3);
    says(&run, "block is not defined as at the base (checkpoint done)");
    // All of it.
    std::fs::remove_file(project.path().join("memcheck.toml")).unwrap();
    project.write(
        "Cargo.toml",
        "[package]\nname = \"plain\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
    );
    project.write("src/main.rs", "fn main() {}\n");
    let _ = memcheck(&project, &["compare", "--limits-from", "base"])
        .expect_code(2)
        .expect_stderr("the working tree has none any more");
    nothing_left(&project);
}

/// A program that takes more memory every third time it is run: what it counts with lies beside it.
const SOMETIMES: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include "memcheck.h"
int main(int argc, char **argv) {
    int runs = 0;
    FILE *file = fopen(argv[1], "r");
    if (file) { if (fscanf(file, "%d", &runs) != 1) return 2; fclose(file); }
    file = fopen(argv[1], "w");
    fprintf(file, "%d", runs + 1);
    fclose(file);
    int kib = KIB + 4 * (runs % 2 == 0) + (runs % 3 == 2 ? 100 : 0);
    volatile char *block = malloc(kib << 10);
    for (int i = 0; i < kib << 10; i++)
        block[i] = 1;
    MEMCHECK_CHECKPOINT(done);
    return 0;
}
"#;

#[test]
fn a_limit_that_one_run_of_three_breaks_is_broken() {
    let toml = |args: &str| {
        LIMITED
            .replace(
                "target = { c = \"main.c\" }",
                &format!("target = {{ c = \"main.c\" }}\nargs = [\"{args}\"]"),
            )
            .replace("{ name = \"start\" }, ", "")
    };
    let base = SOMETIMES.replace("KIB + 4 * (runs % 2 == 0) + (runs % 3 == 2 ? 100 : 0)", "40");
    let now = SOMETIMES.replace("KIB +", "40 +");
    let project = repository(&[("main.c", &base), ("memcheck.toml", &toml("base.count"))]);
    project.write("main.c", &now);
    project.write("memcheck.toml", &toml("now.count"));
    commit(&project, "sometimes more");
    let run = memcheck(&project, &["compare", "--base", "main"]).expect_code(3);
    says(&run, "Budget exceeded: own.anon");
    says(
        &run,
        "own.anon at done breaks its limit (max_growth over base) in 1 of 3 runs",
    );
}

#[test]
fn no_waiver_lifts_a_limit_of_the_command_line() {
    let waiver =
        "\n[[waiver]]\ncase = \"block\"\nmetric = \"own.anon\"\nceiling = \"1 MiB\"\nexpires = 2999-01-01\nreason = \"known\"\n";
    let toml = TOML.replace("checkpoint", "budget.own.anon = \"16 KiB\"\ncheckpoint");
    let project = Project::new()
        .file("main.c", PROGRAM)
        .file("memcheck.toml", &format!("{toml}snapshot = false\n{waiver}"));
    let _ = memcheck(&project, &[]).expect_code(0);
    for stricter in ["own.anon<=16KiB", "block/done:own.anon<=12KiB"] {
        let run = memcheck(&project, &["--budget", stricter]).expect_code(3);
        assert!(run.stderr.contains("(--budget"), "{}", run.stderr);
    }
}
