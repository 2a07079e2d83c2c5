//! Small ONNX models.

#![allow(dead_code, reason = "each test file uses a part of it")]

use prost::Message;
use tract_onnx::pb;

fn value(name: &str, sizes: &[i64]) -> pb::ValueInfoProto {
    let dimension = |&size: &i64| pb::tensor_shape_proto::Dimension {
        value: Some(pb::tensor_shape_proto::dimension::Value::DimValue(size)),
        ..Default::default()
    };
    let shape = pb::TensorShapeProto { dim: sizes.iter().map(dimension).collect() };
    let elem_type = pb::tensor_proto::DataType::Float as i32;
    let tensor = pb::type_proto::Tensor { elem_type, shape: Some(shape) };
    let r#type =
        pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), ..Default::default() };
    pb::ValueInfoProto { name: name.into(), r#type: Some(r#type), ..Default::default() }
}

fn weights(name: &str, rows: usize, columns: usize) -> pb::TensorProto {
    pb::TensorProto {
        name: name.into(),
        dims: vec![rows as i64, columns as i64],
        data_type: pb::tensor_proto::DataType::Float as i32,
        float_data: (0..rows * columns).map(|i| (i % 7) as f32 * 0.1 - 0.3).collect(),
        ..Default::default()
    }
}

fn node(op_type: &str, input: &[&str], output: &str) -> pb::NodeProto {
    pb::NodeProto {
        op_type: op_type.into(),
        name: output.into(),
        input: input.iter().map(ToString::to_string).collect(),
        output: vec![output.into()],
        ..Default::default()
    }
}

/// A model `x` `[1, 1, 8, 8]` to `y` `[1, 3]`.
fn model(name: &str, node: Vec<pb::NodeProto>, initializer: Vec<pb::TensorProto>) -> Vec<u8> {
    let graph = pb::GraphProto {
        name: name.into(),
        node,
        initializer,
        input: vec![value("x", &[1, 1, 8, 8])],
        output: vec![value("y", &[1, 3])],
        ..Default::default()
    };
    pb::ModelProto {
        ir_version: 8,
        opset_import: vec![pb::OperatorSetIdProto { domain: String::new(), version: 17 }],
        graph: Some(graph),
        ..Default::default()
    }
    .encode_to_vec()
}

/// y = relu(flatten(x) A) B for x `[1, 1, 8, 8]`, A `[64, hidden]`, B `[hidden, 3]`.
pub(crate) fn two_layers(hidden: usize) -> Vec<u8> {
    let nodes = vec![
        node("Flatten", &["x"], "flat"),
        node("MatMul", &["flat", "a"], "hidden"),
        node("Relu", &["hidden"], "positive"),
        node("MatMul", &["positive", "b"], "y"),
    ];
    model("two-layers", nodes, vec![weights("a", 64, hidden), weights("b", hidden, 3)])
}

/// Matrices of `features` squared, `products` times over one weight: a run takes long, the file is short.
pub(crate) fn slow(products: usize, features: usize) -> Vec<u8> {
    let rows = weights("c", features, 1);
    let mut nodes = vec![
        node("Flatten", &["x"], "flat"),
        node("MatMul", &["flat", "a"], "wide"),
        node("Mul", &["c", "wide"], "h0"),
    ];
    for index in 0..products {
        let (square, tanh, next) = (format!("s{index}"), format!("h{index}"), format!("h{}", index + 1));
        nodes.push(node("MatMul", &[&tanh, &tanh], &square));
        nodes.push(node("Tanh", &[&square], &next));
    }
    let last = format!("h{products}");
    nodes.push(node("MatMul", &[&last, "b"], "many"));
    nodes.push(node("MatMul", &["d", "many"], "y"));
    let weights =
        vec![weights("a", 64, features), weights("b", features, 3), rows, weights("d", 1, features)];
    model("slow", nodes, weights)
}
