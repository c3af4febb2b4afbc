//! Two texts of `memcheck.toml`, or of another TOML file that has a say → the keys that differ, each with its old and new value.
//! Works on what is written, not on plans: the base need not be built, and no key escapes by having no effect here.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use crate::model::{Revised, RevisedKind, Switch};

/// Where a key is too deep it is told as one value.
const DEPTH_MAX: usize = 24;

/// Keys of cargo's configuration that decide what is built and where, put a program in front of it, or speak to insta and to us
/// through variables; `*` stands for the rest of one part.
const CARGO_SWITCHES: [&str; 14] = [
    "build.rustc",
    "build.rustc-wrapper",
    "build.rustc-workspace-wrapper",
    "build.target",
    "build.rustflags",
    "build.target-dir",
    "build.build-dir",
    "env.INSTA_*",
    "env.MEMCHECK_*",
    "target.*.runner",
    "target.*.linker",
    "target.*.rustflags",
    "unstable",
    "paths",
];

/// What differs between two `memcheck.toml`; an absent one has no keys.
#[must_use]
pub fn revised(file: &str, old: Option<&str>, new: Option<&str>) -> Vec<Revised> {
    differing(file, old, new, kind)
}

/// What differs between two files of settings that are not ours (`.cargo/config.toml`, a manifest): only keys that `matters`.
#[must_use]
pub fn revised_elsewhere(file: &str, old: Option<&str>, new: Option<&str>, matters: &dyn Fn(&str) -> bool) -> Vec<Revised> {
    let mut all = differing(file, old, new, |_| RevisedKind::Switch);
    all.retain(|revised| revised.what.is_empty() || matters(&revised.what));
    all
}

/// Settings of a cargo configuration that a run cannot undo.
#[must_use]
pub fn switches(file: &str, text: &str) -> Vec<Switch> {
    let Ok(table) = text.parse::<Table>() else { return Vec::new() };
    let found = flat(&table).into_iter().filter(|(key, _)| is_switch(key));
    found
        .map(|(key, value)| Switch {
            file: file.to_owned(),
            key,
            value,
        })
        .collect()
}

fn is_switch(key: &str) -> bool {
    CARGO_SWITCHES.iter().any(|pattern| {
        let mut parts = key.split('.');
        pattern
            .split('.')
            .all(|wanted| match (wanted.strip_suffix('*'), parts.next()) {
                (Some(start), Some(part)) => part.starts_with(start),
                (None, part) => part == Some(wanted),
                (_, None) => false,
            })
    })
}

fn kind(what: &str) -> RevisedKind {
    let last = what.rsplit('.').next().unwrap_or_default();
    if what.starts_with("waiver[") {
        RevisedKind::Waiver
    } else if what.contains(".budget.") || what.starts_with("budget.") || what.contains(".elf.") || what.starts_with("policy[") {
        RevisedKind::Limit
    } else if what.contains("snapshot.tolerance") || what.contains("snapshot.") || last == "snapshot" {
        RevisedKind::Tolerance
    } else if last == "name" && what.ends_with("].name") {
        RevisedKind::Case
    } else {
        RevisedKind::Setting
    }
}

fn differing(file: &str, old: Option<&str>, new: Option<&str>, kind: impl Fn(&str) -> RevisedKind) -> Vec<Revised> {
    let keys = |text: Option<&str>| text.map_or(Ok(BTreeMap::new()), |text| text.parse::<Table>().map(|table| flat(&table)));
    let (Ok(before), Ok(now)) = (keys(old), keys(new)) else {
        // It cannot be read as TOML on one side: all that can be said is that it is another.
        let whole = |text: Option<&str>| text.map(|_| "the whole file".to_owned());
        let unreadable = Revised {
            file: file.to_owned(),
            kind: kind(""),
            what: String::new(),
            old: whole(old),
            new: whole(new),
            diff: String::new(),
        };
        return if old == new { Vec::new() } else { vec![unreadable] };
    };
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    names
        .into_iter()
        .filter(|name| before.get(*name) != now.get(*name))
        .map(|name| Revised {
            file: file.to_owned(),
            kind: kind(name),
            what: name.clone(),
            old: before.get(name).cloned(),
            new: now.get(name).cloned(),
            diff: String::new(),
        })
        .collect()
}

