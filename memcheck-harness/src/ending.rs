//! What was reached and how the target ended → whether the case can be judged at all. Pure.

use crate::error::{Error, Result};
use crate::model::{AfterLast, At, ByteSize, Case, CheckpointSpec, Children, End, ExpectedEnd, Problem, ProblemKind};
use crate::trace::{Ended, Suggestions, Totals, Unseen, Unsettled};

/// True when the target is to run on after its last checkpoint: asked for, needed for an `exit` checkpoint, or to see the end
/// that the case states, or the ends of all children.
#[must_use]
pub(crate) fn runs_to_its_end(case: &Case) -> bool {
    let states_an_end = case.exit.as_ref().is_some_and(|exit| *exit != ExpectedEnd::Any);
    let at_end = |spec: &CheckpointSpec| spec.at == At::Exit && spec.child.is_none();
    case.detach
        || case.after_last == AfterLast::Run
        || states_an_end
        || case.children == Children::Capture
        || case.checkpoints.iter().any(at_end)
}

/// True when nothing is left to wait for: the last checkpoint was reached, and of those before only optional ones were not.
/// `reached` are indices of checkpoints.
#[must_use]
pub(crate) fn is_complete(case: &Case, reached: &[usize]) -> bool {
    let is_last = reached.contains(&case.checkpoints.len().saturating_sub(1));
    is_last
        && case
            .checkpoints
            .iter()
            .enumerate()
            .all(|(i, spec)| !must_be_reached(case, spec, reached) || reached.contains(&i))
}

/// Of a series by children one must be reached, whichever; it stands for the first.
fn must_be_reached(case: &Case, spec: &CheckpointSpec, reached: &[usize]) -> bool {
    let Some(every) = spec.every.as_ref().filter(|every| every.by_child) else {
        return !spec.is_optional();
    };
    let is_of_it = |index: &usize| {
        let other = case.checkpoints.get(*index).and_then(|spec| spec.every.as_ref());
        other.is_some_and(|other| other.series == every.series)
    };
    every.number == 1 && !reached.iter().any(is_of_it)
}

/// Why the case cannot be judged, if it cannot: a checkpoint that was not reached, or an end that was not expected.
/// `reached` are indices of checkpoints; `suggest` gives names close to a place that was never passed.
#[must_use]
pub(crate) fn problem(case: &Case, reached: &[usize], ended: &Ended, suggest: &dyn Fn(&At) -> Suggestions) -> Option<Problem> {
    let missed = case
        .checkpoints
        .iter()
        .enumerate()
        .find(|(i, spec)| must_be_reached(case, spec, reached) && !reached.contains(i));
    if let Some((index, spec)) = missed {
        return Some(not_reached(case, index, spec, reached, ended, suggest));
    }
    if ended.end == End::TimedOut {
        return Some(Problem {
            kind: ProblemKind::NotJudged,
            title: format!("the target did not end within {} after its last checkpoint", seconds(case)),
            details: vec![match unfinished_series(case, reached) {
                Some((name, passes)) => format!(
                    "it was killed; series `{name}` was reached {passes} times and waits for more: limit = {passes} ends it there"
                ),
                None => "it was killed; after_last = \"kill\" does not wait for the end, timeout = \"…\" gives it more time"
                    .to_owned(),
            }],
        });
    }
    let expected = case.exit.clone().unwrap_or_default();
    if !runs_to_its_end(case) || as_expected(&expected, &ended.end) {
        return None;
    }
    Some(Problem {
        kind: ProblemKind::NotJudged,
        title: format!(
            "the target {}, expected was {}",
            describe(&ended.end),
            describe_expected(&expected)
        ),
        details: sanitizer(case, ended)
            .into_iter()
            .chain(std::iter::once(format!(
                "if that end is right: exit = {} in {}",
                toml_of(&ended.end),
                case.place
            )))
            .collect(),
    })
}

/// A series at the end of the case that did not come to its limit, and how often it was reached.
fn unfinished_series<'c>(case: &'c Case, reached: &[usize]) -> Option<(&'c str, usize)> {
    let last = case.checkpoints.last()?;
    let series = last.every.as_ref()?.series.as_str();
    let is_of_it = |index: &usize| {
        let every = case.checkpoints.get(*index).and_then(|spec| spec.every.as_ref());
        every.is_some_and(|every| every.series == series)
    };
    let passes = reached.iter().filter(|index| is_of_it(index)).count();
    (!reached.contains(&(case.checkpoints.len() - 1))).then_some((series, passes))
}

