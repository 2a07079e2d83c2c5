//! Writes a subnet as a standalone ONNX graph, in one of several [forms](Form). In all of them query, key and value are
//! one product, and the attention's scale is in the weights.
//!
//! One file a family. The counts of parameters and multiply-accumulates do not come from here: tests
//! read them from the written graph ([`read`]) and compare.

mod attention;
mod bert;
mod builder;
mod conv;
mod form;
mod operators;
pub mod read;
mod sequence;
mod swin;
mod transformer;
mod vit;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod reference_bert;
#[cfg(test)]
mod reference_conv;
#[cfg(test)]
mod reference_swin;
#[cfg(test)]
pub(crate) mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;

use elastic_space::{SearchSpace, Subnet, Weights};
use prost::Message;
use thiserror::Error;

use crate::onnx::{ModelProto, OperatorSetIdProto, StringStringEntryProto};
use builder::{Dim, GraphBuilder};
use form::Dialect;
pub use form::{CONTRIB, Form, NEWEST_OPSET, OLDEST_OPSET, UnknownForm, forms};
pub use sequence::{Sequence, UnknownSequence};

/// The name of the input, `[batch, channels, height, width]`, normalised.
pub const INPUT: &str = "images";
/// The names of the inputs of a network of texts, `[batch, tokens]` each, whole numbers of 64 bits: the tokens' ids, 1 for a
/// token and 0 for padding, the tokens' segments.
pub const TEXT_INPUTS: [&str; 3] = ["input_ids", "attention_mask", "token_type_ids"];
/// The name of the output, `[batch, classes]`.
pub const OUTPUT: &str = "logits";
/// The key under which the class names stand in the metadata, as a JSON list.
pub const CLASSES_KEY: &str = "elastic.classes";
/// A protobuf message cannot be longer, in bytes.
const LARGEST_FILE: u64 = i32::MAX as u64;

/// Inputs of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Batch {
    /// Always this many, at least 1.
    Fixed(usize),
    /// As many as the caller brings; the dimension is called `batch`.
    Dynamic,
}

/// What is written besides the network.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphOptions {
    /// Inputs of one run.
    pub batch: Batch,
    /// Tokens of each of them.
    pub sequence: Sequence,
    /// Which operators the graph is made of.
    pub form: Form,
    /// The version of the standard operators; [`Form::opset`] is the form's own.
    pub opset: i64,
    /// The classes in the order of the logits, or none.
    pub class_names: Vec<String>,
    /// Further entries of the file's metadata.
    pub metadata: BTreeMap<String, String>,
}

/// Why no graph can be written.
#[derive(Debug, Error, PartialEq)]
pub enum BuildError {
    /// A tensor is not there.
    #[error(
        "write subnet `{subnet}` as ONNX: the weights have no tensor `{name}` of shape {expected:?}: extract them for this subnet"
    )]
    Missing {
        /// The subnet.
        subnet: String,
        /// The tensor.
        name: String,
        /// The shape that it should have.
        expected: Vec<usize>,
    },
    /// A tensor does not have the subnet's shape.
    #[error(
        "write subnet `{subnet}` as ONNX: tensor `{name}` has shape {found:?} with {values} values, expected {expected:?}: extract the weights for this subnet"
    )]
    Misshapen {
        /// The subnet.
        subnet: String,
        /// The tensor.
        name: String,
        /// The shape that it should have.
        expected: Vec<usize>,
        /// The shape that it has.
        found: Vec<usize>,
        /// Number of its values.
        values: usize,
    },
    /// A tensor has no place in the subnet, so the weights are another network's.
    #[error(
        "write subnet `{subnet}` as ONNX: it has no tensor `{name}`, but the weights do: extract them for this subnet"
    )]
    Unexpected {
        /// The subnet.
        subnet: String,
        /// The tensor.
        name: String,
    },
    /// The batch size is zero.
    #[error("write ONNX with batch 0: it must be at least 1, or dynamic")]
    Batch,
    /// The family reads no sequences.
    #[error("write ONNX with a dynamic sequence: a {family} network reads images, which have one size")]
    Sequence {
        /// The family.
        family: String,
    },
    /// The family does not have the form.
    #[error("write ONNX in form `{form}`: a {family} network has {}", form::names(known))]
    Form {
        /// What was asked for.
        form: Form,
        /// The family.
        family: String,
        /// Its forms.
        known: Vec<Form>,
    },
    /// The standard operators of that version do not do.
    #[error(
        "write ONNX in opset {opset}: form `{form}` is written in {oldest} to {NEWEST_OPSET} (`{operator}`, as it is used, \
         came with {oldest})"
    )]
    Opset {
        /// The form.
        form: Form,
        /// What was asked for.
        opset: i64,
        /// The oldest that will do.
        oldest: i64,
        /// The operator that needs it.
        operator: &'static str,
    },
    /// The number of class names is not the number of logits.
    #[error("write ONNX with {found} class names: the network has {expected} classes")]
    ClassNames {
        /// The network's classes.
        expected: usize,
        /// Names that were given.
        found: usize,
    },
    /// The file would be longer than protobuf allows.
    #[error(
        "write subnet `{subnet}` as ONNX: {bytes} bytes of weights, a file holds at most {LARGEST_FILE}: choose a smaller subnet"
    )]
    TooLarge {
        /// The subnet.
        subnet: String,
        /// Bytes of its weights.
        bytes: u64,
    },
}

/// Where the values of a tensor come from.
pub(crate) enum Tensors<'a> {
    /// The network's weights, checked to have every tensor.
    Given(&'a Weights),
    /// Zeros of any shape.
    Zeros,
}

