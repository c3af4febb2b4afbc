//! Memory breakpoints: what is too large for a watchpoint, and the stack, on one C program (`pages.c`).

use std::fs;

use super::*;

fn built() -> PathBuf {
    static BUILT: OnceLock<TempDir> = OnceLock::new();
    let dir = BUILT.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        compile_file("pages.c", &["-O0", "-fno-stack-clash-protection"], &dir.path().join("pages"));
        compile_file("pages.c", &["-O0", "-static"], &dir.path().join("static"));
        dir
    });
    dir.path().join("pages")
}

fn table(hit: u64) -> Point {
    point(At::Touch(Touched::Symbol("table".to_owned())), hit)
}

fn stack(hit: u64) -> Point {
    point(At::Touch(Touched::Stack), hit)
}

/// The end, and how often each point was passed.
#[track_caller]
fn through(program: PathBuf, mode: &str, points: &[Point]) -> Ended {
    let mut running = start(program, &[mode], points);
    loop {
        match running.next().unwrap() {
            Next::Paused(stopped, _) => running = stopped.resume(),
            Next::Ended(ended) => return ended,
        }
    }
}

#[track_caller]
fn counts(mode: &str, points: &[Point], hits: &[u64]) -> Ended {
    let ended = through(built(), mode, points);
    assert_eq!(
        (&ended.end, &*ended.hits),
        (&End::Exited(0), hits),
        "{mode}: {:?}",
        ended.notes
    );
    ended
}

#[test]
fn each_write_to_a_large_object_counts_and_nothing_else() {
    let ended = counts("writes", &[table(100)], &[12]);
    assert!(ended.notes.is_empty(), "{:?}", ended.notes);
    let program = built().with_file_name("static");
    let ended = through(program, "writes", &[table(100)]);
    assert_eq!((ended.end, &*ended.hits), (End::Exited(0), &[12][..]), "without a loader");
}

#[test]
fn whichever_thread_writes() {
    counts("threads", &[table(1000)], &[200]);
}

#[test]
fn it_stops_before_the_write_is_done() {
    let (stopped, index) = paused(start(built(), &["writes"], &[table(1), table(2)]));
    assert_eq!(index, 0);
    let (stopped, index) = paused(stopped.resume());
    assert_eq!((index, stopped.patched().len()), (1, 0), "no code is patched");
    assert_eq!(ended(stopped.resume()).end, End::Exited(0));
}

/// Mappings with their sizes, anonymous memory and flags; how much of a file is resident is the machine's affair.
fn maps(pid: i32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut all: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.starts_with(|first: char| first.is_ascii_digit() || first.is_ascii_lowercase()) {
            all.push(line.to_owned());
        } else if ["Size", "Anonymous", "Swap", "VmFlags"]
            .iter()
            .any(|key| line.starts_with(key))
        {
            all.last_mut().unwrap().push_str(&line.replace("  ", ""));
        }
    }
    all.retain(|one| !one.contains("[vdso]"));
    all
}

#[track_caller]
fn same(stopped: &Stopped, without: &Stopped, when: &str) {
    let (with, without) = (maps(stopped.pid()), maps(without.pid()));
    if stopped.joined_mappings() > 0 {
        // The heap is joined with the object behind which it begins.
        let missing = without.len() - with.len();
        assert_eq!(u64::try_from(missing).unwrap(), stopped.joined_mappings(), "{when}");
        return;
    }
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|one| !those.contains(one)).cloned().collect()
    };
    let nothing: [Vec<String>; 2] = [Vec::new(), Vec::new()];
    assert_eq!([only(&with, &without), only(&without, &with)], nothing, "{when}");
}

