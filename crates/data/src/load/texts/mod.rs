//! Texts in CSV, TSV or JSONL files, as tokens.

mod rows;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::Value;
use thiserror::Error;
use tokenizers::{PostProcessor, Tokenizer, TruncationParams};

use super::Part;
use crate::config::{MOST_CLASSES, OnCorrupt, TextFiles};
use crate::idx::{self, IdxError};
use crate::texts::Texts;
use rows::Row;

pub use rows::Malformed;

/// How many malformed lines a message names.
const NAMED: usize = 5;

/// Why texts could not be read.
#[derive(Debug, Error)]
pub enum TextsError {
    /// A file cannot be read or unpacked.
    #[error(transparent)]
    Read(#[from] IdxError),
    /// There is no such file.
    #[error(
        "there is no file {}: get what models/bert-minilm.yaml asks for with `elastic data fetch vader-movies` and \
         `elastic data fetch minilm`, or name your own under data.texts", path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The name of the file does not say what it is.
    #[error("{} is no .csv, .tsv or .jsonl file, plain or .gz: texts come in these", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// A column is not there.
    #[error(
        "data.texts.{field} is the column `{column}`, but the first line of {} names {}",
        path.display(),
        if found.is_empty() { "none".to_owned() } else { found.join(", ") }
    )]
    Column {
        /// The file.
        path: PathBuf,
        /// The field's name in YAML.
        field: &'static str,
        /// The column that was asked for.
        column: String,
        /// The columns that are there.
        found: Vec<String>,
    },
    /// Lines give no labelled text.
    #[error(
        "{} of {rows} rows in {} cannot be used: {}; mend them, or leave such rows out by data.texts.on-malformed: skip",
        malformed.len(), path.display(), listed(malformed)
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Rows of the file.
        rows: usize,
        /// The lines, at least one.
        malformed: Vec<Malformed>,
    },
    /// There is no labelled text.
    #[error("{} holds no labelled text that can be used", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// More labels than a byte can tell apart.
    #[error(
        "{} has {found} different labels in the column `{column}`, at most {MOST_CLASSES} are possible: is it the right \
         column?", path.display()
    )]
    Classes {
        /// The file.
        path: PathBuf,
        /// Different labels.
        found: usize,
        /// The column.
        column: String,
    },
    /// The tokenizer cannot be used.
    #[error("data.texts.tokenizer {}: {reason}; give the tokenizer.json of Hugging Face's library", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The network's texts are shorter than what the tokenizer adds to one.
    #[error(
        "space.bert.length is {length}, but the tokenizer adds {added} tokens to each text: make it longer"
    )]
    TooShort {
        /// Tokens of the network's longest text.
        length: usize,
        /// Tokens that are added.
        added: usize,
    },
}

/// The different labels of the training texts, sorted: by value if all are whole numbers, else as texts.
pub(super) fn class_names(files: &TextFiles) -> Result<Vec<String>, TextsError> {
    let rows = rows::read(&files.train, files)?;
    let labels: BTreeSet<&str> = rows.iter().flatten().map(|row| row.label.as_str()).collect();
    if labels.len() > MOST_CLASSES {
        let (path, column) = (files.train.clone(), files.label.clone());
        return Err(TextsError::Classes { path, found: labels.len(), column });
    }
    let mut names: Vec<String> = labels.into_iter().map(str::to_owned).collect();
    if names.iter().all(|name| name.parse::<i64>().is_ok()) {
        names.sort_by_key(|name| name.parse::<i64>().ok());
    }
    Ok(names)
}

