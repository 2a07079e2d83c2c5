//! Budgets: a quantity and its limit, written `<number><unit>`, or `<quantity>=<number><unit>` where the unit is one of several
//! quantities.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a budget limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// Floating-point operations for one input; 1 MAC = 2 FLOPs.
    Flops,
    /// Multiply-accumulates for one input.
    Macs,
    /// Learned values.
    Params,
    /// Bytes of the ONNX file.
    FileSize,
    /// Median time of one run on a platform, in microseconds.
    Latency,
    /// Bytes that a process holds at most which loads and runs the model on a platform, its runtime and itself included.
    Memory,
    /// Energy of one run on a platform, in microjoules, of its whole processor or board.
    Energy,
}

/// A limit on one quantity.
///
/// In files and on the command line it is text: `2gflops`, `300mmacs`, `500kparams`, `2MB`, `3ms`, `memory=80MB`, `2mJ`. Bytes
/// are those of the file unless `memory` is named.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Budget {
    /// What is limited.
    pub quantity: Quantity,
    /// The limit, inclusive, in the quantity's base unit (operations, values, bytes, microseconds,
    /// microjoules).
    pub limit: f64,
}

/// Why a text is no budget.
#[derive(Debug, Error, PartialEq)]
pub enum InvalidBudget {
    /// The text does not begin with a number.
    #[error("budget `{text}` does not begin with a number: write for instance `2gflops` or `3ms`")]
    Number {
        /// What was given.
        text: String,
    },
    /// The number is zero, negative or not finite.
    #[error("budget `{text}` is not above zero")]
    Range {
        /// What was given.
        text: String,
    },
    /// There is no unit.
    #[error("budget `{text}` has no unit: add one of {UNITS_TEXT}")]
    NoUnit {
        /// What was given.
        text: String,
    },
    /// The unit is not known.
    #[error("budget `{text}` has the unknown unit `{unit}`: use one of {UNITS_TEXT}")]
    Unit {
        /// What was given.
        text: String,
        /// The part after the number.
        unit: String,
    },
    /// The word before `=` is no quantity.
    #[error("budget `{text}` limits the unknown quantity `{name}`: use one of {}", names())]
    Quantity {
        /// What was given.
        text: String,
        /// The part before `=`.
        name: String,
    },
    /// The unit is another quantity's.
    #[error("budget `{text}` gives {} a unit of {}: write for instance `{}`", asked.name(), found.name(), asked.example())]
    OtherQuantity {
        /// What was given.
        text: String,
        /// What is limited.
        asked: Quantity,
        /// What the unit belongs to.
        found: Quantity,
    },
}

const UNITS_TEXT: &str = "mflops gflops tflops, kmacs mmacs gmacs, params kparams mparams, KB MB GB (KiB MiB GiB), us ms s, uJ mJ J";

const UNITS: [(&str, Quantity, f64); 28] = [
    ("flops", Quantity::Flops, 1.0),
    ("kflops", Quantity::Flops, 1e3),
    ("mflops", Quantity::Flops, 1e6),
    ("gflops", Quantity::Flops, 1e9),
    ("tflops", Quantity::Flops, 1e12),
    ("macs", Quantity::Macs, 1.0),
    ("kmacs", Quantity::Macs, 1e3),
    ("mmacs", Quantity::Macs, 1e6),
    ("gmacs", Quantity::Macs, 1e9),
    ("tmacs", Quantity::Macs, 1e12),
    ("params", Quantity::Params, 1.0),
    ("kparams", Quantity::Params, 1e3),
    ("mparams", Quantity::Params, 1e6),
    ("gparams", Quantity::Params, 1e9),
    ("b", Quantity::FileSize, 1.0),
    ("kb", Quantity::FileSize, 1e3),
    ("mb", Quantity::FileSize, 1e6),
    ("gb", Quantity::FileSize, 1e9),
    ("kib", Quantity::FileSize, 1024.0),
    ("mib", Quantity::FileSize, 1_048_576.0),
    ("gib", Quantity::FileSize, 1_073_741_824.0),
    ("us", Quantity::Latency, 1.0),
    ("µs", Quantity::Latency, 1.0),
    ("ms", Quantity::Latency, 1e3),
    ("s", Quantity::Latency, 1e6),
    ("uj", Quantity::Energy, 1.0),
    ("mj", Quantity::Energy, 1e3),
    ("j", Quantity::Energy, 1e6),
];

