//! Transforms of a choice: they begin as nothing, learn with their choice alone, and are folded into the
//! weights of a standalone subnet.

use std::collections::BTreeSet;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use elastic_space::choices::TransformKind;
use elastic_space::vit::VitSpace;
use elastic_space::{Dimension, SearchSpace, Seed, Subnet, Weights};
use elastic_trainer::checkpoint::{Trained, load_supernet, save_supernet};
use elastic_trainer::config::{Optimizer, Reduce};
use elastic_trainer::optimizer::adamw;
use elastic_trainer::train::Start;
use elastic_trainer::{Supernet, parameters};

use crate::reference::{self, Tensors};
use crate::runs::{folder, run};
use crate::step::{gradients_of, recipe};
use crate::support::{
    DROPS, GRANULARITIES, KINDS, POOLINGS, batch, draw, images, model, origins, supernet, training,
    transformed, vit_space, worst,
};

const LEARNED: [TransformKind; 2] = [KINDS[1], KINDS[2]];

fn vit() -> VitSpace {
    vit_space(POOLINGS[0], DROPS[1], GRANULARITIES[0])
}

/// The smallest, the largest, and some random subnets.
fn subnets(space: &SearchSpace, seed: u64) -> Vec<Subnet> {
    draw(space, 6, seed).into_iter().chain([space.smallest(), space.largest()]).collect()
}

/// The transforms that a subnet uses, as the name of the layer, the number of the choice and its values.
fn used(space: &SearchSpace, subnet: &Subnet) -> Vec<(String, usize)> {
    let (SearchSpace::Vit(vit), Subnet::Vit(subnet)) = (space, subnet) else {
        panic!("a vision transformer")
    };
    let choice = |choices: &[usize], value: usize| {
        choices.iter().position(|&choice| choice == value).expect("a choice")
    };
    let embedding = choice(&vit.embed_dim, subnet.embed_dim);
    let mut used = vec![("patch_embed.proj".to_owned(), embedding), ("norm".to_owned(), embedding)];
    for layer in &subnet.layers {
        let name = |part: &str| format!("blocks.{}.{part}", layer.index);
        used.extend([(name("norm1"), embedding), (name("norm2"), embedding)]);
        used.push((name("attn.qkv"), choice(&vit.heads.choices, layer.heads)));
        used.push((name("mlp.fc1"), choice(&vit.mlp_width.choices, layer.mlp_width)));
    }
    let largest = |(name, choice): &(String, usize)| {
        let choices = match name {
            name if name.ends_with("qkv") => &vit.heads.choices,
            name if name.ends_with("fc1") => &vit.mlp_width.choices,
            _ => &vit.embed_dim,
        };
        *choice == choices.len() - 1
    };
    used.retain(|entry| !largest(entry));
    used
}

/// A standalone subnet from the definition: the leading part of each weight, then y = s x + t or
/// y = 2 / (1 + exp(-a)) x on every output. `values` are those of `full`.
fn folded(full: &Weights, values: &Tensors, space: &SearchSpace, subnet: &Subnet) -> Tensors {
    let mut tensors = Tensors::new();
    let mut layers = Vec::new();
    for (name, origin) in origins(full, space, subnet) {
        tensors.insert(name.clone(), origin.offsets.iter().map(|&at| values[&origin.name][at]).collect());
        if let (Some(layer), Some(whole)) = (name.strip_suffix(".bias"), origin.name.strip_suffix(".bias")) {
            layers.push((layer.to_owned(), whole.to_owned()));
        }
    }
    let used = used(space, subnet);
    for (layer, whole) in layers {
        let Some((_, choice)) = used.iter().find(|(name, _)| *name == whole) else { continue };
        let parameter = |name: &str| values.get(&format!("{whole}.transforms.choices.{choice}.{name}"));
        let (scale, shift) = match (parameter("scale"), parameter("gate")) {
            (Some(scale), None) => (scale.clone(), parameter("shift").expect("scale and shift").clone()),
            (None, Some(gate)) => {
                (gate.iter().map(|a| 2.0 / (1.0 + (-a).exp())).collect(), vec![0.0; gate.len()])
            }
            _ => panic!("{whole} has no transform of choice {choice}"),
        };
        let weight = tensors.get_mut(&format!("{layer}.weight")).expect("every layer has one");
        weight.iter_mut().enumerate().for_each(|(at, w)| *w *= scale[at % scale.len()]);
        let bias = tensors.get_mut(&format!("{layer}.bias")).expect("every layer has one");
        bias.iter_mut().enumerate().for_each(|(at, b)| *b = *b * scale[at] + shift[at]);
    }
    tensors
}

