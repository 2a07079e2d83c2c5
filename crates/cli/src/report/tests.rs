//! The page of a log that was written by hand.

use elastic_space::file;

use super::*;

/// Forty subnets in three stages, of which the second ends the log.
const MODEL: &str = "\
schema: elastic.model/v1
seed: 7
space:
  vit:
    image-size: 8
    channels: 1
    patch-size: 4
    classes: 4
    head-dim: 4
    pooling: mean
    embed-dim: [8, 16]
    depth: {choices: [1, 2], drop: prefix}
    heads: {choices: [1, 2], per: layer}
    mlp-width: {choices: [8, 16], per: layer}
subnets:
  <middle> & co:
    vit:
      embed-dim: 16
      layers:
        - {index: 0, heads: 2, mlp-width: 8}
data:
  idx: data/<tiny>
  validation: 20
  mean: [0.3]
  std: [0.3]
  class-names: [left, top, centre, none]
training:
  scheme:
    progressive:
      base:
        steps: 6
        learning-rate: {peak: 0.01, final: 0.0001, warm-up-steps: 2}
        patience: {evaluations: 1, min-improvement: 0.01}
      stages:
        - open: width
          steps: 4
          learning-rate: {peak: 0.005, final: 0.0001, warm-up-steps: 0}
          subnets: 4
          sampling: {mixed: {fixed: [largest, smallest], rest: random}}
          reduce: mean
          distillation: {weight: 0.5, teacher: in-place}
        - open: depth
          steps: 4
          learning-rate: {peak: 0.005, final: 0.0001, warm-up-steps: 0}
          subnets: 2
          sampling: random
          reduce: sum
  batch-size: 8
  optimizer: {weight-decay: 0.05, beta1: 0.9, beta2: 0.98}
  label-smoothing: 0.05
  augmentation: {flip: false, crop-padding: 1}
  evaluate-every: 2
  evaluate-random: 2
  evaluate-images: 20
  checkpoint-every: 2
";

/// The base ends by its patience after 4 of 6 steps; width has 2 of its 4 steps.
const LOG: &str = r#"
{"kind":"train","stage":"0-base","step":2,"loss":1.5,"learning_rate":0.01,"gradient_norm":2,"images_per_second":100,"subnet_updates_per_second":12.5,"peak_memory_bytes":50000000}
{"kind":"validation","stage":"0-base","step":2,"images":20,"accuracy":{"largest":0.6},"random_accuracy":[]}
{"kind":"train","stage":"0-base","step":4,"loss":1.25,"learning_rate":0.005,"gradient_norm":2,"images_per_second":200,"subnet_updates_per_second":25,"peak_memory_bytes":60000000}
{"kind":"validation","stage":"0-base","step":4,"images":20,"accuracy":{"largest":0.6},"random_accuracy":[]}
{"kind":"train","stage":"1-width","step":6,"loss":1.125,"learning_rate":0.005,"gradient_norm":2,"images_per_second":50,"subnet_updates_per_second":25,"peak_memory_bytes":null}
{"kind":"validation","stage":"1-width","step":6,"images":20,"accuracy":{"<middle> & co":0.5,"largest":0.65,"smallest":0.25},"random_accuracy":[0.55,0.35]}
"#;

fn model() -> Model {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("config.yaml");
    file::write(&path, MODEL.as_bytes()).expect("the folder can be written");
    read_model(&path).expect("a model")
}

fn report(lines: usize) -> RunReport {
    let log: Vec<Record> = LOG
        .lines()
        .filter(|line| !line.is_empty())
        .take(lines)
        .map(|line| serde_json::from_str(line).expect("a record"))
        .collect();
    RunReport::new("<run>".into(), model(), MODEL.into(), log).expect("a report")
}

/// What a page says: the text between its tags, and of charts also their summary and their tips.
fn text(page: &str) -> String {
    let body = page.split_once("</style>").expect("a style").1;
    let mut lines = Vec::new();
    for piece in body.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').expect("a tag ends");
        if let Some((_, summary)) = tag.split_once("aria-label=\"") {
            lines.push(format!("chart: {}", summary.trim_end_matches('"')));
        }
        let mark = if tag == "title" { "tip: " } else { "" };
        if !text.trim().is_empty() {
            lines.push(format!("{mark}{}", text.trim()));
        }
    }
    lines.join("\n")
}

#[test]
fn page_of_an_unfinished_run() {
    let page = page::html(&report(6), None);
    let shown = page.split_once("<pre>").expect("the configuration").0;
    let mut settings = insta::Settings::clone_current();
    settings.set_omit_expression(true);
    settings.add_filter(r"Made by elastic \S+", "Made by elastic VERSION");
    settings.bind(|| insta::assert_snapshot!("unfinished", text(shown)));
    assert!(
        !page.contains("<middle>") && !page.contains("<run>") && !page.contains("<tiny>"),
        "all is escaped"
    );
    assert!(
        !page.contains("http://") && !page.contains("https://") && !page.contains("<script"),
        "no outside part"
    );
}

#[test]
fn every_beginning_of_a_log_has_a_page() {
    for lines in 1..=6 {
        let mut report = report(lines);
        let page = page::html(&report, None);
        assert!(page.contains("Not finished"), "{lines} lines");
        assert!(!page.contains("NaN") && !page.contains("inf"), "{lines} lines");
        assert_eq!(page.contains("No evaluation yet"), lines == 1, "{lines} lines");
        report.finished = true;
        assert!(page::html(&report, None).contains("Finished after step"), "{lines} lines");
    }
}

#[test]
fn stages_of_a_log() {
    let report = report(6);
    let begun: Vec<_> =
        report.begun().map(|(stage, logged)| (&stage.name[..], logged.begin, logged.end)).collect();
    assert_eq!(begun, [("0-base", 0, 4), ("1-width", 4, 6)]);
    let (_, base) = report.begun().next().expect("a stage");
    assert_eq!(base.images_per_second, Some(150.0));
    assert_eq!(base.peak_memory_bytes, Some(60_000_000));
    let words: Vec<String> = report.stages.iter().map(|stage| in_words(&stage.planned.sampling)).collect();
    assert_eq!(words, ["largest", "largest, smallest, rest random", "random"]);
}

#[test]
fn logs_that_make_no_report() {
    let error = |log: &str| {
        let records = log.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
        RunReport::new("run".into(), model(), String::new(), records).err().expect("no report").to_string()
    };
    for (log, expected) in [
        (
            "",
            "it has no line yet: the first comes with the first evaluation, 2 steps into a stage or at its end",
        ),
        (
            r#"{"kind":"validation","stage":"9-kernel","step":2,"images":1,"accuracy":{},"random_accuracy":[]}"#,
            "the log tells of stage 9-kernel, the configuration only of 0-base, 1-width, 2-depth: one of them was changed",
        ),
        (
            r#"{"kind":"validation","stage":"1-width","step":2,"images":1,"accuracy":{"largest":1},"random_accuracy":[]}"#,
            "the log's line of step 2 does not judge the subnets of the configuration's stage 1-width: one of them was changed",
        ),
    ] {
        assert_eq!(error(log), expected);
    }
}
