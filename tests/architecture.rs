//! Holds the shape of the code: which module uses which, which outside crate is named where, who prints, where `unsafe` is,
//! a header on each file, and file sizes. Reads the sources as text and knows nothing of types; each rule is itself tested
//! on a small bad source below.
//!
//! A change of an arrow is a change of `ARROWS` or `CRATES` here and of ARCHITECTURE.md, in one commit.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rust_text::{first_names, first_word, is_word, names_crate, plain_code, test_modules, without_tests, words};

#[path = "architecture/rust_text.rs"]
mod rust_text;

/// The modules of `memcheck-harness` in the order of its `lib.rs`, each with the modules it may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("error", &["model"]),
    ("model", &[]),
    ("config", &["model", "error"]),
    ("build", &["model", "error"]),
    ("init", &["model", "error", "build"]),
    ("elf", &["model", "error"]),
    ("sys", &["model", "error"]),
    ("trace", &["model", "error", "elf", "sys"]),
    ("prepare", &["model", "trace"]),
    ("ending", &["model", "error", "trace"]),
    ("interrupt", &["model", "error", "sys"]),
    ("capture", &["model", "error", "elf", "sys", "trace"]),
    ("doctor", &["model", "error", "sys", "trace", "capture"]),
    ("classify", &["model"]),
    ("budget", &["model"]),
    ("normalize", &["model", "error"]),
    ("compare", &["model", "error", "normalize"]),
    ("explain", &["model"]),
    ("report", &["model"]),
    ("pipeline", &[EVERYTHING]),
    ("selftest", &["model", "error", "config", "capture", "pipeline"]),
    ("empty", &["model", "error", "build", "capture", "compare", "pipeline"]),
    ("replay", &[EVERYTHING]),
    ("merge", &["model"]),
    ("artifact", &["model", "error"]),
    ("harness", &[EVERYTHING]),
    ("fuzz", &[EVERYTHING]),
];

/// Stands for every module that comes before in `ARROWS`.
const EVERYTHING: &str = "*";

/// `error` and `model` are the ground that all others stand on, and stand together.
const GROUND: usize = 2;

/// The outside crates of `memcheck-harness`, each with the modules that may name it. Its types stay inside them.
const CRATES: &[(&str, &[&str])] = &[
    ("annotate_snippets", &["config"]),
    ("anstyle", &["report"]),
    ("cargo_metadata", &["build"]),
    ("cc", &["build"]),
    ("gimli", &["elf"]),
    ("globset", &["config"]),
    ("goblin", &["elf"]),
    // `capture` compares error numbers.
    ("libc", &["capture", "sys", "trace"]),
    ("libtest_mimic", &["harness"]),
    ("memcheck_probe", &["build"]),
    ("miniz_oxide", &["artifact", "elf"]),
    ("nix", &["build", "capture", "pipeline", "sys", "trace"]),
    ("rawzip", &["artifact"]),
    ("regex", &["config", "trace"]),
    ("rustc_demangle", &["elf"]),
    ("serde", &["model", "report"]),
    ("serde_json", &["report"]),
    ("similar", &["compare"]),
    ("tempfile", &["artifact", "build", "compare", "fuzz", "init", "selftest"]),
    ("toml", &["config"]),
];

/// What `cargo-memcheck` may depend on: the library does the work, the command reads arguments and says where memory comes from.
const COMMAND_CRATES: &[&str] = &["clap", "memcheck-harness", "mimalloc"];

/// Lines of code before a file is to be split by noun; comments, blank lines and tests are not counted.
const CODE_LINES_MAX: usize = 500;

/// Non-blank characters of the `//!` lines at a file's start: less than this says nothing.
const HEADER_CHARS_MIN: usize = 20;

/// A source file, as far as the rules look at it.
struct Source {
    /// Relative to the repository.
    path: String,
    /// First component below `src/` without `.rs`; empty for `lib.rs` and `main.rs`.
    module: String,
    /// Number of names in the file's module path: `lib.rs` 0, `elf/mod.rs` 1, `elf/reader.rs` 2.
    depth: usize,
    text: String,
    /// The text without comments, strings and test code; lines keep their numbers. Empty for a file of tests.
    code: String,
}

