//! Random trees, written and read back by a reader of its own.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::*;
use crate::Limits;
use crate::convert::checksum_of;
use crate::tar::{Segment, Time};
use crate::testing::erofs::{Listing, list};
use crate::tree::{Attributes, Content, Tree};

#[derive(Debug, Clone)]
enum Kind {
    File(Vec<u8>),
    /// Size, and where stored pieces of one block or less are.
    Sparse(u64, Vec<u64>),
    Directory,
    Symlink(Vec<u8>),
    Device(u32, u32),
    Fifo,
}

fn time() -> impl Strategy<Value = Time> {
    // Few values, so that the most frequent one makes compact inodes.
    (
        prop::sample::select(vec![-5_i64, 0, 1 << 33, 1_700_000_000]),
        prop::sample::select(vec![0, 999_999_999]),
    )
        .prop_map(|(seconds, nanoseconds)| Time {
            seconds,
            nanoseconds,
        })
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let id = || prop::sample::select(vec![0, 1000, 65_535, 65_536, u32::MAX - 1]);
    let name = (
        "(user|trusted|security)\\.[a-z]{1,20}",
        prop::collection::vec(any::<u8>(), 0..300),
    )
        .prop_map(|(name, value)| (name.into_bytes(), value));
    let large = prop::collection::vec(any::<u8>(), 3000..9000);
    let xattrs = prop_oneof![
        4 => Just(Vec::new()),
        2 => prop::collection::btree_map("user\\.[a-z]{1,9}", Just(b"x".to_vec()), 0..6)
            .prop_map(|map| map.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect()),
        2 => name.prop_map(|pair| vec![pair]),
        1 => large.prop_map(|value| vec![(b"user.large".to_vec(), value)]),
    ];
    (0_u16..0o10000, id(), id(), time(), xattrs).prop_map(|(mode, uid, gid, mtime, xattrs)| {
        Attributes {
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        }
    })
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        3 => (0_usize..10_000, any::<u8>()).prop_map(|(length, byte)| Kind::File(vec![byte; length])),
        1 => (1_u64..200, prop::collection::btree_set(0_u64..100, 0..6)).prop_map(|(blocks, pieces)| {
            Kind::Sparse(blocks * 5000 + 500_000, pieces.into_iter().map(|at| at * 5000).collect())
        }),
        2 => Just(Kind::Directory),
        2 => (1_usize..4096, any::<u8>()).prop_map(|(length, byte)| Kind::Symlink(vec![byte | 1; length])),
        1 => (0_u32..4096, 0_u32..1 << 20).prop_map(|(major, minor)| Kind::Device(major, minor)),
        1 => Just(Kind::Fifo),
    ]
}

/// A path of up to three names; names may be long.
fn path() -> impl Strategy<Value = Vec<u8>> {
    let name = (
        prop::sample::select(vec!["a", "b", "~", "Z"]),
        prop::sample::select(vec![0, 0, 0, 100, 254]),
    )
        .prop_map(|(name, more)| format!("{name}{}", "n".repeat(more)));
    prop::collection::vec(name, 1..4).prop_map(|names| names.join("/").into_bytes())
}

