//! Results on standard output: a table for people or JSON for programs.

use clap::ValueEnum;
use prettytable::{Cell, Row, Table, format};
use serde::Serialize;

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table for people.
    Table,
    /// One JSON value.
    Json,
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

/// Prints one value as indented JSON.
///
/// # Errors
///
/// If the value cannot be written as JSON.
pub(crate) fn print_json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// An accuracy of 0 to 1 in percent.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}
