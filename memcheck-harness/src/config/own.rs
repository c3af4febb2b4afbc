//! Which mapped objects are the program's own: below the project or the target directory, or named in `own = […]`.
//! Owns the meaning of those patterns; the roles themselves are given by `classify`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use crate::error::{Error, Result};
use crate::model::{Name, Plan};

/// A longer pattern is a mistake; the bound also keeps nested `{…}` shallow.
const MAX_PATTERN_BYTES: usize = 1024;

/// What is wrong with a pattern, if anything.
pub(super) fn mistake(text: &str) -> Option<String> {
    if text.is_empty() || text.len() > MAX_PATTERN_BYTES {
        return Some(format!("a pattern has between 1 and {MAX_PATTERN_BYTES} bytes"));
    }
    glob(text).err().map(|error| error.kind().to_string())
}

/// True when a text fits a pattern; one that is none fits nothing.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    glob(pattern).is_ok_and(|glob| glob.compile_matcher().is_match(text))
}

/// `*` stays within a directory, `**` does not.
fn glob(text: &str) -> std::result::Result<Glob, globset::Error> {
    GlobBuilder::new(text).literal_separator(true).build()
}

/// The rule of a plan. A pattern with a leading `/` speaks of the whole path, one with another `/` of the path below the
/// root, one without of the file's name.
pub(super) fn ownership(plan: &Plan) -> Result<impl Fn(&Name) -> bool + use<>> {
    let mut roots: Vec<PathBuf> = vec![plan.root.clone()];
    // Objects that cargo and cc build lie in the target directory, wherever that is.
    roots.extend(plan.data_dir.parent().map(Path::to_path_buf));
    // The kernel names mapped files by their real paths.
    let real: Vec<PathBuf> = roots.iter().filter_map(|root| root.canonicalize().ok()).collect();
    let real_root = real.first().cloned();
    roots.extend(real);
    // A project in `/` would own the whole system.
    roots.retain(|root| root.parent().is_some());
    roots.sort_unstable();
    roots.dedup();

    let mut paths = GlobSetBuilder::new();
    let mut names = GlobSetBuilder::new();
    for text in &plan.defaults.own {
        let refused = |why: String| Error::config(format!("a pattern of `own` cannot be used: {why}"));
        if let Some(why) = mistake(text) {
            return Err(refused(why));
        }
        let globs: Vec<String> = if text.starts_with('/') || !text.contains('/') {
            vec![text.clone()]
        } else {
            let below = text.strip_prefix("./").unwrap_or(text);
            let roots = [Some(&plan.root), real_root.as_ref()].into_iter().flatten();
            let escaped = roots.map(|root| globset::escape(&root.to_string_lossy()));
            escaped
                .map(|root| format!("{}/{below}", root.trim_end_matches('/')))
                .collect()
        };
        for full in globs {
            let set = if full.contains('/') { &mut paths } else { &mut names };
            set.add(glob(&full).map_err(|error| refused(error.kind().to_string()))?);
        }
    }
    let build = |set: &GlobSetBuilder| -> Result<GlobSet> {
        set.build()
            .map_err(|error| Error::config(format!("the patterns of `own` cannot be used: {error}")))
    };
    let (paths, names) = (build(&paths)?, build(&names)?);
    Ok(move |name: &Name| {
        // Names such as `[heap]` or `anon_inode:…` are no files.
        if !name.as_bytes().starts_with(b"/") {
            return false;
        }
        let path = Path::new(OsStr::from_bytes(name.as_bytes()));
        roots.iter().any(|root| path.starts_with(root))
            || paths.is_match(path)
            || path.file_name().is_some_and(|file| names.is_match(Path::new(file)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Defaults;

    fn own(patterns: &[&str]) -> impl Fn(&str) -> bool {
        let plan = Plan {
            root: PathBuf::from("/src/[app]"),
            file: PathBuf::from("memcheck.toml"),
            is_cargo: true,
            data_dir: PathBuf::from("/build/target/memcheck-data"),
            defaults: Defaults {
                own: patterns.iter().map(|&pattern| pattern.to_owned()).collect(),
                ..Defaults::default()
            },
            cases: Vec::new(),
            cases_in_file: 0,
            partition: None,
        };
        let rule = ownership(&plan).unwrap();
        move |path: &str| rule(&Name::from(path))
    }

    #[test]
    fn what_lies_below_the_project_or_its_target_directory_is_own() {
        let own = own(&[]);
        assert!(own("/src/[app]/libx.so") && own("/build/target/release/server"));
        for path in [
            "/src/[app]s/libx.so",
            "/usr/lib/libc.so.6",
            "[heap]",
            "",
            "/memfd:x (deleted)",
        ] {
            assert!(!own(path), "{path}");
        }
    }

    #[test]
    fn patterns_name_paths_places_below_the_root_and_files() {
        let own = own(&["/opt/vendor/**", "../shared/*.so", "libown.so*", "/srv/*/x.so"]);
        for path in [
            "/opt/vendor/a/b.so",
            "/src/[app]/../shared/x.so",
            "/usr/lib/libown.so.1",
            "/srv/a/x.so",
        ] {
            assert!(own(path), "{path}");
        }
        for path in ["/opt/vendors/b.so", "/usr/lib/libowned", "/srv/a/b/x.so", "libown.so"] {
            assert!(!own(path), "{path}");
        }
    }

    #[test]
    fn bad_patterns_are_named() {
        assert!(mistake("[a").is_some() && mistake("").is_some());
        assert!(mistake(&"{".repeat(100_000)).is_some());
        assert!(mistake(&"{".repeat(1000)).is_some());
        assert_eq!(mistake(&format!("{}{}", "{".repeat(500), "}".repeat(500))), mistake("{}"));
        assert_eq!(mistake("**/libx.so*"), None);
    }
}
