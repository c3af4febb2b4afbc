//! Projects that never heard of us: `cargo memcheck` shows their programs, `init` writes a first configuration.

use tests::Project;

use super::gate::edit;
use super::{GROW, memcheck, shell};

/// A crate with a program that allocates and ends, and one that does not end.
fn project() -> Project {
    Project::new()
        .file(
            "Cargo.toml",
            "[package]\nname = \"hello\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[workspace]\n",
        )
        .file(
            "src/main.rs",
            "fn main() {\n    let block = vec![1_u8; 1 << 20];\n    println!(\"{}\", block.len());\n}\n",
        )
        .file(
            "src/bin/wait_here.rs",
            "fn main() {\n    std::thread::sleep(std::time::Duration::from_secs(600));\n}\n",
        )
}

/// Fast builds.
const DEV: [&str; 3] = ["memcheck", "--profile", "dev"];

#[test]
fn programs_of_a_workspace_are_shown_and_nothing_is_gated() {
    let project = project();
    let run = memcheck(&project, &DEV).expect_code(0).expect_last_line(
        "measured 4 checkpoints in 2 programs: nothing is gated without a memcheck.toml; to begin: cargo memcheck init; \
         what a change grew: cargo memcheck compare",
    );
    for text in [
        "hello @ main",
        "hello @ exit",
        "wait-here @ main",
        "wait-here @ running",
        "wait-here was still running after 2 s",
        "platform",
        "total",
    ] {
        assert!(run.stdout.contains(text), "no {text} in\n{}", run.stdout);
    }
    let files: Vec<String> = project.paths().into_iter().filter(|path| path != "Cargo.lock").collect();
    assert_eq!(files, ["Cargo.toml", "src/bin/wait_here.rs", "src/main.rs"]);

    let _ = super::memcheck_with(&project, &DEV, &[("CI", "true")])
        .expect_code(2)
        .expect_stderr("gates nothing is a failure");

    // A selection, from below, as machine output.
    project.write("src/deep/x", "");
    let args = [
        "--manifest-path",
        "src/deep",
        "--profile",
        "dev",
        "hello",
        "--message-format",
        "json",
    ];
    let run = memcheck(&project, &args).expect_code(0);
    assert_eq!(run.stdout.lines().count(), 1, "{}", run.stdout);
    let _ = memcheck(&project, &["--budget", "own.anon<=1MiB"])
        .expect_code(2)
        .expect_stderr("cargo memcheck init");
    let _ = memcheck(&project, &["nothing-like-it"]).expect_code(4);
    let _ = memcheck(&project, &["nothing-like-it", "--no-tests=pass"]).expect_code(0);

    project.write("src/main.rs", "fn main() { undeclared() }\n");
    let _ = memcheck(&project, &["--profile", "dev", "hello"])
        .expect_code(101)
        .expect_stderr("cannot find function `undeclared`");
}

#[test]
fn from_init_to_a_gate() {
    let project = project();
    let _ = memcheck(&project, &["memcheck", "init"])
        .expect_code(0)
        .expect_all(&["Created", "memcheck.toml", "accept"]);
    let written = project.read("memcheck.toml");
    let _ = memcheck(&project, &["memcheck", "init"])
        .expect_code(2)
        .expect_stderr("exists already");
    assert_eq!(project.read("memcheck.toml"), written);
    let list = memcheck(&project, &["list"]).expect_code(0);
    for text in ["hello", "wait-here", "main exit", "memcheck.toml:"] {
        assert!(list.stdout.contains(text), "{}", list.stdout);
    }
    let _ = memcheck(&project, &["accept", "--profile", "dev", "hello"]).expect_code(0);
    let _ = memcheck(&project, &["--profile", "dev", "hello"])
        .expect_code(0)
        .expect_last_line("measured 2 checkpoints in 1 case: all passed");
    edit(&project, "# budget.own.anon = \"64 MiB\"", "budget.own.anon = \"8 KiB\"");
    let _ = memcheck(&project, &["--profile", "dev", "hello"])
        .expect_code(3)
        .expect_stderr("own.anon");
}

#[test]
fn a_library_has_nothing_to_show() {
    let project = Project::new()
        .file(
            "Cargo.toml",
            "[package]\nname = \"lib\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[workspace]\n",
        )
        .file("src/lib.rs", "");
    let run = memcheck(&project, &["memcheck"]).expect_code(4);
    assert!(
        run.last_line().starts_with("nothing was measured: the workspace has no bin"),
        "{}",
        run.stderr
    );
    let _ = memcheck(&project, &["init"]).expect_code(0);
    let _ = memcheck(&project, &["list"]).expect_code(0);
}

#[test]
fn without_cargo_the_ways_on_are_named() {
    let project = Project::new();
    let _ =
        memcheck(&project, &[])
            .expect_code(2)
            .expect_all(&["no memcheck.toml in", "cargo memcheck init --c", "show -- PROGRAM"]);
    let _ = memcheck(&project, &["init"])
        .expect_code(2)
        .expect_stderr("cargo memcheck init --c");
    assert!(project.files().is_empty());
}

#[test]
fn a_c_project_from_its_makefile() {
    let project = Project::new().file("main.c", GROW).file(
        "Makefile",
        ".PHONY: all\nall: build/grow\nbuild/grow: main.c\n\tmkdir -p build && cc -o $@ $< -I.\n",
    );
    let _ = memcheck(&project, &["init", "--c"])
        .expect_code(0)
        .expect_all(&["memcheck.toml", "memcheck.h"]);
    assert!(project.read("memcheck.h").contains("MEMCHECK_CHECKPOINT"));
    assert!(project.read("memcheck.toml").contains("build = \"make build/grow\""));
    let _ = memcheck(&project, &["accept"]).expect_code(0);
    let _ = memcheck(&project, &[])
        .expect_code(0)
        .expect_last_line("measured 2 checkpoints in 1 case: all passed");
    // A header that is there is the project's own.
    project.write("memcheck.h", "mine");
    let _ = shell(&project, "rm memcheck.toml && \"$TOOL\" init --c")
        .expect_code(0)
        .expect_stderr("Kept");
    assert_eq!(project.read("memcheck.h"), "mine");
}
