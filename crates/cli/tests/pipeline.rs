//! `elastic pipeline`: what runs, what is skipped and why, and how it goes on after a kill or a device that fails.

mod common;

use common::{Bench, disturb, kill, require_library};
use serde_json::Value;

/// One model, the runtime that is built in, and one budget that any machine holds.
const FILE: &str = "\
schema: elastic.pipeline/v1
out: made
on-device-error: stop
models: [models/tiny.yaml]
platforms: [host-tract]
exports:
  small: {budget: 12kflops, evaluations: 8, population: 4}
";

const TRAIN: &str = "train tiny";
const PROFILE: &str = "profile tiny on host-tract";
const EXPORT: &str = "export small of tiny for host-tract";
const MODEL: &str = "made/exports/small/tiny-host-tract-12kflops.onnx";
const SUPERNET: &str = "made/runs/tiny/supernet.safetensors";

fn bench() -> Bench {
    require_library();
    let bench = Bench::fresh();
    bench.write("elastic.yaml", FILE);
    bench
}

/// Each step as `NAME: STATUS` or, where it was run, `NAME: STATUS (WHY)`.
fn steps(report: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let step = |step: &Value| {
        let why = text(&step["why"]).map_or_else(String::new, |why| format!(" ({why})"));
        format!("{}: {}{why}", text(&step["name"]).expect("a name"), text(&step["status"]).expect("a status"))
    };
    report["steps"].as_array().expect("a list of steps").iter().map(step).collect()
}

/// Runs the pipeline and holds what became of each step against what is expected.
fn run(bench: &Bench, arguments: &str, code: i32, expected: &[&str]) -> Value {
    let output = bench.elastic(&format!("pipeline --format json --quiet {arguments}"));
    assert_eq!(output.code, Some(code), "{arguments}: {}{}", output.stdout, output.stderr);
    let report: Value = serde_json::from_str(&output.stdout).expect("the report is JSON");
    assert_eq!(steps(&report), expected, "{arguments}: {}", output.stderr);
    assert_eq!(report["exit-code"], code, "{arguments}");
    report
}

#[test]
fn only_what_is_out_of_date_runs() {
    let bench = bench();
    let is_new =
        [format!("{TRAIN}: done (new)"), format!("{PROFILE}: done (new)"), format!("{EXPORT}: done (new)")];
    let planned = [
        format!("{TRAIN}: would-run (new)"),
        format!("{PROFILE}: would-run (after {TRAIN})"),
        format!("{EXPORT}: would-run (after {TRAIN})"),
    ];
    run(&bench, "--dry-run", 0, &planned.each_ref().map(String::as_str));
    assert!(!bench.file("made").exists(), "a dry run writes nothing");
    let report = run(&bench, "", 0, &is_new.each_ref().map(String::as_str));
    for file in [MODEL, SUPERNET, "made/profiles/tiny/host-tract.json", "made/state.json"] {
        assert!(bench.file(file).is_file(), "{file}");
    }
    assert_eq!(report["steps"][2]["outputs"][MODEL], elastic_space::file::sha256(&bench.read(MODEL)));

    let ran = |step: &str, why: &str| format!("{step}: done ({why})");
    let kept = |step: &str| format!("{step}: up-to-date");
    let all_kept = [kept(TRAIN), kept(PROFILE), kept(EXPORT)];
    type Change = fn(&Bench);
    let rows: [(&str, Change, [String; 3]); 7] = [
        ("nothing", |_| {}, all_kept.clone()),
        (
            "a comment",
            |bench| bench.edit("models/tiny.yaml", "seed: 1", "seed: 1 # the first"),
            all_kept.clone(),
        ),
        (
            "the budget",
            |bench| bench.edit("elastic.yaml", "12kflops", "13kflops"),
            [kept(TRAIN), kept(PROFILE), ran(EXPORT, "changed: options")],
        ),
        (
            "the platform",
            |bench| bench.edit("platforms/host-tract.yaml", "max-samples: 16", "max-samples: 24"),
            [kept(TRAIN), ran(PROFILE, "changed: platform"), ran(EXPORT, "changed: profile")],
        ),
        (
            "the platform's limits",
            |bench| {
                let limits = "\nlimits: {params: 1mparams}\nmeasure:";
                bench.edit("platforms/host-tract.yaml", "\nmeasure:", limits);
            },
            [kept(TRAIN), kept(PROFILE), ran(EXPORT, "changed: limits")],
        ),
        (
            "a file that was made",
            |bench| bench.remove("made/exports/small/tiny-host-tract-13kflops.onnx"),
            [
                kept(TRAIN),
                kept(PROFILE),
                ran(EXPORT, "made/exports/small/tiny-host-tract-13kflops.onnx is missing"),
            ],
        ),
        (
            "the model file",
            |bench| bench.edit("models/tiny.yaml", "steps: 6", "steps: 7"),
            [
                ran(TRAIN, "changed: model"),
                ran(PROFILE, "changed: supernet"),
                ran(EXPORT, "changed: profile, supernet"),
            ],
        ),
    ];
    for (what, change, expected) in rows {
        change(&bench);
        run(&bench, "", 0, &expected.each_ref().map(String::as_str));
        let table = bench.succeed("pipeline");
        let lines: Vec<&str> = table.lines().collect();
        let up_to_date = [TRAIN, PROFILE, EXPORT].map(|step| format!("{step}: up to date"));
        assert_eq!(lines, up_to_date, "{what}: a second call skips everything");
    }
    assert!(!bench.file(MODEL).exists(), "what an older budget made is gone");
    let left = std::fs::read_dir(bench.file("made/exports/small")).expect("the folder is there");
    for entry in left {
        let name = entry.expect("the folder can be read").file_name();
        assert!(name.to_string_lossy().starts_with("tiny-host-tract-13kflops."), "{}", name.display());
    }
}

