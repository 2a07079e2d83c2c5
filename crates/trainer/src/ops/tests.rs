use burn::backend::Dispatch;
use burn::tensor::{Device, Distribution, Tensor, activation, module};
use proptest::prelude::*;

use super::FusedOps;

/// Of the largest value, or of 1 if all are smaller.
const TOLERANCE: f32 = 2e-5;

fn worst_difference<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f32 {
    let (a, b) = (a.inner(), b.inner());
    let scale = b.clone().abs().max().into_scalar::<f32>().max(1.0);
    (a - b).abs().max().into_scalar::<f32>() / scale
}

fn normal<const D: usize>(shape: [usize; D], scale: f64, device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, scale), device).require_grad()
}

/// Both results agree, and so do their gradients for `x` under random weights.
fn same<const D: usize>(x: &Tensor<D>, ours: Tensor<D>, burns: Tensor<D>) -> Result<(), TestCaseError> {
    let weights = Tensor::<D>::random(ours.shape(), Distribution::Default, &ours.device());
    prop_assert!(worst_difference(ours.clone(), burns.clone()) < TOLERANCE);
    let gradient = |y: Tensor<D>| x.grad(&(y * weights.clone()).sum().backward()).expect("x has a gradient");
    prop_assert!(worst_difference(gradient(ours), gradient(burns)) < TOLERANCE);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn gelu_is_that_of_burn(rows in 1_usize..70, columns in 1_usize..700, scale in 0.1_f64..6.0) {
        let x = normal([rows, columns], scale, &Device::flex().autodiff());
        same(&x, super::gelu(x.clone()), activation::gelu(x.clone()))?;
    }

    #[test]
    fn softmax_is_that_of_burn(a in 1_usize..9, b in 1_usize..40, columns in 1_usize..90, scale in 0.1_f64..2.0) {
        let x = normal([a, 2, b, columns], 3.0, &Device::flex().autodiff());
        same(&x, super::softmax(x.clone(), scale as f32), activation::softmax(x.clone() * scale, 3))?;
    }

    #[test]
    fn layer_norm_is_that_of_burn(rows in 1_usize..300, columns in 8_usize..130, scale in 0.5_f64..4.0) {
        let device = Device::flex().autodiff();
        let x = normal([rows, columns], scale, &device);
        let (gamma, beta) = (normal([columns], 1.0, &device), normal([columns], 1.0, &device));
        let ours = super::layer_norm(x.clone(), gamma.clone(), beta.clone(), 1e-3);
        let burns = module::layer_norm(x.clone(), gamma.clone(), Some(beta.clone()), 1e-3);
        same(&x, ours.clone(), burns.clone())?;
        let weights = Tensor::<2>::random([rows, columns], Distribution::Default, &device);
        let gradients = |y: Tensor<2>| {
            let all = (y * weights.clone()).sum().backward();
            (gamma.grad(&all).expect("gamma has a gradient"), beta.grad(&all).expect("beta has a gradient"))
        };
        let ((our_gamma, our_beta), (burns_gamma, burns_beta)) = (gradients(ours), gradients(burns));
        prop_assert!(worst_difference(our_gamma, burns_gamma) < TOLERANCE);
        prop_assert!(worst_difference(our_beta, burns_beta) < TOLERANCE);
    }

    #[test]
    fn kernels_equal_the_defaults_of_other_backends(rows in 1_usize..40, columns in 8_usize..90) {
        // Autodiff does not override the backward operations, so there the default expressions run.
        let (flex, composed) = (Device::flex(), Device::flex().autodiff());
        let [x, gradient] = [(); 2].map(|()| Tensor::<2>::random([rows, columns], Distribution::Normal(0.0, 1.0), &flex));
        let gamma = Tensor::<1>::random([columns], Distribution::Normal(0.0, 1.0), &flex);
        let backward = |device: &Device| {
            let on = |x: &Tensor<2>| Tensor::<2>::from_data(x.to_data(), device).into_dispatch();
            let gamma = Tensor::<1>::from_data(gamma.to_data(), device).into_dispatch();
            let (a, b, c) = <Dispatch as FusedOps>::fused_layer_norm_backward(on(&x), gamma, on(&gradient), 1e-3);
            let softmax = <Dispatch as FusedOps>::fused_softmax_backward(on(&x), on(&gradient), 0.5);
            let gelu = <Dispatch as FusedOps>::fused_gelu_backward(on(&x), on(&gradient));
            let rows = [a, softmax, gelu].map(|t| Tensor::<2>::from_dispatch(t).to_data());
            let columns = [b, c].map(|t| Tensor::<1>::from_dispatch(t).to_data());
            (rows, columns)
        };
        let (kernel, default) = (backward(&flex), backward(&composed));
        let tensor = |data: &burn::tensor::TensorData| Tensor::<1>::from_data(data.clone(), &flex);
        let all = |(rows, columns): &([_; 3], [_; 2])| rows.iter().chain(columns).map(tensor).collect::<Vec<_>>();
        for (index, (kernel, default)) in all(&kernel).into_iter().zip(all(&default)).enumerate() {
            prop_assert!(worst_difference(kernel, default) < TOLERANCE, "result {index}");
        }
    }

    #[test]
    fn kernels_run_on_views(rows in 2_usize..9, columns in 2_usize..9) {
        let x = Tensor::<2>::random([columns, rows], Distribution::Normal(0.0, 1.0), &Device::flex()).transpose();
        prop_assert!(worst_difference(super::gelu(x.clone()), activation::gelu(x.clone())) < TOLERANCE);
        prop_assert!(worst_difference(super::softmax(x.clone(), 1.0), activation::softmax(x, 1)) < TOLERANCE);
    }
}
