//! A run: the stages of its scheme, one after the other, into one folder.

mod error;
mod trainer;
mod window;

use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use elastic_data::{Examples, Loader, Splits};
use elastic_space::file;

use crate::checkpoint::{self, Progress, TrainingState};
use crate::config::{Distillation, Model, Teacher};
use crate::init::{self, Init};
use crate::metrics::Record;
use crate::optimizer::adamw;
use crate::parameters;
use crate::plan::{PlannedStage, plan};
use crate::run_folder::RunFolder;
use crate::sort;
use crate::supernet::Supernet;
use crate::teacher::{LoadedTeacher, OnnxTeacher, SupernetTeacher};
use trainer::{Teachers, Trainer};

pub use error::TrainError;

/// Whether a run begins or goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// From random weights or those of `init`, in a folder without a run.
    Fresh,
    /// From the folder's checkpoint.
    Resume,
}

/// Where a run is done.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    /// What it leaves behind.
    pub folder: &'a RunFolder,
    /// What trains.
    pub device: Device,
}

/// What happened in a run.
#[derive(Debug)]
pub enum Event<'a> {
    /// A stage begins or goes on.
    Stage(&'a PlannedStage),
    /// A step is done.
    Step {
        /// Steps done so far, over all stages.
        step: u64,
        /// Mean loss of its subnets.
        loss: f64,
    },
    /// A line of the log.
    Logged(&'a Record),
    /// A checkpoint is on disk.
    Saved {
        /// Steps done so far, over all stages.
        step: u64,
    },
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All stages are done.
    Finished,
    /// It was asked to stop; a checkpoint is on disk.
    Stopped {
        /// Steps done, over all stages.
        step: u64,
    },
}

/// Trains a supernet on a device into a folder.
///
/// All randomness is a function of the seed and the step, so a run that was killed and resumed ends
/// with the same bits as one that was not, on the CPU. `stop` is looked at after each step.
///
/// # Errors
///
/// [`TrainError`]; the last checkpoint and the stages that are done stay as they are.
pub fn train(
    model: &Model,
    data: Splits,
    place: Place<'_>,
    start: Start,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome, TrainError> {
    let Place { folder, device } = place;
    let device = device.autodiff();
    let stages = plan(model)?;
    // Before anything is written: a recipe that does not fit the data, or a teacher that cannot teach, leaves no
    // run behind.
    let (batch_size, augmentation) = (model.training.batch_size, model.training.augmentation);
    let loader = Loader::new(data.train, model.seed(), batch_size, augmentation, &model.data)?;
    let teachers = teachers(model, &stages, loader.examples())?;
    let state = match start {
        Start::Fresh => begin(model, &stages, folder, &device)?,
        Start::Resume => resume(model, &stages, folder, &device)?,
    };
    Trainer::new(stages, loader, teachers, &data.validation, folder, state)?.run(stop, observe)
}

/// The teacher of each file that a stage names, opened once.
fn teachers(model: &Model, stages: &[PlannedStage], train: &Examples) -> Result<Teachers, TrainError> {
    let mut teachers = Teachers::new();
    for Distillation { teacher, .. } in stages.iter().filter_map(|stage| stage.distillation.as_ref()) {
        let (Teacher::Onnx(path) | Teacher::Supernet(path)) = teacher else { continue };
        if teachers.contains_key(path) {
            continue;
        }
        let loaded = match teacher {
            Teacher::Supernet(path) => LoadedTeacher::Supernet(SupernetTeacher::open(path, model, train)?),
            _ => {
                let (batch, space) = (model.training.batch_size, &model.space);
                LoadedTeacher::Onnx(OnnxTeacher::open(path, batch, space.input(), space.classes())?)
            }
        };
        teachers.insert(path.clone(), loaded);
    }
    Ok(teachers)
}

fn begin(
    model: &Model,
    stages: &[PlannedStage],
    folder: &RunFolder,
    device: &Device,
) -> Result<TrainingState, TrainError> {
    if folder.checkpoint().exists() || folder.is_finished() {
        return Err(TrainError::Exists { folder: folder.0.clone() });
    }
    let fresh = Supernet::new(model.space.clone(), model.seed(), device);
    let (supernet, progress) = match &model.init {
        None => (fresh, Progress::default()),
        Some(init) => initial(init, stages, fresh)?,
    };
    file::write_yaml(&folder.config(), model)?;
    let state = state(model.clone(), supernet, progress);
    checkpoint::save_state(&folder.checkpoint(), &state)?;
    Ok(state)
}

/// The weights that `init` names, and the stage that they are ready for.
fn initial(
    init: &Init,
    stages: &[PlannedStage],
    fresh: Supernet,
) -> Result<(Supernet, Progress), TrainError> {
    let mut weights = init::weights(init, &fresh.network, &fresh.space)?;
    let progress = initial_progress(init, stages)?;
    sort::by_importance(&mut weights, &fresh.space, &stages[progress.stage].sorted);
    let network = parameters::replace(fresh.network, &weights)
        .map_err(|source| checkpoint::LoadError::Fit { path: init.from.clone(), source })?;
    Ok((Supernet { network, ..fresh }, progress))
}

/// The stage that the weights which `init` names are ready for.
fn initial_progress(init: &Init, stages: &[PlannedStage]) -> Result<Progress, TrainError> {
    let Some(after) = &init.after else { return Ok(Progress::default()) };
    let trained = checkpoint::load_trained(&init.from)?;
    if trained.stage != *after {
        let (after, from, found) = (after.clone(), init.from.clone(), trained.stage);
        return Err(TrainError::After { after, from, found });
    }
    match stages.iter().position(|stage| stage.name == *after) {
        Some(done) if done + 1 < stages.len() => {
            Ok(Progress { step: trained.step, stage: done + 1, ..Progress::default() })
        }
        _ => Err(TrainError::NothingLeft {
            after: after.clone(),
            stages: stages.iter().map(|stage| stage.name.clone()).collect(),
        }),
    }
}

/// A stage begins with its first weights, a fresh optimizer and, where there is one, an average that
/// equals the weights.
fn state(model: Model, supernet: Supernet, progress: Progress) -> TrainingState {
    let optimizer = adamw(&model.training.optimizer, &supernet.network);
    let average = model.training.ema.map(|_| supernet.valid().network);
    TrainingState { progress, model, supernet, average, optimizer }
}

fn resume(
    model: &Model,
    stages: &[PlannedStage],
    folder: &RunFolder,
    device: &Device,
) -> Result<TrainingState, TrainError> {
    if !folder.checkpoint().exists() {
        return Err(TrainError::NothingToResume { folder: folder.0.clone() });
    }
    file::remove_unfinished(&folder.0)?;
    for stage in stages {
        let folder = folder.stage(&stage.name).0;
        if folder.exists() {
            file::remove_unfinished(&folder)?;
        }
    }
    let state = checkpoint::load_state(&folder.checkpoint(), device)?;
    let began = &state.model;
    let parts = [
        ("space", began.space == model.space),
        ("seed", began.seed == model.seed),
        ("data", began.data == model.data),
        ("init", began.init == model.init),
        ("training", began.training == model.training),
        ("subnets", began.subnets == model.subnets),
    ];
    match parts.into_iter().find(|(_, same)| !same) {
        Some((difference, _)) => Err(TrainError::Changed { folder: folder.0.clone(), difference }),
        None if state.progress.stage >= stages.len() => Err(TrainError::NoSuchStage {
            checkpoint: folder.checkpoint(),
            stage: state.progress.stage,
            stages: stages.len(),
        }),
        None => Ok(state),
    }
}
