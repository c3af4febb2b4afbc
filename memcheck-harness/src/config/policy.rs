//! `[[policy]]`: limits of all cases of a package, or whose names fit a pattern. Owns its keys and which cases it is of; a policy
//! that is of none is a mistake.

use crate::model::{Case, CaseReport, CheckpointSpec, ElfRule, UnmetPolicy, Workspace};

use super::budget::{self, Budget};
use super::cursor::{Form, Spot, Table, Value};
use super::diagnostic::{Diagnostic, Document, Span, quote};
use super::suggest::{self, listed};
use super::{elf, environment, own};

const KEYS: [&str; 6] = ["package", "case", "checkpoint", "budget", "elf", "environment"];

/// A policy as written.
#[derive(Clone, Debug)]
pub(super) struct Written {
    span: Span,
    packages: Option<Patterns>,
    cases: Option<Patterns>,
    checkpoints: Option<Patterns>,
    budget: Budget,
    /// `environment.NAME.budget`
    environments: environment::Budgets,
    elf: Vec<ElfRule>,
}

type Patterns = Spot<Vec<String>>;

/// Reads all policies of the file, in its order.
pub(super) fn read(root: &Table<'_>) -> Vec<Written> {
    let Some(value) = root.get("policy") else { return Vec::new() };
    if let Form::Table = value.form() {
        value.fail::<()>("`policy` must be a list of tables", "write [[policy]]");
        return Vec::new();
    }
    let items = value.list("[[policy]]").unwrap_or_default();
    items.iter().filter_map(policy).collect()
}

fn policy(value: &Value<'_>) -> Option<Written> {
    let table = value.table("[[policy]]")?;
    table.only(&KEYS, &[]);
    let patterns_of = |key: &str| match table.get(key) {
        Some(value) => patterns(&value).map(Some),
        None => Some(None),
    };
    let (packages, cases, checkpoints) = (patterns_of("package"), patterns_of("case"), patterns_of("checkpoint"));
    let written = Written {
        span: table.span.clone(),
        packages: packages?,
        cases: cases?,
        checkpoints: checkpoints?,
        budget: table.get("budget").map(|value| budget::read(&value)).unwrap_or_default(),
        environments: environment::budgets(&table, &["budget", "elf"]),
        elf: table.get("elf").map(|value| elf::read(&value)).unwrap_or_default(),
    };
    let report = |title: &str, label: &str| table.doc.report(Diagnostic::at(table.span.clone(), title, label));
    if written.packages.is_none() && written.cases.is_none() && written.checkpoints.is_none() {
        report(
            "the policy does not say of what it is",
            "add package = \"server\", case = \"load.*\" or checkpoint = \"idle\"; what holds for all stands in [defaults]",
        );
    }
    if !["budget", "elf", "environment"].iter().any(|key| table.get(key).is_some()) {
        report("the policy has no limit", "add for example budget.own.anon = \"16 MiB\"");
    }
    let demands = !written.elf.is_empty() || written.environments.values().any(|at| !at.elf.is_empty());
    if let (Some(checkpoints), true) = (&written.checkpoints, demands) {
        let title = "headers are those of a whole case, not of a checkpoint";
        let label = "write `elf` in a policy without `checkpoint`";
        table.doc.report(Diagnostic::at(checkpoints.span.clone(), title, label));
    }
    Some(written)
}

/// A pattern or a list of them.
fn patterns(value: &Value<'_>) -> Option<Patterns> {
    let texts = match value.form() {
        Form::Text(_) => vec![value.word("\"load.*\"")?.to_owned()],
        _ => value.texts("[\"load.*\"]").into_iter().map(|text| text.value).collect(),
    };
    if texts.is_empty() {
        return value.fail(format!("{} names nothing", quote(value.key)), "write for example \"load.*\"");
    }
    for text in &texts {
        if let Some(why) = own::mistake(text) {
            return value.fail(format!("{} is no pattern: {why}", quote(text)), "`*` stands for anything");
        }
    }
    Some(value.spot(texts))
}

fn fits<'a>(patterns: Option<&Patterns>, names: impl IntoIterator<Item = &'a str>) -> bool {
    let Some(patterns) = patterns else { return true };
    names
        .into_iter()
        .any(|name| patterns.value.iter().any(|pattern| own::fits(pattern, name)))
}

impl Written {
    /// True for the cases that it is of: by package, and by the name of the case or of that whose matrix it is a run of.
    pub(super) fn is_of(&self, package: Option<&str>, case: &str, matrix: Option<&str>) -> bool {
        fits(self.packages.as_ref(), package) && fits(self.cases.as_ref(), [case].into_iter().chain(matrix))
    }

    /// True for the checkpoints that it is of: by their name, or that of their series.
    pub(super) fn is_at(&self, checkpoint: &str, series: Option<&str>) -> bool {
        fits(self.checkpoints.as_ref(), [checkpoint].into_iter().chain(series))
    }

    /// True where it holds at every checkpoint: also at the ends of children.
    pub(super) fn is_everywhere(&self) -> bool {
        self.checkpoints.is_none()
    }

