//! Why a run failed.

use std::path::PathBuf;

use elastic_data::InvalidLoader;
use elastic_space::file::WriteError;
use thiserror::Error;

use crate::checkpoint::{LoadError, SaveError};
use crate::init::InitError;
use crate::plan::InvalidScheme;
use crate::step::NotFinite;
use crate::teacher::TeacherError;

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
    /// The checkpoint is in a stage that the scheme does not have.
    #[error(
        "read {}: it is in stage {stage}, but the scheme has {stages} (counted from 0): the file was changed; begin the run anew with another --out",
        checkpoint.display()
    )]
    NoSuchStage {
        /// The file.
        checkpoint: PathBuf,
        /// What the file says.
        stage: usize,
        /// How many the scheme has.
        stages: usize,
    },
    /// A loss, the gradient or a weight is no number.
    #[error(
        "step {step}: {source}; lower the learning-rate or set clip-gradient-norm (the last checkpoint is kept)"
    )]
    Diverged {
        /// The step, counted from 1.
        step: u64,
        /// What is no number.
        source: NotFinite,
    },
    /// The smallest subnet has lost what it had learned.
    #[error(
        "step {step}: stage {stage} has collapsed: the accuracy of its smallest subnet, once above chance, is {:.2} % (chance {:.2} %, margin {:.2} %); lower its learning-rate, or set clip-gradient-norm{remedy} (the last checkpoint is kept)",
        100.0 * accuracy, 100.0 * chance, 100.0 * margin
    )]
    Collapsed {
        /// The step, counted from 1 over all stages.
        step: u64,
        /// The stage.
        stage: String,
        /// The accuracy, 0 to 1.
        accuracy: f64,
        /// The accuracy of guessing, 0 to 1.
        chance: f64,
        /// The recipe's margin.
        margin: f64,
        /// Where to go on from, where an earlier stage is kept.
        remedy: String,
    },
    /// The first weights cannot be had.
    #[error("begin with the weights of `init`: {0}")]
    Init(#[from] InitError),
    /// The weights have been through another stage than `init.after` says.
    #[error("init.after is {after}, but {} has been through {found}", from.display())]
    After {
        /// What `init` says.
        after: String,
        /// The file.
        from: PathBuf,
        /// What the file says.
        found: String,
    },
    /// No stage is left to train.
    #[error("{after} is no stage of this model with another after it; its stages are {}", stages.join(", "))]
    NothingLeft {
        /// What `init` says.
        after: String,
        /// The stages of the scheme.
        stages: Vec<String>,
    },
    /// The teacher cannot be used.
    #[error("distil from the teacher: {0}")]
    Teacher(#[from] TeacherError),
    /// The scheme breaks a rule.
    #[error("training.scheme.{0}")]
    Scheme(#[from] InvalidScheme),
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
