//! The training loop: stage after stage, step after step.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use elastic_data::{Examples, Loader};
use elastic_space::random::Purpose;
use elastic_space::{Array, Subnet, file};

use super::window::{Learned, Window};
use super::{Event, Outcome, TrainError};
use crate::calibration;
use crate::checkpoint::{self, Progress, Trained, TrainingState};
use crate::config::{Distillation, Model, Teacher};
use crate::evaluate::accuracy;
use crate::health::Threshold;
use crate::metrics::{MetricsLog, Record};
use crate::optimizer::{averaged, norm};
use crate::parameters;
use crate::plan::{Judged, PlannedStage, judged};
use crate::run_folder::RunFolder;
use crate::schedule::learning_rate;
use crate::sort;
use crate::step::{self, NotFinite, SoftTargets, StepRecipe};
use crate::supernet::{Network, Supernet};
use crate::teacher::LoadedTeacher;

pub(super) struct Trainer<'a> {
    stages: Vec<PlannedStage>,
    folder: &'a RunFolder,
    device: Device,
    state: TrainingState,
    loader: Loader,
    teachers: Teachers,
    log: MetricsLog,
    /// Whether a step was done since the last checkpoint.
    unsaved: bool,
    validation: Array,
    validation_labels: Vec<u8>,
}

/// The teachers of all stages, by the file's path.
pub(super) type Teachers = BTreeMap<PathBuf, LoadedTeacher>;

impl<'a> Trainer<'a> {
    pub(super) fn new(
        stages: Vec<PlannedStage>,
        loader: Loader,
        teachers: Teachers,
        validation: &Examples,
        folder: &'a RunFolder,
        mut state: TrainingState,
    ) -> Result<Self, TrainError> {
        state.supernet.calibration = calibration::images(&state.model, loader.examples());
        let model = &state.model;
        let images = model.training.evaluate_images.min(validation.len());
        let validation_labels = validation.labels()[..images].to_vec();
        let validation = validation.inputs(&model.data, 0..images);
        let names = model.named_subnets().into_keys().collect();
        let log = MetricsLog::open(folder, names, state.progress.step)?;
        Ok(Self {
            stages,
            folder,
            device: state.supernet.network.device().autodiff(),
            state,
            loader,
            teachers,
            log,
            unsaved: false,
            validation,
            validation_labels,
        })
    }

