//! What a job left behind (a directory, or a ZIP of one), read as opaque data: its results file and the tree of pending
//! snapshots. It may come from a stranger's pull request, so a link, a path that leads out of it, a name that is no plain text
//! or a size that is none of ours refuses the whole. Nothing is unpacked: the bytes are handed on.
//! The ZIP format: APPNOTE.TXT, sections 4.3 to 4.5, read by `rawzip`; what it says of sizes is checked, not believed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use miniz_oxide::inflate::TINFLStatus;
use rawzip::{CompressionMethod, ZipArchive, ZipArchiveEntryWayfinder, ZipSliceArchive};

use crate::error::{Error, Result};
use crate::model::Name;

/// Files of one artifact, directories not counted.
const FILES_MAX: usize = 20_000;
/// Directories below each other.
const DEPTH_MAX: usize = 32;
/// Bytes of a ZIP: results, captures and snapshots of a large suite.
const ZIP_BYTES_MAX: u64 = 1 << 30;
/// Bytes of one pending snapshot, as everywhere.
const SNAPSHOT_BYTES_MAX: u64 = 4 << 20;
/// Bytes of all pending snapshots together, beside those of the results.
const SNAPSHOTS_BYTES_MAX: u64 = 256 << 20;

/// The results of the job.
const RESULTS: &str = "results.json";
/// The tree of pending snapshots within an artifact of ours; without it, all of it is that tree.
const PENDING: &str = "pending/";
/// What a pending snapshot's name ends in.
const SUFFIX: &str = ".snap.new";

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Artifact {
    /// The bytes of `results.json`; absent when there is none.
    pub results: Option<Vec<u8>>,
    /// Pending snapshots by their `/`-separated path below the root of the project that was measured.
    pub pending: BTreeMap<String, Vec<u8>>,
}

/// Reads a directory or a ZIP file; `results_max` is the largest results file, in bytes.
///
/// # Errors
/// It cannot be read, is neither, or holds something that no artifact of ours does; the text names it.
pub fn read(path: &Path, results_max: u64) -> Result<Artifact> {
    let limits = Limits {
        results: results_max,
        snapshot: SNAPSHOT_BYTES_MAX,
        all: results_max.saturating_add(SNAPSHOTS_BYTES_MAX),
    };
    read_within(path, &limits)
}

/// Bytes that are taken at most, unpacked.
struct Limits {
    results: u64,
    snapshot: u64,
    all: u64,
}

/// All names first: what they say refuses the whole before a byte is unpacked.
fn read_within(path: &Path, limits: &Limits) -> Result<Artifact> {
    let unreadable = |error: &io::Error| Error::config(format!("{} cannot be read: {error}", path.display()));
    let found = fs::metadata(path).map_err(|error| unreadable(&error))?;
    if found.is_dir() {
        let mut files = BTreeMap::new();
        directory(path, String::new(), 0, &mut files)?;
        arranged(path, &files, limits, |_, file, most| plain(file, most))
    } else if found.is_file() {
        if found.len() > ZIP_BYTES_MAX {
            return Err(refused(path, "it is larger than 1 GiB"));
        }
        let bytes = fs::read(path).map_err(|error| unreadable(&error))?;
        let archive = ZipArchive::from_slice(bytes.as_slice()).map_err(|error| no_zip(path, &error))?;
        let entries = listed(path, &archive)?;
        arranged(path, &entries, limits, |name, entry, most| {
            unpacked(&archive, entry, most).map_err(|why| refused(path, &format!("{}: {why}", shown(name.as_bytes()))))
        })
    } else {
        Err(refused(path, "it is neither a directory nor a file"))
    }
}

fn refused(path: &Path, why: &str) -> Error {
    Error::config(format!("{} is no artifact of a memcheck job: {why}", path.display()))
        .detail("nothing of it was taken; download it again, or look at who made it")
}

fn no_zip(path: &Path, error: &dyn std::fmt::Display) -> Error {
    refused(path, &format!("it is no whole ZIP file ({error})"))
}

fn is_results(name: &str) -> bool {
    name == RESULTS || name.ends_with("/results.json")
}

