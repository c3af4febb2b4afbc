//! The stacks of a process, one line each, for `show`: whose, in which state, how much of it was ever used.

use std::io::{self, Write};

use super::Style;
use super::text::{Ink, clean, labelled, paint};
use crate::model::{MemoryMap, Role, StackState, ThreadFact};

/// Stacks shown without `-v`.
const SHOWN: usize = 20;

/// Widest last column: the whole line stays within 100.
const NAME: usize = 29;

/// Prints nothing for a process that has no stack but the main one.
pub(super) fn stacks(map: &MemoryMap, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let others: Vec<&ThreadFact> = map.threads.iter().filter(|thread| thread.stack.is_some()).collect();
    if others.is_empty() {
        return Ok(());
    }
    let text = format!(
        "  {:<20}{:>6}{:>11}{:>10}{:>10}{:>9}  {}",
        "stack", "", "reserved", "guard", "anon", "deepest", "thread"
    );
    writeln!(out)?;
    writeln!(out, "{}", paint(style, Ink::Dim, &format!("{text}   (KiB)")))?;
    let main = map.sum(|role| role == Role::MainStack);
    let limit = match map.stack_limit_bytes {
        Some(bytes) => format!("main, limit {}", kib(bytes)),
        None => "main, no limit".to_owned(),
    };
    writeln!(out, "{}", line("main-stack", main.reserved, None, main.anon, None, &limit))?;
    let shown = if style.verbose > 0 { others.len() } else { SHOWN };
    for thread in others.iter().take(shown) {
        let Some((start, bytes)) = thread.stack else { continue };
        let anon = anon(map, start, bytes);
        let whose = whose(thread);
        writeln!(
            out,
            "{}",
            line(role(thread), bytes, thread.guard_bytes, anon, thread.deepest_bytes, &whose)
        )?;
    }
    if others.len() > shown {
        writeln!(out, "  and {} more (-v)", others.len() - shown)?;
    }
    if others.iter().any(|thread| thread.deepest_bytes.is_none()) {
        let text = "not known: the pages of a finished thread are gone; --watch stacks looks before they go";
        labelled(style, "-", 4, text, out)?;
    }
    Ok(())
}

fn line(role: &str, reserved: u64, guard: Option<u64>, anon: Option<u64>, deepest: Option<u64>, whose: &str) -> String {
    let cell = |value: Option<u64>| value.map_or("-".to_owned(), kib);
    format!(
        "  {role:<20}{:>6}{:>11}{:>10}{:>10}{:>9}  {whose}",
        "",
        kib(reserved),
        if role == "main-stack" { String::new() } else { cell(guard) },
        cell(anon),
        if role == "main-stack" { String::new() } else { cell(deepest) },
    )
}

fn role(thread: &ThreadFact) -> &'static str {
    match (thread.user_stack, thread.state) {
        (true, _) => "thread-stack.user",
        (false, StackState::Live) => "thread-stack.live",
        (false, StackState::Exited) => "thread-stack.exited",
        (false, StackState::Cached) => "thread-stack.cached",
    }
}

/// "worker (1234) work": name, thread id and the function it was started with, as far as they are known.
fn whose(thread: &ThreadFact) -> String {
    let mut parts = Vec::new();
    parts.extend(thread.name.as_ref().map(|name| clean(&name.to_string()).to_string()));
    parts.extend(thread.tid.map(|tid| format!("({tid})")));
    if let Some(function) = &thread.start_function {
        // Of a path of modules the end tells most.
        let function = function.to_string();
        let from = function.rmatch_indices("::").nth(1).map_or(0, |(at, _)| at + 2);
        parts.push(clean(&function[from..]).to_string());
    }
    let mut text = parts.join(" ");
    // Of libc's own stacks the role says it.
    if thread.user_stack && thread.state == StackState::Exited {
        let colon = if text.is_empty() { "" } else { ": " };
        text = format!("ended, not joined{colon}{text}");
    }
    if text.chars().count() <= NAME {
        return text;
    }
    let head: String = text.chars().take(NAME - 1).collect();
    format!("{head}…")
}

/// Anonymous bytes of the pieces inside a stack; absent when one of them is not known.
fn anon(map: &MemoryMap, start: u64, bytes: u64) -> Option<u64> {
    let end = start.saturating_add(bytes);
    let first = map.pieces.partition_point(|piece| piece.end <= start);
    map.pieces
        .iter()
        .skip(first)
        .take_while(|piece| piece.start < end)
        .filter(|piece| piece.start >= start && piece.end <= end)
        .try_fold(0_u64, |sum, piece| Some(sum.saturating_add(piece.anon_bytes?)))
}

fn kib(bytes: u64) -> String {
    if bytes.is_multiple_of(1024) {
        (bytes >> 10).to_string()
    } else {
        format!("{bytes} B")
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{KIB, map, print, thread};
    use super::*;
    use crate::model::Name;

    const PLAIN: Style = Style {
        color: false,
        width: 100,
        verbose: 0,
    };

    #[test]
    fn one_line_for_each_stack() {
        let mut map = map(&[(Role::MainStack, 132, 8), (Role::ThreadStackLive, 8192, 12)]);
        let (start, end) = (map.pieces[1].start, map.pieces[1].end);
        map.threads = vec![
            thread("main", true, StackState::Live),
            thread("w\x1b", false, StackState::Live),
        ];
        map.threads[1].stack = Some((start, end - start));
        map.threads[1].guard_bytes = Some(4 * KIB);
        map.threads[1].deepest_bytes = Some(12 * KIB);
        map.threads[1].tid = Some(7);
        map.threads[1].start_function = Some(Name::from("work"));
        let text = print(|out| stacks(&map, PLAIN, out));
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[2], ["main-stack", "132", "8", "main,", "limit", "8192"]);
        assert_eq!(lines[3][..5], ["thread-stack.live", "8192", "4", "12", "12"], "{text}");
        assert!(text.contains("(7) work") && !text.contains('\x1b'), "{text}");
        assert!(!text.contains("not known"), "{text}");
        map.threads[1].state = StackState::Exited;
        map.threads[1].user_stack = true;
        let text = print(|out| stacks(&map, PLAIN, out));
        assert!(
            text.contains("thread-stack.user") && text.contains("ended, not joined: w"),
            "{text}"
        );
        map.threads[1].user_stack = false;
        map.threads[1].deepest_bytes = None;
        let text = print(|out| stacks(&map, PLAIN, out));
        assert!(
            text.contains("thread-stack.exited") && text.contains("--watch stacks"),
            "{text}"
        );
    }

    #[test]
    fn many_stacks_need_a_word_more_and_none_needs_no_table() {
        let mut map = map(&[(Role::MainStack, 132, 8)]);
        assert_eq!(print(|out| stacks(&map, PLAIN, out)), "");
        let mut one = thread("w", false, StackState::Live);
        one.stack = Some((0, 4096));
        map.threads = vec![one; 25];
        let text = print(|out| stacks(&map, PLAIN, out));
        assert!(text.contains("and 5 more (-v)"), "{text}");
    }
}
