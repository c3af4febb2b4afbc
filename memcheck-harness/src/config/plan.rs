//! The text of `memcheck.toml` → `Plan`: read, understood with workspace and command line, then selected.
//! Owns the top level of the file and the selection; each part of a case has a file of its own.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::model::{Case, Defaults, Plan, Workspace};

use super::case::{self, Context};
use super::cursor::{self, Form, Spot, Table};
use super::diagnostic::{Diagnostic, Document, Span, quote};
use super::locate::{self, FILE};
use super::settings::{self, Settings};
use super::suggest::{self, listed};
use super::{BuiltLine, Overrides, Source, added, budget, environment, matrix, own, partition, policy, record, waiver};

/// More cases in one file are a mistake.
const MAX_CASES: usize = 5000;

/// A whole file as written.
struct Written {
    own: Vec<String>,
    defaults: Settings,
    environments: Vec<environment::Written>,
    policies: Vec<policy::Written>,
    cases: Vec<case::Written>,
    waivers: Vec<waiver::Written>,
}

/// See [`super::plan_with`].
pub(super) fn plan(
    source: &Source,
    built: &[BuiltLine],
    workspace: Option<&Workspace>,
    overrides: &Overrides,
    page_bytes: u64,
) -> Result<Plan> {
    if source.text.len() as u64 > locate::MAX_BYTES {
        return Err(locate::too_large(&source.path));
    }
    let root = root(source, workspace)?;
    let file = source
        .path
        .strip_prefix(&source.root)
        .unwrap_or(Path::new(FILE))
        .to_path_buf();
    let text = with_built(&source.text, built);
    let shown = file.display().to_string();
    let doc = Document::new(shown.clone(), &text, page_bytes).built(built.iter().map(|line| line.place.clone()).collect());
    // What depends on several places is looked at only when each place is right by itself.
    let written = read(&doc);
    doc.check()?;
    let defaults = written.defaults;
    let names: Vec<Vec<&str>> = written.cases.iter().map(case::Written::names).collect();
    budget::check_growth(&doc, &defaults.budget, &names);
    let has_series = written.cases.iter().any(case::Written::has_series);
    budget::check_per_round(&doc, &defaults.budget, has_series);
    budget::check_per_unit(&doc, &defaults.budget, written.cases.iter().any(case::Written::is_scaled));
    for environment in &written.environments {
        budget::check_growth(&doc, &environment.budget, &names);
        budget::check_per_round(&doc, &environment.budget, has_series);
        budget::check_per_unit(&doc, &environment.budget, written.cases.iter().any(case::Written::is_scaled));
    }
    let environment = environment::chosen(
        &written.environments,
        (overrides.environment.as_deref(), overrides.environment_may_lack),
        &overrides.here,
    )?;
    let environment_names: Vec<&str> = written.environments.iter().map(|one| one.name.value.as_str()).collect();
    let context = Context {
        doc: &doc,
        root,
        workspace,
        overrides,
        defaults: &defaults,
        policies: &written.policies,
        environments: &environment_names,
        environment,
    };
    let mut cases: Vec<Case> = written
        .cases
        .into_iter()
        .filter_map(|written| case::resolve(&context, written))
        .collect();
    doc.check()?;
    let harness_tests = || {
        workspace
            .iter()
            .flat_map(|workspace| &workspace.packages)
            .flat_map(|package| &package.harness_tests)
    };
    let may_be_elsewhere = !built.is_empty() || harness_tests().next().is_some();
    let unmet = policy::check(
        &doc,
        &written.policies,
        &cases,
        workspace,
        &environment_names,
        may_be_elsewhere,
    );
    if !may_be_elsewhere {
        waiver::check(&doc, &written.waivers, cases.iter().map(|case| case.name.as_str()));
    }
    doc.check()?;
    added::add(&overrides.budgets, &mut cases, page_bytes)?;
    let cases_in_file = cases.len();
    let target_dir = workspace.map_or_else(|| root.join("target"), |workspace| workspace.target_dir.clone());
    // The environment of record lies where the file alone puts it, whether or not cases are built in Rust as well.
    let mut cases_of = cases_by_directory(cases.iter().filter(|case| case.place.file == shown));
    if cases_of.is_empty() {
        cases_of = cases_by_directory(cases.iter());
    }
    select(&mut cases, workspace, overrides)?;
    let partition = partition::deal(&mut cases, overrides.partition.as_ref());
    Ok(Plan {
        root: root.to_path_buf(),
        file,
        is_cargo: workspace.is_some(),
        data_dir: target_dir.join("memcheck-data"),
        defaults: Defaults {
            own: written.own,
            cargo_args: overrides.cargo_args.clone(),
            environment_dir: environment_dir(root, workspace, &cases_of, &environment_names)?,
            waivers: written.waivers.into_iter().map(|waiver| waiver.value).collect(),
            unmet,
            environment: environment.map(|environment| environment.name.value.clone()),
            environments: environment_names.into_iter().map(str::to_owned).collect(),
        },
        cases,
        cases_in_file,
        partition,
    })
}

