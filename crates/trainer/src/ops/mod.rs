//! Operations that burn's CPU backend runs slowly, as one fused kernel each with its own backward.
//!
//! Every operation has a plain burn expression as its default, so any backend can run it: on a GPU (`Cube`) the
//! defaults run, the kernels serve the `Flex` backend. Tests hold each kernel against the plain expression.

mod attention;
mod backward;
mod biased;
mod convolution;
mod elementwise;
mod gemm;
mod heads;
mod kernels;
mod linear;
mod loss;
mod math;
mod rows;
#[cfg(test)]
mod tests;

#[cfg(any(feature = "wgpu", feature = "cuda"))]
use burn::backend::Cube;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Slice, Tensor};

pub(crate) use attention::AttentionShape;
pub(crate) use biased::biased_attention;
pub(crate) use convolution::{
    Activation, Window, activation, batch_norm, convolution, depthwise, mean_pixels, moments, scale_channels,
};
pub(crate) use elementwise::squared_sum;

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
#[backend_extension(Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")), Autodiff)]
pub(crate) trait FusedOps: Backend {
    /// x * Phi(x), Phi the normal distribution function.
    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::gelu(x)
    }

    /// [`Self::fused_gelu`] and its derivative at `x`.
    ///
    /// Not burn's backward, which is the derivative of the tanh approximation and off by up to 1e-3.
    fn fused_gelu_and_derivative(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        const SQRT_HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;
        const INVERSE_SQRT_TAU: f32 = 0.398_942_3;
        let error = Self::float_erf(Self::float_mul_scalar(x.clone(), SQRT_HALF.into()));
        let distribution = Self::float_add_scalar(Self::float_mul_scalar(error, 0.5.into()), 0.5.into());
        let exponent = Self::float_mul_scalar(Self::float_mul(x.clone(), x.clone()), (-0.5).into());
        let density = Self::float_mul_scalar(Self::float_exp(exponent), INVERSE_SQRT_TAU.into());
        let derivative = Self::float_add(distribution.clone(), Self::float_mul(x.clone(), density));
        (Self::float_mul(x, distribution), derivative)
    }

    /// Element by element, of tensors of one shape.
    fn fused_product(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_mul(a, b)
    }

    /// x W + b, `[rows, inputs]` to `[rows, outputs]`.
    fn fused_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let columns = bias.shape()[0];
        Self::float_add(Self::float_matmul(x, weight), Self::float_reshape(bias, [1, columns].into()))
    }

    /// x W + b + r, r a residual of the output's shape.
    fn fused_linear_add(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::float_add(Self::fused_linear(x, weight, bias), residual)
    }

    /// The product of two matrices.
    fn fused_matmul(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_matmul(a, b)
    }

    /// The sum of the rows, `[rows, columns]` to `[columns]`.
    fn fused_sum_rows(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let columns = x.shape()[1];
        Self::float_reshape(Self::float_sum_dim(x, 0), [columns].into())
    }

    /// The mean cross-entropy of the rows, `[rows, classes]` twice to `[1]`.
    fn fused_cross_entropy(logits: FloatTensor<Self>, targets: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::fused_cross_entropy_and_gradient(logits, targets).0
    }

    /// [`Self::fused_cross_entropy`] and its gradient for the logits.
    fn fused_cross_entropy_and_gradient(
        logits: FloatTensor<Self>,
        targets: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let rows = logits.shape()[0] as f32;
        let log = Self::log_softmax(logits, 1);
        let mass = Self::float_sum_dim(targets.clone(), 1);
        let gradient = Self::float_sub(Self::float_mul(Self::float_exp(log.clone()), mass), targets.clone());
        let sum = Self::float_sum(Self::float_mul(log, targets));
        let loss = Self::float_div_scalar(Self::float_neg(sum), rows.into());
        (loss, Self::float_div_scalar(gradient, rows.into()))
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

    /// See [`biased_attention`].
    fn fused_biased_attention(
        qkv: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        shape: AttentionShape,
    ) -> FloatTensor<Self> {
        biased::composed::<Self>(qkv, bias, shape)
    }

    /// The gradients of [`Self::fused_biased_attention`] for qkv and the bias.
    fn fused_biased_attention_backward(
        qkv: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        shape: AttentionShape,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        biased::composed_backward::<Self>(qkv, bias, gradient, shape)
    }

    /// The first of both where the bias does not learn, as a mask of padding.
    fn fused_masked_attention_backward(
        qkv: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        shape: AttentionShape,
    ) -> FloatTensor<Self> {
        Self::fused_biased_attention_backward(qkv, bias, gradient, shape).0
    }

    /// One update of AdamW: the new weights, mean of the gradients and mean of their squares.
    fn fused_adamw(
        weights: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        factors: AdamwFactors,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let times = |x, factor: f32| Self::float_mul_scalar(x, factor.into());
        let gradient = times(gradient, factors.gradient);
        let square = Self::float_mul(gradient.clone(), gradient.clone());
        let first = Self::float_add(times(first, factors.beta1), times(gradient, factors.rest1));
        let second = Self::float_add(times(second, factors.beta2), times(square, factors.rest2));
        let deviation = times(Self::float_sqrt(second.clone()), factors.root);
        let deviation = Self::float_add_scalar(deviation, factors.epsilon.into());
        let update = times(Self::float_div(first.clone(), deviation), factors.rate);
        (Self::float_sub(times(weights, factors.keep), update), first, second)
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

/// A GPU runs the defaults.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl FusedOps for Cube {}

impl FusedOps for Flex {
    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        elementwise::unary(&x, kernels::gelu)
    }

    fn fused_gelu_and_derivative(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        elementwise::unary_pair(&x, kernels::gelu_and_derivative)
    }

    fn fused_product(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        elementwise::change(a, &b, kernels::multiply)
    }

    fn fused_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        linear::linear(&x, &weight, &bias)
    }

    fn fused_linear_add(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        linear::linear_add(&x, &weight, &bias, residual)
    }

    fn fused_matmul(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        linear::matmul(&a, &b)
    }

    fn fused_sum_rows(x: FloatTensor<Self>) -> FloatTensor<Self> {
        linear::sum_rows(&x)
    }

    fn fused_cross_entropy_and_gradient(
        logits: FloatTensor<Self>,
        targets: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        loss::cross_entropy(&logits, &targets)
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

    fn fused_biased_attention(
        qkv: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        shape: AttentionShape,
    ) -> FloatTensor<Self> {
        biased::attention(&qkv, &bias, shape)
    }

    fn fused_biased_attention_backward(
        qkv: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        shape: AttentionShape,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        biased::attention_backward(&qkv, &bias, &gradient, shape)
    }

    fn fused_masked_attention_backward(
        qkv: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        shape: AttentionShape,
    ) -> FloatTensor<Self> {
        biased::attention_backward_without_bias(&qkv, &bias, &gradient, shape)
    }

    fn fused_adamw(
        weights: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        factors: AdamwFactors,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        elementwise::adamw([weights, first, second], &gradient, factors)
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

/// x W + b.
///
/// # Shapes
///
/// - x: `[rows, inputs]`
/// - weight: `[inputs, outputs]`
/// - bias: `[outputs]`
/// - output: `[rows, outputs]`
pub(crate) fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(<Dispatch as FusedOps>::fused_linear(x, weight, bias))
}

/// x W + b + residual.
///
/// # Shapes
///
/// - x, weight, bias: see [`linear`]
/// - residual, output: `[rows, outputs]`
pub(crate) fn linear_add(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>, residual: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as FusedOps>::fused_linear_add(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        residual.into_dispatch(),
    ))
}

/// The mean cross-entropy of the rows; the targets get no gradient.
///
/// # Shapes
///
/// - logits, targets: `[rows, classes]`; no target is negative
/// - output: `[1]`
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    let (logits, targets) = (logits.into_dispatch(), targets.into_dispatch());
    Tensor::from_dispatch(<Dispatch as FusedOps>::fused_cross_entropy(logits, targets))
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

/// One update of AdamW: the new weights, mean of the gradients and mean of their squares.
///
/// # Shapes
///
/// - all: `[values]`
pub(crate) fn adamw(
    weights: Tensor<1>,
    first: Tensor<1>,
    second: Tensor<1>,
    gradient: Tensor<1>,
    factors: AdamwFactors,
) -> [Tensor<1>; 3] {
    let (weights, first, second) = <Dispatch as FusedOps>::fused_adamw(
        weights.into_dispatch(),
        first.into_dispatch(),
        second.into_dispatch(),
        gradient.into_dispatch(),
        factors,
    );
    [weights, first, second].map(Tensor::from_dispatch)
}
