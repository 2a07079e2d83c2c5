//! Images in folders and in text files, from training to a verified model.

mod common;

use std::fs;

use common::{Bench, FILES, SIDE, require_library};
use elastic_data::idx;

const MODEL: &str = "models/tiny.yaml";
const CLASSES: [&str; 3] = ["left", "top", "centre"];
/// What the model file says about its data.
const DATA: &str = "  idx: data/tiny
  validation: 20
  mean: [0.3]
  std: [0.3]
  class-names: [left, top, centre]
";

/// The pixels of an image, and its label.
type Labelled = (Vec<u8>, u8);

/// The training and the test images, and a name for each part.
fn parts(bench: &Bench) -> [(&'static str, Vec<Labelled>); 2] {
    let read = |name: &str, dimensions| {
        idx::read(&bench.file("data/tiny").join(name), dimensions).expect("the test data are sound").values
    };
    [("train", 0), ("test", 2)].map(|(part, first)| {
        let pixels = read(FILES[first], 3);
        let labels = read(FILES[first + 1], 1);
        (part, pixels.chunks_exact(SIDE * SIDE).map(<[u8]>::to_vec).zip(labels).collect())
    })
}

/// Trains, exports and verifies, and gives the run's configuration.
fn whole_line(bench: &Bench) -> String {
    require_library();
    bench.succeed("train --model models/tiny.yaml");
    bench.succeed("export --budget 1mflops --evaluations 5 --population 4");
    let proof = bench.succeed_json("verify exports/tiny-1mflops.onnx");
    assert_eq!(proof["test-images"], 20, "{proof}");
    String::from_utf8(bench.read("runs/tiny/config.yaml")).expect("YAML is text")
}

#[test]
fn folders_of_png_files() {
    let bench = Bench::fresh();
    for (part, images) in parts(&bench) {
        for (position, (pixels, label)) in images.into_iter().enumerate() {
            let folder = bench.file("data/tree").join(part).join(CLASSES[usize::from(label)]);
            fs::create_dir_all(&folder).expect("folders can be made");
            let side = SIDE as u32;
            image::save_buffer(
                folder.join(format!("{position}.png")),
                &pixels,
                side,
                side,
                image::ExtendedColorType::L8,
            )
            .expect("the image can be written");
        }
    }
    bench.edit(MODEL, DATA, "  folders: {path: data/tree, on-corrupt: fail}\n  validation: 20\n");
    let config = whole_line(&bench);
    // The classes are the sorted folders; they and the measured values stand in the run, and the model names them.
    for part in ["class-names:\n  - centre\n  - left\n  - top\n", "mean:\n  - 0.", "std:\n  - 0."] {
        assert!(config.contains(part), "{part}: {config}");
    }
    let model = bench.read("exports/tiny-1mflops.onnx");
    let names = br#"["centre","left","top"]"#;
    assert!(model.windows(names.len()).any(|bytes| bytes == names), "the model names its classes");
    // The same model file again is the same run, though the file leaves out what the run has.
    let again = bench.elastic("train --model models/tiny.yaml");
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(again.stderr.contains("runs/tiny has finished already: nothing to do"), "{}", again.stderr);
    // No later command decodes anything.
    let verified = bench.elastic("verify exports/tiny-1mflops.onnx");
    assert_eq!(
        (verified.code, verified.stderr.contains("decoding")),
        (Some(0), false),
        "{}",
        verified.stderr
    );
}

#[test]
fn text_files_of_pixels() {
    let bench = Bench::fresh();
    for (part, images) in parts(&bench) {
        let line = |(pixels, label): Labelled| {
            let pixels: Vec<String> = pixels.iter().map(u8::to_string).collect();
            format!("{label},{}\n", pixels.join(","))
        };
        bench.write(&format!("data/{part}.csv"), images.into_iter().map(line).collect::<String>());
    }
    // The same images and labels as in IDX files give the same run.
    bench.succeed("train --model models/tiny.yaml --out runs/idx");
    let csv = "csv: {train: data/train.csv, test: data/test.csv, label: first}";
    bench.edit(MODEL, "idx: data/tiny", csv);
    whole_line(&bench);
    assert!(bench.read("runs/tiny/supernet.safetensors") == bench.read("runs/idx/supernet.safetensors"));
}
