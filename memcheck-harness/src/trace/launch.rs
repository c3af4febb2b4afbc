//! Starting a target: settings, environment, output pipes, the child, and the stop before its first instruction.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::model::{AppliedSetting, At, ByteSize, Cancel, Stdin, machine_name};
use crate::sys::clone::{self, Child, Plan, Report, Step};
use crate::sys::limits::{ADDRESS_SPACE, CORE, OPEN_FILES, STACK};
use crate::sys::names::signal_name;
use crate::sys::wait::{self, Event, Status};
use crate::sys::{process, ptrace, pty, seccomp, thp};

use super::bell::Bell;
use super::calls::{self, Calls};
use super::clock::{Clock, Halt};
use super::family::Family;
use super::image::Images;
use super::output::Output;
use super::pad;
use super::pages::Pages;
use super::session::{Counted, Session};
use super::tasks::Tasks;
use super::{Launch, Point, arch};

/// The soft stack limit of a fixed launch: the usual default of distributions.
const FIXED_STACK: u64 = 8 << 20;

/// How long output pipes that stay open are read after the target's end.
pub(super) const OUTPUT_GRACE: Duration = Duration::from_millis(200);

/// One limit that is asked for: what it is called, resource, soft, hard.
pub(super) struct AskedLimit {
    name: &'static str,
    value: String,
    resource: u32,
    soft: u64,
    hard: u64,
    /// Set when the value had to be lowered already.
    lowered: Option<String>,
}

/// Starts the target and leaves it at its exec stop, with that event still to be handled.
pub(super) fn start(launch: &Launch, points: &[Point], cancel: &Cancel) -> std::result::Result<Session, Halt> {
    if arch::MACHINE.is_none() {
        return Err(Error::machine("targets can be traced on x86-64 and AArch64 only").into());
    }
    if let Some(signal) = cancel.signal() {
        return Err(Halt::Cancelled(signal));
    }
    let clock = Clock::new(launch.timeout, cancel)
        .map_err(|error| Error::machine(format!("could not make a timer for the time limit: {error}")))?;
    let (stdout, stderr, out, err) = if launch.tty { terminal()? } else { pipes()? };
    let calls = Calls::new(points, [&out, &err])?;
    let mut rules = if launch.lets_children_go {
        Vec::new()
    } else {
        calls::rules(points)
    };
    if launch.lets_children_go {
        needs_no_filter(launch, points)?;
    }
    let for_points = !rules.is_empty();
    if launch.watch_stacks {
        rules.push(seccomp::discards());
    }
    if !rules.is_empty() {
        rules.extend(seccomp::traces());
        rules.push(seccomp::untraced());
    }
    let mut settings = Vec::new();
    let (mut plan, limits) = plan(launch, out, err, &mut settings)?;
    if !rules.is_empty() {
        plan.filter = seccomp::filter(&rules);
    }
    let thp_off = if launch.fixed { Some(thp::Off::new()) } else { None };
    let child = clone::create(plan).map_err(|error| Error::machine(format!("could not start a process: {error}")))?;
    ptrace::seize(child.pid(), ptrace::OPTIONS).map_err(|error| not_permitted(&error))?;
    child
        .release()
        .map_err(|error| Error::tool(format!("could not start the target: {error}")))?;
    // What it writes meanwhile waits in the pipes.
    let output = Output::drain(stdout, stderr, launch.output_tail_bytes, OUTPUT_GRACE)
        .map_err(|error| Error::machine(format!("could not start to read the target's output: {error}")))?;

    let mut tasks = Tasks::default();
    let mut clock = clock;
    clock.run();
    let reached = reach_exec(&child, &clock);
    clock.pause();
    let report = child.report();
    if let Some(status) = reached? {
        // Its end is collected.
        child.went_away();
        return Err(failed(launch, &report, status).into());
    }
    if report.filter != 0 && for_points {
        // It stands before its first instruction, and goes with `child`.
        refuse_calls(points, report.filter)?;
    }
    let main = child.pid();
    child.went_away();
    tasks.add(main, main);
    tasks.hold(main, Status::Event(Event::Exec));
    let exit_filter = for_points && report.filter == 0;
    if !exit_filter && points.iter().any(|point| point.at == At::Exit) {
        let _ = ptrace::set_options(main, ptrace::OPTIONS | ptrace::TRACE_EXIT);
    }
    if launch.watch_stacks {
        settings.push(AppliedSetting {
            name: "watch".to_owned(),
            value: "stacks".to_owned(),
            refused: (report.filter != 0).then(|| io::Error::from_raw_os_error(report.filter).to_string()),
        });
    }
    record(launch, &limits, &report, thp_off.as_ref(), &mut settings);
    drop(thp_off);

    Ok(Session {
        main,
        tasks,
        points: points
            .iter()
            .map(|point| Counted {
                point: point.clone(),
                hits: 0,
                since: None,
                done_at: None,
                met: None,
            })
            .collect(),
        due: std::collections::VecDeque::new(),
        calls,
        bell: Bell::new(clock.waker()),
        quiet: None,
        settling: None,
        images: Images::default(),
        main_image: 0,
        family: Family::default(),
        leader: RefCell::default(),
        pages: Pages::default(),
        clock,
        output,
        settings,
        notes: set_id_note(&launch.program).into_iter().collect(),
        finishing: false,
        lets_children_go: launch.lets_children_go,
        lent: None,
        is_off: false,
        early: None,
        makers: BTreeMap::new(),
        end: None,
        exit_filter,
        watches_stacks: launch.watch_stacks && report.filter == 0,
        events: 0,
        page_bytes: process::page_bytes(),
    })
}

