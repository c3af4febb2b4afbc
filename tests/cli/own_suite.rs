//! The repository's own suite in other surroundings: one processor, another home, a large environment, another directory,
//! another user. What it says of every case must be the same, byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tests::Project;

use super::TOOL;

pub(super) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The C half of the suite in a directory of its own, as a project without cargo: its cases, sources and approved snapshots.
fn copy() -> Project {
    let toml = fs::read_to_string(repository().join("memcheck.toml")).unwrap();
    let mut cases = toml.split("[[case]]\n");
    let head = cases.next().unwrap().to_owned();
    let c_cases: Vec<&str> = cases.filter(|case| case.contains("target = { c = ")).collect();
    assert!(c_cases.len() > 8, "the suite has its C cases");
    let toml = c_cases.iter().fold(head, |toml, case| toml + "[[case]]\n" + case);
    let project = Project::new().file("memcheck.toml", &toml.replace("package = \"examples\"\n", ""));
    for (from, to) in [
        ("examples/c", "examples/c"),
        ("examples/memcheck/snapshots", "memcheck/snapshots"),
    ] {
        for entry in fs::read_dir(repository().join(from)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if !name.ends_with(".new") && path.is_file() {
                project.write(&format!("{to}/{name}"), &fs::read_to_string(&path).unwrap());
            }
        }
    }
    project
}

/// What a run says of each case: its outcome, the text of its snapshot, and its own memory at each checkpoint.
#[track_caller]
fn told(command: &mut Command) -> BTreeMap<String, Value> {
    let run = tests::finish(command).expect_code(0);
    let lines = run.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let cases: BTreeMap<String, Value> = lines
        .filter(|line| line["reason"] == "case")
        .map(|case| {
            let checkpoints = case["checkpoints"].as_array().unwrap();
            let own: Vec<Value> = checkpoints
                .iter()
                .map(|checkpoint| checkpoint["own"]["reserved"].clone())
                .collect();
            let name = case["name"].as_str().unwrap().to_owned();
            (name, serde_json::json!([case["outcome"], case["snapshot"]["text"], own]))
        })
        .collect();
    assert!(cases.len() > 3, "{}", run.stdout);
    cases
}

const ARGS: [&str; 3] = ["--no-pending", "--message-format", "json"];

fn large_environment(command: &mut Command) {
    for i in 0..400 {
        command.env(format!("LARGE_{i}"), "x".repeat(200));
    }
    command.env("LC_ALL", "de_DE.UTF-8").env("TMPDIR", "/tmp");
    command.env("HOME", format!("/nonexistent/{}", "h".repeat(300)));
}

#[test]
fn c_programs() {
    let project = copy();
    let plain = told(&mut project.command(Path::new(TOOL), &ARGS));
    let processor = tests::a_processor();
    let one_cpu = [&["-c", &processor, TOOL], &ARGS[..]].concat();
    assert_eq!(
        told(&mut project.command(Path::new("taskset"), &one_cpu)),
        plain,
        "one processor"
    );
    let mut command = project.command(Path::new(TOOL), &ARGS);
    large_environment(&mut command);
    assert_eq!(told(&mut command), plain, "another home, a large environment");
    let mut command = project.command(Path::new(TOOL), &ARGS);
    assert_eq!(
        told(command.current_dir(project.path().join("examples/c"))),
        plain,
        "from below"
    );
    let elsewhere = copy();
    assert_eq!(
        told(&mut elsewhere.command(Path::new(TOOL), &ARGS)),
        plain,
        "another directory"
    );
}

/// The approved snapshots were made as root. Whoever is not root is another user by running this; root becomes nobody. Where
/// root may not do that this fails: nothing was shown.
#[test]
fn another_user() {
    let project = copy();
    let plain = told(&mut project.command(Path::new(TOOL), &ARGS));
    let whoami = project.run(Path::new("id"), &["-u"]).expect_code(0);
    if whoami.stdout.trim() != "0" {
        for (name, case) in &plain {
            assert_eq!(case[0], "pass", "{name}: as this user, against what root approved");
        }
        return;
    }
    // The command may lie where nobody can reach it.
    let tool = project.path().join("cargo-memcheck");
    fs::copy(TOOL, &tool).unwrap();
    let _ = project.run(Path::new("chown"), &["-R", "65534:65534", "."]).expect_code(0);
    let drop = ["--reuid=65534", "--regid=65534", "--clear-groups", tool.to_str().unwrap()];
    let args = [&drop[..], &ARGS].concat();
    let mut command = project.command(Path::new("setpriv"), &args);
    assert_eq!(told(command.env("HOME", "/nonexistent")), plain, "another user");
}

/// The whole suite where it stands, with its Rust programs and its harness test.
#[test]
fn rust_programs() {
    let here = Project::new();
    let run = |program: &str, args: &[&str]| {
        let mut command = here.command(Path::new(program), args);
        command.current_dir(repository()).env("CARGO_TARGET_DIR", target());
        command
    };
    let plain = told(&mut run(TOOL, &ARGS));
    assert!(
        plain.contains_key("pool") && plain.contains_key("pool-workers"),
        "{:?}",
        plain.keys()
    );
    let results = fs::read(target().join("memcheck-data/results.json")).unwrap();
    assert_eq!(tests::schema::wrong(&serde_json::from_slice(&results).unwrap()), [""; 0]);
    let processor = tests::a_processor();
    let one_cpu = [&["-c", &processor, TOOL], &ARGS[..]].concat();
    let mut command = run("taskset", &one_cpu);
    let tools = [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")];
    large_environment(&mut command);
    for (name, below) in tools {
        command.env(name, tool_home(name, below));
    }
    assert_eq!(told(command.current_dir(repository().join("examples"))), plain);
}

/// Where this build lies: `TOOL` is `<target>/<profile>/cargo-memcheck`.
pub(super) fn target() -> PathBuf {
    Path::new(TOOL).parent().unwrap().parent().unwrap().to_path_buf()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test that moves the home leaves the tools where they are"
)]
fn tool_home(name: &str, below: &str) -> PathBuf {
    std::env::var_os(name).map_or_else(
        || Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(below),
        PathBuf::from,
    )
}
