//! Causes in threads: stacks of live, exited and cached threads, with the guards and signal stacks that follow them.
//! Which of several live threads is new is not known, and not claimed; an exited thread has no name any more.

use std::collections::{BTreeMap, BTreeSet};

use super::{Column, Delta, Facts, Finding, arenas, cost, counted, names, sentences, size};
use crate::model::{MemoryMap, Name, Role, RowKey, StackState, ThreadFact};

const STACKS: [Role; 4] = [
    Role::ThreadStackExited,
    Role::ThreadStackLive,
    Role::ThreadStackCached,
    Role::ThreadStackUser,
];

/// Causes of changed stack rows.
pub(super) fn changed(facts: &Facts<'_>) -> Vec<Finding> {
    if facts.before.is_none() {
        return Vec::new();
    }
    let followers = followers(facts);
    STACKS
        .into_iter()
        .filter_map(|role| {
            let delta = facts.delta(role);
            let threads = if role == Role::ThreadStackLive {
                facts.row_delta(&RowKey::Threads).count
            } else {
                0
            };
            if (delta.is_zero() && threads == 0) || !facts.is_known(role) {
                return None;
            }
            let mut finding = match (role, delta.count) {
                (Role::ThreadStackLive, 0) if threads != 0 => live(facts, threads, delta),
                (_, 0) => resized(facts, role, delta),
                (Role::ThreadStackLive, count) => live(facts, count, delta),
                (_, count) => finding(
                    role,
                    delta,
                    ended(facts, role, count, total(facts, role)),
                    remedies(role, count > 0),
                ),
            };
            followers.add_to(&mut finding, role, delta.count);
            let with_arenas = finding.rows.contains(&RowKey::Role(Role::ThreadArena));
            finding.cost = if with_arenas {
                let explained = arenas::address_space(facts);
                sentences(&[
                    included(cost(finding.change), &finding),
                    // What came beside the threads is theirs only where that is known of each.
                    arenas::one_each(facts).map_or(String::new(), |_| each_thread(facts, finding.change, delta.count)),
                    explained,
                ])
            } else {
                sentences(&[included(cost(finding.change), &finding), each(facts, role, delta.count > 0)])
            };
            Some(finding)
        })
        .collect()
}

/// The rows that follow the stacks are folded in the table: the sentence says that it counts them.
fn included(cost: String, finding: &Finding) -> String {
    let follows = |role| finding.rows.contains(&RowKey::Role(role));
    let what = match (follows(Role::Guard), follows(Role::SignalStack)) {
        (true, true) => "guards and signal stacks",
        (true, false) => "guards",
        (false, true) => "signal stacks",
        (false, false) => return cost,
    };
    match cost.strip_suffix('.') {
        Some(sentence) => format!("{sentence}, {what} included."),
        None => cost,
    }
}

/// What stands there when a limit is broken without a change.
pub(super) fn standing(facts: &Facts<'_>, role: Role) -> Finding {
    let now = facts.map.sum(|other| other == role);
    let cause = if role == Role::ThreadStackLive {
        let workers = workers(facts);
        match workers.len() {
            0 => "Only the main thread runs.".to_owned(),
            many => format!(
                "{} besides the main one: {}.",
                counted(many as i128, "thread"),
                names::compress(&workers)
            ),
        }
    } else {
        ended(facts, role, i128::from(now.count), None)
    };
    let mut finding = finding(role, Delta::default(), cause, remedies(role, true));
    finding.rows.insert(RowKey::Role(role));
    finding.cost = sentences(&[
        match (now.count, now.anon) {
            (0, _) => String::new(),
            (_, Some(anon)) => format!("{} reserved, {} anonymous in all.", size(now.reserved), size(anon)),
            (_, None) => format!("{} reserved in all.", size(now.reserved)),
        },
        each(facts, role, now.count > 0),
    ]);
    finding
}

fn finding(role: Role, change: Delta, cause: String, remedies: Vec<String>) -> Finding {
    let mut rows = BTreeSet::from([RowKey::Role(role)]);
    if role == Role::ThreadStackLive {
        rows.insert(RowKey::Threads);
    }
    Finding {
        rows,
        change,
        cause,
        cost: String::new(),
        remedies,
    }
}

