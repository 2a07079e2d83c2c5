//! The platform files that the repository ships.

use std::collections::BTreeMap;
use std::path::Path;

use elastic_space::file;
use elastic_space::platform::{Platform, Runtime, Transport};

fn shipped() -> BTreeMap<String, Platform> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../platforms");
    let entries = std::fs::read_dir(&folder).expect("the repository has platforms");
    let paths = entries.map(|entry| entry.expect("a file").path());
    paths
        .map(|path| {
            let platform = file::read_yaml(&path).unwrap_or_else(|error| panic!("{error}"));
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, platform)
        })
        .collect()
}

#[test]
fn every_file_is_valid_and_says_whether_it_was_measured() {
    let platforms = shipped();
    for name in [
        "android-phone",
        "apple-coreml",
        "host-1t",
        "host-2t",
        "host-tract",
        "jetson",
        "jetson-tensorrt",
        "openvino",
        "raspberry-pi-5",
        "server-1t",
        "server-all",
    ] {
        assert!(platforms.contains_key(name), "{name} is not in {:?}", platforms.keys());
    }
    for (name, platform) in &platforms {
        assert_eq!(platform.validate(), Ok(()), "{name}");
        assert!(platform.description.contains("measured"), "{name}: {}", platform.description);
        // A round of 24 subnets and a 90th percentile.
        assert!(platform.measure.min_samples >= 64, "{name}: {:?}", platform.measure);
    }
}

#[test]
fn what_runs_on_each_platform() {
    let platforms = shipped();
    for (name, label, arch, min_threads) in [
        ("host-1t", "CPUExecutionProvider x1", None, None),
        ("host-2t", "CPUExecutionProvider x2", None, Some(2)),
        ("host-tract", "tract x1", None, None),
        ("jetson", "CUDAExecutionProvider x1", Some("aarch64"), None),
        ("jetson-tensorrt", "TensorrtExecutionProvider x1", Some("aarch64"), None),
        ("server-1t", "CPUExecutionProvider x1", Some("x86_64"), Some(32)),
        ("server-all", "CPUExecutionProvider x32", Some("x86_64"), Some(32)),
        ("apple-coreml", "CoreMLExecutionProvider x1", Some("aarch64"), None),
        ("openvino", "OpenVINOExecutionProvider x1", None, None),
        ("raspberry-pi-5", "CPUExecutionProvider x4", Some("aarch64"), Some(4)),
        ("android-phone", "CPUExecutionProvider x4", Some("aarch64"), None),
    ] {
        let platform = &platforms[name];
        assert_eq!(platform.runtime.label(), label, "{name}");
        assert_eq!(platform.identity.arch.as_deref(), arch, "{name}");
        assert_eq!(platform.identity.min_threads, min_threads, "{name}");
        let reached =
            matches!(platform.transport, Transport::Local) == platform.transport.command().is_none();
        assert!(reached, "{name}: {:?}", platform.transport);
        if let Runtime::OnnxRuntime(settings) = &platform.runtime {
            assert!(!settings.spinning, "{name}: spinning threads disturb what is measured");
        }
    }
}
