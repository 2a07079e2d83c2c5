//! Whether a network of texts reads texts of any length.

use std::fmt;
use std::str::FromStr;

use elastic_space::SearchSpace;
use thiserror::Error;

use super::BuildError;

/// Tokens of each input of one run; images have one size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Sequence {
    /// Always as many as the network has positions.
    #[default]
    Fixed,
    /// As many as the caller brings, at most the network's positions; the dimension is called `sequence`.
    Dynamic,
}

/// A text that is neither.
#[derive(Debug, Error, PartialEq)]
#[error("sequence `{text}` is neither `fixed` nor `dynamic`")]
pub struct UnknownSequence {
    text: String,
}

impl Sequence {
    /// Checks that a space's networks can be written so.
    ///
    /// # Errors
    ///
    /// [`BuildError::Sequence`] if it is dynamic, and the networks read no texts.
    pub fn check(self, space: &SearchSpace) -> Result<(), BuildError> {
        match (self, space) {
            (Self::Fixed, _) | (_, SearchSpace::Bert(_)) => Ok(()),
            (Self::Dynamic, _) => Err(BuildError::Sequence { family: space.family().to_owned() }),
        }
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fixed => "fixed",
            Self::Dynamic => "dynamic",
        })
    }
}

impl FromStr for Sequence {
    type Err = UnknownSequence;

    fn from_str(text: &str) -> Result<Self, UnknownSequence> {
        let known = [Self::Fixed, Self::Dynamic];
        known
            .into_iter()
            .find(|s| s.to_string() == text)
            .ok_or_else(|| UnknownSequence { text: text.to_owned() })
    }
}
