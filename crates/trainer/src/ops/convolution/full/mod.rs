//! Full convolutions, straight from the image: no unfolded copy of it, which is as many times larger as a window has
//! taps.
//!
//! With the channels last, what a window meets in one row of the image is one run of values. So an output is a few
//! products of a run with rows of weights, and a tile of outputs stays in registers while the runs pass by. The gradient
//! for the image is the same with the roles changed: for a pixel, the outputs that read it are runs too, if the taps are
//! in reverse. Tasks are some images; their parts of the weight's gradient are added in their order, so that
//! the result does not depend on the number of threads.

mod tiles;

use burn_flex::FlexTensor;
use pulp::{Simd, WithSimd};

use super::elementwise::{CHUNK, filled, floats, part};
use super::{Window, kernels};
use tiles::{Packed, Plane, Strip};

/// Values of one task's output.
const BLOCK: usize = 32 * 1024;
/// The same for the gradient of the weight, of which each task sums its own.
const GRADIENT_BLOCK: usize = 128 * 1024;

/// What the kernels have in common.
#[derive(Clone, Copy)]
struct Geometry {
    window: Window,
    batch: usize,
    size: [usize; 2],
    out: [usize; 2],
    inputs: usize,
    outputs: usize,
}

impl Geometry {
    fn of([batch, height, width, inputs]: [usize; 4], outputs: usize, window: Window) -> Self {
        let (out_height, out_width) = window.output(height, width);
        Self { window, batch, size: [height, width], out: [out_height, out_width], inputs, outputs }
    }

    /// Values of an image of the input.
    fn image(&self) -> usize {
        self.size[0] * self.size[1] * self.inputs
    }

    /// Values of an image of the output.
    fn out_image(&self) -> usize {
        self.out[0] * self.out[1] * self.outputs
    }

    /// Values of the input that a row of the window meets.
    fn run(&self) -> usize {
        self.window.kernel * self.inputs
    }

    /// A plane for images of the input, with the zeros beside them.
    fn input_plane(&self) -> Plane {
        let Window { kernel, stride, padding } = self.window;
        let columns = ((self.out[1] - 1) * stride + kernel).max(padding.left + self.size[1]);
        Plane::new(self.size, columns, padding.left, self.inputs)
    }

    /// The convolution itself.
    fn forward(&self) -> Correlation {
        let Geometry { window, size: [height, _], out: [out_height, out_width], inputs, outputs, .. } = *self;
        let Window { kernel, stride, padding } = window;
        let plane = self.input_plane();
        let strips = (0..out_height).map(|row| {
            let taps = window.inside(row, padding.top, height);
            let meet = |tap| (plane.at(row * stride + tap - padding.top, 0), tap * self.run());
            Strip {
                rows: taps.map(meet).collect(),
                run: kernel * inputs,
                step: stride * inputs,
                first: row * out_width * outputs,
                stride: outputs,
                count: out_width,
            }
        });
        Correlation { strips: strips.collect(), plane, sizes: [self.image(), self.out_image()] }
    }

    /// From the gradient of the output to that of the input.
    fn backward(&self) -> Correlation {
        let Geometry { window, size: [height, width], out: [out_height, out_width], inputs, outputs, .. } =
            *self;
        let Window { kernel, stride, padding } = window;
        let before = kernel.div_ceil(stride) - 1;
        let columns = before + out_width.max((padding.left + width - 1) / stride + 1);
        let plane = Plane::new(self.out, columns, before, outputs);
        let strips = (0..height).flat_map(|row| {
            let plane = &plane;
            // Pixels a stride apart meet the same taps.
            (0..stride.min(width)).map(move |first| {
                let (place, y) = (padding.left + first, padding.top + row);
                let phase = place % stride;
                let taps = self.taps(phase);
                let readers = (y % stride..kernel).step_by(stride).filter_map(|tap| {
                    let output = (y / stride).checked_sub(tap / stride).filter(|&row| row < out_height)?;
                    let column = before + place / stride + 1 - taps.max(1);
                    Some((plane.at(output, column), (tap * kernel + self.taps_before(phase)) * outputs))
                });
                Strip {
                    rows: readers.collect(),
                    run: taps * outputs,
                    step: outputs,
                    first: (row * width + first) * inputs,
                    stride: stride * inputs,
                    count: (width - first).div_ceil(stride),
                }
            })
        });
        Correlation { strips: strips.collect(), plane, sizes: [self.out_image(), self.image()] }
    }

