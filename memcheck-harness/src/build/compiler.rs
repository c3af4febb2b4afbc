//! `Compiler`: which C compiler is used, what it calls itself, and where a missing one comes from.

use std::env::consts::ARCH;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use super::child;
use super::command::search;
use super::tools::Tools;
use crate::error::{Error, Result};
use crate::model::Cancel;

/// A C compiler that answered.
#[derive(Clone, Debug)]
pub(super) struct Compiler {
    pub(super) program: OsString,
    /// What `CC` put between the program and our flags: the real compiler behind a wrapper such as ccache, flags.
    pub(super) prefix: Vec<OsString>,
    /// First line of `--version`; absent when it has none.
    pub(super) version: Option<String>,
}

/// The chosen compiler, else what `CC` says, else `cc`. Asks it for its version.
pub(super) fn find(chosen: Option<&str>, root: &Path, scratch: &Path, tools: &Tools, cancel: &Cancel) -> Result<Compiler> {
    // A path means the same wherever the tool was started.
    let chosen = chosen.map(|name| {
        if name.contains('/') {
            root.join(name).into_os_string()
        } else {
            name.into()
        }
    });
    if let Some(chosen) = &chosen {
        // Before `cc` runs it to learn its family: it would only say that this failed.
        check_exists(&chosen.to_string_lossy(), tools)?;
    }
    let host = format!("{}-unknown-linux-gnu", if ARCH == "x86" { "i686" } else { ARCH });
    let mut build = cc::Build::new();
    build.target(&host).host(&host).opt_level(1).out_dir(scratch);
    build.cargo_metadata(false).cargo_warnings(false).no_default_flags(true);
    if let Some(chosen) = &chosen {
        build.compiler(chosen);
    }
    let tool = build
        .try_get_compiler()
        .map_err(|error| Error::build(format!("found no C compiler: {error}")))?;
    // `to_command` is the program, what CC asks for, and then `args()`: flags of the environment, which are left out.
    let whole = tool.to_command();
    let words: Vec<OsString> = whole.get_args().map(OsString::from).collect();
    let mut compiler = Compiler {
        program: whole.get_program().to_owned(),
        prefix: words[..words.len().saturating_sub(tool.args().len())].to_vec(),
        version: None,
    };
    check_exists(&tool.path().to_string_lossy(), tools)?;
    let mut command = compiler.command(root);
    command.arg("--version");
    compiler.version = child::first_line(command, cancel)?;
    Ok(compiler)
}

/// Says that the compiler [`find`] would take is not there; `None` when it is, or when only running something could tell.
pub(super) fn missing(chosen: Option<&str>, root: &Path, tools: &Tools) -> Option<String> {
    let program = match chosen {
        Some(name) if name.contains('/') => root.join(name).to_string_lossy().into_owned(),
        Some(name) => name.to_owned(),
        None if tools.names_compiler => return None,
        None => "cc".to_owned(),
    };
    check_exists(&program, tools).err().map(|error| error.into_problem().title)
}

/// A clear word about a missing compiler, with its package.
fn check_exists(program: &str, tools: &Tools) -> Result<()> {
    let there = if program.contains('/') {
        Path::new(program).is_file()
    } else {
        search(program, tools).is_ok()
    };
    if there {
        return Ok(());
    }
    Err(Error::build(format!("C compiler `{program}` not found")).detail(package_of(program)))
}

impl Compiler {
    #[expect(clippy::disallowed_methods, reason = "build starts programs")]
    pub(super) fn command(&self, root: &Path) -> Command {
        let mut command = Command::new(&self.program);
        // Messages and version lines in one language, so that reports of two machines can be compared.
        command.args(&self.prefix).current_dir(root).env("LC_ALL", "C");
        command
    }

    pub(super) fn name(&self) -> String {
        Path::new(&self.program)
            .file_name()
            .unwrap_or(&self.program)
            .to_string_lossy()
            .into_owned()
    }
}

/// "gcc 12.2.0 (Debian 12.2.0-14+deb12u1)": GNU compilers print their own file name first, and `cc` is gcc.
pub(super) fn toolchain(version: &str) -> String {
    let gnu = || {
        let (name, rest) = version.split_once(" (")?;
        let (vendor, number) = rest.rsplit_once(") ")?;
        let name = Path::new(name).file_name()?.to_str()?;
        let name = match name {
            "cc" => "gcc",
            "c++" => "g++",
            other => other,
        };
        number
            .starts_with(|c: char| c.is_ascii_digit())
            .then(|| format!("{name} {number} ({vendor})"))
    };
    gnu().unwrap_or_else(|| version.to_owned())
}

/// Where a compiler usually comes from.
pub(super) fn package_of(program: &str) -> String {
    let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
    let package = match name.as_ref() {
        "cc" | "gcc" | "c99" | "c89" => {
            "gcc and the C library's headers (Debian, Ubuntu: apt install gcc libc6-dev; Fedora: dnf install gcc)".to_owned()
        }
        "c++" | "g++" => "g++ (Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++)".to_owned(),
        "clang" | "clang++" => "clang (Debian, Ubuntu, Fedora: package clang)".to_owned(),
        "musl-gcc" => "musl's wrapper (Debian, Ubuntu: apt install musl-tools; Fedora: dnf install musl-gcc)".to_owned(),
        other => match other.strip_suffix("-gcc") {
            Some(triple) => format!("the cross compiler (Debian, Ubuntu: apt install gcc-{triple})"),
            None => format!("{other}, or choose another compiler: target = {{ c = …, cc = \"gcc\" }}"),
        },
    };
    format!("install {package}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toolchain_is_named_by_what_it_is() {
        for (line, shown) in [
            (
                "cc (Debian 12.2.0-14+deb12u1) 12.2.0",
                "gcc 12.2.0 (Debian 12.2.0-14+deb12u1)",
            ),
            ("gcc-12 (Ubuntu (x) 12.3.0) 12.3.0", "gcc-12 12.3.0 (Ubuntu (x) 12.3.0)"),
            ("Debian clang version 14.0.6", "Debian clang version 14.0.6"),
            ("odd (thing", "odd (thing"),
        ] {
            assert_eq!(toolchain(line), shown);
        }
    }

    #[test]
    fn a_missing_compiler_comes_with_its_package() {
        assert!(package_of("/usr/bin/cc").contains("apt install gcc"));
        assert!(package_of("arm-linux-gnueabihf-gcc").contains("gcc-arm-linux-gnueabihf"));
    }
}
