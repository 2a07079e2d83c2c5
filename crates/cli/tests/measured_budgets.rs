//! Budgets of what only a device can tell besides latency: the memory of a process, the energy of a run.

mod common;

use common::Bench;
use common::reports::{promise, promise_no_time_at_all};
use serde_json::Value;

const EXPORT: &str = "export --platform host-tract --form portable --population 4 --evaluations 12";
const PROFILE: &str = "profiles/host-tract.json";

fn weighed() -> Bench {
    let bench = Bench::finished();
    bench.edit("platforms/host-tract.yaml", "\nmeasure:", "\nmeasure:\n  memory: true");
    bench.succeed("profile --platform host-tract --subnets 6");
    bench
}

fn profile(bench: &Bench) -> Value {
    serde_json::from_slice(&bench.read(PROFILE)).expect("a profile is JSON")
}

#[test]
fn memory_is_profiled_predicted_and_measured_again() {
    let bench = weighed();
    let mut made = profile(&bench);
    let subnets = made["measurements"].as_array().expect("a list");
    for subnet in subnets {
        let bytes = subnet["memory_bytes"].as_u64().expect("each was measured alone");
        assert!((1_000_000..1_000_000_000).contains(&bytes), "{bytes} bytes");
    }
    assert_eq!(made["memory_model"]["rows"], subnets.len());
    assert!(made.get("energy_model").is_none() || made["energy_model"]["rows"].is_number());

    let report = bench.succeed_json(&format!("{EXPORT} --budget memory=1GB"))[0].clone();
    assert_eq!(report["file"], "tiny-host-tract-memory-1GB.onnx");
    let budget = &report["budgets"][0];
    let value = |name: &str| budget[name].as_f64().expect("a number");
    assert_eq!(budget["asked"], "memory=1GB");
    assert_eq!(report["measured-memory-bytes"].as_f64(), Some(value("measured")));
    let ratio = value("predicted") / value("measured");
    assert!((0.5..2.0).contains(&ratio), "{budget}");

    let told = bench.succeed(&format!("{EXPORT} --budget memory=1GB"));
    assert!(
        told.contains("tiny-host-tract-memory-1GB.onnx: budget memory ") && told.contains(" of 1.00 GB"),
        "{told}"
    );

    let refused = bench.elastic(&format!("{EXPORT} --budget memory=1MB"));
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(refused.stderr.contains("(budget memory=1MB); raise the budget"), "{}", refused.stderr);

    // What is too slow is not weighed: the latency is what it missed, whichever was asked first.
    promise_no_time_at_all(&bench, PROFILE, 1e9);
    let slow = bench.elastic(&format!("{EXPORT} --budget memory=1GB --budget 0.001us"));
    assert_eq!(slow.code, Some(6), "{}", slow.stderr);
    assert!(slow.stderr.contains("the best of 8 took"), "{}", slow.stderr);

    promise(&mut made, "memory_model", 1000.0);
    bench.write(PROFILE, made.to_string());
    let missed = bench.elastic(&format!("{EXPORT} --budget memory=1MB"));
    assert_eq!(missed.code, Some(6), "{}", missed.stderr);
    let said = "holds memory=1MB when measured on host-tract: the best of 8 needed";
    assert!(missed.stderr.contains(said), "{}", missed.stderr);
}

#[test]
fn a_platforms_limits_and_several_platforms() {
    let bench = weighed();
    let text = |name: &str| String::from_utf8(bench.read(name)).expect("the file is text");
    let (platform, profile) = (text("platforms/host-tract.yaml"), text(PROFILE));
    for (name, limits) in [("roomy", "{memory: 2GB}"), ("fast", "{latency: 1s, memory: 1GB}")] {
        let with = platform.replace("\nmeasure:", &format!("\nlimits: {limits}\nmeasure:"));
        bench.write(&format!("platforms/{name}.yaml"), with);
        let renamed = profile.replace("\"name\": \"host-tract\"", &format!("\"name\": \"{name}\""));
        bench.write(&format!("profiles/{name}.json"), renamed);
    }
    bench.remove(PROFILE);
    let command = "export --all-platforms --shared --form portable --population 4 --evaluations 12";
    let fleet = bench.succeed_json(command);
    let served = fleet["platforms"].as_array().expect("a list");
    let asked = |served: &Value| -> Vec<String> {
        let budgets = served["budgets"].as_array().expect("a list").iter();
        budgets.map(|budget| budget["asked"].as_str().expect("a text").to_owned()).collect()
    };
    assert_eq!(served.iter().map(asked).collect::<Vec<_>>(), [vec!["1s", "memory=1GB"], vec!["memory=2GB"]]);
}

#[test]
fn what_was_not_measured_is_no_budget() {
    let bench = Bench::finished();
    for (budget, expected) in [
        (
            "memory=1GB",
            "the budget memory=1GB needs the memory of subnets, and the profile of host-tract has none: write \
             `memory: true` under `measure` in its platform file, and run: elastic profile --platform host-tract.yaml",
        ),
        (
            "2mJ",
            "the budget 2mJ needs the energy of subnets, and the profile of host-tract has none: the device has no meter",
        ),
    ] {
        let mut made = profile(&bench);
        made.as_object_mut().expect("an object").remove("energy_model");
        bench.write(PROFILE, made.to_string());
        let refused = bench.elastic(&format!("{EXPORT} --budget {budget}"));
        assert!(refused.code == Some(1) && refused.stderr.contains(expected), "{}", refused.stderr);
    }
}

/// Energies stand in the profile as a board's meter would have given them; a machine without one cannot measure them again.
#[test]
fn energies_of_a_profile_guide_the_search() {
    let bench = Bench::finished();
    let mut made = profile(&bench);
    made["energy_model"] = made["latency_model"].clone();
    promise(&mut made, "energy_model", 3000.0);
    bench.write(PROFILE, made.to_string());
    let refused = bench.elastic(&format!("{EXPORT} --budget 2mJ"));
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(refused.stderr.contains("costs 3.000 mJ (budget 2mJ)"), "{}", refused.stderr);
}
