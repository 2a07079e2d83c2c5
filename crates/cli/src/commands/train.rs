//! `elastic train`

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use elastic_data::{ClassSizes, Loaded, Splits, check_against, load_training};
use elastic_trainer::Model;
use elastic_trainer::checkpoint;
use elastic_trainer::device::{self, DeviceKind};
use elastic_trainer::health::Health;
use elastic_trainer::init::{Init, Layout};
use elastic_trainer::metrics::{self, Record, Spread};
use elastic_trainer::plan::{PlannedStage, plan};
use elastic_trainer::run_folder::RunFolder;
use elastic_trainer::train::{Event, Outcome, Place, Start, train};
use schemars::JsonSchema;
use serde::Serialize;

use crate::exit::{self, Exit};
use crate::health;
use crate::interrupt::Interrupt;
use crate::progress::Reporter;
use crate::runs::{RUNS, known, read_model, require_model_file, run_name};
use crate::table::{self, Format, percent};

const DEFAULT_MODEL: &str = "models/vit-fashion.yaml";

/// Train an elastic supernet.
///
/// Without arguments: the default model on the bundled data, into runs/vit-fashion. The run's folder
/// gets config.yaml (everything resolved), checkpoint.safetensors, the log three times over
/// (metrics.jsonl, metrics.csv and tensorboard/ for TensorBoard) and, at the end,
/// supernet.safetensors. A run that was stopped or killed goes on with --resume, bit for bit.
///
/// At the end a table tells the parameters, MACs and validation accuracy of every named subnet and of
/// some random ones, and warns of those that collapsed: their accuracy is below that of guessing plus
/// the recipe's collapse-margin (0.05 where it has none).
///
/// A progressive run keeps the network of every stage in stages/NUMBER-NAME, which is a folder like a
/// run's: inspect, profile and export take it as --run, and --from begins a new run after that stage.
#[derive(Debug, Args)]
pub(crate) struct Train {
    /// Model file: search space, data and recipe [default: models/vit-fashion.yaml].
    #[arg(long)]
    model: Option<PathBuf>,
    /// Folder of the data, instead of that in the model file; its format stays.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Folder of the run [default: runs/MODEL, by the model file's name].
    #[arg(long)]
    out: Option<PathBuf>,
    /// Gradient steps of all stages together, instead of the model file's; each stage keeps its share.
    #[arg(long)]
    steps: Option<u64>,
    /// Seed of all randomness, instead of the model file's.
    #[arg(long)]
    seed: Option<u64>,
    /// Begin after a stage of another run: its folder, such as runs/NAME/stages/2-depth. The model file
    /// is that run's unless --model names another with the same space.
    #[arg(long, value_name = "STAGE", conflicts_with = "resume")]
    from: Option<PathBuf>,
    /// Go on from the folder's checkpoint.
    #[arg(long)]
    resume: bool,
    /// What trains: `cpu`, or a GPU through `wgpu` or `cuda`, which take a program that was built with
    /// the feature of that name. No device stands in for another.
    #[arg(long, default_value_t = DeviceKind::Cpu)]
    device: DeviceKind,
}

impl Train {
    pub(crate) fn run(self, reporter: &Reporter, format: Format) -> anyhow::Result<Exit> {
        let folder = self.folder();
        match self.train(reporter, &*Interrupt::listen()?)? {
            Outcome::Finished => {
                summarise(&folder, format)?;
                Ok(Exit::Ok)
            }
            Outcome::Stopped { step } => {
                let device = match self.device {
                    DeviceKind::Cpu => String::new(),
                    device => format!(" --device {device}"),
                };
                let message = format!(
                    "stopped at step {step}; go on with: elastic train --out {} --resume{device}",
                    folder.0.display()
                );
                eprintln!("{message}");
                if format == Format::Json {
                    exit::print_json(Exit::Interrupted, &message)?;
                }
                Ok(Exit::Interrupted)
            }
        }
    }

    /// Trains, and prints no result.
    pub(crate) fn train(&self, reporter: &Reporter, interrupt: &Interrupt) -> anyhow::Result<Outcome> {
        let folder = self.folder();
        let mut model = self.resolve()?;
        if folder.is_finished() {
            let finished = read_model(&folder.config())?;
            model.data = model.data.completed_by(&finished.data);
            if finished != model {
                bail!(
                    "{} holds a finished run with another configuration: choose another --out, or remove the folder",
                    folder.0.display()
                );
            }
            reporter.say(&format!("{} has finished already: nothing to do", folder.0.display()));
            return Ok(Outcome::Finished);
        }
        let device = self.device.open()?;
        let data = read_data(&mut model, reporter)?;
        reporter.say(&format!(
            "training {} on {} {} ({} for validation) into {}",
            self.source(&folder).display(),
            data.train.len(),
            data.train.kind(),
            data.validation.len(),
            folder.0.display()
        ));
        if let Some(name) = device::name(&device) {
            reporter.say(&format!("device {}: {name}", self.device));
        }
        let stages = plan(&model)?;
        let steps = stages.iter().map(|stage| stage.steps).sum();
        let mut task = reporter.task("train", steps);
        let start = if self.resume { Start::Resume } else { Start::Fresh };
        let place = Place { folder: &folder, device };
        let heeding = interrupt.heed();
        Ok(train(&model, data, place, start, heeding.asked(), &mut |event| match event {
            Event::Stage(stage) if stages.len() > 1 => reporter.say(&announce(stage)),
            Event::Stage(_) => {}
            Event::Step { step, loss } => task.at(step, steps, &format!("loss {loss:.3}")),
            Event::Logged(record) => reporter.say(&describe(record)),
            Event::Saved { step } => reporter.detail(&format!("checkpoint at step {step}")),
        })?)
    }

