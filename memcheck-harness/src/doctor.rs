//! What this machine permits: each thing that measuring needs is tried once, on a process of our own that never runs an
//! instruction. Owns the words for consequence and remedy; prints nothing.

use std::path::PathBuf;
use std::time::Duration;

use crate::capture::{self, ObjectCache};
use crate::error::{Error, Result};
use crate::model::{At, Cancel, Capture, Finding, LaunchLimits, Memory as _, Name, Standing, Stdin};
use crate::sys::{pagemap, process};
use crate::trace::{self, Launch, Next, Point, Stopped};

/// Open files below which a few cases at once run out.
const FEW_FILES: u64 = 256;

/// Tries everything. Findings come in a fixed order; what needs something that is refused is left out.
///
/// # Errors
/// Cancelled.
pub fn examine(cancel: &Cancel) -> Result<Vec<Finding>> {
    let mut findings = vec![user(), files()];
    match stopped(cancel) {
        Err(error) if cancel.signal().is_some() => return Err(error),
        Err(error) => findings.push(refused(&error)),
        Ok(stopped) => {
            findings.push(Finding::works(
                "ptrace",
                "a program of ours can be launched, stopped and read",
            ));
            findings.push(attach());
            findings.extend(launch_settings(&stopped));
            findings.push(exit_filter(&stopped));
            findings.extend(reading(&stopped));
            findings.push(watchpoints(&stopped));
        }
    }
    findings.push(facts());
    findings.push(settings());
    findings.push(Finding::works(
        "perf",
        "not needed: no performance counter, kernel module or setting of the machine is used",
    ));
    Ok(findings)
}

/// True when nothing that is needed is refused.
#[must_use]
pub fn can_measure(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.standing < Standing::Refused)
}

/// Tries the one thing that nothing works without: to launch a process of ours and stop it. Takes milliseconds.
///
/// # Errors
/// It is refused, with cause and remedy.
pub(crate) fn stops_a_process(cancel: &Cancel) -> Result<()> {
    stopped(cancel).map(drop)
}

/// Ourselves, stopped before the first instruction.
fn stopped(cancel: &Cancel) -> Result<Stopped> {
    let launch = Launch {
        watch_stacks: false,
        program: PathBuf::from("/proc/self/exe"),
        argv0: Name::from("doctor"),
        args: Vec::new(),
        env: Some(Vec::new()),
        cwd: PathBuf::from("/"),
        stdin: Stdin::Null,
        tty: false,
        limits: LaunchLimits::default(),
        cpus: None,
        fixed: true,
        timeout: Duration::from_secs(10),
        dies_with_us: false,
        lets_children_go: false,
        output_tail_bytes: 0,
    };
    let points = [At::Exec, At::Exit].map(|at| Point::new(at, 1));
    match trace::launch(&launch, &points, cancel)?.next()? {
        Next::Paused(stopped, _) => Ok(stopped),
        Next::Ended(ended) => Err(Error::machine(format!(
            "a process of ours ended before it ran: {:?}",
            ended.end
        ))),
    }
}

fn refused(error: &Error) -> Finding {
    let (cause, remedy) = trace::refusal();
    Finding::refused(
        "ptrace",
        format!("{}: {cause}", error.problem().title),
        "no program can be stopped at a checkpoint: nothing can be measured but programs that stop at their markers by themselves",
        &format!("{remedy}; or: cargo memcheck --cooperative (feature `cooperative` of memcheck-probe, -DMEMCHECK_COOPERATIVE)"),
    )
}

fn user() -> Finding {
    match process::user() {
        0 => Finding::works("user", "root (not needed but for processes of others)"),
        user => Finding::works(
            "user",
            format!("user {user}: enough for everything that is launched from here"),
        ),
    }
}

