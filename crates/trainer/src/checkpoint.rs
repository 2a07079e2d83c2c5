//! Supernets and training states as safetensors files.
//!
//! Both hold the parameters under their field names. A training state also holds the optimizer's
//! state, so that a run goes on from it bit for bit; equal states are equal files.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;
use elastic_space::file::{self, ReadError, WriteError};
use elastic_space::search_space::InvalidSpace;
use elastic_space::{Array, Dimension, SearchSpace, Weights};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::Model;
use crate::optimizer::{AdamW, StateError, adamw};
use crate::parameters::{self, FitError};
use crate::supernet::{Network, Supernet};

const SUPERNET_SCHEMA: &str = "elastic.supernet/v1";
const STATE_SCHEMA: &str = "elastic.training-state/v1";
/// The one metadata entry; one, because the format writes several in random order.
pub(crate) const METADATA_KEY: &str = "elastic";
const OPTIMIZER_TENSOR: &str = "optimizer";
/// Before the names of the averaged weights.
const AVERAGE_PREFIX: &str = "average.";

/// Why a checkpoint could not be written.
#[derive(Debug, Error)]
pub enum SaveError {
    /// The file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The tensors could not be encoded.
    #[error("encode tensors: {0}")]
    Encode(#[from] SafeTensorError),
}

/// Why a checkpoint could not be read.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is no safetensors file, or it is cut short.
    #[error("read {}: {source}; the file is damaged or cut short: train again, or copy it anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: SafeTensorError,
    },
    /// Another program's file, or another version's.
    #[error("read {}: it is not an `{expected}` file; `elastic train` writes one", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The schema that was looked for.
        expected: &'static str,
    },
    /// Its search space breaks a rule.
    #[error("read {}: {source}; the file is damaged or from another version: train again", path.display())]
    Space {
        /// The file.
        path: PathBuf,
        /// The rule.
        source: InvalidSpace,
    },
    /// Its tensors do not fit.
    #[error("read {}: {source}", path.display())]
    Fit {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: FitError,
    },
    /// The optimizer's state cannot be decoded.
    #[error("read {}: the optimizer's state is damaged: {source}; begin the run anew with another --out", path.display())]
    Optimizer {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: StateError,
    },
}

#[derive(Serialize, Deserialize)]
struct SupernetHeader {
    schema: String,
    training: Trained,
    space: SearchSpace,
}

#[derive(Serialize, Deserialize)]
struct StateHeader {
    schema: String,
    progress: Progress,
    model: Model,
}

/// What a supernet has been through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// The last stage that is done, for instance `2-depth`.
    pub stage: String,
    /// Steps done, over all stages.
    pub step: u64,
    /// The dimensions in which subnets were trained; in others only the largest choice is fit for use.
    pub open: BTreeSet<Dimension>,
}

/// How far a run is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done, over all stages.
    pub step: u64,
    /// The stage that is being trained, counted from 0.
    pub stage: usize,
    /// Steps done in it.
    pub stage_step: u64,
    /// Steps since the last line of the log.
    pub window_steps: u64,
    /// The sum of their mean losses.
    pub window_loss: f64,
    /// The best accuracy of the largest subnet in it, where patience watches.
    pub best: Option<f64>,
    /// Evaluations since then.
    pub stale: u64,
    /// Whether its smallest subnet has been above chance.
    pub healthy: bool,
}

/// A trained supernet as it was read.
pub struct LoadedSupernet {
    /// The supernet, for inference.
    pub supernet: Supernet,
    /// What it has been through.
    pub training: Trained,
    /// SHA-256 of the file.
    pub sha256: String,
}

/// What a run needs to go on.
pub struct TrainingState {
    /// How far the run is.
    pub progress: Progress,
    /// The configuration that the run began with.
    pub model: Model,
    /// The supernet, for training.
    pub supernet: Supernet,
    /// The averaged weights, where the recipe has them.
    pub average: Option<Network>,
    /// The optimizer with its moments.
    pub optimizer: AdamW,
}

/// Writes a supernet for inference.
///
/// # Errors
///
/// [`SaveError`] with the path; what stood there before is unharmed.
pub fn save_supernet(
    path: &Path,
    space: &SearchSpace,
    network: &Network,
    training: &Trained,
) -> Result<(), SaveError> {
    let header = SupernetHeader {
        schema: SUPERNET_SCHEMA.to_owned(),
        training: training.clone(),
        space: space.clone(),
    };
    save(path, &parameters::collect(network), None, &json(&header))
}

/// Reads what a supernet's file has been through, without its weights.
///
/// # Errors
///
/// [`LoadError`] with the path and what is wrong with the file.
pub fn load_trained(path: &Path) -> Result<Trained, LoadError> {
    let bytes = file::read(path)?;
    parse(path, &bytes)?;
    let header: SupernetHeader = header(path, &bytes, SUPERNET_SCHEMA)?;
    Ok(header.training)
}

/// Reads a supernet for inference.
///
/// # Errors
///
/// [`LoadError`] with the path and what is wrong with the file.
pub fn load_supernet(path: &Path) -> Result<LoadedSupernet, LoadError> {
    let bytes = file::read(path)?;
    let tensors = parse(path, &bytes)?;
    let header: SupernetHeader = header(path, &bytes, SUPERNET_SCHEMA)?;
    check(path, &header.space)?;
    let supernet = Supernet::from_weights(header.space, &weights(&tensors))
        .map_err(|source| LoadError::Fit { path: path.to_owned(), source })?;
    Ok(LoadedSupernet { supernet, training: header.training, sha256: file::sha256(&bytes) })
}

