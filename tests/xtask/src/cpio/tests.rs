//! An archive reads back as it was written, field by field.

use super::*;

/// An entry's name, mode and content, and where the next begins.
fn entry(bytes: &[u8], at: usize) -> (String, u32, Vec<u8>, usize) {
    let field = |index: usize| {
        let start = at + 6 + 8 * index;
        usize::from_str_radix(std::str::from_utf8(&bytes[start..start + 8]).unwrap(), 16).unwrap()
    };
    assert_eq!(&bytes[at..at + 6], b"070701", "the magic number at {at}");
    let (size, name_size) = (field(6), field(11));
    let name_at = at + 110;
    let name = String::from_utf8(bytes[name_at..name_at + name_size - 1].to_vec()).unwrap();
    let content_at = (name_at + name_size).next_multiple_of(4);
    let content = bytes[content_at..content_at + size].to_vec();
    (
        name,
        u32::try_from(field(1)).unwrap(),
        content,
        (content_at + size).next_multiple_of(4),
    )
}

#[test]
fn reads_back_as_it_was_written() {
    let mut archive = Archive::new();
    archive.directory("dev");
    archive.character_device("dev/console", 0o600, 5, 1);
    archive.file("init", 0o755, b"odd");
    let bytes = archive.finish();
    assert_eq!(bytes.len() % 512, 0);
    let mut at = 0;
    for (name, mode, content) in [
        ("dev", 0o040_755, b"".as_slice()),
        ("dev/console", 0o020_600, b""),
        ("init", 0o100_755, b"odd"),
        ("TRAILER!!!", 0, b""),
    ] {
        let (found, found_mode, found_content, next) = entry(&bytes, at);
        assert_eq!(
            (found.as_str(), found_mode, found_content.as_slice()),
            (name, mode, content)
        );
        at = next;
    }
}
