//! Figures for trackers of benchmarks: Bencher's metric format and `customSmallerIsBetter` of github-action-benchmark.
//! Exact metrics only: own memory, threads, and whatever has a limit. A figure that is not known is left out, never zero.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::json;
use super::text::clean;
use crate::model::{CaseReport, CheckpointReport, Metric, RunReport, Tier, Unit};

/// Always tracked.
const METRICS: [&str; 3] = ["own.anon", "own.reserved", "threads.count"];
/// Characters of a name.
const NAME_CHARS: usize = 200;

/// `{ "case @ checkpoint": { "own.anon": { "value": 4096 } } }`
#[must_use]
pub(super) fn bencher(report: &RunReport) -> Vec<u8> {
    let mut all = Map::new();
    for (case, checkpoint) in checkpoints(report) {
        let measures: Map<String, Value> = figures(checkpoint)
            .into_iter()
            .map(|(metric, value)| (metric.name().to_owned(), json!({ "value": value })))
            .collect();
        all.insert(name(case, checkpoint), Value::Object(measures));
    }
    json::bytes(&Value::Object(all)).unwrap_or_default()
}

/// `[{ "name": "case @ checkpoint own.anon", "unit": "bytes", "value": 4096 }]`
#[must_use]
pub(super) fn gh_benchmark(report: &RunReport) -> Vec<u8> {
    let mut all = Vec::new();
    for (case, checkpoint) in checkpoints(report) {
        for (metric, value) in figures(checkpoint) {
            let unit = match metric.unit() {
                Unit::Bytes => "bytes",
                Unit::Count => "count",
            };
            all.push(json!({ "name": format!("{} {metric}", name(case, checkpoint)), "unit": unit, "value": value }));
        }
    }
    json::bytes(&Value::Array(all)).unwrap_or_default()
}

fn checkpoints(report: &RunReport) -> impl Iterator<Item = (&CaseReport, &CheckpointReport)> {
    report
        .cases
        .iter()
        .flat_map(|case| case.checkpoints.iter().map(move |checkpoint| (case, checkpoint)))
}

fn name(case: &CaseReport, checkpoint: &CheckpointReport) -> String {
    clean(&format!("{} @ {}", case.name, checkpoint.name))
        .chars()
        .take(NAME_CHARS)
        .collect()
}

fn figures(checkpoint: &CheckpointReport) -> Vec<(Metric, u64)> {
    let standard = METRICS.iter().filter_map(|name| Metric::parse(name).ok());
    let limited = checkpoint.limits.iter().map(|limit| limit.metric.clone());
    let mut seen = BTreeSet::new();
    standard
        .chain(limited)
        .filter(|metric| metric.tier() == Tier::Exact && seen.insert(metric.name().to_owned()))
        .filter_map(|metric| Some((metric.clone(), checkpoint.map.metric(&metric)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{KIB, unjoined};
    use super::*;

    #[test]
    fn figures_by_case_and_checkpoint() {
        let value: Value = serde_json::from_slice(&bencher(&unjoined())).unwrap();
        assert_eq!(value["threads-unjoined @ spawned"]["own.anon"]["value"], 52 * KIB);
        assert_eq!(value["threads-unjoined @ spawned"]["thread-stack.exited.count"]["value"], 2);
        assert_eq!(value["threads-unjoined @ start"].get("thread-stack.exited.count"), None);
        let list: Vec<Value> = serde_json::from_slice(&gh_benchmark(&unjoined())).unwrap();
        assert_eq!(list.len(), 7);
        assert_eq!(
            list[0],
            json!({ "name": "threads-unjoined @ start own.anon", "unit": "bytes", "value": 4 * KIB })
        );
    }
}
