//! Model files as text: the shipped ones, round trips, and slips of the pen.

use std::path::{Path, PathBuf};

use elastic_space::file::{write, write_yaml};
use elastic_trainer::Model;

use crate::support::{model, training};

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models")
}

/// Reads a text as a model file.
fn parse(text: &str) -> Result<Model, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.yaml");
    write(&path, text.as_bytes()).expect("a file");
    Model::read(&path).map_err(|error| error.to_string())
}

fn round_trip(model: &Model) -> Model {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("config.yaml");
    write_yaml(&path, model).expect("YAML is written");
    Model::read(&path).expect("what is written can be read")
}

#[test]
fn shipped_models_are_sound() {
    let mut files = 0;
    for entry in std::fs::read_dir(models()).expect("the folder of models") {
        let path = entry.expect("an entry").path();
        let name = path.display();
        assert!(path.extension().is_some_and(|e| e == "yaml"), "{name}: only model files lie here");
        let model = Model::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        model.data.validate().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(model.data.class_names.len(), model.space.classes(), "{name}");
        assert_eq!(model.data.mean.len(), model.space.input()[0], "{name}");
        assert_eq!(round_trip(&model), model, "{name}");
        files += 1;
    }
    assert!(files > 0, "there is a default model");
}

#[test]
fn numbers_come_back_exactly() {
    let mut model = model(training());
    model.seed = u64::MAX;
    model.training.optimizer.learning_rate = 0.1 + 0.2;
    model.training.optimizer.final_learning_rate = 1e-300;
    model.training.clip_gradient_norm = Some(1.0 / 3.0);
    model.data.mean = vec![f32::MIN_POSITIVE, 0.1];
    assert_eq!(round_trip(&model), model);
}

#[test]
fn slips_of_the_pen() {
    let text = std::fs::read_to_string(models().join("vit-fashion.yaml")).expect("the default model");
    parse(&text).expect("the default model is sound");
    for (from, to, expected) in [
        ("seed: 1\n", "", "missing field `seed`"),
        ("seed: 1\n", "seed: one\n", "seed: invalid type"),
        ("seed: 1\n", "seed: -1\n", "seed: invalid"),
        ("steps: 1200", "stepz: 1200", "unknown field `stepz`"),
        ("steps: 1200", "steps: 1.5", "training.steps: invalid type"),
        ("embed-dim: [32, 48, 64]", "embed-dim: 64", "embed-dim: invalid type"),
        ("pooling: mean", "pooling: average", "unknown variant `average`, expected `class-token` or `mean`"),
        ("scheme: joint ", "scheme: shrinking ", "unknown variant `shrinking`"),
        ("reduce: mean", "reduce: max", "unknown variant `max`, expected `sum` or `mean`"),
        ("flip: true", "flip: perhaps", "flip: invalid type"),
        ("drop: prefix", "drop: suffix", "unknown variant `suffix`"),
        ("fixed: [largest, smallest]", "fixed: [largest, tiny]", "no subnet is named `tiny`"),
        ("  vit:\n    image-size", "  vlt:\n    image-size", "unknown variant `vlt`, expected `vit`"),
        ("elastic.model/v1", "elastic.model/v9", "schema is `elastic.model/v9`"),
        ("patch-size: 4 ", "patch-size: 5 ", "image-size 28 is not a multiple of patch-size 5"),
        ("label-smoothing: 0.05", "label-smoothing: .nan", "training.label-smoothing is NaN"),
        ("seed: 1\n", "seed: 1\nseed: 2\n", "duplicate"),
        ("training:\n", "training: [\n", "did not find expected"),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from} is in the default model");
        let error = parse(&changed).expect_err(to);
        assert!(error.contains(expected), "{to}: expected {expected}, found {error}");
    }
}
