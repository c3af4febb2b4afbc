//! Hardening policy × loaded files → results. Pure: what the headers say is given, and so is what patterns mean.

use std::collections::BTreeSet;

use crate::model::{
    ElfFacts, ElfKey, ElfPattern, ElfResult, ElfRule, ElfWanted, Hardened, Name, Object, ObjectKind, Relro, SegmentKind, Verdict,
};

/// `PF_W | PF_X`
const WRITE_AND_EXECUTE: u32 = 0b11;

/// Judges the files that were loaded at any checkpoint of a run, each once. `rules` are those of the case, the more specific
/// first; a rule for a pattern comes before one for all. A pattern of the case itself that no file has is not known to hold; one of
/// the defaults is told, as another case may have such a file.
#[must_use]
pub fn hardening<'a>(
    rules: &[ElfRule],
    objects: impl Iterator<Item = (&'a Object, bool)>,
    fits: &dyn Fn(&str, &Name) -> bool,
) -> Hardened {
    let mut seen: BTreeSet<&Name> = BTreeSet::new();
    let mut matched: BTreeSet<&str> = BTreeSet::new();
    let mut results = Vec::new();
    let mut has_executable = false;
    for (object, is_own) in objects {
        has_executable |= object.kind == ObjectKind::Executable;
        if !seen.insert(&object.path) {
            continue;
        }
        let patterns = rules.iter().filter_map(|rule| rule.object.as_deref());
        matched.extend(patterns.filter(|pattern| fits(pattern, &object.path)));
        let is_ours = is_own || object.kind == ObjectKind::Executable;
        for key in ElfKey::ALL {
            let of_key = || rules.iter().filter(|rule| rule.key == key);
            let by_pattern = of_key().find(|rule| rule.object.as_ref().is_some_and(|pattern| fits(pattern, &object.path)));
            let rule = by_pattern.or_else(|| of_key().find(|rule| rule.object.is_none() && is_ours));
            results.extend(rule.and_then(|rule| judged(rule, object)));
        }
    }
    // Nothing to judge is no success.
    if !has_executable {
        for key in ElfKey::ALL {
            let rule = rules.iter().find(|rule| rule.key == key && rule.object.is_none());
            if let Some((rule, wanted)) = rule.and_then(|rule| Some((rule, demanded(rule.wanted)?))) {
                let why = Err("no executable was seen at a checkpoint".to_owned());
                results.push(result(rule, Name::from("the executable"), wanted, why));
            }
        }
    }
    for rule in rules.iter().filter(|rule| rule.of_case) {
        if let (Some(pattern), Some(wanted)) = (&rule.object, demanded(rule.wanted))
            && !matched.contains(pattern.as_str())
        {
            results.push(ElfResult {
                object: Name::from(pattern.as_str()),
                ..result(
                    rule,
                    Name::default(),
                    wanted,
                    Err("no loaded file has such a name".to_owned()),
                )
            });
        }
    }
    let mut patterns: Vec<ElfPattern> = Vec::new();
    for rule in rules.iter().filter(|rule| !rule.of_case) {
        let is_new = |pattern: &&String| !patterns.iter().any(|one| one.object == **pattern);
        if let Some(pattern) = rule.object.as_ref().filter(is_new) {
            patterns.push(ElfPattern {
                object: pattern.clone(),
                origin: rule.place.clone(),
                loaded: matched.contains(pattern.as_str()),
            });
        }
    }
    Hardened { results, patterns }
}

/// `None`: nothing is demanded, or the demand has no meaning for such a file.
fn judged(rule: &ElfRule, object: &Object) -> Option<ElfResult> {
    let wanted = demanded(rule.wanted)?;
    if rule.key == ElfKey::Pie && object.kind != ObjectKind::Executable {
        return None;
    }
    let found = match &object.facts {
        Some(facts) => found(rule, facts),
        None => Err(object
            .facts_missing
            .clone()
            .unwrap_or_else(|| "its headers could not be read".to_owned())),
    };
    Some(result(rule, object.path.clone(), wanted, found))
}

