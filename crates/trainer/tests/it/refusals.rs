//! Model files that are refused: each message names the field and what is allowed.

use elastic_data::Augmentation;
use elastic_space::{SearchSpace, Subnet};
use elastic_trainer::Model;
use elastic_trainer::config::{Ema, SubnetCount, Training};

use crate::support::{in_place, model, only_stage, sandwich, training};

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
                let Subnet::Vit(mut subnet) = m.space.largest() else { panic!("a vision transformer") };
                subnet.embed_dim = 6;
                m.subnets.insert("odd".into(), Subnet::Vit(subnet));
            },
            "subnets.odd: subnet `embed 6 depth 3 heads 3 mlp 12` is not in the search space: embed-dim is 6, \
             the choices are [5, 8, 13]"
                .into(),
        ),
        (|m| m.training.batch_size = 0, "training.batch-size is 0: it must be at least 1".into()),
        (|m| m.training.evaluate_every = 0, "training.evaluate-every is 0: it must be at least 1".into()),
        (|m| m.training.evaluate_images = 0, "training.evaluate-images is 0: it must be at least 1".into()),
        (|m| m.training.checkpoint_every = 0, "training.checkpoint-every is 0: it must be at least 1".into()),
        (|m| m.training.optimizer.weight_decay = -1.0, "training.optimizer.weight-decay is -1: it must be at least 0".into()),
        (|m| m.training.optimizer.weight_decay = f64::INFINITY, "training.optimizer.weight-decay is inf".into()),
        (|m| m.training.optimizer.beta1 = 1.0, format!("training.optimizer.beta1 is 1: {SHARE}")),
        (|m| m.training.optimizer.beta2 = -0.5, format!("training.optimizer.beta2 is -0.5: {SHARE}")),
        (|m| m.training.label_smoothing = 1.0, format!("training.label-smoothing is 1: {SHARE}")),
        (|m| m.training.label_smoothing = f64::NAN, format!("training.label-smoothing is NaN: {SHARE}")),
        (|m| m.training.clip_gradient_norm = Some(0.0), format!("training.clip-gradient-norm is 0: {ABOVE}")),
        (|m| m.training.clip_gradient_norm = Some(f64::NAN), format!("training.clip-gradient-norm is NaN: {ABOVE}")),
        (|m| m.training.ema = Some(Ema { decay: 1.0 }), format!("training.ema.decay is 1: {SHARE}")),
        (|m| m.training.ema = Some(Ema { decay: f64::NAN }), format!("training.ema.decay is NaN: {SHARE}")),
        (|m| m.training.collapse_margin = Some(-0.1), format!("training.collapse-margin is -0.1: {SHARE}")),
        (|m| m.training.collapse_margin = Some(1.0), format!("training.collapse-margin is 1: {SHARE}")),
        (
            |m| only_stage(&mut m.training).subnets = SubnetCount::Count(0),
            "training.scheme.joint.subnets is 0: it must be at least 1 and at least the number of fixed subnets".into(),
        ),
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
    let rows: [fn(&mut Training); 10] = [
        |t| {
            t.batch_size = 1;
            let stage = only_stage(t);
            (stage.steps, stage.subnets) = (1, SubnetCount::Count(1));
        },
        |t| only_stage(t).learning_rate.last = 0.0,
        |t| only_stage(t).learning_rate.last = only_stage(t).learning_rate.peak,
        |t| (t.optimizer.beta1, t.optimizer.beta2) = (0.0, 0.0),
        |t| t.optimizer.weight_decay = 0.0,
        |t| {
            only_stage(t).sampling = sandwich();
            only_stage(t).distillation = Some(in_place(1.0));
        },
        |t| (only_stage(t).learning_rate.warm_up_steps, t.evaluate_random) = (100, 0),
        |t| t.augmentation = Augmentation { flip: true, crop_padding: 5, ..Augmentation::NONE },
        |t| (t.ema, t.collapse_margin) = (Some(Ema { decay: 0.0 }), Some(0.0)),
        |t| {
            // Both fixed ones, and no other.
            only_stage(t).sampling = sandwich();
            only_stage(t).subnets = SubnetCount::Count(2);
        },
    ];
    for (index, change) in rows.into_iter().enumerate() {
        let mut training = training();
        change(&mut training);
        model(training).validate().unwrap_or_else(|error| panic!("row {index}: {error}"));
    }
}

fn vit(model: &mut Model) -> &mut elastic_space::vit::VitSpace {
    let SearchSpace::Vit(vit) = &mut model.space else { panic!("a vision transformer") };
    vit
}