impl Source {
    /// `path` is relative to the repository and has the form `PACKAGE/src/…`, or any other for files outside `src`.
    fn new(path: &str, text: &str) -> Self {
        let inner = path.split_once("/src/").map_or("", |(_, inner)| inner);
        let names: Vec<&str> = inner
            .trim_end_matches(".rs")
            .split('/')
            .filter(|name| !matches!(*name, "" | "lib" | "main" | "mod"))
            .collect();
        Self {
            path: path.to_owned(),
            module: names.first().copied().unwrap_or_default().to_owned(),
            depth: names.len(),
            text: text.to_owned(),
            code: without_tests(&plain_code(text)),
        }
    }
}

// --- The rules: each returns what is wrong, one line per finding. ---

/// Modules use only what `ARROWS` allows, and each is listed there.
fn arrows(source: &Source) -> Vec<String> {
    let Some(at) = ARROWS.iter().position(|(name, _)| *name == source.module) else {
        let known = source.module.is_empty();
        return if known {
            Vec::new()
        } else {
            vec![format!("{}: module `{}` has no row in ARROWS", source.path, source.module)]
        };
    };
    let allowed = |name: &str| {
        let (_, targets) = ARROWS[at];
        targets.contains(&name) || (targets.contains(&EVERYTHING) && ARROWS[..at].iter().any(|(earlier, _)| *earlier == name))
    };
    crate_paths(source)
        .into_iter()
        .filter(|name| *name != source.module && ARROWS.iter().any(|(known, _)| known == name) && !allowed(name))
        .map(|name| format!("{}: `{}` may not use `crate::{name}`", source.path, source.module))
        .collect()
}

/// Outside crates are named only in the modules that `CRATES` gives them.
fn outside_crates(source: &Source) -> Vec<String> {
    CRATES
        .iter()
        .filter(|(name, modules)| names_crate(&source.code, name) && !modules.contains(&source.module.as_str()))
        .map(|(name, modules)| format!("{}: `{name}` may be named only in {}", source.path, modules.join(", ")))
        .collect()
}

/// Only `report` prints, and nobody takes a standard stream for himself but `harness`, which is a program's whole main.
fn printing(source: &Source) -> Vec<String> {
    let macros = ["println", "print", "eprintln", "eprint", "dbg"];
    let streams = ["stdout", "stderr"];
    words(&source.code)
        .filter(|(_, word, rest)| {
            let is_macro = macros.contains(word) && rest.starts_with('!');
            let is_stream = streams.contains(word)
                && rest.starts_with("()")
                && source.path.starts_with("memcheck-harness")
                && source.module != "harness";
            (is_macro || is_stream) && source.module != "report"
        })
        .map(|(line, word, _)| format!("{}:{line}: `{word}`: only report prints, into a given writer", source.path))
        .collect()
}

/// `unsafe` stands in `sys` and in the probe crate (its macro), nowhere else, not even in tests.
fn unsafety(source: &Source) -> Vec<String> {
    if source.module == "sys" || source.path.starts_with("memcheck-probe/") {
        return Vec::new();
    }
    let code = plain_code(&source.text);
    words(&code)
        .filter(|(_, word, _)| *word == "unsafe")
        .map(|(line, ..)| format!("{}:{line}: `unsafe` outside sys", source.path))
        .collect()
}

/// Each file opens with `//!` lines that say what it owns.
fn header(source: &Source) -> Vec<String> {
    let said: usize = source
        .text
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(|line| line.chars().filter(|c| !c.is_whitespace()).count())
        .sum();
    if said < HEADER_CHARS_MIN {
        vec![format!("{}: begins without `//!` lines that say what it owns", source.path)]
    } else {
        Vec::new()
    }
}

/// No file outgrows one noun.
fn size(source: &Source) -> Vec<String> {
    let lines = source.code.lines().filter(|line| !line.trim().is_empty()).count();
    if lines > CODE_LINES_MAX {
        vec![format!(
            "{}: {lines} lines of code, more than {CODE_LINES_MAX}: split it by noun",
            source.path
        )]
    } else {
        Vec::new()
    }
}

/// The list of modules in `lib.rs` reads as the pipeline: the order of `ARROWS`.
fn module_order(lib: &Source) -> Vec<String> {
    let code: Vec<&str> = lib.code.split_whitespace().collect();
    let listed: Vec<&str> = code
        .windows(2)
        .filter(|pair| pair[0] == "mod")
        .map(|pair| pair[1].trim_end_matches(';'))
        .collect();
    let expected: Vec<&str> = ARROWS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| listed.contains(name))
        .collect();
    if listed == expected {
        Vec::new()
    } else {
        vec![format!("{}: modules stand as {listed:?}, the line is {expected:?}", lib.path)]
    }
}

