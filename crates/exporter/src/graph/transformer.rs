//! What the transformer families' walks share: linear layers, normalisation, attention, the MLP.

use super::builder::{Attribute, Dim, GraphBuilder, Value, fixed};
use super::{Batch, INPUT, Tensors};

/// A graph that grows, and the weights that it takes.
pub(super) struct Parts<'a> {
    pub(super) graph: &'a mut GraphBuilder,
    pub(super) tensors: &'a Tensors<'a>,
    /// Added to the variance in every layer normalisation.
    pub(super) epsilon: f64,
}

/// How many sequences of tokens a value holds. One sequence has no axis of its own: transposes of three axes
/// are 2 to 10 % faster, end to end, than those of four.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stack(pub(super) Dim);

/// How attention reads rows of queries, keys and values.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttentionShape {
    /// Sequences that do not see each other.
    pub(super) sequences: Dim,
    /// Tokens of a sequence.
    pub(super) tokens: usize,
    /// Attention heads.
    pub(super) heads: usize,
    /// Features of one head.
    pub(super) head_dim: usize,
}

impl Stack {
    /// The shape of one sequence's value, with the number of sequences before it unless that is 1.
    pub(super) fn dims(self, sizes: &[usize]) -> Vec<Dim> {
        let lead = if self.is_one() { vec![] } else { vec![self.0] };
        [lead, fixed(sizes)].concat()
    }

    /// An axis of one sequence's value as an axis of the stacked value.
    pub(super) fn axis(self, axis: usize) -> usize {
        axis + usize::from(!self.is_one())
    }

    /// An order of one sequence's axes as an order of the stacked value's.
    pub(super) fn order(self, order: &[usize]) -> Vec<usize> {
        let first = if self.is_one() { 0..0 } else { 0..1 };
        first.chain(order.iter().map(|&axis| self.axis(axis))).collect()
    }

    /// Whether there is one sequence, without an axis.
    pub(super) fn is_one(self) -> bool {
        self.0 == Dim::Fixed(1)
    }
}

