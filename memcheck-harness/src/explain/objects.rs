//! Causes in the loaded files: libraries that came or went and who needs them, and what the linker's hardening changes.

use std::collections::{BTreeMap, BTreeSet};

use super::{Delta, Facts, Finding, memory, plain_cost, sentences, size};
use crate::model::{MemoryMap, Name, Piece, Role, RoleSum, RowKey};

/// Rows that RELRO moves bytes between.
const RELRO_ROWS: [Role; 4] = [Role::ExeRelro, Role::ExeData, Role::LibRelro, Role::LibData];

/// Causes that the names of libraries and the hardening lines of both sides prove.
pub(super) fn changed(facts: &Facts<'_>) -> Vec<Finding> {
    let Some((before, now)) = facts.sides else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (old, new, what) in [
        (&before.platform, &now.platform, "system"),
        (&before.libraries, &now.libraries, "own"),
    ] {
        let gained: Vec<&String> = new.iter().filter(|name| !old.contains(name)).collect();
        let lost: Vec<&String> = old.iter().filter(|name| !new.contains(name)).collect();
        found.extend(gained.into_iter().filter_map(|name| gained_library(facts, name, what)));
        found.extend(lost.into_iter().filter_map(|name| lost_library(facts, name, what)));
    }
    if what_rows_explain(facts, &found) {
        let rows = lib_rows(facts);
        if let Some(first) = found.iter_mut().find(|finding| finding.change.reserved != 0) {
            first.rows.extend(rows);
        }
    }
    found.extend(hardening(facts, &before.hardening, &now.hardening));
    found
}

/// Rows of own libraries that changed.
fn lib_rows(facts: &Facts<'_>) -> Vec<RowKey> {
    let rows = facts
        .now
        .rows
        .keys()
        .chain(facts.before.into_iter().flat_map(|before| before.rows.keys()));
    let is_lib = |key: &&RowKey| matches!(key, RowKey::Role(role) if role.is_elf() && *role >= Role::LibHeaders);
    rows.filter(is_lib).cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

/// True when the own libraries that came or went account for every byte by which the rows of libraries changed.
fn what_rows_explain(facts: &Facts<'_>, found: &[Finding]) -> bool {
    let rows: i128 = lib_rows(facts).iter().map(|key| facts.row_delta(key).reserved).sum();
    let own: i128 = found
        .iter()
        .filter(|finding| finding.rows.is_empty() && finding.cause.contains("own library "))
        .map(|finding| finding.change.reserved)
        .sum();
    own != 0 && rows == own
}

fn gained_library(facts: &Facts<'_>, name: &str, what: &str) -> Option<Finding> {
    // The name may end at the major version, where the map has it in full. A library may come later in the run.
    if facts.map.pieces.is_empty() {
        return Some(finding(
            Delta::default(),
            format!("A further {what} library is loaded: {name}."),
            outside(what),
        ));
    }
    let file = loaded(facts.map, name)?;
    let who = match facts.map.needed.get(file).filter(|who| !who.is_empty()) {
        Some(who) => format!(
            "needed by {}",
            memory::list(&who.iter().map(Name::to_string).collect::<Vec<_>>())
        ),
        None => "which no loaded file names as needed: opened at run time, or preloaded".to_owned(),
    };
    let sum = sum(facts.map, file);
    let more = Delta {
        count: i128::from(sum.count),
        reserved: i128::from(sum.reserved),
        anon: sum.anon.map(i128::from),
    };
    Some(finding(
        more,
        format!("A further {what} library is loaded: {name}, {who}."),
        sentences(&[plain_cost(more), outside(what)]),
    ))
}

fn lost_library(facts: &Facts<'_>, name: &str, what: &str) -> Option<Finding> {
    if loaded(facts.map, name).is_some() {
        return None;
    }
    let sum = facts.old.and_then(|old| Some(sum(old, loaded(old, name)?)));
    let less = sum.map_or(Delta::default(), |sum| Delta {
        count: -i128::from(sum.count),
        reserved: -i128::from(sum.reserved),
        anon: sum.anon.map(|bytes| -i128::from(bytes)),
    });
    let cost = if less.is_zero() { String::new() } else { plain_cost(less) };
    let cost = sentences(&[cost, outside(what)]);
    Some(finding(less, format!("No longer loaded: the {what} library {name}."), cost))
}

/// System libraries are not the program's own memory, and stand in no row.
fn outside(what: &str) -> String {
    match what {
        "system" => "It is memory of the platform: no row and no limit on own memory counts it.".to_owned(),
        _ => String::new(),
    }
}

fn loaded<'a>(map: &'a MemoryMap, name: &str) -> Option<&'a Name> {
    let is = |file: &&Name| {
        let text = file.to_string();
        text == name || text.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'))
    };
    map.platform_objects.iter().chain(&map.own_objects).find(is)
}