    /// The folder of the run.
    pub(crate) fn folder(&self) -> RunFolder {
        RunFolder(self.out.clone().unwrap_or_else(|| self.default_folder()))
    }

    /// The file that describes the model: a run that is resumed, or a stage that another run begins after,
    /// is its own model file.
    fn source(&self, folder: &RunFolder) -> PathBuf {
        let own = folder.config();
        if self.resume && own.exists() {
            return own;
        }
        match (&self.model, &self.from) {
            (None, Some(stage)) => RunFolder(stage.clone()).config(),
            _ => self.model().to_owned(),
        }
    }

    fn model(&self) -> &Path {
        self.model.as_deref().unwrap_or(Path::new(DEFAULT_MODEL))
    }

    fn default_folder(&self) -> PathBuf {
        let Some(stage) = &self.from else {
            return Path::new(RUNS).join(self.model().file_stem().unwrap_or(self.model().as_os_str()));
        };
        let stage = stage.canonicalize().unwrap_or_else(|_| stage.clone());
        Path::new(RUNS).join(format!("{}-onwards", run_name(&stage)))
    }

    /// The model with the flags applied.
    pub(crate) fn resolve(&self) -> anyhow::Result<Model> {
        if let Some(stage) = &self.from {
            require_stage(stage)?;
        }
        let path = self.source(&self.folder());
        if path == self.model() {
            require_model_file(&path)?;
        }
        let mut model = read_model(&path)?;
        if let Some(data) = &self.data {
            let folder = model.data.source.folder_mut().with_context(|| {
                format!(
                    "--data is {}, but {} names files of its own: change them there",
                    data.display(),
                    path.display()
                )
            })?;
            folder.clone_from(data);
        }
        if let Some(steps) = self.steps {
            model.training.scheme.set_steps(steps);
        }
        if let Some(seed) = self.seed {
            model.seed = seed;
        }
        if let Some(stage) = &self.from {
            let stage = RunFolder(stage.clone());
            let from = stage.supernet();
            let after = checkpoint::load_trained(&from)?.stage;
            model.init = Some(Init {
                from,
                map: Vec::new(),
                layout: Layout::Elastic,
                fresh: Vec::new(),
                sort_channels: false,
                after: Some(after),
            });
        }
        model.validate()?;
        Ok(model)
    }
}

/// Reads what the model learns from, and completes the model by what it left to the data.
fn read_data(model: &mut Model, reporter: &Reporter) -> anyhow::Result<Splits> {
    let (input, vocabulary, classes) = (model.space.input(), model.space.vocabulary(), model.space.classes());
    let Loaded { splits, config } =
        load_training(&model.data, input, model.seed(), &mut |line| reporter.say(line))?;
    for examples in [&splits.train, &splits.validation] {
        check_against(&config, examples, input, vocabulary, classes)?;
    }
    reporter.say(&ClassSizes::of(&splits, &config).to_string());
    model.data = config;
    Ok(splits)
}

/// Fails where no stage is kept.
fn require_stage(stage: &Path) -> anyhow::Result<()> {
    if !RunFolder(stage.to_owned()).is_finished() {
        let others = stage.parent().filter(|parent| parent.is_dir());
        let remedy = others.map_or_else(
            || "a progressive run keeps its stages in runs/NAME/stages".to_owned(),
            |parent| known(&parent.to_string_lossy()),
        );
        bail!("{} is no stage that is done: it has no supernet.safetensors; {remedy}", stage.display());
    }
    Ok(())
}

/// What a stage does, in one line.
fn announce(stage: &PlannedStage) -> String {
    let open: Vec<&str> = stage.open.iter().map(|dimension| dimension.name()).collect();
    let open = if open.is_empty() { "the largest network".to_owned() } else { open.join(", ") };
    let subnets = if stage.subnets == 1 { "subnet" } else { "subnets" };
    format!("stage {}: {open}; {} steps of {} {subnets}", stage.name, stage.steps, stage.subnets)
}

fn describe(record: &Record) -> String {
    match record {
        Record::Train { step, loss, images_per_second, subnet_updates_per_second, .. } => format!(
            "step {step}: loss {loss:.3}, {images_per_second:.0} images/s, {subnet_updates_per_second:.1} subnet-updates/s"
        ),
        Record::Validation { step, accuracy, random_accuracy, .. } => {
            let mut parts: Vec<String> =
                accuracy.iter().map(|(name, value)| format!("{name} {}", percent(*value))).collect();
            if let Some(Spread { mean, .. }) = Spread::of(random_accuracy) {
                parts.push(format!("mean of {} random {}", random_accuracy.len(), percent(mean)));
            }
            format!("step {step}: validation {}", parts.join(", "))
        }
    }
}

/// What `--format json` prints: the last evaluation and what it says of each subnet.
#[derive(Serialize, JsonSchema)]
pub(super) struct Summary<'a> {
    #[serde(flatten)]
    record: &'a Record,
    health: &'a Health,
}

/// The last evaluation of a finished run.
fn summarise(folder: &RunFolder, format: Format) -> anyhow::Result<()> {
    let model = read_model(&folder.config())?;
    let records = metrics::read(&folder.metrics())?;
    let Some(record @ Record::Validation { step, images, .. }) = metrics::last_validation(&records) else {
        bail!("{} has no evaluation: the file was changed", folder.metrics().display());
    };
    let judged =
        Health::of(&model, record).with_context(|| format!("read {}", folder.metrics().display()))?;
    let health = judged.as_ref().expect("the line is an evaluation");
    if format == Format::Json {
        return table::print_json(&Summary { record, health });
    }
    health::print(health, &format!("accuracy on {images} validation images after step {step}"));
    println!("\nsupernet: {}", folder.supernet().display());
    Ok(())
}