fn write(tree: &Tree, data: DataWriter<'_>, file: &std::fs::File) -> Listing {
    let finished = finish(data, tree, [3; 16]).unwrap();
    let found = checksum_of(file, finished.bytes).unwrap();
    assert_eq!(finished.checksum, found);
    let mut bytes = vec![0; usize::try_from(finished.bytes).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    list(&bytes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn what_is_written_is_read_back(
        entries in prop::collection::vec((path(), attributes(), kind()), 0..60)
    ) {
        let file = tempfile::tempfile().unwrap();
        let mut data = DataWriter::new(&file, 1 << 30);
        let mut tree = Tree::new(Limits::default());
        let mut expected: BTreeMap<Vec<u8>, (Attributes, Kind)> = BTreeMap::new();
        for (path, attributes, kind) in entries {
            // Links of parents are followed: the entry would be elsewhere.
            let is_link = |there: &[u8]| matches!(expected.get(there), Some((_, Kind::Symlink(_))));
            let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
            if ends.map(|(end, _)| &path[..end]).any(is_link) {
                continue;
            }
            let content = match &kind {
                Kind::Directory => {
                    if tree.put_directory(&path, attributes.clone()).is_ok() {
                        expected.insert(path, (attributes, kind));
                    }
                    continue;
                }
                Kind::File(bytes) => {
                    data.begin(bytes.len() as u64, None).unwrap();
                    data.append(bytes).unwrap();
                    Content::File(data.end().unwrap())
                }
                Kind::Sparse(size, pieces) => {
                    let segment = |at: &u64| Segment { offset: *at, length: 4000 };
                    data.begin(*size, Some(pieces.iter().map(segment).collect())).unwrap();
                    pieces.iter().for_each(|_| data.append(&[7; 4000]).unwrap());
                    Content::File(data.end().unwrap())
                }
                Kind::Symlink(target) => Content::Symlink(target.clone().into()),
                Kind::Device(major, minor) => {
                    Content::CharDevice { major: *major, minor: *minor }
                }
                Kind::Fifo => Content::Fifo,
            };
            if tree.put(&path, attributes.clone(), content).is_ok() {
                let below = [&path[..], b"/"].concat();
                expected.retain(|there, _| !there.starts_with(&below));
                expected.insert(path, (attributes, kind));
            }
        }
        let listing = write(&tree, data, &file);
        for (path, (attributes, kind)) in &expected {
            let node = &listing[path];
            prop_assert_eq!(node.mode & 0o7777, attributes.mode);
            prop_assert_eq!((node.uid, node.gid), (attributes.uid, attributes.gid));
            let time = attributes.mtime;
            prop_assert_eq!(node.mtime, (time.seconds, time.nanoseconds));
            let xattrs: BTreeMap<_, _> = attributes.xattrs.iter().cloned().collect();
            prop_assert_eq!(&node.xattrs, &xattrs);
            match kind {
                Kind::File(bytes) => prop_assert!(node.data == *bytes),
                Kind::Sparse(size, pieces) => {
                    let mut bytes = vec![0; usize::try_from(*size).unwrap()];
                    for at in pieces {
                        let at = usize::try_from(*at).unwrap();
                        bytes[at..at + 4000].fill(7);
                    }
                    prop_assert!(node.data == bytes);
                    prop_assert!(!node.holes.is_empty());
                }
                Kind::Symlink(target) => prop_assert_eq!(&node.data, target),
                Kind::Device(major, minor) => {
                    prop_assert_eq!(node.device & 0xff, minor & 0xff);
                    prop_assert_eq!(node.device >> 8 & 0xfff, *major);
                    prop_assert_eq!(node.device >> 20, minor >> 8);
                }
                Kind::Directory | Kind::Fifo => {}
            }
        }
        // Everything else is a directory that was made on the way.
        for (path, node) in &listing {
            let shown = String::from_utf8_lossy(path);
            prop_assert!(expected.contains_key(path) || node.mode >> 12 == 4, "{shown}: {node:?}");
        }
    }
}

#[test]
fn mounting_and_the_first_look_ups_read_little() {
    // A root like a distribution's: its directories are in block 0 and at most one other.
    let file = tempfile::tempfile().unwrap();
    let data = DataWriter::new(&file, 1 << 30);
    let mut tree = Tree::new(Limits::default());
    for name in [
        "bin", "dev", "etc", "home", "lib", "proc", "root", "sys", "tmp", "usr", "var",
    ] {
        tree.put_directory(name.as_bytes(), Attributes::default())
            .unwrap();
    }
    for number in 0..300 {
        let path = format!("bin/applet{number}");
        tree.put(path.as_bytes(), Attributes::default(), Content::Fifo)
            .unwrap();
    }
    let listing = write(&tree, data, &file);
    let block = |path: &[u8]| listing[path].nid * SLOT / BLOCK;
    assert_eq!(block(b""), 0);
    let directories = listing.iter().filter(|(_, node)| node.mode >> 12 == 4);
    let blocks: std::collections::BTreeSet<_> = directories.map(|(path, _)| block(path)).collect();
    assert!(blocks.len() <= 2, "{blocks:?}");
}
