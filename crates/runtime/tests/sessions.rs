//! Real models through the real ONNX Runtime and tract.

mod common;

use common::{Dim, array, constant, dense, encode, node, real_library, runtimes, settings, value};
use elastic_runtime::library::{self, Library, LibraryError};
use elastic_runtime::{Element, OpenError, RunError, check, load, node_times, open, runtime_version};
use elastic_space::Array;
use elastic_space::platform::{OnnxRuntime, Optimization, Provider, Runtime};
use tract_onnx::pb::AttributeProto;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;

/// What [`dense`] makes of some rows, worked out: row (1, 2, 3) gives 1 + 4 + 0.5 = 5.5 and
/// -1 + 9 - 10 < 0; row (0, 0, 4) gives 0.5 and 12 - 10 = 2.
fn rows(batch: usize) -> (Array, Array) {
    let x: Vec<f32> = [1.0, 2.0, 3.0, 0.0, 0.0, 4.0].into_iter().cycle().take(3 * batch).collect();
    let y: Vec<f32> = [5.5, 0.0, 0.5, 2.0].into_iter().cycle().take(2 * batch).collect();
    (array(&[batch, 3], &x), array(&[batch, 2], &y))
}

#[test]
fn a_model_gives_what_was_worked_out_by_hand() {
    let (x, y) = rows(2);
    for (name, runtime) in runtimes() {
        let mut session = open(&runtime, &dense(Dim::Fixed(2))).expect(name);
        for run in 0..3 {
            assert_eq!(
                session.run(std::slice::from_ref(&x)).expect(name),
                std::slice::from_ref(&y),
                "{name}, run {run}"
            );
        }
    }
}

#[test]
fn an_open_batch_takes_any_size_in_any_order() {
    for (name, runtime) in runtimes() {
        let mut session = open(&runtime, &dense(Dim::Open("batch"))).expect(name);
        for batch in [1, 4, 4, 1, 7] {
            let (x, y) = rows(batch);
            assert_eq!(session.run(&[x]).expect(name), [y], "{name}, batch {batch}");
        }
    }
}

#[test]
fn inputs_are_as_the_graph_declares_them() {
    for (name, runtime) in runtimes() {
        for (batch, text, takes_seven) in [(Dim::Fixed(2), "[2, 3]", false), (Dim::Open("n"), "[?, 3]", true)]
        {
            let session = open(&runtime, &dense(batch)).expect(name);
            let [input] = session.inputs() else { panic!("{name}: {:?}", session.inputs()) };
            assert_eq!((input.name.as_str(), input.describe().as_str()), ("x", text), "{name}");
            assert_eq!(input.accepts(&[7, 3]), takes_seven, "{name}: {text}");
        }
    }
}

#[test]
fn inputs_and_outputs_stand_in_the_graphs_order() {
    let float = |name| value(name, DataType::Float, &[Dim::Fixed(2)]);
    let model = encode(
        vec![node("Sub", &["b", "a"], "z"), node("Mul", &["a", "b"], "c")],
        vec![],
        vec![float("b"), float("a")],
        vec![float("z"), float("c")],
    );
    let inputs = [array(&[2], &[5.0, 6.0]), array(&[2], &[1.0, 2.0])];
    for (name, runtime) in runtimes() {
        let outputs = open(&runtime, &model).expect(name).run(&inputs).expect(name);
        assert_eq!(outputs, [array(&[2], &[4.0, 4.0]), array(&[2], &[5.0, 12.0])], "{name}");
    }
}

