//! A tiny model and tiny data in a folder of their own, and the binary that runs there as a user runs it.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod mistakes;
pub(crate) mod reports;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use elastic_data::idx::{self, Idx};
use elastic_space::Seed;
use elastic_space::random::Purpose;
use rand::Rng;
use tempfile::TempDir;

/// The model file of every test: 40 subnets, a step takes a few milliseconds.
pub(crate) const MODEL: &str = "\
schema: elastic.model/v1
seed: 1
space:
  vit:
    image-size: 8
    channels: 1
    patch-size: 4
    classes: 3
    head-dim: 4
    pooling: mean
    embed-dim: [8, 16]
    depth:
      choices: [1, 2]
      drop: prefix
    heads:
      choices: [1, 2]
      per: layer
    mlp-width:
      choices: [8, 16]
      per: layer
subnets:
  middle:
    vit:
      embed-dim: 16
      layers:
        - {index: 0, heads: 2, mlp-width: 8}
data:
  idx: data/tiny
  validation: 20
  mean: [0.3]
  std: [0.3]
  class-names: [left, top, centre]
training:
  scheme:
    joint:
      steps: 6
      learning-rate: {peak: 0.01, final: 0.0001, warm-up-steps: 2}
      subnets: 4
      sampling: {mixed: {fixed: [largest, smallest], rest: random}}
      reduce: mean
      distillation: {weight: 0.5, teacher: in-place}
  batch-size: 8
  optimizer: {weight-decay: 0.05, beta1: 0.9, beta2: 0.98}
  label-smoothing: 0.05
  clip-gradient-norm: 1.0
  augmentation:
    flip: false
    crop-padding: 1
  evaluate-every: 3
  evaluate-random: 2
  evaluate-images: 20
  checkpoint-every: 2
";

/// A convolutional network's space to put in place of the model file's.
const CONV: &str = "  conv:
    image-size: 8
    channels: 1
    classes: 3
    resolution: [6, 8]
    activation: hard-swish
    stem: {width: [4, 6], stride: 1}
    stages:
      - width: [6, 8]
        depth: {choices: [1, 2], drop: any}
        stride: 2
        kernel: {choices: [3, 5], per: layer}
        hidden: {choices: [8, 12], per: layer}
        squeeze-excite: true
    head: {width: [8, 10]}
    transforms: {kernel: linear}
data:
";

/// A scheme to put in place of the model file's: the largest network, then two dimensions.
pub(crate) const PROGRESSIVE: &str = "  scheme:
    progressive:
      base:
        steps: 6
        learning-rate: {peak: 0.01, final: 0.0001, warm-up-steps: 2}
        patience: {evaluations: 2, min-improvement: 0.0}
      stages:
        - open: width
          steps: 4
          learning-rate: {peak: 0.005, final: 0.0001, warm-up-steps: 1}
          subnets: 4
          sampling: {mixed: {fixed: [largest, smallest], rest: random}}
          reduce: mean
          distillation: {weight: 0.5, teacher: in-place}
        - open: depth
          steps: 4
          learning-rate: {peak: 0.005, final: 0.0001, warm-up-steps: 1}
          subnets: 3
          sampling: random
          reduce: sum
";

/// The part of [`PROGRESSIVE`] that trains the largest network.
pub(crate) const BASE: &str = "      base:
        steps: 6
        learning-rate: {peak: 0.01, final: 0.0001, warm-up-steps: 2}
        patience: {evaluations: 2, min-improvement: 0.0}
";

/// The files of a data set: training images and labels, test images and labels.
pub(crate) use elastic_data::load::FILES;

/// Pixels on each side of a test image.
pub(crate) const SIDE: usize = 8;
/// Classes of the test data.
const CLASSES: usize = 3;

/// A folder in which the binary runs.
pub(crate) struct Bench {
    folder: TempDir,
}

