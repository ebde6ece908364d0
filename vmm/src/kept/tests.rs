//! Names that are taken, half taken, and damaged.

use super::*;

#[test]
fn one_is_there_with_its_document_only() {
    let root = tempfile::tempdir().unwrap();
    let kept = Kept::open(root.path(), "things", 0o711, "thing.json").unwrap();
    let names = || {
        let all = kept.all::<u32>().unwrap().into_iter();
        all.map(|(name, _)| name).collect::<Vec<_>>()
    };
    kept.make("one", &1_u32, Some("data")).unwrap();
    kept.make("another", &2_u32, None).unwrap();
    // Who made or removed it was killed, and something is in it.
    std::fs::create_dir(kept.directory("half")).unwrap();
    std::fs::write(kept.directory("half").join("new"), "3").unwrap();
    std::fs::create_dir(kept.directory("-odd")).unwrap();
    assert_eq!(names(), ["another", "one"]);
    assert_eq!(kept.about::<u32>("half").unwrap(), None);
    assert_eq!(kept.about::<u32>("../things/one").unwrap(), None);
    kept.make("half", &3_u32, None).unwrap();
    assert_eq!(kept.about("half").unwrap(), Some(3_u32));
    kept.remove("one").unwrap();
    assert!(!kept.directory("one").exists());
    // What is damaged is told to who asks for it, and hides no other.
    std::fs::write(kept.directory("half").join("thing.json"), "{").unwrap();
    let error = kept.about::<u32>("half").unwrap_err();
    assert!(error.to_string().ends_with("half/thing.json failed"));
    assert_eq!(names(), ["another"]);
}
