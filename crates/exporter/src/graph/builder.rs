//! Puts an ONNX graph together: values with known shapes, constants, nodes in the order of their adding.
//!
//! Nothing here knows a family. The same calls always give the same bytes.

use std::collections::BTreeSet;

use super::form::{CONTRIB, Dialect};
use crate::onnx::{
    AttributeProto, GraphProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType, tensor_proto::DataType, tensor_shape_proto, type_proto,
};

/// The symbol of a batch size that is chosen at run time.
pub(super) const BATCH: &str = "batch";

/// The symbol of a number of tokens that is chosen at run time.
pub(super) const SEQUENCE: &str = "sequence";

/// How the names of constants begin that belong to formulas.
pub(super) const FORMULA: &str = "float.";

/// One dimension of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dim {
    /// A size that is known.
    Fixed(usize),
    /// The batch size of the run, times a number.
    Batch(usize),
    /// The tokens of each input of the run, times a number.
    Sequence(usize),
    /// The tokens of all inputs of the run, where neither is known.
    Tokens,
}

/// A value of the graph: an input, a constant or the result of a node.
#[derive(Debug, Clone)]
pub(super) struct Value {
    /// Its unique name.
    pub(super) name: String,
    /// Its shape.
    pub(super) dims: Vec<Dim>,
}

/// An attribute of a node.
#[derive(Debug, Clone)]
pub(super) enum Attribute {
    /// A real number.
    Float(f32),
    /// A whole number.
    Int(i64),
    /// Several whole numbers.
    Ints(Vec<i64>),
}

/// A graph that grows node by node.
#[derive(Debug)]
pub(super) struct GraphBuilder {
    /// What the operators are chosen by.
    pub(super) dialect: Dialect,
    graph: GraphProto,
    constants: BTreeSet<String>,
    /// See [`GraphBuilder::runs_on`].
    sizes: Option<Value>,
}

impl Value {
    /// In the place of an input that a node is not given.
    pub(super) fn left_out() -> Self {
        Self { name: String::new(), dims: Vec::new() }
    }
}

impl Dim {
    /// This dimension `factor` times.
    pub(super) fn times(self, factor: usize) -> Self {
        match self {
            Self::Fixed(size) => Self::Fixed(size * factor),
            Self::Batch(size) => Self::Batch(size * factor),
            Self::Sequence(size) => Self::Sequence(size * factor),
            Self::Tokens => unreachable!("what has two unknown sizes is not multiplied again"),
        }
    }

    /// As many of these as of those, in all.
    pub(super) fn by(self, other: Self) -> Self {
        match (self, other) {
            (size, Self::Fixed(factor)) | (Self::Fixed(factor), size) => size.times(factor),
            _ => Self::Tokens,
        }
    }

    /// Whether it is chosen at run time.
    pub(super) fn is_open(self) -> bool {
        !matches!(self, Self::Fixed(_))
    }

    /// One of `count` equal parts of this dimension.
    pub(super) fn part(self, count: usize) -> Self {
        match self {
            Self::Fixed(size) => Self::Fixed(size / count),
            Self::Batch(size) => Self::Batch(size / count),
            Self::Sequence(_) | Self::Tokens => unreachable!("texts are not cut in parts"),
        }
    }
}

/// Dimensions of known size.
pub(super) fn fixed(sizes: &[usize]) -> Vec<Dim> {
    sizes.iter().copied().map(Dim::Fixed).collect()
}

impl GraphBuilder {
    /// A graph without nodes.
    pub(super) fn new(name: &str, dialect: Dialect) -> Self {
        let graph = GraphProto { name: Some(name.to_owned()), ..GraphProto::default() };
        Self { dialect, graph, constants: BTreeSet::new(), sizes: None }
    }

    /// Declares a 32-bit float input.
    pub(super) fn input(&mut self, name: &str, dims: Vec<Dim>) -> Value {
        let value = Value { name: name.to_owned(), dims };
        self.graph.input.push(declare(&value, DataType::Float));
        value
    }

