//! The steps of a pipeline: each is a command of the program, as a user would type it.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Parser;
use elastic_trainer::run_folder::RunFolder;

use super::Pipeline;
use super::options::words;
use crate::Arguments;
use crate::commands::Command;
use crate::commands::export::Export;
use crate::commands::profile::Profile;
use crate::commands::train::Train;
use crate::exit::WrongUsage;
use crate::platforms::{self, PROFILES};
use crate::runs::RUNS;

/// The folder of exports in that of the pipeline.
const EXPORTS: &str = "exports";

/// One step.
pub(crate) struct Step {
    /// What people and the state call it.
    pub(crate) name: String,
    /// The command line without the program's name.
    pub(crate) words: Vec<String>,
    /// The same, read.
    pub(crate) work: Work,
    /// The name of its model.
    pub(crate) model: String,
    /// The names of its platforms: none of a training, and more than one where few models are to serve several.
    pub(crate) platforms: Vec<String>,
    /// The places in the list of the step that trains its model, and of those that profile its platforms.
    pub(crate) needs: Vec<usize>,
    /// Where it writes: the folder of a run, a profile's file, or the folder of exports.
    pub(crate) target: PathBuf,
}

/// What a step does.
pub(crate) enum Work {
    Train(Box<Train>),
    Profile { platform: String, command: Box<Profile> },
    Export(Box<Export>),
}

impl Step {
    /// The command line as it would be typed.
    pub(crate) fn command(&self) -> String {
        let quoted = |word: &String| {
            let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./=:,+%@".contains(letter);
            if !word.is_empty() && word.chars().all(plain) {
                word.clone()
            } else {
                format!("'{}'", word.replace('\'', "'\\''"))
            }
        };
        let words: Vec<String> = self.words.iter().map(quoted).collect();
        format!("elastic {}", words.join(" "))
    }

    /// The training of this step as one that goes on from its checkpoint.
    pub(crate) fn resumed(&self) -> anyhow::Result<Train> {
        let words = [&self.words[..], &["--resume".to_owned()]].concat();
        match parse(&words)? {
            Command::Train(train) => Ok(train),
            _ => unreachable!("only a training is resumed"),
        }
    }

    /// The run's folder of a step that trains.
    pub(crate) fn run_folder(&self) -> Option<RunFolder> {
        matches!(self.work, Work::Train(_)).then(|| RunFolder(self.target.clone()))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)
    }
}

/// The steps in their order: each model is trained; then for each platform it is profiled, and exported; then what is to serve
/// several platforms is exported for these.
///
/// # Errors
///
/// A model or platform file, or an option, that its command refuses, with the step.
pub(crate) fn of(pipeline: &Pipeline) -> anyhow::Result<Vec<Step>> {
    let mut steps = Vec::new();
    for (path, model) in pipeline.models.iter().zip(pipeline.model_names()) {
        let run = pipeline.out.join(RUNS).join(&model);
        let train = steps.len();
        steps.push(train_step(pipeline, path, &model, &run)?);
        let exports = || pipeline.exports.iter().filter(|(_, export)| names(&export.models, &model));
        for (name, export) in exports() {
            if export.platforms.as_ref().map_or(pipeline.platforms.is_empty(), Vec::is_empty) {
                steps.push(export_step(pipeline, name, &model, (&run, train), &[])?);
            }
        }
        let mut profiled = Vec::new();
        for (file, platform) in pipeline.platforms.iter().zip(pipeline.platform_names()) {
            let step = profile_step(pipeline, file, &platform, &model, &run, train)?;
            let one = Profiled { file, platform, profile: step.target.clone(), step: steps.len() };
            steps.push(step);
            for (name, export) in exports() {
                if !export.is_fleet() && names(&export.platforms, &one.platform) {
                    steps.push(export_step(pipeline, name, &model, (&run, train), &[&one])?);
                }
            }
            profiled.push(one);
        }
        for (name, export) in exports() {
            let of_fleet = profiled.iter().filter(|one| names(&export.platforms, &one.platform));
            let of_fleet: Vec<&Profiled<'_>> = of_fleet.collect();
            if export.is_fleet() && !of_fleet.is_empty() {
                steps.push(export_step(pipeline, name, &model, (&run, train), &of_fleet)?);
            }
        }
    }
    Ok(steps)
}

/// Whether one is among the names; all are where there are none.
fn names(names: &Option<Vec<String>>, one: &String) -> bool {
    names.as_ref().is_none_or(|names| names.contains(one))
}

