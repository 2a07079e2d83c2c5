//! Runs on disk: where the newest is and what it holds.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, bail};
use elastic_data::{Splits, load_training};
use elastic_trainer::checkpoint::{self, LoadedSupernet};
use elastic_trainer::config::ModelError;
use elastic_trainer::run_folder::{RunFolder, STAGES};
use elastic_trainer::{Model, calibration};

use crate::progress::Reporter;

/// The folder that holds one folder a run.
pub(crate) const RUNS: &str = "runs";

/// A finished run with its weights.
pub(crate) struct Run {
    /// Its folder.
    pub(crate) folder: RunFolder,
    /// Its configuration; the space is open only in the dimensions that were trained.
    pub(crate) model: Model,
    /// Its supernet and the file's hash.
    pub(crate) loaded: LoadedSupernet,
}

impl Run {
    /// Opens the given run, or the newest finished one.
    pub(crate) fn open(folder: Option<&Path>) -> anyhow::Result<Self> {
        let folder = RunFolder(match folder {
            Some(folder) => folder.to_owned(),
            None => newest(RunFolder::supernet, "--run", || {
                format!("no run in `{RUNS}` has finished: run `elastic train`, or `elastic train --resume`")
            })?,
        });
        require_folder(&folder)?;
        if !folder.is_finished() {
            bail!(
                "{} has no supernet.safetensors: its training has not finished (run: elastic train --out {} --resume)",
                folder.0.display(),
                folder.0.display()
            );
        }
        let config = folder.config();
        let model = read_model(&config)?;
        let loaded = checkpoint::load_supernet(&folder.supernet())?;
        if loaded.supernet.space != model.space {
            bail!(
                "{} and {} describe different search spaces: one of them was changed after training",
                config.display(),
                folder.supernet().display()
            );
        }
        let model = model.restricted(&loaded.training.open);
        Ok(Self { folder, model, loaded })
    }

    /// The run, ready to judge and to extract subnets, and its examples: subnets are chosen and models compared by those for
    /// validation.
    ///
    /// Where the family has batch normalisation, it is measured on images of the training data.
    pub(crate) fn with_images(mut self, reporter: &Reporter) -> anyhow::Result<(Self, Splits)> {
        let model = &self.model;
        let loaded =
            load_training(&model.data, model.space.input(), model.seed(), &mut |line| reporter.say(line))?;
        self.loaded.supernet.calibration = calibration::images(model, &loaded.splits.train);
        Ok((self, loaded.splits))
    }

    /// The run's name.
    pub(crate) fn name(&self) -> String {
        run_name(&self.folder.0)
    }
}

/// A run's name is its folder's; a stage's has the run's before it.
pub(crate) fn run_name(folder: &Path) -> String {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let own = name(folder).unwrap_or_else(|| "run".into());
    match run_of_stage(folder).and_then(name) {
        Some(run) => format!("{run}-{own}"),
        None => own,
    }
}

/// The run that a folder is a stage of.
pub(crate) fn run_of_stage(folder: &Path) -> Option<&Path> {
    folder.parent().filter(|parent| parent.ends_with(STAGES)).and_then(Path::parent)
}

/// Fails where a run's folder is missing.
pub(crate) fn require_folder(run: &RunFolder) -> anyhow::Result<()> {
    if !run.0.is_dir() {
        bail!("{} is no run: there is no such folder (run: elastic train)", run.0.display());
    }
    Ok(())
}

/// Fails where the model file that a user names is missing.
pub(crate) fn require_model_file(path: &Path) -> anyhow::Result<()> {
    if !path.exists() {
        bail!("there is no model file {}: name one with --model; {}", path.display(), known("models"));
    }
    Ok(())
}

/// What a folder offers, for an error's remedy.
pub(crate) fn known(folder: &str) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let stem = |path: PathBuf| Some(path.file_stem()?.to_string_lossy().into_owned());
    let mut names: Vec<String> = entries.filter_map(|entry| stem(entry.ok()?.path())).collect();
    names.sort();
    if names.is_empty() {
        format!("there is no folder `{folder}` with files here: cd to the folder that holds it")
    } else {
        format!("`{folder}` has {}", names.join(", "))
    }
}

/// Reads a model file; every error names it.
pub(crate) fn read_model(path: &Path) -> anyhow::Result<Model> {
    Model::read(path).map_err(|error| match error {
        // It tells the file already.
        ModelError::Read(error) => anyhow::Error::new(error),
        error => anyhow::Error::new(error).context(format!("read {}", path.display())),
    })
}

/// The run in which one file is the newest; `argument` names one instead, and `none` says what is missing
/// where no run has the file.
pub(crate) fn newest(
    file: fn(&RunFolder) -> PathBuf,
    argument: &str,
    none: impl FnOnce() -> String,
) -> anyhow::Result<PathBuf> {
    let entries = match std::fs::read_dir(RUNS) {
        Ok(entries) => entries,
        Err(_) => {
            bail!(
                "there is no folder `{RUNS}` here: run `elastic train` first, or name a run with {argument}"
            )
        }
    };
    let modified = |folder: &PathBuf| -> Option<SystemTime> {
        file(&RunFolder(folder.clone())).metadata().and_then(|metadata| metadata.modified()).ok()
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter_map(|folder| Some((modified(&folder)?, folder)))
        .max()
        .map(|(_, folder)| folder)
        .with_context(none)
}

/// The SHA-256 of a text, shortened for names and tables.
pub(crate) fn short_hash(hash: &str) -> &str {
    &hash[..12.min(hash.len())]
}
