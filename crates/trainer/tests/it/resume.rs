//! Runs that are stopped, killed, resumed or diverge: all end with the same bytes, or keep what is on disk.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use elastic_data::{Augmentation, Splits};
use elastic_space::sampling::Mixed;
use elastic_space::vit::{DepthChoices, DropPolicy, Granularity, Pooling, VitSpace, WidthChoices};
use elastic_space::{Sampling, SearchSpace};
use elastic_trainer::config::{Distillation, Reduce, Training};
use elastic_trainer::metrics::{self, Record};
use elastic_trainer::train::{Event, Outcome, RunFolder, Start, TrainError, evaluation_subnets, read_config};
use elastic_trainer::{Model, checkpoint, train};
use tempfile::TempDir;

use crate::support::{model, splits, training, vit_space};

type Change = fn(&mut Model);

/// Two recipes: the least there is, and everything at once. The norm is clipped at every step.
fn recipes() -> [(&'static str, Training); 2] {
    let everything = Training {
        subnets: 3,
        sampling: Sampling::Mixed(Mixed { fixed: vec!["largest".into(), "smallest".into()] }),
        reduce: Reduce::Mean,
        distillation: Some(Distillation { weight: 0.5 }),
        label_smoothing: 0.1,
        clip_gradient_norm: Some(0.05),
        augmentation: Augmentation { flip: true, crop_padding: 1 },
        evaluate_every: 3,
        ..training()
    };
    [("plain", training()), ("everything", everything)]
}

fn folder() -> (TempDir, RunFolder) {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let run = RunFolder(temporary.path().join("run"));
    (temporary, run)
}

fn run(
    model: &Model,
    folder: &RunFolder,
    start: Start,
    mut observe: impl FnMut(&Event<'_>, &AtomicBool),
) -> Result<Outcome, TrainError> {
    let stop = AtomicBool::new(false);
    train(model, splits(&model.space), folder, start, &stop, &mut |event| observe(&event, &stop))
}

fn run_until(model: &Model, folder: &RunFolder, start: Start, last: u64) -> Result<Outcome, TrainError> {
    run(model, folder, start, |event, stop| {
        if matches!(event, Event::Step { step, .. } if *step == last) {
            stop.store(true, Ordering::Relaxed);
        }
    })
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What an undisturbed run leaves: the supernet's bytes and the log.
fn undisturbed(model: &Model) -> (Vec<u8>, Vec<Record>) {
    let (_temporary, folder) = folder();
    assert_eq!(run(model, &folder, Start::Fresh, |_, _| ()).expect("a run"), Outcome::Finished);
    (bytes(&folder.supernet()), log(&folder))
}

fn log(folder: &RunFolder) -> Vec<Record> {
    metrics::read(&folder.metrics()).expect("a log")
}

/// A log as far as it does not tell of times: what was evaluated, and the learning rates.
fn without_times(records: &[Record]) -> Vec<String> {
    let text = |record: &Record| match record {
        Record::Train { step, learning_rate, gradient_norm, .. } => {
            format!("train {step} {learning_rate:e} {gradient_norm:e}")
        }
        Record::Validation { .. } => format!("{record:?}"),
    };
    records.iter().map(text).collect()
}

#[test]
fn a_run_that_was_stopped_goes_on_bit_for_bit() {
    for (name, training) in recipes() {
        let model = model(training);
        let (supernet, records) = undisturbed(&model);
        for k in 1..model.training.steps {
            let (_temporary, folder) = folder();
            let row = format!("{name}, stopped after step {k}");
            let outcome = run_until(&model, &folder, Start::Fresh, k).expect(&row);
            assert_eq!(outcome, Outcome::Stopped { step: k }, "{row}");
            assert!(!folder.is_finished(), "{row}");
            assert_eq!(
                run(&model, &folder, Start::Resume, |_, _| ()).expect(&row),
                Outcome::Finished,
                "{row}"
            );
            assert!(bytes(&folder.supernet()) == supernet, "{row}: other weights");
            assert_eq!(without_times(&log(&folder)), without_times(&records), "{row}");
        }
    }
}

#[test]
fn a_run_that_is_stopped_at_every_step_goes_on_bit_for_bit() {
    let model = model(recipes()[1].1.clone());
    let (supernet, _) = undisturbed(&model);
    let (_temporary, folder) = folder();
    for k in 1..model.training.steps {
        let start = if k == 1 { Start::Fresh } else { Start::Resume };
        assert_eq!(run_until(&model, &folder, start, k).expect("a run"), Outcome::Stopped { step: k });
    }
    assert_eq!(
        run_until(&model, &folder, Start::Resume, 6).expect("a run"),
        Outcome::Finished,
        "the last step"
    );
    assert!(bytes(&folder.supernet()) == supernet, "other weights");
    // A finished run that is resumed once more has nothing to do.
    assert_eq!(run(&model, &folder, Start::Resume, |_, _| ()).expect("a run"), Outcome::Finished);
    assert!(bytes(&folder.supernet()) == supernet, "other weights");
}

#[test]
fn a_run_that_was_killed_goes_on_bit_for_bit() {
    for (name, training) in recipes() {
        let model = model(training);
        let (supernet, records) = undisturbed(&model);
        // What a kill leaves on disk at each event: the files as they are then.
        let (_temporary, folder) = folder();
        let mut kills: Vec<(String, TempDir)> = Vec::new();
        let outcome = run(&model, &folder, Start::Fresh, |event, _| {
            let copy = tempfile::tempdir().expect("a temporary folder");
            for file in std::fs::read_dir(&folder.0).expect("the run's folder") {
                let file = file.expect("an entry");
                std::fs::copy(file.path(), copy.path().join(file.file_name())).expect("a copy");
            }
            kills.push((format!("{name}, killed at {event:?}"), copy));
        });
        assert_eq!(outcome.expect("a run"), Outcome::Finished);
        assert!(kills.len() >= 12, "{} events", kills.len());
        for (row, copy) in kills {
            let folder = RunFolder(copy.path().to_owned());
            // The kill cut a line of the log short.
            let mut text = std::fs::read_to_string(folder.metrics()).expect("a log");
            text.push_str(r#"{"kind":"train","step":"#);
            std::fs::write(folder.metrics(), text).expect("a log");
            assert_eq!(
                run(&model, &folder, Start::Resume, |_, _| ()).expect(&row),
                Outcome::Finished,
                "{row}"
            );
            assert!(bytes(&folder.supernet()) == supernet, "{row}: other weights");
            assert_eq!(without_times(&log(&folder)), without_times(&records), "{row}");
            let lines = std::fs::read_to_string(folder.metrics()).expect("a log").lines().count();
            assert_eq!(lines, records.len(), "{row}: every line parses");
        }
    }
}

#[test]
fn the_log_of_a_run() {
    let model = model(recipes()[1].1.clone());
    let (_, records) = undisturbed(&model);
    let steps: Vec<u64> = records.iter().map(Record::step).collect();
    assert_eq!(steps, [3, 3, 6, 6]);
    for record in &records {
        match record {
            Record::Train { step, loss, learning_rate, gradient_norm, .. } => {
                assert!(loss.is_finite() && *loss > 0.0, "{record:?}");
                assert!(*gradient_norm > 0.05, "the norm is that before clipping: {record:?}");
                assert_eq!(
                    *learning_rate,
                    elastic_trainer::schedule::learning_rate(&model.training, step - 1)
                );
            }
            Record::Validation { images, accuracy, random_accuracy, .. } => {
                assert_eq!(*images, 8);
                assert_eq!(accuracy.keys().collect::<Vec<_>>(), ["largest", "smallest"]);
                assert_eq!(random_accuracy.len(), 2);
                for share in accuracy.values().chain(random_accuracy) {
                    assert!((share * 8.0).fract() == 0.0 && (0.0..=1.0).contains(share), "{record:?}");
                }
            }
        }
    }
    assert_eq!(evaluation_subnets(&model), evaluation_subnets(&model));
}

#[test]
fn a_run_keeps_its_configuration() {
    let mut model = model(recipes()[1].1.clone());
    model.subnets.insert("middle".into(), evaluation_subnets(&model).remove(0));
    let (_temporary, folder) = folder();
    run_until(&model, &folder, Start::Fresh, 1).expect("a run");
    assert_eq!(read_config(&folder.0).expect("config.yaml"), model);
    let state =
        checkpoint::load_state(&folder.checkpoint(), &elastic_trainer::Device::flex()).expect("a checkpoint");
    assert_eq!((state.model, state.step), (model, 1));
}

#[test]
fn runs_that_may_not_begin_or_go_on() {
    let model = model(training());
    let (_temporary, folder) = folder();
    let nothing = run(&model, &folder, Start::Resume, |_, _| ()).expect_err("there is no run").to_string();
    assert!(nothing.ends_with("has no checkpoint to resume from: leave out --resume to begin"), "{nothing}");
    run_until(&model, &folder, Start::Fresh, 3).expect("a run");
    let state = bytes(&folder.checkpoint());
    let exists = run(&model, &folder, Start::Fresh, |_, _| ()).expect_err("there is a run").to_string();
    assert!(exists.contains("holds a run already: go on with --resume"), "{exists}");
    let changes: [(&str, Change); 6] = [
        ("space", |model| {
            let SearchSpace::Vit(vit) = &mut model.space;
            vit.embed_dim = vec![13];
        }),
        ("seed", |model| model.seed += 1),
        ("data", |model| model.data.validation = 8),
        ("training", |model| model.training.steps += 1),
        ("training", |model| model.training.optimizer.learning_rate = 0.02),
        ("subnets", |model| {
            model.subnets.insert("middle".into(), model.space.smallest());
        }),
    ];
    for (part, change) in changes {
        let mut changed = model.clone();
        change(&mut changed);
        let error = run(&changed, &folder, Start::Resume, |_, _| ()).expect_err(part).to_string();
        assert!(error.contains(&format!("begun with another configuration ({part})")), "{part}: {error}");
        assert!(error.contains(&folder.0.display().to_string()), "{part}: {error}");
    }
    assert!(bytes(&folder.checkpoint()) == state, "refusals change nothing");
    let mut large = model.clone();
    large.training.batch_size = 18;
    let (_temporary, folder) = self::folder();
    let error = run(&large, &folder, Start::Fresh, |_, _| ()).expect_err("too few images").to_string();
    assert_eq!(error, "training.batch-size is 18: it must be 1 to 17, the number of training images");
}

#[test]
fn a_run_that_diverges_keeps_its_last_checkpoint() {
    for (name, mut recipe) in recipes() {
        recipe.optimizer.learning_rate = 1e30;
        recipe.warm_up_steps = 0;
        recipe.checkpoint_every = 1;
        let model = model(recipe);
        let (_temporary, folder) = folder();
        let (mut saved, mut last_step) = (bytes_or_none(&folder), 0);
        let error = run(&model, &folder, Start::Fresh, |event, _| match event {
            Event::Saved { step } => (saved, last_step) = (bytes_or_none(&folder), *step),
            Event::Step { .. } | Event::Logged(_) => (),
        })
        .expect_err("weights of 1e30");
        let text = error.to_string();
        assert!(text.starts_with(&format!("step {}: ", last_step + 1)), "{name}: {text}");
        assert!(text.contains("subnet") && text.contains("embed "), "{name}: {text}");
        assert!(text.contains("lower optimizer.learning-rate"), "{name}: {text}");
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
    recipe.steps = 1;
    recipe.warm_up_steps = 0;
    recipe.optimizer.learning_rate = 1e39;
    let model = model(recipe);
    let (_temporary, folder) = folder();
    let error = run(&model, &folder, Start::Fresh, |_, _| ()).expect_err("no numbers").to_string();
    assert!(error.starts_with("step 1: "), "{error}");
    assert!(error.contains("lower optimizer.learning-rate"), "{error}");
    assert!(!folder.is_finished());
    let state =
        checkpoint::load_state(&folder.checkpoint(), &elastic_trainer::Device::flex()).expect("a checkpoint");
    assert_eq!(state.step, 0);
}

/// Large enough that the matrix products and the fused kernels deal out work to several threads.
fn wide() -> (Model, Splits) {
    let mut model = model(recipes()[1].1.clone());
    let one = |choices: &[usize]| WidthChoices { choices: choices.to_vec(), per: Granularity::Layer };
    model.space = SearchSpace::Vit(VitSpace {
        image_size: 24,
        head_dim: 16,
        embed_dim: vec![48, 80],
        depth: DepthChoices { choices: vec![1, 2], drop: DropPolicy::Prefix },
        heads: one(&[2, 4]),
        mlp_width: one(&[96, 200]),
        ..vit_space(Pooling::Mean, DropPolicy::Prefix, Granularity::Layer)
    });
    model.training.batch_size = 12;
    model.training.steps = 2;
    let splits = splits(&model.space);
    (model, splits)
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let (model, splits) = wide();
    let trained = |threads: usize| {
        let (_temporary, folder) = folder();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool of threads");
        let stop = AtomicBool::new(false);
        let run = || train(&model, splits.clone(), &folder, Start::Fresh, &stop, &mut |_| ());
        assert_eq!(pool.install(run).expect("a run"), Outcome::Finished);
        bytes(&folder.supernet())
    };
    let one = trained(1);
    for threads in [2, 3] {
        assert!(trained(threads) == one, "{threads} threads");
    }
}
