//! Profiles in shards, by the commands that stand in `examples/farms`.

#![cfg(unix)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::Bench;
use serde_yaml::Value;

const PROFILE: &str = "profiles/host-tract.json";

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/farms")
}

fn text(name: &str) -> String {
    let path = examples().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(name: &str) -> Value {
    serde_yaml::from_str(&text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A finished run with a plan of its four subnets, and the examples in the folder.
fn planned() -> Bench {
    let bench = Bench::finished();
    bench.remove(PROFILE);
    for entry in std::fs::read_dir(examples()).expect("the examples are in the repository") {
        let name = entry.expect("a file").file_name().into_string().expect("a name");
        bench.write(&format!("examples/farms/{name}"), text(&name));
    }
    let plan = bench.succeed_json("profile plan --platform host-tract --out plan");
    assert_eq!(plan["subnets"].as_array().map(Vec::len), Some(4), "{plan}");
    bench
}

/// Runs a command as an engine does, in the bench's folder.
fn engine(bench: &Bench, words: &[&str], variables: &[(&str, &str)]) {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(bench.path()).env("ELASTIC", env!("CARGO_BIN_EXE_elastic"));
    let output = command.envs(variables.iter().copied()).output().expect("a shell starts");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn shards(bench: &Bench) -> usize {
    std::fs::read_dir(bench.file("plan/shards")).map_or(0, Iterator::count)
}

/// Merges what is there, and begins anew.
fn merge(bench: &Bench, engine: &str, expected: usize) {
    assert_eq!(shards(bench), expected, "{engine}");
    let model = bench.succeed_json("profile merge --plan plan");
    assert_eq!(model["rows"], 4, "{engine}");
    bench.remove("plan/shards");
}

#[test]
fn every_engine_measures_its_shards() {
    let bench = planned();
    for index in ["0", "1", "2", "3"] {
        let variables = [("SLURM_ARRAY_TASK_ID", index), ("SLURM_ARRAY_TASK_COUNT", "4"), ("PLAN", "plan")];
        engine(&bench, &["sh", "examples/farms/slurm.sh"], &variables);
    }
    merge(&bench, "slurm", 4);

    let job = yaml("kubernetes.yaml");
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    let value = |name: &str| {
        let all = container["env"].as_sequence().expect("variables");
        all.iter().find(|entry| entry["name"] == name).and_then(|entry| entry["value"].as_str()).expect(name)
    };
    assert_eq!(
        job["spec"]["completions"].as_u64().map(|count| count.to_string()),
        Some(value("COUNT").into())
    );
    assert_eq!(container["volumeMounts"][0]["mountPath"], value("PLAN"));
    let command: Vec<&str> =
        container["command"].as_sequence().expect("a command").iter().filter_map(Value::as_str).collect();
    let script = command[2].replace("/shard.sh", "examples/farms/shard.sh");
    for index in ["0", "1", "2", "3"] {
        let variables = [("JOB_COMPLETION_INDEX", index), ("COUNT", value("COUNT")), ("PLAN", "plan")];
        engine(&bench, &[command[0], command[1], &script], &variables);
    }
    merge(&bench, "kubernetes", 4);

    let workflow = yaml("github-actions.yaml");
    let count = workflow["env"]["COUNT"].as_u64().expect("a count").to_string();
    let indices = workflow["jobs"]["shard"]["strategy"]["matrix"]["index"].as_sequence().expect("indices");
    assert_eq!(indices.len().to_string(), count);
    let steps = workflow["jobs"]["shard"]["steps"].as_sequence().expect("steps");
    for index in indices {
        let index = index.as_u64().expect("a number").to_string();
        for run in steps.iter().filter_map(|step| step["run"].as_str()) {
            engine(&bench, &["sh", "-c", run], &[("INDEX", &index), ("COUNT", &count)]);
        }
    }
    merge(&bench, "github actions", 4);

    bench.write("labgrid-client", "#!/bin/sh\necho \"$LG_PLACE $*\" >> places\n");
    let variables = [("PLACES", "orin-0 orin-1"), ("LABGRID_CLIENT", "sh labgrid-client")];
    engine(&bench, &["sh", "examples/farms/labgrid.sh"], &variables);
    let places = String::from_utf8(bench.read("places")).expect("text");
    assert_eq!(places, "orin-0 acquire\norin-1 acquire\norin-0 release\norin-1 release\n");
    merge(&bench, "labgrid", 2);
}

#[test]
fn order_and_repetition_change_nothing() {
    let bench = planned();
    let run = |shard: &str| bench.succeed(&format!("profile run --plan plan --shard {shard}"));
    assert!(run("1/2").contains("written: plan/shards/1-of-2.jsonl"));
    let error = bench.elastic("profile merge --plan plan");
    assert_eq!(error.code, Some(1), "{}", error.stderr);
    assert!(error.stderr.contains("merge: 1 of 4 subnets are not measured yet"), "{}", error.stderr);
    run("2/2");
    let first = bench.read("plan/shards/1-of-2.jsonl");
    // A job that is started again leaves what it finds.
    let again = bench.elastic("profile run --plan plan --shard 1/2");
    assert!(again.stderr.contains("shard 1/2 is measured already"), "{}", again.stderr);
    assert_eq!(bench.read("plan/shards/1-of-2.jsonl"), first);

    bench.succeed("profile merge --plan plan");
    let whole = bench.read(PROFILE);
    let (one, two) = ("plan/shards/1-of-2.jsonl", "plan/shards/2-of-2.jsonl");
    bench.succeed(&format!("profile merge --plan plan {two} {one} --out all.jsonl"));
    bench.succeed(&format!("profile merge --plan plan all.jsonl {one} {two} {one} --out again.jsonl"));
    assert_eq!(bench.read("all.jsonl"), bench.read("again.jsonl"));
    for files in [format!("{two} {one}"), "all.jsonl".into(), format!("all.jsonl {two} all.jsonl {one}")] {
        bench.succeed(&format!("profile merge --plan plan {files} --out other.json"));
        assert_eq!(bench.read("other.json"), whole, "{files}");
    }
    // The profile serves as any other.
    bench.succeed("export --budget 1s --platform host-tract");
}

#[test]
fn shards_that_cannot_be_used() {
    let bench = planned();
    bench.succeed("profile run --plan plan --shard 1/1");
    bench.write("cut.jsonl", &bench.read("plan/shards/1-of-1.jsonl")[..200]);
    bench.succeed("profile plan --platform host-tract --seed 9 --out other");
    for (arguments, code, part) in [
        ("profile run --plan plan --shard 0/4", 2, "is not NUMBER/COUNT"),
        ("profile run --plan plan --shard 5/4", 2, "is not NUMBER/COUNT"),
        ("profile run --plan nowhere --shard 1/4", 1, "nowhere/plan.json"),
        ("profile merge --plan plan cut.jsonl", 1, "read cut.jsonl, line 1: "),
        ("profile merge --plan other plan/shards/1-of-1.jsonl", 1, "was measured for another plan"),
        ("profile merge --plan other", 1, "other/shards"),
        (
            "profile plan --platform host-tract --subnets 1",
            2,
            "--subnets is 1: a latency model needs at least 2",
        ),
    ] {
        let output = bench.elastic(arguments);
        assert_eq!(output.code, Some(code), "{arguments}: {}", output.stderr);
        assert!(output.stderr.contains(part), "{arguments}: `{part}` is not in {}", output.stderr);
    }
    let models = std::fs::read_dir(bench.file("plan/models")).expect("models");
    for model in models {
        std::fs::write(model.expect("a file").path(), "another").expect("a file");
    }
    bench.remove("plan/shards");
    let output = bench.elastic("profile run --plan plan --shard 1/1");
    assert!(output.stderr.contains("its content has changed since the plan was made"), "{}", output.stderr);
}
