//! Training schemes: what is refused, how many subnets `auto` means, and steps that are shared out.

use elastic_space::choices::{Granularity, WidthChoices};
use elastic_space::sampling::Mixed;
use elastic_space::vit::VitSpace;
use elastic_space::{Budget, Dimension, Sampling, SearchSpace};
use elastic_trainer::Model;
use elastic_trainer::config::{
    BaseStage, Distillation, LearningRate, Patience, Progressive, Scheme, Stage, SubnetCount, Teacher,
    Training,
};
use elastic_trainer::init::{Init, Layout};
use elastic_trainer::plan::plan;

use crate::support::{
    DROPS, GRANULARITIES, POOLINGS, base_stage, in_place, joint, model, opening, progressive, sandwich,
    stage, training, vit_space,
};

use Dimension::{Depth, Embedding, Heads, Width};

fn base(stage: BaseStage) -> Training {
    Training { scheme: Scheme::Base(stage), ..training() }
}

fn stages(dimensions: &[Dimension]) -> Vec<Stage> {
    dimensions.iter().map(|&dimension| opening(dimension, 1)).collect()
}

/// Two stages, of which the second is this one.
fn second(stage: Stage) -> Training {
    progressive(base_stage(1), vec![opening(Width, 1), Stage { open: Some(Depth), ..stage }])
}

fn rate(peak: f64, last: f64) -> Stage {
    Stage { learning_rate: LearningRate { peak, last, warm_up_steps: 0 }, ..stage() }
}

fn patience(evaluations: u64, min_improvement: f64) -> BaseStage {
    BaseStage { patience: Some(Patience { evaluations, min_improvement }), ..base_stage(4) }
}

fn fixed(names: &[&str], subnets: usize) -> Stage {
    let names = names.iter().map(|&name| name.to_owned()).collect();
    Stage { sampling: Sampling::Fixed(names), subnets: SubnetCount::Count(subnets), ..stage() }
}

fn onnx(weight: f64) -> Distillation {
    Distillation { weight, teacher: Teacher::Onnx("teacher.onnx".into()) }
}

/// `auto` with budgets.
fn auto(budgets: &[&str]) -> Training {
    let platform_budgets = budgets.iter().map(|text| text.parse().expect(text)).collect();
    Training { platform_budgets, ..joint(Stage { subnets: SubnetCount::Auto, ..stage() }) }
}