/// The keys that each kind of table in a text may have.
pub(super) fn tables(text: &str) -> BTreeMap<&'static str, BTreeSet<String>> {
    let doc = Document::new(FILE.to_owned(), text, 4096);
    let _ = read(&doc);
    doc.known()
}

/// The text of the file, then the lines built in Rust, each on a line of its own.
fn with_built<'a>(text: &'a str, built: &[BuiltLine]) -> Cow<'a, str> {
    if built.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut all = text.to_owned();
    if !all.is_empty() && !all.ends_with('\n') {
        all.push('\n');
    }
    for line in built {
        all.push_str(&line.text);
        all.push('\n');
    }
    Cow::Owned(all)
}

/// How many cases each package directory has, before the selection.
fn cases_by_directory<'a>(cases: impl Iterator<Item = &'a Case>) -> BTreeMap<PathBuf, usize> {
    let mut count = BTreeMap::new();
    for case in cases {
        *count.entry(case.package_dir.clone()).or_default() += 1;
    }
    count
}

/// Where the environment of record lies, whatever is selected: where it is already; else in the root package (or, without
/// cargo, the root); in a virtual workspace, where cargo-insta looks into packages only, in the package with most cases, the
/// first by path among equals.
fn environment_dir(
    root: &Path,
    workspace: Option<&Workspace>,
    cases: &BTreeMap<PathBuf, usize>,
    names: &[&str],
) -> Result<Option<PathBuf>> {
    let packages = || {
        workspace
            .iter()
            .flat_map(|workspace| &workspace.packages)
            .map(|package| package.dir.as_path())
    };
    let preferred = if workspace.is_none_or(|workspace| workspace.root_package.is_some()) {
        Some(root)
    } else {
        let most = cases.values().max();
        let first = cases.iter().find(|(_, count)| Some(*count) == most);
        first.map(|(dir, _)| dir.as_path()).or_else(|| packages().next())
    };
    preferred
        .map(|preferred| record::directory(packages(), preferred, names))
        .transpose()
}

/// The workspace's root, which must be the directory of `memcheck.toml` too: otherwise its paths could mean two things.
fn root<'a>(source: &'a Source, workspace: Option<&'a Workspace>) -> Result<&'a Path> {
    let Some(workspace) = workspace else { return Ok(&source.root) };
    let same = workspace.root == source.root
        || matches!((workspace.root.canonicalize(), source.root.canonicalize()), (Ok(a), Ok(b)) if a == b);
    if same {
        return Ok(&workspace.root);
    }
    Err(
        Error::config(format!("{} is not at the root of the cargo workspace", source.path.display()))
            .detail(format!("  help: move it to {}", workspace.root.join(FILE).display())),
    )
}

