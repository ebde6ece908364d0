//! Replays the corpus, and everything that is near it.

use std::path::Path;

use proptest::prelude::*;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fuzz/corpus")
        .join(target);
    let inputs: Vec<_> = std::fs::read_dir(&corpus)
        .unwrap()
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(inputs.len() >= 4, "{} lacks inputs", corpus.display());
    inputs
}

#[test]
fn the_corpus_does_no_harm() {
    corpus("layers")
        .iter()
        .for_each(|input| super::layers(input));
    corpus("archive")
        .iter()
        .for_each(|input| super::archive(input));
}

#[test]
fn the_corpus_reaches_the_writer() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/layers");
    for name in ["kinds", "gnu", "sparse", "oldgnu"] {
        let input = std::fs::read(corpus.join(name)).unwrap();
        let (length, rest) = input.split_first_chunk::<2>().unwrap();
        let (lower, upper) = rest.split_at(usize::from(u16::from_le_bytes(*length)) * 512);
        let (lower, upper) = (super::sealed(lower), super::sealed(upper));
        let layers = if name == "kinds" {
            vec![&lower[..], &upper]
        } else {
            vec![&lower[..]]
        };
        let (result, _) = super::convert(&layers).unwrap();
        assert!(result.is_ok(), "{name}: {result:?}");
    }
    let input = std::fs::read(corpus.join("hostile")).unwrap();
    assert!(super::convert(&[&input[2..]]).unwrap().0.is_err());
}

proptest! {
    #[test]
    fn what_is_near_the_corpus_does_no_harm(
        which: prop::sample::Index,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut: Option<prop::sample::Index>,
    ) {
        for (target, body) in [("layers", super::layers as fn(&[u8])), ("archive", super::archive)] {
            let corpus = corpus(target);
            let mut input = which.get(&corpus).clone();
            for (at, value) in &changes {
                let at = at.index(input.len());
                input[at] = *value;
            }
            if let Some(cut) = cut {
                input.truncate(cut.index(input.len()));
            }
            body(&input);
        }
    }
}
