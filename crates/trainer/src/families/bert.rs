//! The elastic BERT encoder.
//!
//! Activations are rows of features, one a token, the texts one after another. A batch is padded to its longest text; no
//! token looks at padding, so a text's logits do not depend on the others.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, activation, s};
use elastic_space::bert::{BertLayer, BertPooling, BertSpace, BertSubnet, LAYER_NORM_EPSILON, MASKED, ROWS};
use elastic_space::{Array, Dimension, Weights};
use rand::Rng;

use super::put;
use super::transformer::{Attention, Mlp};
use crate::layers::{ElasticLayerNorm, ElasticLinear, Transforms, leading};
use crate::ops::{self, AttentionShape};
use crate::parameters::{array, param, small_normal};

/// A BERT encoder of a space's largest sizes.
#[derive(Module, Debug)]
pub struct Bert {
    /// Tokens to features.
    pub embeddings: Embeddings,
    /// All layers.
    pub blocks: Vec<Block>,
    /// On the first token, `[largest embedding, largest embedding]`, where pooling has it.
    pub pooler: Option<ElasticLinear>,
    /// Features to classes.
    pub head: ElasticLinear,
    #[module(skip)]
    space: BertSpace,
}

/// The normalised sum of three tables.
#[derive(Module, Debug)]
pub struct Embeddings {
    /// `[1, vocabulary, largest embedding]`
    pub tokens: Param<Tensor<3>>,
    /// `[1, longest text, largest embedding]`
    pub positions: Param<Tensor<3>>,
    /// `[1, segments, largest embedding]`
    pub segments: Param<Tensor<3>>,
    /// Of the sum.
    pub norm: ElasticLayerNorm,
}

/// One post-norm layer.
#[derive(Module, Debug)]
pub struct Block {
    /// Multi-head self-attention.
    pub attn: Attention,
    /// After attention and its residual.
    pub norm1: ElasticLayerNorm,
    /// The MLP.
    pub mlp: Mlp,
    /// After the MLP and its residual.
    pub norm2: ElasticLayerNorm,
}

/// Which tokens of a batch are padding.
struct Mask {
    /// `[texts, tokens]`: 1 for a token, 0 for padding.
    tokens: Tensor<2>,
    /// Added to the scores for each key, `[texts, 1, 1, tokens]`.
    bias: Tensor<4>,
}

impl Bert {
    /// A network of the space's largest sizes with random weights.
    pub fn new(space: &BertSpace, device: &Device, rng: &mut impl Rng) -> Self {
        let embed = space.embed_dim[space.embed_dim.len() - 1];
        let norm = || {
            let transforms = Transforms::new(space.transform(Dimension::Embedding), &space.embed_dim, device);
            ElasticLayerNorm::new(embed, LAYER_NORM_EPSILON, device).with_transforms(transforms)
        };
        let mut table = |entries: usize| param(small_normal([1, entries, embed], rng), device);
        let (tokens, positions, segments) =
            (table(space.vocabulary), table(space.length), table(space.segments));
        let embeddings = Embeddings { tokens, positions, segments, norm: norm() };
        let (heads, width) = (space.transform(Dimension::Heads), space.transform(Dimension::Width));
        let blocks = (0..space.layers())
            .map(|_| Block {
                attn: Attention::new(embed, &space.heads.choices, space.head_dim, heads, device, rng),
                norm1: norm(),
                mlp: Mlp::new(embed, &space.mlp_width.choices, width, device, rng),
                norm2: norm(),
            })
            .collect();
        let pooler =
            (space.pooling == BertPooling::Pooler).then(|| ElasticLinear::new(embed, embed, device, rng));
        let head = ElasticLinear::new(embed, space.classes, device, rng);
        Self { embeddings, blocks, pooler, head, space: space.clone() }
    }

    /// The logits of a subnet.
    ///
    /// # Shapes
    ///
    /// - texts: `[batch, 3, 1, tokens]`: ids, 1 for a token and 0 for padding, segments
    /// - output: `[batch, classes]`
    pub fn forward(&self, texts: Tensor<4>, subnet: &BertSubnet) -> Tensor<2> {
        let [batch, _, _, tokens] = texts.dims();
        let embed = subnet.embed_dim;
        let texts = texts.reshape([batch, ROWS, tokens]);
        let row = |index: usize| texts.clone().slice(s![.., index..index + 1, ..]).reshape([batch, tokens]);
        let mask = Mask::new(row(1));
        let mut x = self.embeddings.forward(row(0), row(2), embed);
        for layer in &subnet.layers {
            x = self.blocks[layer.index].forward(x, layer, &mask, self.space.head_dim);
        }
        let x = x.reshape([batch, tokens, embed]);
        let pooled = match &self.pooler {
            Some(pooler) => {
                let first = x.slice(s![.., 0..1, ..]).reshape([batch, embed]);
                activation::tanh(pooler.forward(first, embed))
            }
            None => mask.mean(x),
        };
        self.head.forward(pooled, self.space.classes)
    }

