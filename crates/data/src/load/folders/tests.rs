use std::collections::BTreeSet;
use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};

use super::super::tests::{load, pictures};
use super::super::{DataError, Loaded, load_test};
use super::*;
use crate::config::{DataConfig, Source};

/// Red, green and blue of the images of a class.
const COLOURS: [[u8; 3]; 2] = [[200, 40, 0], [0, 90, 200]];
const SIZE: [usize; 3] = [3, 4, 4];

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).expect("the image can be encoded");
    bytes.into_inner()
}

/// An image of one colour.
fn plain(class: usize, width: u32, height: u32) -> DynamicImage {
    DynamicImage::ImageRgb8(RgbImage::from_pixel(width, height, Rgb(COLOURS[class])))
}

fn put(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().expect("the file lies in a folder")).expect("folders can be made");
    fs::write(path, content).expect("the folder can be written");
}

/// Two classes, cat and dog, with 4 training images each in every format and several sizes, and one of each for
/// validation and test.
fn folder(on_corrupt: OnCorrupt) -> (tempfile::TempDir, DataConfig) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (class, name) in ["cat", "dog"].into_iter().enumerate() {
        for (file, (width, height), format) in [
            ("a.png", (4, 4), ImageFormat::Png),
            ("b.JPG", (16, 8), ImageFormat::Jpeg),
            ("c.webp", (3, 9), ImageFormat::WebP),
            ("d.jpeg", (40, 40), ImageFormat::Jpeg),
        ] {
            let content = encoded(&plain(class, width, height), format);
            put(&folder.path().join("train").join(name).join(file), &content);
        }
        for part in ["validation", "test"] {
            let content = encoded(&plain(class, 5, 5), ImageFormat::Png);
            put(&folder.path().join(part).join(name).join("e.png"), &content);
        }
    }
    let config = DataConfig {
        source: Source::Folders(Folders { path: folder.path().to_owned(), on_corrupt }),
        validation: None,
        mean: Vec::new(),
        std: Vec::new(),
        class_names: Vec::new(),
    };
    (folder, config)
}

/// Loads, with the folder as DIR in the lines and the error.
fn load_in(folder: &Path, config: &DataConfig) -> (Result<Loaded, String>, Vec<String>) {
    let shorten = |text: &str| text.replace(&folder.display().to_string(), "DIR");
    let (loaded, lines) = load(config, SIZE);
    (
        loaded.map_err(|error: DataError| shorten(&error.to_string())),
        lines.iter().map(|l| shorten(l)).collect(),
    )
}

const DECODING: [&str; 2] = ["decoding 8 images of DIR/train", "decoding 2 images of DIR/validation"];

#[test]
fn every_format_and_size_is_read_once() {
    let (folder, config) = folder(OnCorrupt::Fail);
    let (loaded, lines) = load_in(folder.path(), &config);
    let loaded = loaded.expect("good trees");
    assert_eq!(lines, DECODING);
    assert_eq!(loaded.config.class_names, ["cat", "dog"]);
    assert_eq!((loaded.config.mean.len(), loaded.config.std.len()), (3, 3));
    let train = pictures(loaded.splits.train.clone());
    assert_eq!((train.size(), &train.labels[..]), (SIZE, &[0, 0, 0, 0, 1, 1, 1, 1][..]));
    for index in 0..8 {
        for (channel, plane) in train.image(index).chunks_exact(16).enumerate() {
            let expected = COLOURS[usize::from(train.labels[index])][channel];
            // JPEG and WebP lose a little.
            assert!(plane.iter().all(|&pixel| pixel.abs_diff(expected) <= 4), "image {index}: {plane:?}");
        }
    }
    let labels: BTreeSet<u8> = loaded.splits.validation.labels().iter().copied().collect();
    assert_eq!(labels, [0, 1].into());

    // A second command decodes nothing, and the test images are read by no one but the one who asks.
    let (again, lines) = load_in(folder.path(), &loaded.config);
    assert_eq!((again, lines), (Ok(loaded.clone()), Vec::new()));
    let mut said = Vec::new();
    let test = load_test(&loaded.config, SIZE, &mut |line| said.push(line.to_owned())).expect("a good tree");
    assert_eq!((test.len(), said.len()), (2, 1));
}

