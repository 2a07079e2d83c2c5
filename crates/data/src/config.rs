//! What a model file says about its data, and whether the data fits the network.

mod fields;
mod source;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::examples::Examples;
use crate::normalise::Normalisation;

use fields::DataFields;
pub use source::{Cifar, CifarKind, Csv, Folders, LabelColumn, OnCorrupt, Source, TextFiles};

/// The most classes that a data set may have: a label is a byte.
pub const MOST_CLASSES: usize = 256;

/// A labelled set of images or texts and how it is prepared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "DataFields", into = "DataFields")]
#[schemars(with = "DataFields")]
pub struct DataConfig {
    /// Where the images or texts are, and in which format.
    pub source: Source,
    /// Number of training images that are kept apart for validation, chosen by the seed in each class
    /// alike; `None` where the data has a validation set of its own.
    pub validation: Option<usize>,
    /// Mean of each channel, of pixels in 0..=1; empty: measured over the training images.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, of pixels in 0..=1; empty: measured over the training images.
    pub std: Vec<f32>,
    /// Name of each class, label i is the i-th name; empty: those of the data.
    pub class_names: Vec<String>,
}

/// Why a [`DataConfig`] is refused.
#[derive(Debug, Error, PartialEq)]
pub enum InvalidData {
    /// No format, or several.
    #[error("give exactly one of idx, folders, cifar, csv and texts, found {}", if found.is_empty() { "none".to_owned() } else { found.join(" and ") })]
    Sources {
        /// The formats that are given.
        found: Vec<&'static str>,
    },
    /// Nothing would be left to choose subnets by.
    #[error("data.validation is 0: the search needs validation images, keep at least 1 apart")]
    NoValidation,
    /// Mean and standard deviation do not pair.
    #[error(
        "data.mean has {mean} values and data.std has {std}: give one of each per channel, or leave both out to have \
         them measured over the training images"
    )]
    Channels {
        /// Values of `mean`.
        mean: usize,
        /// Values of `std`.
        std: usize,
    },
    /// A mean that is not finite.
    #[error("data.mean[{channel}] is {value}: it must be a finite number, of pixels in 0..=1")]
    Mean {
        /// Position in the list.
        channel: usize,
        /// What was given.
        value: f32,
    },
    /// A standard deviation that cannot divide.
    #[error("data.std[{channel}] is {value}: it must be above 0 and finite, of pixels in 0..=1")]
    Std {
        /// Position in the list.
        channel: usize,
        /// What was given.
        value: f32,
    },
    /// Mean and standard deviation of texts.
    #[error("data.mean and data.std are of images: leave them out beside data.texts")]
    Normalised,
    /// Nothing to pad to.
    #[error("data.texts.pad-to is 0: it must be at least 1")]
    PadTo,
    /// More names than a label byte can tell apart.
    #[error("data.class-names has {classes} names: 1 to {MOST_CLASSES} are possible, labels are bytes")]
    Classes {
        /// Names given.
        classes: usize,
    },
}

/// Why a data set does not fit a network.
#[derive(Debug, Error, PartialEq)]
pub enum Mismatch {
    /// Images of another size.
    #[error(
        "images in {} are {found:?} (channels, height, width), but the search space's input is {expected:?}: \
         change the search space or the data", data.display()
    )]
    Size {
        /// Where the data is.
        data: PathBuf,
        /// Of the images.
        found: [usize; 3],
        /// Of the network.
        expected: [usize; 3],
    },
    /// Images for a family of texts, or texts for one of images.
    #[error("{} is of {found}, but the search space is of a family that reads {expected}: change one of them", data.display())]
    Kind {
        /// Where the data is.
        data: PathBuf,
        /// What it holds.
        found: &'static str,
        /// What the network reads.
        expected: &'static str,
    },
    /// Tokens that the network does not know.
    #[error(
        "data.texts.tokenizer gives token {found}, but space.bert.vocabulary is {vocabulary}: make it the number of the \
         tokenizer's tokens"
    )]
    Vocabulary {
        /// The highest token.
        found: u32,
        /// Tokens that the network knows.
        vocabulary: usize,
    },
    /// Another number of classes.
    #[error(
        "the data has {found} classes, but the search space has {expected}: make space and data (data.class-names) \
         equal"
    )]
    Classes {
        /// Classes of the data.
        found: usize,
        /// Classes of the network.
        expected: usize,
    },
}

