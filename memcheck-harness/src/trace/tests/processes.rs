//! Children, threads, signals.

use super::*;

#[test]
fn a_forked_child_passes_our_breakpoints_unharmed_and_uncounted() {
    let points = [function("work", 100), probe("work", 100), function("stepped", 100)];
    let ended = ended(zoo_with(&["fork"], &points));
    assert_eq!((ended.end, ended.hits), (End::Exited(7), vec![1, 1, 1]));
}

#[test]
fn a_child_that_shares_memory_passes_them_uncounted() {
    let points = [function("work", 100), probe("work", 100), function("stepped", 100)];
    let ended = ended(zoo_with(&["vfork"], &points));
    assert_eq!((ended.end, ended.hits), (End::Exited(0), vec![1, 1, 0]));
}

#[test]
fn a_pause_during_vfork_waits_for_the_child_only_a_while() {
    let (stopped, _) = paused(zoo_with(&["vfork-long", "60"], &[probe("alone", 1)]));
    assert!(
        stopped.threads().iter().all(|thread| thread.tls_base.is_some()),
        "the child let its parent go"
    );
    let (stopped, _) = paused(zoo_with(&["vfork-long", "100000"], &[probe("alone", 1)]));
    let main = &stopped.threads()[0];
    assert!(
        main.stack_pointer.is_some() && main.tls_base.is_none(),
        "read from /proc instead"
    );
    assert_eq!(stopped.kill().unwrap().notes.len(), 1);
}

#[test]
fn threads_that_ended_before_their_birth_was_told_are_forgotten() {
    let (stopped, _) = paused(zoo_with(&["brief", "3000"], &[point(At::Exit, 1)]));
    assert_eq!(stopped.threads().len(), 1);
    let ended = ended(stopped.resume());
    assert_eq!((ended.end, ended.hits), (End::Exited(0), vec![1]));
    assert_eq!(ended.notes, Vec::<String>::new());
}

/// The kernel holds an exec back until the ends of all other threads are collected: who waits for the one that loads a program alone
/// waits for ever. What was to be stopped is gone then, and is not taken for the new program.
#[test]
fn a_program_that_is_loaded_during_a_stop_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("execs");
    compile_file("execs.c", &[], &program);
    let points: Vec<Point> = (1..=200).map(|pass| function("work", pass * 3)).collect();
    let began = Instant::now();
    let mut running = start(program, &["60"], &points);
    let mut paused = 0;
    let ended = loop {
        match running.next().unwrap() {
            Next::Paused(stopped, _) => {
                paused += 1;
                let main = stopped.pid();
                let args = std::fs::read(format!("/proc/{main}/cmdline")).unwrap();
                let left = args.split(|byte| *byte == 0).nth(1).unwrap();
                assert_ne!(left, b"0", "a program that passes nothing");
                assert!(stopped.threads().len() > 1, "{:?}", stopped.threads());
                running = stopped.resume();
            }
            Next::Ended(ended) => break ended,
        }
    };
    assert_eq!(ended.end, End::Exited(3), "{ended:?}");
    assert!(
        paused > 0 && began.elapsed() < Duration::from_secs(60),
        "{paused}: {:?}",
        began.elapsed()
    );
    let lost = "another program was loaded";
    assert!(ended.notes.iter().all(|note| note.contains(lost)), "{:?}", ended.notes);
}

#[test]
fn a_program_that_is_loaded_while_somebody_attaches_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("execs");
    compile_file("execs.c", &[], &program);
    #[expect(clippy::disallowed_methods, reason = "a process of somebody else")]
    let mut child = Command::new(&program).arg("1000000").spawn().unwrap();
    let pid = child.id().cast_signed();
    let began = Instant::now();
    let failed: Vec<String> = (0..20)
        .filter_map(|_| attach(pid, Duration::from_secs(20), &Cancel::new()).err())
        .map(|error| error.to_string())
        .collect();
    let took = began.elapsed();
    assert_eq!(child.try_wait().unwrap(), None, "it goes on");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(failed.is_empty() && took < Duration::from_secs(60), "{took:?}: {failed:?}");
}

