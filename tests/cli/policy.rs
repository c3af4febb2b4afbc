//! Limits that people live with: waivers, alive, expired and not needed; the table of limits, and changing them in place.

use serde_json::Value;
use tests::Project;

use super::gate::edit;
use super::{accepted, memcheck};

const WAIVER: &str = r#"
[[waiver]]
case = "grow"
checkpoint = "grown"
metric = "own.anon"
ceiling = "1 MiB"
expires = 9999-12-31
issue = "ABC-42"
reason = "the block is being replaced"
"#;

/// A broken budget, and what else the file says.
fn over_its_budget(rest: &str) -> Project {
    let project = accepted();
    edit(
        &project,
        "{ name = \"grown\" }",
        "{ name = \"grown\", budget.own.anon = \"4 KiB\" }",
    );
    let toml = project.read("memcheck.toml");
    project.write("memcheck.toml", &format!("{toml}{rest}"));
    project
}

fn last(json: &str) -> Value {
    serde_json::from_str(json.lines().last().unwrap()).unwrap()
}

#[test]
fn a_waiver_lets_a_broken_budget_pass_and_is_told_each_time() {
    let project = over_its_budget(WAIVER);
    let run = memcheck(&project, &[])
        .expect_code(0)
        .expect_last_line("measured 2 checkpoints in 1 case: all passed, 1 limit waived");
    let said = run.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        said.contains("note: waived until 9999-12-31: grow @ grown: own.anon is")
            && said.contains("limit 4 KiB, ceiling 1 MiB (reason: the block is being replaced, ABC-42; memcheck.toml:8)"),
        "{said}"
    );
    let run = memcheck(&project, &["--message-format", "json"]).expect_code(0);
    let document = last(&run.stdout);
    assert_eq!(document["waivers"][0]["status"], "used");
    assert_eq!(document["waivers"][0]["waiver"]["reason"], "the block is being replaced");
    assert!(run.stdout.contains("\"verdict\":\"waived\""), "{}", run.stdout);

    edit(&project, "\"1 MiB\"", "\"8 KiB\"");
    let _ = memcheck(&project, &[])
        .expect_code(3)
        .expect_all(&["Budget exceeded: own.anon is", "warning: waiver exceeded: grow @ grown"]);
}

#[test]
fn an_expired_waiver_fails_needed_or_not() {
    let project = over_its_budget(&WAIVER.replace("9999-12-31", "2020-01-31"));
    let _ = memcheck(&project, &[])
        .expect_code(3)
        .expect_all(&["Budget exceeded", "error: waiver expired on 2020-01-31"])
        .expect_last_line("measured 2 checkpoints in 1 case: 1 failed (1 budget), failed: 1 waiver expired");
    edit(&project, "= \"4 KiB\"", "= \"4 MiB\"");
    let run = memcheck(&project, &["--message-format", "json"])
        .expect_code(3)
        .expect_no_stderr("all passed")
        .expect_last_line("measured 2 checkpoints in 1 case: failed: 1 waiver expired");
    let document = last(&run.stdout);
    assert_eq!(document["waivers"][0]["status"], "expired");
    assert_eq!(document["exit_code"], 3);
}

#[test]
fn a_waiver_that_is_not_needed_is_a_warning() {
    let project = over_its_budget(WAIVER);
    edit(&project, "= \"4 KiB\"", "= \"4 MiB\"");
    let _ = memcheck(&project, &[])
        .expect_code(0)
        .expect_stderr("warning: waiver not needed: grow @ grown: own.anon")
        .expect_last_line("measured 2 checkpoints in 1 case: all passed");
}

#[test]
fn a_waiver_of_a_case_that_is_none_is_refused() {
    let project = over_its_budget(&WAIVER.replace("\"grow\"", "\"grwo\""));
    let _ = memcheck(&project, &[]).expect_code(2).expect_all(&[
        "no case is called `grwo`, which this waiver is of",
        "did you mean `grow`?",
        "memcheck.toml:",
    ]);
}

#[test]
fn a_waiver_without_a_reason_is_refused() {
    let project = over_its_budget(&WAIVER.replace("reason = \"the block is being replaced\"\n", ""));
    let _ = memcheck(&project, &[])
        .expect_code(2)
        .expect_stderr("[[waiver]] has no `reason`");
}

/// Limits at three levels, with comments that must stay.
fn limited() -> Project {
    let project = accepted();
    project.write(
        "memcheck.toml",
        r#"# A suite.
[defaults]
budget.own.anon = "64 MiB"   # far too much

[[case]]
name = "grow"
target = { c = "grow.c" }
args = ["1"]
budget.threads.count = 1
checkpoint = [
    { name = "start" },   # before
    { name = "grown", budget.main-heap.anon = { max = '1 MiB', max_growth = "128 KiB", over = "start" } },
]
"#,
    );
    project
}