/// What the child is to do to itself, without a filter; and the limits that are asked for.
pub(super) fn plan(
    launch: &Launch,
    out: OwnedFd,
    err: OwnedFd,
    settings: &mut Vec<AppliedSetting>,
) -> Result<(Plan, Vec<AskedLimit>)> {
    let limits = limits(launch);
    let environment = environment(launch, settings)?;
    let cpus = cpus(launch, settings);
    let plan = Plan {
        program: text(launch.program.as_os_str(), "the path of the program")?,
        arguments: arguments(launch)?,
        environment,
        directory: text(launch.cwd.as_os_str(), "the working directory")?,
        streams: [stdin(&launch.stdin)?, out, err],
        channel: None,
        no_randomize: launch.fixed,
        limits: limits.iter().map(|one| (one.resource, one.soft, one.hard)).collect(),
        cpus,
        dies_with_parent: launch.dies_with_us,
        filter: Vec::new(),
    };
    Ok((plan, limits))
}

/// Waits for the exec stop. A status is the child's end before that.
fn reach_exec(child: &Child, clock: &Clock) -> std::result::Result<Option<Status>, Halt> {
    loop {
        clock.check()?;
        match wait::one(child.pid(), true) {
            Ok(Some(Status::Event(Event::Exec))) => return Ok(None),
            Ok(Some(status @ (Status::Exited(_) | Status::Killed(_)))) => return Ok(Some(status)),
            Ok(Some(Status::Signal(signal))) => drop(ptrace::cont(child.pid(), signal)),
            Ok(Some(Status::Group)) => drop(ptrace::listen(child.pid())),
            // The exit of a child whose exec failed may stop at our own filter.
            Ok(Some(Status::Event(_) | Status::Interrupt | Status::Call)) => drop(ptrace::cont(child.pid(), 0)),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::tool(format!("could not wait for the target: {error}")).into()),
        }
    }
}

/// Our ends of standard output and standard error (one for both at a terminal), then the target's.
pub(super) type Streams = (OwnedFd, Option<OwnedFd>, OwnedFd, OwnedFd);

pub(super) fn pipes() -> Result<Streams> {
    let pipe = || {
        let made = io::pipe().and_then(|(reader, writer)| Ok((reader.into(), process::above_standard(writer.into())?)));
        made.map_err(|error| Error::machine(format!("could not make a pipe for the target's output: {error}")))
    };
    let (stdout, out) = pipe()?;
    let (stderr, err) = pipe()?;
    Ok((stdout, Some(stderr), out, err))
}

fn terminal() -> Result<Streams> {
    let made = pty::open().and_then(|(ours, theirs)| {
        let theirs = process::above_standard(theirs)?;
        let again = process::above_standard(theirs.try_clone()?)?;
        Ok((ours, None, theirs, again))
    });
    made.map_err(|error| {
        Error::machine(format!(
            "could not make a terminal for the target's output (tty = true): {error}"
        ))
    })
}

fn stdin(stdin: &Stdin) -> Result<OwnedFd> {
    let path = match stdin {
        Stdin::Null => Path::new("/dev/null"),
        Stdin::File(path) => path,
    };
    let opened = File::open(path).and_then(|file| process::above_standard(file.into()));
    opened.map_err(|error| Error::config(format!("could not open {} as standard input: {error}", path.display())))
}

fn text(value: &OsStr, what: &str) -> Result<CString> {
    without_nul(value.as_bytes().to_vec(), what)
}

fn without_nul(bytes: Vec<u8>, what: &str) -> Result<CString> {
    CString::new(bytes).map_err(|_| Error::config(format!("{what} contains a NUL byte")))
}

