//! The operations of convolution networks, on images with the channels last: `[batch, height, width, channels]`.
//!
//! So a 1 x 1 convolution is a fully connected layer of the pixels, batch normalisation takes statistics
//! of columns, a depthwise convolution works on vectors of channels, and a slice has the leading columns.

mod backward;
mod columns;
mod defaults;
mod depthwise;
mod full;
mod kernels;
mod pixels;
mod planes;
#[cfg(test)]
mod tests;
mod window;

#[cfg(any(feature = "wgpu", feature = "cuda"))]
use burn::backend::Cube;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Tensor, module::linear};

use super::elementwise;

use window::Padding;
pub(crate) use window::Window;

/// A piecewise polynomial of each element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// max(x, 0)
    Relu,
    /// max(min(x, 6), 0)
    Relu6,
    /// x * hard-sigmoid(x), of [MobileNetV3](https://arxiv.org/abs/1905.02244).
    HardSwish,
    /// max(min(x + 3, 6), 0) / 6
    HardSigmoid,
}

/// Operations of convolution networks and their derivatives, on a backend's own tensors.
#[backend_extension(Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")), Autodiff)]
pub(crate) trait ConvolutionOps: Backend {
    /// See [`depthwise`].
    fn depthwise(x: FloatTensor<Self>, weight: FloatTensor<Self>, window: Window) -> FloatTensor<Self> {
        defaults::depthwise::<Self>(x, &weight, window)
    }

    /// The gradients of [`Self::depthwise`] for x and the weight.
    fn depthwise_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        window: Window,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        defaults::depthwise_backward::<Self>(x, &weight, &gradient, window)
    }

    /// See [`convolution`]; without a bias.
    fn full_convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        window: Window,
    ) -> FloatTensor<Self> {
        defaults::convolution::<Self>(x, weight, window)
    }

    /// The gradient of [`Self::full_convolution`] for x, of the given shape.
    fn full_convolution_backward_x(
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        shape: [usize; 4],
        window: Window,
    ) -> FloatTensor<Self> {
        defaults::convolution_backward_x::<Self>(weight, gradient, shape, window)
    }

    /// The gradient of [`Self::full_convolution`] for the weight.
    fn full_convolution_backward_weight(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        window: Window,
    ) -> FloatTensor<Self> {
        defaults::convolution_backward_weight::<Self>(x, gradient, window)
    }

    /// See [`moments`].
    fn column_moments(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        defaults::column_moments::<Self>(x)
    }

    /// See [`batch_norm`].
    fn fused_batch_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        defaults::batch_norm::<Self>(x, gamma, beta, epsilon)
    }

    /// The gradients of [`Self::fused_batch_norm`] for x, gamma and beta.
    fn fused_batch_norm_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        defaults::batch_norm_backward::<Self>(x, gamma, gradient, epsilon)
    }

    /// See [`activation`].
    fn piecewise(x: FloatTensor<Self>, kind: Activation) -> FloatTensor<Self> {
        defaults::piecewise::<Self>(x, kind)
    }

    /// The gradient of [`Self::piecewise`] at x, times `gradient`.
    fn piecewise_backward(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        kind: Activation,
    ) -> FloatTensor<Self> {
        Self::float_mul(gradient, defaults::piecewise_slope::<Self>(x, kind))
    }

    /// See [`scale_channels`].
    fn scale_channels(x: FloatTensor<Self>, gate: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_mul(x, defaults::as_pixels::<Self>(gate))
    }

    /// The gradients of [`Self::scale_channels`] for x and the gate.
    fn scale_channels_backward(
        x: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let for_gate = defaults::sum_pixels::<Self>(Self::float_mul(x, gradient.clone()));
        (Self::float_mul(gradient, defaults::as_pixels::<Self>(gate)), for_gate)
    }

    /// See [`mean_pixels`].
    fn mean_pixels(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let pixels = (x.shape()[1] * x.shape()[2]) as f32;
        Self::float_div_scalar(defaults::sum_pixels::<Self>(x), pixels.into())
    }

    /// The gradient of [`Self::mean_pixels`] for images of `[height, width]`.
    fn mean_pixels_backward(gradient: FloatTensor<Self>, size: [usize; 2]) -> FloatTensor<Self> {
        let [height, width] = size;
        let [batch, channels] = gradient.shape().dims();
        let gradient = Self::float_div_scalar(gradient, ((height * width) as f32).into());
        Self::float_expand(defaults::as_pixels::<Self>(gradient), [batch, height, width, channels].into())
    }
}

/// A GPU runs the defaults.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl ConvolutionOps for Cube {}

impl ConvolutionOps for Flex {
    fn depthwise(x: FloatTensor<Self>, weight: FloatTensor<Self>, window: Window) -> FloatTensor<Self> {
        depthwise::depthwise(&x, &weight, window)
    }

