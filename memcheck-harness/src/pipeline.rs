//! The order of the steps, and nothing else: build → launch → pause → capture → classify → budget / normalize → compare.
//! Reporting is the caller's: it gets events while the run goes on and a `RunReport` at the end.

mod attached;
mod caught;
mod cooperating;
mod elf;
mod held;
mod judge;
mod kept;
mod limits;
mod lines;
mod measured;
mod parallel;
mod rounds;
mod sides;
mod steps;
mod terms;
mod tree;
mod turn;
mod versus;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

pub use attached::attached;
pub use caught::panicked;
pub(crate) use elf::hardening;
pub(crate) use limits::waive_headers;
pub use limits::waivers;
pub(crate) use lines::judge_again;

use crate::build::{self, BuildEvent};
use crate::capture::{self, ObjectCache};
use crate::compare::{self, Approved};
use crate::error::{Error, Result};
use crate::model::{
    Binary, Cancel, Capture, Case, CaseReport, Date, Environment, EnvironmentStatus, MemoryMap, Name, Plan, Problem, Reading,
    RunReport, Snapshot, Workspace,
};
use crate::trace::{self, Ended, Next, Point};
use crate::{budget, classify, config, ending, explain, normalize, prepare};

pub(crate) use judge::judge;
pub(crate) use measured::Measured;
pub use sides::{layouts, reports, snapshots};
pub use terms::Terms;
pub(crate) use tree::end_spec;
pub use versus::{Compared, Party, versus};

use caught::caught;
use judge::{case_report, checkpoint, ends_badly};
use measured::page_bytes;
use parallel::in_parallel;
use steps::Steps;
use turn::Turns;

/// How often a case is measured before a snapshot that differs is called a difference of the program.
const RUNS_BEFORE_A_VERDICT: usize = 3;

/// How to run a plan.
#[derive(Clone, Debug)]
pub struct Options {
    /// Cases measured at the same time.
    pub jobs: usize,
    /// Write pending snapshots and remove stale ones.
    pub write_pending: bool,
    /// Where pending snapshots go instead of beside the approved ones (`INSTA_PENDING_DIR`).
    pub pending_dir: Option<PathBuf>,
    /// The caller's environment.
    pub inherited: Vec<(OsString, OsString)>,
    /// Running under `CI`.
    pub ci: bool,
    /// The day, for waivers that expire.
    pub today: Date,
}

impl Options {
    /// What comparing may write.
    #[must_use]
    pub fn comparing(&self) -> compare::Options<'_> {
        compare::Options {
            write: self.write_pending,
            pending_dir: self.pending_dir.as_deref(),
        }
    }
}

/// What happens while a run goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// A build step.
    Build(BuildEvent),
    /// Everything is built; so many cases are measured now.
    Measuring(usize),
    /// A case has waited for a while for others that must not run at the same time.
    Waiting(&'a Case),
    /// A case is finished. The report has everything but the cases.
    Finished {
        /// The run so far, without its cases.
        run: &'a RunReport,
        /// The case.
        case: &'a CaseReport,
        /// How many are finished.
        done: usize,
        /// Of how many.
        total: usize,
    },
    /// A target stands still at a checkpoint and was read there: told by [`observe`] only, before the target goes on.
    Stopped {
        /// The case.
        case: &'a Case,
        /// Index of the checkpoint in the case.
        checkpoint: usize,
        /// Process id of the target.
        pid: i32,
        /// Its memory.
        map: &'a MemoryMap,
    },
}

/// What is to be done at each stop besides reading: gets the index of the stop before, of this one, the process id and the
/// map; an error ends the run.
type Look<'a> = &'a dyn Fn(Option<usize>, usize, i32, &MemoryMap) -> Result<()>;

