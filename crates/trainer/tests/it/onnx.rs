//! Tiny ONNX files.

use elastic_space::Weights;
use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as Size};
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

/// The bytes of a model.
pub(crate) fn encode(producer: &str, graph: GraphProto, metadata: &[(&str, String)]) -> Vec<u8> {
    let entry = |(key, value): &(&str, String)| StringStringEntryProto {
        key: (*key).to_owned(),
        value: value.clone(),
    };
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { version: 17, ..OperatorSetIdProto::default() }],
        producer_name: producer.to_owned(),
        graph: Some(graph),
        metadata_props: metadata.iter().map(entry).collect(),
        ..ModelProto::default()
    }
    .encode_to_vec()
}

/// Arrays as the constants of a graph.
pub(crate) fn constants(weights: &Weights) -> Vec<TensorProto> {
    let constant = |(name, array): (&String, &elastic_space::Array)| TensorProto {
        name: name.clone(),
        dims: array.shape.iter().map(|&size| size as i64).collect(),
        data_type: DataType::Float as i32,
        raw_data: array.data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ..TensorProto::default()
    };
    weights.iter().map(constant).collect()
}

pub(crate) fn node(operator: &str, input: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: operator.to_owned(),
        name: output.to_owned(),
        input: input.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

/// A value of floats; `None` is the open size `batch`.
pub(crate) fn value(name: &str, shape: &[Option<usize>]) -> ValueInfoProto {
    let dim = shape.iter().map(|size| Dimension {
        value: Some(match size {
            Some(size) => Size::DimValue(*size as i64),
            None => Size::DimParam("batch".to_owned()),
        }),
        ..Dimension::default()
    });
    let tensor = type_proto::Tensor {
        elem_type: DataType::Float as i32,
        shape: Some(TensorShapeProto { dim: dim.collect() }),
    };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.to_owned(), r#type: Some(kind), ..ValueInfoProto::default() }
}
