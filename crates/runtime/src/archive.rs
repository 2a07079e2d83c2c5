//! Takes the ONNX Runtime library, and the libraries beside it, out of a wheel, a zip, a `.tgz`
//! or a bare library file.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use zip::ZipArchive;

use crate::install::InstallError;
use crate::library::{file_name, is_library};

/// What a file is, by its first bytes.
enum Kind {
    Zip,
    Tgz,
    Library,
}

/// Writes the libraries that an archive holds into `folder`, and gives their names. Nothing but file
/// names is taken from the archive, so no entry can lead out of the folder.
///
/// # Errors
///
/// [`InstallError`]: the archive cannot be read or holds no library, or the folder cannot be written.
pub(crate) fn unpack(archive: &Path, folder: &Path) -> Result<Vec<String>, InstallError> {
    let unreadable = |reason: io::Error| InstallError::Archive { path: archive.to_owned(), reason };
    match kind(archive).map_err(unreadable)? {
        Some(Kind::Zip) => unpack_zip(archive, folder),
        Some(Kind::Tgz) => unpack_tgz(archive, folder),
        Some(Kind::Library) => {
            let mut file = File::open(archive).map_err(unreadable)?;
            let name = file_name();
            copy(archive, &mut file, &folder.join(&name))?;
            Ok(vec![name])
        }
        None => Err(InstallError::Kind { path: archive.to_owned() }),
    }
}

fn unpack_zip(archive: &Path, folder: &Path) -> Result<Vec<String>, InstallError> {
    let unreadable = |reason: io::Error| InstallError::Archive { path: archive.to_owned(), reason };
    let file = File::open(archive).map_err(unreadable)?;
    let mut zip = ZipArchive::new(file).map_err(|error| unreadable(error.into()))?;
    let mut entries = Vec::with_capacity(zip.len());
    for index in 0..zip.len() {
        let entry = zip.by_index(index).map_err(|error| unreadable(error.into()))?;
        let path = entry.name().map_err(|error| unreadable(error.into()))?;
        entries.push(if entry.is_file() { PathBuf::from(&*path) } else { PathBuf::new() });
    }
    let mut written = Vec::new();
    for (index, name) in wanted(archive, &entries)? {
        let mut entry = zip.by_index(index).map_err(|error| unreadable(error.into()))?;
        copy(archive, &mut entry, &folder.join(&name))?;
        written.push(name);
    }
    Ok(written)
}

fn unpack_tgz(archive: &Path, folder: &Path) -> Result<Vec<String>, InstallError> {
    let unreadable = |reason: io::Error| InstallError::Archive { path: archive.to_owned(), reason };
    let open = || io::Result::Ok(tar::Archive::new(GzDecoder::new(File::open(archive)?)));
    // A tar has no list of what it holds: it is read once for the names and once for the libraries.
    let names = || {
        let mut tar = open()?;
        let paths = tar.entries()?.map(|entry| {
            let entry = entry?;
            let path = entry.path()?.into_owned();
            // The official archives hold links from the name without a version.
            Ok(if entry.header().entry_type().is_file() { path } else { PathBuf::new() })
        });
        paths.collect::<io::Result<Vec<PathBuf>>>()
    };
    let mut wanted = wanted(archive, &names().map_err(unreadable)?)?.into_iter().peekable();
    let mut written = Vec::new();
    let mut tar = open().map_err(unreadable)?;
    for (index, entry) in tar.entries().map_err(unreadable)?.enumerate() {
        let mut entry = entry.map_err(unreadable)?;
        if let Some((_, name)) = wanted.next_if(|(at, _)| *at == index) {
            copy(archive, &mut entry, &folder.join(&name))?;
            written.push(name);
        }
    }
    Ok(written)
}

/// The entries to take, as index and file name: the first ONNX Runtime library, and every shared
/// library in its folder, since a provider such as CUDA is a library beside it.
fn wanted(archive: &Path, entries: &[PathBuf]) -> Result<Vec<(usize, String)>, InstallError> {
    let name = |path: &PathBuf| Some(path.file_name()?.to_str()?.to_owned());
    let folder = entries
        .iter()
        .find(|path| name(path).is_some_and(|name| is_library(&name)))
        .map(|path| path.parent())
        .ok_or_else(|| InstallError::NoLibrary { path: archive.to_owned(), wanted: file_name() })?;
    let beside = entries.iter().enumerate().filter(|(_, path)| path.parent() == folder);
    Ok(beside
        .filter_map(|(index, path)| Some((index, name(path)?)))
        .filter(|(_, name)| is_shared_library(name))
        .collect())
}

/// Whether a name is that of a shared library, but not of Python's own binding.
fn is_shared_library(name: &str) -> bool {
    let shared =
        [".so", ".dylib", ".dll"].iter().any(|suffix| name.ends_with(suffix)) || name.contains(".so.");
    shared && !name.contains("pybind11")
}