fn read(doc: &Document<'_>) -> Written {
    let mut written = Written {
        own: Vec::new(),
        defaults: Settings::default(),
        environments: Vec::new(),
        policies: Vec::new(),
        cases: Vec::new(),
        waivers: Vec::new(),
    };
    let Some(tree) = cursor::parse(doc.text(), doc) else {
        return written;
    };
    let table = Table::root(doc, &tree);
    table.only(&["defaults", "environment", "policy", "case", "waiver"], &[]);
    written.environments = environment::read(&table);
    written.policies = policy::read(&table);
    if let Some(defaults) = table.get("defaults").and_then(|value| value.table("[defaults]")) {
        let known: Vec<&str> = settings::KEYS.into_iter().chain(["own"]).collect();
        defaults.only(&known, &[]);
        written.defaults = settings::read(&defaults);
        for pattern in defaults
            .get("own")
            .map(|value| value.texts("[\"/opt/vendor/**\"]"))
            .unwrap_or_default()
        {
            if let Some(why) = own::mistake(&pattern.value) {
                let title = format!("{} is no pattern of paths", quote(&pattern.value));
                doc.report(Diagnostic::at(pattern.span, title, why));
            } else {
                written.own.push(pattern.value);
            }
        }
    }
    let Some(value) = table.get("case") else { return written };
    if let Form::Table = value.form() {
        value.fail::<()>("`case` must be a list of tables", "write [[case]]");
        return written;
    }
    let items = value.list("[[case]]").unwrap_or_default();
    if items.len() > MAX_CASES {
        value.fail::<()>(format!("more than {MAX_CASES} cases"), "");
        return written;
    }
    let mut names: BTreeMap<String, Span> = BTreeMap::new();
    for item in items {
        let Some(case) = item.table("[[case]]").and_then(|table| case::read(&table)) else {
            if doc.is_full() {
                break;
            }
            continue;
        };
        for case in matrix::expand(doc, case) {
            let Spot { value: name, span } = case.name.clone();
            if let Some(first) = names.get(&name) {
                let label = format!("the first one stands in line {}", doc.place(first).line);
                doc.report(Diagnostic::at(span, format!("two cases are called `{name}`"), label));
            } else {
                names.insert(name, span);
                written.cases.push(case);
            }
        }
    }
    let names: Vec<(&str, Vec<&str>)> = written
        .cases
        .iter()
        .map(|case| (case.name.value.as_str(), case.names()))
        .collect();
    written.waivers = waiver::read(&table, &names);
    written
}

/// Leaves the cases that were asked for. A package that does not exist is a mistake; names that match nothing are not,
/// other tests may carry them: the pipeline fails when nothing at all is left.
fn select(cases: &mut Vec<Case>, workspace: Option<&Workspace>, overrides: &Overrides) -> Result<()> {
    let packages = || {
        workspace
            .iter()
            .flat_map(|workspace| &workspace.packages)
            .map(|package| package.name.as_str())
    };
    for name in &overrides.packages {
        if workspace.is_none() {
            return Err(Error::config(format!(
                "package {}: there is no cargo workspace here",
                quote(name)
            )));
        }
        if !packages().any(|known| known == name) {
            let hint = suggest::did_you_mean(name, packages()).unwrap_or_else(|| format!("packages are {}", listed(packages())));
            return Err(Error::config(format!("the workspace has no package {}", quote(name))).detail(format!("  help: {hint}")));
        }
    }
    let named = |case: &Case| {
        let matches = |filter: &String| {
            if overrides.exact {
                case.is_called(filter)
            } else {
                case.name.contains(filter.as_str())
            }
        };
        overrides.filters.is_empty() || overrides.filters.iter().any(matches)
    };
    let packaged = |case: &Case| {
        overrides.packages.is_empty()
            || case
                .package
                .as_ref()
                .is_some_and(|package| overrides.packages.contains(package))
    };
    cases.retain(|case| named(case) && packaged(case));
    Ok(())
}
