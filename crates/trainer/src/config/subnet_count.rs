//! How many subnets a step trains: a number, or `auto` (method row C6).

use std::fmt;

use elastic_space::SearchSpace;
use elastic_space::budget::{Budget, Quantity};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The fewest and the most subnets that `auto` chooses.
const AUTO: (f64, f64) = (4.0, 8.0);

/// Subnets of one step (m): in YAML a number or `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubnetCount {
    /// This many.
    Count(usize),
    /// Estimated from the spread of the platforms' compute budgets.
    Auto,
}

impl SubnetCount {
    /// The number of subnets of a step.
    ///
    /// `auto` is 2 + 2 log2(b / a), rounded, at least 4 and at most 8, where a and b are the smallest and
    /// the largest compute budget, each held to what the space offers: the two ends, and one more subnet
    /// for every factor of the square root of 2 between them.
    pub fn resolve(self, budgets: &[Budget], space: &SearchSpace) -> usize {
        let Self::Count(count) = self else {
            let ends = [space.smallest(), space.largest()].map(|subnet| space.cost(&subnet).macs as f64);
            let macs = budgets.iter().filter_map(macs).map(|budget| budget.clamp(ends[0], ends[1]));
            let (low, high) = macs.fold((f64::INFINITY, 0.0_f64), |(low, high), b| (low.min(b), high.max(b)));
            let spread = if low.is_finite() { (high / low).log2() } else { 0.0 };
            return (2.0 + 2.0 * spread).round().clamp(AUTO.0, AUTO.1) as usize;
        };
        count
    }
}

/// A compute budget in MACs; nothing for a budget of another quantity.
pub(crate) fn macs(budget: &Budget) -> Option<f64> {
    match budget.quantity {
        Quantity::Macs => Some(budget.limit),
        Quantity::Flops => Some(budget.limit / 2.0),
        Quantity::Params | Quantity::FileSize | Quantity::Latency | Quantity::Memory | Quantity::Energy => {
            None
        }
    }
}

impl Serialize for SubnetCount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u64(*count as u64),
            Self::Auto => serializer.serialize_str("auto"),
        }
    }
}

impl<'de> Deserialize<'de> for SubnetCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor)
    }
}

struct CountVisitor;

impl Visitor<'_> for CountVisitor {
    type Value = SubnetCount;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a number of subnets or `auto`")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<SubnetCount, E> {
        usize::try_from(value).map(SubnetCount::Count).map_err(E::custom)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<SubnetCount, E> {
        match value {
            "auto" => Ok(SubnetCount::Auto),
            other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
        }
    }
}

impl JsonSchema for SubnetCount {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SubnetCount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Subnets of one step (m): a number, or `auto`.",
            "oneOf": [{ "type": "integer", "minimum": 1 }, { "const": "auto" }],
        })
    }
}
