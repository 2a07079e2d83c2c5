//! Channels, features and heads in the order of their importance.
//!
//! A smaller width keeps the first channels. In a network that was trained at one size the first are no better than the
//! others, so a supernet that begins with it does well to have the most important ones first. What a channel is worth is
//! told by the sum of the absolute weights that read it, as in [Once-for-All](https://arxiv.org/abs/1908.09791).

use std::collections::BTreeSet;

use elastic_space::bert::BertSpace;
use elastic_space::conv::ConvSpace;
use elastic_space::swin::SwinSpace;
use elastic_space::vit::VitSpace;
use elastic_space::{Array, Dimension, SearchSpace, Weights};

/// Channels that no tensors but these see: in any order they make the same network.
struct Channels {
    /// What keeps the first of them.
    dimension: Dimension,
    /// Values that stand side by side and belong together: the features of a head, else one.
    size: usize,
    /// The weights that read them, and their axis there.
    reader: (String, usize),
    /// The other tensors that have them, and their axis there.
    others: Vec<(String, usize)>,
    /// A tensor with one value for each, whatever their size, and its axis.
    single: Option<(String, usize)>,
}

/// The dimensions whose choices are leading parts that can be sorted.
pub const SORTABLE: [Dimension; 2] = [Dimension::Width, Dimension::Heads];

/// Sorts the channels of a supernet that are inside its layers, so that the most important come first; the largest
/// subnet computes the same as before, up to rounding.
///
/// Channels that layers share, those of a stage's width and of an embedding, keep their order. Of equal ones the first
/// stays first.
pub fn by_importance(weights: &mut Weights, space: &SearchSpace, dimensions: &BTreeSet<Dimension>) {
    let sets = match space {
        SearchSpace::Vit(space) => of_vit(space),
        SearchSpace::Conv(space) => of_conv(space),
        SearchSpace::Swin(space) => of_swin(space),
        SearchSpace::Bert(space) => of_bert(space),
    };
    for Channels { dimension, size, reader, others, single } in sets {
        let (true, Some(array)) = (dimensions.contains(&dimension), weights.get(&reader.0)) else { continue };
        let order = order(&importance(array, reader.1, size));
        let sized = others.into_iter().chain([reader]).map(|(name, axis)| (name, axis, size));
        for (name, axis, size) in sized.chain(single.map(|(name, axis)| (name, axis, 1))) {
            // Running statistics are there or not.
            if let Some(array) = weights.get_mut(&name) {
                *array = reordered(array, axis, size, &order);
            }
        }
    }
}

fn of_vit(space: &VitSpace) -> Vec<Channels> {
    (0..space.depth.layers()).flat_map(|block| of_block(&format!("blocks.{block}"), space.head_dim)).collect()
}

fn of_bert(space: &BertSpace) -> Vec<Channels> {
    (0..space.layers()).flat_map(|block| of_block(&format!("blocks.{block}"), space.head_dim)).collect()
}

fn of_swin(space: &SwinSpace) -> Vec<Channels> {
    let mut sets = Vec::new();
    for (number, stage) in space.stages.iter().enumerate() {
        for block in 0..stage.depth.layers() {
            let block = format!("layers.{number}.blocks.{block}");
            let [heads, features] = of_block(&block, space.head_dim);
            let single = Some((format!("{block}.attn.relative_position_bias_table"), 2));
            sets.extend([Channels { single, ..heads }, features]);
        }
    }
    sets
}

/// The heads and the features of a block of a transformer.
fn of_block(block: &str, head_dim: usize) -> [Channels; 2] {
    let named = |(name, axis): (&str, usize)| (format!("{block}.{name}"), axis);
    let heads = Channels {
        dimension: Dimension::Heads,
        size: head_dim,
        reader: named(("attn.proj.weight", 0)),
        others: [("attn.qkv.weight", 2), ("attn.qkv.bias", 1)].map(named).into(),
        single: None,
    };
    let features = Channels {
        dimension: Dimension::Width,
        size: 1,
        reader: named(("mlp.fc2.weight", 0)),
        others: [("mlp.fc1.weight", 1), ("mlp.fc1.bias", 0)].map(named).into(),
        single: None,
    };
    [heads, features]
}

