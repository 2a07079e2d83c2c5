//! The vision transformer in plain loops of 64-bit floats, against which the graphs are tested.
//!
//! Written from the definition, one token and one head at a time; it shares no code with the graph.

use elastic_space::vit::{LAYER_NORM_EPSILON, Pooling, VitSpace, VitSubnet};
use elastic_space::{Array, Weights};

/// Rows of features, one a token.
pub(super) type Rows = Vec<Vec<f64>>;

/// What the transformers share.
pub(super) struct Parts<'a> {
    pub(super) weights: &'a Weights,
    /// Added to the variance in every layer normalisation.
    pub(super) epsilon: f64,
}

/// The logits of images `[n, channels, height, width]`: `[n, classes]`.
pub(super) fn forward(space: &VitSpace, subnet: &VitSubnet, weights: &Weights, images: &Array) -> Array {
    let values = images.shape[1..].iter().product();
    let network = Network { space, parts: Parts { weights, epsilon: LAYER_NORM_EPSILON } };
    let data = images.data.chunks(values).flat_map(|image| network.logits(subnet, image));
    Array { shape: vec![images.shape[0], space.classes], data: data.map(|logit| logit as f32).collect() }
}

struct Network<'a> {
    space: &'a VitSpace,
    parts: Parts<'a>,
}

impl Network<'_> {
    fn logits(&self, subnet: &VitSubnet, image: &[f32]) -> Vec<f64> {
        let mut x = self.embed(image);
        let parts = &self.parts;
        for (position, layer) in subnet.layers.iter().enumerate() {
            let name = format!("blocks.{position}");
            let normed = parts.norm(&format!("{name}.norm1"), &x);
            let context = parts.context(
                &format!("{name}.attn.qkv"),
                &normed,
                layer.heads,
                self.space.head_dim,
                |_, _, _| 0.0,
            );
            x = sum(&x, &parts.linear(&format!("{name}.attn.proj"), &context));
            x = sum(&x, &parts.mlp(&format!("{name}.mlp"), &parts.norm(&format!("{name}.norm2"), &x)));
        }
        let x = parts.norm("norm", &x);
        let pooled = match self.space.pooling {
            Pooling::ClassToken => x[0].clone(),
            Pooling::Mean => mean(&x),
        };
        parts.linear("head", &vec![pooled]).remove(0)
    }

    fn embed(&self, image: &[f32]) -> Rows {
        let patches = patches(image, self.space.image_size, self.space.channels, self.space.patch_size);
        let mut tokens = self.parts.linear("patch_embed.proj", &patches);
        if self.space.pooling == Pooling::ClassToken {
            tokens.insert(0, self.parts.tensor("cls_token"));
        }
        let positions = self.parts.tensor("pos_embed");
        sum(&tokens, &positions.chunks(tokens[0].len()).map(<[f64]>::to_vec).collect())
    }
}

impl Parts<'_> {
    /// Attention before the last projection; `bias` is added to the score of a token, another and a head.
    pub(super) fn context(
        &self,
        qkv: &str,
        x: &Rows,
        heads: usize,
        head_dim: usize,
        bias: impl Fn(usize, usize, usize) -> f64,
    ) -> Rows {
        let inner = heads * head_dim;
        let qkv = self.linear(qkv, x);
        let mut context = vec![vec![0.0; inner]; x.len()];
        for head in 0..heads {
            let part =
                |row: &[f64], which: usize| row[which * inner + head * head_dim..][..head_dim].to_vec();
            for (token, row) in qkv.iter().enumerate() {
                let query = part(row, 0);
                let scores = qkv.iter().enumerate().map(|(at, other)| {
                    let key = part(other, 1);
                    let product = query.iter().zip(key).map(|(q, k)| q * k).sum::<f64>();
                    product / (head_dim as f64).sqrt() + bias(token, at, head)
                });
                let weights: Vec<f64> = scores.map(f64::exp).collect();
                let total: f64 = weights.iter().sum();
                for (weight, other) in weights.iter().zip(&qkv) {
                    for (feature, value) in part(other, 2).into_iter().enumerate() {
                        context[token][head * head_dim + feature] += weight / total * value;
                    }
                }
            }
        }
        context
    }

    pub(super) fn mlp(&self, name: &str, x: &Rows) -> Rows {
        let mut hidden = self.linear(&format!("{name}.fc1"), x);
        hidden.iter_mut().flatten().for_each(|v| *v = *v * 0.5 * (1.0 + erf(*v / 2.0_f64.sqrt())));
        self.linear(&format!("{name}.fc2"), &hidden)
    }

    pub(super) fn linear(&self, name: &str, x: &Rows) -> Rows {
        let (weight, bias) = (self.tensor(&format!("{name}.weight")), self.tensor(&format!("{name}.bias")));
        let outputs = bias.len();
        let cell = |row: &[f64], o: usize| {
            bias[o] + row.iter().enumerate().map(|(i, value)| value * weight[i * outputs + o]).sum::<f64>()
        };
        x.iter().map(|row| (0..outputs).map(|o| cell(row, o)).collect()).collect()
    }

    pub(super) fn norm(&self, name: &str, x: &Rows) -> Rows {
        let (scale, shift) = (self.tensor(&format!("{name}.weight")), self.tensor(&format!("{name}.bias")));
        let normalise = |row: &Vec<f64>| {
            let count = row.len() as f64;
            let mean = row.iter().sum::<f64>() / count;
            let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
            let deviation = (variance + self.epsilon).sqrt();
            row.iter().enumerate().map(|(f, v)| (v - mean) / deviation * scale[f] + shift[f]).collect()
        };
        x.iter().map(normalise).collect()
    }

    pub(super) fn tensor(&self, name: &str) -> Vec<f64> {
        self.weights[name].data.iter().copied().map(f64::from).collect()
    }
}

/// The patches of an image, row by row; each lists its channels, then its rows.
pub(super) fn patches(image: &[f32], image_size: usize, channels: usize, size: usize) -> Rows {
    let side = image_size / size;
    let pixel =
        |channel: usize, y: usize, x: usize| f64::from(image[(channel * image_size + y) * image_size + x]);
    let mut patches = Rows::new();
    for top in 0..side {
        for left in 0..side {
            let mut patch = Vec::new();
            for channel in 0..channels {
                for y in 0..size {
                    for x in 0..size {
                        patch.push(pixel(channel, top * size + y, left * size + x));
                    }
                }
            }
            patches.push(patch);
        }
    }
    patches
}

/// The mean of all rows.
pub(super) fn mean(x: &Rows) -> Vec<f64> {
    (0..x[0].len()).map(|f| x.iter().map(|row| row[f]).sum::<f64>() / x.len() as f64).collect()
}

pub(super) fn sum(a: &Rows, b: &Rows) -> Rows {
    assert_eq!(a.len(), b.len(), "rows of a sum");
    a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect()).collect()
}

/// The error function by its Taylor series, which converges everywhere; beyond 5 it is 1 to 1e-11.
fn erf(x: f64) -> f64 {
    if x.abs() > 5.0 {
        return x.signum();
    }
    let (mut term, mut total) = (x, x);
    for n in 1..150 {
        term *= -x * x / f64::from(n);
        total += term / f64::from(2 * n + 1);
    }
    total * 2.0 / std::f64::consts::PI.sqrt()
}
