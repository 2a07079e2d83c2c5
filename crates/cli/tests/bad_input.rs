//! What a user reads after a mistake in a model file, a recipe, data, a run, a platform, or on the command line.

mod common;

use std::fs;
use std::process::Command;

use common::mistakes::{
    ACCURACIES, CHECKPOINT, Case, EXPORT, MODEL, SUPERNET, TRAIN, VERIFY, case, check, data_file, model,
    platform, typed,
};
use common::{BASE, Bench, FILES, Output, PROGRESSIVE, SIDE, write_idx};

#[test]
fn model_files() {
    let cases = [
        typed("the file is missing", "train --model models/vit.yaml"),
        typed("the default file is missing", "train"),
        typed("the file is a folder", "train --model models"),
        case("the file is no text", TRAIN, |b| b.write(MODEL, [0, 159, 146, 150])),
        case("the file is empty", TRAIN, |b| b.write(MODEL, "")),
        model("an unknown field", "      steps: 6", "      stepz: 6"),
        model("an unknown field of the space", "patch-size: 4", "patchsize: 4"),
        model("a missing field", "  checkpoint-every: 2\n", ""),
        model("a wrong type", "      steps: 6", "      steps: many"),
        model("a number where a list belongs", "embed-dim: [8, 16]", "embed-dim: 16"),
        model(
            "a number where a map belongs",
            "depth:\n      choices: [1, 2]\n      drop: prefix",
            "depth: 2",
        ),
        model("a negative seed", "seed: 1", "seed: -1"),
        model("a list that is not closed", "embed-dim: [8, 16]", "embed-dim: [8, 16"),
        model("broken indentation", "    channels: 1", "   channels: 1"),
        model("a line that continues the one before", "    channels: 1", "      channels: 1"),
        model("a field that slipped out of its map", "    channels: 1", "  channels: 1"),
        model("a tab", "    channels: 1", "\tchannels: 1"),
        model("an unknown choice", "pooling: mean", "pooling: max"),
        model("an unknown family", "  vit:\n    image", "  vitt:\n    image"),
        model("another schema", "elastic.model/v1", "elastic.model/v2"),
        model("no choices", "embed-dim: [8, 16]", "embed-dim: []"),
        model("unsorted choices", "embed-dim: [8, 16]", "embed-dim: [16, 8]"),
        model("patches that do not cover the image", "patch-size: 4", "patch-size: 3"),
        model("a fixed subnet without a definition", "smallest]", "tiniest]"),
        model("a named subnet outside the space", "embed-dim: 16", "embed-dim: 12"),
        model("a named subnet that keeps another layer", "index: 0", "index: 1"),
        model("a named subnet with a name that is taken", "middle:", "largest:"),
        model("a named subnet whose name leads elsewhere", "middle:", "../middle:"),
        model(
            "two subnets of one name",
            "data:\n",
            "  middle: {vit: {embed-dim: 16, layers: [{index: 0, heads: 2, mlp-width: 8}]}}\ndata:\n",
        ),
        case("inspect of a broken file", "inspect --model models/tiny.yaml", |b| {
            b.edit(MODEL, "heads:\n      choices: [1, 2]", "heads:\n      choices: [0, 2]");
        }),
    ];
    check("model_files", Bench::fresh, &cases);
}

#[test]
fn recipes() {
    let cases = [
        model("no steps", "steps: 6", "steps: 0"),
        typed("no steps by a flag", "train --model models/tiny.yaml --steps 0"),
        typed("steps that are no number", "train --model models/tiny.yaml --steps many").code(2),
        model("a learning rate of 0", "peak: 0.01", "peak: 0"),
        model("a final learning rate above the first", "final: 0.0001", "final: 1"),
        model("a clipping norm of 0", "norm: 1.0", "norm: 0"),
        model("a batch larger than the data", "batch-size: 8", "batch-size: 64"),
        model("fewer subnets than fixed ones", "      subnets: 4", "      subnets: 1"),
        model("a crop beyond the image", "crop-padding: 1", "crop-padding: 8"),
        model("nothing for validation", "validation: 20", "validation: 0"),
        model("everything for validation", "validation: 20", "validation: 60"),
        model("two means for one channel", "mean: [0.3]", "mean: [0.3, 0.3]"),
        model("a standard deviation of 0", "std: [0.3]", "std: [0]"),
        model("more names than classes", "centre]", "centre, right]"),
        case("a learning rate that lets the loss explode", TRAIN, |b| {
            b.edit(MODEL, "peak: 0.01", "peak: 1000000000.0");
            b.edit(MODEL, "  clip-gradient-norm: 1.0\n", "");
            b.edit(MODEL, "warm-up-steps: 2", "warm-up-steps: 0");
        }),
    ];
    check("recipes", Bench::fresh, &cases);
}

