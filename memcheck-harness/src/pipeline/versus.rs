//! Two plans of the same cases on one machine: both are built, then each case runs on either side in turn, and what differs
//! is explained. Approved snapshots take no part.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::held::{Limits, escaped, held, redefined};
use super::{Event, Measured, Options, Turns, case_report, checkpoint, everything, facts, in_order, in_parallel, measure};
use crate::error::{Error, Result};
use crate::model::{
    Binary, Cancel, Case, CaseComparison, CheckpointReport, CheckpointSpec, Date, End, Environment, MemoryMap, Name, Over, Plan,
    Presence, Problem, Role, Snapshot, SnapshotElf, Target, Workspace,
};
use crate::{budget, build, compare, config, explain, normalize};

/// How often each side runs when the first two runs differ: what does not repeat is no change.
const RUNS: usize = 3;

/// One of the two sides.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    /// Its cases.
    pub plan: &'a Plan,
    /// Its cargo workspace.
    pub workspace: Option<&'a Workspace>,
}

/// How two sides are compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// Judge all limits that the other side states, so that a change cannot raise its own, but for growth over approved
    /// snapshots. Otherwise growth over the base alone is judged, as the now side states it.
    pub limits_of_before: bool,
    /// A program that is still running when its time is over is compared at the checkpoints it came to.
    pub unending: bool,
    /// Memory of this role is taken for unclassified, on both sides: what the self-test is tested with.
    pub blind: Option<Role>,
}

/// What was compared.
#[derive(Debug)]
pub struct Compared {
    /// One entry for each case of either side, those of the now side first.
    pub cases: Vec<CaseComparison>,
    /// This machine and the compilers of either side: before, now.
    pub environments: [Environment; 2],
}

/// Builds both sides, and measures and compares the cases that have the same name. `observe` hears of builds and of how many
/// cases are measured.
///
/// # Errors
/// When nothing could be measured at all; problems of single cases stand in their reports.
pub fn versus(
    before: Party<'_>,
    now: Party<'_>,
    terms: Terms,
    options: &Options,
    cancel: &Cancel,
    observe: &(dyn Fn(Event<'_>) + Sync),
) -> Result<Compared> {
    let built = |party: Party<'_>| build::build(party.plan, party.workspace, cancel, &|event| observe(Event::Build(event)));
    // The user's own mistakes come first: his side is built first.
    let now_binaries = built(now)?;
    let before_binaries = built(before)?;
    let environments = [&before_binaries, &now_binaries].map(|binaries| facts(binaries.iter().flatten()));
    observe(Event::Measuring(now.plan.cases.len()));
    let own = [config::ownership(before.plan)?, config::ownership(now.plan)?];
    // Both sides take their turns where the now side keeps its files.
    let turns = Turns::looking(now.plan, observe);
    let cases = in_parallel(options.jobs, now.plan.cases.len(), |index| {
        let (case, binary) = (now.plan.cases.get(index)?, now_binaries.get(index)?);
        if cancel.signal().is_some() {
            return None;
        }
        let here = One {
            case,
            binary,
            own: &own[1],
        };
        let there = position(before.plan, &case.name).and_then(|index| {
            Some(One {
                case: before.plan.cases.get(index)?,
                binary: before_binaries.get(index)?,
                own: &own[0],
            })
        });
        Some(match there {
            Some(there) => {
                let waiving = if terms.limits_of_before { before.plan } else { now.plan };
                both([now.plan, waiving], [there, here], terms, options, &turns, cancel)
            }
            None => alone(now.plan, case, Presence::OnlyNow, terms),
        })
    });
    let mut cases: Vec<CaseComparison> = cases.into_iter().flatten().collect();
    let gone = before
        .plan
        .cases
        .iter()
        .filter(|case| position(now.plan, &case.name).is_none());
    cases.extend(gone.map(|case| alone(before.plan, case, Presence::OnlyBefore, terms)));
    Ok(Compared { cases, environments })
}

fn position(plan: &Plan, name: &str) -> Option<usize> {
    plan.cases.iter().position(|case| case.name == name)
}

/// A case with what was built for it.
#[derive(Clone, Copy)]
struct One<'a> {
    case: &'a Case,
    binary: &'a Result<Binary>,
    own: &'a (dyn Fn(&Name) -> bool + Sync),
}

impl One<'_> {
    fn run(&self, terms: Terms, options: &Options, turns: &Turns<'_>, cancel: &Cancel) -> Measured {
        let mut measured = match self.binary {
            Err(error) => Measured::failed(error.problem().clone()),
            Ok(binary) => measure(
                self.case,
                binary,
                self.own,
                options,
                turns,
                cancel,
                (&everything, &in_order(self.case)),
            ),
        };
        let timed_out = measured.ended.as_ref().is_some_and(|ended| ended.end == End::TimedOut);
        if terms.unending && timed_out && !measured.maps.is_empty() {
            measured.problem = None;
        }
        if let Some(role) = terms.blind {
            measured.maps.iter_mut().for_each(|(_, map)| forget(map, role));
        }
        measured
    }

    fn label(&self) -> String {
        self.binary
            .as_ref()
            .map_or_else(|_| String::new(), |binary| binary.label.clone())
    }
}

