//! malloc's arenas for `cargo memcheck show`: what their chunks are, in bytes, and with `-v` each arena with its threads.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::Style;
use super::text::{Ink, clean, labelled, paint, plural, wrap};
use crate::model::{ArenaFact, ArenaUse, MemoryMap, Role, RoleSum};

/// The table: the main arena, and all secondary ones as a sum. Nothing for a process without malloc's memory.
pub(super) fn table(map: &MemoryMap, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let sections = sections(map);
    if sections.is_empty() {
        return Ok(());
    }
    let head = format!(
        "  {:<20}{:>6}{:>13}{:>13}{:>13}{:>14}",
        "malloc", "count", "used", "free", "top", "largest free"
    );
    writeln!(out, "{}", paint(style, Ink::Dim, &format!("{head}   (bytes)")))?;
    for (role, arenas) in &sections {
        writeln!(out, "{}", row(role.name(), arenas).trim_end())?;
    }
    for (role, arenas) in &sections {
        for doubt in doubts(arenas) {
            let is_known = arenas.iter().any(|arena| arena.usage.is_some());
            let how = if is_known { "approximate" } else { "not known" };
            labelled(style, "note:", 8, &format!("{role}: {how}, {doubt}"), out)?;
        }
    }
    Ok(())
}

/// The roles that malloc's arenas stand behind, with those arenas that have memory.
fn sections(map: &MemoryMap) -> Vec<(Role, Vec<&ArenaFact>)> {
    let has = |role| {
        map.sum(|other| other == role)
            != RoleSum {
                anon: Some(0),
                resident: Some(0),
                ..RoleSum::default()
            }
    };
    let main = map.malloc.iter().map(|malloc| &malloc.main).filter(|_| has(Role::MainHeap));
    let others = map.arenas.iter().flatten();
    [
        (Role::MainHeap, main.collect::<Vec<_>>()),
        (Role::ThreadArena, others.collect()),
    ]
    .into_iter()
    .filter(|(_, arenas)| !arenas.is_empty())
    .collect()
}

fn doubts(arenas: &[&ArenaFact]) -> Vec<String> {
    let mut doubts: Vec<String> = arenas.iter().filter_map(|arena| arena.doubt.clone()).collect();
    doubts.sort();
    doubts.dedup();
    doubts
}

fn row(name: &str, arenas: &[&ArenaFact]) -> String {
    let sum = |figure: fn(&ArenaUse) -> u64| -> String {
        let sum: Option<u64> = arenas.iter().map(|arena| arena.usage.as_ref().map(figure)).sum();
        let approximate = arenas.iter().any(|arena| arena.doubt.is_some());
        sum.map_or("-".to_owned(), |sum| format!("{}{sum}", if approximate { "~" } else { "" }))
    };
    let largest = arenas
        .iter()
        .filter_map(|arena| arena.usage)
        .map(|usage| usage.largest_free_bytes)
        .max();
    format!(
        "  {name:<20}{:>6}{:>13}{:>13}{:>13}{:>14}",
        arenas.len(),
        sum(|usage| usage.used_bytes),
        sum(|usage| usage.free_bytes),
        sum(|usage| usage.top_bytes),
        largest.map_or("-".to_owned(), |bytes| bytes.to_string())
    )
}

/// Each arena, a few lines: what it holds, how scattered its free memory is, and who allocates from it.
pub(super) fn arenas(map: &MemoryMap, style: Style, out: &mut dyn Write) -> io::Result<()> {
    for (role, arenas) in sections(map) {
        for arena in arenas {
            let head = match role {
                Role::MainHeap => format!("main arena at {:x}", arena.address),
                _ => format!("arena at {:x}, {}", arena.address, plural(arena.heaps.len(), "heap")),
            };
            writeln!(out, "  {head}")?;
            for text in [holds(arena), used_by(map, arena)] {
                for line in wrap(&clean(&text), 90) {
                    writeln!(out, "      {}", paint(style, Ink::Dim, &line))?;
                }
            }
        }
    }
    if let Some((count, bytes)) = map.malloc.as_ref().and_then(|malloc| malloc.mmapped) {
        writeln!(
            out,
            "  malloc counts {} with a mapping of {} own, {}{bytes} bytes",
            plural(usize::try_from(count).unwrap_or(usize::MAX), "allocation"),
            if count == 1 { "its" } else { "their" },
            if map.malloc.as_ref().is_some_and(|malloc| malloc.mmapped_is_most) {
                "at most "
            } else {
                ""
            }
        )?;
    }
    Ok(())
}

