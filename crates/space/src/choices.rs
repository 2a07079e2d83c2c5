//! The choices of one elastic dimension, as every family lists them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// The slice, then a learned scale and shift of each feature.
    Linear,
    /// The slice, then a learned gate on each feature: 2 / (1 + exp(-a)), a from 0.
    Nonlinear,
}
