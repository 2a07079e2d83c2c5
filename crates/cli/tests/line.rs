//! The whole line as a user runs it: train, inspect, profile, export, verify.

mod common;

use std::fs;

use common::reports::{has, number, profiled};
use common::{Bench, require_library};
use serde_json::Value;

#[test]
fn train_tells_its_last_evaluation() {
    let bench = Bench::fresh();
    let summary = bench.succeed_json("train --model models/tiny.yaml");
    has(&summary, &["step", "images", "accuracy", "random_accuracy"]);
    assert_eq!(summary["step"], 6);
    assert_eq!(summary["images"], 20);
    for name in ["largest", "middle", "smallest"] {
        assert!((0.0..=1.0).contains(&number(&summary["accuracy"][name])), "{name}: {summary:#}");
    }
    let table = bench.succeed("train --model models/tiny.yaml");
    for word in ["largest", "middle", "smallest", "random 1", "supernet: runs/tiny/supernet.safetensors"] {
        assert!(table.contains(word), "`{word}` is missing in {table}");
    }
    for file in ["config.yaml", "metrics.jsonl", "checkpoint.safetensors", "supernet.safetensors"] {
        assert!(bench.file("runs/tiny").join(file).exists(), "{file}");
    }
}

#[test]
fn the_whole_line_of_a_convolutional_network() {
    require_library();
    let bench = Bench::fresh();
    bench.set_conv();
    bench.succeed("train --model models/tiny.yaml");
    let inspected = bench.succeed_json("inspect --run runs/tiny");
    // 2 resolutions, 2 stems, 2 heads; 2 widths; 4 choices with one layer, which is the first, and 16 with two.
    assert_eq!((&inspected["family"], &inspected["subnets"]), (&"conv".into(), &"320".into()));
    bench.succeed("profile --platform host-1t");
    bench.succeed("profile --platform host-tract");
    let reports = bench.succeed_json("export --budget 30kflops --budget 1s --all-platforms --finetune 6");
    for report in reports.as_array().expect("a list") {
        let file = format!("exports/{}", report["file"].as_str().expect("a name"));
        let proof = bench.succeed_json(&format!("verify {file}"));
        assert_eq!(proof["agreement"].as_array().map(Vec::len), Some(2), "{file}");
        assert_eq!(proof["agreement"], report["proof"]["agreement"], "{file}: calibration repeats");
        let told = bench.succeed_json(&format!("inspect {file}"));
        let said = &told["metadata"];
        assert_eq!((&said["elastic.family"], &said["elastic.subnet"]), (&"conv".into(), &report["subnet"]));
        // Whatever the subnet's resolution, images come as the data has them.
        assert_eq!(said["elastic.preprocessing"]["size"], serde_json::json!([1, 8, 8]), "{file}");
    }
    assert!(bench.succeed("report").contains("runs/tiny/report.html"));
}

#[test]
fn inspect_counts_what_export_counts() {
    let bench = profiled();
    let of_file = bench.succeed_json("inspect --model models/tiny.yaml");
    assert_eq!(of_file, bench.succeed_json("inspect --run runs/tiny"));
    assert_eq!((&of_file["family"], &of_file["subnets"]), (&"vit".into(), &"40".into()));
    let named = of_file["named"].as_array().expect("a list of subnets");
    assert_eq!(named.iter().map(|row| &row["name"]).collect::<Vec<_>>(), ["largest", "middle", "smallest"]);
    let smallest = &named[2];
    let budget = format!("export --budget {}params --out exact", smallest["params"]);
    let exported = &bench.succeed_json(&budget)[0];
    for count in ["subnet", "params", "macs", "flops"] {
        assert_eq!(exported[count], smallest[count], "{count}");
    }
}

