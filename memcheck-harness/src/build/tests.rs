//! Builds of real programs in throw-away directories, by the machine's own compiler and cargo.

use std::cell::RefCell;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::child::Capture;
use super::*;
use crate::model::{Defaults, Package, PackageTarget, Place, Profile, TargetKind};

/// A project in a directory of its own.
struct Project {
    _dir: tempfile::TempDir,
    plan: Plan,
    workspace: Option<Workspace>,
    tools: Tools,
    cancel: Cancel,
    events: RefCell<Vec<BuildEvent>>,
}

impl Project {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let project = Self {
            _dir: dir,
            plan: Plan {
                file: "memcheck.toml".into(),
                is_cargo: false,
                data_dir: root.join("target/memcheck-data"),
                root,
                defaults: Defaults::default(),
                cases: Vec::new(),
                cases_in_file: 0,
                partition: None,
            },
            workspace: None,
            tools: Tools {
                cargo_output: Capture::Both,
                ..Tools::from_environment()
            },
            cancel: Cancel::new(),
            events: RefCell::default(),
        };
        for (name, text) in files {
            project.write(name, text);
        }
        project
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.plan.root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn program(&self, name: &str, text: &str) {
        fs::set_permissions(self.write(name, text), Permissions::from_mode(0o755)).unwrap();
    }

    fn discovered(mut self) -> Self {
        self.workspace = discover::workspace(&self.plan.root, &self.tools).unwrap();
        self
    }

    fn build_all(&mut self, targets: Vec<Target>) -> Vec<Result<Binary>> {
        let root = self.plan.root.clone();
        self.plan.cases = targets
            .into_iter()
            .enumerate()
            .map(|(i, target)| Case::new(format!("case-{i}"), &root, target))
            .collect();
        self.build_cases().unwrap()
    }

    fn build_cases(&self) -> Result<Vec<Result<Binary>>> {
        let progress = |event| self.events.borrow_mut().push(event);
        build_with(&self.plan, self.workspace.as_ref(), &self.tools, &self.cancel, &progress)
    }

    fn build(&mut self, target: Target) -> Result<Binary> {
        self.build_all(vec![target]).remove(0)
    }

    fn refused(&mut self, target: Target, kind: ProblemKind, words: &[&str]) {
        let error = self.build(target).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "{word:?} is not in:\n{error}");
        }
    }
}

fn c(sources: &[&str]) -> Target {
    c_with(sources, &[], None)
}

fn c_with(sources: &[&str], cflags: &[&str], compiler: Option<&str>) -> Target {
    Target::C {
        sources: sources.iter().map(PathBuf::from).collect(),
        cflags: cflags.iter().map(|&flag| flag.to_owned()).collect(),
        ldflags: Vec::new(),
        compiler: compiler.map(str::to_owned),
    }
}

fn built(path: &str, build: Option<&str>) -> Target {
    Target::Built {
        path: path.into(),
        build: build.map(str::to_owned),
    }
}

fn cargo_target(kind: TargetKind, name: &str, features: &[&str]) -> Target {
    Target::Cargo {
        kind,
        name: name.to_owned(),
        package: None,
        features: features.iter().map(|&feature| feature.to_owned()).collect(),
        profile: Profile::Named("dev".to_owned()),
        triple: None,
    }
}

fn exit_code(program: &Path) -> i32 {
    #[expect(clippy::disallowed_methods, reason = "a test runs what it built")]
    let status = std::process::Command::new(program).status().unwrap();
    status.code().unwrap()
}

const TWO_FILES: &[(&str, &str)] = &[
    (
        "src/main.c",
        "#include \"memcheck.h\"\n#include \"inc/n.h\"\nint other(void);\nint main(void) { MEMCHECK_CHECKPOINT(x); return N + other(); }\n",
    ),
    ("src/other.c", "int other(void) { return 2; }\n"),
    ("src/inc/n.h", "#define N 40\n"),
];