#[test]
fn training_never_looks_at_the_test_tree() {
    let (folder, config) = folder(OnCorrupt::Fail);
    fs::remove_dir_all(folder.path().join("test")).expect("it was written");
    load_in(folder.path(), &config).0.expect("training needs no test images");
    let error = load_test(&config, SIZE, &mut |_| ()).expect_err("there are none").to_string();
    assert!(error.contains("/test: data.folders.path is a folder with train/CLASS/FILE"), "{error}");
}

#[test]
fn without_a_validation_tree_the_seed_splits() {
    let (folder, mut config) = folder(OnCorrupt::Fail);
    config.validation = Some(4);
    let (both, _) = load_in(folder.path(), &config);
    let both = both.expect_err("two validation sets");
    assert!(both.starts_with("data.validation is 4, but DIR has a validation set of its own"), "{both}");
    fs::remove_dir_all(folder.path().join("validation")).expect("it was written");
    let splits = load_in(folder.path(), &config).0.expect("good trees").splits;
    for images in [&splits.train, &splits.validation] {
        assert_eq!(images.labels().iter().filter(|&&label| label == 0).count(), 2, "{images:?}");
    }
    config.validation = None;
    let neither = load_in(folder.path(), &config).0.expect_err("no validation set");
    assert!(
        neither.starts_with("data.validation is missing: DIR has no validation set of its own"),
        "{neither}"
    );
}

#[test]
fn a_cache_of_other_files_and_a_damaged_one_are_made_anew() {
    let (folder, config) = folder(OnCorrupt::Fail);
    let cache = folder.path().join(".elastic-cache/train-3x4x4");
    let (first, _) = load_in(folder.path(), &config);
    let content = fs::read(&cache).expect("it was written");
    put(&cache, &content[..content.len() / 2]);
    let (second, lines) = load_in(folder.path(), &config);
    assert_eq!(second, first);
    assert_eq!(lines, ["DIR/.elastic-cache/train-3x4x4 is damaged: it is made anew", DECODING[0]]);
    assert_eq!(fs::read(&cache).expect("it was written"), content);

    put(&folder.path().join("train/cat/a.png"), &encoded(&plain(1, 6, 6), ImageFormat::Png));
    let (third, lines) = load_in(folder.path(), &config);
    assert_ne!(third, first);
    assert_eq!(
        lines,
        ["DIR/.elastic-cache/train-3x4x4 is of files that have changed: it is made anew", DECODING[0]]
    );
    assert_eq!(load_in(folder.path(), &config).1, [""; 0]);

    // Where no cache can be written, it is said and nothing else happens.
    fs::remove_dir_all(folder.path().join(".elastic-cache")).expect("it was written");
    put(&folder.path().join(".elastic-cache"), b"a file");
    let (fourth, lines) = load_in(folder.path(), &config);
    assert_eq!(fourth, third);
    assert!(lines.iter().any(|line| line.starts_with("decoded images are not kept")), "{lines:?}");
}

