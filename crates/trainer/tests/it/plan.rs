//! What a scheme comes down to: what each stage opens, draws and judges.

use std::collections::{BTreeMap, BTreeSet};

use elastic_space::random::Purpose;
use elastic_space::vit::{VitLayer, VitSubnet};
use elastic_space::{Dimension, Seed, Subnet};
use elastic_trainer::config::{Stage, SubnetCount, Training};
use elastic_trainer::plan::{PlannedStage, judged, plan};

use crate::support::{base_stage, joint, model, opening, progressive, stage, training};

use Dimension::{Depth, Embedding, Heads, Width};

fn stages(dimensions: &[Dimension]) -> Vec<Stage> {
    let stage = |&dimension| Stage { subnets: SubnetCount::Count(6), ..opening(dimension, 1) };
    dimensions.iter().map(stage).collect()
}

fn planned(training: Training) -> Vec<PlannedStage> {
    plan(&model(training)).expect("a scheme that fits")
}

#[test]
fn what_a_stage_opens() {
    let model = model(progressive(base_stage(2), stages(&[Heads, Depth, Width])));
    let planned = plan(&model).expect("a scheme that fits");
    let expected: [(&str, &[Dimension]); 4] = [
        ("0-base", &[]),
        ("1-heads", &[Heads]),
        ("2-depth", &[Heads, Depth]),
        ("3-width", &[Heads, Depth, Width]),
    ];
    assert_eq!(planned.len(), expected.len());
    for (stage, (name, open)) in planned.iter().zip(expected) {
        assert_eq!((stage.name.as_str(), &stage.open), (name, &open.iter().copied().collect()));
        assert_eq!(stage.space, model.space.restricted(&stage.open), "{name}");
    }
    let whole = self::planned(training());
    assert_eq!((whole[0].name.as_str(), &whole[0].open), ("0-joint", &model.space.dimensions()));
    assert_eq!(whole[0].space, model.space);
}

/// The dimensions in which the random subnets of one step differ, and those in which steps differ.
fn varied(stage: &PlannedStage) -> [BTreeSet<Dimension>; 2] {
    let steps: Vec<Vec<Subnet>> = (0..100)
        .map(|step| {
            stage.sampler.draw(stage.subnets, &mut Seed(3).generator(Purpose::Subnets, step)).split_off(1)
        })
        .collect();
    let within =
        steps.iter().flat_map(|step| step.iter().flat_map(|other| differ(&step[0], other))).collect();
    let between = steps.iter().flat_map(|step| differ(&steps[0][0], &step[0])).collect();
    [within, between]
}

fn differ(a: &Subnet, b: &Subnet) -> BTreeSet<Dimension> {
    let (Subnet::Vit(a), Subnet::Vit(b)) = (a, b) else { panic!("vision transformers") };
    let mut found = BTreeSet::new();
    let mut check = |dimension, differ| {
        if differ {
            found.insert(dimension);
        }
    };
    let indices = |subnet: &VitSubnet| subnet.layers.iter().map(|layer| layer.index).collect::<Vec<_>>();
    check(Embedding, a.embed_dim != b.embed_dim);
    check(Depth, indices(a) != indices(b));
    for layer in &a.layers {
        if let Some(other) = b.layers.iter().find(|other| other.index == layer.index) {
            check(Heads, layer.heads != other.heads);
            check(Width, layer.mlp_width != other.mlp_width);
        }
    }
    found
}

