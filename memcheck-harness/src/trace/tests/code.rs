//! Returns of functions, lines of a source, writes to variables and to the guards of stacks.

use std::fs;

use super::*;

const SOURCE: &str = r#"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static jmp_buf back;
volatile long watched = 7;
volatile char watched_byte;
volatile long watched_by_loader[100];
static volatile int sink;

int factorial(int n) {
    if (n < 2)
        return 1;                       /* innermost */
    return n * factorial(n - 1);
}
void leaves(int jump) {
    if (jump)
        longjmp(back, 1);
}
void *calls(void *unused) {
    for (int i = 0; i < 100; i++)
        sink += factorial(1);           /* body */
    return unused;
}
void *writes(void *unused) {
    for (int i = 0; i < 2; i++)
        watched += 1;
    return unused;
}
int overflow(int n) {
    volatile char block[100];
    block[n % 100] = (char)n;
    return overflow(n + 1) + block[n % 100];
}
void *overflows(void *unused) {
    sink = overflow(0);
    return unused;
}
void caught(int signal) {
    (void)signal;
    _exit(33);
}
void threads(int count, void *(*body)(void *)) {
    pthread_t all[8];
    for (int i = 0; i < count; i++)
        pthread_create(&all[i], NULL, body, NULL);
    for (int i = 0; i < count; i++)
        pthread_join(all[i], NULL);
}
int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    if (!strcmp(mode, "recursion"))
        return factorial(5) == 120 ? 0 : 1;
    if (!strcmp(mode, "longjmp")) {
        for (volatile int i = 0; i < 3; i++)
            if (!setjmp(back)) {
                leaves(i < 2);
                sink++;
            }
        return 0;
    }
    if (!strcmp(mode, "threads"))
        threads(4, calls);
    if (!strcmp(mode, "writes")) {
        for (int i = 0; i < 3; i++) {
            watched = i;
            sink += (int)watched;
        }
        watched_byte = 1;
        threads(2, writes);
    }
    if (!strcmp(mode, "null"))
        *(volatile int *)8 = 1;
    if (!strcmp(mode, "overflow"))
        sink = overflow(0);
    if (!strcmp(mode, "thread-overflow"))
        threads(1, overflows);
    if (!strcmp(mode, "caught-overflow")) {
        static char other[65536];
        stack_t stack = {.ss_sp = other, .ss_size = sizeof other};
        struct sigaction action = {.sa_handler = caught, .sa_flags = SA_ONSTACK};
        sigaltstack(&stack, NULL);
        sigaction(SIGSEGV, &action, NULL);
        sink = overflow(0);
    }
    return 0;
}
"#;

fn tool(program: &str, args: &[&str], dir: &Path) {
    #[expect(clippy::disallowed_methods, reason = "tests build their own targets")]
    let run = Command::new(program).args(args).current_dir(dir).output().unwrap();
    assert!(run.status.success(), "{program}: {}", String::from_utf8_lossy(&run.stderr));
}

/// Builds the program in a directory of its own.
fn built(flags: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("src")).unwrap();
    fs::write(dir.path().join("src/code.c"), SOURCE).unwrap();
    tool(
        "gcc",
        &[&["-O0", "-pthread", "-o", "code", "src/code.c"], flags].concat(),
        dir.path(),
    );
    dir
}

/// Runs through all pauses to the end.
fn through(dir: &TempDir, mode: &str, points: &[Point]) -> Ended {
    let mut running = start(dir.path().join("code"), &[mode], points);
    loop {
        match running.next().unwrap() {
            Next::Paused(stopped, _) => running = stopped.resume(),
            Next::Ended(ended) => return ended,
        }
    }
}

fn returns(name: &str, hit: u64) -> Point {
    point(At::Returns(name.to_owned()), hit)
}

/// The line of the source that has this comment.
fn line(file: &str, mark: &str, hit: u64) -> Point {
    let at = SOURCE
        .lines()
        .position(|line| line.contains(&format!("/* {mark} */")))
        .unwrap();
    let line = u32::try_from(at + 1).unwrap();
    point(
        At::Line {
            file: file.to_owned(),
            line,
        },
        hit,
    )
}

fn touch(what: Touched, hit: u64) -> Point {
    point(At::Touch(what), hit)
}

fn touch_of(name: &str, hit: u64) -> Point {
    touch(Touched::Symbol(name.to_owned()), hit)
}

#[test]
fn every_return_is_counted_and_none_that_did_not_happen() {
    let dir = built(&[]);
    let points = [function("factorial", 100), returns("factorial", 1000)];
    let ended = through(&dir, "recursion", &points);
    assert_eq!((ended.end, &*ended.hits), (End::Exited(0), &[5, 5][..]));
    let ended = through(&dir, "longjmp", &[function("leaves", 100), returns("leaves", 100)]);
    assert_eq!(
        (ended.end, &*ended.hits),
        (End::Exited(0), &[3, 1][..]),
        "two calls ended in a longjmp"
    );
    let ended = through(&dir, "threads", &[returns("factorial", 1000), function("factorial", 1000)]);
    assert_eq!((ended.end, &*ended.hits), (End::Exited(0), &[400, 400][..]));
}

#[test]
fn a_return_stops_in_the_caller() {
    let dir = built(&[]);
    let points = [returns("factorial", 1), returns("factorial", 5), point(At::Exit, 1)];
    let (stopped, index) = paused(start(dir.path().join("code"), &["recursion"], &points));
    assert_eq!(index, 0);
    let inner = stopped.threads()[0].stack_pointer.unwrap();
    let (stopped, index) = paused(stopped.resume());
    assert_eq!(index, 1);
    assert!(stopped.threads()[0].stack_pointer.unwrap() > inner, "four calls further out");
    let (stopped, index) = paused(stopped.resume());
    assert_eq!(index, 2);
    assert_eq!(ended(stopped.resume()).end, End::Exited(0));
}