#[test]
fn a_c_program_is_built_once_and_again_when_a_header_changes() {
    let mut project = Project::new(TWO_FILES);
    let target = c(&["src/main.c", "src/other.c"]);
    let first = project.build(target.clone()).unwrap();
    assert_eq!(exit_code(&first.path), 42);
    assert_eq!(
        (first.label.as_str(), first.argv0.as_str(), first.script),
        ("src/main.c", Some("main"), false)
    );
    assert!(first.toolchain.as_ref().unwrap().contains(char::is_numeric));
    let inode = first.path.metadata().unwrap().ino();
    assert_eq!(project.events.borrow().len(), 1);

    let again = project.build(target.clone()).unwrap();
    assert_eq!((again.path.metadata().unwrap().ino(), &again), (inode, &first));
    assert_eq!(project.events.borrow().len(), 1, "nothing was compiled");

    project.write("src/inc/n.h", "#define N 1\n");
    let changed = project.build(target.clone()).unwrap();
    assert_eq!(exit_code(&changed.path), 3);
    assert_ne!(changed.path, first.path);
    assert_eq!(
        changed.path.as_os_str().len(),
        first.path.as_os_str().len(),
        "the path lies on the program's stack"
    );

    project.write("src/inc/n.h", "#define N 40\n");
    assert_eq!(project.build(target).unwrap(), first, "the old state is still there");
    assert_eq!(project.events.borrow().len(), 2);
}

#[test]
fn flags_of_the_case_win_over_the_defaults_and_make_another_program() {
    let mut project = Project::new(&[(
        "a.c",
        "int main(void) {\n#ifdef __OPTIMIZE__\nreturn N;\n#else\nreturn 9;\n#endif\n}\n",
    )]);
    let programs = project.build_all(vec![c_with(&["a.c"], &["-DN=5"], None), c_with(&["a.c"], &["-O0"], None)]);
    let codes: Vec<i32> = programs
        .iter()
        .map(|program| exit_code(&program.as_ref().unwrap().path))
        .collect();
    assert_eq!(codes, [5, 9]);
}

#[test]
fn the_program_does_not_depend_on_where_the_project_lies() {
    let bytes = || {
        let mut project = Project::new(TWO_FILES);
        fs::read(project.build(c(&["src/main.c", "src/other.c"])).unwrap().path).unwrap()
    };
    assert!(bytes() == bytes());
}

#[test]
fn a_compile_error_is_the_compilers_own() {
    let mut project = Project::new(&[
        ("bad.c", "int main(void) { return undeclared_thing; }\n"),
        ("nolink.c", "int f(void);\nint main(void) { return f(); }\n"),
    ]);
    project.refused(
        c(&["bad.c"]),
        ProblemKind::Build,
        &["bad.c does not compile", "undeclared_thing", "command: ", "-O1 -g"],
    );
    project.refused(
        c(&["nolink.c"]),
        ProblemKind::Build,
        &["nolink.c does not link", "undefined reference"],
    );
    let left: Vec<_> = fs::read_dir(project.plan.data_dir.join("c")).unwrap().collect();
    assert_eq!(left.len(), 0, "no half-built program stays");
}

#[test]
fn what_is_missing_is_named() {
    let mut project = Project::new(&[("threads.c", "int main(void) { return 0; }\n")]);
    project.refused(
        c(&["thraeds.c"]),
        ProblemKind::Config,
        &["C source thraeds.c does not exist", "did you mean threads.c?"],
    );
    project.refused(c(&[]), ProblemKind::Config, &["at least one source"]);
    project.refused(
        c_with(&["threads.c"], &[], Some("no-such-gcc")),
        ProblemKind::Build,
        &["C compiler `no-such-gcc` not found", "gcc-no-such"],
    );
    project.refused(
        cargo_target(TargetKind::Bin, "x", &[]),
        ProblemKind::Config,
        &["no Cargo.toml"],
    );
}

#[test]
fn a_compiler_may_be_a_path_below_the_root() {
    let mut project = Project::new(&[("a.c", "int main(void) { return MINE; }\n")]);
    project.program("tools/mycc", "#!/bin/sh\nexec cc -DMINE=6 \"$@\"\n");
    let binary = project.build(c_with(&["a.c"], &[], Some("tools/mycc"))).unwrap();
    assert_eq!(exit_code(&binary.path), 6);
    assert_eq!(
        project.events.borrow()[0],
        BuildEvent::Started {
            verb: "Compiling",
            what: "a.c (mycc)".to_owned()
        }
    );
}

