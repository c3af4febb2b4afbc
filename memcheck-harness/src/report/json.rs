//! The machine form: JSON lines, `"reason":"case"` for each case and a last `"reason":"run"`; and the objects that the results
//! file is made of, which are the same but for the classified ranges. Bytes are integers, durations integer milliseconds; a
//! value that is not known is `null`, never 0. Keys are sorted.

use std::io::{self, Write};

use serde::Serialize as _;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, Serializer};
use serde_json::{Map, Value, json};

use super::{exit, gated, problem, show_malloc, summary};
use crate::model::{CaseReport, CheckpointReport, End, Metric, Name, Outcome, Place, Problem, RoleSum, RunReport, StackState};

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
    out.write_all(&bytes(value)?)
}

/// A value on one line. Text that could steer a terminal, which JSON would let through, is escaped too: the value is the same.
pub(super) fn bytes(value: &Value) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut bytes, Harmless(CompactFormatter)))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// JSON's own form, with every character that [`Name`] escapes as `\uXXXX`, and `##[`, which some log viewers obey, broken up.
struct Harmless(CompactFormatter);

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut before = ['\0'; 2];
        for c in fragment.chars() {
            let mut buffer = [0; 4];
            let text: &str = c.encode_utf8(&mut buffer);
            let steers = !c.is_ascii() && Name::from(text).escaped() != text;
            if steers || c == '\u{7f}' || (c == '[' && before == ['#', '#']) {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            } else {
                out.write_all(text.as_bytes())?;
            }
            before = [before[1], c];
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, out: &mut W, escape: CharEscape) -> io::Result<()> {
        self.0.write_char_escape(out, escape)
    }
}

fn run_value(report: &RunReport) -> Value {
    let mut value = last_words(report);
    let more = json!({
        "reason": "run",
        "schema": report.schema,
        "tool_version": report.tool_version,
        "complete": report.complete,
        "environment": report.environment,
        "environment_status": status(report),
        "interrupted": report.interrupted,
        "ci": report.ci,
        "not_selected": report.not_selected,
        "revision": report.revision,
        "switches": report.switches,
    });
    extend(&mut value, more);
    value
}

/// What the last line says, in figures.
pub(super) fn last_words(report: &RunReport) -> Value {
    let tally = summary::tally(report);
    json!({
        "cases": report.cases.len() - tally.parts,
        "checkpoints": report.checkpoints(),
        "failed": tally.failed,
        "failed_budgets": tally.budgets,
        "failed_snapshots": tally.snapshots,
        "failed_not_judged": tally.not_judged,
        "failed_parts": tally.parts,
        "warnings": tally.warnings,
        "waivers": report.waivers,
        "exit_code": exit::code(report),
        "status": exit::word(exit::code(report)),
        "text": summary::last_line(report),
    })
}

fn status(report: &RunReport) -> Value {
    let mut value = serde_json::to_value(&report.environment_status).unwrap_or_default();
    extend(
        &mut value,
        json!({ "is_of_record": report.environment_status.is_of_record() }),
    );
    value
}

/// Puts the entries of one object into another.
fn extend(value: &mut Value, more: Value) {
    if let (Some(object), Value::Object(more)) = (value.as_object_mut(), more) {
        object.extend(more);
    }
}

fn case_value(report: &RunReport, case: &CaseReport) -> Value {
    let mut value = case_object(report, case, false);
    extend(&mut value, json!({ "reason": "case", "schema": report.schema }));
    value
}

/// A case with what follows from it. `whole` keeps the classified ranges: without them nothing can be read back, but thousands
/// of regions would drown the facts.
pub(super) fn case_object(report: &RunReport, case: &CaseReport, whole: bool) -> Value {
    let mut value = serde_json::to_value(case).unwrap_or_default();
    extend(
        &mut value,
        json!({
            "outcome": outcome(super::outcome(report, case)),
            "gated": !gated::is_ungated(case),
            "ungated_checkpoints": gated::ungated_checkpoints(case),
            "checkpoints": case.checkpoints.iter().map(|c| checkpoint_object(c, whole)).collect::<Vec<_>>(),
            "problem": case.problem.as_ref().map(problem_value),
            "end": case.end.as_ref().map(end),
        }),
    );
    value
}

/// The word of an outcome.
pub(super) const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Problem => "problem",
        Outcome::Budget => "budget",
        Outcome::Snapshot => "snapshot",
        Outcome::Warning => "warning",
        Outcome::Pass => "pass",
    }
}

pub(super) fn problem_value(problem: &Problem) -> Value {
    let mut value = serde_json::to_value(problem).unwrap_or_default();
    extend(&mut value, json!({ "exit_code": exit::of_problem(problem.kind) }));
    value
}

pub(super) fn settings_value(case: &CaseReport) -> Value {
    serde_json::to_value(&case.settings).unwrap_or_default()
}

/// Sums rather than pieces: a map of thousands of regions would drown the facts.
pub(super) fn checkpoint(checkpoint: &CheckpointReport) -> Value {
    checkpoint_object(checkpoint, false)
}

fn checkpoint_object(checkpoint: &CheckpointReport, whole: bool) -> Value {
    let map = &checkpoint.map;
    let roles: Map<String, Value> = map
        .by_role()
        .into_iter()
        .map(|(role, sum)| (role.name().to_owned(), sum_value(&sum)))
        .collect();
    let metrics: Map<String, Value> = Metric::all()
        .into_iter()
        .map(|metric| (metric.name().to_owned(), json!(map.metric(&metric))))
        .collect();
    let mut value = serde_json::to_value(checkpoint).unwrap_or_default();
    extend(
        &mut value,
        json!({ "roles": roles, "own": sum_value(&map.sum(|role| role.is_own())), "metrics": metrics }),
    );
    if whole {
        return value;
    }
    if let Some(object) = value.as_object_mut() {
        object.remove("map");
        object.remove("metrics");
    }
    let more = json!({
        "process": map.process,
        "tree": map.tree,
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
            "start_function": thread.start_function,
        })).collect::<Vec<_>>(),
        "level": if is_fast(map) { "fast" } else { "full" },
        "thread_lists_known": map.thread_lists_known,
        "arenas": map.arenas.as_ref().map(|arenas| arenas.iter().map(show_malloc::value).collect::<Vec<_>>()),
        "malloc": show_malloc::main_value(map),
        "stack_limit_bytes": map.stack_limit_bytes,
        "page_bytes": map.page_bytes,
        "notes": map.notes.iter().map(|note| note.text.as_str()).collect::<Vec<_>>(),
    });
    extend(&mut value, more);
    value
}

/// Flags are what only the full level gives.
fn is_fast(map: &crate::model::MemoryMap) -> bool {
    map.pieces.iter().any(|piece| piece.anon_bytes.is_some()) && map.pieces.iter().all(|piece| piece.committed.is_none())
}

pub(super) fn end(end: &End) -> Value {
    let mut value = serde_json::to_value(end).unwrap_or_default();
    extend(&mut value, json!({ "text": problem::ended(end) }));
    value
}

fn sum_value(sum: &RoleSum) -> Value {
    json!({ "count": sum.count, "reserved": sum.reserved, "anon": sum.anon, "resident": sum.resident })
}

pub(super) fn place(place: &Place) -> Value {
    json!({ "file": place.file, "line": place.line, "column": place.column })
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{case, print, problem, run, unjoined};
    use super::*;
    use crate::model::ProblemKind;

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
        assert!(checkpoint["causes"][0]["cause"].as_str().unwrap().contains("not joined"));
        assert_eq!(run["reason"], "run");
        assert_eq!(run["schema"], 1);
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
