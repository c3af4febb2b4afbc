//! The name of a process in the tree of a case: the program it runs, and its place by birth.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// `worker.2` is the second child that the target made, in the order of its making, and runs the program `worker`; `worker.2.1`
/// is that one's first child. What program a child runs does not change its number, so the names do not depend on which of two
/// children loads its program first. A child that loads another program takes that name.
///
/// The program is the name of its executable file in lower case, every character but letters, digits and `_` written as `-`:
/// so the first dot is where the numbers begin. Without numbers a name stands for the only child that runs the program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChildName {
    program: String,
    path: Vec<u32>,
}

impl ChildName {
    /// The process at a place in the tree that runs a program of this file name.
    #[must_use]
    pub fn new(file_name: &[u8], path: &[u32]) -> Self {
        Self {
            program: program(&String::from_utf8_lossy(file_name)),
            path: path.to_vec(),
        }
    }

    /// Reads a name as written: `worker`, `worker.2.1`. What comes before the last run of numbers is the program. Absent when
    /// there is no program, or a number is 0.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts: Vec<&str> = text.split('.').collect();
        let mut path = Vec::new();
        while parts.len() > 1
            && let Some(number) = parts.last().and_then(|part| part.parse::<u32>().ok())
        {
            path.push(number);
            parts.pop();
        }
        path.reverse();
        let name = Self {
            program: program(&parts.join(".")),
            path,
        };
        let is_sound = name.program.chars().any(char::is_alphanumeric) && !name.path.contains(&0);
        is_sound.then_some(name)
    }

    /// The program's word.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program
    }

    /// The place: which child of the target, which child of that one, and so on. Empty: the only one of its program.
    #[must_use]
    pub fn path(&self) -> &[u32] {
        &self.path
    }

    /// The child number `number` of the target with this program.
    #[must_use]
    pub fn numbered(&self, number: u32) -> Self {
        Self {
            program: self.program.clone(),
            path: vec![number],
        }
    }

    /// True when this name, as written by a user, means a process of that name.
    #[must_use]
    pub fn means(&self, process: &Self) -> bool {
        self.program == process.program && (self.path.is_empty() || self.path == process.path)
    }

    /// The order of names in lists: by birth, parents first.
    #[must_use]
    pub fn order(&self) -> (&[u32], &str) {
        (&self.path, &self.program)
    }
}

/// One word for a program's file name.
fn program(file_name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let lower = file_name.chars().flat_map(char::to_lowercase);
    lower.map(|c| if plain(c) { c } else { '-' }).collect()
}

impl fmt::Display for ChildName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.program.clone();
        for number in &self.path {
            text.push('.');
            text.push_str(&number.to_string());
        }
        f.pad(&text)
    }
}

impl Serialize for ChildName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ChildName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("no name of a child process"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_program_and_a_place() {
        let name = |text: &str| ChildName::parse(text).unwrap();
        assert_eq!((name("worker").program(), name("worker").path()), ("worker", &[][..]));
        assert_eq!(
            (name("worker.2.1").program(), name("worker.2.1").path()),
            ("worker", &[2, 1][..])
        );
        assert_eq!(name("libtool.sh.3"), ChildName::new(b"libtool.sh", &[3]));
        assert_eq!(ChildName::new(b"My Worker", &[1]).to_string(), "my-worker.1");
        for text in ["", ".1", "worker.0", "--"] {
            assert_eq!(ChildName::parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_name_can_be_written_back() {
        for (file, path) in [(&b"python3.11"[..], &[2][..]), (b"worker", &[11, 2]), (b"A.B", &[1])] {
            let name = ChildName::new(file, path);
            assert_eq!(ChildName::parse(&name.to_string()), Some(name));
        }
    }

    #[test]
    fn without_numbers_it_means_any_child_of_the_program() {
        let worker = |path: &[u32]| ChildName::new(b"worker", path);
        assert!(worker(&[]).means(&worker(&[2])) && worker(&[2]).means(&worker(&[2])));
        assert!(!worker(&[2]).means(&worker(&[2, 1])) && !worker(&[]).means(&ChildName::new(b"log", &[1])));
    }
}
