//! Sets of images by their content.

use elastic_data::Images;
use elastic_space::file;
use serde::Serialize;

/// A set of images.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Digest {
    pub(crate) images: usize,
    /// SHA-256 of the text `CHANNELSxHEIGHTxWIDTH PIXELS LABELS`, where the last two are the SHA-256 of the decoded pixels and
    /// of the labels.
    pub(crate) sha256: String,
}

/// The digest of images, however they were stored.
pub(crate) fn digest(images: &Images) -> Digest {
    let (pixels, labels) = (file::sha256(&images.pixels), file::sha256(&images.labels));
    let [channels, height, width] = images.size();
    let text = format!("{channels}x{height}x{width} {pixels} {labels}");
    Digest { images: images.len(), sha256: file::sha256(text.as_bytes()) }
}