#[test]
fn schemes() {
    let cases = [
        model("an unknown scheme", "    joint:\n", "    joined:\n"),
        model("an unknown sampling strategy", "rest: random", "rest: randomly"),
        model("a list of subnets inside another", "rest: random", "rest: {fixed: [largest]}"),
        model("a law that is not known", "rest: random", "rest: {distribution: {law: params}}"),
        model("a table of the wrong length", "rest: random", "rest: {distribution: {tables: {heads: [1]}}}"),
        model("a table without a field", "rest: random", "rest: {distribution: {tables: {head: [1, 1]}}}"),
        model(
            "a strategy for a dimension that is not there",
            "rest: random",
            "rest: {by-dimension: {kernel: random}}",
        ),
        model("a number of subnets that is a word", "subnets: 4", "subnets: many"),
        model("auto without budgets", "subnets: 4", "subnets: auto"),
        case("auto with a budget in time", TRAIN, |b| {
            b.edit(MODEL, "      subnets: 4", "      subnets: auto");
            b.edit(MODEL, "  batch-size: 8", "  batch-size: 8\n  platform-budgets: [3ms]");
        }),
        model("an in-place teacher without the largest", "fixed: [largest, smallest]", "fixed: [smallest]"),
        model("joint that opens one dimension", "      steps: 6", "      open: width\n      steps: 6"),
        model("a transform of depth", "    mlp-width:", "    transforms: {depth: linear}\n    mlp-width:"),
        model("stages that hold too few layers", "    mlp-width:", "    stages: [1]\n    mlp-width:"),
        progressive("no stages", None),
        progressive(
            "a stage that opens nothing",
            Some(("        - open: width\n          steps", "        - steps")),
        ),
        progressive("a dimension that is opened twice", Some(("open: depth", "open: width"))),
        progressive("a dimension without choices", Some(("open: depth", "open: kernel"))),
        progressive("no base", Some((BASE, ""))),
        progressive("a patience of nothing", Some(("evaluations: 2", "evaluations: 0"))),
        model("a teacher that is not there", "teacher: in-place", "teacher: {onnx: teacher.onnx}"),
        model("a start that is not there", "training:\n", "init: {from: weights.safetensors}\ntraining:\n"),
        model("a start of another kind", "training:\n", "init: {from: weights.pt}\ntraining:\n"),
        model(
            "a rule that is no regular expression",
            "training:\n",
            "init: {from: w.onnx, map: [{from: '(', to: ''}]}\ntraining:\n",
        ),
        typed("a stage that is not there", "train --from runs/tiny/stages/1-width --out runs/onwards"),
    ];
    check("schemes", Bench::fresh, &cases);
}

/// A change to a progressive scheme; `None` leaves out its stages.
fn progressive(what: &'static str, change: Option<(&'static str, &'static str)>) -> Case {
    case(what, TRAIN, move |b| {
        b.set_scheme(PROGRESSIVE);
        match change {
            Some((from, to)) => b.edit(MODEL, from, to),
            None => {
                let start = PROGRESSIVE.find("      stages:\n").expect("there are stages");
                b.edit(MODEL, &PROGRESSIVE[start..], "      stages: []\n");
            }
        }
    })
}

#[test]
fn a_recipe_that_does_not_fit_leaves_no_run_behind() {
    let bench = Bench::fresh();
    bench.edit(MODEL, "batch-size: 8", "batch-size: 64");
    assert_eq!(bench.elastic(TRAIN).code, Some(1));
    bench.edit(MODEL, "batch-size: 64", "batch-size: 8");
    bench.succeed(TRAIN);
}

