//! What a change edits of the things by which it is judged, told on green and red runs.

use serde_json::Value;
use tests::{Project, Run};

use super::{LIMITED, PROGRAM, TOML, TOOL, commit, edit, git, memcheck, repository};

/// As a pull request's job runs: the branch it is for is `main`, at the remote.
#[track_caller]
fn job(project: &Project) -> Run {
    let summary = project.path().join("target/summary.md").display().to_string();
    project.write("target/summary.md", "");
    let mut command = project.command(std::path::Path::new(TOOL), &[]);
    tests::finish(
        command
            .env("CI", "true")
            .env("GITHUB_ACTIONS", "true")
            .env("GITHUB_BASE_REF", "main")
            .env("GITHUB_STEP_SUMMARY", summary),
    )
}

/// A repository whose approved state is the first commit of `main`.
fn approved(toml: &str) -> Project {
    let project = Project::new()
        .file(".gitignore", "target/\n*.snap.new\n")
        .file("main.c", PROGRAM)
        .file("memcheck.toml", toml);
    let _ = memcheck(&project, &["accept"]).expect_code(0);
    let _ = git(&project, &["init", "-q"]);
    commit(&project, "first");
    let _ = git(&project, &["branch", "-q", "base"]);
    let _ = git(&project, &["update-ref", "refs/remotes/origin/main", "HEAD"]);
    let _ = git(&project, &["switch", "-q", "-c", "topic"]);
    project
}

fn entries(project: &Project) -> Vec<String> {
    let results: Value = serde_json::from_str(&project.read("target/memcheck-data/results.json")).unwrap();
    let all = results["revision"]["entries"].as_array().unwrap();
    all.iter()
        .map(|entry| {
            format!(
                "{} {} {}",
                entry["kind"].as_str().unwrap(),
                entry["file"].as_str().unwrap(),
                entry["what"].as_str().unwrap()
            )
        })
        .collect()
}

#[test]
fn a_green_pull_request_tells_what_it_raised_and_accepted() {
    let project = approved(&TOML.replace("[[case]]", "[defaults]\nbudget.own.anon = \"8 MiB\"\n\n[[case]]"));
    let _ = job(&project)
        .expect_code(0)
        .expect_stderr("no limit, tolerance, waiver or snapshot was edited");
    // A regression, with everything that lets it pass.
    edit(&project, "main.c", "#define KIB 40", "#define KIB 400");
    edit(&project, "memcheck.toml", "8 MiB", "64 MiB");
    let waiver =
        "\n[[waiver]]\ncase = \"block\"\nmetric = \"own.anon\"\nceiling = \"1 GiB\"\nexpires = 9999-12-31\nreason = \"x\"\n";
    project.write("memcheck.toml", &(project.read("memcheck.toml") + waiver));
    project.write(
        ".cargo/config.toml",
        "[build]\nrustc-wrapper = \"true\"\n[env]\nINSTA_FORCE_PASS = \"1\"\n",
    );
    project.write("insta.yaml", "behavior:\n  force_pass: true\n");
    let _ = memcheck(&project, &["accept", "block"]).expect_code(0);
    commit(&project, "more");
    let run = job(&project).expect_code(0).expect_all(&[
        "1 limit",
        "memcheck.toml defaults.budget.own.anon: \"8 MiB\" → \"64 MiB\"",
        "memcheck.toml waiver[block:own.anon].ceiling: none → \"1 GiB\"",
        "memcheck/snapshots/block.snap: -1 line → +2 lines",
        "insta.yaml: none →",
        "build.rustc-wrapper = \"true\" (.cargo/config.toml)",
        "env.INSTA_FORCE_PASS = \"1\" (.cargo/config.toml)",
    ]);
    assert!(run.stderr.contains("in 1 case: all passed"), "{}", run.stderr);
    let summary = project.read("target/summary.md");
    for words in [
        "cargo memcheck: passed",
        "### What this change edits",
        "64 MiB",
        "| limit |",
        "| waiver |",
        "| snapshot |",
        "```diff",
    ] {
        assert!(summary.contains(words), "no {words}: {summary}");
    }
    let entries = entries(&project);
    for entry in [
        "limit memcheck.toml defaults.budget.own.anon",
        "snapshot memcheck/snapshots/block.snap ",
        "switch .cargo/config.toml build.rustc-wrapper",
        "switch insta.yaml ",
    ] {
        assert!(entries.contains(&entry.to_owned()), "no {entry}: {entries:#?}");
    }
    let results = project.read("target/memcheck-data/results.json");
    assert!(!results.contains("\"unknown\":\""));
    // The schema describes all of it, and nothing that is not there.
    let mut checked = tests::schema::Checked::default();
    checked.add(&serde_json::from_str(&results).unwrap());
    assert_eq!(checked.wrong, [""; 0]);
    let mut described = tests::schema::described()
        .into_iter()
        .filter(|key| key.starts_with("revised."));
    assert!(described.all(|key| checked.seen.contains(&key)), "{:?}", checked.seen);
}

#[test]
fn what_is_taken_away_or_not_committed_is_told_too() {
    let project = approved(TOML);
    edit(&project, "memcheck.toml", ", { name = \"done\" }", "");
    std::fs::remove_file(project.path().join("memcheck/snapshots/block.snap")).unwrap();
    project.write("memcheck/snapshots/later.snap", "---\n---\nx\n");
    let _ = memcheck(&project, &["--edits-since", "base", "--no-pending"]).expect_code(5);
    assert_eq!(
        entries(&project),
        [
            "case memcheck.toml case[block].checkpoint[done].name",
            "snapshot memcheck/snapshots/block.snap ",
            "snapshot memcheck/snapshots/later.snap ",
        ]
    );
    // Attributes of the change hide nothing.
    project.write(".gitattributes", "*.snap -diff\nmemcheck.toml -text\n");
    let _ = memcheck(&project, &["--edits-since", "base", "--no-pending"]).expect_code(5);
    assert_eq!(entries(&project).len(), 4);
}

#[test]
fn a_name_that_is_no_text_hides_nothing() {
    use std::os::unix::ffi::OsStrExt as _;
    let project = approved(TOML);
    let odd = |name: &[u8]| project.path().join(std::ffi::OsStr::from_bytes(name));
    std::fs::create_dir_all(odd(b"\xff/memcheck/snapshots")).unwrap();
    std::fs::write(odd(b"\xff/other.txt"), "x").unwrap();
    let _ = memcheck(&project, &["--edits-since", "base"]).expect_code(0);
    std::fs::write(odd(b"\xff/memcheck/snapshots/a.snap"), "x").unwrap();
    let _ = memcheck(&project, &["--edits-since", "base"])
        .expect_code(2)
        .expect_stderr("memcheck/snapshots/a.snap is no text");
    let _ = job(&project)
        .expect_code(0)
        .expect_stderr("what this change edits of limits, waivers and snapshots could not be told");
}

#[test]
fn a_base_that_is_not_there_is_said_and_changes_no_verdict() {
    let project = repository(&[("main.c", PROGRAM), ("memcheck.toml", LIMITED)]);
    let _ = memcheck(&project, &["--edits-since", "nowhere"])
        .expect_code(2)
        .expect_stderr("git knows no commit `nowhere`");
    let project = approved(TOML);
    for reference in ["refs/heads/base", "refs/remotes/origin/main", "refs/heads/main"] {
        let _ = git(&project, &["update-ref", "-d", reference]);
    }
    let _ = job(&project)
        .expect_code(0)
        .expect_stderr("what this change edits of limits, waivers and snapshots could not be told");
    assert!(project.read("target/summary.md").contains("**Not known.**"));
}
