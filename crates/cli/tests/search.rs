//! A search that was killed and is run again goes the same way, and measures nothing twice.

mod common;

use std::process::Child;

use common::{Bench, FILES, disturb, kill, require_library, write_images};
use serde_json::Value;

const EXPORT: &str = "export --budget 1mflops --evaluations 24 --population 8 --seed 5 --verbose";
const ACCURACIES: &str = "runs/tiny/accuracies.jsonl";
/// Attempts at hitting a search before it ends.
const ATTEMPTS: usize = 10;

/// A folder whose run nobody has searched.
fn unsearched() -> Bench {
    let bench = Bench::finished();
    bench.remove(ACCURACIES);
    bench.remove("exports");
    bench
}

/// How many accuracies of a model's search were there before, and everything else that its export wrote, without what a clock
/// decides.
fn written(bench: &Bench, name: &str) -> (u64, Vec<Vec<u8>>) {
    let report = bench.read(&format!("exports/{name}.json"));
    let mut report: Value = serde_json::from_slice(&report).expect("a report is JSON");
    let cached = report["search"]["cached"].as_u64().expect("a number");
    report["search"]["cached"] = Value::Null;
    let mut extensions = vec!["onnx", "manifest.json", "cdx.json"];
    if report["platform"].is_null() {
        extensions.push("md");
    }
    for measured in ["measured-latency-us", "measurement", "forms"] {
        report[measured] = Value::Null;
    }
    let read = |extension| bench.read(&format!("exports/{name}.{extension}"));
    let files = extensions.into_iter().map(read).chain([report.to_string().into_bytes()]);
    (cached, files.collect())
}

fn export(bench: &Bench) -> (u64, Vec<Vec<u8>>) {
    bench.succeed(EXPORT);
    written(bench, "tiny-1mflops")
}

#[test]
fn a_search_that_was_cut_anywhere_ends_like_an_undisturbed_one() {
    let bench = unsearched();
    let (cached, undisturbed) = export(&bench);
    assert_eq!(cached, 0);
    let all = String::from_utf8(bench.read(ACCURACIES)).expect("the file is text");
    let lines: Vec<&str> = all.split_inclusive('\n').collect();
    assert_eq!(lines.len(), 24);
    for (kept, cut) in [
        (0, "{\"sch"),
        (1, ""),
        (7, "{\"schema\":\"elastic.accuracy/v1\","),
        (23, lines[23].trim()),
        (24, ""),
    ] {
        bench.write(ACCURACIES, lines[..kept].concat() + cut);
        let (cached, files) = export(&bench);
        assert_eq!(cached, kept as u64);
        assert!(files == undisturbed, "{kept} accuracies and `{cut}`");
        assert!(bench.read(ACCURACIES) == all.as_bytes(), "{kept} accuracies and `{cut}`");
    }
    let table = bench.succeed(EXPORT);
    assert!(
        table.contains("24 of 24 accuracies were measured before: runs/tiny/accuracies.jsonl"),
        "{table}"
    );
}

#[test]
fn a_search_that_was_killed_ends_like_an_undisturbed_one() {
    let bench = unsearched();
    let (_, undisturbed) = export(&bench);
    let act: fn(&mut Child) = kill;
    let bench = (0..ATTEMPTS).find_map(|_| {
        let bench = unsearched();
        disturb(&bench, EXPORT, "search: 1/", act);
        (!bench.file("exports/tiny-1mflops.onnx").exists()).then_some(bench)
    });
    let bench = bench.expect("a search is hit before it ends");
    let (cached, files) = export(&bench);
    assert!(cached > 0, "what was measured before the kill is not measured again");
    assert!(files == undisturbed);
}