#[test]
fn a_run_that_diverges_keeps_its_checkpoint() {
    let bench = Bench::fresh();
    // The first steps go well: warm-up holds the rate down until a checkpoint is written.
    bench.edit(MODEL, "peak: 0.01", "peak: 1000000000.0");
    bench.edit(MODEL, "  clip-gradient-norm: 1.0\n", "");
    bench.edit(MODEL, "checkpoint-every: 2", "checkpoint-every: 1");
    let first = bench.elastic(TRAIN);
    assert_eq!(first.code, Some(1), "{}", first.stderr);
    assert!(!bench.file(SUPERNET).exists());
    let kept = bench.read(CHECKPOINT);
    let again = bench.elastic("train --model models/tiny.yaml --resume");
    assert_eq!(again.code, Some(1), "{}", again.stderr);
    assert_eq!(again.stderr.lines().last(), first.stderr.lines().last(), "the same step goes wrong again");
    assert!(bench.read(CHECKPOINT) == kept);
}

#[test]
fn data() {
    let cases = [
        case("the folder is missing", TRAIN, |b| b.remove("data")),
        typed("the folder of the flag is missing", "train --model models/tiny.yaml --data data/huge"),
        typed("the folder is a file", "train --model models/tiny.yaml --data models/tiny.yaml"),
        case("a file is missing", TRAIN, |b| b.remove(&data_file(1))),
        case("a packed file is cut short", TRAIN, |b| {
            let bundled = format!("../../data/fashion-mnist-small/{}.gz", FILES[0]);
            let packed = fs::read(bundled).expect("the bundled data are in the repository");
            b.write(&format!("{}.gz", data_file(0)), &packed[..100_000]);
        }),
        case("a packed file is not packed", TRAIN, |b| {
            b.write(&format!("{}.gz", data_file(0)), b.read(&data_file(0)));
        }),
        case("a plain file is cut short", TRAIN, |b| b.truncate(&data_file(0), 1000)),
        case("labels where images belong", TRAIN, |b| b.write(&data_file(0), b.read(&data_file(1)))),
        case("one label too few", TRAIN, |b| write_idx(b, FILES[1], &[59], vec![0; 59])),
        case("no images", TRAIN, |b| {
            write_idx(b, FILES[0], &[0, SIDE, SIDE], vec![]);
            write_idx(b, FILES[1], &[0], vec![]);
        }),
        case("images of another size", TRAIN, |b| write_idx(b, FILES[0], &[60, 4, 16], vec![0; 60 * 64])),
        case("a label that is no class", TRAIN, |b| write_idx(b, FILES[1], &[60], vec![3; 60])),
    ];
    check("data", Bench::fresh, &cases);
}

/// Other data in place of the model file's.
fn other_data(
    name: &'static str,
    format: &'static str,
    files: &'static [(&'static str, &'static [u8])],
) -> Case {
    case(name, TRAIN, move |b| {
        b.edit(MODEL, "idx: data/tiny", format);
        files.iter().for_each(|(file, content)| b.write(file, content));
    })
}

