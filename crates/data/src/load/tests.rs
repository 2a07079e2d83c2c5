//! Folders that can be read, folders that cannot, and the bundled data.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::config::Source;
use crate::idx::{self, Idx};
use crate::images::Images;

/// Reads the training data, with what was said.
pub(super) fn load(config: &DataConfig, input: [usize; 3]) -> (Result<Loaded, DataError>, Vec<String>) {
    let mut lines = Vec::new();
    let loaded = load_training(config, input, Seed(1), &mut |line| lines.push(line.to_owned()));
    (loaded, lines)
}

/// Reads the training data of a set of which nothing is to be said.
fn training(config: &DataConfig) -> Result<Loaded, DataError> {
    let (loaded, lines) = load(config, [1, 2, 3]);
    assert_eq!(lines, [""; 0]);
    loaded
}

fn test(config: &DataConfig) -> Result<Images, DataError> {
    load_test(config, [1, 2, 3], &mut |line| panic!("{line}")).map(pictures)
}

pub(super) fn pictures(examples: Examples) -> Images {
    let Examples::Images(images) = examples else { panic!("images") };
    images
}

pub(super) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).expect("memory can be written");
    encoder.finish().expect("memory can be written")
}

fn images(n: usize) -> Vec<u8> {
    idx::encode(&Idx { shape: vec![n, 2, 3], values: (0..6 * n).map(|i| i as u8).collect() })
}

fn labels_of(n: usize) -> Vec<u8> {
    idx::encode(&Idx { shape: vec![n], values: (0..n).map(|i| (i % 2) as u8).collect() })
}

/// A folder with 8 training and 4 test images of 2 x 3 pixels in two classes, packed.
fn folder() -> (tempfile::TempDir, DataConfig) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, content) in FILES.into_iter().zip([images(8), labels_of(8), images(4), labels_of(4)]) {
        fs::write(folder.path().join(format!("{name}.gz")), gzip(&content))
            .expect("the folder can be written");
    }
    let config = DataConfig {
        source: Source::Idx(folder.path().to_owned()),
        validation: Some(4),
        mean: vec![0.5],
        std: vec![0.5],
        class_names: vec!["cat".into(), "dog".into()],
    };
    (folder, config)
}

#[test]
fn a_folder_is_read_packed_or_plain() {
    let (folder, config) = folder();
    let loaded = training(&config).expect("a good folder");
    let Splits { train, validation } = &loaded.splits;
    let test_images = test(&config).expect("a good folder");
    assert_eq!((train.len(), validation.len(), test_images.len()), (4, 4, 4));
    assert_eq!(loaded.config, config, "nothing was left out");
    let mut labels = validation.labels().to_vec();
    labels.sort_unstable();
    assert_eq!(labels, [0, 0, 1, 1]);
    assert_eq!((test_images.size(), test_images.image(1)), ([1, 2, 3], &[6, 7, 8, 9, 10, 11][..]));

    for (name, content) in FILES.into_iter().zip([images(8), labels_of(8), images(4), labels_of(4)]) {
        fs::remove_file(folder.path().join(format!("{name}.gz"))).expect("it was written");
        fs::write(folder.path().join(name), content).expect("the folder can be written");
    }
    assert_eq!(training(&config).expect("plain files"), loaded);
    assert_eq!(test(&config).expect("plain files"), test_images);
}

#[test]
fn what_is_left_out_is_measured() {
    let (_folder, config) = folder();
    let left_out = DataConfig { mean: Vec::new(), std: Vec::new(), ..config.clone() };
    let loaded = training(&left_out).expect("a good folder");
    let (mean, std) = statistics(&pictures(loaded.splits.train.clone()));
    assert_eq!(loaded.config, DataConfig { mean, std, ..config });
    assert_eq!(left_out.completed_by(&loaded.config), loaded.config);
}

#[test]
fn training_never_opens_the_test_files() {
    let (folder, config) = folder();
    for name in &FILES[2..] {
        fs::remove_file(folder.path().join(format!("{name}.gz"))).expect("it was written");
    }
    assert_eq!(training(&config).expect("training files are there").splits.train.len(), 4);
    let error = test(&config).expect_err("the test files are gone").to_string();
    assert!(error.contains("has neither t10k-images-idx3-ubyte.gz nor t10k-images-idx3-ubyte: "), "{error}");
}

