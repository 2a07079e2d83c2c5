//! The cross-entropy of soft targets, with its gradient.

use burn_flex::FlexTensor;

use super::elementwise::{floats, floats_mut, like, tensor};
use super::kernels;

/// The mean cross-entropy of the rows, and its gradient for the logits.
pub(super) fn cross_entropy(logits: &FlexTensor, targets: &FlexTensor) -> (FlexTensor, FlexTensor) {
    let (logits, targets) = (logits.to_contiguous(), targets.to_contiguous());
    let shape = logits.layout().shape();
    let [rows, classes] = [shape[0], shape[1]];
    let (mut gradient, mut loss) = (like(&logits), 0.0);
    let share = (rows as f32).recip();
    let source = (floats(&logits), floats(&targets));
    kernels::cross_entropy(floats_mut(&mut gradient), &mut loss, source, classes, share);
    (tensor(vec![loss], [1]), gradient)
}
