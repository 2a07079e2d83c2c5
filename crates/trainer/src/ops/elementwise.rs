//! Element by element over the whole tensor, on all threads; and how the other operations get new tensors.

use std::mem::MaybeUninit;

use burn::tensor::{DType, Shape, TensorData};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::{AdamwFactors, kernels};

/// Elements of one task: few enough that they stay in the innermost cache from their first zeros on.
pub(super) const CHUNK: usize = 4 * 1024;

/// New tensors of some shapes, whose values are dealt out to tasks in chunks of some lengths.
///
/// A task gets its index and its chunk of each tensor, which holds zeros that are still in the cache: filling a whole
/// tensor first would send it to memory and back. The tasks' results come in their order.
pub(super) fn filled<const N: usize, R: Send>(
    tensors: &[(Shape, usize); N],
    task: impl Fn(usize, [&mut [f32]; N]) -> R + Sync,
) -> ([FlexTensor; N], Vec<R>) {
    let lengths = tensors.each_ref().map(|(shape, _)| shape.num_elements());
    let mut values = lengths.map(Vec::<f32>::with_capacity);
    let mut index = 0;
    let mut chunks = values.each_mut().map(|values| {
        index += 1;
        values.spare_capacity_mut()[..lengths[index - 1]].chunks_mut(tensors[index - 1].1)
    });
    let tasks: Vec<[&mut [MaybeUninit<f32>]; N]> = (0..lengths[0].div_ceil(tensors[0].1))
        .map(|_| chunks.each_mut().map(|chunks| chunks.next().expect("as many chunks of each tensor")))
        .collect();
    assert!(chunks.iter().all(|chunks| chunks.len() == 0), "as many chunks of each tensor");
    let results =
        tasks.into_par_iter().enumerate().map(|(index, chunks)| task(index, chunks.map(zeroed))).collect();
    index = 0;
    let tensors = values.map(|values| {
        index += 1;
        let values = initialised(values, lengths[index - 1]);
        FlexTensor::from_data(TensorData::new(values, tensors[index - 1].0.clone()))
    });
    (tensors, results)
}

/// Fills a chunk with zeros.
#[expect(unsafe_code, reason = "the only way to write what a vector has no values of yet")]
fn zeroed(chunk: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    // SAFETY: the chunk is borrowed mutably, and bytes of zero are a float; so every element has a value after it.
    unsafe {
        chunk.as_mut_ptr().write_bytes(0, chunk.len());
        chunk.assume_init_mut()
    }
}

/// The values of a vector of which [`zeroed`] has filled the first `length`.
#[expect(unsafe_code, reason = "the only way to tell a vector of values that were written to its capacity")]
fn initialised(mut values: Vec<f32>, length: usize) -> Vec<f32> {
    // SAFETY: `filled` cuts exactly the first `length` elements, which are within the capacity, into chunks without
    // a gap, asserts that it handed out all of them, and its tasks begin with `zeroed`.
    unsafe { values.set_len(length) };
    values
}

/// The part that belongs to a task, of values that are dealt out in chunks of a length.
pub(super) fn part(values: &[f32], chunk: usize, task: usize) -> &[f32] {
    let first = chunk * task;
    &values[first..values.len().min(first + chunk)]
}

/// The kernel's result for each element of x; contiguous, whatever the layout of x.
pub(super) fn unary(x: &FlexTensor, kernel: fn(&mut [f32], &[f32])) -> FlexTensor {
    let x = x.to_contiguous();
    let source = floats(&x);
    let ([result], _) =
        filled(&[(shape(&x), CHUNK)], |task, [result]| kernel(result, part(source, CHUNK, task)));
    result
}

/// The kernel's two results for each element of x; contiguous.
pub(super) fn unary_pair(
    x: &FlexTensor,
    kernel: fn(&mut [f32], &mut [f32], &[f32]),
) -> (FlexTensor, FlexTensor) {
    let x = x.to_contiguous();
    let source = floats(&x);
    let outputs = [(); 2].map(|()| (shape(&x), CHUNK));
    let ([first, second], _) =
        filled(&outputs, |task, [first, second]| kernel(first, second, part(source, CHUNK, task)));
    (first, second)
}

/// The kernel's change of each element of `values` by that of `x`; in place where nobody else holds the values.
pub(super) fn change(values: FlexTensor, x: &FlexTensor, kernel: fn(&mut [f32], &[f32])) -> FlexTensor {
    let (mut values, x) = (contiguous(values), x.to_contiguous());
    floats_mut(&mut values)
        .par_chunks_mut(CHUNK)
        .zip(floats(&x).par_chunks(CHUNK))
        .for_each(|(values, x)| kernel(values, x));
    values
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
    let [mut weights, mut first, mut second] = state.map(contiguous);
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

pub(super) fn shape(tensor: &FlexTensor) -> Shape {
    tensor.layout().shape().clone()
}

/// A tensor as one slice; it drops what it was given, so that the result can be the only holder.
#[expect(clippy::needless_pass_by_value, reason = "a holder fewer is the purpose")]
pub(super) fn contiguous(tensor: FlexTensor) -> FlexTensor {
    tensor.to_contiguous()
}

/// The values of a contiguous tensor.
pub(super) fn floats(tensor: &FlexTensor) -> &[f32] {
    assert_eq!(tensor.dtype(), DType::F32, "supernets hold 32-bit floats");
    tensor.as_slice().expect("a contiguous tensor is a slice")
}

/// The values of a contiguous tensor; copied first where somebody else holds them.
pub(super) fn floats_mut(tensor: &mut FlexTensor) -> &mut [f32] {
    tensor.storage_mut()
}
