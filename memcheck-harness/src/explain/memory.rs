//! Causes in all other memory: heap, large allocations, mappings, the executable's data, the main stack. Counts and names
//! say what grew; which code did it they do not say, and neither do we.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::{Delta, Facts, Finding, cost, plain_cost, signed, size};
use crate::model::{ArenaFact, MemoryMap, Metric, Name, Role, RowKey};

/// Names of mapped files shown before the rest is only counted.
const SHOWN: usize = 3;

/// Causes of changed rows that no earlier finding speaks of, largest first; what has no words of its own is one last finding.
pub(super) fn changed(facts: &Facts<'_>, explained: &[Finding]) -> Vec<Finding> {
    let Some(before) = facts.before else {
        return Vec::new();
    };
    let keys: BTreeSet<&RowKey> = before.rows.keys().chain(facts.now.rows.keys()).collect();
    let mut found = Vec::new();
    let mut unknown: Vec<(Role, Delta)> = Vec::new();
    for key in keys {
        let RowKey::Role(role) = key else { continue };
        let delta = facts.delta(*role);
        if delta.is_zero() || explained.iter().any(|finding| finding.rows.contains(key)) {
            continue;
        }
        match sentence(facts, *role, delta).filter(|_| facts.is_known(*role)) {
            Some(cause) => found.push(finding([*role], delta, cause, cost_of(*role, delta))),
            None => unknown.push((*role, delta)),
        }
    }
    if !unknown.is_empty() {
        let total = unknown.iter().fold(
            Delta {
                anon: Some(0),
                ..Delta::default()
            },
            |sum, (_, delta)| sum.plus(*delta),
        );
        let roles: Vec<&str> = unknown.iter().map(|(role, _)| role.name()).collect();
        let cause = format!("{} changed; it is not known which code did it.", list(&roles));
        found.push(finding(
            unknown.iter().map(|(role, _)| *role),
            total,
            cause,
            plain_cost(total),
        ));
    }
    found
}

/// A limit on one role is broken without a change.
pub(super) fn standing(facts: &Facts<'_>, role: Role) -> Finding {
    let now = facts.map.sum(|other| other == role);
    let anon = now.anon.map_or(String::new(), |anon| {
        format!(", of which {} are anonymous memory", size(anon))
    });
    let many = if now.count == 1 {
        String::new()
    } else {
        format!(" in {} pieces", now.count)
    };
    let cause = format!(
        "{role} is {}{many}{anon}; it is not known which code asked for it.",
        size(now.reserved)
    );
    finding([role], Delta::default(), cause, String::new())
}

/// A limit on a sum is broken without a change: its largest parts.
pub(super) fn largest(facts: &Facts<'_>, include: fn(Role) -> bool, reserved: bool) -> Finding {
    let mut parts: Vec<(Role, u64)> = facts
        .map
        .by_role()
        .into_iter()
        .filter(|(role, _)| include(*role))
        .filter_map(|(role, sum)| Some((role, if reserved { sum.reserved } else { sum.anon? })))
        .filter(|(_, bytes)| *bytes > 0)
        .collect();
    parts.sort_by_key(|(role, bytes)| (Reverse(*bytes), *role));
    let shown: Vec<String> = parts
        .iter()
        .take(SHOWN)
        .map(|(role, bytes)| format!("{role} {}", size(*bytes)))
        .collect();
    let kind = if reserved { "address space" } else { "anonymous memory" };
    let cause = match shown.as_slice() {
        [] => format!("No role holds {kind}; it is not known what the sum is made of."),
        [one] => format!("The only {kind}: {one}."),
        many => format!("The largest parts, {kind}: {}.", many.join(", ")),
    };
    finding(
        parts.into_iter().take(SHOWN).map(|(role, _)| role),
        Delta::default(),
        cause,
        String::new(),
    )
}

fn finding(roles: impl IntoIterator<Item = Role>, change: Delta, cause: String, cost: String) -> Finding {
    Finding {
        rows: roles.into_iter().map(RowKey::Role).collect(),
        change,
        cause,
        cost,
        remedies: Vec::new(),
    }
}

/// Of these, what is not anonymous is address space only; elsewhere it may be pages of files.
fn cost_of(role: Role, delta: Delta) -> String {
    match role {
        Role::MainHeap | Role::MmapChunk | Role::AnonMap | Role::Guard | Role::SignalStack | Role::MainStack => cost(delta),
        _ => plain_cost(delta),
    }
}

