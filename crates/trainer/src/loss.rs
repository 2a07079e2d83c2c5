//! Losses on soft targets.

use burn::tensor::{Device, Tensor, TensorData, activation};

/// The targets of labels with smoothing: each class has `smoothing / classes`, the right one the
/// rest as well ([Szegedy et al., 2016](https://arxiv.org/abs/1512.00567)).
///
/// # Shapes
///
/// - output: `[labels, classes]`
pub fn smoothed_targets(labels: &[u8], classes: usize, smoothing: f64, device: &Device) -> Tensor<2> {
    let spread = (smoothing / classes as f64) as f32;
    let mut values = vec![spread; labels.len() * classes];
    for (row, &label) in labels.iter().enumerate() {
        values[row * classes + usize::from(label)] += 1.0 - smoothing as f32;
    }
    Tensor::from_data(TensorData::new(values, [labels.len(), classes]), device)
}

/// The mean cross-entropy of the rows.
///
/// # Shapes
///
/// - logits, targets: `[rows, classes]`; each row of targets sums to 1
/// - output: `[1]`
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    let rows = logits.dims()[0] as f64;
    (activation::log_softmax(logits, 1) * targets).sum() / -rows
}
