//! Attention whose scores have something added to them.
//!
//! Sequence s takes the bias of group s modulo the number of groups: windows of an image follow one another.

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Tensor;
use burn_flex::FlexTensor;

use super::elementwise::{filled, floats, part, shape as shape_of, tensor};
use super::kernels::{self, Biases};
use super::{AttentionShape, FusedOps, heads, joined, parts};

/// The context of each row, `[rows, inner]`, for `[rows, 3 * inner]`.
pub(super) fn attention(qkv: &FlexTensor, bias: &FlexTensor, shape: AttentionShape) -> FlexTensor {
    let (qkv, packed) = (qkv.to_contiguous(), packed(bias, shape));
    let rows = qkv.layout().shape()[0];
    let block = shape.block();
    let ([result], _) = filled(&[([rows, shape.inner()].into(), block)], |task, [result]| {
        let qkv = part(floats(&qkv), 3 * block, task);
        kernels::attention(result, qkv, shape, Some(biases(&packed, shape, task)));
    });
    result
}

/// The gradients of [`attention`] for queries, keys and values, and for the bias.
pub(super) fn attention_backward(
    qkv: &FlexTensor,
    bias: &FlexTensor,
    gradient: &FlexTensor,
    shape: AttentionShape,
) -> (FlexTensor, FlexTensor) {
    let (packed, group) = (packed(bias, shape), group(shape));
    let (groups, sequences) = (packed.len() / group, shape.block() / (shape.tokens * shape.inner()));
    // A task keeps the sums of the groups that it meets, and no more.
    let (result, partial) = backward(qkv, &packed, gradient, shape, groups.min(sequences));
    let mut total = vec![0.0; packed.len()];
    for (task, sums) in partial.iter().enumerate() {
        for (place, sums) in sums.chunks_exact(group).enumerate() {
            let at = (task * sequences + place) % groups * group;
            total[at..at + group].iter_mut().zip(sums).for_each(|(total, &sum)| *total += sum);
        }
    }
    (result, unpacked(&total, groups, shape))
}

/// The gradient of [`attention`] for queries, keys and values alone.
pub(super) fn attention_backward_without_bias(
    qkv: &FlexTensor,
    bias: &FlexTensor,
    gradient: &FlexTensor,
    shape: AttentionShape,
) -> FlexTensor {
    backward(qkv, &packed(bias, shape), gradient, shape, 0).0
}

/// The gradient for queries, keys and values, and of each task the sums of `groups` groups of the bias's.
fn backward(
    qkv: &FlexTensor,
    packed: &[f32],
    gradient: &FlexTensor,
    shape: AttentionShape,
    groups: usize,
) -> (FlexTensor, Vec<Vec<f32>>) {
    let (qkv, gradient, block) = (qkv.to_contiguous(), gradient.to_contiguous(), shape.block());
    let ([result], partial) = filled(&[(shape_of(&qkv), 3 * block)], |task, [result]| {
        let mut sums = vec![0.0; groups * group(shape)];
        let (qkv, gradient) = (part(floats(&qkv), 3 * block, task), part(floats(&gradient), block, task));
        let biases = biases(packed, shape, task);
        kernels::attention_backward(result, qkv, gradient, shape, Some((biases, &mut sums)));
        sums
    });
    (result, partial)
}

/// Values of one group in the layout of the scores.
fn group(shape: AttentionShape) -> usize {
    shape.heads * shape.tokens * heads::filled(shape.tokens)
}

fn biases(packed: &[f32], shape: AttentionShape, task: usize) -> Biases<'_> {
    let first = task * (shape.block() / (shape.tokens * shape.inner()));
    Biases { values: packed, group: group(shape), first }
}

/// The bias over the scale in the layout of the scores: a row for each key, filled up.
fn packed(bias: &FlexTensor, shape: AttentionShape) -> Vec<f32> {
    let (bias, tokens) = (bias.to_contiguous(), shape.tokens);
    let (width, inverse) = (heads::filled(tokens), shape.scale().recip());
    let bias = floats(&bias);
    let mut packed = vec![0.0; bias.len() / tokens * width];
    for (to, from) in packed.chunks_exact_mut(tokens * width).zip(bias.chunks_exact(tokens * tokens)) {
        for (query, row) in from.chunks_exact(tokens).enumerate() {
            for (key, value) in row.iter().enumerate() {
                to[key * width + query] = value * inverse;
            }
        }
    }
    packed
}

