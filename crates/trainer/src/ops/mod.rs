//! Operations that burn's CPU backend runs slowly, as one fused kernel each with its own backward.
//!
//! Every operation has a plain burn expression as its default, so any backend can run it; the kernels
//! serve the `Flex` backend. Tests hold each kernel against the plain expression.

mod backward;
mod elementwise;
mod math;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;

/// Fused operations and their derivatives, on a backend's own tensors.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait FusedOps: Backend {
    /// x * Phi(x), Phi the normal distribution function.
    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::gelu(x)
    }

    /// The gradient of [`Self::fused_gelu`] at `x`, times `gradient`.
    fn fused_gelu_backward(x: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::gelu_backward(x, gradient)
    }
}

impl FusedOps for Flex {
    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        elementwise::unary(x, math::gelu)
    }

    fn fused_gelu_backward(x: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        elementwise::binary(x, gradient, |x, gradient| gradient * math::gelu_derivative(x))
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

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution, Tensor, activation};
    use proptest::prelude::*;

    fn worst_difference<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f32 {
        (a - b).abs().max().into_scalar::<f32>()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn gelu_and_its_gradient_are_those_of_burn(rows in 1_usize..70, columns in 1_usize..700, scale in 0.1_f64..6.0) {
            let device = Device::flex().autodiff();
            let x = Tensor::<2>::random([rows, columns], Distribution::Normal(0.0, scale), &device).require_grad();
            let weights = Tensor::<2>::random([rows, columns], Distribution::Default, &device);
            let ours = super::gelu(x.clone());
            let burns = activation::gelu(x.clone());
            prop_assert!(worst_difference(ours.clone().inner(), burns.clone().inner()) < 2e-6);
            let ours = x.grad(&(ours * weights.clone()).sum().backward()).expect("x has a gradient");
            let burns = x.grad(&(burns * weights).sum().backward()).expect("x has a gradient");
            prop_assert!(worst_difference(ours, burns) < 2e-6);
        }

        #[test]
        fn gelu_runs_on_views(rows in 1_usize..9, columns in 1_usize..9) {
            let device = Device::flex();
            let x = Tensor::<2>::random([columns, rows], Distribution::Normal(0.0, 1.0), &device).transpose();
            let difference = worst_difference(super::gelu(x.clone()), activation::gelu(x));
            prop_assert!(difference < 2e-6);
        }
    }
}
