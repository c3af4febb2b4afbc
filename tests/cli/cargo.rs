//! Cargo projects: written as the README says, built through cargo, gated.

use tests::Project;

use super::gate::edit;
use super::memcheck;

const MAIN: &str = r#"
fn main() {
    memcheck_probe::checkpoint!("start");
    let blocks: Vec<Vec<u8>> = (0..4).map(|i| vec![i; 300_000]).collect();
    memcheck_probe::checkpoint!("filled");
    println!("{}", blocks.iter().map(Vec::len).sum::<usize>());
}
"#;

pub(super) fn project() -> Project {
    let probe = concat!(env!("CARGO_MANIFEST_DIR"), "/../memcheck-probe");
    Project::new()
        .file(
            "Cargo.toml",
            &format!(
                "[package]\nname = \"hello\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\n\
                 memcheck-probe = {{ path = \"{probe}\" }}\n\n[workspace]\n"
            ),
        )
        .file("src/main.rs", MAIN)
        .file(
            "memcheck.toml",
            r#"
[defaults]
profile = "dev"

[[case]]
name = "hello"
target = { bin = "hello" }
budget.own.anon = "8 MiB"
checkpoint = [{ name = "start" }, { name = "filled" }, { name = "end", at = "exit" }]
"#,
        )
}

#[test]
fn from_the_first_build_to_a_gate() {
    let project = project();
    let _ = memcheck(&project, &["memcheck", "accept"]).expect_code(0);
    assert!(project.read("memcheck/snapshots/hello.snap").contains("mmap-chunk"));
    let _ = memcheck(&project, &["memcheck"])
        .expect_code(0)
        .expect_last_line("measured 3 checkpoints in 1 case: all passed");

    project.write("src/main.rs", &MAIN.replace("300_000", "500_000"));
    let _ = memcheck(&project, &["memcheck"])
        .expect_code(5)
        .expect_all(&["hello @ filled", "Snapshot differs", "mmap-chunk"]);

    project.write("src/main.rs", "fn main() { undeclared() }\n");
    let _ = memcheck(&project, &["memcheck"])
        .expect_code(101)
        .expect_all(&["cannot find function `undeclared`", "src/main.rs:1:13"])
        .expect_last_line("measured 0 checkpoints in 1 case: 1 failed (1 not judged)");
}

#[test]
fn a_target_that_is_not_there() {
    let project = project();
    edit(&project, "bin = \"hello\"", "bin = \"helo\"");
    let _ = memcheck(&project, &["memcheck"])
        .expect_code(2)
        .expect_all(&["memcheck.toml:7:", "helo", "did you mean `hello`?"]);
    edit(&project, "bin = \"helo\"", "bin = \"hello\", package = \"word\"");
    let _ = memcheck(&project, &["memcheck"])
        .expect_code(2)
        .expect_all(&["memcheck.toml:7:", "word"]);
}

#[test]
fn a_manifest_that_cargo_refuses() {
    let project = project().file("Cargo.toml", "[package]\nname = \"hello\nversion = 1\n");
    let _ = memcheck(&project, &["memcheck"]).expect_code(2).expect_stderr("Cargo.toml");
}

/// The project with a test of that text, which it names as a harness test.
fn with_test(text: &str) -> Project {
    let project = project().file("tests/memory.rs", text);
    let manifest = project.read("Cargo.toml");
    let named = "[[test]]\nname = \"memory\"\nharness = false\n\n[package.metadata.memcheck]\ntests = [\"memory\"]\n";
    project.write("Cargo.toml", &format!("{manifest}\n{named}"));
    project
}

/// The test of this name need not be a real one: it is asked as any harness test is.
#[test]
fn cases_built_in_rust_are_listed_and_their_command_is_named() {
    let list = "fn main() { if std::env::args().any(|arg| arg == \"--list\") { println!(\"built: test\") } }\n";
    let project = with_test(list);
    let _ = memcheck(&project, &["memcheck", "list"])
        .expect_code(0)
        .expect_stdout("built")
        .expect_stdout("test memory of hello")
        .expect_stdout("start filled end");
    let _ = memcheck(&project, &["memcheck", "accept", "built"])
        .expect_code(2)
        .expect_stderr("INSTA_UPDATE=always cargo test -p hello --test memory -- --exact built");
    // What is pending of it can be accepted by name, and by that name alone.
    let _ = memcheck(&project, &["memcheck", "accept", "hello"]).expect_code(0);
    let approved = project.read("memcheck/snapshots/hello.snap");
    for name in ["built", "other"] {
        let pending = approved.replace("case hello", &format!("case {name}"));
        project.write(&format!("memcheck/snapshots/{name}.snap.new"), &pending);
    }
    let _ = memcheck(&project, &["memcheck", "accept", "built"])
        .expect_code(0)
        .expect_last_line("accepted 1 snapshot");
    assert!(project.has("memcheck/snapshots/built.snap") && project.has("memcheck/snapshots/other.snap.new"));
    project.write("tests/memory.rs", "fn main() { undeclared() }\n");
    let _ = memcheck(&project, &["memcheck", "list"])
        .expect_code(101)
        .expect_stdout("start filled end")
        .expect_stderr("undeclared");
}

#[test]
fn a_harness_test_without_results_is_a_failure() {
    let project = with_test("fn main() { println!(\"I am no harness\"); }\n");
    let _ = memcheck(&project, &["memcheck", "accept"]).expect_code(0);
    let _ = memcheck(&project, &["memcheck"])
        .expect_code(1)
        .expect_all(&["no results of test memory of package hello", "exit code 0", "I am no harness"])
        .expect_last_line("measured 3 checkpoints in 1 case: 1 part of the run failed");
    project.write(
        "tests/memory.rs",
        "fn main() { std::fs::write(std::env::var(\"MEMCHECK_RESULTS\").unwrap(), \"{}\").unwrap() }\n",
    );
    let _ = memcheck(&project, &["memcheck"])
        .expect_code(1)
        .expect_all(&["no results of test memory", "states no schema"]);
    project.write("tests/memory.rs", "fn main() { undeclared() }\n");
    let _ = memcheck(&project, &["memcheck"])
        .expect_code(101)
        .expect_stderr("cannot find function `undeclared`");
}
