//! Element by element over the whole tensor, on all threads.

use burn::tensor::{DType, Shape, TensorData};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::{AdamwFactors, kernels};

/// Elements of one task: large enough that handing it out costs nothing.
const CHUNK: usize = 16 * 1024;

/// The kernel's result for each element of x; contiguous, whatever the layout of x.
pub(super) fn unary(x: &FlexTensor, kernel: fn(&mut [f32], &[f32])) -> FlexTensor {
    let x = x.to_contiguous();
    let source = floats(&x);
    let mut result = like(&x);
    floats_mut(&mut result)
        .par_chunks_mut(CHUNK)
        .zip(source.par_chunks(CHUNK))
        .for_each(|(result, x)| kernel(result, x));
    result
}

/// The kernel's result for each pair of elements; contiguous.
pub(super) fn binary(a: &FlexTensor, b: &FlexTensor, kernel: fn(&mut [f32], &[f32], &[f32])) -> FlexTensor {
    let (a, b) = (a.to_contiguous(), b.to_contiguous());
    let (left, right) = (floats(&a), floats(&b));
    let mut result = like(&a);
    floats_mut(&mut result)
        .par_chunks_mut(CHUNK)
        .zip(left.par_chunks(CHUNK))
        .zip(right.par_chunks(CHUNK))
        .for_each(|((result, a), b)| kernel(result, a, b));
    result
}

/// The kernel's two results for each element of x; contiguous.
pub(super) fn unary_pair(
    x: &FlexTensor,
    kernel: fn(&mut [f32], &mut [f32], &[f32]),
) -> (FlexTensor, FlexTensor) {
    let x = x.to_contiguous();
    let (mut first, mut second) = (like(&x), like(&x));
    floats_mut(&mut first)
        .par_chunks_mut(CHUNK)
        .zip(floats_mut(&mut second).par_chunks_mut(CHUNK))
        .zip(floats(&x).par_chunks(CHUNK))
        .for_each(|((first, second), x)| kernel(first, second, x));
    (first, second)
}

/// The sum of the squares, in double precision; partial sums are added in the order of the chunks.
pub(crate) fn squared_sum(x: &[f32]) -> f64 {
    let sums: Vec<f64> = x
        .par_chunks(CHUNK)
        .map(|chunk| {
            let mut sum = 0.0;
            kernels::squared_sum(&mut sum, chunk);
            sum
        })
        .collect();
    sums.iter().sum()
}

/// One update of AdamW of the weights and their two moments; in place where nobody else holds them.
pub(super) fn adamw(
    state: [FlexTensor; 3],
    gradient: &FlexTensor,
    factors: AdamwFactors,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    // The closure drops what it was given, so that the result is the only holder.
    let [mut weights, mut first, mut second] = state.map(|tensor| tensor.to_contiguous());
    let gradient = gradient.to_contiguous();
    floats_mut(&mut weights)
        .par_chunks_mut(CHUNK)
        .zip(floats_mut(&mut first).par_chunks_mut(CHUNK))
        .zip(floats_mut(&mut second).par_chunks_mut(CHUNK))
        .zip(floats(&gradient).par_chunks(CHUNK))
        .for_each(|(((weights, first), second), gradient)| {
            kernels::adamw(weights, (first, second), gradient, factors);
        });
    (weights, first, second)
}

/// Values of one task: whole rows, as many as fit into `values`, at least one.
pub(super) fn whole_rows(columns: usize, values: usize) -> usize {
    columns * (values / columns).max(1)
}

/// A tensor of some values.
pub(super) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// The values of a contiguous tensor.
pub(super) fn floats(tensor: &FlexTensor) -> &[f32] {
    assert_eq!(tensor.dtype(), DType::F32, "supernets hold 32-bit floats");
    tensor.as_slice().expect("a contiguous tensor is a slice")
}

/// A tensor of the same shape; every value is zero.
pub(super) fn like(tensor: &FlexTensor) -> FlexTensor {
    zeros(tensor.layout().shape().clone())
}

/// A tensor of zeros.
///
/// Not burn's `FlexTensor::zeros`, which fills bytes and then copies them to where floats may be.
pub(super) fn zeros(shape: Shape) -> FlexTensor {
    FlexTensor::filled_typed(shape, DType::F32, 0.0_f32)
}

/// The values of a contiguous tensor; copied first where somebody else holds them.
pub(super) fn floats_mut(tensor: &mut FlexTensor) -> &mut [f32] {
    tensor.storage_mut()
}
