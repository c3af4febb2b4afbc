//! Stacks of threads, their guards, and alternate signal stacks: claims and the facts reports show.
//! Which descriptors exist is `threads`' business.

use std::collections::BTreeSet;

use crate::model::{Evidence, FinishedStack, Name, Role, StackState, ThreadFact};

use super::interval::{Claims, Priority, certain, likely};
use super::loader::tls_bytes;
use super::process::{Area, Notes, Process};
use super::threads::{Descriptor, Found, List};

/// `PTHREAD_STACK_MIN`, and room for the descriptor and the last frames.
const LEFT_BY_OLD: u64 = (16 << 10) + (16 << 10);

/// Largest inaccessible mapping below a stack that is still taken for its guard.
const MAX_FOREIGN_GUARD: u64 = 2 << 20;

/// Largest alternate signal stack. Rust's std maps `SIGSTKSZ` or what the kernel asks for, 8 KiB to a few pages more.
const MAX_SIGNAL_STACK: u64 = 64 << 10;

/// Claims every known stack and its guard. The result lists the main thread first, then by address of the stack.
pub(super) fn claim(process: &Process<'_>, found: &Found<'_>, claims: &mut Claims, notes: &mut Notes) -> Vec<ThreadFact> {
    let mut facts = Vec::new();
    for (pd, descriptor) in &found.descriptors {
        let is_main = descriptor.thread.is_some_and(|thread| thread.tid == process.capture.pid);
        if descriptor.block == 0 {
            if !is_main && let Some(thread) = descriptor.thread {
                notes.add(format!("The stack of thread {} is not known to libc.", thread.tid));
            }
            continue;
        }
        let finished = finished(process, found, *pd).filter(|_| descriptor.thread.is_none());
        facts.extend(stack(process, descriptor, is_main, finished, claims));
    }
    let known: BTreeSet<i32> = facts.iter().filter_map(|fact| fact.tid).collect();
    for thread in &process.capture.threads {
        if known.contains(&thread.tid) {
            continue;
        }
        let main = thread.tid == process.capture.pid;
        // A leader that called pthread_exit stays as a zombie without registers until the others end.
        let unknown = thread.stack_pointer.is_none() && !process.capture.by_mappings;
        let zombie = main && unknown && process.capture.threads.len() > 1;
        facts.push(ThreadFact {
            tid: Some(thread.tid),
            name: Some(thread.name.clone()),
            main,
            state: if zombie { StackState::Exited } else { StackState::Live },
            user_stack: false,
            stack: None,
            guard_bytes: None,
            deepest_bytes: None,
            start_address: None,
            start_function: None,
        });
    }
    facts.sort_by_key(|fact| (!fact.main, fact.stack, fact.tid));
    facts
}

