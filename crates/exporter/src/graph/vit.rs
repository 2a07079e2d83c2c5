//! The vision transformer as an ONNX graph: the second of the two walks over this family.
//!
//! The forms are those that ONNX Runtime runs fastest among the portable ones. Every linear layer is a
//! two-dimensional `Gemm` over all tokens of all inputs. Patches are cut by a reshape and a transpose,
//! which is never slower than a convolution. One transpose moves the heads of query, key and value to the
//! front, so that the split after it copies whole rows. With batch 1 there is no batch axis inside the
//! network: transposes of three axes are 2 to 10 % faster, end to end, than those of four.

use elastic_space::vit::{LAYER_NORM_EPSILON, Pooling, VitLayer, VitSpace, VitSubnet};

use super::builder::{Attribute, Dim, GraphBuilder, Value, fixed};
use super::{Batch, INPUT, OUTPUT, Tensors};

/// The walk over one subnet.
struct Walk<'a> {
    graph: &'a mut GraphBuilder,
    tensors: &'a Tensors<'a>,
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
    let mut walk = Walk { graph, tensors, space, embed_dim: subnet.embed_dim, batch };
    let mut x = walk.embed();
    for (position, layer) in subnet.layers.iter().enumerate() {
        x = walk.block(&format!("blocks.{position}"), &x, layer);
    }
    let features = walk.pool(&x);
    walk.linear(OUTPUT, "head", &features, space.classes)
}

