//! The results of shards → one run. Nothing may be lost on the way: a part that is missing, came twice, did not come to its
//! end or belongs to another run is a case that could not be judged, and with it the whole.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{CaseReport, Environment, EnvironmentStatus, Problem, ProblemKind, RunReport, Shard};

/// One run of several, each with the name it goes by (its file). Cases come in the order of `memcheck.toml`.
#[must_use]
pub fn merge(parts: &[(String, RunReport)]) -> RunReport {
    let mut whole = RunReport {
        schema: RunReport::SCHEMA,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        complete: true,
        ..RunReport::default()
    };
    let Some((_, first)) = parts.first() else {
        whole.cases.push(failed("merge", "there are no results to merge", Vec::new()));
        return whole;
    };
    whole.tool_version.clone_from(&first.tool_version);
    whole.ci = parts.iter().any(|(_, part)| part.ci);
    whole.environment = environment(parts);
    whole.environment_status = status(parts);
    whole.cases = in_order(parts);
    whole.waivers = parts.iter().flat_map(|(_, part)| part.waivers.iter().cloned()).collect();
    whole.waivers.sort_by(|a, b| a.waiver.place.cmp(&b.waiver.place));
    whole.not_selected = not_selected(first);
    // All shards are of one change.
    whole.revision = parts.iter().find_map(|(_, part)| part.revision.clone());
    whole.switches.clone_from(&first.switches);
    whole.cases.extend(lost(parts, &whole.cases));
    whole
}

/// What no shard was to measure.
fn not_selected(part: &RunReport) -> usize {
    let dealt = part.partition.as_ref().map_or(part.cases.len(), |shard| shard.cases.len());
    (part.not_selected + part.cases.len()).saturating_sub(dealt)
}

/// Facts that all parts share; one that differs lists what there was.
fn environment(parts: &[(String, RunReport)]) -> Environment {
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, value) in parts.iter().flat_map(|(_, part)| &part.environment.facts) {
        values.entry(name).or_default().insert(value);
    }
    let joined = values
        .into_iter()
        .map(|(name, values)| (name.to_owned(), values.into_iter().collect::<Vec<_>>().join(" | ")));
    Environment { facts: joined.collect() }
}

/// Off the environment of record if any part was.
fn status(parts: &[(String, RunReport)]) -> EnvironmentStatus {
    let all: BTreeSet<_> = parts
        .iter()
        .flat_map(|(_, part)| &part.environment_status.differences)
        .collect();
    EnvironmentStatus {
        recorded: parts.iter().find_map(|(_, part)| part.environment_status.recorded.clone()),
        differences: all.into_iter().cloned().collect(),
    }
}

/// Cases of the file in its order, then those of harness tests as they came.
fn in_order(parts: &[(String, RunReport)]) -> Vec<CaseReport> {
    let order: BTreeMap<&str, usize> = parts
        .iter()
        .find_map(|(_, part)| part.partition.as_ref())
        .map(|shard| {
            shard
                .cases
                .iter()
                .enumerate()
                .map(|(index, name)| (name.as_str(), index))
                .collect()
        })
        .unwrap_or_default();
    let mut cases: Vec<CaseReport> = parts.iter().flat_map(|(_, part)| part.cases.iter().cloned()).collect();
    cases.sort_by_key(|case| order.get(case.name.as_str()).copied().unwrap_or(usize::MAX));
    cases
}

/// One case for each thing that is wrong.
fn lost(parts: &[(String, RunReport)], cases: &[CaseReport]) -> Vec<CaseReport> {
    let mut wrong = Vec::new();
    let mut numbers: BTreeMap<u32, &str> = BTreeMap::new();
    let model: Option<&Shard> = parts.iter().find_map(|(_, part)| part.partition.as_ref());
    for (name, part) in parts {
        if !part.complete {
            let why = match part.interrupted {
                Some(signal) => format!("it was interrupted by signal {signal}"),
                None => "it is incomplete: the run did not come to its end, or was cancelled".to_owned(),
            };
            wrong.push(failed(&shard_name(part, name), &why, vec![format!("results: {name}")]));
        }
        match (&part.partition, model) {
            (Some(shard), Some(model)) => {
                if (&shard.kind, shard.of, &shard.cases) != (&model.kind, model.of, &model.cases) {
                    let why = "it deals out other cases than the first: they are of different commits or commands";
                    wrong.push(failed(&shard_name(part, name), why, vec![format!("results: {name}")]));
                } else if let Some(other) = numbers.insert(shard.number, name) {
                    let why = format!("shard {} of {} came twice", shard.number, shard.of);
                    wrong.push(failed(&shard_name(part, name), &why, vec![format!("in {other} and {name}")]));
                }
            }
            (None, None) => {}
            (None, Some(_)) => {
                let why = "it is no part of a partition, others are";
                wrong.push(failed(&shard_name(part, name), why, vec![format!("results: {name}")]));
            }
            (Some(_), None) => {}
        }
    }
    let Some(model) = model else {
        wrong.extend(doubled(cases));
        return wrong;
    };
    // A forged number must not fill the memory.
    let missing: Vec<u32> = (1..=model.of)
        .take(4096)
        .filter(|number| !numbers.contains_key(number))
        .collect();
    for number in &missing {
        let why = format!("shard {number} of {} is missing", model.of);
        let details = vec!["its job failed before it measured, was cancelled, or did not upload its results".to_owned()];
        wrong.push(failed(&format!("shard {number}/{}", model.of), &why, details));
    }
    let measured: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    if wrong.is_empty()
        && let Some(name) = model.cases.iter().find(|name| !measured.contains(name.as_str()))
    {
        wrong.push(failed(name, "no shard measured it", Vec::new()));
    }
    wrong.extend(doubled(cases));
    wrong
}

