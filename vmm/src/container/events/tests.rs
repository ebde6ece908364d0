//! Many who write at once, and a bound.

use super::*;
use crate::container::log;

fn event(id: usize) -> Event {
    Event {
        time: 1,
        action: "start".to_owned(),
        id: id.to_string(),
        image: String::new(),
        attributes: BTreeMap::new(),
    }
}

#[test]
fn lines_are_whole_and_the_newest_are_kept() {
    let place = tempfile::tempdir().unwrap();
    let [older, newer] = files(place.path());
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let path = &newer;
            scope.spawn(move || {
                (0..500).for_each(|n| write(path, &event(writer * 1000 + n), 16 << 10).unwrap());
            });
        }
    });
    let mut seen = Vec::new();
    for path in [&older, &newer] {
        let file = File::open(path).unwrap();
        let length = file.metadata().unwrap().len();
        let whole = log::read(&file, |event: Event| {
            seen.push(event);
            Ok(())
        });
        assert_eq!(whole.unwrap(), length);
        assert!(length < (16 << 10) + 200, "{length}");
    }
    // Both parts are as good as full, and of each writer it is the last ones, each once and in their order.
    assert!(seen.len() > 200 && seen.len() < 2000, "{}", seen.len());
    for writer in 0..4 {
        let numbers = seen.iter().map(|event| event.id.parse::<usize>().unwrap());
        let numbers: Vec<_> = numbers.filter(|id| id / 1000 == writer).collect();
        let last: Vec<_> = (0..numbers.len())
            .map(|n| writer * 1000 + 500 - numbers.len() + n)
            .collect();
        assert_eq!(numbers, last);
    }
}
