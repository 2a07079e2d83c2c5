//! A model file: a supernet's search space, its data and its training recipe.

use std::collections::BTreeMap;
use std::path::Path;

use elastic_data::{Augmentation, DataConfig, InvalidData};
use elastic_space::file::{self, ReadError};
use elastic_space::search_space::{InvalidSpace, NotInSpace};
use elastic_space::{Sampling, SearchSpace, Seed, Subnet};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The only value of `schema` in a model file.
pub const SCHEMA: &str = "elastic.model/v1";

/// A supernet, its data and its training recipe: the content of `models/*.yaml` and of a run's
/// `config.yaml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Model {
    /// The file format: `elastic.model/v1`.
    pub schema: String,
    /// The one source of all randomness.
    pub seed: u64,
    /// The choices of every elastic dimension.
    pub space: SearchSpace,
    /// Further subnets with names, besides `largest` and `smallest`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub subnets: BTreeMap<String, Subnet>,
    /// The data set.
    pub data: DataConfig,
    /// The recipe.
    pub training: Training,
}

/// How the supernet is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Training {
    /// The order in which the dimensions open.
    pub scheme: Scheme,
    /// Gradient steps.
    pub steps: u64,
    /// Images of one step; each of its subnets sees the same ones.
    pub batch_size: usize,
    /// Subnets of one step (m).
    pub subnets: usize,
    /// Which subnets a step draws.
    pub sampling: Sampling,
    /// How the gradients of a step's subnets become one.
    pub reduce: Reduce,
    /// In-place distillation: the step's first subnet teaches the others.
    #[serde(default)]
    pub distillation: Option<Distillation>,
    /// AdamW.
    pub optimizer: Optimizer,
    /// Steps over which the learning rate rises from zero.
    pub warm_up_steps: u64,
    /// Share of a target's probability that is spread over all classes, 0 to below 1.
    pub label_smoothing: f64,
    /// The largest norm of the whole gradient; larger ones are scaled down.
    #[serde(default)]
    pub clip_gradient_norm: Option<f64>,
    /// Random changes to the training images.
    pub augmentation: Augmentation,
    /// Steps between two evaluations on validation data.
    pub evaluate_every: u64,
    /// Random subnets that each evaluation judges besides the named ones; always the same.
    pub evaluate_random: usize,
    /// Validation images that an evaluation during training uses, at most.
    pub evaluate_images: usize,
    /// Steps between two checkpoints.
    pub checkpoint_every: u64,
}

/// The order in which the dimensions open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// All at once from the first step (method row C3).
    Joint,
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

/// In-place distillation ([Yu & Huang, 2019](https://arxiv.org/abs/1903.05134)).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Distillation {
    /// Share of the soft targets in a taught subnet's loss, 0 to 1; the rest is the labels'.
    pub weight: f64,
}

/// AdamW with decoupled weight decay ([Loshchilov & Hutter, 2019](https://arxiv.org/abs/1711.05101)).
///
/// Matrices decay; biases, normalisations, tokens and positions do not.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Optimizer {
    /// The highest learning rate, reached after warm-up; a cosine takes it to the final one.
    pub learning_rate: f64,
    /// The learning rate of the last step.
    pub final_learning_rate: f64,
    /// Decoupled weight decay, multiplied by the learning rate.
    pub weight_decay: f64,
    /// Decay of the gradient's mean.
    pub beta1: f64,
    /// Decay of the squared gradient's mean.
    pub beta2: f64,
}

