//! `LiveMemory`: the memory of a stopped process, read without changing what is measured. Only resident pages are touched
//! (reading an absent one would fault it in), and what was read is remembered for a recording.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::IoSliceMut;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

use super::page::{Page, Spare, WHOLE};
use super::pages::{Known, MAX_PARTIAL, PM_PRESENT, clipped, joined, run_of_entry, run_of_scan};
use super::procdir::ProcDir;
use crate::model::{Memory, PageRun, Ranges, Recording, Wanted};
use crate::sys::pagemap::{self, FILE, GUARD, PFNZERO, PRESENT, PageRegion, SWAPPED};

/// Entries asked for at once when the residency of one page is wanted: neighbours are read next.
const ENTRIES: u64 = 64;
/// Entries read at once when a range is scanned without the ioctl.
const SCAN_ENTRIES: u64 = 4096;
/// Pages noted for the next stop: the lists and heads that classification begins with, not what it walks through.
const MAX_LIKELY: usize = 64;
/// Most pages read at once where one after another is asked for.
const MAX_AHEAD: u64 = 32;
/// Most places read at once: more gain nothing.
const MAX_PLACES: usize = 128;
/// Pages kept, for the next word of the same page; the oldest habit is to walk through memory once.
const MAX_PAGES: usize = 16_384;
/// Pages whose room is used again at the next stop.
const MAX_SPARE: usize = 128;
/// Ranges whose pages were looked at, noted for the next stop.
const MAX_SCANS: usize = 64;

/// What was asked for at a stop, for the next one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Likely {
    /// Pages, and which lines of them.
    pages: Vec<(u64, u64)>,
    /// Ranges of which pages were asked for; no large ones.
    scans: Vec<(u64, u64)>,
}

/// The memory of a stopped process, resident pages only; remembers what was read.
#[derive(Debug)]
pub struct LiveMemory {
    task: Pid,
    /// `process_vm_readv` pins what it reads, and a page that fork left to several processes is first copied to be pinned (kernel
    /// `gup_must_unshare`, since Linux 5.19): the tree would grow by what is read. Without a fork nothing is shared like that.
    may_pin: bool,
    /// `/proc/PID/mem`, which copies nothing; opened when it is needed.
    mem: OnceCell<Option<File>>,
    page_bytes: u64,
    /// Without `pagemap` no page is known to be resident, and none is read.
    dir: Rc<ProcDir>,
    known: Known,
    /// Whether what is read is remembered. A walk through a large heap reads a word of each of millions of chunks.
    records: bool,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Residency by `address / page / ENTRIES`, one bit a page.
    resident: BTreeMap<u64, u64>,
    /// By address; absent for a page that could not be read.
    pages: BTreeMap<u64, Option<Rc<Page>>>,
    /// The page that was read last.
    last: Option<(u64, Rc<Page>)>,
    /// Where the pages end that were fetched last, and how many these were.
    fetched: (u64, u64),
    /// Ranges that were asked for of pages no longer kept: disjoint, none touching the next.
    read: BTreeMap<u64, Vec<u8>>,
    /// What the ioctl said of ranges, by their starts: where they end, and the pages in them; absent on kernels without it.
    scanned: BTreeMap<u64, (u64, Option<Vec<PageRegion>>)>,
    /// What was asked for, by start and end.
    scans: BTreeMap<(u64, u64), Option<Vec<PageRun>>>,
    spare: Spare,
}

impl Drop for State {
    fn drop(&mut self) {
        self.last = None;
        let mut spare = self.spare.borrow_mut();
        let pages = std::mem::take(&mut self.pages).into_values().flatten();
        let left = MAX_SPARE.saturating_sub(spare.len());
        spare.extend(pages.take(left));
    }
}