fn files() -> Finding {
    match process::limit(crate::sys::limits::OPEN_FILES) {
        Ok((soft, _)) if soft < FEW_FILES => Finding::limited(
            "open files",
            format!("at most {soft}"),
            "several cases at once may run out of them, and fail with a clear error",
            "ulimit -n 1024, or fewer cases at once: -j 1",
        ),
        Ok((u64::MAX, _)) => Finding::works("open files", "unlimited"),
        Ok((soft, _)) => Finding::works("open files", format!("at most {soft}")),
        Err(error) => Finding::limited("open files", format!("the limit is unknown: {error}"), "none by itself", ""),
    }
}

fn attach() -> Finding {
    match trace::attaching() {
        (what, true) => Finding::works("attach", format!("show --pid: {what}")),
        (what, false) => Finding::limited(
            "attach",
            format!("show --pid: {what}"),
            "running processes cannot be shown; programs that are launched can",
            &format!("run as root, or: {}", trace::machine_settings().1),
        ),
    }
}

/// What the launch of a case asks for, as it was granted here.
fn launch_settings(stopped: &Stopped) -> Vec<Finding> {
    let setting = |name: &str| stopped.settings().iter().find(|setting| setting.name == name);
    let refusal = |name: &str| match setting(name) {
        Some(setting) => setting.refused.clone(),
        None => Some("it was not asked for".to_owned()),
    };
    let aslr = match refusal("aslr") {
        None => Finding::works("aslr", "can be turned off for targets"),
        Some(why) => Finding::limited(
            "aslr",
            format!("cannot be turned off (personality: {why})"),
            "the main stack's size differs from run to run: its rows are not compared",
            "allow personality(ADDR_NO_RANDOMIZE) in the container's seccomp profile",
        ),
    };
    let thp = match refusal("thp") {
        None => Finding::works("thp", "transparent huge pages can be turned off for targets"),
        Some(why) => Finding::limited(
            "thp",
            format!("transparent huge pages cannot be turned off (prctl: {why})"),
            "where they are set to `always`, anonymous memory grows in steps of 2 MiB and differs from run to run",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, or allow prctl(PR_SET_THP_DISABLE)",
        ),
    };
    let stack = match refusal("stack") {
        None => Finding::works("stack limit", "8 MiB can be set for targets"),
        Some(why) => Finding::limited(
            "stack limit",
            format!("8 MiB cannot be set ({why})"),
            "thread stacks reserve less than where snapshots were approved: their rows differ",
            "raise the hard limit (ulimit -Hs), or write limits = { stack = \"…\" } into every case",
        ),
    };
    vec![aslr, thp, stack]
}

fn exit_filter(stopped: &Stopped) -> Finding {
    if stopped.has_exit_filter() {
        return Finding::works(
            "exit",
            "stops at exit_group, with all threads still there (seccomp filter of ours)",
        );
    }
    Finding::limited(
        "exit",
        "a seccomp filter of ours is refused",
        "at `exit`, threads other than the one that ends the program may be gone already",
        "allow seccomp(SECCOMP_SET_MODE_FILTER), or stop at a probe before the end",
    )
}

/// What can be read of a stopped process.
fn reading(stopped: &Stopped) -> Vec<Finding> {
    let capture = match capture::read(stopped, &mut ObjectCache::default()) {
        Ok(capture) => capture,
        Err(error) => {
            return vec![Finding::refused(
                "smaps",
                error.problem().title.clone(),
                "the memory of a stopped process cannot be read: nothing can be measured",
                "mount /proc, without hidepid, for the user that measures",
            )];
        }
    };
    vec![smaps(&capture), pages(stopped, &capture), pagemap_scan(stopped)]
}

fn smaps(capture: &Capture) -> Finding {
    if capture.regions.iter().all(|region| region.usage.is_some()) {
        return Finding::works("smaps", "the kernel tells what of each mapping is resident");
    }
    Finding::limited(
        "smaps",
        "this kernel has none (CONFIG_PROC_PAGE_MONITOR is off)",
        "anonymous and resident sizes are absent: budgets on them fail by name, counts and reserved sizes are judged",
        "a kernel with CONFIG_PROC_PAGE_MONITOR",
    )
}

