//! The memory of a program by role, for `cargo memcheck show` and the first contact: a table per stop, the change since
//! another stop, and region by region with the reason for each label. Judges nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use super::Style;
use super::problem;
use super::show_malloc;
use super::stacks::stacks;
use super::text::{Ink, clean, labelled, paint, plural, wrap};
use crate::model::{CaseReport, CheckpointReport, Confidence, EmptyProgram, End, MemoryMap, Perms, Piece, Role, StackState};

/// One line of a table: a role, or a sum. Bytes; absent where a part of it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) count: Option<u64>,
    pub(super) reserved: Option<u64>,
    pub(super) resident: Option<u64>,
    pub(super) anon: Option<u64>,
    pub(super) pss: Option<u64>,
}

/// A role with its figures, the kinds of access and the least sure of its labels.
pub(super) struct RoleRow {
    pub(super) role: Role,
    pub(super) figures: Figures,
    pub(super) access: String,
    pub(super) confidence: Confidence,
}

/// Prints what was measured of a program: tables, or with `since` (the name of a stop) the changes from there to each other
/// stop; then, if something went wrong, what. With `-v` region by region. What an empty program costs stands below own memory.
///
/// # Errors
/// Those of the writer.
pub fn show(
    case: &CaseReport,
    since: Option<&str>,
    empty: Option<&EmptyProgram>,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    let base = since.and_then(|name| case.checkpoints.iter().find(|checkpoint| checkpoint.name == name));
    // Whose memory the tables show comes before them: a script is not what runs.
    let (of_program, notes): (Vec<&String>, Vec<&String>) = case.notes.iter().partition(|note| **note == case.target);
    for note in &of_program {
        labelled(style, "note:", 8, note, out)?;
    }
    for checkpoint in &case.checkpoints {
        match base {
            Some(base) if base.name == checkpoint.name => continue,
            Some(base) => {
                heading(case, checkpoint, &format!(", change since {}", base.name), style, out)?;
                changes(&base.map, &checkpoint.map, style, out)?;
                if !checkpoint.causes.is_empty() {
                    writeln!(out)?;
                    super::human::causes(&checkpoint.causes, style, out)?;
                }
            }
            None => {
                heading(case, checkpoint, "", style, out)?;
                table(checkpoint, empty, style, out)?;
                stacks(&checkpoint.map, style, out)?;
            }
        }
        let notes: BTreeSet<&str> = checkpoint.map.notes.iter().map(|note| note.text.as_str()).collect();
        for note in notes {
            labelled(style, "note:", 8, note, out)?;
        }
        writeln!(out)?;
        if style.verbose > 0 {
            regions(&checkpoint.map, style, out)?;
            show_malloc::arenas(&checkpoint.map, style, out)?;
            writeln!(out)?;
        }
    }
    let end = end(case).filter(|_| case.problem.is_none());
    if let Some(end) = &end {
        labelled(style, "end:", 8, end, out)?;
    }
    for note in &notes {
        labelled(style, "note:", 8, note, out)?;
    }
    if case.problem.is_some() {
        if case.checkpoints.is_empty() {
            writeln!(out, "{}", paint(style, Ink::Strong, &case.name))?;
        }
        problem::of_case(case, style, out)?;
    }
    if case.problem.is_some() || end.is_some() || !notes.is_empty() {
        writeln!(out)?;
    }
    Ok(())
}

/// How the program ended, in a sentence.
fn end(case: &CaseReport) -> Option<String> {
    Some(match case.end.as_ref()? {
        End::Exited(code) => format!("it exited with code {code}"),
        End::Signalled(signal) => format!("it was killed by {}", clean(signal)),
        // That we ended it after the last place says nothing of it; that its time was over is a problem of its own.
        End::Killed | End::TimedOut => return None,
    })
}

fn heading(case: &CaseReport, checkpoint: &CheckpointReport, what: &str, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let at = if checkpoint.at == checkpoint.name {
        String::new()
    } else {
        format!(" ({})", checkpoint.at)
    };
    let text = format!("{} @ {}{at}{what}", case.name, checkpoint.name);
    writeln!(out, "{}", paint(style, Ink::Strong, &text))
}

