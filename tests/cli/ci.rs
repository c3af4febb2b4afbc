//! Under CI, and off the environment of record: what warns, what fails, what is written.

use tests::Project;

use super::gate::edit;
use super::{accepted, grow, memcheck, memcheck_with};

const CI: [(&str, &str); 1] = [("CI", "1")];

#[test]
fn ci_writes_no_pending_files() {
    let project = grow();
    let before = project.files();
    let _ = memcheck_with(&project, &[], &CI)
        .expect_code(5)
        .expect_stderr("no approved snapshot");
    assert_eq!(project.files(), before);
    let _ = memcheck_with(&project, &[], &[("CI", "false")]).expect_code(5);
    assert!(project.has("memcheck/snapshots/grow.snap.new"));
}

/// The tree of pending files may lie elsewhere, for an artifact; accept takes them from there.
#[test]
fn pending_files_elsewhere() {
    for env in [&[("CI", "1")][..], &[]] {
        let project = accepted();
        edit(&project, "args = [\"1\"]", "args = [\"5\"]");
        let elsewhere = Project::new();
        let path = elsewhere.path().join("pending").display().to_string();
        let mut env = env.to_vec();
        env.push(("INSTA_PENDING_DIR", &path));
        let _ = memcheck_with(&project, &[], &env).expect_code(5);
        assert_eq!(elsewhere.paths(), ["pending/memcheck/snapshots/grow.snap.new"]);
        assert!(!project.has("memcheck/snapshots/grow.snap.new"));
        let _ = memcheck_with(&project, &["accept"], &env).expect_code(0);
        assert_eq!(elsewhere.paths(), [""; 0]);
        let _ = memcheck(&project, &[]).expect_code(0);
    }
}

/// insta's switches are not ours: none of them turns the gate off.
#[test]
fn instas_switches_do_not_open_the_gate() {
    let project = accepted();
    edit(&project, "args = [\"1\"]", "args = [\"5\"]");
    project.write("insta.yaml", "behavior:\n  force_pass: true\n");
    let before = project.read(&super::snap("grow"));
    for (name, value) in [
        ("INSTA_FORCE_PASS", "1"),
        ("INSTA_UPDATE", "always"),
        ("INSTA_FORCE_UPDATE", "1"),
    ] {
        let _ = memcheck_with(&project, &[], &[(name, value)]).expect_code(5);
        assert_eq!(project.read(&super::snap("grow")), before);
    }
}

/// The project, approved on a machine with another C library.
fn from_elsewhere() -> Project {
    let project = accepted();
    let path = "memcheck/snapshots/environment.snap";
    let text: Vec<String> = project
        .read(path)
        .lines()
        .map(|line| match line.trim_start().split_once(' ') {
            Some(("libc", _)) => "  libc           glibc 2.12".to_owned(),
            _ => line.to_owned(),
        })
        .collect();
    assert!(text.iter().any(|line| line.ends_with("glibc 2.12")), "{text:?}");
    project.write(path, &(text.join("\n") + "\n"));
    project
}

#[test]
fn another_environment_with_equal_snapshots() {
    let project = from_elsewhere();
    for env in [&CI[..], &[]] {
        let _ = memcheck_with(&project, &[], env)
            .expect_code(0)
            .expect_all(&["libc glibc 2.12 →", "1 equal", "0 differ"]);
    }
}

#[test]
fn another_environment_with_a_different_snapshot() {
    let project = from_elsewhere();
    edit(&project, "args = [\"1\"]", "args = [\"5\"]");
    let _ = memcheck(&project, &[])
        .expect_code(0)
        .expect_all(&["WARN", "libc glibc 2.12 →", "0 equal, 1 differs"])
        .expect_last_line("measured 2 checkpoints in 1 case: all passed, 1 warning");
    let _ = memcheck_with(&project, &[], &CI)
        .expect_code(5)
        .expect_stderr("under CI differences fail")
        .expect_last_line("measured 2 checkpoints in 1 case: 1 failed (1 snapshot)");
}

#[test]
fn an_upgraded_machine_is_one_reviewed_change() {
    let project = from_elsewhere();
    let _ = memcheck(&project, &[])
        .expect_code(0)
        .expect_stderr("cargo memcheck accept --environment");
    let before = project.read(&super::snap("grow"));
    let _ = memcheck(&project, &["accept", "--environment"])
        .expect_code(0)
        .expect_stderr("Accepted memcheck/snapshots/environment.snap");
    assert_eq!(project.read(&super::snap("grow")), before);
    let _ = memcheck(&project, &[]).expect_code(0).expect_no_stderr("not the environment");
    let _ = memcheck(&project, &["accept", "--environment"])
        .expect_code(0)
        .expect_stderr("on record");
}

#[test]
fn another_environment_with_a_broken_budget() {
    let project = from_elsewhere();
    edit(&project, "args =", "budget.own.anon = \"4 KiB\"\nargs =");
    for env in [&CI[..], &[]] {
        let _ = memcheck_with(&project, &[], env)
            .expect_code(3)
            .expect_stderr("Budget exceeded: own.anon");
    }
}

#[test]
fn a_new_case_fails_off_the_environment_too() {
    let project = from_elsewhere();
    std::fs::remove_file(project.path().join(super::snap("grow"))).unwrap();
    let _ = memcheck(&project, &[]).expect_code(5).expect_stderr("no approved snapshot");
}
