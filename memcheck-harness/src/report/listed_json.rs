//! The machine form of `list` and `metrics`: one JSON line for each case, file or metric.

use std::io::{self, Write};
use std::path::Path;

use serde_json::json;

use super::json as machine;
use super::json::SCHEMA;
use crate::model::{Case, Children, Metric, Tier, Unit};

/// Writes a case of the configuration.
///
/// # Errors
/// Those of the writer.
pub fn listed_json(case: &Case, out: &mut dyn Write) -> io::Result<()> {
    let checkpoints: Vec<_> = case
        .checkpoints
        .iter()
        .map(|spec| {
            json!({
                "name": spec.name,
                "at": spec.at.to_string(),
                "place": machine::place(&spec.place),
                "in_snapshot": spec.snapshot && !case.snapshot.off,
                "limits": spec.limits.keys().map(Metric::name).collect::<Vec<_>>(),
            })
        })
        .collect();
    let value = json!({
        "reason": "listed",
        "schema": SCHEMA,
        "name": case.name,
        "package": case.package,
        "target": case.target.to_string(),
        "place": machine::place(&case.place),
        "test": null,
        "captures_children": case.children == Children::Capture,
        "checkpoints": checkpoints,
    });
    machine::line(&value, out)
}

/// Writes a case that a harness test builds in Rust: only the test knows the rest.
///
/// # Errors
/// Those of the writer.
pub fn listed_in_rust_json(name: &str, package: &str, test: &str, out: &mut dyn Write) -> io::Result<()> {
    let value = json!({ "reason": "listed", "schema": SCHEMA, "name": name, "package": package, "test": test });
    machine::line(&value, out)
}

/// Writes an approved snapshot that belongs to no case.
///
/// # Errors
/// Those of the writer.
pub fn unreferenced_json(path: &Path, out: &mut dyn Write) -> io::Result<()> {
    machine::line(
        &json!({ "reason": "unreferenced", "schema": SCHEMA, "path": path.to_string_lossy() }),
        out,
    )
}

/// Writes every metric.
///
/// # Errors
/// Those of the writer.
pub fn metrics_json(out: &mut dyn Write) -> io::Result<()> {
    for metric in Metric::all() {
        let value = json!({
            "reason": "metric",
            "schema": SCHEMA,
            "name": metric.name(),
            "unit": match metric.unit() {
                Unit::Count => "count",
                Unit::Bytes => "bytes",
            },
            "tier": match metric.tier() {
                Tier::Exact => "exact",
                Tier::Tolerant => "tolerant",
                Tier::ReportOnly => "report-only",
            },
            "source": metric.source(),
            "meaning": metric.meaning(),
        });
        machine::line(&value, out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::print;
    use super::*;

    #[test]
    fn every_metric_is_a_line() {
        let text = print(metrics_json);
        assert_eq!(text.lines().count(), Metric::all().len());
        let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(first["reason"], "metric");
        assert!(!first["meaning"].as_str().unwrap().is_empty());
    }
}
