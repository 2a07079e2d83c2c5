//! One training step: m subnets on the same batch, one update (method row C4).

use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor, TensorData, activation};
use elastic_data::Batch;
use elastic_space::Subnet;
use thiserror::Error;

use crate::config::{Reduce, Training};
use crate::loss::{cross_entropy, smoothed_targets};
use crate::supernet::Supernet;

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
/// that of the largest subnet, however many there are. With distillation the first subnet teaches
/// the others.
///
/// # Errors
///
/// [`NotFinite`] names the subnet whose loss is infinite or no number.
pub fn gradients(
    supernet: &Supernet,
    batch: &Batch,
    subnets: &[Subnet],
    training: &Training,
    device: &Device,
) -> Result<StepGradients, NotFinite> {
    let shape = [batch.labels.len()].into_iter().chain(supernet.space.input()).collect::<Vec<_>>();
    let images: Tensor<4> = Tensor::from_data(TensorData::new(batch.images.clone(), shape), device);
    let targets = smoothed_targets(&batch.labels, supernet.space.classes(), training.label_smoothing, device);
    let share = match training.reduce {
        Reduce::Sum => 1.0,
        Reduce::Mean => 1.0 / subnets.len() as f64,
    };
    let mut accumulator = GradientsAccumulator::new();
    let mut losses = Vec::with_capacity(subnets.len());
    let mut teacher: Option<Tensor<2>> = None;
    for subnet in subnets {
        let logits = supernet.forward(images.clone(), subnet);
        let soft = teacher.clone().zip(training.distillation);
        if teacher.is_none() && training.distillation.is_some() {
            teacher = Some(activation::softmax(logits.clone().detach(), 1));
        }
        let targets = match soft {
            // Cross-entropy is linear in its targets, so the mixture of both losses is one loss.
            Some((soft, distillation)) => {
                targets.clone() * (1.0 - distillation.weight) + soft * distillation.weight
            }
            None => targets.clone(),
        };
        let loss = cross_entropy(logits, targets);
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
