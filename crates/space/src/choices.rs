//! The choices of one elastic dimension, as every family lists them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::slot::{Dimension, Place, Slot};

/// The largest number of layers for which the drop policy `any` is offered.
///
/// The set of layers is one slot whose choices are listed, at most 2^12.
pub const MAX_LAYERS_DROP_ANY: usize = 12;

/// The largest number of layers: the kept ones are the bits of one number.
pub const MAX_LAYERS: usize = usize::BITS as usize - 1;

/// The largest size of anything; above it is a slip of the pen, and counts could overflow.
pub const MAX_SIZE: usize = 1 << 16;

/// The choices of depth and which layers are left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DepthChoices {
    /// How many layers are kept, ascending; the last is the supernet's depth.
    pub choices: Vec<usize>,
    /// Which layers are kept.
    pub drop: DropPolicy,
}

/// Which layers a shallower subnet keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DropPolicy {
    /// The first d layers.
    Prefix,
    /// Any set of d layers, chained in order.
    Any,
}

/// The choices of a width and whether the layers choose apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WidthChoices {
    /// The values, ascending; the last is the supernet's.
    pub choices: Vec<usize>,
    /// Who chooses.
    pub per: Granularity,
}

/// Whether a choice is made per layer, once for the layers of a stage, or once for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Granularity {
    /// Every layer chooses.
    Layer,
    /// One choice for the layers of a stage of the network.
    Stage,
    /// One choice for the network.
    Network,
}

/// How a choice of an elastic dimension is realised in the weights.
///
/// All but [`TransformKind::Identity`] have learned parameters of their own for every choice but the
/// largest; they start as "does nothing" and are folded into the weights when a subnet is extracted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TransformKind {
    /// The plain slice.
    #[default]
    Identity,
    /// The slice, then a learned scale and shift of each feature; of a kernel, a learned matrix on its window.
    Linear,
    /// The slice, then a learned gate on each feature: 2 / (1 + exp(-a)), a from 0.
    Nonlinear,
}

impl TransformKind {
    /// The name in YAML.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Linear => "linear",
            Self::Nonlinear => "nonlinear",
        }
    }
}

/// Why a size or the choices of a dimension are refused, whatever the family.
#[derive(Debug, Error, PartialEq)]
pub enum InvalidChoices {
    /// A size is zero.
    #[error("{field} is 0: it must be at least 1")]
    Zero {
        /// The field's name in YAML.
        field: String,
    },
    /// A size is out of all proportion.
    #[error("{field} is {size}: it must be at most {MAX_SIZE}")]
    TooLarge {
        /// The field's name in YAML.
        field: String,
        /// What was given.
        size: usize,
    },
    /// A list of choices is empty.
    #[error("{field} has no choices: list at least one")]
    Empty {
        /// The field's name in YAML.
        field: String,
    },
    /// A list of choices is not strictly ascending.
    #[error("{field} is {choices:?}: list each choice once, smallest first")]
    Order {
        /// The field's name in YAML.
        field: String,
        /// What was given.
        choices: Vec<usize>,
    },
    /// Too many layers.
    #[error("{field} {depth} is too deep: at most {MAX_LAYERS} layers")]
    Layers {
        /// The field's name in YAML.
        field: String,
        /// The supernet's depth.
        depth: usize,
    },
    /// Too many layers for the policy `any`.
    #[error(
        "{field} {depth} with `drop: any` has too many sets of layers: at most {MAX_LAYERS_DROP_ANY} layers, or `drop: prefix`"
    )]
    DropAny {
        /// The field's name in YAML.
        field: String,
        /// The supernet's depth.
        depth: usize,
    },
}

/// Checks a fixed size.
pub(crate) fn check_size(field: &str, size: usize) -> Result<(), InvalidChoices> {
    match size {
        0 => Err(InvalidChoices::Zero { field: field.to_owned() }),
        1..=MAX_SIZE => Ok(()),
        size => Err(InvalidChoices::TooLarge { field: field.to_owned(), size }),
    }
}

/// Checks a list of choices.
pub(crate) fn check_choices(field: &str, choices: &[usize]) -> Result<(), InvalidChoices> {
    let Some(&first) = choices.first() else {
        return Err(InvalidChoices::Empty { field: field.to_owned() });
    };
    if first == 0 {
        return Err(InvalidChoices::Zero { field: field.to_owned() });
    }
    if !choices.is_sorted_by(|a, b| a < b) {
        return Err(InvalidChoices::Order { field: field.to_owned(), choices: choices.to_vec() });
    }
    check_size(field, last(choices))
}

impl DepthChoices {
    /// Layers of the supernet.
    pub fn layers(&self) -> usize {
        last(&self.choices)
    }

    /// Checks that the sets of layers can be told and listed; the choices themselves are sound.
    pub(crate) fn check_layers(&self, field: &str) -> Result<(), InvalidChoices> {
        let (field, depth) = (field.to_owned(), self.layers());
        if depth > MAX_LAYERS {
            return Err(InvalidChoices::Layers { field, depth });
        }
        if self.drop == DropPolicy::Any && depth > MAX_LAYERS_DROP_ANY {
            return Err(InvalidChoices::DropAny { field, depth });
        }
        Ok(())
    }

    /// Depth as one slot of layer masks, ordered by the number of layers, then by value: the first is the
    /// shortest prefix, the last holds every layer. Only sets that hold the layers of `always` are listed.
    pub(crate) fn slot(&self, field: String, place: Place, always: usize) -> Slot {
        let prefix = |depth: usize| (1_usize << depth) - 1;
        let (mut choices, mut weights) = (Vec::new(), Vec::new());
        for &depth in &self.choices {
            let masks: Vec<usize> = match self.drop {
                DropPolicy::Prefix => vec![prefix(depth)],
                DropPolicy::Any => (0..=prefix(self.layers()))
                    .filter(|mask| mask.count_ones() as usize == depth && mask & always == always)
                    .collect(),
            };
            let weight = 1.0 / (self.choices.len() * masks.len()) as f64;
            weights.extend(masks.iter().map(|_| weight));
            choices.extend(masks);
        }
        Slot { weights, ..Slot::named(field.clone(), field, Dimension::Depth, place, choices) }
    }
}

/// The largest choice; 0 where there is none.
pub(crate) fn last(choices: &[usize]) -> usize {
    choices.last().copied().unwrap_or(0)
}

/// Keeps only the largest choice.
pub(crate) fn close(choices: &mut Vec<usize>) {
    choices.drain(..choices.len().saturating_sub(1));
}
