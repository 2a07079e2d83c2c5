use std::fs;
use std::path::Path;

use elastic_space::Seed;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::config::{DataConfig, OnCorrupt, Source, TextFiles};
use crate::examples::Examples;
use crate::load::{load_test, load_training};
use crate::texts::Texts;

/// Words 5 to 8 of ten tokens; `[CLS]` and `[SEP]` are added.
const TOKENIZER: &str = r###"{
  "version": "1.0", "truncation": null, "padding": {"strategy": {"Fixed": 9}, "direction": "Right",
    "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}, "added_tokens": [],
  "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
    "lowercase": true},
  "pre_tokenizer": {"type": "BertPreTokenizer"},
  "post_processor": {"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
      {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
      "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}},
  "decoder": null,
  "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
    "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, ",": 4, "good": 5, "bad": 6, "film": 7, "##s": 8, "cafe": 9}}
}"###;

/// Five rows: a quoted field with a comma and a line break, an accent, a word in two pieces, a word that is not known.
const CSV: &str = "id,text,label\n1,\"Good, \nfilm\",pos\n2,BAD films,neg\n3,café,pos\n4,zzz,neg\n5,good good good good good,pos\n";

struct Case {
    folder: TempDir,
    files: TextFiles,
}

impl Case {
    fn new(name: &str, content: &[u8]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("tokenizer.json"), TOKENIZER).expect("it can be written");
        fs::write(path(name), content).expect("it can be written");
        let files = TextFiles {
            train: path(name),
            validation: Some(path(name)),
            test: path(name),
            text: "text".into(),
            label: "label".into(),
            tokenizer: path("tokenizer.json"),
            pad_to: 4,
            on_malformed: OnCorrupt::Fail,
        };
        Self { folder, files }
    }

    fn replace_in_tokenizer(&self, from: &str, to: &str) {
        fs::write(&self.files.tokenizer, TOKENIZER.replace(from, to)).expect("it can be written");
    }

    fn config(&self) -> DataConfig {
        DataConfig {
            source: Source::Texts(self.files.clone()),
            validation: None,
            mean: Vec::new(),
            std: Vec::new(),
            class_names: Vec::new(),
        }
    }

    /// The test texts for networks of at most `length` tokens, what was said, and the error without the folder.
    fn load(&self, length: usize) -> (Result<Texts, String>, Vec<String>) {
        let folder = format!("{}/", self.folder.path().display());
        let mut lines = Vec::new();
        let found =
            load_test(&self.config(), [3, 1, length], &mut |line| lines.push(line.replace(&folder, "")));
        let found = found.map_err(|error| error.to_string().replace(&folder, ""));
        let texts = found.map(|examples| match examples {
            Examples::Texts(texts) => texts,
            Examples::Images(_) => panic!("texts"),
        });
        (texts, lines)
    }
}

#[test]
fn the_same_texts_in_every_format() {
    let expected = [&[2, 5, 4, 7, 3][..], &[2, 6, 7, 8, 3], &[2, 9, 3], &[2, 1, 3], &[2, 5, 5, 5, 5, 3]]
        .map(<[u32]>::to_vec);
    let tsv = "text\tlabel\n\"Good, \nfilm\"\tpos\nBAD films\tneg\ncafé\tpos\nzzz\tneg\ngood good good good good\tpos\n";
    let jsonl = "{\"text\": \"Good, \\nfilm\", \"label\": \"pos\"}\n\n{\"label\": \"neg\", \"text\": \"BAD films\", \"more\": 1}\n\
                 {\"text\": \"café\", \"label\": \"pos\"}\n{\"text\": \"zzz\", \"label\": \"neg\"}\n\
                 {\"text\": \"good good good good good\", \"label\": \"pos\"}";
    for (name, content) in [("a.csv", CSV), ("a.TSV", tsv), ("a.jsonl", jsonl)] {
        let texts = Case::new(name, content.as_bytes()).load(6).0.expect(name);
        assert_eq!((texts.tokens, texts.labels), (expected.to_vec(), vec![1, 0, 1, 0, 1]), "{name}");
        assert_eq!((texts.length, texts.pad_to), (6, 4), "{name}");
    }
}

