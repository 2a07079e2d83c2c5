//! Which files a tree holds.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::FoldersError;

/// How the names of image files end, in any case.
pub(super) const ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// One image file.
pub(super) struct ImageFile {
    pub(super) path: PathBuf,
    pub(super) label: u8,
    /// Its name, size and time of change, in one line.
    pub(super) state: String,
}

/// The image files of a tree, by class and name.
pub(super) fn list(
    tree: &Path,
    names: &[String],
    say: &mut dyn FnMut(&str),
) -> Result<Vec<ImageFile>, FoldersError> {
    let mut files = Vec::new();
    let mut passed_over = Vec::new();
    for (class, folder) in subfolders(tree)? {
        let label = names
            .iter()
            .position(|name| *name == class)
            .ok_or_else(|| FoldersError::Unknown { folder: folder.clone(), known: names.to_vec() })?;
        for (name, path) in entries(&folder)? {
            if ending(&path).is_none() {
                passed_over.push(path);
                continue;
            }
            let fail = |source| FoldersError::List { path: path.clone(), source };
            let metadata = fs::metadata(&path).map_err(fail)?;
            let changed = metadata.modified().map_err(fail)?;
            let changed = changed.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
            let state = format!("{class}/{name} {} {changed}", metadata.len());
            let label = u8::try_from(label).expect("there are at most 256 classes");
            files.push(ImageFile { path, label, state });
        }
    }
    if let Some(first) = passed_over.first() {
        say(&format!(
            "passed over {} file(s) in {} whose names are not those of images, first {}",
            passed_over.len(),
            tree.display(),
            first.display()
        ));
    }
    Ok(files)
}

fn ending(path: &Path) -> Option<&'static str> {
    let ending = path.extension()?.to_str()?.to_lowercase();
    ENDINGS.into_iter().find(|known| *known == ending)
}

/// The folders in a tree, by name.
pub(super) fn subfolders(tree: &Path) -> Result<Vec<(String, PathBuf)>, FoldersError> {
    if !tree.is_dir() {
        return Err(FoldersError::Missing { tree: tree.to_owned() });
    }
    let mut folders = Vec::new();
    for (name, path) in entries(tree)? {
        let metadata =
            fs::metadata(&path).map_err(|source| FoldersError::List { path: path.clone(), source })?;
        if metadata.is_dir() {
            folders.push((name, path));
        }
    }
    Ok(folders)
}

/// What is in a folder, by name; what begins with a dot is hidden.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, FoldersError> {
    let fail = |source| FoldersError::List { path: folder.to_owned(), source };
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            entries.push((name, entry.path()));
        }
    }
    entries.sort();
    Ok(entries)
}
