//! `elastic.yaml`: models, platforms and exports of one pipeline, its steps, and what is known of those that were done.

pub(crate) mod inputs;
pub(crate) mod options;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod state;
pub(crate) mod steps;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use elastic_space::file;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Map, json};

use crate::platforms::stem;
use options::{Options, Setting};

/// The only value of `schema` in a pipeline file.
pub(crate) const SCHEMA: &str = "elastic.pipeline/v1";

/// A pipeline: every model is trained, profiled on every platform, and exported for each.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Pipeline {
    /// The file format: `elastic.pipeline/v1`.
    pub(crate) schema: String,
    /// The folder that gets everything: runs/MODEL, profiles/MODEL/PLATFORM.json, exports/NAME, and state.json, which says
    /// what was made from what.
    pub(crate) out: PathBuf,
    /// What is done when the device of a platform is not there, is another one, or is slower than when it was profiled.
    pub(crate) on_device_error: OnDeviceError,
    /// Model files, relative to the working folder.
    pub(crate) models: Vec<PathBuf>,
    /// Platform files: looked for in the working folder, then in platforms/.
    #[serde(default)]
    pub(crate) platforms: Vec<String>,
    /// Options of `elastic train`, by the names of its flags.
    #[serde(default)]
    #[schemars(schema_with = "train_schema")]
    pub(crate) train: Options,
    /// Options of `elastic profile`, by the names of its flags.
    #[serde(default)]
    #[schemars(schema_with = "profile_schema")]
    pub(crate) profile: Options,
    /// What is exported, by a name of your own: it is the folder in exports/.
    pub(crate) exports: BTreeMap<String, Export>,
}

/// What is done when a platform cannot be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnDeviceError {
    /// The other platforms go on; if nothing else fails, the exit code at the end is that of the first device that did.
    Skip,
    /// Nothing more is done.
    Stop,
}

/// One kind of model to export.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Options")]
pub(crate) struct Export {
    /// Platforms to export for; none for a model that is chosen without one; `None` for all of the pipeline.
    pub(crate) platforms: Option<Vec<String>>,
    /// Models to export, by the names of their files; `None` for all of the pipeline.
    pub(crate) models: Option<Vec<String>>,
    /// Options of `elastic export`, by the names of its flags.
    pub(crate) options: Options,
}

impl Export {
    /// Whether one command chooses few models for all of its platforms, instead of one for each.
    pub(crate) fn is_fleet(&self) -> bool {
        self.options.get("shared") == Some(&Setting::Given(true)) || self.options.contains_key("at-most")
    }
}

impl TryFrom<Options> for Export {
    type Error = String;

    fn try_from(mut options: Options) -> Result<Self, String> {
        let mut list = |key: &str| match options.remove(key) {
            None => Ok(None),
            Some(Setting::Values(names)) => Ok(Some(names)),
            Some(Setting::Given(_)) => Err(format!("`{key}` is a list of names")),
        };
        let (platforms, models) = (list("platforms")?, list("models")?);
        Ok(Self { platforms, models, options })
    }
}

impl JsonSchema for Export {
    fn schema_name() -> Cow<'static, str> {
        "Export".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let list = |what: &str| json!({"type": "array", "items": {"type": "string"}, "description": what});
        let further = Map::from_iter([
            (
                "platforms".to_owned(),
                list(
                    "Platforms to export for, all of the pipeline if left out; [] for a model that is chosen without one.",
                ),
            ),
            (
                "models".to_owned(),
                list("Models to export, by the names of their files; all of the pipeline if left out."),
            ),
        ]);
        options::schema("export", further)
    }
}

fn train_schema(_: &mut SchemaGenerator) -> Schema {
    described("train", "Options of `elastic train`, by the names of its flags.")
}

fn profile_schema(_: &mut SchemaGenerator) -> Schema {
    described("profile", "Options of `elastic profile`, by the names of its flags.")
}

fn described(command: &str, what: &str) -> Schema {
    let mut schema = options::schema(command, Map::new());
    schema.insert("description".to_owned(), json!(what));
    schema
}

impl Pipeline {
    /// Reads a pipeline file and checks what can be checked before anything runs.
    ///
    /// # Errors
    ///
    /// What is wrong, with the file.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        if !path.exists() {
            bail!(
                "there is no pipeline file {}: name one, or write it by docs/guides/use-in-a-pipeline.md",
                path.display()
            );
        }
        let pipeline: Self = file::read_yaml(path)?;
        pipeline.validate().with_context(|| format!("read {}", path.display()))?;
        Ok(pipeline)
    }

    fn validate(&self) -> anyhow::Result<()> {
        if self.schema != SCHEMA {
            bail!("schema is `{}`: this version reads `{SCHEMA}`", self.schema);
        }
        if self.models.is_empty() {
            bail!("models is empty: name at least one model file");
        }
        let (models, platforms) = (self.model_names(), self.platform_names());
        distinct("models", &models)?;
        distinct("platforms", &platforms)?;
        for (command, options) in [("train", &self.train), ("profile", &self.profile)] {
            check(command, command, options)?;
        }
        for (name, export) in &self.exports {
            if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', ' ']) {
                bail!(
                    "exports.`{name}`: a name is not empty, does not begin with a dot and has no space, no `/` and no `\\`: \
                     it becomes a folder"
                );
            }
            check("export", &format!("exports.{name}"), &export.options)?;
            for (key, named, all) in
                [("platforms", &export.platforms, &platforms), ("models", &export.models, &models)]
            {
                let named = named.as_deref().unwrap_or_default();
                distinct(&format!("exports.{name}.{key}"), named)?;
                if let Some(other) = named.iter().find(|other| !all.contains(other)) {
                    bail!(
                        "exports.{name}.{key} has {other}, which is not among the pipeline's: {}",
                        all.join(", ")
                    );
                }
            }
        }
        Ok(())
    }

    /// The name of each model: the stem of its file.
    pub(crate) fn model_names(&self) -> Vec<String> {
        self.models.iter().map(|path| stem(path)).collect()
    }

    /// The name of each platform: the stem of its file.
    pub(crate) fn platform_names(&self) -> Vec<String> {
        self.platforms.iter().map(|path| stem(Path::new(path))).collect()
    }
}

/// Fails where a name is there twice: what is made for one would overwrite what is made for the other.
fn distinct(key: &str, names: &[String]) -> anyhow::Result<()> {
    match names.iter().enumerate().find(|(index, name)| names[..*index].contains(name)) {
        Some((_, name)) => bail!("{key} has {name} twice: give the files different names"),
        None => Ok(()),
    }
}

/// Fails where a key is no option of the command that a file may give.
fn check(command: &str, key: &str, options: &Options) -> anyhow::Result<()> {
    let known = options::known(command);
    let names: Vec<&str> = known.iter().filter_map(|argument| argument.get_long()).collect();
    match options.keys().find(|name| !names.contains(&&name[..])) {
        Some(name) => bail!(
            "{key} has the unknown option `{name}`: it takes the flags of `elastic {command}`: {}",
            names.join(", ")
        ),
        None => Ok(()),
    }
}
