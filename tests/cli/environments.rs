//! `[environment.NAME]`: budgets and snapshots of their own for one kind of machine, chosen by what matches or by `--env`.

use tests::Project;

use super::{memcheck, memcheck_with};

/// Takes as many KiB as the variable says: what another environment would do to it.
const PROGRAM: &str = r#"
#include <stdlib.h>
#include "memcheck.h"
int main(void) {
    int bytes = atoi(getenv("KIB")) << 10;
    volatile char *block = malloc(bytes);
    for (int i = 0; i < bytes; i++)
        block[i] = 1;
    MEMCHECK_CHECKPOINT(done);
    return 0;
}
"#;

fn toml(kib: u32) -> String {
    format!(
        r#"
[environment.ci]
match.CI = true
budget.own.anon = "2 MiB"

[environment.small]

[[case]]
name = "block"
target = {{ c = "main.c" }}
env = {{ KIB = "{kib}" }}
budget.own.anon = "1 MiB"
environment.small.budget.own.anon = "100 KiB"
[[case.checkpoint]]
name = "done"
environment.ci.budget.main-heap.anon = "1 MiB"
"#
    )
}

fn project() -> Project {
    let project = Project::new().file("main.c", PROGRAM).file("memcheck.toml", &toml(200));
    let _ = memcheck(&project, &["accept"]).expect_code(0);
    project
}

const CI: [(&str, &str); 1] = [("CI", "1")];

#[test]
fn budgets_of_an_environment_come_before_those_of_their_level() {
    let project = project();
    let _ = memcheck(&project, &[]).expect_code(0);
    let _ = memcheck(&project, &["--env", "small"]).expect_code(3).expect_all(&[
        "Budget exceeded: own.anon is",
        "limit 100 KiB",
        "(memcheck.toml:13)",
    ]);
    let run = memcheck(&project, &["--env", "ci", "budget"]).expect_code(0);
    // The case is more specific than what an environment says for all; both are told with their lines.
    for row in ["own.anon", "1 MiB", "memcheck.toml:12", "main-heap.anon", "memcheck.toml:16"] {
        assert!(run.stdout.contains(row), "no {row} in {}", run.stdout);
    }
    assert!(!memcheck(&project, &["budget"]).stdout.contains("main-heap.anon"));
    let run = memcheck_with(&project, &["budget"], &CI).expect_code(0);
    assert!(run.stdout.contains("main-heap.anon"), "CI matches: {}", run.stdout);
    let _ = memcheck(&project, &["--env", "smal"])
        .expect_code(2)
        .expect_all(&["memcheck.toml has no environment `smal`", "did you mean"]);
}

#[test]
fn an_environment_begins_with_the_snapshots_of_all_and_gets_its_own_where_it_differs() {
    let project = project();
    let all = project.read("memcheck/snapshots/block.snap");
    let _ = memcheck_with(&project, &["--env", "ci"], &CI).expect_code(0);
    project.write("memcheck.toml", &toml(300));
    let _ = memcheck(&project, &["--env", "ci"])
        .expect_code(5)
        .expect_stderr("Snapshot differs");
    assert!(project.has("memcheck/snapshots/block@ci.snap.new"));
    // What is pending for one environment is not the other's.
    let _ = memcheck(&project, &["accept"])
        .expect_code(5)
        .expect_stderr("cargo memcheck accept --env ci block");
    let _ = memcheck(&project, &["accept", "--env", "ci"]).expect_code(0).expect_all(&[
        "Accepted memcheck/snapshots/block@ci.snap",
        "Accepted memcheck/snapshots/environment.ci.snap",
    ]);
    assert_eq!(project.read("memcheck/snapshots/block.snap"), all);
    let own = project.read("memcheck/snapshots/block@ci.snap");
    assert!(own.contains("environment: ci") && own.contains("case block"), "{own}");
    let _ = memcheck(&project, &["--env", "ci"]).expect_code(0);
    let _ = memcheck(&project, &[]).expect_code(5);
    project.write("memcheck.toml", &toml(200));
    let _ = memcheck(&project, &[]).expect_code(0);
    // An environment that the file does not have any more leaves files behind: they are named.
    project.write(
        "memcheck.toml",
        &toml(200)
            .replace("environment.ci.", "environment.small.")
            .replace("[environment.ci]", "[environment.new]"),
    );
    let _ = memcheck(&project, &[])
        .expect_code(0)
        .expect_stderr("block@ci.snap belongs to no case (or environment)");
}

