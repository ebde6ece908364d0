//! What changes a sum, and what does not.

use std::os::unix::fs::FileExt;

use super::*;

fn sparse() -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(8 << 20).unwrap();
    file.write_all_at(b"first", 0).unwrap();
    file.write_all_at(&[7; 10_000], 3 << 20).unwrap();
    file
}

#[test]
fn holes_and_zeros_are_the_same() {
    let (holes, zeros) = (sparse(), sparse());
    zeros.write_all_at(&[0; 1 << 20], 5 << 20).unwrap();
    assert_eq!(of_file(&holes).unwrap(), of_file(&zeros).unwrap());
}

#[test]
fn a_bit_a_place_and_a_length_count() {
    let whole = of_file(&sparse()).unwrap();
    let changed = |change: &dyn Fn(&File)| {
        let file = sparse();
        change(&file);
        assert_ne!(of_file(&file).unwrap(), whole);
    };
    changed(&|file| file.write_all_at(b"gir", 1).unwrap());
    changed(&|file| file.write_all_at(&[1], 5 << 20).unwrap());
    changed(&|file| file.write_all_at(&[0; 5], 0).unwrap());
    changed(&|file| file.set_len((8 << 20) + 1).unwrap());
    let moved = |at| {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8 << 20).unwrap();
        file.write_all_at(&[7; PAGE], at).unwrap();
        of_file(&file).unwrap()
    };
    assert_ne!(moved(0), moved(PAGE as u64));
}

#[test]
fn a_page_cut_off_by_the_files_end_counts() {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(b"abc", 0).unwrap();
    let short = of_file(&file).unwrap();
    file.write_all_at(b"abd", 0).unwrap();
    assert_ne!(of_file(&file).unwrap(), short);
}
