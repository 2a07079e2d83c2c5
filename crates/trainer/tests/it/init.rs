//! Weights of a file to begin with: layouts, renaming, and everything that does not fit.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use elastic_space::choices::TransformKind;
use elastic_space::vit::{Pooling, VitSpace};
use elastic_space::{Array, Dimension, SearchSpace, Subnet, Weights};
use elastic_trainer::checkpoint::{Trained, save_supernet};
use elastic_trainer::init::{Init, Layout, Rename, weights};
use elastic_trainer::{Supernet, parameters};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tempfile::TempDir;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, TensorProto};

use crate::onnx::{constants, encode};
use crate::support::{self, DROPS, GRANULARITIES, POOLINGS, images, supernet, vit_space, worst};

fn init(from: &Path) -> Init {
    Init {
        from: from.to_owned(),
        map: Vec::new(),
        layout: Layout::Elastic,
        fresh: Vec::new(),
        sort_channels: false,
        after: None,
    }
}

fn rename(from: &str, to: &str) -> Rename {
    Rename { from: from.to_owned(), to: to.to_owned() }
}

fn vit_of(space: &SearchSpace) -> &VitSpace {
    let SearchSpace::Vit(vit) = space else { panic!("a vision transformer") };
    vit
}

/// The weights of a fresh supernet that begins with a file; another seed than that of the file's network.
fn begin(init: &Init, space: &SearchSpace) -> Result<Weights, String> {
    let fresh = supernet(space.clone(), 77, &Device::flex());
    weights(init, &fresh.network, space).map_err(|error| error.to_string())
}

fn file(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("a file");
    (folder, path)
}

/// A safetensors file of tensors with their types.
fn safetensors(tensors: &[(String, Dtype, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        let view = TensorView::new(*dtype, shape.clone(), bytes).expect("the bytes fill the shape");
        (name.as_str(), view)
    });
    safetensors::serialize(views, None).expect("tensors can be encoded")
}

fn plain(weights: &Weights) -> Vec<(String, Dtype, Vec<usize>, Vec<u8>)> {
    let bytes = |array: &Array| array.data.iter().flat_map(|value| value.to_le_bytes()).collect();
    weights.iter().map(|(name, a)| (name.clone(), Dtype::F32, a.shape.clone(), bytes(a))).collect()
}

/// A supernet's tensors as timm's `VisionTransformer` holds them, index by index.
fn timm(weights: &Weights, space: &VitSpace) -> Weights {
    let patch = space.patch_size;
    let turn = |(name, array): (&String, &Array)| {
        let (shape, at): (Vec<usize>, Box<dyn Fn(usize) -> usize>) = match array.shape.as_slice() {
            [_, embed] if name.starts_with("patch_embed") => {
                let (embed, area) = (*embed, patch * patch);
                let values = space.channels * area;
                (
                    vec![embed, space.channels, patch, patch],
                    Box::new(move |i| i % values * embed + i / values),
                )
            }
            [inputs, 3, inner] => {
                let (inputs, outputs) = (*inputs, 3 * inner);
                (vec![outputs, inputs], Box::new(move |i| i % inputs * outputs + i / inputs))
            }
            [3, inner] if name.ends_with("qkv.bias") => (vec![3 * inner], Box::new(|i| i)),
            [inputs, outputs] if name.ends_with(".weight") => {
                let (inputs, outputs) = (*inputs, *outputs);
                (vec![outputs, inputs], Box::new(move |i| i % inputs * outputs + i / inputs))
            }
            shape => (shape.to_vec(), Box::new(|i| i)),
        };
        let data = (0..array.data.len()).map(|i| array.data[at(i)]).collect();
        (name.clone(), Array { shape, data })
    };
    weights.iter().map(turn).collect()
}

