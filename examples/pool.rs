//! Story: a pool of worker threads in Rust, marked with `memcheck_probe::checkpoint!`.
//!
//! Three workers named `worker-0` … `worker-2` are started one after the other, receive a round of work, give its memory
//! back, and are joined.
//!
//! Ground truth:
//! - `idle`: 3 live workers beside the main thread, each with 2 MiB of stack and a guard page (Rust's own default, not the
//!   stack limit), an alternate signal stack, and an arena of its own from glibc's malloc: 64 MiB of address space of which
//!   132 KiB are writable.
//! - `loaded`: each worker holds 64 blocks of 1 KiB more in its arena; the main thread holds one block of 1 MiB, which
//!   malloc maps by itself.
//! - `drained`: every block is freed. The large one goes back to the system at once; the arenas keep their pages.
//! - `joined`: the workers are gone. Their stacks wait in the C library's cache, the signal stacks are unmapped, and the three
//!   arenas stay, for the next threads.
//!
//! What to look at: `thread-arena` (a count, much address space, little memory), and what of all this is left at `joined`.
//!
//! How it is made repeatable: glibc gives a new arena to a thread at its first allocation while the others are taken, so the
//! next worker is started only when the one before has allocated. Each worker works in its own arena, so that the order of
//! the workers does not matter. Rounds are handed over by a mutex and two condition variables, which allocate nothing. What
//! depends on the version of Rust's standard library (the main heap, the size of the program) is left out of the snapshot.

use std::hint::black_box;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

const WORKERS: usize = 3;
const BLOCKS: usize = 64;
const BLOCK_BYTES: usize = 1024;
const SHARED_BYTES: usize = 1024 * 1024;

/// What the workers are to do next. Each finishes a round before the following one begins.
#[derive(Clone, Copy, PartialEq)]
enum Round {
    Idle,
    Load,
    Drain,
    Stop,
}

struct State {
    round: Round,
    finished: usize,
}

struct Pool {
    state: Mutex<State>,
    began: Condvar,
    finished: Condvar,
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called by a worker: reports the round it has finished and waits for another one.
    fn next(&self, done: Round) -> Round {
        let mut state = self.lock();
        state.finished += 1;
        self.finished.notify_one();
        while state.round == done {
            state = self.began.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.round
    }

    /// Waits until that many workers have finished the present round.
    fn wait_for(&self, workers: usize) {
        let mut state = self.lock();
        while state.finished < workers {
            state = self.finished.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Begins a round for all workers.
    fn begin(&self, round: Round) {
        let mut state = self.lock();
        state.round = round;
        state.finished = 0;
        self.began.notify_all();
    }
}

fn block(bytes: usize) -> Vec<u8> {
    black_box(vec![1; bytes])
}

/// Writes a piece of stack deeper than any call the worker makes, so that it does not show which way a lock was taken.
#[inline(never)]
fn touch_stack() {
    black_box([1_u8; 16 * 1024]);
}

fn work(pool: &Pool) {
    touch_stack();
    // The first allocation, which gives the thread its arena; it is kept until the thread ends.
    let own = block(BLOCK_BYTES);
    let mut blocks = Vec::with_capacity(BLOCKS);
    let mut round = Round::Idle;
    loop {
        round = pool.next(round);
        match round {
            Round::Idle => {}
            Round::Load => blocks.extend((0..BLOCKS).map(|_| block(BLOCK_BYTES))),
            Round::Drain => blocks.clear(),
            Round::Stop => break,
        }
    }
    black_box(own);
}

/// A joined thread may still be on its way out in the kernel; waits until only the main thread is left.
fn wait_until_alone() -> io::Result<()> {
    while std::fs::read_dir("/proc/self/task")?.count() > 1 {
        thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let pool = Arc::new(Pool {
        state: Mutex::new(State {
            round: Round::Idle,
            finished: 0,
        }),
        began: Condvar::new(),
        finished: Condvar::new(),
    });
    let mut workers = Vec::with_capacity(WORKERS);
    for number in 0..WORKERS {
        let pool_of_worker = Arc::clone(&pool);
        let builder = thread::Builder::new().name(format!("worker-{number}"));
        workers.push(builder.spawn(move || work(&pool_of_worker))?);
        pool.wait_for(number + 1);
    }
    memcheck_probe::checkpoint!("idle");

    let shared = block(SHARED_BYTES);
    pool.begin(Round::Load);
    pool.wait_for(WORKERS);
    memcheck_probe::checkpoint!("loaded");

    drop(shared);
    pool.begin(Round::Drain);
    pool.wait_for(WORKERS);
    memcheck_probe::checkpoint!("drained");

    pool.begin(Round::Stop);
    for worker in workers {
        worker.join().map_err(|_| io::Error::other("a worker panicked"))?;
    }
    wait_until_alone()?;
    memcheck_probe::checkpoint!("joined");
    Ok(())
}
