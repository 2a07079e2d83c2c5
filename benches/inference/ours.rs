//! Times the accuracy of one subnet on validation images, for `benches/inference/inference.py`.
//!
//! Takes the folder of a finished run, a subnet's name, a number of images and a folder, into which it writes these
//! images as `images.f32` and `labels.u8`. Answers each line of its input with the accuracy and the seconds it took.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use elastic_data::load_training;
use elastic_trainer::checkpoint::load_supernet;
use elastic_trainer::evaluate::accuracy;
use elastic_trainer::run_folder::{RunFolder, read_config};

#[derive(serde::Serialize)]
struct Answer {
    accuracy: f64,
    seconds: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, run, name, count, out] = &arguments[..] else { panic!("usage: ours RUN SUBNET IMAGES OUT") };
    let model = read_config(Path::new(run)).expect("a run's config.yaml");
    let supernet = load_supernet(&RunFolder(run.into()).supernet()).expect("a finished run").supernet;
    let subnet = model.named_subnets().remove(name).expect("a subnet of that name");
    let images = load_training(&model.data, model.space.input(), model.seed(), &mut |_| ())
        .expect("the run's data")
        .splits
        .validation;
    let count: usize = count.parse().expect("a number of images");
    let labels = &images.labels()[..count];
    let images = images.inputs(&model.data, 0..count);
    let bytes: Vec<u8> = images.data.iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(Path::new(out).join("images.f32"), bytes).expect("a folder to write to");
    std::fs::write(Path::new(out).join("labels.u8"), labels).expect("a folder to write to");
    for line in std::io::stdin().lines() {
        line.expect("a line");
        let began = Instant::now();
        let accuracy = accuracy(&supernet, &subnet, &images, labels);
        let answer = Answer { accuracy, seconds: began.elapsed().as_secs_f64() };
        println!("{}", serde_json::to_string(&answer).expect("plain data"));
        std::io::stdout().flush().expect("an open pipe");
    }
}
