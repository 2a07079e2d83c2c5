//! What an image's channels have in common over its pixels, an image a task.

use burn_flex::FlexTensor;

use super::elementwise::{CHUNK, filled, floats, part, shape, whole_rows};
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
    // A task is some pixels of one image: as many as stay in the innermost cache and make equal parts.
    let most = (whole_rows(channels, CHUNK) / channels).min(pixels);
    let some = (1..=most).rev().find(|some| pixels % some == 0).unwrap_or(1);
    let (length, tasks) = (some * channels, pixels / some);
    let ([result], _) = filled(&[(shape(&x), length)], |task, [result]| {
        kernels::scale(result, part(floats(&x), length, task), part(floats(&gate), channels, task / tasks));
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
