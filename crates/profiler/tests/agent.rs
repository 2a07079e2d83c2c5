//! The agent against a client that means well, and one that does not.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::slice::from_ref;
use std::thread::{self, JoinHandle};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use elastic_profiler::agent::protocol::{FailureKind, MAX_LINE, PROTOCOL, Reply, Request};
use elastic_profiler::agent::{Ending, ServeError, Store, serve};
use elastic_profiler::summarise;
use elastic_space::file;
use elastic_space::platform::{Exec, Measure, Platform, Transport};
use proptest::prelude::*;
use serde_json::{Value, json};

mod common;
use common::two_layers;

/// An agent on a thread, and the client's end of its pipe.
struct Bench {
    folder: tempfile::TempDir,
    input: UnixStream,
    output: BufReader<UnixStream>,
    agent: JoinHandle<Result<Ending, ServeError>>,
}

impl Bench {
    /// An agent that has said who it is.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(&folder.path().join("work"), 10_000_000).expect("a store");
        let (input, requests) = UnixStream::pair().expect("a pipe");
        let (output, replies) = UnixStream::pair().expect("a pipe");
        let agent = thread::spawn(move || serve(BufReader::new(requests), replies, store));
        let mut bench = Self { folder, input, output: BufReader::new(output), agent };
        let Reply::Hello { protocol, host, .. } = bench.reply() else { panic!("an agent speaks first") };
        assert_eq!((&protocol[..], &host.arch[..]), (PROTOCOL, std::env::consts::ARCH));
        bench
    }

    fn say(&mut self, line: &[u8]) {
        self.input.write_all(line).and_then(|()| self.input.write_all(b"\n")).expect("the agent listens");
    }

    fn reply(&mut self) -> Reply {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the agent writes text");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: `{line}`"))
    }

    fn ask(&mut self, request: &Request) -> Reply {
        self.say(&serde_json::to_vec(request).expect("a request"));
        self.reply()
    }

    fn refused(&mut self, line: &[u8]) -> (FailureKind, String) {
        self.say(line);
        match self.reply() {
            Reply::Failed { kind, message } => (kind, message),
            other => panic!("{other:?} to {}", String::from_utf8_lossy(line)),
        }
    }

    fn put(&mut self, model: &[u8]) -> String {
        let sha256 = file::sha256(model);
        let (bytes, data) = (model.len() as u64, STANDARD.encode(model));
        let stored = self.ask(&Request::Put { sha256: sha256.clone(), bytes, offset: 0, data });
        assert_eq!(stored, Reply::Stored { sha256: sha256.clone(), bytes });
        sha256
    }

    fn end(self) -> Result<Ending, ServeError> {
        drop((self.input, self.output));
        self.agent.join().expect("the agent does not panic")
    }
}

/// tract on whatever machine the agent runs on.
fn platform() -> Platform {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../platforms/host-tract.yaml");
    let mut platform: Platform = file::read_yaml(&path).unwrap_or_else(|error| panic!("{error}"));
    platform.measure = Measure { subnets: 2, runs_per_visit: 3, min_samples: 15, ..platform.measure };
    // How the client reaches the agent is nothing to the agent: it never starts anything itself.
    platform.transport = Transport::Exec(Exec { command: vec!["false".into()], timeout_s: 60 });
    platform
}

fn measure(models: &[String], first_round: usize) -> Value {
    json!({"measure": {
        "platform": platform(), "models": models, "shapes": {}, "seed": 3, "nodes-of": [0], "session": 1, "first-round": first_round,
        "end-round": 5,         "timeout-s": 60,
    }})
}

