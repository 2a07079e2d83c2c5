//! What a user reads after a mistake in a budget, an export or a model to verify.

mod common;

use common::Bench;
use common::mistakes::{ACCURACIES, VERIFY, case, check, data_file, typed};
use common::reports::promise_no_time_at_all;
use elastic_exporter::onnx::ModelProto;
use prost::Message;

#[test]
fn budgets() {
    const LATENCY: &str = "export --budget 3ms --platform host-tract";
    const PROFILE: &str = "profiles/host-tract.json";
    let cases = [
        typed("a subnet that is not named", "export --subnet medium"),
        typed(
            "a named subnet over its budget",
            "export --subnet largest --budget 3kparams --budget 1kparams",
        )
        .code(3),
        typed("no budget", "export").code(2),
        typed("no budget for a platform", "export --platform host-tract").code(2),
        typed("a shared model for no platform", "export --shared --budget 1mflops").code(2),
        typed("no models for some platforms", "export --at-most 0 --platform host-tract --budget 1mflops")
            .code(2),
        typed("no number", "export --budget gflops").code(2),
        typed("no unit", "export --budget 2").code(2),
        typed("an unknown unit", "export --budget 2parsecs").code(2),
        typed("zero", "export --budget 0ms").code(2),
        typed("below zero", "export --budget=-1gflops").code(2),
        typed("a latency without a platform", "export --budget 3ms").code(2),
        typed("a platform without a profile", "export --budget 3ms --platform host-1t"),
        case("no profile at all", "export --budget 3ms --all-platforms", |b| b.remove("profiles")),
        case("an empty folder of profiles", "export --budget 3ms --all-platforms", |b| b.remove(PROFILE)),
        typed("a platform and all", "export --budget 3ms --platform host-tract --all-platforms").code(2),
        case("a damaged profile", LATENCY, |b| b.truncate(PROFILE, 500)),
        case("a profile of another version", LATENCY, |b| b.edit(PROFILE, "profile/v1", "profile/v2")),
        case("a profile of another space", LATENCY, |b| {
            b.edit(PROFILE, "\"head-dim\": 4", "\"head-dim\": 8");
        }),
        typed("a budget that no subnet meets", "export --budget 1kflops").code(3),
        typed("two budgets that no subnet meets", "export --budget 1kflops --budget 10params").code(3),
        typed("a latency that no subnet meets", "export --budget 0.001us --platform host-tract").code(3),
        case(
            "a latency that only the model meets",
            "--quiet export --budget 0.001us --platform host-tract",
            |b| promise_no_time_at_all(b, PROFILE, 1e9),
        )
        .code(6),
        case(
            "a latency on a machine that has become slower",
            "--quiet export --budget 0.001us --platform host-tract",
            |b| promise_no_time_at_all(b, PROFILE, 1e-3),
        )
        .code(5),
    ];
    check("budgets", Bench::finished, &cases);
}

