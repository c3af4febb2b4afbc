//! Where things are written and how: JSON, colour, closed and full outputs.

use serde_json::Value;

use super::gate::edit;
use super::{accepted, grow, memcheck, memcheck_with, shell};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Standard output is JSON and nothing else, and holds what the human text says.
#[test]
fn json_says_what_the_text_says() {
    let project = accepted();
    edit(
        &project,
        "{ name = \"grown\" }",
        "{ name = \"grown\", budget.own.anon = { max = \"200 KiB\" } }",
    );
    edit(&project, "args = [\"1\"]", "args = [\"5\"]");
    let run = memcheck(&project, &["--message-format", "json"]).expect_code(3);
    let found = lines(&run.stdout);
    let [case, total] = found.as_slice() else {
        panic!("{}", run.stdout)
    };
    assert_eq!((&case["reason"], &total["reason"]), (&"case".into(), &"run".into()));
    assert_eq!((&case["schema"], &total["schema"]), (&1.into(), &1.into()));
    assert_eq!(case["name"], "grow");
    assert_eq!(case["outcome"], "budget");
    assert_eq!(case["place"]["line"], 2);
    assert_eq!(case["snapshot"]["status"], "differs");
    assert!(case["snapshot"]["diff"].as_str().unwrap().contains("mmap-chunk"));
    assert_eq!(total["exit_code"], 3);
    assert_eq!((&total["failed_budgets"], &total["failed_snapshots"]), (&1.into(), &1.into()));
    assert_eq!(total["text"], run.last_line());
    assert!(total["environment"]["libc"].is_string());

    let grown = &case["checkpoints"][1];
    assert_eq!(grown["name"], "grown");
    let limit = grown["limits"]
        .as_array()
        .unwrap()
        .iter()
        .find(|limit| limit["verdict"] == "over")
        .unwrap();
    assert_eq!((&limit["metric"], &limit["limit"]), (&"own.anon".into(), &204_800.into()));
    assert_eq!(limit["origin"]["line"], 6);
    assert_eq!(limit["value"], grown["own"]["anon"]);

    // Each figure of the human table is among the changes.
    let human = memcheck(&project, &[]).expect_code(3);
    let cause = grown["causes"][0]["cause"].as_str().unwrap();
    let first: String = cause.split_whitespace().take(4).collect::<Vec<_>>().join(" ");
    let _ = human.expect_stderr(&first);
}

#[test]
fn json_of_what_could_not_be_judged() {
    let project = grow().file("grow.c", "int main(void) { return undeclared; }\n");
    let run = memcheck(&project, &["--message-format", "json"]).expect_code(101);
    let found = lines(&run.stdout);
    assert_eq!(found[0]["outcome"], "problem");
    assert_eq!(found[0]["problem"]["kind"], "build");
    assert_eq!(found[1]["exit_code"], 101);
    // A mistake in the configuration leaves nothing to tell about cases.
    edit(&project, "args =", "agrs =");
    let run = memcheck(&project, &["--message-format=json"]).expect_code(2);
    assert_eq!(lines(&run.stdout).len(), run.stdout.lines().count());
}

#[test]
fn colour_is_asked_for() {
    let project = accepted();
    let coloured =
        |args: &[&str], env: &[(&str, &str)]| memcheck_with(&project, args, env).expect_code(0).stderr.contains('\u{1b}');
    assert!(!coloured(&[], &[]), "standard error is a pipe");
    assert!(coloured(&["--color", "always"], &[]));
    assert!(
        coloured(&["--color", "always"], &[("NO_COLOR", "1")]),
        "what was typed counts most"
    );
    assert!(coloured(&[], &[("CARGO_TERM_COLOR", "always")]));
    assert!(!coloured(&[], &[("CARGO_TERM_COLOR", "always"), ("NO_COLOR", "1")]));
    assert!(!coloured(&["--color", "never"], &[("CARGO_TERM_COLOR", "always")]));
}

#[test]
fn closed_outputs_are_no_reason_to_fail() {
    let project = accepted();
    for command in ["list", "metrics", "--message-format json"] {
        let line = format!("( \"$TOOL\" {command}; echo \"code $?\" >&2 ) | true");
        let _ = shell(&project, &line).expect_code(0).expect_stderr("code 0");
    }
    let _ = shell(&project, "( \"$TOOL\"; echo \"code $?\" ) 2>&1 >&3 3>&- | true").expect_code(0);
    let _ = shell(&project, "\"$TOOL\" 2>&-").expect_code(0);
    let _ = shell(&project, "\"$TOOL\" list >&-");
}

#[test]
fn a_full_disk_is_a_reason_to_fail() {
    let project = accepted();
    let _ = shell(&project, "\"$TOOL\" metrics > /dev/full")
        .expect_code(1)
        .expect_stderr("standard output");
    let _ = shell(&project, "\"$TOOL\" --message-format json > /dev/full").expect_code(1);
}

#[test]
fn verbose_shows_more() {
    let project = accepted();
    let plain = memcheck(&project, &[]).expect_code(0);
    let verbose = memcheck(&project, &["-v"]).expect_code(0);
    assert!(
        verbose.stderr.lines().count() > plain.stderr.lines().count(),
        "{}",
        verbose.stderr
    );
    assert_eq!(verbose.last_line(), plain.last_line());
}
