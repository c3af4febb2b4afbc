//! What a run leaves for machines, and what `report` makes of it.

use serde_json::Value;
use tests::Project;

use super::gate::edit;
use super::{accepted, grow, memcheck, memcheck_with, start};

const RESULTS: &str = "target/memcheck-data/results.json";
const CAPTURES: &str = "target/memcheck-data/captures.jsonl";

fn results(project: &Project) -> Value {
    serde_json::from_str(&project.read(RESULTS)).unwrap()
}

/// Several cases of one program.
fn many(count: usize) -> Project {
    let mut toml = String::new();
    for i in 1..=count {
        toml.push_str(
            &super::GROW_TOML
                .replace("\"grow\"", &format!("\"grow-{i}\""))
                .replace("[\"1\"]", &format!("[\"{i}\"]")),
        );
    }
    let project = Project::new().file("grow.c", super::GROW).file("memcheck.toml", &toml);
    let _ = memcheck(&project, &["accept"]).expect_code(0);
    project
}

#[test]
fn a_run_leaves_results_that_hold_everything() {
    let project = accepted();
    edit(&project, "args = [\"1\"]", "args = [\"5\"]\nbudget.own.anon = \"64 KiB\"");
    let _ = memcheck(&project, &[]).expect_code(3);
    let value = results(&project);
    assert_eq!((&value["schema"], &value["complete"]), (&1.into(), &true.into()));
    assert_eq!(
        (&value["verdict"]["exit_code"], &value["verdict"]["status"]),
        (&3.into(), &"budget".into())
    );
    let case = &value["cases"][0];
    assert_eq!(
        (&case["outcome"], &case["snapshot"]["status"]),
        (&"budget".into(), &"differs".into())
    );
    let grown = &case["checkpoints"][1];
    assert_eq!(grown["limits"][0]["origin"]["line"], 6);
    assert_eq!(grown["limits"][0]["verdict"], "over");
    assert_eq!(grown["metrics"]["own.anon"], grown["limits"][0]["value"]);
    assert_eq!(value["captures"]["count"], 2);
    assert!(
        case["snapshot"]["patch"]
            .as_str()
            .unwrap()
            .starts_with("diff --git a/memcheck/snapshots/grow.snap")
    );
    // No name or value of the environment, nowhere.
    let env = [("SECRET_TOKEN", "correct-horse-battery")];
    let _ = memcheck_with(&project, &[], &env).expect_code(3);
    for file in [RESULTS, CAPTURES] {
        assert!(!project.read(file).contains("correct-horse"), "{file}");
    }
}

/// From its start a run that has not ended says so; one that is interrupted keeps what it measured.
#[test]
fn an_interrupted_run_is_incomplete() {
    let marker = tests::marker("waits");
    let rest = format!(
        "args = [\"{marker}\"]\ncheckpoint = [{{ name = \"main\", at = \"main\" }}, {{ name = \"end\", at = \"exit\" }}]"
    );
    let project = super::one("waits", "#include <unistd.h>\nint main(void) { pause(); return 0; }\n", &rest);
    let child = start(&project, &[]);
    let minute = std::time::Duration::from_secs(60);
    assert!(tests::until(minute, || !tests::processes_with(&marker).is_empty()));
    assert_eq!(results(&project)["complete"], false);
    let _ = project
        .run(std::path::Path::new("kill"), &["-INT", &child.id().to_string()])
        .expect_code(0);
    let run = tests::collect(child).expect_code(130);
    assert!(run.stderr.contains("interrupted"), "{}", run.stderr);
    let value = results(&project);
    assert_eq!(
        (&value["complete"], &value["interrupted"], &value["verdict"]["exit_code"]),
        (&false.into(), &2.into(), &130.into())
    );
    let told = memcheck(&project, &["report", RESULTS])
        .expect_code(0)
        .expect_stdout("interrupted by signal 2");
    assert!(!told.stdout.contains("Interrupted: interrupted"), "{}", told.stdout);
    let _ = memcheck(&project, &["report", RESULTS, "--merge"])
        .expect_code(130)
        .expect_stdout("interrupted by signal 2");
}

