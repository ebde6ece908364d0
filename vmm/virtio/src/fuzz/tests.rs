//! Replays what fuzzing has found worth keeping, and what lies near it.

use std::path::Path;

use proptest::prelude::*;

fn corpus() -> Vec<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/devices");
    let mut files: Vec<_> = std::fs::read_dir(&corpus)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", corpus.display());
    files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect()
}

#[test]
fn the_corpus_does_no_harm() {
    for bytes in corpus() {
        super::devices(&bytes);
    }
}

#[test]
fn what_is_near_the_corpus_does_no_harm() {
    let corpus = corpus();
    let one = (0..corpus.len(), any::<prop::sample::Index>());
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    let config = ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(front in one.clone(), back in one, changes in changes)| {
        let (start, end) = (&corpus[front.0], &corpus[back.0]);
        let mut bytes = start[..front.1.index(start.len() + 1)].to_vec();
        bytes.extend(&end[back.1.index(end.len() + 1)..]);
        for (place, value) in changes {
            if !bytes.is_empty() {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
        }
        super::devices(&bytes);
    });
}
