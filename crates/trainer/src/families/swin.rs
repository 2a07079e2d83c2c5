//! The elastic Swin transformer.
//!
//! Activations are rows of features, one a token, the images one after another; windows and merged tokens are
//! rows in another order.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use elastic_space::swin::{LAYER_NORM_EPSILON, SwinLayer, SwinSpace, SwinSubnet, Windows, merged};
use elastic_space::{Dimension, Weights};
use rand::Rng;

use super::put;
use super::transformer::{Attention, Mlp};
use crate::layers::{
    ElasticLayerNorm, ElasticLinear, ElasticMergeLinear, ElasticMergeNorm, ElasticQkv, Transforms, leading,
};
use crate::ops::{self, AttentionShape};
use crate::parameters::{array, param, small_normal};

/// A Swin transformer of a space's largest sizes.
#[derive(Module, Debug)]
pub struct Swin {
    /// Patches to features.
    pub patch_embed: PatchEmbedding,
    /// All stages.
    pub layers: Vec<Stage>,
    /// The last normalisation.
    pub norm: ElasticLayerNorm,
    /// Features to classes.
    pub head: ElasticLinear,
    #[module(skip)]
    space: SwinSpace,
}

/// Patches to normalised features.
#[derive(Module, Debug)]
pub struct PatchEmbedding {
    /// `[channels * patch * patch, largest embedding]`
    pub proj: ElasticLinear,
    /// After it.
    pub norm: ElasticLayerNorm,
}

/// Layers on one map of tokens.
#[derive(Module, Debug)]
pub struct Stage {
    /// From the map of the stage before, in all but the first.
    pub downsample: Option<PatchMerging>,
    /// All layers.
    pub blocks: Vec<Block>,
}

/// Four tokens to one.
#[derive(Module, Debug)]
pub struct PatchMerging {
    /// Of the four side by side.
    pub norm: ElasticMergeNorm,
    /// To the features of the stage.
    pub reduction: ElasticMergeLinear,
}

/// One pre-norm layer.
#[derive(Module, Debug)]
pub struct Block {
    /// Before attention.
    pub norm1: ElasticLayerNorm,
    /// Self-attention within windows.
    pub attn: WindowAttention,
    /// Before the MLP.
    pub norm2: ElasticLayerNorm,
    /// The MLP.
    pub mlp: Mlp,
}

/// Multi-head self-attention with a learned bias for each relative position.
#[derive(Module, Debug)]
pub struct WindowAttention {
    /// To queries, keys and values.
    pub qkv: ElasticQkv,
    /// `[1, relative positions, largest heads]`
    pub relative_position_bias_table: Param<Tensor<3>>,
    /// From the heads back to the embedding.
    pub proj: ElasticLinear,
}

/// How the layers of one stage and one kind, shifted or not, look at the map.
#[derive(Debug, Clone)]
struct View {
    windows: Windows,
    shifted: bool,
    /// For each pair of tokens of a window the entry of the table.
    positions: Tensor<1, Int>,
    /// `[windows, 1, tokens, tokens]`, where they are shifted.
    mask: Option<Tensor<4>>,
}

impl Swin {
    /// A network of the space's largest sizes with random weights.
    pub fn new(space: &SwinSpace, device: &Device, rng: &mut impl Rng) -> Self {
        let embedding = space.transform(Dimension::Embedding);
        let norm = |choices: &[usize]| {
            let transforms = Transforms::new(embedding, choices, device);
            ElasticLayerNorm::new(largest(choices), LAYER_NORM_EPSILON, device).with_transforms(transforms)
        };
        let first = &space.stages[0].embed_dim;
        let proj = ElasticLinear::new(space.patch_values(), largest(first), device, rng);
        let patch_embed = PatchEmbedding { proj, norm: norm(first) };
        let mut before: Option<&[usize]> = None;
        let mut layers = Vec::new();
        for (number, choices) in space.stages.iter().enumerate() {
            let embed = largest(&choices.embed_dim);
            let downsample = before.map(|before| {
                let four: Vec<usize> = before.iter().map(|features| 4 * features).collect();
                let transforms = Transforms::new(embedding, &four, device);
                let inputs = largest(before);
                PatchMerging {
                    norm: ElasticMergeNorm::new(inputs, LAYER_NORM_EPSILON, device)
                        .with_transforms(transforms),
                    reduction: ElasticMergeLinear::new(inputs, embed, device, rng),
                }
            });
            let entries = space.windows(number).entries();
            let (heads, width) = (space.transform(Dimension::Heads), space.transform(Dimension::Width));
            let blocks = (0..choices.layers())
                .map(|_| {
                    let attention =
                        Attention::new(embed, &choices.heads.choices, space.head_dim, heads, device, rng);
                    Block {
                        norm1: norm(&choices.embed_dim),
                        attn: WindowAttention::new(
                            attention,
                            entries,
                            largest(&choices.heads.choices),
                            device,
                            rng,
                        ),
                        norm2: norm(&choices.embed_dim),
                        mlp: Mlp::new(embed, &choices.mlp_width.choices, width, device, rng),
                    }
                })
                .collect();
            layers.push(Stage { downsample, blocks });
            before = Some(&choices.embed_dim);
        }
        let last = before.unwrap_or(first);
        let head = ElasticLinear::new(largest(last), space.classes, device, rng);
        Self { patch_embed, layers, norm: norm(last), head, space: space.clone() }
    }

