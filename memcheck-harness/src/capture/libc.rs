//! Which glibc programs run on, by the loader they name: it is a part of glibc and works with its own version only. The C
//! library of this tool may be another one.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::elf;
use crate::error::{Error, Result};

/// A larger file is no loader, and no C library.
const MAX_BYTES: u64 = 16 << 20;

/// `glibc 2.41`, where all programs that name a loader of glibc name one of the same version; absent where they do not agree,
/// and where none of them tells (static ones, other C libraries, files that cannot be read).
#[must_use]
pub fn libc_of<'a>(programs: impl Iterator<Item = &'a Path>) -> Option<String> {
    // Many cases run one program.
    let programs: BTreeSet<&Path> = programs.collect();
    let loaders: BTreeSet<PathBuf> = programs.into_iter().filter_map(loader).collect();
    let versions: BTreeSet<String> = loaders.iter().filter_map(|loader| version_of(loader)).collect();
    let mut versions = versions.into_iter();
    match (versions.next(), versions.next()) {
        (Some(one), None) => Some(format!("glibc {one}")),
        _ => None,
    }
}

/// The loader that a program names, by its real path.
fn loader(program: &Path) -> Option<PathBuf> {
    let file = File::open(program).ok()?;
    let facts = elf::remembered(&file, "facts", || elf::facts(&file)).ok()?;
    Path::new(facts.interpreter.as_ref()?.as_str()?).canonicalize().ok()
}

/// What the loader says of itself (since glibc 2.33, for `ld.so --version`), else what the libc beside it says.
fn version_of(loader: &Path) -> Option<String> {
    [loader.to_path_buf(), loader.with_file_name("libc.so.6")]
        .iter()
        .find_map(|path| {
            let file = File::open(path).ok()?;
            let version = elf::remembered(&file, "release version", || Ok(version_in(&read(&file)?)));
            Option::clone(&*version.ok()?)
        })
}

fn read(file: &File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = file.take(MAX_BYTES).read_to_end(&mut bytes);
    read.map_err(|error| Error::not_judged(format!("a C library could not be read: {error}")))?;
    Ok(bytes)
}

/// The number in `(…GLIBC…) stable release version 2.41.` (csu/version.c and elf/dl-usage.c of glibc; `development` for a
/// version that is none yet).
fn version_in(bytes: &[u8]) -> Option<String> {
    const TEXT: &[u8] = b" release version ";
    let at = bytes.windows(TEXT.len()).position(|window| window == TEXT)?;
    let rest = bytes.get(at + TEXT.len()..)?;
    let number: String = rest
        .iter()
        .take(16)
        .take_while(|byte| byte.is_ascii_digit() || **byte == b'.')
        .map(|byte| char::from(*byte))
        .collect();
    let number = number.trim_end_matches('.');
    (number.contains('.')).then(|| number.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_where_it_stands() {
        let found = |text: &str| version_in(text.as_bytes());
        assert_eq!(
            found("\0GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\nCopy"),
            Some("2.36".to_owned())
        );
        assert_eq!(
            found("ld.so (GNU libc) development release version 2.42.9000.\n"),
            Some("2.42.9000".to_owned())
        );
        assert_eq!(found(" release version x"), None);
        assert_eq!(found("musl libc (x86_64)\nVersion %s"), None);
    }

    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn programs_here_run_on_the_libc_that_we_run_on() {
        let dir = tempfile::tempdir().unwrap();
        let program = crate::elf::tests::gcc(dir.path(), "p", "int main(void) { return 0; }", &[]);
        let fixed = crate::elf::tests::gcc(dir.path(), "s", "int main(void) { return 0; }", &["-static"]);
        let ours = crate::sys::libc_version::libc_version();
        assert_eq!(libc_of([program.as_path(), fixed.as_path()].into_iter()), ours);
        assert_eq!(libc_of([fixed.as_path(), Path::new("/none")].into_iter()), None);
    }
}
