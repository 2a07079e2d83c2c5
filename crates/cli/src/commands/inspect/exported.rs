//! `elastic inspect FILE.onnx`: what an exported file says of itself.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use elastic_exporter::{opsets, read_metadata};
use elastic_space::budget::Quantity;
use elastic_space::file;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::metadata::{KEYS, readable};
use crate::table::{self, Format};

/// What all our keys begin with.
const PREFIX: &str = "elastic.";

/// What is printed of a file.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::commands) struct FileReport {
    schema: &'static str,
    file: String,
    file_bytes: usize,
    sha256: String,
    /// The versions of the operators by their domain; the standard's is empty.
    opsets: BTreeMap<String, i64>,
    /// Every entry; where it is JSON, its content.
    metadata: BTreeMap<String, Value>,
}

/// Shows an ONNX file.
///
/// # Errors
///
/// A file that cannot be read, or is no ONNX model.
pub(super) fn show(path: &Path, format: Format) -> anyhow::Result<()> {
    let bytes = file::read(path)?;
    let no_model = || format!("{} is no ONNX model", path.display());
    let entries = read_metadata(&bytes).with_context(no_model)?;
    let opsets = opsets(&bytes).with_context(no_model)?;
    match format {
        Format::Json => {
            let parsed = |text: &String| serde_json::from_str(text).unwrap_or_else(|_| text.clone().into());
            table::print_json(&FileReport {
                schema: "elastic.inspected-file/v1",
                file: path.display().to_string(),
                file_bytes: bytes.len(),
                sha256: file::sha256(&bytes),
                opsets,
                metadata: entries.iter().map(|(key, text)| (key.clone(), parsed(text))).collect(),
            })
        }
        Format::Table => {
            let operators = |(domain, version): (&String, &i64)| match domain.as_str() {
                "" => format!("opset {version}"),
                domain => format!("{domain} {version}"),
            };
            let operators: Vec<String> = opsets.iter().map(operators).collect();
            println!(
                "{}: {}, {}\n",
                path.display(),
                Quantity::FileSize.format(bytes.len() as f64),
                operators.join(", ")
            );
            print(&entries);
            Ok(())
        }
    }
}

fn print(entries: &BTreeMap<String, String>) {
    let place = |key: &str| KEYS.iter().position(|known| *known == key).unwrap_or(KEYS.len());
    let mut keys: Vec<&String> = entries.keys().collect();
    keys.sort_by_key(|key| place(key));
    let row =
        |key: &String| vec![key.strip_prefix(PREFIX).unwrap_or(key).to_owned(), readable(&entries[key])];
    let rows: Vec<Vec<String>> = keys.into_iter().map(row).collect();
    if rows.is_empty() {
        println!("It has no metadata: `elastic export` writes them.");
    } else {
        table::print(&["metadata", "value"], &rows);
    }
}
