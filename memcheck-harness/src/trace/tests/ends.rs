//! However a case ends, nothing is left.

use super::*;

#[test]
fn a_target_that_hangs_is_killed_at_the_time_limit() {
    let mut settings = settings_of(zoo(&[]), &["hang"]);
    settings.timeout = Duration::from_millis(150);
    let running = launch(&settings, &[probe("ready", 1)], &Cancel::new()).unwrap();
    let pid = running.pid();
    let began = Instant::now();
    let ended = ended(running);
    assert_eq!((ended.end, ended.hits), (End::TimedOut, vec![0]));
    assert!(began.elapsed() < Duration::from_secs(20));
    assert!(!exists(pid));
}

#[test]
fn a_pause_does_not_count_against_the_time_limit() {
    let mut settings = settings_of(zoo(&[]), &["plain"]);
    // Long for what the program does, also on a busy machine.
    settings.timeout = Duration::from_secs(4);
    let (stopped, _) = paused(launch(&settings, &[point(At::Main, 1)], &Cancel::new()).unwrap());
    std::thread::sleep(Duration::from_millis(4500));
    assert_eq!(ended(stopped.resume()).end, End::Exited(3));
}

#[test]
fn cancelling_from_another_thread_ends_the_wait() {
    let cancel = Cancel::new();
    let running = launch(&settings_of(zoo(&[]), &["hang"]), &[], &cancel).unwrap();
    let pid = running.pid();
    let canceller = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        cancel.cancel(2);
    });
    let error = running.next().unwrap_err();
    assert_eq!(error, Error::interrupted(2));
    canceller.join().unwrap();
    assert!(!exists(pid));
}

#[test]
fn dropping_leaves_no_process() {
    let running = zoo_with(&["hang"], &[]);
    let pid = running.pid();
    drop(running);
    assert!(!exists(pid));
    let (stopped, _) = paused(zoo_with(&["sleepers"], &[probe("ready", 1)]));
    let pid = stopped.pid();
    drop(stopped);
    assert!(!exists(pid));
}

#[test]
fn a_daemon_is_killed_and_named() {
    let ended = ended(zoo_with(&["daemon"], &[]));
    assert_eq!(ended.end, End::Exited(0));
    let daemon: i32 = stdout(&ended).trim().parse().unwrap();
    assert!(is_dead(daemon));
    assert_eq!(ended.notes.len(), 1);
    assert!(
        ended.notes[0].starts_with(&format!("a child process ({daemon}, zoo")),
        "{:?}",
        ended.notes
    );
}

#[test]
fn killing_at_a_pause_kills_the_tree() {
    let (stopped, _) = paused(zoo_with(&["daemon"], &[probe("ready", 1)]));
    let pid = stopped.pid();
    let ended = stopped.kill().unwrap();
    assert_eq!(ended.end, End::Killed);
    assert!(!exists(pid) && is_dead(stdout(&ended).trim().parse().unwrap()));
}

#[test]
fn a_flood_of_output_neither_blocks_nor_fills_memory() {
    let ended = ended(zoo_with(&["flood", "200"], &[]));
    assert_eq!(ended.end, End::Exited(0));
    assert!(stdout(&ended).ends_with("xxxEND") && stdout(&ended).len() == 1000);
    assert_eq!(ended.output.stdout_dropped_bytes, (200 << 20) + 3 - 1000);
}

#[test]
fn a_sigkill_from_outside_is_reported_as_such() {
    let (stopped, _) = paused(zoo_with(&["sleepers"], &[probe("ready", 1), point(At::Exit, 1)]));
    crate::sys::process::kill(stopped.pid(), 9).unwrap();
    let ended = ended(stopped.resume());
    assert_eq!((ended.end, ended.hits), (End::Signalled("SIGKILL".to_owned()), vec![1, 0]));
}
