//! Stacks of threads: five fates, five right states, and how deep each was used.

use std::collections::BTreeMap;

use serde_json::Value;
use tests::{Project, Run};

use super::memcheck;

const SOURCE: &str = include_str!("../fixtures/stacks.c");
const PAGE: u64 = 4096;

fn built() -> Project {
    let project = Project::new().file("stacks.c", SOURCE);
    let include = format!("-I{}/../memcheck-probe/include", env!("CARGO_MANIFEST_DIR"));
    let args = ["-O1", "-pthread", "-Wl,-z,now", "-o", "stacks", "stacks.c", &include];
    let _ = project.run("cc".as_ref(), &args).expect_code(0);
    project
}

/// What the program says: name → state, bytes.
fn truth(project: &Project) -> BTreeMap<String, (String, u64)> {
    let text = project.read("truth");
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words[2].to_owned(), (words[0].to_owned(), words[1].parse().unwrap()))
    };
    let told: BTreeMap<_, _> = text.lines().map(line).collect();
    assert_eq!(told.len(), 5, "{text}");
    told
}

fn threads(run: &Run) -> Vec<Value> {
    let value: Value = serde_json::from_str(&run.stdout).unwrap();
    let all = value["checkpoints"][0]["threads"].as_array().unwrap();
    all.iter().filter(|thread| thread["main"] == false).cloned().collect()
}

fn state(thread: &Value) -> String {
    match (thread["user_stack"].as_bool(), thread["state"].as_str()) {
        (Some(true), Some("live")) => "user".to_owned(),
        (_, state) => state.unwrap().to_owned(),
    }
}

#[test]
fn five_stacks_five_states() {
    let project = built();
    let run = memcheck(
        &project,
        &[
            "show",
            "--message-format",
            "json",
            "--at",
            "probe:done",
            "--",
            "./stacks",
            "truth",
        ],
    )
    .expect_code(0);
    let truth = truth(&project);
    let threads = threads(&run);
    let mut states: Vec<String> = threads.iter().map(state).collect();
    states.sort();
    assert_eq!(states, ["cached", "exited", "exited", "live", "user"]);
    for thread in &threads {
        let deepest = thread["deepest_bytes"].as_u64();
        match state(thread).as_str() {
            // Nobody watched: their pages are gone, and that is not zero.
            "exited" | "cached" => {
                assert_eq!((deepest, &thread["name"]), (None, &Value::Null));
            }
            alive => {
                let (told, bytes) = &truth[thread["name"].as_str().unwrap()];
                assert_eq!(told, alive);
                assert!(
                    (*bytes..*bytes + PAGE).contains(&deepest.unwrap()),
                    "{thread}, touched {bytes}"
                );
            }
        }
        assert_eq!(thread["start_function"], "work");
    }
}

#[test]
fn a_finished_thread_tells_its_depth_when_its_end_is_watched() {
    let project = built();
    let args = ["show", "--watch", "stacks", "--at", "probe:done"];
    let program = ["--", "./stacks", "truth"];
    let json = [&args[..], &["--message-format", "json"], &program].concat();
    let run = memcheck(&project, &json).expect_code(0);
    let truth = truth(&project);
    let mut seen = BTreeMap::new();
    for thread in threads(&run) {
        let name = thread["name"].as_str().unwrap().to_owned();
        let (told, bytes) = &truth[&name];
        assert_eq!(*told, state(&thread));
        let deepest = thread["deepest_bytes"].as_u64().unwrap();
        assert!((*bytes..*bytes + PAGE).contains(&deepest), "{thread}, touched {bytes}");
        assert!(thread["tid"].as_u64().is_some());
        seen.insert(name, deepest);
    }
    assert_eq!(seen.len(), 5);

    let text = memcheck(&project, &[&args[..], &program].concat()).expect_code(0);
    let words = |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
    for (name, deepest) in seen {
        let line = text.stdout.lines().find(|line| line.contains(&name)).unwrap();
        assert_eq!(words(line)[4], (deepest >> 10).to_string(), "{}", text.stdout);
        assert!(line.ends_with("work"), "{line}");
    }
    assert!(!text.stdout.contains("gives the pages"), "{}", text.stdout);
}

#[test]
fn a_case_can_watch_and_gate_the_deepest_stack() {
    let case = |watch: &str| {
        format!(
            "[[case]]\nname = \"stacks\"\ntarget = {{ c = \"stacks.c\", cflags = [\"-O1\", \"-pthread\"], ldflags = [\"-pthread\", \
             \"-Wl,-z,now\"] }}\nargs = [\"truth\"]\n{watch}snapshot = false\n[[case.checkpoint]]\nname = \"done\"\n\
             budget.thread-stack.deepest = \"400 KiB\"\n"
        )
    };
    let project = Project::new().file("stacks.c", SOURCE).file("memcheck.toml", &case(""));
    let _ = memcheck(&project, &[]).expect_code(0);
    project.write("memcheck.toml", &case("watch = \"stacks\"\n"));
    let _ = memcheck(&project, &[]).expect_code(3).expect_stderr("thread-stack");
    project.write("memcheck.toml", &case("watch = \"heap\"\n"));
    let _ = memcheck(&project, &[]).expect_code(2);
}
