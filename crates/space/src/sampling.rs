//! Which subnets a training step draws: the strategies D1 to D6 of the method, for any family.

use std::collections::BTreeMap;

use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::genome::{Genome, draw_weighted};
use crate::search_space::SearchSpace;
use crate::slot::{Dimension, Place, Slot};
use crate::subnet::Subnet;

/// How the m subnets of a step are drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// Always the subnets of these names (method row D1).
    Fixed(Vec<String>),
    /// Uniform over the open choices (D2).
    Random,
    /// One draw per stage of the network, shared by its layers (D3).
    PerStage,
    /// By given probabilities per choice (D4).
    Distribution(Distribution),
    /// Some fixed subnets first, then others (D5): with `largest` and `smallest` the sandwich rule of
    /// [Yu & Huang, 2019](https://arxiv.org/abs/1903.05134).
    Mixed(Mixed),
    /// No draw (D6): the choice of a named subnet is kept.
    Empty(Empty),
    /// A strategy for each dimension; `random` where left out.
    ByDimension(BTreeMap<Dimension, Sampling>),
}

/// The two parts of [`Sampling::Mixed`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Mixed {
    /// Names of subnets that every step trains: `largest`, `smallest` or a name of the model file.
    pub fixed: Vec<String>,
    /// How the others are drawn.
    pub rest: Box<Sampling>,
}

/// What [`Sampling::Empty`] keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Empty {
    /// The name of the subnet whose choice stays: `largest`, `smallest` or a name of the model file.
    pub keep: String,
}

/// The probabilities of [`Sampling::Distribution`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Distribution {
    /// By a law of the choices' cost.
    Law(Law),
    /// By a list of probabilities for each field of the space, in the order of its choices; uniform
    /// for a field that is left out. They are scaled to the sum 1. For depth they are those of the
    /// numbers of layers; sets of one size are equally likely. The table of a field that is not open has
    /// no effect.
    Tables(BTreeMap<String, Vec<f64>>),
}

/// How the probability of a choice follows from its cost: the MACs of the network that has this choice
/// and the largest one everywhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Law {
    /// All choices alike.
    Uniform,
    /// In proportion to the cost.
    Flops,
    /// In proportion to one over the cost.
    InverseFlops,
}

/// Why a strategy is refused.
#[derive(Debug, Error, PartialEq)]
pub enum InvalidSampling {
    /// A named subnet does not exist.
    #[error("no subnet is named `{name}`; known are {}", known.join(", "))]
    UnknownSubnet {
        /// The name.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// A list of fixed subnets is empty.
    #[error("`fixed` lists no subnet: name at least one, or choose `random`")]
    NothingFixed,
    /// A list of subnets stands where only a draw fits.
    #[error("`{inner}` cannot stand inside `{outer}`: use random, per-stage, distribution or empty there")]
    Nested {
        /// The strategy inside.
        inner: &'static str,
        /// The strategy around it.
        outer: &'static str,
    },
    /// A dimension that the family does not have.
    #[error("by-dimension: this space has no dimension `{}`", dimension.name())]
    Dimension {
        /// The dimension.
        dimension: Dimension,
    },
    /// A table for a field that the space does not have.
    #[error("distribution.tables: the space has no field `{field}`; it has {}", known.join(", "))]
    UnknownField {
        /// The field.
        field: String,
        /// The fields that exist.
        known: Vec<String>,
    },
    /// A table of the wrong length, or without a valid probability.
    #[error(
        "distribution.tables.{field} is {table:?}: give one probability for each of the {choices} choices, none negative, not all 0"
    )]
    Table {
        /// The field.
        field: String,
        /// What was given.
        table: Vec<f64>,
        /// Choices of the field.
        choices: usize,
    },
}

/// A strategy made ready for one space: it draws in the time of the draws alone.
#[derive(Debug, Clone)]
pub struct Sampler {
    // Invariant: `rules` has one entry a slot, or none if every subnet is fixed.
    space: SearchSpace,
    slots: Vec<Slot>,
    fixed: Vec<Subnet>,
    rules: Vec<Rule>,
    vary: Option<Dimension>,
}

/// How one slot is drawn.
#[derive(Debug, Clone)]
enum Rule {
    /// By weights; slots of one group share the draw.
    Draw { weights: Vec<f64>, group: Option<(String, usize)> },
    /// Always this index.
    Keep(usize),
}

