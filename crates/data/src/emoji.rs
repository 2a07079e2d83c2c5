//! The emoji set: a tree of colour images with one folder a category, made of two packages of npm.
//!
//! Two pictures of one emoji, Google's and Twitter's, always lie in the same part. Pictures that differ in the tone
//! of the skin alone are left out.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use elastic_space::file::{self, WriteError};
use flate2::read::GzDecoder;
use serde::Deserialize;
use thiserror::Error;

use crate::fetch::{self, ExpectedFile, FetchError, Fetchable, Source};

const VERSION: &str = "16.0.0";
/// The packages, and the SHA-256 of their files.
const PACKAGES: [(&str, &str); 2] = [
    ("google", "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438"),
    ("twitter", "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877"),
];
/// Of 20 emoji, how many go to each part.
const PARTS: [(&str, u8); 3] = [("train", 14), ("validation", 3), ("test", 3)];
/// Parts of other pictures, such as tones of skin.
const NO_PICTURES: &str = "Component";
/// Says what the folder holds; written last.
const ABOUT: &str = "ABOUT.md";
const ABOUT_TEXT: &str = "\
# Emoji

Made by `elastic data fetch emoji` from the npm packages emoji-datasource-google and emoji-datasource-twitter, version
16.0.0: one folder a category, 64 x 64 pixels, in three parts that share no emoji. The files are unchanged.

- google-*.png: Noto Emoji by Google, licence Apache-2.0, <https://github.com/googlefonts/noto-emoji>
- twitter-*.png: Twemoji by Twitter, Inc and other contributors, licence CC-BY-4.0,
  <https://creativecommons.org/licenses/by/4.0/>
- the packages: Cal Henderson, licence MIT, <https://github.com/iamcal/emoji-data>

The folder `packages` is not needed any more.
";

/// Why the emoji set was not made.
#[derive(Debug, Error)]
pub enum EmojiError {
    /// A package could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A package cannot be unpacked.
    #[error("unpack {}: {source}", path.display())]
    Unpack {
        /// The package's file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The list of emoji is not as expected.
    #[error("read emoji.json of {}: {source}", path.display())]
    List {
        /// The package's file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// The destination could not be written.
    #[error("write {}: {source}", path.display())]
    Place {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// An entry of `emoji.json`.
#[derive(Debug, Deserialize)]
struct Emoji {
    /// Code points in hexadecimal, with `-` between them.
    unified: String,
    /// Name of the picture's file.
    image: String,
    category: String,
}

/// The files of a package that are needed: `emoji.json` and the pictures, by name.
type Package = BTreeMap<String, Vec<u8>>;

/// Gets the emoji set into `out`, as `train/CATEGORY/*.png`, `validation/..` and `test/..`; does nothing if it is
/// there. `progress` takes lines for people.
///
/// # Errors
///
/// [`EmojiError`] with the file.
pub fn fetch_emoji(out: &Path, progress: &mut dyn FnMut(&str)) -> Result<(), EmojiError> {
    let about = out.join(ABOUT);
    if fs::read(&about).is_ok_and(|text| text == ABOUT_TEXT.as_bytes()) {
        progress(&format!("emoji is complete in {}: nothing to do", out.display()));
        return Ok(());
    }
    let packages = out.join("packages");
    fetch::fetch(&fetchable(), &packages, progress)?;
    let place = |path: &Path, source| EmojiError::Place { path: path.to_owned(), source };
    let temporary =
        tempfile::Builder::new().prefix(".elastic-").tempdir_in(out).map_err(|source| place(out, source))?;
    let mut pictures = 0;
    for (set, _) in PACKAGES {
        let path = packages.join(package_file(set));
        let package = unpack(&path, set)?;
        pictures += lay_out(&package, &path, set, temporary.path())?;
    }
    for (part, _) in PARTS {
        let target = out.join(part);
        if target.exists() {
            fs::remove_dir_all(&target).map_err(|source| place(&target, source))?;
        }
        fs::rename(temporary.path().join(part), &target).map_err(|source| place(&target, source))?;
    }
    file::write(&about, ABOUT_TEXT.as_bytes())?;
    progress(&format!("emoji is in {}: {pictures} pictures; licences in {}", out.display(), about.display()));
    Ok(())
}

fn package_file(set: &str) -> String {
    format!("emoji-datasource-{set}-{VERSION}.tgz")
}

fn fetchable() -> Fetchable {
    let file =
        |(set, sha256): (&str, &str)| ExpectedFile { name: package_file(set), sha256: sha256.to_owned() };
    let package = |(set, _): (&str, &str)| format!("emoji-datasource-{set}@{VERSION}");
    Fetchable {
        name: "emoji".into(),
        files: PACKAGES.map(file).into(),
        sources: vec![Source::NpmPackages { packages: PACKAGES.map(package).into() }],
    }
}

/// The list of emoji and the pictures of 64 x 64 pixels.
fn unpack(path: &Path, set: &str) -> Result<Package, EmojiError> {
    let fail = |source| EmojiError::Unpack { path: path.to_owned(), source };
    let mut archive = tar::Archive::new(GzDecoder::new(File::open(path).map_err(fail)?));
    let folder = PathBuf::from(format!("package/img/{set}/64"));
    let mut package = Package::new();
    for entry in archive.entries().map_err(fail)? {
        let mut entry = entry.map_err(fail)?;
        let name = entry.path().map_err(fail)?.into_owned();
        let wanted = name.parent() == Some(&folder) || name == Path::new("package/emoji.json");
        if let (true, Some(name)) = (wanted, name.file_name()) {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).map_err(fail)?;
            package.insert(name.to_string_lossy().into_owned(), content);
        }
    }
    Ok(package)
}

/// Writes the pictures of a package, each into the folder of its part and category; returns how many.
fn lay_out(package: &Package, path: &Path, set: &str, out: &Path) -> Result<usize, EmojiError> {
    let list = package.get("emoji.json").map_or(&[][..], Vec::as_slice);
    let emoji: Vec<Emoji> =
        serde_json::from_slice(list).map_err(|source| EmojiError::List { path: path.to_owned(), source })?;
    let mut pictures = 0;
    for emoji in emoji.iter().filter(|emoji| emoji.category != NO_PICTURES) {
        let Some(picture) = package.get(&emoji.image) else { continue };
        let folder = out.join(part(&emoji.unified)).join(folder_name(&emoji.category));
        let path = folder.join(format!("{set}-{}", emoji.image));
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&path, picture))
            .map_err(|source| EmojiError::Place { path, source })?;
        pictures += 1;
    }
    Ok(pictures)
}

/// The part of an emoji, by its code points alone.
fn part(unified: &str) -> &'static str {
    let digest = file::sha256(unified.as_bytes());
    let number = u64::from_str_radix(&digest[..15], 16).expect("a SHA-256 is hexadecimal");
    let mut place = (number % 20) as u8;
    for (part, share) in PARTS {
        if place < share {
            return part;
        }
        place -= share;
    }
    unreachable!("the shares add up to 20")
}

