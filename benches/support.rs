//! Timing helpers of the benches: peers are run in turn, round by round, and only their ratio is quoted. Absolute times of
//! a shared machine move; ratios within one run hold.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// The command's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a bench may end with.
pub type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// A program that was built.
pub type Program = PathBuf;

/// How near a ratio is to its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// So far that no noise of a machine brings it there: a check for every commit.
    Far,
    /// Nearer: to be measured where nothing else runs.
    Near,
}

/// Builds a C program in `dir`, with `memcheck.h` beside it.
///
/// # Errors
/// The compiler fails or is missing.
#[expect(clippy::disallowed_methods, reason = "the benches build their own programs")]
pub fn compile(dir: &Path, name: &str, source: &str, flags: &[&str]) -> io::Result<Program> {
    std::fs::write(dir.join("memcheck.h"), memcheck_probe::HEADER)?;
    let (file, program) = (dir.join(format!("{name}.c")), dir.join(name));
    std::fs::write(&file, source)?;
    let mut cc = Command::new("cc");
    let status = cc
        .args(["-O1", "-g"])
        .arg(&file)
        .arg("-o")
        .arg(&program)
        .args(flags)
        .status()?;
    if status.success() {
        Ok(program)
    } else {
        Err(io::Error::other("cc failed"))
    }
}

/// One thing to time.
pub struct Contender<'a> {
    /// One round of it.
    work: Box<dyn FnMut() + 'a>,
}

impl<'a> Contender<'a> {
    /// Something that is timed as a whole.
    pub fn new(work: impl FnMut() + 'a) -> Self {
        Self { work: Box::new(work) }
    }
}

/// The times of the contenders over `rounds` interleaved rounds, after one round that does not count: one list each.
pub fn times(contenders: &mut [Contender<'_>], rounds: usize) -> Vec<Vec<Duration>> {
    let mut times = vec![Vec::with_capacity(rounds); contenders.len()];
    for round in 0..=rounds {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            let start = Instant::now();
            (contender.work)();
            if round > 0 {
                times.push(start.elapsed());
            }
        }
    }
    times
}

/// The table of one bench: prints its rows as they are measured and remembers whether each limit was kept.
pub struct Table {
    filters: Vec<String>,
    /// Asked for with `--quick`: few rounds, and only rows that are far from their limit.
    pub quick: bool,
    missed: Vec<String>,
    rows: usize,
}

impl Table {
    /// What the command line asks for: `--quick`, and words that a row's name must contain.
    #[must_use]
    pub fn from_arguments() -> Self {
        let (options, filters): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|one| one.starts_with("--"));
        Self {
            filters,
            quick: options.iter().any(|option| option == "--quick"),
            missed: Vec::new(),
            rows: 0,
        }
    }

    /// True when one of the names is to be measured.
    #[must_use]
    pub fn wants(&self, names: &[&str], reach: Reach) -> bool {
        let is_wanted = |name: &&str| self.filters.iter().any(|filter| name.contains(filter.as_str()));
        let is_due = !self.quick || reach == Reach::Far;
        is_due && (self.filters.is_empty() || names.iter().any(is_wanted))
    }

    /// So many rounds, or with `--quick` a third of them.
    #[must_use]
    pub fn rounds(&self, rounds: usize) -> usize {
        if self.quick { rounds.div_ceil(3).max(3) } else { rounds }
    }

    /// One row: the median of the ratios of each round, beside the limit the project has set itself.
    ///
    /// # Errors
    /// When the line cannot be written.
    pub fn row(&mut self, name: &str, ours: &[Duration], peer: &[Duration], limit: f64) -> io::Result<()> {
        let mut ratios: Vec<f64> = ours
            .iter()
            .zip(peer)
            .map(|(ours, peer)| ours.as_secs_f64() / peer.as_secs_f64())
            .collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let ratio = ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN);
        let of = |times: &[Duration]| format!("{:.1?}", median(times));
        self.result(name, &of(ours), &of(peer), ratio, limit)
    }

    /// One row of two counts.
    ///
    /// # Errors
    /// When the line cannot be written.
    pub fn counts(&mut self, name: &str, ours: u64, peer: u64, limit: f64) -> io::Result<()> {
        self.result(name, &ours, &peer, ours as f64 / peer as f64, limit)
    }

    fn result(&mut self, name: &str, ours: &dyn Display, peer: &dyn Display, ratio: f64, limit: f64) -> io::Result<()> {
        let mut out = io::stdout();
        if self.rows == 0 {
            writeln!(out, "{:<52} {:>9} {:>9} {:>7} {:>6}", "", "ours", "peer", "ratio", "limit")?;
        }
        self.rows += 1;
        // A ratio that is no number keeps nothing.
        let kept = ratio <= limit;
        let verdict = if kept { "kept" } else { "MISSED" };
        writeln!(out, "{name:<52} {ours:>9} {peer:>9} {ratio:>7.3} {limit:>6} {verdict}")?;
        if !kept {
            self.missed.push(name.to_owned());
        }
        Ok(())
    }

    /// The end of the bench: 1 when a limit was missed, 2 when the bench could not be done.
    pub fn end(self, result: Fallible<()>) -> ExitCode {
        let mut err = io::stderr();
        if let Err(error) = result {
            let _ = writeln!(err, "error: {error}");
            return ExitCode::from(2);
        }
        if self.missed.is_empty() {
            return ExitCode::SUCCESS;
        }
        let _ = writeln!(
            err,
            "{} of {} limits missed: {}",
            self.missed.len(),
            self.rows,
            self.missed.join("; ")
        );
        ExitCode::FAILURE
    }
}

/// The median.
#[must_use]
pub fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
