//! Operations on each row of the last dimension, on all threads.
//!
//! Rows are dealt out in blocks of a fixed size and partial sums are added in the order of the blocks,
//! so results do not depend on the number of threads.

use burn::tensor::{Shape, TensorData};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::elementwise::floats;
use super::kernels;

/// Values of one task.
const BLOCK: usize = 16 * 1024;

/// Softmax over the last dimension of `x * scale`.
pub(super) fn softmax(x: &FlexTensor, scale: f32) -> FlexTensor {
    let x = x.to_contiguous();
    let (shape, columns) = sizes(&x);
    let source = floats(&x);
    let mut result = vec![0.0; source.len()];
    let block = block(columns);
    result
        .par_chunks_mut(block)
        .zip(source.par_chunks(block))
        .for_each(|(result, source)| kernels::softmax(result, source, columns, scale));
    tensor(result, shape)
}

/// The gradient of [`softmax`] from its output: `scale * y * (g - sum(g * y))`.
pub(super) fn softmax_backward(y: &FlexTensor, gradient: &FlexTensor, scale: f32) -> FlexTensor {
    let (y, gradient) = (y.to_contiguous(), gradient.to_contiguous());
    let (shape, columns) = sizes(&y);
    let (outputs, gradients) = (floats(&y), floats(&gradient));
    let mut result = vec![0.0; outputs.len()];
    let block = block(columns);
    result
        .par_chunks_mut(block)
        .zip(outputs.par_chunks(block))
        .zip(gradients.par_chunks(block))
        .for_each(|((result, y), g)| kernels::softmax_backward(result, y, g, columns, scale));
    tensor(result, shape)
}

/// Layer normalisation over the last dimension.
pub(super) fn layer_norm(x: &FlexTensor, gamma: &FlexTensor, beta: &FlexTensor, epsilon: f32) -> FlexTensor {
    let (x, gamma, beta) = (x.to_contiguous(), gamma.to_contiguous(), beta.to_contiguous());
    let (shape, columns) = sizes(&x);
    let (source, gamma, beta) = (floats(&x), floats(&gamma), floats(&beta));
    let mut result = vec![0.0; source.len()];
    let block = block(columns);
    result
        .par_chunks_mut(block)
        .zip(source.par_chunks(block))
        .for_each(|(result, source)| kernels::layer_norm(result, source, gamma, beta, epsilon));
    tensor(result, shape)
}

/// The gradients of [`layer_norm`] for x, gamma and beta.
pub(super) fn layer_norm_backward(
    x: &FlexTensor,
    gamma: &FlexTensor,
    gradient: &FlexTensor,
    epsilon: f32,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let (x, gamma, gradient) = (x.to_contiguous(), gamma.to_contiguous(), gradient.to_contiguous());
    let (shape, columns) = sizes(&x);
    let (source, gamma, gradients) = (floats(&x), floats(&gamma), floats(&gradient));
    let mut result = vec![0.0; source.len()];
    let block = block(columns);
    let partial: Vec<(Vec<f32>, Vec<f32>)> = result
        .par_chunks_mut(block)
        .zip(source.par_chunks(block))
        .zip(gradients.par_chunks(block))
        .map(|((result, source), gradients)| {
            let (mut for_gamma, mut for_beta) = (vec![0.0; columns], vec![0.0; columns]);
            let sums = (&mut for_gamma[..], &mut for_beta[..]);
            kernels::layer_norm_backward(result, sums, source, gamma, gradients, epsilon);
            (for_gamma, for_beta)
        })
        .collect();
    let (mut for_gamma, mut for_beta) = (vec![0.0; columns], vec![0.0; columns]);
    for (gamma, beta) in partial {
        for_gamma.iter_mut().zip(gamma).for_each(|(sum, value)| *sum += value);
        for_beta.iter_mut().zip(beta).for_each(|(sum, value)| *sum += value);
    }
    let features = Shape::from([columns]);
    (tensor(result, shape), tensor(for_gamma, features.clone()), tensor(for_beta, features))
}

/// The shape, and the length of the last dimension.
fn sizes(x: &FlexTensor) -> (Shape, usize) {
    let shape = x.layout().shape().clone();
    let columns = shape[shape.num_dims() - 1];
    (shape, columns)
}

/// Values of one task: whole rows.
fn block(columns: usize) -> usize {
    columns * (BLOCK / columns).max(1)
}

fn tensor(values: Vec<f32>, shape: Shape) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}
