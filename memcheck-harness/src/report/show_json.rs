//! The machine form of `show`: one JSON line, `"reason":"show"`, with everything the tables say and every region.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::json::{checkpoint, end, line, problem_value, settings_value};
use super::show::{Figures, empty_cost, own, rows, total, word};
use crate::model::{CaseReport, EmptyProgram, MemoryMap};

/// Writes one object. `since` is the name of the stop that changes are asked from; both sides are given in full.
///
/// # Errors
/// Those of the writer.
pub fn show_json(case: &CaseReport, since: Option<&str>, empty: Option<&EmptyProgram>, out: &mut dyn Write) -> io::Result<()> {
    let value = json!({
        "reason": "show",
        "schema": 0,
        "name": case.name,
        "package": case.package,
        "target": case.target,
        "since": since,
        "checkpoints": case.checkpoints.iter().map(|stop| {
            let mut value = checkpoint(stop);
            if let Some(value) = value.as_object_mut() {
                extend(value, &stop.map);
                let cost = empty.filter(|_| stop.child.is_none()).and_then(|empty| empty_cost(empty, &stop.at));
                value.insert("empty".to_owned(), cost.map_or(Value::Null, |cost| figures(cost).into()));
            }
            value
        }).collect::<Vec<_>>(),
        "checkpoints_planned": case.checkpoints_planned,
        "empty_program": empty.map(|empty| json!({ "language": empty.language, "toolchain": empty.toolchain })),
        "problem": case.problem.as_ref().map(problem_value),
        "end": case.end.as_ref().map(end),
        "settings": settings_value(case),
        "notes": case.notes,
    });
    line(&value, out)
}

fn extend(value: &mut Map<String, Value>, map: &MemoryMap) {
    for judged in ["limits", "changes", "causes", "place"] {
        value.remove(judged);
    }
    let roles: Map<String, Value> = rows(map)
        .into_iter()
        .map(|row| {
            let mut figures = figures(row.figures);
            figures.insert("access".to_owned(), row.access.split(' ').collect());
            figures.insert("confidence".to_owned(), word(row.confidence).into());
            (row.role.name().to_owned(), figures.into())
        })
        .collect();
    value.insert("roles".to_owned(), roles.into());
    value.insert("own".to_owned(), figures(own(map)).into());
    value.insert("total".to_owned(), figures(total(map)).into());
    let pieces: Value = map
        .pieces
        .iter()
        .map(|piece| {
            json!({
                "start": piece.start,
                "end": piece.end,
                "role": piece.role,
                "subject": map.items.get(piece.item).map(|item| &item.subject),
                "access": piece.perms.to_string(),
                "reserved": piece.reserved_bytes(),
                "resident": piece.resident_bytes,
                "anon": piece.anon_bytes,
                "swap": piece.swap_bytes,
                "pss": piece.proportional_bytes,
                "evidence": piece.evidence.text,
                "confidence": word(piece.evidence.confidence),
            })
        })
        .collect();
    value.insert("pieces".to_owned(), pieces);
}

fn figures(figures: Figures) -> Map<String, Value> {
    let mut map = Map::new();
    if let Some(count) = figures.count {
        map.insert("count".to_owned(), count.into());
    }
    for (name, value) in [
        ("reserved", figures.reserved),
        ("resident", figures.resident),
        ("anon", figures.anon),
        ("pss", figures.pss),
    ] {
        map.insert(name.to_owned(), value.into());
    }
    map
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{case, print};
    use super::*;

    #[test]
    fn one_line_with_pieces_and_totals() {
        let text = print(|out| show_json(&case("p"), Some("main"), None, out));
        assert_eq!(text.lines().count(), 1);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["reason"], &value["since"]), (&json!("show"), &json!("main")));
        let stop = &value["checkpoints"][0];
        let reserved = |value: &Value| value["reserved"].as_u64().unwrap();
        let pieces: u64 = stop["pieces"].as_array().unwrap().iter().map(reserved).sum();
        let roles: u64 = stop["roles"].as_object().unwrap().values().map(reserved).sum();
        assert_eq!(pieces, roles);
        assert!(stop["total"]["anon"].is_null(), "unknown is null: {stop}");
        assert!(stop.get("limits").is_none());
    }
}