#[test]
fn every_setting_gives_the_same_result() {
    real_library();
    let (x, y) = rows(2);
    for optimization in [Optimization::None, Optimization::Basic, Optimization::Extended, Optimization::All] {
        for (threads, spinning) in [(1, false), (2, false), (2, true)] {
            let settings = OnnxRuntime { threads, optimization, spinning, ..settings() };
            let runtime = Runtime::OnnxRuntime(settings.clone());
            let found = open(&runtime, &dense(Dim::Fixed(2))).and_then(|mut session| {
                session.run(std::slice::from_ref(&x)).map_err(|error| panic!("{settings:?}: {error}"))
            });
            assert_eq!(
                found.unwrap_or_else(|error| panic!("{settings:?}: {error}")),
                std::slice::from_ref(&y),
                "{settings:?}"
            );
        }
    }
}

#[test]
fn a_session_runs_on_another_thread() {
    let (x, y) = rows(2);
    for (name, runtime) in runtimes() {
        let mut session = open(&runtime, &dense(Dim::Fixed(2))).expect(name);
        let x = x.clone();
        let outputs = std::thread::spawn(move || session.run(&[x])).join().expect(name).expect(name);
        assert_eq!(outputs, std::slice::from_ref(&y), "{name}");
    }
}

#[test]
fn wrong_inputs_are_errors_and_leave_the_session_usable() {
    let (x, y) = rows(2);
    let bad: [(Vec<Array>, &str); 4] = [
        (vec![], "takes 1 inputs, 0 were given"),
        (vec![x.clone(), x.clone()], "takes 1 inputs, 2 were given"),
        (vec![array(&[2, 4], &[0.0; 8])], "input `x` has shape [2, 4], the graph takes [2, 3]"),
        (vec![array(&[2, 3], &[0.0; 5])], "input `x` has 5 values, its shape [2, 3] needs 6"),
    ];
    for (name, runtime) in runtimes() {
        let mut session = open(&runtime, &dense(Dim::Fixed(2))).expect(name);
        for (inputs, expected) in &bad {
            let text = session.run(inputs).expect_err(expected).to_string();
            assert!(text.contains(expected), "{name}: {text}");
            assert_eq!(
                session.run(std::slice::from_ref(&x)).expect(name),
                std::slice::from_ref(&y),
                "{name}: {expected}"
            );
        }
    }
}

#[test]
fn a_run_that_fails_inside_the_runtime_is_an_error() {
    // The graph leaves both sizes open, so only the addition finds that they do not fit.
    let open_size = |name, size| value(name, DataType::Float, &[Dim::Open(size)]);
    let model = encode(
        vec![node("Add", &["a", "b"], "y")],
        vec![],
        vec![open_size("a", "n"), open_size("b", "m")],
        vec![open_size("y", "k")],
    );
    for (name, runtime) in runtimes() {
        let mut session = open(&runtime, &model).expect(name);
        let found = session.run(&[array(&[2], &[1.0; 2]), array(&[3], &[1.0; 3])]);
        assert!(matches!(found, Err(RunError::Failed { .. })), "{name}: {found:?}");
        let fits = session.run(&[array(&[2], &[1.0; 2]), array(&[2], &[1.0; 2])]).expect(name);
        assert_eq!(fits, [array(&[2], &[2.0; 2])], "{name}");
    }
}

#[test]
fn a_bad_model_is_an_error() {
    let float = |name, size| value(name, DataType::Float, &[Dim::Fixed(size)]);
    let whole = dense(Dim::Fixed(2));
    let unknown =
        encode(vec![node("NoSuchOperator", &["x"], "y")], vec![], vec![float("x", 2)], vec![float("y", 2)]);
    let misfit = encode(
        vec![node("MatMul", &["x", "w"], "y")],
        vec![constant("w", &[4, 2], &[0.0; 8])],
        vec![value("x", DataType::Float, &[Dim::Fixed(1), Dim::Fixed(3)])],
        vec![value("y", DataType::Float, &[Dim::Fixed(1), Dim::Fixed(2)])],
    );
    let models: [(&str, &[u8]); 4] = [
        ("text", b"this is not a model"),
        ("cut off", &whole[..whole.len() / 2]),
        ("unknown operator", &unknown),
        ("sizes that do not fit", &misfit),
    ];
    for (name, runtime) in runtimes() {
        for (case, model) in models {
            let error = open(&runtime, model).err().unwrap_or_else(|| panic!("{name} loads {case}"));
            assert!(matches!(error, OpenError::Model { .. }), "{name}, {case}: {error}");
        }
    }
}

