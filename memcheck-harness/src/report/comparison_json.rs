//! The machine form of a comparison: JSON lines, `"reason":"compare-case"` for each case and a last `"reason":"compare"`.
//! Schema 0: not frozen. Values are those of the other machine forms.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::comparison::{Standing, escaped_text, last_line, standing};
use super::exit;
use super::json::{checkpoint, end, line, problem_value, settings_value};
use crate::model::{CaseComparison, CheckpointReport, Comparison, Environment, MemoryMap, Presence, Side};

/// Writes one object per case, then the comparison.
///
/// # Errors
/// Those of the writer.
pub fn comparison_json(comparison: &Comparison, out: &mut dyn Write) -> io::Result<()> {
    for case in &comparison.cases {
        line(&case_value(comparison, case), out)?;
    }
    let side = |side: &Side| json!({ "word": side.word, "label": side.label, "environment": facts(&side.environment) });
    let differences = comparison.environment_differences();
    line(
        &json!({
            "reason": "compare",
            "schema": comparison.schema,
            "tool_version": comparison.tool_version,
            "before": side(&comparison.before),
            "now": side(&comparison.now),
            "same_machine": comparison.same_machine,
            "environment_differences": differences.iter()
                .map(|(name, before, now)| json!({ "name": name, "before": before, "now": now }))
                .collect::<Vec<_>>(),
            "notes": comparison.notes,
            "cases": comparison.cases.len(),
            "interrupted": comparison.interrupted,
            "exit_code": exit::of_comparison(comparison),
            "text": last_line(comparison),
        }),
        out,
    )
}

fn facts(environment: &Environment) -> Value {
    json!(environment.facts)
}

fn case_value(comparison: &Comparison, case: &CaseComparison) -> Value {
    let report = &case.report;
    json!({
        "reason": "compare-case",
        "schema": comparison.schema,
        "name": report.name,
        "package": report.package,
        "target": report.target,
        "presence": match case.presence {
            Presence::Both => "both",
            Presence::OnlyNow => "only-now",
            Presence::OnlyBefore => "only-before",
        },
        "outcome": match standing(case) {
            Standing::Problem => "problem",
            Standing::OverLimit => "budget",
            Standing::Changed => "changed",
            Standing::Same if case.presence == Presence::Both => "same",
            Standing::Same => "not-compared",
        },
        "checkpoints": report.checkpoints.iter().map(|now| stop(case, now)).collect::<Vec<_>>(),
        "varying": case.varying,
        "elf": report.elf,
        "escaped": case.escaped.iter().map(|escaped| json!({
            "checkpoint": escaped.checkpoint,
            "metric": escaped.metric,
            "rule": escaped.rule,
            "origin": escaped.origin,
            "text": escaped_text(&comparison.before.word, escaped),
        })).collect::<Vec<_>>(),
        "problem": report.problem.as_ref().map(problem_value),
        "end": report.end.as_ref().map(end),
        "settings": settings_value(report),
        "notes": report.notes,
    })
}

/// The now side in full, with the changes; of the other side its sums by role.
fn stop(case: &CaseComparison, now: &CheckpointReport) -> Value {
    let mut value = checkpoint(now);
    let before = case.before.iter().find(|(name, _)| *name == now.name);
    let sums = |map: &MemoryMap| {
        let roles: serde_json::Map<String, Value> = map
            .by_role()
            .into_iter()
            .map(|(role, sum)| (role.name().to_owned(), json!(sum)))
            .collect();
        json!({ "roles": roles, "own": map.sum(|role| role.is_own()), "process": map.process })
    };
    if let Some(value) = value.as_object_mut() {
        value.insert("before".to_owned(), before.map_or(Value::Null, |(_, map)| sums(map)));
    }
    value
}