/// Checkpoints of a process are to be reached in the order in which they are written: a snapshot tells each as a change since
/// the one before. Those of different processes come as they come.
///
/// # Errors
/// When `now` comes before `last`, both indices of checkpoints of one process.
pub(crate) fn in_order(case: &Case, last: Option<usize>, now: usize) -> Result<()> {
    let name = |index: usize| case.checkpoints.get(index).map_or("?", |c| c.name.as_str());
    match last {
        Some(last) if now < last => Err(Error::not_judged(format!(
            "checkpoint `{}` was reached after `{}`, which stands below it",
            name(now),
            name(last)
        ))
        .detail("write the checkpoints in the order in which they are reached")),
        _ => Ok(()),
    }
}

fn not_reached(
    case: &Case,
    index: usize,
    spec: &CheckpointSpec,
    reached: &[usize],
    ended: &Ended,
    suggest: &dyn Fn(&At) -> Suggestions,
) -> Problem {
    let names: Vec<&str> = reached
        .iter()
        .filter_map(|&i| case.checkpoints.get(i))
        .map(|c| c.name.as_str())
        .collect();
    let reached_text = if names.is_empty() {
        "no checkpoint was reached".to_owned()
    } else {
        format!("reached: {}", names.join(", "))
    };
    let end = match ended.end {
        End::TimedOut => format!("then the time limit of {} was over", seconds(case)),
        _ => format!("then the target {}", describe(&ended.end)),
    };
    // An end that nobody planned is what happened; that a checkpoint was missed only follows from it.
    let fell = matches!(ended.end, End::Signalled(_) | End::Exited(_))
        && ended.end != End::Exited(0)
        && !as_expected(&case.exit.clone().unwrap_or_default(), &ended.end);
    let mut details = if fell {
        vec![reached_text]
    } else {
        vec![format!("{reached_text}; {end}")]
    };
    let passes = ended.hits.get(index).copied().unwrap_or(0);
    let unsettled = ended.unsettled.as_ref().filter(|unsettled| unsettled.point == index);
    if let Some(unsettled) = unsettled {
        details.extend(restless(spec, unsettled));
    } else if passes >= spec.hit {
        details.push(format!(
            "`{}` was passed, but the target was gone before it stood there",
            spec.at_text()
        ));
    } else if passes > 0 {
        details.push(format!(
            "`{}` was passed {}, hit = {} was asked for",
            spec.at_text(),
            if passes == 1 {
                "once".to_owned()
            } else {
                format!("{passes} times")
            },
            spec.hit
        ));
    } else if spec
        .child
        .as_ref()
        .is_none_or(|child| ended.children.iter().any(|name| child.means(name)))
    {
        let mut found = suggest(&spec.at);
        if fell {
            found.others.clear();
        }
        details.extend(near_misses(spec, &found, fell));
    }
    match ended.unseen.get(&index) {
        Some(Unseen::Buffered) => details.push(
            "such a line lies in the target's memory, not written: stdout is block-buffered on a pipe: fflush, or tty = true"
                .to_owned(),
        ),
        Some(Unseen::Unfinished) => {
            details.push("such a line was written, but without a line break at its end: it may still go on".to_owned());
        }
        None => {}
    }
    details.extend(children_seen(spec, ended));
    if ended.end == End::TimedOut {
        if spec.at == At::Exit {
            details.push(
                "what does not end by itself needs a checkpoint of its own instead: a marker, { output = \"…\" } or \"idle\""
                    .to_owned(),
            );
        }
        details.push("more time: timeout = \"60s\" in the case or in [defaults]".to_owned());
    }
    let title = if fell {
        format!(
            "the target {} before checkpoint `{}` ({}, {})",
            describe(&ended.end),
            spec.name,
            spec.at_text(),
            spec.place
        )
    } else if unsettled.is_some() {
        format!(
            "checkpoint `{}` did not settle ({}, {})",
            spec.name,
            spec.at_text(),
            spec.place
        )
    } else {
        format!(
            "checkpoint `{}` was not reached ({}, {})",
            spec.name,
            spec.at_text(),
            spec.place
        )
    };
    Problem {
        kind: ProblemKind::NotJudged,
        title,
        details,
    }
}

