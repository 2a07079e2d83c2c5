//! The IDX format of the MNIST family: big-endian header, then unsigned bytes.
//!
//! A header is the magic `0x0800 + number of dimensions`, then one 32-bit size per dimension. Files
//! whose name ends in `.gz` are unpacked on the way.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use thiserror::Error;

/// The magic of unsigned bytes, without the number of dimensions.
const UNSIGNED_BYTES: u32 = 0x0800;

/// Sizes and values of one IDX file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idx {
    /// Size of each dimension.
    pub shape: Vec<usize>,
    /// The values, row-major; their number is the product of `shape`.
    pub values: Vec<u8>,
}

/// Why an IDX file could not be read.
#[derive(Debug, Error)]
pub enum IdxError {
    /// It could not be opened or read.
    #[error("read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The gzip stream ends early or is damaged.
    ///
    /// The cause's wording depends on how flate2 was built, so it is not part of the message.
    #[error("unpack {}: the gzip file is cut short or damaged: get it anew", path.display())]
    Gzip {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: io::Error,
    },
    /// Not the magic that belongs there.
    #[error(
        "{} begins with {found:#010x} where an IDX file of bytes in {dimensions} dimension(s) begins with \
         {:#010x}: it is another kind of file", path.display(), UNSIGNED_BYTES + dimensions
    )]
    Magic {
        /// The file.
        path: PathBuf,
        /// What stands there.
        found: u32,
        /// Dimensions that were asked for.
        dimensions: u32,
    },
    /// The header's sizes and the file's length disagree.
    #[error(
        "{} holds {found} bytes unpacked where its header asks for {expected}: it is cut short or damaged, get it \
         anew", path.display()
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes that the header asks for, header included.
        expected: u128,
        /// Bytes that there are.
        found: usize,
    },
}

/// Reads the content of a file, unpacked if its name ends in `.gz`.
///
/// # Errors
///
/// [`IdxError::Io`] or [`IdxError::Gzip`].
pub fn read_content(path: &Path) -> Result<Vec<u8>, IdxError> {
    let bytes = fs::read(path).map_err(|source| IdxError::Io { path: path.to_owned(), source })?;
    if path.extension().is_none_or(|extension| extension != "gz") {
        return Ok(bytes);
    }
    let mut content = Vec::new();
    GzDecoder::new(bytes.as_slice())
        .read_to_end(&mut content)
        .map_err(|reason| IdxError::Gzip { path: path.to_owned(), reason })?;
    Ok(content)
}

/// The file with `.gz` after its name if it is there, else the plain one, else nothing.
pub(crate) fn packed_or_plain(path: &Path) -> Option<PathBuf> {
    let mut packed = path.as_os_str().to_owned();
    packed.push(".gz");
    [packed.into(), path.to_owned()].into_iter().find(|path| path.exists())
}

/// Reads an IDX file of unsigned bytes with `dimensions` dimensions.
///
/// # Errors
///
/// [`IdxError`] with the path and what was expected.
pub fn read(path: &Path, dimensions: u32) -> Result<Idx, IdxError> {
    decode(read_content(path)?, dimensions, path)
}

/// The unpacked content of an IDX file.
///
/// # Panics
///
/// If a size is above `u32::MAX` or there are more than 255 sizes: the format has no place for it.
pub fn encode(idx: &Idx) -> Vec<u8> {
    let dimensions = u8::try_from(idx.shape.len()).expect("an IDX file has at most 255 dimensions");
    let mut bytes = (UNSIGNED_BYTES + u32::from(dimensions)).to_be_bytes().to_vec();
    for &size in &idx.shape {
        let size = u32::try_from(size).expect("a size in an IDX file has 32 bits");
        bytes.extend(size.to_be_bytes());
    }
    bytes.extend(&idx.values);
    bytes
}

/// Checks and takes apart the content of an IDX file; `path` is for the errors.
fn decode(content: Vec<u8>, dimensions: u32, path: &Path) -> Result<Idx, IdxError> {
    let header = 4 * (dimensions as usize + 1);
    let length = |expected| IdxError::Length { path: path.to_owned(), expected, found: content.len() };
    let word = |index: usize| content.get(4 * index..4 * index + 4).and_then(|bytes| bytes.try_into().ok());
    let found = u32::from_be_bytes(word(0).ok_or_else(|| length(header as u128))?);
    if found != UNSIGNED_BYTES + dimensions {
        return Err(IdxError::Magic { path: path.to_owned(), found, dimensions });
    }
    let shape: Vec<usize> = (1..=dimensions as usize)
        .map(|index| word(index).map(|bytes| u32::from_be_bytes(bytes) as usize))
        .collect::<Option<_>>()
        .ok_or_else(|| length(header as u128))?;
    let expected = shape.iter().fold(1_u128, |product, &size| product.saturating_mul(size as u128));
    if content.len() as u128 != expected.saturating_add(header as u128) {
        return Err(length(expected.saturating_add(header as u128)));
    }
    let mut values = content;
    values.drain(..header);
    Ok(Idx { shape, values })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_can_be_read(shape in prop::collection::vec(0_usize..6, 1..4), byte: u8) {
            let values = (0..shape.iter().product()).map(|i: usize| byte.wrapping_add(i as u8)).collect();
            let idx = Idx { shape, values };
            let read = decode(encode(&idx), idx.shape.len() as u32, Path::new("x"));
            prop_assert_eq!(read.expect("a whole file"), idx);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(idx) = decode(bytes.clone(), 3, Path::new("x")) {
                prop_assert_eq!(encode(&idx), bytes);
            }
        }
    }

    #[test]
    fn contents_that_are_refused() {
        let whole = encode(&Idx { shape: vec![2, 3, 4], values: vec![7; 24] });
        let huge = [0x0803, u32::MAX, u32::MAX, u32::MAX].map(u32::to_be_bytes).concat();
        for (content, message) in [
            (vec![], "x.gz holds 0 bytes unpacked where its header asks for 16"),
            (whole[..10].to_vec(), "x.gz holds 10 bytes unpacked where its header asks for 16"),
            (whole[..39].to_vec(), "x.gz holds 39 bytes unpacked where its header asks for 40"),
            ([&whole[..], &[0]].concat(), "x.gz holds 41 bytes unpacked where its header asks for 40"),
            (huge, "x.gz holds 16 bytes unpacked where its header asks for 79228162458924105385300197391"),
            (
                encode(&Idx { shape: vec![24], values: vec![7; 24] }),
                "x.gz begins with 0x00000801 where an IDX file of bytes in 3 dimension(s) begins with 0x00000803",
            ),
            (b"PNG?".to_vec(), "x.gz begins with 0x504e473f where an IDX file"),
        ] {
            let found = decode(content, 3, Path::new("x.gz")).expect_err(message).to_string();
            assert!(found.starts_with(message), "{found}\nexpected {message}");
        }
    }
}