fn sentence(facts: &Facts<'_>, role: Role, delta: Delta) -> Option<String> {
    let grew = delta.reserved > 0 || (delta.reserved == 0 && delta.anon.unwrap_or(0) > 0);
    let more = if delta.count >= 0 { "more" } else { "fewer" };
    let number = delta.count.unsigned_abs();
    let unknown = "which code asked for it is not known";
    Some(match role {
        Role::MainHeap if delta.count > 0 => {
            format!("The program now has a brk heap, where malloc takes small requests; {unknown}.")
        }
        Role::MainHeap if delta.count < 0 => "The program has no brk heap any more.".to_owned(),
        Role::MainHeap if delta.reserved > 0 => match blocks(facts, "main-heap") {
            Some(blocks) => format!("The brk heap was extended: {blocks}; {unknown}."),
            None => format!(
                "The brk heap was extended: live and freed blocks of malloc need more room{}; {unknown}.",
                not_walked(facts, role)
            ),
        },
        Role::MainHeap if grew && blocks(facts, "main-heap").is_some() => {
            let blocks = blocks(facts, "main-heap").unwrap_or_default();
            format!("More pages of the brk heap were written, its size is unchanged: {blocks}; {unknown}.")
        }
        Role::MainHeap if grew => format!(
            "More pages of the brk heap were written, its size is unchanged{}; {unknown}.",
            not_walked(facts, role)
        ),
        Role::MainHeap => "The brk heap became smaller, or fewer of its pages are in memory.".to_owned(),
        Role::MmapChunk if delta.count != 0 => format!(
            "{number} {more} large {} with a mapping of {} own (malloc maps each request of 128 KiB and more by default); {unknown}.",
            if number == 1 { "allocation" } else { "allocations" },
            if number == 1 { "its" } else { "their" },
        ),
        Role::MmapChunk if delta.reserved != 0 => format!("As many large allocations as before, of other sizes; {unknown}."),
        Role::MmapChunk if grew => {
            "More pages of large allocations were written; their number and sizes are unchanged.".to_owned()
        }
        Role::MmapChunk => "Fewer pages of large allocations are in memory; their number and sizes are unchanged.".to_owned(),
        Role::AnonMap if delta.count != 0 => format!(
            "{number} {more} anonymous {} that no stack, heap or allocator known here accounts for{}; which code made it is not known.",
            if number == 1 { "mapping" } else { "mappings" },
            noreserve(facts)
        ),
        Role::AnonMap if delta.reserved != 0 => "As many anonymous mappings as before, of other sizes.".to_owned(),
        Role::ExeData | Role::ExeBss | Role::LibData | Role::LibBss if delta.reserved != 0 => format!(
            "The {} of {} {} in the file itself: static variables, or what the linker placed there.",
            if matches!(role, Role::ExeBss | Role::LibBss) {
                "zero-initialised data"
            } else {
                "initialised data"
            },
            if role.name().starts_with("exe") {
                "the executable"
            } else {
                "the program's own objects"
            },
            if delta.reserved > 0 { "grew" } else { "shrank" },
        ),
        Role::ExeData | Role::ExeBss | Role::LibData | Role::LibBss if grew => {
            format!("More pages of static variables ({role}) were written; the file's segment has the same size.")
        }
        role if role.is_elf() && delta.count != 0 => format!(
            "{number} {more} {role} {} in the file itself: the linker laid it out otherwise (such as by -z separate-code), or \
             there is something new to put there.",
            if number == 1 { "segment" } else { "segments" }
        ),
        role @ Role::Allocator(_) if delta.count > 0 && facts.approved(role, super::Column::Count).is_none() => {
            format!("Memory of another allocator or runtime: {role} was not there before.")
        }
        role if role.is_elf() && delta.reserved != 0 => {
            format!("{role} changed in the file itself: compiler, linker or code, not run-time behaviour.")
        }
        Role::FileMap if delta.count != 0 => {
            format!(
                "{number} {more} mapped {}{}.",
                if number == 1 { "file" } else { "files" },
                mapped(facts, role)
            )
        }
        Role::FileMap => format!(
            "As many mapped files as before, of other sizes or with other pages written{}.",
            mapped(facts, role)
        ),
        Role::SharedMap if delta.count != 0 => format!(
            "{number} {more} {} of shared memory (memfd, System V or shared anonymous).",
            if number == 1 { "mapping" } else { "mappings" }
        ),
        Role::MainStack if grew => {
            "More of the main thread's stack is used: deeper calls, or longer arguments and environment; which is not known."
                .to_owned()
        }
        Role::MainStack => {
            "Less of the main thread's stack is used: less deep calls, or shorter arguments and environment.".to_owned()
        }
        Role::SignalStack if delta.count != 0 => format!(
            "{number} {more} alternate signal {}, not in step with the threads.",
            if number == 1 { "stack" } else { "stacks" }
        ),
        Role::Guard if delta.count != 0 => format!(
            "{number} {more} inaccessible {}, not in step with the threads: address space only.",
            if number == 1 { "guard" } else { "guards" }
        ),
        _ => return None,
    })
}

