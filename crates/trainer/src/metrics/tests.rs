//! The three files of a log, whole, resumed and damaged.

use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;
use tempfile::TempDir;

use super::tensorboard::{Event, PREFIX, checksum};
use super::*;

fn train(stage: &str, step: u64, loss: f64) -> Record {
    Record::Train {
        stage: stage.into(),
        step,
        loss,
        learning_rate: 0.5,
        gradient_norm: 2.0,
        images_per_second: 100.0,
        subnet_updates_per_second: 8.0,
        peak_memory_bytes: (step > 1).then_some(4096),
    }
}

fn validation(stage: &str, step: u64, named: &[(&str, f64)], random: &[f64]) -> Record {
    Record::Validation {
        stage: stage.into(),
        step,
        images: 40,
        accuracy: named.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        random_accuracy: random.to_vec(),
    }
}

fn records() -> Vec<Record> {
    vec![
        train("0-base", 1, 1.5),
        validation("0-base", 1, &[("largest", 0.5)], &[]),
        train("1-width", 2, 1.25),
        validation("1-width", 2, &[("a, \"b\"", 0.25), ("largest", 0.75)], &[0.5, 0.125, 0.25, 0.25]),
    ]
}

fn names() -> BTreeSet<String> {
    ["largest", "smallest", "a, \"b\""].map(str::to_owned).into()
}

fn open(folder: &RunFolder, step: u64) -> MetricsLog {
    MetricsLog::open(folder, names(), step).expect("the folder can be written")
}

fn write(folder: &RunFolder, step: u64, records: &[Record]) {
    let mut log = open(folder, step);
    for record in records {
        log.append(record).expect("the folder can be written");
    }
}

fn folder() -> (TempDir, RunFolder) {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = RunFolder(temporary.path().to_owned());
    (temporary, folder)
}

fn event_files(folder: &RunFolder) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.tensorboard()).expect("a folder of events");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

/// The events of a run's only event file; every checksum is looked at.
fn events(folder: &RunFolder) -> Vec<Event> {
    let files = event_files(folder);
    assert_eq!(files.len(), 1, "{files:?}");
    assert!(files[0].file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)));
    let bytes = fs::read(&files[0]).expect("an event file");
    let (mut rest, mut events) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().expect("eight bytes")) as usize;
        assert_eq!(rest[8..12], checksum(&rest[..8]), "checksum of a length");
        let data = &rest[12..12 + length];
        assert_eq!(rest[12 + length..16 + length], checksum(data), "checksum of the data");
        events.push(Event::decode(data).expect("an event"));
        rest = &rest[16 + length..];
    }
    events
}