#[test]
fn transforms_begin_as_nothing() {
    for pooling in POOLINGS {
        let vit = vit_space(pooling, DROPS[1], GRANULARITIES[0]);
        let plain = Supernet::new(SearchSpace::Vit(vit.clone()), Seed(3), &Device::flex());
        let weights = parameters::collect(&plain.network);
        assert!(weights.keys().all(|name| !name.contains("transforms")), "identity has no parameters");
        for kind in LEARNED {
            let with = Supernet::new(transformed(vit.clone(), kind), Seed(3), &Device::flex());
            let all = parameters::collect(&with.network);
            let shared: Weights = all
                .iter()
                .filter(|(name, _)| weights.contains_key(*name))
                .map(|(n, a)| (n.clone(), a.clone()))
                .collect();
            assert_eq!(shared, weights, "{kind:?}: the shared weights are drawn alike");
            // Embedding: patches, three times two norms and the last, for two choices. Heads: two choices a layer,
            // width: one a layer.
            let per_choice = if kind == TransformKind::Linear { 2 } else { 1 };
            assert_eq!(all.len() - weights.len(), per_choice * (8 * 2 + 3 * 2 + 3), "{kind:?}");
            let images = images(&plain.space, 4, 6);
            for subnet in subnets(&plain.space, 12) {
                assert_eq!(
                    with.logits(&images, &subnet),
                    plain.logits(&images, &subnet),
                    "{kind:?}: {subnet}"
                );
                assert_eq!(with.extract(&subnet), plain.extract(&subnet), "{kind:?}: {subnet}");
            }
        }
    }
}

#[test]
fn transforms_are_folded_into_the_weights() {
    for kind in LEARNED {
        for (pooling, per) in POOLINGS.into_iter().zip(GRANULARITIES) {
            let vit = vit_space(pooling, DROPS[1], per);
            let space = transformed(vit.clone(), kind);
            let shared = supernet(space.clone(), 5, &Device::flex());
            let full = parameters::collect(&shared.network);
            let (values, images) = (reference::tensors(&full), images(&space, 3, 7));
            for subnet in subnets(&space, 9) {
                let row = format!("{kind:?} {pooling:?} {subnet}");
                let (extracted, expected) =
                    (shared.extract(&subnet), folded(&full, &values, &space, &subnet));
                assert_eq!(
                    extracted.keys().collect::<Vec<_>>(),
                    expected.keys().collect::<Vec<_>>(),
                    "{row}"
                );
                for (name, array) in &extracted {
                    assert!(worst(&array.data, &expected[name]) <= 1e-6, "{row}: {name}");
                }
                let inside = shared.logits(&images, &subnet);
                let by_loops = reference::logits(&vit, &expected, &images.data).concat();
                let difference = worst(&inside.data, &by_loops);
                assert!(difference <= 3e-6, "{row}: {difference} from the loops");
            }
            // The largest network has no transform, so theirs do not matter to it.
            let plain = parameters::collect(&supernet(SearchSpace::Vit(vit), 5, &Device::flex()).network);
            let only_shared = full
                .iter()
                .filter(|(name, _)| plain.contains_key(*name))
                .map(|(n, a)| (n.clone(), a.clone()))
                .collect();
            let plain =
                Supernet::from_weights(SearchSpace::Vit(vit_space(pooling, DROPS[1], per)), &only_shared)
                    .expect("the same names");
            let (largest, smallest) = (space.largest(), space.smallest());
            assert_eq!(shared.logits(&images, &largest), plain.logits(&images, &largest), "{kind:?}");
            assert_ne!(shared.logits(&images, &smallest), plain.logits(&images, &smallest), "{kind:?}");
        }
    }
}

