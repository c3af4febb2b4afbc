//! What is wrong with a run, one entry each and the weightiest first, for formats that list findings: annotations, SARIF, JUnit.

use super::series;
use super::text::plural;
use crate::model::{
    CaseReport, Hardening, LimitResult, Outcome, Place, ProblemKind, Relro, RunReport, SnapshotStatus, WaiverStatus,
};

/// How weighty, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Error,
    Warning,
    Note,
}

/// Kinds of findings, the worst first: their names must stay the same from run to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rule {
    NotJudged,
    Budget,
    Hardening,
    Snapshot,
    Waiver,
    WxMapping,
    NoNx,
    NoRelro,
    NoPie,
    NoCanary,
}

impl Rule {
    pub(super) const ALL: [Self; 10] = [
        Self::NotJudged,
        Self::Budget,
        Self::Hardening,
        Self::Snapshot,
        Self::Waiver,
        Self::WxMapping,
        Self::NoNx,
        Self::NoRelro,
        Self::NoPie,
        Self::NoCanary,
    ];

    pub(super) const fn id(self) -> &'static str {
        match self {
            Self::NotJudged => "memcheck/not-judged",
            Self::Budget => "memcheck/budget",
            Self::Hardening => "memcheck/hardening",
            Self::Snapshot => "memcheck/snapshot",
            Self::Waiver => "memcheck/waiver",
            Self::WxMapping => "memcheck/wx-mapping",
            Self::NoNx => "memcheck/no-nx",
            Self::NoRelro => "memcheck/no-relro",
            Self::NoPie => "memcheck/no-pie",
            Self::NoCanary => "memcheck/no-canary",
        }
    }

    pub(super) const fn meaning(self) -> &'static str {
        match self {
            Self::NotJudged => "A case could not be judged",
            Self::Budget => "A memory budget is exceeded",
            Self::Hardening => "A demand on the hardening of a file is not met",
            Self::Snapshot => "Memory differs from the approved snapshot",
            Self::Waiver => "A broken limit is waived, or its waiver should go",
            Self::WxMapping => "Memory is writable and executable at once",
            Self::NoNx => "The stack of the executable may be executable",
            Self::NoRelro => "The executable's relocated data stays writable",
            Self::NoPie => "The executable is not position-independent",
            Self::NoCanary => "The executable uses no stack protector",
        }
    }
}

/// One thing that is wrong. Texts are as measured: each format escapes them by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) rule: Rule,
    pub(super) level: Level,
    pub(super) case: String,
    pub(super) title: String,
    pub(super) text: String,
    /// What tells this finding from others of its rule and case.
    pub(super) key: String,
    pub(super) place: Place,
}

/// Everything that fails or warns, the weightiest first, else in the order of cases.
pub(super) fn findings(report: &RunReport) -> Vec<Finding> {
    let mut all = Vec::new();
    for case in &report.cases {
        of_case(report, case, &mut all);
    }
    all.extend(report.waivers.iter().map(|result| Finding {
        rule: Rule::Waiver,
        level: match result.status {
            WaiverStatus::Expired => Level::Error,
            WaiverStatus::Used => Level::Note,
            WaiverStatus::Unused | WaiverStatus::Exceeded | WaiverStatus::NotJudged => Level::Warning,
        },
        // It fails the run though its case may pass.
        case: match result.status {
            WaiverStatus::Expired => String::new(),
            _ => result.waiver.case.clone(),
        },
        title: format!("{}: {}", result.waiver.case, Rule::Waiver.meaning().to_lowercase()),
        text: super::waiver_text(result),
        key: format!(
            "waiver {} {} {}",
            result.waiver.case,
            result.waiver.checkpoint.as_deref().unwrap_or_default(),
            result.waiver.metric
        ),
        place: result.waiver.place.clone(),
    }));
    if all.iter().all(|finding| finding.level != Level::Error) && super::exit_code(report) != super::exit::OK {
        all.push(Finding {
            rule: Rule::NotJudged,
            level: Level::Error,
            case: String::new(),
            title: "cargo memcheck did not measure".to_owned(),
            text: super::summary::last_line(report),
            key: String::new(),
            place: Place::default(),
        });
    }
    all.sort_by_key(|finding| (finding.level, finding.rule));
    all
}

