//! Layers upon layers: what they leave behind is read back from the finished image.

mod hostile;
mod kernel;
mod model;

use super::*;
use crate::Limits;
use crate::convert::checksum_of;
use crate::erofs;
use crate::testing::archive::{Header, Tar};
use crate::testing::erofs::{Listing, list};

/// Converts layers with these limits; returns the image's bytes.
pub(super) fn image_with(layers: &[Vec<u8>], limits: &Limits) -> Result<Vec<u8>, LayerError> {
    let file = tempfile::tempfile().unwrap();
    let mut tree = Tree::new(limits.clone());
    let mut data = DataWriter::new(&file, limits.image);
    for layer in layers {
        apply(&layer[..], &mut tree, &mut data)?;
    }
    let finished = erofs::finish(data, &tree, [7; 16])?;
    let found = checksum_of(&file, finished.bytes).unwrap();
    assert_eq!(finished.checksum, found);
    let mut bytes = vec![0; usize::try_from(finished.bytes).unwrap()];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0).unwrap();
    Ok(bytes)
}

pub(super) fn image(layers: &[Vec<u8>]) -> Result<Vec<u8>, LayerError> {
    image_with(layers, &Limits::default())
}

pub(super) fn listing(layers: &[Tar]) -> Result<Listing, LayerError> {
    let layers: Vec<_> = layers.iter().map(|layer| layer.clone().end()).collect();
    image(&layers).map(|bytes| list(&bytes))
}

fn paths(listing: &Listing) -> Vec<String> {
    listing
        .keys()
        .skip(1)
        .map(|path| String::from_utf8_lossy(path).into_owned())
        .collect()
}