/// The events without their times: step, tags and values.
fn scalars(folder: &RunFolder) -> Vec<String> {
    let text = |event: &Event| {
        let values = event.summary.iter().flat_map(|summary| &summary.value);
        let values: Vec<String> = values
            .map(|v| format!("{}={}", v.tag, v.simple_value.expect("a value is written, be it 0")))
            .collect();
        format!("{} {}{}", event.step, event.file_version.clone().unwrap_or_default(), values.join(" "))
    };
    events(folder).iter().map(text).collect()
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn spread_by_hand() {
    for (values, expected) in [
        (vec![0.5], [0.5, 0.5, 0.5, 0.5]),
        (vec![3.0, 1.0], [1.0, 2.0, 3.0, 2.0]),
        (vec![4.0, 1.0, 1.0], [1.0, 1.0, 4.0, 2.0]),
        (vec![8.0, 2.0, 1.0, 1.0], [1.0, 1.5, 8.0, 3.0]),
    ] {
        let spread = Spread::of(&values).expect("there are values");
        assert_eq!(spread.named().map(|(_, value)| value), expected, "{values:?}");
    }
    assert_eq!(Spread::of(&[]), None);
}

#[test]
fn masked_checksums() {
    // crc32c of "123456789" is e3069283 (the polynomial's check value): its right rotation by 15 is
    // 2507c60d, and with a282ead8 added c78ab0e5. The other is that of a frame length of 24, as in every
    // event file that begins with its version.
    assert_eq!(checksum(b"123456789"), 0xc78a_b0e5_u32.to_le_bytes());
    assert_eq!(checksum(&24_u64.to_le_bytes()), [0xa3, 0x7f, 0x4b, 0x22]);
}

#[test]
fn a_table_has_one_row_a_record() {
    let (_temporary, folder) = folder();
    write(&folder, 0, &records());
    assert_eq!(
        text(&folder.table()),
        "\
kind,stage,step,train/loss,train/learning_rate,train/gradient_norm,train/images_per_second,\
train/subnet_updates_per_second,train/peak_memory_bytes,validation/images,\"validation/a, \"\"b\"\"\",\
validation/largest,validation/smallest,validation/random/min,validation/random/median,\
validation/random/max,validation/random/mean
train,0-base,1,1.5,0.5,2,100,8,,,,,,,,,
validation,0-base,1,,,,,,,40,,0.5,,,,,
train,1-width,2,1.25,0.5,2,100,8,4096,,,,,,,,
validation,1-width,2,,,,,,,40,0.25,0.75,,0.125,0.25,0.5,0.28125
"
    );
}

#[test]
fn events_hold_every_number() {
    let (_temporary, folder) = folder();
    write(&folder, 0, &records());
    let train = |loss: &str, memory: &str, stage: u8| {
        format!(
            "train/loss={loss} train/learning_rate=0.5 train/gradient_norm=2 train/images_per_second=100 \
             train/subnet_updates_per_second=8{memory} train/stage={stage}"
        )
    };
    let expected = [
        "0 brain.Event:2".to_owned(),
        format!("1 {}", train("1.5", "", 0)),
        "1 validation/images=40 validation/largest=0.5".to_owned(),
        format!("2 {}", train("1.25", " train/peak_memory_bytes=4096", 1)),
        "2 validation/images=40 validation/a, \"b\"=0.25 validation/largest=0.75 validation/random/min=0.125 \
         validation/random/median=0.25 validation/random/max=0.5 validation/random/mean=0.28125"
            .to_owned(),
    ];
    assert_eq!(scalars(&folder), expected);
    assert!(events(&folder).windows(2).all(|two| two[0].wall_time <= two[1].wall_time));
}

#[test]
fn a_resumed_log_ends_like_an_undisturbed_one() {
    let (_whole, whole) = folder();
    write(&whole, 0, &records());
    for (row, step, left) in [
        ("stopped after step 1", 1, &records()[2..]),
        ("killed before the first checkpoint", 0, &records()[..]),
        ("killed after the last record", 2, &[][..]),
    ] {
        let (_temporary, folder) = folder();
        write(&folder, 0, &records());
        // A kill cuts each of the files short, and leaves a file that was being written.
        for path in [folder.metrics(), folder.table(), event_files(&folder).remove(0)] {
            let mut bytes = fs::read(&path).expect("a file of the log");
            bytes.extend_from_within(..7);
            fs::write(&path, bytes).expect("a file of the log");
        }
        fs::write(folder.tensorboard().join(".elastic-half"), "half").expect("a file");
        write(&folder, step, left);
        for path in [RunFolder::metrics, RunFolder::table] {
            assert_eq!(text(&path(&folder)), text(&path(&whole)), "{row}");
        }
        assert_eq!(scalars(&folder), scalars(&whole), "{row}");
        assert_eq!(read(&folder.metrics()).expect("a log"), records(), "{row}");
    }
}

#[test]
fn damaged_lines_are_named() {
    let (_temporary, folder) = folder();
    write(&folder, 0, &records());
    let path = folder.metrics();
    let whole = text(&path);
    fs::write(&path, format!("{whole}{{\"kind\":\"tra")).expect("a log");
    assert_eq!(read(&path).expect("the cut line is left out"), records());
    fs::write(&path, whole.replacen("\"kind\":\"validation\"", "\"kind\":\"test\"", 1)).expect("a log");
    let error = read(&path).expect_err("line 2 is no record").to_string();
    assert!(
        error.starts_with(&format!("read {}, line 2: unknown variant `test`", path.display())),
        "{error}"
    );
    fs::remove_file(&path).expect("a log");
    assert!(matches!(read(&path), Err(LogError::Read(_))));
}