    /// Taps of a row whose distance from the first has a remainder by the stride.
    fn taps(&self, phase: usize) -> usize {
        let Window { kernel, stride, .. } = self.window;
        kernel.saturating_sub(phase).div_ceil(stride)
    }

    /// Taps of the remainders before one.
    fn taps_before(&self, phase: usize) -> usize {
        (0..phase).map(|phase| self.taps(phase)).sum()
    }

    /// The weights in the order in which [`Self::backward`] meets them: for each row of the window and remainder its
    /// taps in reverse, for each of these the outputs; the columns are the inputs.
    fn reversed(&self, weight: &[f32]) -> Packed {
        let Window { kernel, stride, .. } = self.window;
        let phases = || (0..stride.min(kernel)).map(|phase| (phase..kernel).step_by(stride).rev());
        let columns: Vec<usize> = phases().flatten().collect();
        Packed::new([kernel * kernel * self.outputs, self.inputs], |row, first, to| {
            let (place, output) = (row / self.outputs, row % self.outputs);
            let tap = place / kernel * kernel + columns[place % kernel];
            let inputs = weight[tap * self.inputs * self.outputs..][..self.inputs * self.outputs]
                .chunks_exact(self.outputs)
                .skip(first);
            to.iter_mut().zip(inputs).for_each(|(to, outputs)| *to = outputs[output]);
        })
    }
}

/// See [`super::convolution`].
pub(super) fn convolution(x: &FlexTensor, weight: &FlexTensor, window: Window) -> FlexTensor {
    let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
    let [rows, outputs] = weight.layout().shape().dims();
    let geometry = Geometry::of(x.layout().shape().dims(), outputs, window);
    let values = floats(&weight);
    let packed = Packed::new([rows, outputs], |row, first, to| {
        let columns = &values[row * outputs..][first..outputs];
        to.iter_mut().zip(columns).for_each(|(to, value)| *to = *value);
    });
    let [height, width] = geometry.out;
    geometry.forward().run(&x, &packed, [geometry.batch, height, width, outputs])
}

/// The gradient of [`convolution`] for its input, of the given shape.
pub(super) fn convolution_backward_x(
    weight: &FlexTensor,
    gradient: &FlexTensor,
    shape: [usize; 4],
    window: Window,
) -> FlexTensor {
    let (weight, gradient) = (weight.to_contiguous(), gradient.to_contiguous());
    let geometry = Geometry::of(shape, weight.layout().shape()[1], window);
    geometry.backward().run(&gradient, &geometry.reversed(floats(&weight)), shape)
}

/// The gradient of [`convolution`] for the weight, `[taps * inputs, outputs]`.
pub(super) fn convolution_backward_weight(
    x: &FlexTensor,
    gradient: &FlexTensor,
    window: Window,
) -> FlexTensor {
    let (x, gradient) = (x.to_contiguous(), gradient.to_contiguous());
    let geometry = Geometry::of(x.layout().shape().dims(), gradient.layout().shape()[3], window);
    let (rows, outputs) = (window.kernel * geometry.run(), geometry.outputs);
    // Tasks of equal size, or a smaller one at the end.
    let most = (GRADIENT_BLOCK / geometry.out_image().max(geometry.image())).max(1);
    let images = geometry.batch.div_ceil(geometry.batch.div_ceil(most));
    let tasks = geometry.batch.div_ceil(images);
    let ([parts], _) = filled(&[([tasks * rows, outputs].into(), rows * outputs)], |task, [sums]| {
        let x = part(floats(&x), images * geometry.image(), task);
        let gradient = part(floats(&gradient), images * geometry.out_image(), task);
        pulp::Arch::new().dispatch(WeightGradient { sums, x, gradient, geometry });
    });
    let parts = floats(&parts);
    let ([sums], _) = filled(&[([rows, outputs].into(), CHUNK)], |chunk, [sums]| {
        parts.chunks_exact(rows * outputs).for_each(|values| kernels::add(sums, part(values, CHUNK, chunk)));
    });
    sums
}

