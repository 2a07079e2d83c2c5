//! The models that an agent holds: files in one folder, named by the hash of their content.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use elastic_space::file::{self, WriteError};
use thiserror::Error;

/// Models in a folder, up to a number of bytes; the ones that were used longest ago make room.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    limit: u64,
    partial: Option<Partial>,
    lease: Option<PathBuf>,
    /// The models that are measured together: none makes room for another.
    together: BTreeSet<PathBuf>,
}

/// A model of which not all parts have arrived.
#[derive(Debug)]
struct Partial {
    sha256: String,
    bytes: u64,
    data: Vec<u8>,
}

/// Why a model is not stored or cannot be read.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A name that is no hash; it could lead out of the folder.
    #[error("`{found}` is no SHA-256 in lowercase hexadecimal")]
    Name {
        /// What was given, shortened.
        found: String,
    },
    /// The model is larger than all that may be stored.
    #[error(
        "a model of {bytes} bytes is over the agent's limit of {limit}: start it with a larger --disk-limit-mb"
    )]
    TooLarge {
        /// The model's size.
        bytes: u64,
        /// What may be stored.
        limit: u64,
    },
    /// The models that are measured together are larger than all that may be stored.
    #[error(
        "the models of one measurement are over the agent's limit of {limit} bytes: start it with a larger --disk-limit-mb, or \
         measure fewer at a time"
    )]
    Full {
        /// What may be stored.
        limit: u64,
    },
    /// A part that does not go on where the last one ended.
    #[error("a part of {sha256} begins at {found}, expected {expected}: send the model again from 0")]
    Offset {
        /// The model.
        sha256: String,
        /// Where the part begins.
        found: u64,
        /// Bytes that are there.
        expected: u64,
    },
    /// More bytes than were announced.
    #[error("{sha256} was announced with {bytes} bytes, but more have come")]
    TooLong {
        /// The model.
        sha256: String,
        /// The announced size.
        bytes: u64,
    },
    /// Other content than the name says.
    #[error("{expected} arrived damaged (its content is {found}): send it again")]
    Damaged {
        /// The hash that it was sent under.
        expected: String,
        /// The hash of what came.
        found: String,
    },
    /// A model that was never sent, or has been removed.
    #[error("read {}: {source}; send the model again", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The folder cannot be used.
    #[error("use {}: {source}; name another folder with --work", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Store {
    /// The models of a folder, which is made if it is missing; `limit` in bytes.
    ///
    /// # Errors
    ///
    /// [`StoreError::Folder`] or [`StoreError::Write`] if it cannot be written to.
    pub fn open(folder: &Path, limit: u64) -> Result<Self, StoreError> {
        let fail = |source| StoreError::Folder { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(fail)?;
        file::remove_unfinished(folder)?;
        file::prepare_folder_of(&folder.join("model"))?;
        Ok(Self { folder: folder.to_owned(), limit, partial: None, lease: None, together: BTreeSet::new() })
    }

    /// Names another file than `lease` in the folder for [`Self::lease`].
    #[must_use]
    pub fn with_lease(self, path: PathBuf) -> Self {
        Self { lease: Some(path), ..self }
    }

    /// The file that an agent locks while it measures, so that two never measure at once.
    ///
    /// # Errors
    ///
    /// [`StoreError::Folder`] if it cannot be made.
    pub fn lease(&self) -> Result<File, StoreError> {
        let path = self.lease.clone().unwrap_or_else(|| self.folder.join("lease"));
        let opened = File::options().create(true).truncate(false).write(true).open(&path);
        opened.map_err(|source| StoreError::Folder { path, source })
    }

    /// Those of some models that are not there. These models are measured together, so from now on none of them makes room.
    ///
    /// # Errors
    ///
    /// [`StoreError::Name`] if a name is no hash.
    pub fn missing(&mut self, together: &[String]) -> Result<Vec<String>, StoreError> {
        let paths = together.iter().map(|sha256| self.path(sha256)).collect::<Result<Vec<_>, _>>()?;
        let is_missing = |(_, path): &(&String, &PathBuf)| !path.is_file();
        let missing = together.iter().zip(&paths).filter(is_missing).map(|(sha256, _)| sha256.clone());
        let missing = missing.collect();
        self.together = paths.into_iter().collect();
        Ok(missing)
    }

    /// Whether a model is there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Name`] if the name is no hash.
    pub fn holds(&self, sha256: &str) -> Result<bool, StoreError> {
        Ok(self.path(sha256)?.is_file())
    }

    /// Adds a part of a model; the last one completes it. Returns the bytes that are there.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; what has come of this model is forgotten.
    pub fn put(&mut self, sha256: &str, bytes: u64, offset: u64, data: &[u8]) -> Result<u64, StoreError> {
        let path = self.path(sha256)?;
        if bytes > self.limit {
            return Err(StoreError::TooLarge { bytes, limit: self.limit });
        }
        let begun = self
            .partial
            .take()
            .filter(|partial| offset > 0 && partial.sha256 == sha256 && partial.bytes == bytes);
        let mut partial =
            begun.unwrap_or_else(|| Partial { sha256: sha256.to_owned(), bytes, data: Vec::new() });
        let expected = partial.data.len() as u64;
        if offset != expected {
            return Err(StoreError::Offset { sha256: sha256.to_owned(), found: offset, expected });
        }
        partial.data.extend_from_slice(data);
        let there = partial.data.len() as u64;
        if there > bytes {
            return Err(StoreError::TooLong { sha256: sha256.to_owned(), bytes });
        }
        if there < bytes {
            self.partial = Some(partial);
            return Ok(there);
        }
        let found = file::sha256(&partial.data);
        if found != sha256 {
            return Err(StoreError::Damaged { expected: sha256.to_owned(), found });
        }
        self.make_room(bytes)?;
        file::write(&path, &partial.data)?;
        Ok(there)
    }

    /// Reads a model.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it is not there, or its content has changed; then it is removed.
    pub fn read(&self, sha256: &str) -> Result<Vec<u8>, StoreError> {
        let path = self.path(sha256)?;
        let fail = |source| StoreError::Read { path: path.clone(), source };
        let bytes = std::fs::read(&path).map_err(fail)?;
        let found = file::sha256(&bytes);
        if found != sha256 {
            std::fs::remove_file(&path).map_err(fail)?;
            return Err(StoreError::Damaged { expected: sha256.to_owned(), found });
        }
        // Its time says when it was used last. A folder on which times cannot be set still serves.
        if let Ok(file) = std::fs::File::options().write(true).open(&path) {
            let _ = file.set_modified(SystemTime::now());
        }
        Ok(bytes)
    }

    /// Removes the models that were used longest ago until `bytes` more may be stored.
    fn make_room(&self, bytes: u64) -> Result<(), StoreError> {
        let fail = |source| StoreError::Folder { path: self.folder.clone(), source };
        let mut models = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let metadata = entry.metadata().map_err(fail)?;
            if metadata.is_file() && entry.path().extension().is_some_and(|extension| extension == "onnx") {
                models.push((metadata.modified().map_err(fail)?, metadata.len(), entry.path()));
            }
        }
        models.sort();
        let mut held: u64 = models.iter().map(|(_, bytes, _)| bytes).sum();
        let others = models.into_iter().filter(|(.., path)| !self.together.contains(path));
        for (_, size, path) in others {
            if held + bytes <= self.limit {
                break;
            }
            std::fs::remove_file(&path).map_err(|source| StoreError::Folder { path, source })?;
            held -= size;
        }
        if held + bytes > self.limit { Err(StoreError::Full { limit: self.limit }) } else { Ok(()) }
    }

    /// The file of a model. The name is checked, so that no request reaches outside the folder.
    fn path(&self, sha256: &str) -> Result<PathBuf, StoreError> {
        let digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if sha256.len() == 64 && sha256.bytes().all(digit) {
            Ok(self.folder.join(format!("{sha256}.onnx")))
        } else {
            Err(StoreError::Name { found: sha256.chars().take(80).collect() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_become_a_model() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut store = Store::open(folder.path(), 1000).expect("a store");
        let name = file::sha256(b"abcdef");
        assert!(!store.holds(&name).expect("a hash"));
        assert_eq!(store.put(&name, 6, 0, b"abc").expect("a part"), 3);
        assert!(!store.holds(&name).expect("a hash"), "half a model is none");
        assert_eq!(store.put(&name, 6, 3, b"def").expect("a part"), 6);
        assert_eq!(store.read(&name).expect("a model"), b"abcdef");
        // A link that was cut begins again.
        let other = file::sha256(b"uvwxyz");
        store.put(&other, 6, 0, b"uvw").expect("a part");
        store.put(&other, 6, 0, b"uvw").expect("the part again");
        store.put(&other, 6, 3, b"xyz").expect("a part");
        assert_eq!(store.read(&other).expect("a model"), b"uvwxyz");
    }

    #[test]
    fn what_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut store = Store::open(folder.path(), 8).expect("a store");
        let name = file::sha256(b"abcdef");
        let upper = name.to_uppercase();
        for (sha256, bytes, offset, data, expected) in [
            ("../../etc/passwd", 6, 0, &b"abcdef"[..], "no SHA-256"),
            (&upper, 6, 0, b"abcdef", "no SHA-256"),
            (&name, 9, 0, b"abcdef", "over the agent's limit of 8"),
            (&name, u64::MAX, 0, b"abcdef", "over the agent's limit of 8"),
            (&name, 6, 3, b"def", "begins at 3, expected 0"),
            (&name, 6, u64::MAX, b"def", "expected 0"),
            (&name, 3, 0, b"abcdef", "more have come"),
            (&name, 6, 0, b"abcdeg", "arrived damaged"),
        ] {
            let error = store.put(sha256, bytes, offset, data).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0, "nothing was written");
    }

    #[test]
    fn a_changed_file_is_not_measured() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut store = Store::open(folder.path(), 100).expect("a store");
        let name = file::sha256(b"abcdef");
        store.put(&name, 6, 0, b"abcdef").expect("a model");
        std::fs::write(folder.path().join(format!("{name}.onnx")), b"abcdex").expect("a file");
        let error = store.read(&name).expect_err("it has changed").to_string();
        assert!(error.contains("damaged"), "{error}");
        assert!(!store.holds(&name).expect("a hash"), "it is asked for again");
    }

    #[test]
    fn the_oldest_makes_room() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut store = Store::open(folder.path(), 8).expect("a store");
        let names = [b"aaa", b"bbb", b"ccc"].map(|content| file::sha256(content));
        for (name, (content, age)) in names.iter().zip([(b"aaa", 20), (b"bbb", 40)]) {
            store.put(name, 3, 0, content).expect("a model");
            let file = std::fs::File::options().write(true).open(store.path(name).expect("a hash"));
            let time = SystemTime::now() - std::time::Duration::from_secs(age);
            file.expect("a file").set_modified(time).expect("a time");
        }
        store.put(&names[2], 3, 0, b"ccc").expect("a model");
        let held = names.each_ref().map(|name| store.holds(name).expect("a hash"));
        assert_eq!(held, [true, false, true]);
        // Models of one measurement stay; one that has no room beside them is refused.
        let wanted = names;
        assert_eq!(store.missing(&wanted).expect("hashes"), [wanted[1].clone()]);
        let error = store.put(&wanted[1], 3, 0, b"bbb").expect_err("there is no room").to_string();
        assert!(error.contains("over the agent's limit of 8 bytes: start it with a larger"), "{error}");
        assert!(store.holds(&wanted[0]).expect("a hash"));
    }
}
