//! The results file: what a harness test measured, handed to the command that started it. Versioned, and either complete or
//! not; a reader takes nothing on trust.

use serde::{Deserialize, Serialize};

use crate::model::RunReport;

/// The form of the file. Not frozen: writer and reader must be of one version.
const SCHEMA: u32 = 0;

#[derive(Serialize)]
struct Written<'a> {
    schema: u32,
    tool_version: &'a str,
    complete: bool,
    report: Option<&'a RunReport>,
}

#[derive(Deserialize)]
struct Read {
    schema: u32,
    tool_version: String,
    complete: bool,
    report: Option<RunReport>,
}

/// The bytes of a results file. `report` is absent when no case was measured (yet).
#[must_use]
pub fn results(report: Option<&RunReport>, complete: bool) -> Vec<u8> {
    let written = Written {
        schema: SCHEMA,
        tool_version: env!("CARGO_PKG_VERSION"),
        complete,
        report,
    };
    // A file that could not be written is an empty one, which no reader accepts.
    let mut bytes = serde_json::to_vec(&written).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// Reads a results file: the report, or none when the test has no case of its own.
///
/// # Errors
/// It is no results file, of another version, or the test did not come to its end. The text says which.
pub fn read_results(bytes: &[u8]) -> Result<Option<RunReport>, String> {
    let read: Read = serde_json::from_slice(bytes).map_err(|error| format!("it is no results file: {error}"))?;
    if read.schema != SCHEMA || read.tool_version != env!("CARGO_PKG_VERSION") {
        return Err(format!(
            "it was written by memcheck-harness {} (schema {}), this is {} (schema {SCHEMA})",
            read.tool_version,
            read.schema,
            env!("CARGO_PKG_VERSION")
        ));
    }
    if !read.complete {
        return Err("it is incomplete: the test did not come to its end".to_owned());
    }
    Ok(read.report)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::unjoined;
    use super::*;

    #[test]
    fn a_report_comes_back_whole() {
        let report = unjoined();
        let read = read_results(&results(Some(&report), true)).unwrap().unwrap();
        let text = |report: &RunReport| serde_json::to_string(report).unwrap();
        assert_eq!(text(&read), text(&report));
        assert!(read_results(&results(None, true)).unwrap().is_none());
    }

    #[test]
    fn what_is_incomplete_or_foreign_is_refused() {
        assert!(read_results(&results(None, false)).unwrap_err().contains("incomplete"));
        assert!(read_results(b"").is_err());
        let other = br#"{"schema":7,"tool_version":"9.9.9","complete":true,"report":null}"#;
        assert!(read_results(other).unwrap_err().contains("9.9.9"));
    }
}
