//! Random subnets of a model of every family, as ONNX files of every form: the same logits in burn, ONNX Runtime and
//! tract, and the same counts in the search space and in the graph.

use std::path::Path;

use elastic_exporter::{Batch, Form, GraphOptions, Sequence, TOLERANCE, build, compare, forms, macs, params};
use elastic_space::platform::{OnnxRuntime, Runtime};
use elastic_space::random::Purpose;
use elastic_space::{Array, SearchSpace, Seed};
use elastic_trainer::{Device, Model, Supernet};
use rand::Rng;

const SEED: Seed = Seed(20);
const FILES: [&str; 4] = ["vit-fashion.yaml", "conv-fashion.yaml", "swin-fashion.yaml", "bert-minilm.yaml"];
const IMAGES: usize = 32;

#[test]
fn twenty_subnets_agree_in_burn_onnx_runtime_and_tract() {
    for file in FILES {
        agree(file, Form::Portable, 20);
    }
}

#[test]
fn every_form_agrees_in_burn_and_the_runtimes_that_know_it() {
    for file in FILES {
        for form in forms(&model(file).space).into_iter().filter(|&form| form != Form::Portable) {
            agree(file, form, 4);
        }
    }
}

fn model(file: &str) -> Model {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
    let mut model = Model::read(&models.join(file)).expect("a valid model");
    if let SearchSpace::Bert(bert) = &mut model.space {
        // Short texts of few words: the tables alone would make files of 48 MB.
        (bert.vocabulary, bert.length) = (500, 12);
    }
    model
}

fn agree(file: &str, form: Form, count: usize) {
    let model = model(file);
    let images = match model.space.vocabulary() {
        None => random_images(model.space.input()),
        Some(vocabulary) => random_texts(model.space.input()[2], vocabulary),
    };
    let calibration = model.space.needs_calibration().then(|| images.clone());
    let supernet = Supernet::new(model.space.clone(), SEED, &Device::flex()).with_calibration(calibration);
    let subnets = model.space.draw_distinct(count, &mut SEED.generator(Purpose::Candidates, 0));
    assert_eq!(subnets.len(), count);
    let mut worst = 0.0_f64;
    for (index, subnet) in subnets.iter().enumerate() {
        let (size, batch) = if index % 2 == 0 { (Batch::Fixed(1), 1) } else { (Batch::Dynamic, 8) };
        let options = GraphOptions {
            batch: size,
            sequence: Sequence::Fixed,
            form,
            opset: form.opset(),
            class_names: model.data.class_names.clone(),
            metadata: Default::default(),
        };
        let bytes =
            build(&model.space, subnet, &supernet.extract(subnet), &options).expect("the weights fit");
        let reference = supernet.logits(&images, subnet);
        for runtime in runtimes(form) {
            let agreement =
                compare(&bytes, &runtime, &images, &reference, batch).expect("the runtime runs it");
            assert!(agreement.holds(TOLERANCE), "{subnet}, {form}: {agreement:?}");
            worst = worst.max(agreement.max_abs_difference);
        }
        let cost = model.space.cost(subnet);
        assert_eq!(params(&bytes).expect("it is a graph"), cost.params, "parameters of {subnet}");
        assert_eq!(macs(&bytes).expect("it is a graph"), cost.macs, "MACs of {subnet}");
    }
    println!("{file}, {form}: worst difference of a logit over {count} subnets: {worst:.1e}");
}

fn runtimes(form: Form) -> Vec<Runtime> {
    let onnx_runtime = OnnxRuntime::cpu(1);
    let tract = form.is_standard().then(|| Runtime::Tract(Default::default()));
    std::iter::once(Runtime::OnnxRuntime(onnx_runtime)).chain(tract).collect()
}

fn random_images(input: [usize; 3]) -> Array {
    let mut rng = SEED.generator(Purpose::Measure, 0);
    let data = (0..IMAGES * input.iter().product::<usize>()).map(|_| rng.random_range(-1.0..2.0)).collect();
    Array { shape: vec![IMAGES, input[0], input[1], input[2]], data }
}

/// Texts of every length, which are padded to the longest.
fn random_texts(tokens: usize, vocabulary: usize) -> Array {
    let mut rng = SEED.generator(Purpose::Measure, 0);
    let mut data = Vec::new();
    for text in 0..IMAGES {
        data.extend((0..tokens).map(|_| rng.random_range(0..vocabulary) as f32));
        data.extend((0..tokens).map(|token| f32::from(u8::from(token <= text % tokens))));
        data.extend(std::iter::repeat_n(0.0, tokens));
    }
    Array { shape: vec![IMAGES, 3, 1, tokens], data }
}
