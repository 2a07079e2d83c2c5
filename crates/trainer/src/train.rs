//! The training loop of one run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use burn::optim::ModuleOptimizer;
use burn::tensor::Device;
use elastic_data::{Images, InvalidLoader, Loader, Splits, normalise};
use elastic_space::file::{self, WriteError};
use elastic_space::random::Purpose;
use elastic_space::{Array, Subnet};
use thiserror::Error;

use crate::checkpoint::{self, LoadError, SaveError, TrainingState};
use crate::config::Model;
use crate::evaluate::accuracy;
use crate::metrics::{MetricsLog, Record};
use crate::optimizer::{adamw, norm, scaled};
use crate::parameters;
use crate::schedule::learning_rate;
use crate::step::{self, NotFinite};
use crate::supernet::Supernet;

/// The files of a run's folder.
#[derive(Debug, Clone)]
pub struct RunFolder(pub PathBuf);

/// Whether a run begins or goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// From random weights, in a folder without a run.
    Fresh,
    /// From the folder's checkpoint.
    Resume,
}

/// What happened in a run.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step is done.
    Step {
        /// Steps done so far.
        step: u64,
        /// Mean loss of its subnets.
        loss: f64,
    },
    /// A line of the log.
    Logged(&'a Record),
    /// A checkpoint is on disk.
    Saved {
        /// Steps done so far.
        step: u64,
    },
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Finished,
    /// It was asked to stop; a checkpoint is on disk.
    Stopped {
        /// Steps done.
        step: u64,
    },
}

