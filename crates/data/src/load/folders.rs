//! Trees of image files with one folder a class.

mod files;

use std::fmt::Write;
use std::io;
use std::path::PathBuf;

use elastic_space::file;
use rayon::prelude::*;
use thiserror::Error;

use super::cache::{self, Decoded, Found};
use super::{Part, decode};
use crate::config::{Folders, MOST_CLASSES, OnCorrupt};
use crate::images::Images;
use files::{ENDINGS, ImageFile, list, subfolders};

/// Folder of the caches, beside the trees.
const CACHE: &str = ".elastic-cache";
/// Corrupt files that a message names.
const NAMED: usize = 3;
/// Raised when other pixels would come from the same files.
const VERSION: u32 = 1;

/// Why trees of images could not be read.
#[derive(Debug, Error)]
pub enum FoldersError {
    /// A tree is not there.
    #[error("there is no folder {}: data.folders.path is a folder with train/CLASS/FILE and test/CLASS/FILE", tree.display())]
    Missing {
        /// The tree.
        tree: PathBuf,
    },
    /// A folder cannot be listed, or an entry of it not looked at.
    #[error("read {}: {source}", path.display())]
    List {
        /// The folder or entry.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Too few or too many classes.
    #[error("{} holds {found} class folder(s): 2 to {MOST_CLASSES} are possible, one folder of images a class", tree.display())]
    Classes {
        /// The tree.
        tree: PathBuf,
        /// Folders in it.
        found: usize,
    },
    /// A class that is not known.
    #[error("{} is the folder of no known class: the training data or data.class-names has {}", folder.display(), known.join(", "))]
    Unknown {
        /// The class's folder.
        folder: PathBuf,
        /// The classes.
        known: Vec<String>,
    },
    /// A class without training images, or a tree without any.
    #[error("{} holds no image that can be used: files whose names end in {} are looked for", folder.display(), ENDINGS.join(", "))]
    Empty {
        /// The class's folder, or the tree.
        folder: PathBuf,
    },
    /// Files that cannot be decoded.
    #[error(
        "{} of {files} images in {} cannot be decoded: {}; repair or remove them, or set data.folders.on-corrupt to skip",
        corrupt.len(), tree.display(), listed(corrupt)
    )]
    Corrupt {
        /// The tree.
        tree: PathBuf,
        /// Its images.
        files: usize,
        /// Those that cannot be decoded.
        corrupt: Vec<Corrupt>,
    },
    /// Neither grey nor colour.
    #[error(
        "the search space's input has {channels} channels: images from folders have 1 (grey) or 3 (red, green, blue)"
    )]
    Channels {
        /// Channels of the network's input.
        channels: usize,
    },
}

/// A file that cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corrupt {
    /// The file.
    pub path: PathBuf,
    /// Why not.
    pub reason: String,
}

/// The tree of a part.
pub(super) fn tree(folders: &Folders, part: Part) -> PathBuf {
    folders.path.join(name(part))
}

fn name(part: Part) -> &'static str {
    match part {
        Part::Train => "train",
        Part::Validation => "validation",
        Part::Test => "test",
    }
}

/// The sorted names of the class folders to train with.
pub(super) fn class_names(folders: &Folders) -> Result<Vec<String>, FoldersError> {
    let tree = tree(folders, Part::Train);
    let names: Vec<String> = subfolders(&tree)?.into_iter().map(|(name, _)| name).collect();
    if !(2..=MOST_CLASSES).contains(&names.len()) {
        return Err(FoldersError::Classes { tree, found: names.len() });
    }
    Ok(names)
}

/// Reads the images of a part, of the size `[channels, height, width]`, and their labels.
pub(super) fn read(
    folders: &Folders,
    part: Part,
    names: &[String],
    size: [usize; 3],
    say: &mut dyn FnMut(&str),
) -> Result<Images, FoldersError> {
    let [channels, height, width] = size;
    if ![1, 3].contains(&channels) {
        return Err(FoldersError::Channels { channels });
    }
    let tree = tree(folders, part);
    let files = list(&tree, names, say)?;
    let decoded = decoded(folders, part, &files, size, say);
    if !decoded.corrupt.is_empty() {
        let corrupt: Vec<Corrupt> = decoded
            .corrupt
            .iter()
            .map(|(&position, reason)| Corrupt { path: files[position].path.clone(), reason: reason.clone() })
            .collect();
        match folders.on_corrupt {
            OnCorrupt::Fail => return Err(FoldersError::Corrupt { tree, files: files.len(), corrupt }),
            OnCorrupt::Skip => say(&format!(
                "left out {} of {} images in {} that cannot be decoded: {}",
                corrupt.len(),
                files.len(),
                tree.display(),
                listed(&corrupt)
            )),
        }
    }
    let labels: Vec<u8> = files
        .iter()
        .enumerate()
        .filter(|(position, _)| !decoded.corrupt.contains_key(position))
        .map(|(_, file)| file.label)
        .collect();
    if labels.is_empty() {
        return Err(FoldersError::Empty { folder: tree });
    }
    if part == Part::Train {
        let empty = (0..names.len()).find(|&class| labels.iter().all(|&label| usize::from(label) != class));
        if let Some(class) = empty {
            return Err(FoldersError::Empty { folder: tree.join(&names[class]) });
        }
    }
    Ok(Images { channels, height, width, pixels: decoded.pixels, labels })
}

/// The pixels of files: from the cache if it is of these files, else decoded and put there.
fn decoded(
    folders: &Folders,
    part: Part,
    files: &[ImageFile],
    size: [usize; 3],
    say: &mut dyn FnMut(&str),
) -> Decoded {
    let [channels, height, width] = size;
    let path = folders.path.join(CACHE).join(format!("{}-{channels}x{height}x{width}", name(part)));
    let states: Vec<&str> = files.iter().map(|file| file.state.as_str()).collect();
    let key = file::sha256(format!("{VERSION} {size:?}\n{}", states.join("\n")).as_bytes());
    match cache::read(&path, &key, files.len(), channels * height * width) {
        Found::Fresh(decoded) => return decoded,
        Found::Absent => {}
        Found::Stale => say(&format!("{} is of files that have changed: it is made anew", path.display())),
        Found::Damaged => say(&format!("{} is damaged: it is made anew", path.display())),
    }
    say(&format!("decoding {} images of {}", files.len(), tree(folders, part).display()));
    let images: Vec<Result<Vec<u8>, decode::DecodeError>> =
        files.par_iter().map(|file| decode::decode(&file.path, size)).collect();
    let mut decoded = Decoded { corrupt: Default::default(), pixels: Vec::new() };
    for (position, image) in images.into_iter().enumerate() {
        match image {
            Ok(pixels) => decoded.pixels.extend(pixels),
            Err(reason) => {
                decoded.corrupt.insert(position, reason.to_string());
            }
        }
    }
    if let Err(error) = cache::write(&path, &key, &decoded) {
        say(&format!("decoded images are not kept, the next command decodes them again: {error}"));
    }
    decoded
}

/// The first of some files, each with its reason.
fn listed(corrupt: &[Corrupt]) -> String {
    let mut text = corrupt
        .iter()
        .take(NAMED)
        .map(|Corrupt { path, reason }| format!("{}: {reason}", path.display()))
        .collect::<Vec<_>>()
        .join("; ");
    if corrupt.len() > NAMED {
        write!(text, "; and {} more", corrupt.len() - NAMED).expect("a text can be written to");
    }
    text
}

#[cfg(test)]
mod tests;
