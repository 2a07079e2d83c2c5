//! Whole runs, and what they leave on disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use elastic_data::{Augmentation, Splits};
use elastic_space::SearchSpace;
use elastic_space::choices::{DepthChoices, DropPolicy, Granularity, WidthChoices};
use elastic_space::vit::{Pooling, VitSpace};
use elastic_trainer::config::Training;
use elastic_trainer::metrics::{self, Record};
use elastic_trainer::plan::judged;
use elastic_trainer::run_folder::{RunFolder, read_config};
use elastic_trainer::schedule::learning_rate;
use elastic_trainer::train::{Event, Outcome, Start, TrainError};
use elastic_trainer::{Model, checkpoint, train};
use tempfile::TempDir;

use crate::support::{joint, model, on_cpu, only_stage, rich_stage, splits, training, vit_space};

type Change = fn(&mut Model);

/// Two recipes of one stage: the least there is, and everything at once. The norm is clipped at every
/// step.
pub(crate) fn recipes() -> [(&'static str, Training); 2] {
    let everything = Training {
        label_smoothing: 0.1,
        clip_gradient_norm: Some(0.05),
        augmentation: Augmentation { flip: true, crop_padding: 1, ..Augmentation::NONE },
        evaluate_every: 3,
        ..joint(rich_stage())
    };
    [("plain", training()), ("everything", everything)]
}

/// A folder for a run; it goes with the first of the two.
pub(crate) fn folder() -> (TempDir, RunFolder) {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let run = RunFolder(temporary.path().join("run"));
    (temporary, run)
}

pub(crate) fn run(
    model: &Model,
    folder: &RunFolder,
    start: Start,
    mut observe: impl FnMut(&Event<'_>, &AtomicBool),
) -> Result<Outcome, TrainError> {
    let stop = AtomicBool::new(false);
    train(model, splits(&model.space), on_cpu(folder), start, &stop, &mut |event| observe(&event, &stop))
}

/// All files of a folder and of the folders in it, by their paths in it.
pub(crate) fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = PathBuf::from(path.file_name().expect("a name"));
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(below, bytes)| (name.join(below), bytes)));
        } else {
            found.insert(name, bytes(&path));
        }
    }
    found
}

/// Puts files into a folder.
pub(crate) fn put(files: &BTreeMap<PathBuf, Vec<u8>>, folder: &Path) {
    for (path, bytes) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("a folder");
        std::fs::write(path, bytes).expect("a file");
    }
}

pub(crate) fn run_until(
    model: &Model,
    folder: &RunFolder,
    start: Start,
    last: u64,
) -> Result<Outcome, TrainError> {
    run(model, folder, start, |event, stop| {
        if matches!(event, Event::Step { step, .. } if *step == last) {
            stop.store(true, Ordering::Relaxed);
        }
    })
}

pub(crate) fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn log(folder: &RunFolder) -> Vec<Record> {
    metrics::read(&folder.metrics()).expect("a log")
}

/// A log as far as it does not tell of times: what was evaluated, losses and learning rates.
pub(crate) fn without_times(records: &[Record]) -> Vec<String> {
    let text = |record: &Record| match record {
        Record::Train { stage, step, loss, learning_rate, gradient_norm, .. } => {
            format!("train {stage} {step} {loss:e} {learning_rate:e} {gradient_norm:e}")
        }
        Record::Validation { .. } => format!("{record:?}"),
    };
    records.iter().map(text).collect()
}

#[test]
fn the_log_of_a_run() {
    let mut model = model(recipes()[1].1.clone());
    let stage = only_stage(&mut model.training).clone();
    let (_temporary, folder) = folder();
    run(&model, &folder, Start::Fresh, |_, _| ()).expect("a run");
    let records = log(&folder);
    let steps: Vec<u64> = records.iter().map(Record::step).collect();
    assert_eq!(steps, [3, 3, 6, 6]);
    for record in &records {
        assert_eq!(record.stage(), "0-joint");
        match record {
            Record::Train { step, loss, learning_rate: rate, gradient_norm, .. } => {
                assert!(loss.is_finite() && *loss > 0.0, "{record:?}");
                assert!(*gradient_norm > 0.05, "the norm is that before clipping: {record:?}");
                assert_eq!(*rate, learning_rate(&stage.learning_rate, stage.steps, step - 1));
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
    let open = model.space.dimensions();
    assert_eq!(judged(&model, &open), judged(&model, &open));
}

#[test]
fn a_run_keeps_its_configuration() {
    let mut model = model(recipes()[1].1.clone());
    let middle = judged(&model, &model.space.dimensions()).random.remove(0);
    model.subnets.insert("middle".into(), middle);
    let (_temporary, folder) = folder();
    run_until(&model, &folder, Start::Fresh, 1).expect("a run");
    assert_eq!(read_config(&folder.0).expect("config.yaml"), model);
    let state =
        checkpoint::load_state(&folder.checkpoint(), &elastic_trainer::Device::flex()).expect("a checkpoint");
    assert_eq!((state.model, state.progress.step), (model, 1));
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
            let SearchSpace::Vit(vit) = &mut model.space else { panic!("a vision transformer") };
            vit.embed_dim = vec![13];
        }),
        ("seed", |model| model.seed += 1),
        ("data", |model| model.data.validation = Some(8)),
        ("training", |model| only_stage(&mut model.training).steps += 1),
        ("training", |model| only_stage(&mut model.training).learning_rate.peak = 0.02),
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
    let mut tampered =
        checkpoint::load_state(&folder.checkpoint(), &elastic_trainer::Device::flex()).expect("a checkpoint");
    tampered.progress.stage = 1;
    checkpoint::save_state(&folder.checkpoint(), &tampered).expect("a checkpoint");
    let error = run(&model, &folder, Start::Resume, |_, _| ()).expect_err("no such stage").to_string();
    assert!(error.contains("it is in stage 1, but the scheme has 1 (counted from 0)"), "{error}");
    let mut large = model.clone();
    large.training.batch_size = 18;
    let (_temporary, folder) = self::folder();
    let error = run(&large, &folder, Start::Fresh, |_, _| ()).expect_err("too few images").to_string();
    assert_eq!(error, "training.batch-size is 18: it must be 1 to 17, the number of training examples");
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
        stages: Vec::new(),
        ..vit_space(Pooling::Mean, DropPolicy::Prefix, Granularity::Layer)
    });
    model.training.batch_size = 12;
    only_stage(&mut model.training).steps = 2;
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
        let run = || train(&model, splits.clone(), on_cpu(&folder), Start::Fresh, &stop, &mut |_| ());
        assert_eq!(pool.install(run).expect("a run"), Outcome::Finished);
        bytes(&folder.supernet())
    };
    let one = trained(1);
    for threads in [2, 3] {
        assert!(trained(threads) == one, "{threads} threads");
    }
}