/// Every value under its full key. Tables of an array are told apart by their names, so that one more in front is one more.
fn flat(table: &Table) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    inside(table, "", 0, &mut found);
    found
}

fn inside(table: &Table, prefix: &str, depth: usize, found: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let key = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        one(&key, value, depth + 1, found);
    }
}

fn one(key: &str, value: &Value, depth: usize, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Table(table) if !table.is_empty() && depth < DEPTH_MAX => inside(table, key, depth, found),
        Value::Array(all) if !all.is_empty() && all.iter().all(Value::is_table) && depth < DEPTH_MAX => {
            let mut seen = BTreeSet::new();
            for (index, value) in all.iter().enumerate() {
                let Value::Table(table) = value else { continue };
                let mut name = name_of(table).unwrap_or_else(|| format!("{}", index + 1));
                if !seen.insert(name.clone()) {
                    name = format!("{name} #{}", index + 1);
                }
                inside(table, &format!("{key}[{name}]"), depth, found);
            }
        }
        other => {
            found.insert(key.to_owned(), shown(other, depth));
        }
    }
}

/// A value as it is written, near enough to be recognised; too deep a one is cut.
fn shown(value: &Value, depth: usize) -> String {
    let list = |parts: Vec<String>| parts.join(", ");
    match value {
        Value::String(text) => format!("\"{text}\""),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Datetime(date) => date.to_string(),
        Value::Array(_) | Value::Table(_) if depth > 2 * DEPTH_MAX => "…".to_owned(),
        Value::Array(all) => format!("[{}]", list(all.iter().map(|one| shown(one, depth + 1)).collect())),
        Value::Table(table) => {
            let pairs = table
                .iter()
                .map(|(key, value)| format!("{key} = {}", shown(value, depth + 1)));
            format!("{{ {} }}", list(pairs.collect()))
        }
    }
}