/// A sum of products for each value of an image, of runs of another one.
struct Correlation {
    strips: Vec<Strip>,
    plane: Plane,
    /// Values of an image of the source and of one of the result.
    sizes: [usize; 2],
}

impl Correlation {
    fn run(&self, source: &FlexTensor, weights: &Packed, shape: [usize; 4]) -> FlexTensor {
        // No thread has a task more than another; how images are grouped changes no value.
        let most = (BLOCK / self.sizes[1]).max(1);
        let tasks = shape[0].div_ceil(most).next_multiple_of(rayon::current_num_threads());
        let images = shape[0].div_ceil(tasks);
        let ([result], _) = filled(&[(shape.into(), images * self.sizes[1])], |task, [result]| {
            let source = part(floats(source), images * self.sizes[0], task);
            pulp::Arch::new().dispatch(Images { result, source, weights, correlation: self });
        });
        result
    }
}

/// The correlation of some images.
struct Images<'a> {
    result: &'a mut [f32],
    source: &'a [f32],
    weights: &'a Packed,
    correlation: &'a Correlation,
}

impl WithSimd for Images<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { result, source, weights, correlation: Correlation { strips, plane, sizes } } = self;
        let mut values = plane.zeros();
        for (result, source) in result.chunks_exact_mut(sizes[1]).zip(source.chunks_exact(sizes[0])) {
            plane.fill(&mut values, source);
            for block in weights.blocks() {
                for strip in strips {
                    tiles::correlate(simd, result, &values, weights, block, strip);
                }
            }
        }
    }
}

/// What some images add to the gradient of the weight.
struct WeightGradient<'a> {
    sums: &'a mut [f32],
    x: &'a [f32],
    gradient: &'a [f32],
    geometry: Geometry,
}

impl WithSimd for WeightGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { sums, x, gradient, geometry } = self;
        let Geometry { window, size: [height, _], out: [out_height, out_width], outputs, .. } = geometry;
        let Window { kernel, stride, padding } = window;
        let plane = geometry.input_plane();
        // Pixels of whole registers.
        let gradients = Plane::new([out_height * out_width, 1], 1, 0, outputs).in_registers(S::F32_LANES);
        let (mut values, mut packed) = (plane.zeros(), gradients.zeros());
        let images = x.chunks_exact(geometry.image()).zip(gradient.chunks_exact(geometry.out_image()));
        for (x, gradient) in images {
            plane.fill(&mut values, x);
            gradients.fill(&mut packed, gradient);
            for tap in 0..kernel {
                let meets = |row: &usize| window.inside(*row, padding.top, height).contains(&tap);
                let rows = (0..out_height).filter(meets).map(|row| {
                    (plane.at(row * stride + tap - padding.top, 0), gradients.at(row * out_width, 0))
                });
                let rows: Vec<(usize, usize)> = rows.collect();
                let sums = &mut sums[tap * geometry.run() * outputs..][..geometry.run() * outputs];
                let factors = tiles::Factors {
                    pixels: &values,
                    step: stride * geometry.inputs,
                    gradients: &packed,
                    width: gradients.at(1, 0),
                    count: out_width,
                    rows: &rows,
                };
                tiles::outer_products(simd, sums, outputs, factors);
            }
        }
    }
}