    pub(super) fn run(
        mut self,
        stop: &AtomicBool,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Outcome, TrainError> {
        loop {
            observe(Event::Stage(self.stage()));
            let judged = judged(self.model(), &self.stage().open);
            let mut window = Window::default();
            while !self.stage_is_done() {
                self.step_of_stage(&judged, &mut window, observe)?;
                let stopped = stop.load(Ordering::Relaxed) && !self.stage_is_done();
                let due = self.state.progress.stage_step.is_multiple_of(self.training().checkpoint_every);
                if stopped || (due && !self.stage_is_done()) {
                    self.save(observe)?;
                }
                if stopped {
                    return Ok(Outcome::Stopped { step: self.state.progress.step });
                }
            }
            if self.finish_stage(observe)? {
                return Ok(Outcome::Finished);
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(Outcome::Stopped { step: self.state.progress.step });
            }
        }
    }

    fn stage(&self) -> &PlannedStage {
        &self.stages[self.state.progress.stage]
    }

    fn model(&self) -> &Model {
        &self.state.model
    }

    fn training(&self) -> &crate::config::Training {
        &self.state.model.training
    }

    fn stage_is_done(&self) -> bool {
        let (stage, progress) = (self.stage(), &self.state.progress);
        let converged = stage.patience.is_some_and(|patience| progress.stale >= patience.evaluations);
        progress.stage_step >= stage.steps || converged
    }

    /// One step, and what is due after it.
    fn step_of_stage(
        &mut self,
        judged: &Judged,
        window: &mut Window,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), TrainError> {
        let began = Instant::now();
        let (loss, gradient_norm) = self.step()?;
        window.add(began.elapsed());
        let progress = &mut self.state.progress;
        progress.window_steps += 1;
        progress.window_loss += loss;
        let Progress { step, stage_step, .. } = *progress;
        observe(Event::Step { step, loss });
        let stage = self.stage();
        if stage_step == stage.steps || stage_step.is_multiple_of(self.training().evaluate_every) {
            let progress = &self.state.progress;
            let learned = Learned {
                step,
                loss: progress.window_loss / progress.window_steps as f64,
                learning_rate: learning_rate(&stage.learning_rate, stage.steps, stage_step - 1),
                gradient_norm,
            };
            let throughput = window.record(&stage.name, self.training().batch_size, stage.subnets, &learned);
            self.record(&throughput, observe)?;
            self.evaluate(judged, observe)?;
            *window = Window::default();
            let progress = &mut self.state.progress;
            (progress.window_steps, progress.window_loss) = (0, 0.0);
        }
        Ok(())
    }

    /// One gradient step; returns the mean loss and the gradient's norm before clipping.
    fn step(&mut self) -> Result<(f64, f64), TrainError> {
        let Progress { step, stage_step, .. } = self.state.progress;
        let number = step + 1;
        let stage = &self.stages[self.state.progress.stage];
        let training = &self.state.model.training;
        let batch = self.loader.batch(step);
        let mut rng = self.state.model.seed().generator(Purpose::Subnets, step);
        let subnets = stage.sampler.draw(stage.subnets, &mut rng);
        let soft_targets = match &stage.distillation {
            None => SoftTargets::None,
            Some(Distillation { weight, teacher: Teacher::InPlace }) => {
                SoftTargets::InPlace { weight: *weight }
            }
            Some(Distillation { weight, teacher: Teacher::Onnx(path) | Teacher::Supernet(path) }) => {
                let teacher = self.teachers.get_mut(path).expect("every stage's teacher was opened");
                let probabilities = teacher.probabilities(&batch)?;
                SoftTargets::Given { weight: *weight, probabilities }
            }
        };
        let recipe =
            StepRecipe { reduce: stage.reduce, label_smoothing: training.label_smoothing, soft_targets };
        let result = step::gradients(&self.state.supernet, &batch, &subnets, &recipe, &self.device)
            .map_err(|source| TrainError::Diverged { step: number, source })?;
        let norm = norm(&result.gradients, &self.state.supernet.network);
        if !norm.is_finite() {
            let subnets = subnets.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            return Err(TrainError::Diverged { step: number, source: NotFinite::Gradient { norm, subnets } });
        }
        let clip = match training.clip_gradient_norm {
            Some(limit) if norm > limit => limit / norm,
            _ => 1.0,
        };
        let rate = learning_rate(&stage.learning_rate, stage.steps, stage_step);
        let network = &mut self.state.supernet.network;
        *network = self.state.optimizer.step(rate, network.clone(), result.gradients, clip);
        if let (Some(ema), Some(average)) = (training.ema, self.state.average.take()) {
            self.state.average = Some(averaged(average, network, ema.decay, stage_step));
        }
        self.unsaved = true;
        self.state.progress.step = number;
        self.state.progress.stage_step += 1;
        Ok((result.losses.iter().sum::<f64>() / result.losses.len() as f64, norm))
    }

    /// The weights that are judged and kept: the average where there is one.
    fn kept(&self) -> Network {
        self.state.average.clone().unwrap_or_else(|| self.state.supernet.network.valid())
    }

    fn evaluate(&mut self, judged: &Judged, observe: &mut dyn FnMut(Event<'_>)) -> Result<(), TrainError> {
        let supernet = Supernet { network: self.kept(), ..self.state.supernet.clone() };
        let judge = |subnet: &Subnet| accuracy(&supernet, subnet, &self.validation, &self.validation_labels);
        let accuracy: BTreeMap<String, f64> =
            judged.named.iter().map(|(name, subnet)| (name.clone(), judge(subnet))).collect();
        let largest = accuracy["largest"];
        let smallest = accuracy.get("smallest").copied().unwrap_or(largest);
        let record = Record::Validation {
            stage: self.stage().name.clone(),
            step: self.state.progress.step,
            images: self.validation_labels.len(),
            accuracy,
            random_accuracy: judged.random.iter().map(judge).collect(),
        };
        self.record(&record, observe)?;
        self.watch_patience(largest);
        self.watch_collapse(smallest)
    }

    fn watch_patience(&mut self, largest: f64) {
        let Some(patience) = self.stage().patience else { return };
        let progress = &mut self.state.progress;
        if progress.best.is_none_or(|best| largest > best + patience.min_improvement) {
            (progress.best, progress.stale) = (Some(largest), 0);
        } else {
            progress.stale += 1;
        }
    }

    fn watch_collapse(&mut self, accuracy: f64) -> Result<(), TrainError> {
        let Some(margin) = self.training().collapse_margin else { return Ok(()) };
        let threshold = Threshold::new(self.model().space.classes(), margin);
        let (chance, healthy) = (threshold.chance, !threshold.collapsed(accuracy));
        if self.state.progress.healthy && !healthy {
            let (step, stage) = (self.state.progress.step, self.stage().name.clone());
            let remedy = self.last_kept_stage();
            return Err(TrainError::Collapsed { step, stage, accuracy, chance, margin, remedy });
        }
        self.state.progress.healthy |= healthy;
        Ok(())
    }

    /// How to begin this stage again, where an earlier one is kept.
    fn last_kept_stage(&self) -> String {
        let kept = self
            .state
            .progress
            .stage
            .checked_sub(1)
            .map(|before| self.folder.stage(&self.stages[before].name).0);
        kept.filter(|folder| folder.exists()).map_or_else(String::new, |folder| {
            format!(
                ", then begin this stage again with: elastic train --from {} --model FILE",
                folder.display()
            )
        })
    }

    fn record(&mut self, record: &Record, observe: &mut dyn FnMut(Event<'_>)) -> Result<(), TrainError> {
        self.log.append(record)?;
        observe(Event::Logged(record));
        Ok(())
    }

    /// Keeps the network of the stage that is done and goes on to the next; true after the last one.
    ///
    /// The next stage begins from what is kept, with a fresh optimizer, so that a run which restarts from
    /// the stage's folder is the same as this one.
    fn finish_stage(&mut self, observe: &mut dyn FnMut(Event<'_>)) -> Result<bool, TrainError> {
        self.check_weights()?;
        let kept = self.kept();
        let (space, step) = (self.model().space.clone(), self.state.progress.step);
        let trained = Trained { stage: self.stage().name.clone(), step, open: self.stage().open.clone() };
        let last = self.state.progress.stage + 1 == self.stages.len();
        if last && self.unsaved {
            self.save(observe)?;
        }
        if self.stages.len() > 1 {
            let folder = self.folder.stage(&trained.stage);
            file::write_yaml(&folder.config(), self.model())?;
            checkpoint::save_supernet(&folder.supernet(), &space, &kept, &trained)?;
        }
        if last {
            checkpoint::save_supernet(&self.folder.supernet(), &space, &kept, &trained)?;
            return Ok(true);
        }
        let mut weights = parameters::collect(&kept);
        let next = &self.stages[self.state.progress.stage + 1];
        sort::by_importance(&mut weights, &space, &next.sorted);
        let network = parameters::replace(self.state.supernet.network.clone(), &weights)
            .expect("the average has the network's parameters");
        let supernet = Supernet { network, ..self.state.supernet.clone() };
        let progress = Progress { step, stage: self.state.progress.stage + 1, ..Progress::default() };
        self.state = super::state(self.model().clone(), supernet, progress);
        self.save(observe)?;
        Ok(false)
    }

    fn save(&mut self, observe: &mut dyn FnMut(Event<'_>)) -> Result<(), TrainError> {
        self.check_weights()?;
        checkpoint::save_state(&self.folder.checkpoint(), &self.state)?;
        self.unsaved = false;
        observe(Event::Saved { step: self.state.progress.step });
        Ok(())
    }

    /// Whether the last update has spoiled a weight: after the last step no loss would tell.
    fn check_weights(&self) -> Result<(), TrainError> {
        let weights = parameters::collect(&self.state.supernet.network);
        match weights.iter().find(|(_, array)| array.data.iter().any(|v| !v.is_finite())) {
            Some((tensor, _)) => {
                let source = NotFinite::Weights { tensor: tensor.clone() };
                Err(TrainError::Diverged { step: self.state.progress.step, source })
            }
            None => Ok(()),
        }
    }
}
