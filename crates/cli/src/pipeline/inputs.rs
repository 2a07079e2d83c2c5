//! What a step is made from, and whether what it made is still so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use elastic_runtime::library;
use elastic_space::platform::{Runtime, Transport};
use elastic_space::{Limits, Platform, file};
use elastic_trainer::Model;
use elastic_trainer::config::Teacher;
use elastic_trainer::plan::plan;
use elastic_trainer::run_folder::RunFolder;
use serde::Serialize;

use super::state::{Inputs, Record};
use super::steps::{Step, Work};
use crate::platforms;

/// What is to be done about a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    UpToDate,
    /// Why it runs.
    Run(String),
    /// A training goes on from its checkpoint, and why.
    Resume(String),
}

/// Reads what steps are made from; what several share is read once.
#[derive(Default)]
pub(crate) struct Reader {
    /// The digest of the data by model.
    data: BTreeMap<String, String>,
}

impl Reader {
    /// What a step is made from, once the steps that it needs are done; `train` is the one that trains its model.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub(crate) fn inputs(&mut self, step: &Step, steps: &[Step]) -> anyhow::Result<Inputs> {
        let mut inputs = Inputs::from([
            ("program".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("options".to_owned(), step.words.join(" ")),
        ]);
        let mut add = |key: &str, value: String| inputs.insert(key.to_owned(), value);
        let of_run = || of_file(&RunFolder(run_of(step, steps)).supernet());
        match &step.work {
            Work::Train(train) => {
                let model = train.resolve()?;
                add("model", of_value(&model)?);
                add("data", self.data(&step.model, &model)?);
                if let Some(init) = &model.init {
                    add("init", of_file(&init.from)?);
                }
                for teacher in teachers(&model)? {
                    add(&format!("teacher {}", teacher.display()), of_file(&teacher)?);
                }
            }
            Work::Profile { platform, .. } => {
                add("supernet", of_run()?);
                let platform = platforms::read(platform)?.platform;
                if platform.transport == Transport::Local
                    && matches!(platform.runtime, Runtime::OnnxRuntime(_))
                {
                    add_library(&mut add)?;
                }
                // Limits are what an export goes by: another one measures nothing again.
                add("platform", of_value(&Platform { limits: Limits::default(), ..platform })?);
            }
            Work::Export(command) => {
                add("supernet", of_run()?);
                // Every export is proven in it.
                add_library(&mut add)?;
                if command.limits.values().any(|limits| !limits.is_empty()) {
                    add("limits", of_value(&command.limits)?);
                }
                for need in &step.needs {
                    match &steps[*need].work {
                        Work::Train(train) => {
                            add("data", self.data(&step.model, &train.resolve()?)?);
                        }
                        Work::Profile { .. } => {
                            let key = match &step.platforms[..] {
                                [_] => "profile".to_owned(),
                                _ => format!("profile on {}", steps[*need].platforms.join(", ")),
                            };
                            add(&key, of_file(&steps[*need].target)?);
                        }
                        Work::Export(_) => {}
                    }
                }
            }
        }
        Ok(inputs)
    }

    /// The digest of a model's data: of the names and contents of its files.
    fn data(&mut self, name: &str, model: &Model) -> anyhow::Result<String> {
        if let Some(known) = self.data.get(name) {
            return Ok(known.clone());
        }
        let source = &model.data.source;
        let files = source.files().with_context(|| format!("list {}", source.path().display()))?;
        let mut lines = String::new();
        for path in files {
            lines += &format!("{} {}\n", of_file(&path)?, path.display());
        }
        let digest = file::sha256(lines.as_bytes());
        self.data.insert(name.to_owned(), digest.clone());
        Ok(digest)
    }
}

/// What is to be done about a step that is made from `inputs`.
///
/// # Errors
///
/// A file that it made is there and cannot be read.
pub(crate) fn decide(step: &Step, inputs: &Inputs, record: Option<&Record>) -> anyhow::Result<Decision> {
    let Some(record) = record else {
        return Ok(Decision::Run("new".to_owned()));
    };
    let keys: std::collections::BTreeSet<&String> = inputs.keys().chain(record.inputs.keys()).collect();
    let changed: Vec<&str> = keys
        .into_iter()
        .filter(|key| inputs.get(*key) != record.inputs.get(*key))
        .map(|key| &key[..])
        .collect();
    if !changed.is_empty() {
        return Ok(Decision::Run(format!("changed: {}", changed.join(", "))));
    }
    if !record.done {
        let why = "it was stopped or failed".to_owned();
        return Ok(match step.run_folder() {
            Some(run) if run.checkpoint().exists() => Decision::Resume(why),
            _ => Decision::Run(why),
        });
    }
    for (path, digest) in &record.outputs {
        if !path.exists() {
            return Ok(Decision::Run(format!("{} is missing", path.display())));
        }
        if of_file(path)? != *digest {
            return Ok(Decision::Run(format!("{} was changed", path.display())));
        }
    }
    Ok(Decision::UpToDate)
}

/// The SHA-256 of files.
///
/// # Errors
///
/// One that cannot be read.
pub(crate) fn of_files(paths: Vec<PathBuf>) -> anyhow::Result<BTreeMap<PathBuf, String>> {
    paths.into_iter().map(|path| Ok((path.clone(), of_file(&path)?))).collect()
}

/// Adds the ONNX Runtime library of this machine. One that is missing is told by the step that needs it.
fn add_library(add: &mut impl FnMut(&str, String) -> Option<String>) -> anyhow::Result<()> {
    if let Ok(library) = library::find() {
        add("onnxruntime", of_file(&library.path)?);
    }
    Ok(())
}

fn of_file(path: &Path) -> anyhow::Result<String> {
    Ok(file::sha256(&file::read(path)?))
}

/// Of what a file says, so that a comment changes nothing.
fn of_value<T: Serialize>(value: &T) -> anyhow::Result<String> {
    Ok(file::sha256(&serde_json::to_vec(value)?))
}

/// The folder of the run that a step needs.
fn run_of(step: &Step, steps: &[Step]) -> PathBuf {
    let needed = step.needs.iter().map(|need| &steps[*need]);
    needed.filter_map(Step::run_folder).map(|run| run.0).next().unwrap_or_else(|| step.target.clone())
}

/// The ONNX files that teach, each once.
fn teachers(model: &Model) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for stage in plan(model)? {
        if let Some(Teacher::Onnx(path)) = stage.distillation.map(|distillation| distillation.teacher)
            && !paths.contains(&path)
        {
            paths.push(path);
        }
    }
    Ok(paths)
}
