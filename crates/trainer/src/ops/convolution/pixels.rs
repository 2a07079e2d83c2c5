//! What an image's channels have in common over its pixels, an image a task.

use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::elementwise::{floats, floats_mut, like, zeros};
use super::kernels;
use crate::ops::kernels::sum_rows;

/// Images, pixels of an image, channels.
fn sizes(x: &FlexTensor) -> (usize, usize, usize) {
    let [batch, height, width, channels] = x.layout().shape().dims();
    (batch, height * width, channels)
}

/// Each channel of each image times its gate, `[batch, channels]`.
pub(super) fn scale(x: &FlexTensor, gate: &FlexTensor) -> FlexTensor {
    let (x, gate) = (x.to_contiguous(), gate.to_contiguous());
    let (_, pixels, channels) = sizes(&x);
    let mut result = like(&x);
    floats_mut(&mut result)
        .par_chunks_mut(pixels * channels)
        .zip(floats(&x).par_chunks(pixels * channels))
        .zip(floats(&gate).par_chunks(channels))
        .for_each(|((result, x), gate)| kernels::scale(result, x, gate));
    result
}

/// The sum over the pixels of the products of two batches of images, `[batch, channels]`.
pub(super) fn sum_products(a: &FlexTensor, b: &FlexTensor) -> FlexTensor {
    let (a, b) = (a.to_contiguous(), b.to_contiguous());
    let (batch, pixels, channels) = sizes(&a);
    let mut result = zeros([batch, channels].into());
    floats_mut(&mut result)
        .par_chunks_mut(channels)
        .zip(floats(&a).par_chunks(pixels * channels))
        .zip(floats(&b).par_chunks(pixels * channels))
        .for_each(|((sums, a), b)| kernels::sum_products(sums, a, b));
    result
}

/// The mean of the pixels, `[batch, channels]`.
pub(super) fn mean(x: &FlexTensor) -> FlexTensor {
    let x = x.to_contiguous();
    let (batch, pixels, channels) = sizes(&x);
    let mut result = zeros([batch, channels].into());
    floats_mut(&mut result).par_chunks_mut(channels).zip(floats(&x).par_chunks(pixels * channels)).for_each(
        |(sums, x)| {
            sum_rows(sums, x);
            sums.iter_mut().for_each(|sum| *sum /= pixels as f32);
        },
    );
    result
}
