//! The very same stopped process as `pmap -XX` and `smaps_rollup` see it: every row, every sum. pmap runs after we have read
//! and classified, so that a figure which our reading had changed would show.

use std::collections::BTreeMap;
use std::fs;

use memcheck_harness::model::{At, Capture, MemoryMap, Region, Role, Usage};

use crate::stop::{probe, show, visit};
use crate::tools::{built, hex, run, system_program};

/// Column → KiB, in order of `pmap`'s rows; and the rest of the line (flags, then the name).
struct Row {
    start: u64,
    perms: String,
    offset: u64,
    inode: u64,
    figures: BTreeMap<String, u64>,
    rest: Vec<String>,
}

struct Table {
    rows: Vec<Row>,
    /// Of the columns from `Size` on.
    totals: BTreeMap<String, u64>,
}

const FIXED: [&str; 5] = ["Address", "Perm", "Offset", "Device", "Inode"];

fn pmap(pid: i32) -> Table {
    let text = run("pmap", &["-XX", &pid.to_string()]);
    let mut lines = text.lines().skip(1);
    let header: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(header[..5], FIXED, "{text}");
    let flags_at = header.iter().position(|name| *name == "VmFlags").expect("a column VmFlags");
    assert_eq!(header[flags_at..], ["VmFlags", "Mapping"]);
    let figures = |words: &[&str]| -> BTreeMap<String, u64> {
        let names = header[5..flags_at].iter().map(|name| (*name).to_owned());
        names.zip(words.iter().map(|word| word.parse().unwrap())).collect()
    };
    let (mut rows, mut totals) = (Vec::new(), BTreeMap::new());
    for line in lines.filter(|line| !line.trim_start().starts_with("==")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.last() == Some(&"KB") {
            totals = figures(&words);
            continue;
        }
        rows.push(Row {
            start: hex(words[0]),
            perms: words[1].to_owned(),
            offset: hex(words[2]),
            inode: words[4].parse().unwrap(),
            figures: figures(&words[5..flags_at]),
            rest: words[flags_at..].iter().map(|word| (*word).to_owned()).collect(),
        });
    }
    assert!(!totals.is_empty(), "{text}");
    Table { rows, totals }
}

/// What must be equal: everything but what depends on who else maps a page (Pss, and whether it counts as shared) and on
/// write-back (clean or dirty), which are not the stopped process's own.
fn figures(usage: &Usage) -> BTreeMap<&'static str, u64> {
    [
        ("Rss", usage.resident_bytes),
        ("Anonymous", usage.anon_bytes),
        ("AnonHugePages", usage.detail.map_or(0, |detail| detail.anon_huge_bytes)),
        ("Swap", usage.swap_bytes),
        ("Locked", usage.detail.map_or(0, |detail| detail.locked_bytes)),
    ]
    .into()
}

fn sum(regions: &[Region], figure: &str) -> u64 {
    regions
        .iter()
        .map(|region| figures(region.usage.as_ref().unwrap())[figure])
        .sum()
}

fn rows_are_equal(capture: &Capture, table: &Table) {
    assert_eq!(capture.regions.len(), table.rows.len());
    for (region, row) in capture.regions.iter().zip(&table.rows) {
        let what = format!("{:x} {}", region.start, region.name);
        assert_eq!(
            (region.start, region.perms.to_string(), region.offset, region.inode),
            (row.start, row.perms.clone(), row.offset, row.inode),
            "{what}"
        );
        assert_eq!(region.size_bytes(), row.figures["Size"] << 10, "{what}");
        let usage = region.usage.unwrap();
        for (name, bytes) in figures(&usage) {
            assert_eq!(bytes, row.figures[name] << 10, "{what}: {name}");
        }
        let detail = usage.detail.unwrap();
        let clean_and_dirty = [
            detail.shared_clean_bytes,
            detail.shared_dirty_bytes,
            detail.private_clean_bytes,
            detail.private_dirty_bytes,
        ];
        assert_eq!(clean_and_dirty.iter().sum::<u64>(), row.figures["Rss"] << 10, "{what}");
        if region.inode == 0 {
            for (name, bytes) in [
                ("Shared_Clean", detail.shared_clean_bytes),
                ("Private_Clean", detail.private_clean_bytes),
                ("Private_Dirty", detail.private_dirty_bytes),
            ] {
                // The vdso is everybody's: who maps it with us changes from moment to moment.
                if !region.name.as_bytes().starts_with(b"[v") {
                    assert_eq!(bytes, row.figures[name] << 10, "{what}: {name}");
                }
            }
        }
        let codes = region.flags.as_ref().unwrap().codes();
        let (flags, name) = row.rest.split_at(codes.len());
        let mut flags = flags.to_vec();
        flags.sort();
        let ours: Vec<String> = codes.iter().map(|code| String::from_utf8_lossy(code).into_owned()).collect();
        assert_eq!(ours, flags, "{what}");
        assert_eq!(region.name.file_name().escaped(), name.join(" "), "{what}");
    }
}

