//! Pulling into the store and pushing out of it: what arrives, what is shared, and what a failure leaves behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use image::reference::{Reference, Source};
use image::registry::Unwatched;
use image::trust::{Policy, TrustError, Verdict};
use image::{Platform, Pull, PullError, Pulled, PushError, Store};

use crate::faults::{Action, Faults, Seen};
use crate::fixture::{Home, Image, Registry, name, noise};
use crate::skopeo::{layout, skopeo};

/// A registry with a real image of two layers, pushed by skopeo.
pub(crate) fn published() -> (Registry, Home) {
    let registry = Registry::start();
    let home = Home::new();
    let image = layout(home.path());
    let target = format!("docker://{}/app:1", registry.address);
    skopeo(&[
        "copy",
        "-q",
        "--dest-tls-verify=false",
        &format!("oci:{image}"),
        &target,
    ]);
    (registry, home)
}

pub(crate) fn store(home: &Home, label: &str) -> Store {
    Store::open(&home.path().join(label)).unwrap()
}

pub(crate) fn pull(home: &Home, store: &Store, from: &Reference) -> Result<Pulled, PullError> {
    pull_under(home, store, from, None)
}

pub(crate) fn pull_under(
    home: &Home,
    store: &Store,
    from: &Reference,
    policy: Option<&Policy>,
) -> Result<Pulled, PullError> {
    store.pull(
        from,
        &Pull {
            client: &home.client(),
            policy,
            platform: Platform::host(),
            progress: home.watcher.clone(),
        },
    )
}

/// Every file of a store, without what is being written.
pub(crate) fn files(root: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => left.push(path),
                false => {
                    found.insert(path.strip_prefix(root).unwrap().to_owned());
                }
            }
        }
    }
    found
}

#[test]
fn a_pulled_image_is_there_and_is_not_fetched_again() {
    let (registry, home) = published();
    let faults = Faults::start(&registry.address, |_| Action::Pass);
    let from = name(&faults.address, "app:1");
    let store = store(&home, "store");
    assert!(store.named(&from).unwrap().is_none());
    let first = pull(&home, &store, &from).unwrap();
    assert!(first.is_new);
    assert_eq!(first.verdict, Verdict::Unchecked);
    assert_eq!(first.image.execution.cmd, ["sh"]);
    store.open_root(&first.image).unwrap();
    assert_eq!(store.named(&from).unwrap(), Some(first.image.clone()));
    assert_eq!(
        store.get(&Source::Registry(from.clone())).unwrap(),
        first.image
    );
    assert_eq!(faults.count(Seen::is_blob), 3);

    let again = pull(&home, &store, &from).unwrap();
    assert!(!again.is_new);
    assert_eq!(
        (again.image.id, again.digest),
        (first.image.id, first.digest)
    );
    assert_eq!(faults.count(Seen::is_blob), 3);
    assert_eq!(
        faults.count(|seen| seen.is_manifest() && seen.method == "GET"),
        1
    );

    let pinned = name(&faults.address, &format!("app@{}", first.digest));
    assert_eq!(
        pull(&home, &store, &pinned).unwrap().image.id,
        first.image.id
    );
    // Layers are known by then; the configuration is asked for again.
    assert_eq!(faults.count(Seen::is_blob), 4);
    let names: Vec<String> = store
        .names()
        .unwrap()
        .into_iter()
        .map(|tagged| tagged.name)
        .collect();
    assert_eq!(names, [from.to_string(), pinned.to_string()]);
    assert!(store.untag(&pinned).unwrap() && !store.untag(&pinned).unwrap());
    assert!(store.named(&pinned).unwrap().is_none());
}

#[test]
fn what_a_bad_line_brings_is_the_same() {
    let (registry, home) = published();
    let good = pull(&home, &store(&home, "good"), &registry.name("app:1")).unwrap();
    let faults = Faults::start(&registry.address, |seen| match seen.earlier {
        0..3 if seen.is_blob() => Action::Cut(50_000),
        _ => Action::Pass,
    });
    let bad = pull(&home, &store(&home, "bad"), &name(&faults.address, "app:1")).unwrap();
    assert_eq!(good.image.id, bad.image.id);
    assert!(fs::read(&good.image.path).unwrap() == fs::read(&bad.image.path).unwrap());
}

#[test]
fn a_broken_layer_leaves_the_store_as_it_was() {
    let (registry, home) = published();
    let store = store(&home, "store");
    let root = home.path().join("store");
    let flips = Faults::start(&registry.address, |seen| match seen.is_blob() {
        true => Action::Flip(150_000),
        false => Action::Pass,
    });
    let error = pull(&home, &store, &name(&flips.address, "app:1")).unwrap_err();
    assert!(matches!(error, PullError::Download(_)), "{error:?}");
    assert!(
        error.to_string().contains("was changed on the way"),
        "{error}"
    );
    assert_eq!(files(&root), BTreeSet::from(["lock".into()]));
    // A name that stands for something stays when its successor fails: layers that are no tar.
    let from = registry.name("app:1");
    let good = pull(&home, &store, &from).unwrap();
    let before = files(&root);
    let bad = Image::new(vec![noise(1, 100_000), noise(2, 100_000)]);
    bad.publish(&home.client(), &from);
    let error = pull(&home, &store, &from).unwrap_err();
    assert!(matches!(error, PullError::Convert { .. }), "{error:?}");
    assert_eq!(files(&root), before);
    assert_eq!(store.named(&from).unwrap(), Some(good.image));
}

