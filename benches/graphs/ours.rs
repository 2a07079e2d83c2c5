//! Writes the largest network of a model file, with random weights, in every form and precision, for
//! `benches/graphs/graphs.py`.
//!
//! Takes the model file and a folder, which gets `FORM-PRECISION.onnx` for each, and `network.json` with the search space.

use std::path::Path;

use elastic_exporter::precision::{Method, Precision, calibrate, reduce};
use elastic_exporter::{Batch, GraphOptions, Sequence, build, forms};
use elastic_profiler::random_inputs;
use elastic_space::platform::{OnnxRuntime, Runtime};
use elastic_trainer::{Device, Model, Supernet};

/// Random images on which batch normalisation and the ranges of 8-bit integers are measured.
const IMAGES: usize = 16;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, model, out] = &arguments[..] else { panic!("usage: graphs MODEL OUT") };
    let out = Path::new(out);
    std::fs::create_dir_all(out).expect("a folder to write to");
    let model = Model::read(Path::new(model)).expect("a model file");
    let images = random_inputs(IMAGES, model.space.input(), model.seed()).remove(0);
    let calibration = model.space.needs_calibration().then(|| images.clone());
    let supernet =
        Supernet::new(model.space.clone(), model.seed(), &Device::flex()).with_calibration(calibration);
    let subnet = model.space.largest();
    let weights = supernet.extract(&subnet);
    let network = serde_json::json!({ "space": model.space, "subnet": subnet });
    std::fs::write(out.join("network.json"), network.to_string()).expect("a folder to write to");
    let runtime = Runtime::OnnxRuntime(OnnxRuntime::cpu(1));
    for form in forms(&model.space) {
        let options = GraphOptions {
            batch: Batch::Fixed(1),
            sequence: Sequence::Fixed,
            form,
            opset: form.opset(),
            class_names: Vec::new(),
            metadata: Default::default(),
        };
        let file = build(&model.space, &subnet, &weights, &options).expect("the weights fit");
        let ranges = calibrate(&file, &runtime, &images, 1, Method::MinMax).expect("it runs");
        for precision in Precision::ALL {
            let reduced = reduce(&file, precision, &ranges).expect("it can be reduced");
            std::fs::write(out.join(format!("{form}-{precision}.onnx")), reduced)
                .expect("a folder to write to");
        }
    }
}
