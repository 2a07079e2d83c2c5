//! Tiny ONNX models, and the library that every test here needs.

#![allow(dead_code, reason = "each test file uses a part of it")]

use elastic_runtime::library::{self, Library};
use elastic_space::Array;
use elastic_space::platform::{OnnxRuntime, Runtime, Tract};
use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as Size};
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, type_proto,
};

/// The real library. These tests run it, so they fail where there is none.
pub(crate) fn real_library() -> Library {
    library::find().unwrap_or_else(|error| panic!("this test runs the real ONNX Runtime: {error}"))
}

/// The settings that the tests change one by one.
pub(crate) fn settings() -> OnnxRuntime {
    OnnxRuntime::cpu(1)
}

/// Both runtimes, with their names.
pub(crate) fn runtimes() -> [(&'static str, Runtime); 2] {
    real_library();
    [("onnx runtime", Runtime::OnnxRuntime(settings())), ("tract", Runtime::Tract(Tract {}))]
}

pub(crate) fn array(shape: &[usize], data: &[f32]) -> Array {
    Array { shape: shape.to_vec(), data: data.to_vec() }
}

/// A size in a graph: fixed, or open under a name.
#[derive(Clone, Copy)]
pub(crate) enum Dim {
    Fixed(i64),
    Open(&'static str),
}

pub(crate) fn value(name: &str, kind: DataType, shape: &[Dim]) -> ValueInfoProto {
    let dim = shape.iter().map(|size| Dimension {
        value: Some(match size {
            Dim::Fixed(size) => Size::DimValue(*size),
            Dim::Open(name) => Size::DimParam((*name).to_owned()),
        }),
        ..Dimension::default()
    });
    let tensor =
        type_proto::Tensor { elem_type: kind as i32, shape: Some(TensorShapeProto { dim: dim.collect() }) };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

pub(crate) fn constant(name: &str, shape: &[i64], data: &[f32]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: shape.to_vec(),
        data_type: DataType::Float as i32,
        float_data: data.to_vec(),
        ..TensorProto::default()
    }
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

pub(crate) fn encode(
    node: Vec<NodeProto>,
    initializer: Vec<TensorProto>,
    input: Vec<ValueInfoProto>,
    output: Vec<ValueInfoProto>,
) -> Vec<u8> {
    let graph =
        GraphProto { name: "test".to_owned(), node, initializer, input, output, ..GraphProto::default() };
    let opset = |domain: &str, version| OperatorSetIdProto { domain: domain.to_owned(), version };
    ModelProto {
        ir_version: 8,
        opset_import: vec![opset("", 17), opset("com.microsoft", 1)],
        graph: Some(graph),
        ..ModelProto::default()
    }
    .encode_to_vec()
}

/// `y = relu(x W + b)` with `x` of `batch` rows and 3 columns, `W = [[1, -1], [2, 0], [0, 3]]`, `b = [0.5, -10]`.
pub(crate) fn dense(batch: Dim) -> Vec<u8> {
    encode(
        vec![
            node("MatMul", &["x", "w"], "xw"),
            node("Add", &["xw", "b"], "sum"),
            node("Relu", &["sum"], "y"),
        ],
        vec![constant("w", &[3, 2], &[1.0, -1.0, 2.0, 0.0, 0.0, 3.0]), constant("b", &[2], &[0.5, -10.0])],
        vec![value("x", DataType::Float, &[batch, Dim::Fixed(3)])],
        vec![value("y", DataType::Float, &[batch, Dim::Fixed(2)])],
    )
}