/// The files of interest among all, whatever the directory that the download put around them is called; `bytes` reads one, of at
/// most so many bytes.
fn arranged<P>(
    path: &Path,
    files: &BTreeMap<String, P>,
    limits: &Limits,
    bytes: impl Fn(&str, &P, u64) -> Result<Vec<u8>>,
) -> Result<Artifact> {
    let outer = match files.keys().filter(|name| is_results(name)).collect::<Vec<_>>().as_slice() {
        [] => "",
        [only] => &only[..only.len() - RESULTS.len()],
        several => {
            let names: Vec<String> = several.iter().take(8).map(|name| shown(name.as_bytes())).collect();
            return Err(
                Error::config(format!("{} holds several results: {}", path.display(), names.join(", ")))
                    .detail("name the directory of one of them"),
            );
        }
    };
    let below = |name: &str| name.strip_prefix(outer).map(str::to_owned);
    let has_tree = files
        .keys()
        .filter_map(|name| below(name))
        .any(|name| name.starts_with(PENDING));
    let mut left = limits.all;
    let mut artifact = Artifact::default();
    for (name, place) in files {
        let most = match name {
            name if is_results(name) => limits.results,
            name if name.ends_with(SUFFIX) => limits.snapshot,
            // Of files that are nothing to us only the names count.
            _ => continue,
        };
        let inner = below(name).filter(|inner| inner == RESULTS || !has_tree || inner.starts_with(PENDING));
        let Some(inner) = inner else {
            let name = shown(name.as_bytes());
            return Err(refused(path, &format!("{name} lies outside of its pending tree")));
        };
        let read = bytes(name, place, most.min(left))?;
        left = left.saturating_sub(read.len() as u64);
        if inner == RESULTS {
            artifact.results = Some(read);
        } else {
            let inner = inner.strip_prefix(PENDING).filter(|_| has_tree).unwrap_or(&inner);
            artifact.pending.insert(inner.to_owned(), read);
        }
    }
    Ok(artifact)
}

/// Adds a file; no name comes twice.
fn add<P>(of: &Path, name: String, place: P, files: &mut BTreeMap<String, P>) -> Result<()> {
    if files.len() >= FILES_MAX {
        return Err(refused(of, "it holds too many files"));
    }
    match files.entry(name) {
        Entry::Vacant(free) => {
            free.insert(place);
            Ok(())
        }
        Entry::Occupied(taken) => Err(refused(of, &format!("{} is in it twice", shown(taken.key().as_bytes())))),
    }
}

/// The files of a directory, by their paths below it.
fn directory(at: &Path, inside: String, depth: usize, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(refused(at, "directories lie too deep"));
    }
    let unreadable = |path: &Path, error: &io::Error| Error::config(format!("{} cannot be read: {error}", path.display()));
    for entry in fs::read_dir(at).map_err(|error| unreadable(at, &error))? {
        let entry = entry.map_err(|error| unreadable(at, &error))?;
        let path = entry.path();
        let name = entry
            .file_name()
            .into_string()
            .map_err(|_| refused(&path, "a name is not UTF-8"))?;
        let inner = format!("{inside}{name}");
        check_name(&path, inner.as_bytes())?;
        // Of the entry itself: a link is not followed.
        let kind = entry.file_type().map_err(|error| unreadable(&path, &error))?;
        if kind.is_symlink() {
            return Err(refused(&path, "it is a symbolic link"));
        } else if kind.is_dir() {
            directory(&path, format!("{inner}/"), depth + 1, files)?;
        } else if kind.is_file() {
            add(at, inner, path, files)?;
        } else {
            return Err(refused(&path, "it is no regular file"));
        }
    }
    Ok(())
}

/// One file of a ZIP, not unpacked yet.
struct Packed {
    at: ZipArchiveEntryWayfinder,
    method: CompressionMethod,
    is_encrypted: bool,
}

/// The files that a ZIP says it holds.
fn listed(path: &Path, archive: &ZipSliceArchive<&[u8]>) -> Result<BTreeMap<String, Packed>> {
    let mut files = BTreeMap::new();
    let mut entries = archive.entries();
    while let Some(entry) = entries.next_entry().map_err(|error| no_zip(path, &error))? {
        let raw = entry.file_path();
        check_name(path, raw.as_bytes())?;
        let name = std::str::from_utf8(raw.as_bytes()).map_err(|error| no_zip(path, &error))?;
        // The kinds of file of st_mode: inode(7).
        match entry.mode().value() & 0o170_000 {
            0o120_000 => return Err(refused(path, &format!("{} is a symbolic link", shown(name.as_bytes())))),
            0 | 0o040_000 | 0o100_000 => {}
            _ => return Err(refused(path, &format!("{} is no regular file", shown(name.as_bytes())))),
        }
        if !entry.is_dir() {
            let packed = Packed {
                at: entry.wayfinder(),
                method: entry.compression_method(),
                is_encrypted: entry.flags().is_encrypted(),
            };
            add(path, name.to_owned(), packed, &mut files)?;
        }
    }
    Ok(files)
}

