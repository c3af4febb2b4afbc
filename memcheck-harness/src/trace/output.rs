//! Standard output and error of targets: drained by one thread, the same for all of them, so that no target ever waits for us;
//! the last bytes kept, the rest counted.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::model::{Name, OutputTail};
use crate::sys::process;

/// Bytes read at once: the default capacity of a pipe (pipe(7)).
const CHUNK_BYTES: usize = 64 << 10;

/// Events taken at once.
const EVENTS: usize = 16;

/// Before a wait that failed for no reason of ours is tried again.
const NAP: Duration = Duration::from_millis(1);

/// The one that reads while targets run. It lives as long as the process: a thread for each target costs more than many a
/// target takes.
static READER: Mutex<Option<&'static Reader>> = Mutex::new(None);

/// The output of one target.
#[derive(Debug)]
pub(super) struct Output {
    reader: &'static Reader,
    number: u64,
    pipes: Arc<Mutex<Pipes>>,
    /// Nobody else reads them any more.
    taken: Option<Pipes>,
    limit: usize,
    grace: Duration,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Drained {
    /// The tails.
    pub(super) tail: OutputTail,
    /// Somebody still held the pipes open when we stopped reading.
    pub(super) held_open: bool,
    /// Reading panicked: what was read is not all.
    pub(super) lost: bool,
}

impl Drained {
    /// What is to be said of it.
    pub(super) fn remark(&self) -> Option<String> {
        let text = if self.lost {
            "the output was lost: reading it panicked, a bug of cargo memcheck; the target may have ended for that"
        } else if self.held_open {
            "the output was still held open by a process outside of the case: the rest of it was not read"
        } else {
            return None;
        };
        Some(text.to_owned())
    }
}

/// Standard output and standard error of one target, as long as they are open, and what was kept of each.
#[derive(Debug, Default)]
struct Pipes {
    files: [Option<File>; 2],
    tails: [Tail; 2],
    /// Reading panicked.
    lost: bool,
}

/// See [`READER`].
#[derive(Debug)]
struct Reader {
    epoll: Epoll,
    targets: Mutex<Targets>,
}

/// The targets that run, by number.
#[derive(Debug, Default)]
struct Targets {
    last: u64,
    running: BTreeMap<u64, (Arc<Mutex<Pipes>>, usize)>,
}

#[derive(Debug, Default)]
struct Tail {
    kept: Vec<u8>,
    dropped: u64,
}

impl Tail {
    /// Keeps at most `limit` bytes; moves bytes only once per `limit` bytes added.
    fn add(&mut self, bytes: &[u8], limit: usize) {
        self.kept.extend_from_slice(bytes);
        if self.kept.len() > limit.saturating_mul(2).saturating_add(CHUNK_BYTES) {
            self.cut(limit);
        }
    }

    fn cut(&mut self, limit: usize) {
        let surplus = self.kept.len().saturating_sub(limit);
        self.kept.drain(..surplus);
        self.dropped += surplus as u64;
    }
}

impl Pipes {
    /// Reads once. Gives the file back when it is at its end.
    fn read(&mut self, index: usize, limit: usize, buffer: &mut [u8]) -> Option<File> {
        let file = self.files.get_mut(index)?;
        match file.as_mut().map(|file| file.read(buffer)) {
            Some(Ok(count @ 1..)) => {
                if let (Some(tail), Some(bytes)) = (self.tails.get_mut(index), buffer.get(..count)) {
                    tail.add(bytes, limit);
                }
                None
            }
            // Who reads a target's output besides us may have taken what was there.
            Some(Err(error)) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => None,
            // EIO: the last program has closed its end of the terminal.
            Some(Ok(0) | Err(_)) => file.take(),
            None => None,
        }
    }
}

impl Reader {
    /// The one of this process, started when it is first needed.
    fn get() -> io::Result<&'static Self> {
        let mut reader = lock(&READER);
        if let Some(reader) = *reader {
            return Ok(reader);
        }
        let made: &'static Self = Box::leak(Box::new(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            targets: Mutex::default(),
        }));
        std::thread::Builder::new()
            .name("memcheck-output".to_owned())
            .spawn(|| made.serve())?;
        Ok(*reader.insert(made))
    }

    fn serve(&self) {
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut events = [EpollEvent::empty(); EVENTS];
        loop {
            match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => events
                    .iter()
                    .take(count)
                    .for_each(|event| self.read_safely(event.data(), &mut buffer)),
                Err(Errno::EINTR) => {}
                Err(_) => std::thread::sleep(NAP),
            }
        }
    }

    /// A panic costs one target its output: no other may wait for us for ever.
    fn read_safely(&self, token: u64, buffer: &mut [u8]) {
        if catch_unwind(AssertUnwindSafe(|| self.read(token, buffer))).is_ok() {
            return;
        }
        let target = lock(&self.targets).running.get(&(token / 2)).cloned();
        if let Some((pipes, _)) = target {
            self.release(token / 2, &pipes);
            lock(&pipes).lost = true;
        }
    }

    fn read(&self, token: u64, buffer: &mut [u8]) {
        let target = lock(&self.targets).running.get(&(token / 2)).cloned();
        // One that was asked for its end meanwhile reads by itself.
        let Some((pipes, limit)) = target else { return };
        let ended = lock(&pipes).read(usize::from(token % 2 == 1), limit, buffer);
        if let Some(file) = ended {
            let _ = self.epoll.delete(&file);
        }
    }

    /// Takes a target's pipes away.
    fn release(&self, number: u64, pipes: &Mutex<Pipes>) -> Pipes {
        let pipes = std::mem::take(&mut *lock(pipes));
        for file in pipes.files.iter().flatten() {
            let _ = self.epoll.delete(file);
        }
        lock(&self.targets).running.remove(&number);
        pipes
    }
}