/// What people call an entry: its name, or for a waiver what it speaks of.
fn name_of(table: &Table) -> Option<String> {
    let text = |key: &str| table.get(key).and_then(Value::as_str);
    if let Some(name) = text("name") {
        return Some(name.to_owned());
    }
    // Of a policy whom it is of, a pattern or a list of them.
    let all = |key: &str| match table.get(key)? {
        Value::Array(list) => Some(list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")),
        one => one.as_str().map(str::to_owned),
    };
    let parts = ["package", "case"].into_iter().filter_map(all).collect::<Vec<_>>();
    let case = Some(parts.join(" ")).filter(|case| !case.is_empty())?;
    let at = all("checkpoint").map_or_else(String::new, |name| format!("/{name}"));
    let metric = text("metric").map_or_else(String::new, |name| format!(":{name}"));
    Some(format!("{case}{at}{metric}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = r#"
[defaults]
budget.own.anon = "16 MiB"
snapshot.tolerance.main-heap.anon = "8 KiB"
[[case]]
name = "a"
args = ["1"]
[[case.checkpoint]]
name = "ready"
budget.thread-stack.exited.count = 1
[[case]]
name = "b"
target = { bin = "b" }
"#;

    fn lines(old: &str, new: &str) -> Vec<String> {
        revised("memcheck.toml", Some(old), Some(new))
            .iter()
            .map(|one| {
                let side = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
                format!("{} {} {} -> {}", one.kind.word(), one.what, side(&one.old), side(&one.new))
            })
            .collect()
    }

    #[test]
    fn each_key_that_differs_is_told_with_both_values() {
        let new = OLD
            .replace("16 MiB", "32 MiB")
            .replace("8 KiB", "9 KiB")
            .replace("[\"1\"]", "[\"2\"]")
            .replace("exited.count = 1", "exited.count = { max = 2 }");
        assert_eq!(
            lines(OLD, &new),
            [
                "setting case[a].args [\"1\"] -> [\"2\"]",
                "limit case[a].checkpoint[ready].budget.thread-stack.exited.count 1 -> -",
                "limit case[a].checkpoint[ready].budget.thread-stack.exited.count.max - -> 2",
                "limit defaults.budget.own.anon \"16 MiB\" -> \"32 MiB\"",
                "tolerance defaults.snapshot.tolerance.main-heap.anon \"8 KiB\" -> \"9 KiB\"",
            ]
        );
        assert_eq!(lines(OLD, OLD), [""; 0]);
        // Layout, comments and order of cases are no edits.
        let moved = format!(
            "# x\n{}",
            OLD.replace("[[case]]\nname = \"b\"\ntarget = { bin = \"b\" }\n", "")
        );
        let moved = moved.replacen("[[case]]", "[[case]]\nname = \"b\"\ntarget = { bin = \"b\" }\n[[case]]", 1);
        assert_eq!(lines(OLD, &moved), [""; 0]);
    }

    #[test]
    fn what_goes_takes_its_limits_along_visibly() {
        let gone = OLD.replace(
            "[[case.checkpoint]]\nname = \"ready\"\nbudget.thread-stack.exited.count = 1\n",
            "",
        );
        assert_eq!(
            lines(OLD, &gone),
            [
                "limit case[a].checkpoint[ready].budget.thread-stack.exited.count 1 -> -",
                "case case[a].checkpoint[ready].name \"ready\" -> -",
            ]
        );
        let waived = format!("{OLD}[[waiver]]\ncase = \"a\"\nmetric = \"own.anon\"\nceiling = \"1 GiB\"\n");
        assert!(lines(OLD, &waived).contains(&"waiver waiver[a:own.anon].ceiling - -> \"1 GiB\"".to_owned()));
        let policy = |max: &str| format!("{OLD}[[policy]]\ncase = [\"a\", \"b*\"]\nbudget.own.anon = \"{max}\"\nelf.wx = 0\n");
        assert_eq!(
            lines(
                &policy("1 MiB"),
                &policy("2 MiB").replace("b*", "c*").replace("wx = 0", "wx = 1")
            ),
            [
                "limit policy[a b*].budget.own.anon \"1 MiB\" -> -",
                "limit policy[a b*].case [\"a\", \"b*\"] -> -",
                "limit policy[a b*].elf.wx 0 -> -",
                "limit policy[a c*].budget.own.anon - -> \"2 MiB\"",
                "limit policy[a c*].case - -> [\"a\", \"c*\"]",
                "limit policy[a c*].elf.wx - -> 1",
            ]
        );
        assert_eq!(revised("m", None, Some(OLD)).len(), 8);
        assert_eq!(revised("m", Some("["), Some(OLD))[0].new.as_deref(), Some("the whole file"));
    }

    #[test]
    fn cargo_is_watched_for_what_stands_in_front_of_the_program() {
        let text = "[build]\nrustc-wrapper = \"x\"\njobs = 1\ntarget-dir = \"kept\"\n[env]\nINSTA_FORCE_PASS = \"1\"\nINSTANCE = \"1\"\n\
                    MEMCHECK_CI = { value = \"0\", force = true }\n[target.x86_64-unknown-linux-gnu]\nrunner = [\"true\"]\n[alias]\nmemcheck = \"version\"\n";
        let found: Vec<String> = switches("c", text)
            .into_iter()
            .map(|switch| format!("{} = {}", switch.key, switch.value))
            .collect();
        assert_eq!(
            found,
            [
                "build.rustc-wrapper = \"x\"",
                "build.target-dir = \"kept\"",
                "env.INSTA_FORCE_PASS = \"1\"",
                "env.MEMCHECK_CI.force = true",
                "env.MEMCHECK_CI.value = \"0\"",
                "target.x86_64-unknown-linux-gnu.runner = [\"true\"]"
            ]
        );
        let alias = revised_elsewhere("c", None, Some(text), &|key| key.starts_with("alias."));
        assert_eq!(alias[0].what, "alias.memcheck");
    }
}
