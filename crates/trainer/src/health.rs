//! Whether subnets have lost what they had learned: the one definition of a collapse.

use std::collections::BTreeSet;

use elastic_space::{Cost, Subnet};
use schemars::JsonSchema;
use serde::Serialize;
use thiserror::Error;

use crate::config::Model;
use crate::metrics::Record;
use crate::plan::{InvalidScheme, judged, plan};

/// The margin for a recipe that has no `collapse-margin`.
pub const DEFAULT_MARGIN: f64 = 0.05;

/// The accuracy below which a subnet has collapsed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Threshold {
    /// The accuracy of guessing, 0 to 1.
    pub chance: f64,
    /// What a healthy subnet has above it, at least.
    pub margin: f64,
}

impl Threshold {
    /// That of a network with so many classes.
    pub fn new(classes: usize, margin: f64) -> Self {
        Self { chance: 1.0 / classes as f64, margin }
    }

    /// Whether an accuracy of 0 to 1 is that of a collapsed subnet: accuracy < chance + margin.
    pub fn collapsed(self, accuracy: f64) -> bool {
        accuracy < self.chance + self.margin
    }
}

/// What an evaluation says of every subnet that it judged.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Health {
    /// What counts as collapsed.
    pub threshold: Threshold,
    /// The subnets with a name, in the order of their names.
    pub named: Vec<SubnetHealth>,
    /// The random subnets, in the order of the log.
    pub random: Vec<SubnetHealth>,
}

/// What an evaluation says of one subnet.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SubnetHealth {
    /// Its name; of a random one `random` and its number.
    pub name: String,
    /// The subnet.
    pub subnet: Subnet,
    /// Its parameters and MACs.
    pub cost: Cost,
    /// Its accuracy, 0 to 1.
    pub accuracy: f64,
    /// Whether it has collapsed.
    pub collapsed: bool,
}

/// Why a line of the log says nothing of its subnets.
#[derive(Debug, Error)]
pub enum HealthError {
    /// The configuration's scheme breaks a rule.
    #[error("training.scheme.{0}")]
    Scheme(#[from] InvalidScheme),
    /// The stage is none of the configuration.
    #[error("the log tells of stage {stage}, the configuration only of {}: one of them was changed", known.join(", "))]
    Stage {
        /// The stage of the line.
        stage: String,
        /// Those of the configuration.
        known: Vec<String>,
    },
    /// Other subnets than those that the stage judges.
    #[error(
        "the log's line of step {step} does not judge the subnets of the configuration's stage {stage}: one of them was changed"
    )]
    Subnets {
        /// The step of the line.
        step: u64,
        /// Its stage.
        stage: String,
    },
}

impl Health {
    /// What one line of the log says; nothing if it is no evaluation.
    ///
    /// # Errors
    ///
    /// [`HealthError`] if the line was not written with this configuration.
    pub fn of(model: &Model, record: &Record) -> Result<Option<Self>, HealthError> {
        let Record::Validation { stage, step, images: _, accuracy, random_accuracy } = record else {
            return Ok(None);
        };
        let stages = plan(model)?;
        let Some(planned) = stages.iter().find(|planned| planned.name == *stage) else {
            let known = stages.into_iter().map(|planned| planned.name).collect();
            return Err(HealthError::Stage { stage: stage.clone(), known });
        };
        let judged = judged(model, &planned.open);
        let names: BTreeSet<&String> = accuracy.keys().collect();
        if names != judged.named.keys().collect() || random_accuracy.len() != judged.random.len() {
            return Err(HealthError::Subnets { step: *step, stage: stage.clone() });
        }
        let margin = model.training.collapse_margin.unwrap_or(DEFAULT_MARGIN);
        let threshold = Threshold::new(model.space.classes(), margin);
        let health = |name: String, subnet: Subnet, accuracy: f64| SubnetHealth {
            name,
            cost: model.space.cost(&subnet),
            subnet,
            accuracy,
            collapsed: threshold.collapsed(accuracy),
        };
        let named = judged.named.into_iter().map(|(name, subnet)| {
            let value = accuracy[&name];
            health(name, subnet, value)
        });
        let random = judged.random.into_iter().zip(random_accuracy).enumerate();
        Ok(Some(Self {
            threshold,
            named: named.collect(),
            random: random
                .map(|(i, (subnet, value))| health(format!("random {i}"), subnet, *value))
                .collect(),
        }))
    }

    /// All subnets, those with a name first.
    pub fn subnets(&self) -> impl Iterator<Item = &SubnetHealth> {
        self.named.iter().chain(&self.random)
    }

    /// The names of those that have collapsed.
    pub fn collapsed(&self) -> Vec<&str> {
        self.subnets().filter(|subnet| subnet.collapsed).map(|subnet| subnet.name.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collapse() {
        for (classes, margin, accuracy, expected) in [
            (10, 0.05, 0.14, true),
            (10, 0.05, 0.16, false),
            (10, 0.0, 0.1, false),
            (4, 0.25, 0.5, false),
            (4, 0.25, 0.499, true),
            (2, 0.0, 0.0, true),
        ] {
            let collapsed = Threshold::new(classes, margin).collapsed(accuracy);
            assert_eq!(collapsed, expected, "{accuracy} of {classes} classes, margin {margin}");
        }
    }
}
