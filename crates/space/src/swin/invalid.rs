//! What a Swin transformer's space must hold to.

use thiserror::Error;

use super::SwinSpace;
use crate::choices::{Granularity, InvalidChoices, check_size};
use crate::transformer::{InvalidLayers, check_transforms};

/// Why a [`SwinSpace`] is refused.
#[derive(Debug, Error, PartialEq)]
pub enum InvalidSwinSpace {
    /// A size.
    #[error(transparent)]
    Choices(#[from] InvalidChoices),
    /// The choices of the layers.
    #[error(transparent)]
    Layers(#[from] InvalidLayers),
    /// The patches do not cover the image.
    #[error("image-size {image} is not a multiple of patch-size {patch}: choose sizes that divide")]
    Patches {
        /// Pixels of the image.
        image: usize,
        /// Pixels of a patch.
        patch: usize,
    },
    /// There is no stage.
    #[error("stages is empty: list at least one")]
    NoStage,
    /// A stage has one token to merge.
    #[error(
        "stages.{stage} has nothing to merge: the stage before it has one token; list fewer stages or choose a smaller patch-size"
    )]
    NothingToMerge {
        /// The stage.
        stage: usize,
    },
    /// One choice for stages that have lists of their own.
    #[error("{field} is `network`, but every stage lists choices of its own: choose `layer` or `stage`")]
    PerNetwork {
        /// The field's name in YAML.
        field: String,
    },
}

impl SwinSpace {
    /// Checks every rule that the type cannot hold.
    ///
    /// # Errors
    ///
    /// The first rule that is broken, with the field's name.
    pub fn validate(&self) -> Result<(), InvalidSwinSpace> {
        for (field, size) in [
            ("image-size", self.image_size),
            ("channels", self.channels),
            ("patch-size", self.patch_size),
            ("classes", self.classes),
            ("window-size", self.window_size),
            ("head-dim", self.head_dim),
        ] {
            check_size(field, size)?;
        }
        if !self.image_size.is_multiple_of(self.patch_size) {
            return Err(InvalidSwinSpace::Patches { image: self.image_size, patch: self.patch_size });
        }
        if self.stages.is_empty() {
            return Err(InvalidSwinSpace::NoStage);
        }
        for (stage, choices) in self.stages.iter().enumerate() {
            if stage > 0 && self.side(stage - 1) == 1 {
                return Err(InvalidSwinSpace::NothingToMerge { stage });
            }
            choices.choices().check(&format!("stages.{stage}."))?;
            for (field, width) in [("heads", &choices.heads), ("mlp-width", &choices.mlp_width)] {
                if width.per == Granularity::Network {
                    return Err(InvalidSwinSpace::PerNetwork {
                        field: format!("stages.{stage}.{field}.per"),
                    });
                }
            }
        }
        Ok(check_transforms(&self.transforms)?)
    }
}
