//! Depthwise convolution: some images a task, one vector register of channels after the other.
//!
//! A task's part of the weight's gradient is added in the order of the tasks, so the result does not depend on the
//! number of threads.

use burn_flex::FlexTensor;
use pulp::{Simd, WithSimd};

use super::elementwise::{filled, floats, part, shape, tensor};
use super::planes::{Columns, Lane, Meeting, Places, Plane, Weights, correlate, weight_gradient};
use super::{Window, kernels};

/// Values of one task's input.
const BLOCK: usize = 64 * 1024;

/// What the kernels have in common.
#[derive(Clone, Copy)]
struct Geometry {
    window: Window,
    size: [usize; 2],
    out: [usize; 2],
    channels: usize,
}

impl Geometry {
    fn of(x: &FlexTensor, window: Window) -> Self {
        let [_, height, width, channels] = x.layout().shape().dims();
        let (out_height, out_width) = window.output(height, width);
        Self { window, size: [height, width], out: [out_height, out_width], channels }
    }

    /// Values of an image of the input.
    fn image(&self) -> usize {
        self.size[0] * self.size[1] * self.channels
    }

    /// Values of an image of the output.
    fn out_image(&self) -> usize {
        self.out[0] * self.out[1] * self.channels
    }

    /// Images of a task.
    fn images(&self) -> usize {
        (BLOCK / self.image()).max(1)
    }

    fn lanes<S: Simd>(&self) -> impl Iterator<Item = Lane> {
        let channels = self.channels;
        (0..channels).step_by(S::F32_LANES).map(move |first| Lane { channels, first })
    }

    /// A plane for images of the input.
    fn input_plane<S: Simd>(&self) -> Plane {
        let Window { kernel, stride, padding } = self.window;
        Plane::new::<S>(self.size, padding.left, stride, [self.out[1], kernel.div_ceil(stride)])
    }

    /// Taps along an axis whose places are a stride apart: zeros that the gradient's plane needs.
    fn reach(&self) -> usize {
        self.window.kernel.div_ceil(self.window.stride)
    }

    /// A plane for images of the output's gradient.
    fn gradient_plane<S: Simd>(&self) -> Plane {
        let places = (self.window.padding.left + self.size[1]).div_ceil(self.window.stride) + 1;
        Plane::new::<S>(self.out, self.reach() - 1, 1, [places, self.reach()])
    }

    /// The outputs along an axis that read the input at `place`, counted with the zeros before the first: `(output,
    /// tap)`.
    fn readers(&self, place: usize) -> impl Iterator<Item = (usize, usize)> {
        let Window { kernel, stride, .. } = self.window;
        (place % stride..kernel)
            .step_by(stride)
            .enumerate()
            .filter_map(move |(back, tap)| Some(((place / stride).checked_sub(back)?, tap)))
    }
}

/// See [`super::depthwise`].
pub(super) fn depthwise(x: &FlexTensor, weight: &FlexTensor, window: Window) -> FlexTensor {
    let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
    let geometry = Geometry::of(&x, window);
    let [batch, ..]: [usize; 4] = x.layout().shape().dims();
    let [out_height, out_width] = geometry.out;
    let weight = floats(&weight);
    let shape = [batch, out_height, out_width, geometry.channels].into();
    let images = geometry.images();
    let ([result], _) = filled(&[(shape, images * geometry.out_image())], |task, [result]| {
        let x = part(floats(&x), images * geometry.image(), task);
        pulp::Arch::new().dispatch(Forward { result, x, weight, geometry });
    });
    result
}

/// The gradients of [`depthwise`] for x and the weight.
pub(super) fn depthwise_backward(
    x: &FlexTensor,
    weight: &FlexTensor,
    gradient: &FlexTensor,
    window: Window,
) -> (FlexTensor, FlexTensor) {
    let (x, weight, gradient) = (x.to_contiguous(), weight.to_contiguous(), gradient.to_contiguous());
    let geometry = Geometry::of(&x, window);
    let Window { kernel, .. } = window;
    let weight = floats(&weight);
    let (chunk, out_chunk) = (geometry.images() * geometry.image(), geometry.images() * geometry.out_image());
    let ([result], parts) = filled(&[(shape(&x), chunk)], |task, [result]| {
        let mut for_weight = vec![0.0; weight.len()];
        let (sums, x) = (&mut for_weight, part(floats(&x), chunk, task));
        let gradient = part(floats(&gradient), out_chunk, task);
        pulp::Arch::new().dispatch(Backward { result, sums, x, weight, gradient, geometry });
        for_weight
    });
    let mut for_weight = vec![0.0; weight.len()];
    parts.iter().for_each(|part| kernels::add(&mut for_weight, part));
    (result, tensor(for_weight, [kernel, kernel, geometry.channels]))
}

