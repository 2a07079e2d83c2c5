use burn::backend::Dispatch;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor, activation, module};
use elastic_space::conv;
use proptest::prelude::*;

use super::{Activation, ConvolutionOps, Padding, Window};
use crate::ops::tests::{TOLERANCE, draw, flat, same, worst_difference};

/// Windows of all kernels and strides, with uneven padding of less than the kernel.
fn window() -> impl Strategy<Value = Window> {
    (prop::sample::select(vec![1_usize, 2, 3, 5, 7, 9]), 1_usize..4).prop_flat_map(|(kernel, stride)| {
        prop::array::uniform4(0..kernel).prop_map(move |[top, bottom, left, right]| Window {
            kernel,
            stride,
            padding: Padding { top, bottom, left, right },
        })
    })
}

/// A window and the size of an image that it fits on, down to one pixel.
fn window_and_size() -> impl Strategy<Value = (Window, [usize; 2])> {
    window().prop_flat_map(|window| {
        let Padding { top, bottom, left, right } = window.padding;
        let least = |padding: usize| window.kernel.saturating_sub(padding).max(1);
        let (height, width) = (least(top + bottom), least(left + right));
        (Just(window), [height..height + 13, width..width + 19])
    })
}

/// The images with the channels first and zeros around.
fn padded(x: Tensor<4>, window: Window) -> Tensor<4> {
    let Padding { top, bottom, left, right } = window.padding;
    let [batch, height, width, channels] = x.dims();
    let zeros = Tensor::zeros([batch, channels, top + height + bottom, left + width + right], &x.device());
    let place = [0..batch, 0..channels, top..top + height, left..left + width];
    zeros.slice_assign(place, x.permute([0, 3, 1, 2]))
}

fn options(window: Window, groups: usize) -> ConvOptions<2> {
    ConvOptions::new([window.stride; 2], [0; 2], [1; 2], groups)
}

fn depthwise_of_burn(x: Tensor<4>, weight: Tensor<3>, window: Window) -> Tensor<4> {
    let channels = x.dims()[3];
    let weight = weight.permute([2, 0, 1]).unsqueeze_dim(1);
    let y = module::conv2d(padded(x, window), weight, None, options(window, channels));
    y.permute([0, 2, 3, 1])
}

fn batch_norm_of_burn(x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, epsilon: f32) -> Tensor<2> {
    let centred = x.clone() - x.mean_dim(0);
    let variance = (centred.clone() * centred.clone()).mean_dim(0);
    centred / (variance + epsilon).sqrt() * gamma.unsqueeze() + beta.unsqueeze()
}