fn of_conv(space: &ConvSpace) -> Vec<Channels> {
    let set = |reader: String, others: Vec<(String, usize)>| Channels {
        dimension: Dimension::Width,
        size: 1,
        reader: (reader, 0),
        others,
        single: None,
    };
    let norm = |layer: &str| {
        let parts = ["weight", "bias", "running_mean", "running_var"];
        parts.map(|part| (format!("{layer}.norm.{part}"), 0))
    };
    let mut sets = Vec::new();
    for (number, stage) in space.stages.iter().enumerate() {
        for index in 0..stage.layers() {
            let name = |part: &str| format!("stages.{number}.blocks.{index}.{part}");
            // Where a layer does not expand, its hidden channels are those of the layer before.
            if stage.hidden.is_some() {
                let mut others = vec![
                    (name("expand.weight"), 1),
                    (name("depthwise.weight"), 2),
                    (name("squeeze.weight"), 0),
                    (name("excite.weight"), 1),
                    (name("excite.bias"), 0),
                ];
                others.extend(["expand", "depthwise"].into_iter().flat_map(|part| norm(&name(part))));
                sets.push(set(name("project.weight"), others));
            }
            let squeezed = vec![(name("squeeze.weight"), 1), (name("squeeze.bias"), 0)];
            sets.push(set(name("excite.weight"), squeezed));
        }
    }
    let after = if space.head.hidden.is_empty() { "classifier.weight" } else { "hidden.weight" };
    let mut others = vec![("head.weight".to_owned(), 1)];
    others.extend(norm("head"));
    sets.push(set(after.to_owned(), others));
    let hidden = vec![("hidden.weight".to_owned(), 1), ("hidden.bias".to_owned(), 0)];
    if !space.head.hidden.is_empty() {
        sets.push(set("classifier.weight".to_owned(), hidden));
    }
    sets
}

/// The sum of the absolute values of each channel.
fn importance(array: &Array, axis: usize, size: usize) -> Vec<f64> {
    let inner: usize = array.shape[axis + 1..].iter().product::<usize>() * size;
    let count = array.shape[axis] / size;
    let mut sums = vec![0.0; count];
    for (at, values) in array.data.chunks(inner).enumerate() {
        sums[at % count] += values.iter().map(|value| f64::from(value.abs())).sum::<f64>();
    }
    sums
}

/// Positions from the most important to the least.
fn order(importance: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..importance.len()).collect();
    order.sort_by(|&a, &b| importance[b].total_cmp(&importance[a]));
    order
}

/// The channels of an axis in another order.
fn reordered(array: &Array, axis: usize, size: usize, order: &[usize]) -> Array {
    let inner: usize = array.shape[axis + 1..].iter().product::<usize>() * size;
    let rows = array.data.chunks(inner * order.len());
    let data =
        rows.flat_map(|row| order.iter().flat_map(|&from| row[from * inner..][..inner].iter().copied()));
    Array { shape: array.shape.clone(), data: data.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shape, axis, size of a channel; importance, order, and the values 0, 1, 2, .. with every other negative in it.
    type Row = (&'static [usize], usize, usize, &'static [f64], &'static [usize], &'static [f32]);

    #[test]
    fn orders_by_hand() {
        let rows: [Row; 4] = [
            (&[3], 0, 1, &[0.0, 1.0, 2.0], &[2, 1, 0], &[2.0, -1.0, 0.0]),
            (&[2, 2], 0, 1, &[1.0, 5.0], &[1, 0], &[2.0, -3.0, 0.0, -1.0]),
            (&[2, 2], 1, 1, &[2.0, 4.0], &[1, 0], &[-1.0, 0.0, -3.0, 2.0]),
            (&[1, 4], 1, 2, &[1.0, 5.0], &[1, 0], &[2.0, -3.0, 0.0, -1.0]),
        ];
        for (shape, axis, size, sums, positions, values) in rows {
            let row = format!("{shape:?} {axis} {size}");
            let counted =
                (0..shape.iter().product()).map(|at: usize| at as f32 * (1.0 - 2.0 * (at % 2) as f32));
            let array = Array { shape: shape.to_vec(), data: counted.collect() };
            let found = importance(&array, axis, size);
            assert_eq!((found.as_slice(), order(&found).as_slice()), (sums, positions), "{row}");
            assert_eq!(reordered(&array, axis, size, positions).data, values, "{row}");
        }
        assert_eq!(order(&[1.0, 2.0, 1.0, 2.0]), [1, 3, 0, 2], "of equal ones the first stays first");
    }
}
