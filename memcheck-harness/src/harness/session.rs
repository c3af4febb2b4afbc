//! One test program's run: the plan of file and Rust, the targets built once for all its trials, and each case through the
//! pipeline. Owns what its trials share.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, OnceLock, PoisonError};

use super::check::{self, Check};
use super::environment::{Environment, Update};
use super::{Suite, machine, nothing, snapshots};
use crate::build::{self, BuildEvent};
use crate::capture;
use crate::compare;
use crate::config::{self, BuiltLine, Source};
use crate::error::{Error, Result};
use crate::model::{Binary, Cancel, Case, Outcome, Plan, RunReport, SnapshotStatus, Workspace};
use crate::pipeline::{self, Event, Options};
use crate::report::{self, Style};

/// What the Rust code adds to a case of the plan.
#[derive(Debug, Default)]
struct Built {
    ignored: bool,
    checks: Vec<Check>,
}

/// Binaries by index of their case.
type Binaries = BTreeMap<usize, Result<Binary>>;

/// What all trials share.
#[derive(Debug)]
pub(super) struct Session {
    /// Every case of the file and of the suite, whether it runs here or not.
    plan: Plan,
    /// The plan without its cases.
    base: Plan,
    workspace: Option<Workspace>,
    options: Options,
    environment: Environment,
    style: Style,
    /// By name: the cases that were built in Rust.
    built: BTreeMap<String, Built>,
    /// The cases of the file run here too.
    file: bool,
    /// Why cases cannot be measured here, by their index: they are ignored.
    obstacles: BTreeMap<usize, String>,
    /// Indices of the cases that will run: their targets are built together.
    pub(super) selected: BTreeSet<usize>,
    binaries: OnceLock<Result<Binaries>>,
    environment_recorded: Once,
    finished: Mutex<BTreeMap<usize, RunReport>>,
    /// Captures of finished cases as lines of a file, when results are asked for.
    captures: Mutex<Vec<u8>>,
}

impl Session {
    /// Reads the configuration. Builds and launches no target.
    pub(super) fn open(suite: Suite, environment: Environment, style: Style) -> Result<Self> {
        let start = match &environment.package_dir {
            Some(dir) => dir.clone(),
            None => std::env::current_dir()
                .map_err(|error| Error::config(format!("the current directory cannot be read: {error}")))?,
        };
        let page_bytes = capture::page_bytes_here()
            .ok_or_else(|| Error::machine("the size of a page is unknown: /proc is not mounted or not readable"))?;
        let (source, workspace) = source(&start, suite.file)?;
        let lines = lines(&suite, &source.root);
        let mut overrides = environment.overrides.clone();
        overrides.here = capture::environment().facts;
        overrides.here.insert("CI".to_owned(), environment.ci.to_string());
        let plan = config::plan_with(&source, &lines, workspace.as_ref(), &overrides, page_bytes)?;
        let built = suite
            .cases
            .into_iter()
            .map(|case| {
                let (ignored, checks) = (case.ignored, case.checks);
                (case.name, Built { ignored, checks })
            })
            .collect();
        check_names(&plan, &built)?;
        let options = Options {
            jobs: 1,
            write_pending: snapshots::pending(environment.update),
            pending_dir: environment.pending_dir.clone(),
            inherited: environment.inherited.clone(),
            ci: environment.ci,
            today: capture::today(),
        };
        let mut session = Self {
            base: Plan {
                cases: Vec::new(),
                ..plan.clone()
            },
            plan,
            workspace,
            options,
            style,
            built,
            // The caller runs those of the file by itself.
            file: suite.file && environment.results.is_none(),
            environment,
            obstacles: BTreeMap::new(),
            selected: BTreeSet::new(),
            binaries: OnceLock::new(),
            environment_recorded: Once::new(),
            finished: Mutex::default(),
            captures: Mutex::default(),
        };
        // With results asked for, a suite may well have none of its own.
        if session.cases().is_empty() && session.environment.results.is_none() {
            return Err(nothing());
        }
        if session.environment.results.is_none() && !session.environment.ci {
            let own: Vec<usize> = session.cases().into_iter().map(|(index, ..)| index).collect();
            let cases = own
                .into_iter()
                .filter_map(|index| Some((index, session.plan.cases.get(index)?)));
            session.obstacles = machine::obstacles(&session.plan.root, cases);
        }
        Ok(session)
    }