/// More or fewer live threads. When each new thread came with an arena, both are one cause.
fn live(facts: &Facts<'_>, count: i128, delta: Delta) -> Finding {
    let workers = workers(facts);
    let prior = workers.len() as i128 - count;
    let phrase = names::compress(&workers);
    let more = if count > 0 { "more" } else { "fewer" };
    let noun = if count.abs() == 1 { "thread" } else { "threads" };
    let mut cause = format!("{} {more} {noun}", count.unsigned_abs());
    if let Some(new) = new_names(facts, count) {
        cause += &format!(": {new}");
        if prior > 0 {
            cause += &format!(" ({} besides the main one)", workers.len());
        }
    } else if !phrase.is_empty() && prior >= 0 {
        // Names of the new ones are known only when there was none before.
        cause += &if prior == 0 {
            format!(": {phrase}")
        } else {
            format!(" ({} now besides the main one: {phrase})", workers.len())
        };
    }
    let arenas_delta = facts.delta(Role::ThreadArena);
    let with_arenas = count > 0 && arenas_delta.count == count;
    let mut finding = finding(Role::ThreadStackLive, delta, String::new(), Vec::new());
    if with_arenas {
        cause += &match arenas::one_each(facts) {
            Some(many) => format!("; {}, {}: one each", counted(many, "thread"), counted(many, "arena")),
            None => format!("; {} more malloc {}", count, if count == 1 { "arena" } else { "arenas" }),
        };
        finding.rows.insert(RowKey::Role(Role::ThreadArena));
        finding.change = finding.change.plus(arenas_delta);
        finding.remedies = arenas::remedies();
    }
    finding.cause = format!("{cause}.");
    finding
}

/// The names of the threads that came, or went, when the other side's threads are known: those that only one side has, if they
/// are exactly as many as the count says.
fn new_names(facts: &Facts<'_>, count: i128) -> Option<String> {
    let old: Vec<Option<&Name>> = live_threads(&facts.old?.threads).map(|thread| thread.name.as_ref()).collect();
    let now = workers(facts);
    let (mut more, less) = if count > 0 { (now, old) } else { (old, now) };
    for name in less {
        // A thread of the smaller side that the larger one lacks: then it is not known which is which.
        let at = more.iter().position(|other| *other == name)?;
        more.remove(at);
    }
    let phrase = names::compress(&more);
    (more.len() as i128 == count.abs() && !phrase.is_empty()).then_some(phrase)
}

fn ended(facts: &Facts<'_>, role: Role, count: i128, in_all: Option<u64>) -> String {
    // Others keep it too; the word stands for what was recognised.
    let libc = if facts.map.arenas.is_some() { "glibc" } else { "libc" };
    let number = count.unsigned_abs();
    let (noun, is, its) = if number == 1 {
        ("thread", "is", "its stack")
    } else {
        ("threads", "are", "their stacks")
    };
    let more = match (count < 0, in_all) {
        (true, _) => " fewer",
        (false, Some(_)) => " more",
        (false, None) => "",
    };
    let all = in_all.map_or(String::new(), |all| format!(" ({all} in all)"));
    match role {
        Role::ThreadStackExited if count < 0 => {
            format!("{number}{more} {noun} ended without being joined or detached{all}.")
        }
        Role::ThreadStackExited => format!(
            "{number}{more} {noun} ended and {is} not joined or detached yet{all}: {libc} keeps {its} mapped until pthread_join."
        ),
        Role::ThreadStackCached if count < 0 => format!("{number}{more} {noun} left a stack in glibc's cache{all}."),
        Role::ThreadStackCached => {
            format!(
                "{number}{more} {noun} ended and left {its} in glibc's cache for the next thread{all}: no leak, reused later."
            )
        }
        _ => format!("{number}{more} {noun} on a stack that the program supplied itself{all}."),
    }
}

fn remedies(role: Role, grew: bool) -> Vec<String> {
    if role == Role::ThreadStackExited && grew {
        vec![
            "join threads: pthread_join or pthread_detach each; in C a thread may call pthread_detach(pthread_self()), in Rust join or \
             drop its JoinHandle"
                .to_owned(),
        ]
    } else {
        Vec::new()
    }
}