fn of_case(report: &RunReport, case: &CaseReport, all: &mut Vec<Finding>) {
    let outcome = super::outcome(report, case);
    let finding = |rule: Rule, level: Level, key: &str, text: String, place: &Place| Finding {
        rule,
        level,
        case: case.name.clone(),
        title: format!("{}: {}", case.name, rule.meaning().to_lowercase()),
        text,
        key: key.to_owned(),
        // A limit of the command line has no line: the case has one.
        place: if place.line == 0 { case.place.clone() } else { place.clone() },
    };
    if outcome == Outcome::Problem {
        let (title, details, rule) = match &case.problem {
            Some(problem) => (
                problem.title.clone(),
                problem.details.clone(),
                if problem.kind == ProblemKind::Check {
                    Rule::Budget
                } else {
                    Rule::NotJudged
                },
            ),
            None => (
                format!(
                    "{} of {} checkpoints were measured",
                    case.checkpoints.len(),
                    case.checkpoints_planned
                ),
                Vec::new(),
                Rule::NotJudged,
            ),
        };
        let text = std::iter::once(title).chain(details).collect::<Vec<_>>().join("\n");
        all.push(finding(rule, Level::Error, "problem", text, &case.place));
    }
    for (limit, places) in broken(case) {
        let text = format!(
            "{} ({}){}",
            limit_text(limit, &places),
            limit.origin,
            first_cause(case, &places)
        );
        all.push(finding(
            Rule::Budget,
            Level::Error,
            &format!("{} {}", limit.metric, limit.rule),
            text,
            &limit.origin,
        ));
    }
    for result in super::hardening::broken(case) {
        let remedy = result.remedy().map_or(String::new(), |remedy| format!("\n{remedy}"));
        let text = format!("{} ({}){remedy}", result.text(), result.origin);
        let key = format!("{} {}", result.rule, result.file());
        all.push(finding(Rule::Hardening, Level::Error, &key, text, &result.origin));
    }
    let level = if outcome == Outcome::Warning {
        Level::Warning
    } else {
        Level::Error
    };
    if outcome != Outcome::Problem {
        match case.snapshot.status {
            SnapshotStatus::Differs => {
                let text = format!(
                    "the snapshot differs: {}{}",
                    plural(case.snapshot.rows, "row"),
                    cause_anywhere(case)
                );
                all.push(finding(Rule::Snapshot, level, "differs", text, &case.place));
            }
            SnapshotStatus::Unsteady => {
                let cells: Vec<String> = case.snapshot.unsteady.iter().map(ToString::to_string).collect();
                let text = format!("unsteady over {} runs: {}", case.snapshot.runs, cells.join("; "));
                all.push(finding(Rule::Snapshot, level, "unsteady", text, &case.place));
            }
            SnapshotStatus::New => {
                let text = format!("no approved snapshot yet: cargo memcheck accept {}", case.name);
                all.push(finding(Rule::Snapshot, level, "new", text, &case.place));
            }
            SnapshotStatus::Same | SnapshotStatus::Off | SnapshotStatus::NotCompared => {}
        }
    }
}

/// Broken limits, each once with the checkpoints it was broken at.
pub(super) fn broken(case: &CaseReport) -> Vec<(&LimitResult, Vec<&str>)> {
    let mut all: Vec<(&LimitResult, Vec<&str>)> = Vec::new();
    for checkpoint in &case.checkpoints {
        for limit in checkpoint.limits.iter().filter(|limit| limit.verdict.is_broken()) {
            match all.iter_mut().find(|(other, _)| *other == limit) {
                Some((_, places)) => places.push(&checkpoint.name),
                None => all.push((limit, vec![&checkpoint.name])),
            }
        }
    }
    all
}

/// What is wrong with a limit, in words.
pub(super) fn limit_text(limit: &LimitResult, places: &[&str]) -> String {
    let metric = &limit.metric;
    let at = places.join(", ");
    if let Some((_, text)) = series::limit_words(limit) {
        return text;
    }
    match (limit.value, limit.limit) {
        (None, _) => format!("{metric} is not known at {at}: {}", limit.reason),
        (Some(value), None) => format!("{metric} is {} at {at}, {}: {}", metric.show(value), limit.rule, limit.reason),
        (Some(value), Some(bound)) if limit.is_under() => {
            format!("{metric} is {} at {at}, at least {}", metric.show(value), metric.show(bound))
        }
        (Some(value), Some(bound)) => format!("{metric} is {} at {at}, limit {}", metric.show(value), metric.show(bound)),
    }
}

