//! Two finished sides, read from files: what `compare` says of them. Pure; nothing is built or run.

use std::path::PathBuf;

use super::{Measured, case_report};
use crate::explain;
use crate::model::{
    Case, CaseComparison, CaseReport, CheckpointReport, MemoryMap, Place, Presence, RunReport, Snapshot, SnapshotOutcome,
    SnapshotStatus, Target,
};

/// Two finished runs, case by case: those of the now side first. A run of one case is compared with another of one case,
/// whatever they are called.
#[must_use]
pub fn reports(before: RunReport, now: RunReport) -> Vec<CaseComparison> {
    let single = before.cases.len() == 1 && now.cases.len() == 1;
    let mut others = before.cases;
    let mut cases: Vec<CaseComparison> = now
        .cases
        .into_iter()
        .map(
            |case| match others.iter().position(|other| single || other.name == case.name) {
                Some(at) => both(others.remove(at), case),
                None => alone(case, Presence::OnlyNow),
            },
        )
        .collect();
    cases.extend(others.into_iter().map(|case| alone(case, Presence::OnlyBefore)));
    cases
}

fn both(before: CaseReport, now: CaseReport) -> CaseComparison {
    let mut report = ungated(now);
    report.problem = report.problem.or(before.problem);
    let before: Vec<(String, MemoryMap)> = before
        .checkpoints
        .into_iter()
        .map(|checkpoint| (checkpoint.name, checkpoint.map))
        .collect();
    for checkpoint in &mut report.checkpoints {
        if let Some((_, old)) = before.iter().find(|(name, _)| *name == checkpoint.name) {
            (checkpoint.changes, checkpoint.causes) = explain::between(old, &checkpoint.map);
        }
    }
    CaseComparison {
        report,
        presence: Presence::Both,
        before,
        varying: Vec::new(),
        escaped: Vec::new(),
    }
}

fn alone(case: CaseReport, presence: Presence) -> CaseComparison {
    let mut report = ungated(case);
    report.checkpoints.clear();
    CaseComparison {
        report,
        presence,
        before: Vec::new(),
        varying: Vec::new(),
        escaped: Vec::new(),
    }
}

/// What the run said of limits and approved snapshots is another question.
fn ungated(mut case: CaseReport) -> CaseReport {
    case.snapshot = not_compared();
    for checkpoint in &mut case.checkpoints {
        checkpoint.limits.clear();
        checkpoint.changes.clear();
        checkpoint.causes.clear();
    }
    case
}

/// Two files that are not running, as they would be laid out.
#[must_use]
pub fn layouts(name: &str, before: MemoryMap, now: MemoryMap) -> CaseComparison {
    let (changes, causes) = explain::between(&before, &now);
    let checkpoint = CheckpointReport {
        name: "loaded".to_owned(),
        place: Place::default(),
        at: "by its program headers".to_owned(),
        child: None,
        map: now,
        limits: Vec::new(),
        changes,
        causes,
        capture: None,
    };
    unmeasured(name, "file", vec![checkpoint], vec![("loaded".to_owned(), before)])
}

/// A case of which nothing was run.
fn unmeasured(name: &str, what: &str, checkpoints: Vec<CheckpointReport>, before: Vec<(String, MemoryMap)>) -> CaseComparison {
    let target = Target::Command {
        program: what.to_owned(),
    };
    let case = Case::new(name, PathBuf::new(), target);
    let mut report = case_report(&case, what.to_owned(), Measured::nothing(), checkpoints, not_compared());
    report.checkpoints_planned = report.checkpoints.len();
    CaseComparison {
        report,
        presence: Presence::Both,
        before,
        varying: Vec::new(),
        escaped: Vec::new(),
    }
}

/// Two snapshots of a case. Their rows are all that is known.
#[must_use]
pub fn snapshots(before: &Snapshot, now: &Snapshot) -> CaseComparison {
    let checkpoints = now.checkpoints.iter().map(|state| {
        let map = MemoryMap::default();
        let (changes, causes) = explain::checkpoint(Some(before), None, now, &state.name, &map, &[]);
        CheckpointReport {
            name: state.name.clone(),
            place: Place::default(),
            at: "snapshot".to_owned(),
            child: None,
            map,
            limits: Vec::new(),
            changes,
            causes,
            capture: None,
        }
    });
    let states = before.checkpoints.iter();
    let maps = states.map(|state| (state.name.clone(), MemoryMap::default())).collect();
    CaseComparison {
        varying: crate::normalize::varying(now),
        ..unmeasured(&now.case, "snapshot", checkpoints.collect(), maps)
    }
}

fn not_compared() -> SnapshotOutcome {
    SnapshotOutcome::none(SnapshotStatus::NotCompared)
}
