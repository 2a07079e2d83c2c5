//! Profiles of small graphs on this machine, through the real ONNX Runtime and tract.

use std::path::Path;
use std::time::Duration;

use elastic_profiler::{
    Candidate, Device, LocalDevice, MeasuredSubnet, ModelFile, ModelsFile, ModelsRequest, NotMeasured,
    OpenDeviceError, ProfileError, ProfileFile, ProfileRequest, ReadModelsError, ReadProfileError, Shapes,
    Task, measure_on, profile,
};
use elastic_runtime::OpenError;
use elastic_space::choices::{DepthChoices, DropPolicy, Granularity, WidthChoices};
use elastic_space::platform::{Identity, Measure, Platform};
use elastic_space::vit::{Pooling, VitSpace};
use elastic_space::{SearchSpace, Seed, file};

mod common;
use common::two_layers;

/// A platform file of the repository, with few runs and for any machine.
fn platform(name: &str) -> Platform {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../platforms").join(name);
    let mut platform: Platform = file::read_yaml(&path).unwrap_or_else(|error| panic!("{error}"));
    platform.identity = Identity::default();
    // At least half of the visits count, so that there is a 90th percentile whatever else runs here.
    platform.measure = Measure {
        subnets: 3,
        sessions: 2,
        runs_per_visit: 4,
        min_samples: 128,
        max_samples: 128,
        ..platform.measure
    };
    platform
}

fn space() -> SearchSpace {
    let per_layer = |choices: &[usize]| WidthChoices { choices: choices.to_vec(), per: Granularity::Layer };
    SearchSpace::Vit(VitSpace {
        image_size: 8,
        channels: 1,
        patch_size: 4,
        classes: 3,
        head_dim: 4,
        pooling: Pooling::Mean,
        embed_dim: vec![8, 16],
        depth: DepthChoices { choices: vec![1, 2], drop: DropPolicy::Prefix },
        heads: per_layer(&[1, 2]),
        mlp_width: per_layer(&[8, 16]),
        stages: Vec::new(),
        transforms: [].into(),
    })
}

/// Largest, smallest and one between, each with a graph of another size: the profiler does not care
/// whether model and subnet belong together.
fn candidates(space: &SearchSpace) -> Vec<Candidate> {
    let mut between = vec![0; space.slots().len()];
    between[0] = 1;
    [(space.largest(), 256), (space.smallest(), 16), (space.decode(&between), 64)]
        .map(|(subnet, hidden)| Candidate { subnet, model: two_layers(hidden) })
        .to_vec()
}

fn profile_of(platform: &Platform) -> Result<ProfileFile, ProfileError> {
    let space = space();
    let candidates = candidates(&space);
    let request = ProfileRequest {
        name: "here",
        platform,
        checkpoint: "c0ffee",
        space: &space,
        candidates: &candidates,
        seed: Seed(5),
        program: None,
        base: None,
    };
    profile(&request, &mut |_, _| {})
}