fn first_cause(case: &CaseReport, places: &[&str]) -> String {
    let of = |checkpoint: &&crate::model::CheckpointReport| places.contains(&checkpoint.name.as_str());
    let cause = case
        .checkpoints
        .iter()
        .filter(of)
        .find_map(|checkpoint| checkpoint.causes.first());
    cause.map_or(String::new(), |cause| format!("\n{}\n{}", cause.cause, cause.cost))
}

fn cause_anywhere(case: &CaseReport) -> String {
    let cause = case.checkpoints.iter().find_map(|checkpoint| checkpoint.causes.first());
    cause.map_or(String::new(), |cause| format!("\n{}\n{}", cause.cause, cause.cost))
}

/// What the executables' headers and the mappings say about hardening. No verdict of ours: it neither fails nor warns a run,
/// unless a budget on `process.wx` says so.
pub(super) fn hardening(report: &RunReport) -> Vec<Finding> {
    let mut all = Vec::new();
    for case in &report.cases {
        let wx = case
            .checkpoints
            .iter()
            .filter_map(|checkpoint| Some((checkpoint.map.process.wx?, checkpoint)));
        let most = wx.filter(|(count, _)| *count > 0).max_by_key(|(count, _)| *count);
        if let Some((count, checkpoint)) = most {
            let text = format!(
                "{} writable and executable at {}",
                plural(usize::try_from(count).unwrap_or(usize::MAX), "mapping"),
                checkpoint.name
            );
            all.push(of_policy(case, Rule::WxMapping, Level::Warning, text));
        }
        if let Some(facts) = case.checkpoints.iter().find_map(|checkpoint| checkpoint.map.hardening) {
            all.extend(
                missing(&facts)
                    .into_iter()
                    .map(|rule| of_policy(case, rule, Level::Note, format!("{} ({})", rule.meaning(), case.target))),
            );
        }
    }
    all.sort_by_key(|finding| (finding.level, finding.rule));
    all
}

fn of_policy(case: &CaseReport, rule: Rule, level: Level, text: String) -> Finding {
    Finding {
        rule,
        level,
        case: case.name.clone(),
        title: format!("{}: {}", case.name, rule.meaning().to_lowercase()),
        text,
        key: "hardening".to_owned(),
        place: case.place.clone(),
    }
}

fn missing(facts: &Hardening) -> Vec<Rule> {
    let all = [
        (facts.nx, Rule::NoNx),
        (facts.relro != Relro::No, Rule::NoRelro),
        (facts.pie, Rule::NoPie),
        (facts.canary != Some(false), Rule::NoCanary),
    ];
    all.into_iter().filter(|(there, _)| !there).map(|(_, rule)| rule).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{broken as breaking, case, problem, run, snapshot, unjoined};
    use super::*;

    #[test]
    fn the_weightiest_comes_first() {
        let cases = vec![
            snapshot(case("a"), SnapshotStatus::Differs),
            breaking(case("b")),
            problem(case("c"), ProblemKind::NotJudged),
        ];
        let found = findings(&run(cases));
        let names: Vec<&str> = found.iter().map(|finding| finding.case.as_str()).collect();
        assert_eq!(names, ["c", "b", "a"]);
        assert_eq!(found[1].place.line, 3, "the line of the limit");
        assert!(findings(&run(vec![case("a")])).is_empty());
        assert_eq!(findings(&run(vec![]))[0].rule, Rule::NotJudged, "nothing measured is found");
    }

    #[test]
    fn a_finding_says_value_limit_place_and_cause() {
        let found = findings(&unjoined());
        assert_eq!(found.len(), 2);
        assert!(
            found[0]
                .text
                .starts_with("thread-stack.exited.count is 2 at spawned, limit 1 (memcheck.toml:8)\n"),
            "{}",
            found[0].text
        );
        assert!(found[0].text.contains("not joined"));
    }
}
