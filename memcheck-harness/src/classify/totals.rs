//! Sums over the process, straight from the regions and `/proc/PID/status`: they do not depend on any label.

use crate::model::{ByteSize, ProcessTotals, UsageDetail};

use super::process::{Area, Notes, Process};

/// The totals. Anonymous memory leaves out what our breakpoints made.
pub(super) fn totals(process: &Process<'_>, breakpoint_anon_bytes: u64, notes: &mut Notes) -> ProcessTotals {
    let sums = process.areas.iter().fold(Sums::default(), Sums::with);
    let huge = sums.huge.filter(|bytes| *bytes > 0);
    if let Some(bytes) = huge {
        notes.add(format!(
            "{} of huge pages (hugetlbfs) are in memory, which the kernel counts neither as resident nor as anonymous: they are in \
             no figure but the address space.",
            ByteSize(bytes)
        ));
    }
    let status = &process.capture.status;
    ProcessTotals {
        reserved: Some(sums.reserved),
        resident: sums.resident,
        anon: sums.anon.map(|bytes| bytes.saturating_sub(breakpoint_anon_bytes)),
        // Only `smaps` counts the swapped pages of shared memory.
        swap: sums.pss.and(sums.swap),
        commit: sums.commit,
        noreserve: sums.noreserve,
        locked: status.locked_bytes,
        peak: status.peak_resident_bytes,
        mappings: Some((process.areas.len() as u64).saturating_add(process.capture.joined_mappings)),
        wx: Some(sums.wx),
        pss: sums.pss,
        uss: sums.uss,
    }
}

/// The sums over the regions, taken in one pass; absent when one region does not tell.
struct Sums {
    reserved: u64,
    wx: u64,
    resident: Option<u64>,
    anon: Option<u64>,
    swap: Option<u64>,
    commit: Option<u64>,
    noreserve: Option<u64>,
    pss: Option<u64>,
    uss: Option<u64>,
    huge: Option<u64>,
}

impl Default for Sums {
    fn default() -> Self {
        let nothing = Some(0);
        Self {
            reserved: 0,
            wx: 0,
            resident: nothing,
            anon: nothing,
            swap: nothing,
            commit: nothing,
            noreserve: nothing,
            pss: nothing,
            uss: nothing,
            huge: nothing,
        }
    }
}

impl Sums {
    fn with(self, area: &Area<'_>) -> Self {
        let add = |sum: Option<u64>, bytes: Option<u64>| sum?.checked_add(bytes?).or(Some(u64::MAX));
        let (size, perms) = (area.size(), area.region.perms);
        let usage = area.region.usage.as_ref();
        let detail = usage.and_then(|usage| usage.detail.as_ref());
        let flags = area.region.flags.as_ref();
        let flagged = |code| flags.map(|flags| if flags.has(code) { size } else { 0 });
        let private = |detail: &UsageDetail| detail.private_clean_bytes.saturating_add(detail.private_dirty_bytes);
        Self {
            reserved: self.reserved.saturating_add(size),
            wx: self.wx.saturating_add(if perms.write && perms.execute { size } else { 0 }),
            resident: add(self.resident, usage.map(|usage| usage.resident_bytes)),
            anon: add(self.anon, usage.map(|usage| usage.anon_bytes)),
            swap: add(self.swap, usage.map(|usage| usage.swap_bytes)),
            commit: add(self.commit, flagged(b"ac")),
            noreserve: add(self.noreserve, flagged(b"nr")),
            pss: add(self.pss, detail.map(|detail| detail.proportional_bytes)),
            uss: add(self.uss, detail.map(private)),
            huge: add(self.huge, detail.map(|detail| detail.hugetlb_bytes)),
        }
    }
}
