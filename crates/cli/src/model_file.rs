//! How a network is written to a file, and how the command line says it.

use std::fmt;
use std::str::FromStr;

use elastic_exporter::precision::{Precision, UnknownPrecision};
use elastic_exporter::{Form, Sequence, UnknownForm};
use thiserror::Error;

/// Inputs of one run of a model, as the command line and the metadata write it; `None` is dynamic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchSize(pub(crate) Option<usize>);

/// The form of a model, as the command line writes it; `None` is the fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FormChoice(pub(crate) Option<Form>);

/// The precision of a model, as the command line writes it; `None` is the fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PrecisionChoice(pub(crate) Option<Precision>);

/// How a network is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Writing {
    /// Inputs of one run; `None` is dynamic.
    pub(crate) batch: Option<usize>,
    pub(crate) sequence: Sequence,
    pub(crate) form: Form,
    pub(crate) opset: i64,
    pub(crate) precision: Precision,
}

impl Writing {
    /// The portable form in 32-bit floats.
    pub(crate) fn portable(batch: Option<usize>) -> Self {
        let (sequence, form) = (Sequence::Fixed, Form::Portable);
        Self { batch, sequence, form, opset: form.opset(), precision: Precision::Fp32 }
    }

    /// As a platform measures it: with the batch of its runs, and texts of full length.
    pub(crate) fn measured(self, batch: usize) -> Self {
        Self { batch: Some(batch), sequence: Sequence::Fixed, ..self }
    }
}

/// A text that is no batch.
#[derive(Debug, Error)]
#[error("batch `{text}` is neither `dynamic` nor a number of at least 1")]
pub(crate) struct InvalidBatch {
    text: String,
}

impl fmt::Display for BatchSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(size) => write!(f, "{size}"),
            None => f.write_str("dynamic"),
        }
    }
}

impl FromStr for BatchSize {
    type Err = InvalidBatch;

    fn from_str(text: &str) -> Result<Self, InvalidBatch> {
        match text {
            "dynamic" => Ok(Self(None)),
            number => match number.parse() {
                Ok(0) | Err(_) => Err(InvalidBatch { text: text.to_owned() }),
                Ok(size) => Ok(Self(Some(size))),
            },
        }
    }
}

impl FromStr for FormChoice {
    type Err = UnknownForm;

    fn from_str(text: &str) -> Result<Self, UnknownForm> {
        if text == "auto" { Ok(Self(None)) } else { Ok(Self(Some(text.parse()?))) }
    }
}

impl FromStr for PrecisionChoice {
    type Err = UnknownPrecision;

    fn from_str(text: &str) -> Result<Self, UnknownPrecision> {
        if text == "auto" { Ok(Self(None)) } else { Ok(Self(Some(text.parse()?))) }
    }
}