#[test]
fn inputs_and_outputs_of_another_type_are_refused() {
    let kind = |name, kind| value(name, kind, &[Dim::Fixed(2)]);
    let cast = |to: DataType| {
        let mut cast = node("Cast", &["x"], "y");
        let attribute = AttributeProto { name: "to".to_owned(), i: to as i64, ..AttributeProto::default() };
        cast.attribute.push(AttributeProto { r#type: AttributeType::Int as i32, ..attribute });
        cast
    };
    let rows = [("x", DataType::Double, DataType::Float), ("y", DataType::Float, DataType::Int64)];
    for (name, runtime) in runtimes() {
        for (culprit, from, to) in rows {
            let model = encode(vec![cast(to)], vec![], vec![kind("x", from)], vec![kind("y", to)]);
            let error = open(&runtime, &model).err().unwrap_or_else(|| panic!("{name} takes {culprit}"));
            assert!(matches!(&error, OpenError::NotFloat { name, .. } if name == culprit), "{name}: {error}");
        }
    }
}

#[test]
fn a_provider_that_the_library_lacks_is_an_error_and_never_the_cpu() {
    let library = real_library();
    let offered = library::providers(&library).expect("the providers");
    assert!(offered.contains(&"CPUExecutionProvider".to_owned()), "{offered:?}");
    let lacking = [Provider::Cuda, Provider::Tensorrt, Provider::Openvino]
        .into_iter()
        .filter(|provider| !offered.iter().any(|name| name == provider.onnx_name()));
    for provider in lacking {
        let runtime = Runtime::OnnxRuntime(OnnxRuntime { provider, ..settings() });
        let opened = open(&runtime, &dense(Dim::Fixed(2))).err();
        for error in [opened, check(&runtime).err()] {
            let text = error.unwrap_or_else(|| panic!("{provider:?} runs without its provider")).to_string();
            let expected = format!(
                "use {0}: {1} offers only {2}; run this on the device itself, or set ELASTIC_ORT_LIBRARY to an \
                 ONNX Runtime library that was built with {0}",
                provider.onnx_name(),
                library.path.display(),
                offered.join(", ")
            );
            assert_eq!(text, expected, "{provider:?}");
        }
    }
}

#[test]
fn what_is_there_passes_the_check_and_says_its_version() {
    for (name, runtime) in runtimes() {
        check(&runtime).expect(name);
        let version = runtime_version(&runtime).expect(name);
        let prefix = if name == "tract" { "tract 0." } else { "ONNX Runtime 1." };
        assert!(version.starts_with(prefix), "{name}: {version}");
    }
}

#[test]
fn one_process_does_not_change_its_library() {
    let library = real_library();
    let (_, onnx_runtime) = &runtimes()[0];
    check(onnx_runtime).expect("the library loads");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("libonnxruntime.so");
    std::fs::copy(&library.path, &path).expect("copy the library");
    let found = library::providers(&Library { path, origin: library.origin });
    assert!(matches!(found, Err(LibraryError::AnotherLoaded { .. })), "{found:?}");
}

#[test]
fn what_tract_does_not_know_is_an_error_and_not_a_panic() {
    // An operator of ONNX Runtime's own, on which tract panics.
    let mut attention = node("Attention", &["x", "w", "b"], "y");
    attention.domain = "com.microsoft".to_owned();
    let heads = AttributeProto { name: "num_heads".to_owned(), i: 2, ..AttributeProto::default() };
    attention.attribute.push(AttributeProto { r#type: AttributeType::Int as i32, ..heads });
    let tokens = [Dim::Fixed(1), Dim::Fixed(3), Dim::Fixed(4)];
    let model = encode(
        vec![attention],
        vec![constant("w", &[4, 12], &[0.1; 48]), constant("b", &[12], &[0.0; 12])],
        vec![value("x", DataType::Float, &tokens)],
        vec![value("y", DataType::Float, &tokens)],
    );
    let [(_, onnx_runtime), (_, tract)] = runtimes();
    let outputs =
        open(&onnx_runtime, &model).expect("ONNX Runtime knows it").run(&[array(&[1, 3, 4], &[1.0; 12])]);
    assert_eq!(outputs.expect("it runs")[0].shape, [1, 3, 4]);
    let error = open(&tract, &model).err().expect("tract does not know it");
    assert!(matches!(error, OpenError::Model { .. }), "{error}");
}

#[test]
fn nodes_are_timed_on_the_provider_that_runs_them() {
    real_library();
    let (x, _) = rows(2);
    let settings = OnnxRuntime { optimization: Optimization::None, ..settings() };
    let model = dense(Dim::Fixed(2));
    let nodes = node_times(&settings, &model, std::slice::from_ref(&x), 9).expect("times");
    let operators: Vec<&str> = nodes.iter().map(|node| node.operator.as_str()).collect();
    assert_eq!(operators, ["MatMul", "Add", "Relu"], "{nodes:?}");
    for node in &nodes {
        assert_eq!(node.provider, Provider::Cpu.onnx_name(), "{node:?}");
        assert!(node.median_us >= 0.0, "{node:?}");
    }
    let error = node_times(&settings, &model, &[], 1).expect_err("no input").to_string();
    assert!(error.contains("takes 1 inputs, 0 were given"), "{error}");
}

#[test]
fn runners_take_inputs_of_every_type() {
    let array = array(&[2, 3], &[0.0, 1.0, 1.0, 0.0, 1.0, 0.0]);
    for (kind, element) in [
        (DataType::Float16, Element::Float16),
        (DataType::Float, Element::Float32),
        (DataType::Double, Element::Float64),
        (DataType::Int8, Element::Int8),
        (DataType::Int16, Element::Int16),
        (DataType::Int32, Element::Int32),
        (DataType::Int64, Element::Int64),
        (DataType::Uint8, Element::Uint8),
        (DataType::Uint16, Element::Uint16),
        (DataType::Uint32, Element::Uint32),
        (DataType::Uint64, Element::Uint64),
        (DataType::Bool, Element::Bool),
    ] {
        let shape = [Dim::Open("rows"), Dim::Fixed(3)];
        let model = encode(
            vec![node("Identity", &["x"], "y")],
            vec![],
            vec![value("x", kind, &shape)],
            vec![value("y", kind, &shape)],
        );
        for (name, runtime) in runtimes() {
            let context = format!("{name}, {element}");
            let mut runner = load(&runtime, &model).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(runner.inputs()[0].element, element, "{context}");
            assert!(matches!(runner.run(), Err(RunError::Inputs { expected: 1, found: 0 })), "{context}");
            let fed = runner.feed(std::slice::from_ref(&array));
            fed.unwrap_or_else(|error| panic!("{context}: {error}"));
            for _ in 0..2 {
                runner.run().unwrap_or_else(|error| panic!("{context}: {error}"));
            }
            let error = runner.feed(&[]).expect_err("no input").to_string();
            assert!(error.contains("takes 1 inputs, 0 were given"), "{context}: {error}");
        }
    }
}

#[test]
fn runners_take_no_texts() {
    let shape = [Dim::Fixed(3)];
    let model = encode(
        vec![node("Identity", &["x"], "y")],
        vec![],
        vec![value("x", DataType::String, &shape)],
        vec![value("y", DataType::String, &shape)],
    );
    for (name, runtime) in runtimes() {
        let error = load(&runtime, &model).err().unwrap_or_else(|| panic!("{name} takes it"));
        assert!(error.to_string().contains("input `x` is "), "{name}: {error}");
    }
}