fn holds(arena: &ArenaFact) -> String {
    let Some(usage) = arena.usage else {
        let why = arena.doubt.as_deref().unwrap_or("not walked");
        return format!("its chunks are not known: {why}");
    };
    let number = |count: u64, what| plural(usize::try_from(count).unwrap_or(usize::MAX), what);
    let scattered = usage.fragmentation_permille().map_or(String::new(), |n| {
        format!(", {}.{} % of the free memory outside of it", n / 10, n % 10)
    });
    let sure = match &arena.doubt {
        None => "malloc's own books agree (certain)".to_owned(),
        Some(doubt) => format!("approximate: {doubt}"),
    };
    format!(
        "{} of {} bytes, {} of {} bytes ({} of them in fastbins and threads' caches), top {}, headers and fences {}; largest \
         free run {}{scattered}; {sure}",
        number(usage.used_count, "live chunk"),
        usage.used_bytes,
        number(usage.free_count, "freed chunk"),
        usage.free_bytes,
        usage.cached_bytes,
        usage.top_bytes,
        usage.overhead_bytes,
        usage.largest_free_bytes,
    )
}

fn used_by(map: &MemoryMap, arena: &ArenaFact) -> String {
    let Some(threads) = &arena.threads else {
        return "which threads use it is not known".to_owned();
    };
    if threads.is_empty() {
        return "no thread uses it now".to_owned();
    }
    let name = |tid: &i32| {
        let fact = map.threads.iter().find(|fact| fact.tid == Some(*tid));
        let name = fact
            .and_then(|fact| fact.name.as_ref())
            .map(ToString::to_string)
            .unwrap_or_default();
        format!("{name}/{tid}")
    };
    format!("used by {}", threads.iter().map(name).collect::<Vec<_>>().join(", "))
}

/// One arena for machines; `null` is not known.
pub(super) fn value(arena: &ArenaFact) -> Value {
    let usage = arena.usage.map(|usage| {
        json!({
            "used_count": usage.used_count,
            "used_bytes": usage.used_bytes,
            "free_count": usage.free_count,
            "free_bytes": usage.free_bytes,
            "cached_bytes": usage.cached_bytes,
            "top_bytes": usage.top_bytes,
            "overhead_bytes": usage.overhead_bytes,
            "largest_free_bytes": usage.largest_free_bytes,
            "fragmentation_permille": usage.fragmentation_permille(),
        })
    });
    json!({
        "heaps": arena.heaps.len(),
        "committed_bytes": arena.heaps.iter().map(|heap| heap.committed_bytes).sum::<u64>(),
        "usage": usage,
        "doubt": arena.doubt,
        "threads": arena.threads,
    })
}

/// The main arena and malloc's count of large allocations.
pub(super) fn main_value(map: &MemoryMap) -> Value {
    let Some(malloc) = &map.malloc else { return Value::Null };
    json!({
        "main_arena": value(&malloc.main),
        "mmapped_count": malloc.mmapped.map(|books| books.0),
        "mmapped_bytes": malloc.mmapped.map(|books| books.1),
        "mmapped_is_most": malloc.mmapped_is_most,
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{map, print};
    use super::*;
    use crate::model::MallocFact;

    const PLAIN: Style = Style {
        color: false,
        width: 100,
        verbose: 0,
    };

    fn arena(used_bytes: u64, doubt: Option<&str>) -> ArenaFact {
        ArenaFact {
            address: 0x1000,
            usage: Some(ArenaUse {
                used_count: 2,
                used_bytes,
                free_count: 1,
                free_bytes: 100,
                cached_bytes: 20,
                top_bytes: 300,
                overhead_bytes: 16,
                largest_free_bytes: 360,
            }),
            doubt: doubt.map(str::to_owned),
            threads: Some(vec![]),
            ..ArenaFact::default()
        }
    }

    #[test]
    fn a_doubt_is_printed_with_the_figures_and_takes_the_metric_away() {
        let mut map = map(&[(Role::MainHeap, 132, 8), (Role::ThreadArena, 65536, 8)]);
        map.malloc = Some(MallocFact {
            main: arena(1000, None),
            mmapped: Some((1, 4096)),
            mmapped_is_most: true,
        });
        map.arenas = Some(vec![arena(50, None), arena(7, Some("its lock is held"))]);
        let text = print(|out| table(&map, PLAIN, out));
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[1], ["main-heap", "1", "1000", "100", "300", "360"]);
        assert_eq!(words[2], ["thread-arena", "2", "~57", "~200", "~600", "360"]);
        assert!(text.contains("note: thread-arena: approximate, its lock is held"), "{text}");
        let metric = |name: &str| map.metric(&name.parse().unwrap());
        assert_eq!((metric("main-heap.used"), metric("thread-arena.used")), (Some(1000), None));
        assert_eq!(map.malloc_doubt(Role::ThreadArena).as_deref(), Some("its lock is held"));

        let text = print(|out| arenas(&map, PLAIN, out));
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            text.contains("2 live chunks of 1000 bytes, 1 freed chunk of 100 bytes"),
            "{text}"
        );
        assert!(text.contains("10.0 % of the free memory outside of it"), "{text}");
        assert!(text.contains("1 allocation with"), "{text}");
        assert_eq!(main_value(&map)["main_arena"]["usage"]["fragmentation_permille"], 100);
    }
}
