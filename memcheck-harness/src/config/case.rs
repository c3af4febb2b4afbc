//! `[[case]]`: one case as written, and what it means with the defaults, the workspace and the command line.
//! Owns the case's own keys and the rule which package a case belongs to.

use std::path::Path;
use std::time::Duration;

use crate::model::{
    AfterLast, Alone, Case, CheckpointSpec, Children, ExpectedEnd, MIN_RUNS, MatrixRun, Package, Profile, Stdin, StepSpec,
    Workspace,
};

use super::Overrides;
use super::budget::{self, Budget};
use super::checkpoint;
use super::cursor::{Form, Spot, Table, Value};
use super::diagnostic::{Diagnostic, Document, Span, quote};
use super::elf;
use super::environment;
use super::matrix::{self, Matrix};
use super::name;
use super::policy;
use super::settings::{self, Settings};
use super::signal;
use super::snapshot;
use super::step;
use super::suggest::{self, listed};
use super::target::{self, CargoContext, TargetForm};

const KEYS: [&str; 18] = [
    "name",
    "package",
    "target",
    "args",
    "exit",
    "cwd",
    "stdin",
    "children",
    "features",
    "checkpoint",
    "step",
    "tty",
    "serial",
    "group",
    "tree",
    "detach",
    "matrix",
    "environment",
];

/// How long a case may take when nobody says.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// More checkpoints in one case are a mistake.
const MAX_CHECKPOINTS: usize = 1000;

/// A case as written.
#[derive(Clone, Debug)]
pub(super) struct Written {
    span: Span,
    pub(super) name: Spot<String>,
    package: Option<Spot<String>>,
    target: Spot<TargetForm>,
    pub(super) args: Vec<String>,
    exit: Option<ExpectedEnd>,
    cwd: Option<String>,
    stdin: Option<String>,
    children: Option<Spot<Children>>,
    tree: bool,
    /// `true`
    detach: Option<Span>,
    features: Option<Spot<Vec<Spot<String>>>>,
    pub(super) settings: Settings,
    /// `environment.NAME.budget`
    environments: environment::Budgets,
    pub(super) checkpoints: Vec<checkpoint::Written>,
    steps: Vec<step::Written>,
    tty: bool,
    alone: Alone,
    /// Several runs, until they are told apart.
    pub(super) matrix: Option<Matrix>,
    /// One of them.
    pub(super) run: Option<MatrixRun>,
}

impl Written {
    /// True when one of its checkpoints is passed many times.
    pub(super) fn has_series(&self) -> bool {
        self.checkpoints.iter().any(|checkpoint| checkpoint.every.is_some())
    }

    /// True when it is one of several runs with a number each, enough to draw a line through.
    pub(super) fn is_scaled(&self) -> bool {
        self.run
            .as_ref()
            .is_some_and(|run| run.number.is_some() && run.of >= MIN_RUNS)
    }

    /// The names of its checkpoints, in order.
    pub(super) fn names(&self) -> Vec<&str> {
        self.checkpoints
            .iter()
            .map(|checkpoint| checkpoint.name.value.as_str())
            .collect()
    }
}

/// What the meaning of every case depends on.
pub(super) struct Context<'a> {
    pub(super) doc: &'a Document<'a>,
    pub(super) root: &'a Path,
    pub(super) workspace: Option<&'a Workspace>,
    pub(super) overrides: &'a Overrides,
    pub(super) defaults: &'a Settings,
    pub(super) policies: &'a [policy::Written],
    /// The names of all environments of the file, and the one that holds here.
    pub(super) environments: &'a [&'a str],
    pub(super) environment: Option<&'a environment::Written>,
}

impl Context<'_> {
    /// What is written at one level, the more specific first: for the environment that holds here, and for all.
    fn layers<'b>(&self, environments: &'b environment::Budgets, all: &'b Budget) -> Vec<&'b Budget> {
        let here = self
            .environment
            .and_then(|environment| environments.get(&environment.name.value))
            .map(|at| &at.budget);
        here.into_iter().chain([all]).collect()
    }
}

/// The levels above a checkpoint.
struct Levels<'a> {
    context: &'a Context<'a>,
    /// The case's own.
    case: Vec<&'a Budget>,
    /// The policies that it is meant by; of two the later one of the file comes first.
    policies: &'a [&'a policy::Written],
}

