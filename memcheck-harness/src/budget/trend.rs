//! Values of many rounds → whether they grow, and by how much per pass. Pure, and exact but for r².
//!
//! The slope is the median over all pairs of rounds (Theil 1950, Sen 1968): neither the first and the last round nor single
//! outliers decide. That it grows at all is believed only when four things hold: the ranks say so (Mann–Kendall, more than
//! three standard deviations) over all rounds and, more loosely, in either half; new heights were reached at least three
//! times, the last of them in the last third; and the whole rise is more than the grain of what is measured.

use std::cmp::Ordering;

use crate::model::{Direction, Trend};

/// Pairs are formed of at most so many rounds, evenly spread.
const MOST: usize = 300;
/// Once or twice is no law.
const LEAST_RISES: u64 = 3;

/// How `values` (one for each round after the warm-up) change. `step` is the number of passes from one to the next, `first` the
/// number of the first one's round. `None` for fewer than three.
pub(super) fn trend(values: &[u64], step: u64, first: u64, grain: u64) -> Option<Trend> {
    let (start, end) = (*values.first()?, *values.last()?);
    if values.len() < 3 {
        return None;
    }
    let highest = values.iter().copied().max()?;
    let mut found = Trend {
        direction: Direction::Flat,
        rounds: values.len() as u64,
        slope_milli: 0,
        r2_permille: r2_permille(values),
        rises: 0,
        last_rise: 0,
        rise: highest.saturating_sub(start),
        grain,
    };
    if values.iter().all(|value| *value == start) {
        return Some(found);
    }
    let mut last_rise = 0;
    let mut before = start;
    for (i, value) in values.iter().enumerate() {
        if *value > before {
            found.rises += 1;
            (last_rise, before) = (i, *value);
        }
    }
    if found.rises > 0 {
        found.last_rise = first + last_rise as u64;
    }
    let chosen = evenly(values);
    let slope = slope_milli(&chosen, step.max(1));
    found.slope_milli = slope;
    let passes = (values.len() as u64 - 1).saturating_mul(step.max(1));
    let whole = slope.unsigned_abs().saturating_mul(passes) / 1000;
    let (one, other) = chosen.split_at(chosen.len() / 2);
    let goes = |sign: i64| {
        let trends = |part: &[(u64, u64)], least| kendall(part).is_some_and(|(s, z2)| s.signum() == sign && z2 >= least);
        slope.signum() == sign && whole > grain && trends(&chosen, 9.0) && trends(one, 2.25) && trends(other, 2.25)
    };
    let to_the_end = last_rise * 3 >= (values.len() - 1) * 2;
    found.direction = if goes(1) && found.rises >= LEAST_RISES && to_the_end {
        Direction::Grows
    } else if goes(-1) && end < start {
        Direction::Shrinks
    } else if found.rises > 0 && found.rise >= grain && stays(values, last_rise) {
        Direction::Stepped
    } else {
        Direction::Flat
    };
    Some(found)
}

/// (position, value) of at most [`MOST`] rounds.
fn evenly(values: &[u64]) -> Vec<(u64, u64)> {
    let stride = values.len().div_ceil(MOST).max(1);
    let all = values.iter().enumerate().step_by(stride);
    all.map(|(i, value)| (i as u64, *value)).collect()
}

/// True when it never fell back below the height it had before its last rise.
fn stays(values: &[u64], last_rise: usize) -> bool {
    let (before, since) = values.split_at(last_rise);
    since.iter().min() > before.iter().max()
}

