//! The store's own verbs: what is in use stays, lists look as docker's, damage is found and repaired.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::fixture::{self, scratch};
use tests::{Outcome, hull, vm};

/// A store with the busybox image.
struct Store(PathBuf);

impl Store {
    fn new(name: &str) -> Self {
        let store = Self(scratch(name).unwrap());
        let file = fixture::path("busybox.tar");
        store
            .hull(&["load", "-i", file.to_str().unwrap()])
            .prints("Loaded image: busybox:latest\n");
        store
    }

    fn hull(&self, words: &[&str]) -> Outcome {
        hull(words.iter().copied())
            .host_env("HULL_ROOT", &self.0)
            .finish()
    }

    fn says(&self, words: &[&str]) -> String {
        let outcome = self.hull(words);
        outcome.exits(0);
        outcome.out().trim_end().to_owned()
    }

    fn files(&self, directory: &str) -> usize {
        std::fs::read_dir(self.0.join(directory)).map_or(0, Iterator::count)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn an_image_in_use_stays_until_its_run_ends() {
    let store = Store::new("in-use");
    let id = store.says(&["images", "-q", "--no-trunc"]);
    let start = || {
        let mut run = vm()
            .image("busybox")
            .host_env("HULL_ROOT", &store.0)
            .command(["sh", "-c", "echo up; exec sleep 1000"])
            .start();
        run.wait_for("up");
        run
    };
    let run = start();
    for words in [
        &["rmi", "busybox"][..],
        &["rmi", "--force", &id],
        &["image", "rm", &id],
    ] {
        store.hull(words).exits(1).complains("in use");
    }
    assert_eq!(
        store.says(&["image", "prune", "--all"]),
        "Total reclaimed space: 0B"
    );
    let used = store.says(&["images", "--format", "{{.Containers}}"]);
    assert_eq!(used, "1+");
    // Another name of it goes, and comes back.
    store.says(&["tag", "busybox", "other:2"]);
    assert_eq!(store.says(&["rmi", "other:2"]), "Untagged: other:2");
    // So does one that can be started again.
    let stopped = store.says(&["create", "--name=stopped", "busybox", "true"]);
    for words in [&["rmi", "busybox"][..], &["rmi", &id]] {
        store.hull(words).exits(1).complains("in use by");
    }
    store.hull(&["rm", &stopped]).exits(0);
    // Killed without a chance to say so: the machine ends, and then the image is free.
    run.signal(Signal::KILL);
    let _ = run.finish();
    let killed = Instant::now();
    let removed = loop {
        let outcome = store.hull(&["rmi", "busybox"]);
        if outcome.status.success() {
            break outcome;
        }
        outcome.exits(1).complains("in use");
        assert!(killed.elapsed() < tests::PATIENCE, "{outcome:?}");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(
        removed.out(),
        format!("Untagged: busybox:latest\nDeleted: {id}\n")
    );
    for directory in ["images", "roots", "blobs/sha256", "names", "tmp"] {
        assert_eq!(store.files(directory), 0, "{directory}");
    }
    store
        .hull(&["rmi", "busybox"])
        .exits(1)
        .complains("no image");
}

#[test]
fn lists_look_as_dockers() {
    let store = Store::new("lists");
    let id = store.says(&["images", "-q", "--no-trunc"]);
    let short = &id[7..19];
    store.says(&["tag", "busybox", "localhost:5000/team/tool:v1"]);
    let lines =
        |words: &[&str]| -> Vec<String> { store.says(words).lines().map(str::to_owned).collect() };
    // (Words of `docker images`, 28.2, of the same archive; it has no second name.)
    let list = lines(&["images"]);
    assert_eq!(
        list[0],
        "REPOSITORY                 TAG       IMAGE ID       CREATED       SIZE"
    );
    assert!(
        list[1].starts_with(&format!("busybox                    latest    {short}   ")),
        "{list:?}"
    );
    assert!(
        list[2].starts_with("localhost:5000/team/tool   v1 "),
        "{list:?}"
    );
    assert_eq!(lines(&["images", "busybox"]).len(), 2);
    assert_eq!(lines(&["images", "-q"]), [short]);
    assert!(lines(&["images", "--no-trunc"])[1].contains(&id));
    assert!(lines(&["images", "--digests"])[0].contains("DIGEST"));
    for (filter, count) in [
        ("dangling=true", 0),
        ("dangling=false", 2),
        ("reference=busy*", 1),
        ("reference=*/team/*:v1", 1),
        ("label=none", 0),
        ("before=busybox", 0),
        ("since=busybox", 0),
        ("until=1h", 2),
        ("until=2023-11-14T22:13:20Z", 0),
    ] {
        let format = "{{.Repository}}:{{.Tag}}";
        let found = lines(&["images", "--filter", filter, "--format", format]);
        let images = store.says(&["images", "-q", "--filter", filter]);
        let expected = usize::from(count > 0);
        assert_eq!(images.lines().count(), expected, "{filter}");
        // A filter chooses images; each is listed with all its names.
        assert_eq!(found.is_empty(), count == 0, "{filter}: {found:?}");
    }
    let json = store.says(&["images", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    for (key, value) in [
        ("ID", short),
        ("Repository", "busybox"),
        ("Tag", "latest"),
        ("CreatedAt", "2023-11-14 22:13:20 +0000 UTC"),
    ] {
        assert_eq!(json[key], value, "{json}");
    }
    let inspect = |format: &str| store.says(&["image", "inspect", "--format", format, "busybox"]);
    assert_eq!(
        inspect("{{.Id}} {{.Os}}/{{.Architecture}}"),
        format!("{id} linux/amd64")
    );
    assert_eq!(inspect("{{.Config.Cmd}}"), "[sh]");
    assert_eq!(inspect("{{json .Config.Cmd}}"), "[\"sh\"]");
    assert_eq!(
        inspect("{{index .RepoTags 1}}"),
        "localhost:5000/team/tool:v1"
    );
    assert_eq!(inspect("{{len .RootFS.Layers}}"), "1");
    let document = store.says(&["image", "inspect", "busybox"]);
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document[0]["Created"], "2023-11-14T22:13:20Z");
    let history = lines(&["history", "busybox"]);
    let heads: Vec<&str> = history[0].split_whitespace().collect();
    assert_eq!(heads.join(" "), "IMAGE CREATED CREATED BY SIZE COMMENT");
    assert!(history[1].starts_with(short), "{history:?}");
    assert_eq!(
        lines(&["image", "history", "-q", "--no-trunc", "busybox"])[0],
        id
    );
    let df = lines(&[
        "system",
        "df",
        "--format",
        "{{.Type}} {{.TotalCount}} {{.Active}}",
    ]);
    assert_eq!(df[0], "Images 1 0");
    let prune = ["image", "prune", "--all", "--filter"];
    for filter in ["until=2023-11-14T22:13:20Z", "label=none", "dangling=true"] {
        let said = store.says(&[&prune[..], &[filter]].concat());
        assert_eq!(said, "Total reclaimed space: 0B", "{filter}");
    }
    for filter in ["until=soon", "colour=red", "before=none"] {
        let refused = store.hull(&[&prune[..], &[filter]].concat());
        assert!(!refused.status.success(), "{refused:?}");
    }
    assert_eq!(lines(&["images", "-q"]), [short]);
    for words in [
        &["image", "inspect", "none"][..],
        &["history", "none"],
        &["rmi", "none"],
    ] {
        store.hull(words).exits(1).complains("no image");
    }
    store
        .hull(&["images", "--format", "{{range .}}"])
        .complains("known are");
    let pruned = store.says(&[&prune[..], &["until=1h"]].concat());
    assert!(pruned.contains(&format!("Deleted: {id}")), "{pruned}");
}

/// Changes one byte in the middle of the largest file of a directory.
fn damage(directory: &Path) {
    let files = std::fs::read_dir(directory).unwrap().flatten();
    let file = files.max_by_key(|file| file.metadata().unwrap().len());
    let path = file.unwrap().path();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn damage_is_found_and_repaired_by_removing() {
    let store = Store::new("damage");
    assert_eq!(store.says(&["system", "check"]), "");
    damage(&store.0.join("blobs/sha256"));
    let found = store.hull(&["system", "check"]);
    found.exits(1).complains("--repair");
    assert!(found.out().contains("not those of its digest"), "{found:?}");
    // The layer is gone then, and the image runs without it.
    let repaired = store.says(&["system", "check", "--repair"]);
    assert!(
        repaired.lines().all(|line| line.ends_with("(repaired)")),
        "{repaired}"
    );
    assert_eq!(store.says(&["system", "check"]), "");
    store
        .hull(&["save", "busybox"])
        .exits(1)
        .complains("load or pull it");
    let run = || vm().image("busybox").host_env("HULL_ROOT", &store.0);
    run().run("echo it runs").prints("it runs\n");
    // Without its file system it cannot run, and goes.
    damage(&store.0.join("roots"));
    store.says(&["system", "check", "--repair"]);
    assert_eq!(store.says(&["images", "-q"]), "");
    run()
        .options(["--pull", "never"])
        .run("true")
        .exits(125)
        .complains("not in the store");
    let file = fixture::path("busybox.tar");
    store.says(&["load", "-i", file.to_str().unwrap()]);
    run().run("echo it runs").prints("it runs\n");
    assert_eq!(store.says(&["system", "check"]), "");
}
