//! Model files as text: the shipped ones, round trips, and slips of the pen.

use std::path::{Path, PathBuf};

use elastic_space::file::{write, write_yaml};
use elastic_space::sampling::{Empty, Mixed};
use elastic_space::{Dimension, Sampling};
use elastic_trainer::Model;
use elastic_trainer::config::{
    BaseStage, Distillation, Ema, Patience, Reduce, Stage, SubnetCount, Teacher, Training,
};

use crate::support::{joint, model, only_stage, progressive, rich_stage, stage, training};

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
    let entries = |folder: PathBuf| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).expect("a folder of models");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    };
    let presets = models().join("presets");
    let mut paths = entries(models());
    paths.retain(|path| *path != presets);
    assert!(!paths.is_empty(), "there is a default model");
    paths.extend(entries(presets));
    for path in paths {
        let name = path.display();
        assert!(path.extension().is_some_and(|e| e == "yaml"), "{name}: only model files lie here");
        let model = Model::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        // Left out, they come from the data.
        let names = model.data.class_names.len();
        assert!([0, model.space.classes()].contains(&names), "{name}: {names} class names");
        let means = model.data.mean.len();
        assert!([0, model.space.input()[0]].contains(&means), "{name}: {means} means");
        assert_eq!(parse(&as_text(&model)), Ok(model), "{name}");
    }
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
        ("  vit:\n", "  vlt:\n", "unknown variant `vlt`, expected one of `vit`, `conv`, `swin`, `bert`"),
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

const PROGRESSIVE: &str = "training:
  scheme:
    progressive:
      base:
        steps: 4
        learning-rate: {peak: 0.01, final: 0.001, warm-up-steps: 2}
        patience: {evaluations: 3, min-improvement: 0.125}
        distillation: {weight: 0.25, teacher: {onnx: teachers/big.onnx}}
      stages:
        - open: width
          steps: 2
          learning-rate: {peak: 0.01, final: 0.001, warm-up-steps: 2}
          subnets: auto
          sampling: {mixed: {fixed: [largest], rest: {by-dimension: {width: per-stage}}}}
          reduce: mean
          distillation: {weight: 0.5, teacher: in-place}
        - open: depth
          steps: 3
          learning-rate: {peak: 0.01, final: 0.001, warm-up-steps: 2}
          subnets: 3
          sampling: {empty: {keep: smallest}}
          share-earlier: false
          reduce: sum
  ema: {decay: 0.5}
  collapse-margin: 0.0625
  platform-budgets: [500kflops, 4mmacs]
";

#[test]
fn a_progressive_scheme_in_yaml() {
    let plain = as_text(&model(training()));
    let (before, joint) = plain.split_once("training:\n").expect("the recipe is the last part");
    let rest = &joint[joint.find("  batch-size:").expect("it follows the scheme")..];
    let text = format!("{before}{PROGRESSIVE}{rest}");
    let rate = stage().learning_rate;
    let base = BaseStage {
        steps: 4,
        learning_rate: rate,
        patience: Some(Patience { evaluations: 3, min_improvement: 0.125 }),
        distillation: Some(Distillation { weight: 0.25, teacher: Teacher::Onnx("teachers/big.onnx".into()) }),
    };
    let per_stage = Sampling::ByDimension([(Dimension::Width, Sampling::PerStage)].into());
    let width = Stage {
        open: Some(Dimension::Width),
        steps: 2,
        learning_rate: rate,
        subnets: SubnetCount::Auto,
        sampling: Sampling::Mixed(Mixed { fixed: vec!["largest".into()], rest: Box::new(per_stage) }),
        share_earlier: None,
        sort_channels: false,
        reduce: Reduce::Mean,
        distillation: Some(Distillation { weight: 0.5, teacher: Teacher::InPlace }),
    };
    let depth = Stage {
        open: Some(Dimension::Depth),
        steps: 3,
        subnets: SubnetCount::Count(3),
        sampling: Sampling::Empty(Empty { keep: "smallest".into() }),
        share_earlier: Some(false),
        reduce: Reduce::Sum,
        distillation: None,
        ..width.clone()
    };
    let expected = model(Training {
        ema: Some(Ema { decay: 0.5 }),
        collapse_margin: Some(0.0625),
        platform_budgets: ["500kflops", "4mmacs"].map(|text| text.parse().expect(text)).to_vec(),
        ..progressive(base, vec![width, depth])
    });
    assert_eq!(parse(&text).as_ref(), Ok(&expected));
    assert_eq!(parse(&as_text(&expected)), Ok(expected));
    for (from, to, part) in [
        ("subnets: auto", "subnets: many", "a number of subnets or `auto`"),
        ("subnets: auto", "subnets: -1", "a number of subnets or `auto`"),
        ("subnets: auto", "subnets: 1.5", "a number of subnets or `auto`"),
        (
            "subnets: 3",
            "subnets: 0",
            "training.scheme.progressive.stages.1.subnets is 0: it must be at least 1",
        ),
        (
            "open: depth",
            "open: colour",
            "unknown variant `colour`, expected one of `width`, `depth`, `kernel`",
        ),
        (
            "open: depth",
            "open: width",
            "training.scheme.progressive.stages.1.open is width: an earlier stage",
        ),
        (
            "teacher: in-place",
            "teacher: largest",
            "unknown variant `largest`, expected one of `in-place`, `onnx`, `supernet`",
        ),
        ("patience: {evaluations: 3, ", "patience: {", "missing field `evaluations`"),
        ("500kflops", "500kfloops", "budget `500kfloops`"),
        (
            "500kflops",
            "3MB",
            "training.scheme.progressive.stages.0.subnets is auto: add training.platform-budgets",
        ),
        ("final: 0.001", "last: 0.001", "unknown field `last`"),
        ("ema: {decay: 0.5}", "ema: 0.5", "ema: invalid type"),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from} is in the text");
        let error = parse(&changed).expect_err(to);
        assert!(error.contains(part), "{to}: expected {part}, found {error}");
    }
}
