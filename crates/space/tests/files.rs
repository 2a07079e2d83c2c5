//! Files: written whole or not at all, and YAML as people write it.

use std::path::Path;

use elastic_space::file::{read, read_json, read_yaml, sha256, write, write_json, write_yaml};
use elastic_space::growing::{GrowingFile, json_lines};
use elastic_space::platform::{InvalidPlatform, OnnxRuntime, Runtime};
use elastic_space::sampling::{Mixed, Sampling};
use elastic_space::{Budget, Platform, SearchSpace};
use serde::de::DeserializeOwned;

const PLATFORM: &str = "schema: elastic.platform/v1
description: a board
identity:
  arch: aarch64
runtime:
  onnx-runtime:
    provider: cpu
    threads: 2
    optimization: all
    spinning: false
batch: 1
measure:
  subnets: 24
  sessions: 3
  runs-per-visit: 8
  min-samples: 200
  max-samples: 600
  interval-percent: 1
  max-drift-percent: 3
  cool-down-s: 0
";

const SPACE: &str = "vit:
  image-size: 28
  channels: 1
  patch-size: 7
  classes: 10
  head-dim: 16
  pooling: class-token
  embed-dim: [32, 64]
  depth: { choices: [2, 4], drop: any }
  heads: { choices: [1, 2], per: layer }
  mlp-width: { choices: [64, 128], per: network }
";

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("file.yaml");
    write(&path, text.as_bytes()).expect("a file in a temporary folder");
    read_yaml(&path).map_err(|error| error.to_string())
}

/// Writes and reads a value as YAML and as JSON.
fn round_trip<T: serde::Serialize + DeserializeOwned>(value: &T) -> [T; 2] {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (yaml, json) = (folder.path().join("a.yaml"), folder.path().join("a.json"));
    write_yaml(&yaml, value).expect("YAML is written");
    write_json(&json, value).expect("JSON is written");
    [read_yaml(&yaml).expect("YAML is read"), read_json(&json).expect("JSON is read")]
}

#[test]
fn an_enum_in_yaml_is_a_map_of_one_entry() {
    let platform: Platform = parse(PLATFORM).expect("a platform");
    let settings = OnnxRuntime::cpu(2);
    assert_eq!(platform.runtime, Runtime::OnnxRuntime(settings));
    assert_eq!(platform.identity.arch.as_deref(), Some("aarch64"));
    assert_eq!(parse(SPACE).map(|space: SearchSpace| space.family()), Ok("vit"));
    assert_eq!(parse("random"), Ok(Sampling::Random));
    assert_eq!(
        parse("mixed: { fixed: [largest], rest: random }"),
        Ok(Sampling::Mixed(Mixed { fixed: vec!["largest".into()], rest: Box::new(Sampling::Random) }))
    );
}

#[test]
fn a_platform_has_a_core_for_each_thread() {
    let mut platform: Platform = parse(PLATFORM).expect("a platform with two threads");
    for (affinity, expected) in [
        (vec![], None),
        (vec![2, 3], None),
        // A core that is named twice is one.
        (vec![2, 2], Some("affinity names 1 cores for 2 threads: name as many cores, or use fewer threads")),
    ] {
        platform.affinity = affinity;
        assert_eq!(platform.validate().err().map(|error| error.to_string()).as_deref(), expected);
    }
}

#[test]
fn what_is_written_reads_back_equal() {
    let platform: Platform = parse(PLATFORM).expect("a platform");
    let tract = Platform { runtime: Runtime::Tract(Default::default()), ..platform.clone() };
    for platform in [platform, tract] {
        assert_eq!(round_trip(&platform), [platform.clone(), platform]);
    }
    let space: SearchSpace = parse(SPACE).expect("a space");
    assert_eq!(round_trip(&space), [space.clone(), space.clone()]);
    assert_eq!(round_trip(&space.largest()), [space.largest(), space.largest()]);
    for text in ["2gflops", "300mmacs", "500kparams", "2MB", "3ms", "1.5us", "0.25us", "700flops"] {
        let budget: Budget = text.parse().expect(text);
        assert_eq!(round_trip(&budget), [budget, budget], "{text}");
        assert_eq!(budget.to_string(), text);
    }
}

