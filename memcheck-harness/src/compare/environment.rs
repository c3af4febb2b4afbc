//! The environment of record: one reviewed file of facts, and how this machine differs from it. Which facts there are is
//! decided where they are measured; what a difference means for the outcome is the report's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::file::{self, Header};
use super::{ENVIRONMENT, Options, SNAPSHOT_DIR, pending};
use crate::error::{Error, Result};
use crate::model::{Environment, EnvironmentStatus, Plan, environment_file};
use crate::normalize::{escape_line, escape_word, unescape};

/// Stands for a fact that one side does not have.
const ABSENT: &str = "absent";

/// Compares this machine with the environment of record: that of the name that holds here, or, where there is none of that
/// name yet, the one without a name; with [`Options::write`], leaves a pending file when there is none
/// on record and a selected case has a snapshot, and removes one that says what is on record. A pending file that cannot be written is no error here.
///
/// # Errors
/// The file on record cannot be read, or is none.
pub fn environment(plan: &Plan, here: &Environment, options: Options<'_>) -> Result<EnvironmentStatus> {
    let mut name = plan.defaults.environment.as_deref();
    let own = path(plan);
    let mut found = file::read(&own)?;
    if found.is_none() && options.write && plan.cases.iter().any(super::has_snapshot) {
        // The run still tells that nothing is on record, and a case's own pending file tells what is in the way.
        let _ = propose_environment(plan, here, options.pending_dir);
    }
    if found.is_none() && name.is_some() {
        name = None;
        found = file::read(&path_of(plan, None))?;
    }
    let path = path_of(plan, name);
    let Some(file) = found else {
        return Ok(EnvironmentStatus::default());
    };
    let recorded = parse(&file.text, name).map_err(|error| {
        Error::not_judged(format!("{} is no environment: {error}", path.display()))
            .detail("restore it, or delete it and accept again")
    })?;
    let status = EnvironmentStatus {
        recorded: Some(environment_file(name)),
        differences: differences(&recorded, here),
    };
    if options.write && status.differences.is_empty() && path == own {
        let _ = pending::place(plan, &path, None, options.pending_dir);
    }
    Ok(status)
}

/// Leaves this machine's facts as a pending environment of record, whatever is on record. Gives back the pending file.
///
/// # Errors
/// The file cannot be written.
pub fn propose_environment(plan: &Plan, here: &Environment, pending_dir: Option<&Path>) -> Result<PathBuf> {
    let header = Header {
        source: &plan.file,
        line: None,
        description: "environment of record",
        environment: None,
    };
    let path = path(plan);
    let bytes = file::pending_bytes(&header, &render(here, plan.defaults.environment.as_deref()));
    Ok(pending::place(plan, &path, Some(&bytes), pending_dir)?.unwrap_or(path))
}

/// Where the environment of record that holds here lies, or is to lie: in the directory that the plan names.
#[must_use]
pub fn path(plan: &Plan) -> PathBuf {
    path_of(plan, plan.defaults.environment.as_deref())
}

fn path_of(plan: &Plan, name: Option<&str>) -> PathBuf {
    let directory = plan.defaults.environment_dir.as_deref().unwrap_or(&plan.root);
    directory.join(SNAPSHOT_DIR).join(environment_file(name))
}

fn differences(recorded: &BTreeMap<String, String>, here: &Environment) -> Vec<(String, String, String)> {
    let value = |facts: &BTreeMap<String, String>, name: &str| facts.get(name).map_or_else(|| ABSENT.to_owned(), String::clone);
    let names: BTreeSet<&String> = recorded.keys().chain(here.facts.keys()).collect();
    names
        .into_iter()
        .filter(|name| recorded.get(*name) != here.facts.get(*name))
        .filter(|name| !of_a_build(name) || (recorded.contains_key(*name) && here.facts.contains_key(*name)))
        .map(|name| (name.clone(), value(recorded, name), value(&here.facts, name)))
        .collect()
}

/// A compiler is known only where something was built with it in this run: a selection of cases may leave it out.
fn of_a_build(name: &str) -> bool {
    name.starts_with(crate::model::Environment::BUILT_WITH)
}

