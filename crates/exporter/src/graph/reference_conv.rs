//! The convolutional network in plain loops of 64-bit floats, against which the graphs are tested.
//!
//! Written from the definition, one value at a time; all sizes but strides come from the tensors themselves.

use elastic_space::conv::{Activation, ConvSpace, ConvSubnet, Padding};
use elastic_space::{Array, Weights};

/// Channels of square images.
#[derive(Clone)]
struct Planes {
    side: usize,
    channels: Vec<Vec<f64>>,
}

/// The logits of images `[n, channels, height, width]`: `[n, classes]`.
pub(super) fn forward(space: &ConvSpace, subnet: &ConvSubnet, weights: &Weights, images: &Array) -> Array {
    let values = images.shape[1..].iter().product();
    let network = Network { space, weights };
    let data = images.data.chunks(values).flat_map(|image| network.logits(subnet, image));
    Array { shape: vec![images.shape[0], space.classes], data: data.map(|logit| logit as f32).collect() }
}

struct Network<'a> {
    space: &'a ConvSpace,
    weights: &'a Weights,
}

impl Network<'_> {
    fn logits(&self, subnet: &ConvSubnet, image: &[f32]) -> Vec<f64> {
        let side = self.space.image_size;
        let plane = |plane: &[f32]| plane.iter().copied().map(f64::from).collect();
        let x = Planes { side, channels: image.chunks(side * side).map(plane).collect() };
        let mut x = self.conv("stem", &resize(&x, subnet.resolution), self.space.stem.stride, false);
        activate(&mut x.channels, self.space.activation);
        let mut before = *self.space.stem.width.last().expect("there is a width");
        for (stage, (choices, kept)) in self.space.stages.iter().zip(&subnet.stages).enumerate() {
            let activation = choices.activation.unwrap_or(self.space.activation);
            for (position, layer) in kept.layers.iter().enumerate() {
                let stride = if layer.index == 0 { choices.stride } else { 1 };
                let y = self.residual(&format!("stages.{stage}.blocks.{position}"), &x, stride, activation);
                let after = *choices.width.last().expect("there is a width");
                let adds = stride == 1 && before == after && x.channels.len() == y.channels.len();
                x = if adds { sum(&x, &y) } else { y };
                before = after;
            }
        }
        let mut x = self.conv("head", &x, 1, false);
        activate(&mut x.channels, self.space.activation);
        let mut features = means(&x);
        if subnet.head_hidden.is_some() {
            features = self.linear("hidden", &features);
            activate(std::slice::from_mut(&mut features), self.space.activation);
        }
        self.linear("classifier", &features)
    }

    fn residual(&self, name: &str, x: &Planes, stride: usize, activation: Activation) -> Planes {
        let mut x = x.clone();
        if self.weights.contains_key(&format!("{name}.expand.weight")) {
            x = self.conv(&format!("{name}.expand"), &x, 1, false);
            activate(&mut x.channels, activation);
        }
        x = self.conv(&format!("{name}.depthwise"), &x, stride, true);
        activate(&mut x.channels, activation);
        if self.weights.contains_key(&format!("{name}.squeeze.weight")) {
            let pixel = |values: Vec<f64>| Planes {
                side: 1,
                channels: values.into_iter().map(|v| vec![v]).collect(),
            };
            let mut features = self.conv(&format!("{name}.squeeze"), &pixel(means(&x)), 1, false);
            activate(&mut features.channels, Activation::Relu);
            let gates = self.conv(&format!("{name}.excite"), &features, 1, false);
            for (plane, gate) in x.channels.iter_mut().zip(&gates.channels) {
                let gate = ((gate[0] + 3.0) / 6.0).clamp(0.0, 1.0);
                plane.iter_mut().for_each(|value| *value *= gate);
            }
        }
        self.conv(&format!("{name}.project"), &x, 1, false)
    }

    fn conv(&self, name: &str, x: &Planes, stride: usize, depthwise: bool) -> Planes {
        let weight = &self.weights[&format!("{name}.weight")];
        let bias = self.tensor(&format!("{name}.bias"));
        let [outputs, inputs, kernel, _] = weight.shape[..] else { panic!("a kernel has four axes") };
        let side = x.side.div_ceil(stride);
        let above = match self.space.padding {
            Padding::Centred => kernel / 2,
            // Half of what the windows reach beyond the image, rounded down.
            Padding::Same => ((side - 1) * stride + kernel).saturating_sub(x.side) / 2,
        };
        let value = |output: usize, top: usize, left: usize| {
            let mut total = bias[output];
            for input in 0..inputs {
                let plane = &x.channels[if depthwise { output } else { input }];
                for row in 0..kernel {
                    for column in 0..kernel {
                        // Beyond the border there are zeros.
                        let y = (top * stride + row).checked_sub(above).filter(|y| *y < x.side);
                        let z = (left * stride + column).checked_sub(above).filter(|z| *z < x.side);
                        if let (Some(y), Some(z)) = (y, z) {
                            let at = ((output * inputs + input) * kernel + row) * kernel + column;
                            total += plane[y * x.side + z] * f64::from(weight.data[at]);
                        }
                    }
                }
            }
            total
        };
        let plane = |output| (0..side * side).map(|at| value(output, at / side, at % side)).collect();
        Planes { side, channels: (0..outputs).map(plane).collect() }
    }

    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let (weight, bias) = (self.tensor(&format!("{name}.weight")), self.tensor(&format!("{name}.bias")));
        let outputs = bias.len();
        let cell =
            |o: usize| bias[o] + x.iter().enumerate().map(|(i, v)| v * weight[i * outputs + o]).sum::<f64>();
        (0..outputs).map(cell).collect()
    }

    fn tensor(&self, name: &str) -> Vec<f64> {
        self.weights[name].data.iter().copied().map(f64::from).collect()
    }
}

/// Bilinear interpolation between the centres of pixels.
fn resize(x: &Planes, side: usize) -> Planes {
    let scale = x.side as f64 / side as f64;
    let point = |at: usize| ((at as f64 + 0.5) * scale - 0.5).clamp(0.0, (x.side - 1) as f64);
    let pixel = |plane: &[f64], y: f64, z: f64| {
        let mut total = 0.0;
        for (at, value) in plane.iter().enumerate() {
            let near = |distance: f64| (1.0 - distance.abs()).max(0.0);
            total += value * near((at / x.side) as f64 - y) * near((at % x.side) as f64 - z);
        }
        total
    };
    let plane = |plane: &Vec<f64>| {
        (0..side * side).map(|at| pixel(plane, point(at / side), point(at % side))).collect()
    };
    Planes { side, channels: x.channels.iter().map(plane).collect() }
}

fn activate(planes: &mut [Vec<f64>], activation: Activation) {
    planes.iter_mut().flatten().for_each(|x| {
        *x = match activation {
            Activation::Relu => x.max(0.0),
            Activation::Relu6 => x.clamp(0.0, 6.0),
            Activation::HardSwish => *x * (*x + 3.0).clamp(0.0, 6.0) / 6.0,
        };
    });
}

fn means(x: &Planes) -> Vec<f64> {
    x.channels.iter().map(|plane| plane.iter().sum::<f64>() / plane.len() as f64).collect()
}

fn sum(a: &Planes, b: &Planes) -> Planes {
    let add = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| a + b).collect();
    Planes { side: a.side, channels: a.channels.iter().zip(&b.channels).map(add).collect() }
}
