//! Operations that burn's CPU backend runs slowly, as one fused kernel each with its own backward.
//!
//! Every operation has a plain burn expression as its default, so any backend can run it; the kernels
//! serve the `Flex` backend. Tests hold each kernel against the plain expression.

mod attention;
mod backward;
#[allow(dead_code, reason = "the convolution family, which calls it, comes next")]
mod convolution;
mod elementwise;
mod heads;
mod kernels;
mod math;
mod rows;
#[cfg(test)]
mod tests;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Slice, Tensor};

pub(crate) use attention::AttentionShape;
#[allow(unused_imports, reason = "the convolution family, which calls them, comes next")]
pub(crate) use convolution::{
    Activation, Padding, Window, activation, batch_norm, depthwise, mean_pixels, moments, scale_channels,
    unfold,
};
pub(crate) use elementwise::{adamw, squared_sum};

/// What an update of AdamW multiplies with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamwFactors {
    /// On the gradient.
    pub(crate) gradient: f32,
    /// On the mean of the gradients, and on the new gradient.
    pub(crate) beta1: f32,
    /// See `beta1`.
    pub(crate) rest1: f32,
    /// On the mean of their squares, and on the new square.
    pub(crate) beta2: f32,
    /// See `beta2`.
    pub(crate) rest2: f32,
    /// On the weight.
    pub(crate) keep: f32,
    /// On the mean over the deviation.
    pub(crate) rate: f32,
    /// On the root of the second moment.
    pub(crate) root: f32,
    /// Added to the deviation.
    pub(crate) epsilon: f32,
}

/// Fused operations and their derivatives, on a backend's own tensors.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait FusedOps: Backend {
    /// x * Phi(x), Phi the normal distribution function.
    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::gelu(x)
    }

    /// The gradient of [`Self::fused_gelu`] at `x`, times `gradient`.
    ///
    /// Not burn's default, which is the derivative of the tanh approximation and off by up to 1e-3.
    fn fused_gelu_backward(x: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        const SQRT_HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;
        const INVERSE_SQRT_TAU: f32 = 0.398_942_3;
        let error = Self::float_erf(Self::float_mul_scalar(x.clone(), SQRT_HALF.into()));
        let distribution = Self::float_add_scalar(Self::float_mul_scalar(error, 0.5.into()), 0.5.into());
        let exponent = Self::float_mul_scalar(Self::float_mul(x.clone(), x.clone()), (-0.5).into());
        let density = Self::float_mul_scalar(Self::float_exp(exponent), INVERSE_SQRT_TAU.into());
        let derivative = Self::float_add(distribution, Self::float_mul(x, density));
        Self::float_mul(gradient, derivative)
    }

    /// softmax(x * scale) over the last dimension.
    fn fused_softmax(x: FloatTensor<Self>, scale: f32) -> FloatTensor<Self> {
        let last = x.shape().num_dims() - 1;
        Self::softmax(Self::float_mul_scalar(x, scale.into()), last)
    }

    /// The gradient of [`Self::fused_softmax`] from its output `y`.
    fn fused_softmax_backward(
        y: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        let last = y.shape().num_dims() - 1;
        let common = Self::float_sum_dim(Self::float_mul(y.clone(), gradient.clone()), last);
        let product = Self::float_mul(y, Self::float_sub(gradient, common));
        Self::float_mul_scalar(product, scale.into())
    }

    /// Layer normalisation of each row of `x`, `[rows, features]`.
    fn fused_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        Self::layer_norm(x, gamma, Some(beta), f64::from(epsilon))
    }

    /// The gradients of [`Self::fused_layer_norm`] for x, gamma and beta.
    fn fused_layer_norm_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let features = x.shape()[1];
        let mean = Self::float_mean_dim(x.clone(), 1);
        let centred = Self::float_sub(x, mean);
        let variance = Self::float_mean_dim(Self::float_mul(centred.clone(), centred.clone()), 1);
        let inverse = Self::float_recip(Self::float_sqrt(Self::float_add_scalar(variance, epsilon.into())));
        let normal = Self::float_mul(centred, inverse.clone());
        let over_rows = |x| Self::float_reshape(Self::float_sum_dim(x, 0), [features].into());
        let for_gamma = over_rows(Self::float_mul(gradient.clone(), normal.clone()));
        let for_beta = over_rows(gradient.clone());
        let scaled = Self::float_mul(gradient, Self::float_reshape(gamma, [1, features].into()));
        let along = Self::float_mean_dim(Self::float_mul(scaled.clone(), normal.clone()), 1);
        let mean = Self::float_mean_dim(scaled.clone(), 1);
        let inner = Self::float_sub(Self::float_sub(scaled, mean), Self::float_mul(normal, along));
        (Self::float_mul(inner, inverse), for_gamma, for_beta)
    }

    /// Attention of each image's rows, `[rows, 3 * inner]` to `[rows, inner]`.
    fn fused_attention(qkv: FloatTensor<Self>, shape: AttentionShape) -> FloatTensor<Self> {
        let [query, key, value] = parts::<Self, 3>(qkv, shape);
        let context = Self::float_matmul(probabilities::<Self>(query, key, shape), value);
        joined::<Self>(vec![context], shape)
    }

    /// The gradient of [`Self::fused_attention`].
    fn fused_attention_backward(
        qkv: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        shape: AttentionShape,
    ) -> FloatTensor<Self> {
        let [query, key, value] = parts::<Self, 3>(qkv, shape);
        let [gradient] = parts::<Self, 1>(gradient, shape);
        let transposed = |x| Self::float_swap_dims(x, 2, 3);
        let y = probabilities::<Self>(query.clone(), key.clone(), shape);
        let for_value = Self::float_matmul(transposed(y.clone()), gradient.clone());
        let for_y = Self::float_matmul(gradient, transposed(value));
        let for_scores = Self::fused_softmax_backward(y, for_y, shape.scale());
        let for_query = Self::float_matmul(for_scores.clone(), key);
        let for_key = Self::float_matmul(transposed(for_scores), query);
        joined::<Self>(vec![for_query, for_key, for_value], shape)
    }
}