/// Claims one stack. No fact for the stack of a thread that is being made or is ending: it is not a thread, nor left over.
fn stack(
    process: &Process<'_>,
    descriptor: &Descriptor<'_>,
    main: bool,
    finished: Option<&FinishedStack>,
    claims: &mut Claims,
) -> Option<ThreadFact> {
    let user_stack = descriptor.list == List::User;
    // A thread that ends may put its stack into the cache while it still runs on it.
    let state = match (descriptor.thread, descriptor.list) {
        (Some(_), _) => Some(StackState::Live),
        (None, List::Cache) => Some(StackState::Cached),
        (None, _) => descriptor.unjoined.then_some(StackState::Exited),
    };
    let role = match state {
        _ if user_stack => Role::ThreadStackUser,
        Some(StackState::Exited) => Role::ThreadStackExited,
        Some(StackState::Cached) => Role::ThreadStackCached,
        Some(StackState::Live) | None => Role::ThreadStackLive,
    };
    let evidence = evidence(descriptor, state);
    let tid = descriptor.thread.map(|thread| thread.tid);
    let name = descriptor.thread.map(|thread| thread.name.clone());
    let subject = name.clone().unwrap_or_default();
    let block_end = descriptor.block.saturating_add(descriptor.size);
    let bottom = descriptor.block.saturating_add(descriptor.guard);
    let item = claims.item(role, subject.clone(), tid);
    // A stack inside a malloc chunk need not begin at a page; the shared pages stay the chunk's.
    let range = (process.up(bottom), process.down(block_end));
    claims.add(range, Priority::Stack, item, evidence);

    let guard = claims.item(Role::Guard, subject, tid);
    if !user_stack {
        claims.add(
            (descriptor.block, bottom),
            Priority::Guard,
            guard,
            certain("guard size recorded by libc"),
        );
    }
    if descriptor.guard == 0
        && let Some(below) = descriptor.block.checked_sub(1).and_then(|at| process.area_at(at))
        && below.inaccessible()
        && below.end == descriptor.block
        && below.size() <= MAX_FOREIGN_GUARD
    {
        claims.add(
            (below.start, below.end),
            Priority::SignalStack,
            guard,
            likely("no access, directly below a stack"),
        );
    }
    for area in process.areas_in(range.0, range.1).iter().filter(|area| may_hold_guards(area)) {
        let Some(runs) = process.runs(area) else { continue };
        let from = runs.partition_point(|run| run.end <= range.0);
        for run in runs
            .iter()
            .skip(from)
            .take_while(|run| run.start < range.1)
            .filter(|run| run.guard)
        {
            let inside = (run.start.max(range.0), run.end.min(range.1));
            claims.add(inside, Priority::Guard, guard, certain("guard pages (MADV_GUARD_INSTALL)"));
        }
    }
    let state = state?;
    // glibc gives the pages of its own stacks back when their thread ends; others stay as they were.
    let untouched = user_stack || (descriptor.by_scan && state == StackState::Exited && descriptor.is_musl);
    let now = match state {
        StackState::Live => deepest(process, bottom, block_end),
        StackState::Exited if untouched => {
            deepest(process, bottom, block_end).filter(|bytes| descriptor.is_musl || keeps_pages(process, *bytes))
        }
        StackState::Exited | StackState::Cached => None,
    };
    let deepest_bytes = match finished {
        _ if now.is_some() => now,
        Some(finished) => {
            let inside = (bottom..block_end).contains(&finished.lowest);
            inside.then(|| block_end - finished.lowest)
        }
        None => None,
    };
    Some(ThreadFact {
        tid: tid.or(finished.map(|finished| finished.tid)),
        name: name.or_else(|| finished.map(|finished| finished.name.clone())),
        main,
        state,
        user_stack,
        stack: Some((bottom, block_end - bottom)),
        guard_bytes: Some(descriptor.guard),
        deepest_bytes,
        start_address: descriptor.start,
        start_function: None,
    })
}

/// Whether a stack that the program supplied still shows how deep it was after its thread ended. glibc 2.31 gave back all but the
/// last 16 KiB below the stack pointer (`advise_stack_range` in nptl/allocatestack.c), 2.36 leaves such stacks alone; between them
/// the lists moved into the loader (2.33), which is taken for the difference. More than old versions leave tells by itself.
fn keeps_pages(process: &Process<'_>, deepest_bytes: u64) -> bool {
    let objects = &process.capture.objects;
    let is_old = objects
        .iter()
        .any(|object| object.path.file_name_bytes().starts_with(b"libpthread-2."));
    let is_new = ["_rtld_global", "_dl_stack_user"]
        .iter()
        .any(|name| process.symbol(name).is_some());
    (is_new && !is_old) || deepest_bytes > LEFT_BY_OLD.saturating_add(tls_bytes(process))
}

/// What was seen of the thread of this descriptor when it ended.
fn finished<'a>(process: &Process<'a>, found: &Found<'_>, pd: u64) -> Option<&'a FinishedStack> {
    let base = pd.wrapping_add(found.to_tls);
    let all = process.capture.finished_stacks.as_ref()?;
    let index = all.binary_search_by_key(&base, |stack| stack.tls_base).ok()?;
    all.get(index)
}