/// No row of `ARROWS` points to the right.
fn backward_arrows(table: &[(&str, &[&str])]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (at, (name, targets)) in table.iter().enumerate().skip(GROUND) {
        for target in targets.iter().filter(|target| **target != EVERYTHING) {
            if !table[..at].iter().any(|(earlier, _)| earlier == target) {
                wrong.push(format!("ARROWS: `{name}` comes before `{target}` and may not use it"));
            }
        }
    }
    wrong
}

/// Every dependency in a manifest's `[dependencies]` is among the known ones.
fn dependencies(manifest: &str, known: &[&str]) -> Vec<String> {
    manifest
        .lines()
        .skip_while(|line| line.trim() != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', '=', ' ']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#') && !known.contains(name))
        .map(|name| format!("dependency `{name}` has no row in tests/architecture.rs"))
        .collect()
}

/// The modules of the crate that the code names: `crate::a`, `crate::{a, b::c}`, and `super::…` that reaches the root.
fn crate_paths(source: &Source) -> BTreeSet<String> {
    let climb = format!("super{}", "::super".repeat(source.depth.saturating_sub(1)));
    let mut roots = vec!["crate"];
    if source.depth > 0 {
        roots.push(&climb);
    }
    let mut found = BTreeSet::new();
    for root in roots {
        let start = root.split("::").next().unwrap_or(root);
        for (at, _) in source.code.match_indices(start) {
            let Some(rest) = source.code[at..].strip_prefix(root).and_then(|rest| rest.strip_prefix("::")) else {
                continue;
            };
            if at > 0 && source.code[..at].ends_with(|c: char| is_word(c) || c == ':') {
                continue;
            }
            match rest.trim_start().strip_prefix('{') {
                Some(group) => found.extend(first_names(group)),
                None => found.extend(first_word(rest)),
            }
        }
    }
    found
}