impl Walk<'_> {
    /// Images to tokens, `[batch * tokens, embed]`
    fn embed(&mut self) -> Value {
        let space = self.space;
        let (side, size) = (space.image_size / space.patch_size, space.patch_size);
        let image = [space.channels, space.image_size, space.image_size];
        let images = self.graph.input(INPUT, [vec![self.batch.dim()], fixed(&image)].concat());
        let grid = self.stack(&[space.channels, side, size, side, size]);
        let grid = self.graph.reshape("patch_embed.grid", &images, grid);
        let order = self.order(&[1, 3, 0, 2, 4]);
        let patches = self.graph.transpose("patch_embed.patches", &grid, &order);
        let rows = vec![self.batch.dim().times(space.patches()), Dim::Fixed(space.patch_values())];
        let rows = self.graph.reshape("patch_embed.rows", &patches, rows);
        let mut x = self.linear("patch_embed.proj", "patch_embed.proj", &rows, self.embed_dim);
        if self.batch != Batch::Fixed(1) {
            let dims = self.stack(&[space.patches(), self.embed_dim]);
            x = self.graph.reshape("patch_embed.tokens", &x, dims);
        }
        if space.pooling == Pooling::ClassToken {
            let class = self.class_token(&images);
            let dims = self.stack(&[space.tokens(), self.embed_dim]);
            let axis = ("axis", Attribute::Int(self.axis(0) as i64));
            x = self.graph.node("Concat", "embed.tokens", &[&class, &x], &[axis], dims);
        }
        let positions = self.tensors.get("pos_embed", &[1, space.tokens(), self.embed_dim]);
        let positions = self.graph.floats("pos_embed", &[space.tokens(), self.embed_dim], &positions);
        let x = self.graph.add("embed.positions", &x, &positions);
        self.flatten("embed", x)
    }

    /// The class token once for each image, `[1, embed]` with batch 1, else `[batch, 1, embed]`
    fn class_token(&mut self, images: &Value) -> Value {
        let values = self.tensors.get("cls_token", &[1, 1, self.embed_dim]);
        let token = self.graph.floats("cls_token", &[1, self.embed_dim], &values);
        let row = [1, self.embed_dim as i64];
        let shape = match self.batch {
            Batch::Fixed(1) => return token,
            Batch::Fixed(batch) => self.graph.integers(&[batch as i64, row[0], row[1]]),
            Batch::Dynamic => {
                let range = [("start", Attribute::Int(0)), ("end", Attribute::Int(1))];
                let batch = self.graph.integer_node("Shape", "embed.batch", &[images], &range, fixed(&[1]));
                let row = self.graph.integers(&row);
                let axis = [("axis", Attribute::Int(0))];
                self.graph.integer_node("Concat", "embed.class_shape", &[&batch, &row], &axis, fixed(&[3]))
            }
        };
        let dims = self.stack(&[1, self.embed_dim]);
        self.graph.node("Expand", "embed.class", &[&token, &shape], &[], dims)
    }

    /// One pre-norm layer, `[batch * tokens, embed]` in and out
    fn block(&mut self, name: &str, x: &Value, layer: &VitLayer) -> Value {
        let normed = self.norm(&format!("{name}.norm1"), x);
        let attention = self.attention(&format!("{name}.attn"), &normed, layer.heads);
        let x = self.graph.add(&format!("{name}.attn.residual"), x, &attention);
        let normed = self.norm(&format!("{name}.norm2"), &x);
        let fc1 = format!("{name}.mlp.fc1");
        let hidden = self.linear(&fc1, &fc1, &normed, layer.mlp_width);
        let hidden = self.graph.gelu(&format!("{name}.mlp.gelu"), &hidden);
        let fc2 = format!("{name}.mlp.fc2");
        let hidden = self.linear(&fc2, &fc2, &hidden, self.embed_dim);
        self.graph.add(&format!("{name}.mlp.residual"), &x, &hidden)
    }

    /// Multi-head attention, `[batch * tokens, embed]` in and out
    fn attention(&mut self, name: &str, x: &Value, heads: usize) -> Value {
        let (tokens, head_dim) = (self.space.tokens(), self.space.head_dim);
        let qkv = self.scaled_qkv(&format!("{name}.qkv"), x, heads * head_dim);
        let dims = self.stack(&[tokens, 3 * heads, head_dim]);
        let qkv = self.graph.reshape(&format!("{name}.heads"), &qkv, dims);
        let swap_heads = self.order(&[1, 0, 2]);
        let qkv = self.graph.transpose(&format!("{name}.by_head"), &qkv, &swap_heads);
        let names = ["query", "key", "value"].map(|part| format!("{name}.{part}"));
        let [query, key, value] = self.graph.split(&qkv, self.axis(0), names);
        let swap_last = self.order(&[0, 2, 1]);
        let key = self.graph.transpose(&format!("{name}.key_transposed"), &key, &swap_last);
        let scores = self.graph.matmul(&format!("{name}.scores"), &query, &key);
        let weights = self.graph.softmax(&format!("{name}.softmax"), &scores);
        let context = self.graph.matmul(&format!("{name}.context"), &weights, &value);
        let context = self.graph.transpose(&format!("{name}.by_token"), &context, &swap_heads);
        let rows = vec![self.batch.dim().times(tokens), Dim::Fixed(heads * head_dim)];
        let context = self.graph.reshape(&format!("{name}.rows"), &context, rows);
        let proj = format!("{name}.proj");
        self.linear(&proj, &proj, &context, self.embed_dim)
    }

    /// The projection to query, key and value, where the query's columns carry the attention's factor
    /// 1 / sqrt(head_dim).
    fn scaled_qkv(&mut self, name: &str, x: &Value, inner: usize) -> Value {
        let scale = (self.space.head_dim as f64).powf(-0.5) as f32;
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let fold = |mut values: Vec<f32>| {
            for row in values.chunks_mut(3 * inner) {
                row[..inner].iter_mut().for_each(|value| *value *= scale);
            }
            values
        };
        let values = fold(self.tensors.get(&weight, &[self.embed_dim, 3 * inner]).into_owned());
        let weight = self.graph.floats(&weight, &[self.embed_dim, 3 * inner], &values);
        let values = fold(self.tensors.get(&bias, &[3 * inner]).into_owned());
        let bias = self.graph.floats(&bias, &[3 * inner], &values);
        self.graph.linear(name, x, &weight, &bias)
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
                    Batch::Fixed(1) => self.graph.integers(&[0]),
                    _ => self.graph.index(0),
                };
                let axis = ("axis", Attribute::Int(self.axis(0) as i64));
                let x = self.graph.node("Gather", "pool", &[&x, &first], &[axis], dims);
                self.norm("norm", &x)
            }
            Pooling::Mean => {
                let x = self.norm("norm", x);
                let x = self.unflatten("norm", &x);
                let axes = ("axes", Attribute::Ints(vec![self.axis(0) as i64]));
                let keep = ("keepdims", Attribute::Int(i64::from(self.batch == Batch::Fixed(1))));
                self.graph.node("ReduceMean", "pool", &[&x], &[axes, keep], dims)
            }
        }
    }

    /// The linear layer `layer` with its weights; the result is called `name`.
    fn linear(&mut self, name: &str, layer: &str, x: &Value, outputs: usize) -> Value {
        let Dim::Fixed(inputs) = x.dims[1] else { unreachable!("features do not depend on the batch") };
        let weight = self.constant(&format!("{layer}.weight"), &[inputs, outputs]);
        let bias = self.constant(&format!("{layer}.bias"), &[outputs]);
        self.graph.linear(name, x, &weight, &bias)
    }

    fn norm(&mut self, name: &str, x: &Value) -> Value {
        let weight = self.constant(&format!("{name}.weight"), &[self.embed_dim]);
        let bias = self.constant(&format!("{name}.bias"), &[self.embed_dim]);
        self.graph.layer_norm(name, x, &weight, &bias, LAYER_NORM_EPSILON)
    }

    fn constant(&mut self, name: &str, shape: &[usize]) -> Value {
        let values = self.tensors.get(name, shape);
        self.graph.floats(name, shape, &values)
    }

    /// `[tokens, embed]` of each image to one list of rows.
    fn flatten(&mut self, name: &str, x: Value) -> Value {
        if self.batch == Batch::Fixed(1) {
            return x;
        }
        let rows = vec![self.batch.dim().times(self.space.tokens()), Dim::Fixed(self.embed_dim)];
        self.graph.reshape(&format!("{name}.rows"), &x, rows)
    }

    /// The reverse of [`Self::flatten`].
    fn unflatten(&mut self, name: &str, x: &Value) -> Value {
        if self.batch == Batch::Fixed(1) {
            return x.clone();
        }
        let dims = self.stack(&[self.space.tokens(), self.embed_dim]);
        self.graph.reshape(&format!("{name}.tokens"), x, dims)
    }

    /// The shape of one image's value, with the batch before it unless that is 1.
    fn stack(&self, sizes: &[usize]) -> Vec<Dim> {
        let lead = if self.batch == Batch::Fixed(1) { vec![] } else { vec![self.batch.dim()] };
        [lead, fixed(sizes)].concat()
    }

    /// An axis of one image's value as an axis of the stacked value.
    fn axis(&self, axis: usize) -> usize {
        axis + usize::from(self.batch != Batch::Fixed(1))
    }

    /// An order of one image's axes as an order of the stacked value's.
    fn order(&self, order: &[usize]) -> Vec<usize> {
        let first = if self.batch == Batch::Fixed(1) { 0..0 } else { 0..1 };
        first.chain(order.iter().map(|&axis| self.axis(axis))).collect()
    }
}
