//! `elastic schema`

use clap::{Args, ValueEnum};
use elastic_profiler::agent::protocol::{Reply, Request};
use elastic_profiler::compare::Comparison;
use elastic_profiler::farm::Plan;
use elastic_profiler::{CostModel, ModelsFile, ProfileFile};
use elastic_space::Platform;
use elastic_trainer::Model;
use elastic_trainer::metrics::Record;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, schema_for};

use super::{doctor, export, inspect, platform, profile, report, train};
use crate::exit::ErrorReport;
use crate::pipeline;
use crate::proof::Proof;
use crate::table::{self, Format};

/// Print the JSON schema of a file or of what a command prints with `--format json`, for editors and checks.
///
/// Without a name the schemas are listed.
#[derive(Debug, Args)]
pub(crate) struct Schema {
    /// Which schema.
    name: Option<Name>,
}

/// The schemas: of files that people write, of files that the program writes, and of what it prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// models/*.yaml, and config.yaml of a run
    Model,
    /// platforms/*.yaml
    Platform,
    /// elastic.yaml
    Pipeline,
    /// The lines between `elastic profile` and `elastic agent`
    Agent,
    /// A line of metrics.jsonl of a run
    Metrics,
    /// profiles/PLATFORM.json
    ProfileFile,
    /// NAME.manifest.json beside an exported model
    Manifest,
    /// What `elastic train` prints
    Train,
    /// What `elastic report` prints
    Report,
    /// What `elastic inspect` prints
    Inspect,
    /// What `elastic inspect FILE` prints
    InspectFile,
    /// What `elastic profile` and `elastic profile merge` print: the latency model
    Profile,
    /// What `elastic profile --model` prints and writes
    ProfileModels,
    /// What `elastic profile compare` prints
    ProfileCompare,
    /// What `elastic profile plan` prints and writes
    ProfilePlan,
    /// What `elastic profile run` prints, and `elastic profile merge` with an --out that ends in .jsonl
    ProfileRun,
    /// What `elastic export` prints; each entry is NAME.json beside its model
    Export,
    /// What `elastic export --pareto` prints; each entry is NAME-pareto.json
    ExportFront,
    /// What `elastic export --shared` and `--at-most` print and write
    ExportFleet,
    /// What `elastic export --model` prints and writes
    ExportPretrained,
    /// What `elastic verify` prints
    Verify,
    /// What `elastic pipeline` prints
    PipelineReport,
    /// What `elastic platform check` prints
    PlatformCheck,
    /// What `elastic doctor` prints
    Doctor,
    /// What `elastic schema` prints
    Schemas,
    /// What `--format github-benchmark` prints
    GithubBenchmark,
    /// What every command prints instead of its result if it fails
    Error,
}

/// A line of the protocol `elastic.agent/v1`.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum Line {
    /// What a client asks of an agent.
    Request(Request),
    /// What an agent says.
    Reply(Reply),
}

/// A schema that there is.
#[derive(Debug, serde::Serialize, JsonSchema)]
struct Listed {
    name: String,
    /// What it describes.
    of: String,
}

impl Schema {
    pub(crate) fn run(self, format: Format) -> anyhow::Result<()> {
        match (self.name, format) {
            (Some(name), _) => table::print_schema(&name.schema()),
            (None, Format::Json) => table::print_json(&list()),
            (None, Format::Table) => {
                let rows: Vec<Vec<String>> =
                    list().into_iter().map(|Listed { name, of }| vec![name, of]).collect();
                table::print(&["schema", "of"], &rows);
                Ok(())
            }
        }
    }
}

fn list() -> Vec<Listed> {
    let listed = |name: &Name| {
        let value = name.to_possible_value().expect("no schema is hidden");
        let of = value.get_help().map(ToString::to_string).unwrap_or_default();
        Listed { name: value.get_name().to_owned(), of }
    };
    Name::value_variants().iter().map(listed).collect()
}

impl Name {
    fn schema(self) -> schemars::Schema {
        match self {
            Self::Model => schema_for!(Model),
            Self::Platform => schema_for!(Platform),
            Self::Pipeline => schema_for!(pipeline::Pipeline),
            Self::Agent => schema_for!(Line),
            Self::Metrics => printed::<Record>(),
            Self::ProfileFile => printed::<ProfileFile>(),
            Self::Manifest => printed::<export::Manifest<'_>>(),
            Self::Train => printed::<train::Summary<'_>>(),
            Self::Report => printed::<report::Written<'_>>(),
            Self::Inspect => printed::<inspect::Report>(),
            Self::InspectFile => printed::<inspect::FileReport>(),
            Self::Profile => printed::<CostModel>(),
            Self::ProfileModels => printed::<ModelsFile>(),
            Self::ProfileCompare => printed::<Vec<Comparison>>(),
            Self::ProfilePlan => printed::<Plan>(),
            Self::ProfileRun => printed::<profile::Measured>(),
            Self::Export => printed::<Vec<export::Report>>(),
            Self::ExportFront => printed::<Vec<export::FrontReport>>(),
            Self::ExportFleet => printed::<export::FleetReport>(),
            Self::ExportPretrained => printed::<export::PretrainedReport>(),
            Self::Verify => printed::<Proof>(),
            Self::PipelineReport => printed::<pipeline::report::Report>(),
            Self::PlatformCheck => printed::<platform::Found>(),
            Self::Doctor => printed::<Vec<doctor::Finding>>(),
            Self::Schemas => printed::<Vec<Listed>>(),
            Self::GithubBenchmark => printed::<Vec<table::Benchmark>>(),
            Self::Error => printed::<ErrorReport<'_>>(),
        }
    }
}

/// The schema of what is written, where every field that is always there is required.
fn printed<T: JsonSchema>() -> schemars::Schema {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>()
}
