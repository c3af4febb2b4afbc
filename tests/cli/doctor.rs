//! `doctor`, and what is refused by a machine: named with its consequence and remedy, never silently.

use serde_json::Value;
use tests::{Project, Run, gone, marker};

use super::{GROW, GROW_TOML, TOOL, accepted, grow, memcheck};

/// A filter as containers have one, in front of a command.
const REFUSE: &str = include_str!("../fixtures/refuse.c");

/// Runs the command with some calls refused (`ptrace,personality`).
#[track_caller]
fn refused(project: &Project, what: &str, args: &[&str]) -> Run {
    if !project.has("refuse") {
        project.write("refuse.c", REFUSE);
        let _ = project.run("cc".as_ref(), &["-o", "refuse", "refuse.c"]).expect_code(0);
    }
    let program = project.path().join("refuse");
    project.run(&program, &[&[what, TOOL], args].concat())
}

/// Standing and texts of a finding.
#[track_caller]
fn finding(run: &Run, name: &str) -> (String, String) {
    let value: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(
        (value["reason"].as_str(), value["schema"].as_u64()),
        (Some("doctor"), Some(0))
    );
    let found = value["findings"].as_array().unwrap().iter().find(|one| one["name"] == name);
    let found = found.unwrap_or_else(|| panic!("no {name} in {}", run.stdout));
    let text = |key: &str| found[key].as_str().unwrap().to_owned();
    (text("standing"), [text("found"), text("consequence"), text("fix")].join("; "))
}

const JSON: [&str; 3] = ["doctor", "--message-format", "json"];

#[test]
fn the_user_of_the_tests_can_measure() {
    let project = Project::new();
    let run = memcheck(&project, &["doctor"]).expect_code(0);
    for text in ["works   ptrace", "works   smaps", "this machine can measure"] {
        assert!(run.stdout.contains(text), "no {text} in\n{}", run.stdout);
    }
    assert!(project.files().is_empty());
    let id = project.run("id".as_ref(), &["-u"]).stdout;
    let run = memcheck(&project, &JSON).expect_code(0);
    let (standing, text) = finding(&run, "user");
    assert_eq!(
        (standing.as_str(), text.contains("root")),
        ("works", id.trim() == "0"),
        "{text}"
    );
}

/// Where the tests run as root, somebody else too.
#[test]
fn an_ordinary_user_can_measure_and_is_told_what_only_root_can() {
    let project = Project::new();
    let is_root = project.run("id".as_ref(), &["-u"]).stdout.trim() == "0";
    let run = if is_root {
        let other = ["--reuid=65534", "--regid=65534", "--clear-groups", TOOL];
        project.run("setpriv".as_ref(), &[&other[..], &JSON].concat())
    } else {
        memcheck(&project, &JSON)
    };
    let run = run.expect_code(0);
    assert_eq!(finding(&run, "ptrace").0, "works");
    assert!(finding(&run, "user").1.contains("enough for everything that is launched"));
    let attach = finding(&run, "attach");
    assert!(
        attach.1.contains("of this user") || attach.1.contains("ptrace_scope"),
        "{attach:?}"
    );
}

#[test]
fn without_ptrace_nothing_can_be_measured() {
    let project = accepted();
    let run = refused(&project, "ptrace", &["doctor"]).expect_code(6);
    assert_eq!(run.stdout.matches("REFUSED").count(), 1, "{}", run.stdout);
    for text in [
        "REFUSED ptrace",
        "seccomp filter is on this process",
        "fix: ",
        "this machine cannot measure",
    ] {
        assert!(run.stdout.contains(text), "no {text} in\n{}", run.stdout);
    }
    let (standing, text) = finding(&refused(&project, "ptrace", &JSON).expect_code(6), "ptrace");
    assert_eq!(standing, "refused");
    assert!(text.contains("docker run --cap-add SYS_PTRACE"), "{text}");
    // Every other command says the same, and leaves everything as it was.
    let before = project.files();
    let _ = refused(&project, "ptrace", &[]).expect_code(6).expect_all(&[
        "This machine cannot measure",
        "a seccomp filter is on this process",
        "cargo memcheck doctor",
    ]);
    let _ = refused(&project, "ptrace", &["show", "--pid", "1"])
        .expect_code(6)
        .expect_stderr("not permitted to attach to process 1");
    assert_eq!(project.files(), before);
}