/// The tensors of an exported file, as the exporter writes a subnet: queries scaled, tables without their
/// leading axis.
fn exported(supernet: &Supernet, subnet: &Subnet) -> Weights {
    let mut weights = supernet.extract(subnet);
    let scale = (vit_of(&supernet.space).head_dim as f64).powf(-0.5) as f32;
    for (name, array) in &mut weights {
        if name.contains(".qkv.") {
            let outputs = array.shape[array.shape.len() - 1];
            let fold = |row: &mut [f32]| row[..outputs / 3].iter_mut().for_each(|value| *value *= scale);
            array.data.chunks_mut(outputs).for_each(fold);
        }
        if name == "pos_embed" || name == "cls_token" {
            array.shape.remove(0);
        }
    }
    weights.insert("gelu.half".to_owned(), Array { shape: vec![], data: vec![0.5] });
    weights
}

fn onnx(producer: &str, weights: &Weights, subnet: Option<&Subnet>) -> Vec<u8> {
    let mut initializer = constants(weights);
    initializer.push(TensorProto {
        name: "int64.1_2".to_owned(),
        data_type: DataType::Int64 as i32,
        dims: vec![2],
        int64_data: vec![1, 2],
        ..TensorProto::default()
    });
    let graph = GraphProto { name: "vit".to_owned(), initializer, ..GraphProto::default() };
    let json = |subnet| serde_json::to_string(subnet).expect("a subnet as JSON");
    let metadata: Vec<(&str, String)> = subnet.map(|s| ("elastic.subnet", json(s))).into_iter().collect();
    encode(producer, graph, &metadata)
}

fn spaces() -> Vec<SearchSpace> {
    POOLINGS.map(|pooling| SearchSpace::Vit(vit_space(pooling, DROPS[0], GRANULARITIES[0]))).to_vec()
}

fn trained() -> Trained {
    Trained { stage: "joint".to_owned(), step: 3, open: Default::default() }
}

#[test]
fn our_supernet_comes_back() {
    for space in spaces() {
        let (_folder, path) = file("supernet.safetensors", b"");
        let made = supernet(space.clone(), 4, &Device::flex());
        save_supernet(&path, &space, &made.network, &trained()).expect("a supernet's file");
        assert_eq!(begin(&init(&path), &space).expect("it fits"), parameters::collect(&made.network));
    }
}

#[test]
fn a_file_in_timms_layout_gives_the_same_logits() {
    for space in spaces() {
        let made = supernet(space.clone(), 5, &Device::flex());
        let tensors = timm(&parameters::collect(&made.network), vit_of(&space));
        let tensors: Weights = tensors.into_iter().map(|(n, a)| (format!("model.{n}"), a)).collect();
        let mut content = plain(&tensors);
        content.push(("model.steps".to_owned(), Dtype::I64, vec![1], vec![0; 8]));
        let (_folder, path) = file("timm.safetensors", &safetensors(&content));
        let init = Init {
            map: vec![rename("^model\\.", ""), rename("^steps$", "")],
            layout: Layout::Pytorch,
            ..init(&path)
        };
        let found = Supernet::from_weights(space.clone(), &begin(&init, &space).expect("it fits"));
        let (found, images) = (found.expect("all tensors"), images(&space, 3, 8));
        for subnet in [space.largest(), space.smallest()] {
            assert_eq!(found.logits(&images, &subnet), made.logits(&images, &subnet), "{subnet}");
        }
    }
}

