//! The doors under strain: thousands of cases, none, two runs at once, outputs that are closed, no space left.

use std::path::Path;

use tests::Project;

use super::gate::edit;
use super::{GROW, GROW_TOML, TOOL, accepted, memcheck, shell, snap};

/// So many cases as nobody writes by hand.
const MANY: usize = 3000;

fn many() -> Project {
    let case = GROW_TOML.trim_start();
    let toml: String = (0..MANY)
        .map(|i| case.replace("\"grow\"", &format!("\"case-{i}\"")) + "\n")
        .collect();
    Project::new().file("grow.c", GROW).file("memcheck.toml", &toml)
}

#[test]
fn thousands_of_cases() {
    let project = many();
    let list = memcheck(&project, &["list"]).expect_code(0);
    assert_eq!(list.stdout.matches("case-").count(), MANY);
    // A reader that has seen enough is no error, however much is left to say.
    let _ = shell(&project, "( \"$TOOL\" list; echo \"code $?\" >&2 ) | head -1")
        .expect_code(0)
        .expect_all(&["code 0"]);
    let _ = memcheck(&project, &["accept", "case-1500"]).expect_code(0);
    let _ = memcheck(&project, &["--exact", "case-1500"])
        .expect_code(0)
        .expect_stderr("2999 further cases were not selected");
    // One name twice among them is found.
    edit(&project, "\"case-2999\"", "\"case-7\"");
    let _ = memcheck(&project, &["list"]).expect_code(2).expect_stderr("case-7");
}

#[test]
fn nothing_to_measure_is_a_failure() {
    let empty = Project::new().file("memcheck.toml", "[defaults]\ntimeout = \"5s\"\n");
    let _ = memcheck(&empty, &[]).expect_code(4);
    let _ = memcheck(&empty, &["--no-tests=pass"]).expect_code(0);
    let project = accepted();
    let _ = memcheck(&project, &["no-such-case"]).expect_code(4);
    let _ = memcheck(&project, &["--exact", "gro"]).expect_code(4);
    let _ = memcheck(&project, &["no-such-case", "--no-tests=pass"]).expect_code(0);
}

/// A name that was mistyped is no run: what the last one left stays, and the name that was meant is proposed.
#[test]
fn a_mistyped_name_leaves_the_last_results() {
    let project = accepted();
    let _ = memcheck(&project, &[]).expect_code(0);
    let files = ["target/memcheck-data/results.json", "target/memcheck-data/captures.jsonl"];
    let before = files.map(|file| project.read(file));
    let _ = memcheck(&project, &["grwo"])
        .expect_code(4)
        .expect_stderr("did you mean `grow`?");
    let json = memcheck(&project, &["grwo", "--message-format", "json"]).expect_code(4);
    assert_eq!(json.stdout.lines().count(), 1, "{}", json.stdout);
    for command in ["accept", "show", "budget", "reject"] {
        let _ = memcheck(&project, &[command, "grwo"])
            .expect_code(2)
            .expect_all(&["there is no case `grwo`", "did you mean `grow`?"]);
    }
    let _ = memcheck(&project, &["show", "grow@grwon"])
        .expect_code(2)
        .expect_stderr("did you mean `grown`?");
    assert_eq!(files.map(|file| project.read(file)), before);
}

/// Two runs of one checkout leave one whole pending file, the same that either would.
#[test]
fn two_runs_at_once_leave_whole_files() {
    let project = accepted();
    edit(&project, "args = [\"1\"]", "args = [\"5\"]");
    let _ = memcheck(&project, &[]).expect_code(5);
    let alone = project.files();
    for _ in 0..3 {
        let _ = memcheck(&project, &["reject"]).expect_code(0);
        let both: Vec<_> = (0..2).map(|_| project.spawn(Path::new(TOOL), &[]).unwrap()).collect();
        for child in both {
            let _ = tests::collect(child).expect_code(5);
        }
        assert_eq!(project.files(), alone);
    }
}

/// No file can be written (a limit on their size stands for a disk without space): the verdict is told, and what is there
/// stays whole. That the results could not be kept is the weightier code.
#[test]
fn no_space_for_pending_files_and_results() {
    let project = accepted();
    edit(&project, "args = [\"1\"]", "args = [\"5\"]");
    let before = project.files();
    let full = "trap '' XFSZ; ulimit -f 0; exec \"$TOOL\"";
    let _ = shell(&project, full)
        .expect_code(1)
        .expect_all(&["Snapshot differs", "Pending file not written", "results.json"]);
    assert_eq!(project.files(), before);
    let run = shell(&project, &format!("{full} accept"));
    assert!(run.code.is_some_and(|code| code != 0), "{}", run.stderr);
    assert_eq!(project.files(), before, "nothing half-written");
    // With space again all is well.
    let _ = memcheck(&project, &["accept", "grow"]).expect_code(0);
    assert!(project.read(&snap("grow")).contains("mmap-chunk"));
    let _ = memcheck(&project, &[]).expect_code(0);
}

#[test]
fn without_a_home() {
    let project = accepted();
    let mut command = super::command(&project, &[]);
    let _ = tests::finish(command.env_remove("HOME")).expect_code(0);
}
