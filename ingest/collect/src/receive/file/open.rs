//! Opens files, and nothing else.
//!
//! Guarantee: what is opened is a regular file, also when its name is swapped at that moment: the kind is asked of the
//! open file, and a symbolic link is not followed unless that is allowed. Opening never waits. Reading goes by position,
//! so that threads share one open file and none of them opens the name a second time.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

/// What the file system calls a file: device and inode.
pub(super) type Place = (u64, u64);

/// Opens a regular file. With `links`, its name may be a symbolic link.
pub(super) fn open(path: &Path, links: bool) -> io::Result<File> {
    // Asked before as well, so that no device is opened by mistake.
    let kind = if links { path.metadata()? } else { path.symlink_metadata()? }.file_type();
    regular(kind)?;
    let mut flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    if !links {
        flags |= OFlags::NOFOLLOW;
    }
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    regular(file.metadata()?.file_type())?;
    Ok(file)
}

fn regular(kind: std::fs::FileType) -> io::Result<()> {
    let why = match kind {
        _ if kind.is_file() => return Ok(()),
        _ if kind.is_symlink() => {
            "it is a symbolic link; allow it with --follow-symlinks, or `follow_symlinks = true` in its entry of `[files] follow`"
        }
        _ if kind.is_dir() => "it is a folder",
        _ if kind.is_fifo() => "it is a pipe; read one through standard input: `catena ingest - < PIPE`",
        _ if kind.is_socket() => "it is a socket, not a file",
        _ => "it is a device, not a file",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// Device and inode of an open file.
pub(super) fn place(file: &File) -> io::Result<Place> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Reads an open file from a position on.
#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) file: Arc<File>,
    pub(super) at: u64,
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
