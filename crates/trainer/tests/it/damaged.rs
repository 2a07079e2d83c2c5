//! Checkpoints: a round trip, and files that are damaged, foreign or for another search space.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use elastic_space::{Dimension, file};
use elastic_trainer::checkpoint::{
    Progress, Trained, TrainingState, load_state, load_supernet, save_state, save_supernet,
};
use elastic_trainer::config::{Ema, Reduce};
use elastic_trainer::optimizer::adamw;
use elastic_trainer::step::{SoftTargets, StepRecipe, gradients};
use elastic_trainer::{Model, parameters};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{batch, draw, images, model, supernet, training};

/// What the supernet has been through.
fn trained() -> Trained {
    Trained { stage: "2-depth".into(), step: 4, open: [Dimension::Width, Dimension::Depth].into() }
}

/// How far the run is, with no value that a fresh run has.
fn progress() -> Progress {
    Progress {
        step: 4,
        stage: 2,
        stage_step: 1,
        window_steps: 1,
        window_loss: 1.0 / 3.0,
        best: Some(0.1 + 0.2),
        stale: 3,
        healthy: true,
    }
}

/// With averaged weights.
fn averaging() -> Model {
    let mut model = model(training());
    model.training.ema = Some(Ema { decay: 0.9 });
    model
}

/// A file made from another.
type Edit = fn(&[u8]) -> Vec<u8>;

/// A supernet's file and a training state's after one update.
fn files() -> (TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (weights, state) =
        (folder.path().join("supernet.safetensors"), folder.path().join("checkpoint.safetensors"));
    let model = averaging();
    let device = Device::flex().autodiff();
    let mut shared = supernet(model.space.clone(), 4, &device);
    let mut optimizer = adamw(&model.training.optimizer, &shared.network);
    let batch = batch(&model.space, &[0, 1], 1);
    let average = Some(shared.valid().network);
    let recipe = StepRecipe { reduce: Reduce::Sum, label_smoothing: 0.0, soft_targets: SoftTargets::None };
    let result = gradients(&shared, &batch, &[model.space.largest()], &recipe, &device);
    shared.network = optimizer.step(0.01, shared.network, result.expect("finite losses").gradients, 1.0);
    save_supernet(&weights, &model.space, &shared.network, &trained()).expect("a supernet's file");
    let whole = TrainingState { progress: progress(), model, supernet: shared, average, optimizer };
    save_state(&state, &whole).expect("a training state's file");
    (folder, weights, state)
}

/// The error of a supernet's and of a training state's reader for these bytes.
fn refused(bytes: &[u8], readers: &[Reader]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("file.safetensors");
    file::write(&path, bytes).expect("a file");
    let error = |reader: &Reader| {
        let text = match reader {
            Reader::Supernet => load_supernet(&path).map(|_| ()).map_err(|error| error.to_string()),
            Reader::State => {
                load_state(&path, &Device::flex()).map(|_| ()).map_err(|error| error.to_string())
            }
        };
        let text = text.expect_err("the file is refused");
        assert!(text.contains(&path.display().to_string()), "{text}");
        text
    };
    readers.iter().map(error).collect()
}

#[derive(Debug, Clone, Copy)]
enum Reader {
    Supernet,
    State,
}

const BOTH: [Reader; 2] = [Reader::Supernet, Reader::State];