impl State {
    /// Forgets all pages, but not what was asked for of them.
    fn forget_pages(&mut self) {
        self.last = None;
        for (address, page) in std::mem::take(&mut self.pages) {
            let Some(page) = page else { continue };
            for range in page.ranges() {
                let start = address + range.start as u64;
                remember(&mut self.read, start, page.bytes.get(range).unwrap_or_default());
            }
        }
    }
}

impl State {
    /// All ranges that were asked for, in order.
    fn ranges(&mut self) -> Ranges {
        if !self.read.is_empty() {
            // Pages were forgotten, and may have been fetched again since.
            self.forget_pages();
            return std::mem::take(&mut self.read).into_iter().collect();
        }
        // Most pages that were read have a few ranges, of a quarter of their bytes.
        let count = self.pages.values().flatten().count();
        let mut ranges = Ranges::with_capacity(4 * count, 1024 * count);
        for (address, page) in &self.pages {
            let Some(page) = page else { continue };
            for range in page.ranges() {
                let start = address + range.start as u64;
                ranges.push(start, page.bytes.get(range).unwrap_or_default());
            }
        }
        ranges
    }
}

impl LiveMemory {
    /// The memory behind a directory of /proc; `task` is a thread that still has memory.
    pub(super) fn open(dir: Rc<ProcDir>, task: i32, page_bytes: u64, records: bool, known: Known) -> Self {
        Self {
            task: Pid::from_raw(task),
            may_pin: false,
            mem: OnceCell::new(),
            page_bytes,
            dir,
            known,
            records,
            state: RefCell::default(),
        }
    }

    /// Uses the room of the stop before, and leaves its own to the next.
    pub(super) fn with_room(self, spare: &Spare) -> Self {
        self.state.borrow_mut().spare = Rc::clone(spare);
        self
    }

    /// No process of the target has made another one: pages may be pinned.
    pub(super) fn nothing_is_shared(self) -> Self {
        Self { may_pin: true, ..self }
    }

    /// What was read, for [`Capture::recording`](crate::model::Capture::recording): nothing but page scans when it was opened
    /// without recording.
    #[must_use]
    pub fn into_recording(self) -> Recording {
        let mut state = self.state.into_inner();
        Recording {
            bytes: state.ranges(),
            scans: std::mem::take(&mut state.scans)
                .into_iter()
                .map(|((start, end), runs)| (start, end, runs))
                .collect(),
        }
    }

    /// What was asked for, as much as is likely to be so again at the next stop.
    pub(super) fn asked_for(&self) -> Likely {
        let state = self.state.borrow();
        let pages = state
            .pages
            .iter()
            .filter_map(|(address, page)| Some((*address, page.as_ref()?.looked())));
        let small = |(start, end): &&(u64, u64)| end.saturating_sub(*start) <= MAX_PARTIAL;
        Likely {
            pages: pages.filter(|(_, lines)| *lines != 0).take(MAX_LIKELY).collect(),
            scans: state.scans.keys().filter(small).take(MAX_SCANS).copied().collect(),
        }
    }

    /// Fetches what was asked for at the stop before, as far as it is there.
    pub(super) fn expect_again(&self, likely: &Likely) {
        let mut state = self.state.borrow_mut();
        let pages = || likely.pages.iter().map(|(page, _)| *page);
        if self.dir.pagemap().is_some() {
            for (start, end) in self.known.unknown(pages(), &likely.scans) {
                if self.scanned(&mut state, start, end).is_none() {
                    // Each of them may be told all the same.
                    state.scanned.remove(&start);
                }
            }
        }
        let there = |(page, lines): &(u64, u64)| {
            let is_there = *page < self.known.readable_until(*page) && self.is_resident(&mut state, *page);
            is_there.then_some((*page, *lines))
        };
        let wanted: Vec<(u64, u64)> = likely.pages.iter().filter_map(there).collect();
        self.fetch_all(&mut state, &wanted);
    }

