//! Every kind of point, with counts.

use super::*;

#[test]
fn every_kind_of_point_is_reached_in_order() {
    let points = [
        point(At::Exec, 1),
        point(At::Main, 1),
        function("work", 1),
        probe("work", 1),
        function("work", 3),
        probe("work", 3),
        point(At::Exit, 1),
    ];
    let mut running = zoo_with(&["plain"], &points);
    for expected in 0..points.len() {
        let (stopped, index) = paused(running);
        assert_eq!(index, expected);
        assert_eq!(stopped.threads().len(), 1);
        let thread = &stopped.threads()[0];
        assert_eq!(thread.tid, stopped.pid());
        assert!(thread.name.as_str().unwrap().starts_with("zoo"));
        assert!(thread.stack_pointer.unwrap() > 0x1000 && thread.program_counter.unwrap() > 0x1000);
        assert_eq!(thread.tls_base.unwrap() != 0, index != 0, "no TLS before the loader ran");
        running = stopped.resume();
    }
    let ended = ended(running);
    assert_eq!(ended.end, End::Exited(3));
    assert_eq!(stdout(&ended), "done\n");
    assert_eq!(ended.hits, [1, 1, 1, 1, 3, 3, 1]);
    assert_eq!(ended.notes, [""; 0]);
}

#[test]
fn points_never_reached_keep_their_counts() {
    let ended = ended(zoo_with(
        &["plain"],
        &[probe("work", 4), function("work", 9), probe("wrok", 1)],
    ));
    assert_eq!(ended.end, End::Exited(3));
    assert_eq!(ended.hits, [3, 3, 0]);
}

#[test]
fn main_is_found_in_every_kind_of_program() {
    for flags in [&["-no-pie"][..], &["-static"], &["-static-pie"], &["-s"], &["-s", "-no-pie"]] {
        let program = zoo(flags);
        let (stopped, _) = paused(start(program.clone(), &["plain"], &[point(At::Main, 1), probe("work", 2)]));
        let (stopped, index) = paused(stopped.resume());
        assert_eq!(index, 1, "{flags:?}");
        assert!(matches!(stopped.resume().next().unwrap(), Next::Ended(ended) if ended.end == End::Exited(3)));
    }
}

#[test]
fn main_of_a_stripped_static_program_is_a_clear_error() {
    let error = start(zoo(&["-static", "-s"]), &["plain"], &[point(At::Main, 1)])
        .next()
        .unwrap_err();
    assert!(
        error.to_string().contains("`main` of the target could not be found"),
        "{error}"
    );
}

#[test]
fn the_text_is_as_it_was_when_its_points_are_done() {
    let (stopped, _) = paused(zoo_with(&["plain"], &[function("work", 1), probe("work", 1)]));
    let address = stopped.threads()[0].program_counter.unwrap();
    let page = address & !0xfff;
    assert!(stopped.patched().contains(&PatchedPage { address: page }));
    let (stopped, _) = paused(stopped.resume());
    assert!(
        stopped.patched().contains(&PatchedPage { address: page }),
        "the page stays a private copy"
    );
    let text = read_memory(stopped.pid(), page, 4096);
    let file = std::fs::read(zoo(&[])).unwrap();
    assert!(
        file.windows(64)
            .any(|window| window == &text[(address - page) as usize..][..64])
    );
}

fn read_memory(pid: i32, address: u64, length: usize) -> Vec<u8> {
    use std::os::unix::fs::FileExt as _;
    let mut bytes = vec![0; length];
    std::fs::File::open(format!("/proc/{pid}/mem"))
        .unwrap()
        .read_exact_at(&mut bytes, address)
        .unwrap();
    bytes
}

#[test]
fn without_points_in_libraries_the_entry_is_not_patched() {
    let (stopped, _) = paused(zoo_with(&["plain"], &[point(At::Main, 1)]));
    assert_eq!(stopped.patched().len(), 1);
    let (stopped, _) = paused(zoo_with(&["plain"], &[point(At::Exec, 1)]));
    assert!(stopped.patched().is_empty());
    assert!(stopped.kill().unwrap().notes.is_empty());
}

#[test]
fn a_probe_passed_by_eight_threads_is_counted_exactly() {
    let ended = ended(zoo_with(&["many", "500"], &[probe("many", 1_000_000)]));
    assert_eq!((ended.end, ended.hits), (End::Exited(0), vec![4000]));
}

#[test]
fn an_instruction_that_has_to_be_stepped_is_counted_exactly() {
    let ended = ended(zoo_with(&["steps", "250"], &[function("stepped", 1_000_000)]));
    assert_eq!(
        (ended.end, ended.hits),
        (End::Exited(0), vec![1000]),
        "each pass is counted and runs once"
    );
}

#[test]
fn hits_of_other_threads_during_a_pause_are_counted_once() {
    let points: Vec<Point> = (1..=40)
        .map(|n| probe("many", n * 10))
        .chain([probe("many", 1_000_000)])
        .collect();
    let mut running = zoo_with(&["many", "100"], &points);
    for expected in 0..40 {
        let (stopped, index) = paused(running);
        assert_eq!(index, expected);
        running = stopped.resume();
    }
    assert_eq!(*ended(running).hits.last().unwrap(), 800);
}

