//! gdb stops the same program, run by itself, at the same probe: as many threads, the same mappings of the same sizes.

use std::fs;

use memcheck_harness::model::{Region, StackState};

use crate::stop::{probe, show, visit};
use crate::tools::{built, hex, output, with_stack_limit};

/// (size, offset, perms, path) of a mapping, in address order.
type Row = (u64, u64, String, String);

/// The main stack's size depends on what stands in the environment, where gdb adds its own; the gate page is no memory.
fn is_compared(name: &str) -> bool {
    name != "[stack]" && name != "[vsyscall]"
}

fn gdb(probe: &str) -> (usize, Vec<Row>) {
    let stop = format!("break -probe-stap memcheck:{probe}");
    let mut command = with_stack_limit("gdb");
    command.args([
        "-batch",
        "-nx",
        "-ex",
        "set startup-with-shell off",
        "-ex",
        "set debuginfod enabled off",
    ]);
    for action in [&stop, "run", "info threads", "info proc mappings", "kill"] {
        command.args(["-ex", action]);
    }
    let text = output(command.arg("--args").arg(built("threads")).args(["3", "unjoined"]));
    let threads = text
        .lines()
        .filter(|line| {
            let line = line.trim_start_matches(['*', ' ']);
            line.split_once(' ')
                .is_some_and(|(id, rest)| id.parse::<u32>().is_ok() && rest.trim_start().starts_with("Thread "))
        })
        .count();
    let rows = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [start, end, size, offset, perms, path @ ..] = &words[..] else {
            return None;
        };
        if !start.starts_with("0x") || !end.starts_with("0x") || !size.starts_with("0x") {
            return None;
        }
        assert_eq!(hex(end) - hex(start), hex(size));
        Some((hex(size), hex(offset), (*perms).to_owned(), path.join(" ")))
    });
    let rows: Vec<Row> = rows.filter(|row| is_compared(&row.3)).collect();
    assert!(!rows.is_empty(), "{text}");
    (threads, rows)
}

#[test]
fn threads_and_mappings_at_the_same_probe() {
    visit(
        built("threads"),
        &["3", "unjoined"],
        &[probe("spawned")],
        |_, stopped, capture, map| {
            let row = |region: &Region| {
                let perms = region.perms.to_string();
                (region.size_bytes(), region.offset, perms, region.name.escaped().into_owned())
            };
            let ours: Vec<Row> = capture.regions.iter().map(row).filter(|row| is_compared(&row.3)).collect();
            let (threads, theirs) = gdb("spawned");
            assert_eq!(threads, 4);
            assert_eq!(ours, theirs, "{}", show(map));

            let tasks = fs::read_dir(format!("/proc/{}/task", stopped.pid())).unwrap().count();
            let live = map.threads.iter().filter(|fact| fact.state == StackState::Live).count();
            assert_eq!((tasks, stopped.threads().len(), live), (threads, threads, threads));
        },
    );
}