impl<'a> Levels<'a> {
    /// All of them, the more specific first, with the policies that hold there.
    fn of(&self, holds: &dyn Fn(&policy::Written) -> bool) -> Vec<&'a Budget> {
        let environment = self.context.environment;
        let name = environment.map(|environment| environment.name.value.as_str());
        let policies = self.policies.iter().filter(|policy| holds(policy));
        self.case
            .iter()
            .copied()
            .chain(policies.flat_map(|policy| policy.layers(name)))
            .chain(environment.map(|environment| &environment.budget))
            .chain([&self.context.defaults.budget])
            .collect()
    }
}

/// Reads one case. Absent when something was reported that leaves it without meaning.
pub(super) fn read(table: &Table<'_>) -> Option<Written> {
    let known: Vec<&str> = KEYS.into_iter().chain(settings::KEYS).collect();
    table.only(&known, &[]);
    let named = match table.get("name") {
        Some(value) => name::case(&value),
        None => {
            table.missing("name", "name = \"server\"");
            None
        }
    };
    let target = match table.get("target") {
        Some(value) => target::read(&value),
        None => {
            table.missing("target", "target = { bin = \"server\" }, or { c = \"main.c\" }");
            None
        }
    };
    let word = |key: &str, example: &str| {
        let value = table.get(key)?;
        value.word(example).map(|text| value.spot(text.to_owned()))
    };
    let args = table.get("args").map(|value| value.texts("[\"2\"]")).unwrap_or_default();
    let features = table.get("features").map(|value| value.spot(value.texts("[\"metrics\"]")));
    let children = table.get("children").and_then(|value| {
        let words = [
            ("ignore", Children::Ignore),
            ("follow", Children::Follow),
            ("capture", Children::Capture),
            ("detach", Children::Detach),
        ];
        value.choice(&words).map(|children| value.spot(children))
    });
    let checkpoints = checkpoints(table);
    let steps = step::read(table, checkpoints.as_deref().unwrap_or_default());
    let tty = table.get("tty").and_then(|value| value.flag());
    Some(Written {
        span: table.span.clone(),
        name: named?,
        package: word("package", "\"server\""),
        target: target?,
        args: args.into_iter().map(|arg| arg.value).collect(),
        exit: table.get("exit").and_then(|value| exit(&value)),
        cwd: word("cwd", "\"tests/data\"").map(|cwd| cwd.value),
        stdin: word("stdin", "\"null\"").map(|stdin| stdin.value),
        children,
        tree: table.get("tree").and_then(|value| value.flag()).unwrap_or(false),
        detach: table.get("detach").and_then(|value| {
            let asked = detach(&value, checkpoints.as_deref())?;
            asked.then(|| value.spot(()).span)
        }),
        features,
        settings: settings::read(table),
        environments: environment::budgets(table, &["budget", "elf"]),
        checkpoints: checkpoints?,
        steps,
        tty: tty.unwrap_or(false),
        alone: alone(table),
        matrix: match table.get("matrix") {
            Some(value) => Some(matrix::read(&value)?),
            None => None,
        },
        run: None,
    })
}

/// `serial` and `group`.
fn alone(table: &Table<'_>) -> Alone {
    let serial = table.get("serial").and_then(|value| value.flag()).unwrap_or(false);
    let group = table.get("group");
    if let (true, Some(group)) = (serial, &group) {
        group.fail::<()>("`serial` and `group` are both given", "`serial` alone says more");
    }
    match group.and_then(|value| value.word("\"port\"").map(str::to_owned)) {
        _ if serial => Alone::Serial,
        Some(group) => Alone::Group(group),
        None => Alone::No,
    }
}

