//! The store under good and bad archives, shared, killed and out of space.

mod broken;
mod crash;
mod manage;
mod tools;

use std::io::{Cursor, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::*;
use crate::reference::Source;
use crate::testing::archive::{Packing, Tar, config, docker_archive, oci_layout};
use crate::testing::erofs::list;

fn layer(text: &str) -> Vec<u8> {
    Tar::new()
        .directory("etc")
        .file("etc/name", text.as_bytes())
        .end()
}

/// Everything in the store's directory but its caches and locks, with lengths.
pub(super) fn contents(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                if !name.starts_with("sources/") && !matches!(name.as_str(), "lock" | "turn") {
                    found.push(format!("{name} {}", path.metadata().unwrap().len()));
                }
            }
        }
    }
    found.sort();
    found
}

pub(super) fn source(path: &Path) -> Source {
    Source::DockerArchive {
        path: path.to_owned(),
        name: None,
    }
}

struct Fixture {
    work: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let work = tempfile::tempdir().unwrap();
        let store = Store::open(&work.path().join("store")).unwrap();
        Self { work, store }
    }

    fn archive(&self, bytes: &[u8]) -> Source {
        let path = self.work.path().join("archive.tar");
        std::fs::write(&path, bytes).unwrap();
        source(&path)
    }

    fn root(&self) -> PathBuf {
        self.work.path().join("store")
    }
}

#[test]
fn an_archive_becomes_an_image() {
    let fixture = Fixture::new();
    let source = fixture.archive(&docker_archive(&[layer("lower"), layer("upper")], "x:1"));
    let image = fixture.store.get(&source).unwrap();
    assert_eq!(image.execution.cmd, ["sh"]);
    assert_eq!(image.execution.user, "7");
    let mut bytes = Vec::new();
    fixture
        .store
        .open_root(&image)
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    assert_eq!(bytes.len() as u64, image.bytes);
    assert_eq!(list(&bytes)[&b"etc/name"[..]].data, b"upper");
    assert_eq!(std::fs::read(&image.path).unwrap(), bytes);
    let config = fixture.store.config(&image.id).unwrap();
    assert_eq!(config.rootfs.diff_ids.len(), 2);
    assert_eq!(fixture.store.find(&image.id).unwrap(), Some(image.clone()));
    assert_eq!(fixture.store.get(&source).unwrap(), image);
}

#[test]
fn layouts_and_their_archives() {
    let fixture = Fixture::new();
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let text = format!("{packing:?}");
        let directory = fixture.work.path().join(&text);
        let path = oci_layout(&directory, &[layer(&text)], packing, "v1");
        let tag = Some("v1".to_owned());
        let image = fixture
            .store
            .get(&Source::Oci {
                path: path.clone(),
                tag: tag.clone(),
            })
            .unwrap();
        let bytes = std::fs::read(&image.path).unwrap();
        assert_eq!(list(&bytes)[&b"etc/name"[..]].data, text.as_bytes());
        let archive = fixture.work.path().join("layout.tar");
        let mut tar = std::process::Command::new("tar");
        tar.arg("-cf").arg(&archive).arg("-C").arg(&path).arg(".");
        assert!(tar.status().unwrap().success());
        let again = fixture
            .store
            .get(&Source::OciArchive { path: archive, tag })
            .unwrap();
        assert_eq!(again, image);
    }
}

#[test]
fn same_layers_are_one_root() {
    let fixture = Fixture::new();
    let layers = [layer("same")];
    let mut images = Vec::new();
    for execution in [r#"{"Cmd":["a"]}"#, r#"{"Cmd":["b"]}"#] {
        let config = config(&layers, execution);
        let mut source = Counted::new(&layers);
        images.push(
            fixture
                .store
                .convert(&config, &source.expected(), &mut source)
                .unwrap(),
        );
        assert_eq!(source.opened.load(Ordering::Relaxed), 2 - images.len());
    }
    assert_ne!(images[0].id, images[1].id);
    assert_eq!(images[0].path, images[1].path);
}

/// Layers that count how often they are opened.
struct Counted {
    layers: Vec<Vec<u8>>,
    opened: AtomicUsize,
}

impl Counted {
    fn new(layers: &[Vec<u8>]) -> Self {
        Self {
            layers: layers.to_vec(),
            opened: AtomicUsize::new(0),
        }
    }

    fn expected(&self) -> Vec<Expected> {
        let expected = |layer: &Vec<u8>| Expected {
            digest: None,
            size: layer.len() as u64,
            diff_id: Digest::of(layer),
        };
        self.layers.iter().map(expected).collect()
    }
}

impl Layers for &Counted {
    fn open(&mut self, position: usize) -> io::Result<Box<dyn Read + Send + '_>> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Cursor::new(&self.layers[position])))
    }
}

impl Layers for Counted {
    fn open(&mut self, position: usize) -> io::Result<Box<dyn Read + Send + '_>> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Cursor::new(&self.layers[position])))
    }
}