impl Parts<'_> {
    /// The input; `image` is channels, height, width.
    pub(super) fn images(&mut self, image: [usize; 3], batch: Batch) -> Value {
        self.graph.input(INPUT, [vec![batch.dim()], fixed(&image)].concat())
    }

    /// Square images cut into patches, `[batch * patches, channels * size * size]`.
    pub(super) fn patches(&mut self, images: &Value, size: usize) -> Value {
        let [batch, Dim::Fixed(channels), Dim::Fixed(height), _] = images.dims[..] else {
            unreachable!("an image does not depend on the batch")
        };
        let (side, stack) = (height / size, Stack(batch));
        let grid = stack.dims(&[channels, side, size, side, size]);
        let grid = self.graph.reshape("patch_embed.grid", images, grid);
        let order = stack.order(&[1, 3, 0, 2, 4]);
        let patches = self.graph.transpose("patch_embed.patches", &grid, &order);
        let rows = vec![batch.times(side * side), Dim::Fixed(channels * size * size)];
        self.graph.reshape("patch_embed.rows", &patches, rows)
    }

    /// The mean of each image's normalised tokens, `[batch, features]`.
    pub(super) fn mean_tokens(&mut self, x: &Value, batch: Batch, tokens: usize) -> Value {
        let stack = Stack(batch.dim());
        let mut x = x.clone();
        let features = features(&x);
        if !stack.is_one() {
            x = self.graph.reshape("norm.tokens", &x, stack.dims(&[tokens, features]));
        }
        let axes = ("axes", Attribute::Ints(vec![stack.axis(0) as i64]));
        let keep = ("keepdims", Attribute::Int(i64::from(stack.is_one())));
        let dims = vec![batch.dim(), Dim::Fixed(features)];
        self.graph.node("ReduceMean", "pool", &[&x], &[axes, keep], dims)
    }

    /// The context of each token. `biased` may add to the scores, `[sequences, heads, tokens, tokens]`, or without
    /// the first axis for one sequence.
    ///
    /// # Shapes
    ///
    /// x `[sequences * tokens, embed]`, output `[sequences * tokens, heads * head_dim]`
    pub(super) fn context(
        &mut self,
        name: &str,
        x: &Value,
        shape: AttentionShape,
        biased: impl FnOnce(&mut Self, Value) -> Value,
    ) -> Value {
        let AttentionShape { sequences, tokens, heads, head_dim } = shape;
        let stack = Stack(sequences);
        let qkv = self.scaled_qkv(&format!("{name}.qkv"), x, heads, head_dim);
        let dims = stack.dims(&[tokens, 3 * heads, head_dim]);
        let qkv = self.graph.reshape(&format!("{name}.heads"), &qkv, dims);
        let swap_heads = stack.order(&[1, 0, 2]);
        let qkv = self.graph.transpose(&format!("{name}.by_head"), &qkv, &swap_heads);
        let names = ["query", "key", "value"].map(|part| format!("{name}.{part}"));
        let [query, key, value] = self.graph.split(&qkv, stack.axis(0), names);
        let swap_last = stack.order(&[0, 2, 1]);
        let key = self.graph.transpose(&format!("{name}.key_transposed"), &key, &swap_last);
        let scores = self.graph.matmul(&format!("{name}.scores"), &query, &key);
        let scores = biased(self, scores);
        let weights = self.graph.softmax(&format!("{name}.softmax"), &scores);
        let context = self.graph.matmul(&format!("{name}.context"), &weights, &value);
        let context = self.graph.transpose(&format!("{name}.by_token"), &context, &swap_heads);
        let rows = vec![sequences.times(tokens), Dim::Fixed(heads * head_dim)];
        self.graph.reshape(&format!("{name}.rows"), &context, rows)
    }

    /// The projection to query, key and value, where the query's columns carry the attention's factor
    /// 1 / sqrt(head_dim).
    fn scaled_qkv(&mut self, name: &str, x: &Value, heads: usize, head_dim: usize) -> Value {
        let (inputs, inner) = (features(x), heads * head_dim);
        let scale = (head_dim as f64).powf(-0.5) as f32;
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let fold = |mut values: Vec<f32>| {
            for row in values.chunks_mut(3 * inner) {
                row[..inner].iter_mut().for_each(|value| *value *= scale);
            }
            values
        };
        let values = fold(self.tensors.get(&weight, &[inputs, 3 * inner]).into_owned());
        let weight = self.graph.floats(&weight, &[inputs, 3 * inner], &values);
        let values = fold(self.tensors.get(&bias, &[3 * inner]).into_owned());
        let bias = self.graph.floats(&bias, &[3 * inner], &values);
        self.graph.linear(name, x, &weight, &bias)
    }

    /// Two linear layers with GELU between, `[rows, embed]` in and out.
    pub(super) fn mlp(&mut self, name: &str, x: &Value, width: usize) -> Value {
        let fc1 = format!("{name}.fc1");
        let hidden = self.linear(&fc1, &fc1, x, width);
        let hidden = self.graph.gelu(&format!("{name}.gelu"), &hidden);
        let fc2 = format!("{name}.fc2");
        self.linear(&fc2, &fc2, &hidden, features(x))
    }

    /// The linear layer `layer` with its weights; the result is called `name`.
    pub(super) fn linear(&mut self, name: &str, layer: &str, x: &Value, outputs: usize) -> Value {
        let weight = self.constant(&format!("{layer}.weight"), &[features(x), outputs]);
        let bias = self.constant(&format!("{layer}.bias"), &[outputs]);
        self.graph.linear(name, x, &weight, &bias)
    }

    /// Layer normalisation of the last axis.
    pub(super) fn norm(&mut self, name: &str, x: &Value) -> Value {
        let weight = self.constant(&format!("{name}.weight"), &[features(x)]);
        let bias = self.constant(&format!("{name}.bias"), &[features(x)]);
        self.graph.layer_norm(name, x, &weight, &bias, self.epsilon)
    }

    /// A tensor of the network.
    pub(super) fn constant(&mut self, name: &str, shape: &[usize]) -> Value {
        let values = self.tensors.get(name, shape);
        self.graph.floats(name, shape, &values)
    }
}

/// The size of the last axis.
fn features(x: &Value) -> usize {
    match x.dims.last() {
        Some(Dim::Fixed(features)) => *features,
        _ => unreachable!("features do not depend on the batch"),
    }
}
