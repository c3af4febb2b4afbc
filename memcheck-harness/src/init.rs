//! A first `memcheck.toml` from what there is: the text for a cargo workspace or for a C project, and writing new files.
//! Owns the template; what the words mean is `config`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::build;
use crate::error::{Error, Result};
use crate::model::{TargetKind, Workspace};

/// Bytes of a Makefile, or of a C source, that are looked at.
const READ_MAX_BYTES: u64 = 1 << 20;
/// Entries of a directory that are looked at.
const ENTRIES_MAX: usize = 10_000;
/// Cases that are written; a workspace with more has its own idea of what to gate.
const CASES_MAX: usize = 1000;
/// Characters of a case's name, as `config` allows.
const NAME_MAX_CHARS: usize = 80;

const HEAD: &str = "\
# What cargo memcheck measures, and what it may cost.
#
#   cargo memcheck            measures every case and says what changed
#   cargo memcheck accept     approves it: memcheck/snapshots/*.snap, reviewed and committed like code
#   cargo memcheck metrics    everything a budget can name

[defaults]
profile = \"release\"     # or \"memcheck\": release with line tables, unstripped
timeout = \"30s\"
# For every checkpoint of every case:
# budget.own.anon = \"64 MiB\"
# budget.thread-stack.exited.count = 0
";

const MAIN: &str = "
[[case.checkpoint]]
name = \"main\"
at = \"main\"
";

/// Stands in the first case, between `main` and `exit`: checkpoints are written in the order in which they are reached.
const PROBE_RUST: &str = "
# A checkpoint of your own costs one `nop` in the program. In Rust, with memcheck-probe among the dependencies:
#
#     memcheck_probe::checkpoint!(\"ready\");
#
# [[case.checkpoint]]
# name = \"ready\"
# at = { probe = \"ready\" }
# budget.main-heap.anon = { max_growth = \"64 KiB\", over = \"main\" }
# budget.thread-arena.count = 4
";

/// As [`PROBE_RUST`].
const PROBE_C: &str = "
# A checkpoint of your own costs one `nop` in the program:
#
#     #include \"memcheck.h\"
#     MEMCHECK_CHECKPOINT(ready);
#
# [[case.checkpoint]]
# name = \"ready\"
# at = { probe = \"ready\" }
# budget.main-heap.anon = { max_growth = \"64 KiB\", over = \"main\" }
# budget.thread-arena.count = 4
";

const EXIT: &str = "
# A program that does not end by itself never comes here: take this checkpoint out and set one of your own.
[[case.checkpoint]]
name = \"exit\"
at = \"exit\"
# budget.own.anon = \"16 MiB\"
";

/// The text for a workspace: a case for each bin with checkpoints at `main` and `exit`. Without a bin it holds no case, only
/// how to write one.
#[must_use]
pub fn for_cargo(workspace: &Workspace) -> String {
    let mut text = HEAD.to_owned();
    let mut names = BTreeSet::new();
    let several = workspace.packages.len() > 1 || workspace.root_package.is_none();
    let bins = workspace.packages.iter().flat_map(|package| {
        let bins = package.targets.iter().filter(|target| target.kind == TargetKind::Bin);
        bins.map(move |target| (package, target))
    });
    for (package, target) in bins.take(CASES_MAX) {
        let name = case_name(&target.name, &package.name, &mut names);
        let mut fields = format!("bin = {}", quoted(&target.name));
        if several {
            let _ = write!(fields, ", package = {}", quoted(&package.name));
        }
        if !target.required_features.is_empty() {
            let features: Vec<String> = target.required_features.iter().map(|feature| quoted(feature)).collect();
            let _ = write!(fields, ", features = [{}]", features.join(", "));
        }
        case(&mut text, &name, &fields, if names.len() == 1 { PROBE_RUST } else { "" });
    }
    if names.is_empty() {
        text.push_str(
            "
# No bin was found. A case of an example, a test or a bench looks like this:
#
# [[case]]
# name = \"start\"
# target = { example = \"NAME\" }     # or { test = \"NAME\" }, { bench = \"NAME\" }, { c = \"FILE.c\" }, { command = \"PROGRAM\" }
#
# [[case.checkpoint]]
# name = \"exit\"
# at = \"exit\"
",
        );
    }
    text
}

