use std::fs;

use elastic_space::Seed;

use super::super::load_training;
use super::super::tests::{gzip, pictures};
use super::*;
use crate::config::{DataConfig, Source};

fn parsed(text: &str, label: &LabelColumn) -> Result<Images, String> {
    parse(text, Path::new("x.csv"), label, 2, [1, 1, 2]).map_err(|error| error.to_string())
}

#[test]
fn lines_by_hand() {
    let column = |name: &str| LabelColumn::Column(name.into());
    for (text, label) in [
        ("1,7,255\n0,0,9\n", LabelColumn::First),
        ("7,255,1\r\n\r\n0,9,0", LabelColumn::Last),
        ("label, a, b\n 1 , 7 , 255 \n0,0,9\n\n", LabelColumn::First),
        ("\"a\",\"class\",\"b\"\n7,1,255\n0,0,9\n", column("class")),
        ("1.0,7e0,2.55e2\n0,0.0,9\n", LabelColumn::First),
    ] {
        let images = parsed(text, &label).expect(text);
        assert_eq!((images.pixels, images.labels), (vec![7, 255, 0, 9], vec![1, 0]), "{text}");
    }
}

#[test]
fn texts_that_are_refused() {
    const BYTES: &str = "labels and pixels are whole numbers from 0 to 255";
    let column = |name: &str| LabelColumn::Column(name.into());
    for (text, label, message) in [
        ("", LabelColumn::First, "x.csv holds no image: there is nothing to learn from".to_owned()),
        ("label,a,b\n", LabelColumn::First, "x.csv holds no image: there is nothing to learn from".to_owned()),
        (
            "1,2,3\n1,2,3\n\n1,2\n",
            LabelColumn::First,
            "x.csv line 4 has 2 fields where the first line has 3: it is damaged".to_owned(),
        ),
        (
            "1,2,3\n1,2,3,4\n",
            LabelColumn::First,
            "x.csv line 2 has 4 fields where the first line has 3: it is damaged".to_owned(),
        ),
        ("1,2,3\n1,2,x\n", LabelColumn::First, format!("x.csv line 2 field 3 is `x`: {BYTES}")),
        ("1,2,3\n1,256,3\n", LabelColumn::First, format!("x.csv line 2 field 2 is `256`: {BYTES}")),
        ("1,2,-3\n", LabelColumn::First, format!("x.csv line 1 field 3 is `-3`: {BYTES}")),
        ("1,2.5,3\n", LabelColumn::First, format!("x.csv line 1 field 2 is `2.5`: {BYTES}")),
        ("1,2,3\n1,,3\n", LabelColumn::First, format!("x.csv line 2 field 2 is ``: {BYTES}")),
        (
            "1,2,3\n2,2,3\n",
            LabelColumn::First,
            "label 2 in line 2 of x.csv is not below 2, the number of data.class-names".to_owned(),
        ),
        (
            "1,2\n",
            LabelColumn::First,
            "x.csv has 2 columns, but a label and the search space's input [1, 1, 2] (channels, height, width) are 3: \
             change the search space or the data"
                .to_owned(),
        ),
        (
            "label,a,b\n1,2,3\n",
            column("class"),
            "data.csv.label is the column `class`, but the first line of x.csv names no such column".to_owned(),
        ),
        // Names are known by the label's field: a damaged first image is not lost.
        ("1,x,3\n1,2,3\n", LabelColumn::First, format!("x.csv line 1 field 2 is `x`: {BYTES}")),
        (",2,3\n1,2,3\n", LabelColumn::First, format!("x.csv line 1 field 1 is ``: {BYTES}")),
    ] {
        assert_eq!(parsed(text, &label), Err(message), "{text}");
    }
}

#[test]
fn files_are_read_packed_or_plain() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str| folder.path().join(name);
    fs::write(file("train.csv.gz"), gzip(b"0,1,2\n1,3,4\n")).expect("the folder can be written");
    fs::write(file("validation.csv"), "1,5,6\n").expect("the folder can be written");
    fs::write(file("bad.csv"), b"0,1,\xff\n").expect("the folder can be written");
    let csv = Csv {
        train: file("train.csv.gz"),
        validation: Some(file("validation.csv")),
        test: file("absent.csv"),
        label: LabelColumn::First,
    };
    let config = DataConfig {
        source: Source::Csv(csv.clone()),
        validation: None,
        mean: Vec::new(),
        std: Vec::new(),
        class_names: vec!["a".into(), "b".into()],
    };
    let load = |config: &DataConfig| load_training(config, [1, 1, 2], Seed(1), &mut |line| panic!("{line}"));
    let splits = load(&config).expect("good files, and the test file is not opened").splits;
    let [train, validation] = [splits.train, splits.validation].map(pictures);
    assert_eq!((train.pixels, train.labels), (vec![1, 2, 3, 4], vec![0, 1]));
    assert_eq!((validation.pixels, validation.labels), (vec![5, 6], vec![1]));

    let both = load(&DataConfig { validation: Some(1), ..config.clone() }).expect_err("two sets").to_string();
    assert!(both.contains("has a validation set of its own: leave out data.validation"), "{both}");
    for (name, message) in
        [("absent.csv", "read DIR/absent.csv: "), ("bad.csv", "DIR/bad.csv is no text in UTF-8: ")]
    {
        let source = Source::Csv(Csv { train: file(name), ..csv.clone() });
        let error = load(&DataConfig { source, ..config.clone() }).expect_err(name).to_string();
        assert!(error.replace(&folder.path().display().to_string(), "DIR").starts_with(message), "{error}");
    }
}