/// The median of all slopes, in thousandths per pass.
pub(super) fn slope_milli(points: &[(u64, u64)], step: u64) -> i64 {
    let mut slopes: Vec<(i128, i128)> = Vec::with_capacity(points.len() * points.len().saturating_sub(1) / 2);
    for (i, (x, y)) in points.iter().enumerate() {
        for (later, value) in points.get(i + 1..).unwrap_or_default() {
            slopes.push((i128::from(*value) - i128::from(*y), i128::from(later - x)));
        }
    }
    let by_size = |a: &(i128, i128), b: &(i128, i128)| (a.0 * b.1).cmp(&(b.0 * a.1));
    let middle = slopes.len() / 2;
    let is_even = slopes.len().is_multiple_of(2);
    if slopes.is_empty() {
        return 0;
    }
    let (below, upper, _) = slopes.select_nth_unstable_by(middle, by_size);
    let upper = *upper;
    let lower = if is_even {
        below.iter().copied().max_by(by_size).unwrap_or(upper)
    } else {
        upper
    };
    // Half of a/b + c/d, for each pass and in thousandths.
    let (above, under) = (
        lower.0 * upper.1 + upper.0 * lower.1,
        2 * lower.1 * upper.1 * i128::from(step),
    );
    let rounded = (above * 2000 + under * above.signum()) / (2 * under);
    // What is not nothing does not become nothing by rounding.
    let kept = if rounded == 0 { above.signum() } else { rounded };
    i64::try_from(kept).unwrap_or(if kept > 0 { i64::MAX } else { i64::MIN })
}

/// Kendall's S and the square of its z, with ties and continuity taken into account; `None` when all are equal.
#[expect(
    clippy::cast_precision_loss,
    reason = "a threshold of significance; the counts are below 2^53"
)]
fn kendall(points: &[(u64, u64)]) -> Option<(i64, f64)> {
    let mut s = 0_i64;
    for (i, (_, y)) in points.iter().enumerate() {
        for (_, later) in points.get(i + 1..).unwrap_or_default() {
            s += match later.cmp(y) {
                Ordering::Greater => 1,
                Ordering::Equal => 0,
                Ordering::Less => -1,
            };
        }
    }
    let mut sorted: Vec<u64> = points.iter().map(|(_, value)| *value).collect();
    sorted.sort_unstable();
    let spread = |n: usize| {
        let n = n as i64;
        n * (n - 1) * (2 * n + 5)
    };
    let ties: i64 = sorted.chunk_by(|a, b| a == b).map(|group| spread(group.len())).sum();
    let variance = (spread(points.len()) - ties) as f64 / 18.0;
    let z = (s.abs() - 1).max(0) as f64;
    (variance > 0.0).then(|| (s, z * z / variance))
}