#[test]
fn concurrent_conversions_share_the_work() {
    let fixture = Fixture::new();
    let source = Counted::new(&[Tar::new().file("f", &vec![1; 4 << 20]).end()]);
    let config = config(&source.layers, "{}");
    let images: Vec<Image> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let store = Store::open(&fixture.root()).unwrap();
                    store
                        .convert(&config, &source.expected(), &mut &source)
                        .unwrap()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(images.iter().all(|image| *image == images[0]));
    assert_eq!(source.opened.load(Ordering::SeqCst), 1);
    assert_eq!(
        contents(&fixture.root()).len(),
        4,
        "{:?}",
        contents(&fixture.root())
    );
}

/// Layers that say when they are asked for, and come when they are let go.
struct Held {
    asked: Sender<()>,
    layers: Receiver<Vec<u8>>,
}

impl Layers for Held {
    fn open(&mut self, _: usize) -> io::Result<Box<dyn Read + Send + '_>> {
        self.asked.send(()).map_err(io::Error::other)?;
        let bytes = self.layers.recv().map_err(io::Error::other)?;
        Ok(Box::new(Cursor::new(bytes)))
    }
}

#[test]
fn who_waits_for_a_conversion_does_not_wait_for_who_runs_it() {
    const NUMBER: usize = 8;
    const LIMIT: Duration = Duration::from_secs(60);
    let fixture = Fixture::new();
    let source = Counted::new(&[layer("hull")]);
    let (expected, config) = (source.expected(), config(&source.layers, "{}"));
    let (asked, begins) = channel();
    let (done, ends) = channel();
    let over = std::sync::Mutex::new(());
    std::thread::scope(|scope| {
        // In here: a failed assertion lets go of all that others wait for.
        let (release, layers) = channel();
        let running = over.lock().unwrap();
        let convert = |source: &mut dyn Layers| {
            let store = Store::open(&fixture.root()).unwrap();
            store.convert(&config, &expected, source).unwrap();
        };
        scope.spawn(move || convert(&mut Held { asked, layers }));
        // From here on what it writes is locked, and the only file there.
        begins.recv_timeout(LIMIT).unwrap();
        let temporaries = fixture.root().join(directory::TEMPORARY);
        let mut temporaries = std::fs::read_dir(temporaries).unwrap();
        let file = File::open(temporaries.next().unwrap().unwrap().path()).unwrap();
        for _ in 0..NUMBER {
            // A machine runs the image as soon as it is one, and for as long as the test takes.
            let (machine, over) = (
                File::open(format!("/proc/self/fd/{}", file.as_raw_fd())),
                &over,
            );
            scope.spawn(move || {
                let machine = machine.unwrap();
                rustix::fs::flock(&machine, FlockOperation::LockShared).unwrap();
                drop(over.lock());
            });
            let (done, mut source) = (done.clone(), &source);
            scope.spawn(move || {
                convert(&mut source);
                done.send(()).unwrap();
            });
        }
        let inode = format!(":{} ", file.metadata().unwrap().ino());
        let waiting = || {
            let locks = std::fs::read_to_string("/proc/locks").unwrap();
            let waits = |line: &&str| line.contains("->") && line.contains(&inode);
            locks.lines().filter(waits).count()
        };
        let begun = Instant::now();
        while waiting() < 2 * NUMBER {
            assert!(begun.elapsed() < LIMIT, "{} wait", waiting());
            std::thread::yield_now();
        }
        release.send(source.layers[0].clone()).unwrap();
        let ended = (0..NUMBER).take_while(|_| ends.recv_timeout(LIMIT).is_ok());
        let ended = ended.count();
        drop(running);
        assert_eq!(ended, NUMBER);
    });
    assert_eq!(source.opened.load(Ordering::SeqCst), 0);
}

#[test]
fn what_is_refused_leaves_the_store_as_it_was() {
    let fixture = Fixture::new();
    fixture
        .store
        .get(&fixture.archive(&docker_archive(&[layer("good")], "good:1")))
        .unwrap();
    let before = contents(&fixture.root());
    let hostile = [
        Tar::new().file("../x", b"").end(),
        Tar::new().hard_link("a", "b").hard_link("b", "a").end(),
        Tar::new().file("f", &[0; 100_000]).end()[..50_000].to_vec(),
        b"this is no tar at all, but long enough to be looked at as if it was one".repeat(20),
    ];
    for layer in hostile {
        let archive = docker_archive(&[crate::testing::archive::Tar::new().end(), layer], "bad:1");
        let error = fixture.store.get(&fixture.archive(&archive)).unwrap_err();
        assert!(matches!(error, GetError::Convert { .. }), "{error:?}");
        assert_eq!(contents(&fixture.root()), before);
    }
    let good = docker_archive(&[layer("other")], "other:1");
    for at in (0..good.len()).step_by(211) {
        let mut damaged = good.clone();
        damaged[at] ^= 0x20;
        // Damage between members or in names nobody asks for may go unnoticed; then all is right.
        match fixture.store.get(&fixture.archive(&damaged)) {
            Ok(image) => {
                let bytes = std::fs::read(&image.path).unwrap();
                assert_eq!(list(&bytes)[&b"etc/name"[..]].data, b"other");
            }
            Err(_) => assert!(
                contents(&fixture.root())
                    .iter()
                    .all(|name| !name.starts_with("tmp"))
            ),
        }
    }
}

