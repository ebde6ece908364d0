//! Processes that pull, load, remove, prune, check and start the same images all at once: nobody ever sees half of one.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use image::reference::{Reference, Source};
use image::{GetError, Platform, Pull, RemoveError, Store, StoreError};

use crate::fixture::Home;
use crate::skopeo::skopeo;
use crate::store::published;

const ROOT: &str = "HULL_TEST_STRESS_ROOT";
const FROM: &str = "HULL_TEST_STRESS_FROM";
const ARCHIVE: &str = "HULL_TEST_STRESS_ARCHIVE";
const WORK: &str = "HULL_TEST_STRESS_WORK";
/// How long all of them work.
const TIME: Duration = Duration::from_secs(8);

struct Work {
    root: std::path::PathBuf,
    pulled: Reference,
    loaded: Reference,
    archive: Source,
}

impl Work {
    fn store(&self) -> Store {
        // Each time anew, as each command does.
        Store::open(&self.root).unwrap()
    }

    /// What `hull pull` does. However others meddle, a pull that succeeds has an image, and none fails for it.
    fn pull(&self, home: &Home) {
        let client = home.client();
        let pull = Pull {
            client: &client,
            policy: None,
            platform: Platform::host(),
            progress: home.watcher.clone(),
        };
        self.store().pull(&self.pulled, &pull).unwrap();
    }

    fn load(&self) {
        let loaded = self.store().load(&self.archive).unwrap();
        assert_eq!(loaded[0].names, std::slice::from_ref(&self.loaded));
    }

    fn remove(&self) {
        for name in [&self.pulled, &self.loaded] {
            match self.store().remove(&name.to_string(), false) {
                Ok(_) | Err(RemoveError::Unknown(_) | RemoveError::InUse(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    fn prune(&self, all: bool) {
        self.store().prune(all).unwrap();
    }

    /// What `hull run --pull never` does: the image is there as a whole, or not at all. True if it was there.
    fn start(&self) -> bool {
        let store = self.store();
        let mut found = false;
        for name in [&self.pulled, &self.loaded] {
            let image = match store.get(&Source::Registry(name.clone())) {
                Ok(image) => image,
                Err(GetError::Remote(_)) => continue,
                Err(error) => panic!("{error:?}"),
            };
            let mut root = match store.open_root(&image) {
                Ok(root) => root,
                Err(StoreError::Removed(_)) => continue,
                Err(error) => panic!("{error:?}"),
            };
            let mut bytes = Vec::new();
            root.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes.len() as u64, image.bytes);
            // (EROFS: the magic number at 1024.)
            assert_eq!(bytes[1024..1028], 0xe0f5_e1e2_u32.to_le_bytes());
            found = true;
        }
        found
    }

    fn check(&self) {
        assert_eq!(self.store().check(false).unwrap(), []);
        self.store().list().unwrap();
        self.store().usage().unwrap();
    }
}

/// The other half of the next test: does one kind of work without end.
#[test]
#[ignore = "is run by nobody_sees_half_an_image, which gives it its work"]
fn works_in_a_process_of_its_own() {
    let variable = |name: &str| std::env::var(name).expect("run by another test only");
    let work = Work {
        root: variable(ROOT).into(),
        pulled: variable(FROM).parse().unwrap(),
        loaded: "loaded:1".parse().unwrap(),
        archive: Source::DockerArchive {
            path: variable(ARCHIVE).into(),
            name: None,
        },
    };
    let home = Home::new();
    let (begun, kind) = (Instant::now(), variable(WORK));
    let mut rounds = 0;
    while begun.elapsed() < TIME {
        let done = match kind.as_str() {
            "pull" => {
                work.pull(&home);
                true
            }
            "load" => {
                work.load();
                true
            }
            "remove" => {
                work.remove();
                std::thread::sleep(Duration::from_millis(20));
                true
            }
            "prune" => {
                work.prune(rounds % 4 == 0);
                std::thread::sleep(Duration::from_millis(10));
                true
            }
            "start" => work.start(),
            "check" => {
                work.check();
                true
            }
            other => panic!("{other}"),
        };
        rounds += usize::from(done);
    }
    println!("\nrounds {rounds}");
}

#[test]
fn nobody_sees_half_an_image() {
    let (registry, home) = published();
    let archive = home.path().join("archive.tar");
    // Another image than the one that is pulled, with a layer in common: parts are shared, and must not go with either.
    let layout = home.path().join("layout");
    let (one, two) = (
        format!("{}:one", layout.display()),
        format!("{}:two", layout.display()),
    );
    let umoci = |arguments: &[&str]| crate::fixture::run(Command::new("umoci").args(arguments));
    umoci(&["tag", "--image", &one, "two"]);
    umoci(&["config", "--image", &two, "--config.cmd", "other"]);
    let target = format!("docker-archive:{}:loaded:1", archive.display());
    skopeo(&["copy", "-q", &format!("oci:{two}"), &target]);
    let root = home.path().join("store");
    let works = [
        "pull", "pull", "load", "remove", "prune", "start", "start", "check",
    ];
    let children: Vec<_> = works
        .iter()
        .map(|work| start(work, &root, &registry.name("app:1"), &archive))
        .collect();
    for (work, child) in works.iter().zip(children) {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{work}: {said}");
        let rounds = said.lines().find_map(|line| line.strip_prefix("rounds "));
        let rounds: usize = rounds.unwrap_or_else(|| panic!("{said}")).parse().unwrap();
        eprintln!("{work}: {rounds}");
        assert!(rounds > 0, "{work} never had anything to do");
    }
    // Nothing is left when all is removed.
    let store = Store::open(&root).unwrap();
    store.prune(true).unwrap();
    for directory in ["roots", "images", "blobs/sha256", "names", "tmp"] {
        let left = std::fs::read_dir(root.join(directory)).unwrap().count();
        assert_eq!(left, 0, "{directory}");
    }
}

fn start(work: &str, root: &Path, from: &Reference, archive: &Path) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "stress::works_in_a_process_of_its_own"])
        .args(["--ignored", "--nocapture"])
        .env(WORK, work)
        .env(ROOT, root)
        .env(FROM, from.to_string())
        .env(ARCHIVE, archive)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}
