//! Linear layers in 8-bit integers, with the scale of each input found while the model runs.

use std::collections::BTreeSet;

use super::proto::{
    declare, fixed, float_constants, floats, floats_tensor, is_weighted, node, shapes, tensor, with_int,
};
use super::quantise::{Weights, output_axis};
use super::{Precision, QUANTISATION, ReduceError};
use crate::onnx::{GraphProto, tensor_proto::DataType};

/// y = x W + b becomes the nodes that runtimes know how to fuse: x is quantised to unsigned 8-bit integers, multiplied by
/// integers, and the product scaled back. Convolutions stay: no runtime that was measured runs them faster this way.
pub(super) fn rewrite(graph: &mut GraphProto, per_channel: bool) -> Result<(), ReduceError> {
    let (constants, shapes) = (float_constants(graph), shapes(graph));
    let mut replaced = BTreeSet::new();
    let mut quantised = BTreeSet::new();
    for old in std::mem::take(&mut graph.node) {
        if !is_weighted(&old, &constants) || old.op_type() == "Conv" {
            graph.node.push(old);
            continue;
        }
        let (x, weight, y) = (old.input[0].as_str(), &constants[&old.input[1]], old.output[0].as_str());
        let of_x = |part: &str| format!("{x}.{part}");
        let [x8, x_scale, x_zero] = ["quantised", "scale", "zero_point"].map(of_x);
        if quantised.insert(x.to_owned()) {
            graph.node.push(node("DynamicQuantizeLinear", &[x], &[&x8, &x_scale, &x_zero]));
            graph.value_info.extend([
                declare(&x8, DataType::Uint8, shapes.get(x)),
                declare(&x_scale, DataType::Float, Some(&fixed(&[]))),
                declare(&x_zero, DataType::Uint8, Some(&fixed(&[]))),
            ]);
        }
        let axis = per_channel.then(|| output_axis(weight));
        let integers = Weights::of(&floats(weight), &weight.dims, axis);
        let name = weight.name();
        let [w_scale, w_zero] = ["scale", "zero_point"].map(|part| format!("{QUANTISATION}{name}.{part}"));
        let count = integers.scales.len() as i64;
        let dims: &[i64] = if per_channel { &[count] } else { &[] };
        if replaced.insert(name.to_owned()) {
            graph.initializer.extend([
                tensor(&format!("{name}.int8"), &weight.dims, DataType::Int8, integers.bytes()),
                floats_tensor(&w_scale, dims, &integers.scales),
                tensor(&w_zero, dims, DataType::Int8, vec![0; integers.scales.len()]),
            ]);
        }
        let of_y = |part: &str| format!("{y}.{part}");
        let [products, real, scale, scaled] = ["products", "real", "scale", "scaled"].map(of_y);
        let bias = old.input.get(2);
        let sum = if bias.is_some() { &scaled } else { y };
        graph.node.extend([
            node("MatMulInteger", &[&x8, &format!("{name}.int8"), &x_zero, &w_zero], &[&products]),
            with_int(node("Cast", &[&products], &[&real]), "to", DataType::Float as i64),
            node("Mul", &[&x_scale, &w_scale], &[&scale]),
            node("Mul", &[&real, &scale], &[sum]),
        ]);
        graph.value_info.extend([
            declare(&products, DataType::Int32, shapes.get(y)),
            declare(&real, DataType::Float, shapes.get(y)),
            declare(&scale, DataType::Float, Some(&fixed(dims))),
        ]);
        if let Some(bias) = bias {
            graph.node.push(node("Add", &[&scaled, bias], &[y]));
            graph.value_info.push(declare(&scaled, DataType::Float, shapes.get(y)));
        }
    }
    if replaced.is_empty() {
        let precision = if per_channel { Precision::Int8DynamicPerChannel } else { Precision::Int8Dynamic };
        return Err(ReduceError::Nothing { precision });
    }
    graph.initializer.retain(|constant| !replaced.contains(constant.name()));
    Ok(())
}