/// The text for a project without cargo: a case for the program that the Makefile in `dir` seems to make, else for a C file
/// with a `main`, else for a program to be filled in.
///
/// # Errors
/// The directory cannot be read.
pub fn for_c(dir: &Path) -> Result<String> {
    let files = files(dir)?;
    let makefile = ["GNUmakefile", "makefile", "Makefile"]
        .into_iter()
        .find(|name| files.contains(*name));
    let made = makefile.and_then(|name| program_of(&read(&dir.join(name))));
    let mut text = HEAD.replace(
        "profile = \"release\"     # or \"memcheck\": release with line tables, unstripped\n",
        "",
    );
    let (name, fields) = match made {
        Some(program) => {
            let build = format!("make {program}");
            (
                program.clone(),
                format!("path = {}, build = {}", quoted(&program), quoted(&build)),
            )
        }
        None => match files.iter().find(|name| is_main(&dir.join(name))) {
            Some(source) => (source.trim_end_matches(".c").to_owned(), format!("c = {}", quoted(source))),
            None => {
                text.push_str("\n# Fill in the program and the command that builds it.");
                (
                    "program".to_owned(),
                    "path = \"program\", build = \"make program\"".to_owned(),
                )
            }
        },
    };
    let name = case_name(name.rsplit('/').next().unwrap_or(&name), "", &mut BTreeSet::new());
    case(&mut text, &name, &fields, PROBE_C);
    Ok(text)
}

/// Writes a new file in one step: whoever looks sees nothing or all of it.
///
/// # Errors
/// There is such a file already (it is left alone), or it cannot be written.
pub fn write_new(path: &Path, text: &str) -> Result<()> {
    match create(path, text) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Error::config(format!(
            "{} exists already and is left as it is",
            path.display()
        ))),
        Err(error) => Err(Error::file("write", path, &error)),
        Ok(()) => Ok(()),
    }
}

/// Puts `memcheck.h` into a directory; `false` when there is one already, whatever it holds.
///
/// # Errors
/// It cannot be written.
pub fn vendor_header(dir: &Path) -> Result<bool> {
    let path = dir.join("memcheck.h");
    match create(&path, build::HEADER) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(Error::file("write", &path, &error)),
        Ok(()) => Ok(true),
    }
}

fn create(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    Ok(())
}

fn case(text: &mut String, name: &str, target: &str, example: &str) {
    let _ = write!(
        text,
        "
[[case]]
name = {}
target = {{ {target} }}
# args = [\"--help\"]
# env = {{ MALLOC_ARENA_MAX = \"2\" }}
# exit = 0                # the end that is expected: a code, {{ signal = \"SIGTERM\" }} or \"any\"
{MAIN}{example}{EXIT}",
        quoted(name)
    );
}

/// A name that `config` accepts and that no other case has: the program's, else with the package's before it, else numbered.
fn case_name(program: &str, package: &str, taken: &mut BTreeSet<String>) -> String {
    let plain = |text: &str| -> String {
        let mapped: String = text
            .to_lowercase()
            .chars()
            .map(|c| {
                if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' {
                    c
                } else {
                    '-'
                }
            })
            .take(NAME_MAX_CHARS / 2)
            .collect();
        let name = mapped.trim_matches(['-', '.']).to_owned();
        if name.is_empty() { "program".to_owned() } else { name }
    };
    let short = plain(program);
    // `environment.snap` lies beside the snapshots of the cases.
    let reserved = |name: &str| name == "environment" || name.starts_with("environment.");
    let long = if reserved(&short) || package.is_empty() {
        format!("program-{short}")
    } else {
        format!("{}-{short}", plain(package))
    };
    let name = [short.clone(), long.clone()]
        .into_iter()
        .chain((2..).map(|n: usize| format!("{long}-{n}")))
        .find(|name| !reserved(name) && !taken.contains(name))
        .unwrap_or(short);
    taken.insert(name.clone());
    name
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Names of the plain files of a directory, sorted.
fn files(dir: &Path) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(dir).map_err(|error| Error::file("read", dir, &error))?;
    Ok(entries
        .take(ENTRIES_MAX)
        .flatten()
        .filter(|entry| entry.path().is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect())
}

