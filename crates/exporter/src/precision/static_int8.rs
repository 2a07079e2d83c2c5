//! Products in 8-bit integers by scales that are known beforehand, as pairs of `QuantizeLinear` and `DequantizeLinear`.
//!
//! A runtime that knows the pairs fuses them into the operators between them; any other computes the same in floats.

use std::collections::{BTreeMap, BTreeSet};

use super::proto::{
    declare, fixed, float_constants, floats, floats_tensor, is_weighted, node, shapes, tensor, with_int,
};
use super::quantise::{Affine, Weights, output_axis};
use super::range::Range;
use super::{Precision, QUANTISATION, ReduceError};
use crate::onnx::{GraphProto, NodeProto, TensorProto, tensor_proto::DataType};

/// The values that become 8-bit integers, in the order in which they are made: those that a product with weights reads,
/// and in a convolutional network all after its first convolution.
///
/// There a value passes through several operators in integers; in a transformer, normalisation and softmax between the
/// products want floats.
pub(super) fn reduced_values(graph: &GraphProto) -> Vec<String> {
    let constants = float_constants(graph);
    let first_conv = graph.node.iter().position(|node| node.op_type() == "Conv");
    let mut chosen = BTreeSet::new();
    for (place, node) in graph.node.iter().enumerate() {
        if is_weighted(node, &constants) {
            chosen.insert(node.input[0].as_str());
        }
        if first_conv.is_some_and(|first| place >= first) && is_fusible(node) && !is_clipped(graph, node) {
            chosen.insert(node.output[0].as_str());
        }
    }
    let outputs: Vec<_> = graph.output.iter().filter_map(|value| value.name.as_deref()).collect();
    let inputs = graph.input.iter().filter_map(|value| value.name.as_deref());
    let made = graph.node.iter().flat_map(|node| node.output.iter().map(String::as_str));
    let values = inputs.chain(made).filter(|name| chosen.contains(name) && !outputs.contains(name));
    values.map(ToOwned::to_owned).collect()
}

/// Whether runtimes have the operator in integers, or fuse it with one.
fn is_fusible(node: &NodeProto) -> bool {
    matches!(
        node.op_type(),
        "Conv" | "Relu" | "Clip" | "HardSwish" | "HardSigmoid" | "GlobalAveragePool" | "Add" | "Mul"
    )
}

/// Whether the one reader of a convolution clips it, which the integers of what is clipped do by themselves.
fn is_clipped(graph: &GraphProto, node: &NodeProto) -> bool {
    if node.op_type() != "Conv" {
        return false;
    }
    let readers: Vec<_> = graph.node.iter().filter(|reader| reader.input.contains(&node.output[0])).collect();
    matches!(readers[..], [reader] if matches!(reader.op_type(), "Relu" | "Clip"))
}

/// Puts pairs of `QuantizeLinear` and `DequantizeLinear` behind every value of [`reduced_values`], and makes weights and
/// biases integers.
pub(super) fn rewrite(graph: &mut GraphProto, ranges: &BTreeMap<String, Range>) -> Result<(), ReduceError> {
    let constants = float_constants(graph);
    if !graph.node.iter().any(|node| is_weighted(node, &constants)) {
        return Err(ReduceError::Nothing { precision: Precision::Int8Static });
    }
    let mut affine = BTreeMap::new();
    for value in reduced_values(graph) {
        let Some(&range) = ranges.get(&value) else { return Err(ReduceError::NoRange { value }) };
        affine.insert(value, Affine::of(range));
    }
    let mut pass = Pass { shapes: shapes(graph), constants, affine, graph, replaced: BTreeSet::new() };
    pass.run();
    let replaced = pass.replaced;
    graph.initializer.retain(|constant| !replaced.contains(constant.name()));
    Ok(())
}

struct Pass<'a> {
    graph: &'a mut GraphProto,
    shapes: BTreeMap<String, crate::onnx::TensorShapeProto>,
    constants: BTreeMap<String, TensorProto>,
    affine: BTreeMap<String, Affine>,
    /// Constants that are no longer read.
    replaced: BTreeSet<String>,
}