/// The children there were, where the one that a checkpoint is in was not among them.
fn children_seen(spec: &CheckpointSpec, ended: &Ended) -> Option<String> {
    let child = spec.child.as_ref()?;
    let names: Vec<String> = ended.children.iter().map(ToString::to_string).collect();
    if ended.children.iter().any(|name| child.means(name)) {
        let hint = "a child that was forked goes on behind `fork`: it passes neither exec nor main";
        return matches!(spec.at, At::Exec | At::Main).then(|| hint.to_owned());
    }
    Some(match names.as_slice() {
        [] => "the target made no child process".to_owned(),
        _ => format!("there was no child {child}; there were: {}", names.join(", ")),
    })
}

/// A checkpoint that was reached, and memory that went on changing there.
fn restless(spec: &CheckpointSpec, unsettled: &Unsettled) -> Vec<String> {
    let window = format!("{} ms", spec.settle.unwrap_or_default().as_millis());
    let mut lines = vec![format!(
        "`{}` was passed, but memory was not the same for {window} (settle) while the other threads ran on",
        spec.at_text()
    )];
    if let Some((before, after)) = unsettled.change {
        let told = |totals: Totals| {
            format!(
                "{} anonymous of {} in {} mappings, {} threads",
                ByteSize(totals.anon),
                ByteSize(totals.reserved),
                totals.mappings,
                totals.threads
            )
        };
        lines.push(format!("its last change seen: {}, then {}", told(before), told(after)));
        lines.push("a shorter settle, or a checkpoint that every run passes in the same state".to_owned());
    }
    lines
}

/// That the place is there; or what the user may have meant, then what else there is.
fn near_misses(spec: &CheckpointSpec, found: &Suggestions, fell: bool) -> Vec<String> {
    if let Some(holder) = &found.holder {
        return vec![format!("`{}` is in `{holder}`, but was not passed", spec.at)];
    }
    let mut lines = Vec::new();
    if !found.near.is_empty() {
        let near: Vec<String> = found.near.iter().map(|name| format!("`{name}`")).collect();
        lines.push(format!("did you mean {}?", near.join(" or ")));
    }
    if !found.others.is_empty() {
        let more = if found.near.is_empty() { "" } else { " more" };
        lines.push(format!(
            "the program and its own libraries have{more}: {}",
            found.others.join(", ")
        ));
    } else if found.near.is_empty() && !fell && spec.child.is_none() {
        let remark = match &spec.at {
            At::Probe { .. } => "any such probe: was it built with the marker?".to_owned(),
            At::Function(_) | At::Returns(_) => "a function of that name: is it inlined, stripped or spelt otherwise?".to_owned(),
            At::Line { file, .. } => format!("line tables for {file}: compile with -g (cargo: profile = \"memcheck\")"),
            _ => return lines,
        };
        lines.push(format!("neither the program nor a library of its own has {remark}"));
    }
    lines
}

/// LeakSanitizer stops the threads of its own process by ptrace, which a traced process is refused; it says so and ends.
fn sanitizer(case: &Case, ended: &Ended) -> Option<String> {
    let text = String::from_utf8_lossy(ended.output.stderr.as_bytes());
    (!case.detach && text.contains("LeakSanitizer") && text.contains("ptrace")).then(|| {
        "LeakSanitizer does not work in a traced process: detach = true lets the target go after its last checkpoint".to_owned()
    })
}

/// A program that traces others and did not end as it should: where no filter shows its calls, that may be why. What is seen is a note.
pub(crate) fn tracer(case: &Case, ended: &Ended, is_tracer: &dyn Fn() -> bool) -> Option<String> {
    let failed = matches!(ended.end, End::Signalled(_) | End::Exited(1..) | End::TimedOut);
    let goes = case.detach || case.cooperative || case.children == Children::Detach;
    let mut checkpoints = case.checkpoints.iter();
    let is_seen = case.watch_stacks || checkpoints.any(|spec| spec.at == At::Exit || spec.at.needs_filter());
    (failed && !goes && !is_seen && is_tracer()).then(|| {
        "the program calls ptrace: if it traces its children, cargo memcheck does so already, and the kernel allows one tracer; children = \
         \"detach\" lets children go when they are born, detach = true all after the last checkpoint"
            .to_owned()
    })
}

fn seconds(case: &Case) -> String {
    let millis = case.timeout.as_millis();
    if millis.is_multiple_of(1000) {
        format!("{} s", millis / 1000)
    } else {
        format!("{millis} ms")
    }
}

