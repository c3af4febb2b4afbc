//! Points in children: made by fork, vfork, clone and posix_spawn, with and without a program of their own.

use super::*;
use crate::model::{ChildName, Stream, SyscallAt, ThreadEdge};

fn tree() -> PathBuf {
    static BUILT: OnceLock<TempDir> = OnceLock::new();
    let dir = BUILT.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        compile_file("tree.c", &[], &dir.path().join("tree"));
        std::fs::copy(dir.path().join("tree"), dir.path().join("leaf")).unwrap();
        dir
    });
    dir.path().join("tree")
}

fn within(child: &str, point: Point) -> Point {
    let within = Within::Child(ChildName::parse(child).unwrap());
    Point { within, ..point }
}

fn every_child() -> Point {
    Point {
        within: Within::EveryChild,
        ..point(At::Exit, 1)
    }
}

/// Runs to the end: each stop as the number of its point and the child it is in, and how the target ended.
fn walked(args: &[&str], points: &[Point]) -> (Vec<(usize, String)>, Ended) {
    let mut running = start(tree(), args, points);
    let mut stops = Vec::new();
    loop {
        match running.next().unwrap() {
            Next::Paused(stopped, index) => {
                stops.push((
                    index,
                    stopped.child().map_or_else(|| "main".to_owned(), |name| name.to_string()),
                ));
                let maps = std::fs::read_to_string(format!("/proc/{}/maps", stopped.threads().last().unwrap().tid)).unwrap();
                assert!(maps.contains("tree") || maps.contains("leaf"), "{maps}");
                running = stopped.resume();
            }
            Next::Ended(ended) => return (stops, ended),
        }
    }
}

fn in_order(stops: &[(usize, String)]) -> Vec<(usize, &str)> {
    let mut sorted: Vec<(usize, &str)> = stops.iter().map(|(index, name)| (*index, name.as_str())).collect();
    sorted.sort_unstable();
    sorted
}

#[test]
fn every_kind_of_point_is_reached_in_a_forked_child() {
    let kinds = [
        probe("child", 1),
        function("work", 1),
        point(At::Returns("work".to_owned()), 1),
        point(At::Touch(Touched::Symbol("variable".to_owned())), 1),
        point(
            At::Syscall(SyscallAt {
                name: "getppid".to_owned(),
                args: std::collections::BTreeMap::new(),
            }),
            1,
        ),
        point(At::Signal("SIGUSR1".to_owned()), 1),
        point(
            At::Thread {
                edge: ThreadEdge::Start,
                name: None,
            },
            1,
        ),
        point(
            At::Output {
                pattern: "^a line$".to_owned(),
                stream: Some(Stream::Stdout),
            },
            1,
        ),
        point(At::Exit, 1),
    ];
    let points: Vec<Point> = kinds.into_iter().map(|point| within("tree.1", point)).collect();
    let (stops, ended) = walked(&["fork"], &points);
    let expected: Vec<(usize, String)> = (0..points.len()).map(|index| (index, "tree.1".to_owned())).collect();
    assert_eq!((stops, ended.end), (expected, End::Exited(5)));
}

#[test]
fn a_point_counts_in_its_own_process_alone() {
    let points = [
        function("work", 2),
        within("tree.1", function("work", 1)),
        within("tree.2", function("work", 1)),
        within("tree.2", probe("child", 2)),
    ];
    let (stops, ended) = walked(&["fork", "3"], &points);
    assert_eq!(in_order(&stops), [(0, "main"), (1, "tree.1"), (2, "tree.2")]);
    assert_eq!((ended.end, ended.hits), (End::Exited(5), vec![2, 1, 1, 1]));
}

#[test]
fn a_program_of_its_own_is_armed_and_named() {
    let leaf = tree().with_file_name("leaf");
    let points = [
        within("leaf.2", point(At::Exec, 1)),
        within("leaf.2", point(At::Main, 1)),
        within("leaf.2", probe("leaf", 1)),
        within("leaf.1", point(At::Exit, 1)),
    ];
    let (stops, ended) = walked(&["spawn", "2", leaf.to_str().unwrap()], &points);
    assert_eq!(in_order(&stops), [(0, "leaf.2"), (1, "leaf.2"), (2, "leaf.2"), (3, "leaf.1")]);
    assert_eq!(ended.end, End::Exited(4));
}

