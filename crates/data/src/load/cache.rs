//! Decoded images on disk, so that they are decoded once: a line of JSON, the pixels, and the SHA-256 of both.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use elastic_space::file::{self, WriteError};
use serde::{Deserialize, Serialize};

/// Bytes of a SHA-256 in hexadecimal.
const DIGEST: usize = 64;

/// The images of some files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decoded {
    /// Files that give no image, by their position, and why.
    pub(super) corrupt: BTreeMap<usize, String>,
    /// The pixels of the others, in order.
    pub(super) pixels: Vec<u8>,
}

/// What was found in place of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// These files' images.
    Fresh(Decoded),
    /// Nothing.
    Absent,
    /// Images of other files, or of the same before they changed.
    Stale,
    /// Something else.
    Damaged,
}

/// The first line.
#[derive(Serialize, Deserialize)]
struct Header {
    key: String,
    corrupt: BTreeMap<usize, String>,
}

/// Reads a cache of `files` files; `key` tells them and their state, and `image` is the pixels of one.
pub(super) fn read(path: &Path, key: &str, files: usize, image: usize) -> Found {
    let content = match std::fs::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == ErrorKind::NotFound => return Found::Absent,
        Err(_) => return Found::Damaged,
    };
    decode(content, key, files, image)
}

/// Writes a cache.
///
/// # Errors
///
/// [`WriteError`] with the path.
pub(super) fn write(path: &Path, key: &str, decoded: &Decoded) -> Result<(), WriteError> {
    file::write(path, &encode(key, decoded))
}

fn encode(key: &str, decoded: &Decoded) -> Vec<u8> {
    let header = Header { key: key.to_owned(), corrupt: decoded.corrupt.clone() };
    let mut bytes = serde_json::to_vec(&header).expect("texts and numbers are JSON");
    bytes.push(b'\n');
    bytes.extend(&decoded.pixels);
    bytes.extend(file::sha256(&bytes).into_bytes());
    bytes
}

fn decode(mut content: Vec<u8>, key: &str, files: usize, image: usize) -> Found {
    let Some(end) = content.len().checked_sub(DIGEST) else { return Found::Damaged };
    if file::sha256(&content[..end]).as_bytes() != &content[end..] {
        return Found::Damaged;
    }
    let Some(line) = content.iter().position(|&byte| byte == b'\n') else { return Found::Damaged };
    let Ok(header) = serde_json::from_slice::<Header>(&content[..line]) else { return Found::Damaged };
    if header.key != key {
        return Found::Stale;
    }
    content.truncate(end);
    content.drain(..=line);
    if content.len() + header.corrupt.len() * image != files * image {
        return Found::Damaged;
    }
    Found::Fresh(Decoded { corrupt: header.corrupt, pixels: content })
}

#[cfg(test)]
mod tests;
