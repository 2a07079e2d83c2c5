//! A step's gradient: against finite differences, over several subnets, and with distillation.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use elastic_data::Batch;
use elastic_space::vit::{VitLayer, VitSubnet};
use elastic_space::{Array, SearchSpace, Subnet, Weights};
use elastic_trainer::config::Reduce;
use elastic_trainer::step::{SoftTargets, StepGradients, StepRecipe, gradients};
use elastic_trainer::supernet::Network;
use elastic_trainer::{Supernet, parameters};

use crate::reference::{self, Tensors};
use crate::support::{
    self, DROPS, GRANULARITIES, KINDS, POOLINGS, batch, draw, origins, supernet, transformed, vit_space,
    worst,
};

/// The gradients by their parameters' names.
pub(crate) fn named(gradients: &GradientsParams, network: &Network) -> Weights {
    struct Named<'a> {
        gradients: &'a GradientsParams,
        path: Vec<String>,
        found: Weights,
    }
    impl ModuleVisitor for Named<'_> {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.gradients.get::<D>(param.id) {
                // Parts in capitals are an enum's variants.
                let field = |part: &&String| !part.starts_with(char::is_uppercase);
                let name: Vec<&str> = self.path.iter().filter(field).map(String::as_str).collect();
                self.found.insert(name.join("."), parameters::array(gradient));
            }
        }
    }
    let mut visitor = Named { gradients, path: Vec::new(), found: Weights::new() };
    network.visit(&mut visitor);
    visitor.found
}

/// The losses and the gradient of a step.
pub(crate) fn gradients_of(
    shared: &Supernet,
    batch: &Batch,
    subnets: &[Subnet],
    recipe: &StepRecipe,
) -> (Vec<f64>, Weights) {
    let StepGradients { losses, gradients } =
        gradients(shared, batch, subnets, recipe, &Device::flex().autodiff()).expect("finite losses");
    (losses, named(&gradients, &shared.network))
}

fn shared(space: &SearchSpace) -> Supernet {
    supernet(space.clone(), 2, &Device::flex().autodiff())
}

pub(crate) fn recipe(reduce: Reduce, distillation: Option<f64>, label_smoothing: f64) -> StepRecipe {
    let soft_targets = distillation.map_or(SoftTargets::None, |weight| SoftTargets::InPlace { weight });
    StepRecipe { reduce, label_smoothing, soft_targets }
}

fn subnet(embed_dim: usize, layers: &[(usize, usize, usize)]) -> Subnet {
    let layer = |&(index, heads, mlp_width): &(usize, usize, usize)| VitLayer { index, heads, mlp_width };
    Subnet::Vit(VitSubnet { embed_dim, layers: layers.iter().map(layer).collect() })
}

/// For each tensor that one of the subnets uses, the offsets that they use.
fn reached(full: &Weights, space: &SearchSpace, subnets: &[Subnet]) -> BTreeMap<String, BTreeSet<usize>> {
    let mut reached: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for origin in subnets.iter().flat_map(|subnet| origins(full, space, subnet).into_values()) {
        reached.entry(origin.name).or_default().extend(origin.offsets);
    }
    reached
}

