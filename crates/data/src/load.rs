//! Reading a data set's folder: the training and validation images, and apart from them the test
//! images.

use std::path::{Path, PathBuf};

use elastic_space::{Seed, file};
use thiserror::Error;

use crate::config::{DataConfig, InvalidData};
use crate::idx::{self, IdxError};
use crate::images::Images;

/// The files of a data set in the MNIST layout: training images and labels, test images and labels.
pub const FILES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

/// What a training run and a search may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Splits {
    /// Images to learn from.
    pub train: Images,
    /// Images to judge and choose subnets by; never learned from.
    pub validation: Images,
}

/// Why a data set could not be read.
#[derive(Debug, Error)]
pub enum DataError {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] InvalidData),
    /// The folder is not there.
    #[error("there is no data folder {}: {REMEDY}", folder.display())]
    MissingFolder {
        /// The folder.
        folder: PathBuf,
    },
    /// One of the four files is not there.
    #[error("data folder {} has neither {name}.gz nor {name}: {REMEDY}", folder.display())]
    MissingFile {
        /// The folder.
        folder: PathBuf,
        /// The file, without `.gz`.
        name: &'static str,
    },
    /// A file could not be read as IDX.
    #[error(transparent)]
    Idx(#[from] IdxError),
    /// Images and labels do not pair.
    #[error(
        "{} holds {images} images, but {} holds {labels} labels: the two files do not belong together",
        image_file.display(), label_file.display()
    )]
    Counts {
        /// The file of images.
        image_file: PathBuf,
        /// Images in it.
        images: usize,
        /// The file of labels.
        label_file: PathBuf,
        /// Labels in it.
        labels: usize,
    },
    /// No image, or images without pixels.
    #[error("{} holds {images} images of {height} x {width} pixels: there is nothing to learn from", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// Images in it.
        images: usize,
        /// Rows of an image.
        height: usize,
        /// Columns of an image.
        width: usize,
    },
    /// A label that is no class.
    #[error(
        "label {label} at position {position} of {} is not below {classes}, the number of data.class-names",
        path.display()
    )]
    Label {
        /// The file.
        path: PathBuf,
        /// Where in the file, from 0.
        position: usize,
        /// What stands there.
        label: u8,
        /// Number of classes.
        classes: usize,
    },
    /// Nothing would be left to learn from.
    #[error("data.validation is {validation}, but {} holds {training} training images: keep fewer apart", folder.display())]
    Validation {
        /// What was given.
        validation: usize,
        /// Images in the training set.
        training: usize,
        /// The data's folder.
        folder: PathBuf,
    },
    /// The images have another number of channels than mean and standard deviation.
    #[error("data.mean has {found} values, but the images in {} have {channels} channel(s): give one per channel", folder.display())]
    Channels {
        /// Values given.
        found: usize,
        /// Channels of the images.
        channels: usize,
        /// The data's folder.
        folder: PathBuf,
    },
}

const REMEDY: &str = "get the full set with `elastic data fetch fashion-mnist`, or set data.idx to the bundled \
                      data/fashion-mnist-small";

/// Reads the training images and keeps some apart for validation.
///
/// Which ones depends on the data and the seed alone.
///
/// # Errors
///
/// [`DataError`] with the file, the value and the remedy.
pub fn load_training(config: &DataConfig, seed: Seed) -> Result<Splits, DataError> {
    let images = load(config, FILES[0], FILES[1])?;
    if config.validation >= images.len() {
        return Err(DataError::Validation {
            validation: config.validation,
            training: images.len(),
            folder: config.idx.clone(),
        });
    }
    let (train, validation) = images.split_off(config.validation, seed);
    Ok(Splits { train, validation })
}

/// Reads the test images: once, after the search.
///
/// # Errors
///
/// [`DataError`] with the file, the value and the remedy.
pub fn load_test(config: &DataConfig) -> Result<Images, DataError> {
    load(config, FILES[2], FILES[3])
}

/// SHA-256 over the names and contents of the four files, in lowercase hexadecimal.
///
/// The contents count, not their packing: a set has one digest, in gzip or plain.
///
/// # Errors
///
/// [`DataError`] with the file.
pub fn digest(config: &DataConfig) -> Result<String, DataError> {
    let mut lines = String::new();
    for name in FILES {
        let content = idx::read_content(&find(&config.idx, name)?)?;
        lines += &format!("{name} {}\n", file::sha256(&content));
    }
    Ok(file::sha256(lines.as_bytes()))
}

fn load(config: &DataConfig, images: &'static str, labels: &'static str) -> Result<Images, DataError> {
    config.validate()?;
    let (image_file, label_file) = (find(&config.idx, images)?, find(&config.idx, labels)?);
    let pixels = idx::read(&image_file, 3)?;
    let labels = idx::read(&label_file, 1)?;
    let [count, height, width] = pixels.shape[..] else { unreachable!("three sizes were asked for") };
    if count != labels.values.len() {
        let (images, labels) = (count, labels.values.len());
        return Err(DataError::Counts { image_file, images, label_file, labels });
    }
    if pixels.values.is_empty() {
        return Err(DataError::Empty { path: image_file, images: count, height, width });
    }
    let classes = config.class_names.len();
    if let Some(position) = labels.values.iter().position(|&label| usize::from(label) >= classes) {
        let label = labels.values[position];
        return Err(DataError::Label { path: label_file, position, label, classes });
    }
    let images = Images { channels: 1, height, width, pixels: pixels.values, labels: labels.values };
    if config.mean.len() != images.channels {
        return Err(DataError::Channels {
            found: config.mean.len(),
            channels: images.channels,
            folder: config.idx.clone(),
        });
    }
    Ok(images)
}

/// The packed file if it is there, else the plain one.
fn find(folder: &Path, name: &'static str) -> Result<PathBuf, DataError> {
    if !folder.is_dir() {
        return Err(DataError::MissingFolder { folder: folder.to_owned() });
    }
    [folder.join(format!("{name}.gz")), folder.join(name)]
        .into_iter()
        .find(|path| path.exists())
        .ok_or_else(|| DataError::MissingFile { folder: folder.to_owned(), name })
}

#[cfg(test)]
mod tests;