fn render(here: &Environment, name: Option<&str>) -> String {
    let mut out = format!("environment {}\n\n", name.unwrap_or(ENVIRONMENT));
    for (name, value) in &here.facts {
        let line = format!("  {:<14} {}", escape_word(name), escape_line(value));
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// The facts of the text of the environment of a name.
pub(crate) fn parse(text: &str, name: Option<&str>) -> Result<BTreeMap<String, String>> {
    let head = format!("environment {}", name.unwrap_or(ENVIRONMENT));
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let bad = |index: usize, why: &str| Error::not_judged(format!("line {}: {why}", index + 1));
    if lines.next().is_none_or(|(_, line)| line.trim_end() != head) {
        return Err(bad(0, &format!("not `{head}`")));
    }
    let mut facts = BTreeMap::new();
    for (index, line) in lines {
        let fact = line.strip_prefix("  ").filter(|fact| !fact.starts_with(' '));
        let fact = fact.ok_or_else(|| bad(index, "not `  name  value`"))?.trim_end();
        let (name, value) = fact.split_once(' ').unwrap_or((fact, ""));
        if facts.insert(unescape(name), unescape(value.trim_start())).is_some() {
            return Err(bad(index, "the same fact twice"));
        }
    }
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::pending::accept;
    use super::super::tests::{case, plan};
    use super::*;

    const WRITE: Options<'_> = Options {
        write: true,
        pending_dir: None,
    };

    fn facts(facts: &[(&str, &str)]) -> Environment {
        Environment {
            facts: facts
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn recorded_once_then_compared() {
        let dir = tempfile::tempdir().unwrap();
        let plan = plan(dir.path(), &[case(dir.path(), "a")]);
        let here = facts(&[("arch", "x86_64"), ("glibc", "2.36")]);
        assert_eq!(
            environment(&plan, &here, Options::default()).unwrap(),
            EnvironmentStatus::default()
        );
        assert!(
            pending::pending(&plan, WRITE).unwrap().is_empty(),
            "nothing is written unless asked for"
        );
        assert_eq!(environment(&plan, &here, WRITE).unwrap().recorded, None);
        let waiting = pending::pending(&plan, WRITE).unwrap();
        assert_eq!(
            waiting[0].text,
            "environment default\n\n  arch           x86_64\n  glibc          2.36\n"
        );
        accept(&waiting[0]).unwrap();
        assert!(environment(&plan, &here, WRITE).unwrap().is_of_record());

        let there = facts(&[("arch", "x86_64"), ("glibc", "2.41"), ("kernel", "6.18")]);
        let status = environment(&plan, &there, WRITE).unwrap();
        assert!(!status.is_of_record());
        let difference = |name: &str, recorded: &str, here: &str| (name.to_owned(), recorded.to_owned(), here.to_owned());
        assert_eq!(
            status.differences,
            [difference("glibc", "2.36", "2.41"), difference("kernel", "absent", "6.18")]
        );
        assert!(
            pending::pending(&plan, WRITE).unwrap().is_empty(),
            "another machine proposes nothing by itself"
        );
        propose_environment(&plan, &there, None).unwrap();
        accept(&pending::pending(&plan, WRITE).unwrap()[0]).unwrap();
        assert!(environment(&plan, &there, WRITE).unwrap().is_of_record());
    }

    #[test]
    fn an_environment_with_a_name_has_its_own_file_and_begins_with_that_of_all() {
        let dir = tempfile::tempdir().unwrap();
        let mut plan = plan(dir.path(), &[case(dir.path(), "a")]);
        let (here, there) = (facts(&[("libc", "glibc 2.36")]), facts(&[("libc", "musl 1.2.3")]));
        propose_environment(&plan, &here, None).unwrap();
        accept(&pending::pending(&plan, WRITE).unwrap()[0]).unwrap();
        plan.defaults.environment = Some("musl".to_owned());
        let status = environment(&plan, &there, WRITE).unwrap();
        assert_eq!(status.recorded.as_deref(), Some("environment.snap"));
        assert_eq!(status.differences.len(), 1);
        let waiting = pending::pending(&plan, WRITE).unwrap().remove(0);
        assert_eq!(waiting.target, dir.path().join("memcheck/snapshots/environment.musl.snap"));
        assert!(waiting.is_environment() && waiting.text.starts_with("environment musl\n"));
        accept(&waiting).unwrap();
        let status = environment(&plan, &there, WRITE).unwrap();
        assert_eq!(status.recorded.as_deref(), Some("environment.musl.snap"));
        assert!(status.is_of_record());
        plan.defaults.environment = None;
        assert!(
            environment(&plan, &here, WRITE).unwrap().is_of_record(),
            "the other stays as it was"
        );
    }

    #[test]
    fn a_compiler_that_was_not_used_is_no_difference() {
        let recorded = BTreeMap::from([
            ("arch".to_owned(), "x".to_owned()),
            ("built-with.gcc".to_owned(), "12.2.0".to_owned()),
        ]);
        let differs = |here: &[(&str, &str)]| differences(&recorded, &facts(here)).len();
        assert_eq!(differs(&[("arch", "x"), ("built-with.rustc", "1.95.0")]), 0);
        assert_eq!(differs(&[("arch", "x"), ("built-with.gcc", "13.1.0")]), 1);
        assert_eq!(differs(&[("built-with.gcc", "12.2.0")]), 1);
    }

    #[test]
    fn a_damaged_record_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let plan = plan(dir.path(), &[]);
        let write = |text: &str| super::super::write_whole(&path(&plan), text.as_bytes()).unwrap();
        for (text, why) in [
            ("---\n---\nenvironment other\n", "line 1: not `environment default`"),
            ("---\n---\nenvironment default\nx y\n", "line 2: not `  name  value`"),
            ("---\n---\nenvironment default\n  x y\n  x z\n", "line 3: the same fact twice"),
            ("<<<<<<< ours\n", "conflict markers"),
        ] {
            write(text);
            let message = environment(&plan, &facts(&[]), WRITE).unwrap_err().to_string();
            assert!(message.contains(why), "{message}");
        }
    }

    proptest! {
        #[test]
        fn facts_read_back(facts in prop::collection::btree_map("(?s).{1,8}", any::<String>(), 0..6)) {
            prop_assert_eq!(parse(&render(&Environment { facts: facts.clone() }, Some("x")), Some("x")).unwrap(), facts);
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            prop_assert!(parse(&text, None).is_err());
            let _ = parse(&format!("environment default\n{text}"), None);
        }
    }
}