#[test]
fn gradients_are_those_of_finite_differences() {
    const STEP: f64 = 1e-5;
    let mut compared = 0;
    for (pooling, (drop, per)) in POOLINGS.into_iter().zip(DROPS.into_iter().zip(GRANULARITIES)) {
        let vit = vit_space(pooling, drop, per);
        let space = SearchSpace::Vit(vit.clone());
        let (shared, batch) = (shared(&space), batch(&space, &[2, 0], 4));
        let full = parameters::collect(&shared.network);
        for (index, subnet) in draw(&space, 2, 1).into_iter().chain([space.largest()]).enumerate() {
            let (losses, found) =
                gradients_of(&shared, &batch, std::slice::from_ref(&subnet), &recipe(Reduce::Sum, None, 0.1));
            let loss = |tensors: &Tensors| {
                let rows = reference::logits(&vit, tensors, &batch.images);
                let target =
                    |label: u8, class| 0.1 / 3.0 + if class == usize::from(label) { 0.9 } else { 0.0 };
                let targets = |label: u8| (0..3).map(|class| target(label, class)).collect::<Vec<_>>();
                let of = |(row, &label): (&Vec<f64>, &u8)| reference::cross_entropy(row, &targets(label));
                rows.iter().zip(&batch.labels).map(of).sum::<f64>() / 2.0
            };
            let tensors = reference::tensors(&shared.extract(&subnet));
            assert!((loss(&tensors) - losses[0]).abs() < 2e-6, "{subnet}");
            for (name, origin) in origins(&full, &space, &subnet) {
                // A few values of each tensor, others for each subnet.
                for at in (index..origin.offsets.len()).step_by(origin.offsets.len().div_ceil(3)) {
                    let moved = |by: f64| {
                        let mut tensors = tensors.clone();
                        tensors.get_mut(&name).expect("the same names")[at] += by;
                        loss(&tensors)
                    };
                    let expected = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                    let gradient = f64::from(found[&origin.name].data[origin.offsets[at]]);
                    let error = (gradient - expected).abs() / (1.0 + expected.abs());
                    assert!(error < 1e-6, "{subnet}: {name}[{at}] is {gradient}, expected {expected}");
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 500, "{compared} derivatives");
}

#[test]
fn subnets_are_added_or_averaged() {
    for kind in KINDS {
        let vit = vit_space(POOLINGS[0], DROPS[1], GRANULARITIES[0]);
        added_or_averaged(&transformed(vit, kind));
    }
}

fn added_or_averaged(space: &SearchSpace) {
    let (shared, batch) = (shared(space), batch(space, &[0, 1, 2, 1], 5));
    let full = parameters::collect(&shared.network);
    for (count, seed) in [(1, 1), (2, 2), (3, 3), (5, 4)] {
        let subnets = draw(space, count, seed);
        let mut sums: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        let mut losses = Vec::new();
        for subnet in &subnets {
            let (loss, gradient) =
                gradients_of(&shared, &batch, std::slice::from_ref(subnet), &recipe(Reduce::Sum, None, 0.1));
            losses.extend(loss);
            for (name, array) in gradient {
                let sum = sums.entry(name).or_insert_with(|| vec![0.0; array.data.len()]);
                sum.iter_mut().zip(array.data).for_each(|(sum, value)| *sum += f64::from(value));
            }
        }
        for (reduce, share) in [(Reduce::Sum, 1.0), (Reduce::Mean, 1.0 / count as f64)] {
            let row = format!("{count} subnets, {reduce:?}");
            let (found_losses, found) = gradients_of(&shared, &batch, &subnets, &recipe(reduce, None, 0.1));
            assert_eq!(found_losses, losses, "{row}");
            assert_eq!(found.keys().collect::<Vec<_>>(), sums.keys().collect::<Vec<_>>(), "{row}");
            for (name, sum) in &sums {
                assert_eq!(found[name].shape, full[name].shape, "{row}: {name}");
                let expected: Vec<f64> = sum.iter().map(|value| value * share).collect();
                let highest = expected.iter().fold(1e-3_f64, |highest, value| highest.max(value.abs()));
                assert!(worst(&found[name].data, &expected) <= 2e-6 * highest, "{row}: {name}");
            }
        }
    }
}

#[test]
fn weights_that_no_subnet_reaches_have_no_gradient() {
    let space = support::space();
    let (shared, batch) = (shared(&space), batch(&space, &[0, 1, 2], 6));
    let full = parameters::collect(&shared.network);
    for subnets in [
        vec![subnet(5, &[(1, 2, 7)])],
        vec![subnet(8, &[(0, 1, 12), (2, 3, 7)])],
        vec![subnet(5, &[(0, 3, 7)]), subnet(8, &[(0, 1, 12)])],
        vec![space.smallest(), subnet(13, &[(2, 1, 7)]), subnet(5, &[(2, 3, 12)])],
    ] {
        let row: Vec<String> = subnets.iter().map(ToString::to_string).collect();
        let (_, found) = gradients_of(&shared, &batch, &subnets, &recipe(Reduce::Mean, None, 0.0));
        let reached = reached(&full, &space, &subnets);
        assert_eq!(found.keys().collect::<Vec<_>>(), reached.keys().collect::<Vec<_>>(), "{row:?}");
        for (name, gradient) in &found {
            let outside = gradient.data.iter().enumerate().filter(|(at, _)| !reached[name].contains(at));
            assert!(outside.into_iter().all(|(_, &value)| value == 0.0), "{row:?}: {name}");
            assert!(gradient.data.iter().any(|&value| value != 0.0), "{row:?}: {name}");
        }
    }
}

#[test]
fn the_first_subnet_teaches_the_others() {
    let mut vit = vit_space(POOLINGS[0], DROPS[1], GRANULARITIES[0]);
    vit.classes = 2;
    let space = SearchSpace::Vit(vit);
    let (shared, batch) = (shared(&space), batch(&space, &[1], 7));
    let subnets = [space.largest(), subnet(8, &[(1, 2, 7)]), space.smallest()];
    let images = Array { shape: batch.shape.to_vec(), data: batch.images.clone() };
    let logits = |subnet: &Subnet| -> Vec<f64> {
        shared.valid().logits(&images, subnet).data.into_iter().map(f64::from).collect()
    };
    // Two classes: the teacher's probability of the second is 1 / (1 + exp(a - b)).
    let teacher = logits(&subnets[0]);
    let second = 1.0 / (1.0 + (teacher[0] - teacher[1]).exp());
    for (smoothing, hard) in [(0.0, [0.0, 1.0]), (0.2, [0.1, 0.9])] {
        for weight in [0.0, 0.25, 1.0] {
            let row = format!("smoothing {smoothing}, weight {weight}");
            let (losses, _) =
                gradients_of(&shared, &batch, &subnets, &recipe(Reduce::Mean, Some(weight), smoothing));
            let mixed = [
                hard[0] * (1.0 - weight) + (1.0 - second) * weight,
                hard[1] * (1.0 - weight) + second * weight,
            ];
            for (subnet, (loss, targets)) in subnets.iter().zip(losses.iter().zip([hard, mixed, mixed])) {
                let expected = reference::cross_entropy(&logits(subnet), &targets);
                assert!((loss - expected).abs() < 1e-6, "{row}: {subnet}: {loss}, expected {expected}");
            }
        }
        let plain = gradients_of(&shared, &batch, &subnets, &recipe(Reduce::Mean, None, smoothing));
        assert_eq!(
            gradients_of(&shared, &batch, &subnets, &recipe(Reduce::Mean, Some(0.0), smoothing)).0,
            plain.0
        );
    }
}

#[test]
fn a_teacher_outside_teaches_all() {
    let space = support::space();
    let (shared, batch) = (shared(&space), batch(&space, &[1, 2], 7));
    let subnets = [space.smallest(), subnet(8, &[(1, 2, 7)]), space.largest()];
    let images = Array { shape: batch.shape.to_vec(), data: batch.images.clone() };
    let soft = [0.5, 0.25, 0.25, 0.0, 0.125, 0.875];
    for (smoothing, hard) in [(0.0, [0.0, 1.0, 0.0, 0.0, 0.0, 1.0]), (0.3, [0.1, 0.8, 0.1, 0.1, 0.1, 0.8])] {
        for weight in [0.0, 0.25, 1.0] {
            let row = format!("smoothing {smoothing}, weight {weight}");
            let probabilities = Array { shape: vec![2, 3], data: soft.map(|p| p as f32).to_vec() };
            let given = SoftTargets::Given { weight, probabilities };
            let recipe = StepRecipe { soft_targets: given, ..recipe(Reduce::Sum, None, smoothing) };
            let (losses, found) = gradients_of(&shared, &batch, &subnets, &recipe);
            let mixed: Vec<f64> =
                hard.iter().zip(soft).map(|(h, s)| h * (1.0 - weight) + s * weight).collect();
            let mut bias = [0.0; 3];
            for (subnet, loss) in subnets.iter().zip(losses) {
                let logits: Vec<f64> =
                    shared.valid().logits(&images, subnet).data.into_iter().map(f64::from).collect();
                let rows = || logits.chunks(3).zip(mixed.chunks(3));
                let expected = rows().map(|(l, t)| reference::cross_entropy(l, t)).sum::<f64>() / 2.0;
                assert!((loss - expected).abs() < 1e-6, "{row}: {subnet}: {loss}, expected {expected}");
                // The gradient of the last bias is the mean of the rows' softmax minus their targets.
                for (logits, targets) in rows() {
                    let total: f64 = logits.iter().map(|v| v.exp()).sum();
                    let of = |class: usize| (logits[class].exp() / total - targets[class]) / 2.0;
                    (0..3).for_each(|class| bias[class] += of(class));
                }
            }
            assert!(worst(&found["head.bias"].data, &bias) < 1e-6, "{row}");
        }
    }
}

#[test]
fn the_teacher_does_not_learn_from_its_pupils() {
    let space = support::space();
    let (shared, batch) = (shared(&space), batch(&space, &[1, 0], 8));
    // Only the teacher has layers 0 and 2, so their gradient is that of the teacher alone.
    let (teacher, pupil) = (subnet(8, &[(0, 2, 12), (1, 3, 12), (2, 1, 7)]), subnet(5, &[(1, 1, 7)]));
    let recipe = recipe(Reduce::Sum, Some(1.0), 0.0);
    let (_, alone) = gradients_of(&shared, &batch, std::slice::from_ref(&teacher), &recipe);
    let (_, both) = gradients_of(&shared, &batch, &[teacher, pupil], &recipe);
    for (name, gradient) in &both {
        if name.starts_with("blocks.0.") || name.starts_with("blocks.2.") {
            assert_eq!(gradient, &alone[name], "{name}");
        }
    }
    assert_ne!(both["blocks.1.mlp.fc1.weight"], alone["blocks.1.mlp.fc1.weight"]);
}

#[test]
fn an_infinite_loss_names_the_subnet() {
    let space = support::space();
    let shared = shared(&space);
    let mut batch = batch(&space, &[1, 0], 8);
    batch.images[3] = f32::NAN;
    let subnets = draw(&space, 2, 5);
    let result =
        gradients(&shared, &batch, &subnets, &recipe(Reduce::Sum, None, 0.0), &Device::flex().autodiff());
    let error = result.err().expect("a loss that is no number");
    assert_eq!(error.to_string(), format!("the loss of subnet `{}` is NaN", subnets[0]));
}