#[test]
fn a_child_that_shares_memory_is_told_from_its_parent() {
    for mode in ["vfork", "clone"] {
        let points = [function("work", 2), within("tree.1", function("work", 1))];
        let (stops, ended) = walked(&[mode], &points);
        assert_eq!(in_order(&stops), [(0, "main"), (1, "tree.1")], "{mode}");
        assert_eq!(ended.hits, [2, 1], "{mode}");
    }
    let (stops, ended) = walked(
        &["vfork"],
        &[within("tree.1", probe("leaf", 1)), within("tree.1", point(At::Exit, 1))],
    );
    assert_eq!(in_order(&stops), [(0, "tree.1"), (1, "tree.1")]);
    assert_eq!(ended.end, End::Exited(4));
}

#[test]
fn exec_by_a_thread_of_a_child_that_does_not_lead_it() {
    let (stops, ended) = walked(&["exec-thread"], &[within("tree.1", probe("leaf", 1)), probe("done", 1)]);
    assert_eq!(in_order(&stops), [(0, "tree.1"), (1, "main")]);
    assert_eq!(ended.end, End::Exited(4));
}

#[test]
fn a_child_whose_leader_has_ended_is_stopped_in_its_other_thread() {
    let (stops, ended) = walked(&["zombie"], &[within("tree.1", function("work", 1)), every_child()]);
    assert_eq!(stops, [(0, "tree.1".to_owned()), (1, "tree.1".to_owned())]);
    assert_eq!(ended.end, End::Exited(3));
}

#[test]
fn a_daemon_is_waited_for_when_a_point_is_in_it() {
    let (stops, ended) = walked(&["daemon"], &[within("tree.1.1", probe("late", 1))]);
    assert_eq!(in_order(&stops), [(0, "tree.1.1")]);
    assert_eq!(ended.end, End::Exited(0));
}

#[test]
fn every_child_stops_once_at_its_end() {
    let (stops, ended) = walked(&["fork", "9"], &[every_child()]);
    let names: Vec<String> = (1..=9).map(|number| format!("tree.{number}")).collect();
    assert_eq!(in_order(&stops).into_iter().map(|(_, name)| name).collect::<Vec<_>>(), names);
    assert_eq!((ended.end, ended.notes), (End::Exited(5), Vec::new()));
    let (stops, ended) = walked(&["crash"], &[every_child()]);
    assert_eq!((in_order(&stops), ended.end), (vec![(0, "tree.1")], End::Exited(134)));
    let (stops, ended) = walked(&["killed"], &[every_child()]);
    assert_eq!(stops, []);
    assert_eq!(
        ended.notes,
        ["child tree.1 was killed by SIGKILL before its end could be captured"]
    );
}

#[test]
fn the_only_child_of_a_program_needs_no_number() {
    let (stops, _) = walked(&["fork"], &[within("tree", probe("child", 1))]);
    assert_eq!(in_order(&stops), [(0, "tree.1")]);
    let running = start(tree(), &["fork", "2"], &[within("tree", probe("never", 1))]);
    let error = running.next().unwrap_err();
    assert!(error.to_string().contains("tree.1 and tree.2"), "{error}");
}

#[test]
fn pages_that_a_copy_took_over_are_known() {
    let points = [function("work", 1), within("tree.1", point(At::Exit, 1))];
    let (stopped, _) = paused(start(tree(), &["fork"], &points));
    let patched = stopped.patched();
    let (stopped, index) = paused(stopped.resume());
    assert_eq!((index, stopped.patched()), (1, patched));
}

/// A number is that of the birth, whichever child is seen, stops or ends first: ids are given in the order of birth.
#[test]
fn numbers_are_those_of_birth_every_time() {
    for round in 0..10 {
        let mut running = start(tree(), &["fork", "9"], &[every_child()]);
        let mut names = std::collections::BTreeMap::new();
        while let Next::Paused(stopped, _) = running.next().unwrap() {
            names.insert(stopped.pid(), stopped.child().unwrap().to_string());
            running = stopped.resume();
        }
        let pids: Vec<i32> = names.keys().copied().collect();
        if pids.windows(2).any(|pair| pair[1] - pair[0] > 1000) {
            // The ids began anew at the lowest: their order says nothing this time.
            continue;
        }
        let expected: Vec<String> = (1..=9).map(|number| format!("tree.{number}")).collect();
        assert_eq!(names.into_values().collect::<Vec<_>>(), expected, "round {round}");
    }
}
