//! The elastic vision transformer.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, s};
use elastic_space::vit::{LAYER_NORM_EPSILON, Pooling, VitLayer, VitSpace, VitSubnet};
use elastic_space::{Dimension, Weights};
use rand::Rng;

use super::put;
use super::transformer::{Attention, Mlp};
use crate::layers::{ElasticLayerNorm, ElasticLinear, Transforms, leading};
use crate::ops::AttentionShape;
use crate::parameters::{array, param, small_normal};

/// A vision transformer of a space's largest sizes.
#[derive(Module, Debug)]
pub struct Vit {
    /// Patches to features.
    pub patch_embed: PatchEmbedding,
    /// `[1, 1, largest embedding]`, with class-token pooling.
    pub cls_token: Option<Param<Tensor<3>>>,
    /// `[1, tokens, largest embedding]`
    pub pos_embed: Param<Tensor<3>>,
    /// All layers.
    pub blocks: Vec<Block>,
    /// The last normalisation.
    pub norm: ElasticLayerNorm,
    /// Features to classes.
    pub head: ElasticLinear,
    #[module(skip)]
    patch_size: usize,
    #[module(skip)]
    head_dim: usize,
    #[module(skip)]
    classes: usize,
}

/// Patches to features; a convolution whose stride is its kernel, as one matrix.
#[derive(Module, Debug)]
pub struct PatchEmbedding {
    /// `[channels * patch * patch, largest embedding]`
    pub proj: ElasticLinear,
}

/// One pre-norm layer.
#[derive(Module, Debug)]
pub struct Block {
    /// Before attention.
    pub norm1: ElasticLayerNorm,
    /// Multi-head self-attention.
    pub attn: Attention,
    /// Before the MLP.
    pub norm2: ElasticLayerNorm,
    /// The MLP.
    pub mlp: Mlp,
}

impl Vit {
    /// A network of the space's largest sizes with random weights.
    pub fn new(space: &VitSpace, device: &Device, rng: &mut impl Rng) -> Self {
        let largest = |choices: &[usize]| choices[choices.len() - 1];
        let embed = largest(&space.embed_dim);
        let of_embedding =
            || Transforms::new(space.transform(Dimension::Embedding), &space.embed_dim, device);
        let norm =
            || ElasticLayerNorm::new(embed, LAYER_NORM_EPSILON, device).with_transforms(of_embedding());
        let proj = ElasticLinear::new(space.patch_values(), embed, device, rng);
        let patch_embed = PatchEmbedding { proj: proj.with_transforms(of_embedding()) };
        let cls_token =
            (space.pooling == Pooling::ClassToken).then(|| param(small_normal([1, 1, embed], rng), device));
        let pos_embed = param(small_normal([1, space.tokens(), embed], rng), device);
        let (heads, width) = (space.transform(Dimension::Heads), space.transform(Dimension::Width));
        let blocks = (0..space.layers())
            .map(|_| Block {
                norm1: norm(),
                attn: Attention::new(embed, &space.heads.choices, space.head_dim, heads, device, rng),
                norm2: norm(),
                mlp: Mlp::new(embed, &space.mlp_width.choices, width, device, rng),
            })
            .collect();
        Self {
            patch_embed,
            cls_token,
            pos_embed,
            blocks,
            norm: norm(),
            head: ElasticLinear::new(embed, space.classes, device, rng),
            patch_size: space.patch_size,
            head_dim: space.head_dim,
            classes: space.classes,
        }
    }

    /// The logits of a subnet.
    ///
    /// # Shapes
    ///
    /// - patches: `[batch, rows, columns, channels * patch * patch]`, from [`super::transformer::patches`]
    /// - output: `[batch, classes]`
    pub fn forward(&self, patches: Tensor<4>, subnet: &VitSubnet) -> Tensor<2> {
        let [batch, rows, columns, values] = patches.dims();
        let embed = subnet.embed_dim;
        let count = rows * columns;
        let patches = patches.reshape([batch * count, values]);
        let mut x = self.patch_embed.proj.forward(patches, embed).reshape([batch, count, embed]);
        if let Some(token) = self.class_token(embed) {
            x = Tensor::cat(vec![token.expand([batch, 1, embed]), x], 1);
        }
        let tokens = x.dims()[1];
        x = x + self.positions(embed);
        let mut x = x.reshape([batch * tokens, embed]);
        for layer in &subnet.layers {
            x = self.blocks[layer.index].forward(x, layer, batch, self.head_dim);
        }
        let pooled = if self.cls_token.is_some() {
            // Only the class token goes on, so only its row is normalised.
            let first = x.reshape([batch, tokens, embed]).slice(s![.., 0..1, ..]);
            self.norm.forward(first.reshape([batch, embed]))
        } else {
            let x = self.norm.forward(x).reshape([batch, tokens, embed]);
            x.mean_dim(1).reshape([batch, embed])
        };
        self.head.forward(pooled, self.classes)
    }

    /// The tensors of the standalone subnet, named as [`VitSpace::shape`] lists them.
    pub fn extract(&self, subnet: &VitSubnet) -> Weights {
        let embed = subnet.embed_dim;
        let mut weights = Weights::new();
        put(&mut weights, "patch_embed.proj", self.patch_embed.proj.slice(self.patch_values(), embed));
        if let Some(token) = self.class_token(embed) {
            weights.insert("cls_token".into(), array(token));
        }
        weights.insert("pos_embed".into(), array(self.positions(embed)));
        for (position, layer) in subnet.layers.iter().enumerate() {
            let block = &self.blocks[layer.index];
            let name = |part: &str| format!("blocks.{position}.{part}");
            put(&mut weights, &name("norm1"), block.norm1.slice(embed));
            block.attn.extract(&mut weights, &name("attn"), embed, layer.heads * self.head_dim);
            put(&mut weights, &name("norm2"), block.norm2.slice(embed));
            block.mlp.extract(&mut weights, &name("mlp"), embed, layer.mlp_width);
        }
        put(&mut weights, "norm", self.norm.slice(embed));
        put(&mut weights, "head", self.head.slice(embed, self.classes));
        weights
    }

    /// Pixels of a patch in one direction.
    pub fn patch_size(&self) -> usize {
        self.patch_size
    }

    fn patch_values(&self) -> usize {
        self.patch_embed.proj.weight.dims()[0]
    }

    /// `[1, 1, embed]`
    fn class_token(&self, embed: usize) -> Option<Tensor<3>> {
        self.cls_token.as_ref().map(|token| leading(token, [1, 1, embed]))
    }

    /// `[1, tokens, embed]`
    fn positions(&self, embed: usize) -> Tensor<3> {
        leading(&self.pos_embed, [1, self.pos_embed.dims()[1], embed])
    }
}

impl Block {
    /// # Shapes
    ///
    /// - x: `[batch * tokens, embed]`
    /// - output: `[batch * tokens, embed]`
    fn forward(&self, x: Tensor<2>, layer: &VitLayer, batch: usize, head_dim: usize) -> Tensor<2> {
        let normal = self.norm1.forward(x.clone());
        let shape = AttentionShape { tokens: x.dims()[0] / batch, heads: layer.heads, head_dim };
        let x = self.attn.forward_add(normal, shape, x);
        let normal = self.norm2.forward(x.clone());
        self.mlp.forward_add(normal, layer.mlp_width, x)
    }
}
