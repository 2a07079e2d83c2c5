//! Platform files and profiles on disk.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use elastic_profiler::ProfileFile;
use elastic_space::platform::{OnnxRuntime, Runtime};
use elastic_space::{Limits, Platform, file};

use crate::runs::known;

/// The folder that is searched after the working folder.
const PLATFORMS: &str = "platforms";
/// The folder that `elastic profile` writes to.
pub(crate) const PROFILES: &str = "profiles";

/// A platform and its name: the stem of its file.
pub(crate) struct NamedPlatform {
    pub(crate) name: String,
    pub(crate) platform: Platform,
}

/// Reads a platform file: in the working folder, then in `platforms/`; `.yaml` may be left out.
pub(crate) fn read(given: &str) -> anyhow::Result<NamedPlatform> {
    let path = locate(given)?;
    let platform: Platform = file::read_yaml(&path)?;
    platform.validate().with_context(|| format!("read {}", path.display()))?;
    Ok(NamedPlatform { name: stem(&path), platform })
}

/// The profile of a platform, which the user may name by its platform file, or by the profile itself.
pub(crate) fn read_profile(given: &str) -> anyhow::Result<ProfileFile> {
    if given.ends_with(".json") {
        return Ok(ProfileFile::read(Path::new(given))?);
    }
    let name = stem(Path::new(given));
    let path = Path::new(PROFILES).join(format!("{name}.json"));
    if !path.exists() {
        bail!(
            "platform {name} has no profile ({} is missing): run: elastic profile --platform {name}.yaml",
            path.display()
        );
    }
    Ok(ProfileFile::read(&path)?)
}

/// What a platform allows a model: by its file as it is now, or by its profile where it has no file here.
pub(crate) fn limits(profile: &ProfileFile) -> anyhow::Result<Limits> {
    if locate(&profile.name).is_err() {
        return Ok(profile.platform.limits.clone());
    }
    Ok(read(&profile.name)?.platform.limits)
}

/// A platform file, and what it allows a model.
pub(crate) fn limits_of_file(given: &str) -> anyhow::Result<(PathBuf, Limits)> {
    Ok((locate(given)?, read(given)?.platform.limits))
}

/// The names of all platforms that have a profile, in order.
pub(crate) fn profiled() -> anyhow::Result<Vec<String>> {
    if !Path::new(PROFILES).is_dir() {
        bail!("there is no folder `{PROFILES}` here: run: elastic profile --platform host-1t.yaml");
    }
    let entries = std::fs::read_dir(PROFILES).with_context(|| format!("read {PROFILES}"))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| stem(&path))
        .collect();
    names.sort();
    if names.is_empty() {
        bail!("the folder `{PROFILES}` has no profile: run: elastic profile --platform host-1t.yaml");
    }
    Ok(names)
}

/// ONNX Runtime on the CPU with the given threads: what verification uses.
pub(crate) fn onnx_runtime_cpu(threads: usize) -> Runtime {
    Runtime::OnnxRuntime(OnnxRuntime::cpu(threads))
}

fn locate(given: &str) -> anyhow::Result<PathBuf> {
    let with_extension = if given.ends_with(".yaml") || given.ends_with(".yml") {
        given.to_owned()
    } else {
        format!("{given}.yaml")
    };
    let places = [PathBuf::from(&with_extension), Path::new(PLATFORMS).join(&with_extension)];
    match places.iter().find(|place| place.is_file()) {
        Some(place) => Ok(place.clone()),
        None => bail!(
            "there is no platform file {} or {}; {}",
            places[0].display(),
            places[1].display(),
            known(PLATFORMS)
        ),
    }
}

/// The name of a file without its ending.
pub(crate) fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