impl DataConfig {
    /// Checks every rule that the type cannot hold.
    ///
    /// # Errors
    ///
    /// The first rule that is broken, with the field's name.
    pub fn validate(&self) -> Result<(), InvalidData> {
        if self.validation == Some(0) {
            return Err(InvalidData::NoValidation);
        }
        if let Source::Texts(texts) = &self.source {
            if texts.pad_to == 0 {
                return Err(InvalidData::PadTo);
            }
            if !self.mean.is_empty() || !self.std.is_empty() {
                return Err(InvalidData::Normalised);
            }
        }
        if self.mean.len() != self.std.len() {
            return Err(InvalidData::Channels { mean: self.mean.len(), std: self.std.len() });
        }
        if let Some(channel) = self.mean.iter().position(|value| !value.is_finite()) {
            return Err(InvalidData::Mean { channel, value: self.mean[channel] });
        }
        if let Some(channel) = self.std.iter().position(|&value| !(value > 0.0 && value.is_finite())) {
            return Err(InvalidData::Std { channel, value: self.std[channel] });
        }
        if self.class_names.len() > MOST_CLASSES {
            return Err(InvalidData::Classes { classes: self.class_names.len() });
        }
        Ok(())
    }

    /// How pixels become the network's input.
    ///
    /// # Panics
    ///
    /// If mean and standard deviation were left out and not yet measured: `load_training` gives them.
    pub fn normalisation(&self) -> Normalisation {
        Normalisation::new(&self.mean, &self.std)
    }

    /// The same, with what was left out taken from another: a run's `config.yaml` has what the model file
    /// left to the data.
    #[must_use]
    pub fn completed_by(mut self, other: &Self) -> Self {
        if self.mean.is_empty() && self.std.is_empty() {
            self.mean.clone_from(&other.mean);
            self.std.clone_from(&other.std);
        }
        if self.class_names.is_empty() {
            self.class_names.clone_from(&other.class_names);
        }
        self
    }
}

