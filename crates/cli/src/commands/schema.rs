//! `elastic schema`

use clap::{Args, ValueEnum};
use elastic_space::Platform;
use elastic_trainer::Model;
use schemars::schema_for;

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
}

impl Schema {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        table::print_json(&match self.kind {
            Kind::Model => schema_for!(Model),
            Kind::Platform => schema_for!(Platform),
        })
    }
}
