//! `[environment.NAME]`: sets of budgets and snapshots for one kind of machine, and which of them holds here. Owns the keys
//! `match`, `environment.NAME.budget` and `environment.NAME.elf`; the facts of this machine are given.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::model::ElfRule;

use super::budget::{self, Budget};
use super::cursor::{Form, Spot, Table, Value};
use super::diagnostic::{Diagnostic, Document, quote};
use super::elf;
use super::own;
use super::suggest::{self, listed};

/// The facts a match may speak of; `CI` is whether the variable says so.
const FACTS: [&str; 8] = ["CI", "arch", "cpus", "kernel", "libc", "overcommit", "page-size", "thp"];

/// The environment of files without a name.
const DEFAULT: &str = "default";

/// One environment as written.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) name: Spot<String>,
    /// Fact → patterns, any of which will do; absent: chosen by `--env` alone.
    wanted: Option<BTreeMap<&'static str, Vec<String>>>,
    /// Over the defaults.
    pub(super) budget: Budget,
    /// Likewise.
    pub(super) elf: Vec<ElfRule>,
}

/// What a case, a policy or a checkpoint says of single environments.
pub(super) type Budgets = BTreeMap<String, At>;

/// What is said of one of them.
#[derive(Clone, Debug)]
pub(super) struct At {
    name: Spot<String>,
    pub(super) budget: Budget,
    pub(super) elf: Vec<ElfRule>,
}

/// The environments of the file, in its order.
pub(super) fn read(root: &Table<'_>) -> Vec<Written> {
    let Some(table) = root.get("environment").and_then(|value| value.table("[environment.NAME]")) else {
        return Vec::new();
    };
    let entries = table.entries();
    entries
        .iter()
        .filter_map(|(key, value)| {
            let name = name(key, value)?;
            let table = value.table("[environment.NAME]")?;
            table.only(&["match", "budget", "elf"], &[]);
            Some(Written {
                name,
                wanted: match table.get("match") {
                    Some(value) => Some(wanted(&value)?),
                    None => None,
                },
                budget: table.get("budget").map(|value| budget::read(&value)).unwrap_or_default(),
                elf: table.get("elf").map(|value| elf::read(&value)).unwrap_or_default(),
            })
        })
        .collect()
}

/// Its name becomes a part of file names: `environment.NAME.snap`, `case@NAME.snap`.
fn name(key: &Spot<&str>, value: &Value<'_>) -> Option<Spot<String>> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let text = key.value;
    let is_name = text.starts_with(plain) && text.chars().all(|c| plain(c) || c == '-' || c == '.') && text.len() <= 60;
    let report = |title: String, label: &str| value.doc.report(Diagnostic::at(key.span.clone(), title, label));
    if !is_name {
        report(
            format!(
                "{} is no name of an environment: lower-case letters, digits, `.`, `-`, a letter or digit first",
                quote(text)
            ),
            "write for example [environment.arm64]",
        );
        return None;
    }
    // `environment.x.snap` is that of x, and `environment.snap` of no name.
    if text == DEFAULT || text.starts_with("snap") {
        report(
            format!("an environment cannot be called {}", quote(text)),
            "the files without a name are those of the environment \"default\"",
        );
        return None;
    }
    Some(Spot {
        value: text.to_owned(),
        span: key.span.clone(),
    })
}

fn wanted(value: &Value<'_>) -> Option<BTreeMap<&'static str, Vec<String>>> {
    let table = value.table("match")?;
    table.only(&FACTS, &[]);
    if table.entries().is_empty() {
        return value.fail(
            "this matches every machine",
            "say which, for example { libc = \"glibc 2.41\" }",
        );
    }
    let mut wanted = BTreeMap::new();
    for fact in FACTS {
        let Some(value) = table.get(fact) else { continue };
        let patterns = match value.form() {
            Form::Flag(flag) if fact == "CI" => vec![flag.to_string()],
            _ if fact == "CI" => return value.wrong("true or false"),
            Form::Whole if fact == "cpus" => vec![value.whole(1, 65_536)?.to_string()],
            Form::Text(_) => vec![pattern(&value, value.word("\"glibc 2.*\"")?)?],
            _ => {
                let texts = value.texts("[\"glibc 2.36\", \"glibc 2.41\"]");
                let patterns: Option<Vec<String>> = texts.iter().map(|text| pattern(&value, &text.value)).collect();
                patterns?
            }
        };
        wanted.insert(fact, patterns);
    }
    Some(wanted)
}

fn pattern(value: &Value<'_>, text: &str) -> Option<String> {
    match own::mistake(text) {
        Some(why) => value.fail(format!("{} is no pattern: {why}", quote(text)), "`*` stands for anything"),
        None => Some(text.to_owned()),
    }
}

/// The environment that holds here: the one that was asked for, else the first of the file that matches. `None`: the one
/// without a name.
///
/// # Errors
/// The one that was asked for is not in the file.
pub(super) fn chosen<'a>(
    written: &'a [Written],
    (asked, may_lack): (Option<&str>, bool),
    here: &BTreeMap<String, String>,
) -> Result<Option<&'a Written>> {
    match asked {
        Some(DEFAULT) => Ok(None),
        Some(asked) => match written.iter().find(|environment| environment.name.value == asked) {
            Some(found) => Ok(Some(found)),
            None if may_lack => Ok(None),
            None => {
                let names = || {
                    written
                        .iter()
                        .map(|environment| environment.name.value.as_str())
                        .chain([DEFAULT])
                };
                let hint = suggest::did_you_mean(asked, names());
                let hint = hint.unwrap_or_else(|| format!("environments are {}", listed(names())));
                Err(Error::config(format!("memcheck.toml has no environment {}", quote(asked))).detail(format!("  help: {hint}")))
            }
        },
        None => Ok(written.iter().find(|environment| matches(environment, here))),
    }
}

