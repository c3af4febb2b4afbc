//! SARIF 2.1.0 for code scanning: what fails, and what the headers and mappings say about hardening.
//! Form: the OASIS standard `sarif-v2.1.0`. Rule names and fingerprints stay the same from run to run.

use serde_json::{Value, json};

use super::finding::{Finding, Level, Rule, findings, hardening};
use super::github::{inside, is_relative};
use super::json;
use super::text::clean;
use crate::model::RunReport;

/// Code scanning takes at most 25,000 results of a run, and shows 5,000.
const MOST: usize = 5000;
/// Characters of one text.
const TEXT_CHARS: usize = 4000;

/// The bytes of a SARIF file. `prefix` is where the project lies in the repository.
#[must_use]
pub(super) fn sarif(report: &RunReport, prefix: &str) -> Vec<u8> {
    let all: Vec<Finding> = findings(report).into_iter().chain(hardening(report)).collect();
    let rules: Vec<Value> = Rule::ALL
        .into_iter()
        .map(|rule| json!({ "id": rule.id(), "shortDescription": { "text": rule.meaning() } }))
        .collect();
    let value = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "cargo memcheck", "semanticVersion": report.tool_version, "rules": rules } },
            "invocations": [{ "executionSuccessful": report.complete }],
            "results": all.iter().take(MOST).map(|finding| result(finding, prefix)).collect::<Vec<_>>(),
        }],
    });
    // A file that could not be written is an empty one, which no reader accepts.
    json::bytes(&value).unwrap_or_default()
}

fn result(finding: &Finding, prefix: &str) -> Value {
    let index = Rule::ALL.iter().position(|rule| *rule == finding.rule);
    let file = if is_relative(&finding.place.file) {
        finding.place.file.as_str()
    } else {
        "memcheck.toml"
    };
    let text: Vec<String> = finding.text.lines().map(clean).collect();
    let text: String = format!("{}: {}", clean(&finding.case), text.join("\n"))
        .chars()
        .take(TEXT_CHARS)
        .collect();
    json!({
        "ruleId": finding.rule.id(),
        "ruleIndex": index,
        "level": match finding.level {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Note => "note",
        },
        "message": { "text": plain(&text) },
        "locations": [{ "physicalLocation": {
            "artifactLocation": { "uri": uri(&inside(prefix, file)) },
            "region": { "startLine": finding.place.line.max(1) },
        } }],
        "partialFingerprints": { "memcheck/v1": fingerprint(finding) },
    })
}

/// Brackets of a message make links, and braces stand for arguments (3.11.5 and 3.11.6 of the standard): a backslash and a
/// doubled brace make them ordinary. Backslashes right before a bracket are of the text, so they are doubled.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut backslashes = 0;
    for char in text.chars() {
        match char {
            '[' | ']' => {
                out.extend(std::iter::repeat_n('\\', backslashes + 1));
                out.push(char);
            }
            '{' | '}' => out.extend([char, char]),
            _ => out.push(char),
        }
        backslashes = if char == '\\' { backslashes + 1 } else { 0 };
    }
    out
}

/// Independent of values and lines, so that an alert stays one alert while the figures move.
fn fingerprint(finding: &Finding) -> String {
    let text: String = format!("{} {} {}", finding.rule.id(), finding.case, finding.key)
        .chars()
        .take(TEXT_CHARS)
        .collect();
    clean(&text)
}

/// A relative reference (RFC 3986): everything but the unreserved characters is percent-encoded.
fn uri(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/._~-".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::unjoined;
    use super::*;
    use crate::model::{Hardening, Relro};

    #[test]
    fn nothing_in_a_message_is_a_link_or_an_argument() {
        assert_eq!(plain(r"[heap] of {0} a\b \\]"), r"\[heap\] of {{0}} a\b \\\\\]");
        let mut report = unjoined();
        report.cases[0].checkpoints[0].name = "a[0]{1}".to_owned();
        report.cases[0].checkpoints[1].name = "b](http://x)".to_owned();
        let text = String::from_utf8(sarif(&report, "")).unwrap();
        assert!(!text.contains("b](") && text.contains("b\\\\]("), "{text}");
    }

    #[test]
    fn findings_and_hardening_have_rules_lines_and_fingerprints() {
        let mut report = unjoined();
        report.cases[0].checkpoints[0].map.process.wx = Some(1);
        report.cases[0].checkpoints[0].map.hardening = Some(Hardening {
            relro: Relro::No,
            nx: true,
            pie: true,
            canary: None,
        });
        let value: Value = serde_json::from_slice(&sarif(&report, "a b")).unwrap();
        let results = value["runs"][0]["results"].as_array().unwrap();
        let ids: Vec<&str> = results.iter().map(|result| result["ruleId"].as_str().unwrap()).collect();
        assert_eq!(
            ids,
            [
                "memcheck/budget",
                "memcheck/snapshot",
                "memcheck/wx-mapping",
                "memcheck/no-relro"
            ]
        );
        let place = &results[0]["locations"][0]["physicalLocation"];
        assert_eq!(
            (
                place["artifactLocation"]["uri"].as_str(),
                place["region"]["startLine"].as_u64()
            ),
            (Some("a%20b/memcheck.toml"), Some(8))
        );
        assert_eq!(
            results[0]["partialFingerprints"]["memcheck/v1"],
            "memcheck/budget threads-unjoined thread-stack.exited.count max"
        );
        let mut other = unjoined();
        other.cases[0].checkpoints[1].limits[0].value = Some(9);
        let other: Value = serde_json::from_slice(&sarif(&other, "")).unwrap();
        assert_eq!(
            other["runs"][0]["results"][0]["partialFingerprints"],
            results[0]["partialFingerprints"]
        );
    }
}