/// Takes what classification says of a role out of a map.
fn forget(map: &mut MemoryMap, role: Role) {
    for piece in map.pieces.iter_mut().filter(|piece| piece.role == role) {
        piece.role = Role::Unclassified;
    }
    for item in map.items.iter_mut().filter(|item| item.role == role) {
        item.role = Role::Unclassified;
    }
    if role == Role::Platform {
        map.platform_objects.clear();
    }
}

/// A case that one side does not have: nothing is measured, as there is nothing to compare it with. Limits that count do not
/// go with it.
fn alone(plan: &Plan, case: &Case, presence: Presence, terms: Terms) -> CaseComparison {
    let mut report = case_report(
        case,
        case.target.to_string(),
        Measured::nothing(),
        Vec::new(),
        compare::not_compared(plan, case),
    );
    report.checkpoints_planned = 0;
    let has_limits = terms.limits_of_before && presence == Presence::OnlyBefore;
    CaseComparison {
        report,
        presence,
        before: Vec::new(),
        varying: Vec::new(),
        escaped: if has_limits { escaped(case, None) } else { Vec::new() },
    }
}

/// One case on both sides, in turn. When they differ both run again, twice: rows that do not repeat are named and left out,
/// and a limit is kept only if every run keeps it. The plans are the now side's, and the one whose waivers count.
fn both(
    plans: [&Plan; 2],
    [before, now]: [One<'_>; 2],
    terms: Terms,
    options: &Options,
    turns: &Turns<'_>,
    cancel: &Cancel,
) -> CaseComparison {
    if let Some(problem) = same_file(&before, &now) {
        return failed(plans[0], &now, Measured::nothing(), Measured::nothing(), problem);
    }
    let judged = limited(now.case, before.case, terms);
    let mut rounds: Vec<Round> = Vec::new();
    loop {
        let one_run = |side: &One<'_>| side.run(terms, options, turns, cancel);
        let (there, here) = (one_run(&before), one_run(&now));
        if let Some(problem) = first_problem(&there, &here) {
            return failed(plans[0], &now, there, here, problem);
        }
        rounds.push(Round::new(&before, there, &judged, here, terms));
        if rounds.iter().all(Round::is_the_same) || rounds.len() == RUNS || cancel.signal().is_some() {
            return compared(plans, &before, &now, rounds, terms, options.today);
        }
    }
}

/// Two builds that lie in the same file are one: the later one, whatever the sides are called. A program that is looked up on
/// `PATH` is meant to be the same.
fn same_file(before: &One<'_>, now: &One<'_>) -> Option<Problem> {
    let (Ok(there), Ok(here)) = (before.binary, now.binary) else {
        return None;
    };
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let is_looked_up = |case: &Case| matches!(case.target, Target::Command { .. });
    if is_looked_up(now.case) && is_looked_up(before.case) || real(&there.path) != real(&here.path) {
        return None;
    }
    let error = Error::config(format!(
        "both sides are built into the same file, {}: one would be measured twice",
        here.path.display()
    ));
    Some(
        error
            .detail("a path (and what its build command writes) must lie below the project")
            .into_problem(),
    )
}

/// One run of either side.
struct Round {
    there: Measured,
    here: Measured,
    states: [Snapshot; 2],
    limits: Limits,
}

impl Round {
    fn new(before: &One<'_>, there: Measured, judged: &Case, here: Measured, terms: Terms) -> Self {
        let states = [states(before.case, &there), states(judged, &here)];
        let base: BTreeMap<&str, &MemoryMap> = named(before.case, &there).collect();
        let mut limits = budget::judge_over_base(judged, &here.by_index(), &base);
        budget::judge_series(judged, &here.series, &here.by_index(), None, &mut limits);
        for list in &mut limits {
            list.retain(|limit| match terms.limits_of_before {
                true => !limit.rule.ends_with(" over approved"),
                false => limit.rule.ends_with(" over base"),
            });
        }
        let reached = here.maps.iter().map(|(index, _)| *index);
        Self {
            limits: reached.zip(limits).collect(),
            there,
            here,
            states,
        }
    }

    fn is_the_same(&self) -> bool {
        let [before, now] = &self.states;
        let names = |side: &Snapshot| (side.platform.clone(), side.libraries.clone(), side.hardening.clone());
        let broken = self.limits.values().flatten().any(|limit| limit.verdict.is_broken());
        before.checkpoints == now.checkpoints && names(before) == names(now) && !broken
    }
}

/// The maps of a side by the names of their checkpoints.
fn named<'a>(case: &'a Case, measured: &'a Measured) -> impl Iterator<Item = (&'a str, &'a MemoryMap)> {
    let specs: Vec<&CheckpointSpec> = case.checkpoints.iter().chain(&measured.children).collect();
    let maps = measured.maps.iter();
    maps.filter_map(move |(index, map)| Some((specs.get(*index)?.name.as_str(), map)))
}

