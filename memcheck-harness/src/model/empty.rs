//! `EmptyProgram`: what a program costs that does nothing, built and launched as another one is.

use std::collections::BTreeMap;

/// An empty program of one toolchain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmptyProgram {
    /// `C` or `Rust`
    pub language: String,
    /// Its compiler, and for Rust the profile; empty when it does not tell.
    pub toolchain: String,
    /// Own memory, at `main` and at `exit`.
    pub at: BTreeMap<String, EmptyCost>,
}

/// Own memory of an empty program, bytes; absent what is not known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmptyCost {
    /// Address space.
    pub reserved: u64,
    /// Pages in memory.
    pub resident: Option<u64>,
    /// Pages in memory that belong to no file.
    pub anon: Option<u64>,
}

impl EmptyProgram {
    /// What it has cost where another program is stopped (`at` as checkpoints say it): at `main` there, anywhere later at its
    /// end; before the loader runs nothing is known of it.
    #[must_use]
    pub fn cost_at(&self, at: &str) -> Option<EmptyCost> {
        let place = match at {
            "exec" => return None,
            "main" => "main",
            _ => "exit",
        };
        self.at.get(place).copied()
    }

    /// `an empty C program (gcc 12.2.0)`
    #[must_use]
    pub fn label(&self) -> String {
        let by = match self.toolchain.as_str() {
            "" => String::new(),
            toolchain => format!(" ({toolchain})"),
        };
        format!("an empty {} program{by}", self.language)
    }
}
