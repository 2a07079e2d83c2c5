//! Runs that are stopped or killed and resumed: all end with the same bytes.

use elastic_trainer::Model;
use elastic_trainer::metrics::Record;
use elastic_trainer::run_folder::RunFolder;
use elastic_trainer::train::{Outcome, Start};
use tempfile::TempDir;

use crate::runs::{bytes, folder, log, recipes, run, run_until, without_times};
use crate::support::model;

/// What an undisturbed run leaves: the supernet's bytes and the log.
fn undisturbed(model: &Model) -> (Vec<u8>, Vec<Record>) {
    let (_temporary, folder) = folder();
    assert_eq!(run(model, &folder, Start::Fresh, |_, _| ()).expect("a run"), Outcome::Finished);
    (bytes(&folder.supernet()), log(&folder))
}

#[test]
fn a_run_that_was_stopped_goes_on_bit_for_bit() {
    for (name, training) in recipes() {
        let model = model(training);
        let (supernet, records) = undisturbed(&model);
        for k in 1..6 {
            let (_temporary, folder) = folder();
            let row = format!("{name}, stopped after step {k}");
            let outcome = run_until(&model, &folder, Start::Fresh, k).expect(&row);
            assert_eq!(outcome, Outcome::Stopped { step: k }, "{row}");
            assert!(!folder.is_finished(), "{row}");
            assert_eq!(
                run(&model, &folder, Start::Resume, |_, _| ()).expect(&row),
                Outcome::Finished,
                "{row}"
            );
            assert!(bytes(&folder.supernet()) == supernet, "{row}: other weights");
            assert_eq!(without_times(&log(&folder)), without_times(&records), "{row}");
        }
    }
}

#[test]
fn a_run_that_is_stopped_at_every_step_goes_on_bit_for_bit() {
    let model = model(recipes()[1].1.clone());
    let (supernet, _) = undisturbed(&model);
    let (_temporary, folder) = folder();
    for k in 1..6 {
        let start = if k == 1 { Start::Fresh } else { Start::Resume };
        assert_eq!(run_until(&model, &folder, start, k).expect("a run"), Outcome::Stopped { step: k });
    }
    assert_eq!(
        run_until(&model, &folder, Start::Resume, 6).expect("a run"),
        Outcome::Finished,
        "the last step"
    );
    assert!(bytes(&folder.supernet()) == supernet, "other weights");
    // A finished run that is resumed once more has nothing to do.
    assert_eq!(run(&model, &folder, Start::Resume, |_, _| ()).expect("a run"), Outcome::Finished);
    assert!(bytes(&folder.supernet()) == supernet, "other weights");
}

#[test]
fn a_run_that_was_killed_goes_on_bit_for_bit() {
    for (name, training) in recipes() {
        let model = model(training);
        let (supernet, records) = undisturbed(&model);
        // What a kill leaves on disk at each event: the files as they are then.
        let (_temporary, folder) = folder();
        let mut kills: Vec<(String, TempDir)> = Vec::new();
        let outcome = run(&model, &folder, Start::Fresh, |event, _| {
            let copy = tempfile::tempdir().expect("a temporary folder");
            for file in std::fs::read_dir(&folder.0).expect("the run's folder") {
                let file = file.expect("an entry");
                std::fs::copy(file.path(), copy.path().join(file.file_name())).expect("a copy");
            }
            kills.push((format!("{name}, killed at {event:?}"), copy));
        });
        assert_eq!(outcome.expect("a run"), Outcome::Finished);
        assert!(kills.len() >= 12, "{} events", kills.len());
        for (row, copy) in kills {
            let folder = RunFolder(copy.path().to_owned());
            // The kill cut a line of the log short.
            let mut text = std::fs::read_to_string(folder.metrics()).expect("a log");
            text.push_str(r#"{"kind":"train","step":"#);
            std::fs::write(folder.metrics(), text).expect("a log");
            assert_eq!(
                run(&model, &folder, Start::Resume, |_, _| ()).expect(&row),
                Outcome::Finished,
                "{row}"
            );
            assert!(bytes(&folder.supernet()) == supernet, "{row}: other weights");
            assert_eq!(without_times(&log(&folder)), without_times(&records), "{row}");
            let lines = std::fs::read_to_string(folder.metrics()).expect("a log").lines().count();
            assert_eq!(lines, records.len(), "{row}: every line parses");
        }
    }
}
