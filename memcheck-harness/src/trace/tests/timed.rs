//! Points of time: they begin to count when the point before was left, and are reached in its order.

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
