//! 16-bit floats between a 32-bit input and a 32-bit output.

use half::f16;

use super::ReduceError;
use super::proto::{declare, floats, node, shapes, tensor, with_int};
use crate::onnx::{GraphProto, NodeProto, TensorProto, tensor_proto::DataType, type_proto};

/// Weights and values become 16-bit floats. The input and the output stay, each with a cast.
pub(super) fn rewrite(graph: &mut GraphProto) -> Result<(), ReduceError> {
    for constant in &mut graph.initializer {
        if constant.data_type() == DataType::Float as i32 {
            *constant = halved(constant)?;
        }
    }
    for value in &mut graph.value_info {
        if let Some(type_proto::Value::TensorType(kind)) =
            value.r#type.as_mut().and_then(|kind| kind.value.as_mut())
            && kind.elem_type() == DataType::Float as i32
        {
            kind.elem_type = Some(DataType::Float16.into());
        }
    }
    let shapes = shapes(graph);
    let ends = |values: &[crate::onnx::ValueInfoProto]| -> Vec<String> {
        values.iter().filter_map(|value| value.name.clone()).collect()
    };
    // Whole numbers, the tokens of texts, stay as they are.
    let is_float = |value: &&crate::onnx::ValueInfoProto| {
        let kind = value.r#type.as_ref().and_then(|kind| kind.value.as_ref());
        let Some(type_proto::Value::TensorType(kind)) = kind else { return false };
        kind.elem_type() == DataType::Float as i32
    };
    let floats: Vec<_> = graph.input.iter().filter(is_float).cloned().collect();
    let (inputs, outputs) = (ends(&floats), ends(&graph.output));
    let mut nodes: Vec<NodeProto> =
        inputs.iter().map(|name| cast(name, &inner(name), DataType::Float16)).collect();
    for mut node in std::mem::take(&mut graph.node) {
        for name in node.input.iter_mut().filter(|name| inputs.contains(name)) {
            // A shape is asked of the input itself; it is the same either way.
            *name = inner(name);
        }
        for name in node.output.iter_mut().filter(|name| outputs.contains(name)) {
            *name = inner(name);
        }
        if node.op_type() == "Cast" {
            let to =
                node.attribute.iter_mut().filter(|attribute| attribute.i == Some(DataType::Float as i64));
            to.for_each(|attribute| attribute.i = Some(DataType::Float16 as i64));
        }
        nodes.push(node);
    }
    nodes.extend(outputs.iter().map(|name| cast(&inner(name), name, DataType::Float)));
    graph.node = nodes;
    for name in inputs.iter().chain(&outputs) {
        graph.value_info.push(declare(&inner(name), DataType::Float16, shapes.get(name)));
    }
    Ok(())
}

/// The name of an input or output inside the network.
fn inner(name: &str) -> String {
    format!("{name}.half")
}

fn cast(from: &str, to: &str, element: DataType) -> NodeProto {
    let mut cast = with_int(node("Cast", &[from], &[to]), "to", element as i64);
    cast.name = Some(format!("{to}.cast"));
    cast
}

fn halved(constant: &TensorProto) -> Result<TensorProto, ReduceError> {
    let values = floats(constant);
    let largest = f16::MAX.to_f32();
    if let Some(&value) = values.iter().find(|value| value.abs() > largest) {
        return Err(ReduceError::TooLarge { tensor: constant.name().to_owned(), value });
    }
    let bytes = values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect();
    Ok(tensor(constant.name(), &constant.dims, DataType::Float16, bytes))
}