    fn depthwise_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        window: Window,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        depthwise::depthwise_backward(&x, &weight, &gradient, window)
    }

    fn full_convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        window: Window,
    ) -> FloatTensor<Self> {
        full::convolution(&x, &weight, window)
    }

    fn full_convolution_backward_x(
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        shape: [usize; 4],
        window: Window,
    ) -> FloatTensor<Self> {
        full::convolution_backward_x(&weight, &gradient, shape, window)
    }

    fn full_convolution_backward_weight(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        window: Window,
    ) -> FloatTensor<Self> {
        full::convolution_backward_weight(&x, &gradient, window)
    }

    fn column_moments(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        columns::moments(&x)
    }

    fn fused_batch_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        columns::batch_norm(&x, &gamma, &beta, epsilon)
    }

    fn fused_batch_norm_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        columns::batch_norm_backward(&x, &gamma, &gradient, epsilon)
    }

    fn piecewise(x: FloatTensor<Self>, kind: Activation) -> FloatTensor<Self> {
        match kind {
            Activation::Relu => elementwise::unary(&x, kernels::relu),
            Activation::Relu6 => elementwise::unary(&x, kernels::relu6),
            Activation::HardSwish => elementwise::unary(&x, kernels::hard_swish),
            Activation::HardSigmoid => elementwise::unary(&x, kernels::hard_sigmoid),
        }
    }

    fn piecewise_backward(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        kind: Activation,
    ) -> FloatTensor<Self> {
        match kind {
            Activation::Relu => elementwise::change(gradient, &x, kernels::relu_backward),
            Activation::Relu6 => elementwise::change(gradient, &x, kernels::relu6_backward),
            Activation::HardSwish => elementwise::change(gradient, &x, kernels::hard_swish_backward),
            Activation::HardSigmoid => elementwise::change(gradient, &x, kernels::hard_sigmoid_backward),
        }
    }

    fn scale_channels(x: FloatTensor<Self>, gate: FloatTensor<Self>) -> FloatTensor<Self> {
        pixels::scale(&x, &gate)
    }

    fn scale_channels_backward(
        x: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        (pixels::scale(&gradient, &gate), pixels::sum_products(&x, &gradient))
    }

    fn mean_pixels(x: FloatTensor<Self>) -> FloatTensor<Self> {
        pixels::mean(&x)
    }
}

/// A convolution of each channel by itself.
///
/// # Shapes
///
/// - x: `[batch, height, width, channels]`
/// - weight: `[kernel, kernel, channels]`
/// - output: `[batch, out_height, out_width, channels]`, see [`Window::output`]
pub(crate) fn depthwise(x: Tensor<4>, weight: Tensor<3>, shape: Window) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as ConvolutionOps>::depthwise(
        x.into_dispatch(),
        weight.into_dispatch(),
        shape,
    ))
}

/// A convolution of all channels, plus a bias where there is one.
///
/// # Shapes
///
/// - x: `[batch, height, width, inputs]`
/// - weight: `[kernel * kernel * inputs, outputs]`, row by row of the window
/// - bias: `[outputs]`
/// - output: `[batch, out_height, out_width, outputs]`, see [`Window::output`]
pub(crate) fn convolution(
    x: Tensor<4>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    window: Window,
) -> Tensor<4> {
    let [batch, height, width, inputs] = x.dims();
    let outputs = weight.dims()[1];
    if window == Window::PIXEL {
        let rows = x.reshape([batch * height * width, inputs]);
        let rows = match bias {
            Some(bias) => super::linear(rows, weight, bias),
            None => linear(rows, weight, None),
        };
        return rows.reshape([batch, height, width, outputs]);
    }
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    let y: Tensor<4> =
        Tensor::from_dispatch(<Dispatch as ConvolutionOps>::full_convolution(x, weight, window));
    match bias {
        Some(bias) => y + bias.reshape([1, 1, 1, outputs]),
        None => y,
    }
}

/// [Batch normalisation](https://arxiv.org/abs/1502.03167) by the statistics of the rows themselves.
///
/// # Shapes
///
/// - x and output: `[rows, channels]`
/// - gamma, beta: `[channels]`
pub(crate) fn batch_norm(x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, epsilon: f32) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as ConvolutionOps>::fused_batch_norm(
        x.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        epsilon,
    ))
}

/// The mean and the biased variance of each column; no gradient flows through them.
///
/// # Shapes
///
/// - x: `[rows, channels]`
/// - outputs: `[channels]`
pub(crate) fn moments(x: Tensor<2>) -> (Tensor<1>, Tensor<1>) {
    let (mean, variance) = <Dispatch as ConvolutionOps>::column_moments(x.into_dispatch());
    (Tensor::from_dispatch(mean), Tensor::from_dispatch(variance))
}

/// An activation of each element.
///
/// # Shapes
///
/// - x and output: any, the same
pub(crate) fn activation<const D: usize>(x: Tensor<D>, kind: Activation) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as ConvolutionOps>::piecewise(x.into_dispatch(), kind))
}

/// Multiplies each channel of each image with its gate, as [squeeze-and-excitation](https://arxiv.org/abs/1709.01507) does.
///
/// # Shapes
///
/// - x and output: `[batch, height, width, channels]`
/// - gate: `[batch, channels]`
pub(crate) fn scale_channels(x: Tensor<4>, gate: Tensor<2>) -> Tensor<4> {
    let (x, gate) = (x.into_dispatch(), gate.into_dispatch());
    Tensor::from_dispatch(<Dispatch as ConvolutionOps>::scale_channels(x, gate))
}

/// The mean of each channel of each image.
///
/// # Shapes
///
/// - x: `[batch, height, width, channels]`
/// - output: `[batch, channels]`
pub(crate) fn mean_pixels(x: Tensor<4>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as ConvolutionOps>::mean_pixels(x.into_dispatch()))
}
