//! The Swin transformer as an ONNX graph: the second of the two walks over this family.
//!
//! Tokens are rows, as in the vision transformer. One `Gather` of rows cuts a map into windows, shifted and padded or
//! not, one puts the windows together again, and one lays the four tokens side by side that are merged. What is
//! added to the scores is made of constants alone, so a runtime computes it once, when it loads the file.

use elastic_space::swin::{LAYER_NORM_EPSILON, SwinLayer, SwinSpace, SwinSubnet, Windows, merged};

use super::attention::AttentionShape;
use super::builder::{Attribute, Dim, GraphBuilder, Value, fixed};
use super::transformer::{Parts, Stack};
use super::{Batch, OUTPUT, Tensors};

/// The walk over one subnet.
struct Walk<'a> {
    parts: Parts<'a>,
    space: &'a SwinSpace,
    batch: Batch,
}

/// How the rows of a value come from the rows of another.
struct Order<'a> {
    /// The name of the constant.
    name: &'a str,
    /// Rows of one image before.
    rows: usize,
    /// For each row the one before, none for zeros.
    sources: &'a [Option<usize>],
    /// How many rows are laid side by side.
    abreast: usize,
}

/// How one layer looks at the map.
struct View<'a> {
    /// The stage.
    stage: usize,
    windows: Windows,
    shifted: bool,
    layer: &'a SwinLayer,
}

/// Adds the network between the images and the logits.
///
/// # Shapes
///
/// images `[batch, channels, height, width]`, logits `[batch, classes]`
pub(super) fn add(
    graph: &mut GraphBuilder,
    space: &SwinSpace,
    subnet: &SwinSubnet,
    batch: Batch,
    tensors: &Tensors<'_>,
) -> Value {
    let parts = Parts { graph, tensors, epsilon: LAYER_NORM_EPSILON };
    let mut walk = Walk { parts, space, batch };
    let image = [space.channels, space.image_size, space.image_size];
    let images = walk.parts.images(image, batch);
    let patches = walk.parts.patches(&images, space.patch_size);
    let embedded =
        walk.parts.linear("patch_embed.proj", "patch_embed.proj", &patches, subnet.stages[0].embed_dim);
    let mut x = walk.parts.norm("patch_embed.norm", &embedded);
    for (stage, sizes) in subnet.stages.iter().enumerate() {
        if stage > 0 {
            x = walk.merge(stage, &x, sizes.embed_dim);
        }
        let windows = space.windows(stage);
        for (position, layer) in sizes.layers.iter().enumerate() {
            let view = View { stage, windows, shifted: windows.shifted(position), layer };
            x = walk.block(&format!("layers.{stage}.blocks.{position}"), &x, &view);
        }
    }
    let x = walk.parts.norm("norm", &x);
    let tokens = space.side(subnet.stages.len() - 1).pow(2);
    let features = walk.parts.mean_tokens(&x, batch, tokens);
    walk.parts.linear(OUTPUT, "head", &features, space.classes)
}

