//! Reading a data set: the training and validation examples, and apart from them the test examples.

mod cache;
mod cifar;
mod csv;
mod decode;
mod folders;
mod mnist;
mod texts;

use std::path::PathBuf;

use elastic_space::Seed;
use thiserror::Error;

use crate::config::{DataConfig, InvalidData, Source};
use crate::examples::Examples;
use crate::normalise::statistics;

pub use cifar::CifarError;
pub use csv::CsvError;
pub use decode::DecodeError;
pub use folders::{Corrupt, FoldersError};
pub use mnist::{FILES, MnistError};
pub use texts::{Malformed, TextsError};

/// What a training run and a search may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Splits {
    /// Examples to learn from.
    pub train: Examples,
    /// Examples to judge and choose subnets by; never learned from. Any first part is a fair sample.
    pub validation: Examples,
}

/// Training data, and its description with nothing left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The examples.
    pub splits: Splits,
    /// The configuration with the classes' names, and with mean and standard deviation.
    pub config: DataConfig,
}

/// A set of examples with a purpose of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Train,
    Validation,
    Test,
}

/// Why a data set could not be read.
#[derive(Debug, Error)]
pub enum DataError {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] InvalidData),
    /// Files of the MNIST layout.
    #[error(transparent)]
    Mnist(#[from] MnistError),
    /// Trees with one folder a class.
    #[error(transparent)]
    Folders(#[from] FoldersError),
    /// Binary files of CIFAR.
    #[error(transparent)]
    Cifar(#[from] CifarError),
    /// Text files with one image a line.
    #[error(transparent)]
    Csv(#[from] CsvError),
    /// Files of labelled texts.
    #[error(transparent)]
    Texts(#[from] TextsError),
    /// Labels without names.
    #[error("data.class-names is missing: {} does not name its classes, give one name for each label from 0 on", data.display())]
    NoNames {
        /// Where the data is.
        data: PathBuf,
    },
    /// No validation images.
    #[error(
        "data.validation is missing: {} has no validation set of its own, say how many training examples to keep apart",
        data.display()
    )]
    NoValidation {
        /// Where the data is.
        data: PathBuf,
    },
    /// Two validation sets.
    #[error(
        "data.validation is {validation}, but {} has a validation set of its own: leave out data.validation, or take the \
         set away", data.display()
    )]
    TwoValidations {
        /// What was given.
        validation: usize,
        /// Where the data is.
        data: PathBuf,
    },
    /// Nothing would be left to learn from.
    #[error("data.validation is {validation}, but {} holds {training} training examples: keep fewer apart", data.display())]
    Validation {
        /// What was given.
        validation: usize,
        /// Examples in the training set.
        training: usize,
        /// Where the data is.
        data: PathBuf,
    },
    /// The images have another number of channels than mean and standard deviation.
    #[error("data.mean has {found} values, but the images in {} have {channels} channel(s): give one per channel", data.display())]
    Channels {
        /// Values given.
        found: usize,
        /// Channels of the images.
        channels: usize,
        /// Where the data is.
        data: PathBuf,
    },
    /// Pixels that cannot be scaled.
    #[error("channel {channel} of every training image in {} has the same value everywhere: there is nothing to learn from", data.display())]
    Constant {
        /// The channel, from 0.
        channel: usize,
        /// Where the data is.
        data: PathBuf,
    },
}

/// Reads the training examples, and the validation examples or keeps some apart for them.
///
/// `input` is the network's channels, height and width, which images from folders are brought to, and the last of which
/// cuts texts; `say` takes lines for people. What is kept apart, and the order of the validation examples, depends on the data and the
/// seed alone.
///
/// # Errors
///
/// [`DataError`] with the file, the value and the remedy.
pub fn load_training(
    config: &DataConfig,
    input: [usize; 3],
    seed: Seed,
    say: &mut dyn FnMut(&str),
) -> Result<Loaded, DataError> {
    config.validate()?;
    let data = || config.source.path().to_owned();
    let names = class_names(config)?;
    let own = has_validation(&config.source);
    match config.validation {
        Some(validation) if own => return Err(DataError::TwoValidations { validation, data: data() }),
        None if !own => return Err(DataError::NoValidation { data: data() }),
        _ => {}
    }
    let images = read(config, &names, Part::Train, input, say)?;
    let (train, validation) = match config.validation {
        None => (images, read(config, &names, Part::Validation, input, say)?),
        Some(validation) if validation >= images.len() => {
            return Err(DataError::Validation { validation, training: images.len(), data: data() });
        }
        Some(validation) => images.split_off(validation, seed),
    };
    let splits = Splits { train, validation: validation.shuffled(seed) };
    let mut config = DataConfig { class_names: names, ..config.clone() };
    if let (true, Examples::Images(train)) = (config.mean.is_empty(), &splits.train) {
        (config.mean, config.std) = statistics(train);
        if let Some(channel) = config.std.iter().position(|&value| value <= 0.0) {
            return Err(DataError::Constant { channel, data: data() });
        }
    }
    Ok(Loaded { splits, config })
}

/// Reads the test examples: once, after the search.
///
/// `input` and `say` are as in [`load_training`].
///
/// # Errors
///
/// [`DataError`] with the file, the value and the remedy.
pub fn load_test(
    config: &DataConfig,
    input: [usize; 3],
    say: &mut dyn FnMut(&str),
) -> Result<Examples, DataError> {
    config.validate()?;
    read(config, &class_names(config)?, Part::Test, input, say)
}

/// The names that are given, else those of the data.
fn class_names(config: &DataConfig) -> Result<Vec<String>, DataError> {
    if !config.class_names.is_empty() {
        return Ok(config.class_names.clone());
    }
    match &config.source {
        Source::Folders(folders) => Ok(folders::class_names(folders)?),
        Source::Cifar(cifar) => Ok(cifar::class_names(cifar)?),
        Source::Texts(texts) => Ok(texts::class_names(texts)?),
        Source::Idx(path) => Err(DataError::NoNames { data: path.clone() }),
        Source::Csv(csv) => Err(DataError::NoNames { data: csv.train.clone() }),
    }
}

/// Whether there are validation examples apart from the training examples.
fn has_validation(source: &Source) -> bool {
    match source {
        Source::Folders(folders) => folders::tree(folders, Part::Validation).exists(),
        Source::Csv(csv) => csv.validation.is_some(),
        Source::Texts(texts) => texts.validation.is_some(),
        Source::Idx(_) | Source::Cifar(_) => false,
    }
}

fn read(
    config: &DataConfig,
    names: &[String],
    part: Part,
    input: [usize; 3],
    say: &mut dyn FnMut(&str),
) -> Result<Examples, DataError> {
    let images = match &config.source {
        Source::Idx(folder) => mnist::read(folder, part, names.len())?,
        Source::Folders(folders) => folders::read(folders, part, names, input, say)?,
        Source::Cifar(cifar) => cifar::read(cifar, part, names.len())?,
        Source::Csv(csv) => csv::read(csv, part, names.len(), input)?,
        Source::Texts(texts) => return Ok(Examples::Texts(texts::read(texts, part, names, input[2], say)?)),
    };
    if !config.mean.is_empty() && config.mean.len() != images.channels {
        return Err(DataError::Channels {
            found: config.mean.len(),
            channels: images.channels,
            data: config.source.path().to_owned(),
        });
    }
    Ok(Examples::Images(images))
}

#[cfg(test)]
mod tests;