/// `Animals & Nature` as `animals-nature`.
fn folder_name(category: &str) -> String {
    let words = category.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_pictures_of_an_emoji_lie_in_one_part() {
        let list = r#"[{"unified": "1F600", "image": "1f600.png", "category": "Smileys & Emotion"},
                       {"unified": "1F3FB", "image": "1f3fb.png", "category": "Component"},
                       {"unified": "1F34E", "image": "1f34e.png", "category": "Food & Drink"}]"#;
        let package: Package =
            [("emoji.json", list), ("1f600.png", "a"), ("1f3fb.png", "b"), ("1f34e.png", "c")]
                .map(|(name, content)| (name.to_owned(), content.as_bytes().to_vec()))
                .into();
        let out = tempfile::tempdir().expect("a temporary folder");
        for set in ["google", "twitter"] {
            let written = lay_out(&package, Path::new("x.tgz"), set, out.path()).expect("a good package");
            assert_eq!(written, 2, "a component is no picture");
        }
        for (unified, file, category) in
            [("1F600", "1f600.png", "smileys-emotion"), ("1F34E", "1f34e.png", "food-drink")]
        {
            let folder = out.path().join(part(unified)).join(category);
            for set in ["google", "twitter"] {
                assert!(
                    folder.join(format!("{set}-{file}")).exists(),
                    "{set} {file} in {}",
                    folder.display()
                );
            }
        }
    }

    #[test]
    fn parts_have_their_shares() {
        let mut counts = BTreeMap::new();
        for code in 0x1F000..0x1F800 {
            *counts.entry(part(&format!("{code:X}"))).or_insert(0) += 1;
        }
        for (part, share) in PARTS {
            let expected = 2048 * i32::from(share) / 20;
            assert!((counts[part] - expected).abs() < 60, "{part}: {counts:?}");
        }
    }
}
