//! Rust's own threads, in a program linked dynamically and with `+crt-static`, with and without symbols: what it knows of its
//! threads is what is shown. Static musl stands behind the feature `oracles`: Rust's target for it has to be installed.

use serde_json::Value;
use tests::Project;

use super::memcheck;

/// Ends with 3 live threads (the main one and two more), one that ended and
/// whose handle was forgotten, and two stacks in glibc's cache, which are too different in size to be taken for each other.
const SOURCE: &str = r#"
use std::thread::{Builder, JoinHandle};

fn start(name: &str, kib: usize, stays: bool) -> JoinHandle<()> {
    let (send, receive) = std::sync::mpsc::channel();
    let work = move || {
        let block = std::hint::black_box([1_u8; 100 << 10]);
        send.send(block[7]).unwrap();
        while stays {
            std::thread::park();
        }
    };
    let handle = Builder::new().name(name.to_owned()).stack_size(kib << 10).spawn(work).unwrap();
    assert_eq!(receive.recv(), Ok(1));
    handle
}

fn live() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

fn until(count: usize) {
    while live() != count {
        std::thread::yield_now();
    }
}

fn main() {
    drop(start("first", 256, true));
    let second = start("second", 256, true);
    std::mem::forget(start("lost", 512, false));
    until(3);
    start("joined", 2048, false).join().unwrap();
    drop(start("dropped", 8192, false));
    until(3);
    drop(second);
    std::process::exit(0);
}
"#;

/// (state, stack without guard in KiB) of each thread but the main one, in order.
fn threads(stop: &Value) -> Vec<(String, u64)> {
    let all = stop["threads"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|thread| thread["main"] == false);
    let mut found: Vec<(String, u64)> = all
        .map(|thread| {
            let state = thread["state"].as_str().unwrap().to_owned();
            (state, thread["stack_bytes"].as_u64().unwrap() >> 10)
        })
        .collect();
    found.sort();
    found
}

#[test]
fn threads_of_rust_dynamic_static_and_stripped() {
    let project = Project::new().file("main.rs", SOURCE);
    for (name, flags) in [
        ("dynamic", &[][..]),
        ("dynamic-stripped", &["-C", "strip=symbols"]),
        ("static", &["-C", "target-feature=+crt-static"]),
        (
            "static-stripped",
            &["-C", "target-feature=+crt-static", "-C", "strip=symbols"],
        ),
    ] {
        let args = [&["--edition=2021", "-C", "opt-level=1", "-o", name, "main.rs"], flags].concat();
        let _ = project.run("rustc".as_ref(), &args).expect_code(0);
        let program = format!("./{name}");
        let run = memcheck(
            &project,
            &["show", "--message-format", "json", "--at", "exit", "--", &program],
        )
        .expect_code(0);
        let value: Value = serde_json::from_str(&run.stdout).unwrap();
        let stop = &value["checkpoints"][0];
        assert_eq!(
            threads(stop),
            [
                ("cached", 2048),
                ("cached", 8192),
                ("exited", 512),
                ("live", 256),
                ("live", 256)
            ]
            .map(|(state, kib)| (state.to_owned(), kib)),
            "{name}: {stop}"
        );
        // Rust gives every thread that runs a stack for signals; the main one's is gone when `process::exit` has cleared up.
        assert_eq!(stop["roles"]["signal-stack"]["count"], 2, "{name}: {}", stop["roles"]);
        assert!(stop["roles"]["unclassified"].is_null(), "{name}: {}", stop["roles"]);
        assert!(stop["malloc"]["main_arena"]["doubt"].is_null(), "{name}: {}", stop["malloc"]);
        // One for each thread that lives; the other three hand one on.
        assert_eq!(stop["arenas"].as_array().unwrap().len(), 3, "{name}: {}", stop["arenas"]);
    }
}

/// musl keeps no stacks for later threads, and counts the descriptor and thread-local storage to the stack.
#[cfg(feature = "oracles")]
#[test]
fn threads_of_rust_on_static_musl() {
    let project = Project::new().file("main.rs", SOURCE);
    for (name, strip) in [("musl", "none"), ("musl-stripped", "symbols")] {
        let strip = format!("strip={strip}");
        let args = [
            "--edition=2021",
            "--target=x86_64-unknown-linux-musl",
            "-C",
            "opt-level=1",
            "-C",
            &strip,
            "-o",
            name,
            "main.rs",
        ];
        let _ = project.run("rustc".as_ref(), &args).expect_code(0);
        let program = format!("./{name}");
        let args = ["show", "--message-format", "json", "--at", "exit", "--", &program];
        let run = memcheck(&project, &args).expect_code(0);
        let value: Value = serde_json::from_str(&run.stdout).unwrap();
        let stop = &value["checkpoints"][0];
        let found = threads(stop);
        let states: Vec<&str> = found.iter().map(|(state, _)| &state[..]).collect();
        assert_eq!(states, ["exited", "live", "live"], "{name}: {stop}");
        for ((_, kib), asked) in found.iter().zip([512, 256, 256]) {
            assert!((asked..asked + 8).contains(kib), "{name}: {kib} KiB, asked for {asked}");
        }
        assert_eq!(stop["roles"]["signal-stack"]["count"], 2, "{name}: {}", stop["roles"]);
        assert!(stop["roles"]["unclassified"].is_null(), "{name}: {}", stop["roles"]);
        assert!(
            stop["roles"]["allocator.musl"]["anon"].as_u64() > Some(0),
            "{name}: {}",
            stop["roles"]
        );
    }
}