    fn entries(&self, first_page: u64, count: u64) -> Vec<u64> {
        let Some(pagemap) = self.dir.pagemap() else {
            return Vec::new();
        };
        let mut bytes = vec![0; usize::try_from(count * 8).unwrap_or(0)];
        let mut filled = 0;
        while filled < bytes.len()
            && let Some(at) = first_page.checked_mul(8).and_then(|at| at.checked_add(filled as u64))
        {
            // Beyond the address space the file ends; what is not there is not resident.
            match pagemap.read_at(&mut bytes[filled..], at) {
                Ok(n) if n > 0 => filled += n,
                _ => break,
            }
        }
        bytes
            .as_chunks::<8>()
            .0
            .iter()
            .map(|entry| u64::from_ne_bytes(*entry))
            .collect()
    }

    fn is_resident(&self, state: &mut State, address: u64) -> bool {
        if self.dir.pagemap().is_some()
            && let Some(known) = self.known.is_resident(address)
        {
            return known;
        }
        let page = address - address % self.page_bytes;
        let (start, end) = self.known.partial(address).unwrap_or((page, page));
        if let Some(runs) = self.scanned(state, start, end) {
            let run = runs.get(runs.partition_point(|run| run.end <= address));
            return run.is_some_and(|run| run.start <= address && run.categories & PRESENT != 0);
        }
        let page = address / self.page_bytes;
        let group = page / ENTRIES;
        let bits = state.resident.entry(group).or_insert_with(|| {
            let entries = self.entries(group * ENTRIES, ENTRIES);
            let set = entries.iter().enumerate().filter(|(_, entry)| *entry & PM_PRESENT != 0);
            set.fold(0, |bits, (i, _)| bits | 1 << i)
        });
        *bits >> (page % ENTRIES) & 1 == 1
    }

    /// The contents of a page, as much as these lines, if it is resident and readable. Pages from there to `end` are wanted next.
    fn page(&self, state: &mut State, address: u64, lines: u64, end: u64) -> Option<Rc<Page>> {
        if let Some((at, page)) = &state.last
            && *at == address
            && page.look(lines)
        {
            return Some(Rc::clone(page));
        }
        if !state.pages.contains_key(&address) {
            self.fetch(state, address, end);
        }
        let mut page = Rc::clone(state.pages.get(&address)?.as_ref()?);
        if !page.look(lines) {
            // Somebody wants more of it than at the stop before.
            self.fetch_all(state, &[(address, WHOLE)]);
            let Some(Some(whole)) = state.pages.get(&address).map(Option::as_ref) else {
                // What was read of it is known still.
                state.pages.insert(address, Some(page));
                return None;
            };
            whole.inherit(&page);
            page = Rc::clone(whole);
        }
        state.last = Some((address, Rc::clone(&page)));
        Some(page)
    }

    /// Fetches a page; who takes one page after another gets more at a time.
    fn fetch(&self, state: &mut State, address: u64, end: u64) {
        let (before, count) = state.fetched;
        let wanted = end.saturating_sub(address).div_ceil(self.page_bytes);
        let grown = if before == address { count * 2 } else { 1 };
        let most = wanted.max(grown).clamp(1, MAX_AHEAD);
        let limit = self.known.readable_until(address);
        let mut pages = Vec::new();
        for page in (0..most).map_while(|i| address.checked_add(i * self.page_bytes)) {
            let first = page == address;
            if !(first || page < limit && !state.pages.contains_key(&page)) || !self.is_resident(state, page) {
                break;
            }
            pages.push((page, WHOLE));
        }
        state.fetched = (address + pages.len() as u64 * self.page_bytes, pages.len() as u64);
        if state.pages.len() + pages.len() >= MAX_PAGES {
            state.forget_pages();
        }
        if pages.is_empty() {
            state.pages.insert(address, None);
        } else {
            self.fetch_all(state, &pages);
        }
    }