/// Why a stack has its state.
fn evidence(descriptor: &Descriptor<'_>, state: Option<StackState>) -> Evidence {
    let whose = match descriptor.thread {
        Some(thread) => format!("TCB of thread {}", thread.tid),
        None => "TCB of a thread that is gone".to_owned(),
    };
    let list = match descriptor.list {
        List::Used => "on libc's list of used stacks",
        // musl has no list of them.
        List::User if descriptor.is_musl || descriptor.by_scan => "on a stack the program supplied",
        List::User => "on libc's list of stacks the program supplied",
        List::Cache => "on libc's list of stacks to use again",
        List::None => "at the TLS base of the thread",
    };
    match (descriptor.by_scan, state) {
        (_, None) => likely(format!("{whose}, {list}: it is being created or is ending")),
        (true, Some(StackState::Exited)) => likely("TCB found by its pointers to itself: ended and not joined"),
        (true, _) => likely("TCB found by its pointers to itself: joined, or detached and ended"),
        (false, Some(StackState::Exited)) => certain(format!("{whose}, {list}: ended and not joined")),
        (false, Some(StackState::Live | StackState::Cached)) => certain(format!("{whose}, {list}")),
    }
}

/// `gu` marks regions with guard pages since Linux 6.14; without flags one must look.
fn may_hold_guards(area: &Area<'_>) -> bool {
    area.region.flags.is_none() || area.flag(b"gu")
}

/// Bytes from the top of a stack to its deepest page that was used (and is resident or swapped). A stack inside an allocation
/// shares its lowest page with other data, whose use says nothing of the stack: that page is left out.
fn deepest(process: &Process<'_>, bottom: u64, top: u64) -> Option<u64> {
    let bottom = process.up(bottom);
    for area in process.areas_in(bottom, top) {
        // Before Linux 6.15 guards look like swapped pages.
        let swaps = area.region.usage.is_none_or(|usage| usage.swap_bytes > 0);
        let runs = process.runs(area)?;
        let from = runs.partition_point(|run| run.end <= bottom);
        let used = runs
            .iter()
            .skip(from)
            .take_while(|run| run.start < top)
            .find(|run| run.resident || (run.swapped && swaps));
        if let Some(run) = used {
            return Some(top - run.start.max(bottom));
        }
    }
    Some(0)
}

/// Claims alternate signal stacks as Rust's std maps them: `MAP_STACK` (`VmFlags: nh`, Linux 6.7 and later), one page without
/// access, then a few pages. A libc that guards with `MADV_GUARD_INSTALL` lets a thread's stack merge with them from above.
pub(super) fn claim_signal_stacks(process: &Process<'_>, found: &Found<'_>, claims: &mut Claims) {
    let stacks = claims.ranges(|priority| matches!(priority, Priority::Stack | Priority::Guard));
    for pair in process.areas.windows(2) {
        let [below, area] = pair else { continue };
        let shape = below.inaccessible()
            && below.size() == process.page
            && below.end == area.start
            && area.plain_memory()
            && below.flag(b"nh")
            && area.flag(b"nh");
        let taken = |at: u64| {
            let after = stacks.partition_point(|(start, _)| *start <= at);
            stacks.get(after.wrapping_sub(1)).is_some_and(|(_, end)| at < *end)
        };
        if !shape || taken(below.start) || taken(area.start) {
            continue;
        }
        let next_stack = stacks
            .get(stacks.partition_point(|(start, _)| *start < area.start))
            .map_or(u64::MAX, |(start, _)| *start);
        let end = area.end.min(next_stack);
        if end - area.start > MAX_SIGNAL_STACK || found.descriptors.range(area.start..end).next().is_some() {
            continue;
        }
        let item = claims.item(Role::SignalStack, Name::default(), None);
        let guard = claims.item(Role::Guard, Name::default(), None);
        claims.add(
            (area.start, end),
            Priority::SignalStack,
            item,
            likely("small MAP_STACK mapping without a thread above one page without access"),
        );
        claims.add(
            (below.start, below.end),
            Priority::SignalStack,
            guard,
            likely("page without access below a signal stack"),
        );
    }
}