    /// Index, name and whether it is ignored, of every case that belongs to this program.
    pub(super) fn cases(&self) -> Vec<(usize, String, bool)> {
        let cases = self.plan.cases.iter().enumerate();
        cases
            .filter_map(|(index, case)| match self.built.get(&case.name) {
                Some(built) => Some((index, case.name.clone(), built.ignored || self.obstacles.contains_key(&index))),
                None if self.file => Some((index, case.name.clone(), self.obstacles.contains_key(&index))),
                None => None,
            })
            .collect()
    }

    /// Before the first trial: results that are not there yet must not be taken for those of an earlier run.
    pub(super) fn begin(&self) -> Result<()> {
        self.write_results(false)?;
        // Snapshots of the file that belong to another door are in use all the same.
        let list = self.environment.references.as_deref();
        let elsewhere = self
            .plan
            .cases
            .iter()
            .filter(|case| !self.file && !self.built.contains_key(&case.name));
        let mut snapshots: Vec<PathBuf> = elsewhere.map(compare::path).collect();
        snapshots.push(compare::environment_path(&self.plan));
        snapshots::refer(list, &snapshots)
    }

    /// Tells what this machine lacks: an ignored case says nothing of that.
    pub(super) fn remark(&self) {
        for text in machine::remarks(&self.obstacles) {
            say(|out| report::warning(self.style, &text, out));
        }
    }

    /// After the last trial. A case that was to run and left nothing is a failure in the results too.
    pub(super) fn finish(&self) -> Result<()> {
        for index in &self.selected {
            let is_there = self
                .finished
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains_key(index);
            if let Some(case) = self.plan.cases.get(*index).filter(|_| !is_there) {
                self.unmeasured(*index, case, Error::tool("the case left no result"));
            }
        }
        self.write_results(true)
    }

    /// The results of a case of which nothing is known but why.
    fn unmeasured(&self, index: usize, case: &Case, error: Error) {
        if self.environment.results.is_none() {
            return;
        }
        let report = RunReport {
            schema: RunReport::SCHEMA,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            cases: vec![pipeline::unmeasured(&self.plan, case, error.into_problem())],
            ..RunReport::default()
        };
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        finished.insert(index, report);
    }

    /// One trial. The error is what the user reads.
    pub(super) fn run(&self, index: usize) -> std::result::Result<(), String> {
        let Some(case) = self.plan.cases.get(index) else {
            return Err("the case is gone".to_owned());
        };
        let report = match self.measure(index, case) {
            Ok(report) => report,
            Err(error) => {
                let text = self.error(&error);
                self.unmeasured(index, case, error);
                return Err(text);
            }
        };
        let outcome = match report.cases.first() {
            Some(case) => report::outcome(&report, case),
            None => return Err("nothing was measured".to_owned()),
        };
        let text = || self.text(&report);
        match outcome {
            Outcome::Problem | Outcome::Budget => return Err(text()),
            Outcome::Snapshot if !self.environment.force_pass => return Err(text()),
            // A test that passes says nothing, but that it passed with a difference must not be lost.
            Outcome::Warning => say(|out| out.write_all(text().as_bytes())),
            Outcome::Snapshot | Outcome::Pass => {}
        }
        if report.expired_waivers().next().is_some() {
            return Err(written(|out| report::waivers(&report, self.style, out)));
        }
        say(|out| report::waivers(&report, self.style, out));
        Ok(())
    }

    fn measure(&self, index: usize, case: &Case) -> Result<RunReport> {
        let binaries = match self.binaries.get_or_init(|| self.build()) {
            Ok(binaries) => binaries,
            Err(error) => return Err(error.clone()),
        };
        let plan = self.alone(case);
        let members = self.together(index);
        let own = |index: &usize| {
            let built = binaries.get(index).cloned();
            built.unwrap_or_else(|| Err(Error::tool(format!("the target of case {} was not built", self.name(*index)))))
        };
        let mut given: Vec<Result<Binary>> = members.iter().map(own).collect();
        // Those of the others tell which compilers this environment has, as in a run of all cases.
        given.extend(compilers(binaries).into_iter().cloned().map(Ok));
        let mut all = self.plan_of(&members);
        let has_checks = self.built.get(&case.name).is_some_and(|built| !built.checks.is_empty());
        let own = all.cases.iter_mut().filter(|other| other.name == case.name);
        own.for_each(|own| own.has_checks = has_checks);
        let mut report = pipeline::run_built(&all, &given, &self.options, &Cancel::new(), &|event| self.hear(&event, case))?;
        // The others have trials of their own.
        report.cases.retain(|report| report.name == case.name);
        report.waivers.retain(|result| result.waiver.case == case.name);
        if let (Some(built), Some(case)) = (self.built.get(&case.name), report.cases.first_mut()) {
            check::apply(&built.checks, case);
        }
        self.settle(&plan, &mut report)?;
        if self.environment.results.is_some() {
            let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
            finished.insert(index, report.clone());
        }
        Ok(report)
    }

