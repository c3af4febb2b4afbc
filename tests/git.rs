//! `compare --base` end to end, in throw-away git repositories, and runs with other C libraries. Behind the feature `oracles`: it
//! needs git, and what `.ci/glibcs` unpacks.

#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use tests::{Project, Run};

#[path = "git/glibc.rs"]
mod glibc;
#[path = "git/limits.rs"]
mod limits;
#[path = "git/edits.rs"]
mod edits;
#[path = "git/regressions.rs"]
mod regressions;
#[path = "git/terms.rs"]
mod terms;
#[path = "git/toolchain.rs"]
mod toolchain;
#[path = "git/upgrade.rs"]
mod upgrade;

/// The command under test.
const TOOL: &str = env!("CARGO_BIN_EXE_cargo-memcheck");

/// A block of as many KiB as the macro says, written.
const PROGRAM: &str = r#"
#include <stdlib.h>
#include "memcheck.h"
#define KIB 40
int main(void) {
    MEMCHECK_CHECKPOINT(start);
    volatile char *block = malloc(KIB << 10);
    for (int i = 0; i < KIB << 10; i++)
        block[i] = 1;
    MEMCHECK_CHECKPOINT(done);
    return 0;
}
"#;

const TOML: &str = r#"
[[case]]
name = "block"
target = { c = "main.c" }
checkpoint = [{ name = "start" }, { name = "done" }]
"#;

/// The same with a limit over the base.
const LIMITED: &str = r#"
[[case]]
name = "block"
target = { c = "main.c" }
budget.own.anon = { max_growth = "16 KiB", over = "base" }
checkpoint = [{ name = "start" }, { name = "done" }]
"#;

#[track_caller]
fn memcheck(project: &Project, args: &[&str]) -> Run {
    project.run(Path::new(TOOL), args)
}

/// Standard output holds the text, however it is wrapped.
#[track_caller]
fn says(run: &Run, text: &str) {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words(&run.stdout).contains(words(text).as_str()),
        "no {text:?} in:\n{}",
        run.stdout
    );
}

/// Runs git as nobody in particular.
#[track_caller]
fn git(project: &Project, args: &[&str]) -> String {
    let who = [
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@example.org",
        "-c",
        "init.defaultBranch=main",
    ];
    let run = project.run(Path::new("git"), &[&who[..], args].concat()).expect_code(0);
    run.stdout.trim().to_owned()
}

#[track_caller]
fn commit(project: &Project, message: &str) {
    let _ = git(project, &["add", "-A"]);
    let _ = git(project, &["commit", "-q", "-m", message]);
}

/// A repository whose first commit, on `main`, is the files given; the current branch is `topic`.
fn repository(files: &[(&str, &str)]) -> Project {
    let project = Project::new().file(".gitignore", "target/\n");
    for (path, text) in files {
        project.write(path, text);
    }
    let _ = git(&project, &["init", "-q"]);
    commit(&project, "first");
    let _ = git(&project, &["switch", "-q", "-c", "topic"]);
    project
}

#[track_caller]
fn edit(project: &Project, path: &str, from: &str, to: &str) {
    let text = project.read(path);
    assert!(text.contains(from), "{path} has no {from:?}");
    project.write(path, &text.replace(from, to));
}

/// Nothing of a worktree is left: neither its directory nor what git remembers of it.
#[track_caller]
fn nothing_left(project: &Project) {
    assert_eq!(git(project, &["worktree", "list"]).lines().count(), 1);
    let holder = holder(project);
    assert!(!holder.exists(), "{}", holder.display());
}

/// Where the last worktree was.
fn holder(project: &Project) -> PathBuf {
    PathBuf::from(project.read("target/memcheck-data/base/worktree"))
}

