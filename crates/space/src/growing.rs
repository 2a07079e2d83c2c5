//! Files that grow by one line at a time.
//!
//! They are the exception to files that are replaced whole. A kill can cut the last line, so that only lines with their end
//! count.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::file::{self, WriteError};

/// A file that is open for appending.
#[derive(Debug)]
pub struct GrowingFile {
    path: PathBuf,
    file: File,
}

/// A line that is not what it should be.
#[derive(Debug, Error)]
#[error("line {line}: {source}")]
pub struct BadLine {
    /// The line, counted from 1.
    pub line: usize,
    /// The cause.
    pub source: serde_json::Error,
}

impl GrowingFile {
    /// Replaces the file by one of this content.
    ///
    /// # Errors
    ///
    /// [`WriteError`] with the path.
    pub fn begin(path: PathBuf, content: &[u8]) -> Result<Self, WriteError> {
        file::write(&path, content)?;
        match OpenOptions::new().append(true).open(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(WriteError { path, source }),
        }
    }

    /// Opens a file that several processes may append to with [`Self::append_alone`], and makes it if it is missing. A last
    /// line that was cut is removed.
    ///
    /// # Errors
    ///
    /// [`WriteError`] with the path.
    pub fn share(path: PathBuf) -> Result<Self, WriteError> {
        match open_shared(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(WriteError { path, source }),
        }
    }

    /// Appends one record.
    ///
    /// # Errors
    ///
    /// [`WriteError`] with the path.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.file.write_all(bytes).map_err(|source| self.failed(source))
    }

    /// Appends one record while no other process does so or repairs the file.
    ///
    /// # Errors
    ///
    /// [`WriteError`] with the path; nothing of the record stays.
    pub fn append_alone(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let append = |file: &mut File| -> io::Result<()> {
            let end = file.metadata()?.len();
            file.write_all(bytes).inspect_err(|_| {
                // The first error is the one to tell.
                let _ = file.set_len(end);
            })
        };
        let appended = self.file.lock().and_then(|()| append(&mut self.file).and(self.file.unlock()));
        appended.map_err(|source| self.failed(source))
    }

    /// Why it could not be written.
    pub fn failed(&self, source: io::Error) -> WriteError {
        WriteError { path: self.path.clone(), source }
    }
}

fn open_shared(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    file.lock()?;
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    let whole = whole_lines(&content).len();
    if whole < content.len() {
        file.set_len(whole as u64)?;
    }
    file.unlock()?;
    Ok(file)
}

/// The part of a file's content that ends with the end of a line.
fn whole_lines(content: &[u8]) -> &[u8] {
    let end = content.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    &content[..end]
}

/// The values of a file of JSON lines; a last line that was cut is left out.
///
/// # Errors
///
/// [`BadLine`] if another line is no such value.
pub fn json_lines<T: DeserializeOwned>(content: &[u8]) -> Result<Vec<T>, BadLine> {
    let lines = whole_lines(content).split_inclusive(|&byte| byte == b'\n');
    let value = |(index, line): (usize, &[u8])| {
        serde_json::from_slice(line).map_err(|source| BadLine { line: index + 1, source })
    };
    lines.enumerate().map(value).collect()
}
