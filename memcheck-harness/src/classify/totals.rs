//! Sums over the process, straight from the regions and `/proc/PID/status`: they do not depend on any label.

use crate::model::{ByteSize, ProcessTotals};

use super::process::{Area, Notes, Process};

/// The totals. `sums`: of all areas. Anonymous memory leaves out what our breakpoints made.
pub(super) fn totals(process: &Process<'_>, sums: &Sums, breakpoint_anon_bytes: u64, notes: &mut Notes) -> ProcessTotals {
    let has_usage = |bytes: u64| (!sums.without_usage).then_some(bytes);
    let has_detail = |bytes: u64| (!sums.without_detail).then_some(bytes);
    let has_flags = |bytes: u64| (!sums.without_flags).then_some(bytes);
    let huge = has_detail(sums.huge).filter(|bytes| *bytes > 0);
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
        resident: has_usage(sums.resident),
        anon: has_usage(sums.anon.saturating_sub(breakpoint_anon_bytes)),
        // Only `smaps` counts the swapped pages of shared memory.
        swap: has_detail(sums.swap),
        commit: has_flags(sums.commit),
        noreserve: has_flags(sums.noreserve),
        locked: status.locked_bytes,
        peak: status.peak_resident_bytes,
        mappings: Some((process.areas.len() as u64).saturating_add(process.capture.joined_mappings)),
        wx: Some(sums.wx),
        pss: has_detail(sums.pss),
        uss: has_detail(sums.uss),
    }
}

/// The sums over the regions, and whether one of these does not tell.
#[derive(Default)]
pub(super) struct Sums {
    reserved: u64,
    wx: u64,
    resident: u64,
    anon: u64,
    swap: u64,
    commit: u64,
    noreserve: u64,
    pss: u64,
    uss: u64,
    huge: u64,
    without_usage: bool,
    without_detail: bool,
    without_flags: bool,
}

impl Sums {
    pub(super) fn add(&mut self, area: &Area<'_>) {
        let add = |sum: &mut u64, bytes: u64| *sum = sum.saturating_add(bytes);
        let (size, perms) = (area.size(), area.region.perms);
        let when = |is: bool| if is { size } else { 0 };
        add(&mut self.reserved, size);
        add(&mut self.wx, when(perms.write && perms.execute));
        match &area.region.usage {
            Some(usage) => {
                add(&mut self.resident, usage.resident_bytes);
                add(&mut self.anon, usage.anon_bytes);
                add(&mut self.swap, usage.swap_bytes);
            }
            None => self.without_usage = true,
        }
        match area.region.usage.as_ref().and_then(|usage| usage.detail.as_ref()) {
            Some(detail) => {
                add(&mut self.pss, detail.proportional_bytes);
                add(&mut self.uss, detail.private_clean_bytes);
                add(&mut self.uss, detail.private_dirty_bytes);
                add(&mut self.huge, detail.hugetlb_bytes);
            }
            None => self.without_detail = true,
        }
        match &area.region.flags {
            Some(flags) => {
                add(&mut self.commit, when(flags.has(b"ac")));
                add(&mut self.noreserve, when(flags.has(b"nr")));
            }
            None => self.without_flags = true,
        }
    }
}
