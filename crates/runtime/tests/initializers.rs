//! Weights out of ONNX files.

mod common;

use std::path::Path;

use common::{constant, node, value};
use elastic_runtime::initializers::{OnnxFile, ReadOnnxError, read};
use elastic_space::Array;
use prost::Message;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{GraphProto, ModelProto, StringStringEntryProto, TensorProto};

fn model(initializer: Vec<TensorProto>) -> ModelProto {
    let entry =
        |key: &str, value: &str| StringStringEntryProto { key: key.to_owned(), value: value.to_owned() };
    ModelProto {
        ir_version: 8,
        producer_name: "a test".to_owned(),
        graph: Some(GraphProto {
            node: vec![node("Add", &["a", "b"], "y")],
            output: vec![value("y", DataType::Float, &[])],
            initializer,
            ..GraphProto::default()
        }),
        metadata_props: vec![entry("elastic.subnet", "{}")],
        ..ModelProto::default()
    }
}

fn tensor(name: &str, kind: DataType, dims: &[i64]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        data_type: kind as i32,
        dims: dims.to_vec(),
        ..TensorProto::default()
    }
}

fn read_bytes(bytes: &[u8]) -> (String, Result<OnnxFile, ReadOnnxError>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, bytes).expect("a file");
    (path.display().to_string(), read(&path))
}

#[test]
fn floats_of_every_kind_and_nothing_else() {
    let raw = |kind, bytes: &[u8]| TensorProto { raw_data: bytes.to_vec(), ..tensor("raw", kind, &[2]) };
    let words =
        |kind, words: &[i32]| TensorProto { int32_data: words.to_vec(), ..tensor("words", kind, &[2]) };
    // 1.5 and -2: 0x3fc00000 and 0xc0000000; as half 0x3e00 and 0xc000; as bfloat16 their upper halves.
    for (case, tensor) in [
        ("list", TensorProto { float_data: vec![1.5, -2.0], ..tensor("list", DataType::Float, &[2]) }),
        ("bytes", raw(DataType::Float, &[0, 0, 0xc0, 0x3f, 0, 0, 0, 0xc0])),
        ("half", raw(DataType::Float16, &[0, 0x3e, 0, 0xc0])),
        ("half in words", words(DataType::Float16, &[0x3e00, 0xc000])),
        ("bfloat16", raw(DataType::Bfloat16, &[0xc0, 0x3f, 0, 0xc0])),
        ("bfloat16 in words", words(DataType::Bfloat16, &[0x3fc0, 0xc000])),
    ] {
        let name = tensor.name.clone();
        let integers = TensorProto { int64_data: vec![7], ..self::tensor("shape", DataType::Int64, &[1]) };
        let scalar = constant("scalar", &[], &[3.0]);
        let file = read_bytes(&model(vec![integers, tensor, scalar]).encode_to_vec()).1.expect(case);
        let expected = [
            (name, Array { shape: vec![2], data: vec![1.5, -2.0] }),
            ("scalar".to_owned(), Array { shape: vec![], data: vec![3.0] }),
        ];
        assert_eq!(file.initializers, expected.into(), "{case}");
        assert_eq!(file.metadata, [("elastic.subnet".to_owned(), "{}".to_owned())].into(), "{case}");
        assert_eq!(file.producer, "a test", "{case}");
    }
}

#[test]
fn files_that_are_refused() {
    let mut external = tensor("w", DataType::Float, &[2]);
    external.data_location = Some(DataLocation::External as i32);
    let unnamed = external.clone();
    let entry = StringStringEntryProto { key: "location".to_owned(), value: "w.bin".to_owned() };
    external.external_data.push(entry);
    let short = TensorProto { raw_data: vec![0; 7], ..tensor("w", DataType::Float, &[2]) };
    let negative = TensorProto { float_data: vec![1.0], ..tensor("w", DataType::Float, &[-1]) };
    let huge = tensor("w", DataType::Float, &[i64::MAX, i64::MAX]);
    let damaged = "the file is damaged or cut short: copy it anew";
    let remedy =
        "and that is not supported; save the model as one file, in Python: onnx.save(onnx.load(path), path)";
    for (tensor, expected) in [
        (external, format!("tensor `w` lies in another file, w.bin, {remedy}")),
        (unnamed, format!("tensor `w` lies in another file, which it does not name, {remedy}")),
        (short, format!("tensor `w` has 1 values, which do not fill its shape [2]; {damaged}")),
        (negative, format!("tensor `w` has 1 values, which do not fill its shape [-1]; {damaged}")),
        (
            huge,
            format!(
                "tensor `w` has 0 values, which do not fill its shape [9223372036854775807, 9223372036854775807]; {damaged}"
            ),
        ),
    ] {
        let (path, found) = read_bytes(&model(vec![tensor]).encode_to_vec());
        assert_eq!(found.expect_err(&expected).to_string(), format!("read {path} as ONNX: {expected}"));
    }
    let (path, found) = read_bytes(&[]);
    let expected = format!("read {path} as ONNX: it holds no graph; {damaged}");
    assert_eq!(found.expect_err("it is empty").to_string(), expected);
}

#[test]
fn files_that_are_cut_short() {
    let whole = model(vec![constant("w", &[64], &[0.5; 64])]).encode_to_vec();
    for length in [1, 5, 20, whole.len() / 2, whole.len() - 1] {
        let (path, found) = read_bytes(&whole[..length]);
        let text = found.expect_err("it is cut short").to_string();
        assert!(text.starts_with(&format!("read {path} as ONNX: ")), "{length}: {text}");
        assert!(text.ends_with("; the file is damaged or cut short: copy it anew"), "{length}: {text}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let text = read(Path::new("no/such/model.onnx")).expect_err("there is no such file").to_string();
    assert!(text.starts_with("read no/such/model.onnx: "), "{text}");
}
