//! What differs in the environment, beside the changes that it may explain. It proves nothing: the words say so.

use std::collections::BTreeSet;

use crate::model::{CaseReport, ChangeCause, EnvironmentStatus, Role};

/// Adds to each checkpoint with changes which differences of the environment may explain which of its rows: as the last cause,
/// once for those that are the same at several checkpoints.
pub fn surroundings(status: &EnvironmentStatus, case: &mut CaseReport) {
    let mut told: BTreeSet<String> = BTreeSet::new();
    for checkpoint in &mut case.checkpoints {
        for (fact, recorded, here) in &status.differences {
            let rows: BTreeSet<&str> = checkpoint
                .changes
                .iter()
                .filter(|change| may_explain(fact, change.role))
                .map(|change| change.row.as_str())
                .collect();
            if rows.is_empty() {
                continue;
            }
            let rows: Vec<&str> = rows.into_iter().collect();
            let cause = format!("{} That may explain {}.", recorded_on(fact, recorded, here), rows.join(", "));
            if told.insert(cause.clone()) {
                checkpoint.causes.push(ChangeCause {
                    cause,
                    cost: String::new(),
                    remedies: Vec::new(),
                });
            }
        }
    }
}

/// `Recorded on glibc 2.36, this is glibc 2.41.`
fn recorded_on(fact: &str, recorded: &str, here: &str) -> String {
    let word = ChangeCause::RECORDED;
    match fact.strip_prefix("built-with.") {
        Some(tool) => format!("{word}as built with {tool} {recorded}, this is {here}."),
        None if fact == "libc" => format!("{word}on {recorded}, this is {here}."),
        None => format!("{word}with {fact} {recorded}, this is {here}."),
    }
}

/// Which kinds of memory a fact has a say in. Rows without a role (threads, metrics) may come from anything.
fn may_explain(fact: &str, role: Option<Role>) -> bool {
    let Some(role) = role else { return true };
    match fact {
        // The number of arenas follows the processors.
        "cpus" => role == Role::ThreadArena || role == Role::ThreadStackLive,
        // Anonymous memory comes in larger steps.
        "thp" => !role.is_elf() && role != Role::Guard,
        // NORESERVE is not honoured.
        "overcommit" => matches!(role, Role::AnonMap | Role::ThreadArena),
        // Segments are the linker's work, what the program does at run time is not.
        "libc" => !role.is_elf(),
        // What the program asks for is its own affair.
        "kernel" => matches!(
            role,
            Role::Guard | Role::MainStack | Role::SharedMap | Role::SignalStack | Role::MainHeap
        ),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Change;
    use crate::report::fixtures::case;

    fn change(row: &str) -> Change {
        Change {
            row: row.to_owned(),
            role: row.parse().ok(),
            column: "anon".to_owned(),
            before: Some(1),
            now: Some(2),
        }
    }

    fn told(differences: &[(&str, &str, &str)], rows: &[&str]) -> Vec<String> {
        let status = EnvironmentStatus {
            recorded: Some("environment.snap".to_owned()),
            differences: differences
                .iter()
                .map(|(fact, recorded, here)| ((*fact).to_owned(), (*recorded).to_owned(), (*here).to_owned()))
                .collect(),
        };
        let mut case = case("c");
        case.checkpoints[0].changes = rows.iter().map(|row| change(row)).collect();
        case.checkpoints[0].causes.clear();
        surroundings(&status, &mut case);
        case.checkpoints[0].causes.iter().map(|cause| cause.cause.clone()).collect()
    }

    #[test]
    fn a_difference_stands_beside_what_it_may_explain_only() {
        let libc = ("libc", "glibc 2.36", "glibc 2.41");
        assert_eq!(
            told(&[libc], &["main-heap", "exe.bss", "thread-arena"]),
            ["Recorded on glibc 2.36, this is glibc 2.41. That may explain main-heap, thread-arena."]
        );
        assert!(told(&[libc], &["exe.bss"]).is_empty());
        assert_eq!(
            told(&[("built-with.gcc", "12", "14"), ("cpus", "2", "4")], &["exe.bss"]),
            ["Recorded as built with gcc 12, this is 14. That may explain exe.bss."]
        );
        assert!(told(&[libc], &[]).is_empty(), "without a change there is nothing to explain");
    }
}
