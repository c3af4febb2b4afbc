//! Reads Rust as text: blanks out comments, literals and tests, and finds words and paths. Knows the lexical rules that a
//! formatted source of this repository needs, not the language, and nothing of the rules in `architecture.rs`.

/// What stands before an item that is compiled for tests only.
const TEST_MARK: &str = "#[cfg(test)]";

/// The first name of each entry of a `use` group, given the text after its opening brace.
pub(crate) fn first_names(group: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 0_usize;
    let mut at_entry = true;
    for (at, c) in group.char_indices() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => at_entry = true,
            c if at_entry && is_word(c) => {
                names.extend(first_word(&group[at..]));
                at_entry = false;
            }
            _ => {}
        }
    }
    names
}

pub(crate) fn first_word(text: &str) -> Option<String> {
    let text = text.trim_start();
    let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

/// True when the code names an outside crate: `name::…` or `use name;`, not as a later part of a path.
pub(crate) fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].trim_end();
        let after = &code[at + name.len()..];
        let whole = !code[..at].ends_with(is_word) && !before.ends_with("::") && !before.ends_with('.');
        let absolute = before.strip_suffix("::").is_some_and(|rest| !rest.ends_with(is_word));
        let used = before.ends_with("use") && after.trim_start().starts_with([';', ' ']) && !after.trim_start().starts_with("::");
        !after.starts_with(is_word) && ((whole && (after.starts_with("::") || used)) || (absolute && after.starts_with("::")))
    })
}

/// Words with their line (from 1) and the text that follows.
pub(crate) fn words(code: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    code.lines().enumerate().flat_map(|(line, text)| {
        let starts = text
            .char_indices()
            .filter(move |(at, c)| is_word(*c) && !text[..*at].ends_with(is_word));
        starts.map(move |(at, _)| {
            let end = text[at..].find(|c| !is_word(c)).map_or(text.len(), |length| at + length);
            (line + 1, &text[at..end], &text[end..])
        })
    })
}

pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Blanks out comments and the contents of strings and character literals; every line stays where it was.
pub(crate) fn plain_code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let blank = blank_length(rest, out.chars().next_back());
        let taken = blank.unwrap_or(c.len_utf8());
        for c in rest[..taken].chars() {
            out.push(if blank.is_some() && c != '\n' { ' ' } else { c });
        }
        rest = &rest[taken..];
    }
    out
}

/// Bytes of the comment or literal that starts here, if one does.
fn blank_length(rest: &str, before: Option<char>) -> Option<usize> {
    let upto = |end: Option<usize>| end.unwrap_or(rest.len());
    if rest.starts_with("//") {
        return Some(upto(rest.find('\n')));
    }
    if rest.starts_with("/*") {
        let mut depth = 0_usize;
        let mut at = 0;
        while at < rest.len() {
            match &rest.as_bytes()[at..] {
                [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
                [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
                _ => at += 1,
            }
            if depth == 0 {
                return Some(at);
            }
        }
        return Some(rest.len());
    }
    if !before.is_some_and(is_word) {
        let raw = rest.trim_start_matches(['b', 'c']).strip_prefix('r').unwrap_or("");
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let open = rest.len() - raw.len() + hashes + 1;
            let close = format!("\"{}", "#".repeat(hashes));
            return Some(upto(rest[open..].find(&close).map(|at| open + at + close.len())));
        }
    }
    if rest.starts_with('"') {
        return Some(upto(escaped_end(rest, '"')));
    }
    // A character literal closes after one character or an escape; otherwise the quote opens a lifetime.
    let inner = rest.strip_prefix('\'')?;
    let second = inner.chars().next()?;
    if second == '\\' {
        return Some(upto(escaped_end(rest, '\'')));
    }
    inner[second.len_utf8()..].starts_with('\'').then(|| 2 + second.len_utf8())
}

/// One past the closing quote of a literal with escapes that begins with that quote.
fn escaped_end(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + c.len_utf8()),
            _ => {}
        }
    }
    None
}

/// Blanks out each item that stands after `#[cfg(test)]`; expects plain code.
pub(crate) fn without_tests(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find(TEST_MARK) {
        let item = at + TEST_MARK.len();
        let mut depth = 0_usize;
        let mut end = rest.len();
        for (offset, c) in rest[item..].char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && matches!(c, '}' | ';') {
                end = item + offset + 1;
                break;
            }
        }
        out.push_str(&rest[..at]);
        out.extend(rest[at..end].chars().filter(|c| *c == '\n'));
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// The modules declared as `#[cfg(test)] mod name;`; expects plain code.
pub(crate) fn test_modules(code: &str) -> Vec<String> {
    code.split(TEST_MARK)
        .skip(1)
        .filter_map(|rest| {
            let (item, _) = rest.split_once(';')?;
            let words: Vec<&str> = item.split_whitespace().collect();
            // Further attributes may stand between; an item with a body before the first `;` is no declaration.
            match words.as_slice() {
                [.., "mod", name] if !item.contains(['{', '}']) => Some((*name).to_owned()),
                _ => None,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_comments_are_no_code() {
        let text = "a('{', '\\'', \"\\\"}\", r#\"\"unsafe\"#, b\"x\") /* y /* z */ w */ + b::<'a>(1) // end";
        let code = plain_code(text);
        assert_eq!(code.len(), text.len());
        assert_eq!(code.split_whitespace().collect::<String>(), "a(,,,,b)+b::<'a>(1)",);
        assert_eq!(plain_code("\"open\nend"), "     \n   ");
    }
}
