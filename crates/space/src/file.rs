//! Files that a reader never sees half written, and errors that name the file.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_yaml::with::singleton_map_recursive;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// How the name of a file begins while it is written.
const TEMPORARY: &str = ".elastic-";

/// Why a file could not be written.
#[derive(Debug, Error)]
#[error("write {}: {source}", path.display())]
pub struct WriteError {
    /// The file.
    pub path: PathBuf,
    /// The cause.
    pub source: io::Error,
}

/// Why a file could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// It could not be opened or read.
    #[error("read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Its YAML is broken or does not fit.
    #[error("read {}: {}", path.display(), plain(reason))]
    Yaml {
        /// The file.
        path: PathBuf,
        /// The cause, with line and column.
        reason: serde_yaml::Error,
    },
    /// Its JSON is broken or does not fit.
    #[error("read {}: {source}; the file is damaged or from another version: make it anew", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The cause, with line and column.
        source: serde_json::Error,
    },
}

/// Reads a whole file.
///
/// # Errors
///
/// [`ReadError::Io`] with the path.
pub fn read(path: &Path) -> Result<Vec<u8>, ReadError> {
    std::fs::read(path).map_err(|source| ReadError::Io { path: path.to_owned(), source })
}

/// Reads a YAML file. An enum is written as a map of one entry (`tract: {}`), not as a YAML tag.
///
/// # Errors
///
/// [`ReadError`] with the path, and the line where the text does not fit.
pub fn read_yaml<T: DeserializeOwned>(path: &Path) -> Result<T, ReadError> {
    let bytes = read(path)?;
    let refuse = |reason| ReadError::Yaml { path: path.to_owned(), reason };
    let value = singleton_map_recursive::deserialize(serde_yaml::Deserializer::from_slice(&bytes));
    let value = value.map_err(refuse)?;
    // A map in Rust takes the last of two equal keys without a word; a YAML mapping refuses them.
    serde_yaml::from_slice::<serde_yaml::Value>(&bytes).map_err(refuse)?;
    Ok(value)
}

/// Reads a JSON file.
///
/// # Errors
///
/// [`ReadError`] with the path, and the line where the text does not fit.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ReadError> {
    serde_json::from_slice(&read(path)?).map_err(|source| ReadError::Json { path: path.to_owned(), source })
}

/// Writes a file to a temporary name beside it, syncs it, and renames it into place. Folders that
/// are missing are made.
///
/// # Errors
///
/// [`WriteError`] with the path; what stood there before is unharmed.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let attempt = || {
        let mut temporary = temporary_beside(path)?;
        // Through the file itself: an error of the other would name the temporary file.
        temporary.as_file_mut().write_all(bytes)?;
        temporary.as_file().sync_all()?;
        make_readable(temporary.as_file())?;
        temporary.persist(path)?;
        Ok(())
    };
    attempt().map_err(|source| WriteError { path: path.to_owned(), source })
}

/// Makes the folder of a file that is written later and sees whether files can be written there: before
/// long work, not after it.
///
/// # Errors
///
/// [`WriteError`] with the path of the file.
pub fn prepare_folder_of(path: &Path) -> Result<(), WriteError> {
    temporary_beside(path).map(drop).map_err(|source| WriteError { path: path.to_owned(), source })
}

/// Removes what a kill left of files that were being written in a folder, which no other process may be
/// writing to.
///
/// # Errors
///
/// [`WriteError`] with the path that could not be removed.
pub fn remove_unfinished(folder: &Path) -> Result<(), WriteError> {
    let fail = |path: &Path, source| WriteError { path: path.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(|source| fail(folder, source))? {
        let entry = entry.map_err(|source| fail(folder, source))?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            std::fs::remove_file(entry.path()).map_err(|source| fail(&entry.path(), source))?;
        }
    }
    Ok(())
}

/// Writes a value as indented JSON, in the manner of [`write()`].
///
/// # Errors
///
/// [`WriteError`] with the path.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), WriteError> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|source| WriteError { path: path.to_owned(), source: source.into() })?;
    bytes.push(b'\n');
    write(path, &bytes)
}

/// Writes a value as YAML that [`read_yaml`] reads, in the manner of [`write()`].
///
/// # Errors
///
/// [`WriteError`] with the path.
pub fn write_yaml<T: Serialize>(path: &Path, value: &T) -> Result<(), WriteError> {
    let mut bytes = Vec::new();
    singleton_map_recursive::serialize(value, &mut serde_yaml::Serializer::new(&mut bytes))
        .map_err(|source| WriteError { path: path.to_owned(), source: io::Error::other(source) })?;
    write(path, &bytes)
}

/// The SHA-256 of some bytes in lowercase hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What serde says, without the names of Rust's types.
fn plain(reason: &serde_yaml::Error) -> String {
    let mut text = reason.to_string();
    for (rust, words) in [
        ("expected usize", "expected a whole number, at least 0"),
        ("expected u64", "expected a whole number, at least 0"),
        ("expected f32", "expected a number"),
        ("expected f64", "expected a number"),
        ("expected a boolean", "expected true or false"),
        ("expected a sequence", "expected a list"),
    ] {
        text = text.replace(rust, words);
    }
    match text.split_once("expected struct ") {
        Some((before, after)) => {
            let name = after.find(' ').unwrap_or(after.len());
            format!("{before}expected a map{}", &after[name..])
        }
        None => text,
    }
}

fn temporary_beside(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.exists() && !folder.is_dir() {
        // The system would say that the file exists.
        let reason = format!("{} is a file, not a folder", folder.display());
        return Err(io::Error::new(io::ErrorKind::NotADirectory, reason));
    }
    std::fs::create_dir_all(folder)?;
    tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder)
}

/// A temporary file is private to its owner; a finished one has the usual rights.
#[cfg(unix)]
fn make_readable(file: &std::fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn make_readable(_file: &std::fs::File) -> io::Result<()> {
    Ok(())
}