fn arguments(launch: &Launch) -> Result<Vec<CString>> {
    let first = OsStr::from_bytes(launch.argv0.as_bytes());
    let rest = launch.args.iter().map(|argument| argument.as_os_str());
    std::iter::once(first)
        .chain(rest)
        .map(|one| text(one, "an argument"))
        .collect()
}

/// The environment as strings, with the padding of a fixed launch.
fn environment(launch: &Launch, settings: &mut Vec<AppliedSetting>) -> Result<Vec<CString>> {
    let given = launch.env.clone().unwrap_or_else(|| std::env::vars_os().collect());
    let mut strings = Vec::with_capacity(given.len() + 1);
    for (name, value) in given {
        if launch.fixed && name == pad::VARIABLE {
            continue;
        }
        // With room for the NUL.
        let mut one = Vec::with_capacity(name.len() + value.len() + 2);
        one.extend_from_slice(name.as_bytes());
        one.push(b'=');
        one.extend_from_slice(value.as_bytes());
        strings.push(without_nul(one, "an environment variable")?);
    }
    if launch.fixed {
        let (length, total) = pad::padding(&pad::Image {
            program: launch.program.as_os_str().len(),
            arguments: std::iter::once(launch.argv0.as_bytes().len())
                .chain(launch.args.iter().map(|one| one.len()))
                .collect(),
            environment: strings.iter().map(|one| one.as_bytes().len()).collect(),
            platform: process::platform_bytes(),
        });
        strings.push(text(
            OsStr::new(&format!("{}={}", pad::VARIABLE, "x".repeat(length))),
            "the padding",
        )?);
        settings.push(AppliedSetting {
            name: "environment".to_owned(),
            value: format!("padded to {}", ByteSize(total as u64)),
            refused: None,
        });
    }
    Ok(strings)
}

fn limits(launch: &Launch) -> Vec<AskedLimit> {
    let mut all = Vec::new();
    let mut ask = |name, resource, value: u64, keep_hard: bool| {
        let hard = process::limit(resource).map_or(u64::MAX, |(_, hard)| hard);
        // The user's own limit binds the target for good; our default leaves it free to raise it.
        let (soft, new_hard, lowered) = if !keep_hard {
            (value, value, None)
        } else if value <= hard {
            (value, hard, None)
        } else {
            (
                hard,
                hard,
                Some(format!("the hard limit of this machine is {}", ByteSize(hard))),
            )
        };
        all.push(AskedLimit {
            name,
            value: if matches!(resource, OPEN_FILES | CORE) {
                value.to_string()
            } else {
                ByteSize(value).to_string()
            },
            resource,
            soft,
            hard: new_hard,
            lowered,
        });
    };
    if launch.fixed {
        ask("core", CORE, 0, false);
    }
    match launch.limits.stack_bytes {
        Some(bytes) => ask("stack", STACK, bytes, false),
        None if launch.fixed => ask("stack", STACK, FIXED_STACK, true),
        None => {}
    }
    if let Some(bytes) = launch.limits.address_space_bytes {
        ask("address space", ADDRESS_SPACE, bytes, false);
    }
    if let Some(count) = launch.limits.open_files {
        ask("open files", OPEN_FILES, count, false);
    }
    all
}

/// The first CPUs of those that we may use ourselves.
fn cpus(launch: &Launch, settings: &mut Vec<AppliedSetting>) -> Option<Vec<u64>> {
    let wanted = launch.cpus?;
    let mut setting = AppliedSetting {
        name: "cpus".to_owned(),
        value: wanted.to_string(),
        refused: None,
    };
    let mask = process::allowed_cpus().and_then(|mut mask| {
        let mut left = wanted;
        for word in &mut mask {
            for bit in 0..64 {
                if *word & (1 << bit) != 0 {
                    if left == 0 {
                        *word &= !(1 << bit);
                    }
                    left = left.saturating_sub(1);
                }
            }
        }
        let chosen: u32 = mask.iter().map(|word| word.count_ones()).sum();
        if chosen < wanted {
            setting.refused = Some(format!("only {chosen} can be used"));
        }
        (chosen > 0).then_some(mask)
    });
    settings.push(setting);
    mask
}

