//! What a user may have meant: where a place is that was never reached, or names of probes and functions close to it.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::{Suggestions, resolve};
use crate::elf;
use crate::model::{At, Name};

/// Names that are shown at most.
const SHOWN: usize = 5;
/// So many probes are simply listed.
const LISTED: usize = 12;
/// Longer names are not compared: the cost is the product of the lengths.
const LONGEST: usize = 200;

/// Probes or functions close to a name, best first; escaped.
pub(super) fn near(program: &Path, loaded: &[PathBuf], at: &At) -> Suggestions {
    let mut files: Vec<PathBuf> = vec![program.to_path_buf()];
    for library in loaded.iter().cloned().chain(libraries(program)) {
        if !files.contains(&library) {
            files.push(library);
        }
    }
    let files = || files.iter().filter_map(|path| Some((path, open(path)?)));
    let mut holder = None;
    let mut names = BTreeSet::new();
    let mut chosen = match at {
        At::Probe { provider, name } => {
            let own = provider == "memcheck";
            for (path, file) in files() {
                let sites = elf::probes(&file).unwrap_or_default();
                if !resolve::probe(&sites, provider, name).is_empty() {
                    holder.get_or_insert(path);
                }
                names.extend(
                    sites
                        .into_iter()
                        .filter(|site| !own || site.provider == "memcheck")
                        .map(|site| match own {
                            true => site.name,
                            false => format!("{}:{}", site.provider, site.name),
                        }),
                );
            }
            let wanted = if own { name.clone() } else { format!("{provider}:{name}") };
            choose(&wanted, &names, names.len() <= LISTED)
        }
        At::Function(name) | At::Returns(name) => {
            for (path, file) in files() {
                let functions = elf::functions(&file).unwrap_or_default();
                if resolve::function(&functions, name) != resolve::Found::Nowhere {
                    holder.get_or_insert(path);
                }
                names.extend(functions.into_iter().map(|one| one.name));
            }
            choose(name, &names, false)
        }
        At::Line { file: source, line } => lines_near(program, source, u64::from(*line)),
        _ => Suggestions::default(),
    };
    if let Some(path) = holder {
        chosen.near.clear();
        chosen.holder = Some(shown(path));
    }
    chosen
}

/// True when a program is seen to trace others: it takes `ptrace` from libc.
pub(super) fn is_tracer(program: &Path) -> bool {
    open(program).is_some_and(|file| elf::imports(&file, "ptrace").unwrap_or(false))
}

/// The name of a file, escaped.
fn shown(path: &Path) -> String {
    Name::new(path.file_name().unwrap_or(path.as_os_str()).as_bytes()).to_string()
}

/// A regular file: a pipe in a program's place would block the opening.
fn open(path: &Path) -> Option<File> {
    path.metadata().ok().filter(std::fs::Metadata::is_file)?;
    File::open(path).ok()
}

/// The libraries a program needs that lie in directories it names itself: ld.so(8), `DT_RUNPATH` and `$ORIGIN`.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let Some(facts) = open(program).and_then(|file| elf::facts(&file).ok()) else {
        return Vec::new();
    };
    let origin = program.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
    let paths = facts.runpath.or(facts.rpath).unwrap_or_default();
    let paths = String::from_utf8_lossy(paths.as_bytes()).into_owned();
    let directories: Vec<PathBuf> = paths
        .split(':')
        .filter(|directory| !directory.is_empty())
        .map(|directory| PathBuf::from(directory.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin)))
        .collect();
    facts
        .needed
        .iter()
        .filter_map(|name| {
            let name = String::from_utf8_lossy(name.as_bytes()).into_owned();
            directories
                .iter()
                .map(|directory| directory.join(&name))
                .find(|path| path.is_file())
        })
        .collect()
}

/// Lines of the source that have code, the nearest first.
fn lines_near(program: &Path, source: &str, line: u64) -> Suggestions {
    let Some(file) = open(program) else {
        return Suggestions::default();
    };
    let mut lines = elf::lines(&file, source).unwrap_or_default();
    if lines.is_empty() {
        lines = super::debug::file_of(&file, program)
            .and_then(|debug| elf::lines(&debug, source).ok())
            .unwrap_or_default();
    }
    if lines.contains_key(&line) {
        return Suggestions {
            holder: Some(shown(program)),
            ..Suggestions::default()
        };
    }
    let mut near: Vec<u64> = lines.into_keys().collect();
    near.sort_by_key(|one| (one.abs_diff(line), *one));
    Suggestions {
        holder: None,
        near: near.into_iter().take(SHOWN).map(|near| format!("{source}:{near}")).collect(),
        ..Suggestions::default()
    }
}

fn choose(wanted: &str, names: &BTreeSet<String>, list_all: bool) -> Suggestions {
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
    let near: Vec<&String> = near.into_iter().map(|(_, name)| name).take(SHOWN).collect();
    let others = names.iter().filter(|name| list_all && !near.contains(name));
    let escaped = |name: &String| Name::from(name.as_str()).to_string();
    Suggestions {
        holder: None,
        others: others.map(escaped).collect(),
        near: near.into_iter().map(escaped).collect(),
    }
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
        let choose = |wanted: &str, names: &BTreeSet<String>, all: bool| super::choose(wanted, names, all).near;
        let all = names(&["app::pool::grow", "app::pool::shrink", "spawned", "core::fmt::write"]);
        assert_eq!(choose("spwaned", &all, false), ["spawned"]);
        assert_eq!(choose("pool::gorw", &all, false), ["app::pool::grow"]);
        assert_eq!(choose("Grow", &all, false), ["app::pool::grow"]);
        assert!(choose("nothing-like-it", &all, false).is_empty());
    }

    #[test]
    fn few_probes_are_all_listed() {
        let found = choose("redy", &names(&["done", "ready"]), true);
        assert_eq!(
            (found.near, found.others),
            (vec!["ready".to_owned()], vec!["done".to_owned()])
        );
    }

    #[test]
    fn distances_are_levenshtein_s() {
        assert_eq!(distance("kitten", "sitting", 5), Some(3));
        assert_eq!(distance("kitten", "sitting", 2), None);
        assert_eq!(distance("", "ab", 2), Some(2));
    }
}