#[test]
fn a_change_is_told_and_only_a_limit_fails() {
    let project = repository(&[("main.c", PROGRAM), ("memcheck.toml", TOML)]);
    edit(&project, "main.c", "KIB 40", "KIB 90");
    let _ = memcheck(&project, &["compare"])
        .expect_code(0)
        .expect_stderr("with uncommitted changes")
        .expect_stdout("CHANGED block @ done")
        .expect_stdout("main-heap")
        .expect_stdout("both sides ran on this machine");
    nothing_left(&project);
    commit(&project, "more");
    let run = memcheck(&project, &["compare", "--base", "main"]).expect_code(0);
    let last = run.stdout.lines().last().unwrap();
    assert!(last.starts_with("compared 2 checkpoints in 1 case with base "), "{last}");
    assert!(last.ends_with(" (main): 1 changed"), "{last}");

    project.write("memcheck.toml", LIMITED);
    let run = memcheck(&project, &["compare"])
        .expect_code(3)
        .expect_stdout("Budget exceeded: own.anon")
        .expect_stdout("1 over a limit");
    says(&run, "(max_growth over base: 92 KiB = 76 KiB + 16 KiB)");
    let json = memcheck(&project, &["compare", "--message-format", "json"]).expect_code(3);
    let lines: Vec<serde_json::Value> = json.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (&lines[0]["reason"], &lines[0]["outcome"]),
        (&"compare-case".into(), &"budget".into())
    );
    let done = &lines[0]["checkpoints"][1];
    let anon = |side: &serde_json::Value| side["own"]["anon"].as_u64().unwrap();
    assert_eq!(anon(done) - anon(&done["before"]), 48 << 10, "{done}");
    assert_eq!((&lines[1]["reason"], &lines[1]["exit_code"]), (&"compare".into(), &3.into()));
    nothing_left(&project);
}

#[test]
fn an_unchanged_commit_is_the_same() {
    let project = repository(&[("main.c", PROGRAM), ("memcheck.toml", LIMITED)]);
    project.write("README", "nothing that is measured\n");
    commit(&project, "words");
    for _ in 0..3 {
        let run = memcheck(&project, &["compare"]).expect_code(0);
        assert!(run.stdout.trim_end().ends_with(": 1 the same"), "{}", run.stdout);
    }
    let run = memcheck(&project, &["compare", "--base", "HEAD"]).expect_code(0);
    says(&run, "nothing is changed: another base is --base REF");
}

#[test]
fn a_branch_stands_for_where_ours_left_it() {
    let project = repository(&[("main.c", PROGRAM), ("memcheck.toml", TOML)]);
    let _ = git(&project, &["switch", "-q", "main"]);
    edit(&project, "main.c", "KIB 40", "KIB 8");
    commit(&project, "less, on main");
    let _ = git(&project, &["switch", "-q", "topic"]);
    let run = memcheck(&project, &["compare", "--base", "main"]).expect_code(0);
    assert!(run.stdout.contains("HEAD itself, which main holds"), "{}", run.stdout);
    let exact = git(&project, &["rev-parse", "main"]);
    let run = memcheck(&project, &["compare", "--base", &exact]).expect_code(0);
    assert!(run.stdout.trim_end().ends_with(": 1 changed"), "{}", run.stdout);
}

#[test]
fn what_cannot_be_a_base_says_why_and_what_to_do() {
    let none = Project::new().file("main.c", PROGRAM).file("memcheck.toml", TOML);
    let _ = memcheck(&none, &["compare"])
        .expect_code(2)
        .expect_stderr("is not in a git repository");
    let _ = git(&none, &["init", "-q"]);
    let _ = memcheck(&none, &["compare"])
        .expect_code(2)
        .expect_stderr("the repository has no commit yet");

    let project = repository(&[("main.c", PROGRAM), ("memcheck.toml", TOML)]);
    let _ = memcheck(&project, &["compare", "--base", "mian"])
        .expect_code(2)
        .expect_all(&["git knows no commit `mian`", "did you mean main?"]);
    let _ = memcheck(&project, &["compare", "--base=--upload-pack=x"]).expect_code(2);
    let _ = git(&project, &["switch", "-q", "--orphan", "stranger"]);
    project.write("main.c", PROGRAM);
    project.write("memcheck.toml", TOML);
    commit(&project, "another beginning");
    let _ = memcheck(&project, &["compare"])
        .expect_code(2)
        .expect_all(&["HEAD and main have no commit in common", "--base COMMIT"]);
    assert!(!project.has("target/memcheck-data/base/worktree"));
}

