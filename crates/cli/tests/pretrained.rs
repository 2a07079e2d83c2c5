//! A file that the exporter wrote, as the start of a run and as its teacher.

use std::collections::BTreeMap;
use std::path::PathBuf;

use elastic_exporter::{Batch, Form, GraphOptions, Sequence, build};
use elastic_space::choices::{DepthChoices, DropPolicy, Granularity, WidthChoices};
use elastic_space::random::Purpose;
use elastic_space::swin::{SwinSpace, SwinStageChoices};
use elastic_space::vit::{Pooling, VitSpace};
use elastic_space::{Array, SearchSpace, Seed};
use elastic_trainer::init::{Init, Layout, weights};
use elastic_trainer::teacher::OnnxTeacher;
use elastic_trainer::{Device, Supernet};
use rand::Rng;
use tempfile::TempDir;

const IMAGES: usize = 8;

fn space(pooling: Pooling) -> SearchSpace {
    let per = Granularity::Layer;
    SearchSpace::Vit(VitSpace {
        image_size: 8,
        channels: 3,
        patch_size: 4,
        classes: 5,
        // The attention's factor, 1 / sqrt(7), is not a power of two.
        head_dim: 7,
        pooling,
        embed_dim: vec![9, 14],
        depth: DepthChoices { choices: vec![1, 2], drop: DropPolicy::Prefix },
        heads: WidthChoices { choices: vec![1, 2], per },
        mlp_width: WidthChoices { choices: vec![6, 13], per },
        stages: Vec::new(),
        transforms: BTreeMap::new(),
    })
}

/// Two stages of two layers; a map of 5 x 5 in shifted windows, and one of 3 x 3.
fn swin_space() -> SearchSpace {
    let choices = |choices: &[usize]| WidthChoices { choices: choices.to_vec(), per: Granularity::Layer };
    let stage = |embed_dim: [usize; 2]| SwinStageChoices {
        embed_dim: embed_dim.to_vec(),
        depth: DepthChoices { choices: vec![1, 2], drop: DropPolicy::Prefix },
        heads: choices(&[1, 2]),
        mlp_width: choices(&[6, 13]),
    };
    SearchSpace::Swin(SwinSpace {
        image_size: 10,
        channels: 3,
        patch_size: 2,
        classes: 5,
        window_size: 3,
        head_dim: 7,
        stages: vec![stage([8, 9]), stage([10, 11])],
        transforms: BTreeMap::new(),
    })
}

/// The largest subnet, as `elastic export` writes it.
fn exported(supernet: &Supernet, batch: Batch) -> (TempDir, PathBuf) {
    let largest = supernet.space.largest();
    let subnet = serde_json::to_string(&largest).expect("a subnet as JSON");
    let metadata = BTreeMap::from([("elastic.subnet".to_owned(), subnet)]);
    let (form, opset) = (Form::Portable, Form::Portable.opset());
    let sequence = Sequence::Fixed;
    let options = GraphOptions { batch, sequence, form, opset, class_names: Vec::new(), metadata };
    let bytes =
        build(&supernet.space, &largest, &supernet.extract(&largest), &options).expect("the weights fit");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("largest.onnx");
    std::fs::write(&path, bytes).expect("a file");
    (folder, path)
}

fn images(space: &SearchSpace) -> Array {
    let mut rng = Seed(2).generator(Purpose::Measure, 0);
    let shape: Vec<usize> = [IMAGES].into_iter().chain(space.input()).collect();
    let data = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..2.0)).collect();
    Array { shape, data }
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn a_run_begins_with_an_exported_largest_subnet() {
    for space in [space(Pooling::ClassToken), space(Pooling::Mean), swin_space()] {
        for batch in [Batch::Fixed(1), Batch::Dynamic] {
            let made = Supernet::new(space.clone(), Seed(1), &Device::flex());
            let (_folder, path) = exported(&made, batch);
            let fresh = Supernet::new(space.clone(), Seed(9), &Device::flex());
            let init = Init {
                from: path,
                map: Vec::new(),
                layout: Layout::Elastic,
                fresh: Vec::new(),
                sort_channels: false,
                after: None,
            };
            let weights = weights(&init, &fresh.network, &fresh.space).expect("the file fits");
            let found = Supernet::from_weights(fresh.space, &weights).expect("every tensor");
            let images = images(&made.space);
            for subnet in [made.space.largest(), made.space.smallest()] {
                let difference =
                    worst(&found.logits(&images, &subnet).data, &made.logits(&images, &subnet).data);
                assert!(difference <= 1e-6, "{} {batch:?} {subnet}: {difference}", space.family());
            }
        }
    }
}

#[test]
fn an_exported_subnet_teaches() {
    for batch in [Batch::Fixed(1), Batch::Fixed(4), Batch::Dynamic] {
        let made = Supernet::new(space(Pooling::ClassToken), Seed(3), &Device::flex());
        let (_folder, path) = exported(&made, batch);
        let (input, classes) = (made.space.input(), made.space.classes());
        let mut teacher = OnnxTeacher::open(&path, IMAGES, input, classes)
            .unwrap_or_else(|error| panic!("{batch:?}: {error}"));
        let images = images(&made.space);
        let found = teacher.probabilities(&images.data, IMAGES).expect("probabilities");
        let mut expected = made.logits(&images, &made.space.largest()).data;
        for row in expected.chunks_mut(classes) {
            let sum: f32 = row.iter().map(|logit| logit.exp()).sum();
            row.iter_mut().for_each(|value| *value = value.exp() / sum);
        }
        assert_eq!(found.shape, [IMAGES, classes], "{batch:?}");
        assert!(worst(&found.data, &expected) < 1e-5, "{batch:?}");
    }
}