#[test]
fn pulls_at_the_same_time_share_the_work() {
    let (registry, home) = published();
    let faults = Faults::start(&registry.address, |seen| {
        if seen.is_blob() {
            std::thread::sleep(Duration::from_millis(100));
        }
        Action::Pass
    });
    let from = name(&faults.address, "app:1");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| pull(&home, &store(&home, "store"), &from).unwrap());
        }
    });
    // The two layers once; the configuration by each.
    let layers = faults.count(Seen::is_blob);
    assert!(layers <= 2 + 4, "{layers}");
    let distinct: BTreeSet<String> = faults
        .seen()
        .iter()
        .filter(|seen| seen.is_blob())
        .map(|seen| seen.target.clone())
        .collect();
    assert_eq!(distinct.len(), 3);
}

#[test]
fn what_was_pulled_is_pushed_byte_by_byte() {
    let (registry, home) = published();
    let store = store(&home, "store");
    let from = registry.name("app:1");
    let pulled = pull(&home, &store, &from).unwrap();
    let other = Registry::start();
    let to = other.name("copy:2");
    assert_eq!(
        store.push(&from, &to, &home.client()).unwrap(),
        pulled.digest
    );
    let raw = |address: &str, rest: &str| {
        skopeo(&[
            "inspect",
            "--tls-verify=false",
            "--raw",
            &format!("docker://{address}/{rest}"),
        ])
    };
    assert_eq!(
        raw(&registry.address, "app:1"),
        raw(&other.address, "copy:2")
    );
    let out = home.path().join("out");
    skopeo(&[
        "copy",
        "-q",
        "--src-tls-verify=false",
        &format!("docker://{to}"),
        &format!("oci:{}:x", out.display()),
    ]);
    // Within a registry nothing but the manifest travels.
    let faults = Faults::start(&registry.address, |_| Action::Pass);
    let near = name(&faults.address, "near:1");
    let by_proxy = name(&faults.address, "app:1");
    store.tag(&by_proxy, &pulled.image.id, None).unwrap();
    store.push(&by_proxy, &near, &home.client()).unwrap();
    assert_eq!(
        faults.count(|seen| seen.method == "PUT" && !seen.is_manifest()),
        0
    );
    let error = store
        .push(&registry.name("none"), &near, &home.client())
        .unwrap_err();
    assert!(matches!(error, PushError::Unknown(_)), "{error}");
    // An image that was only converted has its file system, and nothing to push.
    let archive = home.path().join("archive.tar");
    let layout = format!("oci:{}:one", home.path().join("layout").display());
    skopeo(&[
        "copy",
        "-q",
        &layout,
        &format!("docker-archive:{}:x:1", archive.display()),
    ]);
    let path = archive.clone();
    let store = Store::open(&home.path().join("other")).unwrap();
    let converted = store
        .get(&Source::DockerArchive { path, name: None })
        .unwrap();
    store
        .tag(&registry.name("half"), &converted.id, None)
        .unwrap();
    let error = store
        .push(&registry.name("half"), &near, &home.client())
        .unwrap_err();
    assert!(matches!(error, PushError::Incomplete { .. }), "{error}");
}

#[test]
fn the_policy_comes_before_the_registry() {
    let (registry, home) = published();
    let faults = Faults::start(&registry.address, |_| Action::Pass);
    let from = name(&faults.address, "app:1");
    let store = store(&home, "store");
    let path = home.write("policy.json", r#"{"default":[{"type":"reject"}]}"#);
    let policy = Policy::read(&path).unwrap();
    let error = pull_under(&home, &store, &from, Some(&policy)).unwrap_err();
    assert!(
        matches!(error, PullError::Trust(TrustError::Rejected { .. })),
        "{error}"
    );
    assert!(faults.seen().is_empty());
    pull_under(&home, &store, &from, Some(&Policy::accept_anything())).unwrap();
    assert!(store.first_time("unsigned") && !store.first_time("unsigned"));
}

const ROOT: &str = "HULL_TEST_PULL_ROOT";
const FROM: &str = "HULL_TEST_PULL_FROM";

/// The other half of the next test: pulls, in a process that can be killed.
#[test]
#[ignore = "is run by killed_at_any_moment_the_store_is_old_or_new, which gives it its work"]
fn pulls_in_a_process_of_its_own() {
    let root = std::env::var_os(ROOT).expect("run by another test only");
    let from: Reference = std::env::var(FROM).unwrap().parse().unwrap();
    let home = Home::new();
    let store = Store::open(Path::new(&root)).unwrap();
    store
        .pull(
            &from,
            &Pull {
                client: &home.client(),
                policy: None,
                platform: Platform::host(),
                progress: Arc::new(Unwatched),
            },
        )
        .unwrap();
}

#[test]
fn killed_at_any_moment_the_store_is_old_or_new() {
    let (registry, home) = published();
    let from = registry.name("app:1");
    let mut unfinished = 0;
    for round in 0..24_u64 {
        let root = home.path().join(format!("store{round}"));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "store::pulls_in_a_process_of_its_own",
                "--ignored",
            ])
            .env(ROOT, &root)
            .env(FROM, from.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(round * 6));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(&root).unwrap();
        if let Some(image) = store.named(&from).unwrap() {
            store.open_root(&image).unwrap();
            store
                .push(
                    &from,
                    &registry.name(&format!("copy:{round}")),
                    &home.client(),
                )
                .unwrap();
        } else {
            unfinished += 1;
        }
        // What is left does not stand in the way of the next one, which tidies up.
        let pulled = pull(&home, &store, &from).unwrap();
        store.open_root(&pulled.image).unwrap();
    }
    assert!(
        unfinished > 0,
        "every pull was over before it could be killed"
    );
}
