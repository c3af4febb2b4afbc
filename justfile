# `just --list`. The recipes are the commands of .ci/run, one by one.

set shell := ["bash", "-euo", "pipefail", "-c"]

# Everything, as CI runs it.
ci:
    bash .ci/run

# Format all sources.
fmt:
    cargo fmt --all

# What clippy says, warnings as errors.
lint:
    cargo fmt --all --check
    cargo clippy --locked --workspace --all-targets --features tests/oracles,cargo-memcheck/oracles -- -D warnings

# All tests; arguments go to cargo: `just test -p memcheck-harness classify`.
test *ARGS:
    cargo test --workspace {{ARGS}}

# The tests that compare with pmap, readelf, gdb, cargo-insta and cargo-nextest.
oracles:
    cargo test --locked --package tests --features oracles
    cargo test --locked --package cargo-memcheck --features oracles --test git
    cargo test --locked --package cargo-memcheck --features oracles --test cli -- kinds:: runners::

# This repository's own suite; arguments go to cargo memcheck.
memcheck *ARGS:
    cargo memcheck {{ARGS}}

# The guide: its commands run, its links followed; `just book --update` writes what they print.
book *ARGS:
    .ci/tools
    cargo build --locked --package cargo-memcheck
    .ci/book target/debug/cargo-memcheck {{ARGS}}

# action.yml and the workflows, run as GitHub runs them, and linted.
actions:
    .ci/tools
    cargo build --locked --package cargo-memcheck
    .ci/actions target/debug/cargo-memcheck

# The documentation, warnings as errors.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

# Forty cases at once in one process while every processor is busy, for SECONDS: no flake, and nothing is left in the tool.
soak SECONDS="1200":
    MALLOC_ARENA_MAX=1 MEMCHECK_SOAK={{SECONDS}} cargo test --locked --package tests --test soak -- --nocapture

# The suite many times in a row: every run must say the same of every case, byte for byte.
soak-snapshots TIMES="50":
    bash .ci/soak {{TIMES}}

# A commit that changes nothing, through the snapshot gate and through compare --base: 50 of 50.
soak-compare:
    cargo test --locked --package cargo-memcheck --features oracles --test git -- --ignored

# The same while every processor is busy.
soak-busy TIMES="20":
    bash .ci/soak {{TIMES}} busy

# All ratios against peers and limits (needs gdb, valgrind, heaptrack, pmap; a quiet machine); words choose rows, `--quick` those far
# from their limit.
bench *ARGS:
    cargo bench --locked --package benches -- {{ARGS}}

# The tool interrupted and killed at random moments, TIMES times.
kills TIMES="200":
    MEMCHECK_KILLS={{TIMES}} cargo test --package cargo-memcheck --test cli -- --exact hazards::hazard_18_19_the_tool_is_killed_at_random_moments --nocapture

# Every parser of bytes from outside, each for SECONDS (needs a C++ compiler): `just fuzz 600 elf captures`.
fuzz SECONDS="60" *TARGETS="":
    .ci/fuzz {{SECONDS}} {{TARGETS}}

# Licences, duplicate versions and sources of the dependencies (needs cargo-deny).
deny:
    cargo deny check licenses bans sources