#[test]
fn classes_are_the_sorted_labels_and_validation_may_be_split_off() {
    for (labels, expected) in [(["b", "a", "c"], ["a", "b", "c"]), (["10", "9", "-1"], ["-1", "9", "10"])] {
        let rows: String = labels.iter().map(|label| format!("good,{label}\nbad,{label}\n")).collect();
        let mut case = Case::new("a.csv", format!("text,label\n{rows}").as_bytes());
        case.files.validation = None;
        let config = DataConfig { validation: Some(3), ..case.config() };
        let loaded =
            load_training(&config, [3, 1, 6], Seed(1), &mut |line| panic!("{line}")).expect("it reads");
        assert_eq!(loaded.config.class_names, expected);
        assert_eq!((loaded.splits.train.len(), loaded.splits.validation.len()), (3, 3));
        let mut labels = loaded.splits.validation.labels().to_vec();
        labels.sort_unstable();
        assert_eq!(labels, [0, 1, 2], "of each class alike");
    }
}

#[test]
fn long_texts_are_cut_before_the_last_token() {
    let texts = Case::new("a.csv", CSV.as_bytes()).load(4).0.expect("it reads");
    assert_eq!(texts.tokens[4], [2, 5, 5, 3]);
    assert_eq!(texts.tokens[0], [2, 5, 4, 3]);
}

#[test]
fn malformed_rows_are_named_and_skipped_by_choice() {
    let csv = b"text,label\ngood,pos\nbad\nbad,pos,3\n ,pos\n\xff\xfe,pos\ngood,\nbad,neg\n";
    let jsonl =
        b"{\"text\": \"good\", \"label\": 1}\n{\"text\": 3, \"label\": 1}\n[1]\n{\"text\": \"good\"}\n\
                  {\"text\": \"good\", \"label\": null}\n{\"text\": \"bad\", \"label\": 0}\n";
    let rows: [(&str, &[u8], &str, &[u8]); 2] = [
        (
            "a.csv",
            csv,
            "5 of 7 rows in a.csv cannot be used: line 3 has 1 fields where the first line has 2; line 4 has 3 fields where \
             the first line has 2; line 5 has an empty text; line 6 is no text in UTF-8; line 7 has an empty label",
            &[1, 0],
        ),
        (
            "a.jsonl",
            jsonl,
            "4 of 6 rows in a.jsonl cannot be used: line 2 has 3 as `text`, which is no text; line 3 is no object in JSON: \
             invalid type: sequence, expected a map at line 1 column 0; line 4 has no `label`; line 5 has null as `label`, \
             which is no label",
            &[1, 0],
        ),
    ];
    for (name, content, message, labels) in rows {
        let mut case = Case::new(name, content);
        let remedy = "; mend them, or leave such rows out by data.texts.on-malformed: skip";
        assert_eq!(case.load(6).0, Err(format!("{message}{remedy}")));
        case.files.on_malformed = OnCorrupt::Skip;
        let (texts, lines) = case.load(6);
        assert_eq!(texts.map(|texts| texts.labels), Ok(labels.to_vec()), "{name}");
        let said = message.replace("cannot be used", "that cannot be used");
        assert!(lines.iter().any(|line| *line == format!("left out {said}")), "{lines:?}");
    }
}