/// Why a model file is refused.
#[derive(Debug, Error)]
pub enum ModelError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Another file format.
    #[error("schema is `{found}`: this version reads `{SCHEMA}`")]
    Schema {
        /// What the file says.
        found: String,
    },
    /// The search space breaks a rule.
    #[error(transparent)]
    Space(#[from] InvalidSpace),
    /// The data's description breaks a rule.
    #[error(transparent)]
    Data(#[from] InvalidData),
    /// A named subnet is not in the space.
    #[error("subnets.{name}: {source}")]
    Subnet {
        /// Its name.
        name: String,
        /// The cause.
        source: NotInSpace,
    },
    /// A named subnet takes a name that every space has.
    #[error("subnets.{name}: the name is taken; `largest` and `smallest` are always there")]
    TakenName {
        /// The name.
        name: String,
    },
    /// A number is out of its range.
    #[error("training.{field} is {value}: it must be {range}")]
    Range {
        /// The field's name in YAML.
        field: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        range: &'static str,
    },
    /// A fixed subnet has no definition.
    #[error("training.sampling: no subnet is named `{name}`; known are {}", known.join(", "))]
    UnknownSubnet {
        /// The name.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
}

impl Model {
    /// Reads a model file and checks it.
    ///
    /// # Errors
    ///
    /// [`ModelError`] for the first thing that is wrong.
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        let model: Self = file::read_yaml(path)?;
        model.validate()?;
        Ok(model)
    }

    /// Checks every rule that the type cannot hold.
    ///
    /// # Errors
    ///
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), ModelError> {
        if self.schema != SCHEMA {
            return Err(ModelError::Schema { found: self.schema.clone() });
        }
        self.space.validate()?;
        self.data.validate()?;
        for (name, subnet) in &self.subnets {
            if ["largest", "smallest"].contains(&name.as_str()) {
                return Err(ModelError::TakenName { name: name.clone() });
            }
            self.space.encode(subnet).map_err(|source| ModelError::Subnet { name: name.clone(), source })?;
        }
        let named = self.named_subnets();
        for name in self.training.sampling.fixed() {
            if !named.contains_key(name) {
                let known = named.into_keys().collect();
                return Err(ModelError::UnknownSubnet { name: name.clone(), known });
            }
        }
        self.training.validate()
    }

    /// The seed as a type.
    pub fn seed(&self) -> Seed {
        Seed(self.seed)
    }

    /// `largest`, `smallest` and the subnets that the file names.
    pub fn named_subnets(&self) -> BTreeMap<String, Subnet> {
        self.space.named(&self.subnets)
    }
}

impl Training {
    fn validate(&self) -> Result<(), ModelError> {
        let fixed = self.sampling.fixed().len() as u64;
        let optimizer = &self.optimizer;
        let at_least_one = "at least 1";
        let counts = [
            ("steps", self.steps, 1, at_least_one),
            ("batch-size", self.batch_size as u64, 1, at_least_one),
            (
                "subnets",
                self.subnets as u64,
                fixed.max(1),
                "at least 1 and at least the number of fixed subnets",
            ),
            ("evaluate-every", self.evaluate_every, 1, at_least_one),
            ("evaluate-images", self.evaluate_images as u64, 1, at_least_one),
            ("checkpoint-every", self.checkpoint_every, 1, at_least_one),
        ];
        for (field, value, least, range) in counts {
            if value < least {
                return Err(ModelError::Range { field, value: value.to_string(), range });
            }
        }
        let positive = |v: f64| v > 0.0 && v.is_finite();
        let share = |v: f64| (0.0..1.0).contains(&v);
        let (above_zero, below_one) = ("above 0", "at least 0 and below 1");
        let numbers = [
            (
                "optimizer.learning-rate",
                optimizer.learning_rate,
                positive(optimizer.learning_rate),
                above_zero,
            ),
            (
                "optimizer.final-learning-rate",
                optimizer.final_learning_rate,
                (0.0..=optimizer.learning_rate).contains(&optimizer.final_learning_rate),
                "at least 0 and at most the learning rate",
            ),
            (
                "optimizer.weight-decay",
                optimizer.weight_decay,
                optimizer.weight_decay >= 0.0 && optimizer.weight_decay.is_finite(),
                "at least 0",
            ),
            ("optimizer.beta1", optimizer.beta1, share(optimizer.beta1), below_one),
            ("optimizer.beta2", optimizer.beta2, share(optimizer.beta2), below_one),
            ("label-smoothing", self.label_smoothing, share(self.label_smoothing), below_one),
            (
                "clip-gradient-norm",
                self.clip_gradient_norm.unwrap_or(1.0),
                positive(self.clip_gradient_norm.unwrap_or(1.0)),
                above_zero,
            ),
            (
                "distillation.weight",
                self.distillation.map_or(0.0, |d| d.weight),
                (0.0..=1.0).contains(&self.distillation.map_or(0.0, |d| d.weight)),
                "at least 0 and at most 1",
            ),
        ];
        match numbers.into_iter().find(|(_, _, holds, _)| !holds) {
            Some((field, value, _, range)) => {
                Err(ModelError::Range { field, value: value.to_string(), range })
            }
            None => Ok(()),
        }
    }
}