    /// What it demands of headers, the more specific first.
    pub(super) fn rules(&self, environment: Option<&str>) -> impl Iterator<Item = &ElfRule> {
        let here = environment.and_then(|name| self.environments.get(name)).map(|at| &at.elf);
        here.into_iter().flatten().chain(&self.elf)
    }

    /// What it says, the more specific first.
    pub(super) fn layers(&self, environment: Option<&str>) -> impl Iterator<Item = &Budget> {
        let here = environment.and_then(|name| self.environments.get(name)).map(|at| &at.budget);
        here.into_iter().chain([&self.budget])
    }

    fn is_of_spec(&self, spec: &CheckpointSpec) -> bool {
        fits(self.checkpoints.as_ref(), spec_names(spec))
    }

    fn is_of_case(&self, case: &Case) -> bool {
        fits(self.packages.as_ref(), case.package.as_deref()) && fits(self.cases.as_ref(), names(case))
    }
}

/// A case has its own name, and that of the case whose matrix it is a run of.
fn names(case: &Case) -> impl Iterator<Item = &str> {
    let matrix = case.run.as_ref().map(|run| run.case.as_str());
    [case.name.as_str()].into_iter().chain(matrix)
}

/// A checkpoint has its own name, and that of its series.
fn spec_names(spec: &CheckpointSpec) -> impl Iterator<Item = &str> {
    let series = spec.every.as_ref().map(|every| every.series.as_str());
    [spec.name.as_str()].into_iter().chain(series)
}

/// Reports policies that are of nothing, one pattern of them or all, and limits that could never hold. `cases` are all of the
/// file. Where tests build cases in Rust, a policy may be of those: what means nothing here is returned.
pub(super) fn check(
    doc: &Document<'_>,
    policies: &[Written],
    cases: &[Case],
    workspace: Option<&Workspace>,
    environments: &[&str],
    may_be_elsewhere: bool,
) -> Vec<UnmetPolicy> {
    let mut unmet = Vec::new();
    for policy in policies {
        environment::check(doc, &policy.environments, environments);
        if !packages_exist(doc, policy, workspace) {
            continue;
        }
        let of: Vec<&Case> = cases.iter().filter(|case| policy.is_of_case(case)).collect();
        let nothing = unmet_patterns(doc, policy, cases, &of);
        if !may_be_elsewhere && let Some((span, one)) = nothing.first() {
            let means = one.pattern.as_ref().map_or_else(
                || "is meant by this policy".to_owned(),
                |pattern| format!("is meant by {} in this policy", quote(pattern)),
            );
            let (what, label) = if one.checkpoints.is_empty() {
                ("case", hint(policy, &one.cases, cases))
            } else {
                let names = of.iter().flat_map(|case| &case.checkpoints).map(|spec| spec.name.as_str());
                ("checkpoint", format!("checkpoints of its cases are {}", listed(names)))
            };
            doc.report(Diagnostic::at(span.clone(), format!("no {what} {means}"), label));
            continue;
        }
        unmet.extend(nothing.into_iter().map(|(_, one)| one));
        let specs = || {
            of.iter()
                .flat_map(|case| &case.checkpoints)
                .filter(|spec| policy.is_of_spec(spec))
        };
        // What holds nowhere in the file holds elsewhere if at all.
        if of.is_empty() || policy.checkpoints.is_some() && specs().next().is_none() {
            continue;
        }
        let names: Vec<Vec<&str>> = of
            .iter()
            .map(|case| case.checkpoints.iter().map(|spec| spec.name.as_str()).collect())
            .collect();
        let has_series = specs().any(|spec| spec.every.is_some());
        let is_scaled = of.iter().any(|case| is_scaled(case));
        for budget in std::iter::once(&policy.budget).chain(policy.environments.values().map(|at| &at.budget)) {
            budget::check_growth(doc, budget, &names);
            budget::check_per_round(doc, budget, has_series);
            budget::check_per_unit(doc, budget, is_scaled);
        }
    }
    unmet
}

