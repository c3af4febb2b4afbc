//! The runs of a matrix → what each metric costs per unit, where that changes, and whether it is allowed. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::trend::slope_milli;
use crate::model::{
    Bound, Case, CaseReport, CheckpointSpec, Knee, LimitResult, Line, MIN_RUNS, MemoryMap, Metric, Role, Sample, Scaling,
    Subject, Verdict,
};

/// What is told besides what has a limit.
const ALWAYS: [&str; 6] = [
    "own.reserved",
    "own.anon",
    "thread-stack.reserved",
    "thread-arena.count",
    "thread-arena.reserved",
    "threads.count",
];

/// What the machine and the case say of limits on arenas.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine {
    /// Processors that are online.
    pub cpus: Option<u64>,
}

/// What a finished run of a matrix gives to its line.
#[must_use]
pub fn sample(case: &Case, report: &CaseReport) -> Option<Sample> {
    let maps = report
        .checkpoints
        .iter()
        .map(|checkpoint| (checkpoint.name.as_str(), &checkpoint.map));
    sample_of(case, maps, report.problem.is_some())
}

/// The same of its checkpoints, by name.
#[must_use]
pub fn sample_of<'a>(case: &Case, maps: impl Iterator<Item = (&'a str, &'a MemoryMap)>, failed: bool) -> Option<Sample> {
    let number = case.run.as_ref()?.number?;
    let checkpoints = maps.map(|(name, map)| {
        let spec = case.checkpoints.iter().find(|spec| spec.name == name);
        let values = metrics(spec)
            .into_iter()
            .filter_map(|metric| Some((metric.clone(), map.metric(&metric)?)));
        (name.to_owned(), values.collect())
    });
    Some(Sample {
        number,
        checkpoints: checkpoints.collect(),
        failed,
    })
}

fn metrics(spec: Option<&CheckpointSpec>) -> BTreeSet<Metric> {
    let always = ALWAYS.iter().filter_map(|name| Metric::parse(name).ok());
    let limited = spec.into_iter().flat_map(|spec| &spec.limits);
    let limited = limited.filter(|(_, limit)| limit.per_unit.is_some() || limit.constant.is_some());
    always.chain(limited.map(|(metric, _)| metric.clone())).collect()
}

/// Draws the lines through the runs and judges the limits that the last run's case states; both go into its report.
pub fn judge_scaling(case: &Case, samples: &[Sample], machine: Machine, report: &mut CaseReport) {
    let Some(run) = &case.run else { return };
    let mut samples: Vec<&Sample> = samples.iter().collect();
    samples.sort_by_key(|sample| sample.number);
    let failed = samples.iter().filter(|sample| sample.failed).count();
    for spec in &case.checkpoints {
        let mut found: BTreeMap<Metric, Scaling> = BTreeMap::new();
        for metric in metrics(Some(spec)) {
            let points: Option<Vec<(u64, u64)>> = samples
                .iter()
                .map(|sample| Some((sample.number, *sample.checkpoints.get(&spec.name)?.get(&metric)?)))
                .collect();
            let distinct = samples.iter().map(|sample| sample.number).collect::<BTreeSet<_>>().len();
            if let Some(points) = points.filter(|_| failed == 0 && distinct == samples.len() && distinct >= MIN_RUNS) {
                found.insert(metric.clone(), scaling(case, &spec.name, metric, &run.unit, points, machine));
            }
        }
        let judged = spec.limits.iter().flat_map(|(metric, limit)| {
            let line = found.get(metric);
            let unit = &run.unit;
            let per_unit = limit.per_unit.as_ref().map(|bound| {
                let steepest = |scaling: &Scaling| {
                    let after = scaling.knee.as_ref().map_or(i64::MIN, |knee| knee.after.slope_milli);
                    scaling.line.slope_milli.max(after)
                };
                result(
                    metric,
                    format!("{} {unit}", LimitResult::PER_UNIT),
                    bound,
                    line.map(steepest),
                    failed,
                )
            });
            let constant = limit.constant.as_ref().map(|bound| {
                let constant = line.map(|scaling| scaling.line.constant_milli);
                result(metric, LimitResult::CONSTANT.to_owned(), bound, constant, failed)
            });
            per_unit.into_iter().chain(constant)
        });
        let judged: Vec<LimitResult> = judged.collect();
        if let Some(checkpoint) = report.checkpoints.iter_mut().find(|checkpoint| checkpoint.name == spec.name) {
            checkpoint.limits.extend(judged);
        }
        report.scaling.extend(found.into_values());
    }
}