#[test]
fn exports() {
    let cases = [
        typed("a file where the folder belongs", "export --budget 1mflops --out models/tiny.yaml"),
        typed("a batch of 0", "export --budget 1mflops --batch 0").code(2),
        typed("a batch that is no number", "export --budget 1mflops --batch x").code(2),
        typed("a sequence that is no word for one", "export --budget 1mflops --sequence long").code(2),
        typed("images of any length", "export --budget 1mflops --sequence dynamic").code(1),
        typed("no evaluations", "export --budget 1mflops --evaluations 0").code(2),
        typed("a population of 1", "export --budget 1mflops --population 1").code(2),
        typed("no images", "export --budget 1mflops --images 0").code(2),
        typed("a form that is unknown", "export --budget 1mflops --form attention17").code(2),
        typed("an opset that is too old", "export --budget 1mflops --opset 12"),
        typed("an opset that is too new", "export --budget 1mflops --opset 24"),
        typed(
            "an opset that lacks the form's operators",
            "export --budget 1mflops --form attention23 --opset 22",
        ),
        typed("a precision that is unknown", "export --budget 1mflops --precision int4").code(2),
        typed("a drop that is no percentage", "export --budget 1mflops --max-accuracy-drop 0.5").code(2),
        typed("fine-tuning that diverges", "export --subnet smallest --finetune 4 --finetune-rate 1e30"),
        typed("a calibration that is unknown", "export --budget 1mflops --calibration mean").code(2),
        typed("no calibration images", "export --budget 1mflops --calibration-images 0").code(2),
        typed("the fastest precision without a platform", "export --budget 1mflops --precision auto"),
        typed(
            "a form that the platform does not take",
            "export --budget 1mflops --form contrib-attention --platform host-tract",
        ),
        case("accuracies that were changed", "export --budget 1mflops", |b| {
            b.edit(ACCURACIES, "\"margins\"", "\"margin\"");
        }),
        case("accuracies of another version", "export --budget 1mflops", |b| {
            b.edit(ACCURACIES, "accuracy/v2", "accuracy/v1");
        }),
        case("accuracies of more images than they say", "export --budget 1mflops", |b| {
            b.edit(ACCURACIES, "\"images\":20", "\"images\":19");
        }),
    ];
    check("exports", Bench::finished, &cases);
}

#[test]
fn models_to_verify() {
    const EXPORTED: &str = "exports/tiny-1mflops.onnx";
    let cases = [
        typed("a file that is missing", "verify exports/other.onnx"),
        typed("a file that is no ONNX model", "verify models/tiny.yaml"),
        case("an empty file", "verify exports/empty.onnx", |b| b.write("exports/empty.onnx", "")),
        case("a model that is cut short", VERIFY, |b| b.truncate(EXPORTED, 3000)),
        case("a model of another program", VERIFY, |b| {
            change_model(b, EXPORTED, |model| model.metadata_props.clear());
        }),
        case("a model in fewer bits whose accuracy was changed", VERIFY, |b| {
            b.succeed("export --budget 1mflops --precision int8-dynamic --max-accuracy-drop 100%");
            change_model(b, EXPORTED, |model| {
                let entry = model.metadata_props.iter_mut().find(|entry| entry.key() == "elastic.accuracy");
                let lie = "{\"images\":20,\"accuracy-fp32\":2.0,\"accuracy\":2.0}";
                entry.expect("the accuracy is there").value = Some(lie.to_owned());
            });
        })
        .code(8),
        case("a model whose metadata were changed", VERIFY, |b| {
            change_model(b, EXPORTED, |model| {
                let subnet = model.metadata_props.iter_mut().find(|entry| entry.key() == "elastic.subnet");
                subnet.expect("the subnet is there").value = Some("{\"vit\":{}}".to_owned());
            });
        }),
        case("a model of another checkpoint", "verify exports/tiny-1mflops.onnx --run runs/other", |b| {
            b.succeed("train --model models/tiny.yaml --out runs/other --seed 2");
        }),
        typed("a run that is missing", "verify exports/tiny-1mflops.onnx --run runs/other"),
        case("test data that have gone", VERIFY, |b| b.remove(&data_file(2))),
        case("weights that were changed", VERIFY, |b| {
            change_model(b, EXPORTED, |model| {
                let graph = model.graph.as_mut().expect("a model has a graph");
                let head = graph.initializer.iter_mut().find(|tensor| tensor.name() == "head.bias");
                let bias =
                    head.and_then(|tensor| tensor.raw_data.as_mut()).expect("the classifier has a bias");
                bias[..4].copy_from_slice(&100_f32.to_le_bytes());
            });
        })
        .code(8),
    ];
    check("models_to_verify", Bench::finished, &cases);
}

/// Changes an ONNX file.
fn change_model(bench: &Bench, name: &str, change: fn(&mut ModelProto)) {
    let mut model = ModelProto::decode(&bench.read(name)[..]).expect("the file is an ONNX model");
    change(&mut model);
    bench.write(name, model.encode_to_vec());
}
