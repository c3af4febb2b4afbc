//! Points at system calls, signals, lines of output, threads and libraries: reached exactly once each, and the target none the
//! wiser.

use super::*;
use crate::model::{Stream, SyscallAt, ThreadEdge};

fn program() -> PathBuf {
    static BUILT: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("calls");
        compile_file("calls.c", &["-ldl"], &program);
        (dir, program)
    });
    built.1.clone()
}

fn with(args: &[&str], points: &[Point]) -> Running {
    start(program(), args, points)
}

fn syscall(name: &str, args: &[(u8, i64)], hit: u64) -> Point {
    let call = SyscallAt {
        name: name.to_owned(),
        args: args.iter().copied().collect(),
    };
    point(At::Syscall(call), hit)
}

fn output(pattern: &str, stream: Option<Stream>, hit: u64) -> Point {
    let pattern = pattern.to_owned();
    point(At::Output { pattern, stream }, hit)
}

fn thread(edge: ThreadEdge, name: Option<&str>, hit: u64) -> Point {
    let name = name.map(str::to_owned);
    point(At::Thread { edge, name }, hit)
}

/// Names of the threads but the main one.
fn names(stopped: &Stopped) -> Vec<String> {
    let others = stopped.threads().iter().filter(|thread| thread.tid != stopped.pid());
    others.map(|thread| thread.name.to_string()).collect()
}

#[test]
fn a_call_stops_before_it_is_made_and_by_its_arguments() {
    let points = [
        syscall("prctl", &[], 1),
        syscall("prctl", &[(0, 15)], 2),
        syscall("pause", &[], 1),
    ];
    let (stopped, index) = paused(with(&["pause"], &points));
    assert_eq!(index, 0);
    assert_eq!(stopped.threads()[0].name.as_str(), Some("calls"), "not renamed yet");
    assert_eq!(stopped.patched(), [], "no text is patched");
    let (stopped, index) = paused(stopped.resume());
    assert_eq!((index, stopped.threads()[0].name.as_str()), (1, Some("one")));
    let (stopped, index) = paused(stopped.resume());
    assert_eq!((index, stopped.threads()[0].name.as_str()), (2, Some("two")));
    assert_eq!(stopped.kill().unwrap().hits, [1, 2, 1]);
}

#[test]
fn a_call_that_the_kernel_restarts_is_one_call() {
    let reads = |mode| {
        let ended = ended(with(&[mode], &[syscall("read", &[(2, 1)], 1000)]));
        assert_eq!(ended.end, End::Exited(0));
        (ended.hits[0], stdout(&ended).trim().parse::<u64>().unwrap())
    };
    assert_eq!(reads("reads-restarted"), (1, 1));
    let (counted, made) = reads("reads");
    assert_eq!(counted, made, "those that ended with EINTR were calls of their own");
}

#[test]
fn a_call_that_our_own_stops_interrupt_is_one_call() {
    // Each signal to the reader is a stop of all threads, the one in `read` among them.
    let points: Vec<Point> = (1..=5)
        .map(|hit| point(At::Signal("SIGUSR1".to_owned()), hit))
        .chain([syscall("read", &[(2, 1)], 1000)])
        .collect();
    let mut running = with(&["reads-restarted"], &points);
    for expected in 0..5 {
        let (stopped, index) = paused(running);
        assert_eq!(index, expected);
        running = stopped.resume();
    }
    let ended = ended(running);
    assert_eq!((ended.end.clone(), ended.hits[5]), (End::Exited(0), 1));
    assert_eq!(stdout(&ended), "1\n", "the target saw one call");
}

#[test]
fn a_signal_stops_before_its_handler_runs() {
    let points = [
        point(At::Signal("SIGUSR1".to_owned()), 2),
        point(At::Signal("SIGRTMIN+3".to_owned()), 1),
        point(At::Signal("SIGUSR2".to_owned()), 1),
    ];
    let (stopped, index) = paused(with(&["signals"], &points));
    assert_eq!(index, 0);
    let (stopped, index) = paused(stopped.resume());
    assert_eq!(index, 1);
    let ended = ended(stopped.resume());
    assert_eq!(
        (ended.end, ended.hits),
        (End::Exited(0), vec![2, 1, 0]),
        "all four were delivered"
    );
}

