//! The operations as plain expressions, for any backend.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::Slice;

use super::{Activation, Padding, Window};

/// The pixels of a padded image, `[batch, height, width, channels]`, that each tap of the window meets.
fn taps(window: Window, [height, width]: [usize; 2]) -> impl Iterator<Item = [Slice; 3]> {
    let (out_height, out_width) = window.output(height, width);
    let along = move |offset: usize, places: usize| {
        let end = offset + (places - 1) * window.stride + 1;
        Slice::from_range_stepped(offset..end, window.stride as isize)
    };
    (0..window.taps()).map(move |tap| {
        let (row, column) = (tap / window.kernel, tap % window.kernel);
        [Slice::full(), along(row, out_height), along(column, out_width)]
    })
}

fn zeros<B: Backend>(like: &FloatTensor<B>, shape: &[usize]) -> FloatTensor<B> {
    B::float_zeros(shape.to_vec().into(), &like.device(), like.dtype().into())
}

/// The place of an image of `[height, width]` in its padded one, and the padded one's sizes.
fn inner(window: Window, [height, width]: [usize; 2]) -> ([Slice; 3], [usize; 2]) {
    let Padding { top, bottom, left, right } = window.padding;
    let place = [Slice::full(), Slice::from(top..top + height), Slice::from(left..left + width)];
    (place, [top + height + bottom, left + width + right])
}

fn padded<B: Backend>(x: FloatTensor<B>, window: Window) -> FloatTensor<B> {
    let [batch, height, width, channels] = x.shape().dims();
    let (place, [rows, columns]) = inner(window, [height, width]);
    let zeros = zeros::<B>(&x, &[batch, rows, columns, channels]);
    B::float_slice_assign(zeros, &place, x)
}

/// The inverse of [`padded`].
fn cropped<B: Backend>(x: FloatTensor<B>, window: Window, size: [usize; 2]) -> FloatTensor<B> {
    B::float_slice(x, &inner(window, size).0)
}

/// Adds to the pixels of a slice.
fn add_at<B: Backend>(to: FloatTensor<B>, place: &[Slice], values: FloatTensor<B>) -> FloatTensor<B> {
    let sum = B::float_add(B::float_slice(to.clone(), place), values);
    B::float_slice_assign(to, place, sum)
}

/// The weight of a tap, `[1, 1, 1, channels]`.
fn tap_weight<B: Backend>(weight: &FloatTensor<B>, tap: usize) -> FloatTensor<B> {
    let [kernel, _, channels] = weight.shape().dims();
    let flat = B::float_reshape(weight.clone(), [kernel * kernel, channels].into());
    let row = B::float_slice(flat, &[Slice::from(tap..tap + 1)]);
    B::float_reshape(row, [1, 1, 1, channels].into())
}

pub(super) fn depthwise<B: Backend>(
    x: FloatTensor<B>,
    weight: &FloatTensor<B>,
    window: Window,
) -> FloatTensor<B> {
    let [_, height, width, _] = x.shape().dims();
    let x = padded::<B>(x, window);
    let products = taps(window, [height, width])
        .enumerate()
        .map(|(tap, place)| B::float_mul(B::float_slice(x.clone(), &place), tap_weight::<B>(weight, tap)));
    products.reduce(B::float_add).expect("a window has a tap")
}

pub(super) fn depthwise_backward<B: Backend>(
    x: FloatTensor<B>,
    weight: &FloatTensor<B>,
    gradient: &FloatTensor<B>,
    window: Window,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let [_, height, width, channels] = x.shape().dims();
    let x = padded::<B>(x, window);
    let mut for_x = zeros::<B>(&x, x.shape().as_slice());
    let mut for_weight = Vec::new();
    for (tap, place) in taps(window, [height, width]).enumerate() {
        let product = B::float_mul(gradient.clone(), tap_weight::<B>(weight, tap));
        for_x = add_at::<B>(for_x, &place, product);
        let product = B::float_mul(gradient.clone(), B::float_slice(x.clone(), &place));
        let sum = (0..3).fold(product, B::float_sum_dim);
        for_weight.push(B::float_reshape(sum, [1, channels].into()));
    }
    let for_weight = B::float_reshape(B::float_cat(for_weight, 0), weight.shape());
    (cropped::<B>(for_x, window, [height, width]), for_weight)
}

