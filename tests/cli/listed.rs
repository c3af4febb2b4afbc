//! What there is: cases and metrics as JSON, cases that are built in Rust, approved snapshots that belong to no case.

use serde_json::Value;

use super::gate::edit;
use super::{accepted, memcheck};

fn documents(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn cases_and_metrics_are_documents() {
    let project = accepted();
    let run = memcheck(&project, &["--message-format", "json", "list"]).expect_code(0);
    let [case] = documents(&run.stdout).try_into().unwrap();
    assert_eq!(
        (&case["reason"], &case["name"], &case["schema"]),
        (&"listed".into(), &"grow".into(), &0.into())
    );
    assert_eq!(
        (&case["checkpoints"][1]["name"], &case["place"]["line"]),
        (&"grown".into(), &2.into())
    );
    let run = memcheck(&project, &["--message-format", "json", "metrics"]).expect_code(0);
    assert!(
        documents(&run.stdout)
            .iter()
            .any(|metric| metric["name"] == "own.anon" && metric["tier"] == "exact")
    );
}

#[test]
fn an_approved_snapshot_without_a_case_is_named() {
    let project = accepted();
    edit(&project, "name = \"grow\"", "name = \"grew\"");
    let _ = memcheck(&project, &["accept"]).expect_code(0);
    let text = "warning: memcheck/snapshots/grow.snap belongs to no case";
    let _ = memcheck(&project, &[]).expect_code(0).expect_stderr(text);
    let _ = memcheck(&project, &["grew"])
        .expect_code(0)
        .expect_no_stderr("belongs to no case");
    let run = memcheck(&project, &["--message-format", "json", "list"])
        .expect_code(0)
        .expect_stderr(text);
    let orphan = documents(&run.stdout).pop().unwrap();
    assert_eq!(
        (&orphan["reason"], &orphan["path"]),
        (&"unreferenced".into(), &"memcheck/snapshots/grow.snap".into())
    );
}