#[test]
fn folders_that_are_refused() {
    type Change = fn(&Path, &mut DataConfig);
    fn put(folder: &Path, name: &str, content: &[u8]) {
        fs::write(folder.join(name), content).expect("the folder can be written");
    }
    const REMEDY: &str = "get the full set with `elastic data fetch fashion-mnist`, or set data.idx to the bundled \
                          data/fashion-mnist-small";
    let rows: [(&str, Change, String); 16] = [
        ("no folder", |f, _| fs::remove_dir_all(f).expect("it is there"), format!("there is no data folder DIR: {REMEDY}")),
        (
            "no file",
            |f, _| fs::remove_file(f.join("train-labels-idx1-ubyte.gz")).expect("it is there"),
            format!("data folder DIR has neither train-labels-idx1-ubyte.gz nor train-labels-idx1-ubyte: {REMEDY}"),
        ),
        (
            "truncated gzip",
            |f, _| put(f, "train-images-idx3-ubyte.gz", &gzip(&images(8))[..30]),
            "unpack DIR/train-images-idx3-ubyte.gz: the gzip file is cut short or damaged: get it anew".into(),
        ),
        (
            "no gzip",
            |f, _| put(f, "train-images-idx3-ubyte.gz", b"<html>404 Not Found</html>"),
            "unpack DIR/train-images-idx3-ubyte.gz: the gzip file is cut short or damaged: get it anew".into(),
        ),
        (
            "wrong magic",
            |f, _| put(f, "train-images-idx3-ubyte.gz", &gzip(&labels_of(8))),
            "DIR/train-images-idx3-ubyte.gz begins with 0x00000801 where an IDX file of bytes in 3 dimension(s) begins \
             with 0x00000803: it is another kind of file"
                .into(),
        ),
        (
            "truncated IDX",
            |f, _| put(f, "train-images-idx3-ubyte.gz", &gzip(&images(8)[..40])),
            "DIR/train-images-idx3-ubyte.gz holds 40 bytes unpacked where its header asks for 64: it is cut short or \
             damaged, get it anew"
                .into(),
        ),
        (
            "counts differ",
            |f, _| put(f, "train-labels-idx1-ubyte.gz", &gzip(&labels_of(7))),
            "DIR/train-images-idx3-ubyte.gz holds 8 images, but DIR/train-labels-idx1-ubyte.gz holds 7 labels: the two \
             files do not belong together"
                .into(),
        ),
        (
            "no images",
            |f, _| {
                put(f, "train-images-idx3-ubyte.gz", &gzip(&images(0)));
                put(f, "train-labels-idx1-ubyte.gz", &gzip(&labels_of(0)));
            },
            "DIR/train-images-idx3-ubyte.gz holds 0 images of 2 x 3 pixels: there is nothing to learn from".into(),
        ),
        (
            "label out of range",
            |_, c| c.class_names.truncate(1),
            "label 1 at position 1 of DIR/train-labels-idx1-ubyte.gz is not below 1, the number of data.class-names".into(),
        ),
        (
            "validation too large",
            |_, c| c.validation = Some(8),
            "data.validation is 8, but DIR holds 8 training examples: keep fewer apart".into(),
        ),
        (
            "three channels asked of grey images",
            |_, c| (c.mean, c.std) = (vec![0.5; 3], vec![0.5; 3]),
            "data.mean has 3 values, but the images in DIR have 1 channel(s): give one per channel".into(),
        ),
        (
            "mean and std differ in length",
            |_, c| c.std = vec![0.5; 2],
            "data.mean has 1 values and data.std has 2: give one of each per channel, or leave both out to have them \
             measured over the training images"
                .into(),
        ),
        (
            "no validation",
            |_, c| c.validation = None,
            "data.validation is missing: DIR has no validation set of its own, say how many training examples to keep apart"
                .into(),
        ),
        (
            "no names",
            |_, c| c.class_names.clear(),
            "data.class-names is missing: DIR does not name its classes, give one name for each label from 0 on".into(),
        ),
        (
            "one value everywhere",
            |f, c| {
                let flat = idx::encode(&Idx { shape: vec![8, 2, 3], values: vec![7; 48] });
                put(f, "train-images-idx3-ubyte.gz", &gzip(&flat));
                (c.mean, c.std) = (Vec::new(), Vec::new());
            },
            "channel 0 of every training image in DIR has the same value everywhere: there is nothing to learn from".into(),
        ),
        (
            "std 0",
            |_, c| c.std = vec![0.0],
            "data.std[0] is 0: it must be above 0 and finite, of pixels in 0..=1".into(),
        ),
    ];
    for (name, change, message) in rows {
        let (folder, mut config) = folder();
        change(folder.path(), &mut config);
        let error = training(&config).expect_err(name).to_string();
        assert_eq!(error.replace(&folder.path().display().to_string(), "DIR"), message, "{name}");
    }
}

#[test]
fn a_folder_in_place_of_a_file_is_named() {
    let (folder, config) = folder();
    let path = folder.path().join("train-images-idx3-ubyte.gz");
    fs::remove_file(&path).expect("it was written");
    fs::create_dir(&path).expect("the name is free");
    let error = training(&config).expect_err("a folder is no file").to_string();
    assert!(error.starts_with(&format!("read {}: ", path.display())), "{error}");
}

#[test]
fn the_bundled_data_is_as_its_readme_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/fashion-mnist-small");
    let config = DataConfig {
        source: Source::Idx(folder),
        validation: Some(2000),
        mean: Vec::new(),
        std: Vec::new(),
        class_names: (0..10).map(|class| format!("class {class}")).collect(),
    };
    let per_class = |examples: &Examples| {
        (0..10)
            .map(|class| examples.labels().iter().filter(|&&label| label == class).count())
            .collect::<Vec<_>>()
    };
    let loaded = training(&config).expect("the repository carries it");
    let test = test(&config).expect("the repository carries it");
    assert_eq!(per_class(&loaded.splits.train), [1000; 10]);
    assert_eq!(per_class(&loaded.splits.validation), [200; 10]);
    assert_eq!(per_class(&test.clone().into()), [200; 10]);
    assert_eq!(test.size(), [1, 28, 28]);
    let (mean, std) = (loaded.config.mean[0], loaded.config.std[0]);
    assert!((mean - 0.2865).abs() < 1e-3 && (std - 0.3539).abs() < 1e-3, "{mean} {std}");
    let again = training(&config).expect("the repository carries it");
    assert_eq!(again, loaded);
}
