//! Whose limits count in a comparison, and those of a case as they are judged then. Pure.

use crate::model::{Case, CheckpointSpec, Limit, Metric, Over, Place, Role};
use std::collections::BTreeMap;

/// How two sides are compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// Judge all limits that the other side states, so that a change cannot raise its own, but for growth over approved
    /// snapshots. Otherwise growth over the base and what headers must say are judged, as the now side states it.
    pub limits_of_before: bool,
    /// A program that is still running when its time is over is compared at the checkpoints it came to.
    pub unending: bool,
    /// Memory of this role is taken for unclassified, on both sides: what the self-test is tested with.
    pub blind: Option<Role>,
}

/// The case of the now side with the limits that count.
pub(super) fn limited(now: &Case, before: &Case, terms: Terms) -> Case {
    let mut case = now.clone();
    if !terms.limits_of_before {
        for spec in &mut case.checkpoints {
            only_over_base(&mut spec.limits);
        }
        only_over_base(&mut case.child_limits);
        return case;
    }
    for spec in &mut case.checkpoints {
        if let Some(theirs) = same(before, spec) {
            spec.limits.clone_from(&theirs.limits);
            spec.limits.values_mut().for_each(of_base);
        }
        without_approved(&mut spec.limits);
    }
    case.child_limits.clone_from(&before.child_limits);
    case.child_limits.values_mut().for_each(of_base);
    without_approved(&mut case.child_limits);
    case.elf.clone_from(&before.elf);
    // As many runs as there were make a line, whatever the change says of its own.
    if let (Some(run), Some(there)) = (&mut case.run, &before.run) {
        run.of = there.of;
        run.line.clone_from(&there.line);
    }
    case
}

/// The checkpoint of that name; a round that is one more than there were is judged as the last one of its series.
fn same<'a>(before: &'a Case, spec: &CheckpointSpec) -> Option<&'a CheckpointSpec> {
    let named = before.checkpoints.iter().find(|other| other.name == spec.name);
    let series = |one: &CheckpointSpec| one.every.as_ref().map(|every| every.series.clone());
    named.or_else(|| {
        let wanted = series(spec)?;
        let mut rounds = before.checkpoints.iter();
        rounds.rfind(|other| series(other).as_ref() == Some(&wanted))
    })
}

/// The places of a limit are lines of the base's file, and say so.
fn of_base(limit: &mut Limit) {
    let growth = limit.growth.iter_mut().map(|growth| &mut growth.place);
    let bounds = [
        &mut limit.max,
        &mut limit.min,
        &mut limit.per_round,
        &mut limit.per_unit,
        &mut limit.constant,
    ];
    let bounds = bounds.into_iter().flatten().map(|bound| &mut bound.place);
    growth.chain(bounds).for_each(at_base);
}

/// `base memcheck.toml`: a place in the base's file. One of the command line stays as it is.
pub(super) fn at_base(place: &mut Place) {
    if place.line > 0 {
        place.file = format!("base {}", place.file);
    }
}

fn only_over_base(limits: &mut BTreeMap<Metric, Limit>) {
    limits.retain(|_, limit| {
        let growth = limit.growth.take().filter(|growth| growth.over == Over::Base);
        *limit = Limit {
            growth,
            ..Limit::default()
        };
        limit.growth.is_some()
    });
}

fn without_approved(limits: &mut BTreeMap<Metric, Limit>) {
    for limit in limits.values_mut() {
        limit.growth = limit.growth.take().filter(|growth| growth.over != Over::Approved);
    }
}
