//! `Name`: bytes the target or the kernel chose (paths, thread names, mapping names), kept exactly and shown escaped.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes as the kernel gave them: not necessarily UTF-8, may hold control bytes. `Display` escapes everything that could
/// steer a terminal or forge a line (control bytes, backslash, bytes that are not UTF-8, bidirectional controls).
#[derive(Clone)]
pub struct Name(Bytes);

/// Every region and every thing in it has a name: those of files are short, and paths are shared by many.
#[derive(Clone)]
enum Bytes {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Arc<[u8]>),
}

/// As many as leave room for the length where a longer one has its address.
const SHORT: usize = 22;

impl Name {
    /// Keeps the bytes as they are.
    #[must_use]
    pub fn new(bytes: impl AsRef<[u8]>) -> Self {
        let all = bytes.as_ref();
        let mut bytes = [0; SHORT];
        Self(match (bytes.get_mut(..all.len()), u8::try_from(all.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(all);
                Bytes::Short { len, bytes }
            }
            _ => Bytes::Long(all.into()),
        })
    }

    /// The exact bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Bytes::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Bytes::Long(bytes) => bytes,
        }
    }

    /// True when there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// The bytes as text if they are UTF-8 (not escaped: for comparisons, never for printing).
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(self.as_bytes()).ok()
    }

    /// The part after the last `/`.
    #[must_use]
    pub fn file_name(&self) -> Self {
        let part = self.file_name_bytes();
        if part.len() == self.as_bytes().len() {
            return self.clone();
        }
        Self::new(part)
    }

    /// The bytes of [`Name::file_name`], to be compared.
    #[must_use]
    pub fn file_name_bytes(&self) -> &[u8] {
        let all = self.as_bytes();
        let start = all.iter().rposition(|&b| b == b'/').map_or(0, |i| i + 1);
        all.get(start..).unwrap_or_default()
    }

    /// The escaped text, borrowed when nothing needs escaping. [`Name::unescape`] is its inverse.
    #[must_use]
    pub fn escaped(&self) -> Cow<'_, str> {
        match self.as_str() {
            Some(text) if text.chars().all(is_plain) => Cow::Borrowed(text),
            _ => Cow::Owned(escape(self.as_bytes())),
        }
    }

    /// Reads what [`Name::escaped`] wrote. Unknown escapes are kept as they stand.
    #[must_use]
    pub fn unescape(text: &str) -> Self {
        let mut out = Vec::with_capacity(text.len());
        let bytes = text.as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            if bytes[i] == b'\\' {
                match bytes.get(i + 1) {
                    Some(b'\\') => {
                        out.push(b'\\');
                        i += 2;
                        continue;
                    }
                    Some(b'x') => {
                        if let Some(value) = bytes.get(i + 2..i + 4).and_then(hex_pair) {
                            out.push(value);
                            i += 4;
                            continue;
                        }
                    }
                    _ => {}
                }
            }
            out.push(bytes[i]);
            i += 1;
        }
        Self::new(out)
    }
}

impl Default for Name {
    fn default() -> Self {
        Self::new([])
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

fn hex_pair(pair: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(pair).ok()?;
    u8::from_str_radix(text, 16).ok()
}

/// Characters that are shown as they are: no control characters, no backslash, no line or paragraph separators, no
/// bidirectional controls (U+061C, U+200E-F, U+202A-E, U+2066-9) and no byte-order mark.
fn is_plain(c: char) -> bool {
    !(c.is_control()
        || c == '\\'
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'))
}

fn escape(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_plain(c) {
                out.push(c);
            } else if c == '\\' {
                out.push_str("\\\\");
            } else {
                let mut buffer = [0; 4];
                push_hex(&mut out, c.encode_utf8(&mut buffer).as_bytes());
            }
        }
        push_hex(&mut out, chunk.invalid());
    }
    out
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    use fmt::Write as _;
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(out, "\\x{byte:02x}");
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.escaped())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.escaped())
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.escaped())
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::unescape(&String::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_bytes_are_escaped_and_come_back() {
        for bytes in [
            &b"a\nb"[..],
            b"\x1b[31m",
            b"back\\slash",
            b"\xff\xfe",
            "rtl\u{202e}x".as_bytes(),
            b"\\x41",
            b"plain",
        ] {
            let name = Name::new(bytes);
            let text = name.to_string();
            assert!(text.chars().all(|c| is_plain(c) || c == '\\'), "{text:?}");
            assert_eq!(Name::unescape(&text), name);
        }
    }

    #[test]
    fn long_and_short_names_are_what_they_were_made_of() {
        let texts: Vec<Vec<u8>> = (0..40_u8).map(|len| (0..len).collect()).collect();
        for (index, text) in texts.iter().enumerate() {
            let name = Name::new(text);
            assert_eq!((name.as_bytes(), name.is_empty()), (&text[..], text.is_empty()));
            for (other, longer) in texts.iter().enumerate() {
                assert_eq!(name.cmp(&Name::new(longer)), index.cmp(&other));
            }
            let path = [b"/a/", &text[..]].concat();
            let after = text.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
            let path = Name::new(path);
            assert_eq!(path.file_name().as_bytes(), &text[after..]);
            assert_eq!(path.file_name_bytes(), &text[after..]);
        }
        assert_eq!(std::mem::size_of::<Name>(), 24);
    }

    #[test]
    fn the_file_name_is_the_part_after_the_last_slash() {
        assert_eq!(Name::from("/usr/lib/libc.so.6").file_name(), Name::from("libc.so.6"));
        assert_eq!(Name::from("[heap]").file_name(), Name::from("[heap]"));
    }
}