    /// Approved files, as far as insta's variables ask for them, and the list of those in use.
    fn settle(&self, plan: &Plan, report: &mut RunReport) -> Result<()> {
        let (Some(case), Some(result)) = (plan.cases.first(), report.cases.first_mut()) else {
            return Ok(());
        };
        if result.snapshot.status != SnapshotStatus::Off {
            snapshots::refer(self.environment.references.as_deref(), &[compare::path(case)])?;
        }
        if snapshots::in_place(self.environment.update, result.snapshot.status) {
            snapshots::approve(plan, &result.snapshot.text)?;
            result.snapshot.status = SnapshotStatus::Same;
            if report.environment_status.recorded.is_none() {
                let mut recorded = Ok(());
                self.environment_recorded
                    .call_once(|| recorded = snapshots::approve_environment(plan, &report.environment));
                recorded?;
            }
        }
        Ok(())
    }

    fn name(&self, index: usize) -> &str {
        self.plan.cases.get(index).map_or("", |case| case.name.as_str())
    }

    /// The cases that are measured in the trial of one: for the last run of a line with limits per unit all runs of the line, as
    /// they are judged together, and each trial may have a process of its own.
    fn together(&self, index: usize) -> Vec<usize> {
        let line = |case: &Case| {
            let run = case.run.as_ref().filter(|run| run.number.is_some());
            run.map(|run| run.line.clone())
        };
        let Some(case) = self.plan.cases.get(index) else {
            return vec![index];
        };
        let mine = line(case);
        let cases = self.plan.cases.iter().enumerate();
        let of_line = cases.filter(|(_, other)| mine.is_some() && line(other) == mine);
        let members: Vec<usize> = of_line.map(|(index, _)| index).collect();
        if members.last() == Some(&index) && is_limited_by_unit(case) {
            members
        } else {
            vec![index]
        }
    }

    fn plan_of(&self, members: &[usize]) -> Plan {
        let mut plan = Plan {
            cases: members
                .iter()
                .filter_map(|index| self.plan.cases.get(*index))
                .cloned()
                .collect(),
            cases_in_file: self.plan.cases_in_file.max(members.len() + 1),
            ..self.base.clone()
        };
        if let [alone] = plan.cases.as_mut_slice()
            && let Some(run) = &mut alone.run
        {
            // Its line is judged in the trial of the last run.
            run.number = None;
        }
        plan
    }

    /// The plan of one case.
    fn alone(&self, case: &Case) -> Plan {
        Plan {
            cases: vec![case.clone()],
            // More than one: pending files of other cases are not looked at.
            cases_in_file: self.plan.cases_in_file.max(2),
            ..self.base.clone()
        }
    }

    /// Builds what the selected cases need, all at once; other processes wait at the lock and then find it fresh.
    fn build(&self) -> Result<Binaries> {
        let wanted = if self.records_environment() {
            (0..self.plan.cases.len()).collect()
        } else {
            self.selected
                .iter()
                .flat_map(|index| self.together(*index))
                .collect::<BTreeSet<usize>>()
        };
        let cases = wanted.iter().filter_map(|index| self.plan.cases.get(*index));
        let plan = Plan {
            cases: cases.cloned().collect(),
            ..self.base.clone()
        };
        let show = |event: BuildEvent| match event {
            BuildEvent::Waiting => say(|out| report::verb(self.style, "Waiting", "for another run that builds here", out)),
            BuildEvent::Started { verb, what } => say(|out| report::verb(self.style, verb, &what, out)),
        };
        let binaries = build::build(&plan, self.workspace.as_ref(), &Cancel::new(), &show)?;
        Ok(wanted.into_iter().zip(binaries).collect())
    }

    /// No environment is on record and this run may propose one: it names the compilers of all cases, also where nextest runs
    /// each of them in a process of its own.
    fn records_environment(&self) -> bool {
        self.environment.update != Update::No && !compare::environment_path(&self.plan).exists()
    }

    /// The results so far, for `cargo memcheck`.
    fn write_results(&self, complete: bool) -> Result<()> {
        let Some(path) = &self.environment.results else {
            return Ok(());
        };
        let finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reports = finished.values().cloned();
        let mut whole = reports.next().unwrap_or_else(|| RunReport {
            schema: RunReport::SCHEMA,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..RunReport::default()
        });
        whole.cases.extend(reports.flat_map(|report| report.cases));
        whole.complete = complete;
        let captures = self.captures.lock().unwrap_or_else(PoisonError::into_inner);
        compare::write_whole(&captures_beside(path), &captures)?;
        compare::write_whole(path, &report::results(&whole))
    }