fn totals_are_equal(capture: &Capture, map: &MemoryMap, table: &Table) {
    let regions = &capture.regions;
    for name in ["Rss", "Anonymous", "AnonHugePages", "Swap", "Locked"] {
        assert_eq!(sum(regions, name), table.totals[name] << 10, "total {name}");
    }
    let size: u64 = regions.iter().map(Region::size_bytes).sum();
    assert_eq!(size, table.totals["Size"] << 10);

    let gate = regions.iter().filter(|region| region.name.as_bytes() == b"[vsyscall]");
    let own_size = size - gate.map(Region::size_bytes).sum::<u64>();
    let pieces = map.sum(|_| true);
    let (resident, anon) = (table.totals["Rss"] << 10, table.totals["Anonymous"] << 10);
    assert_eq!(pieces.reserved, own_size, "{}", show(map));
    assert_eq!((pieces.resident, pieces.anon), (Some(resident), Some(anon)), "{}", show(map));
    assert_eq!(map.process.reserved, Some(own_size));
    assert_eq!(map.process.resident, Some(resident));
    assert_eq!(map.process.anon.map(|bytes| bytes + map.breakpoint_anon_bytes), Some(anon));
    assert_eq!(map.process.swap, Some(table.totals["Swap"] << 10));
    assert_eq!(capture.status.reserved_bytes, Some(own_size), "VmSize");
}

/// Code is never anonymous unless somebody patched it.
fn patched_text_is_ours(map: &MemoryMap, table: &Table) {
    let text = table.rows.iter().filter(|row| row.perms.contains('x') && row.inode != 0);
    let patched: u64 = text.map(|row| row.figures["Anonymous"] << 10).sum();
    assert_eq!(map.breakpoint_anon_bytes, patched);
    assert_eq!(map.sum(|role| role == Role::Memcheck).anon, Some(patched));
}

/// `smaps_rollup`: the kernel's own sums.
fn rollup_is_equal(capture: &Capture, map: &MemoryMap) {
    let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", capture.pid)).unwrap();
    let total = |name: &str| -> u64 {
        let line = text.lines().find(|line| line.split(':').next() == Some(name));
        let words: Vec<&str> = line
            .unwrap_or_else(|| panic!("no {name} in\n{text}"))
            .split_whitespace()
            .collect();
        words[1].parse::<u64>().unwrap() << 10
    };
    for name in ["Rss", "Anonymous", "AnonHugePages", "Swap", "Locked"] {
        assert_eq!(sum(&capture.regions, name), total(name), "smaps_rollup {name}");
    }
    let pieces = map.sum(|_| true);
    let figures = (pieces.resident, pieces.anon);
    assert_eq!(figures, (Some(total("Rss")), Some(total("Anonymous"))), "{}", show(map));
    let swapped: Option<u64> = map.pieces.iter().map(|piece| piece.swap_bytes).sum();
    assert_eq!(swapped, Some(total("Swap")));
}

/// Everything above, on one stopped process.
pub(crate) fn all_is_equal(capture: &Capture, map: &MemoryMap) {
    let table = pmap(capture.pid);
    rows_are_equal(capture, &table);
    totals_are_equal(capture, map, &table);
    patched_text_is_ours(map, &table);
    rollup_is_equal(capture, map);
}

#[test]
fn threads_at_every_checkpoint() {
    let points = ["start", "spawned", "ended", "done"].map(probe);
    visit(built("threads"), &["3", "joined"], &points, |_, _, capture, map| {
        all_is_equal(capture, map);
        assert!(map.breakpoint_anon_bytes > 0, "a probe is a patched page of the program");
    });
}

#[test]
fn exec_main_and_exit_of_a_program() {
    visit(
        built("requests"),
        &[],
        &[At::Exec, At::Main, At::Exit],
        |_, _, capture, map| {
            all_is_equal(capture, map);
        },
    );
}

#[test]
fn a_stripped_system_program_at_its_exit() {
    let sleep = system_program("sh");
    visit(&sleep, &["-c", ":"], &[At::Main, At::Exit], |_, _, capture, map| {
        all_is_equal(capture, map)
    });
}
