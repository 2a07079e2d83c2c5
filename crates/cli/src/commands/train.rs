//! `elastic train`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use clap::Args;
use elastic_data::{check_against, load_training};
use elastic_trainer::Model;
use elastic_trainer::metrics::Record;
use elastic_trainer::train::{Event, Outcome, RunFolder, Start, train};

use crate::progress::Reporter;
use crate::runs::{RUNS, read_model, require_model_file};
use crate::table::{self, Format, percent};

/// Exit code after Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

/// Train an elastic supernet.
///
/// Without arguments: the default model on the bundled data, into runs/vit-fashion. The run's folder
/// gets config.yaml (everything resolved), metrics.jsonl, checkpoint.safetensors and, at the end,
/// supernet.safetensors. A run that was stopped or killed goes on with --resume, bit for bit.
#[derive(Debug, Args)]
pub(crate) struct Train {
    /// Model file: search space, data and recipe.
    #[arg(long, default_value = "models/vit-fashion.yaml")]
    model: PathBuf,
    /// Folder with the four IDX files, instead of the model file's.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Folder of the run [default: runs/MODEL, by the model file's name].
    #[arg(long)]
    out: Option<PathBuf>,
    /// Gradient steps, instead of the model file's.
    #[arg(long)]
    steps: Option<u64>,
    /// Seed of all randomness, instead of the model file's.
    #[arg(long)]
    seed: Option<u64>,
    /// Go on from the folder's checkpoint.
    #[arg(long)]
    resume: bool,
}

impl Train {
    pub(crate) fn run(self, reporter: &Reporter, format: Format) -> anyhow::Result<ExitCode> {
        let folder = RunFolder(self.out.clone().unwrap_or_else(|| default_folder(&self.model)));
        let model = self.resolve(&folder)?;
        if folder.is_finished() {
            let finished = read_model(&folder.config())?;
            if finished != model {
                bail!(
                    "{} holds a finished run with another configuration: choose another --out, or remove the folder",
                    folder.0.display()
                );
            }
            reporter.say(&format!("{} has finished already: nothing to do", folder.0.display()));
            summarise(&folder, format)?;
            return Ok(ExitCode::SUCCESS);
        }
        let data = load_training(&model.data, model.seed())?;
        for images in [&data.train, &data.validation] {
            check_against(&model.data, images, model.space.input(), model.space.classes())?;
        }
        reporter.say(&format!(
            "training {} subnets of {} on {} images ({} for validation) into {}",
            model.training.subnets,
            self.source(&folder).display(),
            data.train.len(),
            data.validation.len(),
            folder.0.display()
        ));
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)).context("listen for Ctrl-C")?;
        let mut task = reporter.task("train", model.training.steps);
        let start = if self.resume { Start::Resume } else { Start::Fresh };
        let steps = model.training.steps;
        let outcome = train(&model, data, &folder, start, &stop, &mut |event| match event {
            Event::Step { step, loss } => task.at(step, steps, &format!("loss {loss:.3}")),
            Event::Logged(record) => reporter.say(&describe(record)),
            Event::Saved { step } => reporter.detail(&format!("checkpoint at step {step}")),
        })?;
        drop(task);
        match outcome {
            Outcome::Finished => {
                summarise(&folder, format)?;
                Ok(ExitCode::SUCCESS)
            }
            Outcome::Stopped { step } => {
                eprintln!(
                    "stopped at step {step}; go on with: elastic train --out {} --resume",
                    folder.0.display()
                );
                Ok(ExitCode::from(INTERRUPTED))
            }
        }
    }

    /// The file that describes the model: a run that is resumed is its own model file.
    fn source(&self, folder: &RunFolder) -> PathBuf {
        let config = folder.config();
        if self.resume && config.exists() { config } else { self.model.clone() }
    }

    /// The model with the flags applied.
    fn resolve(&self, folder: &RunFolder) -> anyhow::Result<Model> {
        let path = self.source(folder);
        if path == self.model {
            require_model_file(&path)?;
        }
        let mut model = read_model(&path)?;
        if let Some(data) = &self.data {
            model.data.idx.clone_from(data);
        }
        if let Some(steps) = self.steps {
            model.training.steps = steps;
        }
        if let Some(seed) = self.seed {
            model.seed = seed;
        }
        model.validate()?;
        Ok(model)
    }
}

fn default_folder(model: &Path) -> PathBuf {
    Path::new(RUNS).join(model.file_stem().unwrap_or(model.as_os_str()))
}

fn describe(record: &Record) -> String {
    match record {
        Record::Train { step, loss, images_per_second, subnet_updates_per_second, .. } => format!(
            "step {step}: loss {loss:.3}, {images_per_second:.0} images/s, {subnet_updates_per_second:.1} subnet-updates/s"
        ),
        Record::Validation { step, accuracy, random_accuracy, .. } => {
            let named: Vec<String> =
                accuracy.iter().map(|(name, value)| format!("{name} {}", percent(*value))).collect();
            let mean = random_accuracy.iter().sum::<f64>() / random_accuracy.len().max(1) as f64;
            format!(
                "step {step}: validation {}, mean of {} random {}",
                named.join(", "),
                random_accuracy.len(),
                percent(mean)
            )
        }
    }
}

/// The last evaluation of a finished run.
fn summarise(folder: &RunFolder, format: Format) -> anyhow::Result<()> {
    let records = elastic_trainer::metrics::read(&folder.metrics())?;
    let last = records.iter().rev().find(|record| matches!(record, Record::Validation { .. }));
    let Some(record @ Record::Validation { step, images, accuracy, random_accuracy }) = last else {
        bail!("{} has no evaluation: the file was changed", folder.metrics().display());
    };
    if format == Format::Json {
        return table::print_json(record);
    }
    let mut rows: Vec<Vec<String>> =
        accuracy.iter().map(|(name, value)| vec![name.clone(), percent(*value)]).collect();
    rows.extend(
        random_accuracy.iter().enumerate().map(|(i, value)| vec![format!("random {i}"), percent(*value)]),
    );
    table::print(&["subnet", &format!("accuracy on {images} validation images after step {step}")], &rows);
    println!("\nsupernet: {}", folder.supernet().display());
    Ok(())
}
