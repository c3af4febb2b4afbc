//! Two plans of the same cases on one machine: both are built, then each case runs on either side in turn, and what differs
//! is explained. Approved snapshots take no part.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::elf::hardening;
use super::held::{Limits, escaped, escaped_files, held, held_headers, redefined};
use super::lines;
use super::terms::{Terms, at_base, limited};
use super::{Event, Measured, Options, Turns, case_report, checkpoint, everything, facts, in_order, in_parallel, measure};
use crate::error::{Error, Result};
use crate::model::{
    Binary, Cancel, Case, CaseComparison, CheckpointReport, CheckpointSpec, Date, ElfResult, End, Environment, MemoryMap, Name,
    Plan, Presence, Problem, Role, Sample, Snapshot, SnapshotElf, Target, Workspace,
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
            Some(there) => both([before.plan, now.plan], [there, here], terms, options, &turns, cancel),
            None => Both::unjudged(alone(now.plan, case, Presence::OnlyNow, terms)),
        })
    });
    let mut cases = judge_lines(cases.into_iter().flatten().collect(), &environments[1]);
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

/// A case that was compared, and what it gives to the line of its matrix: the case as it is judged, and one sample a round.
struct Both {
    comparison: CaseComparison,
    judged: Option<Case>,
    samples: Vec<Sample>,
}

impl Both {
    fn unjudged(comparison: CaseComparison) -> Self {
        Self {
            comparison,
            judged: None,
            samples: Vec::new(),
        }
    }
}

