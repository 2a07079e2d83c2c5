//! The pixels under each place of a window as a row, an image a task.

use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::elementwise::{floats, floats_mut, zeros};
use super::{Window, kernels};

/// How the rows of one image are made of its pixels.
#[derive(Clone, Copy)]
struct Places {
    window: Window,
    size: [usize; 2],
    out_width: usize,
    channels: usize,
}

impl Places {
    /// Calls with the ranges in a row and in the image that hold the same pixels, for each row of the window.
    fn runs(self, place: usize, mut each: impl FnMut(std::ops::Range<usize>, std::ops::Range<usize>)) {
        let Self { window, size: [height, width], out_width, channels } = self;
        let (row, column) = (place / out_width, place % out_width);
        let across = window.inside(column, window.padding.left, width);
        if across.is_empty() {
            return;
        }
        for tap in window.inside(row, window.padding.top, height) {
            let y = row * window.stride + tap - window.padding.top;
            let x = column * window.stride + across.start - window.padding.left;
            let (from, to) = ((y * width + x) * channels, (tap * window.kernel + across.start) * channels);
            let length = across.len() * channels;
            each(to..to + length, from..from + length);
        }
    }
}

/// `[batch * places, taps * channels]`
pub(super) fn unfold(x: &FlexTensor, window: Window) -> FlexTensor {
    let x = x.to_contiguous();
    let [batch, height, width, channels] = x.layout().shape().dims();
    let (out_height, out_width) = window.output(height, width);
    let (columns, places) = (window.taps() * channels, out_height * out_width);
    let layout = Places { window, size: [height, width], out_width, channels };
    let mut result = zeros([batch * places, columns].into());
    floats_mut(&mut result)
        .par_chunks_mut(places * columns)
        .zip(floats(&x).par_chunks(height * width * channels))
        .for_each(|(rows, image)| {
            for (place, row) in rows.chunks_exact_mut(columns).enumerate() {
                layout.runs(place, |to, from| row[to].copy_from_slice(&image[from]));
            }
        });
    result
}

/// The gradient of [`unfold`]: each pixel's sum over the places that read it, of the given shape.
pub(super) fn fold(gradient: &FlexTensor, shape: [usize; 4], window: Window) -> FlexTensor {
    let gradient = gradient.to_contiguous();
    let [_, height, width, channels] = shape;
    let (out_height, out_width) = window.output(height, width);
    let (columns, places) = (window.taps() * channels, out_height * out_width);
    let layout = Places { window, size: [height, width], out_width, channels };
    let mut result = zeros(shape.into());
    floats_mut(&mut result)
        .par_chunks_mut(height * width * channels)
        .zip(floats(&gradient).par_chunks(places * columns))
        .for_each(|(image, rows)| {
            for (place, row) in rows.chunks_exact(columns).enumerate() {
                layout.runs(place, |from, to| kernels::add(&mut image[to], &row[from]));
            }
        });
    result
}