fn result(metric: &Metric, rule: String, bound: &Bound, milli: Option<i64>, failed: usize) -> LimitResult {
    // Rounded up: no limit has a fraction.
    let value = milli.map(|milli| u64::try_from(milli).unwrap_or(0).div_ceil(1000));
    let (verdict, reason) = match value {
        Some(value) if value > bound.value => (Verdict::Over, String::new()),
        Some(_) => (Verdict::Within, String::new()),
        None if failed > 0 => (Verdict::Unknown, format!("{failed} of the runs could not be judged")),
        None => (
            Verdict::Unknown,
            format!("it is not known in every run, or there are fewer than {MIN_RUNS} different numbers"),
        ),
    };
    LimitResult {
        metric: metric.clone(),
        rule,
        limit: Some(bound.value),
        reference: None,
        value,
        origin: bound.place.clone(),
        verdict,
        reason,
    }
}

fn scaling(case: &Case, checkpoint: &str, metric: Metric, unit: &str, points: Vec<(u64, u64)>, machine: Machine) -> Scaling {
    let whole = line(&points);
    let mut scaling = Scaling {
        checkpoint: checkpoint.to_owned(),
        unit: unit.to_owned(),
        line: whole,
        knee: None,
        points,
        metric,
    };
    if let Some((before, after)) = bend(&scaling.points, whole) {
        let at = meeting(before, after);
        scaling.line = before;
        scaling.knee = Some(Knee {
            at,
            after,
            evidence: evidence(case, &scaling, after, machine).unwrap_or_default(),
        });
    }
    scaling
}

/// The line through points: the median slope, and the median of what is left.
fn line(points: &[(u64, u64)]) -> Line {
    let slope = slope_milli(points, 1);
    let mut rests: Vec<i128> = points
        .iter()
        .map(|(x, y)| i128::from(*y) * 1000 - i128::from(slope) * i128::from(*x))
        .collect();
    rests.sort_unstable();
    let middle = rests.len() / 2;
    let median = match (rests.get(middle), rests.len().is_multiple_of(2)) {
        (Some(upper), true) => (upper + rests.get(middle.saturating_sub(1)).unwrap_or(upper)) / 2,
        (upper, _) => upper.copied().unwrap_or(0),
    };
    Line {
        slope_milli: slope,
        constant_milli: i64::try_from(median).unwrap_or(i64::MAX),
    }
}

/// How far points are from a line, in thousandths.
fn miss(points: &[(u64, u64)], line: Line) -> i128 {
    let at = |x: u64| i128::from(line.slope_milli) * i128::from(x) + i128::from(line.constant_milli);
    points.iter().map(|(x, y)| (i128::from(*y) * 1000 - at(*x)).abs()).sum()
}

/// Two lines, where they fit far better than one does and differ in slope by more than a quarter; each through two points at
/// least, five in all: two lines through four points always fit.
fn bend(points: &[(u64, u64)], whole: Line) -> Option<(Line, Line)> {
    if points.len() < 5 {
        return None;
    }
    let splits = (2..=points.len() - 2).map(|at| {
        let (one, other) = points.split_at(at);
        let (before, after) = (line(one), line(other));
        (miss(one, before) + miss(other, after), before, after)
    });
    let (left, before, after) = splits.min_by_key(|(left, ..)| *left)?;
    let (a, b) = (i128::from(before.slope_milli), i128::from(after.slope_milli));
    let differs = (a - b).abs() * 4 > a.abs().max(b.abs());
    (differs && left * 4 < miss(points, whole)).then_some((before, after))
}

