//! Fully connected layers: the bias, and what the layer is added to, are where the product begins to sum.

use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::elementwise::{contiguous, filled, floats, floats_mut, tensor, whole_rows};
use super::gemm::with_matrix;
use super::kernels;

/// Values of one task.
const BLOCK: usize = 32 * 1024;

/// x W + b.
pub(super) fn linear(x: &FlexTensor, weight: &FlexTensor, bias: &FlexTensor) -> FlexTensor {
    let bias = bias.to_contiguous();
    let bias = floats(&bias);
    let shape = [x.layout().shape()[0], bias.len()];
    let ([mut sum], _) = filled(&[(shape.into(), whole_rows(bias.len(), BLOCK))], |_, [rows]| {
        rows.chunks_exact_mut(bias.len()).for_each(|row| row.copy_from_slice(bias));
    });
    with_matrix(x, |x| with_matrix(weight, |weight| x.add_product(weight, floats_mut(&mut sum))));
    sum
}

/// x W + b + r.
pub(super) fn linear_add(
    x: &FlexTensor,
    weight: &FlexTensor,
    bias: &FlexTensor,
    residual: FlexTensor,
) -> FlexTensor {
    let bias = bias.to_contiguous();
    let bias = floats(&bias);
    let mut sum = contiguous(residual);
    let values = floats_mut(&mut sum);
    values.par_chunks_mut(whole_rows(bias.len(), BLOCK)).for_each(|rows| kernels::add_rows(rows, bias));
    with_matrix(x, |x| with_matrix(weight, |weight| x.add_product(weight, values)));
    sum
}

/// The product of two matrices.
pub(super) fn matmul(a: &FlexTensor, b: &FlexTensor) -> FlexTensor {
    let shape = [a.layout().shape()[0], b.layout().shape()[1]];
    tensor(with_matrix(a, |a| with_matrix(b, |b| a.times(b))), shape)
}

/// The sum of the rows; partial sums are added in the order of the blocks.
pub(super) fn sum_rows(x: &FlexTensor) -> FlexTensor {
    let x = x.to_contiguous();
    let columns = x.layout().shape()[1];
    let partial = |rows: &[f32]| {
        let mut sums = vec![0.0; columns];
        kernels::sum_rows(&mut sums, rows);
        sums
    };
    let partial: Vec<Vec<f32>> = floats(&x).par_chunks(whole_rows(columns, BLOCK)).map(partial).collect();
    let mut sums = vec![0.0; columns];
    partial.iter().for_each(|partial| kernels::sum_rows(&mut sums, partial));
    tensor(sums, [columns])
}
