//! Reads the version of ONNX Runtime out of the bytes of its library.
//!
//! The C interface gives it only through a raw pointer, and only once the library is loaded. The
//! file carries it too, as the symbol version on Linux (`VERS_1.24.4`), as the install name on macOS
//! (`libonnxruntime.1.24.4.dylib`) and as the product version on Windows.

/// The version, such as `1.24.4`, that a library's bytes hold.
pub(crate) fn in_library(bytes: &[u8]) -> Option<String> {
    let windows: Vec<u8> = "ProductVersion\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
    after(bytes, b"VERS_", 1)
        .or_else(|| after(bytes, b"libonnxruntime.", 1))
        .or_else(|| after(bytes, &windows, 2))
}

/// The first version that follows `marker`, in characters of `width` bytes.
fn after(bytes: &[u8], marker: &[u8], width: usize) -> Option<String> {
    let mut rest = bytes;
    while let Some(at) = find(rest, marker) {
        rest = &rest[at + marker.len()..];
        let characters = rest.chunks(width).map(|character| character[0]);
        let text: String = characters
            .skip_while(|&byte| byte == 0 && width > 1)
            .take_while(|&byte| byte.is_ascii_digit() || byte == b'.')
            .map(char::from)
            .collect();
        let text = text.trim_end_matches('.');
        if text.split('.').count() >= 3 && text.split('.').all(|part| !part.is_empty()) {
            return Some(text.to_owned());
        }
    }
    None
}

/// Where `needle` begins in `bytes`.
fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let mut from = 0;
    // Looking for the first byte alone is fast; a window over the whole library is not.
    while let Some(at) = bytes[from..].iter().position(|&byte| byte == needle[0]) {
        if bytes[from + at..].starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_in_each_kind_of_library() {
        let windows: Vec<u8> =
            "ProductVersion\0\u{0}1.24.4\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let rows: [(&[u8], Option<&str>); 7] = [
            (b"\x7fELF..VERS_1.24.4\0", Some("1.24.4")),
            (b"..@rpath/libonnxruntime.1.24.4.dylib\0", Some("1.24.4")),
            (&windows, Some("1.24.4")),
            (b"VERS_ VERS_1. VERS_1.25.0", Some("1.25.0")),
            (b"libonnxruntime.so.1", None),
            (b"VERS_1..4", None),
            (b"", None),
        ];
        for (bytes, expected) in rows {
            let shown = String::from_utf8_lossy(bytes);
            assert_eq!(in_library(bytes).as_deref(), expected, "{shown}");
        }
    }
}
