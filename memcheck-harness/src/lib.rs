//! Test harness for memory regressions of native Linux programs.
//!
//! The module list is the line: discover → build → launch → pause → capture → classify → budget / normalize → compare → report.
//! Data flows one way; `ARCHITECTURE.md` holds the arrows and `tests/architecture.rs` keeps them.

pub mod error;
pub mod model;

pub mod config;
pub mod build;
pub mod init;
pub mod elf;
mod sys;
pub mod trace;
mod prepare;
mod ending;
pub mod interrupt;
pub mod capture;
pub mod doctor;
pub mod classify;
pub mod budget;
pub mod normalize;
pub mod compare;
pub mod explain;
pub mod report;
pub mod pipeline;
pub mod selftest;
pub mod empty;
pub mod replay;
pub mod merge;
pub mod artifact;
pub mod harness;
#[cfg(any(test, fuzzing))]
pub mod fuzz;

pub use harness::main;
