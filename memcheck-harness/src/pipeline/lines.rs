//! The runs of a matrix, which are measured one by one and judged together: the last one of each line waits for the others.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::caught::caught;
use crate::budget::{self, Machine};
use crate::model::{Cancel, Case, CaseReport, Environment, Plan, Sample};

/// A wait looks this often whether it was cancelled.
const NAP: Duration = Duration::from_millis(50);

/// What the finished runs of each line gave.
#[derive(Default)]
pub(super) struct Lines {
    lines: Mutex<BTreeMap<String, Line>>,
    more: Condvar,
}

/// One line so far.
#[derive(Default)]
struct Line {
    /// Runs that have ended, whether they gave a sample or not.
    ended: usize,
    samples: Vec<Sample>,
}

impl Lines {
    /// Adds a finished run to its line. The last run of a line (in plan order) then waits for those before it, which have begun
    /// before it did, and gets the verdict on all of them.
    pub(super) fn finish(&self, plan: &Plan, case: &Case, environment: &Environment, cancel: &Cancel, report: &mut CaseReport) {
        let Some(run) = case.run.as_ref().filter(|run| run.number.is_some()) else {
            return;
        };
        let of_line = members(plan, case);
        // Whatever becomes of this one, the last must not wait for it for ever.
        let sample = caught(|| budget::sample(case, report));
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let line = lines.entry(run.line.clone()).or_default();
        line.ended += 1;
        match sample {
            Ok(sample) => line.samples.extend(sample),
            Err(error) => report.problem = Some(error.into_problem()),
        }
        self.more.notify_all();
        if of_line.last().is_none_or(|last| last.name != case.name) {
            return;
        }
        let ended = |lines: &BTreeMap<String, Line>| lines.get(&run.line).map_or(0, |line| line.ended);
        while ended(&lines) < of_line.len() && cancel.signal().is_none() {
            let waited = self.more.wait_timeout(lines, NAP);
            lines = waited.map_or_else(|error| error.into_inner().0, |(lines, _)| lines);
        }
        let all = lines.get(&run.line).map(|line| line.samples.clone()).unwrap_or_default();
        drop(lines);
        if let Err(error) = caught(|| judge(case, &all, environment, report)) {
            report.problem = Some(error.into_problem());
        }
    }
}

/// The runs of a plan that lie on the line of a case.
fn members<'a>(plan: &'a Plan, case: &Case) -> Vec<&'a Case> {
    let line = |case: &Case| {
        case.run
            .as_ref()
            .filter(|run| run.number.is_some())
            .map(|run| run.line.clone())
    };
    let mine = line(case);
    plan.cases
        .iter()
        .filter(|other| mine.is_some() && line(other) == mine)
        .collect()
}

/// Judges a line where all of its runs are there, and says so where not.
pub(super) fn judge(case: &Case, samples: &[Sample], environment: &Environment, report: &mut CaseReport) {
    let Some(run) = &case.run else { return };
    if samples.len() == run.of {
        let cpus = environment.facts.get("cpus").and_then(|text| text.parse().ok());
        budget::judge_scaling(case, samples, Machine { cpus }, report);
        return;
    }
    let mut limits = case.checkpoints.iter().flat_map(|spec| spec.limits.values());
    if limits.any(|limit| limit.per_unit.is_some() || limit.constant.is_some()) {
        report.notes.push(format!(
            "limits per {} are judged when all {} runs of {} are measured together",
            run.unit, run.of, run.line
        ));
    }
}

/// Judges the lines of a finished run again, in place.
pub(crate) fn judge_again(plan: &Plan, environment: &Environment, reports: &mut [CaseReport]) {
    for case in &plan.cases {
        let of_line = members(plan, case);
        if of_line.last().is_none_or(|last| last.name != case.name) {
            continue;
        }
        let sample = |one: &&Case| {
            let report = reports.iter().find(|report| report.name == one.name)?;
            budget::sample(one, report)
        };
        let samples: Vec<Sample> = of_line.iter().filter_map(sample).collect();
        if let Some(report) = reports.iter_mut().find(|report| report.name == case.name) {
            judge(case, &samples, environment, report);
        }
    }
}
