//! Existing weights to begin with (method row C7).

use std::collections::BTreeMap;
use std::path::PathBuf;

use elastic_runtime::initializers::ReadOnnxError;
use elastic_space::file::ReadError;
use elastic_space::{Array, SearchSpace, Weights};
use pytorch_reader::PytorchError;
use safetensors::SafeTensorError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::layers::{Moments, Statistics};
use crate::parameters;
use crate::sort;
use crate::supernet::Network;

mod layout;
mod misfit;
mod rename;
mod source;

pub use misfit::{Misfit, Misshapen, Mistyped};

use source::{Source, Tensor};

/// Part of the name of every parameter of a transform: a file that knows no transforms lacks them.
const TRANSFORMS: &str = ".transforms.";
/// After the name of a batch normalisation: its running mean, as PyTorch calls it.
const MEAN: &str = ".running_mean";
/// After the name of a batch normalisation: its running variance, as PyTorch calls it.
const VARIANCE: &str = ".running_var";

/// Where a run's first weights come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Init {
    /// A safetensors, ONNX or PyTorch file, or the supernet of a run or of one of its stages; relative to the
    /// working folder.
    pub from: PathBuf,
    /// Renames the file's tensors, rule after rule, before they are looked up by the supernet's names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub map: Vec<Rename>,
    /// How the file lays out its matrices.
    #[serde(default)]
    pub layout: Layout,
    /// Regular expressions: tensors of the supernet whose whole name one matches begin at random; the file's
    /// tensors of these names are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fresh: Vec<String>,
    /// Whether hidden channels, features and heads are sorted, the most important first: as a smaller subnet keeps the
    /// first, it then begins better. The largest network computes the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sort_channels: bool,
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
        "init.from is {}: its name must end in .safetensors, .onnx, .pth or .pt; convert another file first, for \
         instance by Python's safetensors.torch.save_file",
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
    /// It is no file of PyTorch's that could be read, or it is cut short.
    #[error(
        "read {}: {source}; it is damaged or cut short, or holds more than tensors: save the network's state_dict() by \
         torch.save",
        path.display()
    )]
    Pytorch {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: Box<PytorchError>,
    },
    /// A pattern of tensors that begin at random is no regular expression.
    #[error("init.fresh[{index}] is `{pattern}`, which is no regular expression: {reason}")]
    Fresh {
        /// Position of the pattern.
        index: usize,
        /// What was given.
        pattern: String,
        /// What is wrong.
        reason: String,
    },
    /// A pattern of tensors that begin at random matches none.
    #[error(
        "init.fresh[{index}] is `{pattern}`, which is the whole name of no tensor: the names are those of the supernet, \
         such as {example}"
    )]
    NothingFresh {
        /// Position of the pattern.
        index: usize,
        /// What was given.
        pattern: String,
        /// The name of a tensor.
        example: String,
    },
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
    /// Learned transforms belong to the channels as they stand.
    #[error(
        "read {}: `{tensor}` is a learned transform of the first channels as they stand: leave init.sort-channels out",
        path.display()
    )]
    SortsTransformed {
        /// The file.
        path: PathBuf,
        /// The transform's tensor.
        tensor: String,
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
        rename::compile(&self.map)?;
        rename::whole_names(&self.fresh).map(drop)
    }
}

/// What a supernet begins with.
pub struct Initial {
    /// Exactly the tensors of the supernet.
    pub weights: Weights,
    /// The running mean and variance of its batch normalisations, where the file has them: those of the largest
    /// subnet, as the file's network was trained. They are no part of a supernet, whose subnets are measured.
    pub statistics: Option<Statistics>,
}

/// The weights of [`load`].
///
/// # Errors
///
/// [`InitError`] with the path. Tensors that do not fit are listed all at once.
pub fn weights(init: &Init, network: &Network, space: &SearchSpace) -> Result<Weights, InitError> {
    load(init, network, space).map(|initial| initial.weights)
}