/// The number at which two lines of different slope meet.
fn meeting(before: Line, after: Line) -> u64 {
    let rise = i128::from(before.slope_milli) - i128::from(after.slope_milli);
    let apart = i128::from(after.constant_milli) - i128::from(before.constant_milli);
    let (apart, rise) = if rise < 0 { (-apart, -rise) } else { (apart, rise.max(1)) };
    u64::try_from((apart + rise / 2).div_euclid(rise)).unwrap_or(0)
}

/// A number of arenas that stays the same, with main, is a limit of glibc's that is known: `MALLOC_ARENA_MAX`, or eight for each
/// processor (malloc/arena.c, `NARENAS_FROM_NCORES`). It is told as an equality, which is all that is known.
fn evidence(case: &Case, scaling: &Scaling, after: Line, machine: Machine) -> Option<String> {
    let Subject::Roles { roles, .. } = scaling.metric.subject() else {
        return None;
    };
    if !roles.contains(&Role::ThreadArena) || scaling.metric.name() != "thread-arena.count" || after.slope_milli != 0 {
        return None;
    }
    let count = scaling.points.last()?.1;
    let asked = case.env.get("MALLOC_ARENA_MAX").and_then(|text| text.parse::<u64>().ok());
    match (asked, machine.cpus) {
        (Some(most), _) if most == count + 1 => Some(format!("{count} + main = {most} = MALLOC_ARENA_MAX")),
        (None, Some(cpus)) if cpus * 8 == count + 1 => {
            Some(format!("{count} + main = 8 \u{d7} {cpus} processors, glibc's limit"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Target;

    const NUMBERS: [u64; 8] = [1, 2, 4, 8, 16, 32, 64, 100];

    fn case() -> Case {
        Case::new("arenas.100", "/", Target::Command { program: "p".to_owned() })
    }

    fn of(metric: &str, value: impl Fn(u64) -> u64, cpus: u64) -> Scaling {
        let points = NUMBERS.iter().map(|n| (*n, value(*n))).collect();
        let metric = Metric::parse(metric).unwrap();
        scaling(&case(), "loaded", metric, "thread", points, Machine { cpus: Some(cpus) })
    }

    #[test]
    fn a_straight_line_is_exact_and_has_no_knee() {
        let found = of("thread-stack.reserved", |n| n * 8_392_704 + 4096, 2);
        assert_eq!(
            (found.line.slope_milli, found.line.constant_milli, found.knee),
            (8_392_704_000, 4_096_000, None)
        );
        // Pages make it rough, not bent.
        let rough = of("own.anon", |n| (n * 5000).div_ceil(4096) * 4096, 2);
        assert_eq!(rough.knee, None);
        assert!((4_900_000..5_100_000).contains(&rough.line.slope_milli), "{rough:?}");
    }

    #[test]
    fn the_limit_of_arenas_is_a_knee_with_its_evidence() {
        let found = of("thread-arena.count", |n| n.min(15), 2);
        let knee = found.knee.unwrap();
        assert_eq!((found.line.slope_milli, knee.at, knee.after.slope_milli), (1000, 15, 0));
        assert_eq!(knee.evidence, "15 + main = 8 × 2 processors, glibc's limit");
        let other = of("thread-arena.count", |n| n.min(15), 4).knee.unwrap();
        assert_eq!(other.evidence, "", "31 would be the limit there");
        let reserved = of("thread-arena.reserved", |n| n.min(15) << 26, 2).knee.unwrap();
        assert_eq!((reserved.at, reserved.evidence.as_str()), (15, ""));
        assert_eq!(of("thread-arena.count", |_| 1, 2).knee, None);
        assert_eq!(of("thread-arena.count", |n| n, 16).knee, None);
    }
}
