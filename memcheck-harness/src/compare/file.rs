//! One insta file: a YAML header between `---` lines, then the text. Reading refuses what is no plain, whole snapshot;
//! writing gives the bytes cargo-insta would. Format and quoting: insta 1.49, `snapshot.rs` and its YAML emitter.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use crate::error::{Error, Result};
use crate::model::Name;

/// Larger than any snapshot; a forged file must not fill the memory.
const MAX_BYTES: u64 = 4 << 20;

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// Lines between the two `---`.
    pub(super) header: Vec<String>,
    /// The text: `\n` line ends, no empty lines at either end, one `\n` last. insta compares in the same way.
    pub(super) text: String,
}

/// What we write into a header.
pub(super) struct Header<'a> {
    /// The file that asked for the snapshot, relative to the workspace root.
    pub(super) source: &'a Path,
    /// The line in it; only in pending files.
    pub(super) line: Option<u32>,
    /// For people.
    pub(super) description: &'a str,
    /// Name of the environment of record.
    pub(super) environment: Option<&'a str>,
}

/// Reads a snapshot file; `None` when there is none.
pub(super) fn read(path: &Path) -> Result<Option<File>> {
    refuse(path.ancestors().skip(1).take(2))?;
    let bad = |why: &str| Error::not_judged(format!("{} {why}", path.display()));
    let bytes = match read_plain(path) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(error) => {
            refuse(std::iter::once(path))?;
            return Err(bad(&format!("cannot be read: {error}")));
        }
    };
    parse(bytes, &path.display().to_string()).map(Some)
}

/// What the bytes of a snapshot file hold. `shown` names the file in errors.
pub(crate) fn parse(bytes: Vec<u8>, shown: &str) -> Result<File> {
    let bad = |why: &str| Error::not_judged(format!("{shown} {why}"));
    if bytes.len() as u64 > MAX_BYTES {
        return Err(bad("is larger than 4 MiB").detail("that is no snapshot of ours: restore or delete it"));
    }
    let text = String::from_utf8(bytes).map_err(|_| bad("is not UTF-8").detail("restore or delete it"))?;
    if let Some(index) = text
        .lines()
        .position(|line| line.starts_with("<<<<<<<") || line.starts_with(">>>>>>>"))
    {
        return Err(bad("holds merge conflict markers").detail(format!(
            "line {}; resolve the conflict, or delete the file and accept again",
            index + 1
        )));
    }
    split(&text)
        .ok_or_else(|| bad("has no insta header").detail("it was cut off or edited: restore it, or delete it and accept again"))
}

