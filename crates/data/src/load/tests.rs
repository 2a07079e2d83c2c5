//! Folders that can be read, folders that cannot, and the bundled data.

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::idx::Idx;

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).expect("memory can be written");
    encoder.finish().expect("memory can be written")
}

fn images(n: usize) -> Vec<u8> {
    idx::encode(&Idx { shape: vec![n, 2, 3], values: (0..6 * n).map(|i| i as u8).collect() })
}

fn labels(n: usize) -> Vec<u8> {
    idx::encode(&Idx { shape: vec![n], values: (0..n).map(|i| (i % 2) as u8).collect() })
}

/// A folder with 8 training and 4 test images of 2 x 3 pixels in two classes, packed.
fn folder() -> (tempfile::TempDir, DataConfig) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, content) in FILES.into_iter().zip([images(8), labels(8), images(4), labels(4)]) {
        fs::write(folder.path().join(format!("{name}.gz")), gzip(&content))
            .expect("the folder can be written");
    }
    let config = DataConfig {
        idx: folder.path().to_owned(),
        validation: 4,
        mean: vec![0.5],
        std: vec![0.5],
        class_names: vec!["cat".into(), "dog".into()],
    };
    (folder, config)
}

#[test]
fn a_folder_is_read_packed_or_plain() {
    let (folder, config) = folder();
    let splits = load_training(&config, Seed(1)).expect("a good folder");
    let test = load_test(&config).expect("a good folder");
    let packed = digest(&config).expect("a good folder");
    assert_eq!((splits.train.len(), splits.validation.len(), test.len()), (4, 4, 4));
    assert_eq!(splits.validation.labels, [0, 1, 0, 1]);
    assert_eq!((test.size(), test.image(1)), ([1, 2, 3], &[6, 7, 8, 9, 10, 11][..]));

    for (name, content) in FILES.into_iter().zip([images(8), labels(8), images(4), labels(4)]) {
        fs::remove_file(folder.path().join(format!("{name}.gz"))).expect("it was written");
        fs::write(folder.path().join(name), content).expect("the folder can be written");
    }
    assert_eq!(load_training(&config, Seed(1)).expect("plain files"), splits);
    assert_eq!(load_test(&config).expect("plain files"), test);
    assert_eq!(digest(&config).expect("plain files"), packed);

    fs::write(folder.path().join(FILES[3]), labels(3)).expect("the folder can be written");
    assert_ne!(digest(&config).expect("readable files"), packed, "the digest sees every file");
}

#[test]
fn training_never_opens_the_test_files() {
    let (folder, config) = folder();
    for name in &FILES[2..] {
        fs::remove_file(folder.path().join(format!("{name}.gz"))).expect("it was written");
    }
    assert_eq!(load_training(&config, Seed(1)).expect("training files are there").train.len(), 4);
    let error = load_test(&config).expect_err("the test files are gone").to_string();
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
    let rows: [(&str, Change, String); 13] = [
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
            |f, _| put(f, "train-images-idx3-ubyte.gz", &gzip(&labels(8))),
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
            |f, _| put(f, "train-labels-idx1-ubyte.gz", &gzip(&labels(7))),
            "DIR/train-images-idx3-ubyte.gz holds 8 images, but DIR/train-labels-idx1-ubyte.gz holds 7 labels: the two \
             files do not belong together"
                .into(),
        ),
        (
            "no images",
            |f, _| {
                put(f, "train-images-idx3-ubyte.gz", &gzip(&images(0)));
                put(f, "train-labels-idx1-ubyte.gz", &gzip(&labels(0)));
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
            |_, c| c.validation = 8,
            "data.validation is 8, but DIR holds 8 training images: keep fewer apart".into(),
        ),
        (
            "three channels asked of grey images",
            |_, c| (c.mean, c.std) = (vec![0.5; 3], vec![0.5; 3]),
            "data.mean has 3 values, but the images in DIR have 1 channel(s): give one per channel".into(),
        ),
        (
            "mean and std differ in length",
            |_, c| c.std = vec![0.5; 2],
            "data.mean has 1 values and data.std has 2: give one of each per channel".into(),
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
        let error = load_training(&config, Seed(1)).expect_err(name).to_string();
        assert_eq!(error.replace(&folder.path().display().to_string(), "DIR"), message, "{name}");
    }
}

#[test]
fn a_folder_in_place_of_a_file_is_named() {
    let (folder, config) = folder();
    let path = folder.path().join("train-images-idx3-ubyte.gz");
    fs::remove_file(&path).expect("it was written");
    fs::create_dir(&path).expect("the name is free");
    let error = load_training(&config, Seed(1)).expect_err("a folder is no file").to_string();
    assert!(error.starts_with(&format!("read {}: ", path.display())), "{error}");
}

#[test]
fn the_bundled_data_is_as_its_readme_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/fashion-mnist-small");
    let config = DataConfig {
        idx: folder,
        validation: 2000,
        mean: vec![0.2865],
        std: vec![0.3539],
        class_names: (0..10).map(|class| format!("class {class}")).collect(),
    };
    let per_class = |images: &Images| {
        (0..10).map(|class| images.labels.iter().filter(|&&label| label == class).count()).collect::<Vec<_>>()
    };
    let splits = load_training(&config, Seed(7)).expect("the repository carries it");
    let test = load_test(&config).expect("the repository carries it");
    assert_eq!(per_class(&splits.train), [1000; 10]);
    assert_eq!(per_class(&splits.validation), [200; 10]);
    assert_eq!(per_class(&test), [200; 10]);
    assert_eq!(test.size(), [1, 28, 28]);
    let again = load_training(&config, Seed(7)).expect("the repository carries it");
    assert_eq!(again, splits);
}
