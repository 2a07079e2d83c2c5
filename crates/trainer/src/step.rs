//! One training step: m subnets on the same batch, one update (method row C4).

use std::ops::Range;

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor, TensorData};
use elastic_data::Batch;
use elastic_space::{Array, Subnet};
use rayon::prelude::*;
use thiserror::Error;

use crate::config::Reduce;
use crate::device::is_cpu;
use crate::layers::Normalisation;
use crate::loss::{self, cross_entropy};
use crate::supernet::Supernet;
use crate::{ops, optimizer};

/// How the losses of a step are made and become one gradient.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRecipe {
    /// How the subnets' gradients become one.
    pub reduce: Reduce,
    /// Share of a target's probability that is spread over all classes.
    pub label_smoothing: f64,
    /// Soft targets beside the labels.
    pub soft_targets: SoftTargets,
}

/// Soft targets beside the labels; `weight` is their share of a taught subnet's loss.
#[derive(Debug, Clone, PartialEq)]
pub enum SoftTargets {
    /// None.
    None,
    /// The first subnet of the step teaches the others.
    InPlace {
        /// Their share, 0 to 1.
        weight: f64,
    },
    /// A teacher outside the supernet teaches all subnets.
    Given {
        /// Their share, 0 to 1.
        weight: f64,
        /// The teacher's probabilities, `[batch, classes]`.
        probabilities: Array,
    },
}

/// The losses of a step and its gradient.
pub struct StepGradients {
    /// The loss of each subnet, in their order.
    pub losses: Vec<f64>,
    /// The sum or the mean of the subnets' gradients.
    pub gradients: GradientsParams,
}

/// What is infinite or no number: training has diverged.
#[derive(Debug, Error)]
pub enum NotFinite {
    /// A loss.
    #[error("the loss of subnet `{subnet}` is {loss}")]
    Loss {
        /// The subnet.
        subnet: String,
        /// The loss.
        loss: f64,
    },
    /// The gradient.
    #[error("the gradient's norm is {norm} (subnets: {subnets})")]
    Gradient {
        /// The norm.
        norm: f64,
        /// The subnets of the step.
        subnets: String,
    },
    /// A weight after the update.
    #[error("tensor {tensor} holds numbers that are not finite")]
    Weights {
        /// The first such tensor.
        tensor: String,
    },
}

/// The gradient of a batch over several subnets.
///
/// The batch is cut into shards which go through all subnets independently, on all threads: so the operations of a
/// small network, too short to be shared out one by one, keep every core busy. Within a shard the subnets
/// run one after the other and their gradients are added, so the memory for activations is that of the largest
/// subnet, however many there are. The cuts follow from the batch alone and the shards' gradients are added in their
/// order, so the result does not depend on the number of threads.
///
/// # Errors
///
/// [`NotFinite::Loss`] names the subnet whose loss is infinite or no number.
pub fn gradients(
    supernet: &Supernet,
    batch: &Batch,
    subnets: &[Subnet],
    recipe: &StepRecipe,
    device: &Device,
) -> Result<StepGradients, NotFinite> {
    let targets = loss::targets(batch, supernet.space.classes(), recipe.label_smoothing);
    let step = Step { supernet, batch, targets: &targets, subnets, recipe, device };
    let shards: Vec<StepGradients> =
        shards(batch.labels.len(), device).into_par_iter().map(|images| step.shard(images)).collect();
    let mut losses = vec![0.0; subnets.len()];
    let mut gradients = None;
    for shard in shards {
        losses.iter_mut().zip(shard.losses).for_each(|(sum, loss)| *sum += loss);
        gradients = Some(match gradients {
            None => shard.gradients,
            Some(sum) => optimizer::added(sum, shard.gradients, &supernet.network),
        });
    }
    match subnets.iter().zip(&losses).find(|(_, loss)| !loss.is_finite()) {
        Some((subnet, &loss)) => Err(NotFinite::Loss { subnet: subnet.to_string(), loss }),
        None => Ok(StepGradients { losses, gradients: gradients.expect("a batch has a shard") }),
    }
}

/// The cuts of a batch: shards of equal size, or a smaller one at the end; a GPU takes the batch whole.
///
/// As many as keep two cores busy, and more only where each still has many images: a shard holds a gradient of
/// its own, and short matrix products are slow.
fn shards(images: usize, device: &Device) -> Vec<Range<usize>> {
    let count = match images {
        _ if !is_cpu(device) => 1,
        0..64 => 1,
        64..256 => 2,
        _ => 4,
    };
    let size = images.div_ceil(count);
    (0..count).map(|shard| (shard * size).min(images)..((shard + 1) * size).min(images)).collect()
}

/// What all shards of a step share.
struct Step<'a> {
    supernet: &'a Supernet,
    batch: &'a Batch,
    /// `[batch, classes]`
    targets: &'a Array,
    subnets: &'a [Subnet],
    recipe: &'a StepRecipe,
    device: &'a Device,
}