#[test]
fn a_depth_stage_shares_the_earlier_draws() {
    let order = [Width, Heads, Depth, Embedding];
    let shared = |dimension, share| {
        let mut stages = stages(&order);
        let stage = stages.iter_mut().find(|stage| stage.open == Some(dimension)).expect("it is opened");
        stage.share_earlier = Some(share);
        let number = order.iter().position(|d| *d == dimension).expect("it is opened") + 1;
        planned(progressive(base_stage(1), stages)).swap_remove(number)
    };
    let mut plain = planned(progressive(base_stage(1), stages(&order)));
    let whole = Stage { open: None, ..stages(&[Width]).remove(0) };
    let rows: [(&str, PlannedStage, &[Dimension], &[Dimension]); 8] = [
        ("embedding", plain.remove(4), &order, &order),
        ("depth", plain.remove(3), &[Depth], &[Width, Heads, Depth]),
        ("heads", plain.remove(2), &[Width, Heads], &[Width, Heads]),
        ("width", plain.remove(1), &[Width], &[Width]),
        ("depth, not shared", shared(Depth, false), &[Width, Heads, Depth], &[Width, Heads, Depth]),
        ("embedding, shared", shared(Embedding, true), &[Embedding], &order),
        ("heads, shared", shared(Heads, true), &[Heads], &[Width, Heads]),
        ("joint", planned(joint(whole)).remove(0), &order, &order),
    ];
    for (row, stage, within, between) in rows {
        let expected = [within, between].map(|dimensions| dimensions.iter().copied().collect());
        assert_eq!(varied(&stage), expected, "{row}");
        // The fixed one is not among the shared.
        let first = stage.sampler.draw(1, &mut Seed(1).generator(Purpose::Subnets, 0));
        assert_eq!(first, [stage.space.smallest()], "{row}");
    }
}

#[test]
fn what_a_stage_judges() {
    let layer = |index, heads, mlp_width| VitLayer { index, heads, mlp_width };
    let subnet =
        |embed_dim, layers: &[VitLayer]| Subnet::Vit(VitSubnet { embed_dim, layers: layers.to_vec() });
    let mut model = model(Training { evaluate_random: 5, ..joint(stage()) });
    // `all` sorts before the two ends, and is one of them.
    model.subnets.insert("all".into(), model.space.largest());
    model.subnets.insert("middle".into(), subnet(8, &[layer(0, 2, 7), layer(2, 3, 12)]));
    model.validate().expect("a model that fits");
    let (largest, whole) = (model.space.largest(), |l: &[VitLayer]| subnet(13, l));
    let names = |rows: &[(&str, Subnet)]| -> BTreeMap<String, Subnet> {
        rows.iter().map(|(name, subnet)| ((*name).to_owned(), subnet.clone())).collect()
    };
    for (open, expected) in [
        (&[][..], names(&[("largest", largest.clone())])),
        (
            &[Width],
            names(&[
                ("largest", largest.clone()),
                ("smallest", whole(&[layer(0, 3, 7), layer(1, 3, 7), layer(2, 3, 7)])),
                ("middle", whole(&[layer(0, 3, 7), layer(1, 3, 12), layer(2, 3, 12)])),
            ]),
        ),
        (
            &[Depth],
            names(&[
                ("largest", largest.clone()),
                ("smallest", whole(&[layer(0, 3, 12)])),
                ("middle", whole(&[layer(0, 3, 12), layer(2, 3, 12)])),
            ]),
        ),
        // In the heads of the layers that it keeps the middle one is smaller than the largest, and no more.
        (
            &[Width, Depth, Heads, Embedding],
            names(&[
                ("largest", largest.clone()),
                ("smallest", subnet(5, &[layer(0, 1, 7)])),
                ("middle", model.subnets["middle"].clone()),
            ]),
        ),
    ] {
        let open: BTreeSet<Dimension> = open.iter().copied().collect();
        let found = judged(&model, &open);
        assert_eq!(found.named, expected, "{open:?}");
        let restricted = model.space.restricted(&open);
        assert!(found.random.iter().all(|subnet| restricted.encode(subnet).is_ok()), "{open:?}");
        assert_eq!(found.random.len(), if open.is_empty() { 0 } else { 5 }, "{open:?}");
        assert_eq!(found.random.iter().collect::<BTreeSet<_>>().len(), found.random.len(), "{open:?}");
        assert_eq!(judged(&model, &open), found, "{open:?}: always the same");
    }
}
