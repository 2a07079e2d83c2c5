//! A file that grows by one record at a time.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use elastic_space::file::{self, WriteError};

/// A file that is open for appending.
#[derive(Debug)]
pub(super) struct GrowingFile {
    path: PathBuf,
    file: File,
}

impl GrowingFile {
    /// Replaces the file by one of this content.
    ///
    /// # Errors
    ///
    /// [`WriteError`] with the path.
    pub(super) fn begin(path: PathBuf, content: &[u8]) -> Result<Self, WriteError> {
        file::write(&path, content)?;
        match OpenOptions::new().append(true).open(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(WriteError { path, source }),
        }
    }

    /// Appends one record.
    ///
    /// # Errors
    ///
    /// [`WriteError`] with the path.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.file.write_all(bytes).map_err(|source| self.failed(source))
    }

    /// Why it could not be written.
    pub(super) fn failed(&self, source: io::Error) -> WriteError {
        WriteError { path: self.path.clone(), source }
    }
}
