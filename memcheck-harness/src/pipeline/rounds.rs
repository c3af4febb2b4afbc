//! What is read of a series at each of its rounds: a few figures, whether or not the memory itself is kept.

use std::collections::BTreeSet;

use crate::model::{CaptureLevel, Case, MemoryMap, Metric, Series};

/// What is read besides what has a limit: enough to tell what grows.
const ALWAYS: [&str; 9] = [
    "own.reserved",
    "own.anon",
    "main-heap.used",
    "main-heap.anon",
    "thread-arena.used",
    "thread-arena.count",
    "mmap-chunk.reserved",
    "thread-stack.reserved",
    "process.mappings",
];

/// Adds a round to its series, if the checkpoint (by index) is one of a series.
pub(super) fn read(case: &Case, index: usize, level: CaptureLevel, map: &MemoryMap, all: &mut Vec<Series>) {
    let Some((spec, every)) = case
        .checkpoints
        .get(index)
        .and_then(|spec| Some((spec, spec.every.as_ref()?)))
    else {
        return;
    };
    let position = all.iter().position(|series| series.name == every.series).unwrap_or_else(|| {
        all.push(Series {
            name: every.series.clone(),
            place: spec.place.clone(),
            at: spec.at.to_string(),
            step: every.step,
            ..Series::default()
        });
        all.len() - 1
    });
    let Some(series) = all.get_mut(position) else { return };
    series.rounds = series.rounds.max(every.number);
    if !case.keeps(index) {
        series.thinned += 1;
    }
    let always = ALWAYS.iter().filter_map(|name| Metric::parse(name).ok());
    let mut metrics: BTreeSet<Metric> = always
        .filter(|metric| level == CaptureLevel::Full || metric.is_fast())
        .collect();
    metrics.extend(spec.limits.keys().cloned());
    let before = usize::try_from(every.number - 1).unwrap_or(0);
    for metric in metrics {
        let value = map.metric(&metric);
        let values = series.readings.entry(metric).or_default();
        // A round in which this was not read is a gap; rounds in children come as these do.
        if values.len() <= before {
            values.resize(before + 1, None);
        }
        if let Some(slot) = values.get_mut(before) {
            *slot = value;
        }
    }
}