fn table(checkpoint: &CheckpointReport, empty: Option<&EmptyProgram>, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let map = &checkpoint.map;
    head("", "  access", style, out)?;
    let rows = rows(map);
    for row in &rows {
        let line = line(row.role.name(), row.figures, &kib);
        let sure = match row.confidence {
            Confidence::Certain => String::new(),
            other => format!("  {}", paint(style, Ink::Dim, word(other))),
        };
        writeln!(out, "{}", format!("{line}  {}{sure}", row.access).trim_end())?;
    }
    writeln!(out, "{}", paint(style, Ink::Strong, &line("own", own(map), &kib)))?;
    // Of a child process it says nothing.
    let empty = empty.filter(|_| checkpoint.child.is_none());
    let cost = empty.and_then(|empty| Some((empty, empty_cost(empty, &checkpoint.at)?)));
    if let Some((_, cost)) = cost {
        writeln!(out, "{}", line("- empty program", cost, &kib))?;
        writeln!(out, "{}", beyond(own(map), cost))?;
    }
    writeln!(out, "{}", paint(style, Ink::Strong, &line("total", total(map), &kib)))?;
    if let Some((empty, _)) = cost {
        let text = format!("{}, built and launched alike: the rest is what this one adds", empty.label());
        labelled(style, "empty program:", 17, &text, out)?;
    }
    let threads = map.threads.iter().filter(|thread| thread.state == StackState::Live).count();
    let mut facts = Vec::new();
    facts.extend(
        map.process
            .mappings
            .map(|count| plural(usize::try_from(count).unwrap_or(usize::MAX), "mapping")),
    );
    facts.push(plural(threads, "thread"));
    facts.extend(map.process.peak.map(|bytes| format!("peak resident {} KiB", kib(bytes))));
    facts.extend(
        map.process
            .swap
            .filter(|bytes| *bytes > 0)
            .map(|bytes| format!("swapped {} KiB", kib(bytes))),
    );
    writeln!(out, "  {}", facts.join(", "))?;
    if let Some(tree) = &map.tree {
        let cell = |value: Option<u64>| value.map_or("not known".to_owned(), |bytes| format!("{} KiB", kib(bytes)));
        let text = format!(
            "tree of {}: anon {}, shared memory {}, each page once",
            plural(usize::try_from(tree.processes).unwrap_or(usize::MAX), "process"),
            cell(tree.anon),
            cell(tree.shared)
        );
        writeln!(out, "  {text}")?;
    }
    show_malloc::table(map, style, out)?;
    if rows.iter().any(|row| row.figures.pss.is_none()) {
        labelled(
            style,
            "-",
            4,
            "not known: a mapping is shared by several roles, and the kernel counts by mapping",
            out,
        )?;
    }
    Ok(())
}

fn changes(base: &MemoryMap, now: &MemoryMap, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let by_role =
        |map: &MemoryMap| -> BTreeMap<Role, Figures> { rows(map).into_iter().map(|row| (row.role, row.figures)).collect() };
    let (before, after) = (by_role(base), by_role(now));
    let roles: BTreeSet<Role> = before.keys().chain(after.keys()).copied().collect();
    head("", "", style, out)?;
    let mut left = 0;
    for role in roles {
        // A role that does not occur takes nothing.
        let figures = |of: &BTreeMap<Role, Figures>| of.get(&role).copied().unwrap_or(NOTHING);
        let (before, after) = (figures(&before), figures(&after));
        if before == after {
            left += 1;
            continue;
        }
        writeln!(out, "{}", change_line(role.name(), before, after))?;
    }
    let own = change_line("own", own(base), own(now));
    let total = change_line("total", total(base), total(now));
    sums(&own, &total, style, out)?;
    writeln!(out, "  {} unchanged", plural(left, "role"))
}

/// What a role takes that does not occur.
const NOTHING: Figures = Figures {
    count: Some(0),
    reserved: Some(0),
    resident: Some(0),
    anon: Some(0),
    pss: Some(0),
};

fn change_line(name: &str, before: Figures, after: Figures) -> String {
    let by = |before: Option<u64>, after: Option<u64>, text: &dyn Fn(u64) -> String| match before.zip(after) {
        None => "-".to_owned(),
        Some((before, after)) if before == after => "0".to_owned(),
        Some((before, after)) => format!("{}{}", if after < before { '-' } else { '+' }, text(after.abs_diff(before))),
    };
    let count = match (before.count, after.count) {
        (None, None) => String::new(),
        (before, after) => by(before, after, &|n| n.to_string()),
    };
    format!(
        "  {name:<20}{count:>6}{:>11}{:>10}{:>10}{:>9}",
        by(before.reserved, after.reserved, &kib),
        by(before.resident, after.resident, &kib),
        by(before.anon, after.anon, &kib),
        by(before.pss, after.pss, &kib)
    )
}

fn head(first: &str, last: &str, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let text = format!(
        "  {first:<20}{:>6}{:>11}{:>10}{:>10}{:>9}{last}",
        "count", "reserved", "resident", "anon", "pss"
    );
    writeln!(out, "{}", paint(style, Ink::Dim, &format!("{text}   (KiB)")))
}

