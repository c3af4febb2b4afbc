//! A tick that interrupts blocking waits of one thread, so that time limits and cancellation are noticed.
//!
//! The signal is a real-time one near the top (`SIGRTMAX-3` downwards: the first whose disposition is the default), with a
//! handler that does nothing and without `SA_RESTART`. One thread sends it to all that wait, and to nobody else: a timer of the
//! kernel for each would cost four calls at every stop of a target.

use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// How often the sending thread looks at a quiet list before it sleeps until there is somebody: targets follow each other.
const QUIET_LOOKS: u32 = 20;

/// Between two looks, unless somebody asks for more.
const LONGEST: Duration = Duration::from_millis(50);

static BEATS: Mutex<Beats> = Mutex::new(Beats {
    all: Vec::new(),
    serving: false,
    asleep: false,
});
static CHANGED: Condvar = Condvar::new();

/// Who is to be interrupted.
#[derive(Debug)]
struct Beats {
    all: Vec<Arc<Beat>>,
    /// There is a thread that sends.
    serving: bool,
    /// It waits for [`CHANGED`], however long.
    asleep: bool,
}

/// One thread.
#[derive(Debug)]
struct Beat {
    waker: Waker,
    /// 0: not now.
    milliseconds: AtomicU32,
}

/// A tick of the thread that made it, at first off.
#[derive(Debug)]
pub(crate) struct Ticker(Arc<Beat>);

extern "C" fn nothing(_signal: libc::c_int) {}

/// Installs the handler once per process; `None` when all candidates are in use by the program around us.
fn tick_signal() -> Option<i32> {
    static SIGNAL: OnceLock<Option<i32>> = OnceLock::new();
    *SIGNAL.get_or_init(|| {
        let last = libc::SIGRTMAX();
        (last - 10..=last - 3).rev().find(|&signal| {
            // SAFETY: sigaction with valid places; the handler does nothing and so is async-signal-safe. The disposition
            // is only replaced when it is the default one.
            unsafe {
                let mut old = MaybeUninit::<libc::sigaction>::zeroed();
                if libc::sigaction(signal, std::ptr::null(), old.as_mut_ptr()) != 0
                    || old.assume_init().sa_sigaction != libc::SIG_DFL
                {
                    return false;
                }
                let mut action: libc::sigaction = zeroed();
                action.sa_sigaction = nothing as *const () as usize;
                libc::sigaction(signal, &raw const action, std::ptr::null_mut()) == 0
            }
        })
    })
}

/// Interrupts a blocking wait of the thread that a ticker belongs to, as a tick does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waker {
    thread: i32,
    signal: i32,
}

impl Waker {
    /// Wakes it. When the thread is gone, at worst another one of ours is interrupted for nothing.
    pub(crate) fn wake(self) {
        let us = i32::try_from(std::process::id()).unwrap_or(0);
        let _ = super::process::kill_thread(us, self.thread, self.signal);
    }
}

impl Ticker {
    /// Makes the tick for the calling thread and unblocks its signal there.
    ///
    /// # Errors
    /// `EAGAIN` (no more threads allowed), `EBUSY` (no signal free).
    pub(crate) fn new() -> io::Result<Self> {
        let signal = tick_signal().ok_or_else(|| io::Error::from_raw_os_error(libc::EBUSY))?;
        // SAFETY: the set is a plain structure on our stack, valid when zeroed.
        let thread = unsafe {
            let mut set: libc::sigset_t = zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, signal);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
            libc::gettid()
        };
        let beat = Arc::new(Beat {
            waker: Waker { thread, signal },
            milliseconds: AtomicU32::new(0),
        });
        let mut beats = beats();
        if !beats.serving {
            std::thread::Builder::new().name("memcheck-clock".to_owned()).spawn(serve)?;
            beats.serving = true;
        }
        beats.all.push(Arc::clone(&beat));
        if beats.asleep {
            CHANGED.notify_all();
        }
        Ok(Self(beat))
    }

    /// How another thread interrupts a wait of this one.
    pub(crate) fn waker(&self) -> Waker {
        self.0.waker
    }

    /// Ticks at least every `milliseconds` from now on; 0 stops it. A tick that is on its way may still arrive.
    pub(crate) fn every(&self, milliseconds: u32) {
        self.0.milliseconds.store(milliseconds, Ordering::SeqCst);
        if (1..LONGEST.as_millis()).contains(&u128::from(milliseconds)) {
            // Under the lock: either the other thread sees the new time, or it waits already.
            let _beats = beats();
            CHANGED.notify_all();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        beats().all.retain(|beat| !Arc::ptr_eq(beat, &self.0));
    }
}

fn beats() -> MutexGuard<'static, Beats> {
    BEATS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends the ticks, as long as this process lives.
fn serve() {
    let mut quiet = 0;
    let mut beats = beats();
    loop {
        quiet = if beats.all.is_empty() { quiet + 1 } else { 0 };
        if quiet > QUIET_LOOKS {
            beats.asleep = true;
            beats = CHANGED.wait(beats).unwrap_or_else(PoisonError::into_inner);
            beats.asleep = false;
            quiet = 0;
        }
        let times = beats.all.iter().map(|beat| beat.milliseconds.load(Ordering::SeqCst));
        let shortest = times.filter(|time| *time > 0).min();
        let nap = shortest.map_or(LONGEST, |time| LONGEST.min(Duration::from_millis(time.into())));
        (beats, _) = CHANGED.wait_timeout(beats, nap).unwrap_or_else(PoisonError::into_inner);
        // Under the lock: a thread takes its beat away before it ends.
        for beat in beats.all.iter().filter(|beat| beat.milliseconds.load(Ordering::SeqCst) > 0) {
            beat.waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// How long a sleep of so many seconds lasts, and whether it was interrupted.
    fn sleep(seconds: i64) -> (Duration, bool) {
        let wait = libc::timespec {
            tv_sec: seconds,
            tv_nsec: 0,
        };
        let began = Instant::now();
        // SAFETY: a sleep with a valid time.
        let result = unsafe { libc::nanosleep(&raw const wait, std::ptr::null_mut()) };
        (began.elapsed(), result == -1)
    }

    #[test]
    fn ticks_interrupt_blocking_calls_of_their_thread_for_as_long_as_they_are_on() {
        let ticker = Ticker::new().unwrap();
        for milliseconds in [50, 10, 50] {
            ticker.every(milliseconds);
            for _ in 0..3 {
                let (lasted, interrupted) = sleep(5);
                assert!(interrupted && lasted < Duration::from_secs(4));
            }
        }
        ticker.every(0);
        // What was on its way has arrived.
        std::thread::sleep(LONGEST * 4);
        let other = std::thread::spawn(|| {
            let ticker = Ticker::new().unwrap();
            ticker.every(10);
            sleep(5).1
        });
        assert!(!sleep(1).1);
        assert!(other.join().unwrap());
    }

    #[test]
    fn ticks_come_again_after_a_long_rest() {
        drop(Ticker::new().unwrap());
        std::thread::sleep(LONGEST * (QUIET_LOOKS + 5));
        let ticker = Ticker::new().unwrap();
        ticker.every(20);
        assert!(sleep(5).1);
    }
}
