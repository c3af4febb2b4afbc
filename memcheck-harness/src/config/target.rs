//! `target = { … }`: what a case runs, as written and as the workspace understands it.
//! Owns the forms of targets and the search for a cargo target; builds nothing.

use std::path::PathBuf;

use crate::model::{Package, Profile, Target, TargetKind, Workspace};

use super::cursor::{Form, Spot, Table, Value};
use super::diagnostic::{Diagnostic, Document, quote};
use super::suggest::{self, listed};

/// Keys that choose the form.
const KINDS: [&str; 7] = ["bin", "example", "test", "bench", "c", "path", "command"];

/// What was written.
#[derive(Clone, Debug)]
pub(super) enum TargetForm {
    Cargo(CargoForm),
    /// Complete already.
    Other(Target),
}

/// A cargo target as written.
#[derive(Clone, Debug)]
pub(super) struct CargoForm {
    kind: TargetKind,
    name: Spot<String>,
    package: Option<Spot<String>>,
    /// `features`, absent when the key is.
    pub(super) features: Option<Vec<Spot<String>>>,
}

/// What a case and the command line add to a cargo target.
pub(super) struct CargoContext<'a> {
    pub(super) workspace: Option<&'a Workspace>,
    /// `package =` of the case.
    pub(super) package: Option<&'a str>,
    pub(super) profile: Profile,
    pub(super) triple: Option<String>,
    /// Flags for cargo from the command line: they may enable features.
    pub(super) cargo_args: &'a [String],
}

/// Reads `target`.
pub(super) fn read(value: &Value<'_>) -> Option<Spot<TargetForm>> {
    if let Form::Text(text) = value.form() {
        let label = format!("write for example {{ bin = {text:?} }}, {{ c = \"main.c\" }} or {{ command = {text:?} }}");
        return value.fail(
            "`target` must be a table",
            if text.len() < 60 { label } else { String::new() },
        );
    }
    let table = value.table("target")?;
    let kinds: Vec<_> = table
        .entries()
        .into_iter()
        .filter(|(key, _)| KINDS.contains(&key.value))
        .collect();
    let (kind, program) = match kinds.as_slice() {
        [] => {
            // A misspelt kind is an unknown key: then its suggestion says enough.
            let known: Vec<&str> = KINDS
                .into_iter()
                .chain(["package", "features", "cflags", "ldflags", "cc", "build"])
                .collect();
            table.only(&known, &[]);
            if table.entries().iter().all(|(key, _)| known.contains(&key.value)) {
                let title = "`target` does not say what to run";
                table
                    .doc
                    .report(Diagnostic::at(table.span, title, format!("give one of {}", KINDS.join(", "))));
            }
            return None;
        }
        [only] => only,
        [(first, _), (second, _), ..] => {
            let title = format!("`target` gives both `{}` and `{}`", first.value, second.value);
            table
                .doc
                .report(Diagnostic::at(second.span.clone(), title, "give one of them"));
            return None;
        }
    };
    let form = match kind.value {
        "c" => TargetForm::Other(c(&table, program)?),
        "path" => TargetForm::Other(path(&table, program)?),
        "command" => {
            table.only(&["command"], &[]);
            TargetForm::Other(Target::Command {
                program: program.word("\"python3\"")?.to_owned(),
            })
        }
        word => TargetForm::Cargo(cargo(&table, word, program)?),
    };
    Some(value.spot(form))
}

fn c(table: &Table<'_>, value: &Value<'_>) -> Option<Target> {
    table.only(&["c", "cflags", "ldflags", "cc"], &[]);
    let sources: Vec<PathBuf> = match value.form() {
        Form::Text(_) => vec![PathBuf::from(value.word("\"main.c\"")?)],
        _ => {
            let sources = value.texts("[\"a.c\", \"b.c\"]");
            if sources.is_empty() || sources.iter().any(|source| source.value.is_empty()) {
                return value.fail("`c` names no source file", "write for example [\"a.c\", \"b.c\"]");
            }
            sources.into_iter().map(|source| PathBuf::from(source.value)).collect()
        }
    };
    let flags = |key, example| {
        let flags = table.get(key).map(|value| value.texts(example)).unwrap_or_default();
        flags.into_iter().map(|flag| flag.value).collect()
    };
    Some(Target::C {
        sources,
        cflags: flags("cflags", "[\"-O2\"]"),
        ldflags: flags("ldflags", "[\"-pthread\"]"),
        compiler: table.get("cc").and_then(|value| value.word("\"clang\"")).map(str::to_owned),
    })
}

