//! The table of all metrics, for `cargo memcheck metrics`.

use std::io::{self, Write};

use super::{Style, progress};
use crate::model::{Metric, Tier, Unit};

/// Prints name, unit, tier, source and meaning of every metric, one per line.
///
/// # Errors
/// Those of the writer.
pub fn metrics(style: Style, out: &mut dyn Write) -> io::Result<()> {
    let mut rows = vec![["metric", "unit", "tier", "source", "meaning"].map(str::to_owned).to_vec()];
    rows.extend(Metric::all().iter().map(|metric| {
        vec![
            metric.name().to_owned(),
            match metric.unit() {
                Unit::Count => "count",
                Unit::Bytes => "bytes",
            }
            .to_owned(),
            match metric.tier() {
                Tier::Exact => "exact",
                Tier::Tolerant => "tolerant",
                Tier::ReportOnly => "report-only",
            }
            .to_owned(),
            metric.source().to_owned(),
            metric.meaning().to_owned(),
        ]
    }));
    progress::listing(style, &rows, out)?;
    writeln!(out)?;
    progress::note(
        style,
        "exact: equal on every run with our launch settings; tolerant: give its budget room; report-only: measures the rest of the \
         machine too, a budget on it is refused. A metric that this machine or build cannot give is absent, never zero.",
        out,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_line() {
        let mut out = Vec::new();
        metrics(Style::default(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for metric in Metric::all() {
            assert!(text.lines().any(|line| line.starts_with(&format!("{metric} "))), "{metric}");
        }
    }
}
