//! Images of podman's and docker's own stores, and archives that these two made: they come in and go out with the digests
//! they have there. The real podman and the real docker daemon (Debian's) are needed, and root for them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use image::reference::{Reference, Source};
use image::{Digest, Format, GetError, Store};

use crate::fixture::{Home, run};
use crate::skopeo::{layout, skopeo};

const ROOT: &str = "HULL_TEST_EXPORT_ROOT";
const SOURCE: &str = "HULL_TEST_EXPORT_SOURCE";

/// The other half of [`get`]: the tools are found, and find their stores, by the environment.
#[test]
#[ignore = "is run by the tests below, which give it its work"]
fn gets_in_a_process_of_its_own() {
    let root = std::env::var_os(ROOT).expect("run by another test only");
    let source = Source::parse(&std::env::var_os(SOURCE).unwrap()).unwrap();
    let store = Store::open(Path::new(&root)).unwrap();
    match store.get(&source) {
        Ok(image) => println!("\nimage {}", image.id),
        Err(GetError::Export { source, .. }) => println!("\nrefused {source}"),
        Err(other) => panic!("{other:?}"),
    }
}

/// What becomes of `source` in a store of its own, where the tools `with` are all there is.
fn get(home: &Home, variable: (&str, &Path), source: &str, with: &[&str]) -> String {
    let programs = home.path().join(format!("bin-{}", with.join("-")));
    fs::create_dir_all(&programs).unwrap();
    for tool in with {
        let path = run(Command::new("which").arg(tool));
        let path = PathBuf::from(String::from_utf8(path).unwrap().trim());
        // The second time it is there.
        let _ = std::os::unix::fs::symlink(path, programs.join(tool));
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "exports::gets_in_a_process_of_its_own"])
        .args(["--ignored", "--nocapture"])
        .env(variable.0, variable.1)
        .env("PATH", &programs)
        .env(ROOT, home.path().join(format!("store-{}", with.join("-"))))
        .env(SOURCE, source);
    let said = String::from_utf8(run(&mut child)).unwrap();
    let mut lines = said.lines();
    let line = lines.find(|line| line.starts_with("image ") || line.starts_with("refused "));
    line.unwrap_or_else(|| panic!("{said}")).to_owned()
}

/// A store of podman's own.
struct Podman {
    conf: PathBuf,
    root: PathBuf,
}

const STORAGE: &str = "CONTAINERS_STORAGE_CONF";

impl Podman {
    fn new(home: &Home) -> Self {
        let root = home.path().join("containers");
        let text = format!(
            "[storage]\ndriver = \"vfs\"\nrunroot = \"{0}/run\"\ngraphroot = \"{0}/graph\"\n",
            root.display()
        );
        let conf = home.write("storage.conf", text);
        Self { conf, root }
    }

    fn run(&self, arguments: &[&str]) -> String {
        let mut podman = Command::new("podman");
        podman.args(arguments).env(STORAGE, &self.conf);
        String::from_utf8(run(&mut podman)).unwrap()
    }

    fn id(&self, name: &str) -> String {
        let id = self.run(&["image", "inspect", "--format", "{{.Id}}", name]);
        format!("sha256:{}", id.trim())
    }
}

/// Debian's docker daemon without a network, until dropped.
struct Docker {
    child: Child,
    host: String,
}

