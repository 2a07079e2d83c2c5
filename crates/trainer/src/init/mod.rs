//! Existing weights to begin with (method row C7).

use std::collections::BTreeMap;
use std::path::PathBuf;

use elastic_runtime::initializers::ReadOnnxError;
use elastic_space::file::ReadError;
use elastic_space::{SearchSpace, Weights};
use safetensors::SafeTensorError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::parameters;
use crate::supernet::Network;

mod layout;
mod misfit;
mod rename;
mod source;

pub use misfit::{Misfit, Misshapen, Mistyped};

use source::{Source, Tensor};

/// Part of the name of every parameter of a transform: a file that knows no transforms lacks them.
const TRANSFORMS: &str = ".transforms.";

/// Where a run's first weights come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Init {
    /// A safetensors file, an ONNX file, or the supernet of a run or of one of its stages; relative to the
    /// working folder.
    pub from: PathBuf,
    /// Renames the file's tensors, rule after rule, before they are looked up by the supernet's names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub map: Vec<Rename>,
    /// How the file lays out its matrices.
    #[serde(default)]
    pub layout: Layout,
    /// The last stage that these weights have been through, for instance `2-depth`: the run begins with
    /// the next one. Left out, it begins with the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// One rule of [`Init::map`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rename {
    /// A regular expression; every match in a tensor's name is replaced.
    pub from: String,
    /// The replacement; `$1` stands for the first group. A tensor whose name becomes empty is left out.
    pub to: String,
}

/// How a file lays out its matrices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// As the supernet's own: a linear weight is `[inputs, outputs]`.
    #[default]
    Elastic,
    /// As PyTorch's modules: a linear weight is `[outputs, inputs]`, a patch embedding is a convolution.
    Pytorch,
}

/// Why a run cannot begin with the weights of a file.
#[derive(Debug, Error)]
pub enum InitError {
    /// The name of the file does not say what it is.
    #[error(
        "init.from is {}: its name must end in .safetensors or .onnx; convert another file first, for instance \
         by Python's safetensors.torch.save_file",
        path.display()
    )]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// A rule is no regular expression.
    #[error("init.map[{index}].from is `{from}`, which is no regular expression: {reason}")]
    Rule {
        /// Position of the rule.
        index: usize,
        /// What was given.
        from: String,
        /// What is wrong.
        reason: String,
    },
    /// A replacement names a group that its rule does not have; it would vanish in silence.
    #[error(
        "init.map[{index}].to is `{to}`, but `{from}` has no group `{group}`; a group before a letter, a digit or \
         `_` is written ${{1}}, and a dollar sign $$"
    )]
    Group {
        /// Position of the rule.
        index: usize,
        /// The rule.
        from: String,
        /// The replacement.
        to: String,
        /// The group.
        group: String,
    },
    /// The file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is no safetensors file, or it is cut short.
    #[error("read {}: {source}; the file is damaged or cut short: copy it anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: SafeTensorError,
    },
    /// The ONNX file could not be read.
    #[error(transparent)]
    Onnx(#[from] ReadOnnxError),
    /// What elastic wrote into the file cannot be read back.
    #[error(
        "read {}: {entry} in its metadata is damaged or from another version: {reason}; make the file anew",
        path.display()
    )]
    Metadata {
        /// The file.
        path: PathBuf,
        /// The key of the entry.
        entry: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// An exported file holds a smaller network than the supernet.
    #[error(
        "read {}: it holds the subnet `{found}`, a supernet begins with its largest one, `{expected}`; export that, \
         or change `space`",
        path.display()
    )]
    NotLargest {
        /// The file.
        path: PathBuf,
        /// The subnet in the file.
        found: String,
        /// The largest subnet of the search space.
        expected: String,
    },
    /// A file of ours is not laid out as PyTorch's modules are.
    #[error("read {}: elastic wrote it, so init.layout must be `elastic`, or be left out", path.display())]
    OwnLayout {
        /// The file.
        path: PathBuf,
    },
    /// Rules give several tensors one name.
    #[error("read {}: by init.map, {}", path.display(), rename::describe(clashes))]
    Clash {
        /// The file.
        path: PathBuf,
        /// Each new name, with the names of the file's tensors that it would stand for.
        clashes: BTreeMap<String, Vec<String>>,
    },
    /// Tensors do not fit the supernet.
    #[error(
        "read {}: {misfit}; rename tensors by init.map, or leave them out by renaming them to nothing, and say by \
         init.layout how they are laid out",
        path.display()
    )]
    Misfit {
        /// The file.
        path: PathBuf,
        /// All of them.
        misfit: Misfit,
    },
    /// The tensors are those of the supernet, but the network computes something else with them.
    #[error(
        "read {}: its tensors fit, but it is another network: its layer `{layer}` has other sizes; make the fixed \
         sizes in `space` those of the file",
        path.display()
    )]
    OtherNetwork {
        /// The file.
        path: PathBuf,
        /// The first layer that differs.
        layer: String,
    },
}

