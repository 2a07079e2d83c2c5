//! From an image file to pixels of a given size.

use std::fs;
use std::io::{self, Cursor};
use std::path::Path;

use image::imageops::FilterType;
use image::{DynamicImage, GenericImageView, ImageDecoder, ImageError, ImageFormat, ImageReader};
use thiserror::Error;

use crate::augment::BACKGROUND;

/// Why a file gives no image.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// It cannot be opened or read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// Its content is something else, whatever its name says.
    #[error("it is no PNG, JPEG or WebP file")]
    Format,
    /// A JPEG file without an end.
    #[error("the JPEG file is cut short")]
    CutShort,
    /// The content is damaged.
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// The pixels of an image file, brought to a size.
///
/// The image is turned as its EXIF orientation says; what is transparent shows the background, 0; it keeps its
/// proportions: it is made as small or large as covers the size, with bilinear weights over all pixels that a new
/// one covers, and cut to its middle. Grey is the luma of BT.709.
///
/// # Shapes
///
/// `[channels, height, width]`, as in `size`; 1 channel is grey, 3 are red, green and blue.
///
/// # Errors
///
/// [`DecodeError`], without the path.
pub(super) fn decode(path: &Path, size: [usize; 3]) -> Result<Vec<u8>, DecodeError> {
    let [channels, height, width] = size.map(|value| value as u32);
    let content = fs::read(path)?;
    let format = image::guess_format(&content).map_err(|_| DecodeError::Format)?;
    if !matches!(format, ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP) {
        return Err(DecodeError::Format);
    }
    if format == ImageFormat::Jpeg && !jpeg_ends(&content) {
        return Err(DecodeError::CutShort);
    }
    let mut decoder = ImageReader::with_format(Cursor::new(&content), format).into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    let mut image = opaque(image);
    if image.dimensions() != (width, height) {
        image = image.resize_to_fill(width, height, FilterType::Triangle);
    }
    if channels == 1 {
        return Ok(image.into_luma8().into_raw());
    }
    let rgb = image.into_rgb8().into_raw();
    Ok((0..3).flat_map(|channel| rgb.iter().skip(channel).step_by(3)).copied().collect())
}

/// The image over the background.
fn opaque(image: DynamicImage) -> DynamicImage {
    const { assert!(BACKGROUND == 0, "only black needs no share of its own") };
    if !image.color().has_alpha() {
        return image;
    }
    let mut rgba = image.into_rgba8();
    for pixel in rgba.pixels_mut() {
        let alpha = u16::from(pixel[3]);
        for value in &mut pixel.0[..3] {
            *value = ((u16::from(*value) * alpha + 127) / 255) as u8;
        }
        pixel[3] = 255;
    }
    DynamicImage::ImageRgba8(rgba)
}

/// Whether the last scan of a JPEG file has an end: the decoder fills what is missing with grey and says nothing.
fn jpeg_ends(content: &[u8]) -> bool {
    // Neither marker occurs inside of a scan, whose bytes 0xff are followed by 0.
    let last = |marker: u8| content.windows(2).rposition(|pair| pair == [0xff, marker]);
    last(0xd9) > last(0xda)
}
