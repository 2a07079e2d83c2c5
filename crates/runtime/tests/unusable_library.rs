//! Libraries that cannot be used, in a process that has loaded none.

mod common;

use common::real_library;
use elastic_runtime::library::{self, LEAST_MINOR, Library, LibraryError};

/// The library with another version text, as `GetVersionString` gives it.
fn with_version(bytes: &[u8], old: &str, new: &str) -> Vec<u8> {
    assert_eq!(old.len(), new.len(), "the text is changed in place");
    let needle = format!("\0{old}\0");
    let mut bytes = bytes.to_vec();
    let mut found = 0;
    for at in 0..bytes.len() - needle.len() {
        if bytes[at..].starts_with(needle.as_bytes()) {
            bytes[at + 1..at + 1 + new.len()].copy_from_slice(new.as_bytes());
            found += 1;
        }
    }
    assert!(found > 0, "the library holds no `{old}`");
    bytes
}

#[test]
fn a_library_that_cannot_be_used_says_why_and_another_can_be_tried() {
    let real = real_library();
    let bytes = std::fs::read(&real.path).expect("read the library");
    let version = library::version(&real).expect("the library's version");
    let old: String = format!("1.0.{}", "0".repeat(version.len() - 4));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rows: [(&str, Vec<u8>, String); 3] = [
        (
            "old.so",
            with_version(&bytes, &version, &old),
            format!("ONNX Runtime {old}, at least 1.{LEAST_MINOR}"),
        ),
        ("text.so", b"not a library".to_vec(), "load ".to_owned()),
        ("cut.so", bytes[..bytes.len() / 2].to_vec(), "the file is cut off".to_owned()),
    ];
    for (name, bytes, expected) in rows {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect(name);
        let text = library::providers(&Library { path, origin: real.origin }).expect_err(name).to_string();
        assert!(text.contains(&expected) && text.contains(name), "{name}: {text}");
        assert!(text.ends_with("run: elastic runtime install"), "{name}: {text}");
    }
    let absent = Library { path: folder.path().join("absent.so"), origin: real.origin };
    assert!(matches!(library::providers(&absent), Err(LibraryError::Read { .. })));

    // None of those was kept, so the real one still loads.
    let providers = library::providers(&real).expect("the providers");
    assert_eq!(providers.last().map(String::as_str), Some("CPUExecutionProvider"));
}
