//! Every key of `memcheck.toml` with its form and its meaning, for the guide. Which keys there are is asked of the parser itself: it
//! reads a sample that has each kind of table, and notes what it knows there.

use crate::model::ConfigKey;

use super::plan;

/// Holds each kind of table once; what is wrong in it is of no account.
const SAMPLE: &str = r#"
[defaults]
limits = {}
snapshot = { tolerance = {} }
budget.own.anon = { max = "1 B" }
elf = { nx = true, object = { x = { nx = true } } }
[[case]]
name = "a"
target = {}
[[case.checkpoint]]
name = "b"
at = { nowhere = "x" }
[[case.step]]
[[case]]
name = "c"
target = { c = "x.c" }
exit = {}
environment.e.budget.own.anon = "1 B"
checkpoint = [{ name = "b", at = { syscall = "pause" } }, { name = "d", at = { output = "x" } }, { name = "e", at = { thread = "end" } }]
[[case]]
name = "f"
target = { path = "x", nothing = 1 }
checkpoint = [{ name = "b" }]
[[case]]
name = "g"
target = { bin = "x", nothing = 1 }
matrix = { nothing = 1 }
checkpoint = [{ name = "b" }]
[[waiver]]
[[policy]]
[environment.e]
match = { nothing = 1 }
"#;

