//! The page beside an exported model.

mod common;

use common::Bench;

#[test]
fn an_exported_model_has_a_page() {
    let bench = Bench::finished();
    let flags = "--evaluations 12 --population 4 --out pages";
    for (command, parts, lacks) in [
        (
            "export --budget 12kflops --budget 1s --platform host-tract",
            &[
                "Accuracy against FLOPs",
                "Accuracy against predicted latency",
                "Hypervolume",
                "Forms and precisions",
            ][..],
            "Where the time goes",
        ),
        ("export --subnet smallest", &["left out"], "Hypervolume"),
    ] {
        let report = &bench.succeed_json(&format!("{command} {flags}"))[0];
        let file = report["file"].as_str().expect("a name").replace(".onnx", ".report.html");
        let page = String::from_utf8(bench.read(&format!("pages/{file}"))).expect("a page is text");
        let common = ["Exported model: tiny", "Architecture", "largest choice", "<svg", "Proof"];
        for part in common.iter().chain(parts) {
            assert!(page.contains(part), "{command}: `{part}` is missing");
        }
        assert!(!page.contains(lacks), "{command}: {lacks}");
        assert!(!page.contains("NaN") && !page.contains("inf"), "{command}: a number is none");
        for outside in ["http://", "https://", "<script", "<link"] {
            assert!(!page.contains(outside), "{command}: `{outside}` is in the page");
        }
    }
}
