//! `ElfRule`: what a policy demands of the headers of loaded files; `ElfResult`: how each came out.

use serde::{Deserialize, Serialize};

use super::{Name, Place, Relro, Verdict};

/// What of a file's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ElfKey {
    /// `elf.relro`
    Relro,
    /// `elf.nx`: no executable stack.
    Nx,
    /// `elf.pie`: of the executable.
    Pie,
    /// `elf.canary`: the stack protector.
    Canary,
    /// `elf.wx`: segments that are writable and executable at once.
    Wx,
}

impl ElfKey {
    /// All, in the order in which they are judged.
    pub const ALL: [Self; 5] = [Self::Relro, Self::Nx, Self::Pie, Self::Canary, Self::Wx];

    /// The word in `memcheck.toml`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Relro => "elf.relro",
            Self::Nx => "elf.nx",
            Self::Pie => "elf.pie",
            Self::Canary => "elf.canary",
            Self::Wx => "elf.wx",
        }
    }

    /// The key of such a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }

    /// How far what is found, in the words of a result, is from all that could be demanded: 0 is everything.
    #[must_use]
    pub fn weakness(self, word: &str) -> Option<u64> {
        match self {
            Self::Wx => word.parse().ok(),
            _ => self.words().iter().position(|known| *known == word).map(|at| at as u64),
        }
    }

    /// The word for it.
    #[must_use]
    pub fn word(self, weakness: u64) -> String {
        let known = usize::try_from(weakness).ok().and_then(|at| self.words().get(at));
        known.map_or_else(|| weakness.to_string(), |word| (*word).to_owned())
    }

    /// From the best on; counts have none.
    const fn words(self) -> &'static [&'static str] {
        match self {
            Self::Relro => &["full", "partial", "none"],
            Self::Nx | Self::Pie | Self::Canary => &["yes", "no"],
            Self::Wx => &[],
        }
    }
}

/// What is demanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElfWanted {
    /// At least so much; [`Relro::No`] demands nothing.
    Relro(Relro),
    /// That it is so; `false` demands nothing.
    Flag(bool),
    /// No more than so many.
    AtMost(u64),
}

/// One demand as it holds for a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElfRule {
    /// Of what.
    pub key: ElfKey,
    /// What.
    pub wanted: ElfWanted,
    /// A pattern of file names, or (with a `/`) of paths; absent: the executable and the program's own libraries.
    pub object: Option<String>,
    /// Written in the case itself: a pattern that no file has is a mistake then.
    pub of_case: bool,
    /// Where.
    pub place: Place,
}

/// How the demands on a case came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hardened {
    /// For each file and demand.
    pub results: Vec<ElfResult>,
    /// Patterns of files that may hold for other cases too.
    pub patterns: Vec<ElfPattern>,
}

/// A pattern of files that is not the case's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElfPattern {
    /// The pattern.
    pub object: String,
    /// Where a demand on such files was written first.
    pub origin: Place,
    /// The case had such a file loaded.
    pub loaded: bool,
}

/// How a demand came out for one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElfResult {
    /// `elf.relro`
    pub rule: String,
    /// The file's path as it was mapped; the pattern where no file has such a name.
    pub object: Name,
    /// `full`, `yes`, `0`
    pub wanted: String,
    /// The same of the file; empty when it is not known.
    pub found: String,
    /// [`Verdict::Waived`] too.
    pub verdict: Verdict,
    /// Why it is not known; empty otherwise.
    pub reason: String,
    /// Where the demand was written.
    pub origin: Place,
}

impl ElfResult {
    /// The file's name.
    #[must_use]
    pub fn file(&self) -> Name {
        let name = self.object.file_name();
        if name.is_empty() { self.object.clone() } else { name }
    }

    /// What is wrong: `elf.relro of server is partial, must be full`.
    #[must_use]
    pub fn text(&self) -> String {
        let (rule, file) = (&self.rule, self.file());
        let must = match (self.rule.as_str(), self.wanted.as_str()) {
            ("elf.wx", wanted) => format!("at most {wanted}"),
            (_, wanted) => format!("must be {wanted}"),
        };
        match self.verdict {
            Verdict::Unknown => format!("{rule} of {file} is not known, {must}: {}", self.reason),
            _ => format!("{rule} of {file} is {}, {must}", self.found),
        }
    }

    /// What changes it; absent where it is not known how things are.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        if self.verdict == Verdict::Unknown {
            return None;
        }
        Some(match (self.rule.as_str(), self.wanted.as_str()) {
            ("elf.relro", "full") => "link with -Wl,-z,relro,-z,now",
            ("elf.relro", _) => "link with -Wl,-z,relro",
            ("elf.nx", _) => "link with -Wl,-z,noexecstack; assembly needs a section .note.GNU-stack",
            ("elf.pie", _) => "compile with -fPIE and link with -pie",
            ("elf.canary", _) => "compile with -fstack-protector-strong",
            ("elf.wx", _) => "readelf -lW shows the segment (RWE); link without -N and without a script that joins code and data",
            _ => return None,
        })
    }
}
