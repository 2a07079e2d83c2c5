//! Runs that are stopped or killed and resumed: all end with the same bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use elastic_space::Dimension;
use elastic_trainer::Model;
use elastic_trainer::config::{BaseStage, LearningRate, Patience, Scheme, Training};
use elastic_trainer::metrics::Record;
use elastic_trainer::run_folder::RunFolder;
use elastic_trainer::train::{Event, Outcome, Start};

use crate::runs::{files, folder, log, put, recipes, run, run_until, without_times};
use crate::stages::four_stages;
use crate::support::{base_stage, conv_model, model, training};

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A base that its patience ends before its last step.
fn patient() -> Model {
    let base = BaseStage {
        steps: 40,
        learning_rate: LearningRate { peak: 0.02, ..base_stage(1).learning_rate },
        patience: Some(Patience { evaluations: 2, min_improvement: 0.1 }),
        distillation: None,
    };
    model(Training { scheme: Scheme::Base(base), ..training() })
}

fn models() -> [(&'static str, Model); 5] {
    let [(plain, least), (everything, most)] = recipes();
    [
        (plain, model(least)),
        (everything, model(most.clone())),
        ("convolutions", conv_model(most)),
        ("base with patience", patient()),
        ("four stages, averaged, with transforms", four_stages()),
    ]
}

/// What an undisturbed run leaves: the supernets of the run and of its stages, and the log.
struct Undisturbed {
    supernets: Files,
    log: Vec<Record>,
    steps: u64,
}

fn undisturbed(model: &Model) -> Undisturbed {
    let (_temporary, folder) = folder();
    assert_eq!(run(model, &folder, Start::Fresh, |_, _| ()).expect("a run"), Outcome::Finished);
    let log = log(&folder);
    let steps = log[log.len() - 1].step();
    Undisturbed { supernets: supernets(&folder), log, steps }
}

fn supernets(folder: &RunFolder) -> Files {
    let mut files = files(&folder.0);
    files.retain(|path, _| path.file_name().is_some_and(|name| name == "supernet.safetensors"));
    files
}

/// The run in this folder goes on, and ends as if nothing had happened.
fn goes_on(row: &str, model: &Model, folder: &RunFolder, expected: &Undisturbed) {
    let outcome =
        run(model, folder, Start::Resume, |_, _| ()).unwrap_or_else(|error| panic!("{row}: {error}"));
    assert_eq!(outcome, Outcome::Finished, "{row}");
    let found = supernets(folder);
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.supernets.keys().collect::<Vec<_>>(), "{row}");
    for (path, bytes) in &found {
        assert!(*bytes == expected.supernets[path], "{row}: other weights in {}", path.display());
    }
    assert_eq!(without_times(&log(folder)), without_times(&expected.log), "{row}");
    let lines = std::fs::read_to_string(folder.metrics()).expect("a log").lines().count();
    assert_eq!(lines, expected.log.len(), "{row}: every line parses");
    let rows = std::fs::read_to_string(folder.table()).expect("a table").lines().count();
    assert_eq!(rows, 1 + expected.log.len(), "{row}: the table has a row for each");
    let unfinished = |path: &PathBuf| path.to_string_lossy().contains(".elastic-");
    assert!(!files(&folder.0).keys().any(unfinished), "{row}: a temporary file stays");
}

#[test]
fn a_run_that_was_stopped_goes_on_bit_for_bit() {
    for (name, model) in models() {
        let expected = undisturbed(&model);
        for k in 1..expected.steps {
            let (_temporary, folder) = folder();
            let row = format!("{name}, stopped after step {k} of {}", expected.steps);
            let outcome = run_until(&model, &folder, Start::Fresh, k).expect(&row);
            assert_eq!(outcome, Outcome::Stopped { step: k }, "{row}");
            assert!(!folder.is_finished(), "{row}");
            goes_on(&row, &model, &folder, &expected);
        }
    }
}

#[test]
fn a_run_that_is_stopped_at_every_step_goes_on_bit_for_bit() {
    for (name, model) in models() {
        let expected = undisturbed(&model);
        let (_temporary, folder) = folder();
        for k in 1..expected.steps {
            let start = if k == 1 { Start::Fresh } else { Start::Resume };
            let outcome = run_until(&model, &folder, start, k).expect(name);
            assert_eq!(outcome, Outcome::Stopped { step: k }, "{name}");
        }
        // After the last step there is nothing left to stop.
        let outcome = run_until(&model, &folder, Start::Resume, expected.steps).expect(name);
        assert_eq!(outcome, Outcome::Finished, "{name}");
        // A finished run that is resumed once more has nothing to do.
        goes_on(name, &model, &folder, &expected);
    }
}