/// Table, key, form and meaning, in the order of the guide. One line a key, so that a change of one is one.
#[rustfmt::skip]
const MEANINGS: &[(&str, &str, &str, &str)] = &[
    ("memcheck.toml", "defaults", "table", "Settings of every case."),
    ("memcheck.toml", "environment", "table by name", "Further environments of record, each with snapshots of its own where they differ."),
    ("memcheck.toml", "policy", "list of tables", "Limits of all cases of a package, or whose names fit a pattern."),
    ("memcheck.toml", "case", "list of tables", "The cases; each launches one program."),
    ("memcheck.toml", "waiver", "list of tables", "Limits that may be exceeded for a while, up to a ceiling and a day."),
    ("[defaults]", "own", "list of patterns", "Shared objects outside of the project that count as the program's own."),
    ("[[case]]", "name", "`[a-z0-9][a-z0-9.-]*`", "Names the case and its snapshot."),
    ("[[case]]", "package", "name", "The package whose snapshot directory is used; needed where it is not clear."),
    ("[[case]]", "target", "table", "What is run, see below."),
    ("[[case]]", "args", "list of texts", "Arguments of the program."),
    ("[[case]]", "cwd", "path", "Working directory, relative to the package."),
    ("[[case]]", "stdin", "`\"null\"` or path", "Standard input: nothing, or a file."),
    ("[[case]]", "exit", "number, `{ signal = … }`, `\"any\"`", "How the program is to end; anything else fails the case."),
    ("[[case]]", "features", "list of texts", "Cargo features of the target."),
    ("[[case]]", "children", "`\"ignore\"`, `\"follow\"`, `\"capture\"`, `\"detach\"`", "Child processes are ended with the case and not measured; stopped at checkpoints that name them; captured at their end; let go when they are born, so that the program can trace them itself."),
    ("[[case]]", "checkpoint", "list of tables", "Where the program is stopped, in any order."),
    ("[[case]]", "step", "list of tables", "Commands that run while the program goes on."),
    ("[[case]]", "matrix", "table", "One case as several runs, see below."),
    ("[[case]]", "environment", "table by name", "Limits in single environments: `environment.NAME.budget`."),
    ("[[case]]", "tty", "flag", "Standard output and error are a terminal: for programs that write line by line only there."),
    ("[[case]]", "serial", "flag", "No other case runs at the same time."),
    ("[[case]]", "group", "name", "Cases of one group run one after another."),
    ("[[case]]", "tree", "flag", "Sums over all processes of the target's tree at every checkpoint, `tree.*`; a limit on one asks for it by itself."),
    ("[[case]]", "detach", "flag", "The program is let go after its last checkpoint, no longer traced, and its end is judged."),
    ("[defaults] and [[case]]", "profile", "name", "Cargo profile; `memcheck` is release with line tables, unstripped."),
    ("[defaults] and [[case]]", "timeout", "duration", "Time for the whole case: `\"30s\"`, `\"500ms\"`."),
    ("[defaults] and [[case]]", "env", "table of texts", "Variables of the program, on top of a small fixed environment."),
    ("[defaults] and [[case]]", "limits", "table", "Resource limits of the program."),
    ("[defaults] and [[case]]", "cpus", "number", "How many processors the program may use."),
    ("[defaults] and [[case]]", "after_last", "`\"kill\"`, `\"run\"`", "After the last checkpoint the program is killed, or runs to its end."),
    ("[defaults] and [[case]]", "as_is", "flag", "Launched as it would be here: no fixed environment, no fixed layout."),
    ("[defaults] and [[case]]", "cooperative", "flag", "Nobody traces the program: markers built for it stop it by themselves."),
    ("[defaults] and [[case]]", "watch", "`\"stacks\"`, `\"none\"`", "Sees how deep the stacks of threads were when these ended."),
    ("[defaults] and [[case]]", "snapshot", "table or `false`", "What is in the snapshot; `false`: there is none."),
    ("[defaults] and [[case]]", "budget", "table", "Limits by metric, at every checkpoint; a role may be a pattern: `budget.allocator.\"*\".anon`."),
    ("[defaults] and [[case]]", "elf", "table", "Demands on the headers of the executable and own libraries, see below."),
    ("[[case.checkpoint]]", "name", "name", "Names the checkpoint; without `at` the marker of that name."),
    ("[[case.checkpoint]]", "at", "text or table", "Where to stop."),
    ("[[case.checkpoint]]", "child", "`\"name.1\"`, `\"name.*\"`", "In which child process, instead of the program itself."),
    ("[[case.checkpoint]]", "from", "as `at`", "The beginning of a phase that is repeated, captured in each repetition; with `to`, instead of `at`."),
    ("[[case.checkpoint]]", "to", "as `at`", "Its end; `over = \"from\"` is the beginning of the same repetition."),
    ("[[case.checkpoint]]", "hit", "number", "The N-th pass."),
    ("[[case.checkpoint]]", "every", "flag or number", "Each pass, as `name.1`, `name.2`, …; `every = 10`: one in ten."),
    ("[[case.checkpoint]]", "limit", "number", "At most so many passes of `every`; 100 when absent."),
    ("[[case.checkpoint]]", "warm_up", "number", "So many passes of `every` come before growth is judged."),
    ("[[case.checkpoint]]", "hardware", "flag", "Stops in the code by a debug register of the processor: no page of code changes."),
    ("[[case.checkpoint]]", "settle", "duration", "Measured when memory has not changed for so long; the thread that came there stands, all others run on."),
    ("[[case.checkpoint]]", "snapshot", "flag", "Whether it takes part in the snapshot."),
    ("[[case.checkpoint]]", "budget", "table", "Limits by metric, here."),
    ("[[case.checkpoint]]", "environment", "table by name", "Limits in single environments, here."),
    ("[[case.checkpoint]]", "watch", "`\"stacks\"`", "As above, up to here."),
    ("[[case.step]]", "after", "name", "The checkpoint after which it starts."),
    ("[[case.step]]", "run", "list of texts", "Program and arguments; `MEMCHECK_PID` tells it the process. One that fails, fails the case."),
    ("[environment.NAME]", "match", "table", "The machines that it is of; without it `--env NAME` chooses it."),
    ("[environment.NAME]", "budget", "table", "Limits by metric, over those of `[defaults]`."),
    ("[environment.NAME]", "elf", "table", "Demands on the headers, likewise."),
    ("match", "CI", "flag", "Whether `CI` is set."),
    ("match", "arch", "pattern or list", "The processor's architecture."),
    ("match", "cpus", "pattern or list", "Number of processors."),
    ("match", "kernel", "pattern or list", "The kernel's version."),
    ("match", "libc", "pattern or list", "The C library: `glibc 2.41`."),
    ("match", "overcommit", "pattern or list", "The kernel's rule for more memory than there is."),
    ("match", "page-size", "pattern or list", "Size of a page."),
    ("match", "thp", "pattern or list", "Transparent huge pages."),
    ("environment.NAME", "budget", "table", "Limits of a case, policy or checkpoint in that environment."),
    ("environment.NAME", "elf", "table", "Demands on the headers of a case or policy in that environment."),
    ("[[policy]]", "package", "pattern or list", "The packages whose cases are meant; absent: all."),
    ("[[policy]]", "case", "pattern or list", "The names of the cases that are meant, `load.*`; a case with a `matrix` by its own name or that of a run."),
    ("[[policy]]", "checkpoint", "pattern or list", "The checkpoints that are meant, by name or that of their series; absent: all."),
    ("[[policy]]", "budget", "table", "Limits by metric, over those of `[environment.NAME]` and `[defaults]`, below those of the case; a later policy comes before an earlier one."),
    ("[[policy]]", "elf", "table", "Demands on the headers, likewise."),
    ("[[policy]]", "environment", "table by name", "Limits in single environments: `environment.NAME.budget`."),
    ("[[waiver]]", "case", "name", "The case."),
    ("[[waiver]]", "checkpoint", "name", "The checkpoint; absent: every one."),
    ("[[waiver]]", "metric", "metric, or `elf.relro` and the like", "The metric whose limit may be exceeded, or the demand that may be broken."),
    ("[[waiver]]", "object", "pattern", "Of a demand on headers: only these files, by name or path."),
    ("[[waiver]]", "ceiling", "size or number", "The highest value that is let pass; of `elf.relro` the least, `\"partial\"` or `\"none\"`, of the flags `false`."),
    ("[[waiver]]", "expires", "date", "The last day; after it the run fails."),
    ("[[waiver]]", "issue", "text", "Where it is dealt with."),
    ("[[waiver]]", "reason", "text", "Why; told on every run."),
    ("target", "bin", "name", "A bin of the workspace."),
    ("target", "example", "name", "An example."),
    ("target", "test", "name", "A test."),
    ("target", "bench", "name", "A bench."),
    ("target", "package", "name", "The package of these."),
    ("target", "features", "list of texts", "Cargo features."),
    ("target", "c", "path", "A C file that is compiled and linked by itself; `memcheck.h` is found."),
    ("target", "cflags", "list of texts", "Options for the compiler."),
    ("target", "ldflags", "list of texts", "Options for the linker."),
    ("target", "cc", "name", "The compiler."),
    ("target", "path", "path", "A program that is there, or is made by `build`."),
    ("target", "build", "text", "The command that makes it."),
    ("target", "command", "name", "A program on PATH."),
    ("at", "probe", "name", "A marker, or a USDT `provider:name`."),
    ("at", "function", "symbol", "The entry of a function."),
    ("at", "returns", "symbol", "The return of a function."),
    ("at", "line", "`file:line`", "A line of the source."),
    ("at", "syscall", "name", "Before a system call."),
    ("at", "args", "table", "Only with these arguments: `{ 0 = 15 }`."),
    ("at", "signal", "name", "Before a signal is delivered."),
    ("at", "output", "regex", "At the write that completes a matching line."),
    ("at", "stream", "`\"stdout\"`, `\"stderr\"`", "Which stream."),
    ("at", "thread", "`\"start\"`, `\"end\"`", "At a thread's beginning or end."),
    ("at", "name", "text", "Of the thread."),
    ("at", "library", "name", "When its code is mapped."),
    ("at", "touch", "variable, `\"guard\"`, `\"stack\"`", "When it is written; when a stack runs over; when it gets deeper than ever."),
    ("at", "after", "duration", "So long after the checkpoint before."),
    ("a limit", "max", "size or number", "The highest value; also written alone: `budget.own.anon = \"16 MiB\"`."),
    ("a limit", "min", "size or number", "The lowest value."),
    ("a limit", "max_growth", "size, number or percent", "How much more than at `over`; a percentage allows 16 KiB at least."),
    ("a limit", "max_per_round", "size or number", "How much one pass of `every` may add, by the slope over all of them."),
    ("a limit", "max_per_unit", "size or number", "How much one more unit of the matrix may cost."),
    ("a limit", "max_constant", "size or number", "What there may be besides, whatever the unit."),
    ("a limit", "over", "checkpoint, `\"approved\"`, `\"base\"`", "What growth is measured against."),
    ("elf", "relro", "`\"full\"`, `\"partial\"`, `\"none\"`", "Read-only after relocation, at least so far; `\"none\"` takes a default back."),
    ("elf", "nx", "flag", "The stack is not executable."),
    ("elf", "pie", "flag", "The executable is position-independent."),
    ("elf", "canary", "flag", "The stack protector is used."),
    ("elf", "wx", "number", "At most so many segments that are writable and executable at once."),
    ("elf", "object", "table by pattern", "The same for files by name, or by path: `elf.object.\"libx*\".relro`; it comes before what holds for all."),
    ("elf.object", "relro", "as `elf.relro`", "Of these files."),
    ("elf.object", "nx", "flag", "Of these files."),
    ("elf.object", "pie", "flag", "Of these files."),
    ("elf.object", "canary", "flag", "Of these files."),
    ("elf.object", "wx", "number", "Of these files."),
    ("snapshot", "elf", "`\"large\"`, `\"sizes\"`", "Segments of the program: from 256 KiB on, or all."),
    ("snapshot", "libraries", "`\"names\"`, `\"sizes\"`", "Own libraries: by name, or with their segments."),
    ("snapshot", "roles", "list of roles", "Only these rows."),
    ("snapshot", "metrics", "list of metrics", "Further rows."),
    ("snapshot", "tolerance", "table by row", "Differences that are let pass."),
    ("limits", "stack", "size", "Stack limit; stacks of threads follow it."),
    ("limits", "as", "size", "Address space."),
    ("limits", "nofile", "number", "Open files."),
    ("matrix", "args", "list of lists of texts", "Arguments of each run."),
    ("matrix", "env", "table of lists", "Variables of each run."),
    ("matrix", "profile", "list of names", "Cargo profile of each run."),
    ("matrix", "unit", "text", "What one more is called: `thread`."),
    ("exit", "signal", "name", "The signal that ends it."),
];