#[test]
fn each_refusal_is_named_and_the_rest_is_measured() {
    let project = grow();
    let what = "personality,thp,seccomp,pagemap-scan,kcmp";
    let run = refused(&project, what, &JSON).expect_code(0);
    for (name, text) in [
        ("aslr", "its rows are not compared"),
        ("thp", "steps of 2 MiB"),
        ("exit", "may be gone already"),
        ("PAGEMAP_SCAN", "read page by page instead"),
    ] {
        let (standing, told) = finding(&run, name);
        assert_eq!(standing, "limited", "{name}");
        assert!(told.contains(text) && told.contains("allow"), "{name}: {told}");
    }
    assert_eq!(finding(&run, "ptrace").0, "works");
    // What was approved with every setting is compared without them, and the run says what was refused.
    let _ = memcheck(&project, &["accept"]).expect_code(0);
    let _ = refused(&project, what, &["--no-pending"])
        .expect_code(0)
        .expect_all(&["aslr off was refused", "thp off was refused"]);
}

/// Residency read page by page gives the figures that the ioctl gives.
#[test]
fn without_the_ioctl_the_figures_are_the_same() {
    let project = Project::new().file("grow.c", GROW).file("memcheck.toml", GROW_TOML);
    let args = ["show", "grow", "--message-format", "json"];
    let roles = |run: Run| -> Value {
        let value: Value = serde_json::from_str(&run.expect_code(0).stdout).unwrap();
        let stops = value["checkpoints"].as_array().unwrap().iter();
        stops.map(|stop| stop["roles"].clone()).collect()
    };
    let with = roles(memcheck(&project, &args));
    let without = roles(refused(&project, "pagemap-scan", &args));
    let cells = |value: &Value| -> Vec<(String, Value)> {
        let roles = value
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|stop| stop.as_object().unwrap().clone());
        roles.map(|(name, row)| (name, row["anon"].clone())).collect()
    };
    let (with, without) = (cells(&with), cells(&without));
    assert_eq!(with.len(), without.len());
    for (one, other) in with.iter().zip(&without) {
        assert!(
            one == other || (one.0 == other.0 && other.1.is_null()),
            "{one:?} against {other:?}"
        );
    }
}

/// A library that hides files of /proc, in front of the command.
const DENY: &str = include_str!("../fixtures/deny.c");

/// Runs the command where some of /proc is missing or read-only (`smaps,pagemap`).
#[track_caller]
fn denied(project: &Project, what: &str, args: &[&str]) -> Run {
    if !project.has("deny.so") {
        project.write("deny.c", DENY);
        let flags = ["-shared", "-fPIC", "-o", "deny.so", "deny.c", "-ldl"];
        let _ = project.run("cc".as_ref(), &flags).expect_code(0);
    }
    let preload = format!("LD_PRELOAD={}", project.path().join("deny.so").display());
    let deny = format!("DENY={what}");
    project.run("env".as_ref(), &[&[deny.as_str(), preload.as_str(), TOOL], args].concat())
}

#[test]
fn a_kernel_without_smaps_judges_what_it_can() {
    let project = grow();
    let run = denied(&project, "smaps,pagemap", &JSON).expect_code(0);
    for (name, text) in [
        ("smaps", "budgets on them fail by name, counts and reserved sizes are judged"),
        ("pagemap", "have no anonymous sizes"),
        ("PAGEMAP_SCAN", "read page by page instead"),
    ] {
        let (standing, told) = finding(&run, name);
        assert_eq!(standing, "limited", "{name}");
        assert!(told.contains(text), "{name}: {told}");
    }
    let with = |budget: &str| {
        let text = project.read("memcheck.toml");
        let text = text.replace("[[case]]", &format!("[[case]]\nsnapshot = false\n{budget}"));
        let other = Project::new().file("grow.c", GROW).file("memcheck.toml", &text);
        denied(&other, "smaps,pagemap", &[])
    };
    let _ = with("budget.own.anon = \"1 GiB\"")
        .expect_code(3)
        .expect_all(&["own.anon is not known here"]);
    let _ = with("budget.own.reserved = \"1 GiB\"").expect_code(0);
    let _ = with("budget.thread-stack.live.count = 3")
        .expect_code(3)
        .expect_all(&["thread-stack.live.count is not known here", "told by mappings alone"]);
    // No snapshot stands on that.
    let _ = denied(&project, "smaps,pagemap", &["accept"])
        .expect_code(6)
        .expect_all(&["no snapshot can be approved here"]);
    assert!(!project.has(&super::snap("grow")));
    let _ = memcheck(&project, &["accept"]).expect_code(0);
    let _ = denied(&project, "smaps,pagemap", &[])
        .expect_code(0)
        .expect_all(&["the snapshot is not compared"]);
}

