//! A teacher that is the largest network of a supernet.

use std::path::{Path, PathBuf};

use elastic_data::{Batch, Examples};
use elastic_space::{Array, SearchSpace, Subnet};

use super::{TeacherError, probabilities};
use crate::calibration;
use crate::checkpoint;
use crate::config::Model;
use crate::layers::Statistics;
use crate::supernet::Supernet;

/// The largest network of a supernet's file; it does not learn.
pub struct SupernetTeacher {
    path: PathBuf,
    supernet: Supernet,
    largest: Subnet,
    /// Its batch normalisation's, where it has some.
    statistics: Statistics,
}

impl SupernetTeacher {
    /// Loads the teacher of a model. Where the family has batch normalisation, it is measured once, on images of the
    /// training data.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or [`TeacherError::Supernet`].
    pub fn open(path: &Path, model: &Model, train: &Examples) -> Result<Self, TeacherError> {
        let supernet = checkpoint::load_supernet(path)?.supernet;
        let kind = |space: &SearchSpace| (space.family(), space.input(), space.classes());
        let (found, input, classes) = kind(&supernet.space);
        if (found, input, classes) != kind(&model.space) {
            return Err(TeacherError::Supernet { path: path.to_owned(), found, input, classes });
        }
        let supernet = supernet.with_calibration(calibration::images(model, train));
        let largest = supernet.space.largest();
        let statistics = supernet.statistics(&largest);
        Ok(Self { path: path.to_owned(), supernet, largest, statistics })
    }

    /// The classes' probabilities for each example of a batch, `[batch, classes]`; each row sums to 1.
    ///
    /// # Errors
    ///
    /// [`TeacherError::NotFinite`].
    pub fn probabilities(&self, batch: &Batch) -> Result<Array, TeacherError> {
        let images = Array { shape: batch.shape.to_vec(), data: batch.images.clone() };
        probabilities(&self.path, self.supernet.logits_by(&images, &self.largest, &self.statistics))
    }
}
