//! Series × limits → how each metric grows from pass to pass, and whether that is allowed. Pure. Also judges the rounds of a
//! long series whose memory was not kept, by their readings.

use super::{Run, judge_metric, trend, why_absent};
use crate::model::{
    Bound, Case, CheckpointSpec, Direction, Every, LimitResult, MIN_ROUNDS, MemoryMap, Metric, RoleMeasure, Series, Snapshot,
    Subject, Trend, Unit, Verdict,
};

/// Works out how every metric of the series grows. The warm-up is the plan's.
pub fn find_growth(case: &Case, series: &mut [Series], page_bytes: u64) {
    for series in series {
        let written = rounds_of(case, &series.name).next().and_then(|(_, _, every)| every.warm_up);
        series.warm_up = Every::warm_up_of(written, series.rounds);
        series.trends.clear();
        if series.rounds.saturating_sub(series.warm_up) < MIN_ROUNDS {
            continue;
        }
        let skip = usize::try_from(series.warm_up).unwrap_or(usize::MAX);
        for (metric, values) in &series.readings {
            let counted: Option<Vec<u64>> = values.iter().skip(skip).copied().collect();
            let whole = values.len() as u64 == series.rounds;
            let found = counted
                .filter(|_| whole)
                .and_then(|values| trend::trend(&values, series.step, series.warm_up + 1, grain(metric, page_bytes)));
            if let Some(found) = found {
                series.trends.insert(metric.clone(), found);
            }
        }
    }
}

/// The specifications of a series: index into the case's checkpoints, checkpoint, and its place in the series.
fn rounds_of<'a>(case: &'a Case, name: &str) -> impl Iterator<Item = (usize, &'a CheckpointSpec, &'a Every)> {
    let all = case.checkpoints.iter().enumerate();
    all.filter_map(move |(index, spec)| spec.every.as_ref().map(|every| (index, spec, every)))
        .filter(move |(_, _, every)| every.series == name)
}

/// The least change that a metric can show: a page, but for counts and what malloc keeps books of.
fn grain(metric: &Metric, page_bytes: u64) -> u64 {
    let exact = match metric.subject() {
        Subject::Own(measure) | Subject::Roles { measure, .. } => {
            matches!(measure, RoleMeasure::Used | RoleMeasure::Free | RoleMeasure::Top)
        }
        Subject::Process(_) | Subject::Threads | Subject::Tree(_) => false,
    };
    if exact || metric.unit() == Unit::Count {
        0
    } else {
        page_bytes
    }
}

/// Adds what the series say to the results of the maps that were kept (one list of `limits` for each): growth to the last
/// round of its series, and limits that were broken in a round that was not kept to the next one that was.
pub fn judge_series(
    case: &Case,
    series: &[Series],
    maps: &[(usize, &MemoryMap)],
    approved: Option<&Snapshot>,
    limits: &mut [Vec<LimitResult>],
) {
    for series in series {
        let rounds: Vec<_> = rounds_of(case, &series.name)
            .filter(|(_, _, every)| every.number <= series.rounds)
            .collect();
        // Where a round's results go: the position of the next map that was kept, else of the last one.
        let place_of = |index: usize| {
            let here = |(reached, _): &&(usize, &MemoryMap)| rounds.iter().any(|(round, ..)| round == reached);
            let kept = || maps.iter().enumerate().filter(|(_, map)| here(map));
            kept()
                .find(|(_, (reached, _))| *reached >= index)
                .or_else(|| kept().next_back())
                .map(|(position, _)| position)
        };
        for (index, spec, every) in &rounds {
            if maps.iter().any(|(reached, _)| reached == index) {
                continue;
            }
            let broken: Vec<LimitResult> = unkept(case, spec, every, series, maps, approved)
                .filter(|limit| limit.verdict.is_broken())
                .collect();
            if !broken.is_empty()
                && let Some(list) = place_of(*index).and_then(|position| limits.get_mut(position))
            {
                // Of a limit that is broken again and again the first time says it.
                let kind = |limit: &LimitResult| (limit.metric.clone(), limit.rule.split(" in round ").next().map(str::to_owned));
                for limit in broken {
                    if !list
                        .iter()
                        .any(|other| other.verdict.is_broken() && kind(other) == kind(&limit))
                    {
                        list.push(limit);
                    }
                }
            }
        }
        let Some((last, spec, _)) = rounds.last() else { continue };
        let Some(position) = place_of(*last) else { continue };
        let map = maps.get(position).map(|(_, map)| *map);
        let judged = spec.limits.iter().filter_map(|(metric, limit)| {
            let bound = limit.per_round.as_ref()?;
            Some(judge_rate(series, metric, bound, map))
        });
        if let Some(list) = limits.get_mut(position) {
            list.extend(judged);
        }
    }
}

