//! A standalone vision transformer in plain loops of 64-bit floats.
//!
//! Written from the definition, one token and one head at a time. It knows no subnet: depth, heads and
//! widths are those of the tensors.

use std::collections::BTreeMap;

use elastic_space::vit::{LAYER_NORM_EPSILON, Pooling, VitSpace};
use elastic_space::{Array, Weights};

/// The tensors of a standalone network.
pub(crate) type Tensors = BTreeMap<String, Vec<f64>>;

pub(crate) fn tensors(weights: &Weights) -> Tensors {
    let widen = |array: &Array| array.data.iter().copied().map(f64::from).collect();
    weights.iter().map(|(name, array)| (name.clone(), widen(array))).collect()
}

/// The logits of images `[n, channels, height, width]`, row by row.
pub(crate) fn logits(space: &VitSpace, tensors: &Tensors, images: &[f32]) -> Vec<Vec<f64>> {
    let values = space.channels * space.image_size * space.image_size;
    images.chunks(values).map(|image| Network { space, tensors }.logits(image)).collect()
}

/// `-sum(targets * log softmax(logits))`
pub(crate) fn cross_entropy(logits: &[f64], targets: &[f64]) -> f64 {
    let total: f64 = logits.iter().map(|v| v.exp()).sum();
    -logits.iter().zip(targets).map(|(v, target)| target * (v - total.ln())).sum::<f64>()
}

struct Network<'a> {
    space: &'a VitSpace,
    tensors: &'a Tensors,
}

impl Network<'_> {
    fn logits(&self, image: &[f32]) -> Vec<f64> {
        let mut tokens: Vec<Vec<f64>> =
            self.patches(image).iter().map(|patch| self.linear("patch_embed.proj", patch)).collect();
        if self.space.pooling == Pooling::ClassToken {
            tokens.insert(0, self.tensors["cls_token"].clone());
        }
        let embed = tokens[0].len();
        for (token, position) in tokens.iter_mut().zip(self.tensors["pos_embed"].chunks(embed)) {
            add(token, position);
        }
        for block in (0..).map(|n| format!("blocks.{n}")) {
            if !self.tensors.contains_key(&format!("{block}.norm1.weight")) {
                break;
            }
            self.attend(&block, &mut tokens);
            for token in &mut tokens {
                let normal = self.norm(&format!("{block}.norm2"), token);
                let hidden = self.linear(&format!("{block}.mlp.fc1"), &normal);
                let hidden: Vec<f64> = hidden.into_iter().map(gelu).collect();
                add(token, &self.linear(&format!("{block}.mlp.fc2"), &hidden));
            }
        }
        let normal: Vec<Vec<f64>> = tokens.iter().map(|token| self.norm("norm", token)).collect();
        let pooled = match self.space.pooling {
            Pooling::ClassToken => normal[0].clone(),
            Pooling::Mean => {
                let mean = |f: usize| normal.iter().map(|token| token[f]).sum::<f64>() / normal.len() as f64;
                (0..embed).map(mean).collect()
            }
        };
        self.linear("head", &pooled)
    }

    /// Patches from left to right and from the top; in a patch channels, then rows.
    fn patches(&self, image: &[f32]) -> Vec<Vec<f64>> {
        let (size, side) = (self.space.patch_size, self.space.image_size);
        let mut patches = Vec::new();
        for (top, left) in (0..side).step_by(size).flat_map(|t| (0..side).step_by(size).map(move |l| (t, l)))
        {
            let mut patch = Vec::new();
            for channel in 0..self.space.channels {
                for row in top..top + size {
                    let start = (channel * side + row) * side + left;
                    patch.extend(image[start..start + size].iter().copied().map(f64::from));
                }
            }
            patches.push(patch);
        }
        patches
    }

    fn attend(&self, block: &str, tokens: &mut [Vec<f64>]) {
        let size = self.space.head_dim;
        let qkv: Vec<Vec<f64>> = tokens
            .iter()
            .map(|token| {
                self.linear(&format!("{block}.attn.qkv"), &self.norm(&format!("{block}.norm1"), token))
            })
            .collect();
        let inner = qkv[0].len() / 3;
        for (index, token) in tokens.iter_mut().enumerate() {
            let mut context = vec![0.0; inner];
            for first in (0..inner).step_by(size) {
                let query = &qkv[index][first..first + size];
                let score =
                    |other: &Vec<f64>| dot(query, &other[inner + first..][..size]) / (size as f64).sqrt();
                let shares: Vec<f64> = qkv.iter().map(|other| score(other).exp()).collect();
                let total: f64 = shares.iter().sum();
                for (share, other) in shares.iter().zip(&qkv) {
                    for feature in first..first + size {
                        context[feature] += share / total * other[2 * inner + feature];
                    }
                }
            }
            add(token, &self.linear(&format!("{block}.attn.proj"), &context));
        }
    }

    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let (weight, bias) =
            (&self.tensors[&format!("{name}.weight")], &self.tensors[&format!("{name}.bias")]);
        let mut y = bias.clone();
        for (x, row) in x.iter().zip(weight.chunks(bias.len())) {
            y.iter_mut().zip(row).for_each(|(y, w)| *y += x * w);
        }
        y
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let (scale, shift) =
            (&self.tensors[&format!("{name}.weight")], &self.tensors[&format!("{name}.bias")]);
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.len() as f64;
        let deviation = (variance + LAYER_NORM_EPSILON).sqrt();
        x.iter()
            .zip(scale)
            .zip(shift)
            .map(|((v, scale), shift)| (v - mean) / deviation * scale + shift)
            .collect()
    }
}

fn add(x: &mut [f64], y: &[f64]) {
    assert_eq!(x.len(), y.len(), "terms of a sum");
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x / 2.0_f64.sqrt()))
}

/// The error function by its Taylor series; beyond 5 it is 1 to 1e-11.
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
