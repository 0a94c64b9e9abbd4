//! Follows a file while it grows, is rotated, truncated, copied and overwritten.
//!
//! Guarantee: every line that stood in the file when it was read, or lies in a file that it was moved or copied to beside
//! it, is in the lake once. Before bytes are taken, the bytes before them are compared with what was read: a file that was
//! changed in place is another file from there on. A file that was moved away is read to its end, and kept open for a
//! while, since its writer may not know yet. What is in memory is never needed: after a kill, content tells where to go on.
//!
//! ```text
//!                  grown ─▶ lines
//!   path ─▶ open ─▶ same bytes before? ── no ──▶ commit; a copy beside it that goes on from there ─▶ rotated; open again
//!                  │ yes, nothing more
//!                  └▶ path is another file? ─▶ rotated: read to its end, for LINGER after its last growth; open again
//! ```

use super::open::{self, Place};
use super::prefix::HEAD;
use super::source::Source;
use super::tail::Tail;
use super::{FileError, Ingestion, Job, rotated};
use crate::lake::Lake;
use crate::worker::{Counts, Worker, land};
use memchr::memchr;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// Pause when nothing grew.
const POLL: Duration = Duration::from_millis(100);
/// A file that was moved away is read for this long after it last grew: its writer opens the new one late.
const LINGER: Duration = Duration::from_secs(5);

/// Follows a growing file until `stop` is set: complete lines go into the lake within the flush age.
pub fn follow(
    lake: &Arc<Lake>,
    runtime: &Handle,
    path: &Path,
    job: &Job,
    stop: &AtomicBool,
    landed: &dyn Fn(&Counts),
) -> Result<(), FileError> {
    let mut follower = Follower::new(lake, runtime, path, job, landed);
    while !stop.load(Ordering::Relaxed) {
        if !follower.step()? {
            std::thread::sleep(POLL);
        }
    }
    follower.flush()
}

/// Follows one path, step by step.
pub(super) struct Follower<'a> {
    lake: &'a Arc<Lake>,
    runtime: &'a Handle,
    path: &'a Path,
    job: &'a Job,
    landed: &'a dyn Fn(&Counts),
    current: Option<Tail>,
    /// Files that were moved away, or copied before they were truncated, and may still hold something unread.
    rotated: Vec<Tail>,
    /// The first number that no generation has been given here: the lake knows one only from its first commit on.
    free: i32,
    /// Whether the folder was searched for what a run before left unread.
    searched: bool,
    /// What was last said to be wrong with the path, so that it is said once.
    trouble: String,
    pub(super) linger: Duration,
}

/// What came of looking at a file once.
#[derive(PartialEq, Eq)]
enum Look {
    Grown,
    End,
    /// The bytes before are others.
    Changed,
}