#[test]
fn transforms_that_a_file_lacks_stay_as_they_are() {
    let plain = vit_space(Pooling::Mean, DROPS[0], GRANULARITIES[0]);
    let transforms = [(Dimension::Width, TransformKind::Linear)].into();
    let transformed = SearchSpace::Vit(VitSpace { transforms, ..plain.clone() });
    let plain = SearchSpace::Vit(plain);
    let save = |space: &SearchSpace| {
        let (folder, path) = file("supernet.safetensors", b"");
        let made = supernet(space.clone(), 4, &Device::flex());
        save_supernet(&path, space, &made.network, &trained()).expect("a supernet's file");
        (folder, path, parameters::collect(&made.network))
    };
    let (_folder, path, tensors) = save(&plain);
    let fresh = Supernet::new(transformed.clone(), elastic_space::Seed(1), &Device::flex());
    let found = weights(&init(&path), &fresh.network, &transformed).expect("it fits");
    let fresh = parameters::collect(&fresh.network);
    assert!(fresh.len() > tensors.len(), "the space has transforms");
    for (name, array) in &fresh {
        assert_eq!(found[name], *tensors.get(name).unwrap_or(array), "{name}");
    }
    assert_eq!(found.len(), fresh.len());
    // The other way round they are too many.
    let (_folder, path, tensors) = save(&transformed);
    assert_eq!(begin(&init(&path), &transformed).expect("it fits"), tensors);
    let surplus: Vec<&str> =
        tensors.keys().map(String::as_str).filter(|n| n.contains(".transforms.")).collect();
    let text = begin(&init(&path), &plain).expect_err("the space has no transforms");
    let expected = format!("read {}: unknown tensors: {}; rename ", path.display(), surplus.join(", "));
    assert!(text.starts_with(&expected), "{text}");
}

#[test]
fn shorter_floats_are_widened() {
    let space = support::space();
    let mut expected = parameters::collect(&supernet(space.clone(), 6, &Device::flex()).network);
    // Both 16-bit types hold these numbers exactly.
    expected.values_mut().flat_map(|a| &mut a.data).for_each(|v| *v = (*v * 64.0).round() / 64.0);
    for (dtype, bits) in [
        (Dtype::F16, (|v| burn::tensor::f16::from_f32(v).to_bits()) as fn(f32) -> u16),
        (Dtype::BF16, |v| burn::tensor::bf16::from_f32(v).to_bits()),
    ] {
        let bytes = |a: &Array| a.data.iter().flat_map(|&value| bits(value).to_le_bytes()).collect();
        let content: Vec<_> =
            expected.iter().map(|(name, a)| (name.clone(), dtype, a.shape.clone(), bytes(a))).collect();
        let (_folder, path) = file("half.safetensors", &safetensors(&content));
        assert_eq!(begin(&init(&path), &space).expect("it fits"), expected, "{dtype:?}");
    }
}

#[test]
fn an_exported_largest_subnet_comes_back() {
    for space in spaces() {
        let made = supernet(space.clone(), 7, &Device::flex());
        let largest = space.largest();
        let (_folder, path) =
            file("largest.onnx", &onnx("elastic", &exported(&made, &largest), Some(&largest)));
        let found = begin(&init(&path), &space).expect("it fits");
        for (name, array) in parameters::collect(&made.network) {
            assert_eq!(found[&name].shape, array.shape, "{name}");
            let limit = if name.contains(".qkv.") { 1e-7 } else { 0.0 };
            assert!(worst(&found[&name].data, &array.data) <= limit, "{name}");
        }
        let found = Supernet::from_weights(space.clone(), &found).expect("all tensors");
        let images = images(&space, 3, 9);
        let difference = worst(&found.logits(&images, &largest).data, &made.logits(&images, &largest).data);
        assert!(difference <= 1e-6, "{difference}");
    }
}

#[test]
fn another_programs_onnx_file_is_taken_as_it_is() {
    let space = support::space();
    let made = parameters::collect(&supernet(space.clone(), 8, &Device::flex()).network);
    let (_folder, path) = file("model.onnx", &onnx("another program", &made, None));
    assert_eq!(begin(&init(&path), &space).expect("it fits"), made);
    let turned = timm(&made, vit_of(&space));
    let (_folder, path) = file("model.onnx", &onnx("pytorch", &turned, None));
    let init = Init { layout: Layout::Pytorch, ..init(&path) };
    assert_eq!(begin(&init, &space).expect("it fits"), made);
}

