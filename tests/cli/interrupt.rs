//! The tool itself is told to stop, or killed: nothing is left running, nothing half written.

use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use tests::{Project, Run, collect, gone, marker, processes_with, until};

use super::{GROW, accepted, shell, start};

/// Each with its exit code, 128 and its number.
const SIGNALS: [(&str, i32); 3] = [("INT", 130), ("TERM", 143), ("HUP", 129)];

const PAUSE: &str =
    "#include <unistd.h>\n#include \"memcheck.h\"\nint main(void) {\n    MEMCHECK_CHECKPOINT(start);\n    for (;;) pause();\n}\n";

/// An accepted project in which one more case hangs after its first checkpoint, with `word` on its command line.
fn hanging(word: &str) -> Project {
    let project = accepted();
    let toml = project.read("memcheck.toml");
    project.write("pause.c", PAUSE);
    project.write(
        "memcheck.toml",
        &format!(
            "{toml}\n[[case]]\nname = \"hangs\"\ntarget = {{ c = \"pause.c\" }}\nargs = [\"{word}\"]\n\
             checkpoint = [{{ name = \"start\" }}, {{ name = \"end\", at = \"exit\" }}]\n"
        ),
    );
    project
}

/// Starts the command, waits until the target with `word` runs, then sends a signal to the command.
fn signalled(project: &Project, args: &[&str], word: &str, signal: &str) -> Run {
    let child = start(project, args);
    assert!(
        until(Duration::from_secs(20), || !processes_with(word).is_empty()),
        "the target never ran"
    );
    send(project, &child, signal);
    let began = Instant::now();
    let run = collect(child);
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}\n{}",
        began.elapsed(),
        run.stderr
    );
    run
}

fn send(project: &Project, child: &Child, signal: &str) {
    let _ = shell(project, &format!("kill -{signal} {}", child.id())).expect_code(0);
}

#[test]
fn a_signal_ends_the_run_and_the_target() {
    for (signal, code) in SIGNALS {
        let word = marker(&format!("signal-{signal}"));
        let project = hanging(&word);
        let before = project.files();
        let run = signalled(&project, &[], &word, signal).expect_code(code);
        assert!(run.last_line().contains("interrupted"), "{}", run.stderr);
        assert!(run.last_line().starts_with("measured "), "{}", run.stderr);
        assert!(gone(&word));
        assert_eq!(project.files(), before);
    }
}

#[test]
fn an_interrupted_accept_accepts_nothing() {
    for (signal, code) in SIGNALS {
        let word = marker(&format!("accept-{signal}"));
        let project = hanging(&word);
        let before = project.files();
        let _ = signalled(&project, &["accept"], &word, signal)
            .expect_code(code)
            .expect_stderr("interrupted");
        assert!(gone(&word));
        assert_eq!(project.files(), before);
    }
}

/// Not even a moment to clean up: the kernel ends what we traced.
#[test]
fn the_tool_is_killed() {
    let word = marker("kill");
    let project = hanging(&word);
    let before = project.files();
    let run = signalled(&project, &[], &word, "KILL");
    assert_eq!(run.code, None);
    assert!(gone(&word));
    assert_eq!(project.files(), before);
}

#[test]
fn a_build_is_ended_too() {
    for (signal, code) in SIGNALS {
        let word = marker(&format!("build-{signal}"));
        let project = Project::new().file("make.sh", "while :; do sleep 0.1; done\n").file(
            "memcheck.toml",
            &format!(
                "[[case]]\nname = \"slow\"\ntarget = {{ path = \"slow\", build = \"sh make.sh {word}\" }}\n\
                 checkpoint = [{{ name = \"end\", at = \"exit\" }}]\n"
            ),
        );
        let _ = signalled(&project, &[], &word, signal).expect_code(code);
        assert!(gone(&word));
    }
}

/// Ctrl-C in a terminal reaches the whole foreground group; the target must not take it for its own end.
#[test]
fn a_signal_to_the_whole_group() {
    let word = marker("group");
    let project = hanging(&word);
    // Our child leads no group, so setsid makes it the leader of one without a further process.
    let child = project
        .command(Path::new("setsid"), &["env", "--default-signal=INT", super::TOOL])
        .spawn()
        .unwrap();
    assert!(until(Duration::from_secs(20), || !processes_with(&word).is_empty()));
    let _ = shell(&project, &format!("kill -INT -{}", child.id())).expect_code(0);
    let _ = collect(child).expect_code(130);
    assert!(gone(&word));
}

/// Every moment of a run is a good one: whatever is interrupted, the next run finds a sound project.
#[test]
fn interrupted_at_any_moment() {
    let project = Project::new().file("grow.c", GROW).file("memcheck.toml", super::GROW_TOML);
    for millis in [0, 10, 40, 90, 160, 250] {
        let child = start(&project, &["accept"]);
        std::thread::sleep(Duration::from_millis(millis));
        send_if_there(&project, &child);
        let run = collect(child);
        assert!(matches!(run.code, Some(0 | 130) | None), "{:?}\n{}", run.code, run.stderr);
        let odd: Vec<String> = project.paths().into_iter().filter(|path| path.ends_with(".tmp")).collect();
        assert_eq!(odd, [""; 0]);
    }
    let _ = super::memcheck(&project, &["accept"]).expect_code(0);
    let _ = super::memcheck(&project, &[]).expect_code(0);
}

fn send_if_there(project: &Project, child: &Child) {
    let _ = shell(project, &format!("kill -INT {} 2>/dev/null; true", child.id()));
}