fn checkpoints(table: &Table<'_>) -> Option<Vec<checkpoint::Written>> {
    let Some(value) = table.get("checkpoint") else {
        table.missing("checkpoint", "[[case.checkpoint]] with name = \"done\" and at = \"exit\"");
        return None;
    };
    if let Form::Table = value.form() {
        return value.fail("`case.checkpoint` must be a list of tables", "write [[case.checkpoint]]");
    }
    let items = value.list("[[case.checkpoint]]")?;
    if items.is_empty() {
        return value.fail("the case has no checkpoint", "add [[case.checkpoint]]");
    }
    if items.len() > MAX_CHECKPOINTS {
        return value.fail(format!("more than {MAX_CHECKPOINTS} checkpoints in a case"), "");
    }
    let read: Vec<_> = items
        .iter()
        .map(|item| checkpoint::read(&item.table("[[case.checkpoint]]")?))
        .collect();
    // One that was refused leaves gaps that would only raise further complaints.
    let read: Option<Vec<_>> = read.into_iter().collect();
    let read = read?;
    checkpoint::check_order(table.doc, &read);
    Some(checkpoint::expand(table.doc, read))
}

/// `detach = true`: nothing of ours may be left that stops the target later.
fn detach(value: &Value<'_>, checkpoints: Option<&[checkpoint::Written]>) -> Option<bool> {
    let asked = value.flag()?;
    let at_exit = checkpoints
        .unwrap_or_default()
        .iter()
        .any(|checkpoint| checkpoint.at.value == crate::model::At::Exit);
    if asked && at_exit {
        return value.fail(
            "`detach` lets the target go before its end, where the checkpoint `exit` is",
            "remove one of them",
        );
    }
    Some(asked)
}

/// A filter of ours would stay in a process that is let go, and refuse calls to it: only a tracer answers it (seccomp(2),
/// `SECCOMP_RET_TRACE`).
fn has_no_filter(doc: &Document<'_>, case: &Case, (key, span): (&str, Span)) {
    let filtered = case.checkpoints.iter().find(|checkpoint| checkpoint.at.needs_filter());
    let what = match filtered {
        Some(checkpoint) => format!("checkpoint {} ({})", quote(&checkpoint.name), checkpoint.at),
        None if case.watch_stacks => "`watch = \"stacks\"`".to_owned(),
        None => return,
    };
    let title = format!("`{key}` lets a process go, and {what} needs a filter on system calls that would stay in it");
    doc.report(Diagnostic::at(span, title, "remove one of them"));
}

fn exit(value: &Value<'_>) -> Option<ExpectedEnd> {
    match value.form() {
        Form::Whole => match value.whole(0, 255)? {
            0 => Some(ExpectedEnd::Success),
            code => i32::try_from(code).ok().map(ExpectedEnd::Code),
        },
        Form::Text("any") => Some(ExpectedEnd::Any),
        Form::Text(text) => {
            let hint = suggest::did_you_mean(text, ["any"])
                .unwrap_or_else(|| "write a number, { signal = \"SIGSEGV\" } or \"any\"".to_owned());
            value.fail(format!("`exit` cannot be {}", quote(text)), hint)
        }
        Form::Table => {
            let table = value.table("exit")?;
            table.only(&["signal"], &[]);
            let Some(signal) = table.get("signal") else {
                table.missing("signal", "{ signal = \"SIGSEGV\" }");
                return None;
            };
            signal::read(&signal).map(ExpectedEnd::Signal)
        }
        _ => value.wrong("a number, { signal = \"SIGSEGV\" } or \"any\""),
    }
}