    /// The logits of a subnet.
    ///
    /// # Shapes
    ///
    /// - patches: `[batch, rows, columns, channels * patch * patch]`, from [`super::transformer::patches`]
    /// - output: `[batch, classes]`
    pub fn forward(&self, patches: Tensor<4>, subnet: &SwinSubnet) -> Tensor<2> {
        let [batch, rows, columns, values] = patches.dims();
        let device = patches.device();
        let patches = patches.reshape([batch * rows * columns, values]);
        let embed = subnet.stages[0].embed_dim;
        let mut x = self.patch_embed.norm.forward(self.patch_embed.proj.forward(patches, embed));
        for (number, (stage, sizes)) in self.layers.iter().zip(&subnet.stages).enumerate() {
            if let Some(downsample) = &stage.downsample {
                x = downsample.forward(x, batch, self.space.side(number - 1), sizes.embed_dim);
            }
            let windows = self.space.windows(number);
            let views = [false, true].map(|shifted| View::new(windows, shifted, &device));
            for (position, layer) in sizes.layers.iter().enumerate() {
                let view = &views[usize::from(windows.shifted(position))];
                x = stage.blocks[layer.index].forward(x, layer, batch, self.space.head_dim, view);
            }
        }
        let x = self.norm.forward(x);
        let [rows, embed] = x.dims();
        let pooled = x.reshape([batch, rows / batch, embed]).mean_dim(1).reshape([batch, embed]);
        self.head.forward(pooled, self.space.classes)
    }

    /// The tensors of the standalone subnet, named as [`SwinSpace::shape`] lists them.
    pub fn extract(&self, subnet: &SwinSubnet) -> Weights {
        let mut weights = Weights::new();
        let mut inputs = self.space.patch_values();
        for (number, (stage, sizes)) in self.layers.iter().zip(&subnet.stages).enumerate() {
            let embed = sizes.embed_dim;
            let name = |part: &str| format!("layers.{number}.{part}");
            match &stage.downsample {
                None => {
                    put(&mut weights, "patch_embed.proj", self.patch_embed.proj.slice(inputs, embed));
                    put(&mut weights, "patch_embed.norm", self.patch_embed.norm.slice(embed));
                }
                Some(PatchMerging { norm, reduction }) => {
                    put(&mut weights, &name("downsample.norm"), norm.slice(inputs));
                    weights
                        .insert(name("downsample.reduction.weight"), array(reduction.slice(inputs, embed)));
                }
            }
            for (position, layer) in sizes.layers.iter().enumerate() {
                let block = &stage.blocks[layer.index];
                let name = |part: &str| name(&format!("blocks.{position}.{part}"));
                put(&mut weights, &name("norm1"), block.norm1.slice(embed));
                block.attn.extract(&mut weights, &name("attn"), embed, layer.heads, self.space.head_dim);
                put(&mut weights, &name("norm2"), block.norm2.slice(embed));
                block.mlp.extract(&mut weights, &name("mlp"), embed, layer.mlp_width);
            }
            inputs = embed;
        }
        put(&mut weights, "norm", self.norm.slice(inputs));
        put(&mut weights, "head", self.head.slice(inputs, self.space.classes));
        weights
    }

    /// Pixels of a patch in one direction.
    pub fn patch_size(&self) -> usize {
        self.space.patch_size
    }
}

impl PatchMerging {
    /// # Shapes
    ///
    /// - x: `[batch * side * side, inputs]`
    /// - output: `[batch * half * half, outputs]`, half of the side rounded up
    fn forward(&self, x: Tensor<2>, batch: usize, side: usize, outputs: usize) -> Tensor<2> {
        let four = rows(x, batch, &merged(side));
        let [rows, inputs] = four.dims();
        self.reduction.forward(self.norm.forward(four.reshape([rows / 4, 4 * inputs])), outputs)
    }
}

