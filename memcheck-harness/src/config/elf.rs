//! `elf.<key> = …` and `elf.object."PATTERN".<key> = …`: what is demanded of the headers of loaded files. Owns those keys.

use crate::model::{ElfKey, ElfRule, ElfWanted, Name, Relro};

use super::cursor::{Table, Value};
use super::diagnostic::{Diagnostic, quote};
use super::own;

const KEYS: [&str; 6] = ["relro", "nx", "pie", "canary", "wx", "object"];

/// Reads an `elf` table.
pub(super) fn read(value: &Value<'_>) -> Vec<ElfRule> {
    let Some(table) = value.table("elf") else { return Vec::new() };
    table.only(&KEYS, &[]);
    if table.entries().is_empty() {
        value.fail::<()>("no demand is written for `elf`", "write for example elf.relro = \"full\"");
    }
    let mut rules = of(&table, None);
    let objects = table.get("object").and_then(|value| value.table("elf.object"));
    for (pattern, value) in objects.map(|table| table.entries()).unwrap_or_default() {
        if let Some(why) = own::mistake(pattern.value) {
            let title = format!("{} is no pattern of files: {why}", quote(pattern.value));
            value.doc.report(Diagnostic::at(
                pattern.span,
                title,
                "write for example elf.object.\"libvendor*\".relro",
            ));
            continue;
        }
        if let Some(table) = value.table("elf.object") {
            table.only(&["relro", "nx", "pie", "canary", "wx"], &[]);
            rules.extend(of(&table, Some(pattern.value)));
        }
    }
    rules
}

/// The rules of a case before those of policies, the more specific first, and of the defaults.
pub(super) fn merged<'a>(case: Vec<ElfRule>, others: impl Iterator<Item = &'a ElfRule>) -> Vec<ElfRule> {
    let of_case = case.into_iter().map(|rule| ElfRule { of_case: true, ..rule });
    of_case.chain(others.cloned()).collect()
}

/// True when a rule's pattern speaks of a file: of its name, or (with a `/`) of its path.
#[must_use]
pub fn is_of_file(pattern: &str, path: &Name) -> bool {
    let text = if pattern.contains('/') {
        path.to_string()
    } else {
        path.file_name().to_string()
    };
    own::fits(pattern, &text)
}

fn of(table: &Table<'_>, object: Option<&str>) -> Vec<ElfRule> {
    let rule = |key: ElfKey, word: &str, wanted: &dyn Fn(&Value<'_>) -> Option<ElfWanted>| {
        let value = table.get(word)?;
        Some(ElfRule {
            key,
            wanted: wanted(&value)?,
            object: object.map(str::to_owned),
            of_case: false,
            place: table.doc.place(&value.span),
        })
    };
    let flag = |value: &Value<'_>| value.flag().map(ElfWanted::Flag);
    [
        rule(ElfKey::Relro, "relro", &|value| {
            let words = [("full", Relro::Full), ("partial", Relro::Partial), ("none", Relro::No)];
            value.choice(&words).map(ElfWanted::Relro)
        }),
        rule(ElfKey::Nx, "nx", &flag),
        rule(ElfKey::Pie, "pie", &flag),
        rule(ElfKey::Canary, "canary", &flag),
        rule(ElfKey::Wx, "wx", &|value| value.whole(0, 1 << 20).map(ElfWanted::AtMost)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::{Overrides, Source, plan};
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        let source = Source {
            root: PathBuf::from("/w"),
            path: PathBuf::from("/w/memcheck.toml"),
            text: text.to_owned(),
        };
        let plan = plan(&source, None, &Overrides::default(), 4096).map_err(|error| error.to_string())?;
        let line = |rule: &ElfRule| {
            let object = rule.object.as_deref().unwrap_or("-");
            format!(
                "{} {object} {:?} {} {}",
                rule.key.name(),
                rule.wanted,
                rule.of_case,
                rule.place
            )
        };
        Ok(plan.cases[0].elf.iter().map(line).collect())
    }

    const CASE: &str = "[[case]]\nname = \"a\"\ntarget = { c = \"a.c\" }\ncheckpoint = [{ name = \"b\" }]\n";

    #[test]
    fn the_case_comes_before_the_defaults_and_each_rule_has_its_line() {
        let text = format!(
            "[defaults]\nelf.relro = \"full\"\nelf.wx = 0\n{CASE}elf.relro = \"partial\"\nelf.object.\"libx*\".canary = true\n"
        );
        assert_eq!(
            read(&text).unwrap(),
            [
                "elf.relro - Relro(Partial) true memcheck.toml:8",
                "elf.canary libx* Flag(true) true memcheck.toml:9",
                "elf.relro - Relro(Full) false memcheck.toml:2",
                "elf.wx - AtMost(0) false memcheck.toml:3",
            ]
        );
    }

    #[test]
    fn mistakes_have_a_remedy() {
        for (line, what) in [
            ("elf.relro = \"ful\"", "did you mean"),
            ("elf.rerlo = \"full\"", "did you mean"),
            ("elf.nx = \"yes\"", "true or false"),
            ("elf.wx = -1", "wx"),
            ("elf = {}", "elf.relro = \"full\""),
            ("elf.object.\"{a\".nx = true", "no pattern"),
            ("elf.object.a.object = 1", "unknown"),
        ] {
            let error = read(&format!("{CASE}{line}\n")).unwrap_err();
            assert!(error.contains(what), "{line}: {error}");
        }
    }

    #[test]
    fn a_pattern_speaks_of_names_or_of_paths() {
        let path = Name::from("/opt/x/libx.so.1");
        for (pattern, is_of) in [("libx*", true), ("/opt/**", true), ("/opt/*", false), ("liby*", false)] {
            assert_eq!(is_of_file(pattern, &path), is_of, "{pattern}");
        }
    }
}
