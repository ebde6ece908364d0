//! Archives in every dialect, and broken ones.

use super::*;
use crate::testing::archive::{Header, Tar, record};

fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
    let mut reader = Reader::new(bytes);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next()? {
        let mut data = Vec::new();
        loop {
            let piece = reader.data()?;
            if piece.is_empty() {
                break;
            }
            data.extend_from_slice(piece);
            let count = piece.len();
            reader.consume(count);
        }
        entries.push((entry, data));
    }
    reader.drain()?;
    Ok(entries)
}

fn one(tar: Tar) -> Entry {
    let mut entries = read(&tar.end()).unwrap();
    assert_eq!(entries.len(), 1);
    entries.remove(0).0
}

#[test]
fn plain_entries() {
    let tar = Tar::new()
        .file("a", b"hello")
        .directory("d/")
        .symlink("l", "a")
        .hard_link("h", "a")
        .entry(Header::new(b"c", b'3', 0).device(5, 1), &[])
        .entry(Header::new(b"b", b'4', 0).device(8, 300_000), &[])
        .entry(
            Header::new(b"f", b'6', 0)
                .mode(0o104_755)
                .owner(65_534, 3_000_000_000),
            &[],
        );
    let entries = read(&tar.end()).unwrap();
    let kinds: Vec<_> = entries
        .iter()
        .map(|(entry, _)| entry.kind.clone())
        .collect();
    assert_eq!(
        kinds,
        [
            Kind::File { size: 5, map: None },
            Kind::Directory,
            Kind::Symlink(b"a".into()),
            Kind::HardLink(b"a".into()),
            Kind::CharDevice { major: 5, minor: 1 },
            Kind::BlockDevice {
                major: 8,
                minor: 300_000
            },
            Kind::Fifo,
        ]
    );
    assert_eq!(entries[0].1, b"hello");
    assert_eq!(entries[1].0.path, b"d");
    let fifo = &entries[6].0;
    assert_eq!(
        (fifo.mode, fifo.uid, fifo.gid),
        (0o4755, 65_534, 3_000_000_000)
    );
}

#[test]
fn long_names_in_both_dialects() {
    let long = "x/".repeat(150) + "end";
    let gnu = Tar::new()
        .long(b'L', long.as_bytes())
        .long(b'K', b"to/long")
        .entry(Header::new(b"short", b'2', 0).gnu(), &[]);
    let entry = one(gnu);
    assert_eq!(entry.path, long.as_bytes());
    assert_eq!(entry.kind, Kind::Symlink(b"to/long".into()));
    let pax = Tar::new().pax(&[(b"path", long.as_bytes()), (b"linkpath", b"\xff\xfe")]);
    let entry = one(pax.symlink("short", "s"));
    assert_eq!(entry.path, long.as_bytes());
    assert_eq!(entry.kind, Kind::Symlink(b"\xff\xfe".into()));
    let mut prefix = Header::new(b"name", b'0', 0);
    prefix.put(345, b"some/prefix");
    assert_eq!(
        one(Tar::new().entry(prefix.clone(), &[])).path,
        b"some/prefix/name"
    );
    assert_eq!(one(Tar::new().entry(prefix.gnu(), &[])).path, b"name");
}

#[test]
fn numbers_of_pax_win() {
    let records: &[(&[u8], &[u8])] = &[
        (b"uid", b"4294967294"),
        (b"gid", b"3000000"),
        (b"mtime", b"-1.25"),
        (b"size", b"3"),
        (b"SCHILY.xattr.user.a", b"line\nbreak\0"),
        (b"SCHILY.xattr.security.capability", b"\x01\0\0\x02"),
        (b"comment", b"ignored"),
    ];
    let header = Header::new(b"f", b'0', 0);
    let entry = one(Tar::new().pax(records).entry(header, b"abc"));
    assert_eq!((entry.uid, entry.gid), (4_294_967_294, 3_000_000));
    assert_eq!(
        entry.mtime,
        Time {
            seconds: -2,
            nanoseconds: 750_000_000
        }
    );
    assert_eq!(entry.kind, Kind::File { size: 3, map: None });
    assert_eq!(
        entry.xattrs[0],
        (b"user.a".to_vec(), b"line\nbreak\0".to_vec())
    );
    assert_eq!(entry.xattrs[1].1, b"\x01\0\0\x02");
    let header = Header::new(b"f", b'0', 0);
    let entry = one(Tar::new()
        .pax(&[(b"mtime", b"5.1234567899")])
        .entry(header, &[]));
    assert_eq!(
        entry.mtime,
        Time {
            seconds: 5,
            nanoseconds: 123_456_789
        }
    );
}