#[test]
fn read_only_settings_are_named_and_change_nothing() {
    let project = grow();
    let (standing, text) = finding(&memcheck(&project, &JSON).expect_code(0), "/proc/sys");
    if standing == "works" {
        let (standing, text) = finding(&denied(&project, "proc-sys", &JSON).expect_code(0), "/proc/sys");
        assert_eq!(standing, "limited");
        assert!(text.contains("run on the host"), "{text}");
    } else {
        assert!(text.contains("run on the host"), "{text}");
    }
    let _ = memcheck(&project, &["accept"]).expect_code(0);
    let _ = denied(&project, "proc-sys", &["--no-pending"]).expect_code(0);
}

/// Three different answers: as root, as an ordinary user, and where ptrace is refused.
#[test]
fn each_of_three_machines_gets_its_own_answer() {
    let project = Project::new();
    let own = memcheck(&project, &["doctor"]).expect_code(0).stdout;
    let refused = refused(&project, "ptrace", &["doctor"]).expect_code(6).stdout;
    assert!(
        own.contains("works   ptrace") && refused.contains("REFUSED ptrace"),
        "{own}\n{refused}"
    );
    if project.run("id".as_ref(), &["-u"]).stdout.trim() == "0" {
        let other = ["--reuid=65534", "--regid=65534", "--clear-groups", TOOL, "doctor"];
        let ordinary = project.run("setpriv".as_ref(), &other).expect_code(0).stdout;
        assert!(
            own.contains("root (not needed") && ordinary.contains("user 65534"),
            "{own}\n{ordinary}"
        );
        assert_ne!(own, ordinary);
    }
}

/// Markers that stop their program by themselves, where ptrace is refused.
#[test]
fn cooperating_programs_are_measured_without_ptrace() {
    let toml = GROW_TOML.replace(
        "{ c = \"grow.c\" }",
        "{ c = \"grow.c\", cflags = [\"-DMEMCHECK_COOPERATIVE\"] }",
    );
    let with = |rest: &str| {
        let toml = toml.replace("args = [\"1\"]", &format!("args = [\"1\"]\n{rest}"));
        Project::new().file("grow.c", GROW).file("memcheck.toml", &toml)
    };
    let judged = with(
        "after_last = \"run\"\nbudget.main-heap.anon = \"72 KiB\"\nbudget.threads.count = { min = 1, max = 1 }\nbudget.own.anon = \"1 MiB\"",
    );
    let _ = refused(&judged, "ptrace", &[])
        .expect_code(6)
        .expect_all(&["cargo memcheck --cooperative"]);
    let _ = refused(&judged, "ptrace", &["--cooperative"])
        .expect_code(0)
        .expect_all(&["the snapshot is not compared", "measured 2 checkpoints in 1 case: all passed"]);
    let over = with("budget.main-heap.anon = \"60 KiB\"");
    let _ = refused(&over, "ptrace", &["--cooperative"])
        .expect_code(3)
        .expect_all(&["main-heap.anon is 68 KiB, limit 60 KiB"]);
    let unknown = with("budget.thread-stack.live.count = 3");
    let _ = refused(&unknown, "ptrace", &["--cooperative"])
        .expect_code(3)
        .expect_all(&["thread-stack.live.count is not known here", "told by mappings alone"]);
    // Nothing passes silently: neither a kind that needs ptrace, nor a program whose markers do not stop.
    let kind = with("");
    kind.write(
        "memcheck.toml",
        &kind
            .read("memcheck.toml")
            .replace("{ name = \"grown\" }", "{ name = \"grown\", at = \"exit\" }"),
    );
    let _ = refused(&kind, "ptrace", &["--cooperative"])
        .expect_code(2)
        .expect_all(&["checkpoint `grown` (exit, memcheck.toml:", "use a marker"]);
    let settles = with("");
    super::gate::edit(&settles, "{ name = \"start\" }", "{ name = \"start\", settle = \"100ms\" }");
    let _ = refused(&settles, "ptrace", &["--cooperative"])
        .expect_code(2)
        .expect_stderr("`settle` of checkpoint `start` (memcheck.toml:");
    let _ = refused(&grow(), "ptrace", &["--cooperative"])
        .expect_code(7)
        .expect_all(&["checkpoint `start` was not reached", "no marker stopped by itself"]);
    let _ = refused(&with("cooperative = true"), "ptrace", &["accept", "grow"])
        .expect_code(6)
        .expect_all(&["no snapshot can be approved here"]);
}

