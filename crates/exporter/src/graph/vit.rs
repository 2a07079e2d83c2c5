//! The vision transformer as an ONNX graph: the second of the two walks over this family.
//!
//! The forms are those that ONNX Runtime runs fastest among the portable ones. Every linear layer is a
//! two-dimensional `Gemm` over all tokens of all inputs. Patches are cut by a reshape and a transpose,
//! which is never slower than a convolution. One transpose moves the heads of query, key and value to the
//! front, so that the split after it copies whole rows. With batch 1 there is no batch axis inside the
//! network.

use elastic_space::vit::{LAYER_NORM_EPSILON, Pooling, VitLayer, VitSpace, VitSubnet};

use super::attention::AttentionShape;
use super::builder::{Attribute, Dim, GraphBuilder, Value, fixed};
use super::transformer::{Parts, Stack};
use super::{Batch, OUTPUT, Tensors};

/// The walk over one subnet.
struct Walk<'a> {
    parts: Parts<'a>,
    space: &'a VitSpace,
    embed_dim: usize,
    batch: Batch,
}

/// Adds the network between the images and the logits.
///
/// # Shapes
///
/// images `[batch, channels, height, width]`, logits `[batch, classes]`
pub(super) fn add(
    graph: &mut GraphBuilder,
    space: &VitSpace,
    subnet: &VitSubnet,
    batch: Batch,
    tensors: &Tensors<'_>,
) -> Value {
    let parts = Parts { graph, tensors, epsilon: LAYER_NORM_EPSILON };
    let mut walk = Walk { parts, space, embed_dim: subnet.embed_dim, batch };
    let mut x = walk.embed();
    for (position, layer) in subnet.layers.iter().enumerate() {
        x = walk.block(&format!("blocks.{position}"), &x, layer);
    }
    let features = walk.pool(&x);
    walk.parts.linear(OUTPUT, "head", &features, space.classes)
}

