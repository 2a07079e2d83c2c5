//! A profile in shards: a plan, measured in parts by as many boards of one kind as there are, and merged.
//!
//! A plan is a folder: `plan.json` and each subnet's ONNX file, so a board needs nothing else. A shard measures its part of
//! the subnets and the reference, and leaves a line of JSON for each. Lines are merged in any order, any number of times: a
//! line that is there twice counts once, and of two measurements of one subnet the surer one is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use elastic_runtime::NodeTime;
use elastic_space::file::{self, ReadError, WriteError};
use elastic_space::{Platform, SearchSpace, Seed, Subnet};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::device::{NotMeasured, Task, measure_on, memory_of_each};
use crate::environment::Environment;
use crate::inputs::Shapes;
use crate::measure::{Candidate, microseconds};
use crate::model::FitError;
use crate::profile::{self, MeasuredSubnet, Models, ProfileFile, SubnetNodes};
use crate::statistics::median;
use crate::summary::{Course, Measurement, drift_percent};

/// The only value of `schema` in a plan.
pub const PLAN_SCHEMA: &str = "elastic.profile-plan/v1";
/// The only value of `schema` in a line of a shard.
pub const SHARD_SCHEMA: &str = "elastic.profile-shard/v1";

/// What is to be measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Plan {
    /// The file format: `elastic.profile-plan/v1`.
    pub schema: String,
    /// The platform's name: the stem of its file.
    pub name: String,
    /// The platform.
    pub platform: Platform,
    /// The SHA-256 of the supernet's checkpoint.
    pub checkpoint: String,
    /// The search space of the supernet.
    pub space: SearchSpace,
    /// The seed of inputs, order and folds.
    pub seed: u64,
    /// The subnets; the first is the reference.
    pub subnets: Vec<PlannedSubnet>,
}

/// One subnet of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PlannedSubnet {
    /// The subnet.
    pub subnet: Subnet,
    /// SHA-256 of its ONNX file, which is `models/SHA256.onnx` in the plan's folder.
    pub model: String,
}

/// A part of a plan, such as `2/5`: the second of five.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    number: usize,
    count: usize,
}

/// One measured subnet: one line of a shard's file. Times are in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Record {
    /// The line's format: `elastic.profile-shard/v1`.
    pub schema: String,
    /// The plan, by [`Plan::id`].
    pub plan: String,
    /// The subnet's place in the plan.
    pub index: usize,
    /// The circumstances.
    pub environment: Environment,
    /// How the shard's measurement went.
    pub course: Course,
    /// Reading and optimising the model, once.
    pub load_us: f64,
    /// The first run, which may be slower than the rest.
    pub first_run_us: f64,
    /// Its steady latency.
    pub latency: Measurement,
    /// Its memory alone, as in [`MeasuredSubnet`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Its nodes, where they were timed.
    pub nodes: Vec<NodeTime>,
}

/// Why a text names no shard.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{found}` is not NUMBER/COUNT with a number from 1 to the count, for instance 2/5")]
pub struct ParseShardError {
    /// What was given.
    pub found: String,
}

/// Why a plan or a shard cannot be used.
#[derive(Debug, Error)]
pub enum FarmError {
    /// A file is missing, or its content does not fit.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Another file format.
    #[error("read {}: schema is `{found}`, this version reads `{expected}`", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// What the file says.
        found: String,
        /// What this version reads.
        expected: &'static str,
    },
    /// A model of the plan has other content than the plan says.
    #[error("read {}: its content has changed since the plan was made: make the plan again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A line that is none of a shard.
    #[error("read {}, line {line}: {source}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The cause.
        source: serde_json::Error,
    },
    /// The measurement failed.
    #[error(transparent)]
    NotMeasured(#[from] NotMeasured),
}

/// Why shards do not make a profile.
#[derive(Debug, Error, PartialEq)]
pub enum MergeError {
    /// A line of another plan.
    #[error(
        "merge: subnet {index} was measured for another plan ({found}): leave that file out, or measure it for this one"
    )]
    OtherPlan {
        /// The line's subnet.
        index: usize,
        /// The line's plan.
        found: String,
    },
    /// Subnets that nobody has measured.
    #[error("merge: {} of {of} subnets are not measured yet (the first is {}): run the shards that are missing", missing.len(), missing[0])]
    Missing {
        /// Their places in the plan.
        missing: Vec<usize>,
        /// The plan's subnets.
        of: usize,
    },
    /// No latency model can be fitted.
    #[error("fit a latency model: {0}")]
    Fit(#[from] FitError),
}

impl FromStr for Shard {
    type Err = ParseShardError;

