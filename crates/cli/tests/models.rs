//! `elastic profile --model`: ONNX files from anywhere.

mod common;

use common::{Bench, require_library};
use elastic_exporter::onnx::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorShapeProto, TypeProto, ValueInfoProto,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};
use prost::Message;

const FLOAT: i32 = 1;
const BOOL: i32 = 9;

fn value(name: &str, elem_type: i32, sizes: &[Option<i64>]) -> ValueInfoProto {
    let dim = |size: &Option<i64>| Dimension {
        value: Some(size.map_or(dimension::Value::DimParam("any".into()), dimension::Value::DimValue)),
    };
    let shape = TensorShapeProto { dim: sizes.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: Some(elem_type), shape: Some(shape) };
    let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)) };
    ValueInfoProto { name: Some(name.into()), r#type: Some(r#type) }
}

fn node(op_type: &str, input: &str, output: &str) -> NodeProto {
    NodeProto {
        op_type: Some(op_type.into()),
        name: Some(output.into()),
        input: vec![input.into()],
        output: vec![output.into()],
        ..Default::default()
    }
}

/// `tanh` of an image so many times over, and `not` of a mask; all sizes but the channels are open.
fn model(times: usize) -> Vec<u8> {
    let mut nodes = vec![node("Not", "mask", "unmasked")];
    for index in 1..=times {
        nodes.push(node("Tanh", &format!("x{}", index - 1), &format!("x{index}")));
    }
    let image = [None, Some(3), None, None];
    let graph = GraphProto {
        name: Some("any".into()),
        node: nodes,
        input: vec![value("x0", FLOAT, &image), value("mask", BOOL, &[None, Some(4)])],
        output: vec![value(&format!("x{times}"), FLOAT, &image), value("unmasked", BOOL, &[None, Some(4)])],
        ..Default::default()
    };
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(17) }],
        graph: Some(graph),
        ..Default::default()
    }
    .encode_to_vec()
}

fn bench() -> Bench {
    require_library();
    let bench = Bench::fresh();
    bench.write("short.onnx", model(1));
    bench.write("long.onnx", model(8));
    bench
}

const BOTH: &str = "profile --platform host-1t --model short.onnx --model long.onnx --input x0=2x3x20x30";

#[test]
fn models_from_anywhere_are_compared() {
    let bench = bench();
    let measured = bench.succeed_json(BOTH);
    assert_eq!(measured["schema"], "elastic.measured-models/v1");
    let models = measured["models"].as_array().expect("a list");
    for (model, (file, tanhs)) in models.iter().zip([("short.onnx", 1), ("long.onnx", 8)]) {
        assert_eq!(model["file"], file);
        // The first size of the mask is open, and nobody has said it: the platform's batch.
        let inputs: Vec<String> =
            model["inputs"].as_array().expect("a list").iter().map(ToString::to_string).collect();
        assert_eq!(
            inputs,
            [
                r#"{"element":"float32","name":"x0","shape":[2,3,20,30]}"#,
                r#"{"element":"bool","name":"mask","shape":[1,4]}"#
            ]
        );
        let nodes = model["nodes"].as_array().expect("a list");
        assert_eq!(nodes.iter().filter(|node| node["operator"] == "Tanh").count(), tanhs, "{file}");
        assert!(nodes.iter().all(|node| node["provider"] == "CPUExecutionProvider"), "{file}: {nodes:?}");
    }
    assert!(models[1]["latency"]["ratio_to_reference"].as_f64() > Some(1.0), "{measured}");

    let table = bench.succeed(&format!("{BOTH} --operators --out measured/both.json"));
    for part in [
        "ratio to the first",
        "short.onnx: nodes: 2 on CPUExecutionProvider (asked: CPUExecutionProvider)",
        "long.onnx: nodes: 9 on CPUExecutionProvider",
        "Tanh",
        "long.onnx: inputs x0 float32 2x3x20x30, mask bool 1x4",
        "written: measured/both.json",
    ] {
        assert!(table.contains(part), "`{part}` is not in {table}");
    }
    let written: serde_json::Value =
        serde_json::from_slice(&bench.read("measured/both.json")).expect("the file is JSON");
    assert_eq!(written["models"].as_array().map(Vec::len), Some(2));
    // Each session is a process of its own.
    bench.edit("platforms/host-1t.yaml", "sessions: 1", "sessions: 2");
    let measured = bench.succeed_json(BOTH);
    assert_eq!((&measured["course"]["sessions"], &measured["course"]["rounds"]), (&2.into(), &2.into()));
    assert!(measured["course"]["peak_memory_bytes"].as_u64() > Some(1_000_000), "{measured}");
    // tract times no nodes.
    let table = bench.succeed(&format!("{} --operators", BOTH.replace("host-1t", "host-tract")));
    assert!(table.contains("This runtime does not time operators."), "{table}");
}

#[test]
fn models_that_cannot_be_measured() {
    let bench = bench();
    bench.write("text.onnx", "no model");
    let profile = |rest: &str| format!("profile --platform host-1t --model {rest}");
    for (arguments, code, part) in [
        (profile("none.onnx"), 1, "read none.onnx: "),
        (
            profile("short.onnx"),
            1,
            "input `x0` is [?, 3, ?, ?]: say its sizes, for instance with --input x0=",
        ),
        (profile("short.onnx --input x0=1x4x8x8"), 1, "input `x0` is [?, 3, ?, ?], --input says 1x4x8x8"),
        (
            profile("short.onnx --input x0=1x3x8x8 --input y=2"),
            1,
            "no model has an input `y`, they have mask, x0",
        ),
        (profile("short.onnx --input x0=0"), 2, "is not NAME=SIZES"),
        (profile("short.onnx --input x0"), 2, "is not NAME=SIZES"),
        (profile("short.onnx --subnets 3"), 2, "cannot be used with"),
        ("profile --platform host-1t --input x0=1".into(), 2, "--model"),
        (
            profile("short.onnx --model text.onnx --input x0=1x3x8x8"),
            1,
            "measure short.onnx (candidate 0), text.onnx (candidate 1): candidate 1: load the model in ONNX Runtime",
        ),
        ("profile --platform jetson --model none.onnx".into(), 4, "this machine is not the device"),
    ] {
        let output = bench.elastic(&arguments);
        assert_eq!(output.code, Some(code), "{arguments}: {}", output.stderr);
        assert!(output.stderr.contains(part), "{arguments}: `{part}` is not in {}", output.stderr);
    }
}

