//! The profile file: what was measured on one platform, and the latency model fitted to it.

use std::path::{Path, PathBuf};

use elastic_runtime::OpenError;
use elastic_space::file::{self, ReadError, WriteError};
use elastic_space::platform::{Platform, Runtime};
use elastic_space::{Array, SearchSpace, Seed, Subnet};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::environment::Environment;
use crate::identity::{IdentityMismatch, check_identity};
use crate::local::{LocalDevice, OpenDeviceError, Startup, random_inputs};
use crate::measure::{Candidate, MeasureError, Measurement, drift_percent, measure, microseconds};
use crate::model::{FitError, LatencyModel};

/// The only value of `schema` in a profile.
pub const SCHEMA: &str = "elastic.profile/v1";

/// What `elastic profile` writes for one platform. Times are in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// The measured subnets.
    pub measurements: Vec<MeasuredSubnet>,
    /// The model that was fitted to them.
    pub latency_model: LatencyModel,
}

/// One measured subnet of a profile. Times are in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
}

/// What a profile is made of.
#[derive(Debug, Clone, Copy)]
pub struct ProfileRequest<'a> {
    /// The platform's name.
    pub name: &'a str,
    /// The device that must be this machine.
    pub platform: &'a Platform,
    /// The SHA-256 of the supernet's checkpoint.
    pub checkpoint: &'a str,
    /// The search space; the names of the candidates' features are its own.
    pub space: &'a SearchSpace,
    /// The subnets; the first is the reference.
    pub candidates: &'a [Candidate],
    /// The seed of inputs, order and folds.
    pub seed: Seed,
}

/// Models that were measured on this machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The circumstances.
    pub environment: Environment,
    /// What each model needed before its steady state.
    pub startups: Vec<Startup>,
    /// The latency of each model; the first is the reference.
    pub measurements: Vec<Measurement>,
}

/// Why models were not measured.
#[derive(Debug, Error)]
pub enum NotMeasured {
    /// This machine is another device.
    #[error(transparent)]
    Identity(#[from] IdentityMismatch),
    /// The runtime or its execution provider is missing.
    #[error(transparent)]
    Runtime(OpenError),
    /// A model cannot be loaded.
    #[error(transparent)]
    Open(#[from] OpenDeviceError),
    /// A run failed.
    #[error(transparent)]
    Measure(#[from] MeasureError),
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
    /// Another file format.
    #[error("read {}: schema is `{found}`, this version reads `{SCHEMA}`; run: elastic profile", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// What the file says.
        found: String,
    },
}

impl NotMeasured {
    /// Whether the described device is not here: another machine, or a runtime or provider that is
    /// missing. Nothing was measured then.
    pub fn is_device_missing(&self) -> bool {
        matches!(self, Self::Identity(_) | Self::Runtime(_))
    }
}

impl ProfileFile {
    /// Reads a profile.
    ///
    /// # Errors
    ///
    /// [`ReadProfileError`] with the path.
    pub fn read(path: &Path) -> Result<Self, ReadProfileError> {
        let profile: Self = file::read_json(path)?;
        if profile.schema == SCHEMA {
            Ok(profile)
        } else {
            Err(ReadProfileError::Schema { path: path.to_owned(), found: profile.schema })
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

/// Measures models on this machine; the first is the reference. `progress` hears how many of how many
/// visits are done.
///
/// # Errors
///
/// [`NotMeasured`]; if this machine is not the device that `platform` describes, nothing was run.
pub fn measure_here(
    platform: &Platform,
    models: &[&[u8]],
    inputs: Vec<Array>,
    seed: Seed,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Measured, NotMeasured> {
    check_identity(platform)?;
    elastic_runtime::check(&platform.runtime).map_err(NotMeasured::Runtime)?;
    let version = elastic_runtime::runtime_version(&platform.runtime).map_err(NotMeasured::Runtime)?;
    let library = match platform.runtime {
        Runtime::OnnxRuntime(_) => elastic_runtime::library::find().ok().map(|library| library.path),
        Runtime::Tract(_) => None,
    };
    let mut environment = Environment::capture(platform, version, library);
    let mut device = LocalDevice::open(platform, models, inputs)?;
    let measurements = measure(&mut device, models.len(), &platform.measure, seed, progress)?;
    environment.finish();
    Ok(Measured { environment, startups: device.startups().to_vec(), measurements })
}

/// Measures every candidate on this machine and fits the latency model. `progress` hears how many of
/// how many visits are done.
///
/// # Errors
///
/// [`ProfileError`]; if this machine is not the device that the platform describes, nothing was run.
pub fn profile(
    request: &ProfileRequest<'_>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<ProfileFile, ProfileError> {
    let models: Vec<&[u8]> = request.candidates.iter().map(|candidate| &candidate.model[..]).collect();
    let inputs = random_inputs(request.platform.batch, request.space.input(), request.seed);
    let measured = measure_here(request.platform, &models, inputs, request.seed, progress)?;
    assemble(request, measured)
}

fn assemble(request: &ProfileRequest<'_>, measured: Measured) -> Result<ProfileFile, ProfileError> {
    let (Some(reference), Some(first)) = (request.candidates.first(), measured.measurements.first()) else {
        return Err(ProfileError::NoCandidates);
    };
    let features: Vec<Vec<f64>> = request.candidates.iter().map(|c| c.features.clone()).collect();
    let latencies_us: Vec<f64> = measured.measurements.iter().map(|m| m.p50_us).collect();
    let latency_model =
        LatencyModel::fit(&request.space.feature_names(), &features, &latencies_us, request.seed)?;
    let drift_percent = drift_percent(first);
    let measurements = request
        .candidates
        .iter()
        .zip(measured.startups)
        .zip(measured.measurements)
        .map(|((candidate, startup), latency)| MeasuredSubnet {
            subnet: candidate.subnet.clone(),
            load_us: microseconds(startup.load),
            first_run_us: microseconds(startup.first_run),
            latency,
        })
        .collect();
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
        measurements,
        latency_model,
    })
}
