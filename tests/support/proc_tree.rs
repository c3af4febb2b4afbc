//! A process tree looked at without the library: what the kernel sums of each memory, and the very frames that are mapped.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt as _;

/// What was seen.
#[derive(Debug)]
pub(crate) struct Looked {
    /// Processes with a memory.
    pub(crate) processes: usize,
    /// Those of them that are not stopped by a tracer.
    pub(crate) running: usize,
    /// Bytes: `Pss_Anon` of `smaps_rollup`, over the memories.
    pub(crate) pss_anon: u64,
    /// Different frames of anonymous pages; absent where the kernel does not tell the numbers of frames (not root).
    pub(crate) anon_frames: Option<u64>,
}

/// A process and all its descendants. In the fixture a grandchild has the memory of its parent, others have their own.
pub(crate) fn looked_at(pid: i32) -> Looked {
    let tree = tree(pid);
    let mut frames = Some(BTreeSet::new());
    let (mut running, mut pss_anon) = (0, 0);
    for (pid, depth) in &tree {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        running += usize::from(!stat.rsplit(')').next().unwrap().starts_with(" t"));
        if *depth > 1 {
            continue;
        }
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss_Anon:")).unwrap();
        pss_anon += line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10;
        for line in fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().lines() {
            frames = frames.and_then(|frames| anonymous(*pid, line, frames));
        }
    }
    Looked {
        processes: tree.len(),
        running,
        pss_anon,
        anon_frames: frames.map(|frames| frames.len() as u64),
    }
}

fn tree(pid: i32) -> Vec<(i32, u32)> {
    let mut all = vec![(pid, 0)];
    let mut next = 0;
    while let Some((pid, depth)) = all.get(next).copied() {
        for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            all.extend(
                children
                    .split_whitespace()
                    .map(|pid| (pid.parse::<i32>().unwrap(), depth + 1)),
            );
        }
        next += 1;
    }
    all
}

/// Adds the frames of anonymous pages of a mapping (Documentation/admin-guide/mm/pagemap.rst: present 63, file 61, frame 0-54).
fn anonymous(pid: i32, line: &str, mut frames: BTreeSet<u64>) -> Option<BTreeSet<u64>> {
    let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
    let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
    if start >= 1 << 63 {
        return Some(frames);
    }
    let pagemap = fs::File::open(format!("/proc/{pid}/pagemap")).unwrap();
    for page in start / 4096..end / 4096 {
        let mut entry = [0; 8];
        pagemap.read_exact_at(&mut entry, page * 8).unwrap();
        let entry = u64::from_ne_bytes(entry);
        if entry >> 63 == 1 && entry >> 61 & 1 == 0 {
            match entry & ((1 << 55) - 1) {
                0 => return None,
                frame => frames.insert(frame),
            };
        }
    }
    Some(frames)
}
