//! Runs of several stages: what each leaves behind, how it ends early, and how a run begins from it.

use std::collections::BTreeSet;
use std::path::Path;

use elastic_space::choices::TransformKind;
use elastic_space::{Dimension, SearchSpace, Seed, Weights};
use elastic_trainer::config::{BaseStage, Ema, LearningRate, Patience, Scheme, Stage, Training};
use elastic_trainer::init::{Init, Layout};
use elastic_trainer::metrics::Record;
use elastic_trainer::run_folder::{RunFolder, read_config};
use elastic_trainer::train::{Outcome, Start, TrainError};
use elastic_trainer::{Device, Model, Supernet, checkpoint, parameters};

use crate::runs::{bytes, folder, log, run, run_until, without_times};
use crate::support::{
    DROPS, GRANULARITIES, KINDS, POOLINGS, base_stage, images, model, opening, progressive, stage, training,
    transformed, vit_space,
};

const DIMENSIONS: [Dimension; 4] =
    [Dimension::Width, Dimension::Depth, Dimension::Heads, Dimension::Embedding];

/// Every order of the four dimensions.
fn orders() -> Vec<Vec<Dimension>> {
    let grow = |orders: Vec<Vec<Dimension>>| -> Vec<Vec<Dimension>> {
        let longer = |order: Vec<Dimension>| {
            let rest = DIMENSIONS.into_iter().filter(|d| !order.contains(d)).collect::<Vec<_>>();
            rest.into_iter().map(move |d| [order.clone(), vec![d]].concat())
        };
        orders.into_iter().flat_map(longer).collect()
    };
    (0..4).fold(vec![Vec::new()], |orders, _| grow(orders))
}

/// A model whose space has transforms, so that what a stage may not touch is seen.
fn model_of(kind: TransformKind, training: Training) -> Model {
    let space = transformed(vit_space(POOLINGS[0], DROPS[1], GRANULARITIES[0]), kind);
    Model { space, ..model(training) }
}