fn matches(environment: &Written, here: &BTreeMap<String, String>) -> bool {
    let fits = |fact: &str, patterns: &[String]| {
        here.get(fact)
            .is_some_and(|value| patterns.iter().any(|pattern| own::fits(pattern, value)))
    };
    environment
        .wanted
        .as_ref()
        .is_some_and(|wanted| wanted.iter().all(|(fact, patterns)| fits(fact, patterns)))
}

/// `environment.NAME.budget` of a case, a policy or a checkpoint; `known` says what else there may be.
pub(super) fn budgets(table: &Table<'_>, known: &[&str]) -> Budgets {
    let Some(environments) = table.get("environment").and_then(|value| value.table("environment")) else {
        return Budgets::new();
    };
    let mut found = Budgets::new();
    for (key, value) in environments.entries() {
        let Some(table) = value.table("environment.NAME") else {
            continue;
        };
        table.only(known, &[]);
        if known.iter().all(|key| table.get(key).is_none()) {
            table.missing("budget", "budget.own.anon = \"16 MiB\"");
            continue;
        }
        let name = Spot {
            value: key.value.to_owned(),
            span: key.span,
        };
        let at = At {
            name: name.clone(),
            budget: table.get("budget").map(|value| budget::read(&value)).unwrap_or_default(),
            elf: table.get("elf").map(|value| elf::read(&value)).unwrap_or_default(),
        };
        found.insert(name.value, at);
    }
    found
}

/// Reports budgets of environments that the file does not have.
pub(super) fn check(doc: &Document<'_>, budgets: &Budgets, names: &[&str]) {
    for spot in budgets.values().map(|at| &at.name) {
        if !names.contains(&spot.value.as_str()) {
            let hint = suggest::did_you_mean(&spot.value, names.iter().copied());
            let hint = hint.unwrap_or_else(|| format!("add [environment.{}]", spot.value));
            doc.report(Diagnostic::at(
                spot.span.clone(),
                format!("there is no environment {}", quote(&spot.value)),
                hint,
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cursor;
    use super::*;

    fn facts(facts: &[(&str, &str)]) -> BTreeMap<String, String> {
        facts
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    /// The name of the chosen environment.
    fn choose(text: &str, asked: Option<&str>, here: &[(&str, &str)]) -> std::result::Result<Option<String>, String> {
        let doc = Document::new("memcheck.toml".to_owned(), text, 4096);
        let tree = cursor::parse(text, &doc).unwrap();
        let written = read(&Table::root(&doc, &tree));
        doc.check().map_err(|error| error.to_string())?;
        let chosen = chosen(&written, (asked, false), &facts(here)).map_err(|error| error.to_string())?;
        Ok(chosen.map(|environment| environment.name.value.clone()))
    }

    const FILE: &str = "[environment.musl]\nmatch.libc = \"musl*\"\n[environment.new]\nmatch = { libc = [\"glibc 2.41\", \"glibc \
                        2.43\"], CI = true }\n[environment.byhand]\nbudget.own.anon = \"1 MiB\"\n";

    #[test]
    fn the_first_that_matches_in_all_holds_unless_another_is_asked_for() {
        let name = |asked, here: &[(&str, &str)]| choose(FILE, asked, here).unwrap();
        assert_eq!(name(None, &[("libc", "glibc 2.36"), ("CI", "true")]), None);
        assert_eq!(name(None, &[("libc", "glibc 2.41"), ("CI", "false")]), None);
        assert_eq!(name(None, &[("libc", "glibc 2.43"), ("CI", "true")]).as_deref(), Some("new"));
        assert_eq!(name(None, &[("libc", "musl 1.2.3")]).as_deref(), Some("musl"));
        assert_eq!(name(None, &[]), None, "a fact that is not known matches nothing");
        assert_eq!(name(Some("byhand"), &[("libc", "musl 1.2.3")]).as_deref(), Some("byhand"));
        assert_eq!(name(Some("default"), &[("libc", "musl 1.2.3")]), None);
    }

    #[test]
    fn mistakes_have_a_place_and_a_remedy() {
        for (text, asked, what) in [
            ("[environment.Bad]\n", None, "no name of an environment"),
            ("[environment.default]\n", None, "cannot be called"),
            ("[environment.a]\nmatch = {}\n", None, "matches every machine"),
            ("[environment.a]\nmatch.libx = \"1\"\n", None, "did you mean"),
            ("[environment.a]\nmatch.CI = \"yes\"\n", None, "true or false"),
            ("[environment.a]\nmatch.libc = \"{a\"\n", None, "is no pattern"),
            ("[environment.arm64]\n", Some("arm"), "no environment"),
        ] {
            let error = choose(text, asked, &[]).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
