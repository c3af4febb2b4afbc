//! `Name`: bytes the target or the kernel chose (paths, thread names, mapping names), kept exactly and shown escaped.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes as the kernel gave them: not necessarily UTF-8, may hold control bytes. `Display` escapes everything that could
/// steer a terminal or forge a line (control bytes, backslash, bytes that are not UTF-8, bidirectional controls).
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Vec<u8>);

impl Name {
    /// Keeps the bytes as they are.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The exact bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// True when there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes as text if they are UTF-8 (not escaped: for comparisons, never for printing).
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The part after the last `/`.
    #[must_use]
    pub fn file_name(&self) -> Self {
        let start = self.0.iter().rposition(|&b| b == b'/').map_or(0, |i| i + 1);
        Self(self.0[start..].to_vec())
    }

    /// The escaped text, borrowed when nothing needs escaping. [`Name::unescape`] is its inverse.
    #[must_use]
    pub fn escaped(&self) -> Cow<'_, str> {
        match self.as_str() {
            Some(text) if text.chars().all(is_plain) => Cow::Borrowed(text),
            _ => Cow::Owned(escape(&self.0)),
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
        Self(out)
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
        Self(text.as_bytes().to_vec())
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
    fn the_file_name_is_the_part_after_the_last_slash() {
        assert_eq!(Name::from("/usr/lib/libc.so.6").file_name(), Name::from("libc.so.6"));
        assert_eq!(Name::from("[heap]").file_name(), Name::from("[heap]"));
    }
}