/// Parts of `[rows, parts * inner]` as `[images, heads, tokens, head_dim]` each.
fn parts<B: Backend, const PARTS: usize>(
    x: FloatTensor<B>,
    shape: AttentionShape,
) -> [FloatTensor<B>; PARTS] {
    let AttentionShape { tokens, heads, head_dim } = shape;
    let images = x.shape()[0] / tokens;
    let x = B::float_reshape(x, [images, tokens, PARTS * heads, head_dim].into());
    let x = B::float_swap_dims(x, 1, 2);
    std::array::from_fn(|part| {
        let slices = [Slice::full(), Slice::from(part * heads..(part + 1) * heads)];
        B::float_slice(x.clone(), &slices)
    })
}

/// The inverse of [`parts`].
fn joined<B: Backend>(all: Vec<FloatTensor<B>>, shape: AttentionShape) -> FloatTensor<B> {
    let columns = all.len() * shape.inner();
    let x = B::float_swap_dims(B::float_cat(all, 1), 1, 2);
    let rows = x.shape()[0] * shape.tokens;
    B::float_reshape(x, [rows, columns].into())
}

/// `[images, heads, tokens, tokens]`
fn probabilities<B: FusedOps>(
    query: FloatTensor<B>,
    key: FloatTensor<B>,
    shape: AttentionShape,
) -> FloatTensor<B> {
    let scores = B::float_matmul(query, B::float_swap_dims(key, 2, 3));
    B::fused_softmax(scores, shape.scale())
}

impl FusedOps for Flex {
    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        elementwise::unary(&x, kernels::gelu)
    }

    fn fused_gelu_backward(x: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        elementwise::binary(&x, &gradient, kernels::gelu_backward)
    }

    fn fused_softmax(x: FloatTensor<Self>, scale: f32) -> FloatTensor<Self> {
        rows::softmax(&x, scale)
    }

    fn fused_softmax_backward(
        y: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        rows::softmax_backward(&y, &gradient, scale)
    }

    fn fused_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        rows::layer_norm(&x, &gamma, &beta, epsilon)
    }

    fn fused_layer_norm_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        rows::layer_norm_backward(&x, &gamma, &gradient, epsilon)
    }

    fn fused_attention(qkv: FloatTensor<Self>, shape: AttentionShape) -> FloatTensor<Self> {
        attention::attention(&qkv, shape)
    }

    fn fused_attention_backward(
        qkv: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        shape: AttentionShape,
    ) -> FloatTensor<Self> {
        attention::attention_backward(&qkv, &gradient, shape)
    }
}

/// The exact [GELU](https://arxiv.org/abs/1606.08415).
///
/// # Shapes
///
/// - x and output: any, the same
pub(crate) fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as FusedOps>::fused_gelu(x.into_dispatch()))
}

/// softmax(x * scale) over the last dimension; `scale` is above zero.
///
/// # Shapes
///
/// - x and output: any, the same
pub(crate) fn softmax<const D: usize>(x: Tensor<D>, scale: f32) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as FusedOps>::fused_softmax(x.into_dispatch(), scale))
}

/// [Layer normalisation](https://arxiv.org/abs/1607.06450) of each row.
///
/// # Shapes
///
/// - x and output: `[rows, features]`
/// - gamma, beta: `[features]`
pub(crate) fn layer_norm(x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, epsilon: f32) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as FusedOps>::fused_layer_norm(
        x.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        epsilon,
    ))
}

/// Scaled dot-product attention within each image.
///
/// # Shapes
///
/// - qkv: `[images * tokens, 3 * heads * head_dim]`: the heads of the queries, the keys, the values
/// - output: `[images * tokens, heads * head_dim]`
pub(crate) fn attention(qkv: Tensor<2>, shape: AttentionShape) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as FusedOps>::fused_attention(qkv.into_dispatch(), shape))
}
