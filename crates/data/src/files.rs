//! The files that a data set is made of.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::Source;
use crate::load::FILES;

impl Source {
    /// The files of a data set that are there, in the order of their paths: those for training, validation and test, and of
    /// texts the tokenizer. What the program itself keeps beside them, as decoded images, is not among them.
    ///
    /// # Errors
    ///
    /// A folder that cannot be listed.
    pub fn files(&self) -> io::Result<Vec<PathBuf>> {
        let mut files = match self {
            Self::Idx(folder) => {
                FILES.iter().flat_map(|name| [folder.join(name), folder.join(format!("{name}.gz"))]).collect()
            }
            Self::Cifar(cifar) => walk(&cifar.path)?
                .into_iter()
                .filter(|path| {
                    let name = path.to_string_lossy();
                    name.ends_with(".bin") || name.ends_with(".bin.gz")
                })
                .collect(),
            Self::Folders(folders) => {
                let mut files = Vec::new();
                for tree in ["train", "validation", "test"] {
                    files.extend(walk(&folders.path.join(tree))?);
                }
                files
            }
            Self::Csv(csv) => [Some(&csv.train), csv.validation.as_ref(), Some(&csv.test)]
                .into_iter()
                .flatten()
                .cloned()
                .collect(),
            Self::Texts(texts) => {
                [Some(&texts.train), texts.validation.as_ref(), Some(&texts.test), Some(&texts.tokenizer)]
                    .into_iter()
                    .flatten()
                    .cloned()
                    .collect()
            }
        };
        files.retain(|path| path.is_file());
        files.sort();
        Ok(files)
    }
}

/// Every file below a folder, none if it is not there; names that begin with a dot are left out.
fn walk(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if !folder.is_dir() {
        return Ok(files);
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let path = entry.path();
        if path.is_dir() { files.extend(walk(&path)?) } else { files.push(path) }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Cifar, CifarKind, Folders, OnCorrupt};

    #[test]
    fn only_what_belongs_to_the_data_set() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let path = folder.path();
        for name in [
            "README.md",
            "train-images-idx3-ubyte.gz",
            "t10k-labels-idx1-ubyte",
            "train.bin",
            "test.bin.gz",
            "train/cat/1.png",
            "test/cat/2.png",
            ".elastic-cache/train-3x8x8",
        ] {
            let file = path.join(name);
            fs::create_dir_all(file.parent().expect("it lies in the folder")).expect("folders can be made");
            fs::write(file, name).expect("files can be written");
        }
        let folders = Folders { path: path.to_owned(), on_corrupt: OnCorrupt::Fail };
        for (source, expected) in [
            (Source::Idx(path.to_owned()), &["t10k-labels-idx1-ubyte", "train-images-idx3-ubyte.gz"]),
            (
                Source::Cifar(Cifar { path: path.to_owned(), kind: CifarKind::Cifar100 }),
                &["test.bin.gz", "train.bin"],
            ),
            (Source::Folders(folders), &["test/cat/2.png", "train/cat/1.png"]),
        ] {
            let expected: Vec<PathBuf> = expected.iter().map(|name| path.join(name)).collect();
            assert_eq!(source.files().expect("the folder can be listed"), expected, "{source:?}");
        }
        let missing = Source::Idx(path.join("elsewhere"));
        assert_eq!(missing.files().expect("nothing is listed"), Vec::<PathBuf>::new());
    }
}
