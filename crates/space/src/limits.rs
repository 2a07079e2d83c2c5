//! What a platform allows a model: the budgets of an export that names no others.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Budget;
use crate::budget::Quantity;

/// A limit a quantity, each with its unit: `{latency: 70us, file-size: 300KB}`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Limits(pub BTreeMap<Quantity, Budget>);

/// A limit is one of another quantity.
#[derive(Debug, Error, PartialEq)]
#[error("limits.{} is {budget}, which limits {}: write for instance `{}`", word(*quantity), word(budget.quantity), example(*quantity))]
pub struct OtherQuantity {
    quantity: Quantity,
    budget: Budget,
}

impl Limits {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks that each limit is one of its quantity.
    ///
    /// # Errors
    ///
    /// The first that is not.
    pub fn validate(&self) -> Result<(), OtherQuantity> {
        match self.0.iter().find(|(quantity, budget)| budget.quantity != **quantity) {
            Some((&quantity, &budget)) => Err(OtherQuantity { quantity, budget }),
            None => Ok(()),
        }
    }

    /// The budgets of an export for the platform: those that were `asked` for, and the limits of all other quantities.
    pub fn with(&self, asked: &[Budget]) -> Vec<Budget> {
        let is_asked = |quantity: Quantity| asked.iter().any(|budget| budget.quantity == quantity);
        let own = self.0.values().filter(|budget| !is_asked(budget.quantity));
        asked.iter().chain(own).copied().collect()
    }
}

/// The quantity's name in YAML, as its [`example`] begins.
fn word(quantity: Quantity) -> &'static str {
    example(quantity).split(':').next().unwrap_or_default()
}

/// A limit of the quantity.
fn example(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::Flops => "flops: 2gflops",
        Quantity::Macs => "macs: 300mmacs",
        Quantity::Params => "params: 500kparams",
        Quantity::FileSize => "file-size: 2MB",
        Quantity::Latency => "latency: 3ms",
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
            ("{file-size: 300KB, latency: 70us}", Ok(vec!["300KB", "70us"])),
            (
                "{latency: 300KB}",
                Err("limits.latency is 300KB, which limits file-size: write for instance `latency: 3ms`"),
            ),
            ("{latency: 70}", Err("budget `70` has no unit")),
            ("{latency: 70 parsecs}", Err("budget `70 parsecs` has the unknown unit `parsecs`")),
            ("{speed: 70us}", Err("unknown variant `speed`")),
        ] {
            let read = serde_yaml::from_str::<Limits>(yaml).map_err(|error| error.to_string());
            let read = read.and_then(|limits| {
                limits.validate().map_err(|error| error.to_string())?;
                Ok(limits.with(&[]).iter().map(ToString::to_string).collect::<Vec<_>>())
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
