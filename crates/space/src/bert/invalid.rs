//! What a BERT encoder's space must hold to.

use thiserror::Error;

use super::BertSpace;
use crate::choices::{InvalidChoices, check_size};
use crate::transformer::{InvalidLayers, check_transforms};

/// Why a [`BertSpace`] is refused.
#[derive(Debug, Error, PartialEq)]
pub enum InvalidBertSpace {
    /// A size.
    #[error(transparent)]
    Choices(#[from] InvalidChoices),
    /// The choices of the layers.
    #[error(transparent)]
    Layers(#[from] InvalidLayers),
}

impl BertSpace {
    /// Checks every rule that the type cannot hold.
    ///
    /// # Errors
    ///
    /// The first rule that is broken, with the field's name.
    pub fn validate(&self) -> Result<(), InvalidBertSpace> {
        for (field, size) in [
            ("vocabulary", self.vocabulary),
            ("length", self.length),
            ("segments", self.segments),
            ("classes", self.classes),
            ("head-dim", self.head_dim),
        ] {
            check_size(field, size)?;
        }
        self.choices().check("")?;
        Ok(check_transforms(&self.transforms)?)
    }
}
