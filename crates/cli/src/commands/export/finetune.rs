//! `--finetune`: the chosen subnet trained alone before it is written.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, anyhow};
use elastic_data::{Examples, Splits};
use elastic_exporter::search::Point;
use elastic_space::{Seed, file};
use elastic_trainer::checkpoint::{self, LoadedSupernet};
use elastic_trainer::evaluate::accuracy;
use elastic_trainer::finetune::{self, EVALUATED, Settings};
use elastic_trainer::run_folder::RunFolder;
use elastic_trainer::train::{Event, Place, Start, TrainError, train};
use elastic_trainer::{Device, Supernet};
use schemars::JsonSchema;
use serde::Serialize;

use super::job::Job;
use crate::metadata;
use crate::runs::Run;

/// What training a subnet alone came to.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) struct FinetuneReport {
    pub(super) steps: u64,
    /// The peak of the learning rate.
    pub(super) learning_rate: f64,
    /// The share of the largest network's soft targets in the loss.
    pub(super) teacher_weight: f64,
    /// Accuracy on the validation data with the weights of the supernet, and with those that were trained.
    pub(super) accuracy_before: f64,
    pub(super) accuracy_after: f64,
    /// Whether the trained weights are those of the model: only where they are no worse.
    pub(super) kept: bool,
    /// SHA-256 of the file beside the model that holds them, where they are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) weights_sha256: Option<String>,
}

/// A subnet that was trained alone.
pub(super) struct Tuned {
    pub(super) report: FinetuneReport,
    /// The run with the weights that the model is made of.
    pub(super) run: Run,
    /// The supernet's file with the trained weights, where they are kept.
    weights: Option<Vec<u8>>,
}

impl Tuned {
    /// The value of the model's metadata.
    pub(super) fn entry(&self) -> String {
        metadata::finetuned(self.report.steps, self.report.weights_sha256.as_deref())
    }

    /// Writes the weights beside the model, or removes those of an earlier one.
    ///
    /// # Errors
    ///
    /// A file that cannot be written or removed.
    pub(super) fn write(&self, model: &Path) -> anyhow::Result<()> {
        let path = model.with_extension("safetensors");
        match &self.weights {
            Some(bytes) => file::write(&path, bytes)?,
            None => remove(&path, |path| fs::remove_file(path))?,
        }
        Ok(())
    }
}

/// Trains the subnet of a point alone, on the examples that the run learned from, and puts its accuracy into the point.
///
/// # Errors
///
/// A loss that is no number, or a file that cannot be written.
pub(super) fn tune(job: &Job<'_>, train_on: &Examples, point: &mut Point) -> anyhow::Result<Tuned> {
    let Job { request, run, validation, reporter, .. } = job;
    let folder = request.out.join(format!(".finetune-{}", run.name()));
    remove(&folder, |path| fs::remove_dir_all(path))?;
    let settings = Settings {
        steps: request.finetune,
        peak: request.finetune_rate,
        seed: request.seed.map_or(run.model.seed(), Seed),
    };
    let space = &run.loaded.supernet.space;
    let recipe = finetune::run(&run.model, &run.folder.supernet(), space, &point.subnet, &settings);
    let first: Vec<usize> = (0..EVALUATED.min(job.images.len())).collect();
    let splits = Splits { train: train_on.clone(), validation: job.images.select(&first) };
    let place = RunFolder(folder.clone());
    let trained = {
        let mut task = reporter.task("fine-tune", settings.steps);
        train(
            &recipe,
            splits,
            Place { folder: &place, device: Device::flex() },
            Start::Fresh,
            &AtomicBool::new(false),
            &mut |event| {
                if let Event::Step { step, loss } = event {
                    task.at(step, settings.steps, &format!("loss {loss:.3}"));
                }
            },
        )
    };
    let read = || anyhow::Ok((checkpoint::load_supernet(&place.supernet())?, file::read(&place.supernet())?));
    let weights = match trained {
        Err(TrainError::Diverged { step, source }) => Err(anyhow!(
            "train the chosen subnet alone, step {step}: {source}; leave --finetune out, or give a smaller --finetune-rate"
        )),
        trained => trained.map_err(anyhow::Error::new).and_then(|_| read()),
    };
    remove(&folder, |path| fs::remove_dir_all(path))?;
    let (loaded, bytes) = weights?;
    let before = point.accuracy;
    let supernet = loaded.supernet.with_calibration(run.loaded.supernet.calibration.clone());
    let after = accuracy(&supernet, &point.subnet, &validation.images, &validation.labels);
    let kept = after >= before;
    let (learning_rate, teacher_weight) = finetune::strength(&recipe);
    let report = FinetuneReport {
        steps: settings.steps,
        learning_rate,
        teacher_weight,
        accuracy_before: before,
        accuracy_after: after,
        kept,
        weights_sha256: kept.then(|| loaded.sha256.clone()),
    };
    point.accuracy = before.max(after);
    Ok(Tuned { report, run: with_weights(run, kept.then_some(supernet)), weights: kept.then_some(bytes) })
}

/// The run with another supernet, if there is one: all else, the digest of what it was trained to as well, stays.
fn with_weights(run: &Run, supernet: Option<Supernet>) -> Run {
    let LoadedSupernet { training, sha256, .. } = &run.loaded;
    let supernet = supernet.unwrap_or_else(|| run.loaded.supernet.clone());
    let loaded = LoadedSupernet { supernet, training: training.clone(), sha256: sha256.clone() };
    Run { folder: run.folder.clone(), model: run.model.clone(), loaded }
}

/// Removes what is there.
fn remove(path: &Path, removal: fn(&Path) -> std::io::Result<()>) -> anyhow::Result<()> {
    match removal(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