impl Sampling {
    /// The names of the subnets that every step trains, in their order.
    pub fn fixed(&self) -> &[String] {
        match self {
            Self::Fixed(names) => names,
            Self::Mixed(mixed) => &mixed.fixed,
            _ => &[],
        }
    }

    /// Makes the strategy ready for a space.
    ///
    /// `named` are the subnets of the space that have names. With `vary`, the drawn subnets of one step
    /// differ in that dimension alone and share one draw of all others (method row C5).
    ///
    /// # Errors
    ///
    /// [`InvalidSampling`]: a name, a dimension or a table that the space does not have, or lists of
    /// subnets inside one another.
    pub fn sampler(
        &self,
        space: &SearchSpace,
        named: &BTreeMap<String, Subnet>,
        vary: Option<Dimension>,
    ) -> Result<Sampler, InvalidSampling> {
        let fixed =
            self.fixed().iter().map(|name| find(named, name).cloned()).collect::<Result<Vec<_>, _>>()?;
        let slots = space.slots();
        let rules = match self {
            Self::Fixed(names) if names.is_empty() => return Err(InvalidSampling::NothingFixed),
            Self::Fixed(_) => Vec::new(),
            Self::Mixed(mixed) if mixed.fixed.is_empty() => return Err(InvalidSampling::NothingFixed),
            Self::Mixed(mixed) => mixed.rest.rules("mixed", space, &slots, named)?,
            other => other.rules("", space, &slots, named)?,
        };
        Ok(Sampler { space: space.clone(), slots, fixed, rules, vary })
    }

    /// The rule of each slot. `outer` is the strategy around this one.
    fn rules(
        &self,
        outer: &'static str,
        space: &SearchSpace,
        slots: &[Slot],
        named: &BTreeMap<String, Subnet>,
    ) -> Result<Vec<Rule>, InvalidSampling> {
        let draw = |slot: &Slot| Rule::Draw { weights: slot.weights.clone(), group: None };
        match self {
            Self::Fixed(_) => Err(InvalidSampling::Nested { inner: "fixed", outer }),
            Self::Mixed(_) => Err(InvalidSampling::Nested { inner: "mixed", outer }),
            Self::Random => Ok(slots.iter().map(draw).collect()),
            Self::PerStage => {
                let shared = |slot: &Slot| match slot.place {
                    Place::Layer { stage, .. } => {
                        Rule::Draw { weights: slot.weights.clone(), group: Some((slot.field.clone(), stage)) }
                    }
                    Place::Network | Place::Stage(_) => draw(slot),
                };
                Ok(slots.iter().map(shared).collect())
            }
            Self::Distribution(distribution) => {
                let weights = distribution.weights(space, slots)?;
                Ok(weights.into_iter().map(|weights| Rule::Draw { weights, group: None }).collect())
            }
            Self::Empty(Empty { keep }) => {
                let genome = space.encode(find(named, keep)?).expect("named subnets are in the space");
                Ok(genome.into_iter().map(Rule::Keep).collect())
            }
            Self::ByDimension(strategies) => {
                if outer == "by-dimension" {
                    return Err(InvalidSampling::Nested { inner: "by-dimension", outer });
                }
                let mut rules: Vec<Rule> = slots.iter().map(draw).collect();
                for (&dimension, strategy) in strategies {
                    if !slots.iter().any(|slot| slot.dimension == dimension) {
                        return Err(InvalidSampling::Dimension { dimension });
                    }
                    let theirs = strategy.rules("by-dimension", space, slots, named)?;
                    for ((rule, slot), other) in rules.iter_mut().zip(slots).zip(theirs) {
                        if slot.dimension == dimension {
                            *rule = other;
                        }
                    }
                }
                Ok(rules)
            }
        }
    }
}

impl Distribution {
    /// The probability of each choice of each slot; the sum of a slot's is 1.
    fn weights(&self, space: &SearchSpace, slots: &[Slot]) -> Result<Vec<Vec<f64>>, InvalidSampling> {
        let factors: Vec<Vec<f64>> = match self {
            Self::Law(Law::Uniform) => slots.iter().map(|slot| vec![1.0; slot.choices.len()]).collect(),
            Self::Law(Law::Flops) => costs(space, slots),
            Self::Law(Law::InverseFlops) => {
                let mut costs = costs(space, slots);
                costs.iter_mut().flatten().for_each(|cost| *cost = cost.recip());
                costs
            }
            Self::Tables(tables) => {
                for (field, table) in tables {
                    check(field, table, slots)?;
                }
                let is_open = |slot: &Slot| slot.choices.len() > 1;
                let factors = |slot: &Slot| match tables.get(&slot.field).filter(|_| is_open(slot)) {
                    Some(table) => by_level(slot).into_iter().map(|level| table[level]).collect(),
                    None => vec![1.0; slot.choices.len()],
                };
                slots.iter().map(factors).collect()
            }
        };
        let weigh = |(slot, factors): (&Slot, Vec<f64>)| {
            let mut weights: Vec<f64> = slot.weights.iter().zip(factors).map(|(w, f)| w * f).collect();
            let sum: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= sum);
            weights
        };
        Ok(slots.iter().zip(factors).map(weigh).collect())
    }
}

