//! What the transformer families' walks share: linear layers, normalisation, the MLP. Attention is in a file of its own.

use super::builder::{Dim, GraphBuilder, Value, fixed};
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

impl Stack {
    /// The shape of one sequence's value, with the number of sequences before it unless that is 1.
    pub(super) fn dims(self, sizes: &[usize]) -> Vec<Dim> {
        self.of(&fixed(sizes))
    }

    /// [`Self::dims`] of sizes that may be chosen at run time.
    pub(super) fn of(self, dims: &[Dim]) -> Vec<Dim> {
        let lead = if self.is_one() { vec![] } else { vec![self.0] };
        [&lead, dims].concat()
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
        self.graph.mean("pool", &x, stack.axis(0), stack.is_one())
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
pub(super) fn features(x: &Value) -> usize {
    match x.dims.last() {
        Some(Dim::Fixed(features)) => *features,
        _ => unreachable!("features do not depend on the batch"),
    }
}
