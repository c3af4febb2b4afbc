//! `[[case.step]]`: a command that drives the target after a checkpoint.
//! Owns its keys and the rules that make sure that somebody waits for it.

use crate::model::{AfterLast, At, Case};

use super::checkpoint;
use super::cursor::{Form, Spot, Table, Value};
use super::diagnostic::{Diagnostic, Document, Span, quote};
use super::suggest;

/// A step as written.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) span: Span,
    pub(super) after: Spot<String>,
    pub(super) run: Vec<String>,
}

/// Reads the steps of a case whose checkpoints are known.
pub(super) fn read(case: &Table<'_>, checkpoints: &[checkpoint::Written]) -> Vec<Written> {
    let Some(value) = case.get("step") else {
        check_done(case.doc, checkpoints, &[]);
        return Vec::new();
    };
    if let Form::Table = value.form() {
        value.fail::<()>("`case.step` must be a list of tables", "write [[case.step]]");
        return Vec::new();
    }
    let items = value.list("[[case.step]]").unwrap_or_default();
    let steps: Option<Vec<Written>> = items.iter().map(|item| step(item, checkpoints)).collect();
    // One that was refused leaves gaps that would only raise further complaints.
    let Some(steps) = steps else { return Vec::new() };
    check_done(case.doc, checkpoints, &steps);
    steps
}

fn step(value: &Value<'_>, checkpoints: &[checkpoint::Written]) -> Option<Written> {
    let table = value.table("[[case.step]]")?;
    table.only(&["after", "run"], &[]);
    let (Some(after), Some(run)) = (table.get("after"), table.get("run")) else {
        if table.get("after").is_none() {
            table.missing("after", "after = \"ready\", the name of a checkpoint");
        }
        if table.get("run").is_none() {
            table.missing("run", "run = [\"sh\", \"load.sh\"]");
        }
        return None;
    };
    let name = after.word("\"ready\"")?;
    let names = || checkpoints.iter().map(|checkpoint| checkpoint.name.value.as_str());
    let Some(found) = checkpoints.iter().find(|checkpoint| checkpoint.name.value == name) else {
        let hint =
            suggest::did_you_mean(name, names()).unwrap_or_else(|| format!("checkpoints are {}", suggest::listed(names())));
        return after.fail(format!("there is no checkpoint {}", quote(name)), hint);
    };
    if found.at.value == At::Exit {
        return after.fail("nothing runs after `exit`", "start the step after an earlier checkpoint");
    }
    if let Form::Text(text) = run.form() {
        return run.fail(
            "`run` must be a list: the program, then its arguments",
            format!("write [\"sh\", \"-c\", {text:?}]"),
        );
    }
    let words: Vec<String> = run
        .texts("[\"sh\", \"load.sh\"]")
        .into_iter()
        .map(|word| word.value)
        .collect();
    if words.first().is_none_or(String::is_empty) {
        return run.fail("`run` names no program", "write for example [\"sh\", \"load.sh\"]");
    }
    Some(Written {
        span: table.span.clone(),
        after: after.spot(name.to_owned()),
        run: words,
    })
}

/// Each `step-done` waits for a step that was started since the one before.
fn check_done(doc: &Document<'_>, checkpoints: &[checkpoint::Written], steps: &[Written]) {
    let mut waiting = false;
    for checkpoint in checkpoints {
        if checkpoint.at.value == At::StepDone {
            if !waiting {
                let title = format!("no step ends at checkpoint `{}`", checkpoint.name.value);
                let label = "add [[case.step]] with after = an earlier checkpoint";
                doc.report(Diagnostic::at(checkpoint.at.span.clone(), title, label));
            }
            waiting = false;
        }
        waiting |= steps.iter().any(|step| step.after.value == checkpoint.name.value);
    }
}

/// A target that is killed after its last checkpoint takes a step with it that has only just begun.
pub(super) fn check_last(doc: &Document<'_>, case: &Case, steps: &[Written]) {
    let Some(last) = case.checkpoints.last() else { return };
    let is_killed = !case.detach && case.after_last == AfterLast::Kill && case.exit.is_none() && last.at != At::Exit;
    for step in steps.iter().filter(|step| is_killed && step.after.value == last.name) {
        let title = format!("the step would be killed at once: `{}` is the last checkpoint", last.name);
        let label = "add a checkpoint with at = \"step-done\", or after_last = \"run\"";
        doc.report(Diagnostic::at(step.after.span.clone(), title, label));
    }
}