#[test]
fn an_error_says_where_its_target_was_written() {
    let mut project = Project::new(&[]);
    let mut case = Case::new("one", &project.plan.root, c(&["none.c"]));
    case.target_place = Place {
        file: "memcheck.toml".to_owned(),
        line: 7,
        column: 3,
    };
    project.plan.cases = vec![case];
    let error = project.build_cases().unwrap().remove(0).unwrap_err();
    assert!(
        error.to_string().ends_with("target of case one at memcheck.toml:7"),
        "{error}"
    );
}

#[test]
fn a_build_command_that_fails_without_a_word_promises_no_lines() {
    let mut project = Project::new(&[]);
    let mut failed = |build: &str| {
        let result = project.build(built("out/pool", Some(build)));
        result.unwrap_err().to_string()
    };
    let silent = failed("false");
    assert!(silent.contains("with sh -c and printed nothing"), "{silent}");
    assert!(!silent.contains("last lines"), "{silent}");
    let said = failed("echo why; exit 1");
    assert!(
        said.contains("with sh -c; its last lines:\n") && said.contains("  why"),
        "{said}"
    );
}

#[test]
fn a_build_command_runs_once_in_the_root_and_its_program_is_checked() {
    let mut project = Project::new(&[]);
    let make = "echo x >> runs; mkdir -p out; printf '#!/bin/sh\\nexit 4\\n' > out/pool; chmod +x out/pool";
    let programs = project.build_all(vec![
        built("out/pool", Some(make)),
        built("out/pool", Some(make)),
        built("out/pol", Some(make)),
    ]);
    assert_eq!(fs::read_to_string(project.plan.root.join("runs")).unwrap(), "x\n");
    let pool = programs[0].as_ref().unwrap();
    assert_eq!(exit_code(&pool.path), 4);
    assert!(pool.script);
    assert_eq!(pool.label, "out/pool (a script: /bin/sh is what runs)");
    assert_eq!(pool.argv0, Name::from("out/pool"));
    let error = programs[2].as_ref().unwrap_err();
    assert_eq!(error.kind(), ProblemKind::Config);
    assert!(
        error.to_string().contains("succeeded") && error.to_string().contains("did you mean pool?"),
        "{error}"
    );
    assert_eq!(
        *project.events.borrow(),
        [BuildEvent::Started {
            verb: "Building",
            what: make.to_owned()
        }]
    );
}

#[test]
fn a_failed_build_command_shows_its_last_lines() {
    let mut project = Project::new(&[]);
    project.refused(
        built("x", Some("echo on-stdout; echo on-stderr >&2; exit 7")),
        ProblemKind::Build,
        &["exit code 7", "  on-stdout\n  on-stderr"],
    );
    project.refused(built("x", None), ProblemKind::Config, &["x does not exist", "build = "]);
}

#[test]
fn commands_are_looked_up_on_path() {
    let mut project = Project::new(&[("bin/data", "not a program")]);
    project.program("bin/tool", "#!/bin/sh\n");
    project.program("other/tool", "#!/bin/sh\n");
    let bin = project.plan.root.join("bin");
    project.tools.search =
        std::env::join_paths([Path::new(""), Path::new("relative"), &bin, &project.plan.root.join("other")]).unwrap();
    let command = |program: &str| Target::Command {
        program: program.to_owned(),
    };
    let tool = project.build(command("tool")).unwrap();
    assert_eq!((tool.path, tool.argv0), (bin.join("tool"), Name::from("tool")));
    assert_eq!(
        project.build(command("./other/tool")).unwrap().argv0,
        Name::from("./other/tool")
    );
    project.refused(command("no-such-tool"), ProblemKind::Config, &["no-such-tool is not on PATH"]);
    project.refused(
        command("data"),
        ProblemKind::Config,
        &["bin/data exists but is not executable"],
    );
    project.refused(
        command("other/tol"),
        ProblemKind::Config,
        &["other/tol does not exist", "did you mean tool?"],
    );
    assert!(!project.plan.data_dir.exists(), "nothing to build, nothing written");
}

