//! Large programs of the distribution at `main` and at their exit: python3, sqlite3, git, gcc's cc1, redis-server, node and java.
//! The sum of the pieces is the whole as pmap and smaps_rollup have it.

use std::path::Path;

use memcheck_harness::model::{At, MemoryMap, Role};

use crate::pmap::all_is_equal;
use crate::stop::{show, visit};
use crate::tools::system_program;

fn at_main_and_exit(program: &Path, args: &[&str], mut look: impl FnMut(&MemoryMap)) {
    visit(program, args, &[At::Main, At::Exit], |_, _, capture, map| {
        all_is_equal(capture, map);
        look(map);
    });
}

/// C programs with glibc's malloc: nothing is left without a name, and nothing had to be guessed silently.
fn everything_has_a_role(map: &MemoryMap) {
    assert_eq!(map.sum(|role| role == Role::Unclassified).reserved, 0, "{}", show(map));
    assert!(map.thread_lists_known && map.arenas.is_some(), "{}", show(map));
    assert!(map.notes.is_empty(), "{}", show(map));
}

#[test]
fn sqlite3() {
    let statements = "create table t(x); with recursive n(i) as (select 1 union all select i+1 from n where i<20000) \
                      insert into t select randomblob(100) from n; select count(*) from t;";
    at_main_and_exit(&system_program("sqlite3"), &[":memory:", statements], everything_has_a_role);
}

#[test]
fn git() {
    at_main_and_exit(
        &system_program("git"),
        &["hash-object", "/usr/bin/git"],
        everything_has_a_role,
    );
}

#[test]
fn python3() {
    let program = "import threading; e = threading.Event(); x = [bytes(100) for i in range(100000)]\n\
                   for i in range(3): threading.Thread(target=e.wait, daemon=True).start()";
    at_main_and_exit(&system_program("python3"), &["-S", "-c", program], |map| {
        assert!(map.thread_lists_known && map.arenas.is_some(), "{}", show(map));
        assert_eq!(map.sum(|role| role == Role::Unclassified).reserved, 0, "{}", show(map));
    });
}

#[test]
fn cc1() {
    let cc1 = crate::tools::run("gcc", &["-print-prog-name=cc1"]);
    let source = crate::tools::root().join("examples/c/server.c");
    let include = crate::tools::root().join("memcheck-probe/include");
    let args = [
        "-quiet",
        "-O1",
        "-I",
        include.to_str().unwrap(),
        source.to_str().unwrap(),
        "-o",
        "/dev/null",
    ];
    at_main_and_exit(Path::new(cc1.trim()), &args, everything_has_a_role);
}

/// The C libraries of these are glibc, their memory is other allocators': nothing is unclassified either.
fn nothing_is_unclassified(map: &MemoryMap) {
    assert_eq!(map.sum(|role| role == Role::Unclassified).reserved, 0, "{}", show(map));
    assert!(map.thread_lists_known && map.arenas.is_some(), "{}", show(map));
}

/// Up to where it serves: with its background threads, and jemalloc.
#[test]
fn redis_server() {
    let ready = At::Output {
        pattern: "ready to accept connections".to_owned(),
        stream: None,
    };
    let dir = tempfile::TempDir::new().unwrap();
    let socket = dir.path().join("socket");
    let args = ["--port", "0", "--save", "", "--unixsocket", socket.to_str().unwrap()];
    visit(
        &system_program("redis-server"),
        &args,
        &[At::Main, ready],
        |_, _, capture, map| {
            all_is_equal(capture, map);
            nothing_is_unclassified(map);
        },
    );
}

#[test]
fn node() {
    let program = "const x = []; for (let i = 0; i < 1e5; i++) x.push({ i });";
    at_main_and_exit(&system_program("node"), &["-e", program], nothing_is_unclassified);
}

#[test]
fn java() {
    at_main_and_exit(&system_program("java"), &["-Xmx64m", "-version"], nothing_is_unclassified);
}
