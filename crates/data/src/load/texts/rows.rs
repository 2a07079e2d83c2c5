//! Rows of a text file: a text and its label, and where they stand.

use std::path::Path;

use csv::{ErrorKind, ReaderBuilder, StringRecord};
use serde_json::{Map, Value};

use super::TextsError;
use crate::config::TextFiles;

/// One labelled text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// The line on which it begins, from 1.
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) label: String,
}

/// A line that gives no labelled text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

/// All rows of a file, in its order.
pub(super) fn read(path: &Path, files: &TextFiles) -> Result<Vec<Result<Row, Malformed>>, TextsError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let content = || super::content(path);
    match name.rsplit('.').next() {
        Some("csv") => table(path, &content()?, b',', files),
        Some("tsv") => table(path, &content()?, b'\t', files),
        Some("jsonl") => Ok(objects(&content()?, files)),
        _ => Err(TextsError::Kind { path: path.to_owned() }),
    }
}

/// Rows of fields, the first of which names the columns.
fn table(
    path: &Path,
    content: &[u8],
    delimiter: u8,
    files: &TextFiles,
) -> Result<Vec<Result<Row, Malformed>>, TextsError> {
    let mut reader = ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(content);
    let names = reader.headers().cloned().unwrap_or_default();
    let column = |field: &'static str, column: &str| {
        names.iter().position(|name| name == column).ok_or_else(|| TextsError::Column {
            path: path.to_owned(),
            field,
            column: column.to_owned(),
            found: names.iter().map(str::to_owned).collect(),
        })
    };
    let (text, label) = (column("text", &files.text)?, column("label", &files.label)?);
    let row = |record: csv::Result<StringRecord>| {
        let record = record.map_err(|error| {
            let line = error.position().map_or(0, |position| position.line() as usize);
            let reason = match error.kind() {
                ErrorKind::Utf8 { .. } => "is no text in UTF-8".to_owned(),
                _ => error.to_string(),
            };
            Malformed { line, reason }
        })?;
        let line = record.position().map_or(0, |position| position.line() as usize);
        if record.len() != names.len() {
            let reason = format!("has {} fields where the first line has {}", record.len(), names.len());
            return Err(Malformed { line, reason });
        }
        checked(Row { line, text: record[text].to_owned(), label: record[label].trim().to_owned() })
    };
    Ok(reader.records().map(row).collect())
}

/// One JSON object a line.
fn objects(content: &[u8], files: &TextFiles) -> Vec<Result<Row, Malformed>> {
    let lines = content.split(|&byte| byte == b'\n').enumerate();
    let lines = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
    lines.map(|(index, line)| object(index + 1, line, files)).collect()
}

fn object(line: usize, content: &[u8], files: &TextFiles) -> Result<Row, Malformed> {
    let malformed = |reason: String| Malformed { line, reason };
    let object: Map<String, Value> = serde_json::from_slice(content)
        .map_err(|error| malformed(format!("is no object in JSON: {error}")))?;
    let value = |key: &str| object.get(key).ok_or_else(|| malformed(format!("has no `{key}`")));
    let text = match value(&files.text)? {
        Value::String(text) => text.clone(),
        other => return Err(malformed(format!("has {other} as `{}`, which is no text", files.text))),
    };
    let label = match value(&files.label)? {
        Value::String(label) => label.trim().to_owned(),
        label @ (Value::Number(_) | Value::Bool(_)) => label.to_string(),
        other => return Err(malformed(format!("has {other} as `{}`, which is no label", files.label))),
    };
    checked(Row { line, text, label })
}

fn checked(row: Row) -> Result<Row, Malformed> {
    let empty =
        [("text", row.text.trim()), ("label", &row.label)].into_iter().find(|(_, value)| value.is_empty());
    match empty {
        Some((what, _)) => Err(Malformed { line: row.line, reason: format!("has an empty {what}") }),
        None => Ok(row),
    }
}
