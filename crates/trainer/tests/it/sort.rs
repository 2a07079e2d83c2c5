//! Channels in the order of their importance: the largest network stays what it was, and smaller ones keep more.

use burn::tensor::Device;
use elastic_space::choices::TransformKind;
use elastic_space::conv::ConvSpace;
use elastic_space::{Array, Dimension, SearchSpace, Weights};
use elastic_trainer::checkpoint::{Trained, save_supernet};
use elastic_trainer::init::{Init, Layout, weights};
use elastic_trainer::sort::{SORTABLE, by_importance};
use elastic_trainer::train::Start;
use elastic_trainer::{Model, Supernet, parameters};

use crate::runs::{bytes, folder, run};
use crate::support::{
    DROPS, GRANULARITIES, base_stage, conv_space, families, images, model, opening, progressive, supernet,
    training, vit_space, worst,
};

/// The same supernet with its channels sorted.
fn sorted(supernet: &Supernet, dimensions: &[Dimension]) -> Supernet {
    let mut weights = parameters::collect(&supernet.network);
    by_importance(&mut weights, &supernet.space, &dimensions.iter().copied().collect());
    let network = parameters::replace(supernet.network.clone(), &weights).expect("the same names and shapes");
    Supernet { network, ..supernet.clone() }
}

/// The sum of the absolute values of each row of a matrix.
fn rows(array: &Array) -> Vec<f32> {
    let columns = array.shape[1];
    array.data.chunks(columns).map(|row| row.iter().map(|v| v.abs()).sum()).collect()
}

fn descends(values: &[f32]) -> bool {
    values.windows(2).all(|pair| pair[0] >= pair[1] - 1e-5)
}

#[test]
fn the_largest_network_computes_the_same() {
    for space in families() {
        let before = supernet(space.clone(), 6, &Device::flex());
        let images = images(&space, 5, 3);
        for dimensions in [&SORTABLE[..], &[Dimension::Width], &[Dimension::Heads]] {
            let after = sorted(&before, dimensions);
            let largest = space.largest();
            let difference =
                worst(&after.logits(&images, &largest).data, &before.logits(&images, &largest).data);
            assert!(difference <= 1e-4, "{dimensions:?}: {difference}");
            let changed = parameters::collect(&after.network) != parameters::collect(&before.network);
            let expected = space.dimensions().iter().any(|dimension| dimensions.contains(dimension));
            assert_eq!(changed, expected, "{dimensions:?}");
            if changed {
                let smallest = space.smallest();
                let smaller = [&after, &before].map(|net| net.logits(&images, &smallest));
                assert!(worst(&smaller[0].data, &smaller[1].data) > 1e-3, "{dimensions:?}");
            }
        }
    }
}

#[test]
fn the_most_important_come_first() {
    let [vit, conv, _, _] = families().map(|space| {
        let sorted = sorted(&supernet(space, 6, &Device::flex()), &SORTABLE);
        parameters::collect(&sorted.network)
    });
    for block in 0..3 {
        assert!(descends(&rows(&vit[&format!("blocks.{block}.mlp.fc2.weight")])), "{block}");
        // A head has three features.
        let features = rows(&vit[&format!("blocks.{block}.attn.proj.weight")]);
        let heads: Vec<f32> = features.chunks(3).map(|head| head.iter().sum()).collect();
        assert!(descends(&heads), "{block}: {heads:?}");
        for layer in ["project", "excite"] {
            assert!(
                descends(&rows(&conv[&format!("stages.1.blocks.{block}.{layer}.weight")])),
                "{block} {layer}"
            );
        }
    }
    for layer in ["hidden", "classifier"] {
        assert!(descends(&rows(&conv[&format!("{layer}.weight")])), "{layer}");
    }
    // Without an expansion the hidden channels are those of the layer before, which others read too.
    let unsorted = parameters::collect(&supernet(families()[1].clone(), 6, &Device::flex()).network);
    for name in ["stem.weight", "stages.0.blocks.0.project.weight", "stages.1.blocks.1.project.norm.bias"] {
        assert_eq!(conv[name].shape, unsorted[name].shape, "{name}");
    }
    assert_eq!(conv["stem.weight"], unsorted["stem.weight"]);
    assert_eq!(conv["stages.0.blocks.1.depthwise.weight"], unsorted["stages.0.blocks.1.depthwise.weight"]);
}