#[test]
fn yaml_that_does_not_fit_names_the_file_and_the_place() {
    for (text, parts) in [
        (PLATFORM.replace("threads", "treads"), ["unknown field `treads`", "line 8 column 5"]),
        (PLATFORM.replace("cpu", "gpu"), ["unknown variant `gpu`", "line 7"]),
        (PLATFORM.replace("onnx-runtime:", "onnx:"), ["unknown variant `onnx`", "line 6"]),
        (
            PLATFORM.replace("batch: 1", "batch: one"),
            ["string \"one\", expected a whole number, at least 0 at", "line 11"],
        ),
        (PLATFORM.replace("batch: 1\n", ""), ["missing field `batch`", "file.yaml"]),
        (PLATFORM.replace("  arch", "\tarch"), ["found character that cannot start any token", "line 4"]),
        (String::new(), ["file.yaml", "missing field `schema`"]),
    ] {
        let error = parse::<Platform>(&text).expect_err(&text);
        for part in parts.into_iter().chain(["file.yaml"]) {
            assert!(error.contains(part), "`{part}` is not in `{error}`");
        }
    }
}

#[test]
fn platforms_that_are_refused() {
    for (from, to, expected) in [
        (
            "platform/v1",
            "platform/v2",
            "schema is `elastic.platform/v2`: this version reads `elastic.platform/v1`",
        ),
        ("threads: 2", "threads: 0", "runtime.onnx-runtime.threads is 0: it must be at least 1"),
        ("batch: 1", "batch: 0", "batch is 0: it must be at least 1"),
        ("subnets: 24", "subnets: 0", "measure.subnets is 0: it must be at least 1"),
        ("visit: 8", "visit: 0", "measure.runs-per-visit is 0: it must be at least 1"),
        ("min-samples: 200", "min-samples: 0", "measure.min-samples is 0: it must be at least 1"),
        ("sessions: 3", "sessions: 0", "measure.sessions is 0: it must be at least 1"),
        (
            "max-samples: 600",
            "max-samples: 100",
            "measure.max-samples is 100, measure.min-samples is 200: the first must not be the smaller",
        ),
        (
            "interval-percent: 1",
            "interval-percent: 0",
            "measure.interval-percent is 0: it must be a number of percent above 0",
        ),
        (
            "spinning: false",
            "spinning: false\n    version: new",
            "runtime.onnx-runtime.version is `new`: unexpected character 'n' while parsing major version number; write it like `>=1.24, <2`",
        ),
        (
            "batch: 1",
            "batch: 1\nthermal: {max-celsius: -1, tolerance-celsius: 0, wait-s: 1}",
            "thermal.max-celsius is -1: it must be a number of degrees Celsius, 0 or more",
        ),
        (
            "batch: 1",
            "batch: 1\nclocks: {setup: [[]], restore: []}",
            "clocks.setup is empty: each command is a list of its words",
        ),
        (
            "drift-percent: 3",
            "drift-percent: .inf",
            "measure.max-drift-percent is inf: it must be a number of percent above 0",
        ),
    ] {
        let platform: Platform = parse(&PLATFORM.replace(from, to)).expect(to);
        let refused: Result<(), InvalidPlatform> = platform.validate();
        assert_eq!(refused.map_err(|error| error.to_string()), Err(expected.to_owned()), "{to}");
    }
    assert_eq!(parse::<Platform>(PLATFORM).expect("a platform").validate(), Ok(()));
}

#[test]
fn a_file_is_replaced_whole() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("deep/er/file.txt");
    for text in ["first, and longer", "second"] {
        write(&path, text.as_bytes()).expect(text);
        assert_eq!(read(&path).expect(text), text.as_bytes());
        assert_eq!(names(path.parent().expect("it has a folder")), ["file.txt"], "no temporary file stays");
    }
}

#[cfg(unix)]
#[test]
fn a_written_file_can_be_read_by_all() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("file");
    write(&path, b"text").expect("a file");
    let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
}

