//! What a user may have meant: names of probes and functions close to one that was never reached.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use crate::elf;
use crate::model::{At, Name};

/// Names that are shown at most.
const SHOWN: usize = 5;
/// So many probes are simply listed.
const LISTED: usize = 12;
/// Longer names are not compared: the cost is the product of the lengths.
const LONGEST: usize = 200;

/// Probes or functions of a program close to a name, best first; escaped.
pub(super) fn near(program: &Path, at: &At) -> Vec<String> {
    // A pipe in the program's place would block the opening.
    let Some(file) = program
        .metadata()
        .ok()
        .filter(std::fs::Metadata::is_file)
        .and_then(|_| File::open(program).ok())
    else {
        return Vec::new();
    };
    match at {
        At::Probe { provider, name } => {
            let own = provider == "memcheck";
            let names: BTreeSet<String> = elf::probes(&file)
                .unwrap_or_default()
                .into_iter()
                .filter(|site| !own || site.provider == "memcheck")
                .map(|site| {
                    if own {
                        site.name
                    } else {
                        format!("{}:{}", site.provider, site.name)
                    }
                })
                .collect();
            let wanted = if own { name.clone() } else { format!("{provider}:{name}") };
            choose(&wanted, &names, names.len() <= LISTED)
        }
        At::Function(name) | At::Returns(name) => {
            let names: BTreeSet<String> = elf::functions(&file)
                .unwrap_or_default()
                .into_iter()
                .map(|one| one.name)
                .collect();
            choose(name, &names, false)
        }
        _ => Vec::new(),
    }
}

fn choose(wanted: &str, names: &BTreeSet<String>, list_all: bool) -> Vec<String> {
    let allowed = (wanted.chars().count() / 3).max(2);
    let mut near: Vec<(usize, &String)> = names
        .iter()
        .filter_map(|name| {
            // A path is compared by as many of its last parts as the user wrote.
            let parts = wanted.matches("::").count() + 1;
            let end = name
                .rmatch_indices("::")
                .nth(parts - 1)
                .map_or(name.as_str(), |(at, _)| &name[at + 2..]);
            Some((distance(wanted, end, allowed)?, name))
        })
        .collect();
    near.sort();
    let mut chosen: Vec<&String> = near.into_iter().map(|(_, name)| name).take(SHOWN).collect();
    if list_all {
        let others: Vec<&String> = names.iter().filter(|name| !chosen.contains(name)).collect();
        chosen.extend(others);
    }
    chosen.into_iter().map(|name| Name::from(name.as_str()).to_string()).collect()
}

/// Levenshtein distance without regard to case; absent when it is above `allowed`.
fn distance(a: &str, b: &str, allowed: usize) -> Option<usize> {
    if a.len() > LONGEST || b.len() > LONGEST {
        return None;
    }
    let (a, b): (Vec<char>, Vec<char>) = (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    if a.len().abs_diff(b.len()) > allowed {
        return None;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
        if row.iter().all(|cost| *cost > allowed) {
            return None;
        }
    }
    row.last().copied().filter(|cost| *cost <= allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> BTreeSet<String> {
        all.iter().map(|one| (*one).to_owned()).collect()
    }

    #[test]
    fn the_nearest_names_come_first() {
        let all = names(&["app::pool::grow", "app::pool::shrink", "spawned", "core::fmt::write"]);
        assert_eq!(choose("spwaned", &all, false), ["spawned"]);
        assert_eq!(choose("pool::gorw", &all, false), ["app::pool::grow"]);
        assert_eq!(choose("Grow", &all, false), ["app::pool::grow"]);
        assert!(choose("nothing-like-it", &all, false).is_empty());
    }

    #[test]
    fn few_probes_are_all_listed() {
        assert_eq!(choose("redy", &names(&["done", "ready"]), true), ["ready", "done"]);
    }

    #[test]
    fn distances_are_levenshtein_s() {
        assert_eq!(distance("kitten", "sitting", 5), Some(3));
        assert_eq!(distance("kitten", "sitting", 2), None);
        assert_eq!(distance("", "ab", 2), Some(2));
    }
}