#[test]
fn the_table_has_each_limit_with_its_value_room_and_origin() {
    let project = limited();
    let before = project.files();
    let run = memcheck(&project, &["budget"]).expect_code(0);
    let rows: Vec<Vec<&str>> = run.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let row = |start: &[&str]| {
        rows.iter()
            .find(|row| row.starts_with(start))
            .unwrap_or_else(|| panic!("{start:?} in {}", run.stdout))
    };
    assert_eq!(
        row(&["grow", "start", "threads.count"])[3..],
        ["max", "1", "1", "0", "memcheck.toml:9"]
    );
    assert_eq!(
        row(&["grow", "grown", "main-heap.anon", "max", "1"])[8..].last(),
        Some(&"memcheck.toml:12")
    );
    assert!(row(&["grow", "grown", "main-heap.anon", "max_growth"]).contains(&"start"));
    let text = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        text.contains("note: own.anon at memcheck.toml:3 allows 64 MiB, and"),
        "{text}"
    );
    assert!(text.ends_with("6 limits: all kept"), "{text}");
    assert_eq!(project.files(), before);

    let json = memcheck(&project, &["budget", "--message-format", "json"]).expect_code(0);
    let value = last(&json.stdout);
    assert_eq!(
        (&value["reason"], value["limits"].as_array().unwrap().len()),
        (&"budget".into(), 6)
    );
    assert_eq!(value["slack"][0]["metric"], "own.anon");
    let _ = memcheck(&project, &["budget", "grwo"]).expect_code(2);

    edit(&project, "threads.count = 1", "threads.count = 0");
    let run = memcheck(&project, &["budget"]).expect_code(3);
    assert!(
        run.stdout.contains("1 OVER") && run.stdout.contains("6 limits: 2 broken"),
        "{}",
        run.stdout
    );
}

#[test]
fn tightening_changes_values_and_nothing_else() {
    let project = limited();
    let before = project.read("memcheck.toml");
    let run = memcheck(&project, &["budget", "--tighten"]).expect_code(0);
    assert!(!run.stdout.contains("to lower them all"), "{}", run.stdout);
    let _ = run.expect_all(&[
        "Tightened memcheck.toml",
        "-budget.own.anon = \"64 MiB\"   # far too much",
        "+budget.own.anon = \"",
    ]);
    let after = project.read("memcheck.toml");
    let changed: Vec<(&str, &str)> = before.lines().zip(after.lines()).filter(|(old, new)| old != new).collect();
    assert_eq!(changed.len(), 2, "{after}");
    assert!(changed[0].1.ends_with("KiB\"   # far too much"), "{after}");
    assert!(
        changed[1].1.contains("max_growth = \"128 KiB\", over = \"start\" } },"),
        "{after}"
    );
    let _ = memcheck(&project, &[]).expect_code(0);
    let _ = memcheck(&project, &["budget", "--tighten"])
        .expect_code(0)
        .expect_stderr("no limit would change");
    assert_eq!(project.read("memcheck.toml"), after);

    // What is tight holds: the next regression breaks it.
    edit(&project, "args = [\"1\"]", "args = [\"5\"]");
    let _ = memcheck(&project, &["budget"]).expect_code(3);
}

#[test]
fn a_limit_is_set_where_it_is_written() {
    let project = limited();
    let _ = memcheck(
        &project,
        &[
            "budget",
            "--set",
            "own.anon=16MiB",
            "--set",
            "grow/grown:main-heap.anon=2 MiB",
        ],
    )
    .expect_code(0)
    .expect_all(&[
        "@@ -3 +3 @@",
        "+budget.own.anon = \"16 MiB\"   # far too much",
        "max = \"2 MiB\", max_growth",
    ]);
    let text = project.read("memcheck.toml");
    for (set, message) in [
        (
            "grow/start:own.anon=1MiB",
            "the limit at memcheck.toml:3 holds for grow/grown too",
        ),
        ("thread-arena.count=3", "no such limit is written"),
        ("own.anonn=3", "no metric"),
        ("own.anon=3 MB", "MiB"),
        ("own.anon", "there is no `=`"),
        ("own.anon<=1MiB", "there is no `=`"),
    ] {
        let _ = memcheck(&project, &["budget", "--set", set])
            .expect_code(2)
            .expect_stderr(message);
    }
    // A value that contradicts another one is not written.
    edit(&project, "max = \"2 MiB\",", "min = \"4 KiB\", max = \"2 MiB\",");
    let _ = memcheck(&project, &["budget", "--set", "main-heap.anon=0B"])
        .expect_code(2)
        .expect_stderr("nothing was written");
    assert_eq!(
        project.read("memcheck.toml"),
        text.replace("max = \"2 MiB\",", "min = \"4 KiB\", max = \"2 MiB\",")
    );
}

#[test]
fn a_policy_has_its_origin_in_the_table_and_is_of_something() {
    let project = accepted();
    let toml = project.read("memcheck.toml");
    let line = toml.lines().count() + 3;
    project.write(
        "memcheck.toml",
        &format!("{toml}[[policy]]\ncase = \"gr*\"\nbudget.own.anon = \"4 KiB\"\n"),
    );
    let _ = memcheck(&project, &[])
        .expect_code(3)
        .expect_stderr(&format!("memcheck.toml:{line}"));
    let table = memcheck(&project, &["budget"]).expect_code(3);
    assert!(table.stdout.contains(&format!("memcheck.toml:{line}")), "{}", table.stdout);
    let _ = memcheck(&project, &["budget", "--set", "own.anon=8MiB"]).expect_code(0);
    assert!(project.read("memcheck.toml").ends_with("budget.own.anon = \"8 MiB\"\n"));
    // One that was written for several roles is changed for all of them or not at all.
    edit(
        &project,
        "budget.own.anon = \"8 MiB\"",
        "budget.allocator.\"*\".anon = \"8 MiB\"",
    );
    let _ = memcheck(&project, &["budget", "--set", "allocator.jemalloc.anon=0"])
        .expect_code(2)
        .expect_stderr("is a pattern, and holds for allocator.");
    let _ = memcheck(&project, &["budget", "--tighten"]).expect_code(0);
    assert!(
        project
            .read("memcheck.toml")
            .ends_with("budget.allocator.\"*\".anon = \"0 B\"\n"),
        "{}",
        project.read("memcheck.toml")
    );
    edit(&project, "\"gr*\"", "\"grew*\"");
    let _ = memcheck(&project, &[])
        .expect_code(2)
        .expect_all(&["no case is meant by this policy", "cases are grow"]);
}
