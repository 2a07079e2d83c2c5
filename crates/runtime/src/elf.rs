//! Finds that an ELF file is cut off before it is loaded: the system's loader maps such a file
//! without complaint, and the process dies by SIGBUS when it touches what is not there.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// How many bytes are missing at the end of a 64-bit little-endian ELF file, which ends with its
/// table of sections; 0 for a whole file, one without such a table, and one of another format.
pub(crate) fn missing_bytes(path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let mut header = Vec::new();
    file.by_ref().take(64).read_to_end(&mut header)?;
    Ok(table_end(&header).saturating_sub(file.metadata()?.len()))
}

/// Where the table of sections ends, by an ELF header (`e_shoff`, `e_shentsize`, `e_shnum`).
fn table_end(header: &[u8]) -> u64 {
    const CLASS_64_LITTLE_ENDIAN: &[u8] = b"\x7fELF\x02\x01";
    if header.len() < 64 || !header.starts_with(CLASS_64_LITTLE_ENDIAN) {
        return 0;
    }
    let number = |at: usize, width: usize| {
        header[at..at + width].iter().rev().fold(0_u64, |value, &byte| value << 8 | u64::from(byte))
    };
    number(0x28, 8).saturating_add(number(0x3a, 2) * number(0x3c, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_cut_off_is_found() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("library.so");
        // Sections at 100, three of 64 bytes: the whole file has 292 bytes.
        let mut whole = vec![0; 292];
        whole[..6].copy_from_slice(b"\x7fELF\x02\x01");
        whole[0x28] = 100;
        whole[0x3a] = 64;
        whole[0x3c] = 3;
        let rows: [(&[u8], u64); 5] =
            [(&whole, 0), (&whole[..291], 1), (&whole[..64], 228), (&whole[..63], 0), (b"text", 0)];
        for (bytes, expected) in rows {
            std::fs::write(&path, bytes).expect("write the file");
            assert_eq!(missing_bytes(&path).expect("read the file"), expected, "{} bytes", bytes.len());
        }
    }
}
