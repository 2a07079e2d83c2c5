//! Steps on a GPU against the same steps on the CPU: in a build with `wgpu`, on a machine with an adapter.

use burn::tensor::Device;
use elastic_space::Array;
use elastic_space::choices::{DropPolicy, Granularity, TransformKind};
use elastic_space::vit::Pooling;
use elastic_trainer::config::{Optimizer, Reduce};
use elastic_trainer::device::DeviceKind;
use elastic_trainer::optimizer::{adamw, averaged, norm};
use elastic_trainer::step::gradients;
use elastic_trainer::{Supernet, evaluate};

use crate::step::recipe;
use crate::support::{batch, draw, images, supernet, transformed, vit_space, worst};

/// What some steps leave behind.
struct Steps {
    losses: Vec<f64>,
    norms: Vec<f64>,
    /// Of the averaged weights.
    logits: Array,
    accuracy: f64,
}

/// Three steps of several subnets with all that a step has.
fn steps(device: &Device) -> Steps {
    let device = device.clone().autodiff();
    let vit = vit_space(Pooling::ClassToken, DropPolicy::Any, Granularity::Layer);
    let space = transformed(vit, TransformKind::Nonlinear);
    let mut shared = supernet(space.clone(), 2, &device);
    let config = Optimizer { weight_decay: 0.1, beta1: 0.9, beta2: 0.98 };
    let mut optimizer = adamw(&config, &shared.network);
    let mut average = shared.valid().network;
    let (mut losses, mut norms) = (Vec::new(), Vec::new());
    for step in 0..3 {
        let batch = batch(&space, &[2, 0, 1, 1, 0, 2, 2], step);
        let subnets: Vec<_> =
            [space.largest(), space.smallest()].into_iter().chain(draw(&space, 2, step)).collect();
        let recipe = recipe(Reduce::Mean, Some(0.5), 0.1);
        let result = gradients(&shared, &batch, &subnets, &recipe, &device).expect("finite losses");
        losses.extend(result.losses);
        norms.push(norm(&result.gradients, &shared.network));
        shared.network = optimizer.step(0.01, shared.network, result.gradients, 0.7);
        // As a run that is resumed does.
        let bytes = optimizer.into_bytes().expect("a state");
        optimizer = adamw(&config, &shared.network).from_bytes(&bytes).expect("its own state");
        assert!(optimizer.into_bytes().expect("a state") == bytes, "the state changes when it is read");
        average = averaged(average, &shared.network, 0.9, step);
    }
    let kept = Supernet { network: average, space: space.clone() };
    let seen = images(&space, 300, 5);
    let labels: Vec<u8> = (0..300).map(|image| (image % 3) as u8).collect();
    let accuracy = evaluate::accuracy(&kept, &space.largest(), &seen, &labels);
    Steps { losses, norms, logits: kept.logits(&seen, &space.largest()), accuracy }
}

#[test]
fn steps_on_a_gpu_are_those_of_the_cpu() {
    let gpu = steps(&DeviceKind::Wgpu.open().expect("a GPU, or Mesa's software adapter"));
    let cpu = steps(&DeviceKind::Cpu.open().expect("the CPU"));
    assert_eq!(gpu.losses.len(), 12);
    for (what, found, expected) in [("losses", &gpu.losses, &cpu.losses), ("norms", &gpu.norms, &cpu.norms)] {
        assert!(worst(found, expected) < 1e-4, "{what}: {found:?}, expected {expected:?}");
    }
    let difference = worst(&gpu.logits.data, &cpu.logits.data);
    assert!(difference < 1e-3, "logits differ by {difference}");
    assert!((gpu.accuracy - cpu.accuracy).abs() < 0.01, "{} and {}", gpu.accuracy, cpu.accuracy);
}