fn saved(space: &SearchSpace) -> (tempfile::TempDir, std::path::PathBuf, Supernet) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("supernet.safetensors");
    let made = supernet(space.clone(), 4, &Device::flex());
    let trained = Trained { stage: "joint".to_owned(), step: 3, open: Default::default() };
    save_supernet(&path, space, &made.network, &trained).expect("a supernet's file");
    (folder, path, made)
}

#[test]
fn a_run_may_begin_with_sorted_weights() {
    let init = |from, sort_channels| Init {
        from,
        map: Vec::new(),
        layout: Layout::Elastic,
        fresh: Vec::new(),
        sort_channels,
        after: None,
    };
    for space in families() {
        let (_folder, path, made) = saved(&space);
        let fresh = Supernet::new(space.clone(), elastic_space::Seed(1), &Device::flex());
        let [plain, ordered]: [Weights; 2] = [false, true]
            .map(|sort| weights(&init(path.clone(), sort), &fresh.network, &space).expect("it fits"));
        assert_eq!(plain, parameters::collect(&made.network));
        assert_eq!(ordered, parameters::collect(&sorted(&made, &SORTABLE).network));
    }
    // Transforms that were learned belong to the first channels as they stand; those of kernels to no channel.
    let conv = conv_space(DROPS[0], GRANULARITIES[0]);
    for (dimension, refused) in [(Dimension::Width, true), (Dimension::Kernel, false)] {
        let transforms = [(dimension, TransformKind::Linear)].into();
        let space = SearchSpace::Conv(ConvSpace { transforms, ..conv.clone() });
        let (_folder, path, made) = saved(&space);
        let found =
            weights(&init(path.clone(), true), &made.network, &space).map_err(|error| error.to_string());
        assert_eq!(found.is_err(), refused, "{dimension:?}");
        if let Err(text) = found {
            let end =
                "is a learned transform of the first channels as they stand: leave init.sort-channels out";
            assert!(
                text.starts_with(&format!("read {}: `", path.display())) && text.ends_with(end),
                "{text}"
            );
        }
    }
}

#[test]
fn a_stage_sorts_what_it_opens() {
    let stage =
        |dimension, sort_channels| elastic_trainer::config::Stage { sort_channels, ..opening(dimension, 2) };
    let of = |sort| {
        let stages = vec![stage(Dimension::Width, sort), stage(Dimension::Depth, false)];
        Model {
            space: SearchSpace::Vit(vit_space(elastic_space::vit::Pooling::Mean, DROPS[0], GRANULARITIES[0])),
            ..model(progressive(base_stage(2), stages))
        }
    };
    let (_one, plain) = folder();
    let (_two, ordered) = folder();
    run(&of(false), &plain, Start::Fresh, |_, _| ()).expect("a run");
    run(&of(true), &ordered, Start::Fresh, |_, _| ()).expect("a run");
    assert_eq!(bytes(&plain.stage("0-base").supernet()), bytes(&ordered.stage("0-base").supernet()));
    assert_ne!(bytes(&plain.supernet()), bytes(&ordered.supernet()));
    // A run that restarts from the base sorts as well, so it ends with the same weights.
    let (_three, again) = folder();
    let init = Init {
        from: ordered.stage("0-base").supernet(),
        map: Vec::new(),
        layout: Layout::Elastic,
        fresh: Vec::new(),
        sort_channels: false,
        after: Some("0-base".to_owned()),
    };
    run(&Model { init: Some(init), ..of(true) }, &again, Start::Fresh, |_, _| ()).expect("a run");
    assert_eq!(bytes(&again.supernet()), bytes(&ordered.supernet()));
}

#[test]
fn stages_that_have_nothing_to_sort() {
    let mut depth = opening(Dimension::Depth, 2);
    depth.sort_channels = true;
    let mut joint = training();
    crate::support::only_stage(&mut joint).sort_channels = true;
    for (training, at) in
        [(progressive(base_stage(2), vec![depth]), "progressive.stages.0"), (joint, "joint")]
    {
        let error = model(training).validate().expect_err(at).to_string();
        let expected = format!(
            "training.scheme.{at}.sort-channels: leave it out, it sorts what opens where `open` is width or heads; \
             weights that a run begins with are sorted by init.sort-channels"
        );
        assert_eq!(error, expected);
    }
}
