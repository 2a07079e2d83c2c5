//! Model files that are refused: each message names the field and what is allowed.

use elastic_data::Augmentation;
use elastic_space::sampling::Mixed;
use elastic_space::{Sampling, SearchSpace, Subnet};
use elastic_trainer::Model;
use elastic_trainer::config::{Distillation, Training};

use crate::support::{model, training};

type Change = fn(&mut Model);

#[test]
fn models_that_are_refused() {
    const ABOVE: &str = "it must be above 0";
    const SHARE: &str = "it must be at least 0 and below 1";
    let rows: Vec<(Change, String)> = vec![
        (
            |m| m.schema = "elastic.model/v2".into(),
            "schema is `elastic.model/v2`: this version reads `elastic.model/v1`".into(),
        ),
        (|m| vit(m).embed_dim = vec![8, 5], "space.vit: embed-dim is [8, 5]: list each choice once, smallest first".into()),
        (|m| vit(m).patch_size = 4, "space.vit: image-size 6 is not a multiple of patch-size 4".into()),
        (
            |m| drop(m.subnets.insert("smallest".into(), m.space.largest())),
            "subnets.smallest: the name is taken; `largest` and `smallest` are always there".into(),
        ),
        (
            |m| {
                let Subnet::Vit(mut subnet) = m.space.largest();
                subnet.embed_dim = 6;
                m.subnets.insert("odd".into(), Subnet::Vit(subnet));
            },
            "subnets.odd: subnet `embed 6 depth 3 heads 3 mlp 12` is not in the search space: embed-dim is 6, \
             the choices are [5, 8, 13]"
                .into(),
        ),
        (
            |m| m.training.sampling = Sampling::Mixed(Mixed { fixed: vec!["largest".into(), "middle".into()] }),
            "training.sampling: no subnet is named `middle`; known are largest, smallest".into(),
        ),
        (|m| m.training.steps = 0, "training.steps is 0: it must be at least 1".into()),
        (|m| m.training.batch_size = 0, "training.batch-size is 0: it must be at least 1".into()),
        (
            |m| m.training.subnets = 0,
            "training.subnets is 0: it must be at least 1 and at least the number of fixed subnets".into(),
        ),
        (
            |m| {
                m.training.subnets = 1;
                m.training.sampling = Sampling::Mixed(Mixed { fixed: vec!["largest".into(), "smallest".into()] });
            },
            "training.subnets is 1: it must be at least 1 and at least the number of fixed subnets".into(),
        ),
        (|m| m.training.evaluate_every = 0, "training.evaluate-every is 0: it must be at least 1".into()),
        (|m| m.training.evaluate_images = 0, "training.evaluate-images is 0: it must be at least 1".into()),
        (|m| m.training.checkpoint_every = 0, "training.checkpoint-every is 0: it must be at least 1".into()),
        (|m| rates(m, 0.0, 0.0), format!("training.optimizer.learning-rate is 0: {ABOVE}")),
        (|m| rates(m, -0.1, -0.1), format!("training.optimizer.learning-rate is -0.1: {ABOVE}")),
        (|m| rates(m, f64::NAN, 0.0), format!("training.optimizer.learning-rate is NaN: {ABOVE}")),
        (|m| rates(m, f64::INFINITY, 0.0), format!("training.optimizer.learning-rate is inf: {ABOVE}")),
        (
            |m| rates(m, 0.1, 0.2),
            "training.optimizer.final-learning-rate is 0.2: it must be at least 0 and at most the learning rate".into(),
        ),
        (|m| rates(m, 0.1, -1.0), "training.optimizer.final-learning-rate is -1: it must be at least 0".into()),
        (|m| m.training.optimizer.weight_decay = -1.0, "training.optimizer.weight-decay is -1: it must be at least 0".into()),
        (|m| m.training.optimizer.weight_decay = f64::INFINITY, "training.optimizer.weight-decay is inf".into()),
        (|m| m.training.optimizer.beta1 = 1.0, format!("training.optimizer.beta1 is 1: {SHARE}")),
        (|m| m.training.optimizer.beta2 = -0.5, format!("training.optimizer.beta2 is -0.5: {SHARE}")),
        (|m| m.training.label_smoothing = 1.0, format!("training.label-smoothing is 1: {SHARE}")),
        (|m| m.training.label_smoothing = f64::NAN, format!("training.label-smoothing is NaN: {SHARE}")),
        (|m| m.training.clip_gradient_norm = Some(0.0), format!("training.clip-gradient-norm is 0: {ABOVE}")),
        (|m| m.training.clip_gradient_norm = Some(f64::NAN), format!("training.clip-gradient-norm is NaN: {ABOVE}")),
        (|m| m.training.distillation = Some(Distillation { weight: 1.5 }), distillation("1.5")),
        (|m| m.training.distillation = Some(Distillation { weight: -0.5 }), distillation("-0.5")),
        (|m| m.training.distillation = Some(Distillation { weight: f64::NAN }), distillation("NaN")),
    ];
    for (change, expected) in rows {
        let mut model = model(training());
        change(&mut model);
        let error = model.validate().expect_err(&expected).to_string();
        assert!(error.contains(&expected), "expected {expected}, found {error}");
    }
}

#[test]
fn models_at_the_edge_of_what_is_allowed() {
    let rows: [fn(&mut Training); 9] = [
        |t| (t.steps, t.batch_size, t.subnets) = (1, 1, 1),
        |t| t.optimizer.final_learning_rate = 0.0,
        |t| t.optimizer.final_learning_rate = t.optimizer.learning_rate,
        |t| (t.optimizer.beta1, t.optimizer.beta2) = (0.0, 0.0),
        |t| t.optimizer.weight_decay = 0.0,
        |t| t.distillation = Some(Distillation { weight: 1.0 }),
        |t| (t.warm_up_steps, t.evaluate_random) = (100, 0),
        |t| t.augmentation = Augmentation { flip: true, crop_padding: 5 },
        |t| {
            t.subnets = 2;
            t.sampling = Sampling::Mixed(Mixed { fixed: vec!["smallest".into(), "largest".into()] });
        },
    ];
    for (index, change) in rows.into_iter().enumerate() {
        let mut training = training();
        change(&mut training);
        model(training).validate().unwrap_or_else(|error| panic!("row {index}: {error}"));
    }
}

fn vit(model: &mut Model) -> &mut elastic_space::vit::VitSpace {
    let SearchSpace::Vit(vit) = &mut model.space;
    vit
}

fn rates(model: &mut Model, highest: f64, last: f64) {
    model.training.optimizer.learning_rate = highest;
    model.training.optimizer.final_learning_rate = last;
}

fn distillation(value: &str) -> String {
    format!("training.distillation.weight is {value}: it must be at least 0 and at most 1")
}
