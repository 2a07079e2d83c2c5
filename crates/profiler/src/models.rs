//! The file of measured models: ONNX files that need not be subnets, compared with the first of them.

use std::path::{Path, PathBuf};

use elastic_runtime::NodeTime;
use elastic_space::file::{self, ReadError, WriteError};
use elastic_space::{Platform, Seed};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::device::{NotMeasured, Task, measure_on};
use crate::environment::Environment;
use crate::inputs::{GivenInput, Shapes};
use crate::measure::microseconds;
use crate::summary::{Course, Measurement, drift_percent};

/// The only value of `schema` in a file of measured models.
pub const SCHEMA: &str = "elastic.measured-models/v1";

/// Models that were measured together on one platform.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ModelsFile {
    /// The file format: `elastic.measured-models/v1`.
    pub schema: String,
    /// The platform's name: the stem of its file.
    pub name: String,
    /// The platform, with every default written out.
    pub platform: Platform,
    /// The circumstances.
    pub environment: Environment,
    /// The seed of inputs and order.
    pub seed: u64,
    /// How far the machine's speed wandered, by [`drift_percent`].
    pub drift_percent: f64,
    /// How the measurement went.
    pub course: Course,
    /// The models; every ratio is relative to the first.
    pub models: Vec<MeasuredModel>,
}

/// One measured model. Times are in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MeasuredModel {
    /// The file, as it was named.
    pub file: String,
    /// SHA-256 of its content.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// The inputs of its runs.
    pub inputs: Vec<GivenInput>,
    /// Reading and optimising the model, once.
    pub load_us: f64,
    /// The first run, which may be slower than the rest.
    pub first_run_us: f64,
    /// Its steady latency.
    pub latency: Measurement,
    /// Its nodes, timed one by one in runs of their own; none where the runtime does not time them.
    pub nodes: Vec<NodeTime>,
}

/// A model to be measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFile {
    /// The file, as it was named.
    pub file: String,
    /// Its content.
    pub content: Vec<u8>,
}

/// What is to be measured.
#[derive(Debug, Clone, Copy)]
pub struct ModelsRequest<'a> {
    /// The platform's name.
    pub name: &'a str,
    /// The device.
    pub platform: &'a Platform,
    /// The models; the first is the reference.
    pub files: &'a [ModelFile],
    /// Sizes of inputs that the graphs leave open.
    pub shapes: &'a Shapes,
    /// The seed of inputs and order.
    pub seed: Seed,
    /// As in [`Task::program`].
    pub program: Option<&'a Path>,
}

/// Why a file of measured models cannot be read.
#[derive(Debug, Error)]
pub enum ReadModelsError {
    /// The file is missing, or its content does not fit.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Another file format.
    #[error("read {}: schema is `{found}`, this version reads `{SCHEMA}`; write it with: elastic profile --model FILE --out", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// What the file says.
        found: String,
    },
}

impl ModelsFile {
    /// Measures models interleaved on the platform's device, and times their nodes. `progress` hears how many of how many
    /// visits are done.
    ///
    /// # Errors
    ///
    /// [`NotMeasured`]; if the device is not the one that the platform describes, nothing was run.
    pub fn measure(
        request: &ModelsRequest<'_>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, NotMeasured> {
        let &ModelsRequest { name, platform, files, shapes, seed, program } = request;
        let models: Vec<&[u8]> = files.iter().map(|file| &file.content[..]).collect();
        let all: Vec<usize> = (0..files.len()).collect();
        let task = Task { models: &models, shapes, seed, nodes_of: &all, program };
        let measured = measure_on(platform, &task, progress)?;
        let drift_percent = measured.measurements.first().map_or(0.0, drift_percent);
        let mut nodes = measured.nodes.into_iter();
        let models = files
            .iter()
            .zip(measured.startups)
            .zip(measured.inputs)
            .zip(measured.measurements)
            .map(|(((file, startup), inputs), latency)| MeasuredModel {
                file: file.file.clone(),
                sha256: file::sha256(&file.content),
                bytes: file.content.len() as u64,
                inputs,
                load_us: microseconds(startup.load),
                first_run_us: microseconds(startup.first_run),
                latency,
                nodes: nodes.next().unwrap_or_default(),
            })
            .collect();
        Ok(Self {
            schema: SCHEMA.to_owned(),
            name: name.to_owned(),
            platform: platform.clone(),
            environment: measured.environment,
            seed: seed.0,
            drift_percent,
            course: measured.course,
            models,
        })
    }

    /// Reads a file of measured models.
    ///
    /// # Errors
    ///
    /// [`ReadModelsError`] with the path.
    pub fn read(path: &Path) -> Result<Self, ReadModelsError> {
        let models: Self = file::read_json(path)?;
        if models.schema == SCHEMA {
            Ok(models)
        } else {
            Err(ReadModelsError::Schema { path: path.to_owned(), found: models.schema })
        }
    }

    /// Writes the file; a reader never sees half of it.
    ///
    /// # Errors
    ///
    /// [`WriteError`] with the path.
    pub fn write(&self, path: &Path) -> Result<(), WriteError> {
        file::write_json(path, self)
    }
}
