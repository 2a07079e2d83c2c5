//! What a scheme comes down to: an ordered list of stages that are ready to run.
//!
//! Schemes and samplers know only the search space, never a family: a stage is the space restricted to
//! the dimensions that are open in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use elastic_space::random::Purpose;
use elastic_space::sampling::{InvalidSampling, Sampler};
use elastic_space::{Dimension, Sampling, SearchSpace, Subnet};
use thiserror::Error;

use crate::config::{
    BaseStage, Distillation, LearningRate, Model, Patience, Reduce, Scheme, Stage, SubnetCount, Teacher,
};
use crate::sort::SORTABLE;

/// The most stages that `progressive` takes after its base.
pub const MAX_STAGES: usize = 5;

/// One stage of a run.
#[derive(Debug, Clone)]
pub struct PlannedStage {
    /// Its number and its name, for instance `2-depth`: also that of its folder.
    pub name: String,
    /// The dimensions that are open in it.
    pub open: BTreeSet<Dimension>,
    /// The search space with only these dimensions open.
    pub space: SearchSpace,
    /// Gradient steps, at most.
    pub steps: u64,
    /// The learning rate over these steps.
    pub learning_rate: LearningRate,
    /// Subnets of one step (m).
    pub subnets: usize,
    /// How they are drawn.
    pub sampling: Sampling,
    /// What draws them.
    pub sampler: Sampler,
    /// How the gradients of a step's subnets become one.
    pub reduce: Reduce,
    /// Soft targets.
    pub distillation: Option<Distillation>,
    /// Ends the stage early.
    pub patience: Option<Patience>,
    /// The dimensions whose channels are sorted before the first step.
    pub sorted: BTreeSet<Dimension>,
}

/// The subnets that every evaluation of a stage judges.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The named subnets as far as the stage opens them; of equal ones only one.
    pub named: BTreeMap<String, Subnet>,
    /// Random subnets of the stage's space; always the same.
    pub random: Vec<Subnet>,
}

/// Why a scheme is refused.
#[derive(Debug, Error, PartialEq)]
pub enum InvalidScheme {
    /// Too few or too many stages.
    #[error("progressive.stages has {found} stages: list 1 to {MAX_STAGES}")]
    StageCount {
        /// How many were given.
        found: usize,
    },
    /// Nothing to open dimensions on.
    #[error("progressive has no `base`: describe the training of the largest network, or begin with `init`")]
    NoBase,
    /// A stage does not say what it opens.
    #[error("{at} opens nothing: add `open` with one of {}", names(choices))]
    OpensNothing {
        /// The stage's place in YAML.
        at: String,
        /// What could be opened.
        choices: BTreeSet<Dimension>,
    },
    /// `joint` opens all.
    #[error("joint.open is {}: leave it out, `joint` opens every dimension", open.name())]
    JointOpen {
        /// What was given.
        open: Dimension,
    },
    /// `joint` has no earlier stages.
    #[error("joint.share-earlier: leave it out, `joint` has no earlier stages")]
    JointShares,
    /// Nothing that could be sorted opens.
    #[error(
        "{at}.sort-channels: leave it out, it sorts what opens where `open` is width or heads; weights that a run begins \
         with are sorted by init.sort-channels"
    )]
    Sorts {
        /// The stage's place in YAML.
        at: String,
    },
    /// The space has no choice in that dimension.
    #[error("{at}.open is {}: the space has no choice there; it has in {}", open.name(), names(choices))]
    NoChoice {
        /// The stage's place in YAML.
        at: String,
        /// What was given.
        open: Dimension,
        /// What could be opened.
        choices: BTreeSet<Dimension>,
    },
    /// Two stages open one dimension.
    #[error("{at}.open is {}: an earlier stage opens it already", open.name())]
    OpenTwice {
        /// The stage's place in YAML.
        at: String,
        /// What was given.
        open: Dimension,
    },
    /// The sampling strategy does not fit.
    #[error("{at}.sampling: {source}")]
    Sampling {
        /// The stage's place in YAML.
        at: String,
        /// The cause.
        source: InvalidSampling,
    },
    /// `auto` has nothing to estimate from.
    #[error(
        "{at}.subnets is auto: add training.platform-budgets in flops or macs, such as [500kflops, 4mflops]"
    )]
    NoBudgets {
        /// The stage's place in YAML.
        at: String,
    },
    /// In-place distillation without the largest subnet.
    #[error(
        "{at}.distillation.teacher is in-place: the first of the `fixed` subnets in `sampling` must be `largest`"
    )]
    NoLargest {
        /// The stage's place in YAML.
        at: String,
    },
    /// The largest network cannot teach itself.
    #[error(
        "{at}.distillation.teacher is in-place: the largest network is trained alone here; name a file with `onnx`"
    )]
    TeachesItself {
        /// The stage's place in YAML.
        at: String,
    },
    /// A number is out of its range.
    #[error("{at}.{field} is {value}: it must be {range}")]
    Range {
        /// The stage's place in YAML.
        at: String,
        /// The field.
        field: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        range: String,
    },
}