#[test]
fn cancelling_ends_a_build() {
    let mut project = Project::new(&[]);
    let root = project.plan.root.clone();
    project.plan.cases = vec![Case::new("slow", &root, built("x", Some("touch started; sleep 60")))];
    let started = Instant::now();
    let cancel = project.cancel.clone();
    let (plan, tools) = (&project.plan, &project.tools);
    let result = thread::scope(|scope| {
        let running = scope.spawn(|| build_with(plan, None, tools, &cancel, &|_| ()));
        while !root.join("started").exists() {
            thread::sleep(Duration::from_millis(5));
        }
        cancel.cancel(2);
        running.join().unwrap()
    });
    assert!(matches!(result.unwrap_err().kind(), ProblemKind::Interrupted(_)));
    assert!(started.elapsed() < Duration::from_secs(30));
}

const CARGO: &[(&str, &str)] = &[
    ("Cargo.toml", "[workspace]\nmembers = [\"one\", \"two\"]\nresolver = \"2\"\n"),
    (
        "one/Cargo.toml",
        "[package]\nname = \"one\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[features]\nfast = []\n\
         [[bin]]\nname = \"gated\"\nrequired-features = [\"fast\"]\n\
         [[test]]\nname = \"memory\"\nharness = false\n\
         [package.metadata.memcheck]\ntests = [\"memory\"]\n",
    ),
    ("one/src/main.rs", "fn main() { std::process::exit(11) }\n"),
    ("one/src/bin/gated.rs", "fn main() { std::process::exit(12) }\n"),
    ("one/examples/shown.rs", "fn main() { std::process::exit(13) }\n"),
    ("one/tests/memory.rs", "fn main() { std::process::exit(14) }\n"),
    (
        "two/Cargo.toml",
        "[package]\nname = \"two\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
    ),
    ("two/src/main.rs", "fn main() { std::process::exit(21) }\n"),
    ("two/src/bin/broken.rs", "fn main() { does_not_exist() }\n"),
    ("two/examples/shown.rs", "fn main() {}\n"),
    ("main.c", "int main(void) { return 3; }\n"),
];

#[test]
fn a_workspace_is_discovered() {
    let project = Project::new(CARGO).discovered();
    let workspace = project.workspace.unwrap();
    assert_eq!((&workspace.root, workspace.root_package), (&project.plan.root, None));
    let one: &Package = &workspace.packages[0];
    assert_eq!((one.name.as_str(), &one.dir), ("one", &project.plan.root.join("one")));
    assert_eq!(one.harness_tests, ["memory"]);
    assert_eq!(one.features, ["fast"]);
    let targets: Vec<_> = one
        .targets
        .iter()
        .map(|target| (target.kind.name(), target.name.as_str()))
        .collect();
    assert_eq!(
        targets,
        [("bin", "gated"), ("bin", "one"), ("example", "shown"), ("test", "memory")]
    );
    let gated = PackageTarget {
        kind: TargetKind::Bin,
        name: "gated".to_owned(),
        required_features: vec!["fast".to_owned()],
    };
    assert_eq!(one.targets[0], gated);
    // From below, too.
    assert!(
        discover::workspace(&project.plan.root.join("two/src"), &project.tools)
            .unwrap()
            .is_some()
    );
}

