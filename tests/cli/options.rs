//! What can be typed: filters, added budgets, listings, both forms of the command line.

use std::path::Path;

use super::accept::two;
use super::gate::edit;
use super::{GROW, TOOL, accepted, grow, memcheck};

#[test]
fn filters_choose_cases() {
    let project = two();
    let _ = memcheck(&project, &[])
        .expect_code(0)
        .expect_last_line("measured 4 checkpoints in 2 cases: all passed");
    let _ = memcheck(&project, &["shri"])
        .expect_code(0)
        .expect_stderr("1 further case was not selected")
        .expect_last_line("measured 2 checkpoints in 1 case: all passed");
    let _ = memcheck(&project, &["grow", "shrink"])
        .expect_code(0)
        .expect_last_line("measured 4 checkpoints in 2 cases: all passed");
    let _ = memcheck(&project, &["run", "--exact", "grow", "-j", "1"])
        .expect_code(0)
        .expect_last_line("measured 2 checkpoints in 1 case: all passed");
}

#[test]
fn a_command_that_was_mistyped_is_told_beside_the_cases() {
    let _ = memcheck(&accepted(), &["lst"])
        .expect_code(4)
        .expect_all(&["no case is called `lst`: cases are grow", "did you mean the command `list`?"]);
    let run = memcheck(&accepted(), &["elsewhere"]).expect_code(4);
    assert!(!run.stderr.contains("the command"), "{}", run.stderr);
}

#[test]
fn nothing_selected_is_no_pass() {
    let project = accepted();
    let _ = memcheck(&project, &["grwo"])
        .expect_code(4)
        .expect_stderr("did you mean `grow`?")
        .expect_last_line("measured 0 checkpoints in 0 cases: nothing was selected");
    let _ = memcheck(&project, &["--exact", "gro"]).expect_code(4).expect_stderr("`grow`");
    let _ = memcheck(&project, &["--no-tests=pass", "grwo"])
        .expect_code(0)
        .expect_last_line("measured 0 checkpoints in 0 cases: nothing was selected");
}

#[test]
fn added_budgets_only_make_it_stricter() {
    let project = accepted();
    let _ = memcheck(&project, &["--budget", "own.anon<=1GiB"]).expect_code(0);
    let _ = memcheck(&project, &["--budget", "threads.count<=0"])
        .expect_code(3)
        .expect_all(&["Budget exceeded: threads.count is 1", "limit 0", "--budget"]);
    let _ = memcheck(&project, &["--budget", "grow/grown:own.anon<=16KiB"])
        .expect_code(3)
        .expect_all(&["grow @ grown", "own.anon", "16 KiB"]);
    let _ = memcheck(&project, &["--budget", "grow/start:threads.count>=2"])
        .expect_code(3)
        .expect_all(&["Budget not reached: threads.count is 1", "at least 2"]);

    edit(&project, "args =", "budget.threads.count = 0\nargs =");
    let _ = memcheck(&project, &["--budget", "threads.count<=5"])
        .expect_code(3)
        .expect_stderr("memcheck.toml:5");
}

#[test]
fn a_budget_that_cannot_be_meant() {
    let project = accepted();
    for (typed, words) in [
        ("own.anno<=1MiB", ["own.anno", "own.anon"]),
        ("own.anon<=1MB", ["1MB", "MiB"]),
        ("own.anon", ["own.anon", "<="]),
        ("grwo:own.anon<=1MiB", ["grwo", "grow"]),
        ("grow/gronw:own.anon<=1MiB", ["gronw", "grown"]),
    ] {
        let _ = memcheck(&project, &["--budget", typed]).expect_code(2).expect_all(&words);
    }
}

#[test]
fn growth_over_another_checkpoint_and_over_the_approved_snapshot() {
    let project = accepted();
    let limit = "{ name = \"grown\", budget.own.anon = { max_growth = \"16 KiB\", over = \"start\" } }";
    edit(&project, "{ name = \"grown\" }", limit);
    let _ = memcheck(&project, &[])
        .expect_code(3)
        .expect_all(&["own.anon", "start", "memcheck.toml:6"]);
    // A snapshot has rows, and no sum of them: that is said, and nothing is made up.
    edit(
        &project,
        "max_growth = \"16 KiB\", over = \"start\"",
        "max_growth = \"5%\", over = \"approved\"",
    );
    let _ = memcheck(&project, &[])
        .expect_code(3)
        .expect_all(&["Budget not judged: own.anon is", "does not hold own.anon"])
        .expect_no_stderr("0 KiB  ?");
    edit(&project, "own.anon", "main-heap.anon");
    let _ = memcheck(&project, &[]).expect_code(0);
    edit(&project, "args = [\"1\"]", "args = [\"2\"]");
    let _ = memcheck(&project, &[])
        .expect_code(3)
        .expect_all(&["Budget exceeded: main-heap.anon", "max_growth over approved"]);
}

