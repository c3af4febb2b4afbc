//! What this machine lacks for a case: decided without building or launching the case, so that both runners, cargo's and
//! nextest, show it as ignored. Under `CI` and for `cargo memcheck` nothing is ignored: there a case that cannot be measured
//! fails.

use std::collections::BTreeMap;
use std::path::Path;

use crate::model::{Cancel, Case};
use crate::{build, doctor};

/// Why cases cannot be measured here, by their index.
pub(super) fn obstacles<'c>(root: &Path, cases: impl Iterator<Item = (usize, &'c Case)>) -> BTreeMap<usize, String> {
    let mut cases = cases.peekable();
    if cases.peek().is_none() {
        return BTreeMap::new();
    }
    let untraced = doctor::stops_a_process(&Cancel::new())
        .err()
        .map(|error| error.into_problem().title);
    // A cooperative case is not traced.
    let obstacle = |case: &Case| {
        let untraced = untraced.clone().filter(|_| !case.cooperative);
        untraced.or_else(|| build::missing_compiler(case, root))
    };
    cases.filter_map(|(index, case)| Some((index, obstacle(case)?))).collect()
}

/// A remark for each reason, with how many cases it keeps from being measured.
pub(super) fn remarks(obstacles: &BTreeMap<usize, String>) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for why in obstacles.values() {
        *counts.entry(why).or_default() += 1;
    }
    let text = |(why, count): (&str, usize)| format!("{count} of the cases ignored cannot be measured here: {why}");
    counts.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Target;

    #[test]
    fn a_compiler_that_is_not_there_is_an_obstacle_for_its_case_only() {
        let case = |target| Case::new("a", "/p", target);
        let program = "no-such-program-anywhere".to_owned();
        let cases = [
            case(Target::Command {
                program: program.clone(),
            }),
            case(Target::C {
                sources: Vec::new(),
                cflags: Vec::new(),
                ldflags: Vec::new(),
                compiler: Some(program),
            }),
        ];
        let found = obstacles(Path::new("/p"), cases.iter().enumerate());
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [1]);
        assert_eq!(
            remarks(&found),
            ["1 of the cases ignored cannot be measured here: C compiler `no-such-program-anywhere` not found"]
        );
        assert!(obstacles(Path::new("/p"), std::iter::empty()).is_empty());
    }
}
