//! The BERT encoder in plain loops of 64-bit floats, against which the graphs are tested.
//!
//! Padding is left out before anything else, so nothing here masks.

use elastic_space::bert::{BertPooling, BertSpace, BertSubnet, LAYER_NORM_EPSILON};
use elastic_space::{Array, Weights};

use super::reference::{Parts, Rows, mean, sum};

/// The logits of texts `[n, 3, 1, tokens]`: `[n, classes]`.
pub(super) fn forward(space: &BertSpace, subnet: &BertSubnet, weights: &Weights, texts: &Array) -> Array {
    let parts = Parts { weights, epsilon: LAYER_NORM_EPSILON };
    let data = texts.data.chunks(3 * texts.shape[3]).flat_map(|text| logits(space, subnet, &parts, text));
    Array { shape: vec![texts.shape[0], space.classes], data: data.map(|logit| logit as f32).collect() }
}

fn logits(space: &BertSpace, subnet: &BertSubnet, parts: &Parts<'_>, text: &[f32]) -> Vec<f64> {
    let rows: Vec<&[f32]> = text.chunks(text.len() / 3).collect();
    let kept: Vec<usize> = (0..rows[1].len()).filter(|&token| rows[1][token] == 1.0).collect();
    let embed = subnet.embed_dim;
    let entry = |table: &str, row: usize| {
        parts.tensor(&format!("embeddings.{table}"))[row * embed..][..embed].to_vec()
    };
    let looked_up = |table: &str, row: usize| -> Rows {
        kept.iter().map(|&t| entry(table, rows[row][t] as usize)).collect()
    };
    let positions = kept.iter().map(|&token| entry("positions", token)).collect();
    let embedded = sum(&sum(&looked_up("tokens", 0), &positions), &looked_up("segments", 2));
    let mut x = parts.norm("embeddings.norm", &embedded);
    for (position, layer) in subnet.layers.iter().enumerate() {
        let name = |part: &str| format!("blocks.{position}.{part}");
        let context = parts.context(&name("attn.qkv"), &x, layer.heads, space.head_dim, |_, _, _| 0.0);
        x = parts.norm(&name("norm1"), &sum(&x, &parts.linear(&name("attn.proj"), &context)));
        x = parts.norm(&name("norm2"), &sum(&x, &parts.mlp(&name("mlp"), &x)));
    }
    let pooled = match space.pooling {
        BertPooling::Mean => mean(&x),
        BertPooling::Pooler => {
            let first = parts.linear("pooler", &vec![x[0].clone()]).remove(0);
            first.into_iter().map(f64::tanh).collect()
        }
    };
    parts.linear("head", &vec![pooled]).remove(0)
}