#[test]
fn a_report_prints_what_the_run_printed() {
    let project = accepted();
    edit(&project, "args = [\"1\"]", "args = [\"5\"]");
    let run = memcheck(&project, &[]).expect_code(5);
    let again = memcheck(&project, &["report", RESULTS]).expect_code(0);
    let from = run.stderr.find("        FAIL").unwrap();
    assert_eq!(again.stdout, run.stderr[from..]);
    let again = memcheck(&project, &["report", RESULTS, "--format", "json"]).expect_code(0);
    assert_eq!(again.stdout, project.read(RESULTS), "a results file is a fixed point");
    let again = memcheck(&project, &["report", RESULTS, "--message-format", "json"]).expect_code(0);
    assert_eq!(again.stdout, project.read(RESULTS), "asked for in the other way");
}

/// Judged again by today's limits, without a build or a launch.
#[test]
fn a_replay_judges_by_todays_limits_and_snapshots() {
    let project = accepted();
    let _ = memcheck(&project, &[]).expect_code(0);
    let replay = ["report", RESULTS, "--replay"];
    std::fs::remove_file(project.path().join("grow.c")).unwrap();
    let _ = memcheck(&project, &replay)
        .expect_code(0)
        .expect_stdout("measured 2 checkpoints in 1 case: all passed");
    edit(&project, "args =", "budget.own.anon = \"4 KiB\"\nargs =");
    let _ = memcheck(&project, &replay)
        .expect_code(3)
        .expect_stdout("Budget exceeded: own.anon");
    edit(&project, "budget.own.anon = \"4 KiB\"\n", "");
    let snap = project.read(&super::snap("grow"));
    project.write(
        &super::snap("grow"),
        &snap.replace("threads                   1", "threads                   2"),
    );
    let _ = memcheck(&project, &replay).expect_code(5).expect_stdout("Snapshot differs");
    // Of another run, damaged, or not there: no verdict.
    project.write(CAPTURES, "");
    let _ = memcheck(&project, &replay)
        .expect_code(2)
        .expect_stderr("belongs to another run");
    std::fs::remove_file(project.path().join(CAPTURES)).unwrap();
    let _ = memcheck(&project, &replay)
        .expect_code(2)
        .expect_stderr("captures.jsonl cannot be read");
}

/// What nobody asked for was not walked: the results say so, and a limit that comes later is not judged.
#[test]
fn chunks_that_nobody_asked_for_are_unknown_to_a_replay() {
    let project = accepted();
    let _ = memcheck(&project, &[]).expect_code(0);
    let of_run = |at: usize| {
        let checkpoint = results(&project)["cases"][0]["checkpoints"][at].clone();
        let doubt = checkpoint["map"]["malloc"]["main"]["doubt"].as_str().map(str::to_owned);
        (checkpoint["metrics"]["main-heap.used"].as_u64(), doubt)
    };
    let reason = "chunks were not walked, as no limit, snapshot or check asked for their figures when it was measured";
    let (used, doubt) = of_run(1);
    assert!(used.is_none() && doubt.is_some_and(|doubt| doubt.contains(reason)));
    edit(&project, "args =", "budget.main-heap.used = \"1 GiB\"\nargs =");
    let replayed = memcheck(&project, &["report", RESULTS, "--replay"]).expect_code(3);
    let words: Vec<&str> = replayed.stdout.split_whitespace().collect();
    assert!(words.join(" ").contains(reason), "{}", replayed.stdout);
    let _ = memcheck(&project, &[]).expect_code(0);
    let (used, doubt) = of_run(1);
    assert!(used.is_some_and(|bytes| bytes > 0) && doubt.is_none());
}

/// The results of another machine, with another C library: its facts, its verdict.
#[test]
fn a_replay_gives_the_verdict_of_the_machine_that_measured() {
    let project = accepted();
    let _ = memcheck_with(&project, &[], &[("CI", "1")]).expect_code(0);
    let text = project.read(RESULTS);
    let glibc = results(&project)["environment"]["libc"].as_str().unwrap().to_owned();
    project.write(RESULTS, &text.replace(&glibc, "glibc 2.99"));
    let snap = project.read(&super::snap("grow"));
    project.write(
        &super::snap("grow"),
        &snap.replace("threads                   1", "threads                   2"),
    );
    let replay = ["report", RESULTS, "--replay"];
    let _ = memcheck(&project, &replay)
        .expect_code(5)
        .expect_stdout("→ glibc 2.99")
        .expect_stdout("under CI differences fail");
    project.write(
        RESULTS,
        &text.replace(&glibc, "glibc 2.99").replace("\"ci\":true", "\"ci\":false"),
    );
    let _ = memcheck(&project, &replay).expect_code(0).expect_stdout("1 warning");
}

