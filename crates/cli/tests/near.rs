//! Profiles that add rounds near a latency.

mod common;

use common::Bench;
use serde_json::Value;

fn json(bench: &Bench, name: &str) -> Value {
    serde_json::from_slice(&bench.read(name)).expect("a profile is JSON")
}

/// Latencies of a profile, in microseconds; the first is the reference.
fn latencies(profile: &Value) -> Vec<f64> {
    let measurements = profile["measurements"].as_array().expect("a profile has measurements");
    measurements.iter().map(|measured| measured["latency"]["p50_us"].as_f64().expect("a number")).collect()
}

#[test]
fn rounds_are_added_near_a_latency_until_their_bound() {
    let bench = Bench::finished();
    // How fast this machine is does not matter: one of these is near some subnet.
    let latencies_us = std::iter::successors(Some(2.0_f64), |us| Some(us * 1.25)).take_while(|&us| us < 1e5);
    let near: Vec<String> = latencies_us.map(|us| format!("--near {us:.2}us")).collect();
    let near = near.join(" ");
    // An error that no model reaches: the bound on subnets ends it, and says so.
    let printed = bench.elastic(&format!(
        "profile --platform host-tract --subnets 4 {near} --max-error-percent 0.000001 --max-subnets 6 --out after.json"
    ));
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    assert!(printed.stderr.contains("the latency model is not as sure as asked"), "{}", printed.stderr);
    let profile = json(&bench, "after.json");
    let after = latencies(&profile);
    assert!((5..=6).contains(&after.len()), "{after:?}");
    assert_eq!(profile["latency_model"]["rows"], after.len());
    // What was added is measured beside the same reference.
    for measured in profile["measurements"].as_array().expect("a list") {
        let ratio = measured["latency"]["ratio_to_reference"].as_f64().expect("a ratio");
        let us = measured["latency"]["p50_us"].as_f64().expect("a latency");
        assert!((us / (ratio * after[0]) - 1.0).abs() < 1e-9, "{measured}");
    }
    let mut subnets: Vec<String> =
        profile["measurements"].as_array().expect("a list").iter().map(|m| m["subnet"].to_string()).collect();
    subnets.sort();
    subnets.dedup();
    assert_eq!(subnets.len(), after.len(), "every subnet is measured once");
}

#[test]
fn a_latency_where_no_subnet_is_and_a_budget_that_is_none_are_refused() {
    let bench = Bench::finished();
    for (near, message) in [
        ("1s", "no subnet that is not measured yet is predicted within 15 % of it; the smallest takes about"),
        ("5mflops", "--near is 5mflops: it takes a latency"),
    ] {
        let output =
            bench.elastic(&format!("profile --platform host-tract --subnets 4 --near {near} --out x.json"));
        assert_eq!(output.code, Some(2), "{}", output.stderr);
        assert!(output.stderr.contains(message), "{}", output.stderr);
    }
}
