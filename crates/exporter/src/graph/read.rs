//! Reads a written ONNX file: its metadata, its graph as text, and what it costs, counted from the
//! graph alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use prost::Message;
use thiserror::Error;

use super::bert::POSITIONS;
use super::builder::{BATCH, FORMULA, SEQUENCE};
use super::form::CONTRIB;
use crate::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, attribute_proto::AttributeType,
    tensor_proto::DataType, tensor_shape_proto, type_proto,
};
use crate::precision::QUANTISATION;

/// Why a file's graph is not understood.
#[derive(Debug, Error, PartialEq)]
pub enum ReadModelError {
    /// The bytes are no ONNX file.
    #[error("read the ONNX model: {0}; the file is damaged or of another kind: export it again")]
    Protobuf(#[from] prost::DecodeError),
    /// The file has no graph.
    #[error("read the ONNX model: it holds no graph; export it again")]
    NoGraph,
    /// The shape of a value is not written down.
    #[error(
        "count the ONNX model: the shape of `{value}` is not in the file; only files of elastic have all of them"
    )]
    Shape {
        /// The value.
        value: String,
    },
}

/// The file's metadata.
///
/// # Errors
///
/// [`ReadModelError`] if the bytes are no ONNX file with a graph.
pub fn read_metadata(model: &[u8]) -> Result<BTreeMap<String, String>, ReadModelError> {
    let model = decode(model)?.0;
    let entries = model.metadata_props.into_iter();
    Ok(entries.map(|entry| (entry.key.unwrap_or_default(), entry.value.unwrap_or_default())).collect())
}

/// Learned values: the elements of all constants of floats or quantised numbers, but for those that belong to formulas.
///
/// # Errors
///
/// [`ReadModelError`] if the bytes are no ONNX file with a graph.
pub fn params(model: &[u8]) -> Result<u64, ReadModelError> {
    let graph = decode(model)?.1;
    let numbers = [DataType::Float, DataType::Float16, DataType::Int8, DataType::Int32];
    let is_number = |tensor: &&TensorProto| numbers.iter().any(|&kind| tensor.data_type() == kind as i32);
    let is_learned = |tensor: &&TensorProto| {
        ![FORMULA, QUANTISATION].iter().any(|prefix| tensor.name().starts_with(prefix))
    };
    let learned = graph.initializer.iter().filter(is_number).filter(is_learned);
    Ok(learned.map(|tensor| tensor.dims.iter().product::<i64>() as u64).sum())
}

/// The versions of the operators that the file uses, by their domain; the standard's domain is empty.
///
/// # Errors
///
/// [`ReadModelError`] if the bytes are no ONNX file with a graph.
pub fn opsets(model: &[u8]) -> Result<BTreeMap<String, i64>, ReadModelError> {
    let sets = decode(model)?.0.opset_import.into_iter();
    Ok(sets.map(|set| (set.domain.unwrap_or_default(), set.version.unwrap_or_default())).collect())
}

/// Multiply-accumulates for one input: those of every `Gemm`, `MatMul`, `MatMulInteger`, `Conv` and `Attention`, which are all the
/// products that elastic's graphs hold, divided by the batch size. A sequence that the caller chooses counts at its longest.
///
/// # Errors
///
/// [`ReadModelError`] if the bytes are no ONNX file, or a shape that is needed is not in it.
pub fn macs(model: &[u8]) -> Result<u64, ReadModelError> {
    let graph = decode(model)?.1;
    let shapes = shapes(&graph);
    let shape = |name: &str| shapes.get(name).ok_or_else(|| ReadModelError::Shape { value: name.to_owned() });
    let mut macs = 0;
    for node in &graph.node {
        let inner: u64 = match node.op_type() {
            "Gemm" | "MatMul" | "MatMulInteger" => shape(&node.input[0])?.last().copied().unwrap_or(1),
            // A kernel is [outputs, inputs, height, width].
            "Conv" => shape(&node.input[1])?.iter().skip(1).product(),
            // The result is [sequences, tokens, features]; every feature comes from two products with all tokens, and
            // ONNX Runtime's operator makes query, key and value from the features of its input.
            "Attention" => {
                let tokens = shape(&node.output[0])?.get(1).copied().unwrap_or(1);
                let projected = if node.domain() == CONTRIB { 3 * shape(&node.input[1])?[0] } else { 0 };
                2 * tokens + projected
            }
            _ => continue,
        };
        macs += inner * shape(&node.output[0])?.iter().product::<u64>();
    }
    let input = graph.input.first().and_then(|input| input.name.as_deref()).unwrap_or_default();
    Ok(macs / shape(input)?.first().copied().unwrap_or(1).max(1))
}

