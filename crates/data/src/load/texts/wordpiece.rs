//! The tokenizer of BERT models, as a `tokenizer.json` of Hugging Face's library describes it.
//!
//! Of what such a file may hold this is the one kind that BERT uses: `BertNormalizer`, `BertPreTokenizer`, `WordPiece`, and
//! a template or `BertProcessing` around the text. Another kind is refused by its name. A special token that is written out in
//! a text is text like any other.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;
use serde::Deserialize;
use unicode_normalization::UnicodeNormalization;

/// A tokenizer that is ready to cut texts.
#[derive(Debug)]
pub(super) struct Tokenizer {
    normalizer: Normalizer,
    model: WordPiece,
    /// Ids before a text and after it.
    around: [Vec<u32>; 2],
    /// The most tokens of a text, those around it counted.
    length: usize,
}

/// The file.
#[derive(Deserialize)]
struct File {
    normalizer: NormalizerKind,
    #[serde(rename = "pre_tokenizer")]
    _pre_tokenizer: PreTokenizerKind,
    post_processor: PostProcessorKind,
    model: ModelKind,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum NormalizerKind {
    BertNormalizer(Normalizer),
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum PreTokenizerKind {
    BertPreTokenizer,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum PostProcessorKind {
    TemplateProcessing(Template),
    BertProcessing { sep: (String, u32), cls: (String, u32) },
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum ModelKind {
    WordPiece(WordPiece),
}

#[derive(Debug, Deserialize)]
struct Normalizer {
    clean_text: bool,
    handle_chinese_chars: bool,
    strip_accents: Option<bool>,
    lowercase: bool,
}

#[derive(Deserialize)]
struct Template {
    single: Vec<Piece>,
    special_tokens: HashMap<String, SpecialToken>,
}

#[derive(Deserialize)]
enum Piece {
    SpecialToken { id: String },
    Sequence {},
}

#[derive(Deserialize)]
struct SpecialToken {
    ids: Vec<u32>,
}

#[derive(Debug, Deserialize)]
struct WordPiece {
    unk_token: String,
    continuing_subword_prefix: String,
    max_input_chars_per_word: usize,
    vocab: HashMap<String, u32>,
}

/// Nothing to see: control characters, formats and what is private.
static OTHER: LazyLock<Regex> = LazyLock::new(|| class(r"^[\p{Cc}\p{Cf}\p{Co}]$"));
/// Accents that stand apart from their letter.
static MARK: LazyLock<Regex> = LazyLock::new(|| class(r"^\p{Mn}$"));
static PUNCTUATION: LazyLock<Regex> = LazyLock::new(|| class(r"^\p{P}$"));

impl Tokenizer {
    /// Reads a `tokenizer.json`; texts are cut to `length` tokens.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, or how many tokens are around each text if they leave it none.
    pub(super) fn new(content: &[u8], length: usize) -> Result<Self, Refusal> {
        let file: File = serde_json::from_slice(content).map_err(|error| Refusal::File(error.to_string()))?;
        let (NormalizerKind::BertNormalizer(normalizer), ModelKind::WordPiece(model)) =
            (file.normalizer, file.model);
        let around = match file.post_processor {
            PostProcessorKind::BertProcessing { sep, cls } => [vec![cls.1], vec![sep.1]],
            PostProcessorKind::TemplateProcessing(template) => template.around()?,
        };
        if !model.vocab.contains_key(&model.unk_token) {
            return Err(Refusal::File(format!("its vocabulary lacks the unknown token {}", model.unk_token)));
        }
        let added = around[0].len() + around[1].len();
        if length <= added {
            return Err(Refusal::TooShort { added });
        }
        Ok(Self { normalizer, model, around, length })
    }

    /// The ids of a text and of what is around it.
    pub(super) fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        for word in words(&self.normalizer.apply(text)) {
            self.model.cut(word, &mut ids);
        }
        let [before, after] = &self.around;
        ids.truncate(self.length - before.len() - after.len());
        [&before[..], &ids, after].concat()
    }
}

/// Why a tokenizer cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The file.
    File(String),
    /// The tokens around a text leave it none.
    TooShort {
        /// How many there are.
        added: usize,
    },
}

impl Template {
    fn around(&self) -> Result<[Vec<u32>; 2], Refusal> {
        let (mut around, mut side) = ([Vec::new(), Vec::new()], 0);
        for piece in &self.single {
            match piece {
                Piece::Sequence {} if side == 0 => side = 1,
                Piece::Sequence {} => return Err(Refusal::File("its template has a text twice".into())),
                Piece::SpecialToken { id } => match self.special_tokens.get(id) {
                    Some(token) => around[side].extend(&token.ids),
                    None => return Err(Refusal::File(format!("its template has the unknown token {id}"))),
                },
            }
        }
        if side == 0 { Err(Refusal::File("its template has no text".into())) } else { Ok(around) }
    }
}

impl Normalizer {
    fn apply(&self, text: &str) -> String {
        let mut text: String =
            if self.clean_text { text.chars().filter_map(cleaned).collect() } else { text.into() };
        if self.handle_chinese_chars {
            let apart = |c: char| if is_ideograph(c) { vec![' ', c, ' '] } else { vec![c] };
            text = text.chars().flat_map(apart).collect();
        }
        if self.strip_accents.unwrap_or(self.lowercase) && !text.is_ascii() {
            text = text.nfd().filter(|&c| !is(&MARK, c)).collect();
        }
        if self.lowercase {
            text = text.chars().flat_map(char::to_lowercase).collect();
        }
        text
    }
}

impl WordPiece {
    /// Appends the pieces of a word, always the longest that is there; of a word that cannot be cut so, the unknown token.
    fn cut(&self, word: &str, ids: &mut Vec<u32>) {
        let begin = ids.len();
        let mut rest = word;
        let mut piece = String::new();
        while !rest.is_empty() && word.chars().count() <= self.max_input_chars_per_word {
            let ends = rest.char_indices().map(|(at, c)| at + c.len_utf8()).rev();
            let longest = ends.into_iter().find_map(|end| {
                piece.clear();
                if rest.len() < word.len() {
                    piece.push_str(&self.continuing_subword_prefix);
                }
                piece.push_str(&rest[..end]);
                self.vocab.get(&piece).map(|&id| (end, id))
            });
            let Some((end, id)) = longest else { break };
            ids.push(id);
            rest = &rest[end..];
        }
        if !rest.is_empty() {
            ids.truncate(begin);
            ids.push(self.vocab[&self.unk_token]);
        }
    }
}

/// Words and single characters of punctuation.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(char::is_whitespace).flat_map(|word| {
        let mut parts = Vec::new();
        let mut begin = 0;
        for (at, c) in word.char_indices().filter(|&(_, c)| is_punctuation(c)) {
            parts.extend([&word[begin..at], &word[at..at + c.len_utf8()]]);
            begin = at + c.len_utf8();
        }
        parts.push(&word[begin..]);
        parts.into_iter().filter(|part| !part.is_empty())
    })
}

