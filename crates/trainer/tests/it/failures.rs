//! Runs that fail: they say where, and keep what is on disk.

use std::sync::atomic::AtomicBool;

use elastic_data::{Examples, Splits};
use elastic_space::Dimension;
use elastic_trainer::config::{BaseStage, LearningRate, Scheme, Stage, Training};
use elastic_trainer::run_folder::RunFolder;
use elastic_trainer::train::{Event, Outcome, Start, TrainError};
use elastic_trainer::{Device, Model, Supernet, checkpoint, train};

use crate::runs::{files, folder, recipes, run};
use crate::support::{base_stage, model, on_cpu, only_stage, opening, progressive, splits, training};

#[test]
fn a_run_that_diverges_keeps_its_last_checkpoint() {
    for (name, mut recipe) in recipes() {
        let rate = &mut only_stage(&mut recipe).learning_rate;
        (rate.peak, rate.warm_up_steps) = (1e30, 0);
        recipe.checkpoint_every = 1;
        let model = model(recipe);
        let (_temporary, folder) = folder();
        let (mut saved, mut last_step) = (bytes_or_none(&folder), 0);
        let error = run(&model, &folder, Start::Fresh, |event, _| match event {
            Event::Saved { step } => (saved, last_step) = (bytes_or_none(&folder), *step),
            Event::Stage(_) => saved = bytes_or_none(&folder),
            Event::Step { .. } | Event::Logged(_) => (),
        })
        .expect_err("weights of 1e30");
        let text = error.to_string();
        assert!(text.starts_with(&format!("step {}: ", last_step + 1)), "{name}: {text}");
        assert!(text.contains("subnet") && text.contains("embed "), "{name}: {text}");
        assert!(text.contains("learning-rate"), "{name}: {text}");
        assert!(bytes_or_none(&folder) == saved, "{name}: the checkpoint changed");
        assert!(!folder.is_finished(), "{name}");
    }
}

/// The checkpoint, if there is one.
fn bytes_or_none(folder: &RunFolder) -> Option<Vec<u8>> {
    std::fs::read(folder.checkpoint()).ok()
}

#[test]
fn weights_that_are_no_numbers_are_not_saved() {
    // The rate is infinite in 32 bits, so the first update spoils the weights; no later step would see it.
    let mut recipe = training();
    let stage = only_stage(&mut recipe);
    (stage.steps, stage.learning_rate.peak, stage.learning_rate.warm_up_steps) = (1, 1e39, 0);
    let model = model(recipe);
    let (_temporary, folder) = folder();
    let error = run(&model, &folder, Start::Fresh, |_, _| ()).expect_err("no numbers").to_string();
    assert!(error.starts_with("step 1: "), "{error}");
    assert!(error.contains("learning-rate"), "{error}");
    assert!(!folder.is_finished());
    let state = checkpoint::load_state(&folder.checkpoint(), &Device::flex()).expect("a checkpoint");
    assert_eq!(state.progress.step, 0);
}

/// Like images, of which the training ones have one label and the validation ones another: the network learns
/// to be wrong, step after step a little more.
fn misleading(model: &Model) -> Splits {
    let mut splits = splits(&model.space);
    let labelled = |examples: &mut Examples, label: Option<u8>| {
        let Examples::Images(images) = examples else { panic!("images") };
        images.pixels.fill(40);
        label.into_iter().for_each(|label| images.labels.fill(label));
    };
    labelled(&mut splits.validation, None);
    let first = Supernet::new(model.space.clone(), model.seed(), &Device::flex());
    let images = splits.validation.inputs(&model.data, 0..1);
    let opened = model.space.restricted(&[Dimension::Width].into());
    let logits = first.logits(&images, &opened.smallest()).data;
    let top = (0..3).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).expect("three classes");
    labelled(&mut splits.validation, Some(top as u8));
    labelled(&mut splits.train, Some((top as u8 + 1) % 3));
    splits
}

