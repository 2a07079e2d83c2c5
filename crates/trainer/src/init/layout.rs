//! From the shapes that a file's tensors have to those of the supernet.

use std::collections::BTreeMap;

use elastic_space::conv::{ConvSpace, STEM_KERNEL};
use elastic_space::swin::SwinSpace;
use elastic_space::vit::VitSpace;
use elastic_space::{Array, SearchSpace, Weights};

use super::Layout;
use super::source::Tensor;

/// One way in which a file may hold a tensor.
#[derive(Debug, PartialEq, Eq)]
struct Form {
    /// Its shape in the file.
    shape: Vec<usize>,
    /// The order of its values there.
    order: Order,
}

/// In which order a file holds the values of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// The supernet's.
    Same,
    /// The file's first axis is the supernet's last: a matrix `[first, all others]`, transposed.
    Transposed,
    /// A kernel `[outputs, channels, height, width]`, which the supernet has as `[height, width, channels, outputs]`.
    Kernel,
}

/// Brings a tensor into the supernet's shape.
///
/// # Errors
///
/// The shape that was found, and the one that the file should have.
pub(super) fn convert(
    name: &str,
    array: Array,
    expected: &[usize],
    layout: Layout,
    space: &SearchSpace,
) -> Result<Array, (Vec<usize>, Vec<usize>)> {
    if let (Layout::Pytorch, "embeddings.positions", [_, entries, features], [rows, columns]) =
        (layout, name, expected, array.shape.as_slice())
        && rows >= entries
        && columns == features
    {
        // A network of shorter texts has the first positions.
        let data = array.data[..entries * features].to_vec();
        return Ok(Array { shape: expected.to_vec(), data });
    }
    let mut forms = match layout {
        Layout::Elastic => elastic(name, expected),
        Layout::Pytorch => pytorch(name, expected, space),
    };
    let data = match forms.iter().find(|form| form.shape == array.shape) {
        Some(Form { order: Order::Same, .. }) => array.data,
        Some(Form { order: Order::Transposed, shape }) => transpose(&array.data, shape[0]),
        Some(Form { order: Order::Kernel, shape }) => {
            let (values, channels) = (shape[1..].iter().product(), shape[1]);
            let pixels_first = |kernel: &[f32]| transpose(kernel, channels);
            let kernels: Vec<f32> = array.data.chunks(values).flat_map(pixels_first).collect();
            transpose(&kernels, shape[0])
        }
        None => return Err((array.shape, forms.swap_remove(0).shape)),
    };
    Ok(Array { shape: expected.to_vec(), data })
}

/// Puts queries, keys and values that PyTorch's file holds apart, `NAME.query.weight` and so on, into one tensor
/// `NAME.qkv.weight`, where all three are there and alike.
pub(super) fn join(mut tensors: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    let queries: Vec<String> = tensors.keys().filter(|name| name.contains(".attn.query.")).cloned().collect();
    for query in queries {
        let [key, value, joined] =
            ["key", "value", "qkv"].map(|part| query.replace(".query.", &format!(".{part}.")));
        let parts = [&query, &key, &value].map(|name| match tensors.get(name) {
            Some(Tensor::Floats(array)) => Some(array),
            _ => None,
        });
        let [Some(a), Some(b), Some(c)] = parts else { continue };
        if a.shape != b.shape || a.shape != c.shape || a.shape.is_empty() || tensors.contains_key(&joined) {
            continue;
        }
        let mut shape = a.shape.clone();
        shape[0] *= 3;
        let array = Array { shape, data: [&a.data[..], &b.data, &c.data].concat() };
        [query, key, value].iter().for_each(|name| drop(tensors.remove(name)));
        tensors.insert(joined, Tensor::Floats(array));
    }
    tensors
}

/// Takes the attention's factor 1 / sqrt(head_dim) out of the query's weights, where an exported file has it.
pub(super) fn unfold_scale(weights: &mut Weights, space: &SearchSpace) {
    let Some(head_dim) = space.head_dim() else { return };
    // The exporter's factor, rounded as there.
    let scale = f64::from((head_dim as f64).powf(-0.5) as f32);
    for (_, array) in weights.iter_mut().filter(|(name, _)| is_qkv(name)) {
        let inner = array.shape[array.shape.len() - 1];
        for row in array.data.chunks_mut(3 * inner) {
            row[..inner].iter_mut().for_each(|value| *value = (f64::from(*value) / scale) as f32);
        }
    }
}