/// What a supernet begins with, where `network` is the fresh supernet of `space`.
///
/// Parameters of transforms that the file lacks are those of `network`, which do nothing yet.
///
/// # Errors
///
/// [`InitError`] with the path. Tensors that do not fit are listed all at once.
pub fn load(init: &Init, network: &Network, space: &SearchSpace) -> Result<Initial, InitError> {
    let rules = rename::compile(&init.map)?;
    let random = rename::whole_names(&init.fresh)?;
    let path = &init.from;
    let fresh = parameters::collect(network);
    if let Some(index) = random.iter().position(|pattern| !fresh.keys().any(|name| pattern.is_match(name))) {
        let example = fresh.into_keys().next().unwrap_or_default();
        return Err(InitError::NothingFresh { index, pattern: init.fresh[index].clone(), example });
    }
    let Source { tensors, exported, space: own } = source::read(path)?;
    if (exported.is_some() || own.is_some()) && init.layout == Layout::Pytorch {
        return Err(InitError::OwnLayout { path: path.clone() });
    }
    let largest = space.largest();
    if let Some(found) = exported.as_ref().filter(|subnet| **subnet != largest) {
        let (found, expected) = (found.to_string(), largest.to_string());
        return Err(InitError::NotLargest { path: path.clone(), found, expected });
    }
    let mut tensors =
        rename::apply(&rules, tensors).map_err(|clashes| InitError::Clash { path: path.clone(), clashes })?;
    if init.layout == Layout::Pytorch {
        tensors = layout::join(tensors);
    }
    let is_random = |name: &str| random.iter().any(|pattern| pattern.is_match(name));
    tensors.retain(|name, _| !is_random(name));
    let (kept, mut expected): (Weights, Weights) = fresh.into_iter().partition(|(name, _)| is_random(name));
    let of_channels = |name: &&String| name.contains(TRANSFORMS) && !name.contains(".depthwise.transforms.");
    if let (true, Some(tensor)) = (init.sort_channels, tensors.keys().find(of_channels)) {
        return Err(InitError::SortsTransformed { path: path.clone(), tensor: tensor.clone() });
    }
    let norms = running(network, &mut tensors, &mut expected);
    let mut weights = fit(tensors, expected, init.layout, space)
        .map_err(|misfit| InitError::Misfit { path: path.clone(), misfit })?;
    weights.extend(kept);
    if exported.is_some() {
        layout::unfold_scale(&mut weights, space);
    }
    if let Some(layer) = own.and_then(|own| layout::difference(&own, space)) {
        return Err(InitError::OtherNetwork { path: path.clone(), layer });
    }
    if init.sort_channels {
        sort::by_importance(&mut weights, space, &sort::SORTABLE.into());
    }
    let mut take = |name: String| weights.remove(&name).expect("it was looked for").data;
    let moments = norms
        .iter()
        .map(|norm| Moments::new(take(format!("{norm}{MEAN}")), take(format!("{norm}{VARIANCE}"))));
    let statistics: Statistics = moments.collect();
    Ok(Initial { weights, statistics: (!norms.is_empty()).then_some(statistics) })
}

/// The batch normalisations whose running statistics the file must have, which `expected` then has too: all of them if it
/// has those of any, else none. Where one begins at random, statistics of the others are worth nothing, and left out.
fn running(network: &Network, tensors: &mut BTreeMap<String, Tensor>, expected: &mut Weights) -> Vec<String> {
    let Network::Conv(conv) = network else { return Vec::new() };
    let norms = conv.normalisations();
    let names = |norm: &String| [MEAN, VARIANCE].map(|suffix| format!("{norm}{suffix}"));
    if !norms.iter().flat_map(names).any(|name| tensors.contains_key(&name)) {
        return Vec::new();
    }
    let scales: Option<Vec<Array>> =
        norms.iter().map(|norm| expected.get(&format!("{norm}.weight")).cloned()).collect();
    let Some(scales) = scales else {
        norms.iter().flat_map(names).for_each(|name| drop(tensors.remove(&name)));
        return Vec::new();
    };
    for (norm, scale) in norms.iter().zip(scales) {
        expected.extend(names(norm).map(|name| (name, scale.clone())));
    }
    norms
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