#[test]
fn a_stage_that_collapses_keeps_the_earlier_ones() {
    let slowly = LearningRate { peak: 1e-5 * 300.0, last: 0.0, warm_up_steps: 300 };
    let none = LearningRate { peak: 1e-12, last: 0.0, warm_up_steps: 0 };
    let base = BaseStage { learning_rate: none, ..base_stage(3) };
    let stage = Stage { steps: 300, learning_rate: slowly, ..opening(Dimension::Width, 1) };
    let recipe = progressive(base, vec![stage.clone()]);
    let margin = Training { collapse_margin: Some(0.25), evaluate_every: 10, checkpoint_every: 20, ..recipe };
    let model = model(margin.clone());
    let (_temporary, folder) = folder();
    let (mut kept, mut saved) = (None, None);
    let observe = |event: Event<'_>| match event {
        Event::Stage(stage) if stage.name == "1-width" => kept = Some(files(&folder.stage("0-base").0)),
        Event::Saved { .. } => saved = bytes_or_none(&folder),
        _ => {}
    };
    let error = run_on(misleading(&model), &model, &folder, observe).expect_err("it learns to be wrong");
    let TrainError::Collapsed { step, ref stage, accuracy, .. } = error else { panic!("{error}") };
    assert_eq!((stage.as_str(), accuracy), ("1-width", 0.0));
    assert!(step > 13 && (step - 3).is_multiple_of(10), "at the second evaluation or later: {step}");
    assert_eq!(
        error.to_string(),
        format!(
            "step {step}: stage 1-width has collapsed: the accuracy of its smallest subnet, once above chance, is \
             0.00 % (chance 33.33 %, margin 25.00 %); lower its learning-rate, or set clip-gradient-norm, then begin \
             this stage again with: elastic train --from {} --model FILE (the last checkpoint is kept)",
            folder.stage("0-base").0.display()
        )
    );
    assert!(kept.is_some() && kept == Some(files(&folder.stage("0-base").0)), "the stage before changed");
    assert!(saved.is_some() && saved == bytes_or_none(&folder), "the checkpoint changed");
    assert!(!folder.is_finished() && !folder.stage("1-width").0.exists());
    // Without an earlier stage there is none to begin from.
    let (_temporary, alone) = crate::runs::folder();
    let joint = Stage { open: None, ..stage_of(&model) };
    let mut only = self::model(Training { scheme: Scheme::Joint(joint), ..margin.clone() });
    only.space = only.space.restricted(&[Dimension::Width].into());
    let error =
        run_on(misleading(&only), &only, &alone, |_| ()).expect_err("it learns to be wrong").to_string();
    assert!(
        error.ends_with("lower its learning-rate, or set clip-gradient-norm (the last checkpoint is kept)"),
        "{error}"
    );
    // Nothing is watched without a margin; and what never was above chance cannot collapse.
    for margin in [None, Some(0.7)] {
        let (_temporary, folder) = crate::runs::folder();
        let model = self::model(Training { collapse_margin: margin, ..model.training.clone() });
        run_on(misleading(&model), &model, &folder, |_| ())
            .unwrap_or_else(|error| panic!("{margin:?}: {error}"));
    }
}

fn stage_of(model: &Model) -> Stage {
    let Scheme::Progressive(progressive) = &model.training.scheme else { panic!("stages") };
    progressive.stages[0].clone()
}

#[test]
fn a_stage_that_diverges_keeps_the_earlier_ones() {
    let infinite = LearningRate { peak: 1e39, last: 0.0, warm_up_steps: 0 };
    for steps in [1, 3] {
        let last = Stage { learning_rate: infinite, ..opening(Dimension::Depth, steps) };
        let model = model(progressive(base_stage(2), vec![opening(Dimension::Width, 2), last]));
        let (_temporary, folder) = folder();
        let (mut kept, mut saved) = (None, None);
        let error = run(&model, &folder, Start::Fresh, |event, _| match event {
            Event::Stage(stage) if stage.name == "2-depth" => kept = Some(files(&folder.0.join("stages"))),
            Event::Saved { .. } => saved = bytes_or_none(&folder),
            _ => {}
        })
        .expect_err("no numbers")
        .to_string();
        assert!(error.starts_with(&format!("step {}: ", if steps == 1 { 5 } else { 6 })), "{error}");
        assert!(error.contains("lower the learning-rate"), "{error}");
        let kept = kept.expect("two stages were done");
        assert_eq!(kept.len(), 4, "{:?}", kept.keys());
        assert!(kept == files(&folder.0.join("stages")), "the stages before changed");
        assert!(saved.is_some() && saved == bytes_or_none(&folder), "the checkpoint changed");
        assert!(!folder.is_finished());
        for name in ["0-base", "1-width"] {
            let loaded = checkpoint::load_supernet(&folder.stage(name).supernet()).expect("a supernet");
            assert_eq!(loaded.training.stage, name);
        }
    }
}

fn run_on(
    splits: Splits,
    model: &Model,
    folder: &RunFolder,
    mut observe: impl FnMut(Event<'_>),
) -> Result<Outcome, TrainError> {
    train(model, splits, on_cpu(folder), Start::Fresh, &AtomicBool::new(false), &mut observe)
}