impl Docker {
    fn start(home: &Home) -> Self {
        let root = home.path().join("docker");
        fs::create_dir(&root).unwrap();
        let host = format!("unix://{}", root.join("socket").display());
        // `setpriv`: it ends with this test.
        let mut daemon = Command::new("setpriv");
        daemon
            .args(["--pdeathsig", "TERM", "dockerd", "--host", &host])
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none"])
            .arg("--storage-driver=vfs")
            .args(["--data-root".as_ref(), root.join("data").as_os_str()])
            .args(["--exec-root".as_ref(), root.join("exec").as_os_str()])
            .args(["--pidfile".as_ref(), root.join("pid").as_os_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(root.join("log")).unwrap());
        let mut child = daemon.spawn().expect("docker.io is needed");
        let started = Instant::now();
        while !root.join("socket").exists() {
            let log = || fs::read_to_string(root.join("log")).unwrap();
            assert!(child.try_wait().unwrap().is_none(), "{}", log());
            assert!(started.elapsed() < Duration::from_secs(120), "{}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { child, host }
    }

    fn run(&self, arguments: &[&str]) -> String {
        let mut docker = Command::new("docker");
        docker.args(arguments).env("DOCKER_HOST", &self.host);
        String::from_utf8(run(&mut docker)).unwrap()
    }

    fn id(&self, name: &str) -> String {
        let id = self.run(&["image", "inspect", "--format", "{{.Id}}", name]);
        id.trim().to_owned()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // It ends its containerd itself.
        let id = self.child.id().to_string();
        let _ = Command::new("kill").arg(id).status();
        let _ = self.child.wait();
    }
}

/// An image as an archive that all tools can read, and its id.
fn archive(home: &Home) -> (PathBuf, Digest) {
    let oci = format!("oci:{}", layout(home.path()));
    let path = home.path().join("archive.tar");
    let target = format!("docker-archive:{}:localhost/app:1", path.display());
    skopeo(&["copy", "-q", &oci, &target]);
    let id = Digest::of(&skopeo(&["inspect", "--config", "--raw", &oci]));
    (path, id)
}

#[test]
fn an_image_of_podmans_store_is_converted_once() {
    let home = Home::new();
    let (path, id) = archive(&home);
    let podman = Podman::new(&home);
    podman.run(&["load", "--quiet", "--input", path.to_str().unwrap()]);
    assert_eq!(podman.id("localhost/app:1"), id.to_string());
    let variable = (STORAGE, podman.conf.as_path());
    for with in [&["podman"][..], &["skopeo"]] {
        let get = |name: &str| get(&home, variable, &format!("containers-storage:{name}"), with);
        assert_eq!(get("localhost/app:1"), format!("image {id}"), "{with:?}");
        // The second time it is not exported: the layers may be gone by then.
        let (layers, away) = (podman.root.join("graph/vfs/dir"), podman.root.join("away"));
        fs::rename(&layers, &away).unwrap();
        assert_eq!(get("localhost/app:1"), format!("image {id}"), "{with:?}");
        fs::rename(&away, &layers).unwrap();
        assert!(get("localhost/none:1").starts_with("refused "), "{with:?}");
    }
    let said = get(
        &home,
        variable,
        "containers-storage:localhost/app:1",
        &["true"],
    );
    assert!(said.contains("podman, skopeo"), "{said}");
}

#[test]
fn an_image_of_the_docker_daemon_is_converted_once() {
    let home = Home::new();
    let (path, id) = archive(&home);
    let docker = Docker::start(&home);
    docker.run(&["load", "--quiet", "--input", path.to_str().unwrap()]);
    assert_eq!(docker.id("localhost/app:1"), id.to_string());
    let host = PathBuf::from(&docker.host);
    let get = |name: &str| {
        let source = format!("docker-daemon:{name}");
        get(&home, ("DOCKER_HOST", &host), &source, &["docker"])
    };
    assert_eq!(get("localhost/app:1"), format!("image {id}"));
    assert_eq!(get("localhost/app:1"), format!("image {id}"));
    assert!(get("localhost/none:1").starts_with("refused "));
    drop(docker);
    assert!(get("localhost/app:1").starts_with("refused "));
}

/// Brings an archive into a store and out of it again, in both forms; gives what came out.
fn through(home: &Home, label: &str, source: &Source, id: &Digest) -> (PathBuf, PathBuf) {
    let store = Store::open(&home.path().join(format!("store-{label}"))).unwrap();
    let loaded = store.load(source).unwrap();
    assert_eq!(loaded.len(), 1, "{label}");
    let (image, names) = (loaded[0].image.clone(), loaded[0].names.clone());
    assert_eq!(image.id, *id, "{label}");
    let wanted: Reference = "localhost/app:1".parse().unwrap();
    assert_eq!(names, [wanted], "{label}");
    let save = |format: Format, kind: &str| {
        let path = home.path().join(format!("{label}-{kind}.tar"));
        let mut file = fs::File::create(&path).unwrap();
        let images = [(image.clone(), names.clone())];
        store.save(&images, format, &mut file).unwrap();
        path
    };
    (save(Format::Docker, "docker"), save(Format::Oci, "oci"))
}

#[test]
fn archives_of_podman_and_docker_go_in_and_out_with_their_digests() {
    let home = Home::new();
    let (path, id) = archive(&home);
    let (podman, docker) = (Podman::new(&home), Docker::start(&home));
    podman.run(&["load", "--quiet", "--input", path.to_str().unwrap()]);
    docker.run(&["load", "--quiet", "--input", path.to_str().unwrap()]);
    let at = |name: &str| home.path().join(name);
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    for format in ["docker-archive", "oci-archive"] {
        let file = text(&at(format));
        let name = "localhost/app:1";
        podman.run(&[
            "save", "--quiet", "--format", format, "--output", &file, name,
        ]);
    }
    docker.run(&["save", "--output", &text(&at("daemon")), "localhost/app:1"]);
    let sources = [
        ("skopeo", path, true),
        ("podman", at("docker-archive"), true),
        ("podman-oci", at("oci-archive"), false),
        ("docker", at("daemon"), true),
    ];
    for (label, path, docker_archive) in sources {
        let source = match docker_archive {
            true => Source::DockerArchive {
                path: path.clone(),
                name: None,
            },
            false => Source::OciArchive {
                path: path.clone(),
                tag: None,
            },
        };
        let kind = if docker_archive {
            "docker-archive"
        } else {
            "oci-archive"
        };
        let named = format!("{kind}:{}", path.display());
        let theirs = Digest::of(&skopeo(&["inspect", "--config", "--raw", &named]));
        // (podman writes another configuration into an OCI archive, which is another image then.)
        assert_eq!(theirs == id, docker_archive, "{label}");
        let id = theirs;
        let (out, oci) = through(&home, label, &source, &id);
        // The layers are the same bytes …
        let layers = |archive: &str| -> Vec<serde_json::Value> {
            let inspected = skopeo(&["inspect", archive]);
            let inspected: serde_json::Value = serde_json::from_slice(&inspected).unwrap();
            inspected["Layers"].as_array().unwrap().clone()
        };
        let theirs = layers(&named);
        assert_eq!(theirs.len(), 2);
        assert_eq!(
            layers(&format!("oci-archive:{}", oci.display())),
            theirs,
            "{label}"
        );
        if !docker_archive {
            // … and so is the manifest, where there was one.
            let raw = |path: &Path| {
                skopeo(&[
                    "inspect",
                    "--raw",
                    &format!("oci-archive:{}", path.display()),
                ])
            };
            assert_eq!(raw(&path), raw(&oci));
        }
        // … and the tools know the image again.
        podman.run(&["rmi", "--force", "localhost/app:1"]);
        docker.run(&["rmi", "--force", "localhost/app:1"]);
        podman.run(&["load", "--quiet", "--input", &text(&out)]);
        docker.run(&["load", "--quiet", "--input", &text(&out)]);
        assert_eq!(podman.id("localhost/app:1"), id.to_string(), "{label}");
        assert_eq!(docker.id("localhost/app:1"), id.to_string(), "{label}");
        podman.run(&["rmi", "--force", "localhost/app:1"]);
        podman.run(&["load", "--quiet", "--input", &text(&oci)]);
        assert!(
            podman
                .run(&["images", "--quiet", "--no-trunc"])
                .contains(&id.hex()),
            "{label}"
        );
    }
}
