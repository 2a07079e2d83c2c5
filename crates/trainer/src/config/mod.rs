//! A model file: a supernet's search space, its data and its training recipe.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use elastic_data::{DataConfig, InvalidData};
use elastic_space::file::{self, ReadError};
use elastic_space::search_space::{InvalidSpace, NotInSpace};
use elastic_space::{Dimension, SearchSpace, Seed, Subnet};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::init::{Init, InitError};
use crate::plan::{self, InvalidScheme};

mod recipe;
mod subnet_count;

pub use recipe::{
    BaseStage, Distillation, Ema, LearningRate, Optimizer, Patience, Progressive, Reduce, Scheme, Stage,
    Teacher, Training,
};
pub use subnet_count::SubnetCount;
pub(crate) use subnet_count::macs;

/// The only value of `schema` in a model file.
pub const SCHEMA: &str = "elastic.model/v1";

/// A supernet, its data and its training recipe: the content of `models/*.yaml` and of a run's
/// `config.yaml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Model {
    /// The file format: `elastic.model/v1`.
    pub schema: String,
    /// Under which licence exported models may be used, for instance `MIT`: it stands in their metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// The one source of all randomness.
    pub seed: u64,
    /// The choices of every elastic dimension.
    pub space: SearchSpace,
    /// Further subnets with names, besides `largest` and `smallest`.
    #[serde(default)]
    pub subnets: BTreeMap<String, Subnet>,
    /// The data set.
    pub data: DataConfig,
    /// Existing weights to begin with, instead of random ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
    /// The recipe.
    pub training: Training,
}

/// Why a model file is refused.
#[derive(Debug, Error)]
pub enum ModelError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Another file format.
    #[error("schema is `{found}`: this version reads `{SCHEMA}`")]
    Schema {
        /// What the file says.
        found: String,
    },
    /// The search space breaks a rule.
    #[error(transparent)]
    Space(#[from] InvalidSpace),
    /// The data's description breaks a rule.
    #[error(transparent)]
    Data(#[from] InvalidData),
    /// A named subnet is not in the space.
    #[error("subnets.{name}: {source}")]
    Subnet {
        /// Its name.
        name: String,
        /// The cause.
        source: NotInSpace,
    },
    /// A named subnet takes a name that every space has.
    #[error("subnets.{name}: the name is taken; `largest` and `smallest` are always there")]
    TakenName {
        /// The name.
        name: String,
    },
    /// A name that would lead into another folder.
    #[error(
        "subnets.{name}: a name is not empty, does not begin with a dot and has no `/` and no `\\`: it becomes a part of \
         files' names"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The weights to begin with are described wrongly.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The stages of the scheme break a rule.
    #[error("training.scheme.{0}")]
    Scheme(#[from] InvalidScheme),
    /// Nothing says on how many images batch normalisation is measured.
    #[error(
        "training.calibration-images is missing: space.{family} has batch normalisation, which is measured anew for \
         each subnet; say on how many training images, for instance 500"
    )]
    NotCalibrated {
        /// The family.
        family: &'static str,
    },
    /// The family has no batch normalisation to measure.
    #[error(
        "training.calibration-images is {images}, but space.{family} has no batch normalisation: leave it out"
    )]
    NothingToCalibrate {
        /// The family.
        family: &'static str,
        /// What was given.
        images: usize,
    },
    /// A number is out of its range.
    #[error("training.{field} is {value}: it must be {range}")]
    Range {
        /// The field's name in YAML.
        field: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        range: &'static str,
    },
}

impl Model {
    /// Reads a model file and checks it.
    ///
    /// # Errors
    ///
    /// [`ModelError`] for the first thing that is wrong.
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        let model: Self = file::read_yaml(path)?;
        model.validate()?;
        Ok(model)
    }

    /// Checks every rule that the type cannot hold.
    ///
    /// # Errors
    ///
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), ModelError> {
        if self.schema != SCHEMA {
            return Err(ModelError::Schema { found: self.schema.clone() });
        }
        self.space.validate()?;
        self.data.validate()?;
        for (name, subnet) in &self.subnets {
            if ["largest", "smallest"].contains(&name.as_str()) {
                return Err(ModelError::TakenName { name: name.clone() });
            }
            if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\']) {
                return Err(ModelError::Name { name: name.clone() });
            }
            self.space.encode(subnet).map_err(|source| ModelError::Subnet { name: name.clone(), source })?;
        }
        if let Some(init) = &self.init {
            init.validate()?;
        }
        self.training.validate()?;
        let family = self.space.family();
        match (self.space.needs_calibration(), self.training.calibration_images) {
            (true, None) => return Err(ModelError::NotCalibrated { family }),
            (false, Some(images)) => return Err(ModelError::NothingToCalibrate { family, images }),
            (true, Some(_)) | (false, None) => {}
        }
        plan::plan(self)?;
        Ok(())
    }

    /// The seed as a type.
    pub fn seed(&self) -> Seed {
        Seed(self.seed)
    }

    /// The same model with only some dimensions open: its space, and its named subnets.
    ///
    /// # Panics
    ///
    /// If a named subnet is not in the space; validation excludes it.
    #[must_use]
    pub fn restricted(&self, open: &BTreeSet<Dimension>) -> Self {
        let restrict = |(name, subnet): (&String, &Subnet)| {
            let subnet = self.space.restrict(subnet, open).expect("the model was validated");
            (name.clone(), subnet)
        };
        Self {
            space: self.space.restricted(open),
            subnets: self.subnets.iter().map(restrict).collect(),
            ..self.clone()
        }
    }

    /// `largest`, `smallest` and the subnets that the file names.
    pub fn named_subnets(&self) -> BTreeMap<String, Subnet> {
        self.space.named(&self.subnets)
    }
}
