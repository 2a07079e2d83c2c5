//! What a user reads after a mistake: one snapshot a topic, each case with its command and exit code.

mod common;

use std::fs;

use common::{Bench, FILES, SIDE, write_idx};

/// One mistake.
struct Case {
    /// What is wrong, for people.
    name: &'static str,
    /// Makes the mistake.
    setup: fn(&Bench),
    /// The arguments of `elastic`.
    command: &'static str,
    /// Variables for the binary alone.
    variables: &'static [(&'static str, &'static str)],
    /// The exit code.
    code: i32,
}

const TRAIN: &str = "train --model models/tiny.yaml";

/// A mistake that gives exit code 1.
fn case(name: &'static str, command: &'static str, setup: fn(&Bench)) -> Case {
    Case { name, setup, command, variables: &[], code: 1 }
}

impl Case {
    fn code(self, code: i32) -> Self {
        Self { code, ..self }
    }

    fn variables(self, variables: &'static [(&'static str, &'static str)]) -> Self {
        Self { variables, ..self }
    }
}

/// A mistake on the command line alone.
fn nothing(_: &Bench) {}

/// Makes each mistake in a folder of its own, and holds what is printed against the snapshot.
fn check(topic: &str, bench: fn() -> Bench, cases: &[Case]) {
    let mut text = String::new();
    for Case { name, setup, command, variables, code } in cases {
        let bench = bench();
        setup(&bench);
        let output = Bench::output(bench.command(command).envs(variables.iter().copied()));
        assert_eq!(output.code, Some(*code), "{name}: {}", output.stderr);
        assert_eq!(output.stdout, "", "{name}: an error belongs on standard error");
        let stderr = in_folder(&bench, &output.stderr);
        text += &format!("# {name}\n$ elastic {command}\n{stderr}exit code {code}\n\n");
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_omit_expression(true);
    for (pattern, replacement) in [
        (r"\b[0-9a-f]{12}\b", "[HASH]"),
        (r"loss \d+\.\d+", "loss [LOSS]"),
        (r"\d+ images/s, \d+\.\d subnet", "[N] images/s, [N] subnet"),
        (r"(?m)^step (\d+): validation .*", "step $1: validation [ACCURACIES]"),
        (r"best \d+\.\d\d %", "best [ACCURACY]"),
        (r"describes: .*; elastic", "describes: [DIFFERENCES]; elastic"),
        (r"library: none in .*;", "library: none in [PLACES];"),
        (r"Provider: \S+ offers only [^;]*;", "Provider: [LIBRARY] offers only [PROVIDERS];"),
        (r"costs \d+\.\d us", "costs [LATENCY]"),
        (r"took \d+\.\d us", "took [LATENCY]"),
    ] {
        settings.add_filter(pattern, replacement);
    }
    settings.bind(|| insta::assert_snapshot!(topic, text));
}

/// The text without the path of the temporary folder.
fn in_folder(bench: &Bench, text: &str) -> String {
    let canonical = fs::canonicalize(bench.path()).expect("the folder is there");
    let text = text.replace(&*canonical.to_string_lossy(), "[FOLDER]");
    text.replace(&*bench.path().to_string_lossy(), "[FOLDER]")
}

#[test]
fn model_files() {
    check(
        "model_files",
        Bench::fresh,
        &[
            case("the file is missing", "train --model models/vit.yaml", nothing),
            case("the default file is missing", "train", nothing),
            case("the file is a folder", "train --model models", nothing),
            case("the file is no text", TRAIN, |b| b.write("models/tiny.yaml", [0, 159, 146, 150])),
            case("the file is empty", TRAIN, |b| b.write("models/tiny.yaml", "")),
            case("an unknown field", TRAIN, |b| b.edit("models/tiny.yaml", "  steps: 6", "  stepz: 6")),
            case("an unknown field of the space", TRAIN, |b| {
                b.edit("models/tiny.yaml", "patch-size: 4", "patchsize: 4")
            }),
            case("a missing field", TRAIN, |b| b.edit("models/tiny.yaml", "  checkpoint-every: 2\n", "")),
            case("a wrong type", TRAIN, |b| b.edit("models/tiny.yaml", "  steps: 6", "  steps: many")),
            case("a negative seed", TRAIN, |b| b.edit("models/tiny.yaml", "seed: 1", "seed: -1")),
            case("broken indentation", TRAIN, |b| {
                b.edit("models/tiny.yaml", "    channels: 1", "      channels: 1")
            }),
            case("a field that slipped out of its map", TRAIN, |b| {
                b.edit("models/tiny.yaml", "    channels: 1", "  channels: 1")
            }),
            case("a tab", TRAIN, |b| b.edit("models/tiny.yaml", "    channels: 1", "\tchannels: 1")),
            case("an unknown choice", TRAIN, |b| b.edit("models/tiny.yaml", "pooling: mean", "pooling: max")),
            case("an unknown family", TRAIN, |b| {
                b.edit("models/tiny.yaml", "  vit:\n    image", "  vitt:\n    image")
            }),
            case("another schema", TRAIN, |b| {
                b.edit("models/tiny.yaml", "elastic.model/v1", "elastic.model/v2")
            }),
            case("no choices", TRAIN, |b| b.edit("models/tiny.yaml", "embed-dim: [8, 16]", "embed-dim: []")),
            case("unsorted choices", TRAIN, |b| {
                b.edit("models/tiny.yaml", "embed-dim: [8, 16]", "embed-dim: [16, 8]")
            }),
            case("patches that do not cover the image", TRAIN, |b| {
                b.edit("models/tiny.yaml", "patch-size: 4", "patch-size: 3")
            }),
            case("a fixed subnet without a definition", TRAIN, |b| {
                b.edit("models/tiny.yaml", "smallest]", "tiniest]")
            }),
            case("a named subnet outside the space", TRAIN, |b| {
                b.edit("models/tiny.yaml", "embed-dim: 16", "embed-dim: 12")
            }),
            case("a named subnet that keeps another layer", TRAIN, |b| {
                b.edit("models/tiny.yaml", "index: 0", "index: 1")
            }),
            case("a named subnet with a name that is taken", TRAIN, |b| {
                b.edit("models/tiny.yaml", "middle:", "largest:")
            }),
            case("inspect of a broken file", "inspect --model models/tiny.yaml", |b| {
                b.edit("models/tiny.yaml", "heads:\n      choices: [1, 2]", "heads:\n      choices: [0, 2]");
            }),
        ],
    );
}

#[test]
fn recipes() {
    check(
        "recipes",
        Bench::fresh,
        &[
            case("no steps", TRAIN, |b| b.edit("models/tiny.yaml", "steps: 6", "steps: 0")),
            case("no steps by a flag", "train --model models/tiny.yaml --steps 0", nothing),
            case("steps that are no number", "train --model models/tiny.yaml --steps many", nothing).code(2),
            case("a learning rate of 0", TRAIN, |b| {
                b.edit("models/tiny.yaml", "learning-rate: 0.01", "learning-rate: 0")
            }),
            case("a final learning rate above the first", TRAIN, |b| {
                b.edit("models/tiny.yaml", "final-learning-rate: 0.0001", "final-learning-rate: 1");
            }),
            case("a clipping norm of 0", TRAIN, |b| b.edit("models/tiny.yaml", "norm: 1.0", "norm: 0")),
            case("a batch larger than the data", TRAIN, |b| {
                b.edit("models/tiny.yaml", "batch-size: 8", "batch-size: 64")
            }),
            case("fewer subnets than fixed ones", TRAIN, |b| {
                b.edit("models/tiny.yaml", "  subnets: 4", "  subnets: 1")
            }),
            case("a crop beyond the image", TRAIN, |b| {
                b.edit("models/tiny.yaml", "crop-padding: 1", "crop-padding: 8")
            }),
            case("nothing for validation", TRAIN, |b| {
                b.edit("models/tiny.yaml", "validation: 20", "validation: 0")
            }),
            case("everything for validation", TRAIN, |b| {
                b.edit("models/tiny.yaml", "validation: 20", "validation: 60")
            }),
            case("two means for one channel", TRAIN, |b| {
                b.edit("models/tiny.yaml", "mean: [0.3]", "mean: [0.3, 0.3]")
            }),
            case("a standard deviation of 0", TRAIN, |b| {
                b.edit("models/tiny.yaml", "std: [0.3]", "std: [0]")
            }),
            case("more names than classes", TRAIN, |b| {
                b.edit("models/tiny.yaml", "centre]", "centre, right]")
            }),
            case("a learning rate that lets the loss explode", TRAIN, |b| {
                b.edit("models/tiny.yaml", "learning-rate: 0.01", "learning-rate: 1000000000.0");
                b.edit("models/tiny.yaml", "  clip-gradient-norm: 1.0\n", "");
                b.edit("models/tiny.yaml", "warm-up-steps: 2", "warm-up-steps: 0");
            }),
        ],
    );
}

#[test]
fn data() {
    check(
        "data",
        Bench::fresh,
        &[
            case("the folder is missing", TRAIN, |b| b.remove("data")),
            case(
                "the folder of the flag is missing",
                "train --model models/tiny.yaml --data data/huge",
                nothing,
            ),
            case("the folder is a file", "train --model models/tiny.yaml --data models/tiny.yaml", nothing),
            case("a file is missing", TRAIN, |b| b.remove(&format!("data/tiny/{}", FILES[1]))),
            case("a packed file is cut short", TRAIN, |b| {
                let bundled = concat!(
                    env!("CARGO_MANIFEST_DIR"),
                    "/../../data/fashion-mnist-small/train-images-idx3-ubyte.gz"
                );
                let packed = fs::read(bundled).expect("the bundled data are in the repository");
                b.write(&format!("data/tiny/{}.gz", FILES[0]), &packed[..100_000]);
            }),
            case("a packed file is not packed", TRAIN, |b| {
                b.write(&format!("data/tiny/{}.gz", FILES[0]), b.read(&format!("data/tiny/{}", FILES[0])));
            }),
            case("a plain file is cut short", TRAIN, |b| {
                b.truncate(&format!("data/tiny/{}", FILES[0]), 1000)
            }),
            case("labels where images belong", TRAIN, |b| {
                b.write(&format!("data/tiny/{}", FILES[0]), b.read(&format!("data/tiny/{}", FILES[1])));
            }),
            case("one label too few", TRAIN, |b| write_idx(b, FILES[1], &[59], vec![0; 59])),
            case("no images", TRAIN, |b| {
                write_idx(b, FILES[0], &[0, SIDE, SIDE], vec![]);
                write_idx(b, FILES[1], &[0], vec![]);
            }),
            case("images of another size", TRAIN, |b| write_idx(b, FILES[0], &[60, 4, 16], vec![0; 60 * 64])),
            case("a label that is no class", TRAIN, |b| write_idx(b, FILES[1], &[60], vec![3; 60])),
        ],
    );
}

#[test]
fn continued_runs() {
    check(
        "continued_runs",
        Bench::finished,
        &[
            case("nothing to resume", "train --model models/tiny.yaml --out runs/other --resume", nothing),
            case("an unfinished run without --resume", TRAIN, |b| b.remove("runs/tiny/supernet.safetensors")),
            case("resume with another seed", "train --model models/tiny.yaml --seed 2 --resume", |b| {
                b.remove("runs/tiny/supernet.safetensors");
            }),
            case("resume with other data", "train --model models/tiny.yaml --data data/copy --resume", |b| {
                b.remove("runs/tiny/supernet.safetensors");
                fs::rename(b.file("data/tiny"), b.file("data/copy")).expect("the folder can be renamed");
            }),
            case(
                "a finished run with another configuration",
                "train --model models/tiny.yaml --steps 7",
                nothing,
            ),
            case("a checkpoint that is cut short", "train --model models/tiny.yaml --resume", |b| {
                b.remove("runs/tiny/supernet.safetensors");
                b.truncate("runs/tiny/checkpoint.safetensors", 20_000);
            }),
            case("a supernet where the checkpoint belongs", "train --model models/tiny.yaml --resume", |b| {
                fs::rename(
                    b.file("runs/tiny/supernet.safetensors"),
                    b.file("runs/tiny/checkpoint.safetensors"),
                )
                .expect("the file can be renamed");
            }),
            case("a damaged config.yaml", "train --model models/tiny.yaml --resume", |b| {
                b.remove("runs/tiny/supernet.safetensors");
                b.truncate("runs/tiny/config.yaml", 200);
            }),
            case(
                "a run's folder that is a file",
                "train --model models/tiny.yaml --out models/tiny.yaml",
                nothing,
            ),
        ],
    );
}

#[test]
fn runs() {
    check(
        "runs",
        Bench::finished,
        &[
            case("no folder of runs", "export --budget 1mflops", |b| b.remove("runs")),
            case("no finished run", "export --budget 1mflops", |b| {
                b.remove("runs/tiny/supernet.safetensors")
            }),
            case("a run that is missing", "export --budget 1mflops --run runs/other", nothing),
            case("a run that has not finished", "profile --platform host-tract --run runs/tiny", |b| {
                b.remove("runs/tiny/supernet.safetensors");
            }),
            case("inspect of a run that is missing", "inspect --run runs/other", nothing),
            case("a supernet that is cut short", "export --budget 1mflops", |b| {
                b.truncate("runs/tiny/supernet.safetensors", 10_000);
            }),
            case("an empty supernet", "export --budget 1mflops", |b| {
                b.write("runs/tiny/supernet.safetensors", "")
            }),
            case("another program's safetensors file", "export --budget 1mflops", |b| {
                let header = r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
                let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat();
                b.write("runs/tiny/supernet.safetensors", file);
            }),
            case("a checkpoint where the supernet belongs", "export --budget 1mflops", |b| {
                b.write("runs/tiny/supernet.safetensors", b.read("runs/tiny/checkpoint.safetensors"));
            }),
            case("a config.yaml that was changed after training", "export --budget 1mflops", |b| {
                let text = String::from_utf8(b.read("runs/tiny/config.yaml")).expect("the file is text");
                let changed = text.replacen("head-dim: 4", "head-dim: 8", 1);
                assert_ne!(text, changed, "the head's width is in the file");
                b.write("runs/tiny/config.yaml", changed);
            }),
            case("a config.yaml that is missing", "export --budget 1mflops", |b| {
                b.remove("runs/tiny/config.yaml")
            }),
            case("data that have gone", "export --budget 1mflops", |b| b.remove("data")),
        ],
    );
}

#[test]
fn platforms() {
    check(
        "platforms",
        Bench::finished,
        &[
            case("an unknown platform", "profile --platform pixel.yaml", nothing),
            case("no platform", "profile", nothing).code(2),
            case("no folder of platforms", "profile --platform pixel", |b| b.remove("platforms")),
            case("an unknown field", "profile --platform host-tract", |b| {
                b.edit("platforms/host-tract.yaml", "min-samples", "min-sample");
            }),
            case("an unknown provider", "profile --platform host-1t", |b| {
                b.edit("platforms/host-1t.yaml", "provider: cpu ", "provider: gpu ");
            }),
            case("another schema", "profile --platform host-tract", |b| {
                b.edit("platforms/host-tract.yaml", "elastic.platform/v1", "elastic.platform/v9");
            }),
            case("a provider that the library lacks", "profile --platform host-1t", |b| {
                b.edit("platforms/host-1t.yaml", "provider: cpu ", "provider: cuda ");
            })
            .code(4),
            case("no threads", "profile --platform host-1t", |b| {
                b.edit("platforms/host-1t.yaml", "threads: 1 ", "threads: 0 ");
            }),
            case("another machine", "profile --platform jetson.yaml", nothing).code(4),
            case("one subnet", "profile --platform host-tract --subnets 1", nothing),
            case("subnets that are no number", "profile --platform host-tract --subnets few", nothing)
                .code(2),
            case(
                "a profile below a file",
                "profile --platform host-tract --out models/tiny.yaml/p.json",
                nothing,
            ),
        ],
    );
}

#[test]
fn the_error_of_another_machine_names_what_differs() {
    let output = Bench::finished().elastic("profile --platform jetson.yaml");
    assert!(output.stderr.contains("model-contains `Orin` is asked, here is `"), "{}", output.stderr);
}

#[test]
fn libraries() {
    let here = "profile --platform host-1t";
    let mut cases = vec![
        case("a variable that names no file", here, nothing)
            .variables(&[("ELASTIC_ORT_LIBRARY", "lib/libonnxruntime.so")])
            .code(6),
        case("a library that is no library", here, |b| b.write("lib/libonnxruntime.so", "not a library"))
            .variables(&[("ELASTIC_ORT_LIBRARY", "lib/libonnxruntime.so")])
            .code(6),
        case("an archive that is missing", "runtime install --archive onnxruntime.whl", nothing),
        case("an archive of another kind", "runtime install --archive models/tiny.yaml", nothing),
    ];
    // A library in the system's own folders is always found: the case cannot be made there.
    if !system_has_library() {
        const NONE: &[(&str, &str)] = &[
            ("ELASTIC_ORT_LIBRARY", ""),
            ("ORT_DYLIB_PATH", ""),
            ("ELASTIC_CACHE", "cache"),
            ("LD_LIBRARY_PATH", ""),
            ("DYLD_LIBRARY_PATH", ""),
        ];
        cases.push(case("no library", here, nothing).variables(NONE).code(6));
        cases.push(
            case("no library for the proof of a model", "export --budget 1mflops", nothing)
                .variables(NONE)
                .code(6),
        );
    }
    check("libraries", Bench::finished, &cases);
}

/// Whether a library lies where no variable of this process can hide it.
fn system_has_library() -> bool {
    use elastic_runtime::library::{Origin, candidates};
    candidates().iter().any(|place| place.origin == Origin::System && place.present)
}

#[test]
fn budgets() {
    check(
        "budgets",
        Bench::finished,
        &[
            case("no budget", "export", nothing).code(2),
            case("no number", "export --budget gflops", nothing).code(2),
            case("no unit", "export --budget 2", nothing).code(2),
            case("an unknown unit", "export --budget 2parsecs", nothing).code(2),
            case("zero", "export --budget 0ms", nothing).code(2),
            case("below zero", "export --budget=-1gflops", nothing).code(2),
            case("a latency without a platform", "export --budget 3ms", nothing),
            case("a platform without a profile", "export --budget 3ms --platform host-1t", nothing),
            case("no profile at all", "export --budget 3ms --all-platforms", |b| b.remove("profiles")),
            case("an empty folder of profiles", "export --budget 3ms --all-platforms", |b| {
                b.remove("profiles/host-tract.json");
            }),
            case(
                "a platform and all of them",
                "export --budget 3ms --platform host-tract --all-platforms",
                nothing,
            )
            .code(2),
            case("a damaged profile", "export --budget 3ms --platform host-tract", |b| {
                b.truncate("profiles/host-tract.json", 500);
            }),
            case("a profile of another version", "export --budget 3ms --platform host-tract", |b| {
                b.edit("profiles/host-tract.json", "elastic.profile/v1", "elastic.profile/v2");
            }),
            case("a profile of another space", "export --budget 3ms --platform host-tract", |b| {
                b.edit("profiles/host-tract.json", "\"head-dim\": 4", "\"head-dim\": 8");
            }),
            case("a budget that no subnet meets", "export --budget 1kflops", nothing).code(3),
            case("two budgets that no subnet meets", "export --budget 1kflops --budget 10params", nothing)
                .code(3),
            case("a latency that no subnet meets", "export --budget 0.001us --platform host-tract", nothing)
                .code(3),
            case(
                "a latency that only the model meets",
                "--quiet export --budget 0.001us --platform host-tract",
                |b| {
                    // A profile that promises no time at all.
                    let mut profile: serde_json::Value =
                        serde_json::from_slice(&b.read("profiles/host-tract.json"))
                            .expect("a profile is JSON");
                    let model = &mut profile["latency_model"];
                    model["intercept_us"] = 0.0.into();
                    model["floor_us"] = 0.0.into();
                    for coefficient in model["coefficients_us"].as_array_mut().expect("a list") {
                        *coefficient = 0.0.into();
                    }
                    b.write("profiles/host-tract.json", profile.to_string());
                },
            )
            .code(3),
        ],
    );
}

#[test]
fn exports() {
    check(
        "exports",
        Bench::finished,
        &[
            case(
                "a file where the folder belongs",
                "export --budget 1mflops --out models/tiny.yaml",
                nothing,
            ),
            case("a batch of 0", "export --budget 1mflops --batch 0", nothing).code(2),
            case("a batch that is no number", "export --budget 1mflops --batch x", nothing).code(2),
            case("no evaluations", "export --budget 1mflops --evaluations 0", nothing),
            case("a population of 1", "export --budget 1mflops --population 1", nothing),
            case("no images", "export --budget 1mflops --images 0", nothing),
        ],
    );
}

#[test]
fn models_to_verify() {
    check(
        "models_to_verify",
        Bench::finished,
        &[
            case("a file that is missing", "verify exports/other.onnx", nothing),
            case("a file that is no ONNX model", "verify models/tiny.yaml", nothing),
            case("an empty file", "verify exports/empty.onnx", |b| b.write("exports/empty.onnx", "")),
            case("a model that is cut short", "verify exports/tiny-1mflops.onnx", |b| {
                b.truncate("exports/tiny-1mflops.onnx", 3000);
            }),
            case("a model of another program", "verify exports/other.onnx", |b| {
                // A graph (field 7) without anything in it.
                b.write("exports/other.onnx", [7 << 3 | 2, 0]);
            }),
            case("a model of another checkpoint", "verify exports/tiny-1mflops.onnx --run runs/other", |b| {
                b.succeed("train --model models/tiny.yaml --out runs/other --seed 2");
            }),
            case("a run that is missing", "verify exports/tiny-1mflops.onnx --run runs/other", nothing),
            case("test data that have gone", "verify exports/tiny-1mflops.onnx", |b| {
                b.remove(&format!("data/tiny/{}", FILES[2]));
            }),
            case("weights that were changed", "verify exports/tiny-1mflops.onnx", |b| {
                change_a_weight(b, "exports/tiny-1mflops.onnx");
            })
            .code(5),
        ],
    );
}

/// Flips the sign of the classifier's weights in an ONNX file.
fn change_a_weight(bench: &Bench, name: &str) {
    let mut model = bench.read(name);
    let needle = b"head.weight";
    let at = model.windows(needle.len()).position(|part| part == needle).expect("the classifier has a name");
    for byte in model[at + needle.len() + 8..].iter_mut().take(64).skip(3).step_by(4) {
        *byte ^= 0x80;
    }
    bench.write(name, model);
}

#[test]
fn wrong_usage() {
    check(
        "wrong_usage",
        Bench::fresh,
        &[
            case("a command that does not exist", "trian", nothing).code(2),
            case("a flag that does not exist", "train --modell models/tiny.yaml", nothing).code(2),
            case("quiet and verbose", "--quiet --verbose doctor", nothing).code(2),
            case("a format that does not exist", "inspect --format xml", nothing).code(2),
            case("a data set that does not exist", "data fetch imagenet", nothing).code(2),
        ],
    );
}

#[test]
fn a_run_that_diverges_keeps_its_checkpoint() {
    let bench = Bench::fresh();
    // The first steps go well: warm-up holds the rate down until the checkpoint of step 2 is written.
    bench.edit("models/tiny.yaml", "learning-rate: 0.01", "learning-rate: 1000000000.0");
    bench.edit("models/tiny.yaml", "  clip-gradient-norm: 1.0\n", "");
    bench.edit("models/tiny.yaml", "checkpoint-every: 2", "checkpoint-every: 1");
    let first = bench.elastic(TRAIN);
    assert_eq!(first.code, Some(1), "{}", first.stderr);
    let kept = bench.read("runs/tiny/checkpoint.safetensors");
    assert!(!bench.file("runs/tiny/supernet.safetensors").exists());
    let again = bench.elastic("train --model models/tiny.yaml --resume");
    assert_eq!(again.code, Some(1), "{}", again.stderr);
    let error = |stderr: &str| stderr.lines().last().map(str::to_owned);
    assert_eq!(error(&again.stderr), error(&first.stderr), "the same step goes wrong again");
    assert_eq!(bench.read("runs/tiny/checkpoint.safetensors"), kept);
}