#[test]
fn image_files() {
    const FOLDERS: &str = "folders: {path: data, on-corrupt: fail}";
    const CSV: &str = "csv: {train: data/train.csv, test: data/test.csv, label: first}";
    const TEXT: &[u8] = b"a text";
    let cases = [
        other_data(
            "a text that is named as a picture",
            FOLDERS,
            &[
                ("data/train/centre/1.png", TEXT),
                ("data/train/left/1.jpg", TEXT),
                ("data/train/top/1.webp", TEXT),
                ("data/train/top/2.png", TEXT),
            ],
        ),
        other_data("a class that is not named", FOLDERS, &[("data/train/right/1.png", TEXT)]),
        case("one class", TRAIN, |b| {
            b.edit(MODEL, "idx: data/tiny", FOLDERS);
            b.edit(MODEL, "  class-names: [left, top, centre]\n", "");
            b.write("data/train/left/1.png", TEXT);
        }),
        other_data("no folder of training images", FOLDERS, &[]),
        other_data("a line that is too short", CSV, &[("data/train.csv", b"0,1,2\n")]),
        case("a line that ends early", TRAIN, |b| {
            b.edit(MODEL, "idx: data/tiny", CSV);
            let line = format!("1{}\n", ",7".repeat(SIDE * SIDE));
            b.write("data/train.csv", format!("{line}{line}1,7,7\n"));
        }),
        other_data(
            "a file of CIFAR that is cut short",
            "cifar: {path: data, kind: cifar-100}",
            &[("data/train.bin", &[0; 3073])],
        ),
        model("two formats", "idx: data/tiny", "idx: data/tiny\n  folders: {path: data, on-corrupt: skip}"),
        model("no format", "  idx: data/tiny\n", ""),
        case("a folder for files that are named", "train --model models/tiny.yaml --data data/other", |b| {
            b.edit(MODEL, "idx: data/tiny", CSV);
        }),
    ];
    check("image_files", Bench::fresh, &cases);
}

#[test]
fn continued_runs() {
    let unfinish = |b: &Bench| b.remove(SUPERNET);
    let resume = "train --model models/tiny.yaml --resume";
    let cases = [
        typed("nothing to resume", "train --model models/tiny.yaml --out runs/other --resume"),
        case("an unfinished run without --resume", TRAIN, unfinish),
        case("resume with another seed", "train --model models/tiny.yaml --seed 2 --resume", unfinish),
        case("resume with other data", "train --model models/tiny.yaml --data data/copy --resume", |b| {
            b.remove(SUPERNET);
            fs::rename(b.file("data/tiny"), b.file("data/copy")).expect("the folder can be renamed");
        }),
        typed("a finished run with another configuration", "train --model models/tiny.yaml --steps 7"),
        case("a checkpoint that is cut short", resume, |b| {
            b.remove(SUPERNET);
            b.truncate(CHECKPOINT, 20_000);
        }),
        case("a supernet where the checkpoint belongs", resume, |b| {
            fs::rename(b.file(SUPERNET), b.file(CHECKPOINT)).expect("the file can be renamed");
        }),
        case("a damaged config.yaml", resume, |b| {
            b.remove(SUPERNET);
            b.truncate("runs/tiny/config.yaml", 200);
        }),
        typed("a run's folder that is a file", "train --model models/tiny.yaml --out models/tiny.yaml"),
    ];
    check("continued_runs", Bench::finished, &cases);
}

#[test]
fn runs() {
    let cases = [
        case("no folder of runs", EXPORT, |b| b.remove("runs")),
        case("no finished run", EXPORT, |b| b.remove(SUPERNET)),
        typed("a run that is missing", "export --budget 1mflops --run runs/other"),
        case("a run that has not finished", "profile --platform host-tract --run runs/tiny", |b| {
            b.remove(SUPERNET);
        }),
        typed("inspect of a run that is missing", "inspect --run runs/other"),
        case("a supernet that is cut short", EXPORT, |b| b.truncate(SUPERNET, 10_000)),
        case("an empty supernet", EXPORT, |b| b.write(SUPERNET, "")),
        case("another program's safetensors file", EXPORT, |b| {
            let header = r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
            let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat();
            b.write(SUPERNET, file);
        }),
        case("a checkpoint where the supernet belongs", EXPORT, |b| b.write(SUPERNET, b.read(CHECKPOINT))),
        case("a config.yaml that was changed after training", EXPORT, |b| {
            b.edit("runs/tiny/config.yaml", "head-dim: 4", "head-dim: 8");
        }),
        case("a config.yaml that is missing", EXPORT, |b| b.remove("runs/tiny/config.yaml")),
        case("data that have gone", EXPORT, |b| b.remove("data")),
    ];
    check("runs", Bench::finished, &cases);
}