#[test]
fn profiles_of_this_machine_are_whole_and_survive_their_file() {
    for (file_name, provider, threads, version, cpu_time_known) in [
        ("host-1t.yaml", "CPUExecutionProvider", 1, "ONNX Runtime 1.", true),
        ("host-2t.yaml", "CPUExecutionProvider", 2, "ONNX Runtime 1.", false),
        ("host-tract.yaml", "tract", 1, "tract 0.", true),
    ] {
        let platform = platform(file_name);
        let made = profile_of(&platform).unwrap_or_else(|error| panic!("{file_name}: {error}"));
        let environment = &made.environment;
        assert_eq!((&environment.provider[..], environment.threads), (provider, threads), "{file_name}");
        assert!(environment.runtime_version.starts_with(version), "{file_name}: {environment:?}");
        assert_eq!(environment.library_path.is_some(), provider != "tract", "{file_name}: {environment:?}");
        assert_eq!(environment.load_before.is_some(), environment.load_after.is_some(), "{file_name}");

        let space = space();
        let subnets: Vec<_> = made.measurements.iter().map(|m| m.subnet.clone()).collect();
        assert_eq!(
            subnets,
            candidates(&space).into_iter().map(|c| c.subnet).collect::<Vec<_>>(),
            "{file_name}"
        );
        assert_eq!(made.reference, space.largest(), "{file_name}");
        for MeasuredSubnet { subnet, load_us, first_run_us, latency, .. } in &made.measurements {
            let context = format!("{file_name}, {subnet}: {latency:?}");
            assert!((16..=32).contains(&latency.samples_us.len()), "{context}");
            // The reference is visited twice a round.
            assert!(latency.samples_us.iter().all(|round| [4, 8].contains(&round.len())), "{context}");
            assert_eq!(latency.session_ratios.len(), 2, "{context}");
            assert!(latency.samples_us.iter().flatten().all(|&us| us > 0.0), "{context}");
            assert!(*load_us > 0.0 && *first_run_us > 0.0 && latency.p90_us.is_some(), "{context}");
            assert_eq!(latency.wall_per_cpu.is_some(), cpu_time_known, "{context}");
        }
        assert_eq!(made.measurements[0].latency.ratio_to_reference, 1.0, "{file_name}");
        assert_eq!((made.course.sessions, made.course.rounds), (2, 32), "{file_name}");
        assert!(
            made.course.warm_up_runs >= 2 * 3 * 8 && made.course.peak_memory_bytes.is_some(),
            "{file_name}"
        );
        let timed: Vec<_> = made.nodes.iter().map(|timed| &timed.subnet).collect();
        let ends = [&space.largest(), &space.smallest()];
        assert_eq!(timed, if provider == "tract" { &[][..] } else { &ends }, "{file_name}");
        for node in made.nodes.iter().flat_map(|timed| &timed.nodes) {
            assert_eq!(node.provider, provider, "{file_name}: {node:?}");
        }
        assert_eq!((made.latency_model.rows, made.latency_model.cv.folds), (3, 3), "{file_name}");
        assert_eq!(made.latency_model.feature_names, space.cost_features().names(), "{file_name}");
        assert_eq!(
            (&made.platform, made.seed, &made.checkpoint[..]),
            (&platform, 5, "c0ffee"),
            "{file_name}"
        );

        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("profiles/here.json");
        made.write(&path).expect("writes");
        assert_eq!(ProfileFile::read(&path).expect("reads"), made, "{file_name}");
        // A model that saw other features is fitted anew.
        let mut older = made.clone();
        older.latency_model.feature_names.pop();
        older.latency_model.coefficients.pop();
        older.write(&path).expect("writes");
        assert_eq!(ProfileFile::read(&path).expect("reads"), made, "{file_name}");
    }
}