#[test]
fn schemes_that_are_refused() {
    let without_base = |mut training: Training| {
        let Scheme::Progressive(Progressive { base, .. }) = &mut training.scheme else { unreachable!() };
        *base = None;
        training
    };
    let no_largest =
        "distillation.teacher is in-place: the first of the `fixed` subnets in `sampling` must be `largest`";
    let itself = "distillation.teacher is in-place: the largest network is trained alone here; name a file with `onnx`";
    let auto_needs =
        "subnets is auto: add training.platform-budgets in flops or macs, such as [500kflops, 4mflops]";
    let number = "it must be at least 1 and at least the number of fixed subnets";
    let weight = "it must be at least 0 and at most 1";
    let final_rate = "it must be at least 0 and at most the peak";
    let smallest_first = Sampling::Mixed(Mixed {
        fixed: vec!["smallest".into(), "largest".into()],
        rest: Box::new(Sampling::Random),
    });
    let distilled = |weight| Stage { sampling: sandwich(), distillation: Some(in_place(weight)), ..stage() };
    let rows: Vec<(Training, String)> = vec![
        (progressive(base_stage(1), vec![]), "progressive.stages has 0 stages: list 1 to 5".into()),
        (progressive(base_stage(1), stages(&[Width; 6])), "progressive.stages has 6 stages: list 1 to 5".into()),
        (
            without_base(progressive(base_stage(1), stages(&[Width]))),
            "progressive has no `base`: describe the training of the largest network, or begin with `init`".into(),
        ),
        (
            progressive(base_stage(1), vec![stage()]),
            "progressive.stages.0 opens nothing: add `open` with one of width, depth, heads, embedding".into(),
        ),
        (joint(opening(Width, 1)), "joint.open is width: leave it out, `joint` opens every dimension".into()),
        (
            joint(Stage { share_earlier: Some(false), ..stage() }),
            "joint.share-earlier: leave it out, `joint` has no earlier stages".into(),
        ),
        (
            progressive(base_stage(1), stages(&[Width, Dimension::Kernel])),
            "progressive.stages.1.open is kernel: the space has no choice there; it has in width, depth, heads, \
             embedding"
                .into(),
        ),
        (
            progressive(base_stage(1), stages(&[Heads, Width, Heads])),
            "progressive.stages.2.open is heads: an earlier stage opens it already".into(),
        ),
        (
            joint(fixed(&["largest", "middle"], 2)),
            "joint.sampling: no subnet is named `middle`; known are largest, smallest".into(),
        ),
        (second(fixed(&[], 1)), "progressive.stages.1.sampling: `fixed` lists no subnet: name at least one, or choose `random`".into()),
        (auto(&[]), format!("joint.{auto_needs}")),
        (auto(&["500kflops", "3MB"]), format!("joint.{auto_needs}")),
        (auto(&["20ms"]), format!("joint.{auto_needs}")),
        (second(Stage { subnets: SubnetCount::Auto, ..stage() }), format!("progressive.stages.1.{auto_needs}")),
        (joint(Stage { distillation: Some(in_place(0.5)), ..stage() }), format!("joint.{no_largest}")),
        (
            second(Stage { sampling: smallest_first, distillation: Some(in_place(0.5)), ..stage() }),
            format!("progressive.stages.1.{no_largest}"),
        ),
        (base(BaseStage { distillation: Some(in_place(0.5)), ..base_stage(1) }), format!("base.{itself}")),
        (
            progressive(BaseStage { distillation: Some(in_place(0.5)), ..base_stage(1) }, stages(&[Width])),
            format!("progressive.base.{itself}"),
        ),
        (joint(Stage { steps: 0, ..stage() }), "joint.steps is 0: it must be at least 1".into()),
        (base(base_stage(0)), "base.steps is 0: it must be at least 1".into()),
        (progressive(base_stage(0), stages(&[Width])), "progressive.base.steps is 0: it must be at least 1".into()),
        (second(Stage { steps: 0, ..stage() }), "progressive.stages.1.steps is 0: it must be at least 1".into()),
        (joint(rate(0.0, 0.0)), "joint.learning-rate.peak is 0: it must be above 0".into()),
        (joint(rate(-0.1, -0.1)), "joint.learning-rate.peak is -0.1: it must be above 0".into()),
        (joint(rate(f64::NAN, 0.0)), "joint.learning-rate.peak is NaN: it must be above 0".into()),
        (second(rate(f64::INFINITY, 0.0)), "progressive.stages.1.learning-rate.peak is inf: it must be above 0".into()),
        (joint(rate(0.1, 0.2)), format!("joint.learning-rate.final is 0.2: {final_rate}")),
        (joint(rate(0.1, -1.0)), format!("joint.learning-rate.final is -1: {final_rate}")),
        (joint(rate(0.1, f64::NAN)), format!("joint.learning-rate.final is NaN: {final_rate}")),
        (joint(distilled(1.5)), format!("joint.distillation.weight is 1.5: {weight}")),
        (joint(distilled(-0.5)), format!("joint.distillation.weight is -0.5: {weight}")),
        (joint(distilled(f64::NAN)), format!("joint.distillation.weight is NaN: {weight}")),
        (base(BaseStage { distillation: Some(onnx(2.0)), ..base_stage(1) }), format!("base.distillation.weight is 2: {weight}")),
        (base(patience(0, 0.1)), "base.patience.evaluations is 0: it must be at least 1".into()),
        (base(patience(1, 1.0)), "base.patience.min-improvement is 1: it must be at least 0 and below 1".into()),
        (base(patience(1, -0.1)), "base.patience.min-improvement is -0.1: it must be at least 0 and below 1".into()),
        (base(patience(1, f64::NAN)), "base.patience.min-improvement is NaN: it must be at least 0 and below 1".into()),
        (joint(Stage { subnets: SubnetCount::Count(0), ..stage() }), format!("joint.subnets is 0: {number}")),
        (
            joint(Stage { subnets: SubnetCount::Count(1), sampling: sandwich(), ..stage() }),
            format!("joint.subnets is 1: {number}"),
        ),
        (
            second(fixed(&["largest", "smallest"], 3)),
            "progressive.stages.1.subnets is 3: it must be 2, the number of fixed subnets".into(),
        ),
        (joint(fixed(&["largest", "smallest"], 1)), "joint.subnets is 1: it must be 2, the number of fixed subnets".into()),
    ];
    for (training, expected) in rows {
        let error = model(training).validate().expect_err(&expected).to_string();
        assert_eq!(error, format!("training.scheme.{expected}"));
    }
}

