//! `cargo memcheck show`: one program's memory by kind at any place. Judges nothing and writes nothing.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use memcheck_harness::empty::Empties;
use memcheck_harness::error::{Error, Result};
use memcheck_harness::model::{
    AfterLast, At, Cancel, Case, CaseReport, CheckpointSpec, Defaults, EmptyProgram, ExpectedEnd, Place, Plan, Target,
};
use memcheck_harness::pipeline::{Event, Options};
use memcheck_harness::{config, explain, interrupt, pipeline, report};

use crate::cli::{Invocation, MessageFormat};
use crate::contents::Contents;
use crate::project::{self, Project};
use crate::recorded;
use crate::{contents, elf_file, terminal};

/// What to show and where.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShowOptions {
    /// `CASE` or `CASE@CHECKPOINT`
    pub(crate) case: Option<String>,
    /// What to show of a recorded file.
    pub(crate) of: Option<String>,
    /// A program and its arguments.
    pub(crate) program: Vec<String>,
    /// A running process.
    pub(crate) pid: Option<i32>,
    /// Places as typed.
    pub(crate) at: Vec<String>,
    pub(crate) since: Option<String>,
    pub(crate) fixed: bool,
    /// Seconds.
    pub(crate) timeout: Option<u64>,
    pub(crate) watch_stacks: bool,
    /// Contents of a role, asked for.
    pub(crate) contents: Option<Contents>,
}

/// Launches, stops, prints the tables on standard output.
pub(crate) fn show(invocation: &Invocation, show: &ShowOptions) -> Result<ExitCode> {
    if let Some(code) = recorded::show(invocation, show)? {
        return Ok(code);
    }
    if let Some(code) = elf_file::show(invocation, show)? {
        return Ok(code);
    }
    if let Some((pid, project)) = running(invocation, show)? {
        return process(invocation, show, pid, &project);
    }
    let (mut project, checkpoint) = match (&show.case, show.program.split_first()) {
        (Some(name), None) => of_case(invocation, name)?,
        (None, Some((program, args))) => (of_program(invocation, show, program, args)?, None),
        (None, None) => return Err(usage("show needs something to show")),
        (Some(_), Some(_)) => return Err(usage("show takes a case or a program, not both")),
    };
    let Stops { since, passed } = match project.plan.cases.first_mut() {
        None => Stops::default(),
        Some(case) => stops(case, checkpoint, show)?,
    };
    let progress = terminal::Progress::new(invocation);
    let looker = contents::Looker::new(invocation, show.contents.as_ref())?;
    let mut cases = pipeline::observe(
        &project.plan,
        project.workspace.as_ref(),
        &project.options,
        &project.cancel,
        &|event| {
            let is_passed =
                |case: &Case, index: usize| case.checkpoints.get(index).is_some_and(|spec| passed.contains(&spec.name));
            if !matches!(event, Event::Stopped { case, checkpoint, .. } if is_passed(case, checkpoint)) {
                looker.look(&event);
            }
            progress.show(&event);
        },
    )?;
    progress.finish()?;
    let has_contents = looker.finish()?;
    let Some(case) = cases.first_mut() else {
        return Err(Error::interrupted(project.cancel.signal().unwrap_or_default()));
    };
    let reached = case.checkpoints.len();
    case.checkpoints.retain(|checkpoint| !passed.contains(&checkpoint.name));
    case.checkpoints_planned = case.checkpoints_planned.saturating_sub(reached - case.checkpoints.len());
    explain_since(case, since.as_deref());
    let empty = match project.plan.cases.first() {
        Some(planned) if case.problem.is_none() && since.is_none() && !has_contents => {
            empty_program(&mut Empties::default(), &project, planned, case)
        }
        _ => None,
    };
    if let Some(problem) = &mut case.problem {
        for detail in problem.details.iter_mut().filter(|detail| detail.starts_with("more time:")) {
            "more time: --timeout SECONDS".clone_into(detail);
        }
    }
    // Contents take the place of the tables; what went wrong is told either way.
    if has_contents {
        let stops = std::mem::take(&mut case.checkpoints);
        case.checkpoints_planned = case.checkpoints_planned.saturating_sub(stops.len());
    }
    if !has_contents || case.problem.is_some() {
        terminal::print(|out| match invocation.format {
            MessageFormat::Human => report::show(case, since.as_deref(), empty.as_ref(), invocation.output_style, out),
            MessageFormat::Json => report::show_json(case, since.as_deref(), empty.as_ref(), out),
        })?;
    }
    let code = case
        .problem
        .as_ref()
        .map_or(report::exit::OK, |problem| report::exit::of_problem(problem.kind));
    Ok(ExitCode::from(code))
}

