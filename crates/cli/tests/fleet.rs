//! Models for many platforms: limits of their own, the whole front, and fewer models than platforms.

mod common;

use common::Bench;
use common::reports::{number, promise_no_time_at_all};
use serde_json::Value;

const EXPORT: &str = "export --all-platforms --form portable --population 8 --evaluations 40 --format json";

/// A run and three platforms with limits of their own, on which every subnet takes the same time.
fn fleet() -> Bench {
    let bench = Bench::finished();
    let text = |name: &str| String::from_utf8(bench.read(name)).expect("the file is text");
    let (platform, profile) = (text("platforms/host-tract.yaml"), text("profiles/host-tract.json"));
    for (name, limits) in [
        ("small", "{flops: 12kflops, latency: 1s}"),
        ("middle", "{flops: 20kflops}"),
        ("thin", "{params: 1000params}"),
    ] {
        let with = platform.replace("\nmeasure:", &format!("\nlimits: {limits}\nmeasure:"));
        bench.write(&format!("platforms/{name}.yaml"), with);
        let renamed = profile.replace("\"name\": \"host-tract\"", &format!("\"name\": \"{name}\""));
        bench.write(&format!("profiles/{name}.json"), renamed);
    }
    bench.remove("profiles/host-tract.json");
    bench
}

fn json(bench: &Bench, flags: &str) -> Value {
    let command = format!("{EXPORT} {flags}");
    serde_json::from_str(&bench.succeed(&command)).unwrap_or_else(|error| panic!("{command}: {error}"))
}

