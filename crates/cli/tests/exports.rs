//! What `elastic export` writes: budgets, platforms, forms, batches, precisions, fine-tuning, papers.

mod common;

use common::reports::{has, number, profiled, report};
use common::{Bench, require_library};
use serde_json::Value;

#[test]
fn every_kind_of_budget_holds() {
    let bench = profiled();
    for (budget, flags, quantity) in [
        ("12kflops", "", "flops"),
        ("6kmacs", "", "macs"),
        ("2kparams", "", "params"),
        ("15KB", "", "file-size"),
        ("1s", "--platform host-1t", "latency"),
        ("1s", "--platform host-tract.yaml", "latency"),
    ] {
        let out = format!("exports/{quantity}");
        let printed = bench.succeed_json(&format!("export --budget {budget} {flags} --out {out}"));
        let report = report(bench, &out, &printed[0]);
        has(
            &report,
            &[
                "sha256",
                "subnet",
                "params",
                "macs",
                "flops",
                "validation-accuracy",
                "proof",
                "search",
                "checkpoint",
                "command",
            ],
        );
        let kept = &report["budgets"][0];
        assert_eq!(kept["asked"], budget);
        let asked = elastic_space::budget::Budget::try_from(budget.to_owned()).expect("a budget");
        assert!(number(&kept["measured"]) <= asked.limit, "{budget}: {kept}");
        for agreement in report["proof"]["agreement"].as_array().expect("a list") {
            assert!(number(&agreement["max_abs_difference"]) <= 1e-4, "{budget}: {agreement}");
            assert_eq!(agreement["same_top1"], agreement["samples"], "{budget}");
        }
        let file = format!("{out}/{}", report["file"].as_str().expect("a name"));
        let bytes = bench.read(&file);
        assert_eq!(report["file-bytes"], bytes.len(), "{budget}");
        assert_eq!(report["sha256"], elastic_space::file::sha256(&bytes), "{budget}");
        let measured = report["measured-latency-us"].as_f64();
        assert_eq!(measured.is_some(), quantity == "latency", "{budget}: {measured:?}");
    }
}

#[test]
fn several_budgets_hold_together() {
    let bench = profiled();
    let command =
        "export --budget 12kflops --budget 14KB --budget 1s --platform host-tract --out exports/together";
    let printed = bench.succeed_json(command);
    let budgets = printed[0]["budgets"].as_array().expect("a list");
    assert_eq!(budgets.len(), 3);
    for (budget, limit) in budgets.iter().zip([12e3, 14e3, 1e6]) {
        assert!(number(&budget["measured"]) <= limit, "{budget}");
    }
}

#[test]
fn one_model_a_platform() {
    let bench = profiled();
    let named = bench.succeed_json(
        "export --budget 12kflops --form portable --platform host-1t --platform host-tract --out exports/named",
    );
    let all =
        bench.succeed_json("export --budget 12kflops --form portable --all-platforms --out exports/all");
    for (reports, out) in [(&named, "named"), (&all, "all")] {
        let platforms: Vec<&Value> =
            reports.as_array().expect("a list").iter().map(|r| &r["platform"]).collect();
        assert_eq!(platforms, ["host-1t", "host-tract"], "{out}");
        for platform in ["host-1t", "host-tract"] {
            let model = bench.read(&format!("exports/{out}/tiny-{platform}-12kflops.onnx"));
            assert!(
                model == bench.read(&format!("exports/named/tiny-{platform}-12kflops.onnx")),
                "{out} {platform}"
            );
        }
    }
}

#[test]
fn batches_of_a_model() {
    let bench = profiled();
    for batch in ["dynamic", "4", "1"] {
        let out = format!("exports/batch-{batch}");
        bench.succeed(&format!("export --budget 12kflops --batch {batch} --out {out}"));
        let proof = bench.succeed_json(&format!("verify {out}/tiny-12kflops.onnx"));
        let agreement = proof["agreement"].as_array().expect("a list");
        assert_eq!(agreement.len(), 2, "{batch}: ONNX Runtime and tract");
        assert!(agreement.iter().all(|a| a["samples"] == 20 && a["same_top1"] == 20), "{batch}: {proof:#}");
        assert_eq!(proof["test_images"].as_u64().or(proof["test-images"].as_u64()), Some(20), "{batch}");
    }
}