/// The bytes of a file of a ZIP, at most so many, and as many and with the sum that the ZIP says.
fn unpacked(archive: &ZipSliceArchive<&[u8]>, packed: &Packed, most: u64) -> std::result::Result<Vec<u8>, String> {
    if packed.is_encrypted {
        return Err("it is encrypted".to_owned());
    }
    let local = archive.get_entry(packed.at).map_err(|error| error.to_string())?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let bytes = match packed.method {
        CompressionMethod::STORE if local.data().len() <= most => local.data().to_vec(),
        CompressionMethod::STORE => return Err("it is too large".to_owned()),
        CompressionMethod::DEFLATE => {
            miniz_oxide::inflate::decompress_to_vec_with_limit(local.data(), most).map_err(|error| match error.status {
                TINFLStatus::HasMoreOutput => "it is too large".to_owned(),
                _ => error.to_string(),
            })?
        }
        _ => return Err("it is packed in a way that GitHub does not use".to_owned()),
    };
    let mut checked = local.verifying_reader(bytes.as_slice());
    io::copy(&mut checked, &mut io::sink()).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// A plain file's bytes, at most so many.
fn plain(path: &Path, most: u64) -> Result<Vec<u8>> {
    let failed = |error: io::Error| Error::config(format!("{} cannot be read: {error}", path.display()));
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(refused(path, "it is too large"));
    }
    Ok(bytes)
}

/// A path below something: neither absolute nor upwards, and plain text.
fn check_name(of: &Path, name: &[u8]) -> Result<()> {
    let text = std::str::from_utf8(name).unwrap_or("\0");
    let why = if text.contains(|c: char| c.is_control() || c == '\u{fffd}') {
        "is no plain text"
    } else if text.starts_with('/') || text.contains('\\') || text.contains(':') {
        "is no path below it"
    } else if text
        .trim_end_matches('/')
        .split('/')
        .any(|part| matches!(part, "" | "." | ".."))
    {
        "leads out of it"
    } else {
        return Ok(());
    };
    Err(refused(of, &format!("the path {} {why}", shown(name))))
}

