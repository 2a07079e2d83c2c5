//! A run does what its recipe says: the same steps, put together by hand, end with the same weights.

use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use elastic_data::{Augmentation, Loader};
use elastic_space::random::Purpose;
use elastic_space::{Dimension, Sampling, Weights};
use elastic_trainer::config::{BaseStage, Ema, LearningRate, Stage, SubnetCount, Training};
use elastic_trainer::optimizer::adamw;
use elastic_trainer::run_folder::RunFolder;
use elastic_trainer::step::{SoftTargets, StepRecipe};
use elastic_trainer::train::Start;
use elastic_trainer::{Model, Supernet, checkpoint, parameters, schedule, step, train};

use crate::step::named;
use crate::support::{
    base_stage, joint, model, on_cpu, only_stage, opening, progressive, rich_stage, scaled, space, splits,
    stage, training, worst,
};

#[test]
fn a_run_follows_its_recipe() {
    for (row, recipe) in [
        ("plain", training()),
        (
            "summed, never clipped",
            Training {
                clip_gradient_norm: Some(1e3),
                ..joint(Stage { subnets: SubnetCount::Count(3), ..stage() })
            },
        ),
        ("always clipped", Training { clip_gradient_norm: Some(0.05), ..training() }),
        (
            "everything",
            Training {
                label_smoothing: 0.1,
                clip_gradient_norm: Some(0.2),
                augmentation: Augmentation { flip: true, crop_padding: 1, ..Augmentation::NONE },
                ..joint(rich_stage())
            },
        ),
        ("averaged", Training { ema: Some(Ema { decay: 0.3 }), ..training() }),
    ] {
        let model = model(recipe);
        let (by_hand, run) = (by_hand(&model), trained(&model));
        for (name, array) in &by_hand {
            let difference = worst(&array.data, &run[name].data);
            assert!(difference <= 1e-6, "{row}: {name} differs by {difference}");
        }
    }
}

fn trained(model: &Model) -> Weights {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = RunFolder(temporary.path().join("run"));
    let stop = AtomicBool::new(false);
    train(model, splits(&model.space), on_cpu(&folder), Start::Fresh, &stop, &mut |_| ()).expect("a run");
    let loaded = checkpoint::load_supernet(&folder.supernet()).expect("a supernet");
    parameters::collect(&loaded.supernet.network)
}

fn by_hand(model: &Model) -> Weights {
    let mut training = model.training.clone();
    let (stage, recipe, device) =
        (only_stage(&mut training).clone(), &model.training, Device::flex().autodiff());
    let mut shared = Supernet::new(model.space.clone(), model.seed(), &device);
    let mut optimizer = adamw(&recipe.optimizer, &shared.network);
    let data = splits(&model.space).train;
    let mut loader = Loader::new(data, model.seed(), recipe.batch_size, recipe.augmentation, &model.data)
        .expect("a recipe that fits");
    let mut average = parameters::collect(&shared.network);
    for number in 0..stage.steps {
        let mut rng = model.seed().generator(Purpose::Subnets, number);
        let mut subnets = match stage.sampling {
            Sampling::Mixed(_) => vec![model.space.largest(), model.space.smallest()],
            _ => Vec::new(),
        };
        let SubnetCount::Count(count) = stage.subnets else { panic!("a number of subnets") };
        subnets.extend((subnets.len()..count).map(|_| model.space.draw(&mut rng)));
        let soft_targets = match &stage.distillation {
            Some(distillation) => SoftTargets::InPlace { weight: distillation.weight },
            None => SoftTargets::None,
        };
        let of_step =
            StepRecipe { reduce: stage.reduce, label_smoothing: recipe.label_smoothing, soft_targets };
        let result = step::gradients(&shared, &loader.batch(number), &subnets, &of_step, &device);
        let mut gradients = result.expect("finite losses").gradients;
        let all = named(&gradients, &shared.network);
        let norm = all.values().flat_map(|a| &a.data).map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        if let Some(limit) = recipe.clip_gradient_norm {
            gradients = scaled(gradients, (limit / norm).min(1.0), &shared.network);
        }
        let rate = schedule::learning_rate(&stage.learning_rate, stage.steps, number);
        shared.network = optimizer.step(rate, shared.network, gradients, 1.0);
        let decay =
            recipe.ema.map_or(0.0, |ema| ema.decay.min((1 + number) as f64 / (10 + number) as f64)) as f32;
        for (name, array) in parameters::collect(&shared.network) {
            let average = &mut average.get_mut(&name).expect("the same names").data;
            average.iter_mut().zip(array.data).for_each(|(a, w)| *a = decay * *a + (1.0 - decay) * w);
        }
    }
    average
}

#[test]
fn an_average_begins_anew_with_its_stage() {
    // The base changes nothing, so the next stage is one step from w0 to w1: its average is young again, and
    // keeps a tenth of w0 rather than 11 / 20, as it would after the ten steps of the base.
    let still = LearningRate { peak: 1e-30, last: 0.0, warm_up_steps: 0 };
    let base = BaseStage { learning_rate: still, ..base_stage(10) };
    let plain = progressive(base, vec![opening(Dimension::Width, 1)]);
    let weights = |ema| trained(&model(Training { ema, ..plain.clone() }));
    let first =
        parameters::collect(&Supernet::new(space(), model(training()).seed(), &Device::flex()).network);
    let (after, averaged) = (weights(None), weights(Some(Ema { decay: 0.9 })));
    // The last layers: the gradient of some others is noise about zero, of which Adam takes the sign.
    for name in ["head.weight", "head.bias", "norm.weight", "norm.bias"] {
        let pairs = first[name].data.iter().zip(&after[name].data);
        let mixed: Vec<f32> = pairs.map(|(w0, w1)| 0.1 * w0 + 0.9 * w1).collect();
        let difference = worst(&averaged[name].data, &mixed);
        assert!(difference <= 1e-6, "{name} differs by {difference}");
    }
    assert!(
        worst(&first["head.weight"].data, &after["head.weight"].data) > 1e-3,
        "the stage changes something"
    );
}