#[test]
fn platforms() {
    let (onnx_runtime, tract) = ("profile --platform host-1t", "profile --platform host-tract");
    let cases = [
        typed("an unknown platform", "profile --platform pixel.yaml"),
        typed("no platform", "profile").code(2),
        case("no folder of platforms", "profile --platform pixel", |b| b.remove("platforms")),
        platform("an unknown field", tract, "min-samples", "min-sample"),
        platform("an unknown provider", onnx_runtime, "provider: cpu ", "provider: gpu "),
        platform("a provider that the library lacks", onnx_runtime, "provider: cpu ", "provider: cuda ")
            .code(4),
        platform("another schema", tract, "elastic.platform/v1", "elastic.platform/v9"),
        platform("no threads", onnx_runtime, "threads: 1 ", "threads: 0 "),
        typed("another machine", "profile --platform jetson.yaml").code(4),
        platform(
            "a transport without a time limit",
            tract,
            "transport: local ",
            "transport: {ssh: {host: pi, program: elastic}} ",
        ),
        platform(
            "a time limit of 0",
            tract,
            "transport: local ",
            "transport: {exec: {command: [sh], timeout-s: 0}} ",
        ),
        platform(
            "an empty command",
            tract,
            "transport: local ",
            "transport: {exec: {command: [], timeout-s: 9}} ",
        ),
        platform(
            "a host that is an option",
            tract,
            "transport: local ",
            "transport: {ssh: {host: -v, program: elastic, timeout-s: 9}} ",
        ),
        platform("an unknown transport", tract, "transport: local ", "transport: {telnet: {host: pi}} "),
        platform("a limit of another quantity", tract, "\nmeasure:", "\nlimits: {latency: 3KB}\nmeasure:"),
        platform("a limit without a unit", tract, "\nmeasure:", "\nlimits: {latency: 3}\nmeasure:"),
        platform("a limit of an unknown quantity", tract, "\nmeasure:", "\nlimits: {power: 3W}\nmeasure:"),
        typed("one subnet", "profile --platform host-tract --subnets 1").code(2),
        typed("subnets that are no number", "profile --platform host-tract --subnets few").code(2),
        typed("a profile below a file", "profile --platform host-tract --out models/tiny.yaml/p.json"),
    ];
    check("platforms", Bench::finished, &cases);
}

#[test]
fn the_error_of_another_machine_names_what_differs() {
    let output = Bench::finished().elastic("profile --platform jetson.yaml");
    assert!(output.stderr.contains("model-contains `Orin` is asked, here is `"), "{}", output.stderr);
}

#[test]
fn libraries() {
    const PROFILE: &str = "profile --platform host-1t";
    const MINE: &[(&str, &str)] = &[("ELASTIC_ORT_LIBRARY", "lib/libonnxruntime.so")];
    const NONE: &[(&str, &str)] = &[
        ("ELASTIC_ORT_LIBRARY", ""),
        ("ORT_DYLIB_PATH", ""),
        ("ELASTIC_CACHE", "cache"),
        ("LD_LIBRARY_PATH", ""),
        ("DYLD_LIBRARY_PATH", ""),
    ];
    let mut cases = vec![
        typed("a variable that names no file", PROFILE).variables(MINE).code(4),
        case("a library that is no library", PROFILE, |b| b.write("lib/libonnxruntime.so", "not a library"))
            .variables(MINE)
            .code(4),
        typed("an archive that is missing", "runtime install --archive onnxruntime.whl"),
        typed("an archive of another kind", "runtime install --archive models/tiny.yaml"),
    ];
    if !found_anyway(NONE) {
        cases.push(typed("no library", PROFILE).variables(NONE).code(4));
        cases.push(typed("no library for the proof of a model", EXPORT).variables(NONE).code(4));
        cases.push(typed("no library to verify with", VERIFY).variables(NONE).code(4));
    }
    check("libraries", Bench::finished, &cases);
}

/// Whether the system's own folders hold a library that no variable hides: there these cases, and their
/// snapshot, cannot be made.
fn found_anyway(variables: &[(&str, &str)]) -> bool {
    let output =
        Bench::output(Bench::fresh().command("doctor --format json").envs(variables.iter().copied()));
    let findings: serde_json::Value = serde_json::from_str(&output.stdout).expect("doctor prints JSON");
    findings[0]["found"] == true
}