/// The limits of a round of which only readings are there.
fn unkept<'a>(
    case: &'a Case,
    spec: &'a CheckpointSpec,
    every: &'a Every,
    series: &'a Series,
    maps: &'a [(usize, &'a MemoryMap)],
    approved: Option<&'a Snapshot>,
) -> impl Iterator<Item = LimitResult> + 'a {
    let at = usize::try_from(every.number - 1).unwrap_or(usize::MAX);
    let run = Run {
        case,
        spec,
        maps,
        approved,
        base: None,
    };
    let limits = spec.limits.iter().flat_map(move |(metric, limit)| {
        let value = series
            .readings
            .get(metric)
            .and_then(|values| values.get(at).copied().flatten());
        let value = value.ok_or_else(|| "it was not read, or was not known".to_owned());
        judge_metric(&run, metric, limit, &value)
    });
    limits.map(move |limit| LimitResult {
        // By the number of the pass, as checkpoints are named.
        rule: format!("{} in round {}", limit.rule, (every.number - 1) * every.step + 1),
        ..limit
    })
}

fn judge_rate(series: &Series, metric: &Metric, bound: &Bound, map: Option<&MemoryMap>) -> LimitResult {
    let result = |value: Option<u64>, verdict: Verdict, reason: String| LimitResult {
        metric: metric.clone(),
        rule: LimitResult::PER_ROUND.to_owned(),
        limit: Some(bound.value),
        reference: None,
        value,
        origin: bound.place.clone(),
        verdict,
        reason,
    };
    let unknown = |reason: String| result(None, Verdict::Unknown, reason);
    let counted = series.rounds.saturating_sub(series.warm_up);
    let Some(trend) = series.trends.get(metric) else {
        return unknown(if counted < MIN_ROUNDS {
            format!(
                "series `{}` had {} rounds after a warm-up of {}; a verdict needs {MIN_ROUNDS}",
                series.name, counted, series.warm_up
            )
        } else if !series.readings.contains_key(metric) {
            "it was not read in this run: measure again".to_owned()
        } else {
            map.filter(|map| map.metric(metric).is_none()).map_or_else(
                || format!("it was not known in every round of series `{}`", series.name),
                |map| why_absent(map, metric),
            )
        });
    };
    // A slope of thousandths against whole units: exact, as no limit has a fraction.
    let rate = match trend.direction {
        Direction::Grows => Series::rate(trend.slope_milli),
        Direction::Flat | Direction::Shrinks => 0,
        Direction::Stepped if Series::rate(trend.slope_milli) > bound.value => return unknown(stepped(metric, trend)),
        Direction::Stepped => 0,
    };
    let verdict = if rate > bound.value { Verdict::Over } else { Verdict::Within };
    result(Some(rate), verdict, String::new())
}

/// Too much to be called flat, too little to be called growth.
fn stepped(metric: &Metric, trend: &Trend) -> String {
    let times = match trend.rises {
        1 => "once".to_owned(),
        rises => format!("{rises} times"),
    };
    format!(
        "it rose {times}, by {} in all, and not after round {}: neither flat nor growing; measure more rounds, or write \
         warm_up = {}",
        metric.show(trend.rise),
        trend.last_rise,
        trend.last_rise
    )
}