/// The stages of a model's scheme, in their order.
///
/// # Errors
///
/// [`InvalidScheme`], with the place in YAML.
pub fn plan(model: &Model) -> Result<Vec<PlannedStage>, InvalidScheme> {
    match &model.training.scheme {
        Scheme::Base(stage) => Ok(vec![base(model, stage, "base")?]),
        Scheme::Joint(stage) => {
            if let Some(open) = stage.open {
                return Err(InvalidScheme::JointOpen { open });
            }
            if stage.share_earlier.is_some() {
                return Err(InvalidScheme::JointShares);
            }
            Ok(vec![elastic(model, stage, "joint", "0-joint".into(), model.space.dimensions(), None)?])
        }
        Scheme::Progressive(progressive) => {
            let found = progressive.stages.len();
            if !(1..=MAX_STAGES).contains(&found) {
                return Err(InvalidScheme::StageCount { found });
            }
            let mut stages = Vec::new();
            match &progressive.base {
                Some(stage) => stages.push(base(model, stage, "progressive.base")?),
                None if model.init.is_none() => return Err(InvalidScheme::NoBase),
                None => {}
            }
            let (choices, mut open) = (model.space.dimensions(), BTreeSet::new());
            for (index, stage) in progressive.stages.iter().enumerate() {
                let at = format!("progressive.stages.{index}");
                let Some(dimension) = stage.open else {
                    return Err(InvalidScheme::OpensNothing { at, choices });
                };
                if !choices.contains(&dimension) {
                    return Err(InvalidScheme::NoChoice { at, open: dimension, choices });
                }
                if !open.insert(dimension) {
                    return Err(InvalidScheme::OpenTwice { at, open: dimension });
                }
                let share = stage.share_earlier.unwrap_or(dimension == Dimension::Depth);
                let name = format!("{}-{}", index + 1, dimension.name());
                let vary = share.then_some(dimension);
                stages.push(elastic(model, stage, &at, name, open.clone(), vary)?);
            }
            Ok(stages)
        }
    }
}

/// The subnets that every evaluation of a stage judges.
///
/// # Panics
///
/// If a named subnet is not in the model's space; the model file's validation excludes it.
pub fn judged(model: &Model, open: &BTreeSet<Dimension>) -> Judged {
    let restricted = model.restricted(open);
    let mut rng = model.seed().generator(Purpose::Candidates, 0);
    // A space of one subnet has a name for it already.
    let count = if restricted.space.size() > 1 { model.training.evaluate_random } else { 0 };
    let random = restricted.space.draw_distinct(count, &mut rng);
    let (mut named, mut seen) = (restricted.named_subnets(), BTreeSet::new());
    // The two ends keep their names before others.
    let ends = ["largest", "smallest"].map(str::to_owned);
    let others: Vec<String> = named.keys().filter(|name| !ends.contains(name)).cloned().collect();
    for name in ends.into_iter().chain(others) {
        if !seen.insert(named[&name].clone()) {
            named.remove(&name);
        }
    }
    Judged { named, random }
}

fn base(model: &Model, stage: &BaseStage, at: &str) -> Result<PlannedStage, InvalidScheme> {
    check(at, stage.steps, &stage.learning_rate, stage.distillation.as_ref())?;
    if let Some(patience) = &stage.patience {
        if patience.evaluations == 0 {
            return Err(out_of_range(at, "patience.evaluations", &0, "at least 1"));
        }
        if !(0.0..1.0).contains(&patience.min_improvement) {
            let field = "patience.min-improvement";
            return Err(out_of_range(at, field, &patience.min_improvement, "at least 0 and below 1"));
        }
    }
    if matches!(&stage.distillation, Some(Distillation { teacher: Teacher::InPlace, .. })) {
        return Err(InvalidScheme::TeachesItself { at: at.to_owned() });
    }
    let open = BTreeSet::new();
    let sampling = Sampling::Fixed(vec!["largest".to_owned()]);
    let sampler = sampler(model, &sampling, &open, None, at)?;
    Ok(PlannedStage {
        name: "0-base".to_owned(),
        space: model.space.restricted(&open),
        open,
        steps: stage.steps,
        learning_rate: stage.learning_rate,
        subnets: 1,
        sampling,
        sampler,
        reduce: Reduce::Mean,
        distillation: stage.distillation.clone(),
        patience: stage.patience,
        sorted: BTreeSet::new(),
    })
}