#[test]
fn another_device_is_refused_before_anything_runs() {
    let mut other = platform("jetson.yaml");
    other.identity.model_contains = Some("a device that nobody built".into());
    let mut visits = 0;
    // The model is no ONNX file: it is not even looked at.
    let task =
        Task { models: &[b"nothing"], shapes: &Shapes::new(), seed: Seed(1), nodes_of: &[], program: None };
    let error = measure_on(&other, &task, &mut |_, _| visits += 1).expect_err("refuses");
    assert!(error.is_device_missing(), "{error}");
    assert_eq!(visits, 0);
    for part in
        ["model-contains `a device that nobody built` is asked, here is `", "run elastic on that device"]
    {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn what_counts_as_a_missing_device() {
    let setting = || OpenError::Setting { setting: "threads", reason: "no".into() };
    for (error, missing) in [
        (NotMeasured::Runtime(setting()), true),
        (NotMeasured::Open(OpenDeviceError::Open { candidate: 0, source: setting() }), false),
    ] {
        assert_eq!(error.is_device_missing(), missing, "{error}");
    }
}

#[test]
fn models_that_do_not_run_are_named() {
    let good = two_layers(4);
    let open = |models: &[&[u8]], shapes: &[(&str, &[usize])]| {
        let shapes = shapes.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect();
        LocalDevice::open(&platform("host-tract.yaml"), models, &shapes, Seed(1))
            .map(|_| "opened")
            .expect_err("refuses")
            .to_string()
    };
    let damaged = open(&[&good, &good[..good.len() / 2]], &[]);
    assert!(damaged.starts_with("candidate 1: load the model in tract"), "{damaged}");
    let misfit = open(&[&good], &[("x", &[3, 8, 8])]);
    assert_eq!(misfit, "candidate 0: input `x` is [1, 1, 8, 8], --input says 3x8x8");
    let unknown = open(&[&good], &[("image", &[1])]);
    assert_eq!(unknown, "no model has an input `image`, they have x");
}

#[test]
fn models_that_are_no_subnets_are_measured() {
    let files =
        [16, 256].map(|hidden| ModelFile { file: format!("{hidden}.onnx"), content: two_layers(hidden) });
    for (name, operators) in [("host-1t.yaml", &["MatMul", "Relu", "MatMul"][..]), ("host-tract.yaml", &[])] {
        let mut visits = 0;
        let platform = platform(name);
        let request = ModelsRequest {
            name: "here",
            platform: &platform,
            files: &files,
            shapes: &Shapes::new(),
            seed: Seed(1),
            program: None,
        };
        let made = ModelsFile::measure(&request, &mut |_, _| visits += 1)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(visits >= 2 * 32, "{name}: {visits}");
        for (model, file) in made.models.iter().zip(&files) {
            assert_eq!((&model.file, model.bytes as usize), (&file.file, file.content.len()), "{name}");
            assert_eq!(model.inputs[0].shape, [1, 1, 8, 8], "{name}");
            assert!(model.load_us > 0.0 && model.first_run_us > 0.0, "{name}: {model:?}");
            let [low, high] = model.latency.p90_interval_us.expect("64 samples");
            let p90 = model.latency.p90_us.expect("64 samples");
            assert!(low <= p90 && p90 <= high, "{name}: {low} {p90} {high}");
            let found: Vec<&str> = model.nodes.iter().map(|node| &node.operator[..]).collect();
            // The runtime may give a flattened input no node of its own.
            assert!(found.ends_with(operators), "{name}: {found:?}");
        }
        assert_eq!(made.models[0].latency.ratio_to_reference, 1.0, "{name}");

        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("base.json");
        made.write(&path).expect("writes");
        assert_eq!(ModelsFile::read(&path).expect("reads"), made, "{name}");
        ModelsFile { schema: "other".into(), ..made }.write(&path).expect("writes");
        let error = ModelsFile::read(&path).expect_err("another format");
        assert!(matches!(error, ReadModelsError::Schema { .. }), "{error}");
    }
}

#[test]
fn cpu_time_is_known_where_one_thread_works() {
    for (file_name, known) in [("host-1t.yaml", true), ("host-2t.yaml", false), ("host-tract.yaml", true)] {
        let model = two_layers(2048);
        let mut device = LocalDevice::open(&platform(file_name), &[&model], &Shapes::new(), Seed(1))
            .unwrap_or_else(|error| panic!("{file_name}: {error}"));
        assert_eq!(device.startups().len(), 1);
        let sample = device.run(0).unwrap_or_else(|error| panic!("{file_name}: {error}"));
        assert!(sample.wall > Duration::ZERO, "{file_name}: {sample:?}");
        assert_eq!(sample.cpu.is_some(), known, "{file_name}: {sample:?}");
    }
}

#[test]
fn profiles_without_subnets_or_with_one_are_refused() {
    let space = space();
    let platform = platform("host-tract.yaml");
    for (count, text) in [(0, "there are none; ask for at least 2"), (1, "needs at least 2 measured subnets")]
    {
        let candidates = &candidates(&space)[..count];
        let request = ProfileRequest {
            name: "here",
            platform: &platform,
            checkpoint: "",
            space: &space,
            candidates,
            seed: Seed(1),
            program: None,
            base: None,
        };
        let error = profile(&request, &mut |_, _| {}).expect_err(text).to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn damaged_profiles_are_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("here.json");
    let mut made = profile_of(&platform("host-tract.yaml")).unwrap_or_else(|error| panic!("{error}"));
    made.schema = "elastic.profile/v9".into();
    made.write(&path).expect("writes");
    let error = ProfileFile::read(&path).expect_err("another format");
    assert!(matches!(error, ReadProfileError::Schema { .. }), "{error}");
    assert!(
        error.to_string().ends_with(
            "schema is `elastic.profile/v9`, this version reads `elastic.profile/v1`; run: elastic profile"
        ),
        "{error}"
    );

    let whole = std::fs::read(&path).expect("reads");
    std::fs::write(&path, &whole[..whole.len() / 2]).expect("writes");
    for (path, text) in [(path, "EOF while parsing"), (folder.path().join("none.json"), "No such file")] {
        let error = ProfileFile::read(&path).expect_err(text).to_string();
        assert!(error.contains(text) && error.contains(&path.display().to_string()), "{error}");
    }
}
