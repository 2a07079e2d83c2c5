//! What is known of a pipeline's steps: what each was made from, and what it made.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use elastic_space::file;
use serde::{Deserialize, Serialize};

/// The only value of `schema` in a state.
const SCHEMA: &str = "elastic.pipeline-state/v1";

/// `state.json` in the folder of a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct State {
    schema: String,
    /// By the names of the steps.
    pub(crate) steps: BTreeMap<String, Record>,
}

/// What is known of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Record {
    /// Whether it came to its end; else it was stopped, or failed.
    pub(crate) done: bool,
    /// What it is made from: the SHA-256 of files, or a short text itself.
    pub(crate) inputs: Inputs,
    /// The SHA-256 of each file that it made, or that its last run to the end made.
    pub(crate) outputs: BTreeMap<PathBuf, String>,
}

/// What a step is made from, by what it is.
pub(crate) type Inputs = BTreeMap<String, String>;

/// Holds a pipeline's folder for this process while it lives.
pub(crate) struct Lock(#[expect(dead_code, reason = "it is held, not used")] File);

impl State {
    /// The state in a folder; an empty one if there is none.
    ///
    /// # Errors
    ///
    /// A file that is damaged or of another version.
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = Self::path(folder);
        if !path.exists() {
            return Ok(Self { schema: SCHEMA.to_owned(), steps: BTreeMap::new() });
        }
        let state: Self = file::read_json(&path)?;
        if state.schema != SCHEMA {
            bail!(
                "{}: schema is `{}`: this version reads `{SCHEMA}`; remove the file to begin anew",
                path.display(),
                state.schema
            );
        }
        Ok(state)
    }

    /// Writes the state whole.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        Ok(file::write_json(&Self::path(folder), self)?)
    }

    fn path(folder: &Path) -> PathBuf {
        folder.join("state.json")
    }
}

impl Lock {
    /// Takes a folder, and makes it if it is missing.
    ///
    /// # Errors
    ///
    /// Another process holds it.
    pub(crate) fn take(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(".lock");
        file::prepare_folder_of(&path)?;
        let file = File::create(&path).with_context(|| format!("write {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => {
                bail!("another `elastic pipeline` works in {}: wait for it, or stop it", folder.display())
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {}", path.display())),
        }
    }
}
