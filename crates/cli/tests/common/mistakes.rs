//! Mistakes, and what a user reads after them: one snapshot a topic, each case with its command and exit code.

use std::fs;

use super::{Bench, FILES};

/// One mistake.
pub(crate) struct Case {
    /// What is wrong, for people.
    pub(crate) name: &'static str,
    /// Makes the mistake.
    pub(crate) setup: Box<dyn Fn(&Bench)>,
    /// The arguments of `elastic`.
    pub(crate) command: &'static str,
    /// Variables for the binary alone.
    pub(crate) variables: &'static [(&'static str, &'static str)],
    /// The exit code.
    pub(crate) code: i32,
}

pub(crate) const MODEL: &str = "models/tiny.yaml";
pub(crate) const TRAIN: &str = "train --model models/tiny.yaml";
pub(crate) const EXPORT: &str = "export --budget 1mflops";
pub(crate) const VERIFY: &str = "verify exports/tiny-1mflops.onnx";
pub(crate) const SUPERNET: &str = "runs/tiny/supernet.safetensors";
pub(crate) const ACCURACIES: &str = "runs/tiny/accuracies.jsonl";
pub(crate) const CHECKPOINT: &str = "runs/tiny/checkpoint.safetensors";

/// A mistake that gives exit code 1.
pub(crate) fn case(name: &'static str, command: &'static str, setup: impl Fn(&Bench) + 'static) -> Case {
    Case { name, setup: Box::new(setup), command, variables: &[], code: 1 }
}

/// A mistake on the command line alone.
pub(crate) fn typed(name: &'static str, command: &'static str) -> Case {
    case(name, command, |_| {})
}

/// A mistake in the model file.
pub(crate) fn model(name: &'static str, from: &'static str, to: &'static str) -> Case {
    case(name, TRAIN, move |bench| bench.edit(MODEL, from, to))
}

/// A mistake in a platform file.
pub(crate) fn platform(
    name: &'static str,
    command: &'static str,
    from: &'static str,
    to: &'static str,
) -> Case {
    let file = command.split_whitespace().last().expect("the command names its platform");
    case(name, command, move |bench| bench.edit(&format!("platforms/{file}.yaml"), from, to))
}

impl Case {
    pub(crate) fn code(self, code: i32) -> Self {
        Self { code, ..self }
    }

    pub(crate) fn variables(self, variables: &'static [(&'static str, &'static str)]) -> Self {
        Self { variables, ..self }
    }
}

/// Makes each mistake in a folder of its own, and holds what is printed against the snapshot.
pub(crate) fn check(topic: &str, bench: fn() -> Bench, cases: &[Case]) {
    let mut text = String::new();
    for Case { name, setup, command, variables, code } in cases {
        let bench = bench();
        setup(&bench);
        let output = Bench::output(bench.command(command).envs(variables.iter().copied()));
        assert_eq!(output.code, Some(*code), "{name}: {}", output.stderr);
        assert_eq!(output.stdout, "", "{name}: an error belongs on standard error");
        let stderr = in_folder(&bench, &output.stderr);
        text += &format!("# {name}\n$ elastic {command}\n{stderr}exit code {code}\n\n");
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_omit_expression(true);
    settings.set_snapshot_path("../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    // What the machine or the clock decides.
    for (pattern, replacement) in [
        (r"\b[0-9a-f]{12}\b", "[HASH]"),
        (r"loss \d+\.\d+", "loss [LOSS]"),
        (r"best \d+\.\d\d %", "best [ACCURACY]"),
        (r"describes: .*; run elastic", "describes: [DIFFERENCES]; run elastic"),
        (r"EOF while parsing an? \w+", "EOF while parsing a [PART]"),
        (r"library: none in .*;", "library: none in [PLACES];"),
        (r"as ONNX Runtime: .*;", "as ONNX Runtime: [REASON];"),
        (r"Provider: \S+ offers only [^;]*;", "Provider: [LIBRARY] offers only [PROVIDERS];"),
        (r"line \d+ column \d+; the file is damaged", "line [LINE] column [COLUMN]; the file is damaged"),
        (r"costs \d+\.\d us", "costs [LATENCY]"),
        (
            r"; the machine is \d+\.\d times slower than when it was profiled: let it rest, or profile it again",
            "; the machine is [N] times slower than when it was profiled: let it rest, or profile it again",
        ),
        (r"took \d+\.\d us", "took [LATENCY]"),
        (r"difference \d\.\d\de-?\d+", "difference [DIFFERENCE]"),
        (r"top-1 on \d+ of", "top-1 on [N] of"),
    ] {
        settings.add_filter(pattern, replacement);
    }
    settings.bind(|| insta::assert_snapshot!(topic, text));
}

/// The text without the path of the temporary folder.
pub(crate) fn in_folder(bench: &Bench, text: &str) -> String {
    let canonical = fs::canonicalize(bench.path()).expect("the folder is there");
    let text = text.replace(&*canonical.to_string_lossy(), "[FOLDER]");
    text.replace(&*bench.path().to_string_lossy(), "[FOLDER]")
}

/// A file of the test data.
pub(crate) fn data_file(index: usize) -> String {
    format!("data/tiny/{}", FILES[index])
}
