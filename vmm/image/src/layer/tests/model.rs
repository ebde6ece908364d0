//! Random layers against a model that says the same in the plainest way: a map from path to content.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::image;
use crate::testing::archive::Tar;
use crate::testing::erofs::list;

#[derive(Debug, Clone)]
enum Step {
    File(String, Vec<u8>),
    Directory(String),
    Symlink(String, String),
    HardLink(String, String),
    Whiteout(String),
    Opaque(String),
}

/// What the model knows of a path. Hard links share a number.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Thing {
    File(u32, Vec<u8>),
    Directory,
    Symlink(String),
}

/// Content, and the layer that named it last.
type Model = BTreeMap<String, (Thing, usize)>;

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4)
        .prop_map(|parts| parts.join("/"))
}

fn step() -> impl Strategy<Value = Step> {
    let data = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20),
        (4000_usize..9000, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
    ];
    prop_oneof![
        4 => (path(), data).prop_map(|(path, data)| Step::File(path, data)),
        3 => path().prop_map(Step::Directory),
        1 => (path(), "[a-c/.]{1,5}").prop_map(|(path, target)| Step::Symlink(path, target)),
        2 => (path(), path()).prop_map(|(path, target)| Step::HardLink(path, target)),
        2 => path().prop_map(Step::Whiteout),
        1 => path().prop_map(Step::Opaque),
    ]
}

fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.starts_with('/'))
}

fn remove(model: &mut Model, path: &str) {
    model.retain(|there, _| there != path && !is_below(there, path));
}

/// Removes `path` where a lower layer named it, else looks at what is directly below.
fn hide(model: &mut Model, path: &str, layer: usize) {
    match model.get(path) {
        Some((_, named)) if *named < layer => remove(model, path),
        Some(_) => {
            for child in children(model, path) {
                hide(model, &child, layer);
            }
        }
        None => {}
    }
}

fn children(model: &Model, directory: &str) -> Vec<String> {
    let direct =
        |path: &&String| is_below(path, directory) && !path[directory.len() + 1..].contains('/');
    model.keys().filter(direct).cloned().collect()
}

/// Whether all parents are directories or missing: only such steps are put into a layer.
fn fits(model: &Model, path: &str) -> bool {
    path.match_indices('/').all(|(at, _)| {
        model
            .get(&path[..at])
            .is_none_or(|(thing, _)| *thing == Thing::Directory)
    })
}

fn make_parents(model: &mut Model, path: &str, layer: usize) {
    for (at, _) in path.match_indices('/') {
        model.insert(path[..at].to_owned(), (Thing::Directory, layer));
    }
}

/// Applies a step to the model and the archive; steps that would be refused are left out.
fn take(step: &Step, model: &mut Model, tar: Tar, layer: usize, serial: &mut u32) -> Tar {
    let path = match step {
        Step::File(path, _) | Step::Directory(path) | Step::Symlink(path, _) => path,
        Step::HardLink(path, _) | Step::Whiteout(path) | Step::Opaque(path) => path,
    };
    if !fits(model, path) {
        return tar;
    }
    let (directory, name) = path.rsplit_once('/').unwrap_or((".", path));
    let (tar, thing) = match step {
        Step::File(path, data) => {
            *serial += 1;
            (tar.file(path, data), Thing::File(*serial, data.clone()))
        }
        Step::Directory(path) => (tar.directory(path), Thing::Directory),
        Step::Symlink(path, target) => (tar.symlink(path, target), Thing::Symlink(target.clone())),
        Step::HardLink(path, target) => {
            let there = fits(model, target).then(|| model.get(target)).flatten();
            let Some((thing @ (Thing::File(..) | Thing::Symlink(_)), _)) = there.cloned() else {
                return tar;
            };
            (tar.hard_link(path, target), thing)
        }
        Step::Whiteout(path) => {
            hide(model, path, layer);
            return tar.file(&format!("{directory}/.wh.{name}"), b"");
        }
        // A mark inside a link would be one in the directory it leads to.
        Step::Opaque(path) if !fits(model, &format!("{path}/mark")) => return tar,
        Step::Opaque(path) => {
            if let Some((Thing::Directory, _)) = model.get(path) {
                for child in children(model, path) {
                    hide(model, &child, layer);
                }
            }
            return tar.file(&format!("{path}/.wh..wh..opq"), b"");
        }
    };
    make_parents(model, path, layer);
    let keeps_children = thing == Thing::Directory
        && model
            .get(path)
            .is_some_and(|(there, _)| *there == Thing::Directory);
    if !keeps_children {
        remove(model, path);
    }
    model.insert(path.clone(), (thing, layer));
    tar
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn images_say_what_layers_say(
        layers in prop::collection::vec(prop::collection::vec(step(), 0..25), 1..4)
    ) {
        let (mut model, mut serial) = (Model::new(), 0);
        let mut tars = Vec::new();
        for (layer, steps) in layers.iter().enumerate() {
            let take = |tar, step| take(step, &mut model, tar, layer, &mut serial);
            tars.push(steps.iter().fold(Tar::new(), take).end());
        }
        let listing = list(&image(&tars).unwrap());
        let found: Vec<_> = listing.keys().skip(1).map(|path| String::from_utf8_lossy(path)).collect();
        let expected: Vec<_> = model.keys().map(|path| path.as_str()).collect();
        prop_assert_eq!(found, expected);
        for (path, (thing, _)) in &model {
            let node = &listing[path.as_bytes()];
            let same = |other: &&Thing| *other == thing && matches!(thing, Thing::File(..));
            match thing {
                Thing::File(_, data) => {
                    prop_assert_eq!((node.mode >> 12, &node.data), (0o10, data));
                    let names = model.values().map(|(thing, _)| thing).filter(same).count();
                    prop_assert_eq!(node.links as usize, names);
                }
                Thing::Directory => {
                    let below = children(&model, path);
                    let directories = below.iter().filter(|path| model[*path].0 == Thing::Directory);
                    prop_assert_eq!(node.links as usize, 2 + directories.count());
                }
                Thing::Symlink(target) => prop_assert_eq!(&node.data, target.as_bytes()),
            }
        }
    }
}
