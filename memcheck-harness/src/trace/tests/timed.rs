//! Points of time, and points that wait until memory rests. Points of time begin to count when the point before was left, and are reached in its order.

use super::*;

#[test]
fn a_time_counts_from_the_point_before() {
    let time = Duration::from_millis(60);
    let points = [point(At::Main, 1), point(At::After(time), 1), point(At::After(time), 1)];
    let (stopped, index) = paused(zoo_with(&["hang"], &points));
    assert_eq!(index, 0);
    // A pause is not the target's time.
    std::thread::sleep(Duration::from_millis(100));
    let began = Instant::now();
    let (stopped, index) = paused(stopped.resume());
    assert_eq!(index, 1);
    assert!(began.elapsed() >= time);
    let (stopped, index) = paused(stopped.resume());
    assert_eq!(index, 2);
    assert!(began.elapsed() >= 2 * time);
    drop(stopped);
}

#[test]
fn a_target_is_idle_when_every_thread_waits() {
    // `flood` never rests before it ends, the fixture of calls waits in `pause`.
    let ended = ended(zoo_with(&["flood", "64"], &[point(At::Idle, 1)]));
    assert_eq!((ended.end, ended.hits), (End::Exited(0), vec![0]));
    let (stopped, index) = paused(zoo_with(&["hang"], &[point(At::Main, 1), point(At::Idle, 1)]));
    assert_eq!(index, 0);
    let (stopped, index) = paused(stopped.resume());
    assert_eq!(index, 1);
    drop(stopped);
}

#[test]
fn the_end_of_a_step_wakes_the_tracer() {
    let (stopped, _) = paused(zoo_with(&["hang"], &[point(At::Main, 1), point(At::StepDone, 1)]));
    let running = stopped.resume();
    let bell = running.bell();
    bell.begin();
    let step = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        bell.end(true);
    });
    let (stopped, index) = paused(running);
    assert_eq!(index, 1);
    step.join().unwrap();
    let running = stopped.resume();
    let bell = running.bell();
    bell.begin();
    bell.end(false);
    assert!(running.next().unwrap_err().to_string().contains("a step failed"));
}

fn settled(name: &str, window: u64) -> Point {
    Point {
        settle: Some(Duration::from_millis(window)),
        ..probe(name, 1)
    }
}

/// The thread at the point stands, the other one grows on: the program says itself how far it had come.
#[test]
fn a_point_with_settle_waits_for_memory_to_rest() {
    let grown = |point: Point| {
        let (stopped, index) = paused(zoo_with(&["grow", "20"], &[point]));
        assert_eq!(index, 0);
        let memory = figures::read(stopped.pid(), stopped.pid()).unwrap();
        (memory, ended(stopped.resume()).end)
    };
    let (rested, end) = grown(settled("ready", 400));
    assert_eq!(end, End::Exited(40));
    let (at_once, end) = grown(probe("ready", 1));
    assert_ne!(end, End::Exited(40));
    assert!(rested.totals().anon > at_once.totals().anon, "{rested:?} {at_once:?}");
}

/// A thread that comes to a later point stands there too; when all stand, nothing is waited for.
#[test]
fn later_points_are_not_run_past_while_one_settles() {
    let hour = 3_600_000;
    let (stopped, index) = paused(zoo_with(&["grow", "20"], &[settled("ready", hour), probe("grown", 1)]));
    assert_eq!(index, 0);
    let figures = |stopped: &Stopped| figures::read(stopped.pid(), stopped.pid()).unwrap();
    let before = figures(&stopped);
    let (stopped, index) = paused(stopped.resume());
    assert_eq!(index, 1);
    assert_eq!(figures(&stopped), before, "nothing ran in between");
    assert!(matches!(ended(stopped.resume()).end, End::Exited(20..)));
}

#[test]
fn memory_that_does_not_rest_is_told_at_the_end() {
    let mut settings = settings_of(zoo(&[]), &["breathe"]);
    settings.timeout = Duration::from_millis(1500);
    let unsettled = |settings: &Launch, point: Point| {
        let ended = ended(launch(settings, &[point], &Cancel::new()).unwrap());
        let unsettled = ended.unsettled.unwrap();
        assert_eq!((unsettled.point, ended.hits), (0, vec![1]));
        (ended.end, unsettled.change)
    };
    let (end, change) = unsettled(&settings, settled("ready", 400));
    assert_eq!(end, End::TimedOut);
    let (before, after) = change.unwrap();
    assert_eq!((before.mappings, before.threads), (after.mappings, after.threads));
    let pages = before.anon.abs_diff(after.anon) >> 12;
    assert!((1..=8).contains(&pages), "{pages}");
    // A point of time holds nobody: the program comes to its end.
    settings.timeout = Duration::from_secs(90);
    let at = At::After(Duration::from_millis(10));
    let settle = settled("ready", 60_000).settle;
    let (end, _) = unsettled(
        &settings,
        Point {
            settle,
            ..Point::new(at, 1)
        },
    );
    assert_eq!(end, End::Exited(0));
}
