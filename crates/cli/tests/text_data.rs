//! Labelled texts, from training to a verified model.

mod common;

use common::{Bench, require_library};

const MODEL: &str = "models/tiny.yaml";

/// The family and its data, in place of the tiny vision transformer's.
const SPACE_AND_DATA: &str = "  bert:
    vocabulary: 10
    length: 6
    segments: 2
    classes: 2
    head-dim: 4
    pooling: pooler
    embed-dim: [8, 16]
    depth: {choices: [1, 2], drop: prefix}
    heads: {choices: [1, 2], per: layer}
    mlp-width: {choices: [8, 16], per: layer}
data:
  texts:
    train: data/train.csv
    test: data/test.jsonl
    text: review
    label: verdict
    tokenizer: data/tokenizer.json
    pad-to: 2
    on-malformed: skip
  validation: 12
training:
";

const TOKENIZER: &str = r###"{
  "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
  "pre_tokenizer": {"type": "BertPreTokenizer"},
  "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
  "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
    "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "good": 4, "bad": 5, "film": 6, "a": 7, "very": 8, "!": 9}}
}"###;

/// A model of texts, whose verdict is a word among others.
fn bench() -> Bench {
    let bench = Bench::fresh();
    let model = String::from_utf8(bench.read(MODEL)).expect("YAML is text");
    let (before, rest) = model.split_once("  vit:\n").expect("the tiny model's space");
    let (_, training) = rest.split_once("training:\n").expect("the tiny model's recipe");
    let training = training.replace("  augmentation:\n    flip: false\n    crop-padding: 1\n", "");
    bench.write(MODEL, format!("{before}{SPACE_AND_DATA}{training}"));
    bench.write("data/tokenizer.json", TOKENIZER);
    let text = |position: usize| {
        let (word, verdict) = [("good", "yes"), ("bad", "no")][position % 2];
        let words = ["a", "very", "film", "!"];
        let others: Vec<&str> = (0..position % 4).map(|at| words[(position / 2 + at) % 4]).collect();
        (format!("{word} {}", others.join(" ")), verdict)
    };
    let rows = (0..60).map(text).map(|(text, verdict)| format!("\"{text}\",{verdict}\n"));
    bench.write("data/train.csv", format!("review,verdict\n{}only one field\n", rows.collect::<String>()));
    let lines = (0..20)
        .map(text)
        .map(|(text, verdict)| format!("{{\"verdict\": \"{verdict}\", \"review\": \"{text}\"}}\n"));
    bench.write("data/test.jsonl", lines.collect::<String>());
    bench
}

#[test]
fn from_texts_to_a_verified_model() {
    require_library();
    let bench = bench();
    let trained = bench.elastic("train --model models/tiny.yaml");
    assert_eq!(trained.code, Some(0), "{}", trained.stderr);
    for said in [
        "left out 1 of 61 rows in data/train.csv that cannot be used: line 62 has 1 fields where the first line has 2",
        "2 classes of 24 training texts each",
    ] {
        assert!(trained.stderr.contains(said), "{said}: {}", trained.stderr);
    }
    for batch in ["1", "dynamic", "4 --finetune 6"] {
        bench.succeed(&format!("export --budget 1mflops --evaluations 5 --population 4 --batch {batch}"));
        let proof = bench.succeed_json("verify exports/tiny-1mflops.onnx");
        assert_eq!(proof["test-images"], 20, "{proof}");
        assert_eq!(proof["agreement"].as_array().map(Vec::len), Some(2), "{proof}");
    }
    // Two runtimes, on texts of 6 tokens, of 3 and of 1.
    for flags in ["--batch 1", "--batch dynamic", "--precision int8-dynamic --max-accuracy-drop 100%"] {
        bench.succeed(&format!("export --subnet largest --sequence dynamic {flags} --out exports/any"));
        let proof = bench.succeed_json("verify exports/any/tiny-largest.onnx");
        assert_eq!(proof["agreement"].as_array().map(Vec::len), Some(6), "{flags}: {proof}");
    }
    let said =
        bench.succeed_json("inspect exports/tiny-1mflops.onnx")["metadata"]["elastic.preprocessing"].clone();
    assert_eq!((&said["length"], &said["layout"]), (&6.into(), &"batch, tokens".into()), "{said}");
    assert_eq!(said["tokenizer-sha256"], elastic_space::file::sha256(TOKENIZER.as_bytes()), "{said}");
    let config = String::from_utf8(bench.read("runs/tiny/config.yaml")).expect("YAML is text");
    assert!(config.contains("class-names:\n  - no\n  - yes\n"), "{config}");
    let model = bench.read("exports/tiny-1mflops.onnx");
    for part in ["input_ids", "attention_mask", "token_type_ids", "tokenizer.json", r#"["no","yes"]"#] {
        assert!(model.windows(part.len()).any(|bytes| bytes == part.as_bytes()), "the file has {part}");
    }
    bench.succeed("report");
}

#[test]
fn a_network_of_one_segment_is_profiled() {
    require_library();
    let bench = bench();
    bench.edit(MODEL, "    segments: 2\n", "    segments: 1\n");
    bench.succeed("train --model models/tiny.yaml");
    bench.succeed("profile --platform host-1t");
    let precisions = ["fp16", "int8-dynamic", "int8-static"];
    for precision in precisions {
        let flags = format!("--precision {precision} --max-accuracy-drop 100% --out exports/{precision}");
        let report =
            bench.succeed_json(&format!("export --subnet largest --platform host-1t {flags}"))[0].clone();
        assert_eq!(report["precision"], precision);
        assert!(report["fewer-bits"]["accuracy"].is_number(), "{report:#}");
        bench.succeed(&format!("verify exports/{precision}/tiny-host-1t-largest.onnx"));
    }
    let any = bench.succeed_json(
        "export --budget 1s --evaluations 3 --population 2 --platform host-1t --sequence dynamic",
    );
    assert!(any[0]["measured-latency-us"].is_number(), "{any:#}");
}

#[test]
fn data_of_another_kind_is_refused() {
    let bench = bench();
    bench.edit(MODEL, "    vocabulary: 10\n", "    vocabulary: 9\n");
    let small = bench.elastic("train --model models/tiny.yaml");
    let said = "data.texts.tokenizer gives token 9, but space.bert.vocabulary is 9: make it the number of the tokenizer's tokens";
    assert!(small.code == Some(1) && small.stderr.contains(said), "{}", small.stderr);
    let images = Bench::fresh();
    images.write("data/tokenizer.json", TOKENIZER);
    images.write("data/a.csv", "review,verdict\na film,left\ngood,top\nbad,centre\nvery,left\n");
    let texts = "  texts: {train: data/a.csv, test: data/a.csv, text: review, label: verdict, tokenizer: data/tokenizer.json, \
                 pad-to: 2, on-malformed: fail}\n  validation: 1\n";
    let data = "  idx: data/tiny\n  validation: 20\n  mean: [0.3]\n  std: [0.3]\n";
    images.edit(MODEL, data, texts);
    let refused = images.elastic("train --model models/tiny.yaml");
    let said =
        "data/a.csv is of texts, but the search space is of a family that reads images: change one of them";
    assert!(refused.code == Some(1) && refused.stderr.contains(said), "{}", refused.stderr);
}