impl<'a> Follower<'a> {
    pub(super) fn new(
        lake: &'a Arc<Lake>,
        runtime: &'a Handle,
        path: &'a Path,
        job: &'a Job,
        landed: &'a dyn Fn(&Counts),
    ) -> Follower<'a> {
        let (current, rotated, searched, trouble) = (None, Vec::new(), false, String::new());
        Follower { lake, runtime, path, job, landed, current, rotated, free: 0, searched, trouble, linger: LINGER }
    }

    /// Does what there is to do, and says whether there was anything.
    pub(super) fn step(&mut self) -> Result<bool, FileError> {
        if self.read_rotated()? {
            return Ok(true);
        }
        if !self.searched && self.current.is_some() {
            self.search(&[])?;
            return Ok(true);
        }
        let Some(mut open) = self.current.take() else { return self.begin() };
        match self.look(&mut open)? {
            Look::Grown => self.current = Some(open),
            Look::Changed => self.changed_in_place(open)?,
            Look::End if self.was_moved(&open) => {
                open.grown = Instant::now();
                self.rotated.push(open);
                self.search(&[])?;
            }
            Look::End => {
                self.current = Some(open);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Commits what was read.
    pub(super) fn flush(&mut self) -> Result<(), FileError> {
        let (mut rotated, mut current) = (std::mem::take(&mut self.rotated), self.current.take());
        rotated.iter_mut().chain(&mut current).try_for_each(|open| self.commit(open))?;
        (self.rotated, self.current) = (rotated, current);
        Ok(())
    }

    /// Opens the path.
    fn begin(&mut self) -> Result<bool, FileError> {
        let opened =
            open::open(self.path, self.job.follow_symlinks).and_then(|file| Ok((open::place(&file)?, Arc::new(file))));
        let (place, file) = match opened {
            Ok(opened) => opened,
            Err(e) => {
                self.say(&e);
                if !self.searched {
                    self.search(&[])?;
                }
                return Ok(false);
            }
        };
        self.trouble.clear();
        if let Some(at) = self.rotated.iter().position(|open| open.place == place) {
            // It was moved back.
            self.current = Some(self.rotated.swap_remove(at));
            return Ok(true);
        }
        let mut open = self.open(file, place)?;
        let grown = self.look(&mut open)? != Look::End;
        if !self.searched {
            self.search(&[&open])?;
        }
        self.current = Some(open);
        Ok(grown)
    }

    fn open(&self, file: Arc<File>, place: Place) -> Result<Tail, FileError> {
        let worker = Worker::new(self.lake.clone(), self.job.settings.clone());
        Ok(Tail::new(file, place, worker, self.source()?.nothing()))
    }

    fn source(&self) -> Result<Source, FileError> {
        Source::of(self.lake, self.runtime, self.path, &self.job.tenant).map_err(|e| self.unreadable(e))
    }

    fn unreadable(&self, source: io::Error) -> FileError {
        FileError::Read { path: self.path.to_owned(), source }
    }

    /// Says once what is wrong with the path. That there is no file for a moment is how rotation works.
    fn say(&mut self, error: &io::Error) {
        let trouble = if error.kind() == io::ErrorKind::NotFound { String::new() } else { error.to_string() };
        if trouble != self.trouble && !trouble.is_empty() {
            tracing::warn!(path = %self.path.display(), error = trouble, "file cannot be followed now, trying again");
        }
        self.trouble = trouble;
    }

    /// Whether the path names another file, or none. What cannot be seen counts as not moved.
    fn was_moved(&mut self, open: &Tail) -> bool {
        let links = self.job.follow_symlinks;
        let now = if links { self.path.metadata() } else { self.path.symlink_metadata() };
        match now {
            Ok(now) => (now.dev(), now.ino()) != open.place,
            Err(e) if e.kind() == io::ErrorKind::NotFound => true,
            Err(e) => {
                self.say(&e);
                false
            }
        }
    }

    /// Reads on in files that were moved away. They come first, so that the order is that of the lines.
    fn read_rotated(&mut self) -> Result<bool, FileError> {
        let mut grown = false;
        for _ in 0..self.rotated.len() {
            // The others stay in the list meanwhile: they have to be seen when this one is identified.
            if self.rotated.is_empty() {
                break;
            }
            let mut open = self.rotated.remove(0);
            match self.look(&mut open)? {
                Look::Grown => grown = true,
                Look::End if open.grown.elapsed() < self.linger => {}
                Look::End | Look::Changed => {
                    self.end(&mut open)?;
                    continue;
                }
            }
            self.rotated.push(open);
        }
        Ok(grown)
    }

    /// Reads what has grown.
    fn look(&mut self, open: &mut Tail) -> Result<Look, FileError> {
        let mut bytes = Vec::new();
        open.read(&mut bytes).map_err(|e| self.unreadable(e))?;
        if !open.holds_what_was_read().map_err(|e| self.unreadable(e))? {
            return Ok(Look::Changed);
        }
        if open.identity.is_none() {
            if bytes.len() < HEAD && memchr(b'\n', &bytes).is_none() {
                return Ok(Look::End);
            }
            self.identify(open)?;
            if open.read_to == 0 {
                // What was seen counts: it may be overwritten by the next look.
                self.take(open, &bytes);
            }
            return Ok(Look::Grown);
        }
        if !bytes.is_empty() {
            self.take(open, &bytes);
        }
        if open.worker.is_full() || open.worker.due_at().is_some_and(|due| Instant::now() >= due) {
            self.commit(open)?;
        }
        Ok(if bytes.is_empty() { Look::End } else { Look::Grown })
    }

    /// Finds out which generation a file is, and where to go on.
    fn identify(&mut self, open: &mut Tail) -> Result<(), FileError> {
        // It may be what another open file is: then the lake says how far that one was read.
        let mut rotated = std::mem::take(&mut self.rotated);
        rotated.iter_mut().try_for_each(|other| self.commit(other))?;
        let content =
            || -> io::Result<Box<dyn io::Read + '_>> { Ok(Box::new(open::Cursor { file: open.file.clone(), at: 0 })) };
        let identity = self.source()?.identify(&content, open.place, self.free)?;
        self.free = self.free.max(identity.partition.number + 1);
        // Where there is a new one, there may be others that came between.
        self.searched &= identity.prefix.at() > 0;
        rotated.retain(|other| other.identity.as_ref().is_none_or(|i| i.partition.app != identity.partition.app));
        self.rotated = rotated;
        open.begin(identity).map_err(|e| self.unreadable(e))
    }

    /// Takes bytes in: whole lines go to the worker.
    fn take(&self, open: &mut Tail, bytes: &[u8]) {
        let Some(identity) = open.identity.clone() else { return };
        let run = Ingestion::new(self.lake, self.runtime, &identity, self.job, &|_| {});
        let received = (self.job.now)();
        let mut rest = bytes;
        while let Some(end) = memchr(b'\n', rest).map(|at| at + 1) {
            if open.line.length == 0 {
                run.push(&mut open.worker, &rest[..end], end as u64, open.prefix.at(), received);
                open.prefix.update(&rest[..end]);
            } else {
                open.extend(&rest[..end]);
                open.end_line(&run, received);
            }
            rest = &rest[end..];
        }
        open.extend(rest);
        open.passed(bytes);
    }

    /// Ends a file that will not grow any more: what is left without a line's end is its last record.
    fn end(&mut self, open: &mut Tail) -> Result<(), FileError> {
        if open.identity.is_none() {
            let mut bytes = Vec::new();
            open.read(&mut bytes).map_err(|e| self.unreadable(e))?;
            if bytes.is_empty() {
                return Ok(());
            }
            self.identify(open)?;
            if open.read_to == 0 {
                self.take(open, &bytes);
            }
            self.look(open)?;
        }
        if let (Some(identity), 1..) = (open.identity.clone(), open.line.length) {
            let run = Ingestion::new(self.lake, self.runtime, &identity, self.job, &|_| {});
            open.end_line(&run, (self.job.now)());
        }
        self.commit(open)
    }

    /// Goes on after a file was truncated or overwritten in place: what was not read of it lies in a copy, if anywhere.
    fn changed_in_place(&mut self, mut open: Tail) -> Result<(), FileError> {
        self.commit(&mut open)?;
        let Some(identity) = &open.identity else { return Ok(()) };
        let app = identity.partition.app.clone();
        self.begin()?;
        let now = self.current.as_ref().and_then(|o| o.identity.as_ref());
        if now.is_some_and(|i| i.partition.app == app) {
            // Only the line that was not whole yet is another.
            return Ok(());
        }
        self.search(&[])?;
        let goes_on = |o: &Tail| o.identity.as_ref().is_some_and(|i| i.partition.app == app);
        if !self.rotated.iter().any(goes_on) {
            self.end(&mut open)?;
        }
        Ok(())
    }

    /// Searches the folder for files that were read in part under this path, and reads on in them.
    fn search(&mut self, apart_from: &[&Tail]) -> Result<(), FileError> {
        self.searched = true;
        // What is known is what the lake holds.
        self.flush()?;
        let source = match self.source() {
            // Without its folder there is nothing beside it.
            Err(FileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        let open: Vec<_> = apart_from
            .iter()
            .copied()
            .chain(&self.rotated)
            .chain(&self.current)
            .map(|o| (o.place, o.identity.as_ref().map(|i| i.partition.app.clone())))
            .collect();
        for rest in rotated::search(&source, &open)? {
            tracing::info!(path = %rest.path.display(), of = %self.path.display(), position = rest.position, "reading on in a rotated file");
            let mut open = self.open(rest.file, rest.place)?;
            // One without a whole line is identified when it ends.
            self.look(&mut open)?;
            self.rotated.push(open);
        }
        Ok(())
    }

    /// Makes the rows of what was read part of the lake, with the position and what lies before it.
    fn commit(&self, open: &mut Tail) -> Result<(), FileError> {
        let Some(identity) = open.identity.as_ref().filter(|_| open.worker.due_at().is_some()) else { return Ok(()) };
        let began = Instant::now();
        open.worker.reach(&identity.partition, open.prefix.at() as i64);
        let Some(mut sealed) = self.runtime.block_on(open.worker.seal())? else { return Ok(()) };
        sealed.marks = identity.marks(&open.prefix);
        let landed = self.runtime.block_on(land(self.lake, vec![sealed]))?;
        self.job.settings.report.landed(&landed, began.elapsed());
        (self.landed)(&landed.counts);
        Ok(())
    }
}