/// The same in Rust: a feature of the probe crate, and nothing but that.
#[test]
fn cooperating_rust_programs_are_measured_without_ptrace() {
    let project = super::cargo::project();
    let edit = |file: &str, from: &str, to: &str| project.write(file, &project.read(file).replace(from, to));
    edit("memcheck.toml", ", { name = \"end\", at = \"exit\" }", "");
    edit(
        "memcheck.toml",
        "name = \"hello\"",
        "name = \"hello\"\nafter_last = \"run\"\ncooperative = true",
    );
    let _ = refused(&project, "ptrace", &[])
        .expect_code(7)
        .expect_all(&["no marker stopped by itself"]);
    edit(
        "Cargo.toml",
        "memcheck-probe\" }",
        "memcheck-probe\", features = [\"cooperative\"] }",
    );
    let _ = refused(&project, "ptrace", &[])
        .expect_code(0)
        .expect_all(&["measured 2 checkpoints in 1 case: all passed"]);
    // Traced, such a program is one like any other.
    edit("memcheck.toml", "cooperative = true\n", "");
    let _ = memcheck(&project, &["accept"]).expect_code(0);
    let _ = memcheck(&project, &[]).expect_code(0);
}

const THREADS: &str = r#"
#include <pthread.h>
#include "memcheck.h"
static void *passes(void *unused) {
    for (int i = 0; i < 20; i++) MEMCHECK_CHECKPOINT(passed);
    return unused;
}
int main(void) {
    pthread_t all[4];
    for (int i = 0; i < 4; i++) pthread_create(&all[i], 0, passes, 0);
    for (int i = 0; i < 4; i++) pthread_join(all[i], 0);
    MEMCHECK_CHECKPOINT(done);
    return 0;
}
"#;

/// Each pass of each thread is a stop of its own.
#[test]
fn threads_that_cooperate_wait_for_each_other() {
    let toml = "[[case]]\nname = \"threads\"\nsnapshot = false\nafter_last = \"run\"\nbudget.threads.count = 5\n\
                target = { c = \"main.c\", cflags = [\"-DMEMCHECK_COOPERATIVE\", \"-pthread\"], ldflags = [\"-pthread\"] }\n\
                [[case.checkpoint]]\nname = \"passed\"\nevery = true\nlimit = 100\n[[case.checkpoint]]\nname = \"done\"\n";
    let project = Project::new().file("main.c", THREADS).file("memcheck.toml", toml);
    let _ = refused(&project, "ptrace", &["--cooperative"])
        .expect_code(0)
        .expect_all(&["measured 81 checkpoints in 1 case: all passed"]);
}

/// Three children that outlive it, two in sessions of their own; one has the tool's pipe open for reading, too.
const LEAVES: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "memcheck.h"
int main(int argc, char **argv) {
    int ready[2];
    if (pipe(ready)) return 1;
    for (int i = 0; i < 3; i++)
        if (fork() == 0) {
            char path[64];
            if (i > 0) setsid();
            snprintf(path, sizeof path, "/proc/self/fd/%s", getenv("MEMCHECK_COOPERATE"));
            if (i == 2 && open(path, O_RDWR) < 0) return 4;
            if (write(ready[1], "x", 1) != 1) return 2;
            for (;;) pause();
        }
    char byte;
    for (int i = 0; i < 3; i++)
        if (read(ready[0], &byte, 1) != 1) return 3;
    MEMCHECK_CHECKPOINT(left);
    return argc > 2 ? pause() : 0;
}
"#;

