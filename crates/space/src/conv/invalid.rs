//! What a convolutional network's space must hold to.

use thiserror::Error;

use super::{ConvSpace, ConvStageChoices};
use crate::choices::{Granularity, InvalidChoices, TransformKind, check_choices, check_size, last};
use crate::slot::Dimension;

/// The largest kernel; above it is a slip of the pen.
pub const MAX_KERNEL: usize = 15;

/// Why a [`ConvSpace`] is refused.
#[derive(Debug, Error, PartialEq)]
pub enum InvalidConvSpace {
    /// A size or a list of choices.
    #[error(transparent)]
    Choices(#[from] InvalidChoices),
    /// The largest resolution is not the input's.
    #[error("resolution ends with {largest}: the last choice must be image-size {image}")]
    Resolution {
        /// The largest choice.
        largest: usize,
        /// Pixels of the image.
        image: usize,
    },
    /// A batch normalisation that divides by nothing, or drowns the variance.
    #[error("norm-epsilon is {epsilon}: it must be above 0 and at most 0.1")]
    Epsilon {
        /// What was given.
        epsilon: f64,
    },
    /// A resolution would skip pixels of the input.
    #[error("resolution {smallest} is less than half of image-size {image}: pixels would be skipped, choose at least {}", image.div_ceil(2))]
    Skips {
        /// The smallest choice.
        smallest: usize,
        /// Pixels of the image.
        image: usize,
    },
    /// There is no stage.
    #[error("stages is empty: list at least one")]
    NoStage,
    /// A stride that no kernel of 3 covers.
    #[error("{field} is {stride}: it must be 1 or 2")]
    Stride {
        /// The field's name in YAML.
        field: String,
        /// What was given.
        stride: usize,
    },
    /// A kernel without a centre, or out of all proportion.
    #[error("{field} has {kernel}: a kernel is odd and at most {MAX_KERNEL}")]
    Kernel {
        /// The field's name in YAML.
        field: String,
        /// What was given.
        kernel: usize,
    },
    /// One choice for stages that have lists of their own.
    #[error("{field} is `network`, but every stage lists choices of its own: choose `layer` or `stage`")]
    PerNetwork {
        /// The field's name in YAML.
        field: String,
    },
    /// A dimension has no such transform.
    #[error(
        "transforms: {} has no `{}` in this family; kernel has identity and linear, width has all",
        dimension.name(), kind.name()
    )]
    Transform {
        /// The dimension.
        dimension: Dimension,
        /// The transform.
        kind: TransformKind,
    },
}

impl ConvSpace {
    /// Checks every rule that the type cannot hold.
    ///
    /// # Errors
    ///
    /// The first rule that is broken, with the field's name.
    pub fn validate(&self) -> Result<(), InvalidConvSpace> {
        for (field, size) in
            [("image-size", self.image_size), ("channels", self.channels), ("classes", self.classes)]
        {
            check_size(field, size)?;
        }
        check_choices("resolution", &self.resolution)?;
        let (smallest, largest, image) = (self.resolution[0], last(&self.resolution), self.image_size);
        if largest != image {
            return Err(InvalidConvSpace::Resolution { largest, image });
        }
        if 2 * smallest < image {
            return Err(InvalidConvSpace::Skips { smallest, image });
        }
        let epsilon = self.norm_epsilon;
        if !(epsilon > 0.0 && epsilon <= 0.1) {
            return Err(InvalidConvSpace::Epsilon { epsilon });
        }
        check_choices("stem.width", &self.stem.width)?;
        check_stride("stem.stride", self.stem.stride)?;
        if self.stages.is_empty() {
            return Err(InvalidConvSpace::NoStage);
        }
        for (index, stage) in self.stages.iter().enumerate() {
            stage.validate(index)?;
        }
        check_choices("head.width", &self.head.width)?;
        if !self.head.hidden.is_empty() {
            check_choices("head.hidden", &self.head.hidden)?;
        }
        let known = |dimension: Dimension, kind: TransformKind| match dimension {
            Dimension::Width => true,
            Dimension::Kernel => kind != TransformKind::Nonlinear,
            _ => false,
        };
        match self.transforms.iter().find(|&(&dimension, &kind)| !known(dimension, kind)) {
            Some((&dimension, &kind)) => Err(InvalidConvSpace::Transform { dimension, kind }),
            None => Ok(()),
        }
    }
}

impl ConvStageChoices {
    fn validate(&self, index: usize) -> Result<(), InvalidConvSpace> {
        let name = |field: &str| format!("stages.{index}.{field}");
        check_choices(&name("width"), &self.width)?;
        check_choices(&name("depth.choices"), &self.depth.choices)?;
        self.depth.check_layers(&name("depth"))?;
        check_stride(&name("stride"), self.stride)?;
        check_choices(&name("kernel.choices"), &self.kernel.choices)?;
        let sound = |kernel: &&usize| **kernel % 2 == 1 && **kernel <= MAX_KERNEL;
        if let Some(&kernel) = self.kernel.choices.iter().find(|kernel| !sound(kernel)) {
            return Err(InvalidConvSpace::Kernel { field: name("kernel.choices"), kernel });
        }
        if let Some(hidden) = &self.hidden {
            check_choices(&name("hidden.choices"), &hidden.choices)?;
        }
        match self.layer_choices().find(|(_, _, width)| width.per == Granularity::Network) {
            Some((field, ..)) => Err(InvalidConvSpace::PerNetwork { field: name(&format!("{field}.per")) }),
            None => Ok(()),
        }
    }
}

fn check_stride(field: &str, stride: usize) -> Result<(), InvalidConvSpace> {
    if matches!(stride, 1 | 2) {
        Ok(())
    } else {
        Err(InvalidConvSpace::Stride { field: field.to_owned(), stride })
    }
}