/// Everything there is, with sizes: a comparison leaves out nothing for the sake of other machines.
fn states(case: &Case, measured: &Measured) -> Snapshot {
    let mut whole = measured.of(case).into_owned();
    whole.snapshot.off = false;
    whole.snapshot.elf = SnapshotElf::Sizes;
    whole.snapshot.library_sizes = true;
    whole.snapshot.roles = None;
    for spec in &mut whole.checkpoints {
        spec.snapshot = true;
    }
    normalize::snapshot(&whole, &measured.by_index(), measured.main_stack_is_fixed)
}

/// The case of the now side with the limits that count.
fn limited(now: &Case, before: &Case, terms: Terms) -> Case {
    let mut case = now.clone();
    for spec in &mut case.checkpoints {
        if terms.limits_of_before {
            if let Some(theirs) = before.checkpoints.iter().find(|other| other.name == spec.name) {
                spec.limits.clone_from(&theirs.limits);
            }
        } else {
            spec.limits
                .retain(|_, limit| limit.growth.as_ref().is_some_and(|growth| growth.over == Over::Base));
            for limit in spec.limits.values_mut() {
                (limit.max, limit.min) = (None, None);
            }
        }
    }
    case
}

fn first_problem(there: &Measured, here: &Measured) -> Option<Problem> {
    if let Some(problem) = &here.problem {
        return Some(problem.clone());
    }
    there.problem.as_ref().map(|problem| {
        let mut details = problem.details.clone();
        details.push("the base itself cannot be measured: fix that, or name another one with --base REF".to_owned());
        Problem {
            kind: problem.kind,
            title: format!("at the base: {}", problem.title),
            details,
        }
    })
}