impl Step<'_> {
    /// What some images of the batch add to its losses and to its gradient.
    fn shard(&self, images: Range<usize>) -> StepGradients {
        let Self { supernet, batch, targets, subnets, recipe, device } = *self;
        // Leaves of its own, which share the weights' memory: the shards' graphs have nothing in common.
        let network = supernet.network.clone().fork(device);
        let shard_share = images.len() as f64 / batch.labels.len() as f64;
        let share = match recipe.reduce {
            Reduce::Sum => shard_share,
            Reduce::Mean => shard_share / subnets.len() as f64,
        };
        let labels: Tensor<2> = rows(targets, &images, device);
        // Cross-entropy is linear in its targets, so the mixture of both losses is one loss.
        let mixed = |soft: Tensor<2>, weight: f64| labels.clone() * (1.0 - weight) + soft * weight;
        let mut targets = match &recipe.soft_targets {
            SoftTargets::None | SoftTargets::InPlace { .. } => labels.clone(),
            SoftTargets::Given { weight, probabilities } => {
                mixed(rows(probabilities, &images, device), *weight)
            }
        };
        let values = batch.images.len() / batch.labels.len();
        let shape = [images.len(), batch.shape[1], batch.shape[2], batch.shape[3]];
        let images = batch.images[images.start * values..images.end * values].to_vec();
        let input = network.arranged(Tensor::from_data(TensorData::new(images, shape), device));
        let mut accumulator = GradientsAccumulator::new();
        // They are read after all subnets: on a GPU a look at one waits for all work before it.
        let mut losses = Vec::with_capacity(subnets.len());
        for (index, subnet) in subnets.iter().enumerate() {
            let logits = network.forward(input.clone(), subnet, &mut Normalisation::Batch);
            let loss = cross_entropy(logits.clone(), targets.clone());
            if let (0, SoftTargets::InPlace { weight }) = (index, &recipe.soft_targets) {
                targets = mixed(ops::softmax(logits.detach(), 1.0), *weight);
            }
            losses.push(loss.clone().detach());
            let gradients = (loss * share).backward();
            accumulator.accumulate(&network, GradientsParams::from_grads(gradients, &network));
        }
        let losses =
            losses.into_iter().map(|loss| f64::from(loss.into_scalar::<f32>()) * shard_share).collect();
        StepGradients { losses, gradients: accumulator.grads() }
    }
}

/// Some rows of an array, `[rows, columns]`.
fn rows(array: &Array, rows: &Range<usize>, device: &Device) -> Tensor<2> {
    let columns = array.shape[1];
    let values = array.data[rows.start * columns..rows.end * columns].to_vec();
    Tensor::from_data(TensorData::new(values, [rows.len(), columns]), device)
}

#[cfg(test)]
mod tests {
    use burn::module::{ModuleVisitor, Param};
    use elastic_space::Seed;
    use elastic_space::random::Purpose;
    use rand::Rng;

    use super::*;
    use crate::config::Model;

    /// The gradients of all parameters in the order of the network.
    struct InOrder<'a> {
        gradients: &'a GradientsParams,
        found: Vec<Vec<f32>>,
    }

    impl ModuleVisitor for InOrder<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = self.gradients.get::<D>(param.id).expect("every parameter is reached");
            self.found.push(gradient.into_data().try_to_vec().expect("32-bit floats"));
        }
    }

    fn model() -> Model {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/vit-fashion.yaml");
        Model::read(path.as_ref()).expect("a model file")
    }

    fn batch(model: &Model, images: usize) -> Batch {
        let mut rng = Seed(3).generator(Purpose::Init, 0);
        let [channels, height, width] = model.space.input();
        let values = images * channels * height * width;
        Batch {
            shape: [images, channels, height, width],
            images: (0..values).map(|_| rng.random_range(-1.0..1.0)).collect(),
            labels: (0..images).map(|image| (image % model.space.classes()) as u8).collect(),
            mixed: None,
        }
    }

    #[test]
    fn shards_cover_the_batch() {
        for (images, expected) in [
            (1, &[0, 1][..]),
            (63, &[0, 63]),
            (64, &[0, 32, 64]),
            (97, &[0, 49, 97]),
            (1001, &[0, 251, 502, 753, 1001]),
        ] {
            let expected: Vec<_> = expected.windows(2).map(|cuts| cuts[0]..cuts[1]).collect();
            assert_eq!(shards(images, &Device::flex().autodiff()), expected, "{images} images");
        }
    }

    #[test]
    fn shards_add_up_to_the_batch_on_any_number_of_threads() {
        let (model, device) = (model(), Device::flex().autodiff());
        let supernet = Supernet::new(model.space.clone(), model.seed(), &device);
        let batch = batch(&model, 70);
        let subnets = [model.space.largest(), model.space.smallest()];
        let soft_targets = SoftTargets::InPlace { weight: 0.5 };
        let recipe = StepRecipe { reduce: Reduce::Mean, label_smoothing: 0.1, soft_targets };
        let values = |gradients: &GradientsParams| {
            let mut visitor = InOrder { gradients, found: Vec::new() };
            supernet.network.visit(&mut visitor);
            visitor.found
        };
        let targets = loss::targets(&batch, model.space.classes(), recipe.label_smoothing);
        let (targets, subnets) = (&targets, &subnets[..]);
        let step =
            Step { supernet: &supernet, batch: &batch, targets, subnets, recipe: &recipe, device: &device };
        let whole = step.shard(0..70);
        let expected = values(&whole.gradients);
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            let result = pool.install(|| gradients(&supernet, &batch, subnets, &recipe, &device));
            let result = result.expect("finite losses");
            (values(&result.gradients), result.losses)
        };
        let (found, losses) = on(1);
        for (loss, expected) in losses.iter().zip(&whole.losses) {
            assert!((loss - expected).abs() < 1e-6, "{loss}, expected {expected}");
        }
        assert_eq!(found.len(), expected.len());
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let highest = expected.iter().fold(1e-3_f32, |highest, value| highest.max(value.abs()));
            assert!(worst < 1e-5 * highest, "parameter {index} differs by {worst}, of {highest}");
        }
        for threads in [2, 3] {
            assert_eq!(on(threads), (found.clone(), losses.clone()), "{threads} threads");
        }
    }
}
