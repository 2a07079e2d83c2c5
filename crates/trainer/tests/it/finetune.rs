//! One subnet trained alone with the supernet's largest network as its teacher, in every family.

use std::path::Path;

use elastic_data::DataConfig;
use elastic_space::{Array, SearchSpace, Seed, Subnet, Weights};
use elastic_trainer::checkpoint::{LoadedSupernet, Trained, load_supernet, save_supernet};
use elastic_trainer::finetune::{self, Settings, strength};
use elastic_trainer::teacher::{SupernetTeacher, TeacherError};
use elastic_trainer::train::Start;
use elastic_trainer::{Device, Model, Supernet, parameters};

use crate::runs::{folder, run};
use crate::support::{
    base_stage, batch, families, images, in_place, joint, model, opening, progressive, rich_stage, splits,
    stage, supernet, worst,
};

fn model_of(space: &SearchSpace) -> Model {
    let mut training = joint(stage());
    training.calibration_images = space.needs_calibration().then_some(6);
    let plain = model(training);
    let texts = DataConfig { mean: Vec::new(), std: Vec::new(), ..plain.data.clone() };
    let data = if space.vocabulary().is_some() { texts } else { plain.data.clone() };
    Model { space: space.clone(), data, ..plain }
}

/// A supernet's file.
fn saved(supernet: &Supernet, path: &Path) {
    let trained = Trained { stage: "0-joint".into(), step: 6, open: supernet.space.dimensions() };
    save_supernet(path, &supernet.space, &supernet.network, &trained).expect("it can be written");
}

/// How far a subnet's probabilities are from the targets, as cross-entropy.
fn distance(supernet: &Supernet, subnet: &Subnet, images: &Array, targets: &Array) -> f64 {
    let classes = targets.shape[1];
    let logits = supernet.logits(images, subnet);
    let row = |(logits, targets): (&[f32], &[f32])| -> f64 {
        let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        logits.iter().zip(targets).map(|(&z, &t)| f64::from(t) * (sum.ln() - f64::from(z))).sum()
    };
    logits.data.chunks(classes).zip(targets.data.chunks(classes)).map(row).sum()
}

#[test]
fn a_supernets_largest_network_teaches() {
    for space in families() {
        let family = space.family();
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let path = temporary.path().join("teacher.safetensors");
        let taught = model_of(&space);
        let train = splits(&space).train;
        saved(&supernet(space.clone(), 5, &Device::flex()), &path);
        let teacher = SupernetTeacher::open(&path, &taught, &train).expect("a teacher");
        let batch = batch(&space, &[0, 1, 2, 0], 7);
        let found = teacher.probabilities(&batch).expect("probabilities");
        let calibration = elastic_trainer::calibration::images(&taught, &train);
        let own = load_supernet(&path).expect("it was written").supernet.with_calibration(calibration);
        let logits = own.logits(&images(&space, 4, 7), &space.largest());
        for (found, logits) in found.data.chunks(found.shape[1]).zip(logits.data.chunks(found.shape[1])) {
            let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
            let expected: Vec<f64> = logits.iter().map(|&logit| f64::from(logit).exp() / sum).collect();
            assert!(worst(found, &expected) < 1e-5, "{family}: {found:?}, expected {expected:?}");
        }
        let other = families().into_iter().find(|other| other.family() != family).expect("another family");
        let refused = SupernetTeacher::open(&path, &model_of(&other), &splits(&other).train);
        let error = refused.err().expect("another family's");
        assert!(matches!(error, TeacherError::Supernet { .. }), "{family}: {error}");
        assert!(error.to_string().contains(&format!("is of the family {family} and reads")), "{error}");
    }
}

/// Trains the smallest subnet of a supernet's file alone.
fn tuned(model: &Model, path: &Path, subnet: &Subnet) -> LoadedSupernet {
    let settings = Settings { steps: 40, peak: Some(0.01), seed: Seed(3) };
    let recipe = finetune::run(model, path, &model.space, subnet, &settings);
    let (_temporary, folder) = folder();
    run(&recipe, &folder, Start::Fresh, |_, _| {}).expect("it trains");
    load_supernet(&folder.supernet()).expect("it was written")
}

#[test]
fn a_subnet_comes_nearer_to_its_teacher_and_the_rest_stays() {
    for space in families() {
        let family = space.family();
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let path = temporary.path().join("supernet.safetensors");
        let before = supernet(space.clone(), 5, &Device::flex());
        saved(&before, &path);
        let (model, subnet) = (model_of(&space), space.smallest());
        let after = tuned(&model, &path, &subnet);
        assert_eq!(after.sha256, tuned(&model, &path, &subnet).sha256, "{family}: the same run is the same");

        let train = splits(&space).train;
        let examples = train.inputs(&model.data, 0..train.len());
        let calibration = elastic_trainer::calibration::images(&model, &train);
        let before = before.with_calibration(calibration.clone());
        let after = after.supernet.with_calibration(calibration);
        let teacher = SupernetTeacher::open(&path, &model, &train).expect("a teacher");
        let labels = train.labels().to_vec();
        let [channels, height, width] = [examples.shape[1], examples.shape[2], examples.shape[3]];
        let batch = elastic_data::Batch {
            shape: [labels.len(), channels, height, width],
            images: examples.data.clone(),
            labels,
            mixed: None,
        };
        // The recipe has no teacher, so labels and soft targets have half of the loss each.
        let mut targets = teacher.probabilities(&batch).expect("probabilities");
        let classes = targets.shape[1];
        for (row, &label) in targets.data.chunks_mut(classes).zip(&batch.labels) {
            row.iter_mut().for_each(|share| *share *= 0.5);
            row[usize::from(label)] += 0.5;
        }
        let of = |supernet| distance(supernet, &subnet, &examples, &targets);
        assert!(of(&after) < of(&before), "{family}: {} became {}", of(&before), of(&after));

        // The smallest subnet has not all blocks, and what a subnet does not have gets no gradient.
        let [old, new]: [Weights; 2] =
            [&before, &after].map(|supernet| parameters::collect(&supernet.network));
        let changed = old.iter().filter(|(name, array)| new[*name].data != array.data).count();
        assert!((1..old.len()).contains(&changed), "{family}: {changed} of {} tensors", old.len());
    }
}

#[test]
fn a_run_of_one_subnet_has_the_recipe_of_the_last_stage() {
    let space = &families()[0];
    let path = Path::new("runs/x/supernet.safetensors");
    let mut taught = rich_stage();
    taught.learning_rate.peak = 0.004;
    taught.distillation = Some(in_place(0.7));
    let staged =
        progressive(base_stage(3), vec![opening(elastic_space::Dimension::Width, 4), taught.clone()]);
    for (training, peak, expected) in [
        (joint(stage()), None, (0.001, 0.5)),
        (joint(taught.clone()), None, (0.0004, 0.7)),
        (staged, None, (0.0004, 0.7)),
        (joint(taught), Some(0.02), (0.02, 0.7)),
    ] {
        let model = model(training);
        let settings = Settings { steps: 50, peak, seed: Seed(9) };
        let recipe = finetune::run(&model, path, space, &space.smallest(), &settings);
        let (rate, weight) = strength(&recipe);
        assert!((rate - expected.0).abs() < 1e-12, "{rate}, expected {}", expected.0);
        assert!((weight - expected.1).abs() < 1e-12, "{weight}, expected {}", expected.1);
        assert_eq!((recipe.seed, recipe.training.batch_size), (9, model.training.batch_size));
        recipe.validate().expect("the recipe is a model file's");
    }
}