/// What a rule demands, in the words of its result; absent: nothing.
#[must_use]
pub fn demanded(wanted: ElfWanted) -> Option<String> {
    match wanted {
        ElfWanted::Relro(Relro::No) | ElfWanted::Flag(false) => None,
        ElfWanted::Relro(relro) => Some(word(relro).to_owned()),
        ElfWanted::Flag(true) => Some("yes".to_owned()),
        ElfWanted::AtMost(most) => Some(most.to_string()),
    }
}

/// What the file has, and whether that will do.
fn found(rule: &ElfRule, facts: &ElfFacts) -> Result<(String, bool), String> {
    let hardening = facts.hardening;
    let yes = |flag: bool| (if flag { "yes" } else { "no" }.to_owned(), flag);
    Ok(match (rule.key, rule.wanted) {
        (ElfKey::Relro, ElfWanted::Relro(least)) => {
            let enough = rank(hardening.relro) >= rank(least);
            (word(hardening.relro).to_owned(), enough)
        }
        (ElfKey::Nx, _) => yes(hardening.nx),
        (ElfKey::Pie, _) => yes(hardening.pie),
        (ElfKey::Canary, _) => yes(hardening.canary.ok_or("it has no symbol table that tells")?),
        (_, wanted) => {
            let segments = facts.segments.iter().filter(|segment| segment.kind == SegmentKind::Load);
            let count = segments
                .filter(|segment| segment.flags & WRITE_AND_EXECUTE == WRITE_AND_EXECUTE)
                .count() as u64;
            let enough = matches!(wanted, ElfWanted::AtMost(most) if count <= most);
            (count.to_string(), enough)
        }
    })
}

fn result(rule: &ElfRule, object: Name, wanted: String, found: Result<(String, bool), String>) -> ElfResult {
    let (found, verdict, reason) = match found {
        Ok((found, true)) => (found, Verdict::Within, String::new()),
        Ok((found, false)) => (found, Verdict::Over, String::new()),
        Err(reason) => (String::new(), Verdict::Unknown, reason),
    };
    ElfResult {
        rule: rule.key.name().to_owned(),
        object,
        wanted,
        found,
        verdict,
        reason,
        origin: rule.place.clone(),
    }
}

fn rank(relro: Relro) -> u8 {
    match relro {
        Relro::No => 0,
        Relro::Partial => 1,
        Relro::Full => 2,
    }
}

