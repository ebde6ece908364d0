//! Replays the corpus, and everything that is near it.

use std::path::Path;

use proptest::prelude::*;

fn corpus() -> Vec<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/registry");
    let inputs: Vec<_> = std::fs::read_dir(&corpus)
        .unwrap()
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(inputs.len() >= 8, "{} lacks inputs", corpus.display());
    inputs
}

#[test]
fn the_corpus_does_no_harm() {
    for input in corpus() {
        super::registry(&input);
        // Cut off wherever, or in some places if it is long.
        for end in (0..input.len()).step_by(input.len() / 32 + 1) {
            super::registry(&input[..end]);
        }
    }
}

proptest! {
    #[test]
    fn what_is_near_the_corpus_does_no_harm(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        bytes in proptest::collection::vec(any::<u8>(), 0..6),
        cut in 0usize..6,
    ) {
        let mut input = which.get(&corpus()).clone();
        let at = at.index(input.len());
        let end = input.len().min(at + cut);
        input.splice(at..end, bytes);
        super::registry(&input);
    }
}
