//! Accuracies of a run's subnets, answer by answer, that outlive the command that measured them.
//!
//! They are lines of a file in the run's folder. A search asks for them in place of a measurement and takes the same way as
//! without them, so that one that was killed and is run again ends as if nothing had happened, and sooner.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::bail;
use elastic_exporter::search::Margins;
use elastic_space::growing::{BadLine, GrowingFile, json_lines};
use elastic_space::{Array, Subnet, file};
use serde::{Deserialize, Serialize};

use crate::judge::Validation;
use crate::progress::Reporter;
use crate::runs::Run;

/// The only value of `schema` in a line.
const SCHEMA: &str = "elastic.accuracy/v2";

/// One line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Line {
    schema: String,
    key: Key,
    subnet: Subnet,
    /// Of each image; the share of those above zero is the accuracy. Of the first images alone where these were enough.
    margins: Margins,
}

/// What an accuracy depends on besides the subnet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Key {
    /// SHA-256 of the supernet.
    checkpoint: String,
    /// Validation images.
    images: usize,
    /// SHA-256 of what the network is given: the images and their labels, and those that calibrate its batch normalisation.
    data: String,
}

/// The accuracies of one supernet on some images.
pub(crate) struct Accuracies<'a> {
    path: PathBuf,
    key: Key,
    /// Of each subnet that was measured.
    margins: BTreeMap<Subnet, Margins>,
    /// None where nothing can be kept.
    file: Option<GrowingFile>,
    reporter: &'a Reporter,
}

impl<'a> Accuracies<'a> {
    /// What the run's file holds of these images. Where it cannot be written that is a warning: the search needs it no more
    /// than its time.
    ///
    /// # Errors
    ///
    /// The file is damaged, or cannot be read though it is there.
    pub(crate) fn open(run: &Run, validation: &Validation, reporter: &'a Reporter) -> anyhow::Result<Self> {
        let path = run.folder.accuracies();
        let key = Key {
            checkpoint: run.loaded.sha256.clone(),
            images: validation.labels.len(),
            data: digest(run, validation),
        };
        let margins = if path.exists() { read(&path, &key)? } else { BTreeMap::new() };
        let mut opened = Self { path: path.clone(), key, margins, file: None, reporter };
        match GrowingFile::share(path) {
            Ok(file) => opened.file = Some(file),
            Err(error) => opened.give_up(&error),
        }
        Ok(opened)
    }

    /// Where they are kept.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What a subnet answers, if it was measured: to the first images, or to all.
    pub(crate) fn get(&self, subnet: &Subnet) -> Option<&Margins> {
        self.margins.get(subnet)
    }

    /// Keeps what was measured.
    pub(crate) fn add(&mut self, subnet: &Subnet, margins: Margins) {
        let line = Line { schema: SCHEMA.to_owned(), key: self.key.clone(), subnet: subnet.clone(), margins };
        let text = serde_json::to_string(&line).expect("a line is plain data") + "\n";
        self.margins.insert(line.subnet, line.margins);
        if let Some(file) = &mut self.file
            && let Err(error) = file.append_alone(text.as_bytes())
        {
            self.file = None;
            self.give_up(&error);
        }
    }

    fn give_up(&self, error: &file::WriteError) {
        self.reporter.warn(&format!(
            "{error}; accuracies are not kept: should the export be ended and run again, they are measured again"
        ));
    }
}

fn read(path: &Path, key: &Key) -> anyhow::Result<BTreeMap<Subnet, Margins>> {
    const REMEDY: &str =
        "the file was changed or is from another version: remove it, and its accuracies are measured again";
    let fail = |BadLine { line, source }| {
        anyhow::anyhow!("read {}, line {line}: {source}; {REMEDY}", path.display())
    };
    let lines: Vec<Line> = json_lines(&file::read(path)?).map_err(fail)?;
    let mut margins: BTreeMap<Subnet, Margins> = BTreeMap::new();
    for (index, line) in lines.into_iter().enumerate() {
        let at = || format!("read {}, line {}", path.display(), index + 1);
        if line.schema != SCHEMA {
            bail!("{}: schema is `{}`, this version reads `{SCHEMA}`; {REMEDY}", at(), line.schema);
        }
        let examples = line.margins.examples();
        if examples > line.key.images {
            bail!("{}: {examples} margins for {} images; {REMEDY}", at(), line.key.images);
        }
        let has_more = |known: &Margins| known.examples() >= examples;
        if line.key == *key && !margins.get(&line.subnet).is_some_and(has_more) {
            margins.insert(line.subnet, line.margins);
        }
    }
    Ok(margins)
}

/// What the network is given, whatever files it came from.
fn digest(run: &Run, validation: &Validation) -> String {
    let of_array = |array: &Array| {
        let bytes: Vec<u8> = array.data.iter().flat_map(|value| value.to_le_bytes()).collect();
        format!("{:?} {}", array.shape, file::sha256(&bytes))
    };
    let calibration = run.loaded.supernet.calibration.as_ref().map(of_array);
    let labels = file::sha256(&validation.labels);
    let text = format!("{} {labels} {}", of_array(&validation.images), calibration.unwrap_or_default());
    file::sha256(text.as_bytes())
}
