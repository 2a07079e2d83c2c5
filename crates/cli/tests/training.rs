//! What a recipe may ask for, by the command and from YAML: transforms, stages, a teacher and a start from files.

mod common;

use common::{Bench, PROGRESSIVE, disturb, kill};
use elastic_exporter::onnx::ModelProto;
use prost::Message;

const MODEL: &str = "models/tiny.yaml";

/// The nodes of an exported graph, and the names and shapes of its constants.
fn structure(bench: &Bench, file: &str) -> Vec<String> {
    let model = ModelProto::decode(&*bench.read(file)).expect("an ONNX file");
    let graph = model.graph.expect("it has a graph");
    let nodes =
        graph.node.iter().map(|node| format!("{:?} {:?} {:?}", node.op_type, node.input, node.output));
    nodes
        .chain(graph.initializer.iter().map(|tensor| format!("{:?} {:?}", tensor.name, tensor.dims)))
        .collect()
}

#[test]
fn transforms_leave_no_trace_in_the_graph() {
    let export = |kinds: Option<&str>| {
        let bench = Bench::fresh();
        if let Some(kinds) = kinds {
            bench.edit(MODEL, "    mlp-width:", &format!("    transforms: {kinds}\n    mlp-width:"));
        }
        bench.succeed("train --model models/tiny.yaml --steps 40");
        // It is written only if burn, ONNX Runtime and tract agree.
        bench.succeed("export --subnet smallest");
        (structure(&bench, "exports/tiny-smallest.onnx"), bench)
    };
    let (plain, _) = export(None);
    for kinds in [
        "{width: linear, heads: linear, embedding: linear}",
        "{width: nonlinear, heads: nonlinear, embedding: nonlinear}",
        "{heads: linear, embedding: nonlinear}",
    ] {
        let (found, bench) = export(Some(kinds));
        assert_eq!(found, plain, "{kinds}");
        let supernet = bench.read("runs/tiny/supernet.safetensors");
        let tensors = safetensors::SafeTensors::deserialize(&supernet).expect("a supernet");
        let learned = tensors.iter().filter(|(name, _)| name.contains(".transforms."));
        let mut count = 0;
        for (name, tensor) in learned {
            let values: Vec<f32> =
                tensor.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            let start = if name.ends_with(".scale") { 1.0 } else { 0.0 };
            assert!(values.iter().any(|value| *value != start), "{kinds}: {name} has learned");
            count += 1;
        }
        assert!(count > 0, "{kinds}");
    }
}

#[test]
fn a_named_subnet_is_exported_without_a_search() {
    let bench = Bench::finished();
    let inspected = bench.succeed_json("inspect --model models/tiny.yaml");
    for row in inspected["named"].as_array().expect("a list") {
        let name = row["name"].as_str().expect("a name");
        let reports =
            bench.succeed_json(&format!("export --subnet {name} --platform host-tract --out named"));
        assert_eq!(reports[0]["subnet"], row["subnet"], "{name}");
        assert_eq!(reports[0]["search"]["evaluations"], 1, "{name}");
        assert!(reports[0]["measured-latency-us"].as_f64().is_some_and(|us| us > 0.0), "{name}");
        bench.succeed(&format!("verify named/tiny-host-tract-{name}.onnx"));
    }
}

#[test]
fn a_stage_is_a_run() {
    let bench = Bench::fresh();
    bench.set_scheme(PROGRESSIVE);
    bench.succeed("train --model models/tiny.yaml");
    let spaces: Vec<String> = ["0-base", "1-width", "2-depth"]
        .iter()
        .map(|stage| {
            let inspected = bench.succeed_json(&format!("inspect --run runs/tiny/stages/{stage}"));
            inspected["subnets"].as_str().expect("a number as text").to_owned()
        })
        .collect();
    // Widths of two layers, then with one layer two more.
    assert_eq!(spaces, ["1", "4", "6"]);
    let export = "export --run runs/tiny/stages/1-width --budget 1mflops";
    assert_eq!(bench.succeed_json(export)[0]["file"], "tiny-1-width-1mflops.onnx");
    let onwards = bench.elastic("train --from runs/tiny/stages/1-width");
    assert_eq!(onwards.code, Some(0), "{}", onwards.stderr);
    let last = bench.read("runs/tiny/supernet.safetensors");
    assert!(bench.read("runs/tiny-1-width-onwards/supernet.safetensors") == last);
    // Another recipe after the stage, in another folder.
    bench.edit(MODEL, "subnets: 3", "subnets: 2");
    bench.succeed("train --from runs/tiny/stages/1-width --model models/tiny.yaml --out runs/other");
    assert!(bench.read("runs/other/supernet.safetensors") != last);
    let nothing = bench.elastic("train --from runs/tiny/stages/2-depth --out runs/nothing");
    assert_eq!(nothing.code, Some(1));
    let expected =
        "2-depth is no stage of this model with another after it; its stages are 0-base, 1-width, 2-depth";
    assert!(nothing.stderr.contains(expected), "{}", nothing.stderr);
    assert!(!bench.file("runs/nothing").exists());
}

#[test]
fn a_run_with_a_teacher_from_a_file_goes_on_bit_for_bit() {
    const ATTEMPTS: usize = 10;
    let bench = Bench::finished();
    bench.succeed("export --budget 1mflops --batch dynamic --out teachers");
    bench.edit(MODEL, "teacher: in-place", "teacher: {onnx: teachers/tiny-1mflops.onnx}");
    let train = "train --model models/tiny.yaml --steps 60 --verbose --out";
    bench.succeed(&format!("{train} runs/undisturbed"));
    for attempt in 0..ATTEMPTS {
        let command = format!("{train} runs/killed-{attempt}");
        disturb(&bench, &command, "checkpoint at step 10", kill);
        let supernet = format!("runs/killed-{attempt}/supernet.safetensors");
        if !bench.file(&supernet).exists() {
            bench.succeed(&format!("{command} --resume"));
            assert!(bench.read(&supernet) == bench.read("runs/undisturbed/supernet.safetensors"));
            // The teacher counts: without it the same run ends elsewhere.
            bench.edit(MODEL, "weight: 0.5, teacher: {", "weight: 0.0, teacher: {");
            bench.succeed(&format!("{train} runs/untaught"));
            assert!(bench.read("runs/untaught/supernet.safetensors") != bench.read(&supernet));
            return;
        }
    }
    panic!("the run had ended before it was killed, {ATTEMPTS} times");
}

#[test]
fn a_run_begins_with_an_exported_network() {
    let bench = Bench::finished();
    let exported = &bench.succeed_json("export --subnet largest --out start")[0];
    assert_eq!(exported["file"], "tiny-largest.onnx");
    let accuracy = exported["validation-accuracy"].as_f64().expect("a share");
    bench.edit(MODEL, "training:\n", "init: {from: start/tiny-largest.onnx}\ntraining:\n");
    // A rate this small changes no prediction.
    bench.edit(MODEL, "peak: 0.01, final: 0.0001", "peak: 1.0e-9, final: 0.0");
    let trained = bench.succeed_json("train --model models/tiny.yaml --steps 1 --out runs/started");
    assert_eq!(trained["accuracy"]["largest"].as_f64(), Some(accuracy));
}