#[test]
fn a_shallow_clone_is_told_how_to_be_whole() {
    let project = repository(&[("main.c", PROGRAM), ("memcheck.toml", TOML)]);
    edit(&project, "main.c", "KIB 40", "KIB 50");
    commit(&project, "more");
    let first = git(&project, &["rev-parse", "main"]);
    let _ = git(&project, &["switch", "-q", "main"]);
    let clone = Project::new();
    let from = format!("file://{}", project.path().display());
    let _ = git(&clone, &["clone", "-q", "--depth", "1", "--branch", "topic", &from, "."]);
    for args in [&["compare"][..], &["compare", "--base", &first]] {
        let _ = memcheck(&clone, args)
            .expect_code(2)
            .expect_all(&["shallow", "git fetch --unshallow", "fetch-depth: 0"]);
    }
}

#[test]
fn a_base_without_configuration_case_or_build() {
    let project = repository(&[("main.c", PROGRAM)]);
    project.write("memcheck.toml", TOML);
    edit(&project, "main.c", "KIB 40", "KIB 90");
    let run = memcheck(&project, &["compare"]).expect_code(0);
    says(
        &run,
        "has no memcheck.toml: its programs are measured with the cases of the working tree",
    );
    assert!(run.stdout.contains("CHANGED block"), "{}", run.stdout);
    let _ = memcheck(&project, &["compare", "--limits-from", "base"])
        .expect_code(2)
        .expect_stderr("has no memcheck.toml to take limits from");

    commit(&project, "configuration");
    project.write("memcheck.toml", &[TOML, &TOML.replace("\"block\"", "\"another\"")].concat());
    let _ = memcheck(&project, &["compare", "--base", "HEAD"])
        .expect_code(0)
        .expect_stdout("new, with nothing to compare: another");
    let _ = memcheck(&project, &["compare", "another", "--base", "HEAD"])
        .expect_code(4)
        .expect_stdout("nothing was compared");

    project.write("memcheck.toml", TOML);
    project.write("main.c", "this does not compile");
    commit(&project, "broken");
    project.write("main.c", PROGRAM);
    let run = memcheck(&project, &["compare", "--base", "HEAD"]).expect_code(101);
    says(&run, "at the base: ");
    says(&run, "the base itself cannot be measured");
    nothing_left(&project);
}

#[test]
fn the_base_never_takes_the_build_of_the_working_tree() {
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("../memcheck-probe/include");
    let toml = |path: &str, build: &str| {
        let target = format!("target = {{ path = \"{path}\"{build} }}");
        TOML.replace("target = { c = \"main.c\" }", &target)
    };
    let build = |path: &str| format!(", build = \"cc -I{} -o {path} main.c\"", header.display());
    let project = repository(&[
        (".gitignore", "target/\nprog\n"),
        ("main.c", PROGRAM),
        ("memcheck.toml", &toml("prog", &build("prog"))),
    ]);
    edit(&project, "main.c", "KIB 40", "KIB 90");
    // The program lies there, built and ignored by git: the base builds its own.
    let run = memcheck(&project, &["compare"]).expect_code(0);
    says(&run, "CHANGED block @ done");
    // Without a command there is none at the base.
    project.write("memcheck.toml", &toml("prog", ""));
    commit(&project, "no build");
    let run = memcheck(&project, &["compare", "--base", "HEAD"]).expect_code(2);
    says(&run, "at the base: ");
    // A command that writes elsewhere writes one program for both.
    let shared = project.path().join("target/prog").display().to_string();
    project.write("memcheck.toml", &toml(&shared, &build(&shared)));
    commit(&project, "one file for all");
    let run = memcheck(&project, &["compare", "--base", "HEAD"]).expect_code(2);
    says(&run, "both sides are built into the same file");
    nothing_left(&project);
}

