//! What `accept`, `reject` and `review` do with files that are stale, damaged or not there, and how they end.

use std::fs;

use serde_json::Value;
use tests::Project;

use super::gate::edit;
use super::{accepted, grow, memcheck, memcheck_with, shell, snap};

const PENDING: &str = "memcheck/snapshots/grow.snap.new";

/// The project with a second case, `shrink`, of the same program; both accepted.
pub(super) fn two() -> Project {
    let project = grow();
    let toml = project.read("memcheck.toml");
    let second = toml.replace("\"grow\"", "\"shrink\"");
    project.write("memcheck.toml", &format!("{toml}\n{second}"));
    let _ = memcheck(&project, &["accept"]).expect_code(0);
    project
}

/// The accepted project, its block grown to five parts, and that pending.
fn grown() -> Project {
    let project = accepted();
    edit(&project, "args = [\"1\"]", "args = [\"5\"]");
    let _ = memcheck(&project, &[]).expect_code(5);
    assert!(project.has(PENDING));
    project
}

#[test]
fn a_pending_file_of_another_state_is_not_taken_unseen() {
    let project = grown();
    let (approved, old) = (project.read(&snap("grow")), project.read(PENDING));
    edit(&project, "args = [\"5\"]", "args = [\"9\"]");
    let _ = memcheck(&project, &["accept"])
        .expect_code(5)
        .expect_all(&[
            "Outdated memcheck/snapshots/grow.snap.new",
            "made from another state",
            "cargo memcheck review grow",
        ])
        .expect_last_line("nothing was accepted");
    assert_eq!(project.read(&snap("grow")), approved);
    assert_ne!(project.read(PENDING), old, "what is measured now is pending instead");
    let _ = memcheck(&project, &["accept"])
        .expect_code(0)
        .expect_last_line("accepted 1 snapshot");
    let _ = memcheck(&project, &[]).expect_code(0);
}

/// Somebody else's accepted file came with a pull: the difference that was shown is no longer the one there is.
#[test]
fn a_pending_file_against_another_approved_file() {
    let project = grown();
    edit(&project, "args = [\"5\"]", "args = [\"1\"]");
    let _ = memcheck(&project, &["accept"])
        .expect_code(0)
        .expect_stderr("the pending file is dropped")
        .expect_last_line("nothing to accept: measured again, 1 case is as approved");
    assert!(!project.has(PENDING));
    let _ = memcheck(&project, &[]).expect_code(0);
}

#[test]
fn nothing_is_pending_after_ci_or_reject() {
    let project = accepted();
    let approved = project.read(&snap("grow"));
    edit(&project, "args = [\"1\"]", "args = [\"5\"]");
    let _ = memcheck_with(&project, &[], &[("CI", "1")]).expect_code(5);
    assert!(!project.has(PENDING));
    let without_names = || {
        let _ = memcheck(&project, &["accept"])
            .expect_code(5)
            .expect_all(&["measured now, 2 rows differ;", "cargo memcheck accept grow"])
            .expect_last_line("nothing was pending, nothing was accepted");
        assert_eq!(project.read(&snap("grow")), approved);
    };
    without_names();
    let _ = memcheck(&project, &[]).expect_code(5);
    let _ = memcheck(&project, &["reject", "grow"])
        .expect_code(0)
        .expect_stderr("Rejected memcheck/snapshots/grow.snap.new")
        .expect_last_line("rejected 1 pending snapshot");
    without_names();
    let _ = memcheck(&project, &["accept", "grow"])
        .expect_code(0)
        .expect_stderr("nothing was pending, so it is approved as measured now")
        .expect_last_line("accepted 1 snapshot");
    let _ = memcheck(&project, &[]).expect_code(0);
    let _ = memcheck(&project, &["accept", "grow"])
        .expect_code(0)
        .expect_stderr("Unchanged memcheck/snapshots/grow.snap")
        .expect_last_line("nothing to accept: measured again, 1 case is as approved");
}

#[test]
fn a_damaged_pending_file_blocks_no_other() {
    let project = two();
    edit(&project, "args = [\"1\"]", "args = [\"5\"]");
    let _ = memcheck(&project, &[]).expect_code(5);
    let approved = project.read(&snap("grow"));
    project.write(PENDING, "<<<<<<< ours\n");
    let _ = memcheck(&project, &["accept"])
        .expect_code(7)
        .expect_all(&["grow.snap.new holds merge conflict markers", "cargo memcheck reject grow"])
        .expect_stderr("Accepted memcheck/snapshots/shrink.snap")
        .expect_last_line("accepted 1 snapshot");
    assert_eq!(project.read(&snap("grow")), approved);
    let _ = memcheck(&project, &["review"]).expect_code(2);
    let _ = memcheck(&project, &["reject"])
        .expect_code(0)
        .expect_stderr("Rejected memcheck/snapshots/grow.snap.new");
    assert!(!project.has(PENDING));
}

#[test]
fn a_pending_file_that_cannot_be_removed_is_named_and_the_others_go() {
    let project = two();
    edit(&project, "args = [\"1\"]", "args = [\"5\"]");
    let _ = memcheck(&project, &[]).expect_code(5);
    fs::remove_file(project.path().join(PENDING)).unwrap();
    fs::create_dir(project.path().join(PENDING)).unwrap();
    let _ = memcheck(&project, &["reject"]).expect_code(1).expect_all(&[
        "could not remove",
        "grow.snap.new",
        "Rejected memcheck/snapshots/shrink.snap.new",
    ]);
    assert!(!project.has("memcheck/snapshots/shrink.snap.new"));
}