/// The outputs of some images.
struct Forward<'a> {
    result: &'a mut [f32],
    x: &'a [f32],
    weight: &'a [f32],
    geometry: Geometry,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { result, x, weight, geometry } = self;
        let Geometry { window, size: [height, _], out: [out_height, out_width], .. } = geometry;
        let mut plane = geometry.input_plane::<S>();
        let mut weights = Weights::new::<S>(window.kernel);
        let columns = (0..window.kernel).map(|weight| Meeting { at: plane.column(weight), weight });
        let columns = Columns::new(columns.collect());
        let rows: Vec<Vec<Meeting>> = (0..out_height)
            .map(|place| {
                let taps = window.inside(place, window.padding.top, height);
                let row = |weight| place * window.stride + weight - window.padding.top;
                taps.map(|weight| Meeting { at: row(weight), weight }).collect()
            })
            .collect();
        for lane in geometry.lanes::<S>() {
            weights.fill(simd, weight, lane);
            let images = result.chunks_exact_mut(geometry.out_image()).zip(x.chunks_exact(geometry.image()));
            for (result, x) in images {
                plane.fill(simd, x, lane);
                for (row, rows) in rows.iter().enumerate() {
                    let to =
                        &mut Places { values: result, first: row * out_width, step: 1, count: out_width };
                    correlate(simd, (&plane, 0), &weights, (rows, &columns), lane, to);
                }
            }
        }
    }
}

/// The gradients of some images and what they add to the weight's.
struct Backward<'a> {
    result: &'a mut [f32],
    sums: &'a mut [f32],
    x: &'a [f32],
    weight: &'a [f32],
    gradient: &'a [f32],
    geometry: Geometry,
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { result, sums, x, weight, gradient, geometry } = self;
        let Geometry { window, size: [height, width], out: [out_height, _], .. } = geometry;
        let Window { kernel, stride, padding } = window;
        let before = geometry.reach() - 1;
        let (mut plane, mut gradients) = (geometry.input_plane::<S>(), geometry.gradient_plane::<S>());
        let mut weights = Weights::new::<S>(kernel);
        let mut taps = vec![simd.splat_f32s(0.0); window.taps()];
        let rows: Vec<Vec<Meeting>> = (0..height)
            .map(|row| {
                let readers = geometry.readers(padding.top + row).filter(|&(at, _)| at < out_height);
                readers.map(|(at, weight)| Meeting { at, weight }).collect()
            })
            .collect();
        // The columns of one remainder by the stride meet the same taps.
        let columns: Vec<Columns> = (0..stride)
            .map(|remainder| {
                let taps = (remainder..kernel).step_by(stride).enumerate();
                Columns::new(taps.map(|(back, weight)| Meeting { at: before - back, weight }).collect())
            })
            .collect();
        for lane in geometry.lanes::<S>() {
            weights.fill(simd, weight, lane);
            taps.fill(simd.splat_f32s(0.0));
            let images = x.chunks_exact(geometry.image()).zip(gradient.chunks_exact(geometry.out_image()));
            for (result, (x, gradient)) in result.chunks_exact_mut(geometry.image()).zip(images) {
                plane.fill(simd, x, lane);
                gradients.fill(simd, gradient, lane);
                for (row, rows) in rows.iter().enumerate() {
                    for first in 0..stride.min(width) {
                        let (place, count) = (padding.left + first, (width - first).div_ceil(stride));
                        let columns = &columns[place % stride];
                        let to =
                            &mut Places { values: result, first: row * width + first, step: stride, count };
                        let base = (&gradients, place / stride);
                        correlate(simd, base, &weights, (rows, columns), lane, to);
                    }
                }
                for (row, taps) in taps.chunks_exact_mut(kernel).enumerate() {
                    let mut first = 0;
                    while first < kernel {
                        let rows = (0..out_height).filter_map(|place| {
                            let inside = window.inside(place, padding.top, height).contains(&row);
                            inside.then(|| (place * stride + row - padding.top, place))
                        });
                        let (taps, x, gradients) =
                            (&mut taps[first..], (&plane, first), (&gradients, before));
                        first += match kernel - first {
                            1 | 2 => {
                                weight_gradient::<S, 1>(simd, taps, x, gradients, rows);
                                1
                            }
                            3 | 4 => {
                                weight_gradient::<S, 3>(simd, taps, x, gradients, rows);
                                3
                            }
                            5 | 6 => {
                                weight_gradient::<S, 5>(simd, taps, x, gradients, rows);
                                5
                            }
                            _ => {
                                weight_gradient::<S, 7>(simd, taps, x, gradients, rows);
                                7
                            }
                        };
                    }
                }
            }
            for (tap, sum) in taps.iter().enumerate() {
                lane.store(simd, sums, tap, *sum);
            }
        }
    }
}