#[test]
fn the_fastest_form_that_a_platform_takes_is_written() {
    let bench = profiled();
    // tract does not know ONNX Runtime's own operators, so they are not even tried there.
    let standard = ["portable", "opset20", "attention23"];
    let all = [&standard[..], &["contrib-attention"]].concat();
    for (platform, tried) in [("host-1t", &all[..]), ("host-tract", &standard)] {
        let out = format!("exports/forms-{platform}");
        let command = format!("export --subnet largest --platform {platform} --out {out}");
        let report = &bench.succeed_json(&command)[0];
        let forms = report["forms"].as_array().expect("a list");
        let names: Vec<&str> = forms.iter().filter_map(|form| form["form"].as_str()).collect();
        assert_eq!(names, tried, "{platform}");
        let measured: Vec<&Value> = forms.iter().filter(|form| !form["p50-us"].is_null()).collect();
        assert_eq!(measured.len(), tried.len(), "{platform}: {forms:#?}");
        let fastest = measured.iter().min_by(|a, b| number(&a["p50-us"]).total_cmp(&number(&b["p50-us"])));
        let fastest = fastest.expect("one was measured");
        assert_eq!((&report["form"], &report["opset"]), (&fastest["form"], &fastest["opset"]), "{platform}");
        assert_eq!(report["measured-latency-us"], fastest["p50-us"], "{platform}");
    }
}

#[test]
fn a_form_is_verified_where_its_operators_are_known() {
    let bench = profiled();
    for (form, opset, runtimes) in [
        ("opset20", 20, 2),
        ("attention23", 23, 2),
        ("contrib-attention", 17, 1),
        ("portable --opset 13", 13, 2),
    ] {
        let out = format!("exports/form-{runtimes}-{opset}");
        let report = &bench.succeed_json(&format!("export --subnet largest --form {form} --out {out}"))[0];
        assert_eq!(report["opset"], opset, "{form}");
        let file = format!("{out}/tiny-largest.onnx");
        let proof = bench.succeed_json(&format!("verify {file}"));
        assert_eq!(proof["agreement"].as_array().map(Vec::len), Some(runtimes), "{form}: {proof:#}");
        assert_eq!(proof, report["proof"], "{form}");
        let told = bench.succeed(&format!("verify {file}")).contains("in ONNX Runtime alone");
        assert_eq!(told, runtimes == 1, "{form}");
    }
}

#[test]
fn papers_lie_beside_a_model() {
    let bench = profiled();
    let command = "export --subnet largest --platform host-1t --form portable --precision int8-dynamic \
                   --max-accuracy-drop 100%";
    let papers = ["once", "twice"].map(|out| {
        let report = bench.succeed_json(&format!("{command} --out exports/papers-{out}"))[0].clone();
        let read =
            |extension: &str| bench.read(&format!("exports/papers-{out}/tiny-host-1t-largest.{extension}"));
        let manifest: Value = serde_json::from_slice(&read("manifest.json")).expect("a manifest is JSON");
        let bom: Value = serde_json::from_slice(&read("cdx.json")).expect("a bill of materials is JSON");
        let hash = elastic_space::file::sha256(&read("onnx"));
        assert_eq!(manifest["sha256"], hash);
        assert_eq!(manifest["checkpoint-sha256"], report["checkpoint"]);
        let config = elastic_space::file::sha256(&bench.read("runs/tiny/config.yaml"));
        assert_eq!(manifest["config-sha256"], config);
        assert_eq!(manifest["test-images"], report["proof"]["test-digest"]);
        has(&manifest, &["train-images", "validation-images", "program-sha256", "seed", "elastic-version"]);
        assert_eq!((&bom["bomFormat"], &bom["specVersion"]), (&"CycloneDX".into(), &"1.6".into()));
        assert_eq!(bom["metadata"]["component"]["hashes"][0]["content"], hash);
        let card = String::from_utf8(read("md")).expect("a card is text");
        for word in [&hash, "# tiny-host-1t-largest", "int8-dynamic", "accuracy on test images", "host-1t"] {
            assert!(card.contains(word), "`{word}` is missing in {card}");
        }
        bom.to_string()
    });
    assert_eq!(papers[0], papers[1], "the bill of materials of the same file is the same");
}