fn written(bench: &Bench, name: &str) -> Value {
    serde_json::from_slice(&bench.read(&format!("exports/{name}")))
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

/// What a model was asked to hold, all of which it holds.
fn held(model: &Value) -> Vec<&str> {
    let budgets = list(&model["budgets"]);
    for budget in budgets {
        let limit = budget["asked"].as_str().and_then(|text| text.parse::<elastic_space::Budget>().ok());
        let limit = limit.expect("a budget is written as it is asked").limit;
        assert!(number(&budget["measured"]) <= limit, "{budget}");
    }
    budgets.iter().map(|budget| budget["asked"].as_str().expect("a text")).collect()
}

#[test]
fn limits_of_a_platform_are_its_budgets() {
    let bench = fleet();
    for (flags, expected, name) in [
        ("", [vec!["20kflops"], vec!["12kflops", "1s"], vec!["1000params"]], ""),
        (
            "--budget 11kflops",
            [vec!["11kflops"], vec!["11kflops", "1s"], vec!["11kflops", "1000params"]],
            "-11kflops",
        ),
    ] {
        let reports = json(&bench, flags);
        for ((report, expected), platform) in
            list(&reports).iter().zip(expected).zip(["middle", "small", "thin"])
        {
            assert_eq!(report["platform"], platform);
            assert_eq!(report["file"], format!("tiny-{platform}{name}.onnx"), "{flags}");
            let mut budgets = held(report);
            budgets.sort_by_key(|text| text.parse::<elastic_space::Budget>().expect("a budget").quantity);
            let shown = |text: &&str| text.replace("1000params", "1kparams");
            assert_eq!(budgets, expected.iter().map(shown).collect::<Vec<_>>(), "{flags}, {platform}");
        }
    }
    // The platform file counts as it is now; where there is none the profile does.
    bench.edit("platforms/small.yaml", "flops: 12kflops", "flops: 1flops");
    assert_eq!(bench.elastic(EXPORT).code, Some(3));
    bench.remove("platforms/small.yaml");
    let output = bench.elastic(EXPORT);
    assert_eq!(output.code, Some(2), "{}", output.stderr);
    assert!(
        output.stderr.contains("there is no budget for small: name one with --budget"),
        "{}",
        output.stderr
    );
}

#[test]
fn a_check_tells_the_limits() {
    let bench = fleet();
    let table = bench.succeed("platform check small");
    assert!(table.contains("limits: 12kflops, 1s\n"), "{table}");
    assert!(!bench.succeed("platform check host-tract").contains("limits"));
    let found = bench.succeed_json("platform check small");
    assert_eq!(found["limits"], serde_json::json!({"flops": "12kflops", "latency": "1s"}));
}

#[test]
fn fewer_models_than_platforms() {
    let bench = fleet();
    let mut losses = Vec::new();
    for (flags, most, name) in [
        ("--shared", 1, "tiny-shared"),
        ("--at-most 2", 2, "tiny-at-most-2"),
        ("--at-most 3", 3, "tiny-at-most-3"),
    ] {
        let fleet = json(&bench, flags);
        assert_eq!(fleet, written(&bench, &format!("{name}.fleet.json")), "{flags}");
        let platforms = list(&fleet["platforms"]);
        let (mut files, mut loss) = (Vec::new(), 0.0);
        for (served, expected) in platforms.iter().zip(["20kflops", "12kflops", "1kparams"]) {
            assert!(held(served).contains(&expected), "{served:#}");
            let own = number(&served["own-accuracy"]) - number(&served["validation-accuracy"]);
            assert!(own >= 0.0 && (own - number(&served["loss"])).abs() < 1e-12, "{served:#}");
            loss += own / 3.0;
            files.push(served["file"].as_str().expect("a name").to_owned());
        }
        assert!((loss - number(&fleet["mean-loss"])).abs() < 1e-12, "{fleet:#}");
        assert_eq!(fleet["exact"], true);
        losses.push(loss);
        files.sort();
        files.dedup();
        assert!(files.len() <= most, "{flags}: {files:?}");
        let models: Vec<&str> =
            list(&fleet["models"]).iter().filter_map(|model| model["file"].as_str()).collect();
        assert_eq!(models.len(), files.len(), "{flags}");
        for model in models {
            assert!(files.iter().any(|file| file == model), "{model}");
            bench.succeed(&format!("verify exports/{model}"));
        }
        let table = bench.succeed(&format!("{EXPORT} {flags}").replace("--format json", ""));
        for word in
            ["own best", "for 3 platforms: mean accuracy", "points", &format!("exports/{name}.fleet.json")]
        {
            assert!(table.contains(word), "`{word}` is missing in {table}");
        }
    }
    assert!(losses.is_sorted_by(|more, fewer| more >= fewer), "{losses:?}");
    assert!(losses[2].abs() < 1e-12, "one for each loses nothing: {losses:?}");
}

#[test]
fn platforms_that_nothing_serves() {
    let bench = fleet();
    for (change, flags, code, text) in [
        ("", "--shared --budget 1flops", 3, "no subnet meets the budget"),
        // Each alone is served, by subnets that the other does not take.
        ("promise", "--shared --budget 0.001us", 6, "no candidate of the search holds"),
    ] {
        if change == "promise" {
            for platform in ["middle", "small", "thin"] {
                promise_no_time_at_all(&bench, &format!("profiles/{platform}.json"), 1e9);
            }
        }
        let output = bench.elastic(&format!("{EXPORT} {flags}"));
        assert_eq!(output.code, Some(code), "{flags}: {}", output.stderr);
        assert!(output.stderr.contains(text), "{flags}: {}", output.stderr);
    }
    let output = bench.elastic("export --shared --budget 1mflops");
    assert_eq!(output.code, Some(2), "{}", output.stderr);
}

#[test]
fn the_whole_front_is_written() {
    let bench = fleet();
    for (command, usage, name, most) in [
        ("export --pareto", "flops", "tiny-pareto", 8),
        (
            "export --pareto --platform thin --form portable",
            "the largest share of a budget",
            "tiny-thin-pareto",
            8,
        ),
        (
            "export --pareto --budget 20kflops --pareto-models 2",
            "the largest share of a budget",
            "tiny-20kflops-pareto",
            2,
        ),
        ("export --pareto --platform host-1t --form portable", "latency", "tiny-host-1t-pareto", 8),
    ] {
        let command = format!("{command} --population 8 --evaluations 40");
        if name.contains("host-1t") {
            bench.succeed("profile --platform host-1t.yaml");
        }
        let fronts = bench.succeed_json(&command);
        let front = &fronts[0];
        assert_eq!(front, &written(&bench, &format!("{name}.json")), "{command}");
        assert_eq!(front["usage"], usage, "{command}");
        let points = list(&front["points"]);
        let pairs: Vec<(f64, f64)> = points
            .iter()
            .map(|point| (number(&point["validation-accuracy"]), number(&point["usage"])))
            .collect();
        assert!(pairs.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1), "{command}: {pairs:?}");
        let models: Vec<&str> = points.iter().filter_map(|point| point["model"].as_str()).collect();
        assert!(!models.is_empty() && models.len() <= points.len().min(most), "{command}: {models:?}");
        for model in models {
            let proof = bench.succeed_json(&format!("verify exports/{model}"));
            let point = points.iter().find(|point| point["model"] == model).expect("it is of the front");
            assert_eq!(point["test-accuracy"], proof["test-accuracy"], "{model}");
        }
        let table = String::from_utf8(bench.read(&format!("exports/{name}.csv"))).expect("the file is text");
        assert_eq!(table.lines().count(), points.len() + 1, "{table}");
        let shown = bench.succeed(&command);
        let word = format!("of a front of {}", points.len());
        assert!(shown.contains(&word), "`{word}` is missing in {shown}");
    }
}

