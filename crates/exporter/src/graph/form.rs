//! The forms in which a subnet can be written: the same function in other operators.

use std::fmt;
use std::str::FromStr;

use elastic_space::SearchSpace;
use schemars::JsonSchema;
use serde::Serialize;
use thiserror::Error;

use super::BuildError;

/// The oldest version of the standard operators that can be asked for.
pub const OLDEST_OPSET: i64 = 13;
/// The newest version of the standard operators that can be asked for.
pub const NEWEST_OPSET: i64 = 23;
/// The domain of the operators that ONNX Runtime has beyond the standard.
pub const CONTRIB: &str = "com.microsoft";

/// Which operators a graph is made of. All forms of a subnet compute the same; a runtime may run one of them faster,
/// or may not know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// The operators that most runtimes know, of opset 17: attention from products and `Softmax`, GELU from `Erf`.
    Portable,
    /// The same with the `Gelu` of opset 20.
    Opset20,
    /// One `Attention` of opset 23 for scores, softmax and context, and `Gelu`.
    Attention23,
    /// ONNX Runtime's own `Attention`, from the normalised tokens to the context. Other runtimes do not know it.
    ContribAttention,
}

/// A text that names no form.
#[derive(Debug, Error, PartialEq)]
#[error("form `{text}` is unknown: there are {}", names(&Form::ALL))]
pub struct UnknownForm {
    text: String,
}

/// A form and the version of the standard operators that it is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dialect {
    pub(super) form: Form,
    pub(super) opset: i64,
}

impl Form {
    /// Every form.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Opset20, Self::Attention23, Self::ContribAttention];

    /// The name in commands and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Opset20 => "opset20",
            Self::Attention23 => "attention23",
            Self::ContribAttention => "contrib-attention",
        }
    }

    /// The version of the standard operators that the form is written in unless another is asked for.
    pub fn opset(self) -> i64 {
        match self {
            Self::Portable | Self::ContribAttention => 17,
            Self::Opset20 => 20,
            Self::Attention23 => 23,
        }
    }

    /// The oldest version that has the form's operators, and the operator that needs it.
    fn oldest(self) -> (i64, &'static str) {
        match self {
            Self::Portable | Self::ContribAttention => (OLDEST_OPSET, "Softmax"),
            Self::Opset20 => (20, "Gelu"),
            Self::Attention23 => (23, "Attention"),
        }
    }

    /// Whether all operators are of the ONNX standard.
    pub fn is_standard(self) -> bool {
        self != Self::ContribAttention
    }

    pub(super) fn has_gelu(self) -> bool {
        matches!(self, Self::Opset20 | Self::Attention23)
    }

    /// Checks that a space's networks can be written in this form, in this version of the standard operators.
    ///
    /// # Errors
    ///
    /// [`BuildError::Form`] if the family does not have the form, [`BuildError::Opset`] if the version is not one of
    /// [`OLDEST_OPSET`] to [`NEWEST_OPSET`] or lacks an operator of the form.
    pub fn check(self, space: &SearchSpace, opset: i64) -> Result<(), BuildError> {
        let known = forms(space);
        if !known.contains(&self) {
            return Err(BuildError::Form { form: self, family: space.family().to_owned(), known });
        }
        let (oldest, operator) = self.oldest();
        if (oldest..=NEWEST_OPSET).contains(&opset) {
            return Ok(());
        }
        Err(BuildError::Opset { form: self, opset, oldest, operator })
    }
}

/// The forms that the networks of a space have, the portable one first.
pub fn forms(space: &SearchSpace) -> Vec<Form> {
    match space {
        SearchSpace::Vit(_) | SearchSpace::Swin(_) | SearchSpace::Bert(_) => Form::ALL.to_vec(),
        // It has neither attention nor GELU, so all forms would be the same graph.
        SearchSpace::Conv(_) => vec![Form::Portable],
    }
}

/// Their names, in a list for people.
pub(super) fn names(forms: &[Form]) -> String {
    forms.iter().map(|form| form.name()).collect::<Vec<_>>().join(", ")
}

/// The version of the file format that came with a version of the standard operators.
pub(super) fn ir_version(opset: i64) -> i64 {
    match opset {
        ..=14 => 7,
        15..=18 => 8,
        19..=20 => 9,
        21..=22 => 10,
        _ => 11,
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Form {
    type Err = UnknownForm;

    fn from_str(text: &str) -> Result<Self, UnknownForm> {
        Self::ALL
            .into_iter()
            .find(|form| form.name() == text)
            .ok_or_else(|| UnknownForm { text: text.to_owned() })
    }
}