#[test]
fn without_a_manifest_there_is_no_workspace_and_a_bad_one_is_cargos_to_explain() {
    let project = Project::new(&[("a/main.c", "")]);
    assert_eq!(discover::workspace(&project.plan.root, &project.tools), Ok(None));
    let refused = |manifest: &str, tools: &Tools| {
        project.write("a/Cargo.toml", manifest);
        discover::workspace(&project.plan.root.join("a"), tools).unwrap_err()
    };
    let package = "[package]\nname = \"a\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[[bin]]\nname = \"a\"\npath = \"main.c\"\n";
    for (manifest, words) in [
        ("[package]\nnam = \"a\"\n".to_owned(), "name"),
        (
            format!("{package}[package.metadata.memcheck]\ntest = [\"m\"]\n"),
            "unknown key `test`",
        ),
        (
            format!("{package}[package.metadata.memcheck]\ntests = \"m\"\n"),
            "must be a list",
        ),
        (
            format!("{package}[package.metadata.memcheck]\ntests = [\"m\"]\n"),
            "no test target `m`",
        ),
    ] {
        let error = refused(&manifest, &project.tools);
        assert_eq!(error.kind(), ProblemKind::Config, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    let nowhere = Tools {
        cargo: "/no/such/cargo".into(),
        ..project.tools.clone()
    };
    assert!(
        refused(package, &nowhere)
            .to_string()
            .contains("could not run /no/such/cargo")
    );
}

#[test]
fn cargo_targets_are_built_and_found_by_kind_and_package() {
    let mut project = Project::new(CARGO).discovered();
    let mut targets = vec![
        cargo_target(TargetKind::Bin, "one", &[]),
        cargo_target(TargetKind::Bin, "two", &[]),
        cargo_target(TargetKind::Bin, "gated", &["fast"]),
        cargo_target(TargetKind::Test, "memory", &[]),
        cargo_target(TargetKind::Bin, "gated", &[]),
        cargo_target(TargetKind::Example, "shown", &[]),
        cargo_target(TargetKind::Bin, "tow", &[]),
        cargo_target(TargetKind::Example, "shown", &[]),
    ];
    let Some(Target::Cargo { package, .. }) = targets.last_mut() else {
        unreachable!()
    };
    *package = Some("one".to_owned());
    let binaries = project.build_all(targets);
    let codes: Vec<i32> = [0, 1, 2, 3, 7]
        .iter()
        .map(|&i: &usize| exit_code(&binaries[i].as_ref().unwrap().path))
        .collect();
    assert_eq!(codes, [11, 21, 12, 14, 13]);
    let one = binaries[0].as_ref().unwrap();
    assert_eq!((one.label.as_str(), one.argv0.as_str()), ("bin one", Some("one")));
    let toolchain = one.toolchain.as_ref().unwrap();
    assert!(
        toolchain.starts_with("rustc 1.") && toolchain.ends_with(", dev"),
        "{toolchain}"
    );
    for (index, kind, words) in [
        (4, ProblemKind::Build, "bin `gated` requires the features: fast"),
        (5, ProblemKind::Config, "exists in several packages: one, two"),
        (6, ProblemKind::Config, "did you mean two?"),
    ] {
        let error = binaries[index].as_ref().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_cargo_failure_leaves_c_programs_alone() {
    let mut project = Project::new(CARGO).discovered();
    let binaries = project.build_all(vec![
        cargo_target(TargetKind::Bin, "broken", &[]),
        cargo_target(TargetKind::Bin, "one", &[]),
        c(&["main.c"]),
    ]);
    for binary in &binaries[..2] {
        let error = binary.as_ref().unwrap_err();
        assert_eq!(error.kind(), ProblemKind::Build);
        assert!(
            error.to_string().contains("does_not_exist") && error.to_string().contains("command: "),
            "{error}"
        );
    }
    assert_eq!(exit_code(&binaries[2].as_ref().unwrap().path), 3);
}

#[test]
fn the_injected_profile_keeps_symbols_and_needs_no_manifest() {
    let mut project = Project::new(CARGO).discovered();
    let mut target = cargo_target(TargetKind::Bin, "two", &[]);
    let Target::Cargo { profile, .. } = &mut target else {
        unreachable!()
    };
    *profile = Profile::Injected;
    let binary = project.build(target).unwrap();
    assert!(binary.path.ends_with("memcheck/two"), "{}", binary.path.display());
    assert!(binary.toolchain.unwrap().ends_with(", memcheck"));
    let bytes = fs::read(&binary.path).unwrap();
    assert!(bytes.windows(12).any(|window| window == b".debug_line\0"), "line tables");
}