#[test]
fn shards_merged_equal_one_run_but_for_times() {
    let project = many(5);
    edit(&project, "args = [\"4\"]", "args = [\"9\"]");
    let _ = memcheck(&project, &["-j", "1"]).expect_code(5);
    let whole = results(&project);
    let mut files = Vec::new();
    for (number, code) in [(1, 5), (2, 0), (3, 0)] {
        let part = format!("count:{number}/3");
        let _ = memcheck(&project, &["--partition", &part, "-j", "1"]).expect_code(code);
        let file = format!("shard-{number}.json");
        project.write(&file, &project.read(RESULTS));
        files.push(file);
    }
    let all: Vec<&str> = ["report", "--merge", "--format", "json"]
        .into_iter()
        .chain(files.iter().map(String::as_str))
        .collect();
    let merged = memcheck(&project, &all)
        .expect_code(5)
        .expect_stderr("measured 10 checkpoints in 5 cases: 1 failed");
    let mut merged: Value = serde_json::from_str(&merged.stdout).unwrap();
    let mut whole = whole;
    for value in [&mut merged, &mut whole] {
        value.as_object_mut().unwrap().remove("captures");
        for case in value["cases"].as_array_mut().unwrap() {
            case.as_object_mut().unwrap().remove("duration_ms");
            for checkpoint in case["checkpoints"].as_array_mut().unwrap() {
                volatile(checkpoint);
            }
        }
    }
    assert_eq!(merged["cases"].as_array().unwrap().len(), 5);
    assert_eq!(first_difference(&merged, &whole, ""), None);
    // One lost, one twice.
    let _ = memcheck(&project, &["report", "--merge", &files[0], &files[2]])
        .expect_code(7)
        .expect_stdout("shard 2 of 3 is missing");
    let twice = ["report", "--merge", &files[0], &files[1], &files[2], &files[1]];
    let _ = memcheck(&project, &twice).expect_code(7).expect_stdout("came twice");
    let _ = memcheck(&project, &["report", &files[0], &files[1]])
        .expect_code(2)
        .expect_stderr("--merge");
}

/// Where two values differ first.
fn first_difference(a: &Value, b: &Value, at: &str) -> Option<String> {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            let of = |map: &serde_json::Map<String, Value>, name: &str| map.get(name).cloned().unwrap_or_default();
            names
                .into_iter()
                .find_map(|name| first_difference(&of(a, name), &of(b, name), &format!("{at}.{name}")))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let pairs = a.iter().zip(b).enumerate();
            pairs
                .into_iter()
                .find_map(|(index, (a, b))| first_difference(a, b, &format!("{at}[{index}]")))
        }
        _ => (a != b).then(|| format!("{at}: {a} or {b}")),
    }
}

/// What differs from launch to launch and is no part of any verdict: ids of threads, and what measures the rest of the machine.
fn volatile(checkpoint: &mut Value) {
    let strip = |value: &mut Value, names: &[&str]| {
        if let Some(object) = value.as_object_mut() {
            object.retain(|name, _| !names.iter().any(|end| name.ends_with(end)));
        }
    };
    strip(&mut checkpoint["metrics"], &["pss", "uss", "resident", "peak"]);
    strip(&mut checkpoint["own"], &["resident"]);
    for role in checkpoint["roles"].as_object_mut().unwrap().values_mut() {
        strip(role, &["resident"]);
    }
    let map = &mut checkpoint["map"];
    strip(&mut map["process"], &["pss", "uss", "resident", "peak"]);
    strip(&mut map["malloc"]["main"], &["threads"]);
    for arena in map["arenas"].as_array_mut().into_iter().flatten() {
        strip(arena, &["threads"]);
    }
    for list in ["pieces", "items", "threads"] {
        for entry in map[list].as_array_mut().unwrap() {
            strip(entry, &["tid", "resident_bytes", "proportional_bytes"]);
        }
    }
}

