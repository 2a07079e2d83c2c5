//! The training images on which a subnet's batch normalisation is measured before it is judged or exported.

use elastic_data::{Images, normalise};
use elastic_space::Array;
use elastic_space::random::Purpose;

use crate::config::Model;

/// As many training images as the recipe says, always the same, without augmentation; none for a family that
/// has no batch normalisation.
///
/// # Shapes
///
/// Output: `[images, channels, height, width]`, normalised.
pub fn images(model: &Model, train: &Images) -> Option<Array> {
    let count = model.training.calibration_images?.min(train.len());
    let mut rng = model.seed().generator(Purpose::Calibrate, 0);
    let positions = rand::seq::index::sample(&mut rng, train.len(), count).into_vec();
    Some(normalise(&model.data.normalisation(), &train.select(&positions), 0..count))
}