/// The first layer in which the largest networks of two spaces differ.
pub(super) fn difference(file: &SearchSpace, space: &SearchSpace) -> Option<String> {
    let (file, space) = (file.shape(&file.largest()), space.shape(&space.largest()));
    let common = file.layers.iter().zip(&space.layers);
    let differing = common.clone().find(|(a, b)| a != b).map(|(a, _)| a);
    let surplus = || file.layers.get(space.layers.len()).or(space.layers.get(file.layers.len()));
    differing.or_else(surplus).map(|layer| layer.name.clone())
}

/// The supernet's own layout. Exported files and standalone subnets have the three parts of a projection and the
/// four of a merging side by side, and tables without their leading axis.
fn elastic(name: &str, expected: &[usize]) -> Vec<Form> {
    let plain = |shape: &[usize]| Form { shape: shape.to_vec(), order: Order::Same };
    let mut forms = vec![plain(expected)];
    match expected {
        [inputs, 3, inner] if is_qkv(name) => forms.push(plain(&[*inputs, 3 * inner])),
        [3, inner] if is_qkv(name) => forms.push(plain(&[3 * inner])),
        [1, rest @ ..] if !rest.is_empty() => forms.push(plain(rest)),
        [4, rest @ ..] if is_merging(name) => forms.push(plain(&side_by_side(rest))),
        _ => {}
    }
    // The class token has two such axes.
    if let [1, 1, features] = expected {
        forms.push(plain(&[*features]));
    }
    forms
}

/// The layout of PyTorch's modules: linear layers, convolutions, timm's `VisionTransformer` and `SwinTransformer`.
fn pytorch(name: &str, expected: &[usize], space: &SearchSpace) -> Vec<Form> {
    let plain = |shape: &[usize]| Form { shape: shape.to_vec(), order: Order::Same };
    let transposed = |shape: &[usize]| Form { shape: shape.to_vec(), order: Order::Transposed };
    let is_weight = name.ends_with(".weight");
    match expected {
        [inputs, 3, inner] if is_qkv(name) => vec![transposed(&[3 * inner, *inputs])],
        [3, inner] if is_qkv(name) => vec![plain(&[3 * inner])],
        [4, inputs, outputs] if is_merging(name) => vec![transposed(&[*outputs, 4 * inputs])],
        [4, inputs] if is_merging(name) => vec![plain(&[4 * inputs])],
        [1, rest @ ..] if name.ends_with(".relative_position_bias_table") => vec![plain(rest)],
        [1, rest @ ..] if name.starts_with("embeddings.") => vec![plain(rest)],
        [inputs, outputs] if is_weight => match space {
            SearchSpace::Vit(VitSpace { channels, patch_size, .. })
            | SearchSpace::Swin(SwinSpace { channels, patch_size, .. })
                if name == "patch_embed.proj.weight" =>
            {
                vec![transposed(&[*outputs, *channels, *patch_size, *patch_size])]
            }
            SearchSpace::Conv(ConvSpace { channels, .. }) if name == "stem.weight" => {
                let shape = vec![*outputs, *channels, STEM_KERNEL, STEM_KERNEL];
                vec![Form { shape, order: Order::Kernel }]
            }
            // A layer of every pixel is a 1 x 1 convolution.
            SearchSpace::Conv(_) if !is_linear(name) => {
                vec![transposed(&[*outputs, *inputs, 1, 1]), transposed(&[*outputs, *inputs])]
            }
            _ => vec![transposed(&[*outputs, *inputs])],
        },
        [height, width, channels] if is_weight && name.ends_with(".depthwise.weight") => {
            vec![transposed(&[*channels, 1, *height, *width])]
        }
        _ => vec![plain(expected)],
    }
}

/// Whether a layer of a convolutional network comes after the mean over all pixels.
fn is_linear(name: &str) -> bool {
    name == "hidden.weight" || name == "classifier.weight"
}

fn is_qkv(name: &str) -> bool {
    name.ends_with(".attn.qkv.weight") || name.ends_with(".attn.qkv.bias")
}

fn is_merging(name: &str) -> bool {
    name.contains(".downsample.")
}

