use super::*;

fn decoded() -> Decoded {
    Decoded { corrupt: [(1, "it is no PNG".to_owned())].into(), pixels: vec![b'\n', 2, 3, 4] }
}

#[test]
fn what_is_written_is_found_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("caches/train");
    assert_eq!(read(&path, "key", 3, 2), Found::Absent);
    write(&path, "key", &decoded()).expect("the folder can be written");
    assert_eq!(read(&path, "key", 3, 2), Found::Fresh(decoded()));
    assert_eq!(read(&path, "other", 3, 2), Found::Stale);
    assert_eq!(read(&path, "key", 4, 2), Found::Damaged);
    assert_eq!(read(folder.path(), "key", 3, 2), Found::Damaged, "a folder is no file");
}

#[test]
fn every_damage_is_seen() {
    let whole = encode("key", &decoded());
    assert_eq!(super::decode(whole.clone(), "key", 3, 2), Found::Fresh(decoded()));
    for length in 0..whole.len() {
        assert_eq!(super::decode(whole[..length].to_vec(), "key", 3, 2), Found::Damaged, "{length} bytes");
    }
    for position in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[position] ^= 1;
        assert_eq!(super::decode(damaged, "key", 3, 2), Found::Damaged, "byte {position}");
    }
}