/// Stands for both tables that share the settings of a case.
const BOTH: &str = "[defaults] and [[case]]";

/// Every key that the parser knows, table by table; one that nobody has described yet comes last and says so.
#[must_use]
pub fn reference() -> Vec<ConfigKey> {
    let mut known = plan::tables(SAMPLE);
    let mut all = Vec::new();
    for (table, key, form, meaning) in MEANINGS {
        let tables: &[&str] = if *table == BOTH {
            &["[defaults]", "[[case]]"]
        } else {
            &[table]
        };
        let there = tables
            .iter()
            .filter(|table| known.get_mut(*table).is_some_and(|keys| keys.remove(*key)));
        if there.count() == tables.len() {
            all.push(entry(table, key, form, meaning));
        }
    }
    for (table, keys) in known {
        all.extend(keys.iter().map(|key| entry(table, key, "", "not described yet")));
    }
    all
}

fn entry(table: &'static str, key: &str, form: &'static str, meaning: &'static str) -> ConfigKey {
    ConfigKey {
        table,
        key: key.to_owned(),
        form,
        meaning,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key that the parser knows and the guide does not is a line to be written in `MEANINGS`, and the other way round.
    #[test]
    fn the_guide_has_every_key_of_the_parser_and_no_other() {
        let all = reference();
        let missing: Vec<&ConfigKey> = all.iter().filter(|key| key.form.is_empty()).collect();
        assert!(missing.is_empty(), "write what they mean, in MEANINGS: {missing:#?}");
        let gone = MEANINGS
            .iter()
            .filter(|(table, key, ..)| !all.iter().any(|known| known.table == *table && known.key == *key));
        assert_eq!(
            gone.collect::<Vec<_>>(),
            [].as_slice() as &[&(&str, &str, &str, &str)],
            "the parser does not know them"
        );
        assert_eq!(all.len(), MEANINGS.len());
    }
}