/// What a kill leaves on disk at each event of a run: the files as they are then.
fn kills(model: &Model) -> Vec<(String, Files)> {
    let (_temporary, folder) = folder();
    let mut kills = Vec::new();
    let outcome = run(model, &folder, Start::Fresh, |event, _| {
        let name = match event {
            Event::Stage(stage) => format!("the beginning of {}", stage.name),
            event => format!("{event:?}"),
        };
        kills.push((name, files(&folder.0)));
    });
    assert_eq!(outcome.expect("a run"), Outcome::Finished);
    // Between two events: a stage's folder is written, but the state is still that before.
    let stages: Files = files(&folder.0).into_iter().filter(|(path, _)| path.starts_with("stages")).collect();
    let mut between = Vec::new();
    for (name, before) in &kills {
        let done = before.keys().filter(|path| path.starts_with("stages")).count();
        let mut more = before.clone();
        for (path, bytes) in stages.iter().skip(done).take(2) {
            more.insert(path.clone(), bytes.clone());
            between.push((format!("{name}, and {}", path.display()), more.clone()));
        }
    }
    // Only those at the end of a stage are such that a run can leave them.
    between.retain(|(name, _)| name.contains("Validation"));
    kills.extend(between);
    kills
}

#[test]
fn a_run_that_was_killed_goes_on_bit_for_bit() {
    for (name, model) in models() {
        let expected = undisturbed(&model);
        let kills = kills(&model);
        let least = if model == four_stages() { 40 } else { 12 };
        assert!(kills.len() >= least, "{name}: {} kills", kills.len());
        for (kill, files) in kills {
            let (_temporary, folder) = folder();
            put(&files, &folder.0);
            // The kill cut a line of the log short, and the files that were being written.
            let mut text = std::fs::read_to_string(folder.metrics()).unwrap_or_default();
            text.push_str(r#"{"kind":"train","step":"#);
            std::fs::write(folder.metrics(), text).expect("a log");
            std::fs::write(folder.0.join(".elastic-cut"), "half").expect("a file");
            if folder.0.join("stages/0-base").exists() {
                std::fs::write(folder.0.join("stages/0-base/.elastic-cut"), "half").expect("a file");
            }
            goes_on(&format!("{name}, killed at {kill}"), &model, &folder, &expected);
        }
    }
}

#[test]
fn a_run_that_was_killed_at_each_of_its_resumptions_goes_on_bit_for_bit() {
    let model = four_stages();
    let expected = undisturbed(&model);
    let (_temporary, folder) = folder();
    let mut killed = 0;
    for _ in 0..200 {
        let start = if folder.checkpoint().exists() { Start::Resume } else { Start::Fresh };
        // Every life sees three more steps than what was saved, and is killed without a chance to save.
        let mut left: Option<Files> = None;
        let mut steps = 0;
        let outcome = run(&model, &folder, start, |event, _| {
            if matches!(event, Event::Step { .. }) {
                steps += 1;
            }
            if steps == 3 && left.is_none() {
                left = Some(files(&folder.0));
            }
        });
        assert_eq!(outcome.expect("a run"), Outcome::Finished);
        let Some(left) = left else { break };
        remove_all(&folder.0);
        put(&left, &folder.0);
        killed += 1;
    }
    assert!(killed >= 5, "killed {killed} times");
    goes_on("killed again and again", &model, &folder, &expected);
}

fn remove_all(folder: &Path) {
    std::fs::remove_dir_all(folder).expect("it can be removed");
}

#[test]
fn the_stages_of_four_are_seen_by_the_kills() {
    // The recipe of the tests above: the base ends early, and each of the four dimensions opens.
    let expected = undisturbed(&four_stages());
    assert!(expected.steps < 20 + 4 * 3, "patience ends the base: {} steps", expected.steps);
    assert_eq!(expected.supernets.len(), 6);
    let names: Vec<&str> = expected.log.iter().map(Record::stage).collect();
    for (number, dimension) in
        [Dimension::Width, Dimension::Depth, Dimension::Heads, Dimension::Embedding].into_iter().enumerate()
    {
        assert!(names.contains(&format!("{}-{}", number + 1, dimension.name()).as_str()), "{names:?}");
    }
    let patient = undisturbed(&patient());
    assert!((4..40).contains(&patient.steps), "patience ends it: {} steps", patient.steps);
}