#[test]
fn a_bomb_is_stopped() {
    let work = tempfile::tempdir().unwrap();
    let limits = Limits {
        expansion: 10,
        free_expansion: 1 << 20,
        ..Limits::default()
    };
    let store = Store::open(&work.path().join("store"))
        .unwrap()
        .with_limits(limits);
    let layers = [Tar::new().file("zeros", &vec![0; 64 << 20]).end()];
    let path = oci_layout(&work.path().join("bomb"), &layers, Packing::Zstd, "x");
    let error = store.get(&Source::Oci { path, tag: None }).unwrap_err();
    let mut chain = vec![error.to_string()];
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        chain.push(error.to_string());
        cause = error.source();
    }
    assert!(
        chain.iter().any(|line| line.contains("decompression bomb")),
        "{chain:?}"
    );
    assert_eq!(contents(&work.path().join("store")), Vec::<String>::new());
}

#[test]
fn a_known_archive_is_not_read_again() {
    let fixture = Fixture::new();
    let bytes = docker_archive(&[layer("first")], "x:1");
    let source = fixture.archive(&bytes);
    let path = fixture.work.path().join("archive.tar");
    let image = fixture.store.get(&source).unwrap();
    let remembered =
        || std::fs::read_dir(fixture.root().join("sources")).map_or(0, Iterator::count);
    assert_eq!(
        remembered(),
        0,
        "an archive this young may still change unseen"
    );
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(fixture.store.get(&source).unwrap(), image);
    assert_eq!(remembered(), 1);
    // The same bytes cannot be read any more: whoever gets the image now has not looked.
    let damaged = vec![0xff; bytes.len()];
    let file = File::options().write(true).open(&path).unwrap();
    let times = path.metadata().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &damaged, 0).unwrap();
    file.set_times(std::fs::FileTimes::new().set_modified(times.modified().unwrap()))
        .unwrap();
    // Same inode, size and mtime, but the change time tells.
    assert!(fixture.store.get(&source).is_err());
    let record = std::fs::read_dir(fixture.root().join("sources"))
        .unwrap()
        .next()
        .unwrap();
    std::fs::write(record.unwrap().path(), b"rubbish").unwrap();
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(
        fixture.store.get(&source).unwrap(),
        image,
        "a damaged cache is no cache"
    );
}

#[test]
fn private_modes_and_owner() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new();
    fixture
        .store
        .get(&fixture.archive(&docker_archive(&[layer("x")], "x:1")))
        .unwrap();
    let mut pending = vec![fixture.root()];
    while let Some(path) = pending.pop() {
        let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
        if path.is_dir() {
            assert_eq!(mode, 0o700, "{path:?}");
            pending.extend(
                std::fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else {
            assert_eq!(mode, 0o600, "{path:?}");
        }
    }
    if rustix::process::geteuid().is_root() {
        let other = fixture.work.path().join("other");
        std::fs::create_dir(&other).unwrap();
        std::os::unix::fs::chown(&other, Some(12_345), None).unwrap();
        assert!(matches!(
            Store::open(&other),
            Err(StoreError::Owner { owner: 12_345, .. })
        ));
    } else {
        eprintln!("SKIPPED: a directory of another user needs root");
    }
}

#[test]
fn a_removed_image_says_so() {
    let fixture = Fixture::new();
    let source = fixture.archive(&docker_archive(&[layer("x")], "x:1"));
    let image = fixture.store.get(&source).unwrap();
    std::fs::remove_file(&image.path).unwrap();
    assert!(matches!(
        fixture.store.open_root(&image),
        Err(StoreError::Removed(_))
    ));
    let other = Digest::of(b"other");
    assert!(matches!(
        fixture.store.config(&other),
        Err(StoreError::Unknown(_))
    ));
    assert_eq!(fixture.store.find(&other).unwrap(), None);
}

#[test]
fn the_same_bytes_in_two_stores_have_the_same_content() {
    let (one, two) = (Fixture::new(), Fixture::new());
    let get = |fixture: &Fixture, text: &str| {
        let source = fixture.archive(&docker_archive(&[layer(text)], "x:1"));
        let image = fixture.store.get(&source).unwrap();
        fixture.store.content(&image).unwrap()
    };
    let here = get(&one, "text");
    assert_eq!(get(&two, "text"), here);
    assert_ne!(get(&two, "another"), here);
}
