//! Training that was stopped or killed goes on as if nothing had happened, bit for bit.

mod common;

use std::process::{Child, Command, ExitStatus};
use std::sync::OnceLock;

use common::{Bench, disturb, kill};

const TRAIN: &str = "train --model models/tiny.yaml --steps 200 --verbose";
const RESUME: &str = "train --model models/tiny.yaml --steps 200 --verbose --resume";
/// Attempts at hitting a run before it ends.
const ATTEMPTS: usize = 10;

/// The supernet of a run that nothing disturbed.
fn undisturbed() -> &'static [u8] {
    static SUPERNET: OnceLock<Vec<u8>> = OnceLock::new();
    SUPERNET.get_or_init(|| {
        let bench = Bench::fresh();
        bench.succeed(TRAIN);
        bench.read("runs/tiny/supernet.safetensors")
    })
}

/// [`disturb`] on a new run, again and again until the run had not ended before it was hit.
fn disturbed(line: &str, act: fn(&mut Child)) -> (Bench, ExitStatus) {
    for _ in 0..ATTEMPTS {
        let bench = Bench::fresh();
        let status = disturb(&bench, TRAIN, line, act);
        if !bench.file("runs/tiny/supernet.safetensors").exists() {
            return (bench, status);
        }
    }
    panic!("`{line}`: the run had ended before it was hit, {ATTEMPTS} times");
}

fn interrupt(child: &mut Child) {
    let status = Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status();
    assert!(status.expect("a POSIX system has a shell").success());
}

/// What a run logs, without what the clock and the machine decide.
fn metrics(bench: &Bench) -> Vec<serde_json::Value> {
    let text = String::from_utf8(bench.read("runs/tiny/metrics.jsonl")).expect("the log is text");
    let lines = text.lines().map(|line| {
        let mut record: serde_json::Value = serde_json::from_str(line).expect("each line is JSON");
        let fields = record.as_object_mut().expect("each line is an object");
        for measured in ["images_per_second", "subnet_updates_per_second", "peak_memory_bytes"] {
            fields.remove(measured);
        }
        record
    });
    lines.collect()
}

#[test]
fn the_supernet_does_not_depend_on_the_number_of_threads() {
    for threads in ["1", "2", "5"] {
        let bench = Bench::fresh();
        let output = Bench::output(bench.command(TRAIN).env("RAYON_NUM_THREADS", threads));
        assert_eq!(output.code, Some(0), "{threads} threads: {}", output.stderr);
        assert!(bench.read("runs/tiny/supernet.safetensors") == undisturbed(), "{threads} threads");
    }
}

#[test]
fn killed_at_five_moments_and_resumed() {
    for line in ["training ", "train: 1/", "checkpoint at step 2", "train: 41/", "step 60: validation"] {
        let (bench, _) = disturbed(line, kill);
        // Before the first file is written there is nothing to resume, and the error says what to do.
        let begun = bench.file("runs/tiny/checkpoint.safetensors").exists();
        bench.succeed(if begun { RESUME } else { TRAIN });
        assert!(bench.read("runs/tiny/supernet.safetensors") == undisturbed(), "killed at `{line}`");
    }
}

#[test]
fn one_run_killed_five_times() {
    // Each time as soon as the run has gone on; none if it ended before it was hit.
    let attempt = || {
        let bench = Bench::fresh();
        for command in [TRAIN, RESUME, RESUME, RESUME, RESUME] {
            disturb(&bench, command, "checkpoint at step ", kill);
            if bench.file("runs/tiny/supernet.safetensors").exists() {
                return None;
            }
        }
        Some(bench)
    };
    let bench = (0..ATTEMPTS).find_map(|_| attempt()).expect("the run ends after five kills");
    bench.succeed(RESUME);
    assert!(bench.read("runs/tiny/supernet.safetensors") == undisturbed());
}

#[test]
fn a_kill_while_files_are_written() {
    let (bench, _) = disturbed("step 30: validation", kill);
    // What a kill can leave: a line that was cut short, and a file under its temporary name.
    let log = bench.read("runs/tiny/metrics.jsonl");
    bench.write("runs/tiny/metrics.jsonl", [&log[..], b"{\"kind\":\"train\",\"st"].concat());
    bench.write("runs/tiny/.elastic-Abc123", &bench.read("runs/tiny/checkpoint.safetensors")[..1000]);
    bench.succeed(RESUME);
    assert!(!bench.file("runs/tiny/.elastic-Abc123").exists());
    let log = bench.read("runs/tiny/metrics.jsonl");
    assert!(String::from_utf8_lossy(&log).lines().all(|line| line.ends_with('}')), "only whole lines stay");
    assert!(bench.read("runs/tiny/supernet.safetensors") == undisturbed());
}

#[test]
fn the_log_of_a_resumed_run_is_that_of_an_undisturbed_one() {
    let undisturbed = Bench::fresh();
    undisturbed.succeed(TRAIN);
    let (bench, _) = disturbed("step 30: validation", kill);
    bench.succeed(RESUME);
    let (expected, found) = (metrics(&undisturbed), metrics(&bench));
    // Throughput and memory are the process's own.
    let comparable = |records: &[serde_json::Value]| -> Vec<serde_json::Value> {
        let mut records = records.to_vec();
        for record in &mut records {
            let object = record.as_object_mut().expect("a record is an object");
            for field in ["images_per_second", "subnet_updates_per_second", "peak_memory_bytes"] {
                object.remove(field);
            }
        }
        records
    };
    assert_eq!(found.len(), expected.len());
    assert_eq!(comparable(&found), comparable(&expected));
}

#[test]
fn ctrl_c_leaves_a_checkpoint_and_exit_code_130() {
    let (bench, status) = disturbed("train: 21/", interrupt);
    assert_eq!(status.code(), Some(130));
    assert!(bench.file("runs/tiny/checkpoint.safetensors").exists());
    let resumed = bench.elastic(RESUME);
    assert_eq!(resumed.code, Some(0), "{}", resumed.stderr);
    assert!(bench.read("runs/tiny/supernet.safetensors") == undisturbed());
}

#[test]
fn resume_takes_the_configuration_of_the_run() {
    let (bench, _) = disturbed("train: 21/", interrupt);
    // Neither the flags nor the model file are needed again.
    bench.remove("models");
    bench.succeed("train --out runs/tiny --resume");
    assert!(bench.read("runs/tiny/supernet.safetensors") == undisturbed());
    let again = bench.elastic("train --out runs/tiny --resume");
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert_eq!(again.stderr, "runs/tiny has finished already: nothing to do\n");
    assert!(again.stdout.contains("supernet: runs/tiny/supernet.safetensors"), "{}", again.stdout);
}