/// Each pattern of a policy that means nothing in the file, and where it stands. `of` are the cases it is of.
fn unmet_patterns(doc: &Document<'_>, policy: &Written, cases: &[Case], of: &[&Case]) -> Vec<(Span, UnmetPolicy)> {
    let all = |patterns: Option<&Patterns>| patterns.map(|patterns| patterns.value.clone()).unwrap_or_default();
    let whole = UnmetPolicy {
        packages: all(policy.packages.as_ref()),
        cases: all(policy.cases.as_ref()),
        checkpoints: Vec::new(),
        pattern: None,
        place: doc.place(&policy.span),
    };
    let one_of = |patterns: &Patterns, pattern: &String| (patterns.value.len() > 1).then(|| pattern.clone());
    let mut found = Vec::new();
    if let Some(patterns) = &policy.cases {
        for pattern in &patterns.value {
            let is_met = cases.iter().any(|case| {
                fits(policy.packages.as_ref(), case.package.as_deref()) && names(case).any(|name| own::fits(pattern, name))
            });
            if !is_met {
                let one = UnmetPolicy {
                    cases: vec![pattern.clone()],
                    pattern: one_of(patterns, pattern),
                    ..whole.clone()
                };
                found.push((patterns.span.clone(), one));
            }
        }
    } else if of.is_empty() {
        let span = policy.packages.as_ref().map_or(&policy.span, |spot| &spot.span);
        found.push((span.clone(), whole.clone()));
    }
    if let Some(patterns) = &policy.checkpoints {
        for pattern in &patterns.value {
            let mut specs = of.iter().flat_map(|case| &case.checkpoints);
            if !specs.any(|spec| spec_names(spec).any(|name| own::fits(pattern, name))) {
                let one = UnmetPolicy {
                    checkpoints: vec![pattern.clone()],
                    pattern: one_of(patterns, pattern),
                    ..whole.clone()
                };
                found.push((patterns.span.clone(), one));
            }
        }
    }
    found
}

/// What is to be said of policies that mean none of the cases of a whole run, or none of their checkpoints. Of a case that did
/// not come to all its checkpoints, or of a test without results, nobody knows what there is.
#[must_use]
pub fn unmet_policies(unmet: &[UnmetPolicy], cases: &[CaseReport]) -> Vec<String> {
    if cases.iter().any(|case| case.is_part) {
        return Vec::new();
    }
    let any = |patterns: &[String], name: &str| patterns.iter().any(|pattern| own::fits(pattern, name));
    // A run of a matrix is called `case.run`, a round of a series `series.round`.
    let by_start = |patterns: &[String], name: &str| {
        let ends = name.match_indices('.').map(|(at, _)| at).chain([name.len()]);
        ends.filter_map(|end| name.get(..end)).any(|name| any(patterns, name))
    };
    let is_of = |policy: &UnmetPolicy, case: &CaseReport| {
        (policy.packages.is_empty() || case.package.as_deref().is_some_and(|package| any(&policy.packages, package)))
            && (policy.cases.is_empty() || by_start(&policy.cases, &case.name))
    };
    let has = |policy: &UnmetPolicy, case: &CaseReport| {
        case.problem.is_some()
            || case.checkpoints.len() < case.checkpoints_planned
            || case.checkpoints.iter().any(|stop| by_start(&policy.checkpoints, &stop.name))
            || case.series.iter().any(|series| any(&policy.checkpoints, &series.name))
    };
    let said = unmet.iter().filter_map(|policy| {
        let mut of = cases.iter().filter(|case| is_of(policy, case)).peekable();
        let what = match (policy.checkpoints.is_empty(), of.peek().is_some()) {
            (true, false) => "case",
            (false, true) if !of.any(|case| has(policy, case)) => "checkpoint",
            // That there is no such case is said of its own pattern.
            _ => return None,
        };
        let which = policy
            .pattern
            .as_ref()
            .map_or_else(String::new, |pattern| format!("{} in ", quote(pattern)));
        Some(format!(
            "no {what} is meant by {which}the policy at {}: neither one of the file nor one that a test builds",
            policy.place
        ))
    });
    said.collect()
}

fn is_scaled(case: &Case) -> bool {
    let run = case.run.as_ref();
    run.is_some_and(|run| run.number.is_some() && run.of >= crate::model::MIN_RUNS)
}

/// A package without a pattern must be one.
fn packages_exist(doc: &Document<'_>, policy: &Written, workspace: Option<&Workspace>) -> bool {
    let Some(packages) = &policy.packages else { return true };
    let report = |title: String, label: String| doc.report(Diagnostic::at(packages.span.clone(), title, label));
    let Some(workspace) = workspace else {
        report(
            "there are no packages: this is no cargo workspace".to_owned(),
            "remove `package`".to_owned(),
        );
        return false;
    };
    let names = || workspace.packages.iter().map(|package| package.name.as_str());
    let unknown = packages
        .value
        .iter()
        .find(|pattern| !names().any(|name| own::fits(pattern, name)));
    if let Some(unknown) = unknown {
        let hint = suggest::did_you_mean(unknown, names()).unwrap_or_else(|| format!("packages are {}", listed(names())));
        report(format!("the workspace has no package {}", quote(unknown)), hint);
    }
    unknown.is_none()
}

fn hint(policy: &Written, wanted: &[String], cases: &[Case]) -> String {
    let is_wanted = |case: &&Case| wanted.iter().any(|pattern| own::fits(pattern, &case.name));
    let so_called = cases.iter().find(|case| policy.cases.is_some() && is_wanted(case));
    if let Some((case, package)) = so_called.and_then(|case| Some((case, case.package.as_ref()?))) {
        return format!("case {} is of package {package}", case.name);
    }
    let names = || cases.iter().map(|case| case.name.as_str());
    let close = wanted
        .iter()
        .filter_map(|pattern| suggest::did_you_mean(pattern, names()))
        .next();
    close.unwrap_or_else(|| format!("cases are {}", listed(names())))
}