fn elastic(
    model: &Model,
    stage: &Stage,
    at: &str,
    name: String,
    open: BTreeSet<Dimension>,
    vary: Option<Dimension>,
) -> Result<PlannedStage, InvalidScheme> {
    check(at, stage.steps, &stage.learning_rate, stage.distillation.as_ref())?;
    let sampler = sampler(model, &stage.sampling, &open, vary, at)?;
    let budgets = &model.training.platform_budgets;
    let compute = |budget| crate::config::macs(budget).is_some();
    if stage.subnets == SubnetCount::Auto && (budgets.is_empty() || !budgets.iter().all(compute)) {
        return Err(InvalidScheme::NoBudgets { at: at.to_owned() });
    }
    let (subnets, fixed) = (stage.subnets.resolve(budgets, &model.space), stage.sampling.fixed().len());
    let only_fixed = matches!(stage.sampling, Sampling::Fixed(_));
    if subnets < fixed.max(1) || (only_fixed && subnets != fixed) {
        let range = if only_fixed {
            format!("{fixed}, the number of fixed subnets")
        } else {
            "at least 1 and at least the number of fixed subnets".to_owned()
        };
        return Err(out_of_range(at, "subnets", &subnets, &range));
    }
    let sorted: BTreeSet<Dimension> = stage.open.into_iter().filter(|_| stage.sort_channels).collect();
    let sortable = sorted.iter().any(|dimension| SORTABLE.contains(dimension));
    if stage.sort_channels && !sortable {
        return Err(InvalidScheme::Sorts { at: at.to_owned() });
    }
    let in_place = matches!(&stage.distillation, Some(Distillation { teacher: Teacher::InPlace, .. }));
    if in_place && stage.sampling.fixed().first().is_none_or(|name| name != "largest") {
        return Err(InvalidScheme::NoLargest { at: at.to_owned() });
    }
    Ok(PlannedStage {
        name,
        space: model.space.restricted(&open),
        open,
        steps: stage.steps,
        learning_rate: stage.learning_rate,
        subnets,
        sampling: stage.sampling.clone(),
        sampler,
        reduce: stage.reduce,
        distillation: stage.distillation.clone(),
        patience: None,
        sorted,
    })
}

fn sampler(
    model: &Model,
    sampling: &Sampling,
    open: &BTreeSet<Dimension>,
    vary: Option<Dimension>,
    at: &str,
) -> Result<Sampler, InvalidScheme> {
    let restricted = model.restricted(open);
    sampling
        .sampler(&restricted.space, &restricted.named_subnets(), vary)
        .map_err(|source| InvalidScheme::Sampling { at: at.to_owned(), source })
}

fn check(
    at: &str,
    steps: u64,
    rate: &LearningRate,
    distillation: Option<&Distillation>,
) -> Result<(), InvalidScheme> {
    let weight = distillation.map_or(0.0, |distillation| distillation.weight);
    let rows = [
        ("steps", steps as f64, steps > 0, "at least 1"),
        ("learning-rate.peak", rate.peak, rate.peak > 0.0 && rate.peak.is_finite(), "above 0"),
        (
            "learning-rate.final",
            rate.last,
            (0.0..=rate.peak).contains(&rate.last),
            "at least 0 and at most the peak",
        ),
        ("distillation.weight", weight, (0.0..=1.0).contains(&weight), "at least 0 and at most 1"),
    ];
    match rows.into_iter().find(|(_, _, holds, _)| !holds) {
        Some((field, value, _, range)) => Err(out_of_range(at, field, &value, range)),
        None => Ok(()),
    }
}

fn out_of_range(at: &str, field: &'static str, value: &dyn fmt::Display, range: &str) -> InvalidScheme {
    let (at, value, range) = (at.to_owned(), value.to_string(), range.to_owned());
    InvalidScheme::Range { at, field, value, range }
}

fn names(dimensions: &BTreeSet<Dimension>) -> String {
    dimensions.iter().map(|dimension| dimension.name()).collect::<Vec<_>>().join(", ")
}