/// What an empty program costs; why it is not known is a remark of the case.
pub(crate) fn empty_program(
    empties: &mut Empties,
    project: &Project,
    planned: &Case,
    report: &mut CaseReport,
) -> Option<EmptyProgram> {
    match empties.of(&project.plan, planned, &project.options, &project.cancel)? {
        Ok(empty) => Some(empty),
        Err(error) => {
            let text = format!("what an empty program costs here is not known: {}", error.problem().title);
            report.notes.push(text);
            None
        }
    }
}

/// The process that was asked for, by `--pid` or as a number that is no case's name.
fn running(invocation: &Invocation, show: &ShowOptions) -> Result<Option<(i32, Project)>> {
    let number = || show.case.as_ref()?.parse().ok().filter(|pid| *pid > 0);
    match (show.pid, number()) {
        (Some(pid), _) => Ok(Some((pid, alone(invocation, Vec::new())?))),
        (None, Some(_)) if !show.program.is_empty() => Ok(None),
        (None, Some(pid)) => match project::find(invocation)? {
            Some(project) if !project.plan.cases.is_empty() => Ok(None),
            Some(project) => Ok(Some((pid, project))),
            None => Ok(Some((pid, alone(invocation, Vec::new())?))),
        },
        (None, None) => Ok(None),
    }
}

/// A running process as it is now.
fn process(invocation: &Invocation, show: &ShowOptions, pid: i32, project: &Project) -> Result<ExitCode> {
    if !show.at.is_empty() || show.since.is_some() || show.fixed {
        return Err(usage(
            "a running process is shown as it is now: --at, --since and --fixed are for programs that are launched",
        ));
    }
    let timeout = Duration::from_secs(show.timeout.unwrap_or(30));
    let looker = contents::Looker::new(invocation, show.contents.as_ref())?;
    let at = format!("pid {pid}");
    let case = pipeline::attached(&project.plan, pid, timeout, &project.cancel, &|pid, map| {
        let place = report::Where {
            case: "process",
            checkpoint: &at,
        };
        looker.look_into(place, pid, map)
    })?;
    if looker.finish()? {
        return Ok(terminal::ok());
    }
    terminal::print(|out| match invocation.format {
        MessageFormat::Human => report::show(&case, None, None, invocation.output_style, out),
        MessageFormat::Json => report::show_json(&case, None, None, out),
    })?;
    Ok(terminal::ok())
}

/// Puts what explains the changes since a stop into the other ones.
fn explain_since(case: &mut CaseReport, since: Option<&str>) {
    let base = case
        .checkpoints
        .iter()
        .find(|checkpoint| Some(checkpoint.name.as_str()) == since);
    let Some((name, base)) = base.map(|base| (base.name.clone(), base.map.clone())) else {
        return;
    };
    for checkpoint in case.checkpoints.iter_mut().filter(|checkpoint| checkpoint.name != name) {
        checkpoint.causes = explain::between(&base, &checkpoint.map).1;
    }
}

fn usage(title: &str) -> Error {
    Error::config(title)
        .detail("cargo memcheck show CASE[@CHECKPOINT]          a case of memcheck.toml")
        .detail("cargo memcheck show -- PROGRAM [ARGUMENT …]    any program")
        .detail("cargo memcheck show --pid PID                  a running process")
        .detail("cargo memcheck show FILE                       an ELF file, by its headers")
        .detail("cargo memcheck show FILE [CASE[@CHECKPOINT]]   results or captures of a run")
}

