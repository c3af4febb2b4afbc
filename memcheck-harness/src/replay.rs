//! A recorded run judged again, on any machine: its captures are classified, and held against the limits and snapshots of
//! today's plan. Launches and writes nothing.

use crate::error::{Error, Result};
use crate::model::{
    Case, CaseReport, CheckpointReport, CheckpointSpec, Children, KeptCapture, MemoryMap, Name, Place, Plan, ProblemKind,
    RunReport, SnapshotStatus,
};
use crate::pipeline::Options;
use crate::report::NamedCapture;
use crate::{classify, compare, explain, pipeline};

/// The classified memory of a recorded capture.
#[must_use]
pub fn classified(kept: &KeptCapture) -> MemoryMap {
    let own = |path: &Name| kept.own.contains(path);
    classify::classify(&kept.capture, &kept.capture.recording, &own)
}

/// The cases that captures tell of: classified, and judged by nothing.
#[must_use]
pub fn cases(captures: &[NamedCapture]) -> Vec<CaseReport> {
    let mut cases: Vec<CaseReport> = Vec::new();
    for capture in captures {
        if cases.last().is_none_or(|case| case.name != capture.case) {
            cases.push(CaseReport::named(&capture.case));
        }
        if let Some(case) = cases.last_mut() {
            case.checkpoints.push(CheckpointReport {
                name: capture.checkpoint.clone(),
                place: Place::default(),
                at: capture.checkpoint.clone(),
                child: None,
                map: classified(&capture.kept),
                limits: Vec::new(),
                changes: Vec::new(),
                causes: Vec::new(),
                capture: None,
            });
        }
    }
    cases
}

/// Classifies and judges the cases of `recorded` again. A case that today's plan does not have (it was built in Rust, or is
/// gone) stays as it was judged, with a remark. The environment is the one it was recorded in.
///
/// # Errors
/// The environment of record or a pattern of `own` cannot be read; problems of single cases stand in their reports.
pub fn replay(plan: &Plan, recorded: &RunReport, captures: &[NamedCapture]) -> Result<RunReport> {
    let options = Options {
        jobs: 1,
        write_pending: false,
        pending_dir: None,
        inherited: Vec::new(),
        ci: recorded.ci,
        today: crate::capture::today(),
    };
    let environment_status = compare::environment(plan, &recorded.environment, options.comparing())?;
    let mut cases: Vec<CaseReport> = recorded
        .cases
        .iter()
        .map(|case| {
            let mut judged = again(plan, case, captures, &options);
            explain::surroundings(&environment_status, &mut judged);
            judged
        })
        .collect();
    pipeline::judge_again(plan, &recorded.environment, &mut cases);
    let mut report = RunReport {
        environment_status,
        cases,
        ..recorded.clone()
    };
    report.waivers = pipeline::waivers(plan, &options, &report);
    Ok(report)
}

/// The checkpoints that a case has in this recording only: the ends of its children.
fn ends_of_children(case: &Case, recorded: &CaseReport) -> Vec<CheckpointSpec> {
    let is_planned = |name: &str| case.checkpoints.iter().any(|spec| spec.name == name);
    let recorded = recorded.checkpoints.iter();
    recorded
        .filter(|report| case.children == Children::Capture && report.child.is_some() && !is_planned(&report.name))
        .map(|report| pipeline::end_spec(case, report.name.clone(), report.child.clone()))
        .collect()
}

/// The names of start routines, as symbol tables told them when it was measured: captures hold addresses only.
fn name_starts(map: &mut MemoryMap, recorded: &MemoryMap) {
    for thread in map.threads.iter_mut().filter(|thread| thread.start_address.is_some()) {
        let told = recorded
            .threads
            .iter()
            .find(|told| told.start_address == thread.start_address);
        thread.start_function = told.and_then(|told| told.start_function.clone());
    }
}

fn again(plan: &Plan, recorded: &CaseReport, captures: &[NamedCapture], options: &Options) -> CaseReport {
    let Some(case) = plan.cases.iter().find(|case| case.name == recorded.name) else {
        let mut same = recorded.clone();
        same.notes.push("not judged again: memcheck.toml has no such case".to_owned());
        return same;
    };
    let mine: Vec<&NamedCapture> = captures.iter().filter(|capture| capture.case == recorded.name).collect();
    let names = |checkpoints: &[CheckpointReport]| -> Vec<String> {
        checkpoints.iter().map(|checkpoint| checkpoint.name.clone()).collect()
    };
    let kept: Vec<String> = mine.iter().map(|capture| capture.checkpoint.clone()).collect();
    let mut problem = recorded.problem.clone().filter(|problem| problem.kind != ProblemKind::Check);
    if kept != names(&recorded.checkpoints) {
        let error = Error::not_judged(format!(
            "{} of {} captures of the case are there",
            kept.len(),
            recorded.checkpoints.len()
        ));
        problem.get_or_insert(error.into_problem());
    }
    let children = ends_of_children(case, recorded);
    let index = |name: &str| {
        let mut all = case.checkpoints.iter().chain(&children);
        all.position(|spec| spec.name == name)
    };
    let maps: Vec<(usize, MemoryMap)> = mine
        .iter()
        .filter_map(|capture| {
            let mut map = classified(&capture.kept);
            let same = recorded.checkpoints.iter().find(|report| report.name == capture.checkpoint);
            same.into_iter().for_each(|report| name_starts(&mut map, &report.map));
            Some((index(&capture.checkpoint)?, map))
        })
        .collect();
    let files = mine
        .iter()
        .filter_map(|capture| Some((index(&capture.checkpoint)?, &capture.kept)));
    let mut elf = pipeline::hardening(case, files);
    pipeline::waive_headers(plan, case, options.today, &mut elf.results);
    // Of a series only the first pass must be there.
    let is_missing = |spec: &&CheckpointSpec| !spec.is_optional() && !kept.contains(&spec.name);
    if let Some(missing) = case.checkpoints.iter().find(is_missing) {
        let error = Error::not_judged(format!("checkpoint `{}` was not recorded", missing.name)).detail("measure again");
        problem.get_or_insert(error.into_problem());
    }
    let approved = compare::approved(case).unwrap_or_else(|error| {
        problem.get_or_insert(error.into_problem());
        None
    });
    let measured = pipeline::Measured::recorded(case, maps, children, problem, recorded);
    let mut judged = pipeline::judge(
        plan,
        case,
        recorded.target.clone(),
        vec![measured],
        approved.as_ref(),
        options,
    );
    if recorded.snapshot.status != SnapshotStatus::Unsteady {
        // All of them gave what is recorded of one.
        judged.snapshot.runs = recorded.snapshot.runs;
    } else {
        let note = format!(
            "{} runs of this case did not agree; one of them is recorded, and this judges that one",
            recorded.snapshot.runs
        );
        judged.notes.push(note);
    }
    CaseReport {
        elf: elf.results,
        elf_patterns: elf.patterns,
        end: recorded.end.clone(),
        output: recorded.output.clone(),
        settings: recorded.settings.clone(),
        ..judged
    }
}
