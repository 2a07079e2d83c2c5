//! What a model file says about its data, and whether the data fits the network.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::images::Images;
use crate::normalise::Normalisation;

/// A labelled image set and how it is prepared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DataConfig {
    /// Folder with the four IDX files of the MNIST layout, plain or `.gz`; relative to the working
    /// folder.
    pub idx: PathBuf,
    /// Number of training images that are kept apart for validation. They are chosen by the seed,
    /// in each class alike.
    pub validation: usize,
    /// Mean of each channel, of pixels in 0..=1.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, of pixels in 0..=1.
    pub std: Vec<f32>,
    /// Name of each class; label i is the i-th name.
    pub class_names: Vec<String>,
}

/// Why a [`DataConfig`] is refused.
#[derive(Debug, Error, PartialEq)]
pub enum InvalidData {
    /// Nothing would be left to choose subnets by.
    #[error("data.validation is 0: the search needs validation images, keep at least 1 apart")]
    NoValidation,
    /// Mean and standard deviation do not pair.
    #[error("data.mean has {mean} values and data.std has {std}: give one of each per channel")]
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
    /// No names, or more than a label byte can tell apart.
    #[error("data.class-names has {classes} names: 1 to 256 are possible, labels are bytes")]
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
         change the search space or the data", folder.display()
    )]
    Size {
        /// The data's folder.
        folder: PathBuf,
        /// Of the images.
        found: [usize; 3],
        /// Of the network.
        expected: [usize; 3],
    },
    /// Another number of classes.
    #[error(
        "data.class-names has {found} names, but the search space has {expected} classes: make the two equal"
    )]
    Classes {
        /// Names of the data.
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
        if self.validation == 0 {
            return Err(InvalidData::NoValidation);
        }
        if self.mean.len() != self.std.len() || self.mean.is_empty() {
            return Err(InvalidData::Channels { mean: self.mean.len(), std: self.std.len() });
        }
        if let Some(channel) = self.mean.iter().position(|value| !value.is_finite()) {
            return Err(InvalidData::Mean { channel, value: self.mean[channel] });
        }
        if let Some(channel) = self.std.iter().position(|&value| !(value > 0.0 && value.is_finite())) {
            return Err(InvalidData::Std { channel, value: self.std[channel] });
        }
        if !(1..=256).contains(&self.class_names.len()) {
            return Err(InvalidData::Classes { classes: self.class_names.len() });
        }
        Ok(())
    }

    /// How pixels become the network's input.
    pub fn normalisation(&self) -> Normalisation {
        Normalisation::new(&self.mean, &self.std)
    }
}

/// Checks that images and classes are those of a network.
///
/// `input` is channels, height and width, as `SearchSpace::input` gives them.
///
/// # Errors
///
/// [`Mismatch`] with both sides.
pub fn check_against(
    config: &DataConfig,
    images: &Images,
    input: [usize; 3],
    classes: usize,
) -> Result<(), Mismatch> {
    if images.size() != input {
        return Err(Mismatch::Size { folder: config.idx.clone(), found: images.size(), expected: input });
    }
    if config.class_names.len() != classes {
        return Err(Mismatch::Classes { found: config.class_names.len(), expected: classes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> DataConfig {
        DataConfig {
            idx: "some/folder".into(),
            validation: 10,
            mean: vec![0.5],
            std: vec![0.25],
            class_names: vec!["cat".into(), "dog".into()],
        }
    }

    #[test]
    fn values_that_are_refused() {
        type Change = fn(&mut DataConfig);
        let rows: [(&str, Change); 8] = [
            ("data.validation is 0: the search needs validation images, keep at least 1 apart", |c| {
                c.validation = 0;
            }),
            ("data.mean has 2 values and data.std has 1: give one of each per channel", |c| {
                c.mean = vec![0.1; 2];
            }),
            ("data.mean has 0 values and data.std has 0: give one of each per channel", |c| {
                (c.mean, c.std) = (Vec::new(), Vec::new());
            }),
            ("data.mean[0] is NaN: it must be a finite number, of pixels in 0..=1", |c| {
                c.mean = vec![f32::NAN];
            }),
            ("data.std[0] is 0: it must be above 0 and finite, of pixels in 0..=1", |c| c.std = vec![0.0]),
            ("data.std[0] is -1: it must be above 0 and finite, of pixels in 0..=1", |c| c.std = vec![-1.0]),
            ("data.class-names has 0 names: 1 to 256 are possible, labels are bytes", |c| {
                c.class_names.clear();
            }),
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
    fn data_that_does_not_fit_the_network() {
        let images = Images { channels: 1, height: 2, width: 3, pixels: vec![0; 6], labels: vec![0] };
        for (input, classes, expected) in [
            ([1, 2, 3], 2, None),
            (
                [3, 2, 3],
                2,
                Some(
                    "images in some/folder are [1, 2, 3] (channels, height, width), but the search space's input \
                     is [3, 2, 3]: change the search space or the data",
                ),
            ),
            (
                [1, 2, 3],
                10,
                Some("data.class-names has 2 names, but the search space has 10 classes: make the two equal"),
            ),
        ] {
            let found = check_against(&config(), &images, input, classes).err().map(|e| e.to_string());
            assert_eq!(found.as_deref(), expected, "{input:?} {classes}");
        }
    }
}
