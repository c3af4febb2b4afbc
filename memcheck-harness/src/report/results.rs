//! The results file: everything a run has to say, in one JSON object. Its form is that of [`RunReport`] with derived values
//! (outcomes, metrics, sums) beside it for other readers; `docs/schema/results-1.schema.json` describes it. A reader takes
//! nothing on trust: the file may come from a stranger's pull request.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::json::{bytes, case_object, last_words};
use crate::model::{MemoryMap, Metric, RunReport, Tier, Unit};

/// No results file is larger: a forged one must not fill the memory.
pub const MAX_RESULTS_BYTES: u64 = 256 << 20;
/// A process of more address space, threads or arenas is none.
const MAX_HEAP_BYTES: u64 = 1 << 48;

/// The bytes of a results file.
#[must_use]
pub fn results(report: &RunReport) -> Vec<u8> {
    let mut value = serde_json::to_value(report).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        let cases = report.cases.iter().map(|case| case_object(report, case, true));
        object.insert("cases".to_owned(), cases.collect());
        object.insert("verdict".to_owned(), last_words(report));
        object.insert("metrics".to_owned(), metrics());
    }
    // A file that could not be written is an empty one, which no reader accepts.
    bytes(&value).unwrap_or_default()
}

/// Unit and tier of every metric that a checkpoint may have.
fn metrics() -> Value {
    let all = Metric::all().into_iter().map(|metric| {
        let unit = match metric.unit() {
            Unit::Bytes => "bytes",
            Unit::Count => "count",
        };
        (metric.name().to_owned(), json!({ "unit": unit, "tier": tier(metric.tier()) }))
    });
    Value::Object(all.collect::<Map<_, _>>())
}

const fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Exact => "exact",
        Tier::Tolerant => "tolerant",
        Tier::ReportOnly => "report-only",
    }
}

/// Reads a results file of this schema, complete or not.
///
/// # Errors
/// It is no results file, of another schema, or describes memory that cannot be. The text says which.
pub fn read_results(bytes: &[u8]) -> Result<RunReport, String> {
    if bytes.len() as u64 > MAX_RESULTS_BYTES {
        return Err("it is larger than 256 MiB: no results file is".to_owned());
    }
    let no_results = |error: serde_json::Error| format!("it is no results file: {error}");
    let stated: Stated = serde_json::from_slice(bytes).map_err(no_results)?;
    match stated.schema {
        Some(schema) if schema == u64::from(RunReport::SCHEMA) => {}
        Some(schema) => {
            return Err(format!(
                "it has schema {schema}; this version of cargo memcheck reads schema {}",
                RunReport::SCHEMA
            ));
        }
        None => return Err("it is no results file: it states no schema".to_owned()),
    }
    let report: RunReport = serde_json::from_slice(bytes).map_err(no_results)?;
    for case in &report.cases {
        for checkpoint in &case.checkpoints {
            check(&checkpoint.map)
                .map_err(|why| format!("the memory of {} @ {} cannot be: {why}", case.name, checkpoint.name))?;
        }
    }
    Ok(report)
}

/// What a file says of itself, before the rest of it is read.
#[derive(Deserialize)]
struct Stated {
    schema: Option<u64>,
}

/// What every printer takes for granted of a map.
fn check(map: &MemoryMap) -> Result<(), &'static str> {
    let mut end = 0;
    for piece in &map.pieces {
        if piece.start < end || piece.end <= piece.start {
            return Err("its ranges are not in order");
        }
        if piece.item >= map.items.len() {
            return Err("a range belongs to nothing");
        }
        end = piece.end;
    }
    let heaps = || map.arenas.iter().flatten().flat_map(|arena| &arena.heaps);
    let is_large = |bytes: u64| bytes > MAX_HEAP_BYTES;
    if heaps().count() > 1 << 15 || heaps().any(|heap| is_large(heap.size_bytes) || is_large(heap.committed_bytes)) {
        return Err("an arena is larger than any address space");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{KIB, unjoined};
    use super::*;

    fn text(report: &RunReport) -> String {
        serde_json::to_string(report).unwrap()
    }

    #[test]
    fn a_report_comes_back_whole() {
        for complete in [true, false] {
            let mut report = unjoined();
            report.complete = complete;
            report.interrupted = (!complete).then_some(15);
            let read = read_results(&results(&report)).unwrap();
            assert_eq!(text(&read), text(&report));
        }
        let stub = RunReport {
            schema: RunReport::SCHEMA,
            ..RunReport::default()
        };
        assert!(!read_results(&results(&stub)).unwrap().complete);
    }

    #[test]
    fn other_readers_find_metrics_with_their_tiers() {
        let value: Value = serde_json::from_slice(&results(&unjoined())).unwrap();
        let checkpoint = &value["cases"][0]["checkpoints"][1];
        assert_eq!(checkpoint["metrics"]["thread-stack.exited.reserved"], 16_384 * KIB);
        assert_eq!(checkpoint["metrics"]["main-heap.used"], Value::Null, "unknown is not zero");
        assert_eq!(
            value["metrics"]["main-heap.anon"],
            json!({ "unit": "bytes", "tier": "exact" })
        );
        assert_eq!(value["metrics"]["process.pss"]["tier"], "report-only");
        assert_eq!(value["verdict"]["exit_code"], 3);
        assert_eq!(value["verdict"]["status"], "budget");
        assert_eq!(value["cases"][0]["outcome"], "budget");
    }

    #[test]
    fn what_is_foreign_or_forged_is_refused() {
        assert!(read_results(b"").is_err());
        assert!(read_results(b"{}").unwrap_err().contains("no schema"));
        let other = br#"{"schema":7,"tool_version":"9.9.9","complete":true}"#;
        assert!(read_results(other).unwrap_err().contains("schema 7"));
        let forge = |change: &dyn Fn(&mut MemoryMap)| {
            let mut report = unjoined();
            change(&mut report.cases[0].checkpoints[0].map);
            read_results(&results(&report)).unwrap_err()
        };
        assert!(forge(&|map| map.pieces[0].item = 7).contains("belongs to nothing"));
        assert!(forge(&|map| map.items.clear()).contains("belongs to nothing"));
        let deep = format!("{{\"schema\":1,\"cases\":{}1{}}}", "[".repeat(4000), "]".repeat(4000));
        assert!(read_results(deep.as_bytes()).is_err());
    }

    #[test]
    fn ranges_out_of_order_are_refused() {
        let mut map = unjoined().cases[0].checkpoints[1].map.clone();
        assert_eq!(check(&map), Ok(()));
        map.pieces.swap(0, 1);
        assert_eq!(check(&map), Err("its ranges are not in order"));
    }
}
