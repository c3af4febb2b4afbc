//! Parses the small files of `/proc/PID`: `status`, `limits`, `auxv`, `stat`. Bytes in, values out; nothing is read here.
//!
//! Formats: proc(5) (`proc_pid_status(5)`, `proc_pid_limits(5)`, `proc_pid_auxv(5)`, `proc_pid_stat(5)` in newer pages).

use super::maps::decimal;
use crate::error::{Error, Result};
use crate::model::{Class, Name, Status};

/// What we take from `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Field 28; absent when 0 (not permitted, or no memory any more).
    pub(crate) start_stack: Option<u64>,
    /// Field 47, likewise.
    pub(crate) start_brk: Option<u64>,
}

fn unreadable(file: &str) -> Error {
    Error::not_judged(format!("/proc/PID/{file} is not what proc(5) describes"))
}

/// The memory lines of `status`, and the number of threads, which follows them (`proc_pid_status` in fs/proc/array.c). A process
/// without memory (a zombie) has none; the thread's name, which stands on the first line, cannot forge one, as the kernel escapes
/// newlines in it.
pub(crate) fn parse_status(bytes: &[u8]) -> Result<Status> {
    let mut status = Status::default();
    for line in bytes.split(|&b| b == b'\n') {
        if !(line.starts_with(b"Vm") || line.starts_with(b"Threads:")) {
            continue;
        }
        let Some(colon) = line.iter().position(|&b| b == b':') else {
            continue;
        };
        let value = line[colon + 1..].trim_ascii();
        if &line[..colon] == b"Threads" {
            status.threads = Some(decimal(value).ok_or_else(|| unreadable("status"))?);
            break;
        }
        let field = match &line[..colon] {
            b"VmPeak" => &mut status.peak_reserved_bytes,
            b"VmSize" => &mut status.reserved_bytes,
            b"VmHWM" => &mut status.peak_resident_bytes,
            b"VmRSS" => &mut status.resident_bytes,
            b"VmLck" => &mut status.locked_bytes,
            b"VmSwap" => &mut status.swap_bytes,
            _ => continue,
        };
        let kib = value.strip_suffix(b" kB").and_then(decimal);
        *field = Some(
            kib.and_then(|kib| kib.checked_mul(1024))
                .ok_or_else(|| unreadable("status"))?,
        );
    }
    Ok(status)
}

/// The name of the thread that a `status` is of. The kernel escapes newlines and backslashes in it, and nothing else
/// (`fs/proc/array.c`, `proc_task_name`).
pub(crate) fn name(bytes: &[u8]) -> Option<Name> {
    let escaped = bytes.strip_prefix(b"Name:\t")?.split(|&b| b == b'\n').next()?;
    let mut name = Vec::with_capacity(escaped.len());
    let mut rest = escaped.iter();
    while let Some(&byte) = rest.next() {
        match byte {
            b'\\' => name.push(match rest.next()? {
                b'n' => b'\n',
                other => *other,
            }),
            byte => name.push(byte),
        }
    }
    Some(Name::new(name))
}

/// The soft stack limit of `limits` in bytes; `None` when unlimited.
pub(crate) fn parse_limits(bytes: &[u8]) -> Result<Option<u64>> {
    let mut lines = bytes.split(|&b| b == b'\n');
    let rest = lines
        .find_map(|line| line.strip_prefix(b"Max stack size "))
        .ok_or_else(|| unreadable("limits"))?;
    let soft = rest.trim_ascii_start().split(|&b| b == b' ').next().unwrap_or_default();
    if soft == b"unlimited" {
        return Ok(None);
    }
    decimal(soft).map(Some).ok_or_else(|| unreadable("limits"))
}

/// The auxiliary vector without the final `AT_NULL`: pairs of words of the target's size and this machine's byte order.
pub(crate) fn parse_auxv(bytes: &[u8], class: Class) -> Vec<(u64, u64)> {
    let words: Vec<u64> = match class {
        Class::Elf64 => bytes
            .as_chunks::<8>()
            .0
            .iter()
            .map(|word| u64::from_ne_bytes(*word))
            .collect(),
        Class::Elf32 => bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|word| u64::from(u32::from_ne_bytes(*word)))
            .collect(),
    };
    let pairs = words.as_chunks::<2>().0.iter().map(|pair| (pair[0], pair[1]));
    pairs.take_while(|(kind, _)| *kind != 0).collect()
}

/// `stat`: the second field is the name in parentheses and may hold blanks and parentheses itself, so fields are counted
/// from the last closing one.
pub(crate) fn parse_stat(bytes: &[u8]) -> Result<Stat> {
    let end = bytes.iter().rposition(|&b| b == b')').ok_or_else(|| unreadable("stat"))?;
    let fields: Vec<&[u8]> = bytes[end + 1..].trim_ascii().split(|&b| b == b' ').collect();
    // The first of these is field 3. Kernels only ever append fields; 47 came with Linux 3.3.
    let field = |number: usize| -> Result<Option<u64>> {
        let Some(text) = fields.get(number - 3) else {
            return Ok(None);
        };
        let value = decimal(text).ok_or_else(|| unreadable("stat"))?;
        Ok(Some(value).filter(|value| *value != 0))
    };
    Ok(Stat {
        start_stack: field(28)?,
        start_brk: field(47)?,
    })
}