/// The bytes of a regular file, at most one more than the limit. Neither a link nor a pipe is opened.
fn read_plain(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    if !found.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let file = fs::File::open(path)?;
    if !is_same(&found, &file.metadata()?) {
        return Err(io::Error::other("it was replaced while it was opened"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

#[cfg(unix)]
fn is_same(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(not(unix))]
fn is_same(_: &fs::Metadata, b: &fs::Metadata) -> bool {
    b.is_file()
}

/// A snapshot's file and the two directories it lies in (`memcheck/snapshots`) must not be links: a link in a checkout
/// could lead anywhere.
pub(super) fn refuse_links(path: &Path) -> Result<()> {
    refuse(path.ancestors().take(3))
}

/// The two directories alone, for a file that is to be removed.
pub(super) fn refuse_linked_directories(directory: &Path) -> Result<()> {
    refuse(directory.ancestors().take(2))
}

fn refuse<'a>(parts: impl Iterator<Item = &'a Path>) -> Result<()> {
    for part in parts {
        if fs::symlink_metadata(part).is_ok_and(|found| found.file_type().is_symlink()) {
            return Err(Error::not_judged(format!("{} is a symbolic link", part.display()))
                .detail("snapshots are neither read nor written through links: put a plain file or directory there"));
        }
    }
    Ok(())
}

fn split(text: &str) -> Option<File> {
    let mut rest = text;
    let mut line = || {
        let (line, after) = rest.split_once('\n')?;
        rest = after;
        Some(line.trim_end().to_owned())
    };
    if line()? != "---" {
        return None;
    }
    let mut header = Vec::new();
    loop {
        match line()? {
            end if end == "---" => break,
            entry => header.push(entry),
        }
    }
    let text = normal(rest);
    Some(File { header, text })
}

/// The form in which texts are compared and written; of a text in that form, the text itself. A line ends with `\n` and all the
/// `\r` before it: were one of several taken, each rewriting would take another.
fn normal(text: &str) -> String {
    let lines: Vec<&str> = text.split('\n').map(|line| line.trim_end_matches('\r')).collect();
    let mut text = lines.join("\n");
    text.truncate(text.trim_end().len());
    text.push('\n');
    let start = text.len() - text.trim_start_matches('\n').len();
    text.split_off(start)
}

/// The bytes of a pending file.
pub(super) fn pending_bytes(header: &Header<'_>, text: &str) -> Vec<u8> {
    let source = Name::from(&*header.source.to_string_lossy()).to_string();
    let mut entries = vec![format!("source: {}", scalar(&source))];
    if let Some(line) = header.line {
        entries.push(format!("assertion_line: {line}"));
    }
    entries.push(format!("description: {}", scalar(header.description)));
    if let Some(environment) = header.environment {
        entries.push("info:".to_owned());
        entries.push(format!("  environment: {}", scalar(environment)));
    }
    assemble(entries.iter().map(String::as_str), text)
}

/// The bytes of the approved file a pending file becomes: the same without the line, as `cargo insta accept` writes it.
pub(crate) fn accepted_bytes(file: &File) -> Vec<u8> {
    let kept = file.header.iter().filter(|entry| !entry.starts_with("assertion_line:"));
    assemble(kept.map(String::as_str), &file.text)
}

/// As [`accepted_bytes`], of a pending file's bytes.
pub(super) fn accepted_of(pending: &[u8]) -> Option<String> {
    let file = split(std::str::from_utf8(pending).ok()?)?;
    String::from_utf8(accepted_bytes(&file)).ok()
}

/// The text of a whole file without its header.
pub(super) fn text_of(whole: &str) -> Option<String> {
    split(whole).map(|file| file.text)
}

/// The text of a file that can be read as a snapshot; `None` when there is none.
pub(super) fn bytes(path: &Path) -> Result<Option<String>> {
    if read(path)?.is_none() {
        return Ok(None);
    }
    let bytes = read_plain(path).map_err(|error| Error::file("read", path, &error))?;
    Ok(bytes.and_then(|bytes| String::from_utf8(bytes).ok()))
}

fn assemble<'a>(entries: impl Iterator<Item = &'a str>, text: &str) -> Vec<u8> {
    let mut out = String::from("---\n");
    for entry in entries {
        out.push_str(entry);
        out.push('\n');
    }
    out.push_str("---\n");
    out.push_str(&normal(text));
    out.into_bytes()
}

/// A YAML scalar, quoted exactly where insta's emitter quotes: cargo-insta writes headers anew on accepting.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 22] = [
        "yes", "Yes", "YES", "no", "No", "NO", "True", "TRUE", "true", "False", "FALSE", "false", "on", "On", "ON", "off", "Off",
        "OFF", "null", "Null", "NULL", "~",
    ];
    let is_plain = !text.is_empty()
        && !text.starts_with([' ', '&', '*', '?', '|', '-', '<', '>', '=', '!', '%', '@', '.'])
        && !text.ends_with(' ')
        && !text.contains([':', '{', '}', '[', ']', ',', '#', '`', '"', '\'', '\\'])
        && !text.contains(char::is_control)
        && !WORDS.contains(&text)
        && !text.starts_with("0x")
        && text.parse::<f64>().is_err();
    if is_plain {
        return text.to_owned();
    }
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_ascii_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header<'a>(source: &'a str, description: &'a str) -> Header<'a> {
        Header {
            source: Path::new(source),
            line: Some(7),
            description,
            environment: Some("default"),
        }
    }

    /// These bytes are what `cargo insta accept` (1.49) was seen to write for the same pending file.
    #[test]
    fn our_bytes_are_pinned() {
        let pending = pending_bytes(&header("memcheck.toml", "memory of threads-2.x"), "case c\n\nend of case c\n");
        let expected = "---\nsource: memcheck.toml\nassertion_line: 7\ndescription: memory of threads-2.x\ninfo:\n  environment: default\n---\ncase c\n\nend of case c\n";
        assert_eq!(String::from_utf8(pending).unwrap(), expected);
        let accepted = accepted_bytes(&split(expected).unwrap());
        assert_eq!(
            String::from_utf8(accepted).unwrap(),
            expected.replace("assertion_line: 7\n", "")
        );
        let hidden = pending_bytes(&header(".config/memcheck.toml", "memory of 0x1: \"a\""), "x\n");
        let hidden = String::from_utf8(hidden).unwrap();
        assert!(hidden.starts_with("---\nsource: \".config/memcheck.toml\"\n"));
        assert!(hidden.contains("description: \"memory of 0x1: \\\"a\\\"\"\n"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn insta_reads_what_we_write(source in "[ -~]{1,12}", description in "[ -~]{1,12}", text in "[a-z -]{0,8}(\n[a-z -]{0,8}){0,3}x") {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.snap");
            fs::write(&path, pending_bytes(&header(&source, &description), &text)).unwrap();
            let theirs = insta::Snapshot::from_file(&path).unwrap();
            prop_assert_eq!(theirs.metadata().description(), Some(description.as_str()));
            let escaped = Name::from(source.as_str()).to_string();
            prop_assert_eq!(theirs.metadata().source(), Some(escaped.as_str()));
            prop_assert_eq!(theirs.metadata().assertion_line(), Some(7));
            let ours = read(&path).unwrap().unwrap();
            let theirs = theirs.as_text().unwrap().to_string();
            prop_assert_eq!(ours.text.trim(), theirs.trim());
        }

        #[test]
        fn what_is_normal_stays_so(text in "[\r\n ax]{0,12}") {
            prop_assert_eq!(normal(&normal(&text)), normal(&text));
        }

        #[test]
        fn any_bytes_are_a_file_or_an_error(text in any::<String>()) {
            if let Some(file) = split(&text) {
                let again = split(std::str::from_utf8(&accepted_bytes(&file)).unwrap()).unwrap();
                prop_assert_eq!(again.text, file.text);
            }
        }
    }

    /// However many carriage returns stand before a line's end, they are one line's end.
    #[test]
    fn a_text_is_normal_once_it_was_made_so() {
        for (text, expected) in [
            ("a\r\r\nb\n", "a\nb\n"),
            ("\r\r\n\r\na\r\r\r\n", "a\n"),
            ("a\rb\n", "a\rb\n"),
            ("\r\n", ""),
        ] {
            assert_eq!(normal(text), expected);
            assert_eq!(normal(expected), expected);
        }
    }

    #[test]
    fn line_ends_and_outer_blank_lines_do_not_count() {
        let file = split("---\r\nsource: a\r\n---\r\n\r\ncase c\r\n\r\nend\r\n\r\n").unwrap();
        assert_eq!(file.text, "case c\n\nend\n");
        assert_eq!(file.header, ["source: a"]);
    }

    #[test]
    fn what_is_no_whole_plain_snapshot_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.snap");
        let why = || read(&path).unwrap_err().to_string();
        assert_eq!(read(&path).unwrap(), None);
        fs::write(&path, "---\nsource: a\n<<<<<<< ours\n---\nx\n").unwrap();
        assert!(
            why().contains("merge conflict markers") && why().contains("line 3"),
            "{}",
            why()
        );
        fs::write(&path, "case c\n").unwrap();
        assert!(why().contains("no insta header"), "{}", why());
        fs::write(&path, "---\nsource: a\n").unwrap();
        assert!(why().contains("no insta header"), "{}", why());
        fs::write(&path, [0xff]).unwrap();
        assert!(why().contains("not UTF-8"), "{}", why());
        fs::File::create(&path).unwrap().set_len(MAX_BYTES + 1).unwrap();
        assert!(why().contains("larger than 4 MiB"), "{}", why());
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(why().contains("no regular file"), "{}", why());
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real/snapshots");
        fs::create_dir_all(&real).unwrap();
        fs::write(real.join("a.snap"), "---\n---\nx\n").unwrap();
        std::os::unix::fs::symlink(real.join("a.snap"), real.join("b.snap")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("real"), dir.path().join("memcheck")).unwrap();
        assert!(read(&real.join("a.snap")).unwrap().is_some());
        for path in [real.join("b.snap"), dir.path().join("memcheck/snapshots/a.snap")] {
            assert!(read(&path).unwrap_err().to_string().contains("symbolic link"));
        }
    }
}