/// What a finished command left.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Bench {
    /// A folder with the model file, its data and platform files that ask for few samples.
    pub(crate) fn fresh() -> Self {
        let bench = Self { folder: TempDir::new().expect("a temporary folder can be made") };
        bench.write("models/tiny.yaml", MODEL);
        write_images(&bench, FILES[0], FILES[1], 60, 1);
        write_images(&bench, FILES[2], FILES[3], 20, 2);
        for name in ["host-1t", "host-tract", "jetson"] {
            let platform = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../platforms/{name}.yaml"));
            let text = fs::read_to_string(platform).expect("the platform files are in the repository");
            let few = [
                ("subnets: 24", "subnets: 4"),
                ("sessions: 3", "sessions: 1"),
                ("min-samples: 200", "min-samples: 16"),
            ];
            let text = few.iter().fold(text, |text, (from, to)| replaced(&text, from, to));
            bench.write(
                &format!("platforms/{name}.yaml"),
                replaced(&text, "max-samples: 600", "max-samples: 16"),
            );
        }
        bench
    }

    /// [`Self::fresh`] with a finished run, a profile of tract and an exported model, all made once.
    pub(crate) fn finished() -> Self {
        static MADE: OnceLock<Bench> = OnceLock::new();
        let made = MADE.get_or_init(|| {
            require_library();
            let bench = Self::fresh();
            for command in [
                "train --model models/tiny.yaml",
                "profile --platform host-tract.yaml",
                "export --budget 1mflops",
            ] {
                let output = bench.elastic(command);
                assert_eq!(output.code, Some(0), "{command}: {}", output.stderr);
            }
            bench
        });
        let copy = Self { folder: TempDir::new().expect("a temporary folder can be made") };
        copy_folder(made.path(), copy.path());
        copy
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Writes a file and the folders above it.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.file(name);
        fs::create_dir_all(path.parent().expect("the file lies in the folder")).expect("folders can be made");
        fs::write(path, content).unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Replaces a part of a text file that must be there.
    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) {
        let text = String::from_utf8(self.read(name)).expect("the file is text");
        self.write(name, replaced(&text, from, to));
    }

    /// Puts a convolutional network in place of the model file's.
    pub(crate) fn set_conv(&self) {
        let start = MODEL.find("  vit:\n").expect("there is a space");
        let end = MODEL.find("  idx:").expect("the data follows");
        self.edit("models/tiny.yaml", &MODEL[start..end], CONV);
        self.edit("models/tiny.yaml", "  checkpoint-every", "  calibration-images: 16\n  checkpoint-every");
    }

    /// Puts another scheme in place of the model file's.
    pub(crate) fn set_scheme(&self, scheme: &str) {
        let start = MODEL.find("  scheme:\n").expect("there is a scheme");
        let end = MODEL.find("  batch-size").expect("the batch size follows");
        self.edit("models/tiny.yaml", &MODEL[start..end], scheme);
    }

    /// Keeps the first bytes of a file.
    pub(crate) fn truncate(&self, name: &str, length: usize) {
        let content = self.read(name);
        assert!(length < content.len(), "{name} has {} bytes", content.len());
        self.write(name, &content[..length]);
    }

    /// Removes a file or a folder.
    pub(crate) fn remove(&self, name: &str) {
        let path = self.file(name);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// The command, not yet started; `arguments` are separated by spaces.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_elastic"));
        command.args(arguments.split_whitespace()).current_dir(self.path());
        command.env("COLUMNS", "100").env_remove("ORT_LOG").stdin(Stdio::null());
        command
    }

    /// Runs the command to its end.
    pub(crate) fn elastic(&self, arguments: &str) -> Output {
        Self::output(&mut self.command(arguments))
    }

    /// Runs a command that [`Self::command`] made to its end.
    pub(crate) fn output(command: &mut Command) -> Output {
        let output = command.output().expect("the binary starts");
        let text = |bytes| String::from_utf8(bytes).expect("the binary prints text");
        Output { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Runs the command, which must succeed, and gives its standard output.
    pub(crate) fn succeed(&self, arguments: &str) -> String {
        let output = self.elastic(arguments);
        assert_eq!(output.code, Some(0), "elastic {arguments}: {}", output.stderr);
        output.stdout
    }

    /// [`Self::succeed`] for a command that prints JSON.
    pub(crate) fn succeed_json(&self, arguments: &str) -> serde_json::Value {
        let stdout = self.succeed(&format!("{arguments} --format json"));
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("elastic {arguments}: {error}: {stdout}"))
    }
}

/// Fails where the real ONNX Runtime library is not found, with what to do.
pub(crate) fn require_library() {
    let found =
        Bench { folder: TempDir::new().expect("a temporary folder can be made") }.succeed_json("doctor");
    let things = found.as_array().expect("doctor prints a list");
    for name in ["ONNX Runtime", "  version", "  providers"] {
        let thing = things.iter().find(|thing| thing["thing"] == name);
        let thing = thing
            .unwrap_or_else(|| panic!("these tests run the real ONNX Runtime; run: elastic runtime install"));
        assert!(
            thing["found"] == true,
            "these tests run the real ONNX Runtime, and it is not found ({}); run: elastic runtime install",
            thing["detail"]
        );
    }
}

/// Writes images of three patterns with noise, and their labels.
pub(crate) fn write_images(bench: &Bench, images: &str, labels: &str, count: usize, seed: u64) {
    let mut rng = Seed(seed).generator(Purpose::Init, 0);
    let classes: Vec<u8> = (0..count).map(|i| (i % CLASSES) as u8).collect();
    let mut pixels = Vec::with_capacity(count * SIDE * SIDE);
    for class in &classes {
        for (row, column) in (0..SIDE).flat_map(|row| (0..SIDE).map(move |column| (row, column))) {
            let bright = match class {
                0 => column < SIDE / 2,
                1 => row < SIDE / 2,
                _ => (2..6).contains(&row) && (2..6).contains(&column),
            };
            pixels.push(if bright { 180 } else { 20 } + rng.random_range(0..60_u8));
        }
    }
    write_idx(bench, images, &[count, SIDE, SIDE], pixels);
    write_idx(bench, labels, &[count], classes);
}

/// Writes an IDX file of the test data.
pub(crate) fn write_idx(bench: &Bench, name: &str, shape: &[usize], values: Vec<u8>) {
    bench.write(&format!("data/tiny/{name}"), idx::encode(&Idx { shape: shape.to_vec(), values }));
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "`{from}` is not in:\n{text}");
    text.replacen(from, to, 1)
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("folders can be made");
    for entry in fs::read_dir(from).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        let target = to.join(path.file_name().expect("an entry has a name"));
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).expect("files can be copied");
        }
    }
}

/// Runs a command until its standard error has a line that begins with `line`, then acts on it.
pub(crate) fn disturb(bench: &Bench, command: &str, line: &str, act: fn(&mut Child)) -> ExitStatus {
    let mut child = bench
        .command(command)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut lines = BufReader::new(child.stderr.take().expect("it is a pipe")).lines();
    let found = lines.by_ref().any(|text| text.expect("the binary prints text").starts_with(line));
    assert!(found, "elastic {command} ended without a line `{line}`");
    act(&mut child);
    // The rest is read, so that the command never waits for a full pipe.
    lines.for_each(drop);
    child.wait().expect("the command was started here")
}

/// Ends a command as `kill -9` does.
pub(crate) fn kill(child: &mut Child) {
    child.kill().expect("the command has not been waited for");
}
