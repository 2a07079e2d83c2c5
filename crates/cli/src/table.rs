//! Results on standard output: a table for people or JSON for programs.

use clap::ValueEnum;
use prettytable::{Cell, Row, Table, format};
use schemars::{JsonSchema, Schema};
use serde::Serialize;

use crate::exit::WrongUsage;

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table for people.
    Table,
    /// One JSON value.
    Json,
}

/// How the command line asks for results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// A table for people.
    Table,
    /// One JSON value.
    Json,
    /// What github-action-benchmark reads.
    GithubBenchmark,
}

impl Output {
    /// The format of a command that knows only the first two.
    pub(crate) fn format(self) -> anyhow::Result<Format> {
        match self {
            Self::Table => Ok(Format::Table),
            Self::Json => Ok(Format::Json),
            Self::GithubBenchmark => {
                let problem =
                    "only `elastic profile --model` and `elastic profile compare` print github-benchmark";
                Err(WrongUsage(problem.to_owned()).into())
            }
        }
    }
}

/// One result as github-action-benchmark reads it (`customSmallerIsBetter`).
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Benchmark {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
    /// The value's uncertainty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) range: Option<String>,
    /// What else there is to say.
    pub(crate) extra: String,
}

/// Prints rows under titles.
pub(crate) fn print(titles: &[&str], rows: &[Vec<String>]) {
    let mut table = Table::new();
    table.set_format(*format::consts::FORMAT_CLEAN);
    table.set_titles(Row::new(titles.iter().map(|title| Cell::new(title)).collect()));
    for row in rows {
        table.add_row(Row::new(row.iter().map(|text| Cell::new(text)).collect()));
    }
    print!("{table}");
}

/// Prints one value as indented JSON; `elastic schema` has the schema of each.
///
/// # Errors
///
/// If the value cannot be written as JSON.
pub(crate) fn print_json<T: Serialize + JsonSchema>(value: &T) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Prints a schema.
///
/// # Errors
///
/// If the schema cannot be written as JSON.
pub(crate) fn print_schema(schema: &Schema) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(schema)?);
    Ok(())
}

/// An accuracy of 0 to 1 in percent.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}