    /// Fetches lines of resident pages. One that cannot be read ends it: the first is then known to be so, others are asked for again.
    fn fetch_all(&self, state: &mut State, pages: &[(u64, u64)]) {
        let Ok(bytes) = usize::try_from(self.page_bytes) else { return };
        if !self.may_pin {
            let mem = self.mem.get_or_init(|| self.dir.try_file("mem").ok());
            for (index, (page, _)) in pages.iter().enumerate() {
                let mut buffer = vec![0; bytes];
                let read = mem.as_ref().map(|mem| mem.read_exact_at(&mut buffer, *page));
                let content = read.and_then(Result::ok).map(|()| Rc::new(Page::new(buffer, WHOLE)));
                if content.is_none() && index > 0 {
                    return;
                }
                state.pages.insert(*page, content);
            }
            return;
        }
        let ranges = || pages.iter().map(|(page, lines)| (*page, Page::hull(*lines, bytes)));
        let mut remote: Vec<RemoteIoVec> = Vec::with_capacity(pages.len());
        for (page, range) in ranges() {
            let Ok(base) = usize::try_from(page + range.start as u64) else {
                return;
            };
            match remote.last_mut() {
                Some(last) if last.base + last.len == base => last.len += range.len(),
                _ => remote.push(RemoteIoVec { base, len: range.len() }),
            }
        }
        let blank = ranges().map(|(_, range)| Page::blank(&state.spare, bytes, Page::lines_of(range, bytes)));
        let mut fetched: Vec<Rc<Page>> = blank.collect();
        let room = fetched.iter_mut().filter_map(Rc::get_mut).zip(ranges());
        let mut local: Vec<IoSliceMut<'_>> = Vec::with_capacity(pages.len());
        local.extend(room.filter_map(|(page, (_, range))| page.bytes.get_mut(range).map(IoSliceMut::new)));
        let read = process_vm_readv(self.task, &mut local, &remote).unwrap_or(0);
        let mut end = 0;
        for (index, ((address, range), page)) in ranges().zip(fetched).enumerate() {
            end += range.len();
            let is_whole = read >= end;
            if is_whole || index == 0 {
                state.pages.insert(address, is_whole.then_some(page));
            }
        }
    }

    /// Fills the buffer from resident pages.
    fn fill(&self, state: &mut State, address: u64, buffer: &mut [u8]) -> Option<()> {
        address.checked_add(buffer.len() as u64)?;
        let mut done = 0;
        while done < buffer.len() {
            let at = address + done as u64;
            let inside = at % self.page_bytes;
            let (page_at, inside) = (at - inside, usize::try_from(inside).ok()?);
            let bytes = usize::try_from(self.page_bytes).ok()?;
            let count = bytes.checked_sub(inside)?.min(buffer.len() - done);
            let page = self.page(state, page_at, Page::lines_of(inside..inside + count, bytes), 0)?;
            let from = page.bytes.get(inside..)?;
            buffer[done..done + count].copy_from_slice(&from[..count]);
            if self.records {
                page.ask(inside, count);
            }
            done += count;
        }
        Some(())
    }

    /// Whether a range that reaches into another page can be read: what cannot is not remembered in part.
    fn is_there(&self, state: &mut State, address: u64, len: usize) -> bool {
        let Some(end) = address.checked_add(len as u64) else {
            return false;
        };
        let mut page = address - address % self.page_bytes;
        if end <= page.saturating_add(self.page_bytes) {
            return true;
        }
        while page < end {
            // Which lines, whoever reads them says.
            if self.page(state, page, 0, end).is_none() {
                return false;
            }
            let Some(next) = page.checked_add(self.page_bytes) else {
                break;
            };
            page = next;
        }
        true
    }

    /// The runs of a range, from the ioctl or, on kernels without it, from the entries of `pagemap`.
    fn scan(&self, state: &mut State, start: u64, end: u64) -> Option<Vec<PageRun>> {
        let (start, end) = (
            start - start % self.page_bytes,
            end.checked_next_multiple_of(self.page_bytes)?,
        );
        if let Some(runs) = self.known.runs(start, end) {
            return Some(runs);
        }
        match self.scanned(state, start, end) {
            Some(found) => Some(joined(clipped(found, start, end).filter_map(|run| run_of_scan(&run)))),
            None => self.dir.pagemap().and_then(|_| self.scan_entries(start, end)),
        }
    }

