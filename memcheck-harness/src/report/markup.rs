//! Foreign text in Markdown: the only two ways in which a name, a path or a line of output gets into it. Both stand in code, in
//! which GitHub makes no mentions, links, references or emoji, and in neither can the text end the code.

use super::text::{clean, guarded};

/// Characters of one inline text: a name may have thousands.
const INLINE_CHARS: usize = 120;
/// Characters of one line of a block.
const LINE_CHARS: usize = 500;

/// Inline code, harmless also inside a table's cell or a `<summary>`: every character with a meaning in Markdown or HTML is a
/// numeric reference.
pub(super) fn code(text: &str) -> String {
    let text = cut(&clean(text), INLINE_CHARS);
    let mut out = String::from("<code>");
    for c in text.chars() {
        if c.is_alphanumeric() || matches!(c, ' ' | '-' | '/' | ',') {
            out.push(c);
        } else {
            out.push_str(&format!("&#{};", u32::from(c)));
        }
    }
    out.push_str("</code>");
    out
}

/// A fenced block of at most `lines` lines. The fence is longer than any row of back-ticks inside.
pub(super) fn block(language: &str, text: &str, lines: usize) -> String {
    let all: Vec<String> = text.lines().map(|line| cut(&guarded(line), LINE_CHARS)).collect();
    let shown = &all[..all.len().min(lines)];
    let longest = shown.iter().map(|line| longest_run(line)).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let mut out = format!("{fence}{language}\n");
    for line in shown {
        out.push_str(line);
        out.push('\n');
    }
    if all.len() > lines {
        out.push_str(&format!("… {} more lines: in the results\n", all.len() - lines));
    }
    out.push_str(&fence);
    out.push('\n');
    out
}

fn longest_run(line: &str) -> usize {
    line.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_inline_code_has_a_meaning() {
        let text = code("a|`b`</code><script>@user #1 *x* [y](z) \u{202e}\n::error::");
        let inside = text
            .strip_prefix("<code>")
            .and_then(|text| text.strip_suffix("</code>"))
            .unwrap();
        for c in [
            '|', '`', '<', '>', '@', '*', '[', ']', '(', ')', '\n', '\u{202e}', ':', '\\', '_', '~', '$',
        ] {
            assert!(!inside.contains(c), "{c:?} in {inside}");
        }
        assert!(inside.starts_with("a&#124;&#96;b&#96;&#60;/code&#62;"), "{inside}");
        assert!(code(&"x".repeat(10_000)).chars().count() < 200);
    }

    #[test]
    fn no_line_ends_a_block() {
        let text = block("text", "a\n````\n</details>\n::error::b\n\u{1b}[2J", 10);
        assert!(
            text.starts_with("`````text\na\n````\n") && text.ends_with("\n`````\n"),
            "{text}"
        );
        assert!(text.contains("\n| ::error::b\n") && !text.contains('\u{1b}'));
        assert_eq!(block("", "1\n2\n3", 2), "```\n1\n2\n… 1 more lines: in the results\n```\n");
    }
}