/// The shape of four like tensors whose first axis becomes one.
fn side_by_side(shape: &[usize]) -> Vec<usize> {
    let mut shape = shape.to_vec();
    shape[0] *= 4;
    shape
}

/// A matrix of `rows` rows, transposed.
fn transpose(data: &[f32], rows: usize) -> Vec<f32> {
    let columns = data.len() / rows.max(1);
    (0..columns).flat_map(|column| (0..rows).map(move |row| data[row * columns + column])).collect()
}

#[cfg(test)]
mod tests {
    use elastic_space::choices::{DepthChoices, DropPolicy, Granularity, WidthChoices};
    use elastic_space::conv::{Activation, Head, Padding, Stem};
    use elastic_space::vit::Pooling;

    use super::*;

    fn space() -> SearchSpace {
        let width = |choices: &[usize]| WidthChoices { choices: choices.to_vec(), per: Granularity::Layer };
        SearchSpace::Vit(VitSpace {
            image_size: 4,
            channels: 2,
            patch_size: 2,
            classes: 3,
            head_dim: 4,
            pooling: Pooling::ClassToken,
            embed_dim: vec![5],
            depth: DepthChoices { choices: vec![1], drop: DropPolicy::Prefix },
            heads: width(&[1]),
            mlp_width: width(&[6]),
            stages: Vec::new(),
            transforms: Default::default(),
        })
    }

    fn conv_space(channels: usize) -> SearchSpace {
        SearchSpace::Conv(ConvSpace {
            image_size: 4,
            channels,
            classes: 2,
            resolution: vec![4],
            activation: Activation::Relu,
            padding: Padding::Centred,
            norm_epsilon: 1e-5,
            stem: Stem { width: vec![2], stride: 1 },
            stages: Vec::new(),
            head: Head { width: vec![2], hidden: Vec::new() },
            transforms: Default::default(),
        })
    }

    /// Layout, name, the supernet's shape, the file's shape, and the values that come out, if any do.
    type Row = (Layout, &'static str, &'static [usize], &'static [usize], Option<&'static [f32]>);

