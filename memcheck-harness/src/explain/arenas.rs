//! Causes in malloc: glibc's secondary arenas, their number, and what is committed of their address space.

use std::collections::BTreeSet;

use super::{Delta, Facts, Finding, cost, counted, memory, names, sentences, size};
use crate::model::{ArenaFact, MemoryMap, Name, Role, RowKey, StackState, ThreadFact};

/// What 64-bit glibc reserves for a heap by default (`HEAP_MAX_SIZE`, malloc/arena.c).
const HEAP: i128 = 64 << 20;

/// Causes of a changed `thread-arena` row that no earlier finding has taken along.
pub(super) fn changed(facts: &Facts<'_>, explained: &[Finding]) -> Option<Finding> {
    let row = RowKey::Role(Role::ThreadArena);
    let delta = facts.delta(Role::ThreadArena);
    if delta.is_zero() || !facts.is_known(Role::ThreadArena) || explained.iter().any(|finding| finding.rows.contains(&row)) {
        return None;
    }
    let cause = match delta.count {
        0 if delta.reserved > 0 => match delta.reserved / HEAP {
            _ if delta.reserved % HEAP != 0 => "More address space in as many malloc arenas as before.".to_owned(),
            1 => "An arena needed a further 64 MiB heap: as many malloc arenas as before.".to_owned(),
            many => format!("Arenas needed {many} further 64 MiB heaps: as many malloc arenas as before."),
        },
        0 if delta.reserved < 0 => "Less address space in as many malloc arenas as before.".to_owned(),
        0 if delta.anon.unwrap_or(0) > 0 && memory::blocks(facts, "thread-arena").is_some() => format!(
            "More pages were written in as many malloc arenas as before: {}; which code asked for them is not known.",
            memory::blocks(facts, "thread-arena").unwrap_or_default()
        ),
        0 if delta.anon.unwrap_or(0) > 0 => format!(
            "More pages were written in as many malloc arenas as before{}; which code asked for them is not known.",
            memory::not_walked(facts, Role::ThreadArena)
        ),
        0 => "Fewer pages are in memory in as many malloc arenas as before.".to_owned(),
        count if count < 0 => format!(
            "{} fewer malloc {}{}.",
            -count,
            if count == -1 { "arena" } else { "arenas" },
            standing_clause(facts)
        ),
        count => format!(
            "{count} more malloc {}{}{}.",
            if count == 1 { "arena" } else { "arenas" },
            attached_to(facts, count),
            standing_clause(facts)
        ),
    };
    let grew = delta.count > 0 || delta.reserved > 0;
    Some(finding(facts, delta, cause, grew))
}

/// What stands there when a limit is broken without a change.
pub(super) fn standing(facts: &Facts<'_>) -> Finding {
    let count = facts.map.sum(|role| role == Role::ThreadArena).count;
    let cause = format!(
        "{} besides the main one{}.",
        counted(i128::from(count), "malloc arena"),
        standing_clause(facts)
    );
    finding(facts, Delta::default(), cause, count > 0)
}

fn finding(facts: &Facts<'_>, delta: Delta, cause: String, grew: bool) -> Finding {
    Finding {
        rows: BTreeSet::from([RowKey::Role(Role::ThreadArena)]),
        change: delta,
        cause,
        cost: sentences(&[cost(delta), if grew { address_space(facts) } else { String::new() }]),
        remedies: if grew { remedies() } else { Vec::new() },
    }
}

/// `, attached to worker-4`: the threads that allocate from the arenas that are new, when each arena has one and it is
/// known which they are: all, or those that the other side's arenas leave.
fn attached_to(facts: &Facts<'_>, count: i128) -> String {
    let Some(mut new) = users(facts.map) else {
        return String::new();
    };
    if new.len() as i128 != count {
        let Some(before) = facts.old.and_then(users) else {
            return String::new();
        };
        for name in before {
            match new.iter().position(|other| *other == name) {
                Some(at) => drop(new.remove(at)),
                None => return String::new(),
            }
        }
    }
    let phrase = names::compress(&new);
    if new.len() as i128 == count && !phrase.is_empty() {
        format!(", attached to {phrase}")
    } else {
        String::new()
    }
}

/// The names of the threads that allocate from secondary arenas, one for each arena; `None` when that is not known of one.
fn users(map: &MemoryMap) -> Option<Vec<Option<&Name>>> {
    let name = |arena: &ArenaFact| match arena.threads.as_deref() {
        Some([tid]) => {
            let thread = map.threads.iter().find(|thread| thread.tid == Some(*tid));
            Some(thread.and_then(|thread| thread.name.as_ref()))
        }
        _ => None,
    };
    map.arenas.as_ref()?.iter().map(name).collect()
}

/// `: 8 threads, 8 arenas: one each`, or the bare numbers when nothing more is proven.
fn standing_clause(facts: &Facts<'_>) -> String {
    if let Some(many) = one_each(facts) {
        return format!(": {}, {}: one each", counted(many, "thread"), counted(many, "arena"));
    }
    match &facts.map.arenas {
        Some(arenas) => format!(
            ": {} and {} now, besides the main ones",
            counted(arenas.len() as i128, "arena"),
            counted(workers(facts).count() as i128, "thread")
        ),
        None => String::new(),
    }
}

/// Number of threads besides the main one, when each of them allocates from an arena of its own, and there is no other.
pub(super) fn one_each(facts: &Facts<'_>) -> Option<i128> {
    let arenas = facts.map.arenas.as_ref()?;
    let users: Option<BTreeSet<i32>> = arenas
        .iter()
        .map(|arena| match arena.threads.as_deref() {
            Some([tid]) => Some(*tid),
            _ => None,
        })
        .collect();
    let threads: Option<BTreeSet<i32>> = workers(facts).map(|thread| thread.tid).collect();
    let users = users.filter(|users| users.len() == arenas.len() && threads.as_ref() == Some(users))?;
    (!users.is_empty()).then_some(users.len() as i128)
}

fn workers<'a>(facts: &Facts<'a>) -> impl Iterator<Item = &'a ThreadFact> {
    let threads = facts.map.threads.iter();
    threads.filter(|thread| thread.state == StackState::Live && !thread.main)
}

/// Why arenas reserve so much: `HEAP_MAX_SIZE` and `arena_get2` of glibc's malloc/arena.c.
pub(super) fn address_space(facts: &Facts<'_>) -> String {
    let committed = facts.map.arenas.as_ref().map_or(0, |arenas| {
        arenas
            .iter()
            .flat_map(|arena| &arena.heaps)
            .map(|heap| heap.committed_bytes)
            .sum()
    });
    if committed == 0 {
        return String::new();
    }
    // 64 MiB is what 64-bit glibc reserves by default; tunables for huge pages and other builds choose otherwise.
    let heaps: u64 = facts.map.arenas.iter().flatten().map(|arena| arena.heaps.len() as u64).sum();
    let reserved = facts.map.sum(|role| role == Role::ThreadArena).reserved;
    let space = if Some(reserved) == heaps.checked_mul(64 << 20) {
        "64 MiB of address space each".to_owned()
    } else {
        format!("{} of address space", size(reserved))
    };
    format!(
        "glibc gives each thread that calls malloc at the same time as others its own arena: {space}, of which only {} are \
         committed in all.",
        size(committed)
    )
}

pub(super) fn remedies() -> Vec<String> {
    vec![
        "fewer arenas: env = { MALLOC_ARENA_MAX = \"2\" } in memcheck.toml, and in production (glibc's own limit is 8 per core)"
            .to_owned(),
    ]
}
