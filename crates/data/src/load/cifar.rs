//! The binary files of CIFAR: records of one or two label bytes and 3 x 32 x 32 pixels, channel by channel.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Part;
use crate::config::{Cifar, CifarKind};
use crate::idx::{self, IdxError};
use crate::images::Images;

const CHANNELS: usize = 3;
const SIDE: usize = 32;
const PIXELS: usize = CHANNELS * SIDE * SIDE;

/// Why files of CIFAR could not be read.
#[derive(Debug, Error)]
pub enum CifarError {
    /// A file is not there.
    #[error(
        "there is no {} (nor with .gz): data.cifar.path is the folder of the unpacked binary version",
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read or unpacked.
    #[error(transparent)]
    Read(#[from] IdxError),
    /// The file does not end with a record.
    #[error(
        "{} holds {bytes} bytes, which is no whole number of records of {record}: it is cut short, or of another \
         data.cifar.kind", path.display()
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// Its bytes, unpacked.
        bytes: usize,
        /// Bytes of a record.
        record: usize,
    },
    /// A label that is no class.
    #[error(
        "label {label} of record {position} of {} is not below {classes}, the number of classes: the file is damaged, or \
         of another data.cifar.kind", path.display()
    )]
    Label {
        /// The file.
        path: PathBuf,
        /// The record, from 0.
        position: usize,
        /// What stands there.
        label: u8,
        /// Number of classes.
        classes: usize,
    },
    /// Another number of names than of classes.
    #[error("{} names {found} classes where there are {expected}: get the file anew, or give data.class-names", path.display())]
    Names {
        /// The file of names.
        path: PathBuf,
        /// Names in it.
        found: usize,
        /// Classes of the set.
        expected: usize,
    },
}

/// How a set is laid out.
struct Layout {
    train: &'static [&'static str],
    test: &'static [&'static str],
    names: &'static str,
    classes: usize,
    /// Label bytes of a record, and which of them is the label.
    labels: usize,
    label: usize,
}

const CIFAR_10: Layout = Layout {
    train: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test: &["test_batch.bin"],
    names: "batches.meta.txt",
    classes: 10,
    labels: 1,
    label: 0,
};
const CIFAR_100_COARSE: Layout = Layout {
    train: &["train.bin"],
    test: &["test.bin"],
    names: "coarse_label_names.txt",
    classes: 20,
    labels: 2,
    label: 0,
};
const CIFAR_100: Layout =
    Layout { names: "fine_label_names.txt", classes: 100, label: 1, ..CIFAR_100_COARSE };

fn layout(kind: CifarKind) -> &'static Layout {
    match kind {
        CifarKind::Cifar10 => &CIFAR_10,
        CifarKind::Cifar100 => &CIFAR_100,
        CifarKind::Cifar100Coarse => &CIFAR_100_COARSE,
    }
}

/// The names in the file that comes with the set.
pub(super) fn class_names(cifar: &Cifar) -> Result<Vec<String>, CifarError> {
    let layout = layout(cifar.kind);
    let path = find(&cifar.path.join(layout.names))?;
    let text = String::from_utf8_lossy(&idx::read_content(&path)?).into_owned();
    let names: Vec<String> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if names.len() != layout.classes {
        return Err(CifarError::Names { path, found: names.len(), expected: layout.classes });
    }
    Ok(names)
}

/// Reads the images of a part and their labels.
pub(super) fn read(cifar: &Cifar, part: Part, classes: usize) -> Result<Images, CifarError> {
    let layout = layout(cifar.kind);
    let files = match part {
        Part::Train => layout.train,
        Part::Test => layout.test,
        Part::Validation => unreachable!("the sets have no validation files"),
    };
    let mut images =
        Images { channels: CHANNELS, height: SIDE, width: SIDE, pixels: Vec::new(), labels: Vec::new() };
    let record = layout.labels + PIXELS;
    for name in files {
        let path = find(&cifar.path.join(name))?;
        let content = idx::read_content(&path)?;
        if content.is_empty() || content.len() % record != 0 {
            return Err(CifarError::Length { path, bytes: content.len(), record });
        }
        for (position, record) in content.chunks_exact(record).enumerate() {
            let label = record[layout.label];
            if usize::from(label) >= classes {
                return Err(CifarError::Label { path, position, label, classes });
            }
            images.labels.push(label);
            images.pixels.extend(&record[layout.labels..]);
        }
    }
    Ok(images)
}

fn find(path: &Path) -> Result<PathBuf, CifarError> {
    idx::packed_or_plain(path).ok_or_else(|| CifarError::Missing { path: path.to_owned() })
}

#[cfg(test)]
mod tests;
