//! Multi-head attention in each form, from normalised tokens to the context of each token.

use super::builder::{Attribute, Dim, Value};
use super::form::Form;
use super::transformer::{Parts, Stack, features};

/// How attention reads rows of queries, keys and values.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttentionShape {
    /// Sequences that do not see each other.
    pub(super) sequences: Dim,
    /// Tokens of a sequence.
    pub(super) tokens: Dim,
    /// Attention heads.
    pub(super) heads: usize,
    /// Features of one head.
    pub(super) head_dim: usize,
}

impl AttentionShape {
    fn inner(self) -> usize {
        self.heads * self.head_dim
    }

    fn rows(self) -> Vec<Dim> {
        vec![self.sequences.by(self.tokens), Dim::Fixed(self.inner())]
    }
}

impl Parts<'_> {
    /// The context of each token. `bias` is added to the scores: `[heads, tokens, tokens]`, or where it differs between
    /// the sequences of an image, those before it.
    ///
    /// # Shapes
    ///
    /// x `[sequences * tokens, embed]`, output `[sequences * tokens, heads * head_dim]`
    pub(super) fn context(
        &mut self,
        name: &str,
        x: &Value,
        shape: AttentionShape,
        bias: Option<&Value>,
    ) -> Value {
        let form = self.graph.dialect.form;
        let mask = match form {
            Form::Portable | Form::Opset20 => None,
            Form::Attention23 | Form::ContribAttention => self.mask(name, shape, bias),
        };
        match (form, mask) {
            (Form::Attention23, Some(mask)) => self.standard_operator(name, x, shape, &mask),
            (Form::ContribAttention, Some(mask)) => self.contrib_operator(name, x, shape, &mask),
            _ => self.products(name, x, shape, bias),
        }
    }

    /// The bias as the operators take it: `[1, heads, tokens, tokens]`, or with all sequences. `None` where they would
    /// need a copy of it for every image; [`Value::left_out`] where there is nothing to add.
    fn mask(&mut self, name: &str, shape: AttentionShape, bias: Option<&Value>) -> Option<Value> {
        let Some(bias) = bias else { return Some(Value::left_out()) };
        if bias.dims.len() == 3 {
            let dims = [vec![Dim::Fixed(1)], bias.dims.clone()].concat();
            let name = format!("{name}.bias_of_all");
            if !bias.dims[1].is_open() {
                return Some(self.graph.reshape(&name, bias, dims));
            }
            let first = self.graph.integers(&[0]);
            return Some(self.graph.node("Unsqueeze", &name, &[bias, &first], &[], dims));
        }
        (bias.dims[0] == shape.sequences).then(|| bias.clone())
    }

    /// Scores, softmax and context one by one.
    fn products(&mut self, name: &str, x: &Value, shape: AttentionShape, bias: Option<&Value>) -> Value {
        let AttentionShape { sequences, tokens, heads, head_dim } = shape;
        let stack = Stack(sequences);
        let qkv = self.qkv(name, x, shape);
        let dims = stack.of(&[tokens, Dim::Fixed(3 * heads), Dim::Fixed(head_dim)]);
        let qkv = self.graph.reshape(&format!("{name}.heads"), &qkv, dims);
        let swap_heads = stack.order(&[1, 0, 2]);
        let qkv = self.graph.transpose(&format!("{name}.by_head"), &qkv, &swap_heads);
        let [query, key, value] = self.graph.split(&qkv, stack.axis(0), names(name));
        let swap_last = stack.order(&[0, 2, 1]);
        let key = self.graph.transpose(&format!("{name}.key_transposed"), &key, &swap_last);
        let mut scores = self.graph.matmul(&format!("{name}.scores"), &query, &key);
        if let Some(bias) = bias {
            scores = self.biased(name, &scores, bias, shape);
        }
        let weights = self.graph.softmax(&format!("{name}.softmax"), &scores);
        let context = self.graph.matmul(&format!("{name}.context"), &weights, &value);
        let context = self.graph.transpose(&format!("{name}.by_token"), &context, &swap_heads);
        self.graph.reshape(&format!("{name}.rows"), &context, shape.rows())
    }

    /// Adds the bias to the scores, `[sequences, heads, tokens, tokens]`, or without the first axis for one sequence.
    /// One that differs between sequences meets those of several images on an axis of their own.
    fn biased(&mut self, name: &str, scores: &Value, bias: &Value, shape: AttentionShape) -> Value {
        let sum = format!("{name}.biased");
        if bias.dims.len() == 3 || bias.dims[0] == shape.sequences {
            return self.graph.add(&sum, scores, bias);
        }
        let Dim::Fixed(of_image) = bias.dims[0] else { unreachable!("a bias does not depend on the batch") };
        let by_image = [vec![shape.sequences.part(of_image)], bias.dims.clone()].concat();
        let split = self.graph.reshape(&format!("{name}.by_image"), scores, by_image);
        let split = self.graph.add(&format!("{sum}.by_image"), &split, bias);
        self.graph.reshape(&sum, &split, scores.dims.clone())
    }

    /// `Attention` of opset 23. The heads stay side by side, so nothing is transposed.
    fn standard_operator(&mut self, name: &str, x: &Value, shape: AttentionShape, mask: &Value) -> Value {
        let AttentionShape { sequences, tokens, heads, .. } = shape;
        let qkv = self.qkv(name, x, shape);
        let dims = vec![sequences, tokens, Dim::Fixed(3 * shape.inner())];
        let qkv = self.graph.reshape(&format!("{name}.sequences"), &qkv, dims);
        let [query, key, value] = self.graph.split(&qkv, 2, names(name));
        let heads = Attribute::Int(heads as i64);
        let attributes = [
            ("kv_num_heads", heads.clone()),
            ("q_num_heads", heads),
            // The weights carry the factor.
            ("scale", Attribute::Float(1.0)),
        ];
        let inputs = given(&[&query, &key, &value, mask]);
        let dims = query.dims.clone();
        let context = self.graph.node("Attention", &format!("{name}.context"), &inputs, &attributes, dims);
        self.graph.reshape(&format!("{name}.rows"), &context, shape.rows())
    }

    /// `Attention` of ONNX Runtime, with the projection inside.
    fn contrib_operator(&mut self, name: &str, x: &Value, shape: AttentionShape, mask: &Value) -> Value {
        let lead = [shape.sequences, shape.tokens];
        let dims = [&lead[..], &[Dim::Fixed(features(x))]].concat();
        let x = self.graph.reshape(&format!("{name}.sequences"), x, dims);
        // The operator has the factor 1 / sqrt(head_dim) by itself. It could be told another, but OpenVINO, which reads the
        // operator too, does not heed that.
        let [weight, bias] = self.qkv_constants(name, features(&x), shape, 1.0);
        let attributes = [("num_heads", Attribute::Int(shape.heads as i64))];
        let none = Value::left_out();
        let inputs = given(&[&x, &weight, &bias, &none, &none, mask]);
        let dims = [&lead[..], &[Dim::Fixed(shape.inner())]].concat();
        let context =
            self.graph.contrib_node("Attention", &format!("{name}.context"), &inputs, &attributes, dims);
        self.graph.reshape(&format!("{name}.rows"), &context, shape.rows())
    }

    /// The projection to query, key and value, where the query carries the attention's factor 1 / sqrt(head_dim).
    fn qkv(&mut self, name: &str, x: &Value, shape: AttentionShape) -> Value {
        let factor = (shape.head_dim as f64).powf(-0.5) as f32;
        let [weight, bias] = self.qkv_constants(name, features(x), shape, factor);
        self.graph.linear(&format!("{name}.qkv"), x, &weight, &bias)
    }

    /// The projection's weight and bias, with the query's columns multiplied by a factor.
    fn qkv_constants(&mut self, name: &str, inputs: usize, shape: AttentionShape, factor: f32) -> [Value; 2] {
        let inner = shape.inner();
        let fold = |mut values: Vec<f32>| {
            for row in values.chunks_mut(3 * inner) {
                row[..inner].iter_mut().for_each(|value| *value *= factor);
            }
            values
        };
        let parts = [("weight", vec![inputs, 3 * inner]), ("bias", vec![3 * inner])];
        parts.map(|(part, shape)| {
            let name = format!("{name}.qkv.{part}");
            let values = fold(self.tensors.get(&name, &shape).into_owned());
            self.graph.floats(&name, &shape, &values)
        })
    }
}

fn names(name: &str) -> [String; 3] {
    ["query", "key", "value"].map(|part| format!("{name}.{part}"))
}

/// The inputs of a node without those at the end that are left out.
fn given<'a>(inputs: &[&'a Value]) -> Vec<&'a Value> {
    let count = inputs.iter().rposition(|input| !input.name.is_empty()).map_or(0, |last| last + 1);
    inputs[..count].to_vec()
}
