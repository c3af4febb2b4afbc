//! Large programs of the distribution at `main` and at their exit: python3, sqlite3 and git.

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
