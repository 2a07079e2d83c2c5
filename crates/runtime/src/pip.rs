//! Downloads the ONNX Runtime wheel through the user's own pip.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::install::InstallError;
use crate::library::PINNED_VERSION;

/// The wheel of one kind of machine.
pub(crate) struct Wheel {
    os: &'static str,
    arch: &'static str,
    platforms: &'static [&'static str],
    /// In lowercase hexadecimal.
    pub(crate) sha256: &'static str,
}

/// The wheels of [`PINNED_VERSION`]. They are those for Python 3.12; the library in them is the same
/// for every Python, and none is needed to run it.
const WHEELS: [Wheel; 4] = [
    Wheel {
        os: "linux",
        arch: "x86_64",
        platforms: &["manylinux_2_28_x86_64", "manylinux_2_27_x86_64"],
        sha256: "0d640eb9f3782689b55cfa715094474cd5662f2f137be6a6f847a594b6e9705c",
    },
    Wheel {
        os: "linux",
        arch: "aarch64",
        platforms: &["manylinux_2_28_aarch64", "manylinux_2_27_aarch64"],
        sha256: "1a5c5a544b22f90859c88617ecb30e161ee3349fcc73878854f43d77f00558b5",
    },
    Wheel {
        os: "macos",
        arch: "aarch64",
        platforms: &["macosx_14_0_arm64"],
        sha256: "cad1c2b3f455c55678ab2a8caa51fb420c25e6e3cf10f4c23653cdabedc8de78",
    },
    Wheel {
        os: "windows",
        arch: "x86_64",
        platforms: &["win_amd64"],
        sha256: "535b29475ca42b593c45fbb2152fbf1cdf3f287315bf650e6a724a0a1d065cdb",
    },
];

/// The wheel for a system and an architecture, as Rust names them.
pub(crate) fn wheel(os: &str, arch: &str) -> Result<&'static Wheel, InstallError> {
    WHEELS
        .iter()
        .find(|wheel| wheel.os == os && wheel.arch == arch)
        .ok_or_else(|| InstallError::Platform { os: os.to_owned(), arch: arch.to_owned() })
}

/// Downloads a wheel into `folder`, and gives its path. Its hash is not checked yet.
pub(crate) fn download(python: &OsStr, wheel: &Wheel, folder: &Path) -> Result<PathBuf, InstallError> {
    let python_name = python.to_string_lossy().into_owned();
    let mut command = Command::new(python);
    command.args(["-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--no-deps"]);
    command.args(["--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp"]);
    for platform in wheel.platforms {
        command.args(["--platform", platform]);
    }
    command.arg("--dest").arg(folder).arg(format!("onnxruntime=={PINNED_VERSION}"));
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|reason| InstallError::Python { python: python_name.clone(), reason })?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if stderr.contains("No module named pip") {
        return Err(InstallError::NoPip { python: python_name });
    }
    if !output.status.success() {
        return Err(InstallError::Pip { status: output.status.to_string(), lines: last_lines(&stderr) });
    }
    wheel_in(folder).ok_or_else(|| InstallError::Pip {
        status: output.status.to_string(),
        lines: "it left no wheel behind".to_owned(),
    })
}

fn wheel_in(folder: &Path) -> Option<PathBuf> {
    let paths = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    paths.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "whl"))
}

/// The last lines that say something.
fn last_lines(text: &str) -> String {
    const KEPT: usize = 5;
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(KEPT)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_machine_has_its_wheel() {
        let rows = [
            ("linux", "x86_64", true),
            ("linux", "aarch64", true),
            ("macos", "aarch64", true),
            ("windows", "x86_64", true),
            ("linux", "riscv64", false),
            ("freebsd", "x86_64", false),
        ];
        for (os, arch, known) in rows {
            match wheel(os, arch) {
                Ok(wheel) => {
                    assert!(known, "{os} {arch}");
                    assert_eq!(wheel.sha256.len(), 64, "{os} {arch}");
                }
                Err(error) => {
                    let text = error.to_string();
                    assert!(!known && text.contains(os) && text.contains(arch), "{os} {arch}: {text}");
                }
            }
        }
    }

    #[test]
    fn only_the_end_of_a_long_text_is_kept() {
        assert_eq!(last_lines("1\n2\n\n3\n4\n5\n6\n"), "2\n3\n4\n5\n6");
        assert_eq!(last_lines(""), "");
    }
}
