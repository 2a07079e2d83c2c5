//! Devices at the other end of a pipe: the real agent as a child process, and links that fail.

#![cfg(unix)]

mod common;

use common::Bench;

const PLATFORM: &str = "platforms/host-tract.yaml";
const LOCAL: &str = "transport: local ";

/// A finished run whose tract platform is reached through a shell script; `$ELASTIC` is the program.
fn remote(script: &str) -> Bench {
    let bench = Bench::finished();
    bench.write("link", format!("ELASTIC={}\n{script}", env!("CARGO_BIN_EXE_elastic")));
    bench.edit(PLATFORM, LOCAL, "transport: {exec: {command: [sh, link], timeout-s: 60}} ");
    bench.remove("profiles/host-tract.json");
    bench
}

#[test]
fn profile_and_export_through_an_agent() {
    let bench = remote("echo start >> starts\nexec $ELASTIC agent --work device\n");
    let checked = bench.succeed_json("platform check host-tract");
    assert_eq!(checked["device"]["arch"], std::env::consts::ARCH);
    assert!(checked["runtime"].as_str().is_some_and(|text| text.starts_with("tract 0.")), "{checked}");
    let profiled = bench.succeed("profile --platform host-tract");
    assert!(profiled.contains("latency model: mean error"), "{profiled}");
    let profile: serde_json::Value =
        serde_json::from_slice(&bench.read("profiles/host-tract.json")).expect("JSON");
    assert_eq!(profile["measurements"].as_array().map(Vec::len), Some(4));
    assert_eq!(profile["environment"]["provider"], "tract");
    assert_eq!((&profile["course"]["rounds"], &profile["course"]["sessions"]), (&2.into(), &1.into()));
    let held = || std::fs::read_dir(bench.file("device")).expect("the work folder").count();
    assert_eq!(held(), 5, "one file a model, and the lease");
    // The winner is measured there too.
    let report = &bench.succeed_json("export --budget 1s --platform host-tract")[0];
    assert!(report["measured-latency-us"].as_f64().is_some_and(|us| us > 0.0), "{report}");
}

#[test]
fn a_link_that_is_cut_goes_on_where_it_was() {
    // The first links break after some thousand bytes of answers: in the middle of what is measured.
    let bench = remote(
        "echo start >> starts\n\
         if [ $(wc -l < starts) -lt 4 ]; then $ELASTIC agent --work device | dd bs=1 count=5000 status=none\n\
         else exec $ELASTIC agent --work device; fi\n",
    );
    bench.edit(PLATFORM, "min-samples: 16", "min-samples: 800");
    bench.edit(PLATFORM, "max-samples: 16", "max-samples: 800");
    bench.succeed("profile --platform host-tract");
    let profile: serde_json::Value =
        serde_json::from_slice(&bench.read("profiles/host-tract.json")).expect("JSON");
    assert_eq!(profile["course"]["rounds"], 100, "every round, once");
    let starts = String::from_utf8(bench.read("starts")).expect("text").lines().count();
    // One for the check before anything is built, which fits into 5,000 bytes.
    assert_eq!(starts, 4);
}

#[test]
fn links_that_fail() {
    let elsewhere = "$ELASTIC agent --work device";
    for (script, code, parts) in [
        ("exec <&-; sleep 1; exit 3", 4, &["`sh link` ended"][..]),
        ("exit 3", 4, &["`sh link` ended", "0 rounds had arrived", "run this again"]),
        ("echo no route to host >&2; exit 255", 4, &["`sh link` ended (no route to host)"]),
        ("echo Welcome to Ubuntu", 4, &["does not speak elastic.agent/v1: `Welcome to Ubuntu` came"]),
        (
            r#"echo '{"hello": {"protocol": "elastic.agent/v9", "elastic-version": "9.0.0", "host": {"arch": "a", "os": "b", "models": [], "threads": 1, "memory-mb": 1}}}'; cat"#,
            4,
            &["it speaks elastic.agent/v9 (elastic 9.0.0)", "run the same version of elastic on both sides"],
        ),
        (
            elsewhere,
            4,
            &["on the device (`sh link`): this machine is not the device", "arch `pdp11` is asked"],
        ),
        ("$ELASTIC agent --work /proc/none", 4, &["`sh link` ended", "/proc/none", "--work"]),
    ] {
        let bench = remote(script);
        if script == elsewhere {
            bench.edit(PLATFORM, "identity: {}", "identity: {arch: pdp11}");
        }
        let output = bench.elastic("profile --platform host-tract");
        assert_eq!(output.code, Some(code), "{script}: {}", output.stderr);
        for part in parts {
            assert!(output.stderr.contains(part), "{script}: `{part}` is not in {}", output.stderr);
        }
        assert!(!bench.file("profiles/host-tract.json").exists(), "{script}");
    }
}

#[test]
fn a_command_that_is_not_there() {
    let bench = Bench::finished();
    bench.edit(PLATFORM, LOCAL, "transport: {exec: {command: [no-such-program], timeout-s: 60}} ");
    let output = bench.elastic("platform check host-tract");
    assert_eq!(output.code, Some(4), "{}", output.stderr);
    assert!(output.stderr.contains("start `no-such-program`: "), "{}", output.stderr);
    assert!(output.stderr.contains("is the program there?"), "{}", output.stderr);
}
