//! What is left unread in files that were moved or copied away.
//!
//! Guarantee: a file beside the followed one is read on only if it begins with exactly the bytes that were read of a
//! generation, and only from there, and only if it was moved there or is named like a rotated file: a backup that somebody
//! made is no rotation. A file that nothing is known of is read whole only if it was rotated since: it is named
//! so as well, it was written to after the file that was read last (or, where that is gone, after the last commit),
//! and it is not a copy of another. Device, inode and name find candidates; content decides. Packed files are not looked
//! into, and files elsewhere are not searched.

use super::FileError;
use super::open::{self, Cursor, Place};
use super::prefix::{BLOCK, HEAD};
use super::shape;
use super::source::{Known, Source};
use catena_decode::frame::Packing;
use std::ffi::OsStr;
use std::fs::{DirEntry, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

/// Clocks of file systems tick as slowly as this: a write may seem older than a commit before it.
const TICK_MS: i64 = 20;

/// A file with something unread.
pub(super) struct Rest {
    pub(super) path: PathBuf,
    pub(super) file: Arc<File>,
    pub(super) place: Place,
    pub(super) position: u64,
}

/// A plain file beside the followed one.
struct Sibling {
    path: PathBuf,
    file: Arc<File>,
    place: Place,
    length: u64,
    modified: (i64, i64),
    /// The generation that it is, and how far that was read.
    known: Option<(i32, u64)>,
    /// Whether it lies where the generation lay: it was moved, not copied.
    moved: bool,
}

/// Finds files in the folder of a source that hold something unread, the oldest first. `open` has the files that are being
/// read, and the application ids of their generations.
pub(super) fn search(source: &Source, open: &[(Place, Option<String>)]) -> Result<Vec<Rest>, FileError> {
    let known = source.known()?;
    let Some(latest) = known.iter().map(|k| k.number).max() else { return Ok(Vec::new()) };
    let mut siblings = siblings(source, &known).unwrap_or_else(|error| {
        let path = source.path.display();
        tracing::warn!(%path, %error, "folder of a followed file cannot be searched for unread lines");
        Vec::new()
    });
    siblings.sort_by_key(|s| (s.modified, std::cmp::Reverse(s.length)));
    let is_open = |s: &Sibling| open.iter().any(|(place, _)| *place == s.place);
    let is_read = |number| open.iter().any(|(_, app)| app.as_ref() == Some(&source.app(number)));
    // What was rotated after the file that was read last was never seen.
    let last_read = siblings.iter().filter(|s| s.known.is_some_and(|(number, _)| number == latest));
    let landed = || source.last_landed().map(|ms| ms - TICK_MS).map(|ms| (ms / 1000, ms % 1000 * 1_000_000));
    let since = last_read.map(|s| s.modified).min().or_else(landed);
    let mut rests: Vec<(Option<i32>, Rest, u64)> = Vec::new();
    for s in siblings.iter().filter(|s| !is_open(s)) {
        let rest = |position| Rest { path: s.path.clone(), file: s.file.clone(), place: s.place, position };
        match s.known {
            Some((number, position))
                if position < s.length
                    && !is_read(number)
                    && (s.moved || is_rotated_name(source, &s.path))
                    && !is_copy(s, source, &siblings).unwrap_or(true) =>
            {
                // Of several that go on, the longest.
                rests.retain(|(of, _, length)| *of != Some(number) || *length > s.length);
                if !rests.iter().any(|(of, ..)| *of == Some(number)) {
                    rests.push((Some(number), rest(position), s.length));
                }
            }
            None if since.is_some_and(|since| s.modified >= since)
                && is_rotated_name(source, &s.path)
                // What cannot be compared was reported when it was opened.
                && !is_copy(s, source, &siblings).unwrap_or(true) =>
            {
                rests.push((None, rest(0), s.length));
            }
            _ => {}
        }
    }
    Ok(rests.into_iter().map(|(_, rest, _)| rest).collect())
}

/// The plain files that are named like the followed one, or lie where a generation of it lay.
fn siblings(source: &Source, known: &[Known]) -> io::Result<Vec<Sibling>> {
    let (Some(folder), Some(stem)) = (source.real.parent(), source.real.file_stem()) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)?.filter_map(Result::ok) {
        let Ok(metadata) = entry.metadata() else { continue };
        let place = (metadata.dev(), metadata.ino());
        let named_alike = entry.file_name().as_encoded_bytes().starts_with(stem.as_encoded_bytes());
        if !metadata.is_file() || !(named_alike || known.iter().any(|k| k.is_at(source, place))) {
            continue;
        }
        if entry.path() == source.real {
            continue;
        }
        match sibling(source, known, &entry, place) {
            Ok(sibling) => found.extend(sibling),
            Err(error) => {
                tracing::warn!(path = %entry.path().display(), %error, "file that may hold unread lines cannot be read");
            }
        }
    }
    Ok(found)
}

