//! The examples for CI systems: well formed, and their commands, word by word, make models.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{Bench, Output, require_library};
use serde_yaml::Value;

/// What builds the program; the tests run the one that is built already.
const BUILD: &str = "cargo build --release --locked -p elastic-cli";

/// A pipeline that differs from the example's in its sizes alone.
const SMALL: [(&str, &str); 4] = [
    ("models/vit-fashion.yaml", "models/tiny.yaml"),
    ("{steps: 240}", "{steps: 6}"),
    ("[2mflops, 300KB]", "[12kflops, 300KB]"),
    ("budget: 4mflops", "budget: 12kflops"),
];

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/ci").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(name: &str) -> Value {
    serde_yaml::from_str(&example(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value:?} is no text"))
}

/// A folder with a small model, and the pipeline of the examples with other sizes.
fn bench() -> Bench {
    require_library();
    let bench = Bench::fresh();
    let pipeline = SMALL.iter().fold(example("elastic.yaml"), |text, (from, to)| {
        assert!(text.contains(from), "`{from}` is not in the example");
        text.replace(from, to)
    });
    bench.write("examples/ci/elastic.yaml", pipeline);
    bench
}

/// Runs a script as the CI systems do, with the program on the PATH.
fn bash(bench: &Bench, script: &str, variables: &BTreeMap<String, String>) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_elastic")).parent().expect("the program lies in a folder");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").expect("there is a PATH"));
    let mut command = std::process::Command::new("bash");
    command.args(["--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script]);
    command.current_dir(bench.path()).env("PATH", path).envs(variables);
    Bench::output(&mut command)
}

/// Replaces `${{ inputs.NAME }}` and `${{ steps.ID.outputs.NAME }}` by their values.
fn filled(template: &str, values: &BTreeMap<String, String>) -> String {
    let text = values
        .iter()
        .fold(template.to_owned(), |text, (name, value)| text.replace(&format!("${{{{ {name} }}}}"), value));
    assert!(!text.contains("${{"), "`{text}` has an expression without a value");
    text
}

fn env_of(step: &Value, values: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let Some(env) = step["env"].as_mapping() else { return BTreeMap::new() };
    env.iter().map(|(name, value)| (text(name).to_owned(), filled(text(value), values))).collect()
}

/// Runs the steps of the action with the workflow's inputs; the exit code and the outputs of its step.
fn run_action(bench: &Bench, with: &Value) -> (i32, BTreeMap<String, String>) {
    let action = yaml("action.yml");
    assert_eq!(action["runs"]["using"], "composite");
    let mut values = BTreeMap::new();
    for (name, input) in action["inputs"].as_mapping().expect("there are inputs") {
        let given = with.get(name).unwrap_or(&input["default"]);
        values.insert(format!("inputs.{}", text(name)), text(given).to_owned());
    }
    for step in action["runs"]["steps"].as_sequence().expect("there are steps") {
        let Some(script) = step.get("run") else {
            assert!(text(&step["uses"]).starts_with("actions/"), "{step:?}");
            continue;
        };
        // A composite action is refused without it.
        assert_eq!(step["shell"], "bash");
        let mut variables = env_of(step, &values);
        for file in ["GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"] {
            bench.write(file, "");
            variables.insert(file.to_owned(), bench.file(file).display().to_string());
        }
        let output = bash(bench, text(script), &variables);
        let told = String::from_utf8(bench.read("GITHUB_OUTPUT")).expect("outputs are text");
        let outputs: BTreeMap<String, String> = told
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (format!("steps.pipeline.outputs.{name}"), value.to_owned()))
            .collect();
        if step.get("id").is_some() {
            let summary = String::from_utf8(bench.read("GITHUB_STEP_SUMMARY")).expect("a summary is text");
            assert!(summary.contains("train tiny: up to date"), "{summary}{}", output.stderr);
            return (output.code.expect("it ended by itself"), outputs);
        }
        assert_eq!(output.code, Some(0), "{}", output.stderr);
    }
    panic!("no step of the action has an id");
}

#[test]
fn the_github_action_makes_models() {
    let bench = bench();
    let workflow = yaml("workflow.yml");
    let steps = workflow["jobs"]["models"]["steps"].as_sequence().expect("there are steps").clone();
    let build = steps.iter().find(|step| step["run"].as_str().is_some_and(|run| run.contains(BUILD)));
    assert!(build.is_some(), "one step builds the program");
    let action = steps.iter().find(|step| step["uses"] == "./examples/ci").expect("one step is the action");
    assert_eq!(action["continue-on-error"], true);
    let verdict = steps.last().expect("there are steps");

    for (change, code, verdict_code) in [
        (None, "0", 0),
        (None, "0", 0),
        (Some(("[host-1t, host-tract]", "[jetson, host-tract]")), "4", 0),
        (Some(("budget: [12kflops", "budget: [1flops")), "3", 1),
    ] {
        if let Some((from, to)) = change {
            bench.edit("examples/ci/elastic.yaml", from, to);
        }
        let (ended, outputs) = run_action(&bench, &action["with"]);
        assert_eq!(ended.to_string(), code, "{change:?}");
        assert_eq!(outputs["steps.pipeline.outputs.exit-code"], code, "{change:?}");
        let report: serde_json::Value =
            serde_json::from_slice(&bench.read("pipeline-report.json")).expect("the report is JSON");
        assert_eq!(report["exit-code"].to_string(), code, "{change:?}");
        let output = bash(&bench, text(&verdict["run"]), &env_of(verdict, &outputs));
        assert_eq!(output.code, Some(verdict_code), "{change:?}: {}", output.stderr);
        assert_eq!(output.stdout.contains("::warning::"), code == "4", "{}", output.stdout);
        for model in ["small/tiny-host-tract-12kflops-300KB.onnx", "anywhere/tiny-12kflops.onnx"] {
            assert!(bench.file("pipeline/exports").join(model).is_file(), "{change:?}: {model}");
        }
    }
}

#[test]
fn the_gitlab_job_makes_models() {
    let bench = bench();
    let job = &yaml(".gitlab-ci.yml")["models"];
    let lines = |key: &str| job[key].as_sequence().unwrap_or_else(|| panic!("there is no {key}")).clone();
    let script: Vec<Value> = [lines("before_script"), lines("script")].concat();
    let (build, commands): (Vec<&str>, Vec<&str>) = script.iter().map(text).partition(|line| *line == BUILD);
    assert_eq!(build, [BUILD]);
    let script = commands.join("\n");
    let variables = job["variables"].as_mapping().expect("there are variables");
    let variables =
        variables.iter().map(|(name, value)| (text(name).to_owned(), text(value).to_owned())).collect();
    let warnings: Vec<i64> = job["allow_failure"]["exit_codes"]
        .as_sequence()
        .expect("some codes are warnings")
        .iter()
        .filter_map(Value::as_i64)
        .collect();
    assert_eq!(warnings, [4, 5]);
    let output = bash(&bench, &script, &variables);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    for path in job["artifacts"]["paths"].as_sequence().expect("there are artifacts") {
        assert!(bench.file(text(path)).exists(), "{path:?}");
    }
    bench.edit("examples/ci/elastic.yaml", "[host-1t, host-tract]", "[jetson]");
    let output = bash(&bench, &script, &variables);
    assert_eq!(output.code, Some(4), "{}", output.stderr);
}