    /// What the ioctl says of a page-aligned range, asked once, perhaps with what lies around it; `None` on kernels without it, and
    /// for an empty range that nobody asked about.
    fn scanned<'s>(&self, state: &'s mut State, start: u64, end: u64) -> Option<&'s [PageRegion]> {
        let around = |(_, (until, _)): (&u64, &(u64, _))| end.max(start + 1) <= *until;
        if !state.scanned.range(..=start).next_back().is_some_and(around) {
            if start >= end {
                return None;
            }
            let ask = || {
                let file = self.dir.pagemap()?;
                let wanted = PRESENT | SWAPPED | FILE | PFNZERO;
                let ioctl = |extra| pagemap::scan(file, start, end, PRESENT | SWAPPED | extra, wanted | extra);
                // Kernels before 6.15 do not know guards as a category.
                ioctl(GUARD).or_else(|_| ioctl(0)).ok()
            };
            let found = ask();
            state.scanned.insert(start, (end, found));
        }
        let (_, (_, found)) = state.scanned.range(..=start).next_back()?;
        found.as_deref()
    }

    /// The runs of a page-aligned range from the entries of `pagemap`.
    pub(super) fn scan_entries(&self, start: u64, end: u64) -> Option<Vec<PageRun>> {
        let last = end / self.page_bytes;
        let mut runs = Vec::new();
        let mut page = start / self.page_bytes;
        while page < last {
            let count = SCAN_ENTRIES.min(last - page);
            for (i, entry) in self.entries(page, count).into_iter().enumerate() {
                let at = (page + i as u64) * self.page_bytes;
                runs.extend(run_of_entry(entry, at, at + self.page_bytes)?);
            }
            page += count;
        }
        Some(joined(runs.into_iter()))
    }
}

impl Memory for LiveMemory {
    fn expect(&self, addresses: &[u64]) {
        let mut state = self.state.borrow_mut();
        let mut pages: Vec<u64> = addresses.iter().map(|address| address - address % self.page_bytes).collect();
        pages.sort_unstable();
        pages.dedup();
        let is_wanted = |page: &u64| {
            let is_new = *page < self.known.readable_until(*page) && !state.pages.contains_key(page);
            is_new && self.is_resident(&mut state, *page)
        };
        pages.retain(is_wanted);
        if state.pages.len() + pages.len() >= MAX_PAGES {
            return;
        }
        let pages: Vec<(u64, u64)> = pages.into_iter().map(|page| (page, WHOLE)).collect();
        for pages in pages.chunks(MAX_PLACES) {
            self.fetch_all(&mut state, pages);
        }
    }

    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        let mut state = self.state.borrow_mut();
        // Nearly all: a word of the page that was read last.
        if let Some((at, page)) = &state.last
            && let Some(inside) = address.checked_sub(*at).and_then(|inside| usize::try_from(inside).ok())
            && let Some(bytes) = page.bytes.get(inside..).and_then(|rest| rest.get(..buffer.len()))
            && page.look(Page::lines_of(inside..inside + buffer.len(), page.bytes.len()))
        {
            buffer.copy_from_slice(bytes);
            if self.records {
                page.ask(inside, bytes.len());
            }
            return true;
        }
        self.is_there(&mut state, address, buffer.len()) && self.fill(&mut state, address, buffer).is_some()
    }

    fn pages(&self, start: u64, end: u64) -> Option<Vec<PageRun>> {
        let mut state = self.state.borrow_mut();
        if let Some(runs) = state.scans.get(&(start, end)) {
            return runs.clone();
        }
        let runs = if start < end {
            self.scan(&mut state, start, end)
        } else {
            Some(Vec::new())
        };
        state.scans.insert((start, end), runs.clone());
        runs
    }

    fn search(&self, start: u64, end: u64, wanted: &mut Wanted<'_>) -> Vec<u64> {
        let mut state = self.state.borrow_mut();
        let mut found = Vec::new();
        let mut at = start - start % self.page_bytes;
        while at < end {
            let inside = start.saturating_sub(at).next_multiple_of(8)..self.page_bytes.min(end - at);
            let inside = usize::try_from(inside.start).ok().zip(usize::try_from(inside.end).ok());
            let bytes = usize::try_from(self.page_bytes).unwrap_or(0);
            if let Some((from, until)) = inside
                && let Some(page) = self.page(&mut state, at, Page::lines_of(from..until, bytes), end)
                && let Some(bytes) = page.bytes.get(from..until)
            {
                let before = found.len();
                wanted(at + from as u64, bytes.as_chunks::<8>().0, &mut found);
                for address in found.get(before..).unwrap_or_default().iter().filter(|_| self.records) {
                    page.ask(usize::try_from(address - at).unwrap_or(0), 8);
                }
            }
            let Some(next) = at.checked_add(self.page_bytes) else { break };
            at = next;
        }
        found
    }
}

