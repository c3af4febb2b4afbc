//! Parts of the guide that the program writes itself, as Markdown: the keys of `memcheck.toml`, and the metrics.

use std::io::{self, Write};

use crate::model::{ConfigKey, Metric, Tier, Unit};

/// The keys, a table for each table.
///
/// # Errors
/// Those of the writer.
pub fn reference_markdown(keys: &[ConfigKey], out: &mut dyn Write) -> io::Result<()> {
    let mut table = "";
    for key in keys {
        if key.table != table {
            if !table.is_empty() {
                writeln!(out)?;
            }
            table = key.table;
            writeln!(out, "## {}\n\n| key | value | meaning |\n|---|---|---|", head(table))?;
        }
        writeln!(out, "| `{}` | {} | {} |", key.key, key.form, key.meaning)?;
    }
    Ok(())
}

fn head(table: &str) -> String {
    match table {
        "memcheck.toml" => "The file".to_owned(),
        "a limit" => "A limit of `budget`".to_owned(),
        "target" | "at" | "match" | "elf" | "snapshot" | "limits" | "matrix" | "exit" => format!("`{table} = {{ … }}`"),
        other => other
            .split(" and ")
            .map(|name| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(" and "),
    }
}

/// The metrics, one row each.
///
/// # Errors
/// Those of the writer.
pub fn metrics_markdown(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "| metric | unit | tier | source | meaning |\n|---|---|---|---|---|")?;
    for metric in Metric::all() {
        let unit = match metric.unit() {
            Unit::Count => "count",
            Unit::Bytes => "bytes",
        };
        let tier = match metric.tier() {
            Tier::Exact => "exact",
            Tier::Tolerant => "tolerant",
            Tier::ReportOnly => "report-only",
        };
        let cell = |text: &str| text.replace('|', "\\|").replace('<', "&lt;");
        writeln!(
            out,
            "| `{}` | {unit} | {tier} | {} | {} |",
            metric.name(),
            cell(metric.source()),
            cell(metric.meaning())
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::print;
    use super::*;

    #[test]
    fn a_table_for_each_table() {
        let key = |table, key| ConfigKey {
            table,
            key: String::from(key),
            form: "text",
            meaning: "Something.",
        };
        let text = print(|out| reference_markdown(&[key("[[case]]", "a"), key("[[case]]", "b"), key("at", "c")], out));
        assert_eq!(text.matches("## ").count(), 2);
        assert!(
            text.contains("## `[[case]]`\n\n| key |") && text.contains("| `b` | text | Something. |\n\n## `at = { … }`"),
            "{text}"
        );
        let metrics = print(metrics_markdown);
        assert_eq!(metrics.lines().count(), Metric::all().len() + 2);
    }
}