fn path(table: &Table<'_>, value: &Value<'_>) -> Option<Target> {
    table.only(&["path", "build"], &[]);
    Some(Target::Built {
        path: PathBuf::from(value.word("\"build/server\"")?),
        build: table.get("build").and_then(|value| value.word("\"make\"")).map(str::to_owned),
    })
}

fn cargo(table: &Table<'_>, word: &str, value: &Value<'_>) -> Option<CargoForm> {
    table.only(&["bin", "example", "test", "bench", "package", "features"], &[]);
    let kind = match word {
        "example" => TargetKind::Example,
        "test" => TargetKind::Test,
        "bench" => TargetKind::Bench,
        _ => TargetKind::Bin,
    };
    Some(CargoForm {
        kind,
        name: value.spot(value.word("\"server\"")?.to_owned()),
        package: table
            .get("package")
            .and_then(|value| Some(value.spot(value.word("\"server\"")?.to_owned()))),
        features: table.get("features").map(|value| value.texts("[\"metrics\"]")),
    })
}

/// The package a name stands for; a suggestion otherwise.
pub(super) fn package<'w>(doc: &Document<'_>, workspace: Option<&'w Workspace>, name: &Spot<String>) -> Option<&'w Package> {
    let Some(workspace) = workspace else {
        let title = "`package` needs a cargo workspace";
        doc.report(Diagnostic::at(
            name.span.clone(),
            title,
            "there is no Cargo.toml here or above",
        ));
        return None;
    };
    let found = workspace.packages.iter().find(|package| package.name == name.value);
    if found.is_none() {
        let names = || workspace.packages.iter().map(|package| package.name.as_str());
        let title = format!("the workspace has no package {}", quote(&name.value));
        let hint = suggest::did_you_mean(&name.value, names());
        let diagnostic = Diagnostic::at(name.span.clone(), title, hint.clone().unwrap_or_default());
        doc.report(match hint {
            Some(_) => diagnostic,
            None => diagnostic.help(format!("packages are {}", listed(names()))),
        });
    }
    found
}

/// The target a cargo form stands for, with its package.
pub(super) fn resolve<'w>(doc: &Document<'_>, form: CargoForm, context: CargoContext<'w>) -> Option<(Target, &'w Package)> {
    let CargoForm {
        kind,
        name,
        package: named,
        features,
    } = form;
    let features = features.unwrap_or_default();
    let word = kind.name();
    let Some(workspace) = context.workspace else {
        let title = format!("{word} {} needs a cargo workspace", quote(&name.value));
        let diagnostic = Diagnostic::at(name.span, title, "there is no Cargo.toml here or above");
        doc.report(diagnostic.help("without cargo a target is { c = … }, { path = …, build = … } or { command = … }"));
        return None;
    };
    let named = match named {
        Some(named) => Some(package(doc, Some(workspace), &named)?),
        None => None,
    };
    let has = |package: &Package| {
        package
            .targets
            .iter()
            .any(|target| target.kind == kind && target.name == name.value)
    };
    let having: Vec<&Package> = match named {
        Some(package) => std::iter::once(package).filter(|package| has(package)).collect(),
        None => workspace.packages.iter().filter(|package| has(package)).collect(),
    };
    let own = having
        .iter()
        .copied()
        .find(|package| Some(package.name.as_str()) == context.package);
    let package = match (own, having.as_slice()) {
        (Some(package), _) => package,
        (None, [package]) => *package,
        (None, []) => {
            unknown(doc, workspace, named, kind, &name);
            return None;
        }
        (None, several) => {
            let title = format!("{word} {} is in several packages", quote(&name.value));
            let names = listed(several.iter().map(|package| package.name.as_str()));
            let diagnostic = Diagnostic::at(name.span, title, format!("add package = \"{}\"", several[0].name));
            doc.report(diagnostic.help(format!("packages that have it are {names}")));
            return None;
        }
    };
    check_features(doc, package, kind, &name, &features, context.cargo_args);
    let target = Target::Cargo {
        kind,
        name: name.value,
        package: Some(package.name.clone()),
        features: features.into_iter().map(|feature| feature.value).collect(),
        profile: context.profile,
        triple: context.triple,
    };
    Some((target, package))
}

