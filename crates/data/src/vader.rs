//! The movie snippets of VADER: short texts with the mean of what people say of their sentiment, made of a source package
//! of PyPI.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use elastic_space::Seed;
use elastic_space::file::{self, WriteError};
use flate2::read::GzDecoder;
use thiserror::Error;

use crate::examples::split_off;
use crate::fetch::{self, ExpectedFile, FetchError, Fetchable, Source};

const PACKAGE: &str = "vaderSentiment-3.3.2.tar.gz";
/// The archive inside the package, and the file inside that.
const ARCHIVE: &str = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz";
const SNIPPETS: &str = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt";
/// Texts that are kept apart, of each class alike.
const TEST: usize = 2000;
const VALIDATION: usize = 1000;
/// Chooses them.
const SEED: Seed = Seed(1);
/// The classes, by what a label is.
const CLASSES: [&str; 2] = ["negative", "positive"];
/// Says what the folder holds; written last.
const ABOUT: &str = "ABOUT.md";
const ABOUT_TEXT: &str = "\
# VADER movie snippets

Made by `elastic data fetch vader-movies` from the source package vaderSentiment 3.3.2 of PyPI (licence MIT, C.J. Hutto),
<https://github.com/cjhutto/vaderSentiment>: sentences of film reviews from rotten.tomatoes.com, collected by Bo Pang and Lillian
Lee, with the mean of 20 people's ratings. A text is positive or negative by the sign of the mean; those of mean 0 are left out.
The parts are drawn at random, of each class alike.

The folder `package` is not needed any more.
";