#[test]
fn every_tensor_that_does_not_fit_is_listed() {
    let space = support::space();
    let tensors = parameters::collect(&supernet(space.clone(), 9, &Device::flex()).network);
    let mut content = plain(&tensors);
    content.retain(|(name, ..)| name != "blocks.0.norm1.bias" && name != "norm.weight");
    for (name, dtype, shape, bytes) in &mut content {
        match name.as_str() {
            "head.bias" => *name = "head.offset".to_owned(),
            "head.weight" => shape.reverse(),
            "cls_token" => *shape = vec![13, 1],
            "norm.bias" => (*dtype, *bytes) = (Dtype::I64, vec![0; 8 * 13]),
            _ => {}
        }
    }
    content.push(("extra".to_owned(), Dtype::U8, vec![1], vec![0]));
    let (_folder, path) = file("odd.safetensors", &safetensors(&content));
    let remedy = "rename tensors by init.map, or leave them out by renaming them to nothing, and say by init.layout \
                  how they are laid out";
    let expected = format!(
        "read {}: unknown tensors: extra, head.offset; missing tensors: blocks.0.norm1.bias, head.bias, norm.weight; \
         misshapen tensors: cls_token is [13, 1] instead of [1, 1, 13], head.weight is [3, 13] instead of [13, 3]; \
         tensors that are no floats of 16 or 32 bits: norm.bias is I64; {remedy}",
        path.display()
    );
    assert_eq!(begin(&init(&path), &space), Err(expected));
    // What is expected is said in the file's own layout.
    let turned = timm(&tensors, vit_of(&space));
    let (_folder, path) = file("timm.safetensors", &safetensors(&plain(&turned)[..3]));
    let text = begin(&Init { layout: Layout::Pytorch, ..init(&path) }, &space).expect_err("most is missing");
    let missing: Vec<&str> = turned.keys().skip(3).map(String::as_str).collect();
    let expected = format!("missing tensors: {}; ", missing.join(", "));
    assert_eq!(text, format!("read {}: {expected}{remedy}", path.display()));
    let mut kernel = plain(&turned);
    kernel.retain(|(name, ..)| name != "patch_embed.proj.weight");
    kernel.push(("patch_embed.proj.weight".to_owned(), Dtype::F32, vec![1], vec![0; 4]));
    let (_folder, path) = file("timm.safetensors", &safetensors(&kernel));
    let text = begin(&Init { layout: Layout::Pytorch, ..init(&path) }, &space).expect_err("misshapen");
    let expected = "misshapen tensors: patch_embed.proj.weight is [1] instead of [13, 2, 2, 2]; ";
    assert_eq!(text, format!("read {}: {expected}{remedy}", path.display()));
}

#[test]
fn networks_that_differ_where_no_tensor_shows_it() {
    let made_for = |vit: VitSpace| {
        let space = SearchSpace::Vit(vit);
        let (folder, path) = file("supernet.safetensors", b"");
        let made = supernet(space.clone(), 4, &Device::flex());
        save_supernet(&path, &space, &made.network, &trained()).expect("a supernet's file");
        (folder, path)
    };
    let vit = vit_space(Pooling::Mean, DROPS[0], GRANULARITIES[0]);
    let mut other = VitSpace { head_dim: 1, ..vit.clone() };
    other.heads.choices = vec![9];
    let (_folder, path) = made_for(other);
    let text = begin(&init(&path), &SearchSpace::Vit(vit.clone())).expect_err("other heads");
    let expected = format!(
        "read {}: its tensors fit, but it is another network: its layer `blocks.0.attn",
        path.display()
    );
    assert!(text.starts_with(&expected), "{text}");
    let (_folder, path) = made_for(vit.clone());
    let wrong = Init { layout: Layout::Pytorch, ..init(&path) };
    let text = begin(&wrong, &SearchSpace::Vit(vit)).expect_err("our own file");
    let expected = "elastic wrote it, so init.layout must be `elastic`, or be left out";
    assert_eq!(text, format!("read {}: {expected}", path.display()));
}

