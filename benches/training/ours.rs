//! Times training steps of our trainer on a batch of noise, for `benches/training/training.py`.
//!
//! Takes a model file, a batch size and a device. Reads one line of JSON a time, `{"steps": [[subnet, ..], ..]}`,
//! does these steps and answers with their losses and their durations in milliseconds. `{"products": [[count, rows,
//! inner, columns], ..]}` asks for the shortest duration of each of these matrix products alone.

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use elastic_data::Batch;
use elastic_space::random::Purpose;
use elastic_space::{Seed, Subnet};
use elastic_trainer::config::Reduce;
use elastic_trainer::device::DeviceKind;
use elastic_trainer::optimizer::{adamw, norm};
use elastic_trainer::step::{self, SoftTargets, StepRecipe};
use elastic_trainer::{Model, Supernet};
use rand::Rng;

#[derive(serde::Deserialize)]
struct Order {
    #[serde(default)]
    steps: Vec<Vec<Subnet>>,
    #[serde(default)]
    products: Vec<[usize; 4]>,
}

#[derive(serde::Serialize)]
struct Answer {
    milliseconds: Vec<f64>,
    losses: Vec<f64>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, model, batch, device] = &arguments[..] else { panic!("usage: ours MODEL BATCH DEVICE") };
    let model = Model::read(Path::new(model)).expect("a model file");
    let batch = noise(&model, batch.parse().expect("a batch size"));
    let device: DeviceKind = device.parse().expect("a device");
    let device = device.open().expect("the device is there").autodiff();
    let mut supernet = Supernet::new(model.space.clone(), model.seed(), &device);
    let mut optimizer = adamw(&model.training.optimizer, &supernet.network);
    let recipe = StepRecipe {
        reduce: Reduce::Mean,
        label_smoothing: model.training.label_smoothing,
        soft_targets: SoftTargets::InPlace { weight: 0.5 },
    };
    let mut step = |subnets: &[Subnet]| {
        let result = step::gradients(&supernet, &batch, subnets, &recipe, &device).expect("finite losses");
        let norm = norm(&result.gradients, &supernet.network);
        let clip = match model.training.clip_gradient_norm {
            Some(limit) if norm > limit => limit / norm,
            _ => 1.0,
        };
        supernet.network = optimizer.step(1e-3, supernet.network.clone(), result.gradients, clip);
        result.losses.iter().sum::<f64>() / result.losses.len() as f64
    };
    for line in std::io::stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line.expect("a line")).expect("an order");
        let (mut milliseconds, losses): (Vec<f64>, _) = order
            .steps
            .iter()
            .map(|subnets| {
                let began = Instant::now();
                let loss = step(subnets);
                (1e3 * began.elapsed().as_secs_f64(), loss)
            })
            .unzip();
        milliseconds.extend(order.products.iter().map(|sizes| product(*sizes)));
        let answer = Answer { milliseconds, losses };
        println!("{}", serde_json::to_string(&answer).expect("plain data"));
        std::io::stdout().flush().expect("an open pipe");
    }
}

/// The fastest of 7 runs of `count` products of a `[rows, inner]` with a `[inner, columns]` matrix, in milliseconds.
fn product([count, rows, inner, columns]: [usize; 4]) -> f64 {
    let random = |shape| Tensor::<3>::random(shape, Distribution::Default, &Device::flex());
    let (left, right) = (random([count, rows, inner]), random([count, inner, columns]));
    let run = || {
        let (left, right, began) = (left.clone(), right.clone(), Instant::now());
        std::hint::black_box(left.matmul(right));
        1e3 * began.elapsed().as_secs_f64()
    };
    (0..7).map(|_| run()).fold(f64::INFINITY, f64::min)
}

/// Uniform noise with random labels.
fn noise(model: &Model, images: usize) -> Batch {
    let mut rng = Seed(1).generator(Purpose::Init, 1);
    let [channels, height, width] = model.space.input();
    let values = images * channels * height * width;
    Batch {
        shape: [images, channels, height, width],
        images: (0..values).map(|_| rng.random_range(-1.0..1.0)).collect(),
        labels: (0..images).map(|_| rng.random_range(0..model.space.classes() as u8)).collect(),
        mixed: None,
    }
}