#[test]
fn an_empty_shard_is_no_failure() {
    let project = many(2);
    let mut files = Vec::new();
    for number in 1..=4 {
        let _ = memcheck(&project, &["--partition", &format!("count:{number}/4"), "--no-tests=pass"]).expect_code(0);
        files.push(format!("shard-{number}.json"));
        project.write(&files[number - 1], &project.read(RESULTS));
    }
    let all: Vec<&str> = ["report", "--merge"]
        .into_iter()
        .chain(files.iter().map(String::as_str))
        .collect();
    let _ = memcheck(&project, &all)
        .expect_code(0)
        .expect_stdout("in 2 cases: all passed");
    let _ = memcheck(&project, &["--partition", "count:4/4"]).expect_code(4);
    let _ = memcheck(&project, &["--partition", "count:5/4"])
        .expect_code(2)
        .expect_stderr("M is larger than N");
}

#[test]
fn files_that_are_no_results_are_refused() {
    let project = grow();
    project.write("a.json", "{}");
    let _ = memcheck(&project, &["report", "a.json"])
        .expect_code(2)
        .expect_stderr("states no schema");
    let _ = memcheck(&project, &["report", "/dev/zero"])
        .expect_code(2)
        .expect_stderr("no regular file");
    let _ = memcheck(&project, &["report", "missing"]).expect_code(2);
    project.write("b.json", "{\"schema\":2}");
    let _ = memcheck(&project, &["report", "b.json"])
        .expect_code(2)
        .expect_stderr("schema 2");
}

/// A recorded capture shows the same table as the run that was recorded.
#[test]
fn show_of_a_recorded_capture_is_what_was_seen_live() {
    let project = accepted();
    let _ = memcheck(&project, &[]).expect_code(0);
    let of_results = memcheck(&project, &["show", RESULTS, "grow@grown", "-v"]).expect_code(0);
    let of_capture = memcheck(&project, &["show", CAPTURES, "grow@grown", "-v"]).expect_code(0);
    assert!(of_results.stdout.starts_with("grow @ grown"), "{}", of_results.stdout);
    assert!(of_results.stdout.contains("main-heap") && !of_results.stdout.contains("@ start"));
    let tables = |text: &str| text.split_once('\n').map(|(_, rest)| rest.to_owned());
    assert_eq!(
        tables(&of_capture.stdout),
        tables(&of_results.stdout),
        "what was classified live, and again"
    );
    let all = memcheck(&project, &["show", RESULTS]).expect_code(0);
    assert!(all.stdout.contains("@ start") && all.stdout.contains("@ grown"));
    let since = memcheck(&project, &["show", RESULTS, "grow", "--since", "start"]).expect_code(0);
    assert!(since.stdout.contains("change since start"), "{}", since.stdout);
    let _ = memcheck(&project, &["show", RESULTS, "grow@nowhere"])
        .expect_code(2)
        .expect_stderr("grow@start");
}

#[test]
fn a_job_on_github_gets_summary_and_annotations_by_itself() {
    let project = accepted();
    edit(&project, "args = [\"1\"]", "args = [\"5\"]\nbudget.own.anon = \"64 KiB\"");
    let summary = project.path().join("summary.md");
    std::fs::write(&summary, "before\n").unwrap();
    let workspace = project.path().parent().unwrap().display().to_string();
    let env = [
        ("CI", "true"),
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_STEP_SUMMARY", summary.to_str().unwrap()),
        ("GITHUB_WORKSPACE", workspace.as_str()),
    ];
    let run = memcheck_with(&project, &["--no-ci"], &env).expect_code(3);
    assert!(!run.stderr.contains("::error"));
    assert_eq!(project.read("summary.md"), "before\n");
    let run = memcheck_with(&project, &[], &env).expect_code(3);
    let name = project.path().file_name().unwrap().to_str().unwrap();
    assert!(
        run.stderr
            .contains(&format!("\n::error file={name}/memcheck.toml,line=6,title=grow%3A")),
        "{}",
        run.stderr
    );
    let text = project.read("summary.md");
    assert!(text.starts_with("before\n## cargo memcheck: 1 case failed\n"), "{text}");
    assert!(
        text.contains("cargo memcheck report results.json --format patch | git apply") && text.contains("diff --git"),
        "{text}"
    );
}
