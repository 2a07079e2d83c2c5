//! Attention of each image and head in one task: scores, softmax and context never leave the cache.
//!
//! Made for short sequences, where a batch of small matrix products costs more in calls, copies and passes
//! over memory than in arithmetic. The backward pass computes the probabilities anew instead of keeping them.

use burn_flex::FlexTensor;

use super::elementwise::{filled, floats, part, shape as shape_of};
use super::kernels;

/// Values of the queries, keys and values of one task.
const BLOCK: usize = 32 * 1024;

/// How a row of queries, keys and values is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttentionShape {
    /// Rows of one image.
    pub(crate) tokens: usize,
    /// Heads of queries, of keys and of values, in this order.
    pub(crate) heads: usize,
    /// Features of one head.
    pub(crate) head_dim: usize,
}

impl AttentionShape {
    /// Features of all heads.
    pub(super) fn inner(self) -> usize {
        self.heads * self.head_dim
    }

    /// Values of one task's context: whole images.
    pub(super) fn block(self) -> usize {
        let image = self.tokens * self.inner();
        image * (BLOCK / (3 * image)).max(1)
    }

    /// Factor of the scores.
    pub(super) fn scale(self) -> f32 {
        (self.head_dim as f32).sqrt().recip()
    }
}

/// The context of each row, `[rows, inner]`, for `[rows, 3 * inner]`.
pub(super) fn attention(qkv: &FlexTensor, shape: AttentionShape) -> FlexTensor {
    let qkv = qkv.to_contiguous();
    let rows = qkv.layout().shape()[0];
    let block = shape.block();
    let qkv = floats(&qkv);
    let ([result], _) = filled(&[([rows, shape.inner()].into(), block)], |task, [result]| {
        kernels::attention(result, part(qkv, 3 * block, task), shape, None);
    });
    result
}

/// The gradient of [`attention`].
pub(super) fn attention_backward(
    qkv: &FlexTensor,
    gradient: &FlexTensor,
    shape: AttentionShape,
) -> FlexTensor {
    let (qkv, gradient) = (qkv.to_contiguous(), gradient.to_contiguous());
    let block = shape.block();
    let ([result], _) = filled(&[(shape_of(&qkv), 3 * block)], |task, [result]| {
        let (qkv, gradient) = (part(floats(&qkv), 3 * block, task), part(floats(&gradient), block, task));
        kernels::attention_backward(result, qkv, gradient, shape, None);
    });
    result
}