/// A case of the plan as the suite launches it, and the checkpoint that its name may carry: `@CHECKPOINT`.
fn of_case(invocation: &Invocation, name: &str) -> Result<(Project, Option<String>)> {
    // No case has such a name.
    if name.contains('/') {
        let path = Path::new(name);
        let title = match path.try_exists() {
            Ok(true) => format!("{name} is neither an ELF file nor results or captures of a run"),
            Ok(false) => format!("there is no file {name}"),
            Err(error) => format!("{name} cannot be read: {error}"),
        };
        return Err(usage(&title));
    }
    let mut project = project::open(invocation)?;
    let (name, checkpoint) = name
        .split_once('@')
        .map_or((name, None), |(name, checkpoint)| (name, Some(checkpoint)));
    project::all_known(&project, &[name.to_owned()])?;
    if let (Some(case), Some(checkpoint)) = (project.plan.cases.first_mut(), checkpoint) {
        if !case.checkpoints.iter().any(|spec| spec.name == checkpoint) {
            let names: Vec<&str> = case.checkpoints.iter().map(|spec| spec.name.as_str()).collect();
            let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
            let hint = config::did_you_mean(checkpoint, &names).unwrap_or_else(|| format!("it has: {}", names.join(", ")));
            return Err(Error::config(format!("case {name} has no checkpoint `{checkpoint}`")).detail(hint));
        }
        return Ok((project, Some(checkpoint.to_owned())));
    }
    Ok((project, None))
}

/// A plan of one case that nobody wrote down.
pub(crate) fn of_program(invocation: &Invocation, show: &ShowOptions, program: &str, args: &[String]) -> Result<Project> {
    let target = Target::Command {
        program: program.to_owned(),
    };
    let name = program.rsplit('/').next().unwrap_or(program);
    let mut case = Case::new(name, &invocation.start, target);
    case.args = args.to_vec();
    case.as_is = !show.fixed;
    alone(invocation, vec![case])
}

/// A plan of cases that nobody wrote down.
fn alone(invocation: &Invocation, cases: Vec<Case>) -> Result<Project> {
    let cancel = Cancel::new();
    interrupt::on_signals(&cancel)?;
    let root = &invocation.start;
    Ok(Project {
        plan: Plan {
            root: root.clone(),
            file: "memcheck.toml".into(),
            is_cargo: false,
            data_dir: root.join("target/memcheck-data"),
            defaults: Defaults::default(),
            cases_in_file: cases.len(),
            cases,
            partition: None,
        },
        workspace: None,
        nothing_matches: None,
        names: Vec::new(),
        options: Options {
            jobs: 1,
            write_pending: false,
            pending_dir: None,
            inherited: invocation.inherited.clone(),
            ci: false,
            today: memcheck_harness::capture::today(),
        },
        cancel,
    })
}

/// Where a case is to be stopped.
#[derive(Debug, Default)]
struct Stops {
    /// The name of the one that changes are counted from.
    since: Option<String>,
    /// Checkpoints of the case that nobody asked to see, and without which those that somebody did would be others.
    passed: Vec<String>,
}

/// Puts the places that were asked for into the case; `checkpoint` is one of its own.
fn stops(case: &mut Case, checkpoint: Option<String>, show: &ShowOptions) -> Result<Stops> {
    case.exit = Some(ExpectedEnd::Any);
    case.after_last = AfterLast::Kill;
    case.watch_stacks |= show.watch_stacks;
    if let Some(seconds) = show.timeout {
        case.timeout = Duration::from_secs(seconds);
    }
    let own = std::mem::take(&mut case.checkpoints);
    let spec = |text: &String| -> Result<CheckpointSpec> {
        match own.iter().find(|spec| spec.name == *text) {
            Some(spec) => Ok(spec.clone()),
            None => place(text),
        }
    };
    let since = show.since.as_ref().map(spec).transpose()?;
    let mut wanted = checkpoint.iter().chain(&show.at).map(spec).collect::<Result<Vec<_>>>()?;
    if wanted.is_empty() {
        wanted = match (own.is_empty(), &since) {
            (false, _) => own.clone(),
            (true, Some(_)) => vec![standard("exit", At::Exit)],
            (true, None) => vec![standard("main", At::Main), standard("exit", At::Exit)],
        };
    }
    wanted.splice(0..0, since.clone());
    can_be_done(case, &wanted)?;
    let before = before(case, &own, &wanted);
    let is_wanted = |name: &String| wanted.iter().any(|spec| spec.name == *name);
    let passed = before
        .iter()
        .map(|spec| spec.name.clone())
        .filter(|name| !is_wanted(name))
        .collect();
    for spec in before.iter().chain(&wanted) {
        if !case.checkpoints.iter().any(|other| other.name == spec.name) {
            case.checkpoints.push(spec.clone());
        }
    }
    match since {
        Some(since) if wanted.iter().all(|spec| spec.name == since.name) => Err(Error::config(format!(
            "--since {0} and --at {0} are one place: nothing could change",
            since.name
        ))),
        since => Ok(Stops {
            since: since.map(|spec| spec.name),
            passed,
        }),
    }
}