#[test]
fn corrupt_files_are_named_and_fatal_or_left_out() {
    const REMEDY: &str = "repair or remove them, or set data.folders.on-corrupt to skip";
    let jpeg = encoded(
        &DynamicImage::ImageRgb8(RgbImage::from_fn(64, 64, |x, y| Rgb([x as u8 * 4, y as u8 * 4, 9]))),
        ImageFormat::Jpeg,
    );
    let png = encoded(&plain(0, 64, 64), ImageFormat::Png);
    let webp = encoded(&plain(0, 64, 64), ImageFormat::WebP);
    let gif = b"GIF89a\x01\x00\x01\x00\x00\x00\x00;";
    for (name, content, reason) in [
        ("z.png", b"a text".to_vec(), "it is no PNG, JPEG or WebP file"),
        ("z.jpg", jpeg[..jpeg.len() - 100].to_vec(), "the JPEG file is cut short"),
        ("z.png", png[..png.len() / 2].to_vec(), "unexpected end of file"),
        ("z.webp", webp[..webp.len() - 8].to_vec(), ""),
        ("z.png", gif.to_vec(), "it is no PNG, JPEG or WebP file"),
        ("z.png", Vec::new(), "it is no PNG, JPEG or WebP file"),
    ] {
        let (fatal, config) = folder(OnCorrupt::Fail);
        put(&fatal.path().join("train/dog").join(name), &content);
        let error = load_in(fatal.path(), &config).0.expect_err(name);
        let start = format!("1 of 9 images in DIR/train cannot be decoded: DIR/train/dog/{name}: ");
        assert!(error.starts_with(&start) && error.contains(reason) && error.ends_with(REMEDY), "{error}");

        let (skipping, config) = folder(OnCorrupt::Skip);
        let (whole, _) = load_in(skipping.path(), &config);
        put(&skipping.path().join("train/dog").join(name), &content);
        let said =
            format!("left out 1 of 9 images in DIR/train that cannot be decoded: DIR/train/dog/{name}: ");
        // The second time comes from the cache.
        for _ in 0..2 {
            let (rest, lines) = load_in(skipping.path(), &config);
            assert_eq!(rest, whole, "{name}");
            let line = lines.iter().find(|line| line.starts_with(&said));
            assert!(line.is_some_and(|line| line.contains(reason)), "{lines:?}");
        }
    }
}

#[test]
fn trees_that_are_refused() {
    type Change = fn(&Path, &mut DataConfig);
    fn remove(path: &Path) {
        fs::remove_dir_all(path).expect("it was written");
    }
    const ENDINGS: &str = "files whose names end in png, jpg, jpeg, webp are looked for";
    let rows: [(&str, Change, String); 8] = [
        (
            "no folder",
            |f, _| remove(f),
            "there is no folder DIR/train: data.folders.path is a folder with train/CLASS/FILE and test/CLASS/FILE".into(),
        ),
        (
            "an empty folder",
            |f, _| {
                remove(&f.join("train"));
                fs::create_dir(f.join("train")).expect("the name is free");
            },
            "DIR/train holds 0 class folder(s): 2 to 256 are possible, one folder of images a class".into(),
        ),
        (
            "one class",
            |f, _| remove(&f.join("train/dog")),
            "DIR/train holds 1 class folder(s): 2 to 256 are possible, one folder of images a class".into(),
        ),
        (
            "a class without images",
            |f, _| put(&f.join("train/emu/notes.txt"), b"none yet"),
            format!("DIR/train/emu holds no image that can be used: {ENDINGS}"),
        ),
        (
            "a class that training lacks",
            |f, _| put(&f.join("validation/emu/e.png"), &encoded(&plain(0, 4, 4), ImageFormat::Png)),
            "DIR/validation/emu is the folder of no known class: the training data or data.class-names has cat, dog".into(),
        ),
        (
            "a class that is not named",
            |_, c| c.class_names = vec!["cat".into(), "cow".into()],
            "DIR/train/dog is the folder of no known class: the training data or data.class-names has cat, cow".into(),
        ),
        (
            "no validation images",
            |f, _| {
                remove(&f.join("validation"));
                fs::create_dir(f.join("validation")).expect("the name is free");
            },
            format!("DIR/validation holds no image that can be used: {ENDINGS}"),
        ),
        (
            "more values than channels",
            |_, c| (c.mean, c.std) = (vec![0.5], vec![0.5]),
            "data.mean has 1 values, but the images in DIR have 3 channel(s): give one per channel".into(),
        ),
    ];
    for (name, change, message) in rows {
        let (folder, mut config) = folder(OnCorrupt::Skip);
        change(folder.path(), &mut config);
        assert_eq!(load_in(folder.path(), &config).0.expect_err(name), message, "{name}");
    }
    let (_folder, config) = folder(OnCorrupt::Fail);
    let channels = load(&config, [2, 4, 4]).0.expect_err("neither grey nor colour").to_string();
    assert!(channels.starts_with("the search space's input has 2 channels"), "{channels}");
}

#[cfg(unix)]
#[test]
fn what_cannot_be_looked_at_is_named() {
    for (name, link) in [("a folder", "train/emu"), ("a file", "train/cat/z.png")] {
        let (folder, config) = folder(OnCorrupt::Skip);
        let path = folder.path().join(link);
        std::os::unix::fs::symlink(&path, &path).expect("the name is free");
        let error = load_in(folder.path(), &config).0.expect_err(name);
        assert!(error.starts_with(&format!("read DIR/{link}: ")), "{error}");
    }
}