impl Output {
    /// Starts to read the standard output and, unless it is the same terminal, the standard error. `grace` is how long it goes on reading pipes that stay open after the target's end.
    ///
    /// # Errors
    /// No room for a thread or a descriptor.
    pub(super) fn drain(stdout: OwnedFd, stderr: Option<OwnedFd>, limit: usize, grace: Duration) -> io::Result<Self> {
        let reader = Reader::get()?;
        for file in std::iter::once(&stdout).chain(&stderr) {
            // No other target may wait because a read does. These are our ends alone: the target's stay as they are.
            fcntl(file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let pipes = Arc::new(Mutex::new(Pipes {
            files: [Some(stdout), stderr].map(|file| file.map(File::from)),
            ..Pipes::default()
        }));
        let number = {
            let mut targets = lock(&reader.targets);
            targets.last += 1;
            let number = targets.last;
            targets.running.insert(number, (Arc::clone(&pipes), limit));
            number
        };
        // From here on, dropping takes back what was begun.
        let output = Self {
            reader,
            number,
            pipes,
            taken: None,
            limit,
            grace,
        };
        for (token, file) in (number * 2..).zip(&lock(&output.pipes).files) {
            if let Some(file) = file {
                reader.epoll.add(file, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
            }
        }
        Ok(output)
    }

    /// The target is about to be killed: what it has written waits in the pipes for [`Output::finish`], and nobody has to be woken
    /// for their ends.
    pub(super) fn hold(&mut self) {
        if self.taken.is_none() {
            self.taken = Some(self.reader.release(self.number, &self.pipes));
        }
    }

    /// The target is gone: reads what is left and gives it back.
    pub(super) fn finish(&mut self) -> Drained {
        self.hold();
        let mut pipes = self.taken.take().unwrap_or_default();
        let held_open = read_rest(&mut pipes, self.limit, self.grace);
        let limit = self.limit;
        let [stdout, stderr] = pipes.tails.map(|mut tail| {
            tail.cut(limit);
            tail
        });
        Drained {
            tail: OutputTail {
                stdout: Name::new(stdout.kept),
                stderr: Name::new(stderr.kept),
                stdout_dropped_bytes: stdout.dropped,
                stderr_dropped_bytes: stderr.dropped,
            },
            held_open,
            lost: pipes.lost,
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.hold();
    }
}

/// Reads to the end of each pipe, or as long as the grace lasts. True when one is still open then.
fn read_rest(pipes: &mut Pipes, limit: usize, grace: Duration) -> bool {
    let deadline = Instant::now() + grace;
    let mut buffer = Vec::new();
    while pipes.files.iter().any(Option::is_some) {
        let Some(left) = deadline.checked_duration_since(Instant::now()) else {
            return true;
        };
        let left = i32::try_from(left.as_millis()).unwrap_or(i32::MAX).max(1);
        let open: Vec<usize> = (0..2).filter(|&index| pipes.files[index].is_some()).collect();
        let files: Vec<_> = pipes.files.iter().flatten().map(|file| file.as_fd()).collect();
        let Ok(ready) = process::readable(&files, left) else {
            continue;
        };
        buffer.resize(CHUNK_BYTES, 0);
        for (&index, _) in open.iter().zip(&ready).filter(|(_, ready)| **ready) {
            drop(pipes.read(index, limit, &mut buffer));
        }
    }
    false
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::{PipeWriter, Write as _};

    use super::*;

    fn drained(write: impl FnOnce(PipeWriter, PipeWriter), limit: usize) -> Drained {
        let (stdout, out) = io::pipe().unwrap();
        let (stderr, err) = io::pipe().unwrap();
        let mut output = Output::drain(stdout.into(), Some(stderr.into()), limit, Duration::from_millis(50)).unwrap();
        write(out, err);
        output.finish()
    }

    #[test]
    fn the_last_bytes_are_kept_and_the_others_counted() {
        let drained = drained(
            |mut out, mut err| {
                out.write_all(&vec![b'x'; 1_000_000]).unwrap();
                out.write_all(b"end").unwrap();
                err.write_all(b"oh").unwrap();
            },
            5,
        );
        assert_eq!(drained.tail.stdout.as_bytes(), b"xxend");
        assert_eq!(drained.tail.stdout_dropped_bytes, 999_998);
        assert_eq!(
            (drained.tail.stderr.as_bytes(), drained.tail.stderr_dropped_bytes),
            (&b"oh"[..], 0)
        );
        assert!(!drained.held_open);
    }

    #[test]
    fn a_pipe_that_stays_open_is_left_after_the_grace() {
        let mut kept = None;
        let drained = drained(
            |mut out, err| {
                out.write_all(b"said").unwrap();
                kept = Some((out, err));
            },
            100,
        );
        assert!(drained.held_open);
        assert_eq!(drained.tail.stdout.as_bytes(), b"said");
    }

    #[test]
    fn one_thread_reads_for_all_and_mixes_nothing_up() {
        let all: Vec<_> = (0..50u8)
            .map(|number| {
                let ((stdout, mut out), (stderr, mut err)) = (io::pipe().unwrap(), io::pipe().unwrap());
                let output = Output::drain(stdout.into(), Some(stderr.into()), 1 << 20, Duration::from_millis(50)).unwrap();
                let writer = std::thread::spawn(move || {
                    // More than a pipe holds: somebody has to read before anyone asks for the end.
                    out.write_all(&vec![number; 300_000]).unwrap();
                    err.write_all(&[number]).unwrap();
                });
                (output, writer)
            })
            .collect();
        for (number, (mut output, writer)) in (0..).zip(all) {
            writer.join().unwrap();
            let drained = output.finish();
            assert!(!drained.held_open);
            assert_eq!(drained.tail.stdout.as_bytes(), vec![number; 300_000]);
            assert_eq!(drained.tail.stderr.as_bytes(), [number]);
        }
    }

    #[test]
    fn a_pipe_that_nobody_asks_about_is_given_up() {
        let ((stdout, out), (stderr, _err)) = (io::pipe().unwrap(), io::pipe().unwrap());
        drop(Output::drain(stdout.into(), Some(stderr.into()), 1, Duration::ZERO).unwrap());
        let failed = { out }.write_all(b"x").unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_target_that_reads_its_own_output_keeps_no_other_waiting() {
        let pipes = || (io::pipe().unwrap(), io::pipe().unwrap());
        let drain = |out: io::PipeReader, err: io::PipeReader| {
            Output::drain(out.into(), Some(err.into()), 1 << 20, Duration::from_millis(50)).unwrap()
        };
        let ((stdout, mut out), (stderr, err)) = pipes();
        let mut thief = File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&stdout))).unwrap();
        let mut first = drain(stdout, stderr);
        // What is said to be there is gone when it is read: the reader is kept from it until then.
        let held = lock(&first.pipes);
        out.write_all(b"mine").unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(thief.read(&mut [0; 8]).unwrap(), 4);
        drop(held);
        let ((stdout, mut other), (stderr, other_err)) = pipes();
        let mut second = drain(stdout, stderr);
        let (done, is_done) = std::sync::mpsc::channel();
        let writer = std::thread::spawn(move || {
            // More than a pipe holds.
            other.write_all(&[b'x'; 300_000]).unwrap();
            drop((other, other_err));
            done.send(()).unwrap();
        });
        is_done.recv_timeout(Duration::from_secs(60)).unwrap();
        writer.join().unwrap();
        assert_eq!(second.finish().tail.stdout.as_bytes().len(), 300_000);
        drop((out, err));
        assert_eq!(first.finish().tail.stdout.as_bytes(), b"");
    }
}