fn as_expected(expected: &ExpectedEnd, end: &End) -> bool {
    match (expected, end) {
        (ExpectedEnd::Any, _) | (_, End::Killed) => true,
        (ExpectedEnd::Success, End::Exited(code)) => *code == 0,
        (ExpectedEnd::Code(expected), End::Exited(code)) => expected == code,
        (ExpectedEnd::Signal(expected), End::Signalled(signal)) => expected == signal,
        _ => false,
    }
}

/// A verb phrase: "exited with code 1".
#[must_use]
pub(crate) fn describe(end: &End) -> String {
    match end {
        End::Exited(code) => format!("exited with code {code}"),
        End::Signalled(signal) => format!("was killed by {signal}"),
        End::Killed => "was killed by us after its last checkpoint".to_owned(),
        End::TimedOut => "was killed by us as its time was over".to_owned(),
    }
}

fn describe_expected(expected: &ExpectedEnd) -> String {
    match expected {
        ExpectedEnd::Success => "exit code 0".to_owned(),
        ExpectedEnd::Code(code) => format!("exit code {code}"),
        ExpectedEnd::Signal(signal) => format!("death by {signal}"),
        ExpectedEnd::Any => "any end".to_owned(),
    }
}

fn toml_of(end: &End) -> String {
    match end {
        End::Exited(code) => code.to_string(),
        End::Signalled(signal) => format!("{{ signal = \"{signal}\" }}"),
        End::Killed | End::TimedOut => "\"any\"".to_owned(),
    }
}