    /// Declares an input of whole numbers.
    pub(super) fn integer_input(&mut self, name: &str, dims: Vec<Dim>) -> Value {
        let value = Value { name: name.to_owned(), dims };
        self.graph.input.push(declare(&value, DataType::Int64));
        value
    }

    /// Remembers an input whose first two sizes are the batch and the sequence of the run, for shapes that have both.
    pub(super) fn runs_on(&mut self, input: &Value) {
        let rank = vec![Dim::Fixed(input.dims.len())];
        self.sizes = Some(self.integer_node("Shape", "input.sizes", &[input], &[], rank));
    }

    /// The sizes of the batch and the sequence, `[2]`; of an input that [`Self::runs_on`] was told.
    pub(super) fn sizes(&self) -> Value {
        self.sizes.clone().expect("what runs on sequences of any length says so first")
    }

    /// Adds a constant of 32-bit floats. One that belongs to a formula and is not learned has a name that begins
    /// with [`FORMULA`].
    pub(super) fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Value {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, shape, DataType::Float, bytes)
    }

    /// Adds a scalar, once for all that ask for the same name.
    pub(super) fn scalar(&mut self, name: &str, value: f32) -> Value {
        self.floats(name, &[], &[value])
    }

    /// Adds a list of whole numbers, once for all that ask for the same list.
    pub(super) fn integers(&mut self, values: &[i64]) -> Value {
        let words: Vec<String> = values.iter().map(ToString::to_string).collect();
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(&format!("int64.{}", words.join("_")), &[values.len()], DataType::Int64, bytes)
    }

    /// Adds indices under a name, once for all that ask for the same name.
    pub(super) fn indices(&mut self, name: &str, shape: &[usize], values: &[usize]) -> Value {
        let bytes = values.iter().flat_map(|&v| (v as i64).to_le_bytes()).collect();
        self.constant(&format!("index.{name}"), shape, DataType::Int64, bytes)
    }

    /// Adds one whole number without an axis, once for all that ask for the same number.
    pub(super) fn index(&mut self, value: i64) -> Value {
        self.constant(&format!("index.{value}"), &[], DataType::Int64, value.to_le_bytes().to_vec())
    }

    /// Adds a node with one result of 32-bit floats, which has the node's name.
    pub(super) fn node(
        &mut self,
        op_type: &str,
        name: &str,
        inputs: &[&Value],
        attributes: &[(&str, Attribute)],
        dims: Vec<Dim>,
    ) -> Value {
        let value = Value { name: name.to_owned(), dims };
        self.push(node(op_type, name, inputs, attributes), std::slice::from_ref(&value), DataType::Float);
        value
    }

    /// [`Self::node`] with an operator that is ONNX Runtime's own.
    pub(super) fn contrib_node(
        &mut self,
        op_type: &str,
        name: &str,
        inputs: &[&Value],
        attributes: &[(&str, Attribute)],
        dims: Vec<Dim>,
    ) -> Value {
        let value = Value { name: name.to_owned(), dims };
        let node = NodeProto { domain: Some(CONTRIB.to_owned()), ..node(op_type, name, inputs, attributes) };
        self.push(node, std::slice::from_ref(&value), DataType::Float);
        value
    }

    /// Adds a node with one result of whole numbers, which has the node's name.
    pub(super) fn integer_node(
        &mut self,
        op_type: &str,
        name: &str,
        inputs: &[&Value],
        attributes: &[(&str, Attribute)],
        dims: Vec<Dim>,
    ) -> Value {
        let value = Value { name: name.to_owned(), dims };
        self.push(node(op_type, name, inputs, attributes), std::slice::from_ref(&value), DataType::Int64);
        value
    }

    /// Cuts a value in equal parts along one axis; each part has the name in `names`.
    pub(super) fn split<const N: usize>(&mut self, x: &Value, axis: usize, names: [String; N]) -> [Value; N] {
        let Dim::Fixed(size) = x.dims[axis] else { panic!("what is chosen at run time is not split") };
        let part = size / N;
        let sizes = self.integers(&[part as i64; N]);
        let mut dims = x.dims.clone();
        dims[axis] = Dim::Fixed(part);
        let parts = names.map(|name| Value { name, dims: dims.clone() });
        let axis = [("axis", Attribute::Int(axis as i64))];
        let split = node("Split", &format!("{}.split", x.name), &[x, &sizes], &axis);
        self.push(split, &parts, DataType::Float);
        parts
    }

    /// Declares the value as an output and hands the graph over.
    pub(super) fn finish(mut self, output: &Value) -> GraphProto {
        self.graph.value_info.retain(|info| info.name.as_deref() != Some(&output.name));
        self.graph.output.push(declare(output, DataType::Float));
        self.graph
    }

    fn push(&mut self, mut node: NodeProto, outputs: &[Value], element: DataType) {
        node.output = outputs.iter().map(|value| value.name.clone()).collect();
        self.graph.value_info.extend(outputs.iter().map(|value| declare(value, element)));
        self.graph.node.push(node);
    }

    fn constant(&mut self, name: &str, shape: &[usize], element: DataType, bytes: Vec<u8>) -> Value {
        if self.constants.insert(name.to_owned()) {
            self.graph.initializer.push(TensorProto {
                dims: shape.iter().map(|&size| size as i64).collect(),
                data_type: Some(element.into()),
                name: Some(name.to_owned()),
                raw_data: Some(bytes),
            });
        }
        Value { name: name.to_owned(), dims: fixed(shape) }
    }
}

