//! Programs that do not do the same in every run: what is measured again, what is called a difference, and what is not.
//!
//! The program of these tests takes its turns from a file, one digit for each run, so that the "race" comes out as the test
//! wants it.

use tests::Project;

use super::{memcheck, snap};

/// Allocates as many blocks of 1 MiB as the first digit of `turns` says, and takes the digit out. `x` ends the program before
/// its checkpoint; an empty file counts as 1.
const TURNS: &str = r#"
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include "memcheck.h"

int main(void) {
    static char turns[4096];
    int file = open("turns", O_RDWR | O_CREAT, 0666);
    ssize_t length = read(file, turns, sizeof turns - 1);
    if (length > 0 && (pwrite(file, turns + 1, length - 1, 0) < 0 || ftruncate(file, length - 1) < 0))
        return 8;
    close(file);
    if (turns[0] == 'x')
        return 9;
    int blocks = length > 0 ? turns[0] - '0' : 1;
    for (int i = 0; i < blocks; i++)
        *(volatile char *)malloc(1 << 20) = 1;
    MEMCHECK_CHECKPOINT(done);
    return 0;
}
"#;

const TOML: &str = r#"
[[case]]
name = "turns"
target = { c = "turns.c" }
checkpoint = [{ name = "done", budget.mmap-chunk.count = 3 }]
"#;

/// Approved with one block.
pub(super) fn project() -> Project {
    let project = Project::new().file("turns.c", TURNS).file("memcheck.toml", TOML);
    let _ = memcheck(&project, &["accept"]).expect_code(0);
    assert!(!project.read(&snap("turns")).contains("varies"));
    project
}

#[test]
fn a_run_that_passes_is_measured_once() {
    let project = project().file("turns", "1222");
    let _ = memcheck(&project, &[]).expect_code(0).expect_no_stderr("varies");
    assert_eq!(project.read("turns"), "222");
}

#[test]
fn what_every_run_shows_is_a_difference() {
    let project = project().file("turns", "2221");
    let _ = memcheck(&project, &[])
        .expect_code(5)
        .expect_all(&["Snapshot differs: 1 row", "Cause", "intended? cargo memcheck accept turns"])
        .expect_no_stderr("varies");
    assert_eq!(project.read("turns"), "1", "three runs");
    // Its size may vary: then no size is told as a fact.
    project.write("turns", "323");
    let _ = memcheck(&project, &[])
        .expect_code(5)
        .expect_all(&[
            "Snapshot differs",
            "varies between runs: mmap-chunk.count 2 or 3 at done (approved 1)",
        ])
        .expect_no_stderr("Cause");
}

#[test]
fn what_some_runs_show_is_unsteady_and_never_called_a_difference() {
    for turns in ["211", "221", "212"] {
        let project = project().file("turns", turns);
        let before = project.read(&snap("turns"));
        let _ = memcheck(&project, &[])
            .expect_code(5)
            .expect_all(&[
                "Snapshot unsteady: 3 runs of the same binary do not agree",
                "varies between runs: mmap-chunk.count 1 or 2 at done (approved 1)",
                "budget.mmap-chunk.count = { min = 1, max = 2 }",
                "cargo memcheck accept turns",
            ])
            .expect_no_stderr("Snapshot differs")
            .expect_no_stderr("Cause")
            .expect_last_line("measured 1 checkpoint in 1 case: 1 failed (1 snapshot)");
        assert_eq!(project.read(&snap("turns")), before);
        // A run that happens to pass does not outdate the news.
        let _ = memcheck(&project, &[]).expect_code(0);
        assert!(project.has("memcheck/snapshots/turns.snap.new"));
        // Accepting marks the row; from then on neither value fails, and the row is named.
        let _ = memcheck(&project, &["accept"])
            .expect_code(0)
            .expect_stderr("done: mmap-chunk differs from run to run and is not gated");
        assert!(
            project
                .read(&snap("turns"))
                .contains("mmap-chunk            varies       varies"),
            "{}",
            project.read(&snap("turns"))
        );
        for turn in ["1", "2"] {
            project.write("turns", turn);
            let _ = memcheck(&project, &[])
                .expect_code(0)
                .expect_stderr("not gated: row varies: turns @ done: mmap-chunk");
        }
        // The budget holds all the same.
        project.write("turns", "4");
        let _ = memcheck(&project, &[]).expect_code(3).expect_stderr("mmap-chunk.count is 4");
    }
}