#[test]
fn negative_binary_time() {
    let mut header = Header::new(b"f", b'0', 0);
    header.put(136, &[0xff; 12]);
    assert_eq!(one(Tar::new().entry(header, &[])).mtime.seconds, -1);
}

#[test]
fn sparse_in_every_form() {
    let data = [b'd'; 1536];
    let map = vec![
        Segment {
            offset: 4096,
            length: 512,
        },
        Segment {
            offset: 10_240,
            length: 1024,
        },
    ];
    let expected = Kind::File {
        size: 1 << 33,
        map: Some(map),
    };
    let size = (1_u64 << 33).to_string();
    let size = size.as_bytes();

    let form_0_0 = Tar::new().pax(&[
        (b"GNU.sparse.size", size),
        (b"GNU.sparse.numblocks", b"2"),
        (b"GNU.sparse.offset", b"4096"),
        (b"GNU.sparse.numbytes", b"512"),
        (b"GNU.sparse.offset", b"10240"),
        (b"GNU.sparse.numbytes", b"1024"),
    ]);
    assert_eq!(one(form_0_0.file("f", &data)).kind, expected);

    let form_0_1 = Tar::new().pax(&[
        (b"GNU.sparse.size", size),
        (b"GNU.sparse.name", b"real/name"),
        (b"GNU.sparse.map", b"4096,512,10240,1024"),
    ]);
    let entry = one(form_0_1.file("GNUSparseFile.1/name", &data));
    assert_eq!(
        (entry.path, entry.kind),
        (b"real/name".to_vec(), expected.clone())
    );

    let mut stored = b"2\n4096\n512\n10240\n1024\n".to_vec();
    stored.resize(512, 0);
    stored.extend(data);
    let form_1_0 = Tar::new().pax(&[
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", b"f"),
        (b"GNU.sparse.realsize", size),
    ]);
    let entries = read(&form_1_0.file("GNUSparseFile.1/f", &stored).end()).unwrap();
    assert_eq!(
        (&entries[0].0.kind, &entries[0].1[..]),
        (&expected, &data[..])
    );

    let mut header = Header::new(b"f", b'S', 1536).gnu();
    header
        .number(386, 12, 4096)
        .number(398, 12, 512)
        .number(483, 12, 1 << 33);
    header.put(482, &[1]);
    let mut more = [0; 512];
    more[..24].copy_from_slice(b"00000024000\x0000000002000\0");
    let old = Tar::new().raw(&header.sealed()).raw(&more).raw(&data);
    let entries = read(&old.end()).unwrap();
    assert_eq!(
        (&entries[0].0.kind, &entries[0].1[..]),
        (&expected, &data[..])
    );
}

#[test]
fn impossible_maps_are_refused() {
    for map in [
        "10,5,12,5",
        "0,10,20",
        "0,999999999999",
        "5,18446744073709551615",
        "0,9",
    ] {
        let records: &[(&[u8], &[u8])] = &[
            (b"GNU.sparse.size", b"100"),
            (b"GNU.sparse.map", map.as_bytes()),
        ];
        let result = read(&Tar::new().pax(records).file("f", &[0; 10]).end());
        assert!(
            matches!(result, Err(TarError::Sparse(_))),
            "{map}: {result:?}"
        );
    }
}

#[test]
fn ends_of_archives() {
    let whole = Tar::new().file("f", b"data").end();
    assert_eq!(
        read(&whole[..1024]).unwrap().len(),
        1,
        "without an end mark"
    );
    assert_eq!(
        read(&whole[..1536]).unwrap().len(),
        1,
        "with half an end mark"
    );
    assert_eq!(
        read(&[&whole[..], b"rubbish behind"].concat())
            .unwrap()
            .len(),
        1
    );
    // umoci ends its layers right after the last file's data.
    for end in [516, 600, 1023] {
        assert_eq!(read(&whole[..end]).unwrap()[0].1, b"data", "{end}");
    }
    for cut in [100, 514, 1100] {
        let result = read(&whole[..cut]);
        assert!(
            matches!(result, Err(TarError::Truncated(_))),
            "{cut}: {result:?}"
        );
    }
    assert!(read(&[]).unwrap().is_empty());
}

