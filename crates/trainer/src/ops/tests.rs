use burn::backend::Dispatch;
use burn::tensor::{Device, Gradients, Tensor, TensorData, activation, module};
use elastic_space::Seed;
use elastic_space::random::Purpose;
use proptest::prelude::*;
use rand::Rng;

use super::{AdamwFactors, AttentionShape, FusedOps};

/// Of the largest value, or of 1 if all are smaller.
pub(super) const TOLERANCE: f32 = 2e-5;

/// Draws tensors of normal values.
pub(super) struct Draw<R> {
    rng: R,
    device: Device,
}

impl<R: Rng> Draw<R> {
    pub(super) fn normal<const D: usize>(&mut self, shape: [usize; D], deviation: f64) -> Tensor<D> {
        let normal = rand_distr::Normal::new(0.0, deviation as f32).expect("the deviation is finite");
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| self.rng.sample(normal)).collect();
        Tensor::from_data(TensorData::new(values, shape), &self.device)
    }
}

pub(super) fn draw(seed: u64, device: Device) -> Draw<impl Rng> {
    Draw { rng: Seed(seed).generator(Purpose::Init, 0), device }
}

pub(super) fn worst_difference<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f32 {
    let (a, b) = (a.inner(), b.inner());
    let scale = b.clone().abs().max().into_scalar::<f32>().max(1.0);
    (a - b).abs().max().into_scalar::<f32>() / scale
}

pub(super) fn flat<const D: usize>(tensor: Option<Tensor<D>>) -> Tensor<1> {
    let tensor = tensor.expect("the input has a gradient");
    let values = tensor.shape().num_elements();
    tensor.reshape([values])
}

