//! Forms of single fields in the results file, where the derived form would not be one for other people: durations as whole
//! milliseconds, paths that need not be UTF-8 as escaped text, bytes as hexadecimal digits.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Name;
use super::report::End;

/// A duration as whole milliseconds.
pub(super) mod millis {
    use super::*;

    pub(in crate::model) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(in crate::model) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// A path as text, escaped as a [`Name`] is.
pub(super) mod path {
    use super::*;

    pub(in crate::model) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        Name::new(path.as_os_str().as_encoded_bytes()).serialize(serializer)
    }

    pub(in crate::model) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Name::deserialize(deserializer).map(|name| super::path_of(&name))
    }
}

/// A path that may be absent.
pub(super) mod some_path {
    use super::*;

    #[expect(clippy::ref_option, reason = "serde calls it with a reference to the field")]
    pub(in crate::model) fn serialize<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
        path.as_ref()
            .map(|path| Name::new(path.as_os_str().as_encoded_bytes()))
            .serialize(serializer)
    }

    pub(in crate::model) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
        Option::<Name>::deserialize(deserializer).map(|name| name.map(|name| super::path_of(&name)))
    }
}

#[cfg(unix)]
fn path_of(name: &Name) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    PathBuf::from(std::ffi::OsStr::from_bytes(name.as_bytes()))
}

#[cfg(not(unix))]
fn path_of(name: &Name) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(name.as_bytes()).into_owned())
}

/// Ranges of bytes as `[address, "hexadecimal digits"]`.
pub(super) mod ranges {
    use std::fmt::Write as _;

    use super::*;

    pub(in crate::model) fn serialize<S: Serializer>(ranges: &[(u64, Vec<u8>)], serializer: S) -> Result<S::Ok, S::Error> {
        let hex = |bytes: &[u8]| {
            bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
                // Writing to a String cannot fail.
                let _ = write!(text, "{byte:02x}");
                text
            })
        };
        serializer.collect_seq(ranges.iter().map(|(address, bytes)| (address, hex(bytes))))
    }

    pub(in crate::model) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(u64, Vec<u8>)>, D::Error> {
        let ranges = Vec::<(u64, String)>::deserialize(deserializer)?;
        ranges
            .into_iter()
            .map(|(address, text)| {
                let bytes = super::bytes_of(&text).ok_or_else(|| D::Error::custom("bytes are pairs of hexadecimal digits"))?;
                Ok((address, bytes))
            })
            .collect()
    }
}

fn bytes_of(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |c: u8| char::from(c).to_digit(16);
    let byte = |pair: &[u8; 2]| u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok();
    if rest.is_empty() {
        pairs.iter().map(byte).collect()
    } else {
        None
    }
}

/// What differs between the environment of record and this machine, as `{ name, recorded, here }`.
pub(super) mod differences {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Form {
        name: String,
        recorded: String,
        here: String,
    }

    pub(in crate::model) fn serialize<S: Serializer>(all: &[(String, String, String)], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(
            all.iter()
                .cloned()
                .map(|(name, recorded, here)| Form { name, recorded, here }),
        )
    }

    pub(in crate::model) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<(String, String, String)>, D::Error> {
        let all = Vec::<Form>::deserialize(deserializer)?;
        Ok(all.into_iter().map(|form| (form.name, form.recorded, form.here)).collect())
    }
}

/// An [`End`] as `{ kind, code, signal }`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct EndForm {
    kind: String,
    code: Option<i32>,
    signal: Option<String>,
}

impl From<End> for EndForm {
    fn from(end: End) -> Self {
        let (kind, code, signal) = match end {
            End::Exited(code) => ("exited", Some(code), None),
            End::Signalled(signal) => ("signalled", None, Some(signal)),
            End::Killed => ("killed", None, None),
            End::TimedOut => ("timed-out", None, None),
        };
        Self {
            kind: kind.to_owned(),
            code,
            signal,
        }
    }
}

impl TryFrom<EndForm> for End {
    type Error = String;

    fn try_from(form: EndForm) -> Result<Self, String> {
        match (form.kind.as_str(), form.code, form.signal) {
            ("exited", Some(code), _) => Ok(Self::Exited(code)),
            ("signalled", _, Some(signal)) => Ok(Self::Signalled(signal)),
            ("killed", ..) => Ok(Self::Killed),
            ("timed-out", ..) => Ok(Self::TimedOut),
            (kind, ..) => Err(format!("no program ends as {}", Name::from(kind))),
        }
    }
}
