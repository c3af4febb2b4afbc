//! Limits in a comparison: which of several rounds speaks for a limit, and which limits of the base a change escapes. Pure.

use std::collections::BTreeMap;
use std::path::Path;

use crate::model::{Case, Escaped, Limit, LimitResult, Over, Place, Stdin, Verdict};

/// The limits of one round, by the index of their checkpoint in the case.
pub(super) type Limits = BTreeMap<usize, Vec<LimitResult>>;

/// A limit is kept when every round keeps it: of each limit the round that speaks most against it. The notes name those that
/// some rounds keep and others break.
pub(super) fn held(case: &Case, rounds: &[Limits]) -> (Limits, Vec<String>) {
    let mut held = Limits::new();
    let mut counts: BTreeMap<(usize, String, String), (usize, usize)> = BTreeMap::new();
    for (at, limit) in rounds
        .iter()
        .flatten()
        .flat_map(|(at, list)| list.iter().map(move |limit| (*at, limit)))
    {
        let count = counts
            .entry((at, limit.metric.name().to_owned(), limit.rule.clone()))
            .or_default();
        count.0 += usize::from(limit.verdict.is_broken());
        count.1 += 1;
        let list = held.entry(at).or_default();
        let same = |other: &&mut LimitResult| (&other.metric, &other.rule) == (&limit.metric, &limit.rule);
        match list.iter_mut().find(same) {
            Some(worst) if weight(limit) > weight(worst) => *worst = limit.clone(),
            Some(_) => {}
            None => list.push(limit.clone()),
        }
    }
    let notes = counts
        .into_iter()
        .filter(|(_, (broken, all))| *broken > 0 && broken < all)
        .filter_map(|((at, metric, rule), (broken, all))| {
            let name = &case.checkpoints.get(at)?.name;
            Some(format!(
                "{metric} at {name} breaks its limit ({rule}) in {broken} of {all} runs: a limit is kept only if every run keeps it"
            ))
        })
        .collect();
    (held, notes)
}

/// What speaks most against a limit: broken, then waived; then how far the value lies beyond.
fn weight(limit: &LimitResult) -> (u8, u64) {
    let class = match limit.verdict {
        Verdict::Within => 0,
        Verdict::Waived => 1,
        Verdict::Unknown => 2,
        Verdict::Over => 3,
    };
    let beyond = match (limit.verdict, limit.value, limit.limit) {
        (Verdict::Over | Verdict::Waived, Some(value), Some(limit)) => value.abs_diff(limit),
        _ => 0,
    };
    (class, beyond)
}

/// The limits of the base that cannot be judged, as the change has no such checkpoint any more, or (without `now`) no such
/// case. A later pass of a series is one only if its series is gone.
pub(super) fn escaped(base: &Case, now: Option<&Case>) -> Vec<Escaped> {
    let is_left = |name: &str| now.is_some_and(|now| now.checkpoints.iter().any(|spec| spec.name == name));
    let mut found: Vec<Escaped> = Vec::new();
    for spec in &base.checkpoints {
        let series = spec.every.as_ref();
        if is_left(&spec.name) || series.is_some_and(|every| is_left(&format!("{}.1", every.series))) {
            continue;
        }
        let checkpoint = series.map_or(&spec.name, |every| &every.series);
        for (metric, limit) in &spec.limits {
            for (rule, place) in rules(limit) {
                let escaped = Escaped {
                    checkpoint: checkpoint.clone(),
                    metric: metric.clone(),
                    rule,
                    origin: place,
                    case_is_gone: now.is_none(),
                };
                if !found.contains(&escaped) {
                    found.push(escaped);
                }
            }
        }
    }
    found
}

fn rules(limit: &Limit) -> Vec<(String, Place)> {
    let mut rules = Vec::new();
    if let Some(max) = &limit.max {
        rules.push(("max".to_owned(), max.place.clone()));
    }
    if let Some(min) = &limit.min {
        rules.push(("min".to_owned(), min.place.clone()));
    }
    // Growth over the approved snapshot takes no part in a comparison, kept or not.
    if let Some(growth) = limit.growth.as_ref().filter(|growth| growth.over != Over::Approved) {
        let over = match &growth.over {
            Over::Checkpoint(name) => name,
            Over::Base => "base",
            Over::Approved => "approved",
        };
        rules.push((format!("max_growth over {over}"), growth.place.clone()));
    }
    rules
}

