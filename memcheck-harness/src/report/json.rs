//! The machine form: JSON lines, `"reason":"case"` for each case and a last `"reason":"run"`. Schema 0: not frozen.
//! Bytes are integers, durations integer milliseconds; a value that is not known is `null`, never 0. Keys are sorted.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::{exit, gated, problem, show_malloc, summary};
use crate::model::{
    CaseReport, Change, ChangeCause, CheckpointReport, End, LimitResult, Outcome, Place, Problem, ProblemKind, RoleSum,
    RunReport, SnapshotStatus, StackState, Verdict,
};

/// The schema of all JSON lines: 0 until the format is frozen.
pub(super) const SCHEMA: u32 = 0;

/// Writes one object per case, then the run.
///
/// # Errors
/// Those of the writer.
pub fn json(report: &RunReport, out: &mut dyn Write) -> io::Result<()> {
    for case in &report.cases {
        line(&case_value(report, case), out)?;
    }
    line(&run_value(report), out)
}

pub(super) fn line(value: &Value, out: &mut dyn Write) -> io::Result<()> {
    // serde_json's Value prints on one line and cannot fail but for the writer.
    writeln!(out, "{value}")
}

fn run_value(report: &RunReport) -> Value {
    let tally = summary::tally(report);
    json!({
        "reason": "run",
        "schema": report.schema,
        "tool_version": report.tool_version,
        "environment": report.environment.facts,
        "environment_status": {
            "recorded": report.environment_status.recorded,
            "is_of_record": report.environment_status.is_of_record(),
            "differences": report.environment_status.differences.iter()
                .map(|(name, recorded, here)| json!({ "name": name, "recorded": recorded, "here": here }))
                .collect::<Vec<_>>(),
        },
        "interrupted": report.interrupted,
        "ci": report.ci,
        "cases": report.cases.len(),
        "checkpoints": report.checkpoints(),
        "not_selected": report.not_selected,
        "failed": tally.failed,
        "failed_budgets": tally.budgets,
        "failed_snapshots": tally.snapshots,
        "failed_not_judged": tally.not_judged,
        "warnings": tally.warnings,
        "exit_code": exit::code(report),
        "text": summary::last_line(report, tally),
    })
}

fn case_value(report: &RunReport, case: &CaseReport) -> Value {
    let snapshot = &case.snapshot;
    json!({
        "reason": "case",
        "schema": report.schema,
        "name": case.name,
        "package": case.package,
        "place": place(&case.place),
        "target": case.target,
        "gated": !gated::is_ungated(case),
        "ungated_checkpoints": gated::ungated_checkpoints(case),
        "outcome": match super::outcome(report, case) {
            Outcome::Problem => "problem",
            Outcome::Budget => "budget",
            Outcome::Snapshot => "snapshot",
            Outcome::Warning => "warning",
            Outcome::Pass => "pass",
        },
        "duration_ms": u64::try_from(case.duration.as_millis()).unwrap_or(u64::MAX),
        "checkpoints": case.checkpoints.iter().map(checkpoint).collect::<Vec<_>>(),
        "checkpoints_planned": case.checkpoints_planned,
        "snapshot": {
            "status": match snapshot.status {
                SnapshotStatus::Same => "same",
                SnapshotStatus::Differs => "differs",
                SnapshotStatus::New => "new",
                SnapshotStatus::Off => "off",
                SnapshotStatus::NotCompared => "not-compared",
            },
            "path": snapshot.path.to_string_lossy(),
            "text": snapshot.text,
            "diff": snapshot.diff,
            "rows": snapshot.rows,
            "varying": snapshot.varying,
            "pending": snapshot.pending.as_ref().map(|path| path.to_string_lossy()),
            "pending_error": snapshot.pending_error,
        },
        "problem": case.problem.as_ref().map(problem_value),
        "end": case.end.as_ref().map(end),
        "output": {
            "stdout": case.output.stdout,
            "stderr": case.output.stderr,
            "stdout_dropped_bytes": case.output.stdout_dropped_bytes,
            "stderr_dropped_bytes": case.output.stderr_dropped_bytes,
        },
        "settings": settings_value(case),
        "notes": case.notes,
    })
}

pub(super) fn problem_value(problem: &Problem) -> Value {
    json!({
        "kind": match problem.kind {
            ProblemKind::NotJudged => "not-judged",
            ProblemKind::Check => "check",
            ProblemKind::Build => "build",
            ProblemKind::Config => "config",
            ProblemKind::Machine => "machine",
            ProblemKind::Tool => "tool",
            ProblemKind::Interrupted(_) => "interrupted",
        },
        "title": problem.title,
        "details": problem.details,
        "exit_code": exit::of_problem(problem.kind),
    })
}

pub(super) fn settings_value(case: &CaseReport) -> Value {
    case.settings
        .iter()
        .map(|setting| json!({ "name": setting.name, "value": setting.value, "refused": setting.refused }))
        .collect()
}

