//! The BERT encoder as an ONNX graph: the second of the two walks over this family.
//!
//! Tokens are rows, as in the vision transformer. Three inputs of whole numbers are looked up in tables. The mask becomes
//! what is added to the scores, once for all layers and heads.

use elastic_space::bert::{BertLayer, BertPooling, BertSpace, BertSubnet, LAYER_NORM_EPSILON, MASKED};

use super::attention::AttentionShape;
use super::builder::{Attribute, Dim, GraphBuilder, Value};
use super::form::Form;
use super::transformer::{Parts, Stack};
use super::{Batch, OUTPUT, Sequence, TEXT_INPUTS, Tensors};

/// `FLOAT` of ONNX's element types.
const FLOAT: i64 = 1;

/// The table of positions, `[longest sequence, embed]`
pub(super) const POSITIONS: &str = "embeddings.positions";

/// The walk over one subnet.
struct Walk<'a> {
    parts: Parts<'a>,
    space: &'a BertSpace,
    embed_dim: usize,
    batch: Batch,
    /// Of each text.
    tokens: Dim,
}

/// Adds the network between the tokens and the logits.
///
/// # Shapes
///
/// inputs `[batch, tokens]`, logits `[batch, classes]`
pub(super) fn add(
    graph: &mut GraphBuilder,
    space: &BertSpace,
    subnet: &BertSubnet,
    (batch, sequence): (Batch, Sequence),
    tensors: &Tensors<'_>,
) -> Value {
    let tokens = match sequence {
        Sequence::Fixed => Dim::Fixed(space.length),
        Sequence::Dynamic => Dim::Sequence(1),
    };
    let row = || vec![batch.dim(), tokens];
    let [ids, mask, segments] = TEXT_INPUTS.map(|name| graph.integer_input(name, row()));
    if sequence == Sequence::Dynamic {
        graph.runs_on(&ids);
    }
    let parts = Parts { graph, tensors, epsilon: LAYER_NORM_EPSILON };
    let mut walk = Walk { parts, space, embed_dim: subnet.embed_dim, batch, tokens };
    let float = [("to", Attribute::Int(FLOAT))];
    let mask = walk.parts.graph.node("Cast", "mask.float", &[&mask], &float, row());
    let bias = walk.bias(&mask);
    let mut x = walk.embed(&ids, &segments);
    for (position, layer) in subnet.layers.iter().enumerate() {
        x = walk.block(&format!("blocks.{position}"), &x, layer, &bias);
    }
    let features = match space.pooling {
        BertPooling::Pooler => walk.first(&x),
        BertPooling::Mean => walk.mean(&x, &mask),
    };
    walk.parts.linear(OUTPUT, "head", &features, space.classes)
}

