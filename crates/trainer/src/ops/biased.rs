//! Attention whose scores have something added to them.

use burn::tensor::Tensor;

use super::{AttentionShape, softmax};

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
    let AttentionShape { tokens, heads, head_dim } = shape;
    let rows = qkv.dims()[0];
    let (sequences, groups) = (rows / tokens, bias.dims()[0]);
    let parts = qkv.reshape([sequences, tokens, 3 * heads, head_dim]).swap_dims(1, 2);
    let [query, key, value] = [0, 1, 2].map(|part| parts.clone().narrow(1, part * heads, heads));
    let scores = query.matmul(key.swap_dims(2, 3));
    let scores = scores.reshape([sequences / groups, groups, heads, tokens, tokens]);
    // The softmax scales; so the small bias is divided, and not the scores multiplied.
    let scores = scores + (bias / shape.scale()).unsqueeze::<5>();
    let weights = softmax(scores, shape.scale()).reshape([sequences, heads, tokens, tokens]);
    weights.matmul(value).swap_dims(1, 2).reshape([rows, heads * head_dim])
}
