//! The BERT encoder: weight sharing, padding, transforms that begin as nothing, training, and another's weights.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use elastic_space::bert::{BertLayer, BertPooling, BertSpace, BertSubnet};
use elastic_space::choices::{DepthChoices, DropPolicy, Granularity, TransformKind, WidthChoices};
use elastic_space::{Array, Dimension, SearchSpace, Seed, Subnet, Weights};
use elastic_trainer::init::{self, Init, Layout, Rename};
use elastic_trainer::supernet::Network;
use elastic_trainer::train::Start;
use elastic_trainer::{Model, Supernet, parameters};

use crate::runs::{folder, log, run, without_times};
use crate::support::{
    DROPS, GRANULARITIES, KINDS, bert_space, draw, images, leading, model, supernet, training, worst,
};

const POOLINGS: [BertPooling; 2] = [BertPooling::Pooler, BertPooling::Mean];

fn transformed(space: &BertSpace, kind: TransformKind) -> SearchSpace {
    let transforms = [Dimension::Width, Dimension::Heads, Dimension::Embedding].map(|d| (d, kind)).into();
    SearchSpace::Bert(BertSpace { transforms, ..space.clone() })
}

/// A supernet of one network, whose layers are all like this one.
fn fresh(space: &BertSpace, subnet: &BertSubnet, like: BertLayer) -> Supernet {
    let one = |choice: usize| WidthChoices { choices: vec![choice], per: Granularity::Layer };
    let space = BertSpace {
        embed_dim: vec![subnet.embed_dim],
        depth: DepthChoices { choices: vec![subnet.layers.len()], drop: DropPolicy::Prefix },
        heads: one(like.heads),
        mlp_width: one(like.mlp_width),
        stages: Vec::new(),
        ..space.clone()
    };
    Supernet::new(SearchSpace::Bert(space), Seed(99), &Device::flex())
}

/// The subnet's tensor of a standalone network in the supernet's layout.
fn unfolded(name: &str, mut array: Array) -> Array {
    if name.contains(".qkv.") {
        let inner = array.shape.pop().expect("a projection has features") / 3;
        array.shape.extend([3, inner]);
    }
    array
}

/// A supernet that is exactly one network: no slice in it leaves anything out.
fn standalone(space: &BertSpace, subnet: &BertSubnet, weights: &Weights) -> (Supernet, Subnet) {
    let supernet = fresh(space, subnet, subnet.layers[0]);
    let Network::Bert(mut bert) = supernet.network else { panic!("a BERT encoder") };
    for (position, &layer) in subnet.layers.iter().enumerate() {
        let Network::Bert(like) = fresh(space, subnet, layer).network else { panic!("a BERT encoder") };
        bert.blocks[position] = like.blocks.into_iter().nth(position).expect("as many layers");
    }
    let weights = weights.iter().map(|(name, array)| (name.clone(), unfolded(name, array.clone()))).collect();
    let network =
        parameters::replace(Network::Bert(bert), &weights).expect("names and shapes of the extracted");
    let renumbered = subnet.layers.iter().enumerate().map(|(index, layer)| BertLayer { index, ..*layer });
    let subnet = Subnet::Bert(BertSubnet { layers: renumbered.collect(), ..*subnet });
    (Supernet { network, ..supernet }, subnet)
}

#[test]
fn a_subnet_is_its_standalone_network() {
    let mut subnets = 0;
    for pooling in POOLINGS {
        for (drop, per) in DROPS.into_iter().flat_map(|drop| GRANULARITIES.map(|per| (drop, per))) {
            let bert = bert_space(pooling, drop, per);
            let number = subnets as usize / 7;
            let space = transformed(&bert, KINDS[(number + number / 3) % 3]);
            space.validate().expect("a space");
            let shared = supernet(space.clone(), 5, &Device::flex());
            let texts = images(&space, 3, 8);
            for subnet in draw(&space, 5, 40 + subnets).into_iter().chain([space.smallest(), space.largest()])
            {
                let Subnet::Bert(sizes) = &subnet else { panic!("a BERT encoder") };
                let inside = shared.logits(&texts, &subnet);
                assert_eq!(inside.shape, [3, 3], "{subnet}");
                let weights = shared.extract(&subnet);
                let shapes: Vec<_> =
                    weights.iter().map(|(name, array)| (name.clone(), array.shape.clone())).collect();
                let mut expected = space.shape(&subnet).tensors();
                expected.sort();
                assert_eq!(shapes, expected, "{subnet}");
                let (alone, whole) = standalone(&bert, sizes, &weights);
                let difference = worst(&inside.data, &alone.logits(&texts, &whole).data);
                assert!(difference <= 2e-6, "{pooling:?} {subnet}: {difference} from the standalone network");
                subnets += 1;
            }
        }
    }
    assert!(subnets >= 50, "{subnets} subnets");
}