#[test]
fn a_failed_write_leaves_what_was_there() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (file, taken) = (folder.path().join("file"), folder.path().join("taken"));
    write(&file, b"kept").expect("a file");
    write(&taken.join("inner"), b"kept").expect("a file in a folder");

    // The folder is a file; and the target is a folder, so that only the last step, the rename, fails.
    for path in [file.join("below"), taken.clone()] {
        let error = write(&path, b"new").expect_err("it cannot be written").to_string();
        assert!(error.starts_with(&format!("write {}: ", path.display())), "{error}");
    }
    // A value that cannot be JSON: a map whose key is no text.
    let no_text = std::collections::BTreeMap::from([([1, 2], 3)]);
    write_json(&file, &no_text).expect_err("a key must be text");

    assert_eq!(read(&file).expect("it is there"), b"kept");
    assert_eq!(read(&taken.join("inner")).expect("it is there"), b"kept");
    assert_eq!(names(folder.path()), ["file", "taken"], "no temporary file stays");
}

#[test]
fn a_damaged_json_file_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("cut.json");
    write(&path, b"{\"a\": [1, 2").expect("a file");
    let error = read_json::<serde_json::Value>(&path).expect_err("it is cut off").to_string();
    for part in ["cut.json", "EOF while parsing a list at line 1 column 11", "make it anew"] {
        assert!(error.contains(part), "`{part}` is not in `{error}`");
    }
    let missing = read(&folder.path().join("none")).expect_err("it is not there").to_string();
    assert!(missing.starts_with("read ") && missing.contains("none"), "{missing}");
}

#[test]
fn sha256_of_known_texts() {
    for (text, hash) in [
        ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ] {
        assert_eq!(sha256(text.as_bytes()), hash, "{text}");
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn the_command_of_each_transport() {
    for (transport, expected) in [
        ("local", None),
        (
            "{ssh: {host: pi@board, options: [-p, \"22\"], program: /opt/elastic, timeout-s: 9}}",
            Some("ssh|-T|-o|BatchMode=yes|-o|ConnectTimeout=15|-p|22|pi@board|/opt/elastic agent"),
        ),
        ("{adb: {program: /tmp/elastic, timeout-s: 9}}", Some("adb|shell|-T|/tmp/elastic agent")),
        ("{adb: {serial: R5, program: e, timeout-s: 9}}", Some("adb|-s|R5|shell|-T|e agent")),
        ("{exec: {command: [srun, elastic, agent], timeout-s: 9}}", Some("srun|elastic|agent")),
    ] {
        let text = PLATFORM.replace("\nruntime:", &format!("\ntransport: {transport}\nruntime:"));
        let platform: Platform = parse(&text).unwrap_or_else(|error| panic!("{transport}: {error}"));
        assert_eq!(platform.validate(), Ok(()), "{transport}");
        let command = platform.transport.command();
        let words = command.as_ref().map(|(words, _)| words.join("|"));
        assert_eq!(words.as_deref(), expected, "{transport}");
        assert!(command.is_none_or(|(_, timeout)| timeout.as_secs() == 9), "{transport}");
        assert_eq!(round_trip(&platform), [platform.clone(), platform], "{transport}");
    }
    // Without a word about it, it is this machine.
    let platform: Platform = parse(PLATFORM).expect("a platform");
    assert_eq!(platform.transport.command(), None);
}

#[test]
fn a_file_grows_line_by_line() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("lines.jsonl");
    for (before, after) in [("", ""), ("1\n2\n", "1\n2\n"), ("1\n2\n3", "1\n2\n"), ("12", "")] {
        write(&path, before.as_bytes()).expect("a file in a temporary folder");
        let (mut first, mut second) = (
            GrowingFile::share(path.clone()).expect("it can be opened"),
            GrowingFile::share(path.clone()).expect("it can be opened twice"),
        );
        first.append_alone(b"4\n").expect("it can be written");
        second.append_alone(b"5\n").expect("it can be written");
        let grown = String::from_utf8(read(&path).expect("it can be read")).expect("text");
        assert_eq!(grown, format!("{after}4\n5\n"), "`{before}`");
    }
}

#[test]
fn lines_of_json_and_what_a_kill_leaves() {
    for (content, expected) in [
        ("", Ok(vec![])),
        ("1\n2\n", Ok(vec![1, 2])),
        ("1\n2", Ok(vec![1])),
        ("1\nx\n3\n", Err("line 2: expected value at line 1 column 1")),
    ] {
        let read = json_lines::<i64>(content.as_bytes()).map_err(|error| error.to_string());
        assert_eq!(read, expected.map_err(str::to_owned), "`{content}`");
    }
}