#[test]
fn exported_files_that_are_refused() {
    let space = support::space();
    let made = supernet(space.clone(), 3, &Device::flex());
    let (largest, smallest) = (space.largest(), space.smallest());
    let whole = onnx("elastic", &exported(&made, &largest), Some(&largest));
    let bare = onnx("elastic", &exported(&made, &largest), None);
    let small = onnx("elastic", &exported(&made, &smallest), Some(&smallest));
    for (bytes, expected) in [
        (
            small.as_slice(),
            format!(
                "it holds the subnet `{smallest}`, a supernet begins with its largest one, `{largest}`; export that, \
                 or change `space`"
            ),
        ),
        (
            &bare,
            "elastic.subnet in its metadata is damaged or from another version: it is not there; make the file anew"
                .to_owned(),
        ),
    ] {
        let (_folder, path) = file("model.onnx", bytes);
        assert_eq!(begin(&init(&path), &space), Err(format!("read {}: {expected}", path.display())));
    }
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        let (_folder, path) = file("model.onnx", &whole[..length]);
        let text = begin(&init(&path), &space).expect_err("it is cut short");
        assert!(text.starts_with(&format!("read {}", path.display())), "{length}: {text}");
        assert!(text.ends_with("the file is damaged or cut short: copy it anew"), "{length}: {text}");
    }
}

#[test]
fn files_that_cannot_be_read() {
    let space = support::space();
    let whole =
        safetensors(&plain(&parameters::collect(&supernet(space.clone(), 1, &Device::flex()).network)));
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        let (_folder, path) = file("cut.safetensors", &whole[..length]);
        let text = begin(&init(&path), &space).expect_err("it is cut short");
        assert!(text.starts_with(&format!("read {}: ", path.display())), "{length}: {text}");
        assert!(text.ends_with("the file is damaged or cut short: copy it anew"), "{length}: {text}");
    }
    for name in ["no/such/file.safetensors", "no/such/file.onnx", "no/such/file.pth"] {
        let text = begin(&init(Path::new(name)), &space).expect_err("there is no such file");
        assert!(text.starts_with(&format!("read {name}: ")), "{text}");
    }
}

#[test]
fn what_is_refused_before_a_file_is_opened() {
    let path = Path::new("no/such/file.safetensors");
    assert!(init(path).validate().is_ok());
    for (init, expected) in [
        (
            init(Path::new("runs/x/weights.ckpt")),
            "init.from is runs/x/weights.ckpt: its name must end in .safetensors, .onnx, .pth or .pt; convert another \
             file first, for instance by Python's safetensors.torch.save_file",
        ),
        (
            Init { fresh: vec!["head.*".to_owned(), "(head".to_owned()], ..init(path) },
            "init.fresh[1] is `(head`, which is no regular expression: unclosed group",
        ),
        (
            Init { map: vec![rename("a", "b"), rename("[", "")], ..init(path) },
            "init.map[1].from is `[`, which is no regular expression: unclosed character class",
        ),
        (
            Init { map: vec![rename("(.)", "$1x")], ..init(path) },
            "init.map[0].to is `$1x`, but `(.)` has no group `1x`; a group before a letter, a digit or `_` is written \
             ${1}, and a dollar sign $$",
        ),
    ] {
        assert_eq!(init.validate().expect_err(expected).to_string(), expected);
        assert_eq!(begin(&init, &support::space()), Err(expected.to_owned()));
    }
}

#[test]
fn names_that_become_one() {
    let space = support::space();
    let tensors = parameters::collect(&supernet(space.clone(), 1, &Device::flex()).network);
    let (_folder, path) = file("file.safetensors", &safetensors(&plain(&tensors)));
    let init = Init { map: vec![rename("^head\\.weight$", "head.bias")], ..init(&path) };
    let expected = "by init.map, head.bias, head.weight all become head.bias";
    assert_eq!(begin(&init, &space), Err(format!("read {}: {expected}", path.display())));
}
