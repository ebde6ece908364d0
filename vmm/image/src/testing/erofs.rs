//! Reads EROFS images for tests: superblock, inodes, directories, attributes, chunks.

use std::collections::BTreeMap;

/// One file of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) links: u32,
    pub(crate) mtime: (i64, u32),
    pub(crate) nid: u64,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Data of files, target of links.
    pub(crate) data: Vec<u8>,
    /// Holes as (start, end).
    pub(crate) holes: Vec<(u64, u64)>,
    pub(crate) device: u32,
}

pub(crate) type Listing = BTreeMap<Vec<u8>, Node>;

struct Image<'a> {
    bytes: &'a [u8],
    epoch: (i64, u32),
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// All paths of an image; the root is the empty one.
pub(crate) fn list(bytes: &[u8]) -> Listing {
    let superblock = &bytes[1024..1152];
    assert_eq!(u32_at(superblock, 0), 0xe0f5_e1e2, "magic");
    assert_eq!(superblock[12], 12, "block size");
    assert_eq!(
        bytes.len(),
        4096 * u32_at(superblock, 36) as usize,
        "length"
    );
    assert_eq!(u32_at(superblock, 40), 0, "metadata start");
    let epoch = (u64_at(superblock, 24).cast_signed(), u32_at(superblock, 32));
    let image = Image { bytes, epoch };
    let mut listing = Listing::new();
    let root = u64::from(u16_at(superblock, 14));
    image.walk(Vec::new(), root, root, &mut listing);
    let mut nids: Vec<u64> = listing.values().map(|node| node.nid).collect();
    nids.sort_unstable();
    nids.dedup();
    assert_eq!(
        nids.len() as u64,
        u64_at(superblock, 16),
        "number of inodes"
    );
    listing
}

impl Image<'_> {
    fn walk(&self, path: Vec<u8>, nid: u64, parent: u64, listing: &mut Listing) {
        let node = self.node(nid);
        let is_directory = node.mode & 0o170_000 == 0o040_000;
        let data = node.data.clone();
        listing.insert(path.clone(), node);
        if !is_directory {
            return;
        }
        let mut last: Option<Vec<u8>> = None;
        let mut dots = 0;
        for block in data.chunks(4096) {
            let count = usize::from(u16_at(block, 8)) / 12;
            for entry in 0..count {
                let at = entry * 12;
                let start = usize::from(u16_at(block, at + 8));
                let end = if entry + 1 < count {
                    usize::from(u16_at(block, at + 20))
                } else {
                    let rest = &block[start..];
                    start
                        + rest
                            .iter()
                            .position(|byte| *byte == 0)
                            .unwrap_or(rest.len())
                };
                let name = block[start..end].to_vec();
                assert!(
                    last.as_ref().is_none_or(|last| *last < name),
                    "order of {name:?}"
                );
                last = Some(name.clone());
                let child = u64_at(block, at);
                match &name[..] {
                    b"." => assert_eq!(child, nid),
                    b".." => assert_eq!(child, parent),
                    _ => {
                        let kind = [0, 5, 3, 0, 2, 0, 4, 0, 1, 0, 7, 0, 6]
                            [usize::from(self.node(child).mode >> 12)];
                        assert_eq!(block[at + 10], kind, "kind of {name:?}");
                        let mut below = path.clone();
                        if !below.is_empty() {
                            below.push(b'/');
                        }
                        below.extend(name);
                        self.walk(below, child, nid, listing);
                        continue;
                    }
                }
                dots += 1;
            }
        }
        assert_eq!(dots, 2, "dots in {path:?}");
    }

    fn node(&self, nid: u64) -> Node {
        let at = usize::try_from(nid * 32).unwrap();
        let inode = &self.bytes[at..];
        let format = u16_at(inode, 0);
        let extended = format & 1 == 1;
        let header = if extended { 64 } else { 32 };
        assert!(at % 4096 + header <= 4096, "inode {nid} crosses a block");
        let mode = u16_at(inode, 4);
        let (size, uid, gid, links, mtime) = if extended {
            let mtime = (u64_at(inode, 32).cast_signed(), u32_at(inode, 40));
            (
                u64_at(inode, 8),
                u32_at(inode, 24),
                u32_at(inode, 28),
                u32_at(inode, 44),
                mtime,
            )
        } else {
            let [links, uid, gid] = [6, 24, 26].map(|at| u32::from(u16_at(inode, at)));
            (u64::from(u32_at(inode, 8)), uid, gid, links, self.epoch)
        };
        let (xattr_bytes, xattrs) = xattrs(&inode[header..], u16_at(inode, 2));
        let union = u32_at(inode, 16);
        let has_data = matches!(mode >> 12, 0o10 | 0o4 | 0o12);
        let size = usize::try_from(size).unwrap();
        let mut node = Node {
            mode,
            uid,
            gid,
            links,
            mtime,
            nid,
            xattrs,
            data: Vec::new(),
            holes: Vec::new(),
            device: if has_data { 0 } else { union },
        };
        if !has_data {
            return node;
        }
        let tail = at + header + xattr_bytes;
        let block = |number: u32| &self.bytes[number as usize * 4096..];
        match format >> 1 {
            _ if size == 0 => {}
            0 => node.data = block(union)[..size].to_vec(),
            2 => {
                let inline = size % 4096;
                let whole = size - inline;
                if whole > 0 {
                    node.data = block(union)[..whole].to_vec();
                }
                assert!(
                    tail % 4096 + inline <= 4096,
                    "tail of inode {nid} crosses a block"
                );
                assert!(inline > 0);
                node.data
                    .extend_from_slice(&self.bytes[tail..tail + inline]);
            }
            4 => {
                assert!(union < 32, "chunk format");
                let chunk = 4096_usize << union;
                for number in 0..size.div_ceil(chunk) {
                    let length = chunk.min(size - number * chunk);
                    match u32_at(self.bytes, tail + 4 * number) {
                        u32::MAX => {
                            let start = (number * chunk) as u64;
                            node.holes.push((start, start + length as u64));
                            node.data.resize(node.data.len() + length, 0);
                        }
                        number => node.data.extend_from_slice(&block(number)[..length]),
                    }
                }
            }
            other => panic!("layout {other}"),
        }
        node
    }
}

fn xattrs(bytes: &[u8], count: u16) -> (usize, BTreeMap<Vec<u8>, Vec<u8>>) {
    let mut found = BTreeMap::new();
    if count == 0 {
        return (0, found);
    }
    let length = 12 + 4 * (usize::from(count) - 1);
    assert_eq!(bytes[4], 0, "shared attributes");
    let mut at = 12;
    while at < length {
        let (name, value) = (usize::from(bytes[at]), usize::from(u16_at(bytes, at + 2)));
        let prefix: &[u8] = match bytes[at + 1] {
            1 => b"user.",
            2 => b"system.posix_acl_access",
            3 => b"system.posix_acl_default",
            4 => b"trusted.",
            6 => b"security.",
            other => panic!("prefix {other}"),
        };
        let start = at + 4;
        let full = [prefix, &bytes[start..start + name]].concat();
        found.insert(full, bytes[start + name..start + name + value].to_vec());
        at = (start + name + value).next_multiple_of(4);
    }
    assert_eq!(at, length, "length of attributes");
    (length, found)
}