#[test]
fn a_closed_dimension_has_no_choice() {
    let mut model = model(progressive(base_stage(1), stages(&[Embedding, Width])));
    let SearchSpace::Vit(vit) = &mut model.space else { panic!("a vision transformer") };
    vit.embed_dim = vec![13];
    let error = model.validate().expect_err("one embedding").to_string();
    assert_eq!(
        error,
        "training.scheme.progressive.stages.0.open is embedding: the space has no choice there; it has in width, \
         depth, heads"
    );
}

#[test]
fn schemes_at_the_edge_of_what_is_allowed() {
    let init = Init {
        from: "weights.safetensors".into(),
        map: Vec::new(),
        layout: Layout::Elastic,
        fresh: Vec::new(),
        sort_channels: false,
        after: None,
    };
    let begun = |mut model: Model| {
        let Scheme::Progressive(Progressive { base, .. }) = &mut model.training.scheme else {
            unreachable!()
        };
        (*base, model.init) = (None, Some(init.clone()));
        model
    };
    for (row, model) in [
        ("four stages", model(progressive(base_stage(1), stages(&[Width, Depth, Heads, Embedding])))),
        ("no base, with weights", begun(model(progressive(base_stage(1), stages(&[Depth]))))),
        ("base with patience", model(base(patience(1, 0.0)))),
        ("base with a teacher", model(base(BaseStage { distillation: Some(onnx(1.0)), ..base_stage(1) }))),
        ("a teacher without the largest", model(joint(Stage { distillation: Some(onnx(0.0)), ..stage() }))),
        ("all fixed", model(joint(fixed(&["largest", "smallest"], 2)))),
        ("auto", model(auto(&["1flops", "1gmacs"]))),
        ("a longer warm-up", model(joint(Stage { steps: 1, ..stage() }))),
    ] {
        model.validate().unwrap_or_else(|error| panic!("{row}: {error}"));
    }
}

/// A space whose smallest subnet has 180 MACs and whose largest has 164 + 16 `widest`: see the comment in the
/// sampling tests of the space.
fn small_space(widest: usize) -> SearchSpace {
    let one = |choices: &[usize]| WidthChoices { choices: choices.to_vec(), per: Granularity::Network };
    SearchSpace::Vit(VitSpace {
        image_size: 4,
        channels: 1,
        patch_size: 2,
        classes: 2,
        head_dim: 2,
        embed_dim: vec![2],
        heads: one(&[1]),
        mlp_width: one(&[1, widest]),
        stages: Vec::new(),
        depth: elastic_space::choices::DepthChoices { choices: vec![1], drop: DROPS[0] },
        ..vit_space(POOLINGS[1], DROPS[0], GRANULARITIES[1])
    })
}

