//! The typed layers of a BERT encoder's subnet.

use super::{BertPooling, BertSpace, BertSubnet, ROWS};
use crate::shape::{LayerKind, LayerShape, Shape};
use crate::transformer::{AttentionSizes, attention_layers, linear, mlp_layers, norm};

impl BertSpace {
    /// The typed layers of a subnet, in the order in which they run on a text of [`Self::length`] tokens.
    ///
    /// Linear weights are `[inputs, outputs]`; queries, keys and values are one layer.
    pub fn shape(&self, subnet: &BertSubnet) -> Shape {
        let (tokens, embed) = (self.length, subnet.embed_dim);
        let table = |part: &str, entries: usize| LayerShape {
            name: format!("embeddings.{part}"),
            kind: LayerKind::Table { entries, features: embed },
            rows: tokens,
        };
        let mut layers = vec![
            table("tokens", self.vocabulary),
            table("positions", self.length),
            table("segments", self.segments),
            norm("embeddings.norm".into(), embed, tokens),
        ];
        for (position, layer) in subnet.layers.iter().enumerate() {
            let name = |part: &str| format!("blocks.{position}.{part}");
            let sizes = AttentionSizes {
                embed_dim: embed,
                heads: layer.heads,
                head_dim: self.head_dim,
                keys: tokens,
                rows: tokens,
                kept: tokens,
            };
            layers.extend(attention_layers(&name("attn"), sizes));
            layers.push(norm(name("norm1"), embed, tokens));
            layers.extend(mlp_layers(&name("mlp"), embed, layer.mlp_width, tokens));
            layers.push(norm(name("norm2"), embed, tokens));
        }
        layers.push(match self.pooling {
            BertPooling::Pooler => linear("pooler".into(), embed, embed, 1),
            // The sum over the tokens is a product of the mask and the tokens.
            BertPooling::Mean => {
                let kind = LayerKind::MatMul { batch: 1, inner: tokens, columns: embed };
                LayerShape { name: "pool".into(), kind, rows: 1 }
            }
        });
        layers.push(linear("head".into(), embed, self.classes, 1));
        Shape { input: [ROWS, 1, self.length], classes: self.classes, layers }
    }
}
