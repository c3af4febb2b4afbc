//! The hardening policy in words: which file breaks which demand, where that was written, and what changes it.

use std::io::{self, Write};

use super::Style;
use super::human::{REMEDY_COLUMN, headed};
use super::text::labelled;
use crate::model::{CaseReport, ElfResult, Verdict};

/// What breaks the policy of a case.
pub(super) fn broken(case: &CaseReport) -> impl Iterator<Item = &ElfResult> {
    case.elf.iter().filter(|result| result.verdict.is_broken())
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