/// What a budget can limit, by its name.
fn names() -> String {
    Quantity::ALL.map(Quantity::name).join(" ")
}

impl Budget {
    /// The limit as a duration, for a latency budget.
    pub fn latency(self) -> Option<Duration> {
        (self.quantity == Quantity::Latency).then(|| Duration::from_secs_f64(self.limit / 1e6))
    }
}

impl Quantity {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Flops, Self::Macs, Self::Params, Self::FileSize, Self::Latency, Self::Memory, Self::Energy];

    /// Whether it is known of a platform alone, and by measuring.
    pub fn is_measured(self) -> bool {
        matches!(self, Self::Latency | Self::Memory | Self::Energy)
    }

    /// Its name in YAML and before `=`, as its [`Self::example`] begins.
    pub fn name(self) -> &'static str {
        self.example().split('=').next().unwrap_or_default()
    }

    /// A budget of it, its name written out.
    pub fn example(self) -> &'static str {
        match self {
            Self::Flops => "flops=2gflops",
            Self::Macs => "macs=300mmacs",
            Self::Params => "params=500kparams",
            Self::FileSize => "file-size=2MB",
            Self::Latency => "latency=3ms",
            Self::Memory => "memory=80MB",
            Self::Energy => "energy=2mJ",
        }
    }

    /// The quantity that its units are listed under.
    fn of_units(self) -> Self {
        if self == Self::Memory { Self::FileSize } else { self }
    }

    /// Writes a value of this quantity with a unit that suits its size, for people.
    pub fn format(self, value: f64) -> String {
        let prefix = |unit: &str| match value {
            v if v >= 1e9 => format!("{:.2} G{unit}", v / 1e9),
            v if v >= 1e6 => format!("{:.2} M{unit}", v / 1e6),
            v if v >= 1e3 => format!("{:.1} k{unit}", v / 1e3),
            v => format!("{v:.0} {unit}"),
        };
        match self {
            Self::Flops => prefix("FLOPs"),
            Self::Macs => prefix("MACs"),
            Self::Params => prefix("params"),
            Self::FileSize | Self::Memory => prefix("B"),
            Self::Latency if value >= 1e3 => format!("{:.3} ms", value / 1e3),
            Self::Latency => format!("{value:.1} us"),
            Self::Energy if value >= 1e3 => format!("{:.3} mJ", value / 1e3),
            Self::Energy => format!("{value:.1} uJ"),
        }
    }
}

/// A name that is no quantity's.
#[derive(Debug, Error, PartialEq)]
#[error("unknown quantity `{name}`: use one of {}", names())]
pub struct UnknownQuantity {
    /// What was given.
    name: String,
}

impl FromStr for Quantity {
    type Err = UnknownQuantity;

    fn from_str(name: &str) -> Result<Self, UnknownQuantity> {
        let quantity = Self::ALL.into_iter().find(|quantity| quantity.name().eq_ignore_ascii_case(name));
        quantity.ok_or_else(|| UnknownQuantity { name: name.to_owned() })
    }
}

/// The quantity of a name, in a budget's text.
fn named(name: &str, text: &str) -> Result<Quantity, InvalidBudget> {
    let unknown = |UnknownQuantity { name }| InvalidBudget::Quantity { text: text.to_owned(), name };
    name.parse().map_err(unknown)
}

impl FromStr for Budget {
    type Err = InvalidBudget;

