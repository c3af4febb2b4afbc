//! What a plan says about its limits beside their values: waivers, and which command judges which limit.

use super::Options;
use crate::model::{Case, Date, ElfResult, Limit, LimitResult, Over, Plan, RunReport, WaiverResult};
use crate::{budget, config};

/// What became of the waivers of a plan in a run, to which cases of other tests may have been added.
#[must_use]
pub fn waivers(plan: &Plan, options: &Options, report: &RunReport) -> Vec<WaiverResult> {
    let complete = report.not_selected == 0 && report.interrupted.is_none() && report.partition.is_none();
    budget::waivers(
        &plan.defaults.waivers,
        options.today,
        report.cases.iter(),
        complete,
        &config::is_of_file,
    )
}

/// Marks what the waivers of the plan cover; one list of `limits` for each checkpoint of `indices`.
pub(super) fn waive(
    plan: &Plan,
    case: &Case,
    today: Date,
    indices: impl Iterator<Item = usize>,
    limits: &mut [Vec<LimitResult>],
) {
    for (index, limits) in indices.zip(limits) {
        if let Some(spec) = case.checkpoints.get(index) {
            budget::waive(&plan.defaults.waivers, today, &case.name, &spec.name, limits);
        }
    }
}

/// The same of what headers must say.
pub(crate) fn waive_headers(plan: &Plan, case: &Case, today: Date, results: &mut [ElfResult]) {
    budget::waive_headers(&plan.defaults.waivers, today, &case.name, results, &config::is_of_file);
}

/// What is said of limits that only `compare --base` can judge.
pub(super) fn over_base(case: &Case) -> Option<String> {
    let mut limits = case.checkpoints.iter().flat_map(|spec| spec.limits.values());
    let is_over_base = |limit: &Limit| limit.growth.as_ref().is_some_and(|growth| growth.over == Over::Base);
    limits
        .any(is_over_base)
        .then(|| "limits over \"base\" are judged by cargo memcheck compare --base only".to_owned())
}
