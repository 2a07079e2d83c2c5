//! The training images on which a subnet's batch normalisation is measured before it is judged or exported, and those
//! that tell the ranges of its values.

use elastic_data::Examples;
use elastic_space::Array;
use elastic_space::random::Purpose;

use crate::config::Model;

/// As many training images as the recipe says, always the same, without augmentation; none for a family that
/// has no batch normalisation.
///
/// # Shapes
///
/// Output: `[images, channels, height, width]`, normalised.
pub fn images(model: &Model, train: &Examples) -> Option<Array> {
    Some(drawn(model, train, model.training.calibration_images?, 0))
}

/// Training examples on which the ranges of a network's values are observed; always the same, without augmentation.
///
/// # Shapes
///
/// Output: as [`Examples::inputs`] gives them; as many as there are if fewer than `count`.
pub fn observed_images(model: &Model, train: &Examples, count: usize) -> Array {
    drawn(model, train, count, 1)
}

fn drawn(model: &Model, train: &Examples, count: usize, index: u64) -> Array {
    let count = count.min(train.len());
    let mut rng = model.seed().generator(Purpose::Calibrate, index);
    let positions = rand::seq::index::sample(&mut rng, train.len(), count).into_vec();
    train.select(&positions).inputs(&model.data, 0..count)
}