#[test]
fn a_killed_pipeline_goes_on() {
    let undisturbed = Bench::fresh();
    undisturbed.succeed("train --model models/tiny.yaml --steps 200");
    let expected = undisturbed.read("runs/tiny/supernet.safetensors");
    let bench = bench();
    bench.edit("elastic.yaml", "platforms:", "train: {steps: 200}\nplatforms:");
    // In the middle of the training, of the measuring, and of the search.
    for (line, first, second) in [
        ("checkpoint at step ", "resumed (it was stopped or failed)", "done (new)"),
        ("profiling ", "up-to-date", "done (it was stopped or failed)"),
        ("search ", "up-to-date", "up-to-date"),
    ] {
        disturb(&bench, "pipeline --verbose", line, kill);
        let output = bench.elastic("pipeline --dry-run --format json");
        let plan: Value = serde_json::from_str(&output.stdout).expect("the plan is JSON");
        let planned = steps(&plan);
        let begun = |status: &str| status.replace("resumed", "would-resume").replace("done", "would-run");
        assert_eq!(planned[0], format!("{TRAIN}: {}", begun(first)), "killed at `{line}`");
        if first == "up-to-date" {
            assert_eq!(planned[1], format!("{PROFILE}: {}", begun(second)), "killed at `{line}`");
        }
    }
    let rest = ["up-to-date", "up-to-date", "done (it was stopped or failed)"];
    let expected_steps =
        [TRAIN, PROFILE, EXPORT].into_iter().zip(rest).map(|(step, status)| format!("{step}: {status}"));
    let expected_steps: Vec<String> = expected_steps.collect();
    run(&bench, "", 0, &expected_steps.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(bench.read(SUPERNET) == expected, "bit for bit as if nothing had happened");
}

#[test]
fn a_device_that_fails() {
    for (on_error, expected) in [
        (
            "stop",
            [
                "train tiny: done (new)",
                "profile tiny on jetson: failed (new)",
                "export small of tiny for jetson: not-run (profile tiny on jetson failed)",
                "profile tiny on host-tract: not-run (profile tiny on jetson failed)",
                "export small of tiny for host-tract: not-run (profile tiny on jetson failed)",
            ],
        ),
        (
            "skip",
            [
                "train tiny: done (new)",
                "profile tiny on jetson: failed (new)",
                "export small of tiny for jetson: not-run (the device of jetson failed)",
                "profile tiny on host-tract: done (new)",
                "export small of tiny for host-tract: done (new)",
            ],
        ),
    ] {
        let bench = bench();
        bench.edit("elastic.yaml", "[host-tract]", "[jetson, host-tract]");
        bench.edit("elastic.yaml", "on-device-error: stop", &format!("on-device-error: {on_error}"));
        let report = run(&bench, "", 4, &expected);
        assert_eq!(report["steps"][1]["exit-code"], 4, "{on_error}");
        let table = bench.elastic("pipeline --quiet");
        assert_eq!(table.code, Some(4), "{on_error}: {}", table.stderr);
        assert!(
            table.stdout.contains("profile tiny on jetson: failed with exit code 4\n"),
            "{}",
            table.stdout
        );
        assert!(table.stderr.starts_with("error: profile tiny on jetson: "), "{}", table.stderr);
    }
}

#[test]
fn a_budget_that_nothing_holds_ends_it() {
    let bench = bench();
    bench.edit("elastic.yaml", "12kflops", "1flops");
    let statuses = [
        &format!("{TRAIN}: done (new)")[..],
        &format!("{PROFILE}: done (new)"),
        &format!("{EXPORT}: failed (new)"),
    ];
    run(&bench, "", 3, &statuses);
    // Without a platform there is nothing to profile.
    bench.edit("elastic.yaml", "{budget: 1flops,", "{platforms: [], budget: [12kflops, 1MB],");
    let kept = [
        "train tiny: up-to-date",
        "export small of tiny: done (new)",
        "profile tiny on host-tract: up-to-date",
    ];
    run(&bench, "", 0, &kept);
    assert!(bench.file("made/exports/small/tiny-12kflops-1MB.onnx").is_file());
}

#[test]
fn a_run_that_the_pipeline_does_not_know_is_left_alone() {
    let bench = bench();
    bench.succeed("train --model models/tiny.yaml --steps 4 --out made/runs/tiny");
    let output = bench.elastic("pipeline");
    assert_eq!(output.code, Some(1));
    assert!(
        output.stderr.contains("made/runs/tiny holds a finished run with another configuration"),
        "{}",
        output.stderr
    );
    bench.read("made/runs/tiny/supernet.safetensors");
    assert_eq!(bench.elastic("pipeline").stderr, output.stderr, "nor by a second call");
    // One of the same configuration is taken as it is.
    bench.write("elastic.yaml", FILE.replace("platforms: [host-tract]", "train: {steps: 4}"));
    let output = bench.elastic("pipeline");
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(output.stderr.contains("made/runs/tiny has finished already"), "{}", output.stderr);
}

#[test]
fn files_that_are_refused() {
    let bench = bench();
    let rows = [
        ("elastic.pipeline/v1", "elastic.pipeline/v2", "schema is `elastic.pipeline/v2`"),
        (
            "on-device-error: stop",
            "on-device-error: wait",
            "unknown variant `wait`, expected `skip` or `stop`",
        ),
        ("models: [models/tiny.yaml]", "models: []", "models is empty"),
        (
            "models: [models/tiny.yaml]",
            "models: [models/other.yaml]",
            "there is no model file models/other.yaml",
        ),
        ("[models/tiny.yaml]", "[models/tiny.yaml, other/tiny.yaml]", "models has tiny twice"),
        ("[host-tract]", "[host-gpu]", "there is no platform file host-gpu.yaml"),
        (
            "[host-tract]",
            "[host-tract]\nprofile: {operator: true}",
            "profile has the unknown option `operator`",
        ),
        ("[host-tract]", "[host-tract]\ntrain: {out: here}", "train has the unknown option `out`"),
        (
            "[host-tract]",
            "[host-tract]\ntrain: {steps: few}",
            "train tiny: invalid value 'few' for '--steps <STEPS>'",
        ),
        ("small:", "a b:", "exports.`a b`: a name is not empty"),
        ("12kflops", "2parsecs", "invalid value '2parsecs' for '--budget <BUDGET>'"),
        (
            "{budget: 12kflops,",
            "{budget: 1ms, platforms: [jetson],",
            "exports.small.platforms has jetson, which is not among",
        ),
        ("{budget: 12kflops,", "{budget: {a: b},", "a list of texts and numbers"),
    ];
    let refused = |from: &str, to: &str, code: i32, expected: &str| {
        bench.write("elastic.yaml", FILE.replacen(from, to, 1));
        for command in ["pipeline", "pipeline --dry-run"] {
            let output = bench.elastic(command);
            assert_eq!(output.code, Some(code), "{to}: {}", output.stderr);
            assert!(output.stderr.contains(expected), "{to}: {}", output.stderr);
            assert_eq!(output.stdout, "", "{to}");
        }
        assert!(!bench.file("made").exists(), "{to}: nothing was begun");
    };
    // What would be wrong usage on a command line.
    refused("evaluations: 8", "evaluations: 0", 2, "--evaluations is 0: it must be at least 1");
    let without = "{budget: 1ms, platforms: [],";
    refused("{budget: 12kflops,", without, 2, "a budget of latency needs a platform");
    for (from, to, expected) in rows {
        refused(from, to, 1, expected);
    }
    let without = "error: read elastic.yaml: exports.small has no budget for host-tract: give it one, such as \
                   `budget: 2gflops`, or write `limits` in platforms/host-tract.yaml\n";
    refused("{budget: 12kflops,", "{", 2, without);
    refused("{budget: 12kflops,", "{pareto: false,", 2, without);
    let of_no_platform = "{platforms: [],";
    refused("{budget: 12kflops,", of_no_platform, 1, "the following required arguments were not provided");
    bench.edit("platforms/host-tract.yaml", "\nmeasure:", "\nlimits: {flops: 12kflops}\nmeasure:");
    bench.write("elastic.yaml", FILE.replacen("{budget: 12kflops,", "{", 1));
    let planned = bench.succeed("pipeline --dry-run");
    assert!(planned.contains("export small of tiny for host-tract: would run"), "{planned}");
    let output = bench.elastic("pipeline other.yaml");
    assert!(output.stderr.contains("there is no pipeline file other.yaml"), "{}", output.stderr);
}

#[test]
fn one_step_chooses_for_all_platforms() {
    let bench = bench();
    let platform = String::from_utf8(bench.read("platforms/host-tract.yaml")).expect("the file is text");
    let limited = |limits: &str| platform.replace("\nmeasure:", &format!("\nlimits: {{{limits}}}\nmeasure:"));
    bench.write("platforms/other.yaml", limited("params: 2000params"));
    bench.edit("elastic.yaml", "platforms: [host-tract]", "platforms: [host-tract, other]");
    bench.edit("elastic.yaml", "small: {budget: 12kflops,", "fleet: {shared: true, budget: 20kflops,");
    let fleet = "export fleet of tiny for all its platforms";
    let other = "profile tiny on other";
    let report = run(
        &bench,
        "",
        0,
        &[
            &format!("{TRAIN}: done (new)"),
            &format!("{PROFILE}: done (new)"),
            &format!("{other}: done (new)"),
            &format!("{fleet}: done (new)"),
        ],
    );
    let step = &report["steps"][3];
    assert_eq!(step["platform"], "host-tract, other");
    let outputs = step["outputs"].as_object().expect("an object");
    assert!(outputs.contains_key("made/exports/fleet/tiny-shared-20kflops.fleet.json"), "{step}");

    bench.write("platforms/other.yaml", limited("params: 1500params"));
    let kept = |name: &str| format!("{name}: up-to-date");
    run(
        &bench,
        "",
        0,
        &[&kept(TRAIN), &kept(PROFILE), &kept(other), &format!("{fleet}: done (changed: limits)")],
    );
    bench.write("platforms/other.yaml", limited("params: 1params"));
    run(
        &bench,
        "",
        3,
        &[&kept(TRAIN), &kept(PROFILE), &kept(other), &format!("{fleet}: failed (changed: limits)")],
    );
}