impl Sampler {
    /// Draws `count` subnets: the fixed ones in their order, then others.
    pub fn draw(&self, count: usize, rng: &mut impl Rng) -> Vec<Subnet> {
        let mut subnets: Vec<Subnet> = self.fixed.iter().take(count).cloned().collect();
        if self.rules.is_empty() {
            return subnets;
        }
        let mut shared: Option<Genome> = None;
        while subnets.len() < count {
            let mut genome = self.genome(rng);
            if let Some(vary) = self.vary {
                let shared = shared.get_or_insert_with(|| genome.clone());
                for ((index, slot), &common) in genome.iter_mut().zip(&self.slots).zip(shared.iter()) {
                    if slot.dimension != vary {
                        *index = common;
                    }
                }
            }
            subnets.push(self.space.decode_with(&self.slots, &genome));
        }
        subnets
    }

    fn genome(&self, rng: &mut impl Rng) -> Genome {
        let mut groups: BTreeMap<&(String, usize), usize> = BTreeMap::new();
        let mut genome = Genome::with_capacity(self.rules.len());
        for rule in &self.rules {
            genome.push(match rule {
                Rule::Keep(index) => *index,
                Rule::Draw { weights, group: None } => draw_weighted(weights, rng),
                Rule::Draw { weights, group: Some(group) } => {
                    *groups.entry(group).or_insert_with(|| draw_weighted(weights, rng))
                }
            });
        }
        genome
    }
}

fn find<'a>(named: &'a BTreeMap<String, Subnet>, name: &str) -> Result<&'a Subnet, InvalidSampling> {
    named.get(name).ok_or_else(|| InvalidSampling::UnknownSubnet {
        name: name.to_owned(),
        known: named.keys().cloned().collect(),
    })
}

/// The cost of each choice of each slot: the MACs with the largest choice everywhere else.
fn costs(space: &SearchSpace, slots: &[Slot]) -> Vec<Vec<f64>> {
    let largest: Genome = slots.iter().map(Slot::largest).collect();
    let cost = |slot: usize, choice: usize| {
        let mut genome = largest.clone();
        genome[slot] = choice;
        space.cost(&space.decode_with(slots, &genome)).macs as f64
    };
    let choices = |(index, slot): (usize, &Slot)| (0..slot.choices.len()).map(|c| cost(index, c)).collect();
    slots.iter().enumerate().map(choices).collect()
}

/// For each choice its place in the space's list: for depth, that of its number of layers.
fn by_level(slot: &Slot) -> Vec<usize> {
    let size = |choice: usize| match slot.dimension {
        Dimension::Depth => choice.count_ones() as usize,
        _ => choice,
    };
    let mut levels: Vec<usize> = slot.choices.iter().map(|&choice| size(choice)).collect();
    levels.sort_unstable();
    levels.dedup();
    let level = |&choice: &usize| levels.binary_search(&size(choice)).expect("every size is listed");
    slot.choices.iter().map(level).collect()
}

fn check(field: &str, table: &[f64], slots: &[Slot]) -> Result<(), InvalidSampling> {
    let Some(slot) = slots.iter().find(|slot| slot.field == field) else {
        let mut known: Vec<String> = slots.iter().map(|slot| slot.field.clone()).collect();
        known.dedup();
        return Err(InvalidSampling::UnknownField { field: field.to_owned(), known });
    };
    let choices = by_level(slot).into_iter().max().map_or(0, |last| last + 1);
    if choices == 1 {
        // There is nothing to draw, as in a stage that has not opened the field yet.
        return Ok(());
    }
    let valid = table.iter().all(|p| *p >= 0.0 && p.is_finite()) && table.iter().sum::<f64>() > 0.0;
    if table.len() == choices && valid {
        Ok(())
    } else {
        Err(InvalidSampling::Table { field: field.to_owned(), table: table.to_vec(), choices })
    }
}
