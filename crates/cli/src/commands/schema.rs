//! `elastic schema`

use clap::{Args, ValueEnum};
use elastic_profiler::agent::protocol::{Reply, Request};
use elastic_space::Platform;
use elastic_trainer::Model;
use schemars::{JsonSchema, schema_for};

use crate::pipeline::Pipeline;
use crate::table;

/// Print the JSON schema of a file format, for editors and checks.
#[derive(Debug, Args)]
pub(crate) struct Schema {
    /// The file format.
    kind: Kind,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// models/*.yaml
    Model,
    /// platforms/*.yaml
    Platform,
    /// elastic.yaml
    Pipeline,
    /// The lines between `elastic profile` and `elastic agent`.
    Agent,
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

impl Schema {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        table::print_json(&match self.kind {
            Kind::Model => schema_for!(Model),
            Kind::Platform => schema_for!(Platform),
            Kind::Pipeline => schema_for!(Pipeline),
            Kind::Agent => schema_for!(Line),
        })
    }
}