impl Block {
    /// # Shapes
    ///
    /// - x: `[batch * tokens, embed]`
    /// - output: `[batch * tokens, embed]`
    fn forward(
        &self,
        x: Tensor<2>,
        layer: &SwinLayer,
        batch: usize,
        head_dim: usize,
        view: &View,
    ) -> Tensor<2> {
        let normal = view.cut(self.norm1.forward(x.clone()), batch);
        let shape = AttentionShape { tokens: view.windows.tokens(), heads: layer.heads, head_dim };
        let context = view.join(self.attn.context(normal, shape, view), batch);
        let x = self.attn.proj.forward_add(context, x);
        let normal = self.norm2.forward(x.clone());
        self.mlp.forward_add(normal, layer.mlp_width, x)
    }
}

impl WindowAttention {
    fn new(attention: Attention, entries: usize, heads: usize, device: &Device, rng: &mut impl Rng) -> Self {
        let Attention { qkv, proj } = attention;
        let relative_position_bias_table = param(small_normal([1, entries, heads], rng), device);
        Self { qkv, relative_position_bias_table, proj }
    }

    /// Attention within each window, before the projection.
    ///
    /// # Shapes
    ///
    /// - x: `[batch * windows * tokens, embed]`
    /// - output: `[batch * windows * tokens, heads * head_dim]`
    fn context(&self, x: Tensor<2>, shape: AttentionShape, view: &View) -> Tensor<2> {
        let AttentionShape { tokens, heads, head_dim } = shape;
        let table = self.table(heads).reshape([view.windows.entries(), heads]);
        let bias = table.select(0, view.positions.clone()).transpose().reshape([1, heads, tokens, tokens]);
        let bias = view.mask.as_ref().map_or(bias.clone(), |mask| bias + mask.clone());
        ops::biased_attention(self.qkv.forward(x, heads * head_dim), bias, shape)
    }

    fn extract(&self, weights: &mut Weights, name: &str, embed: usize, heads: usize, head_dim: usize) {
        let inner = heads * head_dim;
        put(weights, &format!("{name}.qkv"), self.qkv.slice(embed, inner));
        weights.insert(format!("{name}.relative_position_bias_table"), array(self.table(heads)));
        put(weights, &format!("{name}.proj"), self.proj.slice(inner, embed));
    }

    /// `[1, relative positions, heads]`
    fn table(&self, heads: usize) -> Tensor<3> {
        let table = &self.relative_position_bias_table;
        leading(table, [1, table.dims()[1], heads])
    }
}

impl View {
    fn new(windows: Windows, shifted: bool, device: &Device) -> Self {
        let tokens = windows.tokens();
        let positions = indices(windows.relative_positions(), device);
        let mask = shifted.then(|| {
            let shape = [windows.count(), 1, tokens, tokens];
            Tensor::from_data(TensorData::new(windows.mask(), shape), device)
        });
        Self { windows, shifted, positions, mask }
    }

    /// The tokens of the map, window by window.
    fn cut(&self, x: Tensor<2>, batch: usize) -> Tensor<2> {
        if self.windows.count() == 1 { x } else { rows(x, batch, &self.windows.cut(self.shifted)) }
    }

    /// The tokens of all windows as those of the map.
    fn join(&self, x: Tensor<2>, batch: usize) -> Tensor<2> {
        if self.windows.count() == 1 {
            return x;
        }
        let order: Vec<Option<usize>> = self.windows.join(self.shifted).into_iter().map(Some).collect();
        rows(x, batch, &order)
    }
}

/// The rows of each image in another order; one that comes from none is zero.
///
/// # Shapes
///
/// - x: `[batch * rows, features]`
/// - output: `[batch * order, features]`
fn rows(x: Tensor<2>, batch: usize, order: &[Option<usize>]) -> Tensor<2> {
    let [all, features] = x.dims();
    let (count, device) = (all / batch, x.device());
    let mut x = x.reshape([batch, count, features]);
    if order.contains(&None) {
        x = Tensor::cat(vec![x, Tensor::zeros([batch, 1, features], &device)], 1);
    }
    let at = indices(order.iter().map(|row| row.unwrap_or(count)).collect(), &device);
    x.select(1, at).reshape([batch * order.len(), features])
}

fn indices(values: Vec<usize>, device: &Device) -> Tensor<1, Int> {
    let count = values.len();
    let values: Vec<i64> = values.into_iter().map(|value| value as i64).collect();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

fn largest(choices: &[usize]) -> usize {
    choices[choices.len() - 1]
}