impl Walk<'_> {
    /// Four tokens to one, `[batch * tokens, embed]` in and out
    fn merge(&mut self, stage: usize, x: &Value, embed: usize) -> Value {
        let name = format!("layers.{stage}.downsample");
        let side = self.space.side(stage - 1);
        let key = format!("{name}.tokens");
        let order = Order { name: &key, rows: side * side, sources: &merged(side), abreast: 4 };
        let x = self.take(&format!("{name}.four"), x, &order);
        let x = self.parts.norm(&format!("{name}.norm"), &x);
        let Dim::Fixed(inputs) = x.dims[1] else { unreachable!("features do not depend on the batch") };
        let reduction = format!("{name}.reduction");
        let weight = self.parts.constant(&format!("{reduction}.weight"), &[inputs, embed]);
        self.parts.graph.matmul(&reduction, &x, &weight)
    }

    /// One pre-norm layer, `[batch * tokens, embed]` in and out
    fn block(&mut self, name: &str, x: &Value, view: &View<'_>) -> Value {
        let normed = self.parts.norm(&format!("{name}.norm1"), x);
        let attention = self.attention(&format!("{name}.attn"), &normed, view);
        let x = self.parts.graph.add(&format!("{name}.attn.residual"), x, &attention);
        let normed = self.parts.norm(&format!("{name}.norm2"), &x);
        let hidden = self.parts.mlp(&format!("{name}.mlp"), &normed, view.layer.mlp_width);
        self.parts.graph.add(&format!("{name}.mlp.residual"), &x, &hidden)
    }

    /// Multi-head attention within windows, `[batch * tokens, embed]` in and out
    fn attention(&mut self, name: &str, x: &Value, view: &View<'_>) -> Value {
        let &View { stage, windows, shifted, layer } = view;
        let Dim::Fixed(embed) = x.dims[1] else { unreachable!("features do not depend on the batch") };
        let kind = if shifted { "shifted" } else { "plain" };
        let (tokens, places) = (windows.side * windows.side, windows.count() * windows.tokens());
        let mut x = x.clone();
        if windows.count() > 1 {
            let (key, sources) = (format!("layers.{stage}.cut.{kind}"), windows.cut(shifted));
            let order = Order { name: &key, rows: tokens, sources: &sources, abreast: 1 };
            x = self.take(&format!("{name}.windows"), &x, &order);
        }
        let bias = self.bias(name, view);
        let shape = AttentionShape {
            sequences: self.batch.dim().times(windows.count()),
            tokens: Dim::Fixed(windows.tokens()),
            heads: layer.heads,
            head_dim: self.space.head_dim,
        };
        let mut context = self.parts.context(name, &x, shape, Some(&bias));
        if windows.count() > 1 {
            let key = format!("layers.{stage}.join.{kind}");
            let sources: Vec<Option<usize>> = windows.join(shifted).into_iter().map(Some).collect();
            let order = Order { name: &key, rows: places, sources: &sources, abreast: 1 };
            context = self.take(&format!("{name}.map"), &context, &order);
        }
        let proj = format!("{name}.proj");
        self.parts.linear(&proj, &proj, &context, embed)
    }

    /// What is added to the scores: `[heads, tokens, tokens]`, or with the windows before it where they are shifted
    fn bias(&mut self, name: &str, view: &View<'_>) -> Value {
        let &View { stage, windows, shifted, layer } = view;
        let (heads, entries, tokens) = (layer.heads, windows.entries(), windows.tokens());
        let table = format!("{name}.relative_position_bias_table");
        let values = self.parts.tensors.get(&table, &[1, entries, heads]);
        let graph = &mut *self.parts.graph;
        let table = graph.floats(&table, &[entries, heads], &values);
        let positions = windows.relative_positions();
        let key = format!("relative_positions.{}", windows.size);
        let positions = graph.indices(&key, &[tokens, tokens], &positions);
        let dims = fixed(&[tokens, tokens, heads]);
        let axis = [("axis", Attribute::Int(0))];
        let bias = graph.node("Gather", &format!("{name}.positions"), &[&table, &positions], &axis, dims);
        let bias = graph.transpose(&format!("{name}.bias"), &bias, &[2, 0, 1]);
        if !shifted {
            return bias;
        }
        let shape = [windows.count(), 1, tokens, tokens];
        let mask = graph.floats(&format!("float.layers.{stage}.mask"), &shape, &windows.mask());
        let dims = fixed(&[windows.count(), heads, tokens, tokens]);
        graph.node("Add", &format!("{name}.masked"), &[&mask, &bias], &[], dims)
    }

    /// Rows in another order.
    fn take(&mut self, name: &str, x: &Value, order: &Order<'_>) -> Value {
        let &Order { name: key, rows, sources, abreast } = order;
        let (stack, batch) = (Stack(self.batch.dim()), self.batch.dim());
        let Dim::Fixed(features) = x.dims[1] else { unreachable!("features do not depend on the batch") };
        let graph = &mut *self.parts.graph;
        let mut x = x.clone();
        if !stack.is_one() {
            x = graph.reshape(&format!("{name}.images"), &x, stack.dims(&[rows, features]));
        }
        let mut count = rows;
        if sources.contains(&None) {
            let mut pads = vec![0; 2 * x.dims.len()];
            pads[x.dims.len() + stack.axis(0)] = 1;
            let pads = graph.integers(&pads);
            count += 1;
            let dims = stack.dims(&[count, features]);
            x = graph.node("Pad", &format!("{name}.padded"), &[&x, &pads], &[], dims);
        }
        let at: Vec<usize> = sources.iter().map(|source| source.unwrap_or(count - 1)).collect();
        let at = graph.indices(key, &[at.len()], &at);
        let axis = [("axis", Attribute::Int(stack.axis(0) as i64))];
        let whole = stack.is_one() && abreast == 1;
        let taken = if whole { name.to_owned() } else { format!("{name}.taken") };
        let dims = stack.dims(&[sources.len(), features]);
        let taken = graph.node("Gather", &taken, &[&x, &at], &axis, dims);
        if whole {
            return taken;
        }
        let dims = vec![batch.times(sources.len() / abreast), Dim::Fixed(features * abreast)];
        graph.reshape(name, &taken, dims)
    }
}
