//! What a file on disk is, by its first bytes: a program of this machine, a script, a libtool wrapper, or nothing that runs.

use std::env::consts::ARCH;
use std::fs::File;
use std::io::{Error as IoError, ErrorKind, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::model::machine_name;

/// A file that the kernel can execute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An ELF program for this machine.
    Elf,
    /// Text beginning with `#!`: what runs, and is measured, is its interpreter.
    Script {
        /// Path after `#!`; for `/usr/bin/env NAME` that is `env`, which starts the rest.
        interpreter: PathBuf,
    },
}

/// Enough for an ELF header, a `#!` line, and the words by which a libtool wrapper names itself.
const HEAD_BYTES: u64 = 4096;

/// Looks into a file that is to be run.
///
/// # Errors
/// Not there, not a regular file, not executable, or nothing this machine can run; each says which.
pub(super) fn inspect(path: &Path) -> Result<Kind> {
    let unreadable = |error: &IoError| match error.kind() {
        ErrorKind::NotFound => Error::config(format!("program {} does not exist", path.display())),
        _ => Error::file("read", path, error),
    };
    // Asked before opening: opening a pipe would wait for its writer.
    let metadata = path.metadata().map_err(|error| unreadable(&error))?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() {
            "a directory"
        } else {
            "not a regular file"
        };
        return Err(Error::config(format!("program {} is {what}", path.display())));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(
            Error::config(format!("program {} is not executable", path.display())).detail(format!("chmod +x {}", path.display()))
        );
    }
    let mut head = Vec::new();
    match File::open(path).and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head)) {
        // Execute permission without read permission: the kernel will run it, so it is an ELF file (a script must be read).
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(Kind::Elf),
        Err(error) => return Err(unreadable(&error)),
        Ok(_) => {}
    }
    if head.starts_with(b"\x7fELF") {
        return check_elf(path, &head).map(|()| Kind::Elf);
    }
    if let Some(rest) = head.strip_prefix(b"#!") {
        check_libtool(path, &head)?;
        return interpreter(path, rest).map(|interpreter| Kind::Script { interpreter });
    }
    let what = if head.is_empty() {
        "is empty"
    } else {
        "is neither an ELF file nor a script with a #! line"
    };
    Err(Error::config(format!("program {} {what}", path.display())))
}

/// `e_type` and `e_machine` of the ELF header (System V ABI, figure 4-3): half words at 16 and 18 in the byte order of
/// `e_ident[EI_DATA]`.
fn check_elf(path: &Path, head: &[u8]) -> Result<()> {
    let half = |at: usize| {
        let bytes = [*head.get(at)?, *head.get(at + 1)?];
        match head.get(5)? {
            1 => Some(u16::from_le_bytes(bytes)),
            2 => Some(u16::from_be_bytes(bytes)),
            _ => None,
        }
    };
    let (Some(kind), Some(machine)) = (half(16), half(18)) else {
        return Err(Error::config(format!("program {} is a damaged ELF file", path.display())));
    };
    match kind {
        // ET_EXEC, ET_DYN
        2 | 3 => {}
        1 => {
            return Err(Error::config(format!("{} is an object file, not a program", path.display()))
                .detail("link it first: the target must be something that can be started"));
        }
        4 => return Err(Error::config(format!("{} is a core dump, not a program", path.display()))),
        _ => {
            return Err(Error::config(format!(
                "{} is an ELF file of unknown type {kind}, not a program",
                path.display()
            )));
        }
    }
    if native(machine) {
        Ok(())
    } else {
        Err(Error::machine(format!(
            "cannot execute {}: {} on {}",
            path.display(),
            machine_name(machine),
            host_name()
        ))
        .detail("build it for this machine, or measure it on one of its own"))
    }
}

/// The machines whose programs this kernel runs by itself (64-bit kernels run the 32-bit sibling too).
fn native(machine: u16) -> bool {
    match ARCH {
        "x86_64" => matches!(machine, 62 | 3),
        "x86" => machine == 3,
        "aarch64" => matches!(machine, 183 | 40),
        "arm" => machine == 40,
        "riscv64" => machine == 243,
        "powerpc64" => matches!(machine, 21 | 20),
        "s390x" => machine == 22,
        // Unknown to us: let the kernel judge.
        _ => true,
    }
}

fn host_name() -> &'static str {
    match ARCH {
        "x86_64" => "x86-64",
        "aarch64" => "AArch64",
        other => other,
    }
}

/// Libtool leaves a shell script where the program is expected and hides the program in `.libs`.
fn check_libtool(path: &Path, head: &[u8]) -> Result<()> {
    if !head.windows(7).any(|word| word == b"libtool") {
        return Ok(());
    }
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let hidden = dir.join(".libs").join(name);
    if !hidden.is_file() {
        return Ok(());
    }
    Err(Error::config(format!(
        "{} is a libtool wrapper: a shell script that starts the program",
        path.display()
    ))
    .detail(format!("measure the program itself: {}", hidden.display()))
    .detail(format!(
        "if it needs libraries that are not installed: env = {{ LD_LIBRARY_PATH = \"{}\" }}",
        dir.join(".libs").display()
    )))
}

