//! The Swin transformer in plain loops of 64-bit floats, against which the graphs are tested.
//!
//! Written from the definition, one window, one token and one head at a time; it shares no code with the graph, and
//! shifts and pads the map itself.

use elastic_space::swin::{LAYER_NORM_EPSILON, SwinSpace, SwinSubnet};
use elastic_space::{Array, Weights};

use super::reference::{Parts, Rows, mean, patches, sum};

/// The logits of images `[n, channels, height, width]`: `[n, classes]`.
pub(super) fn forward(space: &SwinSpace, subnet: &SwinSubnet, weights: &Weights, images: &Array) -> Array {
    let values = images.shape[1..].iter().product();
    let network = Network { space, parts: Parts { weights, epsilon: LAYER_NORM_EPSILON } };
    let data = images.data.chunks(values).flat_map(|image| network.logits(subnet, image));
    Array { shape: vec![images.shape[0], space.classes], data: data.map(|logit| logit as f32).collect() }
}

struct Network<'a> {
    space: &'a SwinSpace,
    parts: Parts<'a>,
}

impl Network<'_> {
    fn logits(&self, subnet: &SwinSubnet, image: &[f32]) -> Vec<f64> {
        let parts = &self.parts;
        let x = patches(image, self.space.image_size, self.space.channels, self.space.patch_size);
        let mut x = parts.norm("patch_embed.norm", &parts.linear("patch_embed.proj", &x));
        let mut side = self.space.image_size / self.space.patch_size;
        for (number, stage) in subnet.stages.iter().enumerate() {
            let name = format!("layers.{number}");
            if number > 0 {
                x = self.merge(&format!("{name}.downsample"), &x, side);
                side = side.div_ceil(2);
            }
            for (position, layer) in stage.layers.iter().enumerate() {
                let name = format!("{name}.blocks.{position}");
                let normed = parts.norm(&format!("{name}.norm1"), &x);
                let attention = self.attention(&name, &normed, side, layer.heads, position % 2 == 1);
                x = sum(&x, &attention);
                x = sum(&x, &parts.mlp(&format!("{name}.mlp"), &parts.norm(&format!("{name}.norm2"), &x)));
            }
        }
        let pooled = mean(&parts.norm("norm", &x));
        parts.linear("head", &vec![pooled]).remove(0)
    }

    /// Four neighbours side by side: both above each other on the left, then on the right.
    fn merge(&self, name: &str, x: &Rows, side: usize) -> Rows {
        let half = side.div_ceil(2);
        let token = |row: usize, column: usize| {
            if row < side && column < side { x[row * side + column].clone() } else { vec![0.0; x[0].len()] }
        };
        let mut four = Rows::new();
        for row in 0..half {
            for column in 0..half {
                let parts = [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(y, x)| token(2 * row + y, 2 * column + x));
                four.push(parts.concat());
            }
        }
        let normed = self.parts.norm(&format!("{name}.norm"), &four);
        let weight = self.parts.tensor(&format!("{name}.reduction.weight"));
        let outputs = weight.len() / normed[0].len();
        let cell = |row: &[f64], o: usize| {
            row.iter().enumerate().map(|(i, value)| value * weight[i * outputs + o]).sum::<f64>()
        };
        normed.iter().map(|row| (0..outputs).map(|o| cell(row, o)).collect()).collect()
    }

    fn attention(&self, block: &str, x: &Rows, side: usize, heads: usize, odd: bool) -> Rows {
        let name = format!("{block}.attn");
        let size = side.min(self.space.window_size);
        let padded = side.div_ceil(size) * size;
        let shift = if odd && padded > size { size / 2 } else { 0 };
        // Where the token at a place of the shifted map comes from, and whether it has come round.
        let origin = |at: usize| ((at + shift) % padded, at + shift >= padded);
        let embed = x[0].len();
        let mut context = vec![vec![]; side * side];
        for top in (0..padded).step_by(size) {
            for left in (0..padded).step_by(size) {
                let places: Vec<(usize, usize)> =
                    (0..size * size).map(|t| (top + t / size, left + t % size)).collect();
                let token = |&(row, column): &(usize, usize)| {
                    let (row, column) = (origin(row).0, origin(column).0);
                    if row < side && column < side {
                        x[row * side + column].clone()
                    } else {
                        vec![0.0; embed]
                    }
                };
                let window: Rows = places.iter().map(token).collect();
                let bias = |from: usize, to: usize, head: usize| {
                    let ((y, x), (to_y, to_x)) = (places[from], places[to]);
                    let entry = (y + size - 1 - to_y) * (2 * size - 1) + x + size - 1 - to_x;
                    let table = self.parts.tensor(&format!("{name}.relative_position_bias_table"));
                    let apart = origin(y).1 != origin(to_y).1 || origin(x).1 != origin(to_x).1;
                    table[entry * heads + head] - if apart { 100.0 } else { 0.0 }
                };
                let found =
                    self.parts.context(&format!("{name}.qkv"), &window, heads, self.space.head_dim, bias);
                for (&(row, column), found) in places.iter().zip(found) {
                    let (row, column) = (origin(row).0, origin(column).0);
                    if row < side && column < side {
                        context[row * side + column] = found;
                    }
                }
            }
        }
        self.parts.linear(&format!("{name}.proj"), &context)
    }
}