/// Only a case has commands whose end can be waited for.
fn can_be_done(case: &Case, wanted: &[CheckpointSpec]) -> Result<()> {
    if !case.steps.is_empty() || wanted.iter().all(|spec| spec.at != At::StepDone) {
        return Ok(());
    }
    let is_written = !case.place.file.is_empty();
    let title = if is_written {
        format!("--at step-done: case {} has no step whose end could be waited for", case.name)
    } else {
        "--at step-done: a program that no case describes has no step whose end could be waited for".to_owned()
    };
    Err(Error::config(title)
        .detail("a step is a command that drives the program of a case: [[case.step]] in memcheck.toml, then: show CASE --at step-done")
        .detail("where a program comes to rest by itself: --at idle, or --at after:TIME"))
}

/// The checkpoints that a case has to pass on the way: those before a place that counts from the one before it, and those that its
/// steps follow, which drive it on.
fn before(case: &Case, own: &[CheckpointSpec], wanted: &[CheckpointSpec]) -> Vec<CheckpointSpec> {
    let is_relative = |spec: &CheckpointSpec| spec.in_turn || spec.at.is_timed();
    let is_own = |spec: &&CheckpointSpec| own.iter().any(|other| other.name == spec.name);
    if case.steps.is_empty() && !wanted.iter().filter(is_own).any(is_relative) {
        return Vec::new();
    }
    let is_needed = |spec: &CheckpointSpec| {
        let drives = || case.steps.iter().any(|step| step.after == spec.name);
        wanted.iter().any(|other| other.name == spec.name) || (wanted.iter().any(|other| !is_own(&other)) && drives())
    };
    let count = own.iter().rposition(is_needed).map_or(0, |last| last + 1);
    own.iter().take(count).cloned().collect()
}

pub(crate) fn standard(name: &str, at: At) -> CheckpointSpec {
    CheckpointSpec {
        place: Place {
            file: "--at".to_owned(),
            ..Place::default()
        },
        ..CheckpointSpec::new(name, at)
    }
}

/// A place that is no checkpoint of the case.
fn place(text: &str) -> Result<CheckpointSpec> {
    let at = config::place(text).map_err(|error| {
        let places = config::PLACES.join(", ");
        error.detail(format!("places: {places}; of a case also its checkpoints"))
    })?;
    Ok(standard(&at.to_string(), at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(at: &[&str], since: Option<&str>) -> Result<(Vec<String>, Option<String>)> {
        let target = Target::Command { program: "p".to_owned() };
        let mut case = Case::new("p", "/", target);
        let show = ShowOptions {
            at: at.iter().map(|text| (*text).to_owned()).collect(),
            since: since.map(str::to_owned),
            ..ShowOptions::default()
        };
        let stops = stops(&mut case, None, &show)?;
        Ok((
            case.checkpoints.into_iter().map(|spec| spec.at.to_string()).collect(),
            stops.since,
        ))
    }

    #[test]
    fn places() {
        assert_eq!(asked(&[], None).unwrap().0, ["main", "exit"]);
        let some = asked(
            &[
                "probe:ready",
                "probe:libc:setjmp",
                "function:f",
                "returns:f",
                "line:src/a.c:7",
                "touch:x",
                "touch:guard",
                "exec",
            ],
            None,
        )
        .unwrap()
        .0;
        assert_eq!(
            some,
            [
                "probe ready",
                "probe libc:setjmp",
                "function f",
                "return of f",
                "line src/a.c:7",
                "touch of x",
                "touch of a guard page",
                "exec"
            ]
        );
        assert_eq!(
            asked(&[], Some("main")).unwrap(),
            (vec!["main".to_owned(), "exit".to_owned()], Some("main".to_owned()))
        );
        assert_eq!(asked(&["exit", "main", "exit"], Some("main")).unwrap().0, ["main", "exit"]);
        for wrong in ["", "probe:", "prob:x", "start", "line::7", "touch:"] {
            assert!(asked(&[wrong], None).is_err(), "{wrong}");
        }
        assert!(asked(&["main"], Some("main")).is_err());
    }
}
