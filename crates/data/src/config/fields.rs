//! `data:` as it stands in YAML: the formats are keys of one map, of which one is there.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cifar, Csv, DataConfig, Folders, InvalidData, Source, TextFiles};

/// A labelled set of images or texts and how it is prepared. Exactly one of `idx`, `folders`, `cifar`, `csv` and `texts` is
/// given.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(rename = "DataConfig")]
pub(super) struct DataFields {
    /// Folder with the four IDX files of the MNIST layout, plain or `.gz`; relative to the working
    /// folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    idx: Option<PathBuf>,
    /// Trees of PNG, JPEG or WebP files with one folder a class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    folders: Option<Folders>,
    /// The binary files of CIFAR-10 or CIFAR-100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cifar: Option<Cifar>,
    /// Text files with one image a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    csv: Option<Csv>,
    /// Files of labelled texts, for a family that reads texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    texts: Option<TextFiles>,
    /// Number of training examples that are kept apart for validation. They are chosen by the seed,
    /// in each class alike. Left out where the data has a validation set of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    validation: Option<usize>,
    /// Mean of each channel, of pixels in 0..=1. With `std` left out too, both are measured over the
    /// training images, and written into the run's `config.yaml`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mean: Vec<f32>,
    /// Standard deviation of each channel, of pixels in 0..=1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    std: Vec<f32>,
    /// Name of each class; label i is the i-th name. Left out, they are the data's own where it has some
    /// (`folders`: the sorted names of the folders; `cifar`: the file of names; `texts`: the sorted labels), and written into the run's
    /// `config.yaml`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    class_names: Vec<String>,
}

impl TryFrom<DataFields> for DataConfig {
    type Error = InvalidData;

    fn try_from(fields: DataFields) -> Result<Self, InvalidData> {
        let DataFields { idx, folders, cifar, csv, texts, validation, mean, std, class_names } = fields;
        let mut given: Vec<(&'static str, Source)> = [
            idx.map(|path| ("idx", Source::Idx(path))),
            folders.map(|folders| ("folders", Source::Folders(folders))),
            cifar.map(|cifar| ("cifar", Source::Cifar(cifar))),
            csv.map(|csv| ("csv", Source::Csv(csv))),
            texts.map(|texts| ("texts", Source::Texts(texts))),
        ]
        .into_iter()
        .flatten()
        .collect();
        match (given.pop(), given.is_empty()) {
            (Some((_, source)), true) => Ok(Self { source, validation, mean, std, class_names }),
            (last, _) => {
                let found = given.into_iter().chain(last).map(|(name, _)| name).collect();
                Err(InvalidData::Sources { found })
            }
        }
    }
}

impl From<DataConfig> for DataFields {
    fn from(config: DataConfig) -> Self {
        let DataConfig { source, validation, mean, std, class_names } = config;
        let fields = Self { validation, mean, std, class_names, ..Self::default() };
        match source {
            Source::Idx(path) => Self { idx: Some(path), ..fields },
            Source::Folders(folders) => Self { folders: Some(folders), ..fields },
            Source::Cifar(cifar) => Self { cifar: Some(cifar), ..fields },
            Source::Csv(csv) => Self { csv: Some(csv), ..fields },
            Source::Texts(texts) => Self { texts: Some(texts), ..fields },
        }
    }
}