impl Walk<'_> {
    /// Images to tokens, `[batch * tokens, embed]`
    fn embed(&mut self) -> Value {
        let space = self.space;
        let image = [space.channels, space.image_size, space.image_size];
        let images = self.parts.images(image, self.batch);
        let rows = self.parts.patches(&images, space.patch_size);
        let mut x = self.linear("patch_embed.proj", "patch_embed.proj", &rows, self.embed_dim);
        if self.batch != Batch::Fixed(1) {
            let dims = self.stack(&[space.patches(), self.embed_dim]);
            x = self.parts.graph.reshape("patch_embed.tokens", &x, dims);
        }
        if space.pooling == Pooling::ClassToken {
            let class = self.class_token(&images);
            let dims = self.stack(&[space.tokens(), self.embed_dim]);
            let axis = ("axis", Attribute::Int(self.axis(0) as i64));
            x = self.parts.graph.node("Concat", "embed.tokens", &[&class, &x], &[axis], dims);
        }
        let positions = self.parts.tensors.get("pos_embed", &[1, space.tokens(), self.embed_dim]);
        let positions = self.parts.graph.floats("pos_embed", &[space.tokens(), self.embed_dim], &positions);
        let x = self.parts.graph.add("embed.positions", &x, &positions);
        self.flatten("embed", x)
    }

    /// The class token once for each image, `[1, embed]` with batch 1, else `[batch, 1, embed]`
    fn class_token(&mut self, images: &Value) -> Value {
        let values = self.parts.tensors.get("cls_token", &[1, 1, self.embed_dim]);
        let token = self.parts.graph.floats("cls_token", &[1, self.embed_dim], &values);
        let row = [1, self.embed_dim as i64];
        let shape = match self.batch {
            Batch::Fixed(1) => return token,
            Batch::Fixed(batch) => self.parts.graph.integers(&[batch as i64, row[0], row[1]]),
            Batch::Dynamic => {
                let batch = self.parts.graph.first_size("embed.batch", images);
                let row = self.parts.graph.integers(&row);
                let axis = [("axis", Attribute::Int(0))];
                self.parts.graph.integer_node(
                    "Concat",
                    "embed.class_shape",
                    &[&batch, &row],
                    &axis,
                    fixed(&[3]),
                )
            }
        };
        let dims = self.stack(&[1, self.embed_dim]);
        self.parts.graph.node("Expand", "embed.class", &[&token, &shape], &[], dims)
    }

    /// One pre-norm layer, `[batch * tokens, embed]` in and out
    fn block(&mut self, name: &str, x: &Value, layer: &VitLayer) -> Value {
        let normed = self.norm(&format!("{name}.norm1"), x);
        let attention = self.attention(&format!("{name}.attn"), &normed, layer.heads);
        let x = self.parts.graph.add(&format!("{name}.attn.residual"), x, &attention);
        let normed = self.norm(&format!("{name}.norm2"), &x);
        let hidden = self.parts.mlp(&format!("{name}.mlp"), &normed, layer.mlp_width);
        self.parts.graph.add(&format!("{name}.mlp.residual"), &x, &hidden)
    }

    /// Multi-head attention, `[batch * tokens, embed]` in and out
    fn attention(&mut self, name: &str, x: &Value, heads: usize) -> Value {
        let (tokens, head_dim) = (Dim::Fixed(self.space.tokens()), self.space.head_dim);
        let shape = AttentionShape { sequences: self.batch.dim(), tokens, heads, head_dim };
        let context = self.parts.context(name, x, shape, None);
        let proj = format!("{name}.proj");
        self.linear(&proj, &proj, &context, self.embed_dim)
    }

    /// Tokens to one normalised vector an image, `[batch, embed]`
    fn pool(&mut self, x: &Value) -> Value {
        let dims = vec![self.batch.dim(), Dim::Fixed(self.embed_dim)];
        match self.space.pooling {
            // Normalisation treats each token alone, so the class token is taken before it.
            Pooling::ClassToken => {
                let x = self.unflatten("pool", x);
                // An index with an axis of its own keeps the axis, which is the batch with batch 1.
                let first = match self.batch {
                    Batch::Fixed(1) => self.parts.graph.integers(&[0]),
                    _ => self.parts.graph.index(0),
                };
                let axis = ("axis", Attribute::Int(self.axis(0) as i64));
                let x = self.parts.graph.node("Gather", "pool", &[&x, &first], &[axis], dims);
                self.norm("norm", &x)
            }
            Pooling::Mean => {
                let x = self.norm("norm", x);
                self.parts.mean_tokens(&x, self.batch, self.space.tokens())
            }
        }
    }

    fn linear(&mut self, name: &str, layer: &str, x: &Value, outputs: usize) -> Value {
        self.parts.linear(name, layer, x, outputs)
    }

    fn norm(&mut self, name: &str, x: &Value) -> Value {
        self.parts.norm(name, x)
    }

    /// `[tokens, embed]` of each image to one list of rows.
    fn flatten(&mut self, name: &str, x: Value) -> Value {
        if self.batch == Batch::Fixed(1) {
            return x;
        }
        let rows = vec![self.batch.dim().times(self.space.tokens()), Dim::Fixed(self.embed_dim)];
        self.parts.graph.reshape(&format!("{name}.rows"), &x, rows)
    }

    /// The reverse of [`Self::flatten`].
    fn unflatten(&mut self, name: &str, x: &Value) -> Value {
        if self.batch == Batch::Fixed(1) {
            return x.clone();
        }
        let dims = self.stack(&[self.space.tokens(), self.embed_dim]);
        self.parts.graph.reshape(&format!("{name}.tokens"), x, dims)
    }

    /// The shape of one image's value, with the batch before it unless that is 1.
    fn stack(&self, sizes: &[usize]) -> Vec<Dim> {
        Stack(self.batch.dim()).dims(sizes)
    }

    /// An axis of one image's value as an axis of the stacked value.
    fn axis(&self, axis: usize) -> usize {
        Stack(self.batch.dim()).axis(axis)
    }
}