/// Items of a role now, when there were some of them before.
fn total(facts: &Facts<'_>, role: Role) -> Option<u64> {
    facts
        .approved(role, Column::Count)
        .filter(|count| *count > 0)
        .and_then(|_| super::value(Column::Count.of(facts.now.rows.get(&RowKey::Role(role)))))
}

/// As many stacks as before, of another size or with other pages in memory.
fn resized(facts: &Facts<'_>, role: Role, delta: Delta) -> Finding {
    let count = facts.map.sum(|other| other == role).count;
    let now = (count > 0).then(|| sizes(facts.map, role)).and_then(|sizes| sizes.reserved());
    // Without the other side's map only their sum is known: one size is told of several stacks only with it.
    let before = match facts.old {
        Some(old) => sizes(old, role).reserved(),
        None => facts.approved(role, Column::Reserved).filter(|_| count == 1),
    };
    let average = facts
        .approved(role, Column::Reserved)
        .and_then(|bytes| bytes.checked_div(count))
        .filter(|_| before.is_none());
    let cause = match (before, now) {
        (Some(before), Some(now)) if delta.reserved != 0 => {
            let why = match facts.map.stack_limit_bytes {
                Some(limit) if limit == now && facts.old.is_some_and(|old| old.stack_limit_bytes == Some(before)) => format!(
                    "the stack limit (`ulimit -s`) the target runs with changed from {} to {} as well",
                    size(before),
                    size(limit)
                ),
                Some(limit) if limit == now => format!(
                    "now equal to the stack limit (`ulimit -s`) the target runs with, {}",
                    size(limit)
                ),
                Some(limit) => format!(
                    "the stack limit is {}, so the size comes from elsewhere (an attribute, a runtime's default)",
                    size(limit)
                ),
                None => "the stack limit is not known, or unlimited".to_owned(),
            };
            format!("Stacks of {role} changed from {} to {} each: {why}.", size(before), size(now))
        }
        (None, Some(now)) if delta.reserved != 0 && average.is_some() => format!(
            "As many stacks of {role} as before, of other sizes: {} each now, {} on average before{}.",
            size(now),
            size(average.unwrap_or_default()),
            match facts.map.stack_limit_bytes {
                Some(limit) if limit == now => "; the stack limit (`ulimit -s`) the target runs with is as large",
                _ => "",
            }
        ),
        _ if delta.reserved != 0 => format!("As many stacks of {role} as before, of other sizes."),
        _ if delta.anon.unwrap_or(0) > 0 => {
            format!("As many stacks of {role} as before, with more pages written: threads went deeper, or keep more there.")
        }
        _ => format!("As many stacks of {role} as before, with fewer pages written."),
    };
    finding(role, delta, cause, Vec::new())
}

/// Names of the live threads besides the main one.
fn workers<'a>(facts: &Facts<'a>) -> Vec<Option<&'a Name>> {
    live_threads(&facts.map.threads).map(|thread| thread.name.as_ref()).collect()
}

fn live_threads(threads: &[ThreadFact]) -> impl Iterator<Item = &ThreadFact> {
    threads
        .iter()
        .filter(|thread| thread.state == StackState::Live && !thread.main)
}

/// Least and most bytes of the items of a role.
struct Sizes {
    reserved: Option<(u64, u64)>,
    anon: Option<(u64, u64)>,
}

impl Sizes {
    /// The size of all, when it is one.
    fn reserved(&self) -> Option<u64> {
        self.reserved.filter(|(least, most)| least == most).map(|(least, _)| least)
    }
}

fn sizes(map: &MemoryMap, role: Role) -> Sizes {
    let mut items: BTreeMap<usize, (u64, Option<u64>)> = BTreeMap::new();
    for piece in map.pieces.iter().filter(|piece| piece.role == role) {
        let item = items.entry(piece.item).or_insert((0, Some(0)));
        item.0 += piece.reserved_bytes();
        item.1 = item.1.zip(piece.anon_bytes).map(|(a, b)| a + b);
    }
    let range = |values: Vec<u64>| values.iter().min().copied().zip(values.iter().max().copied());
    Sizes {
        reserved: range(items.values().map(|item| item.0).collect()),
        anon: items
            .values()
            .map(|item| item.1)
            .collect::<Option<Vec<u64>>>()
            .and_then(range),
    }
}