/// Checks that examples and classes are those of a network: `input` is `SearchSpace::input`, and `vocabulary`
/// `SearchSpace::vocabulary`.
///
/// # Errors
///
/// [`Mismatch`] with both sides.
pub fn check_against(
    config: &DataConfig,
    examples: &Examples,
    input: [usize; 3],
    vocabulary: Option<usize>,
    classes: usize,
) -> Result<(), Mismatch> {
    let data = config.source.path().to_owned();
    match (examples, vocabulary) {
        (Examples::Images(_), Some(_)) => {
            return Err(Mismatch::Kind { data, found: "images", expected: "texts" });
        }
        (Examples::Texts(_), None) => {
            return Err(Mismatch::Kind { data, found: "texts", expected: "images" });
        }
        (Examples::Images(images), None) if images.size() != input => {
            return Err(Mismatch::Size { data, found: images.size(), expected: input });
        }
        (Examples::Texts(texts), Some(vocabulary)) if texts.highest_token() as usize >= vocabulary => {
            return Err(Mismatch::Vocabulary { found: texts.highest_token(), vocabulary });
        }
        (Examples::Images(_), None) | (Examples::Texts(_), Some(_)) => {}
    }
    if config.class_names.len() != classes {
        return Err(Mismatch::Classes { found: config.class_names.len(), expected: classes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::Images;
    use crate::texts::Texts;

    fn config() -> DataConfig {
        DataConfig {
            source: Source::Idx("some/folder".into()),
            validation: Some(10),
            mean: vec![0.5],
            std: vec![0.25],
            class_names: vec!["cat".into(), "dog".into()],
        }
    }

    #[test]
    fn values_that_are_refused() {
        type Change = fn(&mut DataConfig);
        let rows: [(&str, Change); 7] = [
            ("data.validation is 0: the search needs validation images, keep at least 1 apart", |c| {
                c.validation = Some(0);
            }),
            (
                "data.mean has 2 values and data.std has 1: give one of each per channel, or leave both out to have \
                 them measured over the training images",
                |c| c.mean = vec![0.1; 2],
            ),
            (
                "data.mean has 0 values and data.std has 1: give one of each per channel, or leave both out to have \
                 them measured over the training images",
                |c| c.mean = Vec::new(),
            ),
            ("data.mean[0] is NaN: it must be a finite number, of pixels in 0..=1", |c| {
                c.mean = vec![f32::NAN];
            }),
            ("data.std[0] is 0: it must be above 0 and finite, of pixels in 0..=1", |c| c.std = vec![0.0]),
            ("data.std[0] is -1: it must be above 0 and finite, of pixels in 0..=1", |c| c.std = vec![-1.0]),
            ("data.class-names has 257 names: 1 to 256 are possible, labels are bytes", |c| {
                c.class_names = vec!["x".into(); 257];
            }),
        ];
        assert_eq!(config().validate(), Ok(()));
        for (message, change) in rows {
            let mut config = config();
            change(&mut config);
            assert_eq!(config.validate().expect_err(message).to_string(), message);
        }
    }

    #[test]
    fn what_is_left_out_is_taken_from_another() {
        let left_out = DataConfig { mean: Vec::new(), std: Vec::new(), class_names: Vec::new(), ..config() };
        assert_eq!(left_out.validate(), Ok(()));
        assert_eq!(left_out.completed_by(&config()), config());
        let other = DataConfig { mean: vec![0.1], std: vec![0.1], class_names: Vec::new(), ..config() };
        assert_eq!(config().completed_by(&other), config());
    }

    #[test]
    fn data_that_does_not_fit_the_network() {
        let images = Images { channels: 1, height: 2, width: 3, pixels: vec![0; 6], labels: vec![0] };
        let images = Examples::Images(images);
        let texts = Texts { tokens: vec![vec![2, 9]], labels: vec![0], length: 4, pad_to: 1 };
        let texts = Examples::Texts(texts);
        for (examples, input, vocabulary, classes, expected) in [
            (&images, [1, 2, 3], None, 2, None),
            (&texts, [3, 1, 4], Some(10), 2, None),
            (
                &images,
                [3, 1, 4],
                Some(10),
                2,
                Some(
                    "some/folder is of images, but the search space is of a family that reads texts: change one of them",
                ),
            ),
            (
                &texts,
                [1, 2, 3],
                None,
                2,
                Some(
                    "some/folder is of texts, but the search space is of a family that reads images: change one of them",
                ),
            ),
            (
                &texts,
                [3, 1, 4],
                Some(9),
                2,
                Some(
                    "data.texts.tokenizer gives token 9, but space.bert.vocabulary is 9: make it the number of the \
                     tokenizer's tokens",
                ),
            ),
            (
                &images,
                [3, 2, 3],
                None,
                2,
                Some(
                    "images in some/folder are [1, 2, 3] (channels, height, width), but the search space's input \
                     is [3, 2, 3]: change the search space or the data",
                ),
            ),
            (
                &images,
                [1, 2, 3],
                None,
                10,
                Some(
                    "the data has 2 classes, but the search space has 10: make space and data (data.class-names) \
                     equal",
                ),
            ),
        ] {
            let found = check_against(&config(), examples, input, vocabulary, classes);
            let found = found.err().map(|e| e.to_string());
            assert_eq!(found.as_deref(), expected, "{input:?} {vocabulary:?} {classes}");
        }
    }
}