    fn from_str(text: &str) -> Result<Self, InvalidBudget> {
        let (asked, trimmed) = match text.split_once('=') {
            Some((name, rest)) => (Some(named(name.trim(), text)?), rest.trim()),
            None => (None, text.trim()),
        };
        let split = trimmed
            .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | '_')))
            .unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(split);
        let number: f64 = number
            .replace('_', "")
            .parse()
            .map_err(|_: std::num::ParseFloatError| InvalidBudget::Number { text: text.to_owned() })?;
        let unit = unit.trim();
        if unit.is_empty() {
            return Err(InvalidBudget::NoUnit { text: text.to_owned() });
        }
        let &(_, found, scale) = UNITS
            .iter()
            .find(|(name, ..)| *name == unit.to_lowercase())
            .ok_or_else(|| InvalidBudget::Unit { text: text.to_owned(), unit: unit.to_owned() })?;
        let quantity = asked.unwrap_or(found);
        if quantity.of_units() != found {
            return Err(InvalidBudget::OtherQuantity { text: text.to_owned(), asked: quantity, found });
        }
        let limit = number * scale;
        if limit > 0.0 && limit.is_finite() {
            Ok(Self { quantity, limit })
        } else {
            Err(InvalidBudget::Range { text: text.to_owned() })
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = self.quantity.of_units();
        let (unit, _, scale) = UNITS
            .iter()
            .filter(|(_, quantity, scale)| *quantity == listed && *scale <= self.limit)
            .filter(|(unit, ..)| unit.is_ascii() && !unit.ends_with("ib"))
            .max_by(|a, b| a.2.total_cmp(&b.2))
            .or_else(|| UNITS.iter().find(|(_, quantity, _)| *quantity == listed))
            .expect("every quantity has a unit");
        let unit = match listed {
            Quantity::FileSize => unit.to_uppercase(),
            Quantity::Energy => unit.replace('j', "J"),
            _ => (*unit).to_owned(),
        };
        if listed != self.quantity {
            write!(f, "{}=", self.quantity.name())?;
        }
        write!(f, "{}{unit}", self.limit / scale)
    }
}

impl TryFrom<String> for Budget {
    type Error = InvalidBudget;

    fn try_from(text: String) -> Result<Self, InvalidBudget> {
        text.parse()
    }
}

impl From<Budget> for String {
    fn from(budget: Budget) -> Self {
        budget.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_their_limits() {
        for (text, quantity, limit) in [
            ("2gflops", Quantity::Flops, 2e9),
            ("1.5 GMACs", Quantity::Macs, 1.5e9),
            ("300mmacs", Quantity::Macs, 3e8),
            ("500kparams", Quantity::Params, 5e5),
            ("2Mparams", Quantity::Params, 2e6),
            ("800KB", Quantity::FileSize, 8e5),
            ("1MiB", Quantity::FileSize, 1_048_576.0),
            ("3ms", Quantity::Latency, 3e3),
            ("250us", Quantity::Latency, 250.0),
            ("latency = 250us", Quantity::Latency, 250.0),
            ("memory=80MB", Quantity::Memory, 8e7),
            ("file-size=80KiB", Quantity::FileSize, 81_920.0),
            ("2mJ", Quantity::Energy, 2e3),
        ] {
            assert_eq!(text.parse(), Ok(Budget { quantity, limit }), "{text}");
            let written = Budget { quantity, limit }.to_string();
            let again: Budget = written.parse().expect("what is written can be read");
            assert!((again.limit / limit - 1.0).abs() < 1e-12, "{text} -> {written}");
        }
    }

    #[test]
    fn texts_that_are_refused() {
        for (text, reason) in [
            ("", "does not begin with a number"),
            ("gflops", "does not begin with a number"),
            ("2", "has no unit"),
            ("2gflop", "unknown unit `gflop`"),
            ("2 parsecs", "unknown unit `parsecs`"),
            ("speed=2ms", "unknown quantity `speed`: use one of flops macs params"),
            ("memory=2ms", "gives memory a unit of latency: write for instance `memory=80MB`"),
            ("0ms", "not above zero"),
            ("-1gflops", "not above zero"),
            ("1.2.3ms", "does not begin with a number"),
        ] {
            let error = text.parse::<Budget>().expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
