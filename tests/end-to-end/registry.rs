//! Images come from a registry: pulled when they are missing, run, pushed, and run again somewhere else.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tests::fixture::{self, scratch};
use tests::{Vm, hull};

/// Debian's registry on the loopback, until dropped.
struct Registry {
    child: Child,
    address: String,
    directory: PathBuf,
}

impl Registry {
    fn start(name: &str) -> Self {
        let directory = scratch(name).unwrap();
        let config = directory.join("config.yml");
        let data = directory.join("data");
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp:\n  addr: 127.0.0.1:0\n  secret: test\n",
            data.display()
        );
        std::fs::write(&config, text).unwrap();
        // It ends with the thread that started it, also when the test is killed.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "docker-registry", "serve"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry is needed");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines
            .find_map(|line| {
                let line = line.ok()?;
                let (_, rest) = line.split_once("listening on ")?;
                Some(rest.split([' ', ',', '"']).next()?.to_owned())
            })
            .expect("docker-registry says where it listens");
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            address,
            directory,
        }
    }

    fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Puts the busybox image there with skopeo.
fn publish(to: &str) {
    let source = fixture::busybox();
    let status = Command::new("skopeo")
        .args([
            "--insecure-policy",
            "copy",
            "-q",
            "--dest-tls-verify=false",
            &source,
        ])
        .arg(format!("docker://{to}"))
        .status()
        .expect("skopeo is needed");
    assert!(status.success());
}

fn in_store(vm: Vm, store: &Path) -> Vm {
    vm.host_env("HULL_ROOT", store).host_env("HOME", store)
}

#[test]
fn an_image_is_pulled_run_pushed_and_run_elsewhere() {
    let registry = Registry::start("registry");
    let first = registry.name("busybox:1");
    publish(&first);
    let stores = scratch("registry-stores").unwrap();
    let here = stores.join("here");
    let run = |image: &str, store: &Path, pull: &str| {
        let vm = hull(["run", "--rm", "--pull", pull]).image(image);
        in_store(vm, store).run("echo it came a long way")
    };
    run(&first, &here, "never")
        .exits(125)
        .complains("hull pull");
    run(&first, &here, "missing").prints("it came a long way\n");
    run(&first, &here, "never").prints("it came a long way\n");

    let second = registry.name("copies/busybox:2");
    in_store(hull(["push", "-q", &first, &second]), &here)
        .finish()
        .prints(&format!("{second}\n"));
    let elsewhere = stores.join("elsewhere");
    in_store(hull(["pull", "-q", &second]), &elsewhere)
        .finish()
        .prints(&format!("{second}\n"));
    drop(registry);
    run(&second, &elsewhere, "missing").prints("it came a long way\n");
    std::fs::remove_dir_all(stores).unwrap();
}