/// What of a case is defined otherwise than at the base: limits of the base are then judged, but of another program run.
pub(super) fn redefined(base: &Case, now: &Case) -> Vec<String> {
    let mut found: Vec<String> = [
        ("target", base.target != now.target),
        ("args", base.args != now.args),
        ("env", base.env != now.env),
        ("limits", base.limits != now.limits),
        ("cpus", base.cpus != now.cpus),
        ("stdin", stdin(base) != stdin(now)),
        ("tty", base.tty != now.tty),
        ("as_is", base.as_is != now.as_is),
        (
            "step",
            !base
                .steps
                .iter()
                .map(|step| (&step.after, &step.run))
                .eq(now.steps.iter().map(|step| (&step.after, &step.run))),
        ),
    ]
    .into_iter()
    .filter(|(_, differs)| *differs)
    .map(|(key, _)| key.to_owned())
    .collect();
    for spec in &now.checkpoints {
        let there = base.checkpoints.iter().find(|other| other.name == spec.name);
        if there.is_some_and(|there| (&there.at, there.hit) != (&spec.at, spec.hit)) {
            found.push(format!("checkpoint {}", spec.name));
        }
    }
    found
}

/// The file of its standard input below its package.
fn stdin(case: &Case) -> Option<&Path> {
    match &case.stdin {
        Stdin::Null => None,
        Stdin::File(path) => Some(path.strip_prefix(&case.package_dir).unwrap_or(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{At, Bound, CheckpointSpec, Metric, Place, Target};
    use crate::report::fixtures::limit;

    fn case(names: &[&str]) -> Case {
        let target = Target::Command {
            program: "true".to_owned(),
        };
        let mut case = Case::new("c", "/p", target);
        case.checkpoints = names.iter().map(|name| CheckpointSpec::new(*name, At::Main)).collect();
        let max = Bound {
            value: 4,
            place: Place::default(),
        };
        for spec in &mut case.checkpoints {
            let limit = Limit {
                max: Some(max.clone()),
                ..Limit::default()
            };
            spec.limits.insert(Metric::parse("threads.count").unwrap(), limit);
        }
        case
    }

    fn round(value: u64, at: usize) -> Limits {
        let mut result = limit("threads.count", 4, Some(value), 3);
        result.verdict = if value > 4 { Verdict::Over } else { Verdict::Within };
        Limits::from([(at, vec![result])])
    }

    #[test]
    fn one_round_of_three_is_enough_to_break_a_limit() {
        let case = case(&["a", "b"]);
        let (held, notes) = held(&case, &[round(3, 1), round(6, 1), round(5, 1)]);
        assert_eq!((held[&1][0].value, held[&1][0].verdict), (Some(6), Verdict::Over));
        assert!(
            notes[0].starts_with("threads.count at b breaks its limit (max) in 2 of 3 runs"),
            "{notes:?}"
        );
    }

    #[test]
    fn limits_are_paired_by_checkpoint_wherever_it_stands_in_a_round() {
        let case = case(&["a", "b"]);
        let both = round(1, 0).into_iter().chain(round(2, 1)).collect();
        let (held, notes) = held(&case, &[both, round(9, 1)]);
        let values: Vec<_> = held.values().map(|list| list[0].value).collect();
        assert_eq!(values, [Some(1), Some(9)]);
        assert_eq!(notes.len(), 1);
    }

    #[test]
    fn a_checkpoint_that_is_gone_takes_its_limits_out_of_sight() {
        let base = case(&["a", "b"]);
        let names = |now: Option<&Case>| -> Vec<String> { escaped(&base, now).into_iter().map(|e| e.checkpoint).collect() };
        assert_eq!(names(Some(&base)), Vec::<String>::new());
        assert_eq!(names(Some(&case(&["b", "c"]))), ["a"]);
        assert_eq!(names(None), ["a", "b"]);
        let mut without = case(&["a"]);
        without.checkpoints[0].limits.clear();
        assert_eq!(escaped(&without, None), []);
    }

    #[test]
    fn what_a_case_runs_is_part_of_its_limits() {
        let base = case(&["a"]);
        let mut now = base.clone();
        assert!(redefined(&base, &now).is_empty());
        now.args.push("--little".to_owned());
        now.checkpoints[0].at = At::Exec;
        assert_eq!(redefined(&base, &now), ["args", "checkpoint a"]);
    }
}
