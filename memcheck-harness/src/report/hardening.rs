//! The hardening policy in words: which file breaks which demand, where that was written, and what changes it.

use std::io::{self, Write};

use super::Style;
use super::human::{REMEDY_COLUMN, headed};
use super::progress;
use super::text::labelled;
use crate::model::{CaseReport, ElfPattern, ElfResult, RunReport, Verdict};

/// What breaks the policy of a case.
pub(super) fn broken(case: &CaseReport) -> impl Iterator<Item = &ElfResult> {
    case.elf.iter().filter(|result| result.verdict.is_broken())
}

/// Patterns of several cases of which none loaded a file: a demand on nothing. Known only where all cases were judged.
pub(super) fn unmatched(report: &RunReport) -> Vec<&ElfPattern> {
    let is_whole = report.not_selected == 0 && report.interrupted.is_none() && report.partition.is_none();
    if !is_whole || report.cases.iter().any(|case| case.problem.is_some()) {
        return Vec::new();
    }
    let all = || report.cases.iter().flat_map(|case| &case.elf_patterns);
    let mut found: Vec<&ElfPattern> = Vec::new();
    for one in all() {
        let is_met = all().any(|other| other.loaded && (&other.object, &other.origin) == (&one.object, &one.origin));
        if !is_met && !found.contains(&one) {
            found.push(one);
        }
    }
    found
}

/// A warning for each of them.
pub(super) fn warnings(report: &RunReport, style: Style, out: &mut dyn Write) -> io::Result<()> {
    for one in unmatched(report) {
        let text = format!(
            "no case loads a file called {}: what elf.object demands of it holds for nothing ({})",
            one.object, one.origin
        );
        progress::warning(style, &text, out)?;
    }
    Ok(())
}

/// A paragraph for each broken demand.
pub(super) fn verdicts(case: &CaseReport, style: Style, out: &mut dyn Write) -> io::Result<()> {
    for result in broken(case) {
        let head = match result.verdict {
            Verdict::Unknown => "Hardening not known: ",
            _ => "Hardening: ",
        };
        headed(head, &format!("{} ({})", result.text(), result.origin), style, out)?;
        if let Some(remedy) = result.remedy() {
            labelled(style, "Remedy", REMEDY_COLUMN, remedy, out)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::finding::{Rule, findings};
    use super::super::fixtures::{hardened, print};
    use super::super::{exit, human};
    use super::*;

    #[test]
    fn a_pattern_is_told_only_where_no_case_has_such_a_file() {
        let mut report = hardened();
        let lib = ElfPattern {
            object: "libx*".to_owned(),
            origin: report.cases[0].elf[0].origin.clone(),
            loaded: false,
        };
        report.cases[0].elf_patterns = vec![lib.clone()];
        assert_eq!(unmatched(&report), [&lib]);
        let text = print(|out| warnings(&report, Style::default(), out));
        assert!(text.contains("no case loads a file called libx*"), "{text}");
        report.not_selected = 1;
        assert!(unmatched(&report).is_empty());
        report.not_selected = 0;
        let mut other = report.cases[0].clone();
        other.elf_patterns.clear();
        report.cases.push(other);
        assert_eq!(unmatched(&report), [&lib], "the other case is not meant");
        report.cases[1].elf_patterns = vec![ElfPattern {
            loaded: true,
            ..lib.clone()
        }];
        assert!(unmatched(&report).is_empty());
    }

    #[test]
    fn a_broken_demand_fails_the_case_and_is_told_with_its_remedy() {
        let report = hardened();
        assert_eq!(super::super::exit_code(&report), exit::BUDGET);
        let text = print(|out| human::case(&report, &report.cases[0], Style::default(), out));
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "Hardening: elf.relro of server is none, must be full (memcheck.toml:4)",
            "-Wl,-z,relro,-z,now",
            "Hardening not known: elf.canary of server is not known, must be yes: it has no symbol table that tells",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let found: Vec<_> = findings(&report).into_iter().filter(|f| f.rule == Rule::Hardening).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].key, "elf.relro server");
        assert_eq!(found[0].place.line, 4);
    }
}