#[test]
fn a_line_stops_at_the_write_that_completes_it() {
    let points = [
        output("^ready on [0-9]+$", Some(Stream::Stdout), 1),
        output("^ready on 82$", None, 1),
        output("^ready", Some(Stream::Stderr), 2),
    ];
    let (stopped, index) = paused(with(&["lines"], &points));
    assert_eq!(index, 0);
    let (stopped, index) = paused(stopped.resume());
    assert_eq!(index, 1);
    let ended = ended(stopped.resume());
    assert_eq!(ended.end, End::Exited(0));
    assert_eq!(ended.hits, [1, 1, 1]);
    assert_eq!(stdout(&ended), "begin\nready on 80\nmore\nready on 81\nready on 82\n");
}

#[test]
fn a_line_that_is_not_written_is_explained() {
    let unseen = |mode: &str| {
        let mut settings = settings_of(program(), &[mode]);
        settings.timeout = Duration::from_millis(300);
        let running = launch(&settings, &[output("^ready on 80$", None, 1)], &Cancel::new()).unwrap();
        let ended = ended(running);
        assert_eq!(ended.end, End::TimedOut);
        ended.unseen.get(&0).copied()
    };
    assert_eq!(unseen("buffered"), Some(Unseen::Buffered));
    assert_eq!(unseen("prompt"), Some(Unseen::Unfinished));
    assert_eq!(unseen("pause"), None);
}

#[test]
fn at_a_terminal_programs_write_line_by_line() {
    let mut settings = settings_of(program(), &["tty"]);
    settings.tty = true;
    let running = launch(&settings, &[output("^ready on 80$", None, 1)], &Cancel::new()).unwrap();
    let (stopped, _) = paused(running);
    let ended = stopped.kill().unwrap();
    assert_eq!(stdout(&ended), "11\nerr\nready on 80\n");
    assert_eq!(ended.output.stderr.as_bytes(), b"");
}

#[test]
fn threads_stop_at_their_beginning_and_at_their_end() {
    let points = [
        thread(ThreadEdge::Start, None, 1),
        thread(ThreadEdge::End, None, 1),
        thread(ThreadEdge::Start, Some("worker-b"), 1),
        thread(ThreadEdge::End, Some("worker-b"), 1),
        thread(ThreadEdge::Start, None, 3),
        thread(ThreadEdge::Start, Some("worker-c"), 1),
        thread(ThreadEdge::End, None, 3),
        point(At::Exit, 1),
    ];
    let seen = [
        vec!["calls"],
        vec!["worker-a"],
        vec!["worker-b"],
        vec!["worker-b"],
        vec!["calls"],
        vec!["worker-c"],
        vec!["worker-c"],
        vec![],
    ];
    let mut running = with(&["threads"], &points);
    for (expected, names_then) in seen.iter().enumerate() {
        let (stopped, index) = paused(running);
        assert_eq!(index, expected);
        // A thread that was joined may still be on its way out.
        let names = names(&stopped);
        assert!(
            names_then.iter().all(|name| names.iter().any(|one| one == name)),
            "{expected}: {names:?}"
        );
        running = stopped.resume();
    }
    let ended = ended(running);
    assert_eq!((ended.end, ended.hits), (End::Exited(0), vec![1, 1, 1, 1, 3, 1, 3, 1]));
}

#[test]
fn a_library_stops_when_its_code_is_mapped() {
    let dir = tempfile::tempdir().unwrap();
    let library = dir.path().join("libcalls-test.so.2");
    compile_file("zoo.c", &["-DLIBRARY", "-shared", "-fPIC"], &library);
    let points = [
        point(At::Library("libc".to_owned()), 1),
        point(At::Main, 1),
        point(At::Library("libcalls-test".to_owned()), 1),
        point(At::Exit, 1),
    ];
    let mut running = with(&["library", library.to_str().unwrap()], &points);
    for expected in 0..points.len() {
        let (stopped, index) = paused(running);
        assert_eq!(index, expected);
        let mapped = proc::executable_files(stopped.pid());
        let is_mapped = mapped.iter().any(|file| file.path.to_string().contains("libcalls-test"));
        assert_eq!(is_mapped, index >= 2);
        running = stopped.resume();
    }
    assert_eq!(ended(running).end, End::Exited(0));
}

#[test]
fn what_children_do_is_not_counted() {
    let points = [
        output("^ready", None, 1),
        point(At::Signal("SIGUSR2".to_owned()), 1),
        syscall("write", &[], 1),
    ];
    let ended = ended(with(&["children"], &points));
    assert_eq!((ended.end, ended.hits), (End::Exited(0), vec![0, 0, 0]));
}
