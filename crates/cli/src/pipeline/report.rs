//! What `elastic pipeline` prints.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

/// What `--format json` prints.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Report {
    pub(crate) schema: &'static str,
    /// The folder that gets everything.
    pub(crate) out: PathBuf,
    /// Whether nothing was done, only planned.
    pub(crate) dry_run: bool,
    /// That of the step that ended the pipeline, or else of the first device that was passed over.
    pub(crate) exit_code: u8,
    pub(crate) steps: Vec<StepReport>,
}

/// What became of a step.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct StepReport {
    pub(crate) name: String,
    /// The command that does the same.
    pub(crate) command: String,
    pub(crate) model: String,
    /// Its platform; of what serves several, all of them with commas between.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<String>,
    pub(crate) status: Status,
    /// Why it ran, or did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seconds: Option<f64>,
    /// How it failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exit_code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// What it made, with the SHA-256.
    pub(crate) outputs: BTreeMap<PathBuf, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Status {
    UpToDate,
    /// It was run to its end.
    Done,
    /// A training went on from its checkpoint, to its end.
    Resumed,
    Failed,
    /// A step before it failed.
    NotRun,
    /// It would run, were this not a dry run.
    WouldRun,
    /// A training would go on from its checkpoint.
    WouldResume,
}