/// Builds, measures and judges every case of the plan.
///
/// # Errors
/// When nothing could be measured at all; problems of single cases stand in their reports.
pub fn run(
    plan: &Plan,
    workspace: Option<&Workspace>,
    options: &Options,
    cancel: &Cancel,
    observe: &(dyn Fn(Event<'_>) + Sync),
) -> Result<RunReport> {
    let binaries = build::build(plan, workspace, cancel, &|event| observe(Event::Build(event)))?;
    run_built(plan, &binaries, options, cancel, observe)
}

/// Measures and judges every case of the plan on what was built: one entry of `binaries` per case, in plan order.
///
/// # Errors
/// As [`run`].
pub fn run_built(
    plan: &Plan,
    binaries: &[Result<Binary>],
    options: &Options,
    cancel: &Cancel,
    observe: &(dyn Fn(Event<'_>) + Sync),
) -> Result<RunReport> {
    let mut report = empty_report(plan, binaries, options)?;
    observe(Event::Measuring(plan.cases.len()));
    let own = config::ownership(plan)?;
    let turns = Turns::new(plan, observe);
    let lines = lines::Lines::default();
    let finished = AtomicUsize::new(0);
    let total = plan.cases.len();
    let cases = in_parallel(options.jobs, total, |index| {
        let (Some(case), Some(binary)) = (plan.cases.get(index), binaries.get(index)) else {
            return None;
        };
        if cancel.signal().is_some() {
            return None;
        }
        let judged = caught(|| {
            let mut judged = run_case(plan, case, binary, &own, options, &turns, cancel);
            explain::surroundings(&report.environment_status, &mut judged);
            judged
        });
        let mut case_report = judged.unwrap_or_else(|error| unmeasured(plan, case, error.into_problem()));
        lines.finish(plan, case, &report.environment, cancel, &mut case_report);
        let done = finished.fetch_add(1, Ordering::SeqCst) + 1;
        observe(Event::Finished {
            run: &report,
            case: &case_report,
            done,
            total,
        });
        // Whoever wants to keep them has done so: thousands of cases must not fill the memory.
        case_report
            .checkpoints
            .iter_mut()
            .for_each(|checkpoint| checkpoint.capture = None);
        Some(case_report)
    });
    report.interrupted = cancel.signal();
    report.cases = cases.into_iter().flatten().collect();
    report.complete = report.interrupted.is_none();
    report.waivers = waivers(plan, options, &report);
    Ok(report)
}

/// What `accept` records of a case that has no approved snapshot yet.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The states; cells that differed between the runs vary.
    pub snapshot: Snapshot,
    /// Launch settings that this machine refused: the snapshot may not hold elsewhere.
    pub refused: Vec<String>,
}

/// What [`record`] gives.
#[derive(Clone, Debug)]
pub struct Recording {
    /// How this machine compares with the environment of record.
    pub environment: EnvironmentStatus,
    /// One entry per case, in plan order.
    pub cases: Vec<Result<Recorded>>,
}

/// Builds the cases and measures each `times` times without judging.
///
/// # Errors
/// When nothing could be measured at all.
pub fn record(
    plan: &Plan,
    workspace: Option<&Workspace>,
    options: &Options,
    times: usize,
    cancel: &Cancel,
    observe: &(dyn Fn(Event<'_>) + Sync),
) -> Result<Recording> {
    let binaries = build::build(plan, workspace, cancel, &|event| observe(Event::Build(event)))?;
    // Leaves the environment of record as a pending file where there is none.
    let environment = empty_report(plan, &binaries, options)?.environment_status;
    observe(Event::Measuring(plan.cases.len()));
    let own = config::ownership(plan)?;
    let turns = Turns::new(plan, observe);
    let recorded = in_parallel(options.jobs, plan.cases.len(), |index| {
        let (case, binary) = (plan.cases.get(index)?, binaries.get(index)?);
        Some(record_case(case, binary, &own, options, times, &turns, cancel))
    });
    Ok(Recording {
        environment,
        cases: recorded.into_iter().flatten().collect(),
    })
}

/// Builds the cases and measures each once without judging anything: no snapshot is read or written, limits do not count, and
/// checkpoints may come in any order. One report per case in plan order; fewer when `cancel` was set.
///
/// # Errors
/// When nothing could be measured at all; problems of single cases stand in their reports.
pub fn observe(
    plan: &Plan,
    workspace: Option<&Workspace>,
    options: &Options,
    cancel: &Cancel,
    tell: &(dyn Fn(Event<'_>) + Sync),
) -> Result<Vec<CaseReport>> {
    let binaries = build::build(plan, workspace, cancel, &|event| tell(Event::Build(event)))?;
    tell(Event::Measuring(plan.cases.len()));
    let own = config::ownership(plan)?;
    let turns = Turns::looking(plan, tell);
    let reports = in_parallel(options.jobs, plan.cases.len(), |index| {
        let (case, binary) = (plan.cases.get(index)?, binaries.get(index)?);
        if cancel.signal().is_some() {
            return None;
        }
        let look = |_: Option<usize>, checkpoint: usize, pid: i32, map: &MemoryMap| {
            tell(Event::Stopped {
                case,
                checkpoint,
                pid,
                map,
            });
            Ok(())
        };
        let (mut measured, target) = match binary {
            Err(error) => (Measured::failed(error.problem().clone()), String::new()),
            Ok(binary) => {
                let mut measured = measure(case, binary, &own, options, &turns, cancel, (&everything, &look));
                if binary.script {
                    measured.notes.push(binary.label.clone());
                }
                (measured, binary.label.clone())
            }
        };
        let maps = std::mem::take(&mut measured.maps);
        let case = &*measured.of(case);
        let checkpoints = maps
            .into_iter()
            .filter_map(|(index, map)| checkpoint(case, index, map))
            .collect();
        Some(case_report(
            case,
            target,
            measured,
            checkpoints,
            compare::not_compared(plan, case),
        ))
    });
    Ok(reports.into_iter().flatten().collect())
}

fn record_case(
    case: &Case,
    binary: &Result<Binary>,
    own: &(dyn Fn(&Name) -> bool + Sync),
    options: &Options,
    times: usize,
    turns: &Turns<'_>,
    cancel: &Cancel,
) -> Result<Recorded> {
    let binary = binary.as_ref().map_err(Clone::clone)?;
    let (mut runs, mut refused) = (Vec::new(), Vec::new());
    for _ in 0..times {
        let measured = measure(case, binary, own, options, turns, cancel, (&everything, &in_order(case)));
        if let Some(problem) = measured.problem {
            return Err(Error::from(problem));
        }
        if measured.is_by_mappings() {
            return Err(Error::machine(
                "no snapshot can be approved here: the memory could not be read, roles are told by mappings alone",
            )
            .detail("cargo memcheck doctor  tells what this machine permits"));
        }
        runs.push(measured.snapshot(case).clone());
        let settings = measured.ended.iter().flat_map(|ended| &ended.settings);
        refused = settings
            .filter_map(|setting| Some(format!("{} {}: {}", setting.name, setting.value, setting.refused.as_ref()?)))
            .collect();
    }
    Ok(Recorded {
        snapshot: normalize::merge(&runs),
        refused,
    })
}

/// Builds the cases and gives the facts about this machine and its compilers.
///
/// # Errors
/// As [`run`], and the first case's that could not be built: its compiler would be missing among the facts.
pub fn environment(
    plan: &Plan,
    workspace: Option<&Workspace>,
    cancel: &Cancel,
    observe: &(dyn Fn(Event<'_>) + Sync),
) -> Result<Environment> {
    let binaries = build::build(plan, workspace, cancel, &|event| observe(Event::Build(event)))?;
    let built = binaries.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(facts(built.iter()))
}

fn facts<'a>(binaries: impl Iterator<Item = &'a Binary> + Clone) -> Environment {
    let mut environment = capture::environment();
    // What the programs run on counts, where it is another C library than this tool's.
    let libc = capture::libc_of(binaries.clone().map(|binary| binary.path.as_path()));
    environment.facts.extend(libc.map(|libc| ("libc".to_owned(), libc)));
    environment.facts.extend(build::facts(binaries));
    environment
}

fn empty_report(plan: &Plan, binaries: &[Result<Binary>], options: &Options) -> Result<RunReport> {
    let environment = facts(binaries.iter().flatten());
    let environment_status = compare::environment(plan, &environment, options.comparing())?;
    Ok(RunReport {
        schema: RunReport::SCHEMA,
        complete: false,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        environment,
        environment_status,
        cases: Vec::new(),
        interrupted: None,
        not_selected: plan.cases_in_file.saturating_sub(plan.cases.len()),
        ci: options.ci,
        partition: plan.partition.clone(),
        captures: None,
        waivers: Vec::new(),
        revision: None,
        switches: Vec::new(),
        job: None,
    })
}

fn run_case(
    plan: &Plan,
    case: &Case,
    binary: &Result<Binary>,
    own: &(dyn Fn(&Name) -> bool + Sync),
    options: &Options,
    turns: &Turns<'_>,
    cancel: &Cancel,
) -> CaseReport {
    // The approved snapshot is read before the target starts: the target could rewrite it.
    let approved = compare::approved(case);
    let (runs, target) = match (binary, &approved) {
        (Err(error), _) => (vec![Measured::failed(error.problem().clone())], String::new()),
        (Ok(binary), Err(error)) => (vec![Measured::failed(error.problem().clone())], binary.label.clone()),
        (Ok(binary), Ok(approved)) => {
            let once = || measure(case, binary, own, options, turns, cancel, (&Reading::of, &in_order(case)));
            let is_clean = |run: &Measured| !ends_badly(plan, case, run, approved.as_ref(), options.today);
            (
                until_sure(case, approved.as_ref(), cancel, &once, &is_clean),
                binary.label.clone(),
            )
        }
    };
    judge(plan, case, target, runs, approved.ok().flatten().as_ref(), options)
}

/// Measures a case, and again where nothing but its snapshot speaks against it: what one run shows may be a race. It ends
/// early with a run that breaks a limit or cannot be judged: that is a result, and never measured away.
fn until_sure(
    case: &Case,
    approved: Option<&Approved>,
    cancel: &Cancel,
    once: &dyn Fn() -> Measured,
    is_clean: &dyn Fn(&Measured) -> bool,
) -> Vec<Measured> {
    let first = once();
    if first.problem.is_some() || first.is_by_mappings() || !compare::differs(case, first.snapshot(case), approved) {
        return vec![first];
    }
    let mut runs = vec![first];
    while runs.len() < RUNS_BEFORE_A_VERDICT && cancel.signal().is_none() && runs.last().is_some_and(is_clean) {
        runs.push(once());
    }
    runs
}

fn states(approved: Option<&Approved>) -> Option<&Snapshot> {
    approved.and_then(Approved::states)
}

/// A case of which nothing was measured, and why.
pub(crate) fn unmeasured(plan: &Plan, case: &Case, problem: Problem) -> CaseReport {
    let outcome = compare::not_compared(plan, case);
    case_report(case, case.target.to_string(), Measured::failed(problem), Vec::new(), outcome)
}

/// How much is read at a checkpoint, by its index.
type Depth<'a> = &'a dyn Fn(&Case, usize) -> Reading;

/// For who shows or records what there is.
fn everything(_: &Case, _: usize) -> Reading {
    Reading::EVERYTHING
}

/// What a judged run demands at each stop.
fn in_order(case: &Case) -> impl Fn(Option<usize>, usize, i32, &MemoryMap) -> Result<()> {
    |last, now, _, _| ending::in_order(case, last, now)
}

fn measure(
    case: &Case,
    binary: &Binary,
    own: &(dyn Fn(&Name) -> bool + Sync),
    options: &Options,
    turns: &Turns<'_>,
    cancel: &Cancel,
    (depth, look): (Depth<'_>, Look<'_>),
) -> Measured {
    // Time that is spent waiting is not the case's.
    let _turn = match turns.take(case, cancel) {
        Ok(turn) => turn,
        Err(error) => return Measured::failed(error.into_problem()),
    };
    let start = Instant::now();
    let mut measured = Measured::failed(Error::tool("nothing was measured").into_problem());
    let (launch, notes) = prepare::launch(case, binary, &options.inherited);
    measured.notes = notes;
    let points = tree::points(case);
    // The target is killed on the way out of a panic, too.
    let walked = caught(|| {
        if case.cooperative {
            cooperating::walk(case, &launch, &points, own, cancel, look, &mut measured)
        } else {
            walk(case, &launch, &points, own, cancel, (depth, look), &mut measured)
        }
    });
    tree::put_in_order(case, &mut measured);
    match walked.and_then(|walked| walked) {
        Ok(ended) => {
            let last = measured.maps.last().map(|(_, map)| map);
            let suggest = |at: &_| trace::suggestions(&binary.path, &last.map(own_libraries).unwrap_or_default(), at);
            measured.problem = ending::problem(case, &measured.reached, &ended, &suggest);
            if let Some(problem) = &mut measured.problem {
                problem
                    .details
                    .extend(ending::tracer(case, &ended, &|| trace::is_tracer(&binary.path)));
            }
            measured.main_stack_is_fixed = kept::main_stack_is_fixed(&ended.settings);
            measured.notes.extend(ended.notes.iter().cloned());
            measured.ended = Some(ended);
        }
        Err(error) => measured.problem = Some(ending::at_case(error, case).into_problem()),
    }
    budget::find_growth(case, &mut measured.series, page_bytes(&measured.maps));
    measured.duration = start.elapsed();
    measured
}

/// The files of a program's own libraries, as they were mapped.
fn own_libraries(map: &MemoryMap) -> Vec<PathBuf> {
    let own = map.items.iter().filter(|item| item.role.name().starts_with("lib."));
    let paths: BTreeSet<PathBuf> = own
        .filter_map(|item| item.subject.as_str().map(PathBuf::from))
        .filter(|path| path.is_absolute())
        .collect();
    paths.into_iter().collect()
}

/// Launches and walks from checkpoint to checkpoint; leaves the classified maps and what they were made of in `measured`.
fn walk(
    case: &Case,
    launch: &trace::Launch,
    points: &[Point],
    own: &(dyn Fn(&Name) -> bool + Sync),
    cancel: &Cancel,
    (depth, look): (Depth<'_>, Look<'_>),
    measured: &mut Measured,
) -> Result<Ended> {
    let mut objects = ObjectCache::default();
    let mut running = trace::launch(launch, points, cancel)?;
    let mut steps = Steps::new(case, running.bell());
    loop {
        let next = running.next();
        // What a step says of its failure is more than that the run was given up for it.
        steps.check()?;
        let (mut stopped, index) = match next? {
            Next::Paused(stopped, index) => (stopped, index),
            Next::Ended(ended) => return steps.after(ended),
        };
        let reading = depth(case, index);
        // First: then all of the tree stands while this process is read, too.
        let standing = if case.is_summed() { stopped.stop_tree()? } else { None };
        let sums = standing.map(|members| capture::tree(&members)).transpose()?;
        let (mut captured, memory) = capture::look(&stopped, reading, &mut objects)?;
        captured.tree = sums;
        let mut map = classify::classify(&captured, &memory, own);
        capture::note_pages(&stopped, &memory, &mut objects);
        capture::name_starts(&captured, &mut map, &mut objects)?;
        if index == case.checkpoints.len() {
            measured.children.push(tree::end_of_child(case, stopped.child())?);
            measured.maps.push((index + measured.children.len() - 1, map));
        } else {
            look(
                tree::last_of_process(case, &measured.reached, index),
                index,
                stopped.pid(),
                &map,
            )?;
            measured.reached.push(index);
            rounds::read(case, index, reading.level, &map, &mut measured.series);
            if case.keeps(index) {
                measured.maps.push((index, map));
            }
        }
        if case.keeps(index) {
            let recording = memory.into_recording();
            measured.captures.push(kept::kept(Capture { recording, ..captured }, own));
        }
        if ending::is_complete(case, &measured.reached) {
            if case.detach {
                steps.start(index, stopped.pid())?;
                let ended = stopped.let_go();
                steps.check()?;
                return steps.after(ended?);
            }
            if !ending::runs_to_its_end(case) {
                return stopped.kill();
            }
        }
        steps.start(index, stopped.main())?;
        running = stopped.resume();
    }
}
