//! `elastic data`

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use elastic_data::fetch_fashion_mnist;

use crate::progress::Reporter;

/// Get data sets.
#[derive(Debug, Subcommand)]
pub(crate) enum Data {
    Fetch(Fetch),
}

/// Get a data set and check its SHA-256.
///
/// Fashion-MNIST comes from its official address, else from Debian's package dataset-fashion-mnist.
#[derive(Debug, Args)]
pub(crate) struct Fetch {
    /// The data set.
    name: Name,
    /// Folder to put it in [default: data/NAME].
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Name {
    /// 60,000 + 10,000 grey images of 28 x 28 pixels, 10 classes (MIT licence).
    FashionMnist,
}

impl Data {
    pub(crate) fn run(self, reporter: &Reporter) -> anyhow::Result<()> {
        let Self::Fetch(command) = self;
        match command.name {
            Name::FashionMnist => {
                let out = command.out.unwrap_or_else(|| PathBuf::from("data/fashion-mnist"));
                fetch_fashion_mnist(&out, &mut |line| reporter.say(line))?;
                println!("{}", out.display());
            }
        }
        Ok(())
    }
}