/// One case on both sides, in turn. When they differ both run again, twice: rows that do not repeat are named and left out,
/// and a limit is kept only if every run keeps it. The plans are those of the two sides.
fn both(
    plans: [&Plan; 2],
    [before, now]: [One<'_>; 2],
    terms: Terms,
    options: &Options,
    turns: &Turns<'_>,
    cancel: &Cancel,
) -> Both {
    let judged = limited(now.case, before.case, terms);
    // What is measured depends on what is judged.
    let here = One { case: &judged, ..now };
    let there = Case {
        tree: judged.is_summed() || before.case.tree,
        ..before.case.clone()
    };
    let there = One { case: &there, ..before };
    let mut samples = Vec::new();
    let comparison = in_rounds(plans, [there, here], terms, options, turns, cancel, &mut samples);
    let mut comparison = match comparison {
        Ok(comparison) => comparison,
        Err(failed) => {
            samples = budget::sample(&judged, &failed.report).into_iter().collect();
            *failed
        }
    };
    if terms.limits_of_before && comparison.report.problem.is_none() {
        comparison.escaped.extend(escaped(before.case, Some(now.case)));
        let redefined = redefined(plans, [before.case, now.case]);
        if !redefined.is_empty() {
            comparison.report.notes.push(format!(
                "{} is not defined as at the base ({}): the base's limits are judged of what it runs now",
                now.case.name,
                redefined.join(", ")
            ));
        }
    }
    Both {
        comparison,
        judged: Some(judged),
        samples,
    }
}

/// The rounds of a case; the error is one of which a side could not be measured.
fn in_rounds(
    plans: [&Plan; 2],
    [before, now]: [One<'_>; 2],
    terms: Terms,
    options: &Options,
    turns: &Turns<'_>,
    cancel: &Cancel,
    samples: &mut Vec<Sample>,
) -> std::result::Result<CaseComparison, Box<CaseComparison>> {
    let failed = |there, here, problem| Err(Box::new(failed(plans[1], &now, there, here, problem)));
    if let Some(problem) = same_file(&before, &now) {
        return failed(Measured::nothing(), Measured::nothing(), problem);
    }
    let mut rounds: Vec<Round> = Vec::new();
    loop {
        let one_run = |side: &One<'_>| side.run(terms, options, turns, cancel);
        let (there, here) = (one_run(&before), one_run(&now));
        if let Some(problem) = first_problem(&there, &here) {
            return failed(there, here, problem);
        }
        samples.extend(budget::sample_of(now.case, named(now.case, &here), false));
        rounds.push(Round::new(&before, there, now.case, here));
        if rounds.iter().all(Round::is_the_same) || rounds.len() == RUNS || cancel.signal().is_some() {
            return Ok(compared(plans, terms, &before, &now, rounds, options.today));
        }
    }
}

/// Judges the lines that the runs of matrices make, at the last run of each: round by round, as limits are.
fn judge_lines(mut cases: Vec<Both>, environment: &Environment) -> Vec<CaseComparison> {
    let line = |both: &Both| {
        Some(
            both.judged
                .as_ref()?
                .run
                .as_ref()
                .filter(|run| run.number.is_some())?
                .line
                .clone(),
        )
    };
    let mut found: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, both) in cases.iter().enumerate() {
        if let Some(line) = line(both) {
            found.entry(line).or_default().push(index);
        }
    }
    for members in found.into_values() {
        let of_line: Vec<&[Sample]> = members
            .iter()
            .filter_map(|index| cases.get(*index))
            .map(|both| both.samples.as_slice())
            .collect();
        let rounds = of_line.iter().map(|samples| samples.len()).max().unwrap_or(0);
        // A run that was the same at once is not measured again: it stands for every round.
        let samples: Vec<Vec<Sample>> = (0..rounds)
            .map(|round| {
                let of_round = of_line.iter().filter_map(|samples| samples.get(round).or(samples.last()));
                of_round.cloned().collect()
            })
            .collect();
        let last = members.last().and_then(|index| cases.get_mut(*index));
        if let Some(Both {
            comparison,
            judged: Some(judged),
            ..
        }) = last
        {
            judge_line(judged, &samples, environment, comparison);
        }
    }
    cases.into_iter().map(|both| both.comparison).collect()
}

fn judge_line(judged: &Case, rounds: &[Vec<Sample>], environment: &Environment, comparison: &mut CaseComparison) {
    let mut limits: Vec<Limits> = Vec::new();
    for (round, samples) in rounds.iter().enumerate() {
        let mut scratch = comparison.report.clone();
        scratch.scaling.clear();
        scratch.notes.clear();
        for checkpoint in &mut scratch.checkpoints {
            checkpoint.limits.clear();
        }
        lines::judge(judged, samples, environment, &mut scratch);
        let found = scratch.checkpoints.into_iter();
        limits.push(found.map(|checkpoint| (checkpoint.name, checkpoint.limits)).collect());
        if round == 0 {
            comparison.report.scaling = scratch.scaling;
            comparison.report.notes.extend(scratch.notes);
        }
    }
    let (mut limits, notes) = held(&limits);
    for checkpoint in &mut comparison.report.checkpoints {
        checkpoint.limits.extend(limits.remove(&checkpoint.name).unwrap_or_default());
    }
    comparison.report.notes.extend(notes);
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
    elf: Vec<ElfResult>,
}

impl Round {
    fn new(before: &One<'_>, there: Measured, judged: &Case, here: Measured) -> Self {
        let states = [states(before.case, &there), states(judged, &here)];
        let base: BTreeMap<&str, &MemoryMap> = named(before.case, &there).collect();
        let whole = here.of(judged).into_owned();
        let maps = here.by_index();
        let mut limits = budget::judge_over_base(&whole, &maps, &base);
        budget::judge_series(&whole, &here.series, &maps, None, &mut limits);
        let names = named(judged, &here).map(|(name, _)| name.to_owned());
        Self {
            limits: names.zip(limits).collect(),
            elf: headers(judged, &here),
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

/// What the headers of the files of a run say of the demands of its case.
fn headers(case: &Case, measured: &Measured) -> Vec<ElfResult> {
    let indices = measured.maps.iter().map(|(index, _)| *index);
    hardening(&measured.of(case), indices.zip(&measured.captures)).results
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

/// The first round, less what the others do not repeat; limits by the round that speaks most against them. The plans are those
/// of the two sides.
fn compared(
    [plan_before, plan]: [&Plan; 2],
    terms: Terms,
    before: &One<'_>,
    now: &One<'_>,
    mut rounds: Vec<Round>,
    today: Date,
) -> CaseComparison {
    let waiving = if terms.limits_of_before { plan_before } else { plan };
    let merge = |side: usize| {
        let runs: Vec<Snapshot> = rounds.iter().filter_map(|round| round.states.get(side).cloned()).collect();
        normalize::merge(&runs)
    };
    let (old, new) = (merge(0), merge(1));
    let varying: BTreeSet<String> = [&old, &new].into_iter().flat_map(normalize::varying).collect();
    let limits: Vec<Limits> = rounds
        .iter_mut()
        .map(|round| {
            for (name, list) in &mut round.limits {
                budget::waive(&waiving.defaults.waivers, today, &now.case.name, name, list);
            }
            super::limits::waive_headers(waiving, now.case, today, &mut round.elf);
            std::mem::take(&mut round.limits)
        })
        .collect();
    let (mut limits, notes) = held(&limits);
    let mut elf = held_headers(rounds.iter_mut().map(|round| std::mem::take(&mut round.elf)));
    let escaped = if terms.limits_of_before {
        let there = rounds.iter().flat_map(|round| headers(before.case, &round.there));
        let escaped = escaped_files(&before.case.elf, &there.collect::<Vec<_>>(), &elf);
        elf.iter_mut().for_each(|result| at_base(&mut result.origin));
        escaped
    } else {
        Vec::new()
    };
    // A series may come further in a later round: its checkpoint is shown as that round has it.
    let mut whole = now.case.clone();
    let mut here: BTreeMap<usize, MemoryMap> = BTreeMap::new();
    let mut earlier: Vec<(String, MemoryMap)> = Vec::new();
    let mut shown: Option<Measured> = None;
    for mut round in rounds {
        let specs = round.here.of(now.case).into_owned().checkpoints;
        for (index, map) in std::mem::take(&mut round.here.maps) {
            let Some(spec) = specs.get(index) else { continue };
            let known = whole.checkpoints.iter().position(|other| other.name == spec.name);
            // What children there were is a matter of each round: theirs are the first one's, and what breaks a limit.
            let breaks = || {
                limits
                    .get(&spec.name)
                    .into_iter()
                    .flatten()
                    .any(|limit| limit.verdict.is_broken())
            };
            if known.is_none() && shown.is_some() && !breaks() {
                continue;
            }
            let at = known.unwrap_or_else(|| {
                whole.checkpoints.push(spec.clone());
                whole.checkpoints.len() - 1
            });
            here.entry(at).or_insert(map);
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
    let mut checkpoints: Vec<CheckpointReport> = Vec::new();
    for (index, map) in here {
        let Some(mut report) = checkpoint(&whole, index, map) else {
            continue;
        };
        let limits = limits.remove(&report.name).unwrap_or_default();
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
    report.elf = elf;
    CaseComparison {
        report,
        presence: Presence::Both,
        before: earlier,
        varying: varying.into_iter().collect(),
        escaped,
    }
}