/// The subnet as the bytes of an ONNX file. Equal arguments give equal bytes.
///
/// The input is called [`INPUT`], those of texts [`TEXT_INPUTS`], and the output [`OUTPUT`].
///
/// # Errors
///
/// [`BuildError`] if `weights` are not exactly the tensors that the subnet's shape lists, or the options
/// do not fit the network.
pub fn build(
    space: &SearchSpace,
    subnet: &Subnet,
    weights: &Weights,
    options: &GraphOptions,
) -> Result<Vec<u8>, BuildError> {
    check(space, subnet, weights, options)?;
    Ok(model(space, subnet, &Tensors::Given(weights), options).encode_to_vec())
}

/// The exact length in bytes of the file that [`build`] writes; it does not depend on the values.
pub fn file_size(space: &SearchSpace, subnet: &Subnet, options: &GraphOptions) -> u64 {
    model(space, subnet, &Tensors::Zeros, options).encoded_len() as u64
}

/// The file that [`build`] writes with zeros in place of the weights.
pub(crate) fn zeros(space: &SearchSpace, subnet: &Subnet, options: &GraphOptions) -> Vec<u8> {
    model(space, subnet, &Tensors::Zeros, options).encode_to_vec()
}

impl Batch {
    fn dim(self) -> Dim {
        match self {
            Self::Fixed(size) => Dim::Fixed(size),
            Self::Dynamic => Dim::Batch(1),
        }
    }
}

impl Tensors<'_> {
    fn get(&self, name: &str, shape: &[usize]) -> Cow<'_, [f32]> {
        match self {
            Self::Given(weights) => {
                Cow::Borrowed(&weights.get(name).expect("`check` found every tensor of the shape").data)
            }
            Self::Zeros => Cow::Owned(vec![0.0; shape.iter().product()]),
        }
    }
}

fn check(
    space: &SearchSpace,
    subnet: &Subnet,
    weights: &Weights,
    options: &GraphOptions,
) -> Result<(), BuildError> {
    if options.batch == Batch::Fixed(0) {
        return Err(BuildError::Batch);
    }
    options.sequence.check(space)?;
    options.form.check(space, options.opset)?;
    let (expected, found) = (space.classes(), options.class_names.len());
    if found != 0 && found != expected {
        return Err(BuildError::ClassNames { expected, found });
    }
    let bytes = space.cost(subnet).weight_bytes();
    let subnet_text = || subnet.to_string();
    if bytes > LARGEST_FILE {
        return Err(BuildError::TooLarge { subnet: subnet_text(), bytes });
    }
    let tensors: BTreeMap<String, Vec<usize>> = space.shape(subnet).tensors().into_iter().collect();
    for (name, expected) in &tensors {
        let (name, expected) = (name.clone(), expected.clone());
        let Some(array) = weights.get(&name) else {
            return Err(BuildError::Missing { subnet: subnet_text(), name, expected });
        };
        if array.shape != expected || array.data.len() != expected.iter().product::<usize>() {
            let (found, values) = (array.shape.clone(), array.data.len());
            return Err(BuildError::Misshapen { subnet: subnet_text(), name, expected, found, values });
        }
    }
    match weights.keys().find(|name| !tensors.contains_key(*name)) {
        Some(name) => Err(BuildError::Unexpected { subnet: subnet_text(), name: name.clone() }),
        None => Ok(()),
    }
}

fn model(space: &SearchSpace, subnet: &Subnet, tensors: &Tensors<'_>, options: &GraphOptions) -> ModelProto {
    let dialect = Dialect { form: options.form, opset: options.opset };
    let mut graph = GraphBuilder::new(space.family(), dialect);
    let logits = match (space, subnet) {
        (SearchSpace::Vit(space), Subnet::Vit(subnet)) => {
            vit::add(&mut graph, space, subnet, options.batch, tensors)
        }
        (SearchSpace::Conv(space), Subnet::Conv(subnet)) => {
            conv::add(&mut graph, space, subnet, options.batch, tensors)
        }
        (SearchSpace::Swin(space), Subnet::Swin(subnet)) => {
            swin::add(&mut graph, space, subnet, options.batch, tensors)
        }
        (SearchSpace::Bert(space), Subnet::Bert(subnet)) => {
            bert::add(&mut graph, space, subnet, (options.batch, options.sequence), tensors)
        }
        (SearchSpace::Vit(_) | SearchSpace::Conv(_) | SearchSpace::Swin(_) | SearchSpace::Bert(_), _) => {
            panic!("subnet `{subnet}` is of another family than {}", space.family())
        }
    };
    let mut metadata = options.metadata.clone();
    if !options.class_names.is_empty() {
        let names = serde_json::Value::from(options.class_names.clone());
        metadata.insert(CLASSES_KEY.to_owned(), names.to_string());
    }
    let entry = |(key, value)| StringStringEntryProto { key: Some(key), value: Some(value) };
    let opset = |domain: &str, version| OperatorSetIdProto {
        domain: Some(domain.to_owned()),
        version: Some(version),
    };
    let contrib = (!options.form.is_standard()).then(|| opset(CONTRIB, 1));
    ModelProto {
        ir_version: Some(form::ir_version(options.opset)),
        opset_import: std::iter::once(opset("", options.opset)).chain(contrib).collect(),
        producer_name: Some("elastic".to_owned()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        graph: Some(graph.finish(&logits)),
        metadata_props: metadata.into_iter().map(entry).collect(),
    }
}