/// What became of the blocks of a heap, where chunks could be walked on both sides: grown, or fragmented.
pub(super) fn blocks(facts: &Facts<'_>, heap: &str) -> Option<String> {
    let step = |measure: &str| {
        let metric = Metric::parse(&format!("{heap}.{measure}")).ok()?;
        let (old, now) = (facts.old?.metric(&metric)?, facts.map.metric(&metric)?);
        Some(i128::from(now) - i128::from(old))
    };
    let (used, free) = (step("used")?, step("free")?);
    let kind = match (used, free) {
        (used, free) if used > 0 && used >= free => "it grew, as more is live",
        (used, free) if used <= 0 && free > 0 => "more of it lies free, not more is live",
        _ => "partly more is live, partly more lies free",
    };
    Some(format!("{kind} (live blocks {}, freed ones {})", signed(used), signed(free)))
}

/// That it is not known what became of the blocks of a heap, where both sides are there and nobody had asked for its chunks.
pub(super) fn not_walked(facts: &Facts<'_>, heap: Role) -> &'static str {
    let is = |map: &MemoryMap| map.malloc_doubt(heap).as_deref() == Some(ArenaFact::NOT_WALKED);
    if facts.old.is_some_and(|old| is(old) || is(facts.map)) {
        "; whether more is live or more lies free is not known, as malloc's chunks were not walked"
    } else {
        ""
    }
}

/// `, mapped MAP_NORESERVE`: when that many more bytes are as there are more mappings.
fn noreserve(facts: &Facts<'_>) -> &'static str {
    let bytes = |map: &MemoryMap| -> Option<u64> {
        let pieces = map.pieces.iter().filter(|piece| piece.role == Role::AnonMap);
        pieces
            .map(|piece| Some(if piece.noreserve? { piece.reserved_bytes() } else { 0 }))
            .sum()
    };
    let step = facts
        .old
        .and_then(bytes)
        .zip(bytes(facts.map))
        .map(|(old, now)| i128::from(now) - i128::from(old));
    match step {
        Some(step) if step != 0 && step == facts.delta(Role::AnonMap).reserved => {
            ", with MAP_NORESERVE: not counted against the commit limit"
        }
        _ => "",
    }
}

/// `; mapped now: a.bin, b.bin and 2 others`: which of them is new is not known, unless the other side's map
/// tells: then `: c.bin`.
fn mapped(facts: &Facts<'_>, role: Role) -> String {
    let mut names = files(facts.map, role);
    let mut lead = "; mapped now: ";
    if let Some(old) = facts.old {
        let old = files(old, role);
        let new: BTreeSet<Name> = names.difference(&old).cloned().collect();
        if !new.is_empty() && new.len() as i128 == facts.delta(role).count {
            (names, lead) = (new, ": ");
        }
    }
    if names.is_empty() {
        return String::new();
    }
    let shown: Vec<String> = names.iter().take(SHOWN).map(Name::to_string).collect();
    let left = names.len() - shown.len();
    let others = match left {
        0 => String::new(),
        1 => " and 1 other".to_owned(),
        _ => format!(" and {left} others"),
    };
    format!("{lead}{}{others}", shown.join(", "))
}

/// Names of the files behind the pieces of a role.
fn files(map: &MemoryMap, role: Role) -> BTreeSet<Name> {
    let pieces = map.pieces.iter().filter(|piece| piece.role == role);
    pieces
        .filter_map(|piece| map.items.get(piece.item))
        .map(|item| item.subject.file_name())
        .filter(|name| !name.is_empty())
        .collect()
}

pub(super) fn list<T: AsRef<str>>(words: &[T]) -> String {
    match words {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", first.join(", "), last.as_ref())
        }
    }
}
