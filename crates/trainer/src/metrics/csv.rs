//! The log as a table: one row a record, one column a number; a cell is empty where a record has no such
//! number.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::{IMAGES_TAG, Record, Spread, TRAIN_TAGS, named_tag, random_tag};

/// The columns that say which record a row is.
const KEYS: [&str; 3] = ["kind", "stage", "step"];
/// The columns of a run's table, which stay the same over all its stages.
#[derive(Debug)]
pub(super) struct Columns {
    tags: Vec<String>,
}

impl Columns {
    /// Those of a model with these named subnets.
    pub(super) fn new(names: BTreeSet<String>) -> Self {
        let mut tags: Vec<String> = TRAIN_TAGS.map(str::to_owned).to_vec();
        tags.push(IMAGES_TAG.to_owned());
        tags.extend(names.into_iter().map(|name| named_tag(&name)));
        tags.extend(Spread::NAMES.map(random_tag));
        Self { tags }
    }

    /// The header and a row for each record.
    pub(super) fn table(&self, records: &[Record]) -> Vec<u8> {
        let mut table = line(KEYS.into_iter().chain(self.tags.iter().map(String::as_str)));
        table.extend(records.iter().flat_map(|record| self.row(record)));
        table
    }

    /// The row of one record.
    pub(super) fn row(&self, record: &Record) -> Vec<u8> {
        let kind = match record {
            Record::Train { .. } => "train",
            Record::Validation { .. } => "validation",
        };
        let (step, scalars) = (record.step().to_string(), record.scalars());
        let value = |tag: &String| {
            let scalar = scalars.iter().find(|(name, _)| name == tag).and_then(|(_, value)| *value);
            scalar.map_or_else(String::new, |value| value.to_string())
        };
        let values: Vec<String> = self.tags.iter().map(value).collect();
        line([kind, record.stage(), &step].into_iter().chain(values.iter().map(String::as_str)))
    }
}

/// One line after [RFC 4180](https://www.rfc-editor.org/rfc/rfc4180), with a plain line feed at its end.
fn line<'a>(cells: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut line = cells.map(quoted).collect::<Vec<_>>().join(",");
    line.push('\n');
    line.into_bytes()
}

/// The cell, in quotes where it would be taken for several.
fn quoted(cell: &str) -> Cow<'_, str> {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\"")).into()
    } else {
        cell.into()
    }
}
