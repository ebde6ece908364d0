//! Replays what fuzzing has found worth keeping.

use std::path::Path;

#[test]
fn the_corpus_does_no_harm() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/devices");
    let mut inputs = 0;
    for entry in std::fs::read_dir(&corpus).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        super::devices(&bytes);
        inputs += 1;
    }
    assert!(inputs > 0, "{} is empty", corpus.display());
}