/// What each stack of a role costs, as far as the map shows.
fn each(facts: &Facts<'_>, role: Role, wanted: bool) -> String {
    let sizes = sizes(facts.map, role);
    let Some(reserved) = sizes.reserved.filter(|_| wanted) else {
        return String::new();
    };
    let range = |(least, most): (u64, u64)| match least == most {
        true => size(least),
        false => format!("{} to {}", size(least), size(most)),
    };
    let limit = match facts.map.stack_limit_bytes {
        Some(limit) if reserved == (limit, limit) => ", equal to the stack limit (`ulimit -s`) the target runs with",
        _ => "",
    };
    let anon = sizes
        .anon
        .map_or(String::new(), |anon| format!("; {} anonymous", range(anon)));
    format!("Each stack: {} reserved{limit}{anon}.", range(reserved))
}

/// What each of `count` new threads costs with its arena; nothing when they are not alike.
fn each_thread(facts: &Facts<'_>, change: Delta, count: i128) -> String {
    let (stacks, arenas) = (sizes(facts.map, Role::ThreadStackLive), sizes(facts.map, Role::ThreadArena));
    let even = |bytes: i128| {
        u64::try_from(bytes)
            .ok()
            .filter(|_| bytes % count == 0)
            .map(|_| bytes / count)
    };
    let Some(reserved) = even(change.reserved).filter(|_| stacks.reserved().is_some() && arenas.reserved().is_some()) else {
        return String::new();
    };
    let alike = |sizes: &Sizes| sizes.anon.is_some_and(|(least, most)| least == most);
    let anon = change.anon.and_then(even).filter(|_| alike(&stacks) && alike(&arenas));
    let show = |bytes: i128| size(u64::try_from(bytes).unwrap_or(0));
    match anon {
        Some(anon) => format!("Each thread: {} reserved, {} anonymous.", show(reserved), show(anon)),
        None => format!("Each thread: {} reserved.", show(reserved)),
    }
}

/// Guards and signal stacks that changed by exactly as many as the threads did.
struct Followers {
    /// Change per stack of any kind.
    guard: Option<Delta>,
    /// Change per live thread, its own guard included.
    signal: Option<Delta>,
}

fn followers(facts: &Facts<'_>) -> Followers {
    let count = |role| facts.delta(role).count;
    let stacks = count(Role::ThreadStackLive) + count(Role::ThreadStackExited) + count(Role::ThreadStackCached);
    let live = count(Role::ThreadStackLive) + count(Role::ThreadStackUser);
    let per = |delta: Delta, number: i128| {
        let even = |bytes: i128| (number != 0 && bytes % number == 0).then(|| bytes / number);
        Some(Delta {
            count: even(delta.count)?,
            reserved: even(delta.reserved)?,
            anon: delta.anon.and_then(even),
        })
    };
    let signal = facts.delta(Role::SignalStack);
    let signal = (live != 0 && signal.count == live).then_some(signal);
    let guard = facts.delta(Role::Guard);
    // A signal stack mapped by Rust's std has a guard page of its own, which may be labelled with it or as a guard.
    let follows = stacks != 0 && (guard.count == stacks || (signal.is_some() && stacks == live && guard.count == stacks + live));
    Followers {
        guard: follows.then(|| per(guard, stacks)).flatten(),
        signal: signal.and_then(|delta| per(delta, live)),
    }
}

impl Followers {
    /// Counts what follows `count` stacks of a role into their cause.
    fn add_to(&self, finding: &mut Finding, role: Role, count: i128) {
        let times = |delta: Delta| Delta {
            count: delta.count * count,
            reserved: delta.reserved * count,
            anon: delta.anon.map(|anon| anon * count),
        };
        if count == 0 {
            return;
        }
        let has_guard = role != Role::ThreadStackUser;
        if let Some(guard) = self.guard.filter(|_| has_guard) {
            finding.rows.insert(RowKey::Role(Role::Guard));
            finding.change = finding.change.plus(times(guard));
        }
        let is_live = matches!(role, Role::ThreadStackLive | Role::ThreadStackUser);
        if let Some(signal) = self.signal.filter(|_| is_live) {
            finding.rows.insert(RowKey::Role(Role::SignalStack));
            finding.change = finding.change.plus(times(signal));
        }
    }
}
