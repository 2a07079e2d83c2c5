//! What an image's channels have in common over its pixels, an image a task.

use burn_flex::FlexTensor;

use super::elementwise::{filled, floats, part, shape};
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
    let image = pixels * channels;
    let ([result], _) = filled(&[(shape(&x), image)], |task, [result]| {
        kernels::scale(result, part(floats(&x), image, task), part(floats(&gate), channels, task));
    });
    result
}

/// The sum over the pixels of the products of two batches of images, `[batch, channels]`.
pub(super) fn sum_products(a: &FlexTensor, b: &FlexTensor) -> FlexTensor {
    let (a, b) = (a.to_contiguous(), b.to_contiguous());
    let (batch, pixels, channels) = sizes(&a);
    let image = pixels * channels;
    let ([result], _) = filled(&[([batch, channels].into(), channels)], |task, [sums]| {
        kernels::sum_products(sums, part(floats(&a), image, task), part(floats(&b), image, task));
    });
    result
}

/// The mean of the pixels, `[batch, channels]`.
pub(super) fn mean(x: &FlexTensor) -> FlexTensor {
    let x = x.to_contiguous();
    let (batch, pixels, channels) = sizes(&x);
    let ([result], _) = filled(&[([batch, channels].into(), channels)], |task, [sums]| {
        sum_rows(sums, part(floats(&x), pixels * channels, task));
        sums.iter_mut().for_each(|sum| *sum /= pixels as f32);
    });
    result
}