#[test]
fn a_front_may_be_of_two_costs() {
    let bench = Bench::finished();
    const COMMAND: &str = "export --pareto --population 8 --evaluations 40";
    let fronts = bench.succeed_json(&format!("{COMMAND} --objective params --objective flops"));
    let front = &fronts[0];
    assert_eq!(front["objectives"], serde_json::json!(["params", "flops"]));
    assert_eq!(front["usage"], "params");
    let points = list(&front["points"]);
    let of = |point: &Value| {
        [-number(&point["validation-accuracy"]), number(&point["costs"][1][1]), number(&point["costs"][0][1])]
    };
    for point in points {
        let own = of(point);
        assert_eq!(number(&point["params"]), own[1], "{point:#}");
        assert_eq!(number(&point["flops"]), own[2], "{point:#}");
        let beats = |other: &[f64; 3]| other != &own && other.iter().zip(own).all(|(a, b)| *a <= b);
        assert!(!points.iter().map(of).any(|other| beats(&other)), "{point:#}");
    }
    assert!(points.is_sorted_by(|a, b| of(a)[1] <= of(b)[1]), "the first objective orders them");
    let model = points.iter().find_map(|point| point["model"].as_str()).expect("one is written");
    let page = bench.read(&format!("exports/{}", model.replace(".onnx", ".report.html")));
    let page = String::from_utf8(page).expect("a page is text");
    for picture in ["Accuracy against parameters", "Accuracy against FLOPs"] {
        assert!(page.contains(picture), "{picture} is not drawn");
    }
    for (flags, text) in [
        ("--objective params --objective params", "--objective names up to two different quantities"),
        (
            "--objective params --objective macs --objective flops",
            "--objective names up to two different quantities",
        ),
        ("--objective latency", "an objective of latency needs a platform"),
        ("--objective speed", "unknown quantity `speed`: use one of flops macs params"),
        ("--platform host-tract --objective energy", "the objective energy needs the energy of subnets"),
    ] {
        let output = bench.elastic(&format!("{COMMAND} {flags}"));
        assert!(output.code != Some(0) && output.stderr.contains(text), "{flags}: {}", output.stderr);
    }
    let output = bench.elastic("export --budget 1mflops --objective params");
    assert_eq!(output.code, Some(2), "{}", output.stderr);
}