#[test]
fn profiles_hold_every_sample_and_the_circumstances() {
    let bench = profiled();
    for (platform, runtime) in [("host-1t", "ONNX Runtime "), ("host-tract", "tract ")] {
        let profile: Value = serde_json::from_slice(&bench.read(&format!("profiles/{platform}.json")))
            .expect("a profile is JSON");
        has(
            &profile,
            &[
                "schema",
                "platform",
                "environment",
                "checkpoint",
                "space",
                "seed",
                "reference",
                "latency_model",
            ],
        );
        assert_eq!(profile["name"], platform);
        let version = profile["environment"]["runtime_version"].as_str().expect("a text");
        assert!(version.starts_with(runtime), "{platform}: {version}");
        let measured = profile["measurements"].as_array().expect("a list");
        assert_eq!(measured.len(), 4, "{platform}");
        for subnet in measured {
            let rounds = subnet["latency"]["samples_us"].as_array().expect("a list of rounds");
            let samples: usize = rounds.iter().map(|round| round.as_array().map_or(0, Vec::len)).sum();
            // Two rounds, of which one may have been disturbed by other work.
            assert!(samples >= 8, "{platform}: {samples} samples");
        }
    }
    let printed = bench.succeed_json("profile --platform host-tract --subnets 3 --out other.json");
    assert_eq!(printed["rows"], 3);
    let written: Value = serde_json::from_slice(&bench.read("other.json")).expect("a profile is JSON");
    assert_eq!(written["latency_model"], printed);

    let page = |out: &str| String::from_utf8(bench.read(out)).expect("text");
    for (platform, operators) in [("host-1t", true), ("host-tract", false)] {
        bench.succeed(&format!("profile --platform {platform} --subnets 4 --report --out report.json"));
        let page = page("report.html");
        for part in ["Predicted against measured", "Residuals", "round by round", "Peak memory of a session"]
        {
            assert!(page.contains(part), "{platform}: no {part}");
        }
        assert_eq!(page.contains("MatMul") || page.contains("Gemm"), operators, "{platform}");
        assert!(!page.contains("<script") && !page.contains("http"), "{platform}: nothing from elsewhere");
    }
    bench.succeed(
        "profile --platform host-tract --transfer-from report.json --subnets 3 --out transferred.json",
    );
}

#[test]
fn verify_prints_what_it_compared() {
    let bench = profiled();
    let table = bench.succeed("verify exports/tiny-1mflops.onnx");
    for word in [
        "exports/tiny-1mflops.onnx: embed ",
        "CPUExecutionProvider x1",
        "tract x1",
        "20 of 20",
        "accuracy on 20 test images",
    ] {
        assert!(table.contains(word), "`{word}` is missing in {table}");
    }
}

#[test]
fn quiet_commands_print_the_result_alone() {
    let bench = Bench::finished();
    for command in [
        "train --model models/tiny.yaml --out runs/quiet",
        "inspect --model models/tiny.yaml",
        "profile --platform host-tract --out quiet.json --run runs/tiny",
        "export --budget 12kflops --out exports/quiet --run runs/tiny",
        "verify exports/tiny-1mflops.onnx --run runs/tiny",
    ] {
        let output = bench.elastic(&format!("--quiet {command}"));
        assert_eq!(output.code, Some(0), "{command}: {}", output.stderr);
        // A busy machine is worth a warning even then.
        let said: Vec<&str> = output.stderr.lines().filter(|line| !line.starts_with("warning: ")).collect();
        assert!(said.is_empty(), "{command}: {said:?}");
        assert!(!output.stdout.is_empty(), "{command}");
    }
}

#[test]
fn nothing_temporary_is_left() {
    let bench = profiled();
    for folder in ["runs/tiny", "profiles", "exports"] {
        for entry in fs::read_dir(bench.file(folder)).expect("the folder is there") {
            let name = entry.expect("the folder can be read").file_name();
            assert!(!name.to_string_lossy().starts_with('.'), "{folder}/{}", name.display());
        }
    }
}

#[test]
fn schemas_are_json_and_doctor_is_too() {
    let bench = profiled();
    let listed = bench.succeed_json("schema");
    let listed = listed.as_array().expect("a list");
    assert!(listed.len() > 20, "{listed:?}");
    for schema in listed {
        let name = schema["name"].as_str().expect("a name");
        has(&bench.succeed_json(&format!("schema {name}")), &["$schema", "title"]);
        assert!(schema["of"].as_str().is_some_and(|of| !of.is_empty()), "{name}");
    }
    for kind in ["model", "platform"] {
        has(&bench.succeed_json(&format!("schema {kind}")), &["$schema", "title", "properties"]);
    }
    let findings = bench.succeed_json("doctor");
    for finding in findings.as_array().expect("a list") {
        has(finding, &["thing", "found", "detail"]);
    }
    let table = bench.succeed("doctor");
    assert!(table.contains("ONNX Runtime") && table.contains("elastic data fetch fashion-mnist"), "{table}");
}