/// Build failed (101) and checkpoint not reached (7) in one go: the weightier one counts, wherever it stands.
#[test]
fn the_weightiest_exit_code_counts() {
    let bad = "[[case]]\nname = \"bad\"\ntarget = { c = \"bad.c\" }\ncheckpoint = [{ name = \"a\", at = \"main\" }]\n";
    let missed = "[[case]]\nname = \"missed\"\ntarget = { c = \"grow.c\" }\ncheckpoint = [{ name = \"nowhere\" }]\n";
    for (first, second) in [(bad, missed), (missed, bad)] {
        let project = grow().file("bad.c", "int main(void) { return undeclared; }\n");
        let toml = project.read("memcheck.toml");
        project.write("memcheck.toml", &format!("{first}{second}{toml}"));
        let _ = memcheck(&project, &["accept"])
            .expect_code(101)
            .expect_all(&[
                "bad was not accepted",
                "missed was not accepted",
                "Accepted memcheck/snapshots/grow.snap",
            ])
            .expect_last_line("accepted 2 snapshots, 2 not accepted");
    }
}

/// The first snapshot that is approved, by whatever command, puts the machine on record.
#[test]
fn a_named_accept_records_the_environment_too() {
    let project = grow();
    let _ = memcheck(&project, &["accept", "grow"])
        .expect_code(0)
        .expect_last_line("accepted 2 snapshots");
    assert!(project.has("memcheck/snapshots/environment.snap"));
}

#[test]
fn json_of_accept_and_reject() {
    let documents = |text: &str| -> Vec<Value> { text.lines().map(|line| serde_json::from_str(line).unwrap()).collect() };
    let project = grown();
    let run = memcheck(&project, &["--message-format", "json", "accept"]).expect_code(0);
    let [action, end] = documents(&run.stdout).try_into().unwrap();
    assert_eq!((&action["reason"], &action["action"]), (&"action".into(), &"accepted".into()));
    assert_eq!(
        (&action["case"], &action["path"]),
        (&"grow".into(), &"memcheck/snapshots/grow.snap".into())
    );
    assert_eq!((&end["reason"], &end["exit_code"]), (&"accept".into(), &0.into()));
    assert_eq!(end["text"], run.last_line());

    edit(&project, "args = [\"5\"]", "args = [\"9\"]");
    let _ = memcheck(&project, &[]).expect_code(5);
    project.write(PENDING, "x");
    let run = memcheck(&project, &["--message-format", "json", "accept"]).expect_code(7);
    let [action, end] = documents(&run.stdout).try_into().unwrap();
    assert_eq!(
        (&action["action"], &action["problem"]["exit_code"]),
        (&"failed".into(), &7.into())
    );
    assert_eq!(end["exit_code"], 7);

    let run = memcheck(&project, &["--message-format", "json", "reject"]).expect_code(0);
    let [action, end] = documents(&run.stdout).try_into().unwrap();
    assert_eq!((&action["action"], &action["path"]), (&"rejected".into(), &PENDING.into()));
    assert_eq!(end["reason"], "reject");
    let run = memcheck(&project, &["--message-format", "json", "review"]).expect_code(0);
    assert_eq!(documents(&run.stdout)[0]["text"], "0 pending");
}

/// A terminal for a command: writes keys when it is asked something, passes on what it prints and how it ends.
const TERMINAL: &str = r#"
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    char text[65536] = "";
    size_t length = 0;
    int master, status;
    pid_t child = argc > 2 ? forkpty(&master, NULL, NULL, NULL) : -1;
    if (child == 0) {
        /* Whoever started the tests in the background has had it ignored. */
        signal(SIGINT, SIG_DFL);
        execv(argv[2], argv + 2);
        _exit(126);
    }
    for (;;) {
        ssize_t got = child > 0 ? read(master, text + length, sizeof text - length - 1) : 0;
        if (got <= 0)
            break;
        length += (size_t)got;
        text[length] = 0;
        char *question = strstr(text, "quit (q)? ");
        if (question != NULL) {
            memset(question, '.', 4);
            if (write(master, argv[1], strlen(argv[1])) < 0)
                break;
        }
    }
    fputs(text, stdout);
    if (child < 0 || waitpid(child, &status, 0) < 0)
        return 125;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
"#;

/// Runs `review` on a terminal, with these keys as the answer to each question.
#[track_caller]
fn review(project: &Project, keys: &str) -> tests::Run {
    project.write("terminal.c", TERMINAL);
    let _ = shell(project, "cc -o terminal terminal.c -lutil").expect_code(0);
    shell(
        project,
        &format!("./terminal \"$(printf '{keys}')\" \"$TOOL\" --color never review"),
    )
}

#[test]
fn one_press_ends_a_question() {
    let project = grown();
    let before = project.read(PENDING);
    let _ = review(&project, r"\003")
        .expect_code(130)
        .expect_stdout("interrupted by signal 2");
    assert_eq!(project.read(PENDING), before);
}

#[test]
fn a_review_shows_and_does_what_it_is_told() {
    let project = grown();
    let _ = review(&project, r"s\r")
        .expect_code(0)
        .expect_stdout("Reviewing memcheck/snapshots/grow.snap (1 of 1)")
        .expect_stdout("+  mmap-chunk")
        .expect_stdout("1 pending");
    let _ = review(&project, r"a\r").expect_code(0).expect_stdout("0 pending");
    let _ = memcheck(&project, &[]).expect_code(0);
}

#[test]
fn help_names_only_what_a_command_has() {
    let project = Project::new();
    for command in ["reject", "review"] {
        let help = memcheck(&project, &[command, "--help"]).expect_code(0).stdout;
        assert!(!help.contains("--features") && !help.contains("--profile"), "{help}");
    }
}