/// A node whose outputs are still to be named.
fn node(op_type: &str, name: &str, inputs: &[&Value], attributes: &[(&str, Attribute)]) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(|value| value.name.clone()).collect(),
        name: Some(name.to_owned()),
        op_type: Some(op_type.to_owned()),
        attribute: attributes.iter().map(|(name, value)| attribute(name, value)).collect(),
        ..NodeProto::default()
    }
}

fn attribute(name: &str, value: &Attribute) -> AttributeProto {
    let mut proto = AttributeProto { name: Some(name.to_owned()), ..AttributeProto::default() };
    match value {
        Attribute::Float(f) => {
            proto.f = Some(*f);
            proto.set_type(AttributeType::Float);
        }
        Attribute::Int(i) => {
            proto.i = Some(*i);
            proto.set_type(AttributeType::Int);
        }
        Attribute::Ints(ints) => {
            proto.ints.clone_from(ints);
            proto.set_type(AttributeType::Ints);
        }
    }
    proto
}

fn declare(value: &Value, element: DataType) -> ValueInfoProto {
    let dim = value.dims.iter().map(|&dim| tensor_shape_proto::Dimension {
        value: Some(match dim {
            Dim::Fixed(size) => tensor_shape_proto::dimension::Value::DimValue(size as i64),
            Dim::Batch(1) => tensor_shape_proto::dimension::Value::DimParam(BATCH.to_owned()),
            Dim::Batch(n) => tensor_shape_proto::dimension::Value::DimParam(format!("{n}*{BATCH}")),
            Dim::Sequence(1) => tensor_shape_proto::dimension::Value::DimParam(SEQUENCE.to_owned()),
            Dim::Sequence(n) => tensor_shape_proto::dimension::Value::DimParam(format!("{n}*{SEQUENCE}")),
            Dim::Tokens => tensor_shape_proto::dimension::Value::DimParam(format!("{BATCH}*{SEQUENCE}")),
        }),
    });
    let tensor = type_proto::Tensor {
        elem_type: Some(element.into()),
        shape: Some(TensorShapeProto { dim: dim.collect() }),
    };
    let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)) };
    ValueInfoProto { name: Some(value.name.clone()), r#type: Some(r#type) }
}