/// Reads the texts of a part; the network takes `length` tokens at most.
pub(super) fn read(
    files: &TextFiles,
    part: Part,
    names: &[String],
    length: usize,
    say: &mut dyn FnMut(&str),
) -> Result<Texts, TextsError> {
    let path = match part {
        Part::Train => &files.train,
        Part::Validation => files.validation.as_ref().expect("the caller knows that there is one"),
        Part::Test => &files.test,
    };
    let tokenizer = tokenizer(&files.tokenizer, length)?;
    let rows = rows::read(path, files)?;
    let count = rows.len();
    let labelled: Vec<Result<(Vec<u32>, u8), Malformed>> =
        rows.into_par_iter().map(|row| row.and_then(|row| prepared(&row, &tokenizer, names))).collect();
    let mut texts = Texts { tokens: Vec::new(), labels: Vec::new(), length, pad_to: files.pad_to };
    let mut malformed = Vec::new();
    for row in labelled {
        match row {
            Ok((tokens, label)) => {
                texts.tokens.push(tokens);
                texts.labels.push(label);
            }
            Err(line) => malformed.push(line),
        }
    }
    if !malformed.is_empty() {
        match files.on_malformed {
            OnCorrupt::Fail => {
                return Err(TextsError::Malformed { path: path.clone(), rows: count, malformed });
            }
            OnCorrupt::Skip => say(&format!(
                "left out {} of {count} rows in {} that cannot be used: {}",
                malformed.len(),
                path.display(),
                listed(&malformed)
            )),
        }
    }
    if texts.labels.is_empty() {
        return Err(TextsError::Empty { path: path.clone() });
    }
    Ok(texts)
}

/// The content of a file, unpacked.
fn content(path: &Path) -> Result<Vec<u8>, TextsError> {
    if !path.exists() {
        return Err(TextsError::Missing { path: path.to_owned() });
    }
    Ok(idx::read_content(path)?)
}

/// The tokenizer, which cuts texts to `length` tokens.
fn tokenizer(path: &Path, length: usize) -> Result<Tokenizer, TextsError> {
    let refused =
        |error: tokenizers::Error| TextsError::Tokenizer { path: path.to_owned(), reason: error.to_string() };
    let content = content(path)?;
    let mut tokenizer = Tokenizer::from_bytes(&content).map_err(refused)?;
    if let Some(token) = undescribed(&content) {
        let reason = format!("its post_processor names the token {token}, which its special_tokens lack");
        return Err(TextsError::Tokenizer { path: path.to_owned(), reason });
    }
    let added = tokenizer.get_post_processor().map_or(0, |around| around.added_tokens(false));
    if length <= added {
        return Err(TextsError::TooShort { length, added });
    }
    let cut = TruncationParams { max_length: length, ..TruncationParams::default() };
    tokenizer.with_padding(None).with_truncation(Some(cut)).map_err(refused)?;
    Ok(tokenizer)
}

/// A token that a template puts around texts without describing it: the library reads such a file and panics at the first text.
fn undescribed(content: &[u8]) -> Option<String> {
    let file: Value = serde_json::from_slice(content).ok()?;
    let processor = &file["post_processor"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let all = std::iter::once(processor.clone()).chain(list(&processor["processors"]));
    all.into_iter().find_map(|processor| {
        let pieces = list(&processor["single"]);
        let mut tokens = pieces.iter().filter_map(|piece| piece["SpecialToken"]["id"].as_str());
        tokens.find(|token| processor["special_tokens"].get(token).is_none()).map(str::to_owned)
    })
}

/// The tokens and the class of a row.
fn prepared(row: &Row, tokenizer: &Tokenizer, names: &[String]) -> Result<(Vec<u32>, u8), Malformed> {
    let malformed = |reason: String| Malformed { line: row.line, reason };
    let label = names.iter().position(|name| *name == row.label).ok_or_else(|| {
        malformed(format!("has the label `{}`, which is none of {}", row.label, names.join(", ")))
    })?;
    let encoded = tokenizer.encode_fast(row.text.as_str(), true);
    let encoded = encoded.map_err(|error| malformed(format!("cannot be cut into tokens: {error}")))?;
    match encoded.get_ids() {
        [] => Err(malformed("has no tokens".to_owned())),
        ids => Ok((ids.to_vec(), label as u8)),
    }
}

/// The first of some lines, each with its reason.
fn listed(malformed: &[Malformed]) -> String {
    let named =
        malformed.iter().take(NAMED).map(|Malformed { line, reason }| format!("line {line} {reason}"));
    let mut text = named.collect::<Vec<_>>().join("; ");
    if malformed.len() > NAMED {
        text += &format!("; and {} more", malformed.len() - NAMED);
    }
    text
}

#[cfg(test)]
mod tests;