#[test]
fn twenty_threads_are_all_stopped() {
    let (stopped, _) = paused(zoo_with(&["sleepers"], &[probe("ready", 1)]));
    assert_eq!(stopped.threads().len(), 21);
    for thread in stopped.threads() {
        assert!(thread.stack_pointer.is_some() && thread.tls_base.is_some());
        let state = super::super::proc::kin(thread.tid).unwrap().state;
        assert_eq!(state, b't', "thread {} is in state {}", thread.tid, char::from(state));
    }
    assert_eq!(ended(stopped.resume()).end, End::Exited(0));
}

#[test]
fn threads_that_come_and_go_during_the_stop_are_stopped() {
    let mut running = zoo_with(&["churn"], &(1..=5).map(|hit| probe("ready", hit)).collect::<Vec<_>>());
    for _ in 0..5 {
        let (stopped, _) = paused(running);
        let listed = super::super::proc::threads(stopped.pid());
        for tid in &listed {
            assert_eq!(super::super::proc::kin(*tid).map(|kin| kin.state), Some(b't'));
        }
        assert_eq!(
            stopped.threads().iter().map(|thread| thread.tid).collect::<Vec<_>>(),
            listed.into_iter().collect::<Vec<_>>()
        );
        running = stopped.resume();
    }
    assert_eq!(ended(running).end, End::Exited(0));
}

#[test]
fn real_time_signals_keep_their_order_and_their_data() {
    let (stopped, _) = paused(zoo_with(&["rt"], &[probe("ready", 1)]));
    let ended = ended(stopped.resume());
    assert_eq!(ended.end, End::Exited(0));
    assert_eq!(stdout(&ended), "201 202 203 101 102 103 ", "as without a tracer");
}

#[test]
fn a_target_that_stops_itself_goes_on_when_it_is_continued() {
    let (stopped, _) = paused(zoo_with(&["stop"], &[probe("ready", 1)]));
    assert_eq!(ended(stopped.resume()).end, End::Exited(0));
}

#[test]
fn a_target_that_stays_stopped_is_over_at_the_time_limit() {
    let mut settings = settings_of("/bin/sh".into(), &["-c", "kill -STOP $$"]);
    settings.timeout = Duration::from_millis(150);
    assert_eq!(ended(launch(&settings, &[], &Cancel::new()).unwrap()).end, End::TimedOut);
}

#[test]
fn the_target_s_own_traps_are_delivered() {
    let ended = ended(zoo_with(&["trap"], &[function("work", 5), probe("work", 5)]));
    assert_eq!((ended.end, ended.hits), (End::Exited(0), vec![1, 1]));
}

#[test]
fn other_children_of_our_thread_keep_their_statuses() {
    #[expect(clippy::disallowed_methods, reason = "a child that is not the tracer's")]
    let mut foreign = Command::new("sh").args(["-c", "exit 5"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(20));
    let ended = ended(zoo_with(&["many", "20"], &[probe("many", 1000)]));
    assert_eq!((ended.end, ended.hits), (End::Exited(0), vec![160]));
    assert_eq!(foreign.wait().unwrap().code(), Some(5));
}

#[test]
fn two_targets_of_one_thread_do_not_disturb_each_other() {
    let points = [probe("many", 1), probe("many", 1000)];
    let (one, _) = paused(zoo_with(&["many", "10"], &points));
    let (two, _) = paused(zoo_with(&["many", "20"], &points));
    assert_eq!(ended(one.resume()).hits, [1, 80]);
    assert_eq!(ended(two.resume()).hits, [1, 160]);
}

#[test]
fn parallel_sessions_do_not_disturb_each_other() {
    let program = zoo(&[]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let program = program.clone();
            scope.spawn(move || {
                for _ in 0..3 {
                    let ended = ended(start(program.clone(), &["many", "10"], &[probe("many", 1000)]));
                    assert_eq!((ended.end, ended.hits), (End::Exited(0), vec![80]));
                }
            });
        }
    });
}