fn copy(archive: &Path, from: &mut impl Read, to: &Path) -> Result<(), InstallError> {
    let unwritable = |reason: io::Error| InstallError::Write { path: to.to_owned(), reason };
    let mut file = File::create(to).map_err(unwritable)?;
    let mut block = vec![0; 1 << 16];
    // Not `io::copy`: its error does not say which side failed, and the two have different remedies.
    loop {
        let read = from
            .read(&mut block)
            .map_err(|reason| InstallError::Archive { path: archive.to_owned(), reason })?;
        if read == 0 {
            return file.sync_all().map_err(unwritable);
        }
        io::Write::write_all(&mut file, &block[..read]).map_err(unwritable)?;
    }
}

fn kind(archive: &Path) -> io::Result<Option<Kind>> {
    let mut file = File::open(archive)?;
    let mut head = Vec::new();
    file.by_ref().take(4).read_to_end(&mut head)?;
    file.rewind()?;
    Ok(match head.as_slice() {
        b"PK\x03\x04" => Some(Kind::Zip),
        [0x1f, 0x8b, ..] => Some(Kind::Tgz),
        b"\x7fELF" | [0xcf, 0xfa, 0xed, 0xfe] | [0xca, 0xfe, 0xba, 0xbe] | [b'M', b'Z', ..] => {
            Some(Kind::Library)
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// The library of this system, with a version in its name.
    fn versioned() -> String {
        match std::env::consts::OS {
            "macos" => "libonnxruntime.1.24.4.dylib".to_owned(),
            "windows" => file_name(),
            _ => "libonnxruntime.so.1.24.4".to_owned(),
        }
    }

    fn zip(path: &Path, entries: &[(&str, &[u8])]) {
        let mut writer = zip::ZipWriter::new(File::create(path).expect("make the zip"));
        for (name, bytes) in entries {
            writer.start_file(*name, zip::write::SimpleFileOptions::default()).expect("begin an entry");
            writer.write_all(bytes).expect("write an entry");
        }
        writer.finish().expect("end the zip");
    }

    fn tgz(path: &Path, entries: &[(&str, &[u8])]) {
        let encoder = flate2::write::GzEncoder::new(
            File::create(path).expect("make the tgz"),
            flate2::Compression::fast(),
        );
        let mut builder = tar::Builder::new(encoder);
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        builder
            .append_link(&mut link, format!("ort/lib/{}", file_name()), versioned())
            .expect("write a link");
        for (name, bytes) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *bytes).expect("write an entry");
        }
        builder.into_inner().and_then(flate2::write::GzEncoder::finish).expect("end the tgz");
    }

    #[test]
    fn the_library_and_its_neighbours_are_taken() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let library = format!("ort/lib/{}", versioned());
        let entries: [(&str, &[u8]); 5] = [
            ("ort/include/api.h", b"text"),
            (&library, b"the library"),
            ("ort/lib/libonnxruntime_providers_shared.so", b"a provider"),
            ("ort/lib/onnxruntime_pybind11_state.so", b"python"),
            ("other/libthing.so", b"another folder"),
        ];
        let bare: PathBuf = folder.path().join("my-build.so");
        std::fs::write(&bare, b"\x7fELF and so on").expect("write the library");
        zip(&folder.path().join("a.whl"), &entries);
        tgz(&folder.path().join("a.tgz"), &entries);
        let both = vec![versioned(), "libonnxruntime_providers_shared.so".to_owned()];
        let rows: [(&str, Vec<String>, &[u8]); 3] = [
            ("a.whl", both.clone(), b"the library"),
            ("a.tgz", both, b"the library"),
            ("my-build.so", vec![file_name()], b"\x7fELF and so on"),
        ];
        for (archive, expected, bytes) in rows {
            let target = tempfile::tempdir().expect("a temporary folder");
            let written = unpack(&folder.path().join(archive), target.path()).expect(archive);
            assert_eq!(written, expected, "{archive}");
            let found = std::fs::read_dir(target.path()).expect(archive).count();
            assert_eq!(found, expected.len(), "{archive}");
            assert_eq!(std::fs::read(target.path().join(&expected[0])).expect(archive), bytes, "{archive}");
        }
    }

    #[test]
    fn a_bad_archive_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        let target = path("target");
        std::fs::create_dir(&target).expect("make the target");
        zip(&path("empty.whl"), &[("onnxruntime/__init__.py", b"")]);
        tgz(&path("links.tgz"), &[]);
        zip(&path("cut.whl"), &[(&versioned(), &[7; 9000])]);
        let whole = std::fs::read(path("cut.whl")).expect("read the zip");
        std::fs::write(path("cut.whl"), &whole[..whole.len() / 2]).expect("cut the zip");
        std::fs::write(path("notes.txt"), b"hello").expect("write the text");
        let rows = [
            ("absent.whl", "read the archive"),
            ("empty.whl", "no ONNX Runtime library"),
            ("links.tgz", "no ONNX Runtime library"),
            ("cut.whl", "read the archive"),
            ("notes.txt", "neither a wheel"),
        ];
        for (name, expected) in rows {
            let text = unpack(&path(name), &target).expect_err(name).to_string();
            assert!(text.contains(expected) && text.contains(name), "{name}: {text}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let archive = folder.path().join("a.whl");
        zip(&archive, &[(&versioned(), b"the library")]);
        let text = unpack(&archive, &folder.path().join("no/such")).expect_err("no folder").to_string();
        assert!(text.starts_with("write ") && text.contains("no/such"), "{text}");
    }
}
