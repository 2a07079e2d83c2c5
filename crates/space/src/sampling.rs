//! Which subnets a training step draws.

use std::collections::BTreeMap;

use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::search_space::SearchSpace;
use crate::subnet::Subnet;

/// How the m subnets of a step are drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// Uniform over the open choices (method row D2).
    Random,
    /// Some fixed subnets first, the rest random (D5): the sandwich rule of
    /// [Yu & Huang, 2019](https://arxiv.org/abs/1903.05134) with `largest` and `smallest`.
    Mixed(Mixed),
}

/// The fixed part of [`Sampling::Mixed`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Mixed {
    /// Names of subnets that every step trains: `largest`, `smallest` or a name of the model file.
    pub fixed: Vec<String>,
}

impl Sampling {
    /// The names that must exist for [`Self::draw`].
    pub fn fixed(&self) -> &[String] {
        match self {
            Self::Random => &[],
            Self::Mixed(mixed) => &mixed.fixed,
        }
    }

    /// Draws `count` subnets: the fixed ones in their order, then random ones.
    ///
    /// # Panics
    ///
    /// If a fixed name is not in `named`; the model file's validation excludes it.
    pub fn draw(
        &self,
        space: &SearchSpace,
        named: &BTreeMap<String, Subnet>,
        count: usize,
        rng: &mut impl Rng,
    ) -> Vec<Subnet> {
        let fixed = self.fixed().iter().take(count).map(|name| named[name].clone());
        let mut subnets: Vec<Subnet> = fixed.collect();
        while subnets.len() < count {
            subnets.push(space.draw(rng));
        }
        subnets
    }
}