    fn from_str(text: &str) -> Result<Self, ParseShardError> {
        let wrong = || ParseShardError { found: text.to_owned() };
        let (number, count) = text.split_once('/').ok_or_else(wrong)?;
        let number: usize = number.parse().map_err(|_| wrong())?;
        let count: usize = count.parse().map_err(|_| wrong())?;
        if (1..=count).contains(&number) { Ok(Self { number, count }) } else { Err(wrong()) }
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.number, self.count)
    }
}

impl Shard {
    /// The file's name for its lines: `2-of-5.jsonl`.
    pub fn file_name(&self) -> String {
        format!("{}-of-{}.jsonl", self.number, self.count)
    }

    /// The subnets that it measures, of so many: the reference, and every `count`-th of the others.
    pub fn indices(&self, subnets: usize) -> Vec<usize> {
        let own = (1..subnets).filter(|index| (index - 1) % self.count == self.number - 1);
        (0..subnets.min(1)).chain(own).collect()
    }
}

impl Plan {
    /// Writes a plan and its models into a folder.
    ///
    /// # Errors
    ///
    /// [`FarmError::Write`] with the path.
    pub fn make(
        folder: &Path,
        (name, platform): (&str, &Platform),
        (checkpoint, space): (&str, &SearchSpace),
        candidates: &[Candidate],
        seed: Seed,
    ) -> Result<Self, FarmError> {
        let mut subnets = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            let model = file::sha256(&candidate.model);
            file::write(&model_path(folder, &model), &candidate.model)?;
            subnets.push(PlannedSubnet { subnet: candidate.subnet.clone(), model });
        }
        let plan = Self {
            schema: PLAN_SCHEMA.to_owned(),
            name: name.to_owned(),
            platform: platform.clone(),
            checkpoint: checkpoint.to_owned(),
            space: space.clone(),
            seed: seed.0,
            subnets,
        };
        file::write_json(&folder.join("plan.json"), &plan)?;
        Ok(plan)
    }

    /// Reads the plan of a folder.
    ///
    /// # Errors
    ///
    /// [`FarmError`] with the path.
    pub fn read(folder: &Path) -> Result<Self, FarmError> {
        let path = folder.join("plan.json");
        let plan: Self = file::read_json(&path)?;
        if plan.schema == PLAN_SCHEMA {
            Ok(plan)
        } else {
            Err(FarmError::Schema { path, found: plan.schema, expected: PLAN_SCHEMA })
        }
    }

    /// The SHA-256 of everything in the plan.
    pub fn id(&self) -> String {
        file::sha256(&serde_json::to_vec(self).expect("a plan is plain data"))
    }

    /// Measures one shard. `program` is that of [`Task::program`]; `progress` hears how many of how many visits are done.
    ///
    /// # Errors
    ///
    /// [`FarmError`]: a model that is missing or has changed, or a measurement that failed.
    pub fn measure(
        &self,
        folder: &Path,
        shard: Shard,
        program: Option<&Path>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Vec<Record>, FarmError> {
        let indices = shard.indices(self.subnets.len());
        let mut models = Vec::with_capacity(indices.len());
        for &index in &indices {
            let path = model_path(folder, &self.subnets[index].model);
            let model = file::read(&path)?;
            if file::sha256(&model) != self.subnets[index].model {
                return Err(FarmError::Changed { path });
            }
            models.push(model);
        }
        let models: Vec<&[u8]> = models.iter().map(Vec::as_slice).collect();
        let ends = [self.space.largest(), self.space.smallest()];
        let nodes_of: Vec<usize> =
            (0..indices.len()).filter(|&place| ends.contains(&self.subnets[indices[place]].subnet)).collect();
        let shapes = Shapes::new();
        let seed = Seed(self.seed);
        let task = Task { models: &models, shapes: &shapes, seed, nodes_of: &nodes_of, program };
        let measured = measure_on(&self.platform, &task, progress)?;
        let memory = memory_of_each(&self.platform, &task, progress)?;
        let mut nodes: BTreeMap<usize, Vec<NodeTime>> = nodes_of.into_iter().zip(measured.nodes).collect();
        let plan = self.id();
        let measurements = measured.startups.into_iter().zip(measured.measurements).enumerate();
        let record = |(place, (startup, latency)): (usize, (crate::local::Startup, Measurement))| Record {
            schema: SHARD_SCHEMA.to_owned(),
            plan: plan.clone(),
            index: indices[place],
            environment: measured.environment.clone(),
            course: measured.course.clone(),
            load_us: microseconds(startup.load),
            first_run_us: microseconds(startup.first_run),
            latency,
            memory_bytes: memory[place],
            nodes: nodes.remove(&place).unwrap_or_default(),
        };
        Ok(measurements.map(record).collect())
    }

    /// The profile that the lines of all shards come to.
    ///
    /// A subnet's p50 is its ratio to the reference of its shard, times the median of the shards' references: so boards of
    /// one kind that differ a little make one profile.
    ///
    /// # Errors
    ///
    /// [`MergeError`]: lines of another plan, or subnets that are missing.
    pub fn merge(&self, records: &[Record]) -> Result<ProfileFile, MergeError> {
        let id = self.id();
        if let Some(other) = records.iter().find(|record| record.plan != id) {
            return Err(MergeError::OtherPlan { index: other.index, found: other.plan.clone() });
        }
        let records = merged(records);
        let of_reference = || records.iter().filter(|record| record.index == 0);
        let mut best: BTreeMap<usize, &Record> = BTreeMap::new();
        for record in &records {
            let taken = best.entry(record.index).or_insert(record);
            if doubt(record) < doubt(taken) {
                *taken = record;
            }
        }
        let missing: Vec<usize> = (0..self.subnets.len()).filter(|index| !best.contains_key(index)).collect();
        if !missing.is_empty() {
            return Err(MergeError::Missing { missing, of: self.subnets.len() });
        }
        let reference_us = median(of_reference().map(|record| record.latency.raw_p50_us));
        let of_plan = self.subnets.iter().zip(best.values());
        let measurements: Vec<MeasuredSubnet> = of_plan
            .clone()
            .map(|(planned, record)| MeasuredSubnet {
                subnet: planned.subnet.clone(),
                load_us: record.load_us,
                first_run_us: record.first_run_us,
                latency: record.latency.clone().beside(reference_us),
                memory_bytes: record.memory_bytes,
            })
            .collect();
        let nodes = of_plan
            .filter(|(_, record)| !record.nodes.is_empty())
            .map(|(planned, record)| SubnetNodes {
                subnet: planned.subnet.clone(),
                nodes: record.nodes.clone(),
            })
            .collect();
        let reference = best[&0];
        let Models { latency_model, memory_model, energy_model } =
            Models::fit(&self.space, &measurements, None, Seed(self.seed))?;
        Ok(ProfileFile {
            schema: profile::SCHEMA.to_owned(),
            name: self.name.clone(),
            platform: self.platform.clone(),
            environment: reference.environment.clone(),
            checkpoint: self.checkpoint.clone(),
            space: self.space.clone(),
            seed: self.seed,
            reference: self.subnets[0].subnet.clone(),
            drift_percent: of_reference().map(|record| drift_percent(&record.latency)).fold(0.0, f64::max),
            course: together(of_reference()),
            measurements,
            nodes,
            latency_model,
            memory_model,
            energy_model,
        })
    }
}

