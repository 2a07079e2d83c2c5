//! One subnet trained alone after the search has chosen it, taught by the supernet that it was cut from.
//!
//! It is a run like another: one stage whose every step has the one subnet, from the supernet's weights on.

use std::path::Path;

use elastic_space::{Sampling, SearchSpace, Seed, Subnet};

use crate::config::{
    Distillation, LearningRate, Model, Reduce, Scheme, Stage, SubnetCount, Teacher, Training,
};
use crate::init::{Init, Layout};

/// The name of the subnet in the run.
const CHOSEN: &str = "chosen";
/// The peak of the learning rate is this share of the recipe's: the weights are trained already.
pub const RATE_SHARE: f64 = 0.1;
/// The share of the teacher's soft targets where the recipe has none.
pub const TEACHER_WEIGHT: f64 = 0.5;
/// Validation examples that the run looks at; whether it has helped is judged by all of them afterwards.
pub const EVALUATED: usize = 100;

/// How long and how strongly a subnet is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Gradient steps, at least 1.
    pub steps: u64,
    /// The peak of the learning rate; [`RATE_SHARE`] of that of the recipe's last stage where it is not given.
    pub peak: Option<f64>,
    /// What the order of the examples and their augmentation follow from.
    pub seed: Seed,
}

/// The run that trains one subnet of a supernet's file alone; `space` is that of the file. The learning rate rises over a
/// tenth of the steps and falls to zero. Batch size, optimizer, augmentation, label smoothing, clipping and the teacher's
/// weight are those of the recipe's last stage; there are no averaged weights, which would hold on to the first ones.
pub fn run(
    model: &Model,
    supernet: &Path,
    space: &SearchSpace,
    subnet: &Subnet,
    settings: &Settings,
) -> Model {
    let (rate, distillation) = last_stage(&model.training.scheme);
    let weight = distillation.map_or(TEACHER_WEIGHT, |distillation| distillation.weight);
    let stage = Stage {
        open: None,
        steps: settings.steps,
        learning_rate: LearningRate {
            peak: settings.peak.unwrap_or(RATE_SHARE * rate.peak),
            last: 0.0,
            warm_up_steps: settings.steps / 10,
        },
        subnets: SubnetCount::Count(1),
        sampling: Sampling::Fixed(vec![CHOSEN.to_owned()]),
        share_earlier: None,
        sort_channels: false,
        reduce: Reduce::Mean,
        distillation: Some(Distillation { weight, teacher: Teacher::Supernet(supernet.to_owned()) }),
    };
    let training = Training {
        scheme: Scheme::Joint(stage),
        ema: None,
        collapse_margin: None,
        platform_budgets: Vec::new(),
        evaluate_every: settings.steps,
        evaluate_random: 0,
        evaluate_images: EVALUATED,
        checkpoint_every: settings.steps,
        ..model.training.clone()
    };
    let init = Init {
        from: supernet.to_owned(),
        map: Vec::new(),
        layout: Layout::Elastic,
        fresh: Vec::new(),
        sort_channels: false,
        after: None,
    };
    Model {
        seed: settings.seed.0,
        space: space.clone(),
        subnets: [(CHOSEN.to_owned(), subnet.clone())].into(),
        init: Some(init),
        training,
        ..model.clone()
    }
}

/// The peak of the learning rate, and the share of the teacher's soft targets, that a [`run`] has.
pub fn strength(run: &Model) -> (f64, f64) {
    let (rate, distillation) = last_stage(&run.training.scheme);
    (rate.peak, distillation.map_or(0.0, |distillation| distillation.weight))
}

fn last_stage(scheme: &Scheme) -> (&LearningRate, Option<&Distillation>) {
    match scheme {
        Scheme::Base(stage) => (&stage.learning_rate, stage.distillation.as_ref()),
        Scheme::Joint(stage) => (&stage.learning_rate, stage.distillation.as_ref()),
        Scheme::Progressive(progressive) => {
            let stage = progressive.stages.last().expect("a progressive scheme has a stage");
            (&stage.learning_rate, stage.distillation.as_ref())
        }
    }
}
