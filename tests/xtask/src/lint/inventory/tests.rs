//! What counts as unsafe, and that a difference is told.

use super::{FILE, check, occurrences, write};

#[test]
fn words_count_and_comments_do_not() {
    let text = "U { a(U { b }) } // U\n#[U(no_mangle)]\n/// U\nU_code, \"U\", force-U-io";
    assert_eq!(occurrences(&text.replace('U', "unsafe")), 3);
}

#[test]
fn more_than_was_written_down_is_an_error_until_it_is() {
    let root = tempfile::tempdir().unwrap();
    let files = ["a.rs".to_owned(), "b.rs".to_owned()];
    std::fs::create_dir(root.path().join("tests")).unwrap();
    std::fs::write(root.path().join("a.rs"), "unsafe {}").unwrap();
    write(root.path(), &files).unwrap();
    assert_eq!(
        std::fs::read_to_string(root.path().join(FILE)).unwrap(),
        "  1 a.rs\n"
    );
    check(root.path(), &files).unwrap();
    std::fs::write(root.path().join("b.rs"), "unsafe {}").unwrap();
    let error = check(root.path(), &files).unwrap_err().to_string();
    assert!(
        error.contains("+   1 b.rs") && error.contains("lint --count-unsafe"),
        "{error}"
    );
    write(root.path(), &files).unwrap();
    check(root.path(), &files).unwrap();
}
