//! Runs that fail: they say where, and keep what is on disk.

use elastic_trainer::checkpoint;
use elastic_trainer::run_folder::RunFolder;
use elastic_trainer::train::{Event, Start};

use crate::runs::{folder, recipes, run};
use crate::support::{model, only_stage, training};

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
    let state =
        checkpoint::load_state(&folder.checkpoint(), &elastic_trainer::Device::flex()).expect("a checkpoint");
    assert_eq!(state.progress.step, 0);
}