fn word(relro: Relro) -> &'static str {
    match relro {
        Relro::No => "none",
        Relro::Partial => "partial",
        Relro::Full => "full",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Class, ElfType, Hardening, Place, Segment};

    fn object(path: &str, kind: ObjectKind, relro: Relro, canary: Option<bool>, flags: u32) -> Object {
        let segment = Segment {
            kind: SegmentKind::Load,
            flags,
            offset: 0,
            vaddr: 0,
            filesz: 1,
            memsz: 1,
            align: 1,
        };
        Object {
            path: Name::from(path),
            dev: (0, 0),
            inode: 1,
            kind,
            bias: 0,
            facts: Some(Arc::new(ElfFacts {
                class: Class::Elf64,
                machine: 62,
                elf_type: ElfType::Dyn,
                entry: 0,
                segments: vec![segment],
                interpreter: None,
                soname: None,
                needed: Vec::new(),
                rpath: None,
                runpath: None,
                build_id: None,
                hardening: Hardening {
                    relro,
                    nx: true,
                    pie: true,
                    canary,
                },
            })),
            facts_missing: None,
            symbols: Arc::default(),
            constants: Arc::default(),
        }
    }

    fn rule(key: ElfKey, wanted: ElfWanted, object: Option<&str>) -> ElfRule {
        ElfRule {
            key,
            wanted,
            object: object.map(str::to_owned),
            of_case: true,
            place: Place::default(),
        }
    }

    /// `libx*` stands for names that begin so.
    fn judge(rules: &[ElfRule]) -> Vec<String> {
        let objects = [
            (
                object("/p/server", ObjectKind::Executable, Relro::Partial, Some(true), 5),
                true,
            ),
            (object("/p/libx.so", ObjectKind::Library, Relro::Full, None, 7), true),
            (
                object("/lib/libc.so.6", ObjectKind::Library, Relro::Partial, Some(true), 5),
                false,
            ),
            (object("/p/server", ObjectKind::Executable, Relro::No, Some(true), 5), true),
        ];
        let fits = |pattern: &str, path: &Name| path.file_name().to_string().starts_with(pattern.trim_end_matches('*'));
        let objects = objects.iter().map(|(object, own)| (object, *own));
        let results = hardening(rules, objects, &fits).results;
        results
            .iter()
            .map(|result| match result.verdict {
                Verdict::Within => format!("ok {} {}", result.rule, result.file()),
                _ => result.text(),
            })
            .collect()
    }

    #[test]
    fn own_files_are_judged_once_each_and_the_platform_is_not() {
        use ElfKey::{Canary, Nx, Pie, Wx};
        assert_eq!(
            judge(&[rule(ElfKey::Relro, ElfWanted::Relro(Relro::Full), None)]),
            ["elf.relro of server is partial, must be full", "ok elf.relro libx.so"]
        );
        assert_eq!(
            judge(&[rule(ElfKey::Relro, ElfWanted::Relro(Relro::Partial), None)]),
            ["ok elf.relro server", "ok elf.relro libx.so"]
        );
        assert_eq!(judge(&[rule(Pie, ElfWanted::Flag(true), None)]), ["ok elf.pie server"]);
        assert_eq!(
            judge(&[
                rule(Canary, ElfWanted::Flag(true), None),
                rule(Wx, ElfWanted::AtMost(0), None)
            ]),
            [
                "ok elf.canary server",
                "ok elf.wx server",
                "elf.canary of libx.so is not known, must be yes: it has no symbol table that tells",
                "elf.wx of libx.so is 1, at most 0",
            ]
        );
        assert_eq!(judge(&[rule(Nx, ElfWanted::Flag(false), None)]), Vec::<String>::new());
    }

    #[test]
    fn nothing_to_judge_is_no_success() {
        let rules = [
            rule(ElfKey::Nx, ElfWanted::Flag(true), None),
            rule(ElfKey::Pie, ElfWanted::Flag(false), None),
        ];
        let results = hardening(&rules, std::iter::empty(), &|_, _| false).results;
        let said: Vec<String> = results.iter().map(ElfResult::text).collect();
        assert_eq!(
            said,
            ["elf.nx of the executable is not known, must be yes: no executable was seen at a checkpoint"]
        );
        assert!(results[0].verdict.is_broken());
    }

    #[test]
    fn a_pattern_comes_before_what_holds_for_all_and_must_have_a_file() {
        let full = |object| rule(ElfKey::Relro, ElfWanted::Relro(Relro::Full), object);
        let none = |object| rule(ElfKey::Relro, ElfWanted::Relro(Relro::No), object);
        assert_eq!(judge(&[full(None), none(Some("server"))]), ["ok elf.relro libx.so"]);
        assert_eq!(
            judge(&[full(Some("libc*"))]),
            ["elf.relro of libc.so.6 is partial, must be full"]
        );
        assert_eq!(
            judge(&[full(Some("liby*"))]),
            ["elf.relro of liby* is not known, must be full: no loaded file has such a name"]
        );
        let of_all = ElfRule {
            of_case: false,
            ..full(Some("liby*"))
        };
        assert_eq!(judge(std::slice::from_ref(&of_all)), Vec::<String>::new());
        // Another case may have such a file: it is told, once.
        let found = hardening(&[of_all.clone(), of_all, full(Some("libz*"))], std::iter::empty(), &|_, _| {
            false
        });
        let patterns: Vec<(&str, bool)> = found.patterns.iter().map(|one| (one.object.as_str(), one.loaded)).collect();
        assert_eq!(patterns, [("liby*", false)]);
    }
}