fn unknown(doc: &Document<'_>, workspace: &Workspace, named: Option<&Package>, kind: TargetKind, name: &Spot<String>) {
    let packages: Vec<&Package> = match named {
        Some(package) => vec![package],
        None => workspace.packages.iter().collect(),
    };
    let targets = || packages.iter().flat_map(|package| &package.targets);
    let place = named.map_or_else(|| "the workspace".to_owned(), |package| format!("package `{}`", package.name));
    let title = format!("{place} has no {} {}", kind.name(), quote(&name.value));
    let same: Vec<&str> = targets().filter(|t| t.kind == kind).map(|t| t.name.as_str()).collect();
    let other = targets().find(|target| target.name == name.value);
    let elsewhere = workspace
        .packages
        .iter()
        .find(|package| package.targets.iter().any(|t| t.kind == kind && t.name == name.value));
    let (label, help) = if let Some(package) = elsewhere {
        (format!("package `{}` has it", package.name), None)
    } else if let Some(other) = other {
        (format!("there is {} = \"{}\"", other.kind.name(), other.name), None)
    } else if let Some(hint) = suggest::did_you_mean(&name.value, same.iter().copied()) {
        (hint, None)
    } else if same.is_empty() {
        (String::new(), Some(format!("it has no {} at all", kind.name())))
    } else {
        (String::new(), Some(format!("it has {}", listed(same.into_iter()))))
    };
    let mut diagnostic = Diagnostic::at(name.span.clone(), title, label);
    diagnostic.help.extend(help);
    doc.report(diagnostic);
}

/// Features that do not exist, and required ones that are surely off. A feature may also be on by default, through
/// another one, or by a flag for cargo: then cargo decides.
fn check_features(
    doc: &Document<'_>,
    package: &Package,
    kind: TargetKind,
    name: &Spot<String>,
    features: &[Spot<String>],
    cargo_args: &[String],
) {
    for feature in features {
        // `dependency/feature` is the dependency's own.
        if feature.value.contains('/') || package.features.contains(&feature.value) {
            continue;
        }
        let title = format!("package `{}` has no feature {}", package.name, quote(&feature.value));
        let names = || package.features.iter().map(String::as_str);
        let hint = suggest::did_you_mean(&feature.value, names());
        let diagnostic = Diagnostic::at(feature.span.clone(), title, hint.clone().unwrap_or_default());
        doc.report(match hint {
            None if !package.features.is_empty() => diagnostic.help(format!("features are {}", listed(names()))),
            _ => diagnostic,
        });
    }
    let by_default = package.features.iter().any(|feature| feature == "default");
    let by_flag = cargo_args.iter().any(|arg| arg.contains("features") || arg.starts_with("-F"));
    let through_another = features.iter().any(|feature| feature.value != "default");
    let target = package.targets.iter().find(|t| t.kind == kind && t.name == name.value);
    let required = target.map(|target| target.required_features.as_slice()).unwrap_or_default();
    let missing: Vec<&str> = required
        .iter()
        .filter(|feature| !features.iter().any(|given| given.value == **feature))
        .map(String::as_str)
        .collect();
    if !missing.is_empty() && !by_default && !by_flag && !through_another {
        let list: Vec<String> = required.iter().map(|feature| format!("{feature:?}")).collect();
        let title = format!(
            "{} `{}` requires the feature{} {}",
            kind.name(),
            name.value,
            if missing.len() == 1 { "" } else { "s" },
            missing
                .iter()
                .map(|feature| format!("`{feature}`"))
                .collect::<Vec<_>>()
                .join(", ")
        );
        doc.report(Diagnostic::at(
            name.span.clone(),
            title,
            format!("add features = [{}]", list.join(", ")),
        ));
    }
}