/// Both results agree, and so do the gradients of the inputs under some weights.
pub(super) fn same<const D: usize>(
    (ours, burns): (Tensor<D>, Tensor<D>),
    weights: &Tensor<D>,
    gradients: impl Fn(&Gradients) -> Vec<Tensor<1>>,
) -> Result<(), TestCaseError> {
    prop_assert!(worst_difference(ours.clone(), burns.clone()) < TOLERANCE);
    let gradients = |y: Tensor<D>| gradients(&(y * weights.clone()).sum().backward());
    for (index, (ours, burns)) in gradients(ours).into_iter().zip(gradients(burns)).enumerate() {
        let difference = worst_difference(ours, burns);
        prop_assert!(difference < TOLERANCE, "gradient of input {}: {}", index, difference);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn gelu_is_that_of_burn(
        rows in 1_usize..70, columns in 1_usize..700, scale in 0.1_f64..6.0, seed: u64,
    ) {
        let mut draw = draw(seed, Device::flex().autodiff());
        let x = draw.normal([rows, columns], scale).require_grad();
        let results = (super::gelu(x.clone()), activation::gelu(x.clone()));
        same(results, &draw.normal([rows, columns], 1.0), |all| vec![flat(x.grad(all))])?;
    }

    #[test]
    fn softmax_is_that_of_burn(
        a in 1_usize..9, b in 1_usize..40, columns in 1_usize..90, scale in 0.1_f64..2.0, seed: u64,
    ) {
        let mut draw = draw(seed, Device::flex().autodiff());
        let x = draw.normal([a, 2, b, columns], 3.0).require_grad();
        let results = (super::softmax(x.clone(), scale as f32), activation::softmax(x.clone() * scale, 3));
        same(results, &draw.normal([a, 2, b, columns], 1.0), |all| vec![flat(x.grad(all))])?;
    }

    #[test]
    fn layer_norm_is_that_of_burn(
        rows in 1_usize..300, columns in 8_usize..130, scale in 0.5_f64..4.0, seed: u64,
    ) {
        let mut draw = draw(seed, Device::flex().autodiff());
        let x = draw.normal([rows, columns], scale).require_grad();
        let [gamma, beta] = [(); 2].map(|()| draw.normal([columns], 1.0).require_grad());
        let ours = super::layer_norm(x.clone(), gamma.clone(), beta.clone(), 1e-3);
        let burns = module::layer_norm(x.clone(), gamma.clone(), Some(beta.clone()), 1e-3);
        same((ours, burns), &draw.normal([rows, columns], 1.0), |all| {
            vec![flat(x.grad(all)), flat(gamma.grad(all)), flat(beta.grad(all))]
        })?;
    }

    #[test]
    fn linear_is_that_of_burn(
        rows in 1_usize..300, inputs in 1_usize..90, outputs in 1_usize..90, more in 0_usize..9, seed: u64,
    ) {
        let mut draw = draw(seed, Device::flex().autodiff());
        let x = draw.normal([rows, inputs], 1.0).require_grad();
        let full = draw.normal([inputs + more, outputs + more], 1.0).require_grad();
        let bias = draw.normal([outputs], 1.0).require_grad();
        let residual = draw.normal([rows, outputs], 1.0).require_grad();
        // A graph is used up by its backward pass, so each has a slice of its own.
        let weight = || full.clone().slice([0..inputs, 0..outputs]);
        let weights = draw.normal([rows, outputs], 1.0);
        let burns = || module::linear(x.clone(), weight(), Some(bias.clone()));
        let ours = super::linear(x.clone(), weight(), bias.clone());
        same((ours, burns()), &weights, |all| {
            vec![flat(x.grad(all)), flat(full.grad(all)), flat(bias.grad(all))]
        })?;
        let ours = super::linear_add(x.clone(), weight(), bias.clone(), residual.clone());
        same((ours, burns() + residual.clone()), &weights, |all| {
            vec![flat(x.grad(all)), flat(full.grad(all)), flat(bias.grad(all)), flat(residual.grad(all))]
        })?;
    }

    #[test]
    fn cross_entropy_is_that_of_burn(
        rows in 1_usize..70, classes in 2_usize..40, scale in 0.1_f64..30.0, seed: u64,
    ) {
        let mut draw = draw(seed, Device::flex().autodiff());
        let logits = draw.normal([rows, classes], scale).require_grad();
        let targets = activation::softmax(draw.normal([rows, classes], 2.0), 1);
        let burns = (activation::log_softmax(logits.clone(), 1) * targets.clone()).sum() / -(rows as f64);
        let ours = super::cross_entropy(logits.clone(), targets);
        same((ours, burns), &draw.normal([1], 1.0), |all| vec![flat(logits.grad(all))])?;
    }

    #[test]
    fn attention_is_that_of_burn(
        images in 1_usize..4, tokens in 1_usize..41, heads in 1_usize..5, head_dim in 1_usize..37, seed: u64,
    ) {
        let mut draw = draw(seed, Device::flex().autodiff());
        let (rows, inner) = (images * tokens, heads * head_dim);
        let qkv = draw.normal([rows, 3 * inner], 1.0).require_grad();
        let parts = qkv.clone().reshape([images, tokens, 3 * heads, head_dim]).swap_dims(1, 2);
        let [query, key, value] = [0, 1, 2].map(|part| parts.clone().narrow(1, part * heads, heads));
        let scores = query.matmul(key.swap_dims(2, 3)) / (head_dim as f32).sqrt();
        let context = activation::softmax(scores, 3).matmul(value);
        let burns = context.swap_dims(1, 2).reshape([rows, inner]);
        let ours = super::attention(qkv.clone(), AttentionShape { tokens, heads, head_dim });
        same((ours, burns), &draw.normal([rows, inner], 1.0), |all| vec![flat(qkv.grad(all))])?;
    }

    #[test]
    fn biased_attention_is_that_of_burn(
        images in 1_usize..4, groups in 1_usize..4, tokens in 1_usize..20, heads in 1_usize..4,
        head_dim in 1_usize..20, seed: u64,
    ) {
        let mut draw = draw(seed, Device::flex().autodiff());
        let (sequences, inner) = (images * groups, heads * head_dim);
        let qkv = draw.normal([sequences * tokens, 3 * inner], 1.0).require_grad();
        let bias = draw.normal([groups, heads, tokens, tokens], 1.0).require_grad();
        let parts = qkv.clone().reshape([sequences, tokens, 3 * heads, head_dim]).swap_dims(1, 2);
        let [query, key, value] = [0, 1, 2].map(|part| parts.clone().narrow(1, part * heads, heads));
        let scores = query.matmul(key.swap_dims(2, 3)) / (head_dim as f32).sqrt();
        // Images follow one another, and in each the groups.
        let scores = scores + Tensor::cat(vec![bias.clone(); images], 0);
        let context = activation::softmax(scores, 3).matmul(value);
        let burns = context.swap_dims(1, 2).reshape([sequences * tokens, inner]);
        let shape = AttentionShape { tokens, heads, head_dim };
        let ours = super::biased_attention(qkv.clone(), bias.clone(), shape);
        same((ours, burns), &draw.normal([sequences * tokens, inner], 1.0), |all| {
            vec![flat(qkv.grad(all)), flat(bias.grad(all))]
        })?;
        // The gradient of queries, keys and values does not depend on whether the bias learns.
        let along = draw.normal([sequences * tokens, inner], 1.0);
        let of = |bias: Tensor<4>| {
            let context = super::biased_attention(qkv.clone(), bias, shape);
            flat(qkv.grad(&(context * along.clone()).sum().backward()))
        };
        prop_assert!(worst_difference(of(bias.clone()), of(bias.clone().detach())) < 1e-9);
    }

    #[test]
    fn attention_equals_the_default_of_other_backends(
        images in 1_usize..3, tokens in 1_usize..20, heads in 1_usize..4, head_dim in 1_usize..20, seed: u64,
    ) {
        let (flex, composed) = (Device::flex(), Device::flex().autodiff());
        let shape = AttentionShape { tokens, heads, head_dim };
        let mut draw = draw(seed, flex.clone());
        let qkv: Tensor<2> = draw.normal([images * tokens, 3 * heads * head_dim], 1.0);
        let gradient: Tensor<2> = draw.normal([images * tokens, heads * head_dim], 1.0);
        let backward = |device: &Device| {
            let on = |x: &Tensor<2>| Tensor::<2>::from_data(x.to_data(), device).into_dispatch();
            let result = <Dispatch as FusedOps>::fused_attention_backward(on(&qkv), on(&gradient), shape);
            Tensor::<2>::from_data(Tensor::<2>::from_dispatch(result).to_data(), &flex)
        };
        prop_assert!(worst_difference(backward(&flex), backward(&composed)) < TOLERANCE);
    }

    #[test]
    fn biased_attention_equals_the_default_of_other_backends(
        images in 1_usize..40, groups in 1_usize..4, tokens in 1_usize..20, heads in 1_usize..4,
        head_dim in 1_usize..20, seed: u64,
    ) {
        // Many short sequences are several tasks, of which one meets the same group more than once.
        let (flex, composed) = (Device::flex(), Device::flex().autodiff());
        let shape = AttentionShape { tokens, heads, head_dim };
        let mut draw = draw(seed, flex.clone());
        let rows = images * groups * tokens;
        let qkv: Tensor<2> = draw.normal([rows, 3 * heads * head_dim], 1.0);
        let bias: Tensor<4> = draw.normal([groups, heads, tokens, tokens], 1.0);
        let gradient: Tensor<2> = draw.normal([rows, heads * head_dim], 1.0);
        let backward = |device: &Device| {
            let on = |x: &Tensor<2>| Tensor::<2>::from_data(x.to_data(), device).into_dispatch();
            let bias = Tensor::<4>::from_data(bias.to_data(), device).into_dispatch();
            let (a, b) =
                <Dispatch as FusedOps>::fused_biased_attention_backward(on(&qkv), bias, on(&gradient), shape);
            let (a, b) = (Tensor::<2>::from_dispatch(a), Tensor::<4>::from_dispatch(b));
            [flat(Some(a)), flat(Some(b))].map(|x| Tensor::<1>::from_data(x.to_data(), &flex))
        };
        for (kernel, default) in backward(&flex).into_iter().zip(backward(&composed)) {
            prop_assert!(worst_difference(kernel, default) < TOLERANCE);
        }
    }

    #[test]
    fn kernels_equal_the_defaults_of_other_backends(
        rows in 1_usize..40, columns in 8_usize..90, seed: u64,
    ) {
        // Autodiff does not override the backward operations, so there the default expressions run.
        let (flex, composed) = (Device::flex(), Device::flex().autodiff());
        let mut draw = draw(seed, flex.clone());
        let [x, gradient] = [(); 2].map(|()| draw.normal([rows, columns], 1.0));
        let gamma: Tensor<1> = draw.normal([columns], 1.0);
        let backward = |device: &Device| {
            let on = |x: &Tensor<2>| Tensor::<2>::from_data(x.to_data(), device).into_dispatch();
            let gamma = Tensor::<1>::from_data(gamma.to_data(), device).into_dispatch();
            let (a, b, c) = <Dispatch as FusedOps>::fused_layer_norm_backward(on(&x), gamma, on(&gradient), 1e-3);
            let softmax = <Dispatch as FusedOps>::fused_softmax_backward(on(&x), on(&gradient), 0.5);
            let (gelu, derivative) = <Dispatch as FusedOps>::fused_gelu_and_derivative(on(&x));
            let rows = [a, softmax, gelu, derivative].map(|t| flat(Some(Tensor::<2>::from_dispatch(t))));
            let columns = [b, c].map(Tensor::<1>::from_dispatch);
            rows.into_iter().chain(columns).map(|t| t.to_data())
        };
        let on_flex = |data: TensorData| Tensor::<1>::from_data(data, &flex);
        for (index, (kernel, default)) in backward(&flex).zip(backward(&composed)).enumerate() {
            let difference = worst_difference(on_flex(kernel), on_flex(default));
            prop_assert!(difference < TOLERANCE, "result {}: {}", index, difference);
        }
    }

    #[test]
    fn adamw_equals_the_default_of_other_backends(elements in 1_usize..40_000, seed: u64) {
        let (flex, composed) = (Device::flex(), Device::flex().autodiff());
        let mut draw = draw(seed, flex.clone());
        let [weights, first, gradient] = [(); 3].map(|()| draw.normal([elements], 1.0));
        let second = draw.normal([elements], 1.0).abs();
        let factors = AdamwFactors {
            gradient: 0.5, beta1: 0.9, rest1: 0.1, beta2: 0.99, rest2: 0.01, keep: 0.98, rate: 0.1, root: 3.0,
            epsilon: 1e-3,
        };
        let update = |device: &Device| {
            let on = |x: &Tensor<1>| Tensor::from_data(x.to_data(), device);
            let updated = super::adamw(on(&weights), on(&first), on(&second), on(&gradient), factors);
            updated.map(|tensor| Tensor::<1>::from_data(tensor.to_data(), &flex))
        };
        for (index, (kernel, default)) in update(&flex).into_iter().zip(update(&composed)).enumerate() {
            let difference = worst_difference(kernel, default);
            prop_assert!(difference < TOLERANCE, "result {}: {}", index, difference);
        }
    }

    #[test]
    fn kernels_run_on_views(rows in 2_usize..9, columns in 2_usize..9, seed: u64) {
        let x: Tensor<2> = draw(seed, Device::flex()).normal([columns, rows], 1.0).transpose();
        prop_assert!(worst_difference(super::gelu(x.clone()), activation::gelu(x.clone())) < TOLERANCE);
        prop_assert!(worst_difference(super::softmax(x.clone(), 1.0), activation::softmax(x, 1)) < TOLERANCE);
    }
}