fn doubled(cases: &[CaseReport]) -> Vec<CaseReport> {
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<&str> = cases
        .iter()
        .filter(|case| !seen.insert(case.name.as_str()))
        .map(|case| case.name.as_str())
        .collect();
    twice
        .into_iter()
        .map(|name| failed(&format!("{name} (twice)"), "two results have a case of this name", Vec::new()))
        .collect()
}

fn shard_name(part: &RunReport, file: &str) -> String {
    match &part.partition {
        Some(shard) => format!("shard {}/{}", shard.number, shard.of),
        None => file.to_owned(),
    }
}

/// What stands for a part of which nothing is known.
fn failed(name: &str, why: &str, details: Vec<String>) -> CaseReport {
    CaseReport {
        is_part: true,
        problem: Some(Problem {
            kind: ProblemKind::NotJudged,
            title: why.to_owned(),
            details,
        }),
        ..CaseReport::named(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::exit_code;
    use crate::report::fixtures::{case, run};

    fn shard(number: u32, of: u32, measured: &[&str]) -> (String, RunReport) {
        let mut part = run(measured.iter().map(|name| case(name)).collect());
        part.partition = Some(Shard {
            kind: "count".to_owned(),
            number,
            of,
            cases: ["a", "b", "c"].map(str::to_owned).to_vec(),
        });
        (format!("results-{number}.json"), part)
    }

    fn verdict(parts: &[(String, RunReport)]) -> (u8, Vec<String>) {
        let whole = merge(parts);
        let problems = whole.cases.iter().filter_map(|case| case.problem.as_ref());
        (exit_code(&whole), problems.map(|problem| problem.title.clone()).collect())
    }

    #[test]
    fn three_shards_are_one_run_in_the_order_of_the_file() {
        let parts = [shard(3, 3, &["c"]), shard(1, 3, &["a"]), shard(2, 3, &["b"])];
        let whole = merge(&parts);
        let names: Vec<&str> = whole.cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(
            (names.as_slice(), exit_code(&whole), whole.not_selected),
            (&["a", "b", "c"][..], 0, 0)
        );
    }

    #[test]
    fn an_empty_shard_is_no_failure() {
        let parts = [
            shard(1, 4, &["a"]),
            shard(2, 4, &["b"]),
            shard(3, 4, &["c"]),
            shard(4, 4, &[]),
        ];
        assert_eq!(verdict(&parts), (0, vec![]));
    }

    #[test]
    fn a_lost_doubled_cancelled_or_foreign_shard_fails() {
        let one = shard(1, 3, &["a"]);
        let two = shard(2, 3, &["b"]);
        let three = shard(3, 3, &["c"]);
        let (code, why) = verdict(&[one.clone(), two.clone()]);
        assert_eq!((code, why), (7, vec!["shard 3 of 3 is missing".to_owned()]));
        let text = crate::report::last_line(&merge(&[one.clone(), two.clone()]));
        assert_eq!(text, "measured 2 checkpoints in 2 cases: 1 part of the run failed");
        let (code, why) = verdict(&[one.clone(), two.clone(), three.clone(), two.clone()]);
        assert_eq!(code, 7);
        assert!(why[0].contains("came twice") && why[1].contains("two results"), "{why:?}");
        let mut cancelled = three.clone();
        cancelled.1.complete = false;
        let (code, why) = verdict(&[one.clone(), two.clone(), cancelled]);
        assert!(code == 7 && why[0].contains("incomplete"), "{why:?}");
        let mut foreign = three.clone();
        if let Some(shard) = foreign.1.partition.as_mut() {
            shard.cases.push("d".to_owned());
        }
        let (code, why) = verdict(&[one.clone(), two.clone(), foreign]);
        assert!(code == 7 && why[0].contains("different commits"), "{why:?}");
        let mut short = three;
        short.1.cases.clear();
        let (code, why) = verdict(&[one, two, short]);
        assert_eq!((code, why), (7, vec!["no shard measured it".to_owned()]));
        assert_eq!(verdict(&[]).0, 7);
    }
}