    /// The tensors of the standalone subnet, named as [`BertSpace::shape`] lists them.
    pub fn extract(&self, subnet: &BertSubnet) -> Weights {
        let embed = subnet.embed_dim;
        let mut weights = Weights::new();
        let Embeddings { tokens, positions, segments, norm } = &self.embeddings;
        for (part, table) in [("tokens", tokens), ("positions", positions), ("segments", segments)] {
            let table = leading(table, [1, table.dims()[1], embed]);
            weights.insert(format!("embeddings.{part}"), array(table));
        }
        put(&mut weights, "embeddings.norm", norm.slice(embed));
        for (position, layer) in subnet.layers.iter().enumerate() {
            let block = &self.blocks[layer.index];
            let name = |part: &str| format!("blocks.{position}.{part}");
            block.attn.extract(&mut weights, &name("attn"), embed, layer.heads * self.space.head_dim);
            put(&mut weights, &name("norm1"), block.norm1.slice(embed));
            block.mlp.extract(&mut weights, &name("mlp"), embed, layer.mlp_width);
            put(&mut weights, &name("norm2"), block.norm2.slice(embed));
        }
        if let Some(pooler) = &self.pooler {
            put(&mut weights, "pooler", pooler.slice(embed, embed));
        }
        put(&mut weights, "head", self.head.slice(embed, self.space.classes));
        weights
    }
}

impl Embeddings {
    /// # Shapes
    ///
    /// - ids, segments: `[batch, tokens]`
    /// - output: `[batch * tokens, embed]`
    fn forward(&self, ids: Tensor<2>, segments: Tensor<2>, embed: usize) -> Tensor<2> {
        let [batch, tokens] = ids.dims();
        let positions = leading(&self.positions, [1, tokens, embed]);
        let x = looked_up(&self.tokens, ids.int(), embed) + looked_up(&self.segments, segments.int(), embed);
        let x = x.reshape([batch, tokens, embed]) + positions;
        self.norm.forward(x.reshape([batch * tokens, embed]))
    }
}

impl Block {
    /// # Shapes
    ///
    /// - x: `[batch * tokens, embed]`
    /// - output: `[batch * tokens, embed]`
    fn forward(&self, x: Tensor<2>, layer: &BertLayer, mask: &Mask, head_dim: usize) -> Tensor<2> {
        let [batch, tokens] = mask.tokens.dims();
        let heads = layer.heads;
        let shape = AttentionShape { tokens, heads, head_dim };
        let bias = mask.bias.clone().expand([batch, heads, tokens, tokens]);
        let context = ops::biased_attention(self.attn.qkv.forward(x.clone(), heads * head_dim), bias, shape);
        let x = self.norm1.forward(self.attn.proj.forward_add(context, x));
        self.norm2.forward(self.mlp.forward_add(x.clone(), layer.mlp_width, x))
    }
}

impl Mask {
    /// From `[texts, tokens]`.
    fn new(tokens: Tensor<2>) -> Self {
        let [texts, count] = tokens.dims();
        let bias = (tokens.clone() - 1.0) * -MASKED;
        Self { tokens, bias: bias.reshape([texts, 1, 1, count]) }
    }

    /// The mean over the tokens that are no padding, `[texts, tokens, features]` to `[texts, features]`.
    fn mean(&self, x: Tensor<3>) -> Tensor<2> {
        let [texts, tokens, features] = x.dims();
        let count = self.tokens.clone().sum_dim(1);
        let sum = self.tokens.clone().reshape([texts, 1, tokens]).matmul(x).reshape([texts, features]);
        sum / count
    }
}

/// Rows of a table, of each its first features.
///
/// # Shapes
///
/// - ids: `[batch, tokens]`
/// - output: `[batch * tokens, embed]`
fn looked_up(table: &Param<Tensor<3>>, ids: Tensor<2, Int>, embed: usize) -> Tensor<2> {
    let [_, entries, features] = table.dims();
    let [batch, tokens] = ids.dims();
    let rows = table.val().reshape([entries, features]).select(0, ids.reshape([batch * tokens]));
    if embed == features { rows } else { rows.slice(s![.., 0..embed]) }
}

/// Texts without the columns in which all of them are padding.
///
/// # Shapes
///
/// - texts: `[batch, 3, 1, tokens]`
pub(crate) fn trimmed(texts: &Array) -> Array {
    let tokens = texts.shape[3];
    let longest = texts
        .data
        .chunks(ROWS * tokens)
        .filter_map(|text| text[tokens..2 * tokens].iter().rposition(|&is_token| is_token > 0.0))
        .max()
        .map_or(tokens, |last| last + 1);
    let data = texts.data.chunks(tokens).flat_map(|row| &row[..longest]).copied().collect();
    Array { shape: vec![texts.shape[0], ROWS, 1, longest], data }
}