#[test]
fn a_file_says_what_it_is() {
    let bench = profiled();
    let config = String::from_utf8(bench.read("runs/tiny/config.yaml")).expect("YAML is text");
    assert!(!config.contains("licence"), "none was given: {config}");
    let command = "export --budget 14KB --budget 1s --platform host-1t --form portable --precision int8-dynamic \
                   --max-accuracy-drop 100% --seed 3 --out exports/said";
    let report = bench.succeed_json(command)[0].clone();
    let file = format!("exports/said/{}", report["file"].as_str().expect("a name"));
    let told = bench.succeed_json(&format!("inspect {file}"));
    assert_eq!((&told["file-bytes"], &told["sha256"]), (&report["file-bytes"], &report["sha256"]));
    assert_eq!(told["opsets"], serde_json::json!({ "": 17 }));
    let said = &told["metadata"];
    let manifest = file.replace(".onnx", ".manifest.json");
    let manifest: Value = serde_json::from_slice(&bench.read(&manifest)).expect("a manifest is JSON");
    for (key, expected) in [
        ("schema", &"elastic.metadata/v1".into()),
        ("family", &"vit".into()),
        ("subnet", &report["subnet"]),
        ("run", &"tiny".into()),
        ("checkpoint", &report["checkpoint"]),
        ("config", &manifest["config-sha256"]),
        (
            "data",
            &serde_json::json!({ "train": manifest["train-images"], "validation": manifest["validation-images"] }),
        ),
        ("seed", &serde_json::json!({ "training": 1, "search": 3 })),
        ("cost", &serde_json::json!({ "params": report["params"], "macs": report["macs"] })),
        ("classes", &serde_json::json!(["left", "top", "centre"])),
        ("form", &"portable".into()),
        ("opset", &17.into()),
        ("batch", &1.into()),
        ("precision", &"int8-dynamic".into()),
        ("target", &serde_json::json!({ "platform": "host-1t", "budgets": ["14KB", "1s"] })),
    ] {
        assert_eq!(&said[format!("elastic.{key}")], expected, "{key}: {said:#}");
    }
    let validation = &said["elastic.validation"];
    assert!((number(&validation["accuracy"]) - number(&report["validation-accuracy"])).abs() < 1e-6);
    assert_eq!(validation["images"], report["validation-images"]);
    let how = &said["elastic.preprocessing"];
    assert_eq!(
        (&how["size"], &how["layout"]),
        (&serde_json::json!([1, 8, 8]), &"batch, channels, height, width".into())
    );
    let table = bench.succeed(&format!("inspect {file}"));
    for row in ["family", "left, top, centre", "budgets 14KB, 1s; platform host-1t", "search 3; training 1"] {
        assert!(table.contains(row), "`{row}` is missing in {table}");
    }
}

#[test]
fn a_subnet_that_is_trained_alone() {
    let bench = profiled();
    for (name, flags) in [
        ("plain", "--budget 12kflops"),
        (
            "platform",
            "--budget 1s --platform host-1t --form portable --precision int8-dynamic --max-accuracy-drop 100%",
        ),
    ] {
        let files = ["once", "twice"].map(|time| {
            let out = format!("exports/tuned-{name}-{time}");
            let report = bench.succeed_json(&format!("export {flags} --finetune 12 --out {out}"))[0].clone();
            let tuned = &report["finetune"];
            has(
                tuned,
                &["steps", "learning-rate", "teacher-weight", "accuracy-before", "accuracy-after", "kept"],
            );
            let (before, after) = (number(&tuned["accuracy-before"]), number(&tuned["accuracy-after"]));
            assert_eq!(tuned["kept"], after >= before, "{name}: {tuned}");
            assert!(
                (number(&report["validation-accuracy"]) - before.max(after)).abs() < 1e-9,
                "{name}: {report}"
            );
            let file = format!("{out}/{}", report["file"].as_str().expect("a name"));
            assert_eq!(bench.succeed_json(&format!("verify {file}")), report["proof"], "{name}");
            let said =
                bench.succeed_json(&format!("inspect {file}"))["metadata"]["elastic.finetuned"].clone();
            assert_eq!((&said["steps"], &said["weights"]), (&12.into(), &tuned["weights-sha256"]), "{name}");
            bench.read(&file)
        });
        assert!(files[0] == files[1], "{name}: the same inputs give the same file");
    }
    assert!(!bench.file("exports/tuned-plain-once/.finetune-tiny").exists());
}

