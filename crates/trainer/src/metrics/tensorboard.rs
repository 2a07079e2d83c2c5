//! The log as a TensorBoard event file: TFRecord frames that each hold one protobuf `Event`.
//!
//! The messages are the few fields of
//! [event.proto](https://github.com/tensorflow/tensorboard/blob/master/tensorboard/compat/proto/event.proto)
//! and [summary.proto](https://github.com/tensorflow/tensorboard/blob/master/tensorboard/compat/proto/summary.proto)
//! that scalars need; the framing is that of
//! [TFRecord](https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details).

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use elastic_space::file::{self, WriteError};
use elastic_space::growing::GrowingFile;
use prost::Message;

use super::Record;

/// How the name of an event file begins: TensorBoard knows it by that.
pub(super) const PREFIX: &str = "events.out.tfevents.";
/// The version that the first event of a file tells.
const VERSION: &str = "brain.Event:2";
/// Added to a checksum of a frame, so that the checksum of data with checksums in it stays good.
const MASK: u32 = 0xa282_ead8;

/// What an event file consists of; `file_version` and `summary` are one of the two.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub(super) wall_time: f64,
    #[prost(int64, tag = "2")]
    pub(super) step: i64,
    #[prost(string, optional, tag = "3")]
    pub(super) file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    pub(super) summary: Option<Summary>,
}

/// The numbers of a step.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub(super) value: Vec<Value>,
}

/// One number of a step.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Value {
    #[prost(string, tag = "1")]
    pub(super) tag: String,
    /// Optional, so that a 0 is written too.
    #[prost(float, optional, tag = "2")]
    pub(super) simple_value: Option<f32>,
}

/// Begins the event file of a run that goes on from `step` with the records so far, and removes those
/// from before: they hold records that are written again.
///
/// The step is in the name, so that a TensorBoard that is open takes the new file for one that follows.
///
/// # Errors
///
/// [`WriteError`] if a file cannot be written or removed.
pub(super) fn begin(folder: &Path, step: u64, records: &[Record]) -> Result<GrowingFile, WriteError> {
    let name = format!("{PREFIX}{step:010}.elastic");
    let version = Event { wall_time: now(), file_version: Some(VERSION.to_owned()), ..Event::default() };
    let mut content = frame(&version.encode_to_vec());
    content.extend(records.iter().flat_map(event));
    let file = GrowingFile::begin(folder.join(&name), &content)?;
    file::remove_unfinished(folder)?;
    let fail = |path: &Path, source| WriteError { path: path.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(|source| fail(folder, source))? {
        let entry = entry.map_err(|source| fail(folder, source))?;
        let other = entry.file_name().to_string_lossy().into_owned();
        if other.starts_with(PREFIX) && other != name {
            std::fs::remove_file(entry.path()).map_err(|source| fail(&entry.path(), source))?;
        }
    }
    Ok(file)
}

/// The frame of one record; its time is now.
pub(super) fn event(record: &Record) -> Vec<u8> {
    let scalars = record.scalars().into_iter();
    let mut value: Vec<Value> =
        scalars.filter_map(|(tag, value)| Some(Value { tag, simple_value: Some(value? as f32) })).collect();
    if let (Record::Train { .. }, Some(number)) = (record, stage_number(record.stage())) {
        value.push(Value { tag: "train/stage".to_owned(), simple_value: Some(number) });
    }
    let event = Event {
        wall_time: now(),
        step: record.step() as i64,
        file_version: None,
        summary: Some(Summary { value }),
    };
    frame(&event.encode_to_vec())
}

/// The number that a stage's name begins with.
fn stage_number(stage: &str) -> Option<f32> {
    stage.split('-').next()?.parse().ok()
}

/// Length, checksum of the length, data, checksum of the data.
fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &checksum(&length), data, &checksum(data)].concat()
}

/// The masked CRC-32C of a frame's part.
pub(super) fn checksum(part: &[u8]) -> [u8; 4] {
    crc32c::crc32c(part).rotate_right(15).wrapping_add(MASK).to_le_bytes()
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}
