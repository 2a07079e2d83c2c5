use std::fs;

use elastic_space::Seed;

use super::super::tests::{gzip, pictures};
use super::super::{load_test, load_training};
use super::*;
use crate::config::{DataConfig, Source};

/// A record with its labels and its position in every pixel of the first channel, 1 and 2 in the others.
fn record(labels: &[u8], position: u8) -> Vec<u8> {
    [labels, &[position; SIDE * SIDE], &[1; SIDE * SIDE], &[2; SIDE * SIDE]].concat()
}

fn config(folder: &Path, kind: CifarKind) -> DataConfig {
    DataConfig {
        source: Source::Cifar(Cifar { path: folder.to_owned(), kind }),
        validation: Some(2),
        mean: vec![0.5; 3],
        std: vec![0.5; 3],
        class_names: Vec::new(),
    }
}

/// A set of each layout: five training files with two records each and a test file, or one of each.
fn folder(kind: CifarKind) -> (tempfile::TempDir, DataConfig) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let layout = layout(kind);
    let put = |name: &str, content: &[u8]| {
        fs::write(folder.path().join(name), content).expect("the folder can be written");
    };
    for (file, name) in layout.train.iter().chain(layout.test).enumerate() {
        let records = [2 * file, 2 * file + 1].map(|position| {
            let position = position as u8;
            record(&[position % 10, 50 + position % 10][..layout.labels], position)
        });
        put(name, &records.concat());
    }
    let names: Vec<String> = (0..layout.classes).map(|class| format!("class {class}")).collect();
    put(layout.names, format!("{}\n\n", names.join("\n")).as_bytes());
    let config = config(folder.path(), kind);
    (folder, config)
}

fn load(config: &DataConfig) -> Result<Images, super::super::DataError> {
    let loaded = load_training(config, [3, SIDE, SIDE], Seed(1), &mut |line| panic!("{line}"))?;
    assert_eq!(loaded.splits.validation.len(), 2);
    Ok(pictures(loaded.splits.train))
}

#[test]
fn records_by_hand() {
    for (kind, images, labels) in [
        (CifarKind::Cifar10, 8, [2, 3]),
        (CifarKind::Cifar100Coarse, 0, [2, 3]),
        (CifarKind::Cifar100, 0, [52, 53]),
    ] {
        let (folder, mut config) = folder(kind);
        if images == 0 {
            // Two training images in all: nothing would be left beside the validation images.
            let error = load(&config).expect_err("too few").to_string();
            assert!(error.contains("holds 2 training examples: keep fewer apart"), "{error}");
        } else {
            assert_eq!(load(&config).expect("a good folder").len(), images, "{kind:?}");
        }
        let test = load_test(&config, [3, SIDE, SIDE], &mut |line| panic!("{line}")).expect("a good folder");
        let test = pictures(test);
        assert_eq!((test.size(), test.len()), ([3, SIDE, SIDE], 2));
        let position = test.image(1)[0];
        assert_eq!(test.image(1), &record(&[], position)[..], "{kind:?}");
        let expected = if kind == CifarKind::Cifar10 { [0, 1] } else { labels };
        assert_eq!(test.labels, expected, "{kind:?}");
        // The names may also be given, and a file may be packed.
        fs::remove_file(folder.path().join(layout(kind).names)).expect("it was written");
        config.class_names = vec!["given".into(); layout(kind).classes];
        let plain = folder.path().join(layout(kind).test[0]);
        let content = fs::read(&plain).expect("it was written");
        fs::write(folder.path().join(format!("{}.gz", layout(kind).test[0])), gzip(&content))
            .expect("writable");
        fs::remove_file(plain).expect("it was written");
        let packed =
            load_test(&config, [3, SIDE, SIDE], &mut |line| panic!("{line}")).expect("a packed file");
        assert_eq!(pictures(packed), test, "{kind:?}");
    }
}

#[test]
fn files_that_are_refused() {
    type Change = fn(&Path, &mut DataConfig);
    fn put(folder: &Path, name: &str, content: &[u8]) {
        fs::write(folder.join(name), content).expect("the folder can be written");
    }
    let rows: [(&str, Change); 5] = [
        (
            "there is no DIR/data_batch_3.bin (nor with .gz): data.cifar.path is the folder of the unpacked binary version",
            |f, _| fs::remove_file(f.join("data_batch_3.bin")).expect("it was written"),
        ),
        (
            "DIR/data_batch_2.bin holds 6145 bytes, which is no whole number of records of 3073: it is cut short, or of \
             another data.cifar.kind",
            |f, _| put(f, "data_batch_2.bin", &[0; 2 * 3073 - 1]),
        ),
        (
            "DIR/data_batch_1.bin holds 0 bytes, which is no whole number of records of 3073: it is cut short, or of \
             another data.cifar.kind",
            |f, _| put(f, "data_batch_1.bin", &[]),
        ),
        (
            "label 10 of record 1 of DIR/data_batch_4.bin is not below 10, the number of classes: the file is damaged, or \
             of another data.cifar.kind",
            |f, _| put(f, "data_batch_4.bin", &[record(&[9], 0), record(&[10], 0)].concat()),
        ),
        (
            "DIR/batches.meta.txt names 1 classes where there are 10: get the file anew, or give data.class-names",
            |f, _| put(f, "batches.meta.txt", b"cat\n"),
        ),
    ];
    for (message, change) in rows {
        let (folder, mut config) = folder(CifarKind::Cifar10);
        change(folder.path(), &mut config);
        let error = load(&config).expect_err(message).to_string();
        assert_eq!(error.replace(&folder.path().display().to_string(), "DIR"), message);
    }
}