/// A case that one of the sides could not be measured of; what is said of its end is that side's.
fn failed(plan: &Plan, now: &One<'_>, there: Measured, here: Measured, problem: Problem) -> CaseComparison {
    let mut side = if here.problem.is_some() { here } else { there };
    side.problem = Some(problem);
    let maps = std::mem::take(&mut side.maps);
    let whole = side.of(now.case).into_owned();
    let checkpoints = maps.into_iter().filter_map(|(index, map)| checkpoint(&whole, index, map));
    let checkpoints = checkpoints.collect();
    CaseComparison {
        report: case_report(
            now.case,
            now.label(),
            side,
            checkpoints,
            compare::not_compared(plan, now.case),
        ),
        presence: Presence::Both,
        before: Vec::new(),
        varying: Vec::new(),
        escaped: Vec::new(),
    }
}

/// The first round, less what the others do not repeat; limits by the round that speaks most against them.
fn compared(
    [plan, waiving]: [&Plan; 2],
    before: &One<'_>,
    now: &One<'_>,
    mut rounds: Vec<Round>,
    terms: Terms,
    today: Date,
) -> CaseComparison {
    let merge = |side: usize| {
        let runs: Vec<Snapshot> = rounds.iter().filter_map(|round| round.states.get(side).cloned()).collect();
        normalize::merge(&runs)
    };
    let (old, new) = (merge(0), merge(1));
    let varying: BTreeSet<String> = [&old, &new].into_iter().flat_map(normalize::varying).collect();
    let limits: Vec<Limits> = rounds
        .iter_mut()
        .map(|round| {
            for (index, list) in &mut round.limits {
                super::limits::waive(waiving, now.case, today, std::iter::once(*index), std::slice::from_mut(list));
            }
            std::mem::take(&mut round.limits)
        })
        .collect();
    let (mut limits, notes) = held(now.case, &limits);
    // A series may come further in a later round: its checkpoint is shown as that round has it.
    let mut here: BTreeMap<usize, MemoryMap> = BTreeMap::new();
    let mut earlier: Vec<(String, MemoryMap)> = Vec::new();
    let mut shown: Option<Measured> = None;
    for mut round in rounds {
        // What children there were is a matter of each round: theirs are the first one's.
        let planned = if shown.is_none() {
            usize::MAX
        } else {
            now.case.checkpoints.len()
        };
        for (index, map) in std::mem::take(&mut round.here.maps) {
            if index < planned {
                here.entry(index).or_insert(map);
            }
        }
        let whole_before = round.there.of(before.case).into_owned();
        for (index, map) in std::mem::take(&mut round.there.maps) {
            let name = whole_before.checkpoints.get(index).map(|spec| spec.name.clone());
            if let Some(name) = name.filter(|name| !earlier.iter().any(|(other, _)| other == name)) {
                earlier.push((name, map));
            }
        }
        shown.get_or_insert(round.here);
    }
    let shown_case = shown
        .as_ref()
        .map_or_else(|| now.case.clone(), |shown| shown.of(now.case).into_owned());
    let mut checkpoints: Vec<CheckpointReport> = Vec::new();
    for (index, map) in here {
        let limits = limits.remove(&index).unwrap_or_default();
        let Some(mut report) = checkpoint(&shown_case, index, map) else {
            continue;
        };
        let there = earlier.iter().find(|(name, _)| *name == report.name).map(|(_, map)| map);
        (report.changes, report.causes) = explain::checkpoint(Some(&old), there, &new, &report.name, &report.map, &limits);
        report.limits = limits;
        checkpoints.push(report);
    }
    let mut report = case_report(
        now.case,
        now.label(),
        shown.unwrap_or_else(Measured::nothing),
        checkpoints,
        compare::not_compared(plan, now.case),
    );
    report.notes.extend(notes);
    let mut gone = Vec::new();
    if terms.limits_of_before {
        gone = escaped(before.case, Some(now.case));
        let redefined = redefined(before.case, now.case);
        if !redefined.is_empty() {
            report.notes.push(format!(
                "{} is not defined as at the base ({}): the base's limits are judged of what it runs now",
                now.case.name,
                redefined.join(", ")
            ));
        }
    }
    CaseComparison {
        report,
        presence: Presence::Both,
        before: earlier,
        varying: varying.into_iter().collect(),
        escaped: gone,
    }
}
