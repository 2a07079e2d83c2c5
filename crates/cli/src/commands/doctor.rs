//! `elastic doctor`

use std::path::Path;

use clap::Args;
use elastic_profiler::Host;
use elastic_runtime::library::{self, Candidate, Origin, PINNED_VERSION};
use schemars::JsonSchema;
use serde::Serialize;

use crate::table::{self, Format};

/// Show what this machine offers and how to get what is missing.
#[derive(Debug, Args)]
pub(crate) struct Doctor {}

/// One thing that was looked for.
#[derive(Serialize, JsonSchema)]
pub(super) struct Finding {
    thing: &'static str,
    found: bool,
    detail: String,
    /// The one command that gets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'static str>,
}

const INSTALL: &str = "elastic runtime install";

impl Doctor {
    pub(crate) fn run(self, format: Format) -> anyhow::Result<()> {
        let mut findings = library_findings();
        findings.push(tract());
        findings.extend(host());
        findings.push(data_set(
            "data: bundled",
            "data/fashion-mnist-small",
            "git checkout -- data/fashion-mnist-small",
        ));
        findings.push(data_set("data: full", "data/fashion-mnist", "elastic data fetch fashion-mnist"));
        findings.push(folder("models", "models/vit-fashion.yaml"));
        findings.push(folder("platforms", "platforms/host-1t.yaml"));
        match format {
            Format::Json => table::print_json(&findings),
            Format::Table => {
                print(&findings);
                Ok(())
            }
        }
    }
}

fn library_findings() -> Vec<Finding> {
    let missing = |thing, detail: String| Finding { thing, found: false, detail, remedy: Some(INSTALL) };
    let found = |thing, detail: String| Finding { thing, found: true, detail, remedy: None };
    let mut findings = match library::find() {
        Ok(file) => {
            let name = found("ONNX Runtime", format!("{} ({})", file.path.display(), origin(file.origin)));
            let version = match library::version(&file) {
                Ok(version) if version == PINNED_VERSION => found("  version", version),
                Ok(version) => {
                    found("  version", format!("{version} (elastic is tested with {PINNED_VERSION})"))
                }
                Err(error) => missing("  version", error.to_string()),
            };
            let providers = match library::providers(&file) {
                Ok(providers) => found("  providers", providers.join(", ")),
                Err(error) => missing("  providers", error.to_string()),
            };
            vec![name, version, providers]
        }
        Err(error) => vec![missing("ONNX Runtime", error.to_string())],
    };
    let places: Vec<String> = library::candidates().iter().map(place).collect();
    findings.push(found("  looked in", places.join("; ")));
    findings
}

fn place(candidate: &Candidate) -> String {
    let state = if candidate.present { "found" } else { "none" };
    format!("{} ({}): {state}", candidate.path.display(), origin(candidate.origin))
}

fn origin(origin: Origin) -> String {
    match origin {
        Origin::Variable(name) => name.to_owned(),
        Origin::Cache => "your cache folder".into(),
        Origin::Executable => "beside the program".into(),
        Origin::System => "system library".into(),
    }
}

fn tract() -> Finding {
    let runtime = elastic_space::platform::Runtime::Tract(Default::default());
    let detail = elastic_runtime::runtime_version(&runtime).unwrap_or_else(|error| error.to_string());
    Finding { thing: "tract", found: true, detail: format!("{detail} (built in)"), remedy: None }
}

fn host() -> Vec<Finding> {
    let host = Host::here();
    let finding = |thing, detail: String| Finding { thing, found: true, detail, remedy: None };
    let models = if host.models.is_empty() { "unnamed".to_owned() } else { host.models.join(", ") };
    vec![
        finding("processor", format!("{models} ({}, {})", host.arch, host.os)),
        finding("threads", host.threads.to_string()),
    ]
}

fn data_set(thing: &'static str, path: &'static str, remedy: &'static str) -> Finding {
    let found = elastic_data::load::FILES.iter().all(|file| {
        let folder = Path::new(path);
        folder.join(file).exists() || folder.join(format!("{file}.gz")).exists()
    });
    let detail = if found { path.to_owned() } else { format!("{path} is missing or incomplete") };
    Finding { thing, found, detail, remedy: (!found).then_some(remedy) }
}

fn folder(thing: &'static str, path: &'static str) -> Finding {
    let found = Path::new(path).exists();
    let detail =
        if found { path.to_owned() } else { format!("{path} is missing: this is not the project's folder") };
    Finding { thing, found, detail, remedy: (!found).then_some("cd to the folder of the repository") }
}

fn print(findings: &[Finding]) {
    let rows: Vec<Vec<String>> = findings
        .iter()
        .map(|finding| {
            let mark = if finding.found { "ok" } else { "missing" };
            vec![finding.thing.to_owned(), mark.to_owned(), finding.detail.clone()]
        })
        .collect();
    table::print(&["what", "", "found"], &rows);
    let remedies: Vec<String> = findings
        .iter()
        .filter_map(|finding| Some(format!("  {}: {}", finding.thing.trim(), finding.remedy?)))
        .collect();
    if remedies.is_empty() {
        println!("\nnothing is missing");
    } else {
        println!("\nto get what is missing:\n{}", remedies.join("\n"));
    }
}