fn line(name: &str, figures: Figures, text: &dyn Fn(u64) -> String) -> String {
    let cell = |value: Option<u64>| value.map_or("-".to_owned(), text);
    let count = figures.count.map_or(String::new(), |count| count.to_string());
    format!(
        "  {name:<20}{count:>6}{:>11}{:>10}{:>10}{:>9}",
        cell(figures.reserved),
        cell(figures.resident),
        cell(figures.anon),
        cell(figures.pss)
    )
}

fn sums(own: &str, total: &str, style: Style, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", paint(style, Ink::Strong, own))?;
    writeln!(out, "{}", paint(style, Ink::Strong, total))
}

/// Whole KiB as a number; what is none says so.
fn kib(bytes: u64) -> String {
    if bytes.is_multiple_of(1024) {
        (bytes >> 10).to_string()
    } else {
        format!("{bytes} B")
    }
}

/// The roles that occur, in row order.
pub(super) fn rows(map: &MemoryMap) -> Vec<RoleRow> {
    map.by_role()
        .into_iter()
        .map(|(role, sum)| {
            let pieces = || map.pieces.iter().filter(|piece| piece.role == role);
            let access: BTreeSet<String> = pieces().map(|piece| access(piece.perms)).collect();
            RoleRow {
                role,
                figures: Figures {
                    count: Some(sum.count),
                    reserved: Some(sum.reserved),
                    resident: sum.resident,
                    anon: sum.anon,
                    pss: proportional(pieces()),
                },
                access: access.into_iter().collect::<Vec<_>>().join(" "),
                confidence: pieces()
                    .map(|piece| piece.evidence.confidence)
                    .max()
                    .unwrap_or(Confidence::Certain),
            }
        })
        .collect()
}

/// The sum over everything that is the program's own.
pub(super) fn own(map: &MemoryMap) -> Figures {
    let sum = map.sum(|role| role.is_own());
    Figures {
        count: None,
        reserved: Some(sum.reserved),
        resident: sum.resident,
        anon: sum.anon,
        pss: proportional(map.pieces.iter().filter(|piece| piece.role.is_own())),
    }
}

/// Own memory of an empty program that is stopped there too.
pub(super) fn empty_cost(empty: &EmptyProgram, at: &str) -> Option<Figures> {
    let cost = empty.cost_at(at)?;
    Some(Figures {
        count: None,
        reserved: Some(cost.reserved),
        resident: cost.resident,
        anon: cost.anon,
        pss: None,
    })
}

/// What own memory has beyond that of an empty program; less is possible.
fn beyond(own: Figures, empty: Figures) -> String {
    let cell = |own: Option<u64>, empty: Option<u64>| match own.zip(empty) {
        None => "-".to_owned(),
        Some((own, empty)) if own < empty => format!("-{}", kib(empty - own)),
        Some((own, empty)) => kib(own - empty),
    };
    format!(
        "  {:<20}{:>6}{:>11}{:>10}{:>10}{:>9}",
        "- the rest",
        "",
        cell(own.reserved, empty.reserved),
        cell(own.resident, empty.resident),
        cell(own.anon, empty.anon),
        "-"
    )
}

/// The process as the kernel sums it (`/proc/PID/smaps_rollup`): with the pages that our breakpoints copied. Only the
/// proportional size may stay below the kernel's by less than 1 KiB for each mapping, since `smaps` rounds each down.
pub(super) fn total(map: &MemoryMap) -> Figures {
    let process = &map.process;
    Figures {
        count: None,
        reserved: process.reserved,
        resident: process.resident,
        anon: process.anon.map(|bytes| bytes.saturating_add(map.breakpoint_anon_bytes)),
        pss: process.pss,
    }
}

fn proportional<'a>(mut pieces: impl Iterator<Item = &'a Piece>) -> Option<u64> {
    pieces.try_fold(0_u64, |sum, piece| Some(sum.saturating_add(piece.proportional_bytes?)))
}

/// `rw-`, and a further `s` when the mapping is shared: private is the rule.
fn access(perms: Perms) -> String {
    let text = perms.to_string();
    text.strip_suffix('p').map_or(text.clone(), str::to_owned)
}

/// The word for how sure a label is.
pub(super) fn word(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Certain => "certain",
        Confidence::Likely => "likely",
        Confidence::Unknown => "unknown",
    }
}