#[test]
fn other_files_are_passed_over() {
    let (folder, config) = folder(OnCorrupt::Fail);
    let (whole, _) = load_in(folder.path(), &config);
    put(&folder.path().join("train/cat/notes.txt"), b"a note");
    put(&folder.path().join("train/cat/more/e.png"), b"too deep");
    put(&folder.path().join("train/cat/.hidden.png"), b"hidden");
    put(&folder.path().join("train/readme.md"), b"no class");
    let (loaded, lines) = load_in(folder.path(), &config);
    assert_eq!(loaded, whole);
    let said =
        "passed over 2 file(s) in DIR/train whose names are not those of images, first DIR/train/cat/more";
    assert_eq!(lines, [said]);
}

/// Decodes bytes that lie in a file.
fn decoded(content: &[u8], size: [usize; 3]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("image");
    put(&path, content);
    decode::decode(&path, size).expect("a good image")
}

#[test]
fn pixels_by_hand() {
    // 4 x 2: the left half red, the right half blue.
    let wide = RgbImage::from_fn(4, 2, |x, _| if x < 2 { Rgb([255, 0, 0]) } else { Rgb([0, 0, 255]) });
    let png = encoded(&DynamicImage::ImageRgb8(wide), ImageFormat::Png);
    let mut planes = [[0; 8]; 3];
    planes[0] = [255, 255, 0, 0, 255, 255, 0, 0];
    planes[2] = [0, 0, 255, 255, 0, 0, 255, 255];
    assert_eq!(decoded(&png, [3, 2, 4]), planes.concat(), "of the right size nothing is changed");
    // The proportions stay: the middle square.
    assert_eq!(decoded(&png, [3, 2, 2]), [[255, 0, 255, 0], [0; 4], [0, 255, 0, 255]].concat());
    // Luma of BT.709: 0.2126 red, 0.0722 blue.
    assert_eq!(decoded(&png, [1, 2, 2]), [54, 18, 54, 18]);
    // Half-transparent white over black, and a transparent pixel whose colour does not count.
    let mut clear = RgbaImage::from_pixel(2, 1, Rgba([255, 255, 255, 128]));
    clear.put_pixel(1, 0, Rgba([255, 255, 255, 0]));
    assert_eq!(decoded(&encoded(&DynamicImage::ImageRgba8(clear), ImageFormat::Png), [1, 1, 2]), [128, 0]);
    // Smaller by half: each new pixel stands for more than one old one, so a fine pattern becomes grey.
    let fine = RgbImage::from_fn(16, 16, |x, y| if (x + y) % 2 == 0 { Rgb([255; 3]) } else { Rgb([0; 3]) });
    let grey = decoded(&encoded(&DynamicImage::ImageRgb8(fine), ImageFormat::Png), [1, 4, 4]);
    assert!(grey.iter().all(|&pixel| pixel.abs_diff(127) < 20), "{grey:?}");
}

#[test]
fn a_photo_is_turned_as_its_camera_says() {
    // 16 x 8, the left half bright; EXIF orientation 6 means: turn it by 90 degrees clockwise, so the top is bright.
    let photo = RgbImage::from_fn(16, 8, |x, _| if x < 8 { Rgb([250; 3]) } else { Rgb([5; 3]) });
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, 100).encode_image(&photo).expect("the image can be encoded");
    let tiff = [&b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"[..], &[0; 4]].concat();
    let exif = [&b"Exif\0\0"[..], &tiff].concat();
    let length = (exif.len() as u16 + 2).to_be_bytes();
    let turned = [&jpeg[..2], &[0xff, 0xe1], &length, &exif, &jpeg[2..]].concat();
    let upright = decoded(&turned, [1, 16, 8]);
    let rows: Vec<u8> = upright.chunks_exact(8).map(|row| row[4]).collect();
    assert!(
        rows[..6].iter().all(|&pixel| pixel > 200) && rows[10..].iter().all(|&pixel| pixel < 50),
        "{rows:?}"
    );
}