/// Why the movie snippets were not made.
#[derive(Debug, Error)]
pub enum VaderError {
    /// The package could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The package cannot be unpacked.
    #[error("unpack {inside} of {}: {source}", path.display())]
    Unpack {
        /// The package's file.
        path: PathBuf,
        /// The file inside.
        inside: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// A line is not as expected.
    #[error("read {SNIPPETS}: line {line} is no number, mean rating and text with tabs between")]
    Line {
        /// The line, from 1.
        line: usize,
    },
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Gets the movie snippets into `out`, as `train.tsv`, `validation.tsv` and `test.tsv` with the columns `text` and `label`;
/// does nothing if they are there. `progress` takes lines for people.
///
/// # Errors
///
/// [`VaderError`] with the file.
pub fn fetch_vader_movies(out: &Path, progress: &mut dyn FnMut(&str)) -> Result<(), VaderError> {
    let about = out.join(ABOUT);
    if std::fs::read(&about).is_ok_and(|text| text == ABOUT_TEXT.as_bytes()) {
        progress(&format!("vader-movies is complete in {}: nothing to do", out.display()));
        return Ok(());
    }
    let folder = out.join("package");
    fetch::fetch(&fetchable(), &folder, progress)?;
    let content = snippets(&folder.join(PACKAGE))?;
    let texts = labelled(&content)?;
    for (name, positions) in parts(&texts) {
        file::write(&out.join(format!("{name}.tsv")), &table(&texts, &positions))?;
    }
    file::write(&about, ABOUT_TEXT.as_bytes())?;
    progress(&format!(
        "vader-movies is in {}: {} texts, of which {TEST} are for the test",
        out.display(),
        texts.len()
    ));
    Ok(())
}

fn fetchable() -> Fetchable {
    let sha256 = "8353b65dcbd457582c31ffc575d48a0bd2bf0d49cb4aa4142dde6c18e3a3a996";
    Fetchable {
        name: "vader-movies".into(),
        files: vec![ExpectedFile { name: PACKAGE.into(), sha256: sha256.into() }],
        sources: vec![Source::PythonSource { package: "vaderSentiment==3.3.2".into() }],
    }
}

/// The file of the snippets.
fn snippets(package: &Path) -> Result<String, VaderError> {
    let fail = |inside| move |source| VaderError::Unpack { path: package.to_owned(), inside, source };
    let archive = File::open(package).and_then(|file| member(file, ARCHIVE)).map_err(fail(ARCHIVE))?;
    let content = member(archive.as_slice(), SNIPPETS).map_err(fail(SNIPPETS))?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

/// A file of a packed archive.
fn member(archive: impl Read, name: &str) -> io::Result<Vec<u8>> {
    for entry in tar::Archive::new(GzDecoder::new(archive)).entries()? {
        let mut entry = entry?;
        if entry.path()? == Path::new(name) {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            return Ok(content);
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "it is not there"))
}

/// The texts and their labels; those whose mean rating is 0 are left out.
fn labelled(content: &str) -> Result<Vec<(&str, u8)>, VaderError> {
    let mut texts = Vec::new();
    for (index, line) in content.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let mut fields = line.splitn(3, '\t').skip(1);
        let rating = fields.next().and_then(|rating| rating.trim().parse::<f64>().ok());
        let (Some(rating), Some(text)) = (rating, fields.next().map(str::trim)) else {
            return Err(VaderError::Line { line: index + 1 });
        };
        if rating != 0.0 && !text.is_empty() {
            texts.push((text, u8::from(rating > 0.0)));
        }
    }
    Ok(texts)
}

/// The positions of each part's texts.
fn parts(texts: &[(&str, u8)]) -> [(&'static str, Vec<usize>); 3] {
    let label = |&position: &usize| texts[position].1;
    let all: Vec<usize> = (0..texts.len()).collect();
    let apart = |from: &[usize], count: usize| {
        let labels: Vec<u8> = from.iter().map(label).collect();
        split_off(&labels, count, SEED)
            .map(|positions| positions.into_iter().map(|p| from[p]).collect::<Vec<_>>())
    };
    let [rest, test] = apart(&all, TEST);
    let [train, validation] = apart(&rest, VALIDATION);
    [("train", train), ("validation", validation), ("test", test)]
}

/// Texts and labels as TSV, with the columns' names.
fn table(texts: &[(&str, u8)], positions: &[usize]) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().delimiter(b'\t').from_writer(Vec::new());
    let rows = positions.iter().map(|&position| [texts[position].0, CLASSES[usize::from(texts[position].1)]]);
    for row in std::iter::once(["text", "label"]).chain(rows) {
        writer.write_record(row).expect("memory can be written");
    }
    writer.into_inner().expect("memory can be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_by_hand() {
        let content =
            "1\t2.26\tA \"good\" film\r\n2\t-0.05\tBad, \"very\r\n3\t0.0\tneither\n\n4\t1\ttabs\tin it\n";
        let texts = labelled(content).expect("it reads");
        assert_eq!(texts, [("A \"good\" film", 1), ("Bad, \"very", 0), ("tabs\tin it", 1)]);
        let expected = "text\tlabel\n\"tabs\tin it\"\tpositive\n\"A \"\"good\"\" film\"\tpositive\n";
        assert_eq!(table(&texts, &[2, 0]), expected.as_bytes());
        for content in ["1\t2.0\ta\n2\tmany\tb", "1\t2.0\ta\n2\t1.0"] {
            let error = labelled(content).expect_err(content).to_string();
            assert!(error.contains("line 2 is no number"), "{error}");
        }
    }

    #[test]
    fn parts_share_nothing_and_hold_each_class_alike() {
        let texts: Vec<(&str, u8)> = (0..10_000).map(|i| ("text", u8::from(i % 4 > 0))).collect();
        let parts = parts(&texts);
        let mut seen = vec![false; texts.len()];
        for (name, positions) in &parts {
            let positive = positions.iter().filter(|&&position| texts[position].1 == 1).count();
            assert_eq!(4 * positive, 3 * positions.len(), "{name}");
            for &position in positions {
                assert!(!std::mem::replace(&mut seen[position], true), "{name}: {position}");
            }
        }
        assert_eq!(parts.map(|(_, positions)| positions.len()), [7000, VALIDATION, TEST]);
        assert!(seen.into_iter().all(|seen| seen));
    }
}