fn activation_of_burn<const D: usize>(x: Tensor<D>, kind: Activation) -> Tensor<D> {
    match kind {
        Activation::Relu => activation::relu(x),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::HardSigmoid => (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::HardSwish => x.clone() * (x + 3.0).clamp(0.0, 6.0) / 6.0,
    }
}

const KINDS: [Activation; 4] =
    [Activation::Relu, Activation::Relu6, Activation::HardSwish, Activation::HardSigmoid];

#[test]
fn activations_by_hand() {
    let device = Device::flex();
    for (kind, expected) in [
        (Activation::Relu, [0.0, 0.0, 0.0, 1.0, 3.0, 7.0]),
        (Activation::Relu6, [0.0, 0.0, 0.0, 1.0, 3.0, 6.0]),
        (Activation::HardSwish, [0.0, -1.0 / 3.0, 0.0, 2.0 / 3.0, 3.0, 7.0]),
        (Activation::HardSigmoid, [0.0, 1.0 / 3.0, 0.5, 2.0 / 3.0, 1.0, 1.0]),
    ] {
        let x = Tensor::<1>::from_floats([-4.0, -1.0, 0.0, 1.0, 3.0, 7.0], &device);
        let difference = worst_difference(super::activation(x, kind), Tensor::from_floats(expected, &device));
        assert!(difference < 1e-6, "{kind:?}: {difference}");
    }
}

/// Of several tasks, so that the tasks' sums meet.
#[test]
fn many_tasks_give_the_same_whatever_the_number_of_threads() {
    let window = Window::padded(conv::Padding::Same, 5, 2, [32, 32]);
    let gradients = |threads: usize, ours: bool| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| {
            let mut draw = draw(3, Device::flex().autodiff());
            let x = draw.normal([9, 32, 32, 20], 1.0).require_grad();
            let weight = draw.normal([5, 5, 20], 0.2).require_grad();
            let [gamma, beta] = [(); 2].map(|()| draw.normal([20], 1.0).require_grad());
            let y = if ours {
                let y = super::depthwise(x.clone(), weight.clone(), window).reshape([9 * 16 * 16, 20]);
                super::batch_norm(y, gamma.clone(), beta.clone(), 1e-3)
            } else {
                let y = depthwise_of_burn(x.clone(), weight.clone(), window).reshape([9 * 16 * 16, 20]);
                batch_norm_of_burn(y, gamma.clone(), beta.clone(), 1e-3)
            };
            let all = (y.clone() * draw.normal(y.dims(), 1.0)).sum().backward();
            let columns = [&gamma, &beta].map(|x| flat(x.grad(&all)));
            let all = [flat(Some(y.inner())), flat(x.grad(&all)), flat(weight.grad(&all))];
            all.into_iter().chain(columns).collect::<Vec<_>>()
        })
    };
    let burns = gradients(1, false);
    for (index, ((one, three), burn)) in
        gradients(1, true).into_iter().zip(gradients(3, true)).zip(burns).enumerate()
    {
        assert_eq!(one.to_data(), three.to_data(), "result {index}");
        let difference = worst_difference(one, burn);
        assert!(difference < TOLERANCE, "result {index}: {difference}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn depthwise_is_that_of_burn(
        (window, [height, width]) in window_and_size(), batch in 1_usize..4, channels in 1_usize..40, seed: u64,
    ) {
        let mut draw = draw(seed, Device::flex().autodiff());
        let x = draw.normal([batch, height, width, channels], 1.0).require_grad();
        let weight = draw.normal([window.kernel, window.kernel, channels], 1.0).require_grad();
        let ours = super::depthwise(x.clone(), weight.clone(), window);
        let burns = depthwise_of_burn(x.clone(), weight.clone(), window);
        prop_assert_eq!(ours.dims(), burns.dims());
        let weights = draw.normal(ours.dims(), 1.0);
        same((ours, burns), &weights, |all| vec![flat(x.grad(all)), flat(weight.grad(all))])?;
    }

    #[test]
    fn convolution_is_that_of_burn(
        (window, [height, width]) in window_and_size(),
        batch in 1_usize..4, inputs in 1_usize..9, outputs in 1_usize..70, seed: u64,
    ) {
        let mut draw = draw(seed, Device::flex().autodiff());
        let x = draw.normal([batch, height, width, inputs], 1.0).require_grad();
        let weight = draw.normal([window.taps() * inputs, outputs], 1.0).require_grad();
        let bias = draw.normal([outputs], 1.0).require_grad();
        let ours = super::convolution(x.clone(), weight.clone(), Some(bias.clone()), window);
        let kernel = weight.clone().reshape([window.kernel, window.kernel, inputs, outputs]).permute([3, 2, 0, 1]);
        let burns = module::conv2d(padded(x.clone(), window), kernel, Some(bias.clone()), options(window, 1));
        let burns = burns.permute([0, 2, 3, 1]);
        prop_assert_eq!(ours.dims(), burns.dims());
        let weights = draw.normal(ours.dims(), 1.0);
        same((ours, burns), &weights, |all| vec![flat(x.grad(all)), flat(weight.grad(all)), flat(bias.grad(all))])?;
    }

    #[test]
    fn batch_norm_is_that_of_burn(
        rows in 2_usize..900, columns in 1_usize..130, scale in 0.5_f64..4.0, seed: u64,
    ) {
        let mut draw = draw(seed, Device::flex().autodiff());
        let x = (draw.normal([rows, columns], scale) + 1.0).require_grad();
        let [gamma, beta] = [(); 2].map(|()| draw.normal([columns], 1.0).require_grad());
        let ours = super::batch_norm(x.clone(), gamma.clone(), beta.clone(), 1e-1);
        let burns = batch_norm_of_burn(x.clone(), gamma.clone(), beta.clone(), 1e-1);
        same((ours, burns), &draw.normal([rows, columns], 1.0), |all| {
            vec![flat(x.grad(all)), flat(gamma.grad(all)), flat(beta.grad(all))]
        })?;
        let (mean, variance) = super::moments(x.clone());
        prop_assert!(worst_difference(mean.clone(), x.clone().mean_dim(0).squeeze_dim(0)) < TOLERANCE);
        let centred = x.clone() - mean.unsqueeze();
        let expected = (centred.clone() * centred).mean_dim(0).squeeze_dim(0);
        prop_assert!(worst_difference(variance, expected) < TOLERANCE);
    }

    #[test]
    fn activations_are_those_of_burn(
        rows in 1_usize..70, columns in 1_usize..300, kind in prop::sample::select(&KINDS), seed: u64,
    ) {
        let mut draw = draw(seed, Device::flex().autodiff());
        let x = draw.normal([rows, columns], 4.0).require_grad();
        let results = (super::activation(x.clone(), kind), activation_of_burn(x.clone(), kind));
        same(results, &draw.normal([rows, columns], 1.0), |all| vec![flat(x.grad(all))])?;
    }

    #[test]
    fn pixels_are_scaled_and_averaged_as_in_burn(
        sizes in [1_usize..5, 1_usize..9, 1_usize..9, 1_usize..50], seed: u64,
    ) {
        let mut draw = draw(seed, Device::flex().autodiff());
        let [batch, _, _, channels] = sizes;
        let x = draw.normal(sizes, 1.0).require_grad();
        let gate = draw.normal([batch, channels], 1.0).require_grad();
        let ours = super::scale_channels(x.clone(), gate.clone());
        let burns = x.clone() * gate.clone().reshape([batch, 1, 1, channels]);
        same((ours, burns), &draw.normal(sizes, 1.0), |all| vec![flat(x.grad(all)), flat(gate.grad(all))])?;
        let ours = super::mean_pixels(x.clone());
        let burns = x.clone().mean_dim(1).mean_dim(2).reshape([batch, channels]);
        same((ours, burns), &draw.normal([batch, channels], 1.0), |all| vec![flat(x.grad(all))])?;
    }

    #[test]
    fn kernels_equal_the_defaults_of_other_backends(
        (window, [height, width]) in window_and_size(), channels in 1_usize..20, seed: u64,
    ) {
        // Autodiff does not override the backward operations, so there the default expressions run.
        let (flex, composed) = (Device::flex(), Device::flex().autodiff());
        let mut draw = draw(seed, flex.clone());
        let shape = [2, height, width, channels];
        let (out_height, out_width) = window.output(height, width);
        let [x, g]: [Tensor<4>; 2] = [(); 2].map(|()| draw.normal(shape, 1.0));
        let gradient: Tensor<4> = draw.normal([2, out_height, out_width, channels], 1.0);
        let weight: Tensor<3> = draw.normal([window.kernel, window.kernel, channels], 1.0);
        let (gamma, gate): (Tensor<1>, Tensor<2>) = (draw.normal([channels], 1.0), draw.normal([2, channels], 1.0));
        let filters: Tensor<2> = draw.normal([window.taps() * channels, 5], 1.0);
        let for_filters: Tensor<4> = draw.normal([2, out_height, out_width, 5], 1.0);
        let backward = |device: &Device| {
            macro_rules! on {
                ($x:expr) => { Tensor::from_data($x.to_data(), device) };
            }
            let on4 = |x: &Tensor<4>| { let x: Tensor<4> = on!(x); x.into_dispatch() };
            let on2 = |x: &Tensor<2>| { let x: Tensor<2> = on!(x); x.into_dispatch() };
            let rows = |x: &Tensor<4>| on2(&x.clone().reshape([2 * height * width, channels]));
            let (weight, gamma): (Tensor<3>, Tensor<1>) = (on!(weight), on!(gamma));
            let data4 = |x| Tensor::<4>::from_dispatch(x).into_data();
            let data2 = |x| Tensor::<2>::from_dispatch(x).into_data();
            let data1 = |x| Tensor::<1>::from_dispatch(x).into_data();
            let (for_x, for_weight) =
                Dispatch::depthwise_backward(on4(&x), weight.into_dispatch(), on4(&gradient), window);
            let y = Dispatch::full_convolution(on4(&x), on2(&filters), window);
            let for_pixels =
                Dispatch::full_convolution_backward_x(on2(&filters), on4(&for_filters), shape, window);
            let for_filters = Dispatch::full_convolution_backward_weight(on4(&x), on4(&for_filters), window);
            let (a, b, c) = Dispatch::fused_batch_norm_backward(rows(&x), gamma.into_dispatch(), rows(&g), 0.1);
            let (scaled, for_gate) = Dispatch::scale_channels_backward(on4(&x), on2(&gate), on4(&g));
            let convolution = [data4(y), data4(for_pixels), data2(for_filters)];
            let all = [data4(for_x), Tensor::<3>::from_dispatch(for_weight).into_data()];
            let norm = [data2(a), data1(b), data1(c), data4(scaled), data2(for_gate)];
            let steps = KINDS.map(|kind| data4(Dispatch::piecewise_backward(on4(&x), on4(&g), kind)));
            all.into_iter().chain(convolution).chain(norm).chain(steps)
        };
        for (index, (kernel, default)) in backward(&flex).zip(backward(&composed)).enumerate() {
            let values = |data: burn::tensor::TensorData| {
                Tensor::<1>::from_floats(data.as_slice::<f32>().expect("floats"), &flex)
            };
            let difference = worst_difference(values(kernel), values(default));
            prop_assert!(difference < TOLERANCE, "result {}: {}", index, difference);
        }
    }
}