/// The beginning of a file as text; nothing when it cannot be read: it only helps to guess.
fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    // What was read before an error still helps.
    let _ = File::open(path).and_then(|file| file.take(READ_MAX_BYTES).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is_main(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "c")
        && read(path).lines().any(|line| {
            let line = line.trim_start();
            !line.starts_with("//") && (line.starts_with("int main(") || line.starts_with("int main ("))
        })
}

/// The program a Makefile seems to make: the first file among the prerequisites of `all`, else the first target that is one.
/// A guess from the text: nothing is run, and variables are followed one step only.
fn program_of(makefile: &str) -> Option<String> {
    let mut variables: BTreeMap<&str, &str> = BTreeMap::new();
    let mut rules: Vec<(Vec<String>, Vec<String>)> = Vec::new();
    for line in makefile.lines().filter(|line| !line.starts_with(['\t', '#'])) {
        let line = line.split('#').next().unwrap_or_default();
        if let Some((name, value)) = line.split_once('=') {
            let name = name.trim_end_matches([':', '?']).trim();
            if !name.is_empty() && !name.contains([' ', ':', '+']) {
                variables.entry(name).or_insert(value.trim());
                continue;
            }
        }
        if let Some((targets, needs)) = line.split_once(':') {
            let words =
                |text: &str| -> Vec<String> { text.split_whitespace().flat_map(|word| expand(word, &variables)).collect() };
            rules.push((words(targets), words(needs.trim_start_matches(':'))));
        }
    }
    let phony: BTreeSet<&str> = rules
        .iter()
        .filter(|(targets, _)| targets.iter().any(|target| target == ".PHONY"))
        .flat_map(|(_, needs)| needs.iter().map(String::as_str))
        .chain([
            "all",
            "clean",
            "distclean",
            "install",
            "uninstall",
            "test",
            "tests",
            "check",
            "dist",
            "help",
            "run",
            "format",
            "lint",
            "docs",
        ])
        .collect();
    let is_program = |name: &&String| {
        let odd = |c: char| !(c.is_ascii_alphanumeric() || "_-+/.".contains(c));
        let file = name.rsplit('/').next().unwrap_or_default();
        !phony.contains(name.as_str())
            && !name.contains(odd)
            && !name.starts_with(['-', '/'])
            && !file.contains('.')
            && !file.is_empty()
    };
    let all = rules
        .iter()
        .filter(|(targets, _)| targets.iter().any(|target| target == "all"));
    let wanted = all.flat_map(|(_, needs)| needs).find(is_program);
    wanted
        .or_else(|| rules.iter().flat_map(|(targets, _)| targets).find(is_program))
        .cloned()
}