#[test]
fn trained_weights_are_kept_where_they_are_no_worse() {
    let bench = Bench::finished();
    let file = "exports/tiny-smallest.onnx";
    let weights = "exports/tiny-smallest.safetensors";
    // A rate of nothing changes no class.
    let kept = bench.succeed("export --subnet smallest --finetune 2 --finetune-rate 1e-9");
    assert!(kept.contains("fine-tuned in 2 steps") && !kept.contains("worse"), "{kept}");
    bench.succeed(&format!("verify {file}"));
    let other = bench.read(weights);
    bench.write(weights, bench.read("runs/tiny/supernet.safetensors"));
    let refused = bench.elastic(&format!("verify {file}"));
    assert!(
        refused.code == Some(1) && refused.stderr.contains("was made from the weights"),
        "{}",
        refused.stderr
    );
    bench.remove(weights);
    let refused = bench.elastic(&format!("verify {file}"));
    let said = "was fine-tuned, and its weights, exports/tiny-smallest.safetensors, are not beside it";
    assert!(refused.code == Some(1) && refused.stderr.contains(said), "{}", refused.stderr);
    bench.write(weights, other);
    // A rate that throws the weights away: what the supernet knows is better.
    let worse = bench.succeed("export --subnet smallest --finetune 4 --finetune-rate 5");
    assert!(worse.contains(": worse, so the supernet's weights were kept"), "{worse}");
    assert!(!bench.file(weights).exists(), "the weights of an earlier one are gone");
    bench.succeed(&format!("verify {file}"));
}

#[test]
fn a_crate_lies_beside_a_model() {
    let bench = profiled();
    // Whatever the model's own form and precision are, the crate's are those that burn-onnx reads.
    let flags = "--form contrib-attention --precision int8-dynamic --max-accuracy-drop 100% --batch 4";
    let report =
        &bench.succeed_json(&format!("export --subnet smallest {flags} --emit burn --out exports/crate"))[0];
    assert_eq!(report["burn-crate"], "exports/crate/tiny-smallest-burn");
    let text = |name: &str| {
        let name = format!("exports/crate/tiny-smallest-burn/{name}");
        String::from_utf8(bench.read(&name)).expect("text")
    };
    assert!(text("Cargo.toml").contains("name = \"tiny-smallest\"\n"), "{}", text("Cargo.toml"));
    let library = text("src/lib.rs");
    for part in [
        "pub const BATCH: usize = 4;",
        "= [1, 8, 8];",
        "[&str; 3] = [\"left\", \"top\", \"centre\"];",
        "#![no_std]",
    ] {
        assert!(library.contains(part), "`{part}` is missing in {library}");
    }
    assert!(text("tests/logits.rs").contains("use tiny_smallest::{BATCH, INPUT, Model};"));
    let said = bench.succeed_json("inspect exports/crate/tiny-smallest-burn/model.onnx");
    assert_eq!((&said["metadata"]["elastic.form"], &said["opsets"][""]), (&"portable".into(), &17.into()));
    assert_eq!(said["metadata"]["elastic.precision"], "fp32");
    let floats =
        |name: &str| bench.read(&format!("exports/crate/tiny-smallest-burn/tests/{name}.f32")).len() / 4;
    assert_eq!((floats("inputs"), floats("logits")), (8 * 64, 8 * 3));
}

#[test]
fn a_licence_goes_from_the_model_file_to_the_model() {
    require_library();
    let bench = Bench::fresh();
    bench.edit("models/tiny.yaml", "seed: 1\n", "licence: CC-BY-4.0\nseed: 1\n");
    bench.succeed("train --model models/tiny.yaml");
    bench.succeed("export --subnet smallest");
    let told = bench.succeed_json("inspect exports/tiny-smallest.onnx");
    assert_eq!(told["metadata"]["elastic.licence"], "CC-BY-4.0", "{told:#}");
}