/// The gradient of the bias from that of what [`packed`] makes of it.
fn unpacked(packed: &[f32], groups: usize, shape: AttentionShape) -> FlexTensor {
    let AttentionShape { tokens, heads, .. } = shape;
    let (width, inverse) = (heads::filled(tokens), shape.scale().recip());
    let mut bias = vec![0.0; groups * heads * tokens * tokens];
    for (to, from) in bias.chunks_exact_mut(tokens * tokens).zip(packed.chunks_exact(tokens * width)) {
        for (query, row) in to.chunks_exact_mut(tokens).enumerate() {
            for (key, value) in row.iter_mut().enumerate() {
                *value = from[key * width + query] * inverse;
            }
        }
    }
    tensor(bias, [groups, heads, tokens, tokens])
}

/// [`attention`] as a plain expression.
pub(super) fn composed<B: FusedOps>(
    qkv: FloatTensor<B>,
    bias: FloatTensor<B>,
    shape: AttentionShape,
) -> FloatTensor<B> {
    let [query, key, value] = parts::<B, 3>(qkv, shape);
    let context = B::float_matmul(probabilities::<B>(query, key, bias, shape), value);
    joined::<B>(vec![context], shape)
}

/// [`attention_backward`] as a plain expression.
pub(super) fn composed_backward<B: FusedOps>(
    qkv: FloatTensor<B>,
    bias: FloatTensor<B>,
    gradient: FloatTensor<B>,
    shape: AttentionShape,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let AttentionShape { tokens, heads, .. } = shape;
    let [query, key, value] = parts::<B, 3>(qkv, shape);
    let [gradient] = parts::<B, 1>(gradient, shape);
    let transposed = |x| B::float_swap_dims(x, 2, 3);
    let (sequences, groups) = (query.shape()[0], bias.shape()[0]);
    let y = probabilities::<B>(query.clone(), key.clone(), bias, shape);
    let for_value = B::float_matmul(transposed(y.clone()), gradient.clone());
    let for_y = B::float_matmul(gradient, transposed(value));
    let for_sums = B::fused_softmax_backward(y, for_y, 1.0);
    let by_image = [sequences / groups, groups, heads, tokens, tokens];
    let for_bias = B::float_sum_dim(B::float_reshape(for_sums.clone(), by_image.into()), 0);
    let for_bias = B::float_reshape(for_bias, [groups, heads, tokens, tokens].into());
    let for_scores = B::float_mul_scalar(for_sums, shape.scale().into());
    let for_query = B::float_matmul(for_scores.clone(), key);
    let for_key = B::float_matmul(transposed(for_scores), query);
    (joined::<B>(vec![for_query, for_key, for_value], shape), for_bias)
}

/// `[sequences, heads, tokens, tokens]`
fn probabilities<B: FusedOps>(
    query: FloatTensor<B>,
    key: FloatTensor<B>,
    bias: FloatTensor<B>,
    shape: AttentionShape,
) -> FloatTensor<B> {
    let AttentionShape { tokens, heads, .. } = shape;
    let (sequences, groups) = (query.shape()[0], bias.shape()[0]);
    let scores = B::float_matmul(query, B::float_swap_dims(key, 2, 3));
    let scores = B::float_mul_scalar(scores, shape.scale().into());
    let by_image = [sequences / groups, groups, heads, tokens, tokens];
    let bias = B::float_reshape(bias, [1, groups, heads, tokens, tokens].into());
    let sums = B::float_add(B::float_reshape(scores, by_image.into()), bias);
    B::fused_softmax(B::float_reshape(sums, [sequences, heads, tokens, tokens].into()), 1.0)
}

/// Scaled dot-product attention within each sequence, with a bias on the scaled scores.
///
/// Sequence s takes the bias of group s modulo the number of groups.
///
/// # Shapes
///
/// - qkv: `[sequences * tokens, 3 * heads * head_dim]`: the heads of the queries, the keys, the values
/// - bias: `[groups, heads, tokens, tokens]`, the last for the keys
/// - output: `[sequences * tokens, heads * head_dim]`
pub(crate) fn biased_attention(qkv: Tensor<2>, bias: Tensor<4>, shape: AttentionShape) -> Tensor<2> {
    let (qkv, bias) = (qkv.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(<burn::backend::Dispatch as FusedOps>::fused_biased_attention(qkv, bias, shape))
}