/// Why a run failed.
#[derive(Debug, Error)]
pub enum TrainError {
    /// The folder holds a run.
    #[error("{} holds a run already: go on with --resume, choose another --out, or remove the folder", folder.display())]
    Exists {
        /// The folder.
        folder: PathBuf,
    },
    /// There is nothing to resume.
    #[error("{} has no checkpoint to resume from: leave out --resume to begin", folder.display())]
    NothingToResume {
        /// The folder.
        folder: PathBuf,
    },
    /// The configuration differs from the one that the run began with.
    #[error(
        "{} was begun with another configuration ({difference}): resume with the same model, data, steps and seed, or choose another --out",
        folder.display()
    )]
    Changed {
        /// The folder.
        folder: PathBuf,
        /// The part that differs.
        difference: &'static str,
    },
    /// A loss is no number.
    #[error(
        "step {step}: {source}; lower optimizer.learning-rate or set clip-gradient-norm (the last checkpoint is kept)"
    )]
    Diverged {
        /// The step, counted from 1.
        step: u64,
        /// The subnet.
        source: NotFinite,
    },
    /// The gradient is no number.
    #[error(
        "step {step}: the gradient's norm is {norm} (subnets: {subnets}); lower optimizer.learning-rate (the last checkpoint is kept)"
    )]
    GradientDiverged {
        /// The step, counted from 1.
        step: u64,
        /// The norm.
        norm: f64,
        /// The subnets of the step.
        subnets: String,
    },
    /// A weight is no number after the update.
    #[error(
        "step {step}: tensor {tensor} holds numbers that are not finite; lower optimizer.learning-rate (the last checkpoint is kept)"
    )]
    WeightsDiverged {
        /// The step, counted from 1.
        step: u64,
        /// The first such tensor.
        tensor: String,
    },
    /// The recipe does not fit the data.
    #[error(transparent)]
    Loader(#[from] InvalidLoader),
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A file cannot be written.
    #[error(transparent)]
    Save(#[from] SaveError),
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

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

    /// Whether the run has finished.
    pub fn is_finished(&self) -> bool {
        self.supernet().exists()
    }
}

/// Trains a supernet into a folder.
///
/// All randomness is a function of the seed and the step, so a run that was killed and resumed ends
/// with the same bits as one that was not. `stop` is looked at after each step.
///
/// # Errors
///
/// [`TrainError`]; the last checkpoint stays as it is.
pub fn train(
    model: &Model,
    data: Splits,
    folder: &RunFolder,
    start: Start,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome, TrainError> {
    let device = Device::flex().autodiff();
    // Before anything is written: a recipe that does not fit the data leaves no run behind.
    let loader = Loader::new(
        data.train,
        model.seed(),
        model.training.batch_size,
        model.training.augmentation,
        model.data.normalisation(),
    )?;
    let state = match start {
        Start::Fresh => begin(model, folder, &device)?,
        Start::Resume => resume(model, folder, &device)?,
    };
    Trainer::new(model, loader, &data.validation, folder, state, device)?.run(stop, observe)
}

fn begin(model: &Model, folder: &RunFolder, device: &Device) -> Result<TrainingState, TrainError> {
    if folder.checkpoint().exists() || folder.is_finished() {
        return Err(TrainError::Exists { folder: folder.0.clone() });
    }
    file::write_yaml(&folder.config(), model)?;
    let supernet = Supernet::new(model.space.clone(), model.seed(), device);
    let optimizer = adamw(&model.training.optimizer, &supernet.network);
    checkpoint::save_state(&folder.checkpoint(), &supernet, &optimizer, model, 0)?;
    Ok(TrainingState { step: 0, model: model.clone(), supernet, optimizer })
}

fn resume(model: &Model, folder: &RunFolder, device: &Device) -> Result<TrainingState, TrainError> {
    if !folder.checkpoint().exists() {
        return Err(TrainError::NothingToResume { folder: folder.0.clone() });
    }
    file::remove_unfinished(&folder.0)?;
    let state = checkpoint::load_state(&folder.checkpoint(), device)?;
    let began = &state.model;
    let parts = [
        ("space", began.space == model.space),
        ("seed", began.seed == model.seed),
        ("data", began.data == model.data),
        ("training", began.training == model.training),
        ("subnets", began.subnets == model.subnets),
    ];
    match parts.into_iter().find(|(_, same)| !same) {
        Some((difference, _)) => Err(TrainError::Changed { folder: folder.0.clone(), difference }),
        None => Ok(state),
    }
}

struct Trainer<'a> {
    model: &'a Model,
    folder: &'a RunFolder,
    device: Device,
    supernet: Supernet,
    optimizer: ModuleOptimizer,
    step: u64,
    loader: Loader,
    log: MetricsLog,
    named: BTreeMap<String, Subnet>,
    random: Vec<Subnet>,
    validation: Array,
    validation_labels: Vec<u8>,
}

impl<'a> Trainer<'a> {
    fn new(
        model: &'a Model,
        loader: Loader,
        validation: &Images,
        folder: &'a RunFolder,
        state: TrainingState,
        device: Device,
    ) -> Result<Self, TrainError> {
        let training = &model.training;
        let images = training.evaluate_images.min(validation.len());
        let validation_labels = validation.labels[..images].to_vec();
        let validation = normalise(&model.data.normalisation(), validation, 0..images);
        Ok(Self {
            model,
            folder,
            device,
            supernet: state.supernet,
            optimizer: state.optimizer,
            step: state.step,
            loader,
            log: MetricsLog::open(&folder.metrics(), state.step)?,
            named: model.named_subnets(),
            random: evaluation_subnets(model),
            validation,
            validation_labels,
        })
    }

    fn run(mut self, stop: &AtomicBool, observe: &mut dyn FnMut(Event<'_>)) -> Result<Outcome, TrainError> {
        let training = &self.model.training;
        let mut window = Window::default();
        while self.step < training.steps {
            let began = Instant::now();
            let (loss, gradient_norm) = self.step()?;
            window.add(loss, began.elapsed());
            observe(Event::Step { step: self.step, loss });
            let last = self.step == training.steps;
            if last || self.step.is_multiple_of(training.evaluate_every) {
                let throughput = window.record(self.model, self.step, gradient_norm);
                self.record(&throughput, observe)?;
                let evaluation = self.evaluate();
                self.record(&evaluation, observe)?;
                window = Window::default();
            }
            let stopped = stop.load(Ordering::Relaxed) && !last;
            if last || stopped || self.step.is_multiple_of(training.checkpoint_every) {
                self.save()?;
                observe(Event::Saved { step: self.step });
            }
            if stopped {
                return Ok(Outcome::Stopped { step: self.step });
            }
        }
        checkpoint::save_supernet(&self.folder.supernet(), &self.supernet, self.step)?;
        Ok(Outcome::Finished)
    }

    /// One gradient step; returns the mean loss and the gradient's norm before clipping.
    fn step(&mut self) -> Result<(f64, f64), TrainError> {
        let (training, number) = (&self.model.training, self.step + 1);
        let batch = self.loader.batch(self.step);
        let mut rng = self.model.seed().generator(Purpose::Subnets, self.step);
        let subnets = training.sampling.draw(&self.supernet.space, &self.named, training.subnets, &mut rng);
        let result = step::gradients(&self.supernet, &batch, &subnets, training, &self.device)
            .map_err(|source| TrainError::Diverged { step: number, source })?;
        let norm = norm(&result.gradients, &self.supernet.network);
        if !norm.is_finite() {
            let subnets = subnets.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            return Err(TrainError::GradientDiverged { step: number, norm, subnets });
        }
        let gradients = match training.clip_gradient_norm {
            Some(limit) if norm > limit => scaled(result.gradients, limit / norm, &self.supernet.network),
            _ => result.gradients,
        };
        let rate = learning_rate(training, self.step);
        self.supernet.network = self.optimizer.step(rate, self.supernet.network.clone(), gradients);
        self.step = number;
        Ok((result.losses.iter().sum::<f64>() / result.losses.len() as f64, norm))
    }

    fn evaluate(&self) -> Record {
        let supernet = self.supernet.valid();
        let judge = |subnet: &Subnet| accuracy(&supernet, subnet, &self.validation, &self.validation_labels);
        Record::Validation {
            step: self.step,
            images: self.validation_labels.len(),
            accuracy: self.named.iter().map(|(name, subnet)| (name.clone(), judge(subnet))).collect(),
            random_accuracy: self.random.iter().map(judge).collect(),
        }
    }

    fn record(&mut self, record: &Record, observe: &mut dyn FnMut(Event<'_>)) -> Result<(), TrainError> {
        self.log.append(record)?;
        observe(Event::Logged(record));
        Ok(())
    }

    /// Writes the checkpoint, unless the last update has spoiled a weight: after the last step no loss
    /// would tell.
    fn save(&self) -> Result<(), TrainError> {
        let weights = parameters::collect(&self.supernet.network);
        if let Some((tensor, _)) = weights.iter().find(|(_, array)| array.data.iter().any(|v| !v.is_finite()))
        {
            return Err(TrainError::WeightsDiverged { step: self.step, tensor: tensor.clone() });
        }
        checkpoint::save_state(
            &self.folder.checkpoint(),
            &self.supernet,
            &self.optimizer,
            self.model,
            self.step,
        )?;
        Ok(())
    }
}

/// The random subnets that every evaluation of a run judges.
pub fn evaluation_subnets(model: &Model) -> Vec<Subnet> {
    let mut rng = model.seed().generator(Purpose::Candidates, 0);
    model.space.draw_distinct(model.training.evaluate_random, &mut rng)
}

/// Reads the configuration that a run was made with.
///
/// # Errors
///
/// [`crate::config::ModelError`] if the folder has no run or its file was changed.
pub fn read_config(folder: &Path) -> Result<Model, crate::config::ModelError> {
    Model::read(&RunFolder(folder.to_owned()).config())
}

/// Sums over the steps between two lines of the log.
#[derive(Default)]
struct Window {
    steps: u64,
    loss: f64,
    time: Duration,
}

impl Window {
    fn add(&mut self, loss: f64, time: Duration) {
        self.steps += 1;
        self.loss += loss;
        self.time += time;
    }

    fn record(&self, model: &Model, step: u64, gradient_norm: f64) -> Record {
        let training = &model.training;
        let steps_per_second = self.steps as f64 / self.time.as_secs_f64();
        Record::Train {
            step,
            loss: self.loss / self.steps as f64,
            learning_rate: learning_rate(training, step - 1),
            gradient_norm,
            images_per_second: steps_per_second * training.batch_size as f64,
            subnet_updates_per_second: steps_per_second * training.subnets as f64,
            peak_memory_bytes: peak_memory(),
        }
    }
}

/// The highest resident memory of this process so far, in bytes.
fn peak_memory() -> Option<u64> {
    use nix::sys::resource::{UsageWho, getrusage};
    let kilobytes = u64::try_from(getrusage(UsageWho::RUSAGE_SELF).ok()?.max_rss()).ok()?;
    // Apple's kernel counts in bytes.
    Some(if cfg!(target_vendor = "apple") { kilobytes } else { kilobytes * 1024 })
}
