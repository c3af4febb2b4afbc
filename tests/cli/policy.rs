//! Limits that people live with: waivers, alive, expired and not needed.

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
        .expect_all(&["Budget exceeded", "waiver expired on 2020-01-31"])
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
fn a_waiver_without_a_reason_is_refused() {
    let project = over_its_budget(&WAIVER.replace("reason = \"the block is being replaced\"\n", ""));
    let _ = memcheck(&project, &[])
        .expect_code(2)
        .expect_stderr("[[waiver]] has no `reason`");
}