#[test]
fn a_broken_budget_is_never_measured_away() {
    let project = project().file("turns", "4111");
    let _ = memcheck(&project, &[]).expect_code(3).expect_stderr("mmap-chunk.count is 4");
    assert_eq!(project.read("turns"), "111", "no second run");
    // Nor one that shows when the case is measured again.
    project.write("turns", "2411");
    let _ = memcheck(&project, &[]).expect_code(3).expect_all(&[
        "mmap-chunk.count is 4",
        "this is run 2 of the case: in the one before only the snapshot differed",
    ]);
    assert_eq!(project.read("turns"), "11");
}

#[test]
fn a_run_that_cannot_be_judged_is_told() {
    let project = project().file("turns", "22x1");
    let _ = memcheck(&project, &[])
        .expect_code(7)
        .expect_all(&["before checkpoint `done`", "this is run 3 of the case"]);
    assert_eq!(project.read("turns"), "1");
}

/// What waits to be accepted is outdated by a run that is neither what is approved nor a variant of what waits.
#[test]
fn a_pending_file_that_says_varies_is_outdated_by_other_values() {
    let project = project().file("turns", "211");
    let _ = memcheck(&project, &[]).expect_code(5).expect_stderr("unsteady");
    project.write(
        "memcheck.toml",
        &TOML.replace("name = \"done\"", "name = \"done\", at = \"main\""),
    );
    let _ = memcheck(&project, &[]).expect_code(5).expect_stderr("Snapshot differs");
    assert!(!project.read("memcheck/snapshots/turns.snap.new").contains("varies"));
}

/// Three runs that agree on a value that nobody has seen are another state: accepting takes no `varies` for it.
#[test]
fn a_pending_file_that_says_varies_is_not_taken_for_another_state() {
    let project = project().file("turns", "211");
    let _ = memcheck(&project, &[]).expect_code(5).expect_stderr("unsteady");
    project.write("turns", "333");
    let _ = memcheck(&project, &["accept"])
        .expect_code(5)
        .expect_stderr("it was made from another state, and was not accepted");
    assert!(!project.read(&snap("turns")).contains("varies"));
    assert!(!project.read("memcheck/snapshots/turns.snap.new").contains("varies"));
}

/// `varies` is written by what is seen: a new case is measured three times.
#[test]
fn a_new_case_that_varies_is_approved_as_varying() {
    let project = Project::new()
        .file("turns.c", TURNS)
        .file("memcheck.toml", TOML)
        .file("turns", "121");
    let _ = memcheck(&project, &["accept"])
        .expect_code(0)
        .expect_stderr("differs from run to run");
    let _ = memcheck(&project, &[]).expect_code(0).expect_stderr("not gated");
}

#[test]
fn machine_output_names_the_values() {
    let project = project().file("turns", "213");
    let run = memcheck(&project, &["--message-format", "json"]).expect_code(5);
    let case: serde_json::Value = serde_json::from_str(run.stdout.lines().next().unwrap()).unwrap();
    let snapshot = &case["snapshot"];
    assert_eq!((&snapshot["status"], &snapshot["runs"]), (&"unsteady".into(), &3.into()));
    let count = &snapshot["unsteady"][0];
    assert_eq!((&count["row"], &count["column"]), (&"mmap-chunk".into(), &"count".into()));
    assert_eq!(
        (&count["approved"], &count["values"]),
        (&1.into(), &serde_json::json!([1, 2, 3]))
    );
}