#[test]
fn a_line_is_found_by_the_end_of_its_path() {
    let dir = built(&["-g"]);
    for file in ["code.c", "src/code.c", dir.path().join("src/code.c").to_str().unwrap()] {
        let ended = through(&dir, "recursion", &[line(file, "innermost", 100), line(file, "body", 100)]);
        assert_eq!((ended.end, &*ended.hits), (End::Exited(0), &[1, 0][..]), "{file}");
    }
    let ended = through(&dir, "threads", &[line("code.c", "body", 1000)]);
    assert_eq!((ended.end, &*ended.hits), (End::Exited(0), &[400][..]));
    assert_eq!(through(&dir, "threads", &[line("other/code.c", "body", 1)]).hits, [0]);
    let other = At::Line {
        file: "code.c".to_owned(),
        line: 1,
    };
    let near = suggestions(&dir.path().join("code"), &[], &other).near;
    assert!(near.len() == 5 && near[0].starts_with("code.c:"), "{near:?}");
}

/// As distributions split it off: compressed. A size that is stated wrongly is an error, and no memory that was asked for.
#[test]
fn a_line_is_found_in_debug_information_that_is_compressed() {
    let dir = built(&["-g3", "-gz=zlib"]);
    let program = dir.path().join("code");
    let bytes = fs::read(&program).unwrap();
    // `Elf64_Chdr` of a section: zlib, and the size; behind it the first bytes of a zlib stream.
    let is_header =
        |bytes: &[u8]| bytes[..8] == [1, 0, 0, 0, 0, 0, 0, 0] && bytes[16..24] == 1_u64.to_ne_bytes() && bytes[24] == 0x78;
    let headers: Vec<usize> = (0..bytes.len() - 26).filter(|at| is_header(&bytes[*at..*at + 26])).collect();
    assert!(!headers.is_empty(), "the compiler has compressed nothing");
    assert_eq!(through(&dir, "recursion", &[line("code.c", "innermost", 100)]).hits, [1]);
    // (where in a header, what stands there then, what is said)
    for (offset, value, word) in [
        (8, 7, "does not unpack to the size that it states"),
        (8, 1 << 40, "more than are read"),
        (0, 2, "another algorithm than zlib"),
        (24, 0, "does not unpack"),
    ] {
        let mut damaged = bytes.clone();
        for at in &headers {
            damaged[at + offset..at + offset + 8].copy_from_slice(&u64::to_ne_bytes(value));
        }
        fs::write(&program, damaged).unwrap();
        let error = crate::elf::lines(&fs::File::open(&program).unwrap(), "code.c").unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn a_line_is_found_in_debug_information_that_was_split_off() {
    let dir = built(&["-g", "-Wl,--build-id"]);
    tool("objcopy", &["--only-keep-debug", "code", "code.debug"], dir.path());
    tool(
        "objcopy",
        &["--strip-all", "--add-gnu-debuglink=code.debug", "code"],
        dir.path(),
    );
    assert_eq!(through(&dir, "recursion", &[line("code.c", "innermost", 100)]).hits, [1]);
    // That of another build is none of this program's.
    let other = built(&["-g", "-Wl,--build-id", "-DOTHER", "-O1"]);
    fs::copy(other.path().join("code"), dir.path().join("code.debug")).unwrap();
    assert_eq!(through(&dir, "recursion", &[line("code.c", "innermost", 100)]).hits, [0]);
    let near = suggestions(&dir.path().join("code"), &[], &line("code.c", "innermost", 1).at);
    assert_eq!(near, Suggestions::default());
}

#[cfg(target_arch = "x86_64")]
#[test]
fn every_write_to_a_variable_is_counted_whichever_thread_writes() {
    let dir = built(&[]);
    let points = [touch_of("watched", 100), touch_of("watched_byte", 100), touch_of("sink", 100)];
    let ended = through(&dir, "writes", &points);
    assert_eq!(
        (ended.end, &*ended.hits),
        (End::Exited(0), &[7, 1, 3][..]),
        "reads do not count"
    );
    let (stopped, index) = paused(start(dir.path().join("code"), &["writes"], &[touch_of("watched", 5)]));
    assert_eq!(
        (index, stopped.threads().len() > 1),
        (0, true),
        "in a thread that was born later"
    );
    assert_eq!(stopped.patched().len(), 0, "no code is patched");
    assert_eq!(super::ended(stopped.resume()).end, End::Exited(0));
}

#[test]
fn a_variable_that_cannot_be_watched_is_told() {
    let dir = built(&[]);
    let error = |name: &str| {
        let launched = launch(
            &settings_of(dir.path().join("code"), &["writes"]),
            &[touch_of(name, 1)],
            &Cancel::new(),
        );
        launched.unwrap().next().unwrap_err().to_string()
    };
    assert!(error("nowhere").contains("the program has no variable `nowhere`"));
}

#[test]
fn hazard_48_a_stack_that_runs_over_is_seen_and_the_end_is_the_target_s() {
    let dir = built(&[]);
    let segv = || End::Signalled("SIGSEGV".to_owned());
    for (mode, end, hits) in [
        ("overflow", segv(), 1),
        ("thread-overflow", segv(), 1),
        ("caught-overflow", End::Exited(33), 1),
        ("null", segv(), 0),
    ] {
        let ended = through(&dir, mode, &[touch(Touched::Guard, 5)]);
        assert_eq!((ended.end, &*ended.hits), (end, &[hits][..]), "{mode}");
    }
}
