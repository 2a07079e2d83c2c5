//! Times the trainer's operations on noise, for `benches/operations/operations.py`.
//!
//! Reads one line of JSON a time, `{"kind": .., "sizes": [..], "backward": .., "times": ..}`, and answers
//! with the durations in milliseconds.

use std::io::{BufRead, Write};
use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use elastic_space::conv::Padding;

// Compiled into this program, so that what is timed needs no public name.
#[allow(dead_code, unused_imports, unreachable_pub, reason = "only some operations are timed")]
#[path = "../../crates/trainer/src/ops/mod.rs"]
mod ops;

use ops::{Activation, AttentionShape, Window};

#[derive(serde::Deserialize)]
struct Order {
    kind: String,
    sizes: Vec<usize>,
    backward: bool,
    times: usize,
}

/// Draws inputs; they carry gradients if the order is for them.
struct Inputs {
    device: Device,
    backward: bool,
}

impl Inputs {
    fn draw<const D: usize>(&self, shape: [usize; D]) -> Tensor<D> {
        let x = Tensor::random(shape, Distribution::Normal(0.0, 1.0), &self.device);
        if self.backward { x.require_grad() } else { x }
    }
}

fn main() {
    for line in std::io::stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line.expect("a line")).expect("an order");
        // On a thread of the pool, as in training: PyTorch's caller is one of its threads too.
        let milliseconds = rayon::scope(|_| run(&order));
        println!("{}", serde_json::to_string(&milliseconds).expect("plain data"));
        std::io::stdout().flush().expect("an open pipe");
    }
}

fn run(order: &Order) -> Vec<f64> {
    let plain = Device::flex();
    let device = if order.backward { plain.autodiff() } else { plain };
    let inputs = Inputs { device, backward: order.backward };
    match (order.kind.as_str(), &order.sizes[..]) {
        ("depthwise", &[batch, side, channels, kernel, stride]) => {
            let (x, w) =
                (inputs.draw([batch, side, side, channels]), inputs.draw([kernel, kernel, channels]));
            let window = Window::padded(Padding::Centred, kernel, stride, [side; 2]);
            time(order, || ops::depthwise(x.clone(), w.clone(), window))
        }
        ("convolution", &[batch, side, from, to, kernel, stride]) => {
            let x = inputs.draw([batch, side, side, from]);
            let w = inputs.draw([kernel * kernel * from, to]);
            let window = Window::padded(Padding::Centred, kernel, stride, [side; 2]);
            time(order, || ops::convolution(x.clone(), w.clone(), None, window))
        }
        ("linear", &[rows, from, to]) => {
            let (x, w, b) = (inputs.draw([rows, from]), inputs.draw([from, to]), inputs.draw([to]));
            time(order, || ops::linear(x.clone(), w.clone(), b.clone()))
        }
        ("batch norm", &[rows, channels]) => {
            let x = inputs.draw([rows, channels]);
            let (gamma, beta) = (inputs.draw([channels]), inputs.draw([channels]));
            time(order, || ops::batch_norm(x.clone(), gamma.clone(), beta.clone(), 1e-5))
        }
        ("layer norm", &[rows, features]) => {
            let x = inputs.draw([rows, features]);
            let (gamma, beta) = (inputs.draw([features]), inputs.draw([features]));
            time(order, || ops::layer_norm(x.clone(), gamma.clone(), beta.clone(), 1e-6))
        }
        ("softmax", &[rows, columns]) => {
            let x = inputs.draw([rows, columns]);
            time(order, || ops::softmax(x.clone(), 1.0))
        }
        ("attention", &[images, tokens, heads, head_dim]) => {
            let x = inputs.draw([images * tokens, 3 * heads * head_dim]);
            time(order, || ops::attention(x.clone(), AttentionShape { tokens, heads, head_dim }))
        }
        ("scale channels", &[batch, side, channels]) => {
            let (x, gate) = (inputs.draw([batch, side, side, channels]), inputs.draw([batch, channels]));
            time(order, || ops::scale_channels(x.clone(), gate.clone()))
        }
        ("mean of pixels", &[batch, side, channels]) => {
            let x = inputs.draw([batch, side, side, channels]);
            time(order, || ops::mean_pixels(x.clone()))
        }
        (kind, &[rows, columns]) => {
            let x = inputs.draw([rows, columns]);
            let activation = |activation| time(order, || ops::activation(x.clone(), activation));
            match kind {
                "gelu" => time(order, || ops::gelu(x.clone())),
                "relu" => activation(Activation::Relu),
                "relu6" => activation(Activation::Relu6),
                "hard-swish" => activation(Activation::HardSwish),
                "hard-sigmoid" => activation(Activation::HardSigmoid),
                _ => panic!("no operation {kind}"),
            }
        }
        (kind, sizes) => panic!("{kind} does not take {} sizes", sizes.len()),
    }
}

/// The operation, and with `backward` its gradients under a gradient that is drawn once.
fn time<const D: usize>(order: &Order, operation: impl Fn() -> Tensor<D>) -> Vec<f64> {
    let y = operation();
    let gradient = Tensor::<D>::random(y.dims(), Distribution::Normal(0.0, 1.0), &Device::flex());
    let once = || {
        let began = Instant::now();
        let y = operation();
        if order.backward {
            // PyTorch computes the same product and sum.
            std::hint::black_box((y * Tensor::from_inner(gradient.clone())).sum().backward());
        } else {
            std::hint::black_box(y);
        }
        1e3 * began.elapsed().as_secs_f64()
    };
    (0..order.times).map(|_| once()).collect()
}
