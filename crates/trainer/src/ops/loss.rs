//! The cross-entropy of soft targets, with its gradient.

use burn_flex::FlexTensor;

use super::elementwise::{filled, floats, shape, tensor};
use super::kernels;

/// The mean cross-entropy of the rows, and its gradient for the logits.
pub(super) fn cross_entropy(logits: &FlexTensor, targets: &FlexTensor) -> (FlexTensor, FlexTensor) {
    let (logits, targets) = (logits.to_contiguous(), targets.to_contiguous());
    let [rows, classes] = logits.layout().shape().dims();
    let share = (rows as f32).recip();
    let ([gradient], losses) = filled(&[(shape(&logits), rows * classes)], |_, [gradient]| {
        let mut loss = 0.0;
        kernels::cross_entropy(gradient, &mut loss, (floats(&logits), floats(&targets)), classes, share);
        loss
    });
    (tensor(losses, [1]), gradient)
}