// --- The repository. ---

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files that a source declares as `#[cfg(test)] mod name;`, wherever they may lie.
fn files_of_tests(source: &Source) -> Vec<String> {
    let folder = match source
        .path
        .strip_suffix("/mod.rs")
        .or_else(|| source.path.strip_suffix("/lib.rs"))
    {
        Some(folder) => folder,
        None => source.path.trim_end_matches(".rs"),
    };
    test_modules(&plain_code(&source.text))
        .iter()
        .flat_map(|name| [format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")])
        .collect()
}

/// Every `.rs` file below the given folders, in order of path.
fn sources(folders: &[&str]) -> io::Result<Vec<Source>> {
    let root = repository();
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(root.join(&path))? {
            let entry = entry?;
            let path = path.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(Source::new(&path.to_string_lossy(), &fs::read_to_string(root.join(&path))?));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    let tests: Vec<String> = found.iter().flat_map(files_of_tests).collect();
    // What lies in the folder of a `mod.rs` of tests is tests too.
    let folders: Vec<&str> = tests.iter().filter_map(|path| path.strip_suffix("mod.rs")).collect();
    let is_tests = |path: &str| tests.iter().any(|test| test == path) || folders.iter().any(|folder| path.starts_with(folder));
    for source in found.iter_mut().filter(|source| is_tests(&source.path)) {
        source.code.clear();
    }
    Ok(found)
}

/// Applies a rule to each source and fails with all its findings.
#[track_caller]
fn hold(rule: fn(&Source) -> Vec<String>, folders: &[&str]) -> io::Result<()> {
    let sources = sources(folders)?;
    assert!(!sources.is_empty(), "no sources in {folders:?}");
    let wrong: Vec<String> = sources.iter().flat_map(rule).collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    Ok(())
}

const HARNESS: &str = "memcheck-harness/src";
const COMMAND: &str = "cargo-memcheck/src";
const ALL: &[&str] = &[HARNESS, COMMAND, "memcheck-probe/src", "examples", "tests", "benches"];

#[test]
fn modules_use_only_what_the_arrows_allow() -> io::Result<()> {
    assert_eq!(backward_arrows(ARROWS), [""; 0]);
    hold(arrows, &[HARNESS])
}

#[test]
fn the_module_list_reads_as_the_pipeline() -> io::Result<()> {
    let path = format!("{HARNESS}/lib.rs");
    let lib = Source::new(&path, &fs::read_to_string(repository().join(&path))?);
    assert_eq!(module_order(&lib), [""; 0]);
    Ok(())
}

#[test]
fn outside_crates_are_named_in_their_module() -> io::Result<()> {
    let manifest = fs::read_to_string(repository().join("memcheck-harness/Cargo.toml"))?;
    let known: Vec<String> = CRATES.iter().map(|(name, _)| name.replace('_', "-")).collect();
    let known: Vec<&str> = known
        .iter()
        .map(String::as_str)
        .chain(CRATES.iter().map(|(name, _)| *name))
        .collect();
    assert_eq!(dependencies(&manifest, &known), [""; 0]);
    hold(outside_crates, &[HARNESS])
}

#[test]
fn the_command_uses_the_library_only() -> io::Result<()> {
    let manifest = fs::read_to_string(repository().join("cargo-memcheck/Cargo.toml"))?;
    assert_eq!(dependencies(&manifest, COMMAND_CRATES), [""; 0]);
    Ok(())
}

#[test]
fn only_report_prints() -> io::Result<()> {
    hold(printing, &[HARNESS, COMMAND])
}

#[test]
fn unsafe_code_stays_in_sys() -> io::Result<()> {
    hold(unsafety, &[HARNESS, COMMAND, "memcheck-probe/src", "examples"])
}

#[test]
fn every_file_says_what_it_owns() -> io::Result<()> {
    hold(header, ALL)
}

#[test]
fn no_file_outgrows_its_noun() -> io::Result<()> {
    hold(size, ALL)
}

/// Each rule finds what is wrong in a small bad source, and nothing in its good neighbour.
#[cfg(test)]
mod on_bad_sources {
    use super::*;

    fn check(rule: fn(&Source) -> Vec<String>, path: &str, text: &str) -> usize {
        rule(&Source::new(path, text)).len()
    }

    fn in_module(rule: fn(&Source) -> Vec<String>, file: &str, text: &str) -> usize {
        check(rule, &format!("memcheck-harness/src/{file}"), text)
    }

    #[test]
    fn arrows_against_the_line() {
        assert_eq!(in_module(arrows, "classify/mod.rs", "use crate::trace::Stopped;"), 1);
        assert_eq!(
            in_module(arrows, "classify/mod.rs", "use crate::{model::Role, trace, elf::{self}};"),
            2
        );
        assert_eq!(in_module(arrows, "budget.rs", "fn f() { super::report::human() }"), 1);
        assert_eq!(in_module(arrows, "report/human.rs", "use super::super::compare::X;"), 1);
        assert_eq!(in_module(arrows, "pipeline.rs", "use crate::harness::run;"), 1);
        assert_eq!(in_module(arrows, "novelty.rs", ""), 1);

        assert_eq!(in_module(arrows, "classify/mod.rs", "use crate::model::{trace, Role};"), 0);
        assert_eq!(
            in_module(arrows, "report/human.rs", "use super::compare::X; use crate::report::style;"),
            0
        );
        assert_eq!(in_module(arrows, "pipeline.rs", "use crate::{build, trace, report};"), 0);
        assert_eq!(
            in_module(
                arrows,
                "classify/mod.rs",
                "// crate::trace\nconst S: &str = \"crate::trace::x\";"
            ),
            0
        );
        assert_eq!(
            in_module(
                arrows,
                "classify/mod.rs",
                "#[cfg(test)]\nmod tests { use crate::trace::Stopped; }"
            ),
            0
        );
    }

    #[test]
    fn files_declared_as_tests() {
        let declared = |path| {
            files_of_tests(&Source::new(
                path,
                "mod a;\n#[cfg(test)]\n#[expect(x)]\nmod fixtures;\n#[cfg(test)]\nmod b {}\nmod c;",
            ))
        };
        assert_eq!(
            declared("x/src/report/mod.rs"),
            ["x/src/report/fixtures.rs", "x/src/report/fixtures/mod.rs"]
        );
        assert_eq!(
            declared("x/src/budget.rs"),
            ["x/src/budget/fixtures.rs", "x/src/budget/fixtures/mod.rs"]
        );
    }

    #[test]
    fn arrows_after_the_tests_still_count() {
        let text = "#[cfg(test)]\nmod tests { fn f() { { } } }\nuse crate::trace::Stopped;";
        assert_eq!(in_module(arrows, "classify/mod.rs", text), 1);
    }

    #[test]
    fn a_row_that_points_back() {
        let table: &[(&str, &[&str])] = &[("error", &["model"]), ("model", &[]), ("a", &["b"]), ("b", &["a", "model"])];
        assert_eq!(backward_arrows(table).len(), 1);
    }

    #[test]
    fn a_module_list_out_of_order() {
        let lib = |text| module_order(&Source::new("memcheck-harness/src/lib.rs", text)).len();
        assert_eq!(lib("pub mod error;\npub mod model;\npub mod trace;\npub mod elf;"), 1);
        assert_eq!(lib("pub mod error;\npub mod novelty;"), 1);
        assert_eq!(
            lib("pub mod error;\npub mod model;\npub mod elf;\nmod sys;\npub mod trace;"),
            0
        );
    }

    #[test]
    fn crates_outside_their_module() {
        assert_eq!(in_module(outside_crates, "config/mod.rs", "use nix::unistd::Pid;"), 1);
        assert_eq!(in_module(outside_crates, "lib.rs", "pub use goblin;"), 1);
        assert_eq!(in_module(outside_crates, "model/map.rs", "fn f() -> ::toml::Value { x }"), 1);
        assert_eq!(in_module(outside_crates, "sys/mod.rs", "use libc::pid_t;"), 0);
        assert_eq!(
            in_module(
                outside_crates,
                "model/map.rs",
                "let a = self::cc::x; let success::y = my_nix::z;"
            ),
            0
        );
        assert_eq!(in_module(outside_crates, "model/map.rs", "//! [`nix::unistd`]"), 0);
    }

    #[test]
    fn dependencies_without_a_row() {
        let manifest = "[package]\nname = \"x\"\n\n[dependencies]\n# why\nlibc.workspace = true\nrand = \"1\"\n\n[dev-dependencies]\nproptest = \"1\"\n";
        assert_eq!(dependencies(manifest, &["libc"]).len(), 1);
    }

    #[test]
    fn printing_outside_report() {
        assert_eq!(
            in_module(printing, "compare/mod.rs", "fn f() { println!(\"x\"); dbg!(1); }"),
            2
        );
        assert_eq!(in_module(printing, "compare/mod.rs", "let mut out = std::io::stdout();"), 1);
        assert_eq!(check(printing, "cargo-memcheck/src/main.rs", "fn main() { eprintln!(); }"), 1);
        assert_eq!(
            in_module(printing, "compare/mod.rs", "writeln!(out, \"println!()\")?; // print!"),
            0
        );
        assert_eq!(
            in_module(printing, "build/mod.rs", "command.stdout(Stdio::piped()); let stdout = 1;"),
            0
        );
    }

    #[test]
    fn unsafe_outside_sys() {
        assert_eq!(in_module(unsafety, "trace/mod.rs", "fn f() { unsafe { g() } }"), 1);
        assert_eq!(
            in_module(unsafety, "trace/mod.rs", "#[cfg(test)]\nmod tests { unsafe fn f() {} }"),
            1
        );
        assert_eq!(in_module(unsafety, "sys/wait.rs", "unsafe { g() }"), 0);
        assert_eq!(in_module(unsafety, "trace/mod.rs", "#![deny(unsafe_code)] // unsafe"), 0);
    }

    #[test]
    fn files_without_a_header() {
        assert_eq!(
            in_module(
                header,
                "budget.rs",
                "use std::fs;\n//! Late, and therefore no header of a file."
            ),
            1
        );
        assert_eq!(in_module(header, "budget.rs", "//!\n//! main\n"), 1);
        assert_eq!(in_module(header, "budget.rs", "//! Judges a map against its limits.\n"), 0);
    }

    #[test]
    fn long_files() {
        let code = "let x = 1;\n".repeat(CODE_LINES_MAX);
        assert_eq!(in_module(size, "budget.rs", &format!("{code}let y = 2;\n")), 1);
        let tests = format!("{code}\n// why\n#[cfg(test)]\nmod tests {{\n{code}}}\n");
        assert_eq!(in_module(size, "budget.rs", &tests), 0);
    }
}
