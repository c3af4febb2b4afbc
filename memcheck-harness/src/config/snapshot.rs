//! `snapshot = false` or `snapshot.… = …`: what a case's snapshot holds, as written and as merged.
//! Owns the keys of that table; the text itself is made by `normalize`.

use std::collections::BTreeMap;

use crate::model::{Metric, Role, SnapshotElf, SnapshotOptions};

use super::budget;
use super::cursor::{Form, Table, Value};
use super::diagnostic::{Diagnostic, Span, quote};
use super::suggest;

/// Parts of the longest role name; deeper tables hold no role.
const MAX_PARTS: usize = 3;

/// What is written at one level.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    on: Option<bool>,
    elf: Option<SnapshotElf>,
    library_sizes: Option<bool>,
    roles: Option<Vec<Role>>,
    metrics: Option<Vec<Metric>>,
    tolerance: BTreeMap<Role, u64>,
}

/// Reads `snapshot`.
pub(super) fn read(value: &Value<'_>) -> Written {
    let mut written = Written::default();
    if let Form::Flag(on) = value.form() {
        written.on = Some(on);
        return written;
    }
    let Form::Table = value.form() else {
        value.wrong::<()>("true, false or a table");
        return written;
    };
    let Some(table) = value.table("snapshot") else {
        return written;
    };
    table.only(&["elf", "libraries", "roles", "metrics", "tolerance"], &["exact"]);
    written.on = Some(true);
    written.elf = table
        .get("elf")
        .and_then(|value| value.choice(&[("large", SnapshotElf::Large), ("sizes", SnapshotElf::Sizes)]));
    written.library_sizes = table
        .get("libraries")
        .and_then(|value| value.choice(&[("names", false), ("sizes", true)]));
    written.roles = table.get("roles").map(|value| roles(&value));
    written.metrics = table.get("metrics").map(|value| metrics(&value));
    if let Some(tolerance) = table.get("tolerance").and_then(|value| value.table("tolerance")) {
        tolerances(&tolerance, "", 1, &mut written.tolerance);
    }
    written
}

/// A case's words over those of the defaults, field by field.
pub(super) fn merged(defaults: &Written, case: Written) -> Written {
    let mut tolerance = defaults.tolerance.clone();
    tolerance.extend(case.tolerance);
    Written {
        on: case.on.or(defaults.on),
        elf: case.elf.or(defaults.elf),
        library_sizes: case.library_sizes.or(defaults.library_sizes),
        roles: case.roles.or_else(|| defaults.roles.clone()),
        metrics: case.metrics.or_else(|| defaults.metrics.clone()),
        tolerance,
    }
}

/// What it means.
pub(super) fn options(written: Written) -> SnapshotOptions {
    SnapshotOptions {
        off: written.on == Some(false),
        elf: written.elf.unwrap_or_default(),
        library_sizes: written.library_sizes.unwrap_or_default(),
        roles: written.roles,
        metrics: written.metrics.unwrap_or_default(),
        tolerance: written.tolerance,
    }
}

/// Roles by name; a common first part stands for all its roles.
fn roles(value: &Value<'_>) -> Vec<Role> {
    let mut roles = Vec::new();
    for name in value.texts("[\"main-heap\"]") {
        let matching = Role::matching(&name.value);
        if matching.is_empty() {
            unknown_role(value, name.span, &name.value);
        }
        roles.extend(matching);
    }
    roles.sort();
    roles.dedup();
    roles
}

fn unknown_role(value: &Value<'_>, span: Span, name: &str) {
    let names = || Role::ALL.into_iter().map(Role::name);
    let groups = names().filter_map(|name| name.split_once('.').map(|(group, _)| group));
    let hint = suggest::did_you_mean(name, names().chain(groups));
    let diagnostic = Diagnostic::at(
        span,
        format!("there is no role {}", quote(name)),
        hint.clone().unwrap_or_default(),
    );
    value.doc.report(match hint {
        Some(_) => diagnostic,
        None => diagnostic.help(format!("roles are {}", names().collect::<Vec<_>>().join(", "))),
    });
}

fn metrics(value: &Value<'_>) -> Vec<Metric> {
    let mut metrics: Vec<Metric> = Vec::new();
    for name in value.texts("[\"own.commit\"]") {
        match budget::metric(&name.value) {
            Ok(metric) if metrics.contains(&metric) => {
                let title = format!("{} is listed twice", quote(&name.value));
                value.doc.report(Diagnostic::at(name.span, title, "remove this one"));
            }
            Ok(metric) => metrics.push(metric),
            Err(mut diagnostic) => {
                diagnostic.span = Some(name.span);
                value.doc.report(diagnostic);
            }
        }
    }
    metrics
}

fn tolerances(table: &Table<'_>, prefix: &str, depth: usize, found: &mut BTreeMap<Role, u64>) {
    for (key, value) in table.entries() {
        let name = if prefix.is_empty() {
            key.value.to_owned()
        } else {
            format!("{prefix}.{}", key.value)
        };
        match value.form() {
            Form::Table if depth < MAX_PARTS => {
                if let Some(inner) = value.table("tolerance") {
                    tolerances(&inner, &name, depth + 1, found);
                }
            }
            _ if Role::matching(&name).is_empty() => unknown_role(&value, table.doc.dotted(&key.span), &name),
            _ => {
                if let Some(bytes) = value.size() {
                    found.extend(Role::matching(&name).into_iter().map(|role| (role, bytes)));
                }
            }
        }
    }
}