fn pages(stopped: &Stopped, capture: &Capture) -> Finding {
    let stack = capture.regions.iter().find(|region| region.name.as_bytes() == b"[stack]");
    let seen = stack.and_then(|stack| capture::memory(stopped).ok()?.pages(stack.start, stack.end));
    if seen.is_some_and(|runs| runs.iter().any(|run| run.resident)) {
        return Finding::works("pagemap", "tells which pages of a mapping are resident");
    }
    Finding::limited(
        "pagemap",
        "does not tell which pages are resident",
        "mappings that hold several kinds of memory are not divided: their roles have no anonymous sizes",
        "a kernel with CONFIG_PROC_PAGE_MONITOR, and permission to read /proc/PID/pagemap of one's own processes",
    )
}

fn pagemap_scan(stopped: &Stopped) -> Finding {
    let file = std::fs::File::open(format!("/proc/{}/pagemap", stopped.pid()));
    let scanned = file.and_then(|file| pagemap::scan(&file, 0, 1 << 20, pagemap::PRESENT, pagemap::PRESENT));
    match scanned {
        Ok(_) => Finding::works("PAGEMAP_SCAN", "tells pages of one kind in one call"),
        Err(error) => Finding::limited(
            "PAGEMAP_SCAN",
            format!("is not there ({error})"),
            "residency is read page by page instead; where a page could be the shared zero page, sizes of parts of a mapping are \
             absent",
            "Linux 6.7 or later; in a container, a seccomp profile that allows this ioctl",
        ),
    }
}

fn watchpoints(stopped: &Stopped) -> Finding {
    match stopped.try_watchpoint() {
        Ok(()) => Finding::works("watchpoints", "debug registers work (`touch`, `hardware = true`)"),
        Err(error) => Finding::limited(
            "watchpoints",
            format!("debug registers are refused ({error})"),
            "`touch` protects pages instead, which costs more; with `hardware = true` int3 is planted all the same; a note says so",
            "virtual machines: expose debug registers to the guest",
        ),
    }
}

/// Settings of the machine: none is ever changed by us, but remedies may ask for it.
fn settings() -> Finding {
    match trace::machine_settings().0 {
        false => Finding::works(
            "/proc/sys",
            "settings of the machine can be changed by root here; nothing of ours is written there",
        ),
        true => Finding::limited(
            "/proc/sys",
            "is mounted read-only, as in containers",
            "nothing is missing for measuring; what is named here as `sysctl` has to be run on the host",
            "on the host, or: docker run --privileged",
        ),
    }
}

/// Facts about the machine that belong to the environment of record.
fn facts() -> Finding {
    let known = capture::environment().facts;
    let missing: Vec<&str> = ["kernel", "libc", "thp", "cpus", "overcommit"]
        .into_iter()
        .filter(|name| !known.contains_key(*name))
        .collect();
    if missing.is_empty() {
        return Finding::works("facts", "everything that the environment of record names can be read");
    }
    Finding::limited(
        "facts",
        format!("not told here: {}", missing.join(", ")),
        "they are left out of the environment of record: a change of them is not named",
        "make /proc/sys and /sys readable; nothing there is ever written",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_measures_and_every_limit_has_its_consequence() {
        let findings = examine(&Cancel::new()).unwrap();
        assert!(can_measure(&findings), "{findings:#?}");
        let names: Vec<&str> = findings.iter().map(|finding| finding.name.as_str()).collect();
        for name in [
            "user",
            "ptrace",
            "attach",
            "aslr",
            "thp",
            "stack limit",
            "exit",
            "smaps",
            "pagemap",
            "perf",
        ] {
            assert!(names.contains(&name), "{names:?}");
        }
        for finding in &findings {
            assert_eq!(
                finding.standing == Standing::Works,
                finding.consequence.is_empty(),
                "{finding:?}"
            );
        }
    }

    #[test]
    fn one_refusal_is_enough() {
        let works = Finding::works("a", "b");
        assert!(can_measure(&[works.clone(), Finding::limited("c", "d", "e", "")]));
        assert!(!can_measure(&[works, Finding::refused("c", "d", "e", "")]));
    }
}
