//! The log of a run: one JSON object a line.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use elastic_space::file::{self, ReadError, WriteError};
use serde::{Deserialize, Serialize};

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Record {
    /// The steps since the last such line, or since the run was resumed.
    Train {
        /// The stage, for instance `2-depth`.
        stage: String,
        /// Steps done so far, over all stages.
        step: u64,
        /// Mean loss of the subnets over these steps.
        loss: f64,
        /// Learning rate of the last of these steps.
        learning_rate: f64,
        /// Norm of its gradient before clipping.
        gradient_norm: f64,
        /// Images per second; each is seen by every subnet of the step.
        images_per_second: f64,
        /// Forward and backward passes of one subnet over one batch, per second.
        subnet_updates_per_second: f64,
        /// Highest resident memory of the process so far in bytes; absent where the system does not tell.
        peak_memory_bytes: Option<u64>,
    },
    /// An evaluation on validation data.
    Validation {
        /// The stage, for instance `2-depth`.
        stage: String,
        /// Steps done so far, over all stages.
        step: u64,
        /// Number of images.
        images: usize,
        /// Accuracy of each named subnet as far as the stage opens it, 0 to 1.
        accuracy: BTreeMap<String, f64>,
        /// Accuracy of each random subnet of the open dimensions, 0 to 1; always the same in a stage.
        random_accuracy: Vec<f64>,
    },
}

impl Record {
    /// The stage in which the line was written.
    pub fn stage(&self) -> &str {
        match self {
            Self::Train { stage, .. } | Self::Validation { stage, .. } => stage,
        }
    }

    /// Steps done when the line was written.
    pub fn step(&self) -> u64 {
        match self {
            Self::Train { step, .. } | Self::Validation { step, .. } => *step,
        }
    }
}

/// Appends to `metrics.jsonl`.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
}

impl MetricsLog {
    /// Opens the log and drops every line after `step`: a run that resumes writes them again.
    ///
    /// # Errors
    ///
    /// [`WriteError`] if the file cannot be written.
    pub fn open(path: &Path, step: u64) -> Result<Self, WriteError> {
        let fail = |source| WriteError { path: path.to_owned(), source };
        let kept: String = match std::fs::read_to_string(path) {
            Ok(text) => text
                .lines()
                .filter(|line| serde_json::from_str::<Record>(line).is_ok_and(|record| record.step() <= step))
                .map(|line| format!("{line}\n"))
                .collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(fail(error)),
        };
        file::write(path, kept.as_bytes())?;
        let file = OpenOptions::new().append(true).open(path).map_err(fail)?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends one line.
    ///
    /// # Errors
    ///
    /// [`WriteError`] if the disk is full or the file is gone.
    pub fn append(&mut self, record: &Record) -> Result<(), WriteError> {
        let fail = |source| WriteError { path: self.path.clone(), source };
        let mut line = serde_json::to_string(record).map_err(|error| fail(error.into()))?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(fail)
    }
}

/// Reads a whole log; a last line that a kill cut short is left out.
///
/// # Errors
///
/// [`ReadError`] if the file cannot be read.
pub fn read(path: &Path) -> Result<Vec<Record>, ReadError> {
    let bytes = file::read(path)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}