/// Enough rounds for intervals.
fn many_samples(bench: &Bench, platform: &str) {
    bench.edit(platform, "min-samples: 16", "min-samples: 160");
    bench.edit(platform, "max-samples: 16", "max-samples: 160");
}

/// A measurement of `short.onnx` in another file, so many times slower in every sample.
fn measured(bench: &Bench, name: &str, slower: f64) {
    bench.succeed("profile --platform host-tract --model short.onnx --input x0=1x3x8x8 --out base.json");
    let mut file: serde_json::Value = serde_json::from_slice(&bench.read("base.json")).expect("JSON");
    let latency = &mut file["models"][0]["latency"];
    latency["contended"] = false.into();
    for us in ["raw_p50_us", "p50_us"] {
        latency[us] = (latency[us].as_f64().expect("a time") * slower).into();
    }
    for round in latency["samples_us"].as_array_mut().expect("rounds") {
        for us in round.as_array_mut().expect("samples") {
            *us = (us.as_f64().expect("a time") * slower).into();
        }
    }
    bench.write(name, file.to_string());
}

#[test]
fn a_slower_head_fails_the_gate() {
    let bench = bench();
    many_samples(&bench, "platforms/host-tract.yaml");
    measured(&bench, "head.json", 4.0);
    measured(&bench, "base.json", 1.0);
    let output = bench.elastic("profile compare base.json head.json --format json");
    assert_eq!(output.code, Some(9), "{}", output.stderr);
    let compared: serde_json::Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!(compared[0]["verdict"], "slower", "{compared}");
    assert!(output.stderr.contains("short.onnx takes "), "{}", output.stderr);
    assert!(output.stderr.contains("times as long as its base, more than 1.050"), "{}", output.stderr);
    // The other way round, and under a threshold that the head holds.
    assert!(bench.succeed("profile compare head.json base.json").contains("faster"));
    bench.succeed("profile compare base.json head.json --threshold-percent 900");

    let benchmarks = bench.elastic("profile compare base.json head.json --format github-benchmark").stdout;
    let benchmarks: serde_json::Value = serde_json::from_str(&benchmarks).expect("JSON");
    assert_eq!(
        (&benchmarks[0]["name"], &benchmarks[0]["unit"]),
        (&"host-tract: short.onnx".into(), &"us".into())
    );
    assert!(benchmarks[0]["value"].as_f64() > Some(0.0), "{benchmarks}");

    // What other work has disturbed decides nothing.
    let contended = String::from_utf8(bench.read("head.json")).expect("text");
    bench.write("head.json", contended.replace(r#""contended":false"#, r#""contended":true"#));
    let output = bench.elastic("profile compare base.json head.json");
    assert_eq!(output.code, Some(5), "{}", output.stderr);
    assert!(output.stderr.contains("this decides nothing: measure again"), "{}", output.stderr);
}

#[test]
fn models_are_compared_interleaved() {
    let bench = bench();
    many_samples(&bench, "platforms/host-1t.yaml");
    let sizes = "--platform host-1t --input x0=1x3x64x64";
    let output = bench.elastic(&format!("profile compare short.onnx long.onnx {sizes}"));
    // Eight times the work is slower, whatever else this machine does.
    assert!([Some(9), Some(5)].contains(&output.code), "{}", output.stderr);
    assert!(output.stdout.contains("slower"), "{}", output.stdout);
    bench.succeed(&format!("profile compare long.onnx short.onnx {sizes}"));
    let measure = "profile --platform host-1t --input x0=1x3x64x64 --model short.onnx --model long.onnx";
    let benchmarks = bench.elastic(&format!("{measure} --format github-benchmark")).stdout;
    let benchmarks: serde_json::Value = serde_json::from_str(&benchmarks).expect("JSON");
    assert_eq!(benchmarks.as_array().map(Vec::len), Some(2), "{benchmarks}");
}

#[test]
fn comparisons_that_cannot_be_made() {
    let bench = bench();
    bench.write("other.json", r#"{"schema": "elastic.export/v1"}"#);
    for (arguments, code, part) in [
        ("profile compare none.json other.json", 1, "read none.json: "),
        (
            "profile compare other.json other.json",
            1,
            "read other.json: schema is `elastic.export/v1`, compared are",
        ),
        ("profile compare short.onnx long.onnx", 2, "name it with --platform"),
        ("profile compare short.onnx other.json", 2, "compare two ONNX files, or two files of measurements"),
        ("profile compare a.json b.json --threshold-percent=-1", 2, "--threshold-percent"),
        ("profile --platform host-1t compare a.json b.json", 2, "cannot be used"),
        ("doctor --format github-benchmark", 2, "only `elastic profile --model` and"),
    ] {
        let output = bench.elastic(arguments);
        assert_eq!(output.code, Some(code), "{arguments}: {}", output.stderr);
        assert!(output.stderr.contains(part), "{arguments}: `{part}` is not in {}", output.stderr);
    }
}