    #[test]
    fn layouts_by_hand() {
        use Layout::{Elastic, Pytorch};
        let counted: &'static [f32] = &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        let turned: &'static [f32] = &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0];
        let rows: [Row; 14] = [
            (Elastic, "head.weight", &[2, 3], &[2, 3], Some(counted)),
            (Elastic, "head.weight", &[2, 3], &[3, 2], None),
            (Elastic, "blocks.0.attn.qkv.weight", &[2, 3, 1], &[2, 3], Some(counted)),
            (Elastic, "blocks.0.attn.qkv.bias", &[3, 2], &[6], Some(counted)),
            (Elastic, "blocks.0.attn.proj.weight", &[3, 2], &[6], None),
            (Elastic, "pos_embed", &[1, 2, 3], &[2, 3], Some(counted)),
            (Elastic, "cls_token", &[1, 1, 6], &[6], Some(counted)),
            (Pytorch, "head.weight", &[3, 2], &[2, 3], Some(turned)),
            (Pytorch, "head.weight", &[2, 3], &[2, 3], None),
            (Pytorch, "blocks.0.attn.qkv.weight", &[2, 3, 1], &[3, 2], Some(&[0.0, 2.0, 4.0, 1.0, 3.0, 5.0])),
            (Pytorch, "blocks.0.attn.qkv.bias", &[3, 2], &[6], Some(counted)),
            (Pytorch, "norm.weight", &[6], &[6], Some(counted)),
            (Pytorch, "pos_embed", &[1, 2, 3], &[1, 2, 3], Some(counted)),
            (Pytorch, "pos_embed", &[1, 2, 3], &[1, 3, 2], None),
        ];
        for (layout, name, expected, found, values) in rows {
            let row = format!("{layout:?} {name} {expected:?} {found:?}");
            let array = Array { shape: found.to_vec(), data: counted.to_vec() };
            let result = convert(name, array, expected, layout, &space());
            let values = values.map(|values| Array { shape: expected.to_vec(), data: values.to_vec() });
            assert_eq!(result.ok(), values, "{row}");
        }
    }

    #[test]
    fn merged_tokens_are_four_matrices() {
        let counted: Vec<f32> = (0..8_u8).map(f32::from).collect();
        let turned = vec![0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0];
        for (layout, name, expected, found, values) in [
            (Layout::Elastic, "layers.1.downsample.reduction.weight", &[4, 1, 2][..], &[4, 2][..], &counted),
            (Layout::Pytorch, "layers.1.downsample.reduction.weight", &[4, 1, 2], &[2, 4], &turned),
            (Layout::Elastic, "layers.1.downsample.norm.weight", &[4, 2], &[8], &counted),
            (Layout::Pytorch, "layers.1.downsample.norm.bias", &[4, 2], &[8], &counted),
            (Layout::Elastic, "a.relative_position_bias_table", &[1, 4, 2], &[4, 2], &counted),
            (Layout::Pytorch, "a.relative_position_bias_table", &[1, 4, 2], &[4, 2], &counted),
        ] {
            let array = Array { shape: found.to_vec(), data: counted.clone() };
            let found = convert(name, array, expected, layout, &space());
            let expected = Array { shape: expected.to_vec(), data: values.clone() };
            assert_eq!(found, Ok(expected), "{layout:?} {name}");
        }
    }

    #[test]
    fn a_patch_kernel_is_a_matrix() {
        // Two filters of 2 x 2 x 2: the matrix has them as columns.
        let kernel = Array { shape: vec![2, 2, 2, 2], data: (0..16_u8).map(f32::from).collect() };
        let found = convert("patch_embed.proj.weight", kernel, &[8, 2], Layout::Pytorch, &space());
        let data = (0..8_u8).flat_map(|value| [f32::from(value), f32::from(value + 8)]).collect();
        assert_eq!(found, Ok(Array { shape: vec![8, 2], data }));
        let wrong = Array { shape: vec![2, 8], data: vec![0.0; 16] };
        let error = convert("patch_embed.proj.weight", wrong, &[8, 2], Layout::Pytorch, &space());
        assert_eq!(error, Err((vec![2, 8], vec![2, 2, 2, 2])));
    }

    #[test]
    fn a_stem_is_a_matrix_with_the_channels_last() {
        // Two filters of 2 x 3 x 3 on two colours, as a matrix of rows (pixel, colour) and filters as columns.
        let space = conv_space(2);
        let kernel = Array { shape: vec![2, 2, 3, 3], data: (0..36_u8).map(f32::from).collect() };
        let found = convert("stem.weight", kernel, &[18, 2], Layout::Pytorch, &space).expect("it fits");
        assert_eq!(found.shape, [18, 2]);
        assert_eq!(found.data[..8], [0.0, 18.0, 9.0, 27.0, 1.0, 19.0, 10.0, 28.0]);
        let pixel = Array { shape: vec![2, 3, 1, 1], data: vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0] };
        let found = convert("head.weight", pixel, &[3, 2], Layout::Pytorch, &space).expect("it fits");
        assert_eq!(found.data, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    }

    #[test]
    fn the_scale_is_taken_out_of_queries_alone() {
        // head-dim 4: the factor is 1/2. Two inputs, one feature in each part.
        let array = |shape: &[usize], data: &[f32]| Array { shape: shape.to_vec(), data: data.to_vec() };
        let mut weights = Weights::from([
            ("blocks.0.attn.qkv.weight".to_owned(), array(&[2, 3, 1], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])),
            ("blocks.0.attn.qkv.bias".to_owned(), array(&[3, 1], &[1.0, 2.0, 3.0])),
            ("blocks.0.attn.proj.bias".to_owned(), array(&[3], &[1.0, 2.0, 3.0])),
        ]);
        unfold_scale(&mut weights, &space());
        let found: Vec<&[f32]> = weights.values().map(|array| array.data.as_slice()).collect();
        assert_eq!(found, [&[1.0, 2.0, 3.0][..], &[2.0, 2.0, 3.0], &[2.0, 2.0, 3.0, 8.0, 5.0, 6.0]]);
    }

    #[test]
    fn networks_that_differ_only_in_a_fixed_size() {
        let SearchSpace::Vit(vit) = space() else { panic!("a vision transformer") };
        let other = SearchSpace::Vit(VitSpace {
            head_dim: 2,
            heads: WidthChoices { choices: vec![2], ..vit.heads.clone() },
            ..vit
        });
        assert_eq!(difference(&space(), &space()), None);
        assert!(difference(&other, &space()).is_some_and(|layer| layer.starts_with("blocks.0.attn.")));
    }
}