/// Adds where a case was written to a mistake that showed only when it was launched (`cwd`, `stdin`) and names no place yet.
pub(crate) fn at_case(error: Error, case: &Case) -> Error {
    let place = &case.place;
    let is_placed = || {
        let problem = error.problem();
        std::iter::once(&problem.title)
            .chain(&problem.details)
            .any(|text| text.contains(&format!("{}:", place.file)))
    };
    if error.kind() != ProblemKind::Config || place.file.is_empty() || is_placed() {
        return error;
    }
    error.detail(format!("case {} at {place}", case.name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::{Every, OutputTail, Target};

    fn case(exit: ExpectedEnd) -> Case {
        let mut case = Case::new(
            "a",
            "/p",
            Target::Command {
                program: "true".to_owned(),
            },
        );
        case.exit = Some(exit);
        case.checkpoints = vec![
            CheckpointSpec::new("start", At::Main),
            CheckpointSpec::new(
                "ready",
                At::Probe {
                    provider: "memcheck".to_owned(),
                    name: "ready".to_owned(),
                },
            ),
            CheckpointSpec::new("end", At::Exit),
        ];
        case
    }

    fn ended(end: End, hits: &[u64]) -> Ended {
        Ended {
            end,
            output: OutputTail::default(),
            hits: hits.to_vec(),
            unseen: BTreeMap::new(),
            unsettled: None,
            notes: Vec::new(),
            settings: Vec::new(),
            children: Vec::new(),
        }
    }

    #[test]
    fn a_missed_checkpoint_says_what_was_reached_and_what_there_is() {
        let problem = problem(&case(ExpectedEnd::Any), &[0], &ended(End::Exited(0), &[1, 0, 0]), &|_| {
            Suggestions {
                holder: None,
                near: vec!["redy".to_owned()],
                others: vec!["done".to_owned()],
            }
        });
        let problem = problem.unwrap();
        assert!(problem.title.contains("`ready` was not reached"), "{}", problem.title);
        assert_eq!(
            problem.details,
            [
                "reached: start; then the target exited with code 0",
                "did you mean `redy`?",
                "the program and its own libraries have more: done"
            ]
        );
    }

    #[test]
    fn a_place_that_is_nowhere_says_what_it_needs() {
        let line = At::Line {
            file: "pool.c".to_owned(),
            line: 7,
        };
        for (at, words) in [
            (line, "has line tables for pool.c: compile with -g"),
            (At::Function("f".to_owned()), "has a function of that name"),
        ] {
            let spec = CheckpointSpec::new("a", at);
            let said = near_misses(&spec, &Suggestions::default(), false);
            assert!(said.len() == 1 && said[0].contains(words), "{said:?}");
            assert!(near_misses(&spec, &Suggestions::default(), true).is_empty(), "it fell before");
        }
    }

    #[test]
    fn an_end_that_nobody_planned_is_the_headline() {
        let judge = |expected, end| {
            let ended = ended(end, &[1, 0, 0]);
            problem(&case(expected), &[0], &ended, &|_| Suggestions::default()).unwrap()
        };
        let crash = || End::Signalled("SIGSEGV".to_owned());
        let problem = judge(ExpectedEnd::Success, crash());
        assert!(
            problem
                .title
                .starts_with("the target was killed by SIGSEGV before checkpoint `ready` ("),
            "{}",
            problem.title
        );
        assert_eq!(problem.details, ["reached: start"]);
        let early = judge(ExpectedEnd::Success, End::Exited(3));
        assert!(
            early.title.starts_with("the target exited with code 3 before"),
            "{}",
            early.title
        );
        let planned = judge(ExpectedEnd::Signal("SIGSEGV".to_owned()), crash());
        assert!(
            planned.title.starts_with("checkpoint `ready` was not reached"),
            "{}",
            planned.title
        );
    }

    #[test]
    fn the_end_is_checked_when_the_target_runs_to_it() {
        let all = [0, 1, 2];
        let judge =
            |expected, end| problem(&case(expected), &all, &ended(end, &[1, 1, 1]), &|_| Suggestions::default()).map(|p| p.title);
        assert_eq!(judge(ExpectedEnd::Success, End::Exited(0)), None);
        assert_eq!(
            judge(
                ExpectedEnd::Signal("SIGSEGV".to_owned()),
                End::Signalled("SIGSEGV".to_owned())
            ),
            None
        );
        assert_eq!(judge(ExpectedEnd::Any, End::Signalled("SIGABRT".to_owned())), None);
        let wrong = judge(ExpectedEnd::Success, End::Exited(3)).unwrap();
        assert_eq!(wrong, "the target exited with code 3, expected was exit code 0");
        assert!(
            judge(ExpectedEnd::Success, End::TimedOut)
                .unwrap()
                .contains("did not end within 30 s")
        );
    }

    #[test]
    fn of_a_series_only_the_first_must_be_reached() {
        let mut case = case(ExpectedEnd::Any);
        for number in 1..=3 {
            let mut one = CheckpointSpec::new(format!("round.{number}"), At::Function("round".to_owned()));
            one.hit = number;
            one.every = Some(Every {
                series: "round".to_owned(),
                number,
                limit: 3,
                step: 1,
                warm_up: None,
                by_child: false,
            });
            case.checkpoints.insert(case.checkpoints.len() - 1, one);
        }
        let title = |reached: &[usize], end| {
            let problem = problem(&case, reached, &ended(end, &[]), &|_| Suggestions::default());
            problem.map_or_else(String::new, |problem| {
                format!("{} {}", problem.title, problem.details.join(" "))
            })
        };
        assert_eq!(title(&[0, 1, 2, 5], End::Exited(0)), "");
        assert!(title(&[0, 1, 5], End::Exited(0)).contains("`round.1` was not reached"));
        assert!(is_complete(&case, &[0, 1, 2, 5]));
        assert!(!is_complete(&case, &[0, 1, 5]));
        assert!(!is_complete(&case, &[0, 1, 2, 3]));
        case.checkpoints.pop();
        let unfinished = problem(&case, &[0, 1, 2, 3], &ended(End::TimedOut, &[]), &|_| Suggestions::default()).unwrap();
        assert!(
            unfinished.details[0].contains("`round` was reached 2 times"),
            "{unfinished:?}"
        );
    }

    #[test]
    fn a_hit_count_that_was_not_reached_is_told() {
        for (hit, words) in [
            (3, "was passed 2 times, hit = 3 was asked for"),
            (2, "was passed, but the target was gone before it stood there"),
        ] {
            let mut case = case(ExpectedEnd::Any);
            case.checkpoints[1].hit = hit;
            let ended = ended(End::TimedOut, &[1, 2, 0]);
            let problem = problem(&case, &[0], &ended, &|_| Suggestions::default()).unwrap();
            assert!(
                problem.details.iter().any(|line| line.contains(words)),
                "{:?}",
                problem.details
            );
        }
    }

    #[test]
    fn a_stated_end_is_waited_for() {
        let mut case = case(ExpectedEnd::Any);
        case.checkpoints.truncate(2);
        assert!(!runs_to_its_end(&case));
        case.exit = Some(ExpectedEnd::Code(3));
        assert!(runs_to_its_end(&case));
        let wrong = problem(&case, &[0, 1], &ended(End::Exited(0), &[1, 1]), &|_| Suggestions::default()).unwrap();
        assert_eq!(wrong.title, "the target exited with code 0, expected was exit code 3");
    }
}