#[test]
fn accuracies_count_for_their_supernet_and_images_alone() {
    let bench = unsearched();
    let cached = |flags: &str| {
        bench.succeed_json(&format!("{EXPORT} {flags}"))[0]["search"]["cached"].as_u64().expect("a number")
    };
    assert_eq!(cached("--run runs/tiny"), 0);
    assert_eq!(cached("--run runs/tiny --images 10"), 0, "fewer images");
    assert_eq!(cached("--run runs/tiny --images 10"), 24, "both are kept");
    assert_eq!(cached("--run runs/tiny"), 24);
    let few = bench.succeed_json(&EXPORT.replace("--evaluations 24", "--evaluations 3 --run runs/tiny"));
    let search = &few[0]["search"];
    assert_eq!((search["evaluations"].as_u64(), search["cached"].as_u64()), (Some(3), Some(3)), "{search:#}");
    let evaluated = search["evaluated"].as_array().expect("a list");
    assert_eq!(evaluated.len(), 3);
    for point in evaluated {
        assert!(
            point["accuracy"].is_f64() && point["subnet"].is_object() && point["costs"].is_array(),
            "{point}"
        );
    }
    bench.succeed("train --model models/tiny.yaml --seed 9 --out runs/other");
    bench.write("runs/other/accuracies.jsonl", bench.read(ACCURACIES));
    assert_eq!(cached("--run runs/other"), 0, "another supernet");
}

#[test]
fn accuracies_of_earlier_commands_change_no_later_platforms_search() {
    let bench = unsearched();
    let profile = bench.read("profiles/host-tract.json");
    let profile = String::from_utf8(profile).expect("a profile is text");
    bench.write("profiles/twin.json", profile.replace("\"host-tract\"", "\"twin\""));
    let both = || {
        bench.succeed(&format!("{EXPORT} --all-platforms --form portable"));
        ["tiny-host-tract-1mflops", "tiny-twin-1mflops"].map(|name| written(&bench, name))
    };
    let [undisturbed, again] = [both(), both()];
    for (once, twice) in undisturbed.iter().zip(&again) {
        assert!(once.1 == twice.1);
    }
    let cached = |both: &[(u64, Vec<Vec<u8>>); 2]| [both[0].0, both[1].0];
    assert_eq!(cached(&undisturbed), [0, 0]);
    assert_eq!(cached(&again)[0], 24);
    assert!(cached(&again)[1] > 0, "the second platform's search asks for accuracies of its own");
}

#[test]
fn an_evaluation_that_was_ended_early_is_taken_up_where_more_is_asked() {
    require_library();
    let bench = Bench::fresh();
    write_images(&bench, FILES[0], FILES[1], 640, 1);
    bench.edit("models/tiny.yaml", "validation: 20", "validation: 600");
    bench.edit("models/tiny.yaml", "      steps: 6", "      steps: 12");
    bench.succeed("train --model models/tiny.yaml");
    // Each line with how many images its subnet has answered.
    let lines = || -> Vec<(String, usize)> {
        let text = String::from_utf8(bench.read(ACCURACIES)).expect("the file is text");
        let answers = |line: &str| {
            let line: Value = serde_json::from_str(line).expect("a line is JSON");
            // Three bytes are four characters.
            line["margins"].as_str().expect("a text").trim_end_matches('=').len() * 3 / 4
        };
        text.lines().map(|line| (line.to_owned(), answers(line))).collect()
    };
    let stopped = || {
        let report: Value =
            serde_json::from_slice(&bench.read("exports/tiny-1mflops.json")).expect("a report is JSON");
        let evaluated = report["search"]["evaluated"].as_array().expect("a list").clone();
        evaluated.iter().filter(|point| !point["stopped-after"].is_null()).count()
    };
    let (cached, early) = export(&bench);
    let first = lines();
    assert_eq!((cached, first.len()), (0, 24));
    assert!(stopped() > 3, "{} evaluations were ended early", stopped());
    assert!(first.iter().any(|(_, answers)| *answers < 600), "and so fewer images were answered");
    let page = String::from_utf8(bench.read("exports/tiny-1mflops.report.html")).expect("a page is text");
    assert!(page.contains(&format!("{} of them were ended early", stopped())), "{page}");

    assert!(export(&bench) == (24, early.clone()), "what is known is enough");
    assert_eq!(lines(), first);

    let full = || {
        bench.succeed(&format!("{EXPORT} --no-early-stop"));
        assert_eq!(stopped(), 0);
        written(&bench, "tiny-1mflops")
    };
    let (cached, taken_up) = full();
    assert!(cached > 0 && cached < 24, "{cached} were answered in full");
    let both = lines();
    assert_eq!(both[..24], first);
    assert_eq!(both.len() as u64, 48 - cached);
    assert!(both[24..].iter().all(|(_, answers)| *answers == 600));
    assert!(export(&bench) == (24, early), "that more is known changes nothing");
    bench.remove(ACCURACIES);
    assert!(full() == (0, taken_up), "what was taken up is what is measured at once");
}