/// What a job of a named environment left pending goes into that environment's files: one that matches is known by the job's
/// facts, one that was chosen by hand is chosen by hand at home too.
#[test]
fn an_artifact_is_accepted_into_the_environment_of_its_job() {
    for (environment, code) in [("ci", 5), ("small", 3)] {
        let home = project();
        home.write("memcheck.toml", &toml(300));
        let job = Project::new();
        for (path, bytes) in home.files() {
            job.write(&path, std::str::from_utf8(&bytes).unwrap());
        }
        let by_hand = ["--env", environment];
        let (args, env): (&[&str], &[(&str, &str)]) = match environment {
            "ci" => (&[], &CI),
            _ => (&by_hand, &[]),
        };
        let _ = memcheck_with(&job, args, &[env, &[("INSTA_PENDING_DIR", "kept/pending")]].concat()).expect_code(code);
        job.write("kept/results.json", &job.read("target/memcheck-data/results.json"));
        let from = job.path().join("kept").display().to_string();
        let before = home.files();
        let accept = ["accept", "--from", from.as_str()];
        if environment == "small" {
            let _ = memcheck(&home, &accept).expect_code(2).expect_all(&[
                "block@small.snap.new belongs to the environment `small`, and memcheck.toml is read for the one without a name",
                "--env small",
            ]);
        }
        let other: &[&str] = if environment == "ci" {
            &["--env", "default"]
        } else {
            &["--env", "ci"]
        };
        let _ = memcheck(&home, &[&accept, other].concat())
            .expect_code(2)
            .expect_stderr(&format!("belongs to the environment `{environment}`"))
            .expect_stderr(&format!("--env {environment}"));
        assert_eq!(home.files(), before);
        let _ = memcheck(&home, &[&accept, args].concat())
            .expect_code(0)
            .expect_stderr(&format!("Accepted memcheck/snapshots/block@{environment}.snap"));
        assert_eq!(
            home.read("memcheck/snapshots/block.snap").as_bytes(),
            of(&before, "memcheck/snapshots/block.snap")
        );
        // What is left is what accepting does not lift.
        let _ = memcheck_with(&home, args, env)
            .expect_code(if code == 3 { 3 } else { 0 })
            .expect_no_stderr("Snapshot differs");
    }
    // The other way round: of the environment without a name, where another one is chosen.
    let home = project();
    home.write("memcheck.toml", &toml(300));
    let _ = memcheck_with(&home, &[], &[("INSTA_PENDING_DIR", "target/kept/pending")]).expect_code(5);
    home.write("target/kept/results.json", &home.read("target/memcheck-data/results.json"));
    let _ = memcheck(&home, &["accept", "--from", "target/kept", "--env", "ci"])
        .expect_code(2)
        .expect_all(&[
            "block.snap.new belongs to the environment without a name, and memcheck.toml is read for the one `ci`",
            "--env default",
        ]);
    let _ = memcheck(&home, &["accept", "--from", "target/kept"]).expect_code(0);
    let _ = memcheck(&home, &[]).expect_code(0);
}

fn of<'f>(files: &'f [(String, Vec<u8>)], path: &str) -> &'f [u8] {
    let found = files.iter().find(|(name, _)| name == path);
    found.map_or(&[], |(_, bytes)| bytes.as_slice())
}