#[test]
fn models_in_fewer_bits() {
    let bench = profiled();
    for precision in ["fp16", "int8-dynamic", "int8-dynamic-per-channel", "int8-static --calibration entropy"]
    {
        let name = precision.split(' ').next().expect("a word");
        let flags = format!("--precision {precision} --max-accuracy-drop 100% --batch dynamic");
        let files = ["", "-again"].map(|again| {
            let out = format!("exports/{name}{again}");
            let report = bench.succeed_json(&format!("export --subnet largest {flags} --out {out}"));
            assert_eq!(report[0]["precision"], name);
            let cost = &report[0]["fewer-bits"];
            has(cost, &["images", "accuracy", "accuracy-fp32", "accuracy-drop", "allowed-drop"]);
            let is_static = name == "int8-static";
            assert_eq!(!cost["calibration"].is_null(), is_static, "{name}: {cost}");
            let proof = bench.succeed_json(&format!("verify {out}/tiny-largest.onnx"));
            assert_eq!(proof, report[0]["proof"], "{name}");
            bench.read(&format!("{out}/tiny-largest.onnx"))
        });
        assert!(files[0] == files[1], "{name}: the same inputs give the same file");
    }
}

#[test]
fn the_fastest_precision_within_the_drop_is_written() {
    let bench = profiled();
    for (platform, refused) in [("host-1t", None), ("host-tract", Some("fp16"))] {
        let flags = format!("--platform {platform} --precision auto --form portable");
        let out = format!("exports/any-precision-{platform}");
        let report = &bench.succeed_json(&format!("export --subnet largest {flags} --out {out}"))[0];
        let forms = report["forms"].as_array().expect("a list");
        let tried: Vec<&str> = forms.iter().filter_map(|form| form["precision"].as_str()).collect();
        let all = ["fp32", "fp16", "int8-dynamic", "int8-dynamic-per-channel", "int8-static"];
        assert_eq!(tried, all, "{platform}");
        for form in forms {
            let is_refused = form["precision"].as_str() == refused;
            assert_eq!(form["p50-us"].is_null(), is_refused, "{platform}: {form}");
            assert_eq!(form["refused"].is_string(), is_refused, "{platform}: {form}");
        }
        let is_written = |form: &&Value| form["precision"] == report["precision"];
        let written = forms.iter().find(is_written).expect("what was written was measured");
        assert_eq!(written["p50-us"], report["measured-latency-us"], "{platform}");
        if report["precision"] != "fp32" {
            assert!(number(&report["fewer-bits"]["accuracy-drop"]) <= 0.01, "{report:#}");
        }
    }
}

#[test]
fn fewer_bits_hold_a_budget_that_floats_miss() {
    let bench = profiled();
    let size = |precision: &str| {
        let flags =
            format!("--precision {precision} --max-accuracy-drop 100% --out exports/size-{precision}");
        number(
            &bench.succeed_json(&format!(
                "export --subnet smallest --form portable --platform host-1t {flags}"
            ))[0]["file-bytes"],
        )
    };
    let between = f64::midpoint(size("fp32"), size("fp16")).round();
    let limit = between / 1000.0;
    let command = format!(
        "export --budget {limit}KB --budget 1s --platform host-1t --form portable --max-accuracy-drop 100%"
    );
    assert_eq!(bench.elastic(&command).code, Some(3), "{between} bytes");
    let report = &bench.succeed_json(&format!("{command} --precision auto --out exports/bits"))[0];
    assert_ne!(report["precision"], "fp32");
    assert!(number(&report["file-bytes"]) <= between, "{report:#}");
    assert!(number(&report["budgets"][0]["predicted"]) <= between, "{report:#}");
    bench.succeed(&format!("verify exports/bits/{}", report["file"].as_str().expect("a name")));
    let lines =
        bench.elastic("--verbose export --budget 1s --platform host-1t --precision auto --out exports/lines");
    for precision in ["fp32", "fp16", "int8-dynamic", "int8-static"] {
        let said = format!("{precision} on host-1t: ");
        assert!(lines.stderr.contains(&said), "`{said}` is missing in {}", lines.stderr);
    }
}

#[test]
fn the_same_seed_gives_the_same_file() {
    let bench = profiled();
    // Which form is the fastest depends on the device's clock; a form that is named does not.
    for platform in ["", "--platform host-tract --form portable", "--platform host-1t --form attention23"] {
        let files = ["once", "twice"].map(|out| {
            let printed = bench
                .succeed_json(&format!("export --budget 12kflops --seed 5 {platform} --out exports/{out}"));
            bench.read(&format!("exports/{out}/{}", printed[0]["file"].as_str().expect("a name")))
        });
        assert!(files[0] == files[1], "`{platform}`");
    }
}