/// The words of `$(NAME)` or `${NAME}`; any other word as it is.
fn expand(word: &str, variables: &BTreeMap<&str, &str>) -> Vec<String> {
    let inner = word
        .strip_prefix("$(")
        .and_then(|rest| rest.strip_suffix(')'))
        .or_else(|| word.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')));
    match inner.and_then(|name| variables.get(name)) {
        Some(value) => value.split_whitespace().map(str::to_owned).collect(),
        None => vec![word.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::{self, Overrides, Source};
    use crate::model::{Package, PackageTarget, Plan, Target};

    fn plan(text: &str, workspace: Option<&Workspace>) -> Plan {
        let source = Source {
            root: PathBuf::from("/w"),
            path: PathBuf::from("/w/memcheck.toml"),
            text: text.to_owned(),
        };
        config::plan(&source, workspace, &Overrides::default(), 4096).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    fn package(name: &str, bins: &[&str]) -> Package {
        Package {
            name: name.to_owned(),
            dir: PathBuf::from("/w").join(name),
            targets: bins
                .iter()
                .map(|bin| PackageTarget {
                    kind: TargetKind::Bin,
                    name: (*bin).to_owned(),
                    required_features: Vec::new(),
                })
                .collect(),
            ..Package::default()
        }
    }

    fn workspace(packages: Vec<Package>) -> Workspace {
        Workspace {
            root: PathBuf::from("/w"),
            target_dir: PathBuf::from("/w/target"),
            packages,
            root_package: None,
        }
    }

    /// Every commented line that is configuration, uncommented.
    fn uncommented(text: &str) -> String {
        let is_toml = |line: &str| line.starts_with("[[") || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
        text.lines()
            .map(|line| line.strip_prefix("# ").filter(|rest| is_toml(rest)).unwrap_or(line))
            .fold(String::new(), |text, line| text + line + "\n")
    }

    #[test]
    fn a_case_per_bin_with_names_that_are_unique_and_allowed() {
        let mut one = package("one", &["Server_2", "tool", "environment"]);
        one.features = vec!["fast".to_owned()];
        one.targets[1].required_features = vec!["fast".to_owned()];
        let workspace = workspace(vec![one, package("two", &["tool"])]);
        let plan = plan(&for_cargo(&workspace), Some(&workspace));
        let names: Vec<&str> = plan.cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names, ["server-2", "tool", "program-environment", "two-tool"]);
        assert!(plan.cases.iter().all(|case| case.checkpoints.len() == 2));
        let Target::Cargo {
            name, package, features, ..
        } = &plan.cases[1].target
        else {
            panic!()
        };
        assert_eq!((name.as_str(), package.as_deref()), ("tool", Some("one")));
        assert_eq!(features, &["fast"]);
    }

    #[test]
    fn the_commented_lines_are_right_too() {
        let workspace = workspace(vec![package("one", &["tool"])]);
        let text = uncommented(&for_cargo(&workspace));
        let plan = plan(&text, Some(&workspace));
        assert_eq!(plan.cases[0].checkpoints.len(), 3, "{text}");
        assert_eq!(plan.cases[0].checkpoints[1].limits.len(), 4, "{text}");
    }

    #[test]
    fn a_library_gets_a_file_without_cases() {
        let workspace = workspace(vec![package("one", &[])]);
        assert!(plan(&for_cargo(&workspace), Some(&workspace)).cases.is_empty());
    }

    #[test]
    fn makefiles() {
        for (text, program) in [
            ("all: server\nserver: server.o\n\tcc -o $@ $<\n", Some("server")),
            ("PROG := tests/pool\n.PHONY: go\ngo: x\nall: go $(PROG)\n", Some("tests/pool")),
            (
                "CC = gcc\n.PHONY: clean\nclean:\n\trm x\nlib.o: lib.c\ntool: lib.o # the tool\n",
                Some("tool"),
            ),
            ("%.o: %.c\n\tcc\nclean:\n", None),
            ("all: $(UNKNOWN)\n", None),
            ("evil;rm: x\n", None),
            ("", None),
        ] {
            assert_eq!(program_of(text).as_deref(), program, "{text}");
        }
    }

    #[test]
    fn c_projects() {
        let dir = tempfile::tempdir().unwrap();
        let target = || plan(&for_c(dir.path()).unwrap(), None).cases[0].target.clone();
        assert!(matches!(target(), Target::Built { path, .. } if path == Path::new("program")));
        fs::write(dir.path().join("a.c"), "int helper(void);\n").unwrap();
        fs::write(dir.path().join("my \"app\".c"), "int main(void) { return 0; }\n").unwrap();
        assert!(matches!(target(), Target::C { sources, .. } if sources == [Path::new("my \"app\".c")]));
        fs::write(dir.path().join("Makefile"), "app: main.c\n").unwrap();
        assert!(
            matches!(target(), Target::Built { path, build: Some(build) } if path == Path::new("app") && build == "make app")
        );
        let text = uncommented(&for_c(dir.path()).unwrap());
        assert_eq!(plan(&text, None).cases[0].checkpoints.len(), 3);
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memcheck.toml");
        write_new(&path, "one").unwrap();
        assert!(write_new(&path, "two").unwrap_err().to_string().contains("exists already"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        assert_eq!((vendor_header(dir.path()), vendor_header(dir.path())), (Ok(true), Ok(false)));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