/// However a target that nobody traces ends, its children end with it.
#[test]
fn hazard_17_nothing_is_left_of_a_program_that_cooperates() {
    for (ends, rest) in [
        ("by itself", "after_last = \"run\"\nexit = 0"),
        ("by the tool", ""),
        ("at the time limit", "after_last = \"run\"\ntimeout = \"2s\""),
    ] {
        let marker = marker(&format!("cooperating-{}", ends.len()));
        let more = if ends == "at the time limit" { ", \"stay\"" } else { "" };
        let toml = format!(
            "[[case]]\nname = \"leaves\"\nsnapshot = false\ncooperative = true\n{rest}\nargs = [\"{marker}\"{more}]\n\
             target = {{ c = \"main.c\", cflags = [\"-DMEMCHECK_COOPERATIVE\"] }}\n[[case.checkpoint]]\nname = \"left\"\n\
             budget.threads.count = 1\n"
        );
        let project = Project::new().file("main.c", LEAVES).file("memcheck.toml", &toml);
        let run = memcheck(&project, &["-v"]).expect_code(if ends == "at the time limit" { 7 } else { 0 });
        assert!(gone(&marker), "{ends}: {}", run.stderr);
        let _ = run.expect_all(&["a child process (", "was still running: killed"]);
    }
}

/// A target whose file is the tool's own has become a program like any other.
#[test]
fn the_tool_itself_can_be_a_program_that_cooperates() {
    let toml = format!(
        "[[case]]\nname = \"outer\"\nsnapshot = false\ncooperative = true\ntimeout = \"4s\"\ntarget = {{ path = \"{TOOL}\" }}\n\
         args = [\"inner\"]\ncheckpoint = [{{ name = \"never\" }}]\n\
         [[case]]\nname = \"inner\"\nsnapshot = false\ntarget = {{ command = \"sleep\" }}\nargs = [\"60\"]\n\
         checkpoint = [{{ name = \"end\", at = \"exit\" }}]\n"
    );
    let project = Project::new().file("memcheck.toml", &toml);
    let _ = memcheck(&project, &["outer"])
        .expect_code(7)
        .expect_all(&["checkpoint `never` was not reached", "no marker stopped by itself"])
        .expect_no_stderr("before the target could be started");
}

/// A case that cannot be launched as it asks leaves nothing behind while others go on: its target stood before its first instruction.
#[test]
fn a_case_whose_filter_is_refused_leaves_no_process() {
    let [word, other] = ["refused-filter", "not-refused"].map(marker);
    let source =
        "#include <unistd.h>\n#include \"memcheck.h\"\nint main(void) { MEMCHECK_CHECKPOINT(ready); sleep(3); return 0; }\n";
    let first =
        format!("args = [\"{word}\"]\nsnapshot = false\ncheckpoint = [{{ name = \"here\", at = {{ syscall = \"getppid\" }} }}]");
    let project = super::one("first", source, &first);
    let toml = project.read("memcheck.toml");
    let second = format!(
        "[[case]]\nname = \"second\"\ntarget = {{ c = \"main.c\" }}\nargs = [\"{other}\"]\nsnapshot = false\nexit = 0\n\
         budget.threads.count = 1\ncheckpoint = [{{ name = \"ready\" }}]\n"
    );
    project.write("memcheck.toml", &format!("{toml}\n{second}"));
    project.write("refuse.c", REFUSE);
    let _ = project.run("cc".as_ref(), &["-o", "refuse", "refuse.c"]).expect_code(0);
    let refuse = project.path().join("refuse");
    let tool = project.spawn(&refuse, &["seccomp", TOOL, "-j", "1"]).unwrap();
    let seen = tests::until(std::time::Duration::from_secs(30), || {
        !tests::processes_with(&other).is_empty()
    });
    let left = tests::processes_with(&word);
    let run = tests::collect(tool);
    assert!(seen && left.is_empty(), "{left:?}: {run:?}");
    let _ = run.expect_all(&["need a seccomp filter, which this machine refuses"]);
}
