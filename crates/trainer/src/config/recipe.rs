//! The training recipe of a model file: the scheme with its stages, and what all stages share.

use std::path::PathBuf;

use elastic_data::Augmentation;
use elastic_space::{Budget, Dimension, Sampling};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ModelError, SubnetCount};

/// How the supernet is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Training {
    /// The order in which the dimensions open, and the recipe of each stage.
    pub scheme: Scheme,
    /// Images of one step; each of its subnets sees the same ones.
    pub batch_size: usize,
    /// AdamW.
    pub optimizer: Optimizer,
    /// Share of a target's probability that is spread over all classes, 0 to below 1.
    pub label_smoothing: f64,
    /// The largest norm of the whole gradient; larger ones are scaled down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_gradient_norm: Option<f64>,
    /// Weights averaged over the steps: they are what is judged and kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<Ema>,
    /// Random changes to the training images; left out, none, as for texts.
    #[serde(default)]
    pub augmentation: Augmentation,
    /// The compute budgets of the platforms to be served: what `subnets: auto` is estimated from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub platform_budgets: Vec<Budget>,
    /// A stage fails when the accuracy of its smallest subnet, once above chance by this margin, falls
    /// below it; left out, nothing is watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collapse_margin: Option<f64>,
    /// Steps between two evaluations on validation data.
    pub evaluate_every: u64,
    /// Random subnets that each evaluation judges besides the named ones; always the same.
    pub evaluate_random: usize,
    /// Validation images that an evaluation during training uses, at most.
    pub evaluate_images: usize,
    /// Training images on which the batch normalisation of a subnet is measured before it is judged or exported,
    /// at most; they go through the network at once. Left out where the family has no batch normalisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration_images: Option<usize>,
    /// Steps between two checkpoints.
    pub checkpoint_every: u64,
}

/// The order in which the dimensions open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// The largest network alone (method row C1).
    Base(BaseStage),
    /// All dimensions at once from the first step (C3).
    Joint(Stage),
    /// The largest network first, then one dimension after the other (C2):
    /// [progressive shrinking](https://arxiv.org/abs/1908.09791) in any order.
    Progressive(Progressive),
}

/// The stages of [`Scheme::Progressive`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Progressive {
    /// The training of the largest network; may be left out where `init` brings its weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseStage>,
    /// One stage or more; each opens a dimension on top of those before.
    pub stages: Vec<Stage>,
}

/// The training of the largest network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BaseStage {
    /// Gradient steps, at most.
    pub steps: u64,
    /// The learning rate over these steps.
    pub learning_rate: LearningRate,
    /// Ends the stage early, once it has converged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<Patience>,
    /// Soft targets of a teacher, here always a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distillation: Option<Distillation>,
}

/// The training of subnets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Stage {
    /// The dimension that the stage opens; only in `progressive`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<Dimension>,
    /// Gradient steps.
    pub steps: u64,
    /// The learning rate over these steps.
    pub learning_rate: LearningRate,
    /// Subnets of one step (m).
    pub subnets: SubnetCount,
    /// Which subnets a step draws.
    pub sampling: Sampling,
    /// Whether a step draws the dimensions that earlier stages have opened only once and shares them
    /// among its subnets (C5); only in `progressive`. Left out: yes where depth opens, else no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_earlier: Option<bool>,
    /// Whether the channels and features, or the heads, that the stage opens are sorted before its first step, the most
    /// important first: as a smaller subnet keeps the first, it then begins better. Only where `open` is `width` or
    /// `heads`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sort_channels: bool,
    /// How the gradients of a step's subnets become one.
    pub reduce: Reduce,
    /// Soft targets of a teacher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distillation: Option<Distillation>,
}

/// A learning rate over a stage: warm-up, then half a cosine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LearningRate {
    /// The highest rate, reached after warm-up.
    pub peak: f64,
    /// The rate of the stage's last step.
    #[serde(rename = "final")]
    pub last: f64,
    /// Steps over which the rate rises from zero.
    pub warm_up_steps: u64,
}

/// Ends a stage that has converged.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Patience {
    /// Evaluations in a row without improvement after which the stage ends.
    pub evaluations: u64,
    /// What counts as improvement: accuracy above the best so far by this much, 0 to 1.
    pub min_improvement: f64,
}

/// How the gradients of a step's subnets become one (C4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reduce {
    /// The sum of the losses is minimised.
    Sum,
    /// The gradients are averaged.
    Mean,
}

/// Soft targets from a teacher ([Hinton et al., 2015](https://arxiv.org/abs/1503.02531)).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Distillation {
    /// Share of the soft targets in a taught subnet's loss, 0 to 1; the rest is the labels'.
    pub weight: f64,
    /// Who teaches.
    pub teacher: Teacher,
}

