//! What single messages say: mistakes once and with a way out, the end of a target before what follows from it, what is gated
//! by nothing, tables whose marks mean one thing.

use serde_json::Value;
use tests::Project;

use super::gate::edit;
use super::{GROW, accepted, command, grow, memcheck, one, shell};

#[test]
fn a_misspelt_name_is_one_mistake() {
    let project = grow();
    edit(&project, "name = \"grow\"", "nmae = \"grow\"");
    let run = memcheck(&project, &[]).expect_code(2).expect_stderr("did you mean `name`?");
    assert_eq!(run.stderr.matches("memcheck.toml:").count(), 1, "{}", run.stderr);
    let _ = run.expect_no_stderr("has no `name`");
    edit(&project, "nmae = \"grow\"\n", "");
    let _ = memcheck(&project, &[]).expect_code(2).expect_stderr("has no `name`");
}

#[test]
fn errors_are_documents_and_honour_colour() {
    let project = grow();
    edit(&project, "args =", "agrs =");
    let run = memcheck(&project, &["--message-format", "json", "--color", "always"]).expect_code(2);
    assert!(run.stderr.contains("\u{1b}["), "{}", run.stderr);
    let document: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&document["reason"], &document["schema"]), (&"error".into(), &0.into()));
    assert_eq!(
        (&document["problem"]["kind"], &document["exit_code"]),
        (&"config".into(), &2.into())
    );
    assert!(document["problem"]["title"].as_str().unwrap().contains("agrs"));
    let plain = tests::finish(command(&project, &[]).env("CARGO_TERM_COLOR", "always").env("NO_COLOR", "1"));
    assert!(!plain.stderr.contains('\u{1b}'), "{}", plain.stderr);
    let run = memcheck(&Project::new(), &["--message-format=json", "list"]).expect_code(2);
    assert!(run.stdout.contains("no memcheck.toml"), "{}", run.stdout);
    let run = memcheck(&project, &["--message-format=json", "--no-such-flag"]).expect_code(2);
    let document: Value = serde_json::from_str(&run.stdout).unwrap();
    assert!(document["text"].as_str().unwrap().contains("--no-such-flag"), "{document}");
    let run = memcheck(&project, &["--message-format=json", "--version"]).expect_code(0);
    assert!(!run.stdout.contains('{'), "{}", run.stdout);
}

#[test]
fn a_wrong_path_is_a_mistake_in_the_configuration() {
    let project = grow();
    edit(&project, "{ c = \"grow.c\" }", "{ path = \"build/grow\", build = \"true\" }");
    let _ = memcheck(&project, &[])
        .expect_code(2)
        .expect_all(&["build/grow does not exist, though `true` succeeded", "memcheck.toml:4"]);
}

const CRASH: &str = "return *(volatile int *volatile)NULL;";

/// What changed before the end is no explanation of it; a budget that was broken by then is told.
#[test]
fn a_crash_comes_first_and_without_a_table() {
    let project = accepted();
    project.write(
        "grow.c",
        &GROW.replace(
            "MEMCHECK_CHECKPOINT(start);",
            &format!("static char more[1 << 20]; more[argc] = 1; MEMCHECK_CHECKPOINT(start); {CRASH}"),
        ),
    );
    let run = memcheck(&project, &[])
        .expect_code(7)
        .expect_stderr("Could not judge: the target was killed by SIGSEGV before checkpoint `grown`")
        .expect_no_stderr("approved         now")
        .expect_no_stderr("Cause");
    let _ = run.expect_no_stderr("was not reached");
    edit(
        &project,
        "{ name = \"start\" }",
        "{ name = \"start\", budget.threads.count = 0 }",
    );
    let _ = memcheck(&project, &[])
        .expect_code(7)
        .expect_all(&["before checkpoint `grown`", "Budget exceeded: threads.count is 1"]);
}

#[test]
fn near_misses_are_looked_for_in_own_libraries_too() {
    let project = one(
        "case",
        "#include \"memcheck.h\"\nvoid work(void);\nint main(void) { MEMCHECK_CHECKPOINT(start); work(); return 0; }\n",
        "checkpoint = [{ name = \"start\" }, { name = \"raedy\" }]",
    );
    project.write(
        "work.c",
        "#include \"memcheck.h\"\nvoid work(void) { MEMCHECK_CHECKPOINT(ready); }\n",
    );
    let include = concat!(env!("CARGO_MANIFEST_DIR"), "/../memcheck-probe/include");
    project.write(
        "make.sh",
        &format!("cc -I {include} -shared -fPIC -o libwork.so work.c && cc -I {include} -o main main.c -L. -lwork '-Wl,-rpath,$ORIGIN'\n"),
    );
    edit(&project, "{ c = \"main.c\" }", "{ path = \"main\", build = \"sh make.sh\" }");
    let _ = memcheck(&project, &[])
        .expect_code(7)
        .expect_all(&["checkpoint `raedy` was not reached", "did you mean `ready`?"]);
    // Before anything was loaded, what the program names itself is all there is.
    edit(&project, "{ name = \"start\" }, ", "");
    let _ = memcheck(&project, &[])
        .expect_code(7)
        .expect_all(&["did you mean `ready`?", "have more: start"]);
}