fn sibling(source: &Source, known: &[Known], entry: &DirEntry, place: Place) -> io::Result<Option<Sibling>> {
    let file = Arc::new(open::open(&entry.path(), false)?);
    let metadata = file.metadata()?;
    let (length, modified) = (metadata.len(), (metadata.mtime(), metadata.mtime_nsec()));
    let mut start = Vec::with_capacity(HEAD);
    Cursor { file: file.clone(), at: 0 }.take(HEAD as u64).read_to_end(&mut start)?;
    if start.is_empty() || !matches!(Packing::of(&start), Packing::Plain) {
        return Ok(None);
    }
    // One that is as long as what was read was read to its end: years of old logs are not hashed at every start.
    let whole = known.iter().find(|k| k.position == length && source.begins_so(k, &start));
    let known = match whole {
        Some(k) => Some(k),
        None if known.iter().any(|k| k.position < length && source.may_be(k, &start, place)) => {
            source.recognise(&|| Ok(shape::content(&file)?), place, known)?.map(|(k, _)| k)
        }
        None => None,
    };
    let moved = known.is_some_and(|k| k.is_at(source, place));
    let known = known.map(|k| (k.number, k.position));
    Ok(Some(Sibling { path: entry.path(), file, place, length, modified, known, moved }))
}

/// Whether a file is called as `app.log` is once it was rotated: app.log.1, app.log-20261130, app-2026-11-30.log, app.log.old.
fn is_rotated_name(source: &Source, path: &std::path::Path) -> bool {
    let (Some(name), Some(of)) =
        (path.file_name().and_then(OsStr::to_str), source.real.file_name().and_then(OsStr::to_str))
    else {
        return false;
    };
    let (stem, extension) = of.rsplit_once('.').unwrap_or((of, ""));
    let after = name.strip_prefix(of).or_else(|| {
        let middle = name.strip_prefix(stem)?.strip_suffix(extension)?;
        if extension.is_empty() { Some(middle) } else { middle.strip_suffix('.') }
    });
    after.and_then(|after| after.strip_prefix(['.', '-', '_'])).is_some_and(|after| {
        let is_date = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '_' | ':' | 'T' | 'Z');
        matches!(after, "old" | "prev") || (after.contains(|c: char| c.is_ascii_digit()) && after.chars().all(is_date))
    })
}

/// Whether what a file holds is read in another one: in the followed one, of which one is the beginning of the other, or in
/// one beside that goes on after it.
fn is_copy(of: &Sibling, source: &Source, siblings: &[Sibling]) -> io::Result<bool> {
    if let Ok(followed) = open::open(&source.real, false) {
        let length = followed.metadata()?.len();
        let read = of.known.map_or(0, |(_, position)| position);
        if length > read && begin_alike(&of.file, &Arc::new(followed), length.min(of.length))? {
            return Ok(true);
        }
    }
    let is_taken = |s: &&Sibling| {
        let comes_first = s.length > of.length || s.path < of.path;
        s.place != of.place
            && s.length >= of.length
            && (s.known != of.known || comes_first)
            && (s.known.is_some() || (is_rotated_name(source, &s.path) && comes_first))
    };
    for other in siblings.iter().filter(is_taken) {
        if begin_alike(&of.file, &other.file, of.length)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether two files have the same first bytes.
fn begin_alike(one: &Arc<File>, other: &Arc<File>, length: u64) -> io::Result<bool> {
    let mut one = Cursor { file: one.clone(), at: 0 }.take(length);
    let mut other = Cursor { file: other.clone(), at: 0 }.take(length);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        left.clear();
        right.clear();
        (&mut one).take(BLOCK as u64).read_to_end(&mut left)?;
        (&mut other).take(BLOCK as u64).read_to_end(&mut right)?;
        if left != right || left.is_empty() {
            return Ok(left == right);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_names_are_known() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let url = folder.path().join("lake");
        let options = crate::store::StoreOptions::new([]);
        let lake = runtime.block_on(crate::lake::Lake::open(url.to_str().unwrap(), &options)).unwrap();
        let source = Source::of(&lake, runtime.handle(), &folder.path().join("app.log"), "a").unwrap();
        for (name, is) in [
            ("app.log.1", true),
            ("app.log-20261130", true),
            ("app.log.2026-11-30T10:00", true),
            ("app-2026-11-30.log", true),
            ("app.2.log", true),
            ("app.log.old", true),
            ("app.log", false),
            ("app.log.bak", false),
            ("app.log.1.gz", false),
            ("app2.log", false),
            ("application.log.1", false),
        ] {
            assert_eq!(is_rotated_name(&source, &folder.path().join(name)), is, "{name}");
        }
    }
}