/// A character of a clean text: every kind of space is a space, and what cannot be seen is left out.
fn cleaned(c: char) -> Option<char> {
    match c {
        '\t' | '\n' | '\r' => Some(' '),
        '\0' | char::REPLACEMENT_CHARACTER => None,
        c if is(&OTHER, c) => None,
        c if c.is_whitespace() => Some(' '),
        c => Some(c),
    }
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || (!c.is_ascii() && is(&PUNCTUATION, c))
}

/// The ideographs of Chinese, Japanese and Korean, which are words of their own.
fn is_ideograph(c: char) -> bool {
    matches!(
        u32::from(c),
        0x4E00..=0x9FFF
            | 0x3400..=0x4DBF
            | 0x20000..=0x2A6DF
            | 0x2A700..=0x2B73F
            | 0x2B740..=0x2B81F
            | 0x2B920..=0x2CEAF
            | 0xF900..=0xFAFF
            | 0x2F800..=0x2FA1F
    )
}

fn class(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is sound")
}

fn is(class: &Regex, c: char) -> bool {
    class.is_match(c.encode_utf8(&mut [0; 4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Hugging Face's library says of some texts, with the part of all-MiniLM-L6-v2's tokenizer that they need; made by
    /// `tests/e2e/reference/minilm.py`.
    #[derive(Deserialize)]
    struct Reference {
        tokenizer: serde_json::Value,
        texts: Vec<(String, Vec<u32>)>,
    }

    fn reference() -> Reference {
        serde_json::from_str(include_str!("wordpiece.json")).expect("it is of this form")
    }

    fn tokenizer(file: &serde_json::Value, length: usize) -> Result<Tokenizer, Refusal> {
        Tokenizer::new(file.to_string().as_bytes(), length)
    }

    #[test]
    fn the_tokens_of_hugging_faces_library() {
        let Reference { tokenizer: file, texts } = reference();
        let tokenizer = tokenizer(&file, 128).expect("it is one of BERT's");
        assert!(texts.len() > 20, "{} texts", texts.len());
        for (text, expected) in texts {
            assert_eq!(tokenizer.encode(&text), expected, "{text:?}");
        }
    }

    #[test]
    fn files_that_are_refused() {
        type Change = fn(&mut serde_json::Value);
        let rows: [(&str, Change); 7] = [
            ("unknown variant `BPE`, expected `WordPiece`", |f| f["model"]["type"] = "BPE".into()),
            ("unknown variant `NFC`, expected `BertNormalizer`", |f| f["normalizer"]["type"] = "NFC".into()),
            ("unknown variant `Whitespace`, expected `BertPreTokenizer`", |f| {
                f["pre_tokenizer"]["type"] = "Whitespace".into();
            }),
            ("unknown variant `ByteLevel`, expected `TemplateProcessing` or `BertProcessing`", |f| {
                f["post_processor"]["type"] = "ByteLevel".into();
            }),
            ("its vocabulary lacks the unknown token [NO]", |f| f["model"]["unk_token"] = "[NO]".into()),
            ("its template has no text", |f| {
                f["post_processor"]["single"].as_array_mut().expect("a list").remove(1);
            }),
            ("its template has the unknown token [X]", |f| {
                f["post_processor"]["single"][0]["SpecialToken"]["id"] = "[X]".into();
            }),
        ];
        for (reason, change) in rows {
            let mut file = reference().tokenizer;
            change(&mut file);
            match tokenizer(&file, 9) {
                Err(Refusal::File(found)) => assert!(found.starts_with(reason), "{found}, expected {reason}"),
                other => panic!("{reason}: {other:?}"),
            }
        }
        let file = reference().tokenizer;
        assert_eq!(tokenizer(&file, 2).err(), Some(Refusal::TooShort { added: 2 }));
        let mut older = file.clone();
        older["post_processor"] =
            serde_json::json!({"type": "BertProcessing", "sep": ["[SEP]", 102], "cls": ["[CLS]", 101]});
        let encode = |file: &serde_json::Value| {
            tokenizer(file, 5).expect("it is one of BERT's").encode("A film. A film.")
        };
        assert_eq!(encode(&older), encode(&file));
    }
}
