//! Descriptors of threads that are gone, found without any symbol: each begins with its own address, on x86-64. For static
//! and stripped programs whose libc has no list in reach, and for musl, which keeps none.

use super::super::process::{Notes, Process};
use super::descriptor::{self, Gone};
use super::lists::ring;
use super::machine::Layout;
use super::{Descriptor, Found, List, MAX_ENTRIES, musl};

/// Most memory searched in all: a few seconds.
const MAX_BYTES: u64 = 4 << 30;

/// Adds what is found. True when all memory that can hold a stack was searched and every state was plain: then exited and
/// cached stacks are complete.
pub(super) fn search(process: &Process<'_>, layout: Layout, found: &mut Found<'_>, notes: &mut Notes) -> bool {
    if !layout.self_pointer {
        return false;
    }
    let Some(main) = found.main else { return false };
    let is_musl = musl::is_musl(process, main);
    if !is_musl && !is_glibc(process, layout, main) {
        return false;
    }
    let (mut complete, mut budget) = (true, MAX_BYTES);
    for area in process.areas.iter().filter(|area| area.plain_memory()) {
        let runs = process.runs(area);
        let bytes = runs
            .iter()
            .flat_map(|runs| runs.iter())
            .filter(|run| run.resident)
            .fold(0_u64, |sum, run| sum.saturating_add(run.end - run.start));
        let (Some(runs), Some(rest)) = (runs, budget.checked_sub(bytes)) else {
            complete = false;
            continue;
        };
        budget = rest;
        let resident = runs.iter().filter(|run| run.resident);
        let addresses: Vec<u64> = resident
            .flat_map(|run| process.search(run.start, run.end, |address, word| address == word))
            .collect();
        for pd in addresses {
            if found.descriptors.contains_key(&pd) || found.descriptors.len() >= MAX_ENTRIES {
                continue;
            }
            if is_musl {
                found
                    .descriptors
                    .extend(musl::unjoined(process, pd).map(|descriptor| (pd, descriptor)));
                continue;
            }
            // A stack that was unlinked, or data that looks like one, is on no ring.
            let linked = pd
                .checked_add(layout.list)
                .is_some_and(|at| process.u64(at) != Some(0) && ring(process, at));
            let read = descriptor::read(process, layout, pd, List::None, None);
            let Some(read) = read.filter(|read| linked && read.block != 0) else {
                continue;
            };
            let state = descriptor::gone(process, layout, pd, notes);
            complete &= state != Gone::Unknown;
            found.descriptors.insert(
                pd,
                Descriptor {
                    list: match (read.list, state) {
                        (List::User, _) => List::User,
                        (_, Gone::Unjoined) => List::Used,
                        (_, Gone::Done) => List::Cache,
                        (_, Gone::Unknown) => List::None,
                    },
                    unjoined: state == Gone::Unjoined,
                    by_scan: true,
                    ..read
                },
            );
        }
    }
    complete
}

/// The main thread's descriptor has glibc's two pointers to itself and is on a ring.
fn is_glibc(process: &Process<'_>, layout: Layout, main: u64) -> bool {
    let own = process
        .words::<3>(main)
        .is_some_and(|words| words[0] == main && words[2] == main);
    own && main
        .checked_add(layout.list)
        .is_some_and(|at| process.u64(at) != Some(0) && ring(process, at))
}