/// A platform that is profiled before something is exported for it.
struct Profiled<'a> {
    /// The platform's file, as the pipeline names it.
    file: &'a str,
    platform: String,
    profile: PathBuf,
    /// The place of the step that profiles it.
    step: usize,
}

fn train_step(pipeline: &Pipeline, path: &Path, model: &str, run: &Path) -> anyhow::Result<Step> {
    let name = format!("train {model}");
    let words =
        [&["train".to_owned(), flag("model", path), flag("out", run)][..], &words(&pipeline.train)].concat();
    let Command::Train(train) = parse(&words).with_context(|| name.clone())? else {
        unreachable!("the words begin with the command")
    };
    // A file that is missing or wrong is told before anything runs.
    train.resolve().with_context(|| name.clone())?;
    Ok(Step {
        name,
        words,
        work: Work::Train(Box::new(train)),
        model: model.to_owned(),
        platforms: Vec::new(),
        needs: Vec::new(),
        target: run.to_owned(),
    })
}

fn profile_step(
    pipeline: &Pipeline,
    file: &str,
    platform: &str,
    model: &str,
    run: &Path,
    train: usize,
) -> anyhow::Result<Step> {
    let name = format!("profile {model} on {platform}");
    platforms::read(file).with_context(|| name.clone())?;
    let target = pipeline.out.join(PROFILES).join(model).join(format!("{platform}.json"));
    let fixed =
        ["profile".to_owned(), flag("platform", Path::new(file)), flag("run", run), flag("out", &target)];
    let words = [&fixed[..], &words(&pipeline.profile)].concat();
    let Command::Profile(command) = parse(&words).with_context(|| name.clone())? else {
        unreachable!("the words begin with the command")
    };
    command.check().with_context(|| name.clone())?;
    Ok(Step {
        name,
        words,
        work: Work::Profile { platform: file.to_owned(), command: Box::new(command) },
        model: model.to_owned(),
        platforms: vec![platform.to_owned()],
        needs: vec![train],
        target,
    })
}

fn export_step(
    pipeline: &Pipeline,
    export: &str,
    model: &str,
    (run, train): (&Path, usize),
    profiled: &[&Profiled<'_>],
) -> anyhow::Result<Step> {
    let is_fleet = pipeline.exports[export].is_fleet();
    let name = match profiled {
        [] => format!("export {export} of {model}"),
        [one] if !is_fleet => format!("export {export} of {model} for {}", one.platform),
        _ => format!("export {export} of {model} for all its platforms"),
    };
    let target = pipeline.out.join(EXPORTS).join(export);
    let fixed = ["export".to_owned(), flag("run", run), flag("out", &target)];
    let of_platform: Vec<String> = profiled.iter().map(|one| flag("platform", &one.profile)).collect();
    let words = [&fixed[..], &of_platform, &words(&pipeline.exports[export].options)].concat();
    let Command::Export(mut command) = parse(&words).with_context(|| name.clone())? else {
        unreachable!("the words begin with the command")
    };
    command.check().with_context(|| name.clone())?;
    for Profiled { file, platform, .. } in profiled {
        // Known before the profile is: an export that no budget bounds must not fail after hours of training.
        let (path, limits) = platforms::limits_of_file(file).with_context(|| name.clone())?;
        if command.lacks_budget(&limits) {
            let problem = format!(
                "exports.{export} has no budget for {platform}: give it one, such as `budget: 2gflops`, or write `limits` in {}",
                path.display()
            );
            return Err(WrongUsage(problem).into());
        }
        command.limits.insert(platform.clone(), limits);
    }
    Ok(Step {
        name,
        words,
        work: Work::Export(Box::new(command)),
        model: model.to_owned(),
        platforms: profiled.iter().map(|one| one.platform.clone()).collect(),
        needs: std::iter::once(train).chain(profiled.iter().map(|one| one.step)).collect(),
        target,
    })
}

fn flag(name: &str, value: &Path) -> String {
    format!("--{name}={}", value.display())
}

fn parse(words: &[String]) -> anyhow::Result<Command> {
    let all = std::iter::once("elastic").chain(words.iter().map(String::as_str));
    match Arguments::try_parse_from(all) {
        Ok(arguments) => Ok(arguments.command),
        Err(error) => {
            let text = error.to_string();
            let message = text.lines().next().unwrap_or_default();
            Err(anyhow!("{}", message.strip_prefix("error: ").unwrap_or(message)))
        }
    }
}
