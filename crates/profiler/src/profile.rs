//! The profile file: what was measured on one platform, and the models fitted to it.

use std::path::{Path, PathBuf};

use elastic_runtime::NodeTime;
use elastic_space::budget::Quantity;
use elastic_space::file::{self, ReadError, WriteError};
use elastic_space::{Platform, SearchSpace, Seed, Subnet};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::device::{Measured, NotMeasured, Task, measure_on, memory_of_each};
use crate::environment::Environment;
use crate::inputs::Shapes;
use crate::local::Startup;
use crate::measure::{Candidate, microseconds};
use crate::model::{Base, CostModel, FitError};
use crate::summary::{Course, Measurement, drift_percent};

/// The only value of `schema` in a profile.
pub const SCHEMA: &str = "elastic.profile/v1";

/// What `elastic profile` writes for one platform. Times are in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileFile {
    /// The file format: `elastic.profile/v1`.
    pub schema: String,
    /// The platform's name: the stem of its file.
    pub name: String,
    /// The platform, with every default written out.
    pub platform: Platform,
    /// The circumstances.
    pub environment: Environment,
    /// The SHA-256 of the supernet's checkpoint.
    pub checkpoint: String,
    /// The search space of the supernet.
    pub space: SearchSpace,
    /// The seed of inputs, order and folds.
    pub seed: u64,
    /// The subnet that every ratio is relative to; it is the first of `measurements`.
    pub reference: Subnet,
    /// How far the machine's speed wandered, by [`drift_percent`].
    pub drift_percent: f64,
    /// How the measurement went.
    pub course: Course,
    /// The measured subnets.
    pub measurements: Vec<MeasuredSubnet>,
    /// The nodes of the largest and of the smallest subnet, where the runtime times them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<SubnetNodes>,
    /// The model of their latency.
    pub latency_model: CostModel,
    /// The model of their memory, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_model: Option<CostModel>,
    /// The model of the energy of their runs, where the device has a meter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_model: Option<CostModel>,
}

/// One measured subnet of a profile. Times are in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeasuredSubnet {
    /// The subnet.
    pub subnet: Subnet,
    /// Reading and optimising the model, once.
    pub load_us: f64,
    /// The first run, which may be slower than the rest.
    pub first_run_us: f64,
    /// Its steady latency.
    pub latency: Measurement,
    /// The most memory that a process held which loaded and ran this subnet alone, in bytes, where the platform asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

/// The nodes of one subnet, timed one by one in runs of their own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubnetNodes {
    /// The subnet.
    pub subnet: Subnet,
    /// Its nodes, in the order in which they run.
    pub nodes: Vec<NodeTime>,
}

/// What a profile is made of.
#[derive(Debug, Clone, Copy)]
pub struct ProfileRequest<'a> {
    /// The platform's name.
    pub name: &'a str,
    /// The device.
    pub platform: &'a Platform,
    /// The SHA-256 of the supernet's checkpoint.
    pub checkpoint: &'a str,
    /// The search space of the candidates.
    pub space: &'a SearchSpace,
    /// The subnets; the first is the reference.
    pub candidates: &'a [Candidate],
    /// The seed of inputs, order and folds.
    pub seed: Seed,
    /// As in [`Task::program`].
    pub program: Option<&'a Path>,
    /// The latency model of a similar platform to begin with.
    pub base: Option<Base<'a>>,
}

/// Why there is no profile.
#[derive(Debug, Error)]
pub enum ProfileError {
    /// There is nothing to measure.
    #[error("measure subnets: there are none; ask for at least 2")]
    NoCandidates,
    /// The measurement failed.
    #[error(transparent)]
    NotMeasured(#[from] NotMeasured),
    /// No latency model can be fitted.
    #[error("fit a latency model: {0}")]
    Fit(#[from] FitError),
}

/// Why a profile cannot be read.
#[derive(Debug, Error)]
pub enum ReadProfileError {
    /// The file is missing, or its content does not fit.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// No model can be fitted anew to what it has measured.
    #[error("read {}: {source}; run: elastic profile", path.display())]
    Fit {
        /// The file.
        path: PathBuf,
        /// Why.
        source: FitError,
    },
    /// Another file format.
    #[error("read {}: schema is `{found}`, this version reads `{SCHEMA}`; run: elastic profile", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// What the file says.
        found: String,
    },
}

impl ProfileFile {
    /// Reads a profile. Models of an older version, which saw other features, are fitted anew to its measurements.
    ///
    /// # Errors
    ///
    /// [`ReadProfileError`] with the path.
    pub fn read(path: &Path) -> Result<Self, ReadProfileError> {
        let profile: Self = file::read_json(path)?;
        if profile.schema != SCHEMA {
            return Err(ReadProfileError::Schema { path: path.to_owned(), found: profile.schema });
        }
        if profile.latency_model.feature_names == profile.space.cost_features().names() {
            return Ok(profile);
        }
        let seed = Seed(profile.seed);
        profile.fitted(None, seed).map_err(|source| ReadProfileError::Fit { path: path.to_owned(), source })
    }

    /// Microseconds of one run of a subnet, as the latency model predicts it.
    pub fn predicted_us(&self, subnet: &Subnet) -> f64 {
        self.latency_model.predict(&self.space.cost_features().of(subnet))
    }

    /// With models fitted anew to its measurements; the base is that of the latency.
    pub(crate) fn fitted(self, base: Option<Base<'_>>, seed: Seed) -> Result<Self, FitError> {
        let Models { latency_model, memory_model, energy_model } =
            Models::fit(&self.space, &self.measurements, base, seed)?;
        Ok(Self { latency_model, memory_model, energy_model, ..self })
    }