/// Completes the list of settings with what the child was granted.
pub(super) fn record(
    launch: &Launch,
    limits: &[AskedLimit],
    report: &Report,
    thp_off: Option<&io::Result<thp::Off>>,
    settings: &mut Vec<AppliedSetting>,
) {
    let refusal = |error: i32| (error != 0).then(|| io::Error::from_raw_os_error(error).to_string());
    if launch.fixed {
        settings.push(AppliedSetting {
            name: "aslr".to_owned(),
            value: "off".to_owned(),
            refused: refusal(report.no_randomize),
        });
    }
    if let Some(result) = thp_off {
        settings.push(AppliedSetting {
            name: "thp".to_owned(),
            value: "off".to_owned(),
            refused: result.as_ref().err().map(ToString::to_string),
        });
    }
    for (limit, error) in limits.iter().zip(&report.limits) {
        settings.push(AppliedSetting {
            name: limit.name.to_owned(),
            value: limit.value.clone(),
            refused: refusal(*error).or_else(|| limit.lowered.clone()),
        });
    }
    if report.cpus != 0
        && let Some(setting) = settings.iter_mut().find(|setting| setting.name == "cpus")
    {
        setting.refused = refusal(report.cpus);
    }
    settings.sort_by(|a, b| a.name.cmp(&b.name));
}

/// Why the target never ran.
pub(super) fn failed(launch: &Launch, report: &Report, status: Status) -> Error {
    let program = launch.program.display();
    let Some((step, number)) = report.failed else {
        let how = match status {
            Status::Killed(signal) => format!("killed by {}", signal_name(signal)),
            _ => "it ended by itself".to_owned(),
        };
        return Error::not_judged(format!("{program} was gone before it could run: {how}"));
    };
    let error = io::Error::from_raw_os_error(number);
    match step {
        Step::Directory => Error::config(format!(
            "could not enter the working directory {}: {error}",
            launch.cwd.display()
        )),
        Step::Streams => Error::tool(format!("could not connect the target's output: {error}")),
        Step::Execute => {
            let title = format!("could not run {program}: {error}");
            match error.kind() {
                io::ErrorKind::NotFound if launch.program.exists() => Error::not_judged(title)
                    .detail("the file is there, but its loader or script interpreter (ELF PT_INTERP, #!) is missing"),
                io::ErrorKind::PermissionDenied if !may_execute(&launch.program) => {
                    Error::not_judged(title).detail("the file is not executable: chmod +x, or name the built program")
                }
                io::ErrorKind::ArgumentListTooLong => Error::config(title).detail("arguments and environment are too large"),
                _ => match foreign(&launch.program) {
                    Some(line) => Error::machine(title).detail(line),
                    None => Error::not_judged(title),
                },
            }
        }
    }
}

fn may_execute(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// A program of another machine (`e_machine`, ELF specification).
fn foreign(path: &Path) -> Option<String> {
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let facts = crate::elf::facts(&File::open(path).ok()?).ok()?;
    if Some(facts.machine) == arch::MACHINE {
        return None;
    }
    let name = machine_name(facts.machine);
    Some(format!(
        "it is a program for {name}; this machine is {}",
        std::env::consts::ARCH
    ))
}

pub(super) fn not_permitted(error: &io::Error) -> Error {
    let (cause, remedy) = super::permit::rules().refusal();
    Error::machine(format!(
        "this machine does not let us trace a child of ours (ptrace: {error})"
    ))
    .detail(cause)
    .detail(remedy)
    .detail("or let markers stop their program by themselves: cargo memcheck --cooperative (docs/cooperative.md)")
    .detail("cargo memcheck doctor  tells what this machine permits")
}

/// A filter would stay in children that are let go, and refuse their calls.
fn needs_no_filter(launch: &Launch, points: &[Point]) -> Result<()> {
    let filtered = points.iter().find(|point| point.at.needs_filter());
    let what = match filtered {
        Some(point) => format!("checkpoints at {}", point.at),
        None if launch.watch_stacks => "the depth of stacks of finished threads".to_owned(),
        None => return Ok(()),
    };
    Err(Error::config(format!(
        "{what}: this needs a filter on system calls, which would stay in children that are let go"
    )))
}

/// Without a filter the end of the program can still be seen, other calls cannot.
fn refuse_calls(points: &[Point], error: i32) -> Result<()> {
    let needs_it = |point: &&Point| point.at != At::Exit && !calls::rules(std::slice::from_ref(point)).is_empty();
    match points.iter().find(needs_it) {
        Some(point) => Err(Error::machine(format!(
            "checkpoints at {} need a seccomp filter, which this machine refuses: {}",
            point.at,
            io::Error::from_raw_os_error(error)
        ))),
        None => Ok(()),
    }
}

/// The kernel ignores set-user-ID bits of traced programs unless the tracer is privileged (execve(2)).
fn set_id_note(program: &Path) -> Option<String> {
    if process::is_root() {
        return None;
    }
    let found = program.metadata().ok()?;
    (found.mode() & 0o6000 != 0)
        .then(|| "the program's set-user-ID bit was ignored, as it is for every traced program".to_owned())
}