/// A foreign name for a message, escaped and cut.
fn shown(name: &[u8]) -> String {
    let text = Name::new(name).to_string();
    match text.char_indices().nth(200) {
        None => text,
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const MOST: u64 = 1 << 20;

    /// A ZIP of these files: name, Unix mode, bytes.
    fn zip(files: &[(&str, u32, &[u8])]) -> tempfile::NamedTempFile {
        let mut out = Vec::new();
        let mut archive = rawzip::ZipArchiveWriter::new(&mut out);
        for (index, (name, mode, bytes)) in files.iter().enumerate() {
            let (mut entry, config) = archive
                .new_file(stand_in(index, name))
                .unix_permissions(*mode)
                .compression_method(CompressionMethod::DEFLATE)
                .start()
                .unwrap();
            let packed = miniz_oxide::deflate::compress_to_vec(bytes, 6);
            let mut writer = config.wrap(Vec::new());
            writer.write_all(bytes).unwrap();
            let (_, descriptor) = writer.finish().unwrap();
            entry.write_all(&packed).unwrap();
            entry.finish(descriptor).unwrap();
        }
        archive.finish().unwrap();
        for (index, (name, ..)) in files.iter().enumerate() {
            let stand_in = stand_in(index, name);
            for at in 0..out.len() - name.len() {
                if &out[at..at + name.len()] == stand_in.as_bytes() {
                    out[at..at + name.len()].copy_from_slice(name.as_bytes());
                }
            }
        }
        written(&out)
    }

    /// The writer tidies names up: each is written as another of its length, and put in its place afterwards.
    fn stand_in(index: usize, name: &str) -> String {
        let digit = char::from(b'0' + u8::try_from(index).unwrap());
        std::iter::repeat_n(digit, name.len()).collect()
    }

    fn written(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn why(path: &Path) -> String {
        read(path, MOST).unwrap_err().to_string()
    }

    #[test]
    fn a_directory_and_its_zip_hold_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            ("results.json", &b"{}"[..]),
            ("summary.md", b"x"),
            ("pending/a/memcheck/snapshots/c.snap.new", b"text"),
        ];
        for (name, bytes) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let expected = Artifact {
            results: Some(b"{}".to_vec()),
            pending: BTreeMap::from([("a/memcheck/snapshots/c.snap.new".to_owned(), b"text".to_vec())]),
        };
        assert_eq!(read(dir.path(), MOST).unwrap(), expected);
        let packed = zip(&files.map(|(name, bytes)| (name, 0o100_644, bytes)));
        assert_eq!(read(packed.path(), MOST).unwrap(), expected);
        // As `gh run download` without a name lays it out.
        let outer = zip(&[
            ("memcheck/results.json", 0o100_644, b"{}"),
            ("memcheck/pending/c.snap.new", 0o100_644, b"t"),
        ]);
        assert_eq!(
            read(outer.path(), MOST).unwrap().pending.keys().collect::<Vec<_>>(),
            ["c.snap.new"]
        );
        // A bare tree, as insta's variable makes one.
        fs::remove_dir_all(dir.path().join("pending")).unwrap();
        fs::write(dir.path().join("c.snap.new"), "t").unwrap();
        assert_eq!(read(dir.path(), MOST).unwrap().pending.len(), 1);
    }

    #[test]
    fn paths_that_lead_elsewhere_refuse_the_whole() {
        for (name, words) in [
            ("../c.snap.new", "leads out"),
            ("pending/../../c.snap.new", "leads out"),
            ("a//b", "leads out"),
            ("/etc/c.snap.new", "no path below"),
            ("C:c.snap.new", "no path below"),
            ("a\\..\\c.snap.new", "no path below"),
            ("a\n::error::.snap.new", "no plain text"),
        ] {
            let packed = zip(&[(name, 0o100_644, b"x")]);
            assert!(why(packed.path()).contains(words), "{name}: {}", why(packed.path()));
        }
        let link = zip(&[("c.snap.new", 0o120_777, b"/etc/passwd")]);
        assert!(why(link.path()).contains("symbolic link"), "{}", why(link.path()));
        let twice = zip(&[("results.json", 0o100_644, b"{}"), ("results.json", 0o100_644, b"[]")]);
        assert!(why(twice.path()).contains("twice"));
        let several = zip(&[("a/results.json", 0o100_644, b"{}"), ("b/results.json", 0o100_644, b"{}")]);
        assert!(why(several.path()).contains("several results: a/results.json, b/results.json"));
        let beside = zip(&[("pending/a.snap.new", 0o100_644, b"x"), ("b.snap.new", 0o100_644, b"x")]);
        assert!(why(beside.path()).contains("outside of its pending tree"));
    }

    #[cfg(unix)]
    #[test]
    fn links_in_a_directory_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("pending")).unwrap();
        assert!(why(dir.path()).contains("symbolic link"), "{}", why(dir.path()));
    }

    #[test]
    fn sizes_are_measured_and_not_believed() {
        let bomb = zip(&[("c.snap.new", 0o100_644, &vec![b' '; (SNAPSHOT_BYTES_MAX + 1) as usize])]);
        assert!(fs::metadata(bomb.path()).unwrap().len() < 64 << 10);
        assert!(
            why(bomb.path()).starts_with(&bomb.path().display().to_string()),
            "{}",
            why(bomb.path())
        );
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("results.json"), vec![b' '; MOST as usize + 1]).unwrap();
        assert!(why(dir.path()).contains("too large"));
    }

    #[test]
    fn all_files_together_have_one_limit() {
        let limits = Limits {
            results: 3000,
            snapshot: 2000,
            all: 4000,
        };
        let bytes = [b' '; 1500];
        let fits = zip(&[("results.json", 0o100_644, &bytes), ("a.snap.new", 0o100_644, &bytes)]);
        assert_eq!(read_within(fits.path(), &limits).unwrap().pending.len(), 1);
        let over = zip(&[
            ("results.json", 0o100_644, &bytes),
            ("a.snap.new", 0o100_644, &bytes),
            ("b.snap.new", 0o100_644, &bytes),
        ]);
        let error = read_within(over.path(), &limits).unwrap_err().to_string();
        assert!(error.contains("too large"), "{error}");
    }

    #[test]
    fn damaged_archives_are_errors() {
        let whole = fs::read(zip(&[("results.json", 0o100_644, &[7; 3000])]).path()).unwrap();
        for cut in 0..whole.len() {
            let file = written(&whole[..cut]);
            assert!(read(file.path(), MOST).is_err(), "{cut}");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x41;
            let file = written(&bytes);
            // What is still readable is whole.
            if let Ok(artifact) = read(file.path(), MOST) {
                assert!(artifact.results.is_none_or(|bytes| bytes == [7; 3000]), "{at}");
            }
        }
    }
}
