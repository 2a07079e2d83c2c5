//! Operations on each row of the last dimension, on all threads.
//!
//! Rows are dealt out in blocks of a fixed size and partial sums are added in the order of the blocks,
//! so results do not depend on the number of threads.

use burn_flex::FlexTensor;

use super::elementwise::{filled, floats, part, shape, tensor, whole_rows};
use super::kernels;

/// Values of one task.
const BLOCK: usize = 4 * 1024;

/// Softmax over the last dimension of `x * scale`.
pub(super) fn softmax(x: &FlexTensor, scale: f32) -> FlexTensor {
    let x = x.to_contiguous();
    let columns = columns_of(&x);
    let (source, block) = (floats(&x), whole_rows(columns, BLOCK));
    let ([result], _) = filled(&[(shape(&x), block)], |task, [result]| {
        kernels::softmax(result, part(source, block, task), columns, scale);
    });
    result
}

/// The gradient of [`softmax`] from its output: `scale * y * (g - sum(g * y))`.
pub(super) fn softmax_backward(y: &FlexTensor, gradient: &FlexTensor, scale: f32) -> FlexTensor {
    let (y, gradient) = (y.to_contiguous(), gradient.to_contiguous());
    let columns = columns_of(&y);
    let (outputs, gradients, block) = (floats(&y), floats(&gradient), whole_rows(columns, BLOCK));
    let ([result], _) = filled(&[(shape(&y), block)], |task, [result]| {
        let (y, g) = (part(outputs, block, task), part(gradients, block, task));
        kernels::softmax_backward(result, y, g, columns, scale);
    });
    result
}

/// Layer normalisation over the last dimension.
pub(super) fn layer_norm(x: &FlexTensor, gamma: &FlexTensor, beta: &FlexTensor, epsilon: f32) -> FlexTensor {
    let (x, gamma, beta) = (x.to_contiguous(), gamma.to_contiguous(), beta.to_contiguous());
    let columns = columns_of(&x);
    let (source, gamma, beta) = (floats(&x), floats(&gamma), floats(&beta));
    let block = whole_rows(columns, BLOCK);
    let ([result], _) = filled(&[(shape(&x), block)], |task, [result]| {
        kernels::layer_norm(result, part(source, block, task), gamma, beta, epsilon);
    });
    result
}

/// The gradients of [`layer_norm`] for x, gamma and beta.
pub(super) fn layer_norm_backward(
    x: &FlexTensor,
    gamma: &FlexTensor,
    gradient: &FlexTensor,
    epsilon: f32,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let (x, gamma, gradient) = (x.to_contiguous(), gamma.to_contiguous(), gradient.to_contiguous());
    let columns = columns_of(&x);
    let (source, gamma, gradients) = (floats(&x), floats(&gamma), floats(&gradient));
    let block = whole_rows(columns, BLOCK);
    let ([result], partial) = filled(&[(shape(&x), block)], |task, [result]| {
        let (mut for_gamma, mut for_beta) = (vec![0.0; columns], vec![0.0; columns]);
        let sums = (&mut for_gamma[..], &mut for_beta[..]);
        let (source, gradients) = (part(source, block, task), part(gradients, block, task));
        kernels::layer_norm_backward(result, sums, source, gamma, gradients, epsilon);
        (for_gamma, for_beta)
    });
    let (mut for_gamma, mut for_beta) = (vec![0.0; columns], vec![0.0; columns]);
    for (gamma, beta) in partial {
        for_gamma.iter_mut().zip(gamma).for_each(|(sum, value)| *sum += value);
        for_beta.iter_mut().zip(beta).for_each(|(sum, value)| *sum += value);
    }
    (result, tensor(for_gamma, [columns]), tensor(for_beta, [columns]))
}

/// The length of the last dimension.
fn columns_of(x: &FlexTensor) -> usize {
    let shape = x.layout().shape();
    shape[shape.num_dims() - 1]
}