/// The graph as text: inputs, one node a line in the order in which they run, outputs. Values that the
/// nodes make and constants are followed by their shape.
///
/// # Errors
///
/// [`ReadModelError`] if the bytes are no ONNX file with a graph.
pub fn text(model: &[u8]) -> Result<String, ReadModelError> {
    let graph = decode(model)?.1;
    let shapes = symbolic_shapes(&graph);
    let constants: BTreeSet<&str> = graph.initializer.iter().map(TensorProto::name).collect();
    let with_shape = |name: &str| format!("{name}[{}]", shapes.get(name).map_or("?".into(), |s| s.join(",")));
    let mut text = String::new();
    let mut line = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("a String takes any text");
    for input in &graph.input {
        line(format_args!("input {}", with_shape(input.name.as_deref().unwrap_or_default())));
    }
    for node in &graph.node {
        let inputs: Vec<String> = node
            .input
            .iter()
            .map(|name| if constants.contains(name.as_str()) { with_shape(name) } else { name.clone() })
            .collect();
        let outputs: Vec<String> = node.output.iter().map(|name| with_shape(name)).collect();
        let (inputs, outputs) = (inputs.join(", "), outputs.join(", "));
        line(format_args!("{}{} {}: {inputs} -> {outputs}", node.op_type(), attributes(node), node.name()));
    }
    for output in &graph.output {
        line(format_args!("output {}", with_shape(output.name.as_deref().unwrap_or_default())));
    }
    Ok(text)
}

fn decode(model: &[u8]) -> Result<(ModelProto, GraphProto), ReadModelError> {
    let mut model = ModelProto::decode(model)?;
    let graph = model.graph.take().ok_or(ReadModelError::NoGraph)?;
    Ok((model, graph))
}

/// Every shape that the file holds, dimensions as text.
fn symbolic_shapes(graph: &GraphProto) -> BTreeMap<&str, Vec<String>> {
    let mut shapes = BTreeMap::new();
    for tensor in &graph.initializer {
        shapes.insert(tensor.name(), tensor.dims.iter().map(ToString::to_string).collect());
    }
    for value in graph.input.iter().chain(&graph.output).chain(&graph.value_info) {
        let shape = value.r#type.as_ref().and_then(|kind| match &kind.value {
            Some(type_proto::Value::TensorType(tensor)) => tensor.shape.as_ref(),
            None => None,
        });
        if let (Some(name), Some(shape)) = (value.name.as_deref(), shape) {
            let dims = shape.dim.iter().map(|dim| match &dim.value {
                Some(tensor_shape_proto::dimension::Value::DimValue(size)) => size.to_string(),
                Some(tensor_shape_proto::dimension::Value::DimParam(symbol)) => symbol.clone(),
                None => "?".to_owned(),
            });
            shapes.insert(name, dims.collect());
        }
    }
    shapes
}

/// Every shape that is known for batch 1 and, where the caller chooses it, the longest sequence.
fn shapes(graph: &GraphProto) -> BTreeMap<&str, Vec<u64>> {
    let positions = graph.initializer.iter().find(|tensor| tensor.name() == POSITIONS);
    let longest = positions.and_then(|tensor| tensor.dims.first()).map(|&size| size as u64);
    let factor = |word: &str| match word {
        BATCH => Some(1),
        SEQUENCE => longest,
        number => number.parse().ok(),
    };
    let size = |dim: &String| dim.split('*').map(factor).product::<Option<u64>>();
    let known = |(name, dims): (_, Vec<String>)| Some((name, dims.iter().map(size).collect::<Option<_>>()?));
    symbolic_shapes(graph).into_iter().filter_map(known).collect()
}

fn attributes(node: &NodeProto) -> String {
    if node.attribute.is_empty() {
        return String::new();
    }
    let value = |a: &AttributeProto| match a.r#type() {
        AttributeType::Float => format!("{:e}", a.f()),
        AttributeType::Int => a.i().to_string(),
        AttributeType::Ints => format!("{:?}", a.ints),
        AttributeType::Undefined => "?".to_owned(),
    };
    let words: Vec<String> = node.attribute.iter().map(|a| format!("{}={}", a.name(), value(a))).collect();
    format!("{{{}}}", words.join(" "))
}