/// What a case means.
pub(super) fn resolve(context: &Context<'_>, written: Written) -> Option<Case> {
    let doc = context.doc;
    let names: Vec<String> = written.names().into_iter().map(str::to_owned).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    budget::check_growth(doc, &written.settings.budget, std::slice::from_ref(&names));
    budget::check_per_round(doc, &written.settings.budget, written.has_series());
    budget::check_per_unit(doc, &written.settings.budget, written.is_scaled());
    environment::check(doc, &written.environments, context.environments);
    for budget in written.environments.values().map(|at| &at.budget) {
        budget::check_growth(doc, budget, std::slice::from_ref(&names));
        budget::check_per_round(doc, budget, written.has_series());
        budget::check_per_unit(doc, budget, written.is_scaled());
    }
    for checkpoint in &written.checkpoints {
        environment::check(doc, &checkpoint.environments, context.environments);
    }
    let package = match &written.package {
        Some(package) => Some(target::package(doc, context.workspace, package)?),
        None => None,
    };
    // The target is watched from its start on: what a checkpoint asks for holds for its case.
    let watched = written.checkpoints.iter().any(|checkpoint| checkpoint.watch_stacks);
    let is_scaled = written.is_scaled();
    let budget = written.settings.budget.clone();
    let own_profile = written.settings.profile.clone();
    let settings = settings::merged(context.defaults, written.settings);
    let timeout = settings.timeout.unwrap_or(DEFAULT_TIMEOUT);
    checkpoint::check_settle(doc, &written.checkpoints, timeout);
    let place = doc.place(&written.span);
    let target_place = doc.place(&written.target.span);
    let (target, owner) = match written.target.value {
        TargetForm::Cargo(mut form) => {
            match (&form.features, written.features) {
                (Some(_), Some(features)) => {
                    let title = "`features` is given in the case and in its target";
                    doc.report(Diagnostic::at(features.span, title, "give it once"));
                    return None;
                }
                (None, Some(features)) => form.features = Some(features.value),
                _ => {}
            }
            let profile = match &context.overrides.profile {
                Some(name) => settings::profile(name),
                None => settings
                    .profile
                    .map_or_else(|| Profile::Named("release".to_owned()), |profile| profile.value),
            };
            let cargo = CargoContext {
                workspace: context.workspace,
                package: package.map(|package| package.name.as_str()),
                profile,
                triple: context.overrides.triple.clone(),
                cargo_args: &context.overrides.cargo_args,
            };
            let (target, found) = target::resolve(doc, form, cargo)?;
            (target, Some(found))
        }
        TargetForm::Other(target) => {
            let useless = [
                ("features", written.features.map(|features| features.span)),
                ("profile", own_profile.map(|profile| profile.span)),
            ];
            for (key, span) in useless {
                if let Some(span) = span {
                    let title = format!("`{key}` has no meaning here: the target is not cargo's");
                    doc.report(Diagnostic::at(span, title, "remove it"));
                }
            }
            (target, None)
        }
    };
    let owner = owner_of(context, &written.span, package.or(owner))?;
    let package_dir = owner.map_or_else(|| context.root.to_path_buf(), |package| package.dir.clone());
    let matrix = written.run.as_ref().map(|run| run.case.as_str());
    let policies: Vec<&policy::Written> = context
        .policies
        .iter()
        .rev()
        .filter(|policy| policy.is_of(owner.map(|package| package.name.as_str()), &written.name.value, matrix))
        .collect();
    let levels = Levels {
        context,
        case: context.layers(&written.environments, &budget),
        policies: &policies,
    };
    let limits: Vec<_> = written
        .checkpoints
        .iter()
        .enumerate()
        .map(|(i, checkpoint)| {
            let mut layers = context.layers(&checkpoint.environments, &checkpoint.budget);
            let own = layers.len();
            let every = checkpoint.every.as_ref();
            let series = every.map(|every| every.series.as_str());
            layers.extend(levels.of(&|policy| policy.is_at(&checkpoint.name.value, series)));
            budget::effective(doc, (&layers, own), &names, i, every.map(|every| every.number), is_scaled)
        })
        .collect();
    let none = Budget::default();
    let mut layers = vec![&none];
    layers.extend(levels.of(&policy::Written::is_everywhere));
    let child_limits = budget::effective(doc, (&layers, 1), &names, 0, None, is_scaled);
    let checkpoints = written
        .checkpoints
        .into_iter()
        .zip(limits)
        .map(|(checkpoint, limits)| CheckpointSpec {
            child: checkpoint.process(),
            name: checkpoint.name.value,
            place: doc.place(&checkpoint.span),
            at: checkpoint.at.value,
            hit: checkpoint.hit.value,
            in_turn: checkpoint.in_turn,
            hardware: checkpoint.hardware,
            every: checkpoint.every,
            settle: checkpoint.settle.map(|settle| settle.value),
            snapshot: checkpoint.snapshot,
            limits,
        });
    let mut case = Case::new(written.name.value, package_dir, target);
    case.package = owner.map(|package| package.name.clone());
    case.place = place;
    case.target_place = target_place;
    case.args = written.args;
    case.env = settings.env;
    case.limits = settings.limits;
    case.cpus = settings.cpus;
    let here = context.environment.map(|environment| environment.name.value.as_str());
    let own = here.and_then(|name| written.environments.get(name));
    let own = own.iter().flat_map(|at| &at.elf).cloned().chain(settings.elf).collect();
    let rules = policies.iter().flat_map(|policy| policy.rules(here));
    let of_environment = context.environment.iter().flat_map(|environment| &environment.elf);
    case.elf = elf::merged(own, rules.chain(of_environment).chain(&context.defaults.elf));
    case.cwd = written
        .cwd
        .map_or_else(|| case.package_dir.clone(), |cwd| context.root.join(cwd));
    case.stdin = match written.stdin.as_deref() {
        None | Some("null") => Stdin::Null,
        Some(file) => Stdin::File(case.package_dir.join(file)),
    };
    case.exit = written.exit;
    case.tree = written.tree;
    case.detach = written.detach.is_some();
    case.timeout = timeout;
    case.after_last = settings.after_last.unwrap_or(AfterLast::Kill);
    case.watch_stacks = watched || settings.watch_stacks.unwrap_or(false);
    case.as_is = settings.as_is.unwrap_or(false) || context.overrides.as_is;
    case.cooperative = settings.cooperative.unwrap_or(false) || context.overrides.cooperative;
    case.checkpoints = checkpoints.collect();
    let go = written
        .children
        .as_ref()
        .filter(|children| children.value == Children::Detach);
    let go = go.map(|children| ("children", children.span.clone()));
    for go in go.into_iter().chain(written.detach.map(|span| ("detach", span))) {
        has_no_filter(doc, &case, go);
    }
    case.children = children(doc, written.children, &case);
    case.child_limits = child_limits;
    step::check_last(doc, &case, &written.steps);
    case.steps = written
        .steps
        .into_iter()
        .map(|step| StepSpec {
            place: doc.place(&step.span),
            after: step.after.value,
            run: step.run,
        })
        .collect();
    case.tty = written.tty;
    case.alone = written.alone;
    case.run = written.run;
    case.snapshot = snapshot::options(settings.snapshot);
    case.environment = context.environment.map(|environment| environment.name.value.clone());
    Some(case)
}