/// The interpreter of a `#!` line: up to the first blank or the end of the line (`fs/binfmt_script.c`).
fn interpreter(path: &Path, rest: &[u8]) -> Result<PathBuf> {
    let line = rest.split(|&b| b == b'\n').next().unwrap_or_default();
    let word = line
        .split(|b| matches!(b, b' ' | b'\t'))
        .find(|word| !word.is_empty())
        .unwrap_or_default();
    let interpreter = Path::new(std::ffi::OsStr::from_bytes(word));
    if word.is_empty() {
        return Err(Error::config(format!(
            "script {} names no interpreter after #!",
            path.display()
        )));
    }
    if !interpreter.exists() {
        let mut error = Error::config(format!(
            "script {} needs {:?}, which does not exist",
            path.display(),
            interpreter
        ));
        if word.ends_with(b"\r") {
            error = error.detail("its lines end with carriage returns: convert it to Unix line ends");
        }
        return Err(error);
    }
    Ok(interpreter.to_owned())
}

/// Writes a file's pages to disk: until then they are dirty, and `Private_Dirty` and writeback would show in the target.
/// Where that is impossible (a file system without it, no permission to open) measuring goes on, since no gated metric
/// depends on it.
pub(super) fn sync(path: &Path) {
    if let Ok(file) = File::open(path) {
        let _ = file.sync_all();
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;
    use crate::model::ProblemKind;

    fn file(bytes: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    fn elf(kind: u16, machine: u16) -> Vec<u8> {
        let mut head = b"\x7fELF\x02\x01\x01".to_vec();
        head.resize(16, 0);
        head.extend(kind.to_le_bytes());
        head.extend(machine.to_le_bytes());
        head
    }

    fn refusal(bytes: &[u8], mode: u32) -> Error {
        let (_dir, path) = file(bytes, mode);
        inspect(&path).unwrap_err()
    }

    #[test]
    fn this_test_is_a_program() {
        assert_eq!(inspect(&std::env::current_exe().unwrap()), Ok(Kind::Elf));
    }

    #[test]
    fn what_does_not_run_is_refused_by_name() {
        for (bytes, mode, words) in [
            (elf(3, 62), 0o644, "is not executable"),
            (elf(1, 62), 0o755, "object file"),
            (elf(4, 62), 0o755, "core dump"),
            (elf(9, 62), 0o755, "unknown type 9"),
            (b"\x7fELF\x02\x01".to_vec(), 0o755, "damaged ELF"),
            (Vec::new(), 0o755, "is empty"),
            (b"hello\n".to_vec(), 0o755, "neither an ELF file nor a script"),
            (b"#!\n".to_vec(), 0o755, "names no interpreter"),
            (
                b"#! /no/such/python -u\n".to_vec(),
                0o755,
                "\"/no/such/python\", which does not exist",
            ),
            (b"#!/bin/sh\r\n".to_vec(), 0o755, "\"/bin/sh\\r\", which does not exist"),
        ] {
            let error = refusal(&bytes, mode);
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(error.kind(), ProblemKind::Config);
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(inspect(dir.path()).unwrap_err().to_string().contains("is a directory"));
        assert!(
            inspect(&dir.path().join("none"))
                .unwrap_err()
                .to_string()
                .contains("does not exist")
        );
    }

    #[test]
    fn a_foreign_program_names_both_machines() {
        let machine = if ARCH == "aarch64" { 62 } else { 183 };
        let error = refusal(&elf(2, machine), 0o755);
        assert_eq!(error.kind(), ProblemKind::Machine);
        assert!(
            error
                .to_string()
                .contains(&format!("{} on {}", machine_name(machine), host_name())),
            "{error}"
        );
        let mut big_endian = elf(0, 0);
        big_endian[5] = 2;
        big_endian[16..20].copy_from_slice(&[0, 2, 0, 8]);
        assert!(refusal(&big_endian, 0o755).to_string().contains("MIPS on"));
    }

    #[test]
    fn a_script_is_known_by_its_interpreter() {
        let (_dir, path) = file(b"#! /bin/sh -e\nexit 0\n", 0o755);
        assert_eq!(
            inspect(&path),
            Ok(Kind::Script {
                interpreter: PathBuf::from("/bin/sh")
            })
        );
    }

    #[test]
    fn a_libtool_wrapper_is_named_with_its_program() {
        let (dir, path) = file(
            b"#! /bin/sh\n# program - temporary wrapper script for .libs/program\n# Generated by libtool\n",
            0o755,
        );
        assert!(
            matches!(inspect(&path), Ok(Kind::Script { .. })),
            "a script that only mentions libtool is a script"
        );
        fs::create_dir(dir.path().join(".libs")).unwrap();
        fs::write(dir.path().join(".libs/program"), elf(3, 62)).unwrap();
        let error = inspect(&path).unwrap_err().to_string();
        assert!(
            error.contains("libtool wrapper") && error.contains(".libs/program"),
            "{error}"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_upset_it(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64), magic in 0_usize..3) {
            let mut head = [&b""[..], b"\x7fELF", b"#!"][magic].to_vec();
            head.extend(bytes);
            let whole = check_elf(Path::new("x"), &head).is_ok();
            proptest::prop_assert!(!whole || head.len() >= 20, "an ELF header ends after its 20th byte");
            if let Ok(found) = interpreter(Path::new("x"), &head) {
                proptest::prop_assert!(found.exists());
            }
        }
    }
}
