//! Timing helpers of the benches: peers are run in turn, round by round, and only their ratio is quoted. Absolute times of
//! a shared machine move; ratios within one run hold.

use std::io::{self, Write};
use std::time::{Duration, Instant};

/// One thing to time.
pub struct Contender<'a> {
    /// Its name in the table.
    pub name: &'a str,
    /// One round of it.
    pub work: Box<dyn FnMut() + 'a>,
}

/// Median times of the contenders over `rounds` interleaved rounds, after one round that does not count.
pub fn medians(contenders: &mut [Contender<'_>], rounds: usize) -> Vec<Duration> {
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
    times.iter_mut().map(|times| median(times)).collect()
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// One line of the result: `ours` as a ratio of `peer` and the limit the project has set itself. True when it is kept.
///
/// # Errors
/// When the line cannot be written.
pub fn ratio(out: &mut dyn Write, what: &str, ours: Duration, peer: Duration, limit: f64) -> io::Result<bool> {
    let ratio = ours.as_secs_f64() / peer.as_secs_f64();
    let kept = ratio <= limit;
    let verdict = if kept { "ok" } else { "ABOVE ITS LIMIT" };
    writeln!(
        out,
        "{what:<58} {ours:>9.1?} / {peer:>9.1?} = {ratio:5.3}  (limit {limit}) {verdict}"
    )?;
    Ok(kept)
}