impl Walk<'_> {
    /// What is added to the scores for each key: nothing, or for padding [`MASKED`].
    fn bias(&mut self, mask: &Value) -> Value {
        let graph = &mut *self.parts.graph;
        let (one, factor) = (graph.scalar("float.one", 1.0), graph.scalar("float.masked", -MASKED));
        let less = graph.node("Sub", "mask.less", &[mask, &one], &[], mask.dims.clone());
        let bias = graph.node("Mul", "mask.scaled", &[&less, &factor], &[], mask.dims.clone());
        let (stack, one, tokens) = (Stack(self.batch.dim()), Dim::Fixed(1), self.tokens);
        let bias = graph.reshape("mask.bias", &bias, stack.of(&[one, one, tokens]));
        // The operators ask for a row of every token.
        let rows = match (graph.dialect.form, tokens) {
            (Form::Portable | Form::Opset20, _) => return bias,
            (_, Dim::Fixed(tokens)) => {
                graph.floats("float.rows", &[tokens, tokens], &vec![0.0; tokens * tokens])
            }
            _ => {
                let zero = graph.scalar("float.zero", 0.0);
                let zeros = graph.node("Mul", "mask.zeros", &[mask, &zero], &[], mask.dims.clone());
                graph.reshape("mask.column", &zeros, stack.of(&[one, tokens, one]))
            }
        };
        graph.node("Add", "mask.rows", &[&bias, &rows], &[], stack.of(&[one, tokens, tokens]))
    }

    /// Tokens to features, `[batch * tokens, embed]`
    fn embed(&mut self, ids: &Value, segments: &Value) -> Value {
        let (batch, tokens, embed) = (self.batch.dim(), self.tokens, self.embed_dim);
        let dims = || vec![batch, tokens, Dim::Fixed(embed)];
        let words = self.table("embeddings.tokens", self.space.vocabulary);
        let mut positions = self.table(POSITIONS, self.space.length);
        let kinds = self.table("embeddings.segments", self.space.segments);
        let graph = &mut *self.parts.graph;
        if tokens.is_open() {
            positions = graph.first_entries("embed.places", &positions);
        }
        let axis = || [("axis", Attribute::Int(0))];
        let words = graph.node("Gather", "embed.tokens", &[&words, ids], &axis(), dims());
        let kinds = graph.node("Gather", "embed.segments", &[&kinds, segments], &axis(), dims());
        let x = graph.add("embed.both", &words, &kinds);
        let x = graph.add("embed.positions", &x, &positions);
        let rows = vec![batch.by(tokens), Dim::Fixed(embed)];
        let x = graph.reshape("embed.rows", &x, rows);
        self.parts.norm("embeddings.norm", &x)
    }

    /// A table, `[entries, embed]`
    fn table(&mut self, name: &str, entries: usize) -> Value {
        let values = self.parts.tensors.get(name, &[1, entries, self.embed_dim]);
        self.parts.graph.floats(name, &[entries, self.embed_dim], &values)
    }

    /// One post-norm layer, `[batch * tokens, embed]` in and out
    fn block(&mut self, name: &str, x: &Value, layer: &BertLayer, bias: &Value) -> Value {
        let (tokens, head_dim) = (self.tokens, self.space.head_dim);
        let shape = AttentionShape { sequences: self.batch.dim(), tokens, heads: layer.heads, head_dim };
        let context = self.parts.context(&format!("{name}.attn"), x, shape, Some(bias));
        let proj = format!("{name}.attn.proj");
        let attention = self.parts.linear(&proj, &proj, &context, self.embed_dim);
        let x = self.parts.graph.add(&format!("{name}.attn.residual"), x, &attention);
        let x = self.parts.norm(&format!("{name}.norm1"), &x);
        let hidden = self.parts.mlp(&format!("{name}.mlp"), &x, layer.mlp_width);
        let x = self.parts.graph.add(&format!("{name}.mlp.residual"), &x, &hidden);
        self.parts.norm(&format!("{name}.norm2"), &x)
    }

    /// The first token of each text through the pooler, `[batch, embed]`
    fn first(&mut self, x: &Value) -> Value {
        let stack = Stack(self.batch.dim());
        let x = self.by_text(x);
        // An index with an axis of its own keeps the axis, which is the batch with batch 1.
        let first = if stack.is_one() { self.parts.graph.integers(&[0]) } else { self.parts.graph.index(0) };
        let axis = [("axis", Attribute::Int(stack.axis(0) as i64))];
        let first = self.parts.graph.node("Gather", "pool", &[&x, &first], &axis, self.pooled());
        let x = self.parts.linear("pooler", "pooler", &first, self.embed_dim);
        self.parts.graph.node("Tanh", "pooler.tanh", &[&x], &[], x.dims.clone())
    }

    /// The mean of each text's tokens but the padding, `[batch, embed]`
    fn mean(&mut self, x: &Value, mask: &Value) -> Value {
        let stack = Stack(self.batch.dim());
        let (x, pooled) = (self.by_text(x), self.pooled());
        let graph = &mut *self.parts.graph;
        let row = graph.reshape("mask.row", mask, stack.of(&[Dim::Fixed(1), self.tokens]));
        let mut sum = graph.matmul("pool", &row, &x);
        if !stack.is_one() {
            sum = graph.reshape("pool.rows", &sum, pooled.clone());
        }
        let axes = graph.integers(&[1]);
        let dims = vec![self.batch.dim(), Dim::Fixed(1)];
        let count = graph.node("ReduceSum", "mask.count", &[mask, &axes], &[], dims);
        graph.node("Div", "pool.mean", &[&sum, &count], &[], pooled)
    }

    /// Rows as texts of tokens; with batch 1 they are that already.
    fn by_text(&mut self, x: &Value) -> Value {
        let stack = Stack(self.batch.dim());
        if stack.is_one() {
            return x.clone();
        }
        self.parts.graph.reshape("texts", x, stack.of(&[self.tokens, Dim::Fixed(self.embed_dim)]))
    }

    /// `[batch, embed]`
    fn pooled(&self) -> Vec<Dim> {
        vec![self.batch.dim(), Dim::Fixed(self.embed_dim)]
    }
}