#[test]
fn extracted_tensors_are_leading_parts() {
    let space = SearchSpace::Bert(bert_space(BertPooling::Pooler, DropPolicy::Any, Granularity::Layer));
    let shared = supernet(space.clone(), 2, &Device::flex());
    let full = parameters::collect(&shared.network);
    for subnet in draw(&space, 20, 3) {
        let Subnet::Bert(sizes) = &subnet else { panic!("a BERT encoder") };
        for (name, array) in shared.extract(&subnet) {
            let mut parts: Vec<String> = name.split('.').map(str::to_owned).collect();
            if parts[0] == "blocks" {
                let position: usize = parts[1].parse().expect("a number");
                parts[1] = sizes.layers[position].index.to_string();
            }
            let whole = &full[&parts.join(".")];
            let array = unfolded(&name, array);
            let expected: Vec<f32> =
                leading(&whole.shape, &array.shape).into_iter().map(|at| whole.data[at]).collect();
            assert_eq!(array.data, expected, "{subnet}: {name}");
        }
    }
}

#[test]
fn padding_changes_nothing_whatever_stands_there() {
    for pooling in POOLINGS {
        let space = SearchSpace::Bert(bert_space(pooling, DropPolicy::Any, Granularity::Layer));
        let shared = supernet(space.clone(), 3, &Device::flex());
        let batch = images(&space, 5, 4);
        let tokens = batch.shape[3];
        let changed = {
            let mut batch = batch.clone();
            for text in batch.data.chunks_mut(3 * tokens) {
                for token in 0..tokens {
                    if text[tokens + token] == 0.0 {
                        (text[token], text[2 * tokens + token]) = (22.0 - text[token], 1.0);
                    }
                }
            }
            batch
        };
        assert_ne!(batch, changed);
        for subnet in draw(&space, 5, 5) {
            let together = shared.logits(&batch, &subnet);
            assert!(worst(&together.data, &shared.logits(&changed, &subnet).data) <= 1e-6, "{subnet}");
            for (index, text) in batch.data.chunks(3 * tokens).enumerate() {
                // Alone, a text is cut to its own length.
                let alone = Array { shape: vec![1, 3, 1, tokens], data: text.to_vec() };
                let difference =
                    worst(&shared.logits(&alone, &subnet).data, &together.data[3 * index..][..3]);
                assert!(difference <= 1e-6, "{subnet}: text {index} differs by {difference}");
            }
        }
    }
}

#[test]
fn every_token_position_and_segment_counts() {
    let space = SearchSpace::Bert(bert_space(BertPooling::Mean, DropPolicy::Any, Granularity::Layer));
    let shared = supernet(space.clone(), 3, &Device::flex());
    let batch = images(&space, 1, 4);
    let logits = |data: &[f32]| {
        shared.logits(&Array { shape: batch.shape.clone(), data: data.to_vec() }, &space.largest()).data
    };
    let first = logits(&batch.data);
    for at in (0..7).chain(14..21) {
        let mut data = batch.data.clone();
        data[at] = if at < 7 { 22.0 - data[at] } else { 1.0 - data[at] };
        if data[at] != batch.data[at] {
            assert!(worst(&logits(&data), &first) > 1e-4, "value {at}");
        }
    }
    let mut swapped = batch.data.clone();
    swapped.swap(0, 6);
    swapped.swap(14, 20);
    assert!(worst(&logits(&swapped), &first) > 1e-4, "the order of the tokens");
}

#[test]
fn gradients_reach_every_parameter_of_the_largest() {
    let space = SearchSpace::Bert(bert_space(BertPooling::Pooler, DropPolicy::Any, Granularity::Layer));
    let device = Device::flex().autodiff();
    let shared = supernet(space.clone(), 6, &device);
    let Array { shape, data } = images(&space, 4, 1);
    let logits = shared.forward(Tensor::from_data(TensorData::new(data, shape), &device), &space.largest());
    let gradients = logits.powi_scalar(2).sum().backward();
    let Network::Bert(bert) = &shared.network else { panic!("a BERT encoder") };
    let tables = [&bert.embeddings.tokens, &bert.embeddings.positions, &bert.embeddings.segments];
    for (table, name) in tables.into_iter().zip(["tokens", "positions", "segments"]) {
        let gradient = table.val().grad(&gradients).expect(name);
        let values: Vec<f32> = gradient.into_data().try_to_vec().expect("floats");
        assert!(values.iter().any(|value| *value != 0.0), "{name}");
    }
    assert!(bert.blocks[2].attn.qkv.weight.val().grad(&gradients).is_some());
    assert!(bert.pooler.as_ref().is_some_and(|pooler| pooler.weight.val().grad(&gradients).is_some()));
}

#[test]
fn transforms_begin_as_nothing() {
    let bert = bert_space(BertPooling::Mean, DropPolicy::Any, Granularity::Layer);
    let plain = SearchSpace::Bert(bert.clone());
    let network = Supernet::new(plain.clone(), Seed(4), &Device::flex());
    let texts = images(&plain, 4, 2);
    for kind in KINDS {
        let other = Supernet::new(transformed(&bert, kind), Seed(4), &Device::flex());
        for subnet in draw(&plain, 8, 9) {
            let difference =
                worst(&other.logits(&texts, &subnet).data, &network.logits(&texts, &subnet).data);
            assert!(difference <= 1e-6, "{kind:?} {subnet}: {difference}");
        }
    }
}