fn finished(model: &Model, folder: &RunFolder) {
    let outcome = run(model, folder, Start::Fresh, |_, _| ()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(outcome, Outcome::Finished);
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn weights_of(path: &Path) -> Weights {
    parameters::collect(&checkpoint::load_supernet(path).expect("a supernet").supernet.network)
}

/// The dimension of a transform's parameter.
fn dimension(name: &str) -> Option<Dimension> {
    let layer = name.split_once(".transforms.")?.0;
    Some(match layer {
        layer if layer.ends_with("qkv") => Dimension::Heads,
        layer if layer.ends_with("fc1") => Dimension::Width,
        _ => Dimension::Embedding,
    })
}

#[test]
fn dimensions_open_in_any_order() {
    let orders = orders();
    assert_eq!(orders.iter().collect::<BTreeSet<_>>().len(), 24);
    for (number, order) in orders.iter().enumerate() {
        let stages = order.iter().map(|&dimension| opening(dimension, 1)).collect();
        let model = model_of(KINDS[1 + number % 2], progressive(base_stage(2), stages));
        let (_temporary, folder) = folder();
        finished(&model, &folder);
        let expected: Vec<String> = ["0-base".to_owned()]
            .into_iter()
            .chain(order.iter().enumerate().map(|(k, dimension)| format!("{}-{}", k + 1, dimension.name())))
            .collect();
        assert_eq!(names(&folder.0.join("stages")), expected);
        let fresh = Supernet::new(model.space.clone(), model.seed(), &Device::flex());
        let mut before = parameters::collect(&fresh.network);
        for (k, name) in expected.iter().enumerate() {
            let row = format!("{order:?}, {name}");
            let stage = folder.stage(name);
            assert_eq!(names(&stage.0), ["config.yaml", "supernet.safetensors"], "{row}");
            assert_eq!(read_config(&stage.0).expect("config.yaml"), model, "{row}");
            let loaded = checkpoint::load_supernet(&stage.supernet()).expect(&row);
            let open: BTreeSet<Dimension> = order[..k].iter().copied().collect();
            assert_eq!(loaded.training.open, open, "{row}");
            assert_eq!((&loaded.training.stage, loaded.training.step), (name, 2 + k as u64), "{row}");
            assert_eq!(loaded.supernet.space, model.space, "{row}");
            let logits = loaded.supernet.logits(&images(&model.space, 2, 1), &model.space.smallest());
            assert!(logits.data.iter().all(|value| value.is_finite()), "{row}");
            // A stage trains the choices of the dimensions that are open, and no others.
            let after = parameters::collect(&loaded.supernet.network);
            for (parameter, array) in &after {
                match dimension(parameter) {
                    Some(dimension) if !open.contains(&dimension) => {
                        assert_eq!(array, &before[parameter], "{row}: {parameter}");
                    }
                    _ => {}
                }
            }
            let opened = k.checked_sub(1).map(|k| order[k]).filter(|d| *d != Dimension::Depth);
            if let Some(opened) = opened {
                let learned =
                    |(name, array): (&String, _)| dimension(name) == Some(opened) && array != &before[name];
                assert!(after.iter().any(learned), "{row}: its transforms learn nothing");
            }
            assert_ne!(after["head.weight"], before["head.weight"], "{row}");
            before = after;
        }
        assert!(bytes(&folder.supernet()) == bytes(&folder.stage(&expected[4]).supernet()), "{order:?}");
        let stages: Vec<String> = log(&folder).iter().map(|record| record.stage().to_owned()).collect();
        assert!(stages.is_sorted(), "{stages:?}");
        assert_eq!(stages.iter().collect::<BTreeSet<_>>(), expected.iter().collect(), "{order:?}");
    }
}

#[test]
fn the_base_of_a_progressive_run_is_a_base_run() {
    let alone = model(Training { scheme: Scheme::Base(base_stage(4)), ..training() });
    let (_one, single) = folder();
    finished(&alone, &single);
    assert_eq!(
        names(&single.0),
        [
            "checkpoint.safetensors",
            "config.yaml",
            "metrics.csv",
            "metrics.jsonl",
            "supernet.safetensors",
            "tensorboard"
        ]
    );
    let (_two, staged) = folder();
    finished(&model(progressive(base_stage(4), vec![opening(Dimension::Depth, 1)])), &staged);
    assert!(bytes(&single.supernet()) == bytes(&staged.stage("0-base").supernet()));
    let loaded = checkpoint::load_supernet(&single.supernet()).expect("a supernet");
    assert_eq!((loaded.training.stage.as_str(), loaded.training.open.len()), ("0-base", 0));
    // The largest alone is judged: it is the smallest too, and there is no other.
    for record in log(&single) {
        if let Record::Validation { accuracy, random_accuracy, .. } = record {
            assert_eq!(
                (accuracy.keys().collect::<Vec<_>>(), random_accuracy.len()),
                (vec![&"largest".to_owned()], 0)
            );
        }
    }
}

fn patient(steps: u64, rate: f64, evaluations: u64, min_improvement: f64) -> BaseStage {
    BaseStage {
        steps,
        learning_rate: LearningRate { peak: rate, last: rate, warm_up_steps: 0 },
        patience: Some(Patience { evaluations, min_improvement }),
        distillation: None,
    }
}

fn base_run(stage: BaseStage) -> Model {
    model(Training { scheme: Scheme::Base(stage), evaluate_every: 2, ..training() })
}

#[test]
fn a_base_that_has_converged_ends_early() {
    // Weights that hardly move: the first evaluation is the best, and each after it is stale.
    for (evaluations, last) in [(1, 4), (2, 6), (4, 10)] {
        let (_temporary, folder) = folder();
        finished(&base_run(patient(50, 1e-12, evaluations, 0.0)), &folder);
        let steps: Vec<u64> = log(&folder).iter().map(Record::step).collect();
        assert_eq!(steps[steps.len() - 1], last, "{evaluations} evaluations: {steps:?}");
        let loaded = checkpoint::load_supernet(&folder.supernet()).expect("a supernet");
        assert_eq!(loaded.training.step, last);
    }
    // The next stage begins where it ended.
    let stages = vec![opening(Dimension::Width, 3)];
    let model = model(Training { evaluate_every: 2, ..progressive(patient(50, 1e-12, 1, 0.0), stages) });
    let (_temporary, folder) = folder();
    finished(&model, &folder);
    let steps: Vec<(String, u64)> =
        log(&folder).iter().map(|record| (record.stage().to_owned(), record.step())).collect();
    let expected = [("0-base", 2), ("0-base", 4), ("1-width", 6), ("1-width", 7)];
    let twice: Vec<(String, u64)> =
        expected.iter().flat_map(|&(s, k)| [(s.to_owned(), k), (s.to_owned(), k)]).collect();
    assert_eq!(steps, twice);
}

#[test]
fn patience_counts_from_the_best() {
    let mut ended = BTreeSet::new();
    for (evaluations, min_improvement) in [(1, 0.0), (2, 0.0), (3, 0.0), (2, 0.13), (3, 0.3)] {
        let (_temporary, folder) = folder();
        finished(&base_run(patient(60, 0.01, evaluations, min_improvement)), &folder);
        let accuracies: Vec<f64> = log(&folder)
            .iter()
            .filter_map(|record| match record {
                Record::Validation { accuracy, .. } => Some(accuracy["largest"]),
                Record::Train { .. } => None,
            })
            .collect();
        let (mut best, mut stale) = (f64::NEG_INFINITY, 0);
        for (index, &accuracy) in accuracies.iter().enumerate() {
            (best, stale) = if accuracy > best + min_improvement { (accuracy, 0) } else { (best, stale + 1) };
            let last = index + 1 == accuracies.len();
            assert_eq!(last && accuracies.len() < 30, stale >= evaluations, "{evaluations}: {accuracies:?}");
        }
        ended.insert(accuracies.len());
    }
    assert!(ended.len() > 2, "the rules end at different steps: {ended:?}");
}

/// Four stages after the base, averaged, with transforms, and a patience that ends the base early.
pub(crate) fn four_stages() -> Model {
    let stages =
        DIMENSIONS.map(|dimension| Stage { learning_rate: rate(), ..opening(dimension, 3) }).to_vec();
    let base = BaseStage { learning_rate: rate(), ..patient(20, 0.01, 1, 0.5) };
    let training = Training { ema: Some(Ema { decay: 0.5 }), ..progressive(base, stages) };
    model_of(TransformKind::Linear, training)
}

fn rate() -> LearningRate {
    LearningRate { peak: 0.02, warm_up_steps: 1, ..stage().learning_rate }
}

#[test]
fn a_run_begins_from_a_stage_as_if_it_had_gone_on() {
    let model = four_stages();
    let (_temporary, whole) = folder();
    finished(&model, &whole);
    let names = names(&whole.0.join("stages"));
    assert_eq!(names.len(), 5);
    for (k, after) in names[..4].iter().enumerate() {
        let init = Init {
            from: whole.stage(after).supernet(),
            map: Vec::new(),
            layout: Layout::Elastic,
            fresh: Vec::new(),
            sort_channels: false,
            after: Some(after.clone()),
        };
        let (_temporary, folder) = folder();
        finished(&Model { init: Some(init), ..model.clone() }, &folder);
        assert!(bytes(&folder.supernet()) == bytes(&whole.supernet()), "after {after}: other weights");
        assert_eq!(self::names(&folder.0.join("stages")).len(), 4 - k, "after {after}");
        for name in &names[k + 1..] {
            let [a, b] = [&folder, &whole].map(|run| bytes(&run.stage(name).supernet()));
            assert!(a == b, "after {after}: other weights of {name}");
        }
        let later: Vec<Record> =
            log(&whole).into_iter().filter(|record| record.stage() > after.as_str()).collect();
        assert_eq!(without_times(&log(&folder)), without_times(&later), "after {after}");
    }
}

#[test]
fn a_run_goes_on_without_the_file_that_it_began_from() {
    let model = four_stages();
    let (_temporary, whole) = folder();
    finished(&model, &whole);
    let from = whole.0.join("copy.safetensors");
    std::fs::copy(whole.stage("1-width").supernet(), &from).expect("a copy");
    let after = Some("1-width".to_owned());
    let init = Init {
        from: from.clone(),
        map: Vec::new(),
        layout: Layout::Elastic,
        fresh: Vec::new(),
        sort_channels: false,
        after,
    };
    let model = Model { init: Some(init), ..model };
    let first = checkpoint::load_supernet(&from).expect("a supernet").training.step + 1;
    let (_other, folder) = folder();
    let stopped = run_until(&model, &folder, Start::Fresh, first).expect("a run");
    assert_eq!(stopped, Outcome::Stopped { step: first });
    std::fs::remove_file(from).expect("it can be removed");
    assert_eq!(run(&model, &folder, Start::Resume, |_, _| ()).expect("a run"), Outcome::Finished);
    assert!(bytes(&folder.supernet()) == bytes(&whole.supernet()), "other weights");
}

#[test]
fn beginnings_that_are_refused() {
    let model = four_stages();
    let (_temporary, whole) = folder();
    finished(&model, &whole);
    let begin = |stage: &str, after: &str| {
        let (from, after) = (whole.stage(stage).supernet(), Some(after.to_owned()));
        let init = Init {
            from,
            map: Vec::new(),
            layout: Layout::Elastic,
            fresh: Vec::new(),
            sort_channels: false,
            after,
        };
        let (_temporary, folder) = folder();
        let error = run(&Model { init: Some(init), ..model.clone() }, &folder, Start::Fresh, |_, _| ());
        assert!(!folder.checkpoint().exists(), "nothing is begun");
        error.expect_err("it is refused")
    };
    let file = whole.stage("1-width").supernet();
    let other = begin("1-width", "2-depth").to_string();
    assert_eq!(other, format!("init.after is 2-depth, but {} has been through 1-width", file.display()));
    let last = begin("4-embedding", "4-embedding");
    assert!(matches!(last, TrainError::NothingLeft { .. }));
    assert_eq!(
        last.to_string(),
        "4-embedding is no stage of this model with another after it; its stages are 0-base, 1-width, 2-depth, \
         3-heads, 4-embedding"
    );
}

#[test]
fn weights_to_begin_with_take_the_place_of_random_ones() {
    // Without `after` the run begins with its first stage, whatever the weights have been through.
    let model = model(training());
    let (temporary, first) = folder();
    finished(&model, &first);
    let init = Init {
        from: first.supernet(),
        map: Vec::new(),
        layout: Layout::Elastic,
        fresh: Vec::new(),
        sort_channels: false,
        after: None,
    };
    let again = Model { init: Some(init), seed: 99, ..model.clone() };
    let second = RunFolder(temporary.path().join("second"));
    let stopped = run_until(&again, &second, Start::Fresh, 1).expect("a run");
    assert_eq!(stopped, Outcome::Stopped { step: 1 });
    // A rate that changes nothing shows the first weights.
    let mut still = again;
    let Scheme::Joint(stage) = &mut still.training.scheme else { unreachable!() };
    stage.learning_rate = LearningRate { peak: 1e-30, last: 0.0, warm_up_steps: 0 };
    let third = RunFolder(temporary.path().join("third"));
    finished(&still, &third);
    assert_eq!(weights_of(&third.supernet()), weights_of(&first.supernet()));
    let SearchSpace::Vit(vit) = &still.space else { panic!("a vision transformer") };
    let random = Supernet::new(SearchSpace::Vit(vit.clone()), Seed(99), &Device::flex());
    assert_ne!(weights_of(&third.supernet()), parameters::collect(&random.network));
}