/// Sums rather than pieces: a map of thousands of regions would drown the facts.
pub(super) fn checkpoint(checkpoint: &CheckpointReport) -> Value {
    let map = &checkpoint.map;
    let roles: Map<String, Value> = map
        .by_role()
        .into_iter()
        .map(|(role, sum)| (role.name().to_owned(), sum_value(&sum)))
        .collect();
    json!({
        "name": checkpoint.name,
        "place": place(&checkpoint.place),
        "at": checkpoint.at,
        "roles": roles,
        "own": sum_value(&map.sum(|role| role.is_own())),
        "process": map.process,
        "threads": map.threads.iter().map(|thread| json!({
            "tid": thread.tid,
            "name": thread.name,
            "main": thread.main,
            "state": match thread.state {
                StackState::Live => "live",
                StackState::Exited => "exited",
                StackState::Cached => "cached",
            },
            "user_stack": thread.user_stack,
            "stack_bytes": thread.stack.map(|(_, bytes)| bytes),
            "guard_bytes": thread.guard_bytes,
            "deepest_bytes": thread.deepest_bytes,
        })).collect::<Vec<_>>(),
        "thread_lists_known": map.thread_lists_known,
        "arenas": map.arenas.as_ref().map(|arenas| arenas.iter().map(show_malloc::value).collect::<Vec<_>>()),
        "malloc": show_malloc::main_value(map),
        "stack_limit_bytes": map.stack_limit_bytes,
        "page_bytes": map.page_bytes,
        "notes": map.notes.iter().map(|note| note.text.as_str()).collect::<Vec<_>>(),
        "limits": checkpoint.limits.iter().map(limit).collect::<Vec<_>>(),
        "changes": checkpoint.changes.iter().map(change).collect::<Vec<_>>(),
        "causes": checkpoint.causes.iter().map(cause).collect::<Vec<_>>(),
    })
}

pub(super) fn end(end: &End) -> Value {
    let (kind, code, signal) = match end {
        End::Exited(code) => ("exited", Some(*code), None),
        End::Signalled(signal) => ("signalled", None, Some(signal.as_str())),
        End::Killed => ("killed", None, None),
        End::TimedOut => ("timed-out", None, None),
    };
    json!({ "kind": kind, "code": code, "signal": signal, "text": problem::ended(end) })
}

fn sum_value(sum: &RoleSum) -> Value {
    json!({ "count": sum.count, "reserved": sum.reserved, "anon": sum.anon, "resident": sum.resident })
}

fn place(place: &Place) -> Value {
    json!({ "file": place.file, "line": place.line, "column": place.column })
}

fn limit(limit: &LimitResult) -> Value {
    json!({
        "metric": limit.metric,
        "rule": limit.rule,
        "limit": limit.limit,
        "reference": limit.reference,
        "value": limit.value,
        "origin": place(&limit.origin),
        "verdict": match limit.verdict {
            Verdict::Within => "within",
            Verdict::Over => "over",
            Verdict::Unknown => "unknown",
        },
        "reason": limit.reason,
    })
}

fn change(change: &Change) -> Value {
    json!({
        "row": change.row,
        "role": change.role,
        "column": change.column,
        "before": change.before,
        "now": change.now,
    })
}

fn cause(cause: &ChangeCause) -> Value {
    json!({ "cause": cause.cause, "cost": cause.cost, "remedies": cause.remedies })
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{case, print, problem, run, unjoined};
    use super::*;
    use crate::model::Name;

    fn lines(report: &RunReport) -> Vec<Value> {
        print(|out| json(report, out))
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn everything_the_text_says_is_there() {
        let lines = lines(&unjoined());
        let [case, run] = lines.as_slice() else { panic!("two lines") };
        assert_eq!(case["reason"], "case");
        assert_eq!(case["outcome"], "budget");
        assert_eq!(case["duration_ms"], 21);
        let checkpoint = &case["checkpoints"][1];
        assert_eq!(checkpoint["limits"][0]["value"], 2);
        assert_eq!(checkpoint["limits"][0]["origin"]["line"], 8);
        assert_eq!(checkpoint["roles"]["thread-stack.exited"]["reserved"], 16_777_216);
        assert!(checkpoint["causes"][0]["cause"].as_str().unwrap().contains("never joined"));
        assert_eq!(run["reason"], "run");
        assert_eq!(run["schema"], 0);
        assert_eq!(run["exit_code"], 3);
        assert_eq!(run["failed_budgets"], 1);
    }

    #[test]
    fn hostile_output_stays_one_escaped_line_and_unknown_is_null() {
        let mut case = problem(case("p"), ProblemKind::NotJudged);
        case.output.stderr = Name::new(&b"\x1b[2J\n{\"reason\":\"run\"}\xff"[..]);
        let text = print(|out| json(&run(vec![case.clone()]), out));
        assert_eq!(text.lines().count(), 2);
        assert!(text.bytes().all(|byte| byte == b'\n' || !byte.is_ascii_control()));
        let first = &lines(&run(vec![case]))[0];
        assert_eq!(first["problem"]["kind"], "not-judged");
        assert_eq!(first["end"], Value::Null);
        assert_eq!(first["checkpoints"][0]["process"]["anon"], Value::Null);
    }
}