/// What a loaded file takes: its regions, address space and anonymous memory.
fn sum(map: &MemoryMap, file: &Name) -> RoleSum {
    let is = |piece: &&Piece| {
        let subject = map.items.get(piece.item).map(|item| item.subject.file_name());
        (piece.role == Role::Platform || piece.role.is_elf()) && subject.as_ref() == Some(file)
    };
    let mut sum = RoleSum {
        anon: Some(0),
        ..RoleSum::default()
    };
    for piece in map.pieces.iter().filter(is) {
        sum.count += 1;
        sum.reserved += piece.reserved_bytes();
        sum.anon = sum.anon.zip(piece.anon_bytes).map(|(a, b)| a + b);
    }
    sum
}

/// The words of the hardening lines that differ. RELRO moves bytes between rows, the others cost nothing by themselves.
fn hardening(facts: &Facts<'_>, before: &str, now: &str) -> Vec<Finding> {
    if before.is_empty() || now.is_empty() || before == now {
        return Vec::new();
    }
    let words = |line: &str| -> BTreeMap<&'static str, String> {
        line.split(", ")
            .map(|word| {
                let kind = ["relro", "pie", "nx", "canary"].into_iter().find(|kind| word.contains(kind));
                (kind.unwrap_or("other"), word.to_owned())
            })
            .collect()
    };
    let (old, new) = (words(before), words(now));
    let mut found = Vec::new();
    for (kind, word) in new {
        let Some(was) = old.get(kind).filter(|was| **was != word) else {
            continue;
        };
        if kind == "relro" {
            found.push(relro(facts, was, &word));
        } else {
            let cause = format!("The executable is built otherwise: {word}, it was {was}.");
            found.push(finding(Delta::default(), cause, String::new()));
        }
    }
    found
}

fn relro(facts: &Facts<'_>, before: &str, now: &str) -> Finding {
    let strip = |word: &str| word.trim_start_matches("relro ").to_owned();
    let (was, is) = (strip(before), strip(now));
    let cause = match (was.as_str(), is.as_str()) {
        ("none", _) => format!(
            "GNU_RELRO added (relro none → {is}): once relocated, the pages of constant pointers are a read-only region of their own."
        ),
        (_, "none") => format!("GNU_RELRO removed (relro {was} → none): the pages of constant pointers stay writable."),
        ("partial", _) => "Full RELRO instead of partial: every symbol is bound at the start, and the table of addresses \
                           (.got.plt) is read-only as well."
            .to_owned(),
        _ => format!("RELRO changed from {was} to {is}."),
    };
    let mut change = Delta {
        anon: Some(0),
        ..Delta::default()
    };
    let mut rows = BTreeSet::new();
    let is_library = facts.map.sum(|role| role.is_elf() && role < Role::LibHeaders).count == 0;
    for role in RELRO_ROWS
        .into_iter()
        .filter(|role| (*role >= Role::LibHeaders) == is_library)
    {
        let delta = facts.delta(role);
        let shown = |state: &crate::model::State| state.rows.contains_key(&RowKey::Role(role));
        if !delta.is_zero() && (shown(facts.now) || facts.before.is_some_and(shown)) {
            change = change.plus(delta);
            rows.insert(RowKey::Role(role));
        }
    }
    let regions = facts
        .old
        .and_then(|old| Some(i128::from(facts.map.process.mappings?) - i128::from(old.process.mappings?)))
        .filter(|step| *step != 0)
        .map_or(String::new(), |step| {
            let noun = if step.abs() == 1 { "region" } else { "regions" };
            format!("{step:+} {noun} of the process in all.")
        });
    let of = |wanted: Role| Some(facts.map.sum(|role| role == wanted)).filter(|sum| sum.count > 0);
    // The hardening line is the executable's; a library that is looked at by itself has one too.
    let stands = [Role::ExeRelro, Role::LibRelro]
        .into_iter()
        .find_map(|role| Some((role, of(role)?)));
    let now = stands.map_or(String::new(), |(role, sum)| match sum.anon {
        Some(anon) => format!("{role} is {} now, {} of it anonymous.", size(sum.reserved), size(anon)),
        None => format!("{role} is {} now.", size(sum.reserved)),
    });
    let cost = if change.is_zero() && rows.is_empty() {
        String::new()
    } else if change.is_zero() {
        "No more memory in all: the bytes moved from one row to the other.".to_owned()
    } else {
        plain_cost(change)
    };
    // RELRO ends at a page boundary, and the linker may put padding before it.
    let alone = i128::from(facts.map.page_bytes.max(1)) * 2;
    let rest = if change.reserved.abs() > alone {
        "RELRO by itself takes no more than two pages: the rest is data that the file has more of, or less.".to_owned()
    } else {
        String::new()
    };
    Finding {
        rows,
        ..finding(change, cause, sentences(&[cost, rest, regions, now]))
    }
}

fn finding(change: Delta, cause: String, cost: String) -> Finding {
    Finding {
        rows: BTreeSet::new(),
        change,
        cause,
        cost,
        remedies: Vec::new(),
    }
}
