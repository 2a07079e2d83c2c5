//! Text files with one image a line: a label and its pixels between commas.

use std::path::{Path, PathBuf};
use std::str::Utf8Error;

use thiserror::Error;

use super::Part;
use crate::config::{Csv, LabelColumn};
use crate::idx::{self, IdxError};
use crate::images::Images;

/// Why a text file could not be read.
#[derive(Debug, Error)]
pub enum CsvError {
    /// It cannot be read or unpacked.
    #[error(transparent)]
    Read(#[from] IdxError),
    /// It is no text.
    #[error("{} is no text in UTF-8: {source}", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: Utf8Error,
    },
    /// It has no line with an image.
    #[error("{} holds no image: there is nothing to learn from", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The label's column cannot be found by name.
    #[error("data.csv.label is the column `{column}`, but the first line of {} names no such column", path.display())]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// The column that was asked for.
        column: String,
    },
    /// The file is of images of another size.
    #[error(
        "{} has {found} columns, but a label and the search space's input {input:?} (channels, height, width) are \
         {expected}: change the search space or the data", path.display()
    )]
    Columns {
        /// The file.
        path: PathBuf,
        /// Columns of the first line.
        found: usize,
        /// Columns that the network asks for.
        expected: usize,
        /// Channels, height and width of the network's input.
        input: [usize; 3],
    },
    /// A line is too short or too long.
    #[error("{} line {line} has {found} fields where the first line has {expected}: it is damaged", path.display())]
    Ragged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Its fields.
        found: usize,
        /// Fields of the first line.
        expected: usize,
    },
    /// A field is no byte.
    #[error("{} line {line} field {field} is `{value}`: labels and pixels are whole numbers from 0 to 255", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The field, from 1.
        field: usize,
        /// What stands there.
        value: String,
    },
    /// A label that is no class.
    #[error("label {label} in line {line} of {} is not below {classes}, the number of data.class-names", path.display())]
    Label {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What stands there.
        label: u8,
        /// Number of classes.
        classes: usize,
    },
}

/// Reads the images of a part and their labels.
pub(super) fn read(csv: &Csv, part: Part, classes: usize, input: [usize; 3]) -> Result<Images, CsvError> {
    let path = match part {
        Part::Train => &csv.train,
        Part::Validation => csv.validation.as_ref().expect("the caller knows that there is one"),
        Part::Test => &csv.test,
    };
    let content = idx::read_content(path)?;
    let text =
        std::str::from_utf8(&content).map_err(|source| CsvError::Text { path: path.clone(), source })?;
    parse(text, path, &csv.label, classes, input)
}

fn parse(
    text: &str,
    path: &Path,
    label: &LabelColumn,
    classes: usize,
    input: [usize; 3],
) -> Result<Images, CsvError> {
    let [channels, height, width] = input;
    let path = || path.to_owned();
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).peekable();
    let (_, first) = lines.peek().ok_or_else(|| CsvError::Empty { path: path() })?;
    let fields: Vec<&str> = fields(first).collect();
    let (columns, expected) = (fields.len(), 1 + channels * height * width);
    if columns != expected {
        return Err(CsvError::Columns { path: path(), found: columns, expected, input });
    }
    let label_field = match label {
        LabelColumn::First => 0,
        LabelColumn::Last => columns - 1,
        LabelColumn::Column(column) => fields
            .iter()
            .position(|field| field == column)
            .ok_or_else(|| CsvError::NoColumn { path: path(), column: column.clone() })?,
    };
    let first_label = fields[label_field];
    let named = matches!(label, LabelColumn::Column(_))
        || (!first_label.is_empty() && first_label.parse::<f64>().is_err());
    if named {
        lines.next();
    }
    let mut images = Images { channels, height, width, pixels: Vec::new(), labels: Vec::new() };
    for (position, text) in lines {
        let line = position + 1;
        let found = self::fields(text).count();
        if found != columns {
            return Err(CsvError::Ragged { path: path(), line, found, expected: columns });
        }
        for (field, text) in self::fields(text).enumerate() {
            let value = byte(text).ok_or_else(|| CsvError::Value {
                path: path(),
                line,
                field: field + 1,
                value: text.to_owned(),
            })?;
            if field != label_field {
                images.pixels.push(value);
            } else if usize::from(value) < classes {
                images.labels.push(value);
            } else {
                return Err(CsvError::Label { path: path(), line, label: value, classes });
            }
        }
    }
    if images.is_empty() {
        return Err(CsvError::Empty { path: path() });
    }
    Ok(images)
}

fn fields(line: &str) -> impl Iterator<Item = &str> {
    line.split(',').map(|field| field.trim().trim_matches('"'))
}

/// A whole number from 0 to 255, also as `7.0` or `7e0`.
fn byte(text: &str) -> Option<u8> {
    if let Ok(value) = text.parse() {
        return Some(value);
    }
    let value: f64 = text.parse().ok()?;
    (value.fract() == 0.0 && (0.0..=255.0).contains(&value)).then_some(value as u8)
}

#[cfg(test)]
mod tests;
