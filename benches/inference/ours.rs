//! Times the accuracy of one subnet on validation images, for `benches/inference/inference.py`.
//!
//! Takes the folder of a finished run, a subnet's name, a number of images and a folder, into which it writes these
//! images as `images.f32` and `labels.u8`. Answers each line of its input with the accuracy and the seconds it took.

#[path = "../finished.rs"]
mod finished;

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use elastic_trainer::evaluate::accuracy;

use finished::Finished;

#[derive(serde::Serialize)]
struct Answer {
    accuracy: f64,
    seconds: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, run, name, count, out] = &arguments[..] else { panic!("usage: ours RUN SUBNET IMAGES OUT") };
    let Finished { model, supernet, images, labels } = Finished::open(run, count);
    let subnet = model.named_subnets().remove(name).expect("a subnet of that name");
    let bytes: Vec<u8> = images.data.iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(Path::new(out).join("images.f32"), bytes).expect("a folder to write to");
    std::fs::write(Path::new(out).join("labels.u8"), &labels).expect("a folder to write to");
    for line in std::io::stdin().lines() {
        line.expect("a line");
        let began = Instant::now();
        let accuracy = accuracy(&supernet, &subnet, &images, &labels);
        let answer = Answer { accuracy, seconds: began.elapsed().as_secs_f64() };
        println!("{}", serde_json::to_string(&answer).expect("plain data"));
        std::io::stdout().flush().expect("an open pipe");
    }
}