#[test]
fn bad_headers_are_refused() {
    let mut flipped = Tar::new().file("f", b"").end();
    flipped[0] ^= 1;
    assert!(matches!(read(&flipped), Err(TarError::Checksum(0))));
    let huge = Tar::new()
        .entry(Header::new(b"f", b'0', u64::MAX >> 1), b"x")
        .end();
    assert!(matches!(read(&huge), Err(TarError::Truncated(_))));
    let name = Tar::new()
        .entry(Header::new(b"l", b'L', 1 << 40).gnu(), b"x")
        .end();
    assert!(matches!(read(&name), Err(TarError::Extension { .. })));
    let long = "n".repeat(5000);
    let long = Tar::new().long(b'L', long.as_bytes()).file("f", b"").end();
    assert!(matches!(
        read(&long),
        Err(TarError::Name { bytes: 5000, .. })
    ));
    for kind in *b"MNQ" {
        let tar = Tar::new().entry(Header::new(b"f", kind, 0), &[]).end();
        assert!(matches!(read(&tar), Err(TarError::Kind { .. })));
    }
    for bytes in [
        &b"99 path=x\n"[..],
        b"path=x\n",
        b"11 pathxxx\n",
        b"10 path=x",
        b"0 a=b\n",
    ] {
        let header = Header::new(b"x", b'x', bytes.len() as u64);
        let tar = Tar::new().entry(header, bytes).file("f", b"").end();
        assert!(matches!(read(&tar), Err(TarError::Pax(0))), "{bytes:?}");
    }
    let names: Vec<_> = (0..1001)
        .map(|n| format!("SCHILY.xattr.user.{n}").into_bytes())
        .collect();
    let many: Vec<_> = names.iter().map(|name| (&name[..], &b"x"[..])).collect();
    let many = Tar::new().pax(&many).file("f", b"").end();
    assert!(matches!(read(&many), Err(TarError::Pax(0))));
    let nul = Tar::new().pax(&[(b"path", b"a\0b")]).file("f", b"").end();
    assert!(matches!(read(&nul), Err(TarError::Pax(0))));
    let number = Tar::new()
        .pax(&[(b"uid", b"4294967296")])
        .file("f", b"")
        .end();
    assert!(matches!(
        read(&number),
        Err(TarError::Number { field: "uid", .. })
    ));
}

#[test]
fn links_and_directories_have_no_data() {
    // A size in a hard link's header is ignored, as Go does.
    let tar = Tar::new()
        .entry(Header::new(b"h", b'1', 4096).link(b"f"), &[])
        .entry(Header::new(b"d/", 0, 0), &[])
        .file("f", b"x");
    let entries = read(&tar.end()).unwrap();
    assert_eq!(entries.len(), 3);
    assert_eq!(entries[1].0.kind, Kind::Directory);
}

#[test]
fn records_count_their_own_length() {
    assert_eq!(record(b"path", b"x"), b"9 path=x\n");
    assert_eq!(record(b"path", b"xx"), b"11 path=xx\n");
}

#[test]
fn what_is_written_with_holes_is_read_with_them() {
    let segment = |offset, length| Segment { offset, length };
    for map in [
        vec![],
        vec![segment(0, 3)],
        vec![segment(4096, 512), segment(1 << 40, 1)],
    ] {
        let stored: u64 = map.iter().map(|segment| segment.length).sum();
        let entry = Entry {
            path: b"d/f".to_vec(),
            kind: Kind::File {
                size: (1 << 40) + 1,
                map: Some(map),
            },
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: Vec::new(),
        };
        let mut bytes = header(&entry);
        let content = vec![7; usize::try_from(stored).unwrap()];
        bytes.extend(&content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
        assert_eq!(read(&bytes).unwrap(), [(entry, content)]);
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(0_u8.., 0..3000)) {
        let _ = read(&bytes);
    }

    #[test]
    fn any_damage_is_survived(at in 0_usize..4096, value: u8) {
        let mut bytes = Tar::new()
            .pax(&[(b"path", b"a"), (b"GNU.sparse.size", b"90"), (b"GNU.sparse.map", b"0,5")])
            .file("f", b"12345").long(b'L', b"name").file("g", b"6").end();
        let at = at % bytes.len();
        bytes[at] = value;
        let _ = read(&bytes);
    }
}