#[test]
fn what_is_refused() {
    type Change = fn(&mut Case);
    let rows: [(&str, usize, Change); 10] = [
        (
            "data.texts.text is the column `words`, but the first line of a.csv names id, text, label",
            6,
            |c| {
                c.files.text = "words".into();
            },
        ),
        (
            "data.texts.label is the column `class`, but the first line of a.csv names id, text, label",
            6,
            |c| {
                c.files.label = "class".into();
            },
        ),
        ("a.txt is no .csv, .tsv or .jsonl file, plain or .gz: texts come in these", 6, |c| {
            let path = c.folder.path().join("a.txt");
            c.files.train = path.clone();
            c.files.test = path;
        }),
        ("space.bert.length is 2, but the tokenizer adds 2 tokens to each text: make it longer", 2, |_| {}),
        (
            "data.texts.tokenizer a.csv: expected value at line 1 column 1; give the tokenizer.json of Hugging Face's library",
            6,
            |c| c.files.tokenizer = c.files.train.clone(),
        ),
        (
            "1 of 5 rows in a.csv cannot be used: line 6 cannot be cut into tokens: WordPiece error: Missing [UNK] token",
            6,
            |c| c.replace_in_tokenizer("[UNK]\": 1", "[NO]\": 1"),
        ),
        ("data.texts.tokenizer tokenizer.json: its post_processor names the token [CLS], which", 6, |c| {
            c.replace_in_tokenizer("\"special_tokens\": {\"[CLS]\"", "\"special_tokens\": {\"[X]\"");
        }),
        ("a.csv holds no labelled text that can be used", 6, |c| {
            fs::write(&c.files.train, "text,label\n").expect("it can be written");
        }),
        ("data.texts.pad-to is 0: it must be at least 1", 6, |c| c.files.pad_to = 0),
        (
            "there is no file none.csv: get what models/bert-minilm.yaml asks for with `elastic data fetch \
             vader-movies` and `elastic data fetch minilm`, or name your own under data.texts",
            6,
            |c| c.files.train = c.folder.path().join("none.csv"),
        ),
    ];
    for (expected, length, change) in rows {
        let mut case = Case::new("a.csv", CSV.as_bytes());
        change(&mut case);
        let found = case.load(length).0.expect_err(expected);
        assert!(found.starts_with(expected), "{found}, expected {expected}");
    }
}

/// What Hugging Face's library in Python says of some texts, with the part of all-MiniLM-L6-v2's tokenizer that they need; made
/// by `tests/e2e/reference/minilm.py`.
#[derive(serde::Deserialize)]
struct Reference {
    tokenizer: Value,
    texts: Vec<(String, Vec<u32>)>,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("reference.json")).expect("it is of this form")
}

/// The ids of a text by a tokenizer of this content.
fn encode(content: &Value, text: &str, length: usize) -> Vec<u32> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), content.to_string()).expect("it can be written");
    let tokenizer = super::tokenizer(Path::new(file.path()), length).expect("it can be used");
    tokenizer.encode_fast(text, true).expect("it can be cut").get_ids().to_vec()
}

#[test]
fn the_tokens_of_hugging_faces_library_in_python() {
    let Reference { tokenizer, texts } = reference();
    assert!(texts.len() > 20, "{} texts", texts.len());
    for (text, expected) in texts {
        assert_eq!(encode(&tokenizer, &text, 128), expected, "{text:?}");
    }
}

#[test]
fn tokenizers_of_every_kind() {
    let text = "A film. A film.";
    let mut older = reference().tokenizer;
    let newer = encode(&older, text, 5);
    older["post_processor"] = json!({"type": "BertProcessing", "sep": ["[SEP]", 102], "cls": ["[CLS]", 101]});
    assert_eq!(encode(&older, text, 5), newer, "BertProcessing");
    let pairs = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null, "decoder": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "merges": ["a b", "ab c"],
            "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4, "Ġ": 5}}
    });
    assert_eq!(encode(&pairs, "abc ab cab", 9), [4, 5, 3, 5, 2, 3], "BPE");
    let likely = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null, "decoder": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null,
        "model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -2.0], ["b", -2.0], ["ab", -3.0]]}
    });
    assert_eq!(encode(&likely, "ab ba x", 9), [3, 2, 1, 0], "Unigram");
}
