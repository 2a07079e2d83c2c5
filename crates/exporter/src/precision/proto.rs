//! Pieces of a graph, by name.

use std::collections::BTreeMap;

use crate::onnx::{
    AttributeProto, GraphProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType, tensor_proto::DataType, type_proto,
};

/// A node; it has its first output's name.
pub(super) fn node(op_type: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    NodeProto {
        name: outputs.first().map(ToString::to_string),
        op_type: Some(op_type.to_owned()),
        input: owned(inputs),
        output: owned(outputs),
        ..NodeProto::default()
    }
}

/// The same node with one more attribute.
pub(super) fn with_int(mut node: NodeProto, name: &str, value: i64) -> NodeProto {
    let mut attribute =
        AttributeProto { name: Some(name.to_owned()), i: Some(value), ..AttributeProto::default() };
    attribute.set_type(AttributeType::Int);
    node.attribute.push(attribute);
    node
}

/// A constant.
pub(super) fn tensor(name: &str, dims: &[i64], element: DataType, bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        dims: dims.to_vec(),
        data_type: Some(element.into()),
        name: Some(name.to_owned()),
        raw_data: Some(bytes),
    }
}

/// A constant of 32-bit floats.
pub(super) fn floats_tensor(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    tensor(name, dims, DataType::Float, values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// The values of a constant of 32-bit floats.
pub(super) fn floats(tensor: &TensorProto) -> Vec<f32> {
    let bytes = tensor.raw_data.as_deref().unwrap_or_default();
    let (words, _) = bytes.as_chunks::<4>();
    words.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

/// The constants of 32-bit floats, by name.
pub(super) fn float_constants(graph: &GraphProto) -> BTreeMap<String, TensorProto> {
    let floats = graph.initializer.iter().filter(|tensor| tensor.data_type() == DataType::Float as i32);
    floats.map(|tensor| (tensor.name().to_owned(), tensor.clone())).collect()
}

/// The declared shapes of all values but constants, by name.
pub(super) fn shapes(graph: &GraphProto) -> BTreeMap<String, TensorShapeProto> {
    let values = graph.input.iter().chain(&graph.output).chain(&graph.value_info);
    values.filter_map(|value| Some((value.name.clone()?, shape(value)?.clone()))).collect()
}

/// The declared shape of a value.
fn shape(value: &ValueInfoProto) -> Option<&TensorShapeProto> {
    let type_proto::Value::TensorType(tensor) = value.r#type.as_ref()?.value.as_ref()?;
    tensor.shape.as_ref()
}

/// A declaration of a value.
pub(super) fn declare(name: &str, element: DataType, shape: Option<&TensorShapeProto>) -> ValueInfoProto {
    let tensor = type_proto::Tensor { elem_type: Some(element.into()), shape: shape.cloned() };
    let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)) };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(r#type) }
}

/// The shape of a constant.
pub(super) fn fixed(dims: &[i64]) -> TensorShapeProto {
    use crate::onnx::tensor_shape_proto::{Dimension, dimension::Value};
    TensorShapeProto {
        dim: dims.iter().map(|&size| Dimension { value: Some(Value::DimValue(size)) }).collect(),
    }
}

/// Whether a node multiplies a value by the constant that is its second input.
pub(super) fn is_weighted(node: &NodeProto, constants: &BTreeMap<String, TensorProto>) -> bool {
    matches!(node.op_type(), "Gemm" | "MatMul" | "Conv")
        && node.input.get(1).is_some_and(|weight| constants.contains_key(weight))
}