/// Every piece in address order: its figures, then whose it is and why we think so.
fn regions(map: &MemoryMap, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let text = format!(
        "  {:<27}{:>11}{:>9}{:>9}{:>8}  access  role",
        "address", "reserved", "resident", "anon", "pss"
    );
    writeln!(out, "{}", paint(style, Ink::Dim, &text))?;
    for piece in &map.pieces {
        let cell = |value: Option<u64>| value.map_or("-".to_owned(), kib);
        let range = format!("{:x}-{:x}", piece.start, piece.end);
        writeln!(
            out,
            "  {range:<27}{:>11}{:>9}{:>9}{:>8}  {:<8}{}",
            kib(piece.reserved_bytes()),
            cell(piece.resident_bytes),
            cell(piece.anon_bytes),
            cell(piece.proportional_bytes),
            access(piece.perms),
            piece.role
        )?;
        let subject = map
            .items
            .get(piece.item)
            .map(|item| item.subject.to_string())
            .unwrap_or_default();
        let whose = if subject.is_empty() {
            String::new()
        } else {
            format!("{subject}: ")
        };
        let why = format!("{whose}{} ({})", piece.evidence.text, word(piece.evidence.confidence));
        for line in wrap(&clean(&why), 90) {
            writeln!(out, "      {}", paint(style, Ink::Dim, &line))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{KIB, case, map, print};
    use super::*;
    use crate::model::{Note, ProblemKind};

    const PLAIN: Style = Style {
        color: false,
        width: 100,
        verbose: 0,
    };

    fn stop(name: &str, map: MemoryMap) -> CheckpointReport {
        CheckpointReport {
            name: name.to_owned(),
            place: Default::default(),
            at: name.to_owned(),
            child: None,
            map,
            limits: Vec::new(),
            changes: Vec::new(),
            causes: Vec::new(),
            capture: None,
        }
    }

    fn two() -> CaseReport {
        let mut first = map(&[(Role::ExeText, 8, 0), (Role::Platform, 1000, 12)]);
        first.breakpoint_anon_bytes = 4 * KIB;
        first.process.reserved = Some(1008 * KIB);
        first.process.anon = Some(12 * KIB);
        let mut second = map(&[(Role::ExeText, 8, 0), (Role::MainHeap, 132, 64), (Role::Platform, 1000, 8)]);
        second.breakpoint_anon_bytes = 4 * KIB;
        second.process.reserved = Some(1140 * KIB);
        second.process.anon = Some(72 * KIB);
        second.pieces[1].evidence.confidence = Confidence::Likely;
        second.pieces[1].evidence.text = "the brk\x1b[31m".into();
        second.notes.push(Note {
            text: "something is approximate".to_owned(),
        });
        CaseReport {
            checkpoints: vec![stop("main", first), stop("exit", second)],
            ..case("prog")
        }
    }

    fn find<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
        let line = text.lines().rfind(|line| line.trim_start().starts_with(start));
        line.unwrap_or_else(|| panic!("no {start} in {text}"))
            .split_whitespace()
            .collect()
    }

    #[test]
    fn rows_are_in_role_order_and_the_total_has_what_we_added() {
        let text = print(|out| show(&two(), None, None, PLAIN, out));
        assert!(text.starts_with("prog @ main\n"), "{text}");
        let names: Vec<&str> = text
            .lines()
            .skip(2)
            .take(5)
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        assert_eq!(names, ["exe.text", "platform", "memcheck", "own", "total"]);
        assert_eq!(
            find(&text, "main-heap"),
            ["main-heap", "1", "132", "64", "64", "-", "---", "likely"]
        );
        assert_eq!(find(&text, "memcheck"), ["memcheck", "1", "0", "0", "4", "0"]);
        assert_eq!(find(&text, "total"), ["total", "1140", "-", "76", "-"]);
        assert!(text.contains("note: something is approximate"), "{text}");
        assert!(!text.contains("the brk"));
    }

    #[test]
    fn a_change_has_signs_and_leaves_out_what_is_equal() {
        let text = print(|out| show(&two(), Some("main"), None, PLAIN, out));
        assert!(text.starts_with("prog @ exit, change since main\n"), "{text}");
        assert_eq!(find(&text, "main-heap"), ["main-heap", "+1", "+132", "+64", "+64", "-"]);
        assert_eq!(find(&text, "platform"), ["platform", "0", "0", "-4", "-4", "-"]);
        assert_eq!(find(&text, "total"), ["total", "+132", "-", "+60", "-"]);
        assert!(!text.contains("exe.text") && text.contains("2 roles unchanged"), "{text}");
    }

    #[test]
    fn verbose_gives_the_reasons_escaped() {
        let style = Style { verbose: 1, ..PLAIN };
        let text = print(|out| show(&two(), None, None, style, out));
        assert!(text.contains("the brk\\x1b[31m (likely)"), "{text}");
        assert!(text.contains("10002000-10023000"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }

    #[test]
    fn a_problem_stands_below_the_tables() {
        let case = super::super::fixtures::problem(two(), ProblemKind::NotJudged);
        let text = print(|out| show(&case, None, None, PLAIN, out));
        assert!(text.find("total").unwrap() < text.find("Could not judge").unwrap(), "{text}");
    }
}
