//! Sums over the process, straight from the regions and `/proc/PID/status`: they do not depend on any label.

use crate::model::{ByteSize, ProcessTotals, Region, Usage, UsageDetail};

use super::process::{Notes, Process};

/// The totals. Anonymous memory leaves out what our breakpoints made.
pub(super) fn totals(process: &Process<'_>, breakpoint_anon_bytes: u64, notes: &mut Notes) -> ProcessTotals {
    let used = |figure: fn(&Usage) -> u64| -> Option<u64> {
        process.areas.iter().try_fold(0_u64, |sum, area| {
            area.region.usage.as_ref().map(|usage| sum.saturating_add(figure(usage)))
        })
    };
    let detailed = |figure: fn(&UsageDetail) -> u64| -> Option<u64> {
        process.areas.iter().try_fold(0_u64, |sum, area| {
            let usage = area.region.usage.as_ref()?;
            Some(sum.saturating_add(figure(usage.detail.as_ref()?)))
        })
    };
    let flagged = |code: &[u8; 2]| -> Option<u64> {
        process.areas.iter().try_fold(0_u64, |sum, area| {
            let set = area.region.flags.as_ref()?.has(code);
            Some(if set { sum.saturating_add(area.size()) } else { sum })
        })
    };
    let sized = |condition: fn(&Region) -> bool| -> u64 {
        process
            .areas
            .iter()
            .filter(|area| condition(area.region))
            .map(|area| area.size())
            .sum()
    };
    let huge = detailed(|usage| usage.hugetlb_bytes).filter(|bytes| *bytes > 0);
    if let Some(bytes) = huge {
        notes.add(format!(
            "{} of huge pages (hugetlbfs) are in memory, which the kernel counts neither as resident nor as anonymous: they are in \
             no figure but the address space.",
            ByteSize(bytes)
        ));
    }
    let status = &process.capture.status;
    ProcessTotals {
        reserved: Some(sized(|_| true)),
        resident: used(|usage| usage.resident_bytes),
        anon: used(|usage| usage.anon_bytes).map(|bytes| bytes.saturating_sub(breakpoint_anon_bytes)),
        // Only `smaps` counts the swapped pages of shared memory.
        swap: detailed(|_| 0).and(used(|usage| usage.swap_bytes)),
        commit: flagged(b"ac"),
        noreserve: flagged(b"nr"),
        locked: status.locked_bytes,
        peak: status.peak_resident_bytes,
        mappings: Some((process.areas.len() as u64).saturating_add(process.capture.joined_mappings)),
        wx: Some(sized(|region| region.perms.write && region.perms.execute)),
        pss: detailed(|usage| usage.proportional_bytes),
        uss: detailed(|usage| usage.private_clean_bytes.saturating_add(usage.private_dirty_bytes)),
    }
}
