//! Launching a program, stopping it at points and classifying it there: the front half of the line, as the pipeline does it.

use std::path::Path;
use std::time::Duration;

use memcheck_harness::capture::{self, ObjectCache};
use memcheck_harness::classify;
use memcheck_harness::model::{At, Cancel, Capture, LaunchLimits, MemoryMap, Name, Stdin};
use memcheck_harness::trace::{self, Ended, Launch, Next, Point, Stopped};

/// A checkpoint marker of ours.
pub(crate) fn probe(name: &str) -> At {
    At::Probe {
        provider: "memcheck".to_owned(),
        name: name.to_owned(),
    }
}

/// Launches with the settings of a case and calls `look` at each point; all must be reached, in this order. After the last
/// the target is killed.
#[track_caller]
pub(crate) fn visit(
    program: &Path,
    args: &[&str],
    at: &[At],
    mut look: impl FnMut(usize, &Stopped, &Capture, &MemoryMap),
) -> Ended {
    let launch = Launch {
        watch_stacks: false,
        program: program.to_path_buf(),
        argv0: Name::from(program.file_name().unwrap().to_str().unwrap()),
        args: args.iter().map(Into::into).collect(),
        env: Some(vec![("LC_ALL".into(), "C".into()), ("PATH".into(), "/usr/bin:/bin".into())]),
        cwd: std::env::temp_dir(),
        stdin: Stdin::Null,
        tty: false,
        limits: LaunchLimits::default(),
        cpus: None,
        fixed: true,
        timeout: Duration::from_secs(60),
        dies_with_us: false,
        lets_children_go: false,
        output_tail_bytes: 1 << 20,
    };
    let points: Vec<Point> = at.iter().cloned().map(|at| Point::new(at, 1)).collect();
    let mut objects = ObjectCache::default();
    let mut running = trace::launch(&launch, &points, &Cancel::new()).unwrap();
    for expected in 0..points.len() {
        let stopped = match running.next().unwrap() {
            Next::Paused(stopped, index) => {
                assert_eq!(index, expected, "stopped at {} first", at[index]);
                stopped
            }
            Next::Ended(ended) => panic!("{} ended before {}: {ended:#?}", program.display(), at[expected]),
        };
        let capture = capture::read(&stopped, &mut objects).unwrap();
        let memory = capture::memory(&stopped).unwrap();
        let map = classify::classify(&capture, &memory, &is_own);
        look(expected, &stopped, &capture, &map);
        if expected + 1 == points.len() {
            return stopped.kill().unwrap();
        }
        running = stopped.resume();
    }
    unreachable!("no point was given");
}

fn is_own(path: &Name) -> bool {
    let path = path.as_bytes();
    !path.starts_with(b"/usr/") && !path.starts_with(b"/lib")
}

/// The pieces as a table, for messages.
pub(crate) fn show(map: &MemoryMap) -> String {
    let mut text = String::new();
    for note in &map.notes {
        text += &format!("note: {}\n", note.text);
    }
    for piece in &map.pieces {
        let kib = |bytes: Option<u64>| bytes.map_or("-".to_owned(), |bytes| (bytes >> 10).to_string());
        text += &format!(
            "{:x}-{:x} {} {:>8} KiB, resident {:>6}, anon {:>6} {:<20} {} ({})\n",
            piece.start,
            piece.end,
            piece.perms,
            piece.reserved_bytes() >> 10,
            kib(piece.resident_bytes),
            kib(piece.anon_bytes),
            piece.role,
            map.items[piece.item].subject,
            piece.evidence.text
        );
    }
    text
}
