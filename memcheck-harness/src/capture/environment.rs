//! Facts about this machine that change what a target's memory looks like. Each is absent where the machine does not tell.

use std::collections::BTreeMap;
use std::fs;
use std::time::SystemTime;

use crate::model::{ByteSize, Date, Environment};
use crate::sys::libc_version::libc_version;
use crate::sys::process;

/// `AT_PAGESZ` (getauxval(3)).
const AT_PAGESZ: u64 = 6;

/// Facts about this machine:
///
/// | fact | example | why it matters |
/// |---|---|---|
/// | `arch` | `x86_64` | sizes of everything |
/// | `kernel` | `6.18` | region layout, guards, merging of regions; patch releases do not change these |
/// | `libc` | `glibc 2.36` | allocator, thread stacks, loader: of this tool (absent when it does not run on glibc), unless the programs of a run name another: [`libc_of`](super::libc_of) |
/// | `page-size` | `4 KiB` | everything is a multiple of it |
/// | `thp` | `madvise` | `always` makes anonymous memory grow in 2 MiB steps (where the launch settings do not turn it off) |
/// | `cpus` | `2` | glibc allows 8 arenas per online CPU |
/// | `overcommit` | `0` | with 2 the kernel ignores `MAP_NORESERVE` |
#[must_use]
pub fn environment() -> Environment {
    let facts = [
        ("arch", Some(std::env::consts::ARCH.to_owned())),
        (
            "kernel",
            text("/proc/sys/kernel/osrelease").and_then(|release| kernel(&release)),
        ),
        ("libc", libc_version()),
        ("page-size", page_bytes_here().map(|bytes| ByteSize(bytes).to_string())),
        (
            "thp",
            text("/sys/kernel/mm/transparent_hugepage/enabled").and_then(|modes| chosen(&modes)),
        ),
        (
            "cpus",
            text("/sys/devices/system/cpu/online")
                .and_then(|list| cpus(&list))
                .map(|n| n.to_string()),
        ),
        ("overcommit", text("/proc/sys/vm/overcommit_memory")),
    ];
    Environment {
        facts: facts
            .into_iter()
            .filter_map(|(name, fact)| Some((name.to_owned(), fact?)))
            .collect::<BTreeMap<_, _>>(),
    }
}

/// The day here, in UTC. A clock that stands before 1970 gives the last day there is: what expires has expired then.
#[must_use]
pub fn today() -> Date {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Date::from_unix_seconds(since.map_or(u64::MAX, |since| since.as_secs()))
}

/// Bytes per page of this machine (`_SC_PAGESIZE`, sysconf(3)); absent when that makes no sense.
#[must_use]
pub fn page_bytes_here() -> Option<u64> {
    page_bytes(&[(AT_PAGESZ, process::page_bytes())])
}

/// `AT_PAGESZ` of an auxiliary vector, if it makes sense.
pub(super) fn page_bytes(auxv: &[(u64, u64)]) -> Option<u64> {
    let (_, bytes) = auxv.iter().find(|(kind, _)| *kind == AT_PAGESZ)?;
    (bytes.is_power_of_two() && (1 << 12..=1 << 20).contains(bytes)).then_some(*bytes)
}

fn text(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// `6.18.44-generic` → `6.18`.
fn kernel(release: &str) -> Option<String> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let (major, minor) = (numbers.next()?, numbers.next()?);
    (!major.is_empty() && !minor.is_empty()).then(|| format!("{major}.{minor}"))
}

/// `always [madvise] never` → `madvise`.
fn chosen(modes: &str) -> Option<String> {
    let (_, rest) = modes.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

/// `0-3,8` → 5 (the list format of Documentation/admin-guide/cputopology.rst).
fn cpus(list: &str) -> Option<u64> {
    list.split(',').try_fold(0_u64, |sum, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_facts() {
        assert_eq!(kernel("6.18.44-fc"), Some("6.18".to_owned()));
        assert_eq!(kernel("x"), None);
        assert_eq!(chosen("always [madvise] never"), Some("madvise".to_owned()));
        assert_eq!(
            (cpus("0"), cpus("0-3,8"), cpus("3-0"), cpus("")),
            (Some(1), Some(5), None, None)
        );
    }

    #[test]
    fn this_machine_has_an_architecture_a_kernel_and_pages() {
        let facts = environment().facts;
        assert!(
            ["arch", "kernel", "page-size"].iter().all(|name| facts.contains_key(*name)),
            "{facts:?}"
        );
        #[cfg(target_env = "gnu")]
        assert!(facts["libc"].starts_with("glibc 2."));
    }
}