/// Who teaches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Teacher {
    /// The largest subnet teaches the others of the step; it must be the first of the fixed ones
    /// ([Yu & Huang, 2019](https://arxiv.org/abs/1903.05134)).
    InPlace,
    /// An ONNX file with the same input and the same classes teaches every subnet.
    Onnx(PathBuf),
    /// The largest network of a supernet's file, of the same family, input and classes, teaches every subnet; it does not
    /// learn.
    Supernet(PathBuf),
}

/// An exponential moving average of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Ema {
    /// Share of the average that a step keeps, 0 to below 1.
    pub decay: f64,
}

/// AdamW with decoupled weight decay ([Loshchilov & Hutter, 2019](https://arxiv.org/abs/1711.05101)).
///
/// Matrices decay; biases, normalisations, tokens, positions and transforms do not.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Optimizer {
    /// Decoupled weight decay, multiplied by the learning rate.
    pub weight_decay: f64,
    /// Decay of the gradient's mean.
    pub beta1: f64,
    /// Decay of the squared gradient's mean.
    pub beta2: f64,
}

impl Scheme {
    /// The steps of each stage, in their order.
    fn steps(&mut self) -> Vec<&mut u64> {
        match self {
            Self::Base(stage) => vec![&mut stage.steps],
            Self::Joint(stage) => vec![&mut stage.steps],
            Self::Progressive(Progressive { base, stages }) => {
                let base = base.iter_mut().map(|stage| &mut stage.steps);
                base.chain(stages.iter_mut().map(|stage| &mut stage.steps)).collect()
            }
        }
    }

    /// Makes the steps of all stages together `total`, each stage with its share, but at least one.
    pub fn set_steps(&mut self, total: u64) {
        let mut steps = self.steps();
        let sum: u64 = steps.iter().map(|steps| **steps).sum();
        let scaled = |steps: u64| (u128::from(steps) * u128::from(total) / u128::from(sum.max(1))) as u64;
        let Some((last, others)) = steps.split_last_mut() else { return };
        let mut used = 0;
        for steps in &mut *others {
            **steps = scaled(**steps).max(1);
            used += **steps;
        }
        // Stages of at least one step may have taken more than their share: the longest gives it back.
        while total > 0 && used >= total {
            let Some(longest) = others.iter_mut().max_by_key(|steps| ***steps).filter(|steps| ***steps > 1)
            else {
                break;
            };
            **longest -= 1;
            used -= 1;
        }
        **last = if total == 0 { 0 } else { total.saturating_sub(used).max(1) };
    }
}

impl Training {
    pub(super) fn validate(&self) -> Result<(), ModelError> {
        let at_least_one = "at least 1";
        let counts = [
            ("batch-size", self.batch_size as u64),
            ("evaluate-every", self.evaluate_every),
            ("evaluate-images", self.evaluate_images as u64),
            ("calibration-images", self.calibration_images.unwrap_or(1) as u64),
            ("checkpoint-every", self.checkpoint_every),
        ];
        if let Some((field, value)) = counts.into_iter().find(|(_, value)| *value == 0) {
            return Err(ModelError::Range { field, value: value.to_string(), range: at_least_one });
        }
        let optimizer = &self.optimizer;
        let share = |v: f64| (0.0..1.0).contains(&v);
        let below_one = "at least 0 and below 1";
        let clip = self.clip_gradient_norm.unwrap_or(1.0);
        let decay = self.ema.map_or(0.0, |ema| ema.decay);
        let margin = self.collapse_margin.unwrap_or(0.0);
        let numbers = [
            (
                "optimizer.weight-decay",
                optimizer.weight_decay,
                optimizer.weight_decay >= 0.0 && optimizer.weight_decay.is_finite(),
                "at least 0",
            ),
            ("optimizer.beta1", optimizer.beta1, share(optimizer.beta1), below_one),
            ("optimizer.beta2", optimizer.beta2, share(optimizer.beta2), below_one),
            ("label-smoothing", self.label_smoothing, share(self.label_smoothing), below_one),
            ("clip-gradient-norm", clip, clip > 0.0 && clip.is_finite(), "above 0"),
            ("ema.decay", decay, share(decay), below_one),
            ("collapse-margin", margin, share(margin), below_one),
        ];
        match numbers.into_iter().find(|(_, _, holds, _)| !holds) {
            Some((field, value, _, range)) => {
                Err(ModelError::Range { field, value: value.to_string(), range })
            }
            None => Ok(()),
        }
    }
}