/// What happens to children: as written, else they are followed where a checkpoint is in one.
fn children(doc: &Document<'_>, written: Option<Spot<Children>>, case: &Case) -> Children {
    let within = case.checkpoints.iter().find(|checkpoint| checkpoint.child.is_some());
    match (written, within) {
        (Some(written), Some(checkpoint)) if matches!(written.value, Children::Ignore | Children::Detach) => {
            let are = if written.value == Children::Ignore {
                "ignored"
            } else {
                "let go"
            };
            let title = format!("checkpoint {} is in a child, but children are {are}", quote(&checkpoint.name));
            doc.report(Diagnostic::at(written.span, title, "write \"follow\" or \"capture\""));
            written.value
        }
        (Some(written), None) if written.value == Children::Detach && case.is_summed() => {
            let title = "children that are let go cannot be summed up, as `tree = true` or a limit on tree.* asks for";
            doc.report(Diagnostic::at(written.span, title, "remove one of them"));
            written.value
        }
        (Some(written), _) => written.value,
        (None, Some(_)) => Children::Follow,
        (None, None) => Children::Ignore,
    }
}

/// `package =`, else the target's, else the root package; `Some(None)` outside cargo. In a virtual workspace it must be said.
fn owner_of<'w>(context: &Context<'w>, span: &Span, known: Option<&'w Package>) -> Option<Option<&'w Package>> {
    let Some(workspace) = context.workspace else {
        return Some(None);
    };
    let root = || {
        let name = workspace.root_package.as_ref()?;
        workspace.packages.iter().find(|package| package.name == *name)
    };
    if let Some(package) = known.or_else(root) {
        return Some(Some(package));
    }
    let names = listed(workspace.packages.iter().map(|package| package.name.as_str()));
    let title = "the case belongs to no package: its snapshots need a place";
    let example = workspace.packages.first().map_or("…", |package| package.name.as_str());
    let diagnostic = Diagnostic::at(span.clone(), title, format!("add package = \"{example}\""));
    context.doc.report(diagnostic.help(format!("packages are {names}")));
    None
}