impl Pass<'_> {
    fn run(&mut self) {
        let inputs: Vec<String> = self.graph.input.iter().filter_map(|input| input.name.clone()).collect();
        let nodes = std::mem::take(&mut self.graph.node);
        inputs.iter().for_each(|input| self.pair(input));
        for mut node in nodes {
            let x = node.input.first().cloned().unwrap_or_default();
            let weighted = is_weighted(&node, &self.constants);
            for name in &mut node.input {
                if self.affine.contains_key(name) {
                    *name = format!("{name}.dequantised");
                }
            }
            if weighted {
                self.weights(&x, &mut node);
            }
            let outputs = node.output.clone();
            self.graph.node.push(node);
            outputs.iter().for_each(|output| self.pair(output));
        }
    }

    /// The pair behind a value, if it becomes integers.
    fn pair(&mut self, value: &str) {
        let Some(affine) = self.affine.get(value) else { return };
        let [scale, zero] = ["scale", "zero_point"].map(|part| format!("{QUANTISATION}{value}.{part}"));
        let (integers, real) = (format!("{value}.quantised"), format!("{value}.dequantised"));
        self.graph.initializer.extend([
            floats_tensor(&scale, &[], &[affine.scale]),
            tensor(&zero, &[], DataType::Uint8, vec![affine.zero_point]),
        ]);
        self.graph.node.extend([
            node("QuantizeLinear", &[value, &scale, &zero], &[&integers]),
            node("DequantizeLinear", &[&integers, &scale, &zero], &[&real]),
        ]);
        let shape = self.shapes.get(value);
        self.graph
            .value_info
            .extend([declare(&integers, DataType::Uint8, shape), declare(&real, DataType::Float, shape)]);
    }

    /// Makes a node's weight and bias integers, one scale for each output.
    fn weights(&mut self, x: &str, node: &mut NodeProto) {
        let weight = self.constants[&node.input[1]].clone();
        let axis = output_axis(&weight);
        let integers = Weights::of(&floats(&weight), &weight.dims, Some(axis));
        let name = weight.name();
        let zeros = vec![0; integers.scales.len()];
        let stored = tensor(&format!("{name}.int8"), &weight.dims, DataType::Int8, integers.bytes());
        node.input[1] = self.constant(name, stored, &integers.scales, Some((DataType::Int8, zeros)), axis);
        let Some(bias) = node.input.get(2).and_then(|bias| self.constants.get(bias)).cloned() else { return };
        // A bias is added to the products, so it has their scale.
        let x_scale = self.affine[x].scale;
        let scales: Vec<f32> = integers.scales.iter().map(|scale| x_scale * scale).collect();
        let bytes = floats(&bias)
            .iter()
            .zip(&scales)
            // A cast from float saturates.
            .flat_map(|(value, scale)| ((value / scale).round() as i32).to_le_bytes())
            .collect();
        let stored = tensor(&format!("{}.int32", bias.name()), &bias.dims, DataType::Int32, bytes);
        node.input[2] = self.constant(bias.name(), stored, &scales, None, 0);
    }

    /// A constant of integers and the node that scales it; gives the name of the result.
    fn constant(
        &mut self,
        name: &str,
        stored: TensorProto,
        scales: &[f32],
        zeros: Option<(DataType, Vec<u8>)>,
        axis: usize,
    ) -> String {
        let real = format!("{name}.dequantised");
        if !self.replaced.insert(name.to_owned()) {
            return real;
        }
        let [scale, zero] = ["scale", "zero_point"].map(|part| format!("{QUANTISATION}{name}.{part}"));
        let mut inputs = vec![stored.name(), &scale];
        self.graph.initializer.push(floats_tensor(&scale, &[scales.len() as i64], scales));
        if let Some((element, zeros)) = zeros {
            self.graph.initializer.push(tensor(&zero, &[zeros.len() as i64], element, zeros));
            inputs.push(&zero);
        }
        self.graph.node.push(with_int(node("DequantizeLinear", &inputs, &[&real]), "axis", axis as i64));
        self.graph.value_info.push(declare(&real, DataType::Float, Some(&fixed(&stored.dims))));
        self.graph.initializer.push(stored);
        real
    }
}
