//! The formats of data sets.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where images or texts are, and in which format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Folder with the four IDX files of the MNIST layout.
    Idx(PathBuf),
    /// Trees with one folder a class.
    Folders(Folders),
    /// The binary files of CIFAR-10 or CIFAR-100.
    Cifar(Cifar),
    /// Text files with one image a line.
    Csv(Csv),
    /// Files of labelled texts.
    Texts(TextFiles),
}

/// Trees of PNG, JPEG or WebP files with one folder a class: `train/CLASS/FILE`, `test/CLASS/FILE` and, if
/// the data has a validation set of its own, `validation/CLASS/FILE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Folders {
    /// The folder that holds the trees; relative to the working folder.
    pub path: PathBuf,
    /// What is done about a file that cannot be decoded.
    pub on_corrupt: OnCorrupt,
}

/// What is done about a file that cannot be decoded, or a row that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnCorrupt {
    /// It is an error that names them.
    Fail,
    /// It is left out, and named in a line on standard error.
    Skip,
}

/// The binary files of [CIFAR](https://www.cs.toronto.edu/~kriz/cifar.html): 3 x 32 x 32 pixels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cifar {
    /// Folder with the `.bin` files, plain or `.gz`; relative to the working folder.
    pub path: PathBuf,
    /// Which set it is.
    pub kind: CifarKind,
}

/// A set of CIFAR and its labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CifarKind {
    /// 10 classes: `data_batch_1.bin` to `data_batch_5.bin`, `test_batch.bin`.
    #[serde(rename = "cifar-10")]
    Cifar10,
    /// 100 classes, the fine labels: `train.bin`, `test.bin`.
    #[serde(rename = "cifar-100")]
    Cifar100,
    /// 20 classes, the coarse labels of the same files.
    #[serde(rename = "cifar-100-coarse")]
    Cifar100Coarse,
}

/// Text files with one image a line: a label and its pixels, whole numbers from 0 to 255 between commas, channel
/// by channel and each row by row. Plain or `.gz`; a first line whose label is no number is one of names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Csv {
    /// Training images; relative to the working folder.
    pub train: PathBuf,
    /// Validation images, if the data has a validation set of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<PathBuf>,
    /// Test images.
    pub test: PathBuf,
    /// Where the label stands.
    pub label: LabelColumn,
}

/// Where the label stands in a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LabelColumn {
    /// Before the pixels.
    First,
    /// After the pixels.
    Last,
    /// In the column that the first line names so.
    Column(String),
}

/// Files of labelled texts: `.csv`, `.tsv` or `.jsonl`, plain or `.gz`. The first line of a table names its columns; a
/// field may stand in double quotes. JSONL has one object a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TextFiles {
    /// Training texts; relative to the working folder.
    pub train: PathBuf,
    /// Validation texts, if the data has a validation set of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<PathBuf>,
    /// Test texts.
    pub test: PathBuf,
    /// The column, or the key in JSONL, of the texts.
    pub text: String,
    /// The column, or the key in JSONL, of the labels.
    pub label: String,
    /// The `tokenizer.json` of Hugging Face's library, of any kind; its truncation and its padding do not count. Texts are cut at the network's `length`.
    pub tokenizer: PathBuf,
    /// A batch is padded to a multiple of so many tokens.
    pub pad_to: usize,
    /// What is done about a row without a text or a label that is known.
    pub on_malformed: OnCorrupt,
}

impl Source {
    /// The folder of the data; of text files, the one to train with.
    pub fn path(&self) -> &Path {
        match self {
            Self::Idx(path) => path,
            Self::Folders(folders) => &folders.path,
            Self::Cifar(cifar) => &cifar.path,
            Self::Csv(csv) => &csv.train,
            Self::Texts(texts) => &texts.train,
        }
    }

    /// The folder of the data, to change it; text files have none.
    pub fn folder_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::Idx(path) => Some(path),
            Self::Folders(folders) => Some(&mut folders.path),
            Self::Cifar(cifar) => Some(&mut cifar.path),
            Self::Csv(_) | Self::Texts(_) => None,
        }
    }
}