#[test]
fn points_in_a_library_are_armed_before_main() {
    let dir = tempfile::tempdir().unwrap();
    let library = dir.path().join("libzoo.so");
    compile(&["-shared", "-fPIC", "-DLIBRARY"], &library);
    let program = dir.path().join("user");
    compile(&["-DWITH_LIBRARY", library.to_str().unwrap()], &program);
    let points = [function("in_library", 1), probe("in-library", 1)];
    let (stopped, first) = paused(start(program, &["plain"], &points));
    let (stopped, second) = paused(stopped.resume());
    assert_eq!((first, second), (0, 1));
    assert_eq!(ended(stopped.resume()).end, End::Exited(3));
}

#[test]
fn several_points_at_one_place_pause_one_after_another() {
    let points = [probe("work", 2), probe("work", 2), function("main", 1), point(At::Main, 1)];
    let mut running = zoo_with(&["plain"], &points);
    let mut reached = Vec::new();
    for _ in 0..4 {
        let (stopped, index) = paused(running);
        reached.push(index);
        running = stopped.resume();
    }
    assert_eq!(reached, [2, 3, 0, 1]);
    assert_eq!(ended(running).hits, [2, 2, 1, 1]);
}

#[test]
fn exit_pauses_before_the_memory_is_gone() {
    for (mode, end) in [
        ("plain", End::Exited(3)),
        ("crash", End::Signalled("SIGSEGV".to_owned())),
        ("abort", End::Signalled("SIGABRT".to_owned())),
        ("term", End::Signalled("SIGTERM".to_owned())),
        ("zombie", End::Exited(0)),
        ("many", End::Exited(0)),
    ] {
        let (stopped, _) = paused(zoo_with(&[mode], &[point(At::Exit, 1)]));
        let pid = stopped.pid();
        let tid = stopped.threads().last().unwrap().tid;
        let maps = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/maps")).unwrap();
        assert!(maps.contains("[heap]") || maps.contains("libc"), "{mode}: {maps}");
        let ended = ended(stopped.resume());
        assert_eq!((ended.end, ended.hits), (end, vec![1]), "{mode}");
        assert!(!exists(pid));
    }
}

#[test]
fn exit_is_reached_without_the_filter_too() {
    for (mode, end) in [
        ("plain", End::Exited(3)),
        ("many", End::Exited(0)),
        ("zombie", End::Exited(0)),
    ] {
        let mut running = zoo_with(&[mode], &[]);
        let options = crate::sys::ptrace::OPTIONS | crate::sys::ptrace::TRACE_EXIT;
        crate::sys::ptrace::set_options(running.pid(), options).unwrap();
        running.session.points.push(session::Counted {
            point: point(At::Exit, 1),
            hits: 0,
            since: None,
            done_at: None,
            met: None,
        });
        let (stopped, _) = paused(running);
        let tid = stopped.threads().last().unwrap().tid;
        assert!(
            std::fs::read_to_string(format!("/proc/{tid}/maps"))
                .unwrap()
                .contains("[stack]")
        );
        assert_eq!(ended(stopped.resume()).end, end, "{mode}");
    }
}

#[test]
fn a_thread_that_never_had_registers_again_has_none() {
    let (stopped, _) = paused(zoo_with(&["zombie"], &[probe("alone", 1)]));
    let threads = stopped.threads();
    assert_eq!(threads.len(), 2);
    assert_eq!(
        (threads[0].tid, threads[0].stack_pointer, threads[0].tls_base),
        (stopped.pid(), None, None)
    );
    assert!(threads[1].stack_pointer.is_some());
    assert_eq!(ended(stopped.resume()).end, End::Exited(0));
}

#[test]
fn a_new_program_is_armed_again() {
    for mode in ["exec", "exec-thread"] {
        let points = [point(At::Exec, 2), point(At::Main, 2), probe("work", 1), point(At::Exit, 1)];
        let mut running = zoo_with(&[mode], &points);
        for expected in 0..points.len() {
            let (stopped, index) = paused(running);
            assert_eq!(index, expected, "{mode}");
            assert_eq!(stopped.threads().len(), 1, "{mode}");
            running = stopped.resume();
        }
        assert_eq!(ended(running).end, End::Exited(3), "{mode}");
    }
}

#[test]
fn suggestions_name_what_is_near() {
    let program = zoo(&[]);
    let at = |name: &str| probe(name, 1).at;
    assert_eq!(suggestions(&program, &[], &at("redy")).near, ["ready"]);
    assert!(
        suggestions(&program, &[], &at("redy")).others.contains(&"alone".to_owned()),
        "few probes are all listed"
    );
    assert_eq!(
        suggestions(&program, &[], &At::Function("steped".to_owned())).near,
        ["stepped", "steps"]
    );
    let there = suggestions(&program, &[], &At::Function("stepped".to_owned()));
    assert_eq!((there.holder.as_deref(), there.near.len()), (Some("zoo0"), 0), "not itself");
    assert_eq!(suggestions(&program, &[], &at("ready")).holder.as_deref(), Some("zoo0"));
    assert_eq!(suggestions(Path::new("/dev/zero"), &[], &at("x")), Suggestions::default());
    assert_eq!(suggestions(&program, &[], &At::Main), Suggestions::default());
}