pub(super) fn convolution<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    window: Window,
) -> FloatTensor<B> {
    let [batch, height, width, _] = x.shape().dims();
    let (out_height, out_width) = window.output(height, width);
    let outputs = weight.shape()[1];
    let rows = B::float_matmul(unfold::<B>(x, window), weight);
    B::float_reshape(rows, [batch, out_height, out_width, outputs].into())
}

pub(super) fn convolution_backward_x<B: Backend>(
    weight: FloatTensor<B>,
    gradient: FloatTensor<B>,
    shape: [usize; 4],
    window: Window,
) -> FloatTensor<B> {
    let rows = B::float_matmul(as_rows::<B>(gradient), B::float_swap_dims(weight, 0, 1));
    fold::<B>(rows, shape, window)
}

pub(super) fn convolution_backward_weight<B: Backend>(
    x: FloatTensor<B>,
    gradient: FloatTensor<B>,
    window: Window,
) -> FloatTensor<B> {
    let columns = B::float_swap_dims(unfold::<B>(x, window), 0, 1);
    B::float_matmul(columns, as_rows::<B>(gradient))
}

/// The pixels of all images, `[batch * height * width, channels]`.
fn as_rows<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let [batch, height, width, channels] = x.shape().dims();
    B::float_reshape(x, [batch * height * width, channels].into())
}

/// The pixels under each place of the window as a row, `[batch * out_height * out_width, taps * channels]`.
fn unfold<B: Backend>(x: FloatTensor<B>, window: Window) -> FloatTensor<B> {
    let [batch, height, width, channels] = x.shape().dims();
    let (out_height, out_width) = window.output(height, width);
    let x = padded::<B>(x, window);
    let all = taps(window, [height, width]).map(|place| B::float_slice(x.clone(), &place)).collect();
    let rows = batch * out_height * out_width;
    B::float_reshape(B::float_cat(all, 3), [rows, window.taps() * channels].into())
}

/// The gradient of [`unfold`]: each pixel's sum over the places that read it, of the given shape.
fn fold<B: Backend>(
    gradient: FloatTensor<B>,
    [batch, height, width, channels]: [usize; 4],
    window: Window,
) -> FloatTensor<B> {
    let (out_height, out_width) = window.output(height, width);
    let columns = window.taps() * channels;
    let gradient = B::float_reshape(gradient, [batch, out_height, out_width, columns].into());
    let [rows, columns] = inner(window, [height, width]).1;
    let mut sum = zeros::<B>(&gradient, &[batch, rows, columns, channels]);
    for (tap, place) in taps(window, [height, width]).enumerate() {
        let part = Slice::from(tap * channels..(tap + 1) * channels);
        let part = B::float_slice(gradient.clone(), &[Slice::full(), Slice::full(), Slice::full(), part]);
        sum = add_at::<B>(sum, &place, part);
    }
    cropped::<B>(sum, window, [height, width])
}

/// A row of `[1, channels]` without its first dimension.
fn flat<B: Backend>(row: FloatTensor<B>) -> FloatTensor<B> {
    let channels = row.shape()[1];
    B::float_reshape(row, [channels].into())
}

/// `[channels]` as a row.
fn as_row<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let channels = x.shape()[0];
    B::float_reshape(x, [1, channels].into())
}

pub(super) fn column_moments<B: Backend>(x: FloatTensor<B>) -> (FloatTensor<B>, FloatTensor<B>) {
    let mean = B::float_mean_dim(x.clone(), 0);
    let centred = B::float_sub(x, mean.clone());
    let variance = B::float_mean_dim(B::float_mul(centred.clone(), centred), 0);
    (flat::<B>(mean), flat::<B>(variance))
}

/// The normalised rows, and one over the columns' deviation.
fn normalised<B: Backend>(x: FloatTensor<B>, epsilon: f32) -> (FloatTensor<B>, FloatTensor<B>) {
    let (mean, variance) = column_moments::<B>(x.clone());
    let inverse = B::float_recip(B::float_sqrt(B::float_add_scalar(as_row::<B>(variance), epsilon.into())));
    (B::float_mul(B::float_sub(x, as_row::<B>(mean)), inverse.clone()), inverse)
}