#[test]
fn a_place_that_is_there_is_not_taken_for_a_mistyped_one() {
    let source = "#include \"memcheck.h\"\nvoid __attribute__((noinline)) grow(void) { MEMCHECK_CHECKPOINT(ready); }\n\
                  int main(int argc, char **argv) { if (argc > 1) grow(); return 0; }\n";
    for (at, words) in [
        ("{ probe = \"ready\" }", "`probe ready` is in `main`, but was not passed"),
        ("{ function = \"grow\" }", "`function grow` is in `main`, but was not passed"),
        (
            "{ function = \"frobnicate\" }",
            "neither the program nor a library of its own has a function of that name: is it inlined, stripped or spelt otherwise?",
        ),
    ] {
        let project = one("there", source, &format!("checkpoint = [{{ name = \"a\", at = {at} }}]"));
        let _ = memcheck(&project, &[])
            .expect_code(7)
            .expect_stderr(words)
            .expect_no_stderr("did you mean");
    }
}

#[test]
fn what_is_gated_by_nothing_is_named() {
    let project = accepted();
    let toml = project.read("memcheck.toml");
    let second =
        "[[case]]\nname = \"loose\"\nsnapshot = false\ntarget = { c = \"grow.c\" }\ncheckpoint = [{ name = \"start\" }]\n";
    project.write("memcheck.toml", &format!("{toml}\n{second}"));
    let _ = memcheck(&project, &[])
        .expect_code(0)
        .expect_stderr("warning: nothing is gated in case loose");
    let run = memcheck(&project, &["--message-format", "json"]).expect_code(0);
    let gated: Vec<bool> = run
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter_map(|line| line["gated"].as_bool())
        .collect();
    assert_eq!(gated, [true, false]);
    edit(
        &project,
        "snapshot = false\n",
        "snapshot = false\nbudget.own.anon = \"4 MiB\"\n",
    );
    let _ = memcheck(&project, &[]).expect_code(0).expect_no_stderr("nothing is gated");
    edit(&project, "{ name = \"grown\" }", "{ name = \"grown\", snapshot = false }");
    let _ = memcheck(&project, &["accept", "grow"]).expect_code(0);
    let _ = memcheck(&project, &[])
        .expect_code(0)
        .expect_stderr("nothing is gated at grown of case grow");
}

#[test]
fn as_is_is_not_the_same_environment() {
    let project = accepted();
    edit(&project, "args = [\"1\"]", "args = [\"5\"]");
    let _ = memcheck(&project, &["--as-is"])
        .expect_code(5)
        .expect_stderr("Measured as it is here (--as-is)")
        .expect_no_stderr("Same environment")
        .expect_no_stderr("less deep");
}

#[test]
fn a_typed_limit_is_raised_where_it_was_typed() {
    let project = accepted();
    let _ = memcheck(&project, &["--budget", "threads.count<=0"])
        .expect_code(3)
        .expect_stderr("raise the limit typed with --budget");
}

#[test]
fn growth_shows_what_the_limit_is_made_of() {
    let project = accepted();
    edit(
        &project,
        "{ name = \"grown\" }",
        "{ name = \"grown\", budget.main-heap.anon = { max_growth = \"8 KiB\", over = \"start\" } }",
    );
    let _ = memcheck(&project, &["-v"])
        .expect_code(3)
        .expect_stderr("max_growth over start: 8 KiB = 0 B + 8 KiB")
        .expect_stderr("max_growth over start 8 KiB = 0 B + 8 KiB  (memcheck.toml:6)");
}

/// Budget and snapshot of one case are two failures of one case.
#[test]
fn both_failures_of_a_case_are_counted() {
    let project = accepted();
    edit(&project, "args = [\"1\"]", "args = [\"5\"]");
    edit(
        &project,
        "{ name = \"grown\" }",
        "{ name = \"grown\", budget.own.anon = \"4 KiB\" }",
    );
    let _ = memcheck(&project, &[])
        .expect_code(3)
        .expect_last_line("measured 2 checkpoints in 1 case: 1 failed (1 budget, 1 snapshot)");
}

/// Cargo is asked about the workspace before anything else: one press is enough there too.
#[test]
fn one_press_ends_the_question_to_cargo() {
    let project = grow()
        .file("Cargo.toml", "[package]\nname = \"x\"\nversion = \"0.1.0\"\n")
        .file("cargo.sh", "#!/bin/sh\n: > asked\nexec sleep 30\n");
    let began = std::time::Instant::now();
    let line = "chmod +x cargo.sh; CARGO=$PWD/cargo.sh env --default-signal=INT \"$TOOL\" list & tool=$!\n\
                while [ ! -e asked ]; do :; done; kill -INT $tool; wait $tool";
    let _ = shell(&project, line).expect_code(130);
    assert!(began.elapsed() < std::time::Duration::from_secs(15), "{:?}", began.elapsed());
}