/// Writes all that a run needs to go on.
///
/// # Errors
///
/// [`SaveError`] with the path; what stood there before is unharmed.
pub fn save_state(path: &Path, state: &TrainingState) -> Result<(), SaveError> {
    let moments = state.optimizer.into_bytes()?;
    let header = StateHeader {
        schema: STATE_SCHEMA.to_owned(),
        progress: state.progress.clone(),
        model: state.model.clone(),
    };
    let mut weights = parameters::collect(&state.supernet.network);
    if let Some(average) = &state.average {
        let named = |(name, array)| (format!("{AVERAGE_PREFIX}{name}"), array);
        weights.extend(parameters::collect(average).into_iter().map(named));
    }
    save(path, &weights, Some(&moments), &json(&header))
}

/// Reads all that a run needs to go on.
///
/// # Errors
///
/// [`LoadError`] with the path and what is wrong with the file.
pub fn load_state(path: &Path, device: &Device) -> Result<TrainingState, LoadError> {
    let bytes = file::read(path)?;
    let tensors = parse(path, &bytes)?;
    let StateHeader { progress, model, .. } = header(path, &bytes, STATE_SCHEMA)?;
    check(path, &model.space)?;
    let fit = |source| LoadError::Fit { path: path.to_owned(), source };
    let (averaged, weights): (Weights, Weights) =
        weights(&tensors).into_iter().partition(|(name, _)| name.starts_with(AVERAGE_PREFIX));
    let fresh = Supernet::new(model.space.clone(), model.seed(), device);
    let network = parameters::replace(fresh.network, &weights).map_err(fit)?;
    let supernet = Supernet { network, ..fresh };
    let average = match model.training.ema {
        None => None,
        Some(_) => {
            let named = |(name, array): (String, Array)| (name[AVERAGE_PREFIX.len()..].to_owned(), array);
            let averaged = averaged.into_iter().map(named).collect();
            Some(parameters::replace(supernet.network.valid(), &averaged).map_err(fit)?)
        }
    };
    let damaged = |source: StateError| LoadError::Optimizer { path: path.to_owned(), source };
    let moments = tensors.tensor(OPTIMIZER_TENSOR).map_err(|error| damaged(error.into()))?;
    let optimizer = adamw(&model.training.optimizer, &supernet.network);
    let optimizer = optimizer.from_bytes(moments.data()).map_err(damaged)?;
    Ok(TrainingState { progress, model, supernet, average, optimizer })
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("a header holds only plain data")
}

fn save(path: &Path, weights: &Weights, optimizer: Option<&[u8]>, header: &str) -> Result<(), SaveError> {
    let bytes: Vec<(&String, &Array, Vec<u8>)> = weights
        .iter()
        .map(|(name, array)| (name, array, array.data.iter().flat_map(|value| value.to_le_bytes()).collect()))
        .collect();
    let mut views = bytes
        .iter()
        .map(|(name, array, bytes)| {
            Ok((name.as_str(), TensorView::new(Dtype::F32, array.shape.clone(), bytes)?))
        })
        .collect::<Result<Vec<_>, SafeTensorError>>()?;
    if let Some(optimizer) = optimizer {
        views.push((OPTIMIZER_TENSOR, TensorView::new(Dtype::U8, vec![optimizer.len()], optimizer)?));
    }
    let metadata = HashMap::from([(METADATA_KEY.to_owned(), header.to_owned())]);
    Ok(file::write(path, &safetensors::serialize(views, Some(metadata))?)?)
}

fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>, LoadError> {
    SafeTensors::deserialize(bytes).map_err(|source| LoadError::Damaged { path: path.to_owned(), source })
}

fn header<T: serde::de::DeserializeOwned>(
    path: &Path,
    bytes: &[u8],
    schema: &'static str,
) -> Result<T, LoadError> {
    let foreign = || LoadError::Foreign { path: path.to_owned(), expected: schema };
    let (_, metadata) = SafeTensors::read_metadata(bytes)
        .map_err(|source| LoadError::Damaged { path: path.to_owned(), source })?;
    let text =
        metadata.metadata().as_ref().and_then(|entries| entries.get(METADATA_KEY)).ok_or_else(foreign)?;
    let value: serde_json::Value = serde_json::from_str(text).map_err(|_: serde_json::Error| foreign())?;
    if value["schema"] != schema {
        return Err(foreign());
    }
    serde_json::from_value(value)
        .map_err(|source| LoadError::Read(ReadError::Json { path: path.to_owned(), source }))
}

/// A supernet can only be made of a search space that holds to its rules.
fn check(path: &Path, space: &SearchSpace) -> Result<(), LoadError> {
    space.validate().map_err(|source| LoadError::Space { path: path.to_owned(), source })
}

fn weights(tensors: &SafeTensors<'_>) -> Weights {
    tensors
        .iter()
        .filter(|(name, view)| *name != OPTIMIZER_TENSOR && view.dtype() == Dtype::F32)
        .map(|(name, view)| {
            let data = parameters::floats(view.data());
            (name.to_owned(), Array { shape: view.shape().to_vec(), data })
        })
        .collect()
}