/// The memory of a process that nobody traces: which pages are there, and nothing of what they hold.
#[derive(Debug)]
pub struct PagesOnly(pub(super) LiveMemory);

impl PagesOnly {
    /// As [`LiveMemory::into_recording`].
    #[must_use]
    pub fn into_recording(self) -> Recording {
        self.0.into_recording()
    }
}

impl Memory for PagesOnly {
    fn read(&self, _address: u64, _buffer: &mut [u8]) -> bool {
        false
    }

    fn pages(&self, start: u64, end: u64) -> Option<Vec<PageRun>> {
        self.0.pages(start, end)
    }
}

/// Adds a range; ranges that overlap or touch become one. Bytes read twice are the same bytes: the process is stopped.
fn remember(ranges: &mut BTreeMap<u64, Vec<u8>>, address: u64, bytes: &[u8]) {
    let end = address + bytes.len() as u64;
    let before = ranges.range_mut(..=address).next_back();
    let start = match before {
        Some((start, known)) if *start + known.len() as u64 >= address => {
            let new = end.saturating_sub(*start + known.len() as u64);
            let new = usize::try_from(new).unwrap_or(0).min(bytes.len());
            known.extend_from_slice(&bytes[bytes.len() - new..]);
            *start
        }
        _ => {
            ranges.insert(address, bytes.to_vec());
            address
        }
    };
    while let Some((&next, _)) = ranges.range(start + 1..=end).next() {
        let Some(other) = ranges.remove(&next) else {
            break;
        };
        if let Some(known) = ranges.get_mut(&start) {
            let overlap = usize::try_from(start + known.len() as u64 - next).unwrap_or(usize::MAX);
            known.extend_from_slice(other.get(overlap..).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn remembered_ranges_hold_what_was_read_and_stay_apart(reads in prop::collection::vec((0_u64..200, 1_usize..40), 0..40)) {
            let memory: Vec<u8> = (0..=255).collect();
            let mut ranges = BTreeMap::new();
            let mut seen = [false; 256];
            for (address, len) in reads {
                let range = address as usize..address as usize + len;
                remember(&mut ranges, address, &memory[range.clone()]);
                seen[range].fill(true);
            }
            let mut end = 0;
            for (start, bytes) in &ranges {
                prop_assert!(end == 0 || *start > end);
                end = start + bytes.len() as u64;
                prop_assert_eq!(&bytes[..], &memory[*start as usize..end as usize]);
            }
            let kept: usize = ranges.values().map(Vec::len).sum();
            prop_assert_eq!(kept, seen.iter().filter(|s| **s).count());
        }
    }
}