pub(super) fn batch_norm<B: Backend>(
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    epsilon: f32,
) -> FloatTensor<B> {
    let (normal, _) = normalised::<B>(x, epsilon);
    B::float_add(B::float_mul(normal, as_row::<B>(gamma)), as_row::<B>(beta))
}

pub(super) fn batch_norm_backward<B: Backend>(
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    gradient: FloatTensor<B>,
    epsilon: f32,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let rows = x.shape()[0] as f32;
    let (normal, inverse) = normalised::<B>(x, epsilon);
    let for_gamma = B::float_sum_dim(B::float_mul(gradient.clone(), normal.clone()), 0);
    let for_beta = B::float_sum_dim(gradient.clone(), 0);
    let share = |sum: &FloatTensor<B>| B::float_div_scalar(sum.clone(), rows.into());
    let along = B::float_mul(normal, share(&for_gamma));
    let inner = B::float_sub(B::float_sub(gradient, share(&for_beta)), along);
    let for_x = B::float_mul(inner, B::float_mul(inverse, as_row::<B>(gamma)));
    (for_x, flat::<B>(for_gamma), flat::<B>(for_beta))
}

fn clipped<B: Backend>(x: FloatTensor<B>, highest: f32) -> FloatTensor<B> {
    B::float_clamp(x, 0.0.into(), highest.into())
}

/// max(min(x + 3, 6), 0) / 6
fn hard_sigmoid<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let clipped = clipped::<B>(B::float_add_scalar(x, 3.0.into()), 6.0);
    B::float_mul_scalar(clipped, (1.0 / 6.0).into())
}

pub(super) fn piecewise<B: Backend>(x: FloatTensor<B>, kind: Activation) -> FloatTensor<B> {
    match kind {
        Activation::Relu => B::float_clamp_min(x, 0.0.into()),
        Activation::Relu6 => clipped::<B>(x, 6.0),
        Activation::HardSigmoid => hard_sigmoid::<B>(x),
        Activation::HardSwish => B::float_mul(x.clone(), hard_sigmoid::<B>(x)),
    }
}

/// One where lowest < x < highest, zero elsewhere.
fn between<B: Backend>(x: &FloatTensor<B>, lowest: f32, highest: f32) -> FloatTensor<B> {
    let above = B::float_sign(clipped::<B>(B::float_sub_scalar(x.clone(), lowest.into()), f32::MAX));
    let below = B::float_sub_scalar(B::float_neg(x.clone()), (-highest).into());
    B::float_mul(above, B::float_sign(clipped::<B>(below, f32::MAX)))
}

/// The derivative of [`piecewise`]; where there is none, that of the constant piece.
pub(super) fn piecewise_slope<B: Backend>(x: FloatTensor<B>, kind: Activation) -> FloatTensor<B> {
    match kind {
        Activation::Relu => between::<B>(&x, 0.0, f32::MAX),
        Activation::Relu6 => between::<B>(&x, 0.0, 6.0),
        Activation::HardSigmoid => B::float_mul_scalar(between::<B>(&x, -3.0, 3.0), (1.0 / 6.0).into()),
        Activation::HardSwish => {
            let along =
                B::float_mul_scalar(B::float_mul(x.clone(), between::<B>(&x, -3.0, 3.0)), (1.0 / 6.0).into());
            B::float_add(hard_sigmoid::<B>(x), along)
        }
    }
}

/// `[batch, channels]` as images of one pixel.
pub(super) fn as_pixels<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let [batch, channels] = x.shape().dims();
    B::float_reshape(x, [batch, 1, 1, channels].into())
}

/// The sum of each image's pixels, `[batch, channels]`.
pub(super) fn sum_pixels<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let [batch, height, width, channels] = x.shape().dims();
    let rows = B::float_reshape(x, [batch, height * width, channels].into());
    B::float_reshape(B::float_sum_dim(rows, 1), [batch, channels].into())
}