/// Lines in the order of their subnets, each once.
pub fn merged(records: &[Record]) -> Vec<Record> {
    let mut by_text: BTreeMap<(usize, String), &Record> = BTreeMap::new();
    for record in records {
        by_text.insert((record.index, line(record)), record);
    }
    by_text.into_values().cloned().collect()
}

/// Reads a file of lines.
///
/// # Errors
///
/// [`FarmError`] with the path and the line.
pub fn read_records(path: &Path) -> Result<Vec<Record>, FarmError> {
    let text = String::from_utf8_lossy(&file::read(path)?).into_owned();
    let mut records = Vec::new();
    for (index, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        let fail = |source| FarmError::Line { path: path.to_owned(), line: index + 1, source };
        let record: Record = serde_json::from_str(text).map_err(fail)?;
        if record.schema != SHARD_SCHEMA {
            let (path, found) = (path.to_owned(), record.schema);
            return Err(FarmError::Schema { path, found, expected: SHARD_SCHEMA });
        }
        records.push(record);
    }
    Ok(records)
}

/// Writes lines; a reader never sees half of them.
///
/// # Errors
///
/// [`FarmError::Write`] with the path.
pub fn write_records(path: &Path, records: &[Record]) -> Result<(), FarmError> {
    let lines: String = records.iter().map(|record| line(record) + "\n").collect();
    Ok(file::write(path, lines.as_bytes())?)
}

fn line(record: &Record) -> String {
    serde_json::to_string(record).expect("a record is plain data")
}

fn model_path(folder: &Path, sha256: &str) -> PathBuf {
    folder.join("models").join(format!("{sha256}.onnx"))
}

/// How unsure a measurement is: least for the one that is taken. Equal ones are told apart by their text, so that the order of
/// the lines decides nothing.
fn doubt(record: &Record) -> (bool, u64, String) {
    let latency = &record.latency;
    let width =
        latency.ratio_interval.map_or(f64::INFINITY, |[low, high]| (high - low) / latency.ratio_to_reference);
    // A width is never negative, and such floats are in the order of their bits.
    (latency.unsteady, width.to_bits(), line(record))
}

/// How the shards went, all together: the reference is in each of them.
fn together<'a>(references: impl Iterator<Item = &'a Record>) -> Course {
    let mut seen = BTreeSet::new();
    let mut all = Course::default();
    for record in references {
        if !seen.insert((record.environment.time.clone(), format!("{:?}", record.course))) {
            continue;
        }
        all.add(&record.course);
    }
    all
}
