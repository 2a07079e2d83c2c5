//! Twenty random subnets of a model of every family, as ONNX files: the same logits in burn, ONNX Runtime and
//! tract, and the same counts in the search space and in the graph.

use std::path::Path;

use elastic_exporter::{Batch, GraphOptions, TOLERANCE, build, compare, macs, params};
use elastic_space::platform::{OnnxRuntime, Optimization, Provider, Runtime};
use elastic_space::random::Purpose;
use elastic_space::{Array, Seed};
use elastic_trainer::{Device, Model, Supernet};
use rand::Rng;

const SEED: Seed = Seed(20);
const SUBNETS: usize = 20;
const IMAGES: usize = 32;

#[test]
fn twenty_subnets_agree_in_burn_onnx_runtime_and_tract() {
    for file in ["vit-fashion.yaml", "conv-fashion.yaml", "swin-fashion.yaml"] {
        agree(file);
    }
}

fn agree(file: &str) {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
    let model = Model::read(&models.join(file)).expect("a valid model");
    let images = random_images(model.space.input());
    let calibration = model.space.needs_calibration().then(|| images.clone());
    let supernet = Supernet::new(model.space.clone(), SEED, &Device::flex()).with_calibration(calibration);
    let subnets = model.space.draw_distinct(SUBNETS, &mut SEED.generator(Purpose::Candidates, 0));
    assert_eq!(subnets.len(), SUBNETS);
    let mut worst = 0.0_f64;
    for (index, subnet) in subnets.iter().enumerate() {
        let (form, batch) = if index % 2 == 0 { (Batch::Fixed(1), 1) } else { (Batch::Dynamic, 8) };
        let options = GraphOptions {
            batch: form,
            class_names: model.data.class_names.clone(),
            metadata: Default::default(),
        };
        let bytes =
            build(&model.space, subnet, &supernet.extract(subnet), &options).expect("the weights fit");
        let reference = supernet.logits(&images, subnet);
        for runtime in runtimes() {
            let agreement =
                compare(&bytes, &runtime, &images, &reference, batch).expect("the runtime runs it");
            assert!(agreement.holds(TOLERANCE), "{subnet}: {agreement:?}");
            worst = worst.max(agreement.max_abs_difference);
        }
        let cost = model.space.cost(subnet);
        assert_eq!(params(&bytes).expect("it is a graph"), cost.params, "parameters of {subnet}");
        assert_eq!(macs(&bytes).expect("it is a graph"), cost.macs, "MACs of {subnet}");
    }
    println!("{file}: worst difference of a logit over {SUBNETS} subnets: {worst:.1e}");
}

fn runtimes() -> [Runtime; 2] {
    let onnx_runtime =
        OnnxRuntime { provider: Provider::Cpu, threads: 1, optimization: Optimization::All, spinning: false };
    [Runtime::OnnxRuntime(onnx_runtime), Runtime::Tract(Default::default())]
}

fn random_images(input: [usize; 3]) -> Array {
    let mut rng = SEED.generator(Purpose::Measure, 0);
    let data = (0..IMAGES * input.iter().product::<usize>()).map(|_| rng.random_range(-1.0..2.0)).collect();
    Array { shape: vec![IMAGES, input[0], input[1], input[2]], data }
}
