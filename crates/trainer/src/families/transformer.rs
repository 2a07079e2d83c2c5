//! What the transformer families share: attention and the MLP of one layer.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use elastic_space::Weights;
use elastic_space::choices::TransformKind;
use rand::Rng;

use super::put;
use crate::layers::{ElasticLinear, ElasticQkv, Transforms};
use crate::ops::{self, AttentionShape};

/// Multi-head self-attention; the width of a head is fixed.
#[derive(Module, Debug)]
pub struct Attention {
    /// To queries, keys and values.
    pub qkv: ElasticQkv,
    /// From the heads back to the embedding.
    pub proj: ElasticLinear,
}

/// Two linear layers with GELU between.
#[derive(Module, Debug)]
pub struct Mlp {
    /// Embedding to hidden.
    pub fc1: ElasticLinear,
    /// Hidden to embedding.
    pub fc2: ElasticLinear,
}

/// Cuts images into patches; a patch lists its channels, then its rows.
///
/// # Shapes
///
/// - images: `[batch, channels, height, width]`
/// - output: `[batch, rows, columns, channels * size * size]`
pub fn patches(images: Tensor<4>, size: usize) -> Tensor<4> {
    let [batch, channels, height, width] = images.dims();
    let (rows, columns) = (height / size, width / size);
    let values = channels * size * size;
    let cut = images.reshape([batch, channels, rows, size, columns, size]);
    cut.permute([0, 2, 4, 1, 3, 5]).reshape([batch, rows, columns, values])
}

impl Attention {
    /// An attention of the largest sizes, for these choices of heads, ascending.
    pub(super) fn new(
        embed: usize,
        heads: &[usize],
        head_dim: usize,
        transform: TransformKind,
        device: &Device,
        rng: &mut impl Rng,
    ) -> Self {
        let outputs: Vec<usize> = heads.iter().map(|heads| 3 * head_dim * heads).collect();
        let inner = heads[heads.len() - 1] * head_dim;
        let transforms = Transforms::new(transform, &outputs, device);
        Self {
            qkv: ElasticQkv::new(embed, inner, device, rng).with_transforms(transforms),
            proj: ElasticLinear::new(inner, embed, device, rng),
        }
    }

    /// A residual plus scaled dot-product attention of the first heads.
    ///
    /// # Shapes
    ///
    /// - x, residual: `[sequences * tokens, embed]`
    /// - output: `[sequences * tokens, embed]`
    pub(super) fn forward_add(&self, x: Tensor<2>, shape: AttentionShape, residual: Tensor<2>) -> Tensor<2> {
        let qkv = self.qkv.forward(x, shape.heads * shape.head_dim);
        self.proj.forward_add(ops::attention(qkv, shape), residual)
    }

    /// Adds the tensors of a standalone subnet whose heads have `inner` features.
    pub(super) fn extract(&self, weights: &mut Weights, name: &str, embed: usize, inner: usize) {
        put(weights, &format!("{name}.qkv"), self.qkv.slice(embed, inner));
        put(weights, &format!("{name}.proj"), self.proj.slice(inner, embed));
    }
}

impl Mlp {
    /// An MLP of the largest sizes, for these choices of hidden features, ascending.
    pub(super) fn new(
        embed: usize,
        widths: &[usize],
        transform: TransformKind,
        device: &Device,
        rng: &mut impl Rng,
    ) -> Self {
        let hidden = widths[widths.len() - 1];
        let transforms = Transforms::new(transform, widths, device);
        Self {
            fc1: ElasticLinear::new(embed, hidden, device, rng).with_transforms(transforms),
            fc2: ElasticLinear::new(hidden, embed, device, rng),
        }
    }

    /// A residual plus the MLP.
    ///
    /// # Shapes
    ///
    /// - x, residual: `[rows, embed]`
    /// - output: `[rows, embed]`
    pub(super) fn forward_add(&self, x: Tensor<2>, width: usize, residual: Tensor<2>) -> Tensor<2> {
        self.fc2.forward_add(ops::gelu(self.fc1.forward(x, width)), residual)
    }

    /// Adds the tensors of a standalone subnet of `width` hidden features.
    pub(super) fn extract(&self, weights: &mut Weights, name: &str, embed: usize, width: usize) {
        put(weights, &format!("{name}.fc1"), self.fc1.slice(embed, width));
        put(weights, &format!("{name}.fc2"), self.fc2.slice(width, embed));
    }
}
