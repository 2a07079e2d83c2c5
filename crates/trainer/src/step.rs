//! One training step: m subnets on the same batch, one update (method row C4).

use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor, TensorData, activation};
use elastic_data::Batch;
use elastic_space::{Array, Subnet};
use thiserror::Error;

use crate::config::Reduce;
use crate::loss::{cross_entropy, targets};
use crate::supernet::Supernet;

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

/// A loss that is no number.
#[derive(Debug, Error)]
#[error("the loss of subnet `{subnet}` is {loss}")]
pub struct NotFinite {
    /// The subnet.
    pub subnet: String,
    /// The loss.
    pub loss: f64,
}

/// The gradient of a batch over several subnets.
///
/// Subnets run one after the other and their gradients are added, so the memory for activations is
/// that of the largest subnet, however many there are.
///
/// # Errors
///
/// [`NotFinite`] names the subnet whose loss is infinite or no number.
pub fn gradients(
    supernet: &Supernet,
    batch: &Batch,
    subnets: &[Subnet],
    recipe: &StepRecipe,
    device: &Device,
) -> Result<StepGradients, NotFinite> {
    let shape = [batch.labels.len()].into_iter().chain(supernet.space.input()).collect::<Vec<_>>();
    let images: Tensor<4> = Tensor::from_data(TensorData::new(batch.images.clone(), shape), device);
    let labels = targets(batch, supernet.space.classes(), recipe.label_smoothing, device);
    let share = match recipe.reduce {
        Reduce::Sum => 1.0,
        Reduce::Mean => 1.0 / subnets.len() as f64,
    };
    // Cross-entropy is linear in its targets, so the mixture of both losses is one loss.
    let mixed = |soft: Tensor<2>, weight: f64| labels.clone() * (1.0 - weight) + soft * weight;
    let mut targets = match &recipe.soft_targets {
        SoftTargets::None | SoftTargets::InPlace { .. } => labels.clone(),
        SoftTargets::Given { weight, probabilities } => mixed(tensor(probabilities, device), *weight),
    };
    let mut accumulator = GradientsAccumulator::new();
    let mut losses = Vec::with_capacity(subnets.len());
    for (index, subnet) in subnets.iter().enumerate() {
        let logits = supernet.forward(images.clone(), subnet);
        let loss = cross_entropy(logits.clone(), targets.clone());
        if let (0, SoftTargets::InPlace { weight }) = (index, &recipe.soft_targets) {
            targets = mixed(activation::softmax(logits.detach(), 1), *weight);
        }
        let value = f64::from(loss.clone().into_scalar::<f32>());
        if !value.is_finite() {
            return Err(NotFinite { subnet: subnet.to_string(), loss: value });
        }
        losses.push(value);
        let gradients = (loss * share).backward();
        accumulator.accumulate(&supernet.network, GradientsParams::from_grads(gradients, &supernet.network));
    }
    Ok(StepGradients { losses, gradients: accumulator.grads() })
}

fn tensor(array: &Array, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(array.data.clone(), array.shape.clone()), device)
}