#[test]
fn the_number_of_subnets_of_auto() {
    let of = |space: &SearchSpace, budgets: &[&str]| {
        let budgets: Vec<Budget> = budgets.iter().map(|text| text.parse().expect(text)).collect();
        SubnetCount::Auto.resolve(&budgets, space)
    };
    // Ends of 180 and 164 + 16 * 350 = 5764 MACs, a factor of 32.02. m = 2 + 2 log2(b / a), from 4 to 8.
    let wide = small_space(350);
    let ends = [wide.smallest(), wide.largest()].map(|subnet| wide.cost(&subnet).macs);
    assert_eq!(ends, [180, 5764]);
    for (budgets, expected) in [
        // One platform, or several alike: 2, and so 4.
        (&["200macs"][..], 4),
        (&["200macs", "200macs"], 4),
        // A factor of 2: 2 + 2 = 4. Of 2^1.25 = 2.378: 4.5; a little less is 4, a little more 5.
        (&["200macs", "400macs"], 4),
        (&["200macs", "475macs"], 4),
        (&["200macs", "476macs"], 5),
        // Of 2^1.75 = 3.364: 5.5.
        (&["200macs", "672macs"], 5),
        (&["200macs", "673macs"], 6),
        (&["200macs", "800macs"], 6),
        // Of 2^2.25 = 4.757: 6.5; of 2^2.75 = 6.727: 7.5.
        (&["200macs", "951macs"], 6),
        (&["200macs", "952macs"], 7),
        (&["200macs", "1345macs"], 7),
        (&["200macs", "1346macs"], 8),
        (&["200macs", "5000macs"], 8),
        // In any order, and one more between changes nothing; a MAC is two FLOPs.
        (&["800macs", "300macs", "200macs"], 6),
        (&["400flops", "800macs"], 6),
        (&["400flops", "800flops"], 4),
        // Held to what the space offers: 1 counts as 180, a million as 5764.
        (&["1macs", "180macs"], 4),
        (&["1macs", "604macs"], 5),
        (&["1macs", "606macs"], 6),
        (&["5764macs", "1gmacs"], 4),
        (&["1macs", "1gmacs"], 8),
    ] {
        assert_eq!(of(&wide, budgets), expected, "{budgets:?}");
    }
    // Ends of 180 and 548 MACs: 2 + 2 log2(3.044) = 5.21, however far the budgets are apart.
    assert_eq!(of(&small_space(24), &["1macs", "1gmacs"]), 5);
    let counts: Vec<usize> =
        (180..6000).map(|high| of(&wide, &["180macs", &format!("{high}macs")])).collect();
    assert!(counts.is_sorted(), "more spread is never fewer subnets");
    assert_eq!((counts[0], counts[counts.len() - 1]), (4, 8));
    let mut model = model(auto(&["200macs", "800macs"]));
    model.space = wide;
    model.data.mean = vec![0.5];
    assert_eq!(plan(&model).expect("a scheme that fits")[0].subnets, 6);
}

#[test]
fn steps_are_shared_out() {
    let with = |steps: &[u64]| {
        let stages = steps[1..].iter().zip([Width, Depth, Heads, Embedding]);
        progressive(base_stage(steps[0]), stages.map(|(&steps, open)| opening(open, steps)).collect()).scheme
    };
    for (steps, total, expected) in [
        (&[40, 10, 10, 20][..], 80, &[40, 10, 10, 20][..]),
        (&[40, 10, 10, 20], 8, &[4, 1, 1, 2]),
        (&[40, 10, 10, 20], 800, &[400, 100, 100, 200]),
        // 40 / 80 of 9 is 4.5, 10 / 80 of it 1.1; the last stage has the rest.
        (&[40, 10, 10, 20], 9, &[4, 1, 1, 3]),
        // Every stage has a step, and the longest gives it.
        (&[97, 1, 1, 1], 5, &[2, 1, 1, 1]),
        (&[97, 1, 1, 1], 50, &[47, 1, 1, 1]),
        (&[1, 97, 1, 1], 6, &[1, 3, 1, 1]),
        (&[40, 10, 10, 20], 4, &[1, 1, 1, 1]),
        // There are not enough for one each.
        (&[40, 10, 10, 20], 2, &[1, 1, 1, 1]),
        (&[1 << 62, 1 << 62], 1 << 63, &[1 << 62, 1 << 62]),
    ] {
        let mut scheme = with(steps);
        scheme.set_steps(total);
        assert_eq!(scheme, with(expected), "{steps:?}, together {total}");
    }
    for (mut one, expected) in [
        (joint(stage()).scheme, joint(Stage { steps: 9, ..stage() }).scheme),
        (base(base_stage(4)).scheme, base(base_stage(9)).scheme),
    ] {
        one.set_steps(9);
        assert_eq!(one, expected);
    }
    // None is refused, as it is in the file.
    let mut training = training();
    training.scheme.set_steps(0);
    let error = model(training).validate().expect_err("no step").to_string();
    assert_eq!(error, "training.scheme.joint.steps is 0: it must be at least 1");
}
