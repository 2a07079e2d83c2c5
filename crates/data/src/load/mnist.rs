//! The four IDX files of the MNIST layout.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Part;
use crate::idx::{self, IdxError};
use crate::images::Images;

/// The files of a data set in the MNIST layout: training images and labels, test images and labels.
pub const FILES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

/// Why a folder of IDX files could not be read.
#[derive(Debug, Error)]
pub enum MnistError {
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
}

const REMEDY: &str = "get the full set with `elastic data fetch fashion-mnist`, or set data.idx to the bundled \
                      data/fashion-mnist-small";

/// Reads the images of a part and their labels.
pub(super) fn read(folder: &Path, part: Part, classes: usize) -> Result<Images, MnistError> {
    let (images, labels) = match part {
        Part::Train => (FILES[0], FILES[1]),
        Part::Test => (FILES[2], FILES[3]),
        Part::Validation => unreachable!("the layout has no validation files"),
    };
    let (image_file, label_file) = (find(folder, images)?, find(folder, labels)?);
    let pixels = idx::read(&image_file, 3)?;
    let labels = idx::read(&label_file, 1)?;
    let [count, height, width] = pixels.shape[..] else { unreachable!("three sizes were asked for") };
    if count != labels.values.len() {
        let (images, labels) = (count, labels.values.len());
        return Err(MnistError::Counts { image_file, images, label_file, labels });
    }
    if pixels.values.is_empty() {
        return Err(MnistError::Empty { path: image_file, images: count, height, width });
    }
    if let Some(position) = labels.values.iter().position(|&label| usize::from(label) >= classes) {
        let label = labels.values[position];
        return Err(MnistError::Label { path: label_file, position, label, classes });
    }
    Ok(Images { channels: 1, height, width, pixels: pixels.values, labels: labels.values })
}

/// The packed file if it is there, else the plain one.
fn find(folder: &Path, name: &'static str) -> Result<PathBuf, MnistError> {
    if !folder.is_dir() {
        return Err(MnistError::MissingFolder { folder: folder.to_owned() });
    }
    idx::packed_or_plain(&folder.join(name))
        .ok_or_else(|| MnistError::MissingFile { folder: folder.to_owned(), name })
}