#[test]
fn a_file_that_git_does_not_know_is_a_change() {
    let project = repository(&[("main.c", PROGRAM), ("memcheck.toml", TOML)]);
    let run = memcheck(&project, &["compare"]).expect_code(0);
    says(&run, "nothing is changed");
    project.write("more.h", "\n");
    let run = memcheck(&project, &["compare"])
        .expect_code(0)
        .expect_stderr("with files that git does not know");
    assert!(!run.stdout.contains("nothing is changed"), "{}", run.stdout);
}

#[test]
fn a_cargo_project_that_never_heard_of_us() {
    let manifest = "[package]\nname = \"plain\"\nversion = \"0.1.0\"\nedition = \"2021\"\n";
    let source = "fn main() { std::mem::forget(std::hint::black_box(vec![1u8; SIZE])); }\nconst SIZE: usize = 64 << 10;\n";
    let lock = "version = 3\n\n[[package]]\nname = \"plain\"\nversion = \"0.1.0\"\n";
    let project = repository(&[("Cargo.toml", manifest), ("src/main.rs", source), ("Cargo.lock", lock)]);
    edit(&project, "src/main.rs", "64 << 10", "512 << 10");
    // A setting of the working tree is not one of the base, which lies elsewhere.
    project.write(".cargo/config.toml", "[build]\nrustflags = [\"--cfg\", \"changed\"]\n");
    let run = memcheck(&project, &["compare"]).expect_code(0);
    assert!(run.stdout.contains("CHANGED plain @ exit"), "{}", run.stdout);
    assert!(run.stdout.contains("mmap-chunk"), "{}", run.stdout);
    let invoked = |dir: &str| project.has(&format!("{dir}/release/plain"));
    assert!(
        invoked("target") && invoked("target/memcheck-data/base/target"),
        "each side has its own build"
    );
    assert!(
        git(&project, &["status", "--porcelain"])
            .lines()
            .all(|line| !line.contains("target"))
    );
    nothing_left(&project);
}

/// A project whose program waits for ever, in a comparison that has come to measure.
fn measuring() -> (Project, String, Child) {
    let marker = tests::marker("compare");
    let source = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n";
    let toml = format!(
        "[[case]]\nname = \"waits\"\ntarget = {{ c = \"main.c\" }}\nargs = [\"{marker}\"]\ntimeout = \"100s\"\n\
         checkpoint = [{{ name = \"m\", at = \"main\" }}, {{ name = \"e\", at = \"exit\" }}]\n"
    );
    let project = repository(&[("main.c", source), ("memcheck.toml", &toml)]);
    let line = ["--default-signal=INT,QUIT,HUP,TERM", TOOL, "compare"];
    let child = project.spawn(Path::new("env"), &line).unwrap();
    assert!(tests::until(Duration::from_secs(60), || !tests::processes_with(&marker).is_empty()));
    (project, marker, child)
}

fn send(signal: i32, child: &Child) {
    let number = format!("-{signal}");
    let project = Project::new();
    let _ = project
        .run(Path::new("kill"), &[&number, &child.id().to_string()])
        .expect_code(0);
}

#[test]
fn an_interrupted_comparison_leaves_nothing_behind() {
    let (project, marker, child) = measuring();
    send(2, &child);
    let _ = tests::collect(child).expect_code(130);
    assert!(tests::gone(&marker));
    nothing_left(&project);
}

#[test]
fn what_a_killed_one_leaves_the_next_one_removes() {
    let (project, marker, child) = measuring();
    let place = holder(&project);
    send(9, &child);
    let _ = tests::collect(child);
    assert!(tests::gone(&marker));
    assert!(place.exists(), "SIGKILL cannot be answered");
    edit(&project, "memcheck.toml", ", { name = \"e\", at = \"exit\" }", "");
    commit(&project, "it need not end");
    let _ = memcheck(&project, &["compare", "--base", "HEAD"]).expect_code(0);
    assert!(!place.exists());
    nothing_left(&project);
}
