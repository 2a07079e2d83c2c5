//! A teacher in an ONNX file, through the real ONNX Runtime.

use std::path::{Path, PathBuf};

use elastic_space::{Array, Weights};
use elastic_trainer::teacher::{OnnxTeacher, TeacherError};
use tempfile::TempDir;
use tract_onnx::pb::GraphProto;

use crate::onnx::{constants, encode, node, value};
use crate::support::worst;

const INPUT: [usize; 3] = [2, 1, 3];
const VALUES: usize = 6;
const CLASSES: usize = 3;
const BATCH: usize = 4;

/// `logits = flatten(images) W`, with an output for each of `outputs`.
fn linear(batch: Option<usize>, outputs: &[&str], weight: f32) -> Vec<u8> {
    let data = (0..VALUES * CLASSES).map(|i| weight * ((i * 7 % 11) as f32 - 5.0) / 5.0).collect();
    let weights = Weights::from([("w".to_owned(), Array { shape: vec![VALUES, CLASSES], data })]);
    let products = outputs.iter().map(|name| node("MatMul", &["rows", "w"], name));
    let graph = GraphProto {
        name: "teacher".to_owned(),
        node: [node("Flatten", &["images"], "rows")].into_iter().chain(products).collect(),
        initializer: constants(&weights),
        input: vec![value("images", &[batch, Some(INPUT[0]), Some(INPUT[1]), Some(INPUT[2])])],
        output: outputs.iter().map(|name| value(name, &[batch, Some(CLASSES)])).collect(),
        ..GraphProto::default()
    };
    encode("a test", graph, &[])
}

fn file(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("teacher.onnx");
    std::fs::write(&path, bytes).expect("a file");
    (folder, path)
}

fn images(count: usize) -> Vec<f32> {
    (0..count * VALUES).map(|i| ((i * 5 % 13) as f32 - 6.0) / 3.0).collect()
}

/// What [`linear`] with weight 1 gives, by loops, as probabilities.
fn expected(images: &[f32]) -> Vec<f64> {
    let mut probabilities = Vec::new();
    for image in images.chunks(VALUES) {
        let logit = |class: usize| -> f64 {
            let weight = |i: usize| ((i * 7 % 11) as f64 - 5.0) / 5.0;
            image.iter().enumerate().map(|(i, x)| f64::from(*x) * weight(i * CLASSES + class)).sum()
        };
        let sum: f64 = (0..CLASSES).map(|class| logit(class).exp()).sum();
        probabilities.extend((0..CLASSES).map(|class| logit(class).exp() / sum));
    }
    probabilities
}

#[test]
fn probabilities_with_every_batch() {
    for batch in [None, Some(1), Some(2), Some(4)] {
        let (_folder, path) = file(&linear(batch, &["logits"], 1.0));
        let mut teacher = OnnxTeacher::open(&path, BATCH, INPUT, CLASSES)
            .unwrap_or_else(|error| panic!("{batch:?}: {error}"));
        for count in [4, 8] {
            let images = images(count);
            let found = teacher.probabilities(&images, count).unwrap_or_else(|e| panic!("{batch:?}: {e}"));
            assert_eq!(found.shape, [count, CLASSES], "{batch:?}");
            assert!(worst(&found.data, &expected(&images)) < 1e-6, "{batch:?}: {found:?}");
            assert_eq!(teacher.probabilities(&images, count).expect("again"), found, "{batch:?}");
        }
    }
}

#[test]
fn large_logits_do_not_overflow() {
    let (_folder, path) = file(&linear(None, &["logits"], 1000.0));
    let mut teacher = OnnxTeacher::open(&path, BATCH, INPUT, CLASSES).expect("a teacher");
    let found = teacher.probabilities(&images(4), 4).expect("probabilities");
    for row in found.data.chunks(CLASSES) {
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{row:?}");
    }
}

#[test]
fn teachers_that_are_refused() {
    let linear = |batch| linear(batch, &["logits"], 1.0);
    for (model, input, classes, expected) in [
        (
            linear(Some(3)),
            INPUT,
            CLASSES,
            "its batch is fixed at 3, which does not divide training.batch-size 4; export it with `elastic export \
             --batch dynamic`",
        ),
        (
            linear(Some(8)),
            INPUT,
            CLASSES,
            "its batch is fixed at 8, which does not divide training.batch-size 4; export it with `elastic export \
             --batch dynamic`",
        ),
        (
            linear(None),
            [2, 3, 1],
            CLASSES,
            "its inputs are [?, 2, 1, 3], a teacher has one of [4, 2, 3, 1] (batch, channels, height, width); choose \
             a network for the same images",
        ),
        (
            linear(Some(2)),
            INPUT,
            5,
            "it gives [2, 3] for 2 images, a teacher gives [2, 5] (batch, classes); choose a network with the same \
             classes",
        ),
        (
            self::linear(None, &["a", "b"], 1.0),
            INPUT,
            CLASSES,
            "it gives [4, 3] and [4, 3] for 4 images, a teacher gives [4, 3] (batch, classes); choose a network with \
             the same classes",
        ),
    ] {
        let (_folder, path) = file(&model);
        let error = OnnxTeacher::open(&path, BATCH, input, classes).err().expect(expected);
        assert_eq!(error.to_string(), format!("use {}: {expected}", path.display()));
    }
}

#[test]
fn files_that_are_no_model() {
    let whole = linear(None, &["logits"], 1.0);
    for (case, bytes) in [("empty", &[][..]), ("cut short", &whole[..whole.len() / 2]), ("text", b"no model")]
    {
        let (_folder, path) = file(bytes);
        let error = OnnxTeacher::open(&path, BATCH, INPUT, CLASSES).err().expect(case);
        assert!(matches!(error, TeacherError::Open { .. }), "{case}: {error}");
        assert!(error.to_string().starts_with(&format!("load {}: ", path.display())), "{case}: {error}");
    }
    let missing = Path::new("no/such/teacher.onnx");
    let text = OnnxTeacher::open(missing, BATCH, INPUT, CLASSES).err().expect("no file").to_string();
    assert!(text.starts_with("read no/such/teacher.onnx: "), "{text}");
}

#[test]
fn logits_that_are_no_numbers() {
    // -30 times the first weight, -MAX / 8, overflows.
    let (_folder, path) = file(&linear(None, &["logits"], f32::MAX / 8.0));
    let mut teacher = OnnxTeacher::open(&path, BATCH, INPUT, CLASSES).expect("zeros give zeros");
    let mut images = vec![0.0; BATCH * VALUES];
    images[2 * VALUES] = -30.0;
    let text = teacher.probabilities(&images, BATCH).expect_err("an infinite logit").to_string();
    let expected = format!(
        "run {}: a logit of image 2 of the batch is inf; choose a network that was trained on these images",
        path.display()
    );
    assert_eq!(text, expected);
}