#[test]
fn lists_are_on_standard_output() {
    let project = two();
    let list = memcheck(&project, &["list"]).expect_code(0);
    assert!(list.stderr.is_empty(), "{}", list.stderr);
    let _ = list
        .expect_stdout("grow")
        .expect_stdout("shrink")
        .expect_stdout("start grown");
    let some = memcheck(&project, &["list", "shr"]).expect_code(0).expect_stdout("shrink");
    assert!(
        !some.stdout.contains("start grown  C") || !some.stdout.contains("\ngrow "),
        "{}",
        some.stdout
    );
    let _ = memcheck(&project, &["list", "nothing-like-it"]).expect_code(4);
    let metrics = memcheck(&project, &["metrics"]).expect_code(0);
    for name in ["own.anon", "thread-stack.exited.count", "thread-arena.count", "process.peak"] {
        assert!(metrics.stdout.contains(name), "{}", metrics.stdout);
    }
    assert!(metrics.stderr.is_empty(), "{}", metrics.stderr);
}

/// Cargo passes the subcommand's name; the alias on a clone and a direct call do not.
#[test]
fn both_forms_of_the_command_line() {
    let project = two();
    for args in [&["memcheck", "list"][..], &["list"]] {
        let _ = memcheck(&project, args).expect_code(0).expect_stdout("shrink");
    }
    let _ = memcheck(&project, &["memcheck"])
        .expect_code(0)
        .expect_last_line("measured 4 checkpoints in 2 cases: all passed");
    let _ = memcheck(&project, &["memcheck", "shrink"])
        .expect_code(0)
        .expect_last_line("measured 2 checkpoints in 1 case: all passed");
}

#[test]
fn names_of_commands_are_checked() {
    let project = accepted();
    for command in ["accept", "reject", "review"] {
        let _ = memcheck(&project, &[command, "grwo"])
            .expect_code(2)
            .expect_all(&["there is no case `grwo`", "cargo memcheck list"]);
    }
    let _ = memcheck(&project, &["--jobs", "0"]).expect_code(2).expect_stderr("--jobs");
    let _ = memcheck(&project, &["--no-such-flag"])
        .expect_code(2)
        .expect_stderr("--no-such-flag");
}

#[test]
fn help_and_version() {
    let project = tests::Project::new();
    let _ = memcheck(&project, &["--help"])
        .expect_code(0)
        .expect_stdout("Exit codes")
        .expect_stdout("not Valgrind");
    let _ = memcheck(&project, &["--version"])
        .expect_code(0)
        .expect_stdout(env!("CARGO_PKG_VERSION"));
}

#[test]
fn accept_of_one_case_leaves_the_others_alone() {
    let project = two();
    edit(&project, "args = [\"1\"]", "args = [\"5\"]");
    let _ = memcheck(&project, &[]).expect_code(5);
    let _ = memcheck(&project, &["accept", "grow"]).expect_code(0);
    assert!(!project.has("memcheck/snapshots/grow.snap.new"));
    assert!(project.has("memcheck/snapshots/shrink.snap.new"));
    let _ = memcheck(&project, &["reject", "shrink"]).expect_code(0);
    assert!(!project.has("memcheck/snapshots/shrink.snap.new"));
    let _ = memcheck(&project, &["grow"]).expect_code(0);
    let _ = memcheck(&project, &["shrink"]).expect_code(5);
}

#[test]
fn found_from_below_and_by_manifest_path() {
    let project = accepted();
    project.write("src/deep/x.txt", "");
    let run = tests::finish(
        project
            .command(Path::new(TOOL), &[])
            .current_dir(project.path().join("src/deep")),
    );
    let _ = run.expect_code(0);
    let elsewhere = tests::Project::new();
    let path = project.path().display().to_string();
    let _ = memcheck(&elsewhere, &["--manifest-path", &path]).expect_code(0);
}

#[test]
fn no_pending_files_on_request() {
    let project = grow();
    let _ = memcheck(&project, &["--no-pending"]).expect_code(5);
    assert_eq!(project.paths(), ["grow.c", "memcheck.toml"]);
}

/// As it is here: what the launch settings hold still may differ, but the tool measures.
#[test]
fn as_is() {
    let project = accepted();
    let run = memcheck(&project, &["--as-is"]);
    assert!(matches!(run.code, Some(0 | 5)), "{:?}\n{}", run.code, run.stderr);
    assert!(
        run.last_line().starts_with("measured 2 checkpoints in 1 case"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_case_without_a_snapshot_is_gated_by_its_budgets_only() {
    let project = super::one(
        "case",
        GROW,
        "snapshot = false\nbudget.own.anon = \"4 MiB\"\ncheckpoint = [{ name = \"grown\" }]",
    );
    let _ = memcheck(&project, &[])
        .expect_code(0)
        .expect_last_line("measured 1 checkpoint in 1 case: all passed");
    assert_eq!(project.paths().len(), 2);
    edit(&project, "budget.own.anon = \"4 MiB\"\n", "");
    let _ = memcheck(&project, &[])
        .expect_code(0)
        .expect_last_line("measured 1 checkpoint in 1 case: nothing is gated, no snapshot and no budget");
}