#[test]
fn models_go_up_once_and_rounds_come_back() {
    let mut bench = Bench::new();
    let ready = bench.ask(&Request::Check { platform: Box::new(platform()) });
    let Reply::Ready { runtime_version } = ready else { panic!("{ready:?}") };
    assert!(runtime_version.starts_with("tract 0."), "{runtime_version}");

    let models = [two_layers(64), two_layers(8)];
    let names = models.each_ref().map(|model| file::sha256(model));
    let have = Request::Have { sha256: names.to_vec() };
    assert_eq!(bench.ask(&have), Reply::Missing { sha256: names.to_vec() });
    models.iter().for_each(|model| drop(bench.put(model)));
    assert_eq!(bench.ask(&have), Reply::Missing { sha256: vec![] });

    // From the start, and from where a lost link left it: the rounds have the numbers that are missing.
    for first_round in [0, 3] {
        bench.say(measure(&names, first_round).to_string().as_bytes());
        let mut rounds = Vec::new();
        loop {
            match bench.reply() {
                Reply::Opened { environment, startups_us, inputs } => {
                    assert_eq!((&environment.provider[..], startups_us.len()), ("tract", 2));
                    assert_eq!(
                        inputs.iter().map(|inputs| &inputs[0].shape).collect::<Vec<_>>(),
                        [&[1, 1, 8, 8]; 2]
                    );
                }
                Reply::Warm(warm_up) => assert!(warm_up.runs >= 2 * 2 * 4, "{warm_up:?}"),
                Reply::Round { number, round } => {
                    assert_eq!((number, round.session), (first_round + rounds.len(), 1));
                    assert!(round.visits.iter().all(|visit| visit.wall_us.len() % 3 == 0), "{round:?}");
                    rounds.push(round);
                }
                Reply::Progress { done, total } => assert!(done <= total && total == 10, "{done} {total}"),
                Reply::Alive => {}
                Reply::Nodes { model: 0, nodes } => assert_eq!(nodes, [], "tract times none"),
                Reply::Done { peak_memory_bytes, .. } => {
                    assert!(peak_memory_bytes.is_some());
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(rounds.len(), 5 - first_round);
        let measurements = summarise(&rounds);
        assert_eq!(measurements.len(), 2);
        assert!(measurements.iter().all(|m| m.p50_us > 0.0), "{measurements:?}");
    }
    assert_eq!(bench.end().expect("a closed pipe is no error"), Ending::Closed);
}

#[test]
fn what_an_agent_refuses() {
    let mut bench = Bench::new();
    let name = bench.put(&two_layers(8));
    let absent = "0".repeat(64);
    let damaged = bench.put(b"no model at all");
    let mut other = platform();
    other.identity.arch = Some("pdp11".into());
    let mut unknown = platform();
    unknown.schema = "elastic.platform/v9".into();
    let with = |key: &str, value: Value| {
        let mut request = measure(from_ref(&name), 0);
        request["measure"][key] = value;
        request
    };
    let put =
        |sha256: &str, data: &str| json!({"put": {"sha256": sha256, "bytes": 4, "offset": 0, "data": data}});
    for (request, kind, part) in [
        (json!({"reboot": {}}), FailureKind::Request, "unknown variant"),
        (json!({"have": {"sha256": "abc"}}), FailureKind::Request, "expected a sequence"),
        (json!({"have": {"sha256": [], "more": 1}}), FailureKind::Request, "unknown field"),
        (json!({"have": {"sha256": ["../secret"]}}), FailureKind::Storage, "no SHA-256"),
        (put("/etc/passwd", "AAAA"), FailureKind::Storage, "no SHA-256"),
        (put(&absent, "*"), FailureKind::Request, "decode a part"),
        (put(&absent, "AAAAAA=="), FailureKind::Storage, "arrived damaged"),
        (json!({"check": {"platform": other}}), FailureKind::Identity, "arch `pdp11` is asked"),
        (json!({"check": {"platform": unknown}}), FailureKind::Request, "this version reads"),
        (measure(&[], 0), FailureKind::Request, "measure 0 models"),
        (measure(&vec![name.clone(); 4097], 0), FailureKind::Request, "measure 4097 models"),
        (measure(&["../x".into()], 0), FailureKind::Storage, "no SHA-256"),
        (measure(from_ref(&absent), 0), FailureKind::Storage, "send the model again"),
        (measure(from_ref(&damaged), 0), FailureKind::Model, "candidate 0: load the model in tract"),
        (with("nodes-of", json!([1])), FailureKind::Request, "the nodes of model 1: there are 1"),
        (with("end-round", 9_999_999.into()), FailureKind::Request, "measure rounds 0 to 9999999"),
        (with("first-round", 6.into()), FailureKind::Request, "measure rounds 6 to 5"),
        (with("timeout-s", 0.into()), FailureKind::Request, "timeout-s is 0"),
        (with("shapes", json!({"x": [3, 8, 8]})), FailureKind::Request, "input `x` is [1, 1, 8, 8]"),
        (with("shapes", json!({"y": [1]})), FailureKind::Request, "no model has an input `y`, they have x"),
    ] {
        let (found, message) = bench.refused(request.to_string().as_bytes());
        assert!(found == kind && message.contains(part), "{request}: {found:?} {message}");
    }
    // It is as good as before.
    assert_eq!(bench.ask(&Request::Have { sha256: vec![name] }), Reply::Missing { sha256: vec![] });
    let written = std::fs::read_dir(bench.folder.path()).expect("a folder").count();
    assert_eq!(written, 1, "nothing beside the work folder");
    assert_eq!(bench.end().expect("a closed pipe is no error"), Ending::Closed);
}

#[test]
fn a_line_without_an_end_is_cut_off() {
    let mut bench = Bench::new();
    // The agent stops reading there, so that the rest may find nobody.
    let _ = bench.input.write_all(&vec![b'x'; MAX_LINE + 1]);
    assert!(matches!(bench.end(), Err(ServeError::TooLong)));
}

#[test]
fn a_run_that_hangs_is_ended() {
    let mut bench = Bench::new();
    // 2^12 features squared, some hundred times: it takes longer than the second that it is given.
    let model = common::slow(400, 2048);
    let name = bench.put(&model);
    let mut request = measure(from_ref(&name), 0);
    request["measure"]["timeout-s"] = 1.into();
    bench.say(request.to_string().as_bytes());
    let (kind, message) = loop {
        match bench.reply() {
            Reply::Failed { kind, message } => break (kind, message),
            Reply::Alive | Reply::Opened { .. } | Reply::Progress { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(kind, FailureKind::Timeout);
    assert!(message.contains("nothing has happened for 1 s"), "{message}");
    assert_eq!(bench.end().expect("an ending"), Ending::Hung);
}

#[test]
fn only_one_measurement_at_a_time() {
    let mut bench = Bench::new();
    let name = bench.put(&common::slow(20, 1024));
    bench.say(measure(from_ref(&name), 0).to_string().as_bytes());
    bench.say(measure(from_ref(&name), 0).to_string().as_bytes());
    let message = loop {
        match bench.reply() {
            Reply::Failed { message, .. } => break message,
            Reply::Done { .. } => panic!("the second was not refused"),
            _ => {}
        }
    };
    assert!(message.contains("a measurement is under way"), "{message}");
    // The client goes away in the middle of it.
    assert_eq!(bench.end().expect("a closed pipe is no error"), Ending::Closed);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn noise_is_answered_and_changes_nothing(
        lines in prop::collection::vec(prop::collection::vec(any::<u8>().prop_filter("one line", |b| *b != b'\n'), 1..200), 1..8),
        cut in 0_usize..400,
    ) {
        let mut bench = Bench::new();
        let name = bench.put(&two_layers(8));
        for line in &lines {
            let (kind, _) = bench.refused(line);
            prop_assert_eq!(kind, FailureKind::Request);
        }
        // A request that is cut short.
        let whole = measure(from_ref(&name), 0).to_string();
        let cut = &whole.as_bytes()[..cut.min(whole.len() - 1)];
        if !cut.is_empty() {
            prop_assert_eq!(bench.refused(cut).0, FailureKind::Request);
        }
        prop_assert_eq!(bench.ask(&Request::Have { sha256: vec![name] }), Reply::Missing { sha256: vec![] });
        prop_assert_eq!(bench.end().expect("a closed pipe is no error"), Ending::Closed);
    }
}