#[cfg(test)]
mod tests {
    use procfs_core::FromRead;
    use procfs_core::process::{Limits, Stat as TheirStat, Status as TheirStatus};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn our_own_files_mean_the_same_to_the_procfs_crate() {
        // One read each: the values of a running process move between two reads.
        let read = |name: &str| std::fs::read(format!("/proc/self/{name}")).unwrap();
        let (text, kib) = (read("status"), |n: Option<u64>| n.map(|n| n * 1024));
        let (ours, theirs) = (parse_status(&text).unwrap(), TheirStatus::from_read(&text[..]).unwrap());
        assert_eq!(
            (ours.reserved_bytes, ours.resident_bytes),
            (kib(theirs.vmsize), kib(theirs.vmrss))
        );
        assert_eq!(
            (ours.peak_reserved_bytes, ours.peak_resident_bytes),
            (kib(theirs.vmpeak), kib(theirs.vmhwm))
        );
        assert_eq!((ours.locked_bytes, ours.swap_bytes), (kib(theirs.vmlck), kib(theirs.vmswap)));
        assert_eq!(ours.threads, Some(theirs.threads));
        let text = read("limits");
        let soft = Limits::from_read(&text[..]).unwrap().max_stack_size.soft_limit;
        assert_eq!(
            format!("{:?}", soft),
            parse_limits(&text)
                .unwrap()
                .map_or("Unlimited".into(), |n| format!("Value({n})"))
        );
        let text = read("stat");
        let (ours, theirs) = (parse_stat(&text).unwrap(), TheirStat::from_read(&text[..]).unwrap());
        assert_eq!(
            (ours.start_stack, ours.start_brk),
            (Some(theirs.startstack), theirs.start_brk)
        );
    }

    #[test]
    fn a_name_is_that_of_comm_whatever_it_holds() {
        for set in ["a b", "a\\b\nc", "\\n\\\\", "\t) x\u{7f}", "é"] {
            let read = move || {
                let dir = "/proc/thread-self";
                ["comm", "status"].map(|file| std::fs::read(format!("{dir}/{file}")).unwrap())
            };
            let thread = std::thread::Builder::new().name(set.to_owned()).spawn(read).unwrap();
            let [comm, status] = thread.join().unwrap();
            assert_eq!(comm, format!("{set}\n").into_bytes());
            assert_eq!(name(&status), Some(Name::from(set)));
        }
        assert_eq!(name(b"State:\tR\n"), None);
    }

    #[test]
    fn a_zombie_has_no_memory_and_that_is_not_zero() {
        let status = parse_status(b"Name:\tz\nState:\tZ (zombie)\nThreads:\t1\n").unwrap();
        assert_eq!((status.reserved_bytes, status.threads), (None, Some(1)));
    }

    #[test]
    fn a_name_with_parentheses_and_blanks_does_not_shift_the_fields() {
        let fields: Vec<String> = (4..=52).map(|n| n.to_string()).collect();
        let text = format!("7 (a) R 1 (b)) S {}\n", fields.join(" "));
        let stat = parse_stat(text.as_bytes()).unwrap();
        assert_eq!((stat.start_stack, stat.start_brk), (Some(28), Some(47)));
        let zeros = format!("7 (x) Z {}\n", vec!["0"; 49].join(" "));
        assert_eq!(parse_stat(zeros.as_bytes()).unwrap(), Stat::default());
    }

    #[test]
    fn limits_are_bytes_or_unlimited() {
        let line =
            |soft: &str| format!("Limit   Soft Limit\nMax stack size            {soft:<20} unlimited            bytes     \n");
        assert_eq!(parse_limits(line("8388608").as_bytes()).unwrap(), Some(8 << 20));
        assert_eq!(parse_limits(line("unlimited").as_bytes()).unwrap(), None);
        assert!(parse_limits(b"").is_err());
    }

    #[test]
    fn auxv_words_have_the_targets_size() {
        let wide: Vec<u8> = [6_u64, 4096, 0, 0, 9, 9].iter().flat_map(|w| w.to_ne_bytes()).collect();
        let narrow: Vec<u8> = [6_u32, 4096, 0, 0].iter().flat_map(|w| w.to_ne_bytes()).collect();
        assert_eq!(parse_auxv(&wide, Class::Elf64), [(6, 4096)]);
        assert_eq!(parse_auxv(&narrow, Class::Elf32), [(6, 4096)]);
        assert_eq!(parse_auxv(&wide[..5], Class::Elf64), []);
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_or_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (parse_status(&bytes), parse_limits(&bytes), parse_stat(&bytes));
            prop_assert!(parse_auxv(&bytes, Class::Elf32).len() <= bytes.len() / 8);
        }
    }
}