#[test]
fn texts_train_and_a_run_is_the_same_again() {
    let space = SearchSpace::Bert(bert_space(BertPooling::Pooler, DropPolicy::Any, Granularity::Layer));
    let mut model = Model { space, ..model(training()) };
    (model.data.mean, model.data.std) = (Vec::new(), Vec::new());
    let trained = || {
        let (_temporary, folder) = folder();
        run(&model, &folder, Start::Fresh, |_, _| ()).expect("a run");
        without_times(&log(&folder))
    };
    let first = trained();
    assert!(!first.is_empty());
    assert_eq!(trained(), first);
}

/// The supernet's weights as the authors' code names and lays them out, with more positions than are needed.
fn theirs(weights: &Weights) -> Vec<(String, Array)> {
    let mut tensors = Vec::new();
    let transposed = |array: &Array| {
        let [rows, columns] = [array.shape[0], array.data.len() / array.shape[0]];
        let data = (0..columns)
            .flat_map(|c| (0..rows).map(move |r| (r, c)))
            .map(|(r, c)| array.data[r * columns + c]);
        Array { shape: vec![columns, rows], data: data.collect() }
    };
    for (name, array) in weights {
        let name = name
            .replace("blocks.", "encoder.layer.")
            .replace("attn.proj", "attention.output.dense")
            .replace("norm1", "attention.output.LayerNorm")
            .replace("mlp.fc1", "intermediate.dense")
            .replace("mlp.fc2", "output.dense")
            .replace("norm2", "output.LayerNorm")
            .replace("embeddings.norm", "embeddings.LayerNorm");
        if name.contains("attn.qkv") {
            let [inner, is_weight] =
                [array.shape[array.shape.len() - 1], usize::from(name.ends_with("weight"))];
            for (index, part) in ["query", "key", "value"].into_iter().enumerate() {
                let rows =
                    array.data.chunks(3 * inner).flat_map(|row| &row[index * inner..][..inner]).copied();
                let part_array =
                    Array { shape: vec![array.data.len() / (3 * inner), inner], data: rows.collect() };
                let part_array = match is_weight {
                    1 => transposed(&part_array),
                    _ => Array { shape: vec![inner], ..part_array },
                };
                tensors.push((name.replace("attn.qkv", &format!("attention.self.{part}")), part_array));
            }
        } else if let Some(part) = name.strip_prefix("embeddings.").filter(|_| !name.contains("LayerNorm")) {
            let mut table = Array { shape: array.shape[1..].to_vec(), data: array.data.clone() };
            if part == "positions" {
                table.data.extend(std::iter::repeat_n(7.0, 2 * table.shape[1]));
                table.shape[0] += 2;
            }
            let theirs =
                BTreeMap::from([("tokens", "word"), ("positions", "position"), ("segments", "token_type")]);
            tensors.push((format!("embeddings.{}_embeddings.weight", theirs[part]), table));
        } else if array.shape.len() == 2 {
            tensors.push((name, transposed(array)));
        } else {
            tensors.push((name, array.clone()));
        }
    }
    tensors
}

/// What models/bert-minilm.yaml has.
fn map() -> Vec<Rename> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/bert-minilm.yaml");
    Model::read(path.as_ref()).expect("a model file").init.expect("it begins with weights").map
}

#[test]
fn another_code_s_weights_give_the_same_network() {
    let space = SearchSpace::Bert(bert_space(BertPooling::Mean, DropPolicy::Any, Granularity::Layer));
    let shared = supernet(space.clone(), 8, &Device::flex());
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    let tensors = theirs(&parameters::collect(&shared.network));
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, array)| (name, array.shape, array.data.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let views = bytes.iter().map(|(name, shape, data)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), data);
        (name.as_str(), view.expect("a tensor"))
    });
    safetensors::serialize_to_file(views, None, &path).expect("it can be written");
    let init = Init {
        from: path,
        map: map(),
        layout: Layout::Pytorch,
        fresh: Vec::new(),
        sort_channels: false,
        after: None,
    };
    let other = Supernet::new(space.clone(), Seed(1), &Device::flex());
    let weights = init::weights(&init, &other.network, &space).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(weights, parameters::collect(&shared.network));
    // One of three parts is missing: the others are named as they came.
    let without = Init {
        map: [map(), vec![Rename { from: r".*0\.attn\.key.*".into(), to: String::new() }]].concat(),
        ..init
    };
    let error = init::weights(&without, &other.network, &space).expect_err("a part is missing").to_string();
    assert!(
        error.contains("blocks.0.attn.query.weight") && error.contains("blocks.0.attn.qkv.weight"),
        "{error}"
    );
}
