//! Losses on soft targets.

use elastic_data::Batch;
use elastic_space::Array;

pub use crate::ops::cross_entropy;

/// The targets of a batch: its smoothed labels, and where its images are mixed, the mixture of both
/// images' smoothed labels with the images' shares.
///
/// # Shapes
///
/// - output: `[batch, classes]`; each row sums to 1
pub fn targets(batch: &Batch, classes: usize, smoothing: f64) -> Array {
    let mut data = smoothed(&batch.labels, classes, smoothing);
    if let Some(mixed) = &batch.mixed {
        let share = mixed.share as f32;
        let partners = smoothed(&mixed.labels, classes, smoothing);
        data.iter_mut().zip(partners).for_each(|(own, other)| *own = share * *own + (1.0 - share) * other);
    }
    Array { shape: vec![batch.labels.len(), classes], data }
}

/// Each class has `smoothing / classes`, the right one the rest as well
/// ([Szegedy et al., 2016](https://arxiv.org/abs/1512.00567)).
fn smoothed(labels: &[u8], classes: usize, smoothing: f64) -> Vec<f32> {
    let spread = (smoothing / classes as f64) as f32;
    let mut values = vec![spread; labels.len() * classes];
    for (row, &label) in labels.iter().enumerate() {
        values[row * classes + usize::from(label)] += 1.0 - smoothing as f32;
    }
    values
}