/// The same file with another header.
fn edited(bytes: &[u8], edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let (header, data) = bytes[8..].split_at(length);
    let mut header: Value = serde_json::from_slice(header).expect("a header in JSON");
    edit(&mut header);
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// The same file with another name for a tensor.
fn renamed(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    edited(bytes, |header| {
        let tensors = header.as_object_mut().expect("an object");
        let entry = tensors.remove(from).expect("the tensor is there");
        tensors.insert(to.to_owned(), entry);
    })
}

/// The same file with another text of ours in its header.
fn with_metadata(bytes: &[u8], edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    edited(bytes, |header| {
        let entry = &mut header["__metadata__"]["elastic"];
        let mut value: Value =
            serde_json::from_str(entry.as_str().expect("a text")).expect("JSON in the header");
        edit(&mut value);
        *entry = value.to_string().into();
    })
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("the file is there")
}

#[test]
fn a_supernet_comes_back_bit_for_bit() {
    let (_folder, weights, state) = files();
    let loaded = load_supernet(&weights).expect("a supernet");
    assert_eq!(loaded.sha256, file::sha256(&read(&weights)));
    assert_eq!(loaded.training, trained());
    let resumed = load_state(&state, &Device::flex().autodiff()).expect("a training state");
    assert_eq!(resumed.progress, progress());
    assert_eq!(resumed.model, averaging());
    let average = resumed.average.as_ref().expect("averaged weights");
    let before = supernet(averaging().space, 4, &Device::flex());
    assert_eq!(parameters::collect(average), parameters::collect(&before.network));
    let tensors = parameters::collect(&loaded.supernet.network);
    assert_eq!(parameters::collect(&resumed.supernet.network), tensors);
    let images = images(&resumed.supernet.space, 3, 2);
    for subnet in draw(&resumed.supernet.space, 5, 3) {
        let expected = loaded.supernet.logits(&images, &subnet);
        assert_eq!(resumed.supernet.valid().logits(&images, &subnet), expected, "{subnet}");
    }
    let again = weights.with_extension("again");
    let supernet = &loaded.supernet;
    save_supernet(&again, &supernet.space, &supernet.network, &trained()).expect("a supernet's file");
    assert!(read(&again) == read(&weights), "the same supernet is the same file");
}

#[test]
fn files_that_are_cut_short() {
    let (_folder, weights, state) = files();
    for (path, reader) in [(&weights, Reader::Supernet), (&state, Reader::State)] {
        let whole = read(path);
        let header = u64::from_le_bytes(whole[..8].try_into().expect("eight bytes")) as usize;
        for length in
            [0, 1, 7, 8, 9, 8 + header / 2, 8 + header, 9 + header, whole.len() / 2, whole.len() - 1]
        {
            let text = &refused(&whole[..length], &[reader])[0];
            assert!(text.contains("damaged or cut short: train again, or copy it anew"), "{length}: {text}");
        }
        for longer in [&[whole.clone(), vec![0]].concat()[..], b"not safetensors at all, but long enough"] {
            let text = &refused(longer, &[reader])[0];
            assert!(text.contains("damaged or cut short: train again, or copy it anew"), "{text}");
        }
    }
}

#[test]
fn files_of_others() {
    let (_folder, weights, state) = files();
    let (weights, state) = (read(&weights), read(&state));
    let data = 1.5_f32.to_le_bytes();
    let view = TensorView::new(Dtype::F32, vec![1], &data).expect("one value");
    let foreign = safetensors::serialize([("x", view)], None).expect("a file");
    let schema =
        |bytes: &[u8], name: &'static str| with_metadata(bytes, |value| value["schema"] = name.into());
    for (row, bytes, readers) in [
        ("another program's", foreign, &BOTH[..]),
        ("a training state", state.clone(), &[Reader::Supernet]),
        ("a supernet", weights.clone(), &[Reader::State]),
        ("another version", schema(&weights, "elastic.supernet/v2"), &BOTH),
        ("another version", schema(&state, "elastic.training-state/v0"), &BOTH),
        ("no header", edited(&weights, |header| header["__metadata__"] = json!({})), &BOTH),
        ("a header in prose", edited(&state, |h| h["__metadata__"]["elastic"] = "prose".into()), &BOTH),
        ("a header without schema", edited(&state, |h| h["__metadata__"]["elastic"] = "[1]".into()), &BOTH),
    ] {
        for (text, reader) in refused(&bytes, readers).into_iter().zip(readers) {
            let expected = match reader {
                Reader::Supernet => "it is not an `elastic.supernet/v1` file; `elastic train` writes one",
                Reader::State => "it is not an `elastic.training-state/v1` file; `elastic train` writes one",
            };
            assert!(text.contains(expected), "{row}: {text}");
        }
    }
}

#[test]
fn headers_that_do_not_fit() {
    let (_folder, weights, state) = files();
    let edits: [(&str, Edit, &str); 7] = [
        (
            "a name",
            |b| renamed(b, "head.bias", "head.offset"),
            "tensors are missing: head.bias; the file was made for another",
        ),
        (
            "a shape",
            |b| edited(b, |header| header["head.weight"]["shape"] = json!([3, 13])),
            "tensor head.weight has shape [3, 13], the search space needs [13, 3]; the file was made for another",
        ),
        (
            "a type",
            |b| edited(b, |header| header["head.weight"]["dtype"] = "I32".into()),
            "tensors are missing: head.weight",
        ),
        (
            "a deeper space",
            |b| {
                with_metadata(b, |value| {
                    depth(value).push(4.into());
                    space(value)["stages"] = json!([]);
                })
            },
            "tensors are missing: blocks.3.attn.proj.bias",
        ),
        (
            "a shallower space",
            |b| {
                with_metadata(b, |value| {
                    depth(value).pop();
                    space(value)["stages"] = json!([2]);
                })
            },
            "unknown tensors: blocks.2",
        ),
        (
            "a space without choices",
            |b| with_metadata(b, |value| space(value)["embed-dim"] = json!([])),
            "space.vit: embed-dim has no choices",
        ),
        (
            "half a space",
            |b| with_metadata(b, |value| space(value)["depth"] = json!({})),
            "the file is damaged or from another version",
        ),
    ];
    for (path, reader) in [(weights, Reader::Supernet), (state, Reader::State)] {
        for (row, edit, expected) in &edits {
            let text = &refused(&edit(&read(&path)), &[reader])[0];
            assert!(text.contains(expected), "{row}, {reader:?}: {text}");
        }
    }
}

#[test]
fn optimizers_that_are_damaged() {
    let (_folder, _, state) = files();
    let state = read(&state);
    let length = u64::from_le_bytes(state[..8].try_into().expect("eight bytes")) as usize;
    let header: Value = serde_json::from_slice(&state[8..8 + length]).expect("a header in JSON");
    let offset = |end: usize| header["optimizer"]["data_offsets"][end].as_u64().expect("an offset") as usize;
    let spoiled = |from: usize, bytes: usize| {
        let mut state = state.clone();
        state[8 + length + from..][..bytes].fill(0xA5);
        state
    };
    let size = offset(1) - offset(0);
    for (row, bytes) in [
        ("no optimizer", renamed(&state, "optimizer", "optimiser")),
        ("its first bytes", spoiled(offset(0), 16)),
        ("its description", spoiled(offset(0) + 16, size.min(200))),
        ("all of it", spoiled(offset(0), size)),
    ] {
        let text = &refused(&bytes, &[Reader::State])[0];
        assert!(text.contains("the optimizer's state is damaged"), "{row}: {text}");
        assert!(text.contains("begin the run anew"), "{row}: {text}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let path = Path::new("no/such/supernet.safetensors");
    let error = load_supernet(path).map(|_| ()).expect_err("there is no file").to_string();
    assert!(error.starts_with("read no/such/supernet.safetensors: "), "{error}");
}

fn space(header: &mut Value) -> &mut Value {
    let owner = if header["model"].is_object() { &mut header["model"] } else { header };
    &mut owner["space"]["vit"]
}

fn depth(header: &mut Value) -> &mut Vec<Value> {
    space(header)["depth"]["choices"].as_array_mut().expect("a list")
}
