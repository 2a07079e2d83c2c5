//! Model files as text: the shipped ones, round trips, and slips of the pen.

use std::path::{Path, PathBuf};

use elastic_space::file::{write, write_yaml};
use elastic_trainer::Model;

use crate::support::{joint, model, only_stage, rich_stage, training};

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

fn as_text(model: &Model) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("config.yaml");
    write_yaml(&path, model).expect("YAML is written");
    std::fs::read_to_string(&path).expect("YAML is text")
}

#[test]
fn shipped_models_are_sound() {
    let mut files = 0;
    for entry in std::fs::read_dir(models()).expect("the folder of models") {
        let path = entry.expect("an entry").path();
        let name = path.display();
        assert!(path.extension().is_some_and(|e| e == "yaml"), "{name}: only model files lie here");
        let model = Model::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(model.data.class_names.len(), model.space.classes(), "{name}");
        assert_eq!(model.data.mean.len(), model.space.input()[0], "{name}");
        assert_eq!(parse(&as_text(&model)), Ok(model), "{name}");
        files += 1;
    }
    assert!(files > 0, "there is a default model");
}

#[test]
fn numbers_come_back_exactly() {
    let mut model = model(training());
    model.seed = u64::MAX;
    let rate = &mut only_stage(&mut model.training).learning_rate;
    (rate.peak, rate.last) = (0.1 + 0.2, 1e-300);
    model.training.clip_gradient_norm = Some(1.0 / 3.0);
    model.data.mean = vec![f32::MIN_POSITIVE, 0.1];
    assert_eq!(parse(&as_text(&model)), Ok(model));
}

#[test]
fn slips_of_the_pen() {
    let text = as_text(&model(joint(rich_stage())));
    parse(&text).expect("what is written can be read");
    for (from, to, expected) in [
        ("seed: 11\n", "", "missing field `seed`"),
        ("seed: 11\n", "seed: one\n", "seed: invalid type"),
        ("seed: 11\n", "seed: -1\n", "seed: invalid"),
        ("seed: 11\n", "seed: 11\nseed: 12\n", "duplicate"),
        ("steps: 6\n", "stepz: 6\n", "unknown field `stepz`"),
        ("steps: 6\n", "steps: 1.5\n", "training.scheme.joint.steps: invalid type"),
        ("steps: 6\n", "steps: 0\n", "training.scheme.joint.steps is 0: it must be at least 1"),
        ("patch-size: 2\n", "patch-size: 4\n", "image-size 6 is not a multiple of patch-size 4"),
        (
            "pooling: class-token\n",
            "pooling: average\n",
            "unknown variant `average`, expected `class-token` or `mean`",
        ),
        ("drop: any\n", "drop: suffix\n", "unknown variant `suffix`, expected `prefix` or `any`"),
        (
            "per: layer\n",
            "per: block\n",
            "unknown variant `block`, expected one of `layer`, `stage`, `network`",
        ),
        ("  vit:\n", "  vlt:\n", "unknown variant `vlt`, expected `vit`"),
        (
            "    joint:\n",
            "    shrinking:\n",
            "unknown variant `shrinking`, expected one of `base`, `joint`, `progressive`",
        ),
        ("reduce: mean\n", "reduce: max\n", "unknown variant `max`, expected `sum` or `mean`"),
        (
            "- largest\n",
            "- tiny\n",
            "training.scheme.joint.sampling: no subnet is named `tiny`; known are largest, smallest",
        ),
        ("flip: false\n", "flip: perhaps\n", "flip: invalid type"),
        ("weight: 0.5\n", "weight: .inf\n", "training.scheme.joint.distillation.weight is inf"),
        ("label-smoothing: 0.0\n", "label-smoothing: .nan\n", "training.label-smoothing is NaN"),
        (
            "elastic.model/v1",
            "elastic.model/v9",
            "schema is `elastic.model/v9`: this version reads `elastic.model/v1`",
        ),
        ("training:\n", "training: [\n", "training: invalid type: sequence"),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from} is in the text");
        let error = parse(&changed).expect_err(to);
        assert!(error.contains(expected), "{to}: expected {expected}, found {error}");
    }
}

#[test]
fn what_may_be_left_out() {
    let model = model(training());
    let text = as_text(&model);
    let shorter = text.replacen("subnets: {}\n", "", 1);
    assert_ne!(shorter, text, "the list of subnets is in the text");
    assert_eq!(parse(&shorter), Ok(model.clone()));
    // What is not there is not written; and it may be there without a value.
    for (place, field) in [
        ("training:\n", "  clip-gradient-norm:"),
        ("training:\n", "  ema:"),
        ("training:\n", "  collapse-margin:"),
        ("training:\n  scheme:\n    joint:\n", "      distillation:"),
        ("training:\n  scheme:\n    joint:\n", "      share-earlier:"),
        ("training:\n  scheme:\n    joint:\n", "      open:"),
        ("seed: 11\n", "init:"),
    ] {
        assert!(!text.contains(field), "{field} is in the text");
        let longer = text.replacen(place, &format!("{place}{field} null\n"), 1);
        assert_ne!(longer, text, "{place} is in the text");
        assert_eq!(parse(&longer), Ok(model.clone()), "{field}");
    }
}
