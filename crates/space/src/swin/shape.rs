//! The typed layers of a Swin transformer's subnet.

use super::{SwinSpace, SwinSubnet};
use crate::shape::{LayerKind, LayerShape, Shape};
use crate::transformer::{AttentionSizes, attention_layers, linear, mlp_layers, norm};

impl SwinSpace {
    /// The typed layers of a subnet, in the order in which they run.
    ///
    /// Parameter names are those of timm's `SwinTransformer`; linear weights are `[inputs, outputs]`. Queries, keys
    /// and values are computed for padded tokens too.
    pub fn shape(&self, subnet: &SwinSubnet) -> Shape {
        let mut layers = Vec::new();
        let mut before = None;
        for (number, stage) in subnet.stages.iter().enumerate() {
            let (embed_dim, windows) = (stage.embed_dim, self.windows(number));
            let tokens = windows.side * windows.side;
            let name = |part: &str| format!("layers.{number}.{part}");
            match before {
                None => {
                    layers.push(linear("patch_embed.proj".into(), self.patch_values(), embed_dim, tokens));
                    layers.push(norm("patch_embed.norm".into(), embed_dim, tokens));
                }
                Some(inputs) => {
                    let inputs = 4 * inputs;
                    layers.push(norm(name("downsample.norm"), inputs, tokens));
                    layers.push(LayerShape {
                        name: name("downsample.reduction"),
                        kind: LayerKind::Projection { inputs, outputs: embed_dim },
                        rows: tokens,
                    });
                }
            }
            for (position, layer) in stage.layers.iter().enumerate() {
                let name = |part: &str| name(&format!("blocks.{position}.{part}"));
                layers.push(norm(name("norm1"), embed_dim, tokens));
                layers.push(LayerShape {
                    name: name("attn.relative_position_bias_table"),
                    kind: LayerKind::Table { entries: windows.entries(), features: layer.heads },
                    rows: windows.entries(),
                });
                let sizes = AttentionSizes {
                    embed_dim,
                    heads: layer.heads,
                    head_dim: self.head_dim,
                    keys: windows.tokens(),
                    rows: windows.count() * windows.tokens(),
                    kept: tokens,
                };
                layers.extend(attention_layers(&name("attn"), sizes));
                layers.push(norm(name("norm2"), embed_dim, tokens));
                layers.extend(mlp_layers(&name("mlp"), embed_dim, layer.mlp_width, tokens));
            }
            before = Some(embed_dim);
        }
        let last = subnet.stages.len().saturating_sub(1);
        let features = before.unwrap_or(0);
        layers.push(norm("norm".into(), features, self.side(last).pow(2)));
        layers.push(linear("head".into(), features, self.classes, 1));
        Shape { input: [self.channels, self.image_size, self.image_size], classes: self.classes, layers }
    }
}