#[test]
fn at_a_checkpoint_the_mappings_are_the_program_s_own() {
    let at_end = || point(At::Exit, 1);
    for (mode, guarded) in [("writes", table(100)), ("stack", stack(100)), ("threads", table(100_000))] {
        let (with, index) = paused(start(built(), &[mode], &[guarded, at_end(), function("main", 1)]));
        assert_eq!(index, 2, "{mode}");
        let at_entry = point(At::Touch(Touched::Symbol("sink".to_owned())), 1_000_000);
        let (without, _) = paused(start(built(), &[mode], &[at_entry, at_end(), function("main", 1)]));
        same(&with, &without, &format!("{mode} at main"));
        let (with, index) = paused(with.resume());
        let (without, _) = paused(without.resume());
        assert_eq!(index, 1, "{mode}: the exit is a stop before a call");
        same(&with, &without, &format!("{mode} at exit"));
        let ended = ended(with.resume());
        assert_eq!((ended.end, ended.notes), (End::Exited(0), Vec::new()), "{mode}");
    }
}

#[test]
fn a_call_that_writes_there_is_a_touch_and_is_made_again() {
    counts("read", &[table(100)], &[2]);
    let (stopped, _) = paused(start(built(), &["read"], &[table(1)]));
    assert_eq!(ended(stopped.resume()).end, End::Exited(0), "from a pause, too");
}

#[test]
fn a_call_that_cannot_be_helped_is_told() {
    let ended = through(built(), "readv", &[table(100)]);
    assert_eq!(ended.end, End::Exited(9));
    let told = ended
        .notes
        .iter()
        .any(|note| note.contains("a call of readv failed with EFAULT"));
    assert!(told, "{:?}", ended.notes);
}

#[test]
fn children_handlers_and_new_programs_notice_nothing() {
    counts("fork", &[table(100)], &[1]);
    counts("signals", &[table(100)], &[1]);
    counts("exec", &[table(100)], &[13]);
}

#[test]
fn a_fault_of_the_program_is_its_own() {
    let ended = through(built(), "own", &[table(100)]);
    assert_eq!((ended.end, &*ended.hits), (End::Signalled("SIGSEGV".to_owned()), &[1][..]));
    let ended = through(built(), "own", &[table(1)]);
    assert_eq!(
        ended.end,
        End::Signalled("SIGSEGV".to_owned()),
        "when nothing is protected any more, too"
    );
}

#[test]
fn the_stack_counts_when_it_is_deeper_than_ever() {
    let ended = through(built(), "stack", &[stack(100)]);
    assert_eq!(ended.end, End::Exited(0), "{:?}", ended.notes);
    assert_eq!(ended.hits, [2], "two calls went deeper; the frame is touched from below");
    let ended = through(built(), "stack-signals", &[stack(100)]);
    assert_eq!(ended.end, End::Exited(0), "{:?}", ended.notes);
}

#[test]
fn what_nobody_can_write_is_an_error() {
    let fixed = point(At::Touch(Touched::Symbol("fixed".to_owned())), 1);
    let error = start(built(), &["writes"], &[fixed]).next().unwrap_err().to_string();
    assert!(error.contains("the program cannot write there"), "{error}");
}

#[test]
fn a_place_in_the_code_can_be_watched_without_changing_it() {
    let soft = function("counted", 2);
    let hard = Point {
        hardware: true,
        ..soft.clone()
    };
    for (point, pages) in [(soft, 1), (hard.clone(), 0)] {
        let (stopped, _) = paused(start(built(), &["writes"], &[point]));
        assert_eq!(stopped.patched().len(), pages);
        assert_eq!(ended(stopped.resume()).end, End::Exited(0));
    }
    counts(
        "writes",
        &[
            Point {
                hit: 100,
                ..hard.clone()
            },
            table(100),
        ],
        &[2, 12],
    );
    let every = |hit| Point { hit, ..hard.clone() };
    counts("threads", &[every(1), every(2)], &[1, 1]);
}

#[test]
fn a_point_after_another_counts_from_there() {
    let mut inner = function("counted", 1);
    inner.after = Some(0);
    counts("writes", &[table(2), inner], &[2, 1]);
    let (stopped, index) = paused(start(
        built(),
        &["writes"],
        &[
            table(12),
            Point {
                after: Some(0),
                ..function("counted", 1)
            },
        ],
    ));
    assert_eq!(index, 0, "the first pass of the function came too early");
    let (stopped, index) = paused(stopped.resume());
    assert_eq!(index, 1);
    assert_eq!(ended(stopped.resume()).end, End::Exited(0));
}
