//! The files of a run.

use std::path::{Path, PathBuf};

use crate::config::{Model, ModelError};

/// The folder of a run that holds one folder for each of its stages.
pub const STAGES: &str = "stages";

/// The files of a run's folder.
#[derive(Debug, Clone)]
pub struct RunFolder(pub PathBuf);

impl RunFolder {
    /// The resolved configuration.
    pub fn config(&self) -> PathBuf {
        self.0.join("config.yaml")
    }

    /// The last training state.
    pub fn checkpoint(&self) -> PathBuf {
        self.0.join("checkpoint.safetensors")
    }

    /// The trained supernet; it exists once the run has finished.
    pub fn supernet(&self) -> PathBuf {
        self.0.join("supernet.safetensors")
    }

    /// The log.
    pub fn metrics(&self) -> PathBuf {
        self.0.join("metrics.jsonl")
    }

    /// The same records as a table.
    pub fn table(&self) -> PathBuf {
        self.0.join("metrics.csv")
    }

    /// The folder of the same records as TensorBoard events.
    pub fn tensorboard(&self) -> PathBuf {
        self.0.join("tensorboard")
    }

    /// The accuracies of subnets that searches have measured.
    pub fn accuracies(&self) -> PathBuf {
        self.0.join("accuracies.jsonl")
    }

    /// What a stage leaves behind: a folder like a run's, to inspect, export and restart from.
    pub fn stage(&self, name: &str) -> Self {
        Self(self.0.join(STAGES).join(name))
    }

    /// Whether the run has finished.
    pub fn is_finished(&self) -> bool {
        self.supernet().exists()
    }
}

/// Reads the configuration that a run was made with.
///
/// # Errors
///
/// [`ModelError`] if the folder has no run or its file was changed.
pub fn read_config(folder: &Path) -> Result<Model, ModelError> {
    Model::read(&RunFolder(folder.to_owned()).config())
}