/// r² of the least-squares line in thousandths.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a figure of three digits between 0 and 1"
)]
fn r2_permille(values: &[u64]) -> Option<u32> {
    let n = values.len() as i128;
    let (mut x1, mut x2, mut y1, mut y2, mut xy) = (0_i128, 0_i128, 0_i128, 0_i128, 0_i128);
    let base = i128::from(*values.first()?);
    for (x, value) in values.iter().enumerate() {
        let (x, y) = (x as i128, i128::from(*value) - base);
        (x1, x2, y1) = (x1 + x, x2 + x * x, y1 + y);
        y2 = y2.saturating_add(y.saturating_mul(y));
        xy = xy.saturating_add(x.saturating_mul(y));
    }
    let down = |a: i128, b: i128| n.saturating_mul(a).saturating_sub(b) as f64;
    let (dx, dy, both) = (
        down(x2, x1 * x1),
        down(y2, y1.saturating_mul(y1)),
        down(xy, x1.saturating_mul(y1)),
    );
    (dx > 0.0 && dy > 0.0).then(|| (both * both / (dx * dy) * 1000.0).round().clamp(0.0, 1000.0) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 4096;

    /// A fixed sequence (Knuth's MMIX generator).
    fn noise(seed: u64) -> impl FnMut(u64) -> u64 {
        let mut state = seed;
        move |below| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        }
    }

    fn of(values: &[u64], grain: u64) -> (Direction, i64) {
        let found = trend(values, 1, 1, grain).unwrap();
        (found.direction, found.slope_milli)
    }

    fn pages(bytes: u64) -> u64 {
        bytes.div_ceil(PAGE) * PAGE
    }

    #[test]
    fn an_exact_leak_is_told_to_the_byte() {
        for (rounds, bytes) in [(8_u64, 1), (45, 80), (1800, 80), (9000, 4096)] {
            let values: Vec<u64> = (0..rounds).map(|i| 70_000 + i * bytes).collect();
            let found = trend(&values, 1, 6, 0).unwrap();
            assert_eq!(found.direction, Direction::Grows, "{rounds} {bytes}");
            assert_eq!(
                (found.slope_milli, found.r2_permille, found.last_rise),
                (bytes as i64 * 1000, Some(1000), rounds + 5)
            );
        }
        let sampled: Vec<u64> = (0..50).map(|i| i * 640).collect();
        assert_eq!(
            trend(&sampled, 10, 1, 0).unwrap().slope_milli,
            64_000,
            "per pass, not per reading"
        );
    }

    #[test]
    fn pages_show_a_leak_as_stairs_once_it_is_more_than_three() {
        let stairs = |rounds: u64, bytes: u64| (0..rounds).map(|i| pages(50_000 + i * bytes)).collect::<Vec<_>>();
        let (direction, slope) = of(&stairs(1800, 80), PAGE);
        assert_eq!(direction, Direction::Grows);
        assert!((78_000..=82_000).contains(&slope), "{slope}");
        assert_eq!(of(&stairs(45, 4096), PAGE).0, Direction::Grows);
        assert_eq!(of(&stairs(45, 400), PAGE).0, Direction::Grows, "four pages in all");
        assert_ne!(of(&stairs(45, 40), PAGE).0, Direction::Grows, "less than a page in all");
    }

    #[test]
    fn one_step_wherever_it_falls_is_no_growth() {
        for at in 1..45 {
            let values: Vec<u64> = (0..45).map(|i| if i < at { 4096 } else { 200_000 }).collect();
            assert_eq!(of(&values, 0).0, Direction::Stepped, "at {at}");
            let two: Vec<u64> = values.iter().enumerate().map(|(i, v)| v + u64::from(i > 40) * 9000).collect();
            assert_ne!(of(&two, 0).0, Direction::Grows, "at {at}");
        }
    }

    #[test]
    fn a_buffer_that_doubles_is_no_steady_growth_once_it_rests() {
        let values: Vec<u64> = (200..2000_u64).map(|i| i.next_power_of_two() * 64).collect();
        let found = trend(&values, 1, 201, 0).unwrap();
        assert_eq!((found.direction, found.rises, found.last_rise), (Direction::Stepped, 3, 1026));
    }

    #[test]
    fn two_ends_never_decide() {
        let mut values = vec![4096_u64; 50];
        values[0] = 0;
        values[49] = 1 << 20;
        assert_ne!(of(&values, 0).0, Direction::Grows);
        assert_eq!(of(&values, 0).1, 0);
    }

    #[test]
    fn a_hundred_loops_that_leak_and_a_hundred_that_do_not() {
        for seed in 0..100 {
            let mut random = noise(seed);
            for rounds in [45_u64, 1800] {
                // Each keeps 80 bytes, and buffers of up to 2 KiB come and go.
                let height = if rounds == 45 { 400 } else { 2048 };
                let leak: Vec<u64> = (0..rounds).map(|i| 90_000 + 80 * i + random(height)).collect();
                let (direction, slope) = of(&leak, 0);
                assert_eq!(direction, Direction::Grows, "seed {seed}, {rounds}");
                assert!((60_000..=100_000).contains(&slope), "seed {seed}: {slope}");
                let clean: Vec<u64> = (0..rounds).map(|_| 90_000 + random(65_536)).collect();
                assert_ne!(of(&clean, 0).0, Direction::Grows, "seed {seed}, {rounds}");
                let freed: Vec<u64> = (0..rounds).map(|i| 900_000 - 80 * i + random(400)).collect();
                assert_eq!(of(&freed, 0).0, Direction::Shrinks, "seed {seed}, {rounds}");
            }
        }
    }

    #[test]
    fn the_largest_values_do_not_overflow() {
        let values: Vec<u64> = (0..400).map(|i| (u64::MAX / 400) * i).collect();
        assert_eq!(of(&values, 0).0, Direction::Grows);
        assert!(trend(&[1, 2], 1, 1, 0).is_none());
    }
}