impl Init {
    /// Checks every rule that the type cannot hold; no file is opened.
    ///
    /// # Errors
    ///
    /// [`InitError`]: a rule that is no regular expression, or a file of an unknown kind.
    pub fn validate(&self) -> Result<(), InitError> {
        source::Kind::of(&self.from)?;
        rename::compile(&self.map).map(drop)
    }
}

/// The weights that a supernet begins with: exactly the tensors of `network`, the fresh supernet of `space`.
///
/// Parameters of transforms that the file lacks are those of `network`, which do nothing yet.
///
/// # Errors
///
/// [`InitError`] with the path. Tensors that do not fit are listed all at once.
pub fn weights(init: &Init, network: &Network, space: &SearchSpace) -> Result<Weights, InitError> {
    let rules = rename::compile(&init.map)?;
    let path = &init.from;
    let Source { tensors, exported, space: own } = source::read(path)?;
    if (exported.is_some() || own.is_some()) && init.layout == Layout::Pytorch {
        return Err(InitError::OwnLayout { path: path.clone() });
    }
    let largest = space.largest();
    if let Some(found) = exported.as_ref().filter(|subnet| **subnet != largest) {
        let (found, expected) = (found.to_string(), largest.to_string());
        return Err(InitError::NotLargest { path: path.clone(), found, expected });
    }
    let tensors =
        rename::apply(&rules, tensors).map_err(|clashes| InitError::Clash { path: path.clone(), clashes })?;
    let mut weights = fit(tensors, parameters::collect(network), init.layout, space)
        .map_err(|misfit| InitError::Misfit { path: path.clone(), misfit })?;
    if exported.is_some() {
        layout::unfold_scale(&mut weights, space);
    }
    if let Some(layer) = own.and_then(|own| layout::difference(&own, space)) {
        return Err(InitError::OtherNetwork { path: path.clone(), layer });
    }
    Ok(weights)
}

/// Brings the file's tensors into the shapes of `fresh`.
fn fit(
    tensors: BTreeMap<String, Tensor>,
    mut fresh: Weights,
    layout: Layout,
    space: &SearchSpace,
) -> Result<Weights, Misfit> {
    let (mut weights, mut misfit) = (Weights::new(), Misfit::default());
    for (name, tensor) in tensors {
        let Some(expected) = fresh.remove(&name) else {
            misfit.unknown.push(name);
            continue;
        };
        match tensor {
            Tensor::Other { kind } => misfit.mistyped.push(Mistyped { name, kind }),
            Tensor::Floats(array) => match layout::convert(&name, array, &expected.shape, layout, space) {
                Ok(array) => drop(weights.insert(name, array)),
                Err((found, expected)) => misfit.misshapen.push(Misshapen { name, found, expected }),
            },
        }
    }
    let (transforms, missing): (Weights, Weights) =
        fresh.into_iter().partition(|(name, _)| name.contains(TRANSFORMS));
    misfit.missing = missing.into_keys().collect();
    weights.extend(transforms);
    if misfit.is_empty() { Ok(weights) } else { Err(misfit) }
}
