//! The log of a run: one JSON object a line. The same records stand beside it as a table and as
//! TensorBoard events.

mod csv;
mod tensorboard;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use elastic_space::file::{self, ReadError, WriteError};
use elastic_space::growing::{BadLine, GrowingFile, json_lines};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::run_folder::RunFolder;

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Record {
    /// The steps since the last such line; speed and memory are those of the process that wrote it.
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

/// Why a log cannot be read.
#[derive(Debug, Error)]
pub enum LogError {
    /// It could not be opened or read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A line is no record.
    #[error(
        "read {}, line {line}: {source}; the file was changed or is from another version: remove the line, or go on from the last checkpoint with --resume",
        path.display()
    )]
    Line {
        /// The log.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The cause.
        source: serde_json::Error,
    },
}

/// The least, the middle, the greatest and the mean of some values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The middle; of an even number the mean of the two middle ones.
    pub median: f64,
    /// The greatest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
}

impl Spread {
    /// The names of its numbers.
    pub const NAMES: [&'static str; 4] = ["min", "median", "max", "mean"];

    /// That of some values; nothing where there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
            _ => sorted[middle],
        };
        Some(Self { min, median, max, mean: sorted.iter().sum::<f64>() / sorted.len() as f64 })
    }

    /// The values with their names.
    pub fn named(self) -> [(&'static str, f64); 4] {
        let values = [self.min, self.median, self.max, self.mean];
        std::array::from_fn(|index| (Self::NAMES[index], values[index]))
    }
}

impl Record {
    /// Every number of the record with its tag, such as `train/loss` or `validation/random/median`; `None`
    /// where the record has no such number.
    ///
    /// The tags are the columns of the table and the names of TensorBoard's curves.
    fn scalars(&self) -> Vec<(String, Option<f64>)> {
        match self {
            Self::Train {
                stage: _,
                step: _,
                loss,
                learning_rate,
                gradient_norm,
                images_per_second,
                subnet_updates_per_second,
                peak_memory_bytes,
            } => {
                let values = [
                    Some(*loss),
                    Some(*learning_rate),
                    Some(*gradient_norm),
                    Some(*images_per_second),
                    Some(*subnet_updates_per_second),
                    peak_memory_bytes.map(|bytes| bytes as f64),
                ];
                TRAIN_TAGS.map(str::to_owned).into_iter().zip(values).collect()
            }
            Self::Validation { stage: _, step: _, images, accuracy, random_accuracy } => {
                let mut scalars = vec![(IMAGES_TAG.to_owned(), Some(*images as f64))];
                scalars.extend(accuracy.iter().map(|(name, value)| (named_tag(name), Some(*value))));
                let spread = Spread::of(random_accuracy).into_iter().flat_map(Spread::named);
                scalars.extend(spread.map(|(name, value)| (random_tag(name), Some(value))));
                scalars
            }
        }
    }
}

/// The tags of a training record's numbers.
const TRAIN_TAGS: [&str; 6] = [
    "train/loss",
    "train/learning_rate",
    "train/gradient_norm",
    "train/images_per_second",
    "train/subnet_updates_per_second",
    "train/peak_memory_bytes",
];

/// The tag of the number of images of an evaluation.
const IMAGES_TAG: &str = "validation/images";

/// The tag of a named subnet's accuracy.
fn named_tag(name: &str) -> String {
    format!("validation/{name}")
}

/// The tag of one number of the random subnets' accuracies.
fn random_tag(name: &str) -> String {
    format!("validation/random/{name}")
}

/// Appends to `metrics.jsonl`, `metrics.csv` and the event file, which hold the same records.
#[derive(Debug)]
pub struct MetricsLog {
    lines: GrowingFile,
    rows: GrowingFile,
    events: GrowingFile,
    columns: csv::Columns,
}

impl MetricsLog {
    /// Opens the log of a run and drops every record after `step`: a run that resumes writes them again.
    /// `names` are all named subnets of the model, whether or not a stage opens them.
    ///
    /// The table and the event file are made anew from what the log keeps, whatever a kill left of them.
    ///
    /// # Errors
    ///
    /// [`WriteError`] if a file cannot be written.
    pub fn open(folder: &RunFolder, names: BTreeSet<String>, step: u64) -> Result<Self, WriteError> {
        let path = folder.metrics();
        let kept: Vec<(String, Record)> = match std::fs::read_to_string(&path) {
            Ok(text) => text
                .lines()
                .filter_map(|line| Some((format!("{line}\n"), serde_json::from_str(line).ok()?)))
                .filter(|(_, record): &(String, Record)| record.step() <= step)
                .collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(WriteError { path, source }),
        };
        let (lines, records): (Vec<String>, Vec<Record>) = kept.into_iter().unzip();
        let columns = csv::Columns::new(names);
        Ok(Self {
            lines: GrowingFile::begin(path, lines.concat().as_bytes())?,
            rows: GrowingFile::begin(folder.table(), &columns.table(&records))?,
            events: tensorboard::begin(&folder.tensorboard(), step, &records)?,
            columns,
        })
    }

    /// Appends one record.
    ///
    /// # Errors
    ///
    /// [`WriteError`] if the disk is full or a file is gone.
    pub fn append(&mut self, record: &Record) -> Result<(), WriteError> {
        let mut line = serde_json::to_string(record).map_err(|error| self.lines.failed(error.into()))?;
        line.push('\n');
        self.lines.append(line.as_bytes())?;
        self.rows.append(&self.columns.row(record))?;
        self.events.append(&tensorboard::event(record))
    }
}

/// Reads a whole log; a last line that a kill cut short is left out.
///
/// # Errors
///
/// [`LogError`] if the file cannot be read or another line is no record.
pub fn read(path: &Path) -> Result<Vec<Record>, LogError> {
    let fail = |BadLine { line, source }| LogError::Line { path: path.to_owned(), line, source };
    json_lines(&file::read(path)?).map_err(fail)
}

/// The last evaluation of a log.
pub fn last_validation(records: &[Record]) -> Option<&Record> {
    records.iter().rev().find(|record| matches!(record, Record::Validation { .. }))
}

#[cfg(test)]
mod tests;