#[test]
fn every_kind_with_all_its_attributes() {
    let long_target = "t/".repeat(2000);
    let tar = Tar::new()
        .entry(Header::new(b"./", b'5', 0).mode(0o1777).mtime(5), &[])
        .pax(&[
            (b"mtime", b"-7.000000001"),
            (b"uid", b"4000000000"),
            (
                b"SCHILY.xattr.security.capability",
                b"\x01\0\0\x02\0 \0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            ),
            (b"SCHILY.xattr.user.empty", b""),
            (b"SCHILY.xattr.system.posix_acl_access", b"acl"),
            (b"SCHILY.xattr.trusted.overlay.opaque", b"y"),
            (b"SCHILY.xattr.com.apple.quarantine", b"x"),
        ])
        .entry(Header::new(b"./ping", b'0', 5).mode(0o4755), b"hello")
        .entry(Header::new(b"null", b'3', 0).device(1, 3).mode(0o666), &[])
        .entry(Header::new(b"disk", b'4', 0).device(259, 70_000), &[])
        .entry(Header::new(b"pipe", b'6', 0), &[])
        .entry(Header::new(b"na\xffme", b'0', 0), &[])
        .pax(&[(b"linkpath", &long_target.as_bytes()[..4000])])
        .symlink("long", "")
        .symlink("short", "ping")
        .hard_link("again", "./ping");
    let listing = listing(&[tar]).unwrap();
    let ping = &listing[&b"ping"[..]];
    assert_eq!(
        (ping.mode, ping.uid, ping.gid, ping.links),
        (0o104_755, 4_000_000_000, 0, 2)
    );
    assert_eq!(ping.mtime, (-8, 999_999_999));
    assert_eq!(ping.data, b"hello");
    assert_eq!(ping.nid, listing[&b"again"[..]].nid);
    let xattrs: Vec<_> = ping
        .xattrs
        .keys()
        .map(|name| String::from_utf8_lossy(name))
        .collect();
    assert_eq!(
        xattrs,
        [
            "security.capability",
            "system.posix_acl_access",
            "user.empty"
        ]
    );
    assert_eq!(listing[&b""[..]].mode, 0o041_777);
    assert_eq!(listing[&b""[..]].mtime, (5, 0));
    assert_eq!(listing[&b"null"[..]].device, 0x103);
    assert_eq!(listing[&b"disk"[..]].device, 0x1111_0370);
    assert_eq!(listing[&b"pipe"[..]].mode, 0o010_644);
    assert_eq!(listing[&b"long"[..]].data, &long_target.as_bytes()[..4000]);
    assert_eq!(listing[&b"short"[..]].data, b"ping");
    assert!(listing.contains_key(&b"na\xffme"[..]));
}

#[test]
fn whiteouts_reach_lower_layers_only() {
    let lower = Tar::new()
        .directory("d")
        .file("d/a", b"1")
        .file("d/b", b"1")
        .file("e/f/g", b"1");
    let upper = Tar::new()
        .file("d/a", b"2")
        .file("d/.wh.a", b"")
        .file("d/.wh.b", b"")
        .file(".wh.e", b"")
        .file(".wh.missing", b"")
        .file("no/such/.wh.place", b"")
        .file(".wh..wh.plnk", b"");
    let listing = listing(&[lower, upper]).unwrap();
    assert_eq!(paths(&listing), ["d", "d/a"]);
    assert_eq!(listing[&b"d/a"[..]].data, b"2");
}

#[test]
fn opaque_directories_in_either_order() {
    let lower = Tar::new()
        .file("d/old", b"")
        .file("d/sub/old", b"")
        .file("keep", b"");
    let mark = |tar: Tar| tar.file("d/.wh..wh..opq", b"");
    let new = |tar: Tar| tar.directory("d").file("d/new", b"").file("d/sub/new", b"");
    for upper in [new(mark(Tar::new())), mark(new(Tar::new()))] {
        let listing = listing(&[lower.clone(), upper]).unwrap();
        assert_eq!(
            paths(&listing),
            ["d", "d/new", "d/sub", "d/sub/new", "keep"]
        );
    }
}

#[test]
fn directories_merge_and_other_kinds_replace() {
    let lower = Tar::new()
        .file("d/a", b"")
        .file("f", b"")
        .file("x/y/z", b"")
        .symlink("s", "d");
    let upper = Tar::new()
        .entry(Header::new(b"d/", b'5', 0).mode(0o700).owner(1, 2), &[])
        .directory("f")
        .file("f/inside", b"")
        .file("x", b"now a file")
        .directory("s");
    let listing = listing(&[lower, upper]).unwrap();
    assert_eq!(paths(&listing), ["d", "d/a", "f", "f/inside", "s", "x"]);
    assert_eq!(listing[&b"d"[..]].mode, 0o040_700);
    assert_eq!((listing[&b"d"[..]].uid, listing[&b"d"[..]].gid), (1, 2));
    assert_eq!(listing[&b"s"[..]].mode, 0o040_755);
}

#[test]
fn links_of_parents_are_followed_inside() {
    let lower = Tar::new()
        .directory("usr/lib")
        .symlink("lib", "usr/lib")
        .symlink("abs", "/usr")
        .symlink("up", "../../../../usr/lib")
        .symlink("dangling", "made/later");
    let upper = Tar::new()
        .file("lib/a", b"")
        .file("abs/lib/b", b"")
        .file("up/c", b"")
        .file("dangling/d", b"")
        .hard_link("lib/e", "up/a");
    let listing = listing(&[lower, upper]).unwrap();
    for path in [
        "usr/lib/a",
        "usr/lib/b",
        "usr/lib/c",
        "made/later/d",
        "usr/lib/e",
    ] {
        assert!(listing.contains_key(path.as_bytes()), "{path}");
    }
    assert_eq!(listing[&b"usr/lib/e"[..]].links, 2);
}

#[test]
fn hard_links_across_layers() {
    let lower = Tar::new().file("a", b"data").hard_link("b", "a");
    let upper = Tar::new().hard_link("c", "a").file("a", b"new");
    let listing = listing(&[lower, upper]).unwrap();
    assert_eq!(listing[&b"a"[..]].data, b"new");
    assert_eq!(listing[&b"a"[..]].links, 1);
    assert_eq!(listing[&b"b"[..]].data, b"data");
    assert_eq!(listing[&b"b"[..]].links, 2);
    assert_eq!(listing[&b"b"[..]].nid, listing[&b"c"[..]].nid);
}

#[test]
fn a_link_may_take_the_place_of_its_own_parent() {
    let tar = Tar::new().file("a/b", b"x").hard_link("a", "a/b");
    let listing = listing(&[tar]).unwrap();
    assert_eq!(paths(&listing), ["a"]);
    assert_eq!(
        (&listing[&b"a"[..]].data[..], listing[&b"a"[..]].links),
        (&b"x"[..], 1)
    );
    let same = Tar::new().file("a", b"x").hard_link("a", "a");
    assert_eq!(super::tests::listing(&[same]).unwrap()[&b"a"[..]].links, 1);
}

#[test]
fn absolute_names_are_names_in_the_image() {
    let listing = listing(&[Tar::new().file("/etc/passwd", b"x").file("//a", b"")]).unwrap();
    assert_eq!(paths(&listing), ["a", "etc", "etc/passwd"]);
}

#[test]
fn large_directories_and_attributes() {
    let mut tar = Tar::new();
    for number in 0..100_000 {
        tar.bytes
            .extend(Header::new(format!("d/{number:x}").as_bytes(), b'0', 0).sealed());
    }
    let value = vec![b'v'; 30_000];
    let tar = tar
        .pax(&[(b"SCHILY.xattr.user.large", &value)])
        .file("x", b"");
    let listing = listing(&[tar]).unwrap();
    assert_eq!(listing.len(), 100_003);
    assert_eq!(listing[&b"x"[..]].xattrs[&b"user.large"[..]], value);
}

#[test]
fn holes_stay_holes() {
    let mut data = vec![b'a'; 4096];
    data.extend([b'b'; 100]);
    let records: &[(&[u8], &[u8])] = &[
        (b"GNU.sparse.size", b"10000000"),
        (b"GNU.sparse.map", b"8192,4096,1000000,100"),
    ];
    let tar = Tar::new()
        .pax(records)
        .file("f", &data)
        .file("g", b"behind");
    let bytes = image(&[tar.end()]).unwrap();
    assert!(bytes.len() < 64 << 10, "{}", bytes.len());
    let listing = list(&bytes);
    let file = &listing[&b"f"[..]];
    assert_eq!(file.data.len(), 10_000_000);
    assert_eq!(file.data[8192..12_288], data[..4096]);
    assert_eq!(file.data[1_000_000..1_000_100], data[4096..]);
    assert_eq!(file.data.iter().filter(|byte| **byte != 0).count(), 4196);
    assert_eq!(file.holes[0], (0, 4096));
    assert_eq!(listing[&b"g"[..]].data, b"behind");
    // A hole of a tebibyte costs a map of bounded length.
    let records: &[(&[u8], &[u8])] = &[
        (b"GNU.sparse.size", b"1099511627776"),
        (b"GNU.sparse.map", b"1099511627775,1"),
    ];
    let bytes = image(&[Tar::new().pax(records).file("f", b"x").end()]).unwrap();
    assert!(bytes.len() < 8 << 20, "{}", bytes.len());
}

#[test]
fn the_same_layers_give_the_same_bytes() {
    let layers = [
        Tar::new()
            .file("a", b"1")
            .directory("d")
            .file("d/b", b"2")
            .end(),
        Tar::new()
            .hard_link("c", "a")
            .file("d/.wh.b", b"")
            .file("d/e", &[9; 5000])
            .end(),
    ];
    assert_eq!(image(&layers).unwrap(), image(&layers).unwrap());
}

#[test]
fn replaced_data_is_given_back() {
    let large = vec![1; 1 << 20];
    let layers = [
        Tar::new().file("a", &large).file("z", b"1").end(),
        Tar::new().file("a", b"small").end(),
    ];
    let bytes = image(&layers).unwrap();
    assert_eq!(list(&bytes)[&b"a"[..]].data, b"small");
    // Punched: zeros where the old bytes were, on any file system that can do it.
    let ones = bytes.iter().filter(|byte| **byte == 1).count();
    assert!(ones < 4096, "{ones}");
}
