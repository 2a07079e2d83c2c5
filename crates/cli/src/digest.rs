//! Sets of images or texts by their content.

use elastic_data::Examples;
use elastic_space::file;
use schemars::JsonSchema;
use serde::Serialize;

/// A set of images or texts.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Digest {
    pub(crate) images: usize,
    /// SHA-256 of the text `CHANNELSxHEIGHTxWIDTH PIXELS LABELS`, where the last two are the SHA-256 of the decoded pixels and
    /// of the labels. Of texts, `LENGTH TOKENS LABELS`: the tokens of each as a line of numbers.
    pub(crate) sha256: String,
}

/// The digest of images or texts, however they were stored.
pub(crate) fn digest(examples: &Examples) -> Digest {
    let labels = file::sha256(examples.labels());
    let text = match examples {
        Examples::Images(images) => {
            let [channels, height, width] = images.size();
            format!("{channels}x{height}x{width} {} {labels}", file::sha256(&images.pixels))
        }
        Examples::Texts(texts) => {
            let line = |text: &Vec<u32>| text.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
            let lines: Vec<String> = texts.tokens.iter().map(line).collect();
            format!("{} {} {labels}", texts.length, file::sha256(lines.join("\n").as_bytes()))
        }
    };
    Digest { images: examples.len(), sha256: file::sha256(text.as_bytes()) }
}