/// Runs a command that may not write files above a few kilobytes, as on a disk that is nearly full.
fn on_a_full_disk(bench: &Bench, arguments: &str) -> Output {
    let script = "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_elastic")]).args(arguments.split_whitespace());
    Bench::output(command.current_dir(bench.path()))
}

#[test]
fn a_full_disk_leaves_whole_files_alone() {
    let bench = Bench::finished();
    let (supernet, checkpoint) = (bench.read(SUPERNET), bench.read(CHECKPOINT));
    bench.remove(SUPERNET);
    bench.remove("exports");
    let resume = "train --model models/tiny.yaml --resume";
    for (command, file) in [
        ("train --model models/tiny.yaml --out runs/other", "runs/other/checkpoint.safetensors"),
        (resume, SUPERNET),
    ] {
        let output = on_a_full_disk(&bench, command);
        assert_eq!(output.code, Some(1), "{command}: {}", output.stderr);
        let error = format!("error: write {file}: File too large (os error 27)");
        assert_eq!(output.stderr.lines().last(), Some(&*error), "{command}");
        assert!(!bench.file(file).exists(), "{command}");
    }
    assert!(bench.read(CHECKPOINT) == checkpoint);
    bench.succeed(resume);
    assert!(bench.read(SUPERNET) == supernet, "with space the run ends as it would have");

    bench.remove(ACCURACIES);
    let output = on_a_full_disk(&bench, EXPORT);
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    let warning =
        format!("warning: write {ACCURACIES}: File too large (os error 27); accuracies are not kept");
    assert!(output.stderr.contains(&warning), "{}", output.stderr);
    assert!(bench.read(ACCURACIES).ends_with(b"}\n"), "only whole lines stay");
    assert!(output.stderr.contains("error: write exports/tiny-1mflops.onnx: "), "{}", output.stderr);
    for folder in ["runs/tiny", "runs/other", "exports"] {
        let entries = fs::read_dir(bench.file(folder)).expect("the folder is there");
        let names = entries.map(|entry| entry.expect("the folder can be read").file_name());
        let temporary: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with('.')).collect();
        assert!(temporary.is_empty(), "{folder}: {temporary:?}");
    }
}

/// A program that was built for GPUs looks for one instead.
#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
#[test]
fn devices() {
    let cases = [
        typed("a GPU that the program was not built for", "train --model models/tiny.yaml --device wgpu"),
        typed("a library that it was not built for", "train --model models/tiny.yaml --device cuda"),
        typed("an unknown device", "train --model models/tiny.yaml --device tpu").code(2),
    ];
    check("devices", Bench::fresh, &cases);
}

#[test]
fn errors_as_json() {
    for (command, code, kind, part) in [
        ("export --budget 2parsecs --format json", 2, "usage", "unknown unit"),
        ("export --budget 1kflops --format=json", 3, "infeasible", "costs 3.4 kFLOPs"),
        ("--format json verify nothing.onnx", 1, "failure", "nothing.onnx"),
        ("profile --platform jetson.yaml --format json", 4, "device", "aarch64"),
    ] {
        let bench = Bench::finished();
        let output = bench.elastic(command);
        assert_eq!(output.code, Some(code), "{command}: {}", output.stderr);
        let error: serde_json::Value = serde_json::from_str(&output.stdout).expect("one JSON value");
        assert_eq!(error["error"]["exit-code"], code, "{command}");
        assert_eq!(error["error"]["kind"], kind, "{command}");
        let message = error["error"]["message"].as_str().expect("a text");
        assert!(message.contains(part) && output.stderr.contains(message), "{command}: {message}");
    }
}

#[test]
fn wrong_usage() {
    let cases = [
        typed("a command that does not exist", "trian").code(2),
        typed("a flag that does not exist", "train --modell models/tiny.yaml").code(2),
        typed("quiet and verbose", "--quiet --verbose doctor").code(2),
        typed("a format that does not exist", "inspect --format xml").code(2),
        typed("a data set that does not exist", "data fetch imagenet").code(2),
    ];
    check("wrong_usage", Bench::fresh, &cases);
}
