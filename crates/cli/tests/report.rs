//! Reports of real runs, finished and not, and what is refused.

mod common;

use std::fs;

use common::{Bench, PROGRESSIVE};
use serde_json::Value;

/// A folder with a finished run of three stages.
fn trained() -> Bench {
    let bench = Bench::fresh();
    bench.set_scheme(PROGRESSIVE);
    bench.edit("models/tiny.yaml", "evaluate-every: 3", "evaluate-every: 2");
    bench.succeed("train --model models/tiny.yaml");
    bench
}

fn text(bench: &Bench, name: &str) -> String {
    String::from_utf8(bench.read(name)).expect("a page is text")
}

#[test]
fn a_finished_run_has_a_report() {
    let bench = trained();
    let printed = bench.succeed_json("report");
    assert_eq!(printed["report"], "runs/tiny/report.html");
    assert_eq!((&printed["finished"], &printed["step"]), (&true.into(), &14.into()));
    let subnets = printed["subnets"].as_array().expect("a list of subnets");
    let names: Vec<&Value> = subnets.iter().map(|subnet| &subnet["name"]).collect();
    assert_eq!(names, ["largest", "smallest", "random 0", "random 1"]);
    for subnet in subnets {
        let accuracy = subnet["accuracy"].as_f64().expect("a number");
        // Chance is 1/3; the recipe has no margin.
        assert_eq!(subnet["collapsed"], accuracy < 1.0 / 3.0 + 0.05, "{subnet}");
    }
    let summary = bench.succeed_json("train --model models/tiny.yaml");
    for (place, subnet) in [("named", &subnets[0]), ("random", &subnets[2])] {
        assert_eq!(summary["health"][place][0]["accuracy"], subnet["accuracy"], "{place}");
        assert_eq!(summary["health"][place][0]["cost"]["macs"], subnet["macs"], "{place}");
    }
    let page = text(&bench, "runs/tiny/report.html");
    for part in ["Finished after step 14.", "0-base", "1-width", "2-depth", "Pareto front", "<svg"] {
        assert!(page.contains(part), "`{part}` is missing");
    }
    let table = bench.succeed("report runs/tiny --out pages/tiny.html");
    assert!(table.contains("health") && table.ends_with("report: pages/tiny.html\n"), "{table}");
    assert_eq!(text(&bench, "pages/tiny.html"), page);
}

#[test]
fn a_run_that_has_not_finished_has_a_report_too() {
    let bench = trained();
    bench.remove("runs/tiny/supernet.safetensors");
    for (lines, told) in
        [(16, "the log ends at step 14"), (3, "the log ends at step 4"), (1, "No evaluation yet")]
    {
        let log = text(&bench, "runs/tiny/metrics.jsonl");
        let kept: Vec<&str> = log.lines().take(lines).collect();
        // A line that is being written just now.
        bench.write("runs/tiny/metrics.jsonl", format!("{}\n{{\"kind\":", kept.join("\n")));
        let printed = bench.succeed_json("report runs/tiny");
        assert_eq!(printed["finished"], false);
        let page = text(&bench, "runs/tiny/report.html");
        assert!(page.contains("elastic train --out runs/tiny --resume") && page.contains(told), "{told}");
    }
}

#[test]
fn the_log_is_a_table_and_events_too() {
    let bench = trained();
    let table = text(&bench, "runs/tiny/metrics.csv");
    let lines = text(&bench, "runs/tiny/metrics.jsonl").lines().count();
    assert_eq!(table.lines().count(), 1 + lines);
    assert!(table.starts_with("kind,stage,step,train/loss,"), "{table}");
    let events: Vec<_> =
        fs::read_dir(bench.file("runs/tiny/tensorboard")).expect("a folder of events").collect();
    assert_eq!(events.len(), 1, "{events:?}");
}

#[test]
fn what_makes_no_report() {
    let bench = trained();
    let change = |from: &str, to: &str| bench.edit("runs/tiny/metrics.jsonl", from, to);
    let fails = |command: &str, expected: &str| {
        let output = bench.elastic(command);
        assert_eq!(output.code, Some(1), "{command}");
        assert!(output.stderr.contains(expected), "{command}: {}", output.stderr);
        assert_eq!(output.stdout, "", "{command}");
    };
    fails("report runs/other", "runs/other is no run: there is no such folder (run: elastic train)");
    fails(
        "report runs/tiny/stages/1-width",
        "runs/tiny/stages/1-width is a stage, its log is that of the whole run: run: elastic report runs/tiny",
    );
    fails("report runs/tiny --out models", "write models: ");
    change("\"kind\":\"validation\"", "\"kind\":\"test\"");
    fails("report runs/tiny", "read runs/tiny/metrics.jsonl, line 2: unknown variant `test`");
    bench.write("runs/tiny/metrics.jsonl", "");
    fails("report runs/tiny", "read runs/tiny/metrics.jsonl: it has no line yet");
    bench.remove("runs/tiny/metrics.jsonl");
    fails("report runs/tiny", "runs/tiny has no metrics.jsonl: no training has begun there");
    fails("report", "no run in `runs` has a log: run `elastic train`");
    bench.remove("runs");
    fails("report", "there is no folder `runs` here");
}

#[test]
fn a_site_joins_a_run_its_profiles_and_its_models() {
    let bench = Bench::finished();
    bench.succeed(
        "export --budget 12kflops --platform host-tract --evaluations 8 --population 4 --out exports/more",
    );
    // What belongs to another supernet, or is something else, is passed over.
    bench.write("exports/other.json", "{}");
    bench.succeed("train --model models/tiny.yaml --seed 2 --out runs/other");
    let printed = bench.succeed_json("report runs/tiny --site pages");
    assert_eq!(printed["report"], "pages/index.html");
    let index = text(&bench, "pages/index.html");
    for (page, part) in [
        ("training.html", "Training report: tiny"),
        ("profiles/host-tract.html", "Profile: host-tract"),
        ("models/tiny-1mflops.html", "Exported model: tiny-1mflops"),
        ("models/more-tiny-host-tract-12kflops.html", "Exported model: tiny-host-tract-12kflops"),
    ] {
        assert!(index.contains(&format!("href=\"{page}\"")), "{page} is not in the index");
        let page = text(&bench, &format!("pages/{page}"));
        assert!(page.contains(part) && page.contains("index.html\">All models</a>"), "{part}");
    }
    assert!(index.contains("Any platform") && index.contains("architecture: embed"), "{index}");
    bench.succeed("report runs/other --site others");
    let others = text(&bench, "others/index.html");
    assert!(others.contains("No profile and no exported model"), "{others}");
    assert!(!bench.file("others/models").exists());
}
