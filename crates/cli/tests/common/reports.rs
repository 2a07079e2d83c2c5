//! A run with profiles, and what exports report.

use std::sync::OnceLock;

use serde_json::Value;

use super::{Bench, require_library};

/// A folder with a finished run and the profiles of both runtimes.
pub(crate) fn profiled() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| {
        require_library();
        let bench = Bench::finished();
        bench.succeed("profile --platform host-1t.yaml");
        bench
    })
}

/// Fails where a field is missing or null.
pub(crate) fn has(value: &Value, fields: &[&str]) {
    for field in fields {
        assert!(!value[*field].is_null(), "`{field}` is missing in {value:#}");
    }
}

/// What is written beside a model, which must be what is printed.
pub(crate) fn report(bench: &Bench, out: &str, printed: &Value) -> Value {
    let file = printed["file"].as_str().expect("a report names its file").replace(".onnx", ".json");
    let written: Value =
        serde_json::from_slice(&bench.read(&format!("{out}/{file}"))).expect("a report is JSON");
    assert_eq!(&written, printed, "{file}");
    written
}

pub(crate) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Makes a model of a profile predict so much for every subnet.
pub(crate) fn promise(profile: &mut Value, model: &str, cost: f64) {
    let model = &mut profile[model];
    model["intercept"] = cost.into();
    model["floor"] = 0.0.into();
    for coefficient in model["coefficients"].as_array_mut().expect("a list") {
        *coefficient = 0.0.into();
    }
}

/// Makes the latency model of a profile predict 0 for every subnet, and the reference have taken so many microseconds.
pub(crate) fn promise_no_time_at_all(bench: &Bench, name: &str, reference_us: f64) {
    let mut profile: Value = serde_json::from_slice(&bench.read(name)).expect("a profile is JSON");
    profile["measurements"][0]["latency"]["p50_us"] = reference_us.into();
    promise(&mut profile, "latency_model", 0.0);
    bench.write(name, profile.to_string());
}