#[test]
fn a_transform_learns_when_its_choice_is_drawn() {
    const STEP: f64 = 1e-5;
    let mut compared = 0;
    for kind in LEARNED {
        let space = transformed(vit(), kind);
        let shared = supernet(space.clone(), 2, &Device::flex().autodiff());
        let (full, batch) = (parameters::collect(&shared.network), batch(&space, &[2, 0, 1], 4));
        let values = reference::tensors(&full);
        for (index, subnet) in subnets(&space, 3).into_iter().enumerate() {
            let step = recipe(Reduce::Sum, None, 0.0);
            let (_, found) = gradients_of(&shared, &batch, std::slice::from_ref(&subnet), &step);
            let names: BTreeSet<&str> =
                found.keys().filter(|name| name.contains(".transforms.")).map(String::as_str).collect();
            let of = |(layer, choice): &(String, usize)| match kind {
                TransformKind::Linear => {
                    ["scale", "shift"].map(|p| format!("{layer}.transforms.choices.{choice}.{p}")).to_vec()
                }
                _ => vec![format!("{layer}.transforms.choices.{choice}.gate")],
            };
            let expected: Vec<String> = used(&space, &subnet).iter().flat_map(of).collect();
            assert_eq!(names, expected.iter().map(String::as_str).collect(), "{kind:?}: {subnet}");
            let loss = |values: &Tensors| {
                let rows = reference::logits(&vit(), &folded(&full, values, &space, &subnet), &batch.images);
                let target =
                    |label: u8| (0..3).map(|class| f64::from(u8::from(class == label))).collect::<Vec<_>>();
                let of = |(row, &label): (&Vec<f64>, &u8)| reference::cross_entropy(row, &target(label));
                rows.iter().zip(&batch.labels).map(of).sum::<f64>() / 3.0
            };
            // One value of each, another for each subnet.
            for name in expected {
                let at = index % full[&name].data.len();
                let moved = |by: f64| {
                    let mut values = values.clone();
                    values.get_mut(&name).expect("the same names")[at] += by;
                    loss(&values)
                };
                let expected = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                let gradient = f64::from(found[&name].data[at]);
                let error = (gradient - expected).abs() / (1.0 + expected.abs());
                assert!(error < 1e-6, "{subnet}: {name}[{at}] is {gradient}, expected {expected}");
                compared += 1;
            }
        }
    }
    assert!(compared > 100, "{compared} derivatives");
}

#[test]
fn transforms_are_kept_in_the_file() {
    for kind in LEARNED {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let path = temporary.path().join("supernet.safetensors");
        let space = transformed(vit(), kind);
        let shared = supernet(space.clone(), 5, &Device::flex());
        let trained = Trained { stage: "0-joint".into(), step: 1, open: space.dimensions() };
        save_supernet(&path, &space, &shared.network, &trained).expect("a file");
        let loaded = load_supernet(&path).expect("a supernet").supernet;
        assert_eq!(loaded.space, space);
        assert_eq!(parameters::collect(&loaded.network), parameters::collect(&shared.network), "{kind:?}");
        let images = images(&space, 2, 1);
        for subnet in subnets(&space, 5) {
            assert_eq!(
                loaded.logits(&images, &subnet),
                shared.logits(&images, &subnet),
                "{kind:?}: {subnet}"
            );
        }
    }
}

/// Gradients of zero for all parameters.
struct Zeros(GradientsParams);

impl ModuleVisitor for Zeros {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.register(param.id, Tensor::<D>::zeros(param.val().dims(), &Device::flex()));
    }
}

#[test]
fn transforms_do_not_decay() {
    for kind in LEARNED {
        let mut shared = supernet(transformed(vit(), kind), 5, &Device::flex().autodiff());
        let before = parameters::collect(&shared.network);
        let mut zeros = Zeros(GradientsParams::new());
        shared.network.visit(&mut zeros);
        let config = Optimizer { weight_decay: 0.5, beta1: 0.9, beta2: 0.99 };
        shared.network = adamw(&config, &shared.network).step(0.1, shared.network, zeros.0, 1.0);
        for (name, array) in parameters::collect(&shared.network) {
            let matrix = name.ends_with(".weight") && array.shape.len() > 1;
            assert_eq!(array == before[&name], !matrix, "{kind:?}: {name}");
        }
    }
}

#[test]
fn a_run_trains_the_transforms() {
    for kind in LEARNED {
        let mut model = model(training());
        model.space = transformed(vit(), kind);
        let (_temporary, folder) = folder();
        run(&model, &folder, Start::Fresh, |_, _| ()).expect("a run");
        let trained = load_supernet(&folder.supernet()).expect("a supernet").supernet;
        let first =
            parameters::collect(&Supernet::new(model.space.clone(), model.seed(), &Device::flex()).network);
        let moved: Vec<String> = parameters::collect(&trained.network)
            .into_iter()
            .filter(|(name, array)| name.contains(".transforms.") && *array != first[name])
            .map(|(name, _)| name)
            .collect();
        for part in ["patch_embed.proj", "norm1", "attn.qkv", "mlp.fc1"] {
            assert!(moved.iter().any(|name| name.contains(part)), "{kind:?}: {part} is not in {moved:?}");
        }
        let SearchSpace::Vit(vit) = &trained.space else { panic!("a vision transformer") };
        assert_eq!(vit.transform(Dimension::Heads), kind);
    }
}
