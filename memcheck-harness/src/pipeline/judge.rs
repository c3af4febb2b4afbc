//! The runs of one case → its report: budgets, the snapshot's verdict, and the causes of what changed.

use std::borrow::Cow;

use super::elf::hardening;
use super::limits::{over_base, waive, waive_headers};
use super::{Measured, Options, states};
use crate::compare::{self, Approved};
use crate::model::{
    AppliedSetting, Case, CaseReport, CheckpointReport, CheckpointSpec, Date, LimitResult, MemoryMap, OutputTail, Plan, Snapshot,
    SnapshotOutcome,
};
use crate::{budget, explain, normalize};

/// The limits of one run, waivers applied; one list for each checkpoint that was reached.
fn judged(plan: &Plan, case: &Case, run: &Measured, approved: Option<&Approved>, today: Date) -> Vec<Vec<LimitResult>> {
    let maps = run.by_index();
    let case = &*run.of(case);
    let mut limits = budget::judge(case, &maps, states(approved));
    budget::judge_series(case, &run.series, &maps, states(approved), &mut limits);
    waive(plan, case, today, maps.iter().map(|(index, _)| *index), &mut limits);
    limits
}

/// A run that breaks a limit or could not be judged.
pub(super) fn ends_badly(plan: &Plan, case: &Case, run: &Measured, approved: Option<&Approved>, today: Date) -> bool {
    run.problem.is_some() || budget::is_broken(&judged(plan, case, run, approved, today))
}

/// Judges the runs of a case, at least one. What is shown of them is the first that could not be judged or breaks a limit
/// (`until_sure` ends with it), else the very first; the snapshot's verdict stands on all of them.
pub(crate) fn judge(
    plan: &Plan,
    case: &Case,
    target: String,
    mut runs: Vec<Measured>,
    approved: Option<&Approved>,
    options: &Options,
) -> CaseReport {
    let snapshots: Vec<Snapshot> = runs
        .iter_mut()
        .filter(|run| run.problem.is_none())
        .map(|run| run.take_snapshot(case))
        .collect();
    let count = runs.len();
    let is_bad = |run: &Measured| ends_badly(plan, case, run, approved, options.today);
    let shown = if count > 1 && runs.last().is_some_and(is_bad) {
        count - 1
    } else {
        0
    };
    let mut measured = runs.swap_remove(shown);
    let limits = judged(plan, case, &measured, approved, options.today);
    let case = &*measured.of(case);
    let snapshot = match &measured.problem {
        Some(_) => compare::not_compared(plan, case),
        None if measured.is_by_mappings() => {
            measured.notes.push(
                "roles are told by mappings alone here, as the memory could not be read: the snapshot is not compared (cargo \
                 memcheck doctor)"
                    .to_owned(),
            );
            compare::not_compared(plan, case)
        }
        None => compare::compare_runs(plan, case, &snapshots, approved, options.comparing()),
    };
    if shown > 0 {
        let earlier = count - 1;
        measured.notes.push(format!(
            "this is run {count} of the case: in {} only the snapshot differed",
            if earlier == 1 { "the one before" } else { "those before" }
        ));
    }
    // Values on which the runs do not agree are no change.
    let now = match snapshots.as_slice() {
        [one] if measured.problem.is_none() => Cow::Borrowed(one),
        [_, ..] if measured.problem.is_none() => Cow::Owned(normalize::merge(&snapshots)),
        _ => Cow::Owned(measured.take_snapshot(case)),
    };
    // What does not count as a difference is none to be explained either.
    let now = match states(approved) {
        Some(approved) => Cow::Owned(normalize::within(case, &now, approved)),
        None => now,
    };
    measured.notes.extend(over_base(case));
    let indices = measured.maps.iter().map(|(index, _)| *index);
    let mut elf = hardening(case, indices.zip(&measured.captures));
    waive_headers(plan, case, options.today, &mut elf.results);
    let maps = std::mem::take(&mut measured.maps);
    let mut captures = std::mem::take(&mut measured.captures).into_iter();
    let mut checkpoints = Vec::new();
    for ((index, map), limits) in maps.into_iter().zip(limits) {
        let capture = captures.next().map(Box::new);
        let Some(mut report) = checkpoint(case, index, map) else {
            continue;
        };
        (report.changes, report.causes) = explain::checkpoint(states(approved), None, &now, &report.name, &report.map, &limits);
        report.limits = limits;
        report.capture = capture;
        checkpoints.push(report);
    }
    let mut report = case_report(case, target, measured, checkpoints, snapshot);
    (report.elf, report.elf_patterns) = (elf.results, elf.patterns);
    if case.as_is {
        report.settings.insert(0, AppliedSetting::as_is());
    }
    report
}

/// A checkpoint that was reached, not judged yet.
pub(super) fn checkpoint(case: &Case, index: usize, map: MemoryMap) -> Option<CheckpointReport> {
    let spec = case.checkpoints.get(index)?;
    Some(CheckpointReport {
        name: spec.name.clone(),
        place: spec.place.clone(),
        at: spec.at_text(),
        child: spec.child.clone(),
        map,
        limits: Vec::new(),
        changes: Vec::new(),
        causes: Vec::new(),
        capture: None,
    })
}

/// Checkpoints with a limit per unit, which the last run of a line tells of.
fn on_line(case: &Case) -> Vec<String> {
    let is_lined = |spec: &&CheckpointSpec| {
        let mut limits = spec.limits.values();
        limits.any(|limit| limit.per_unit.is_some() || limit.constant.is_some())
    };
    case.checkpoints
        .iter()
        .filter(is_lined)
        .map(|spec| spec.name.clone())
        .collect()
}

pub(super) fn case_report(
    case: &Case,
    target: String,
    measured: Measured,
    checkpoints: Vec<CheckpointReport>,
    snapshot: SnapshotOutcome,
) -> CaseReport {
    // A series has as many checkpoints as it had passes.
    let was_reached = |spec: &CheckpointSpec| checkpoints.iter().any(|reached| reached.name == spec.name);
    let planned = case
        .checkpoints
        .iter()
        .filter(|spec| !spec.is_optional() || was_reached(spec))
        .count();
    let (end, output, settings) = match measured.ended {
        Some(ended) => (Some(ended.end), ended.output, ended.settings),
        None => (None, OutputTail::default(), Vec::new()),
    };
    CaseReport {
        package: case.package.clone(),
        place: case.place.clone(),
        target,
        duration: measured.duration,
        checkpoints,
        checkpoints_planned: planned,
        snapshot,
        problem: measured.problem,
        end,
        output,
        settings,
        notes: measured.notes,
        series: measured.series,
        on_line: on_line(case),
        ..CaseReport::named(&case.name)
    }
}