    /// What happens while a case runs.
    fn hear(&self, event: &Event<'_>, of: &Case) {
        if let Event::Waiting(case) = event {
            say(|out| report::waiting(self.style, case, out));
        }
        self.keep(event, of);
    }

    /// The captures of a finished case, for `cargo memcheck`; those of others that were measured with it are kept by their own
    /// trials.
    fn keep(&self, event: &Event<'_>, of: &Case) {
        let (Event::Finished { case, .. }, Some(_)) = (event, &self.environment.results) else {
            return;
        };
        if case.name != of.name {
            return;
        }
        let mut captures = self.captures.lock().unwrap_or_else(PoisonError::into_inner);
        for checkpoint in &case.checkpoints {
            if let Some(kept) = &checkpoint.capture {
                captures.extend(report::capture_line(&case.name, &checkpoint.name, kept));
            }
        }
    }

    fn text(&self, report: &RunReport) -> String {
        let case = report.cases.first();
        written(|out| case.map_or(Ok(()), |case| report::case_counted(report, case, None, self.style, out)))
    }

    fn error(&self, error: &Error) -> String {
        written(|out| report::error(error.problem(), self.style, out))
    }
}

/// Where a harness test leaves its captures: `<results>l`, as the file holds JSON lines.
#[must_use]
pub fn captures_beside(results: &Path) -> PathBuf {
    let mut path = results.to_path_buf();
    path.as_mut_os_string().push("l");
    path
}

/// The file, or an empty one where there is none and none is needed; and the workspace around it.
fn source(start: &Path, needed: bool) -> Result<(Source, Option<Workspace>)> {
    if let Some(source) = config::locate(start)? {
        let workspace = build::discover(&source.root)?;
        return Ok((source, workspace));
    }
    if needed {
        return Err(Error::config(format!("no memcheck.toml in {} or above", start.display()))
            .detail("Suite::of_file() needs one; Suite::new() does without"));
    }
    let workspace = build::discover(start)?;
    let root = workspace
        .as_ref()
        .map_or_else(|| start.to_path_buf(), |workspace| workspace.root.clone());
    let source = Source {
        path: root.join("memcheck.toml"),
        text: String::new(),
        root,
    };
    Ok((source, workspace))
}

/// What the suite says, with places relative to the root.
fn lines(suite: &Suite, root: &Path) -> Vec<BuiltLine> {
    let lines = suite.cases.iter().flat_map(super::Case::lines).cloned();
    lines
        .map(|mut line| {
            if let Ok(relative) = Path::new(&line.place.file).strip_prefix(root) {
                line.place.file = relative.display().to_string();
            }
            line
        })
        .collect()
}

/// Checks must speak of checkpoints that there are, and the second of a change comes after the first.
fn check_names(plan: &Plan, built: &BTreeMap<String, Built>) -> Result<()> {
    for case in &plan.cases {
        for check in built.get(&case.name).map(|built| built.checks.as_slice()).unwrap_or_default() {
            let mut last = None;
            for name in check.checkpoints() {
                let index = case.checkpoints.iter().position(|checkpoint| checkpoint.name == name);
                let problem = match index {
                    None => "there is no checkpoint",
                    Some(_) if index <= last => "a change ends at a later checkpoint than it begins: not at",
                    Some(_) => {
                        last = index;
                        continue;
                    }
                };
                let names: Vec<&str> = case.checkpoints.iter().map(|checkpoint| checkpoint.name.as_str()).collect();
                return Err(Error::config(format!("{}: {problem} `{name}`", check.place)).detail(format!(
                    "case {} has {}, in this order",
                    case.name,
                    names.join(", ")
                )));
            }
        }
    }
    Ok(())
}

fn is_limited_by_unit(case: &Case) -> bool {
    let mut limits = case.checkpoints.iter().flat_map(|spec| spec.limits.values());
    limits.any(|limit| limit.per_unit.is_some() || limit.constant.is_some())
}

/// One binary for each compiler.
fn compilers(binaries: &Binaries) -> Vec<&Binary> {
    let mut seen = BTreeSet::new();
    let built = binaries.values().flatten();
    built
        .filter(|binary| binary.toolchain.is_some() && seen.insert(binary.toolchain.as_deref()))
        .collect()
}

fn written(write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    // Writing to memory does not fail.
    let _ = write(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Tells something beside the results. A closed standard error is no reason to fail a case.
fn say(write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) {
    let _ = write(&mut io::stderr().lock());
}