    /// The model of a quantity that is measured; `None` where it was not, and of other quantities.
    pub fn model(&self, quantity: Quantity) -> Option<&CostModel> {
        match quantity {
            Quantity::Latency => Some(&self.latency_model),
            Quantity::Memory => self.memory_model.as_ref(),
            Quantity::Energy => self.energy_model.as_ref(),
            Quantity::Flops | Quantity::Macs | Quantity::Params | Quantity::FileSize => None,
        }
    }

    /// Writes the profile; a reader never sees half of it.
    ///
    /// # Errors
    ///
    /// [`WriteError`] with the path.
    pub fn write(&self, path: &Path) -> Result<(), WriteError> {
        file::write_json(path, self)
    }
}

/// Measures every candidate on the platform's device and fits the latency model. `progress` hears how many of
/// how many visits are done.
///
/// # Errors
///
/// [`ProfileError`]; if the device is not the one that the platform describes, nothing was run.
pub fn profile(
    request: &ProfileRequest<'_>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<ProfileFile, ProfileError> {
    let models: Vec<&[u8]> = request.candidates.iter().map(|candidate| &candidate.model[..]).collect();
    let (largest, smallest) = (request.space.largest(), request.space.smallest());
    let is_end = |&index: &usize| [&largest, &smallest].contains(&&request.candidates[index].subnet);
    let ends: Vec<usize> = (0..models.len()).filter(is_end).collect();
    let (shapes, seed, program) = (&Shapes::new(), request.seed, request.program);
    let task = Task { models: &models, shapes, seed, nodes_of: &ends, program };
    let measured = measure_on(request.platform, &task, progress)?;
    let memory = memory_of_each(request.platform, &task, progress)?;
    assemble(request, measured, memory, &ends)
}

/// What was measured of each candidate.
pub(crate) fn measured_subnets(
    candidates: &[Candidate],
    startups: Vec<Startup>,
    latencies: Vec<Measurement>,
    memory: Vec<Option<u64>>,
) -> impl Iterator<Item = MeasuredSubnet> {
    let measured = candidates.iter().zip(startups).zip(latencies).zip(memory);
    measured.map(|(((candidate, startup), latency), memory_bytes)| MeasuredSubnet {
        subnet: candidate.subnet.clone(),
        load_us: microseconds(startup.load),
        first_run_us: microseconds(startup.first_run),
        latency,
        memory_bytes,
    })
}

/// The models of a profile.
pub(crate) struct Models {
    pub(crate) latency_model: CostModel,
    pub(crate) memory_model: Option<CostModel>,
    pub(crate) energy_model: Option<CostModel>,
}

impl Models {
    /// Fitted to measured subnets of a space; the base is that of the latency.
    pub(crate) fn fit(
        space: &SearchSpace,
        measurements: &[MeasuredSubnet],
        base: Option<Base<'_>>,
        seed: Seed,
    ) -> Result<Self, FitError> {
        let seen = space.cost_features();
        let names = seen.names();
        let fit = |base, cost: &dyn Fn(&MeasuredSubnet) -> Option<f64>| {
            let measured = measurements.iter().filter_map(|measured| Some((measured, cost(measured)?)));
            let (features, costs): (Vec<Vec<f64>>, Vec<f64>) =
                measured.map(|(measured, cost)| (seen.of(&measured.subnet), cost)).unzip();
            CostModel::fit_from(base, &names, &features, &costs, seed)
        };
        let optional = |cost: &dyn Fn(&MeasuredSubnet) -> Option<f64>| match fit(None, cost) {
            Ok(model) => Ok(Some(model)),
            Err(FitError::TooFew { .. }) => Ok(None),
            Err(error) => Err(error),
        };
        Ok(Self {
            latency_model: fit(base, &|measured| Some(measured.latency.p50_us))?,
            memory_model: optional(&|measured| measured.memory_bytes.map(|bytes| bytes as f64))?,
            // A meter that did not count up says nothing.
            energy_model: optional(&|measured| measured.latency.energy_uj.filter(|energy| *energy > 0.0))?,
        })
    }
}

fn assemble(
    request: &ProfileRequest<'_>,
    measured: Measured,
    memory: Vec<Option<u64>>,
    ends: &[usize],
) -> Result<ProfileFile, ProfileError> {
    let (Some(reference), Some(first)) = (request.candidates.first(), measured.measurements.first()) else {
        return Err(ProfileError::NoCandidates);
    };
    let drift_percent = drift_percent(first);
    let measurements: Vec<MeasuredSubnet> =
        measured_subnets(request.candidates, measured.startups, measured.measurements, memory).collect();
    let Models { latency_model, memory_model, energy_model } =
        Models::fit(request.space, &measurements, request.base, request.seed)?;
    let nodes = ends
        .iter()
        .zip(measured.nodes)
        .map(|(&index, nodes)| SubnetNodes { subnet: request.candidates[index].subnet.clone(), nodes });
    let nodes = nodes.filter(|timed| !timed.nodes.is_empty()).collect();
    Ok(ProfileFile {
        schema: SCHEMA.to_owned(),
        name: request.name.to_owned(),
        platform: request.platform.clone(),
        environment: measured.environment,
        checkpoint: request.checkpoint.to_owned(),
        space: request.space.clone(),
        seed: request.seed.0,
        reference: reference.subnet.clone(),
        drift_percent,
        course: measured.course,
        measurements,
        nodes,
        latency_model,
        memory_model,
        energy_model,
    })
}
