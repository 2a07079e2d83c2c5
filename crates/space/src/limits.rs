//! What a platform allows a model: the budgets of an export that names no others.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::Budget;
use crate::budget::Quantity;

/// A limit a quantity, each with its unit: `{latency: 70us, file-size: 300KB, memory: 80MB}`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[serde(into = "BTreeMap<Quantity, String>")]
#[schemars(with = "BTreeMap<Quantity, String>")]
pub struct Limits(pub BTreeMap<Quantity, Budget>);

impl Limits {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The budgets of an export for the platform: those that were `asked` for, and the limits of all other quantities.
    pub fn with(&self, asked: &[Budget]) -> Vec<Budget> {
        let is_asked = |quantity: Quantity| asked.iter().any(|budget| budget.quantity == quantity);
        let own = self.0.values().filter(|budget| !is_asked(budget.quantity));
        asked.iter().chain(own).copied().collect()
    }
}

impl<'de> Deserialize<'de> for Limits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(LimitsVisitor)
    }
}

/// Reads each limit where it stands, so that an error tells the line.
struct LimitsVisitor;

impl<'de> Visitor<'de> for LimitsVisitor {
    type Value = Limits;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a limit a quantity, such as {latency: 70us, file-size: 300KB}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Limits, A::Error> {
        let mut limits = BTreeMap::new();
        while let Some(quantity) = map.next_key::<Quantity>()? {
            let text: String = map.next_value()?;
            let limit = format!("{}={text}", quantity.name()).parse();
            limits.insert(quantity, limit.map_err(de::Error::custom)?);
        }
        Ok(Limits(limits))
    }
}

impl From<Limits> for BTreeMap<Quantity, String> {
    fn from(limits: Limits) -> Self {
        let text = |budget: Budget| {
            let text = budget.to_string();
            text.split_once('=').map_or(text.clone(), |(_, limit)| limit.to_owned())
        };
        limits.0.into_iter().map(|(quantity, budget)| (quantity, text(budget))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(text: &str) -> Budget {
        text.parse().expect("a budget")
    }

    #[test]
    fn limits_are_read_and_checked() {
        for (yaml, expected) in [
            ("{}", Ok(vec![])),
            ("{file-size: 300KB, latency: 70us, memory: 80MB}", Ok(vec!["300KB", "70us", "memory=80MB"])),
            ("{latency: 300KB}", Err("budget `latency=300KB` gives latency a unit of file-size")),
            (
                "{memory: 3ms}",
                Err("budget `memory=3ms` gives memory a unit of latency: write for instance `memory=80MB`"),
            ),
            ("{latency: 70}", Err("budget `latency=70` has no unit")),
            ("{latency: 70 parsecs}", Err("budget `latency=70 parsecs` has the unknown unit `parsecs`")),
            ("{speed: 70us}", Err("unknown variant `speed`")),
        ] {
            let read = serde_yaml::from_str::<Limits>(yaml).map_err(|error| error.to_string());
            let read = read.map(|limits| {
                let again = serde_yaml::to_string(&limits).expect("plain data");
                assert_eq!(
                    serde_yaml::from_str::<Limits>(&again).expect("what is written can be read"),
                    limits
                );
                limits.with(&[]).iter().map(ToString::to_string).collect::<Vec<_>>()
            });
            match expected {
                Ok(texts) => assert_eq!(read, Ok(texts.into_iter().map(str::to_owned).collect()), "{yaml}"),
                Err(part) => {
                    assert!(read.as_ref().is_err_and(|text| text.contains(part)), "{yaml}: {read:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_asked_takes_the_place_of_the_quantitys_limit() {
        let limits: Limits = serde_yaml::from_str("{flops: 2mflops, latency: 70us}").expect("limits");
        for (asked, expected) in [
            (vec![], vec!["2mflops", "70us"]),
            (vec!["90us"], vec!["90us", "2mflops"]),
            (vec!["300KB"], vec!["300KB", "2mflops", "70us"]),
            (vec!["90us", "80us", "1mflops"], vec!["90us", "80us", "1mflops"]),
        ] {
            let budgets = |texts: &[&str]| texts.iter().map(|text| budget(text)).collect::<Vec<_>>();
            assert_eq!(limits.with(&budgets(&asked)), budgets(&expected), "{asked:?}");
        }
    }
}
