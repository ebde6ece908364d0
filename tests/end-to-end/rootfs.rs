//! A plain directory is the root of a container: written in place, left alone below a layer, or not to be written at all; and what an
//! image's container can do is done there too.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::fixture::{self, scratch};
use tests::run::Outcome;
use tests::{hull, vm};

/// The files of the busybox image in a directory, and one of the host's own.
fn tree(name: &str) -> PathBuf {
    let host = scratch(name).unwrap().canonicalize().unwrap();
    let name = format!("{name}-source");
    let made = hull(["create", "--name", &name]).image(&fixture::busybox());
    made.finish().exits(0);
    let tar = hull(["export", &name]).finish();
    tar.exits(0);
    hull(["rm", &name]).finish().exits(0);
    let file = host.with_extension("tar");
    fs::write(&file, &tar.stdout).unwrap();
    let unpacked = Command::new("tar")
        .arg("-xpf")
        .arg(&file)
        .arg("-C")
        .arg(&host)
        .status();
    assert!(unpacked.unwrap().success());
    fs::remove_file(file).unwrap();
    fs::write(host.join("etc/hosts"), "of the host\n").unwrap();
    let _ = fs::remove_file(host.join("etc/resolv.conf"));
    std::os::unix::fs::symlink("../run/none/resolv.conf", host.join("etc/resolv.conf")).unwrap();
    host
}

fn run(words: &[&str], directory: &str, script: &str) -> Outcome {
    let words = [
        &["run", "--rm", "--rootfs"],
        words,
        &[directory, "sh", "-c", script],
    ]
    .concat();
    hull(words).finish()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_directory_is_written_in_place_below_a_layer_or_not_at_all() {
    let host = tree("rootfs");
    let at = host.to_str().unwrap();
    let flags = [
        "-e",
        "A=b",
        "-w",
        "/made/here",
        "-u",
        "7:8",
        "--hostname",
        "box",
        "--memory",
        "128m",
    ];
    let told = "id -u; id -g; echo $A; pwd; hostname; cat /etc/hostname; grep -c box /etc/hosts; grep -c . /etc/resolv.conf >/dev/null && echo names";
    let told = run(&flags, at, told);
    told.prints("7\n8\nb\n/made/here\nbox\nbox\n1\nnames\n");
    // In place: as root, with owners and modes; what docker mounts over is not touched.
    let script = "echo new >/file; chown 5:6 /file; chmod 4751 /file; mkdir /tmp/d; ln -s file /link; mkfifo /pipe; rm /etc/passwd; mknod /x c 1 3 2>/dev/null || echo no devices";
    run(&[], at, script).prints("no devices\n");
    let file = fs::metadata(host.join("file")).unwrap();
    assert_eq!(
        (file.uid(), file.gid(), file.mode() & 0o7777),
        (5, 6, 0o4751)
    );
    assert!(host.join("tmp/d").is_dir() && !host.join("etc/passwd").exists());
    assert_eq!(read(&host.join("etc/hosts")), "of the host\n");
    let link = fs::read_link(host.join("etc/resolv.conf")).unwrap();
    assert_eq!(link, Path::new("../run/none/resolv.conf"));
    assert_eq!(read(&host.join("link")), "new\n");
    // Below a layer: everything can be written, nothing arrives.
    let below = format!("{at}:O");
    let script =
        "echo layer >/file; rm /link; mknod /x c 1 3; mkdir /other; cat /file; ls -d /x /other";
    run(&[], &below, script).prints("layer\n/other\n/x\n");
    // Read-only, for the server too.
    let script = "touch /a /tmp/a /etc/a 2>&1 | grep -c Read-only; cat /file";
    run(&["--read-only"], at, script).prints("3\nnew\n");
    let script = "mount -o remount,rw / && touch /b && echo in the layer";
    run(&["--read-only", "--privileged"], at, script).prints("in the layer\n");
    assert_eq!(read(&host.join("file")), "new\n");
    for name in ["x", "other", "a", "b"] {
        assert!(!host.join(name).exists(), "{name}");
    }
    // A volume beside, and one inside of it that is filled.
    let beside = scratch("rootfs-beside").unwrap().canonicalize().unwrap();
    let volume = format!("--volume={}:/v", beside.display());
    run(
        &[&volume, "-v", "/bin", "--tmpfs", "/tmp"],
        at,
        "cp /file /v/; test -e /bin/sh && ls /v; ls /tmp",
    )
    .prints("file\n");
    assert_eq!(read(&beside.join("file")), "new\n");
    fs::remove_dir_all(beside).unwrap();
    fs::remove_dir_all(host).unwrap();
}

#[test]
fn its_containers_live_as_those_of_images() {
    let host = tree("rootfs-life");
    let at = host.to_str().unwrap();
    let below = format!("{at}:O");
    let script = "echo ready; trap 'exit 3' TERM; while :; do sleep 0.1; done";
    for (name, directory, direct) in [("direct", at, true), ("layered", &below, false)] {
        let verb = |verb: &str, after: &[&str]| {
            let words = [&[verb, name], after].concat();
            hull(words).finish()
        };
        let exec = |script: &str| verb("exec", &["sh", "-c", script]);
        let run = [
            "run", "-d", "--name", name, "--rootfs", directory, "sh", "-c", script,
        ];
        hull(run).finish().exits(0);
        exec(&format!("echo {name} >/kept; id -u")).prints("0\n");
        let filter = format!("name={name}");
        let listed = hull(["ps", "--filter", &filter, "--format", "{{.Image}}"]).finish();
        listed.prints(&format!("{directory}\n"));
        let words = [
            "inspect",
            "--format",
            "{{.Rootfs}}|{{.Image}}|{{.Config.Image}}",
            name,
        ];
        hull(words).finish().prints(&format!("{at}||{directory}\n"));
        let save = hull(["snapshot", "create", name, "one"]).finish();
        save.exits(1).complains("Run it without --rootfs");
        let copy = host.with_extension(name);
        let out = [format!("{name}:/kept"), copy.display().to_string()];
        hull(["cp", &out[0], &out[1]]).finish().exits(0);
        assert_eq!(read(&copy), format!("{name}\n"));
        verb("stop", &[]).exits(0);
        hull(["wait", name]).finish().prints("3\n");
        // Where it does not run.
        hull(["cp", &out[1], &format!("{name}:/put")])
            .finish()
            .exits(0);
        let diff = verb("diff", &[]);
        if direct {
            diff.exits(1).complains("--rootfs DIR:O");
        } else {
            let lines = diff.exits(0).out();
            assert!(
                lines.contains("A /kept\n") && lines.contains("A /put\n"),
                "{lines}"
            );
        }
        let tar = verb("export", &[]);
        let inside = |name: &[u8]| tar.stdout.windows(name.len()).any(|window| window == name);
        assert!(inside(b"put\0") && inside(b"bin/busybox\0"));
        verb("start", &[]).exits(0);
        exec("cat /kept /put").prints(&format!("{name}\n{name}\n"));
        assert_eq!(host.join("put").exists(), direct, "{name}");
        verb("rm", &["-f"]).exits(0);
        fs::remove_file(copy).unwrap();
        for left in ["put", "kept"] {
            let _ = fs::remove_file(host.join(left));
        }
    }
    fs::remove_dir_all(host).unwrap();
}

#[test]
fn what_is_no_root_is_said() {
    let host = scratch("rootfs-bad").unwrap().canonicalize().unwrap();
    let at = |name: &str| host.join(name).display().to_string();
    for directory in ["empty", "tree"] {
        fs::create_dir(host.join(directory)).unwrap();
    }
    fs::write(host.join("tree/text"), "no program\n").unwrap();
    fs::set_permissions(host.join("tree/text"), PermissionsExt::from_mode(0o644)).unwrap();
    let bad = |words: &[&str], code: i32, said: &str| {
        let words = [&["run", "--rm", "--rootfs"], words].concat();
        hull(words).finish().exits(code).complains(said);
    };
    bad(&[&at("none"), "true"], 125, "There is no directory");
    bad(&[&at("tree/text"), "true"], 125, "not a directory");
    bad(&[&at("empty"), "true"], 127, "nothing in it to run");
    assert_eq!(fs::read_dir(host.join("empty")).unwrap().count(), 0);
    bad(&[&at("tree")], 125, "No command");
    bad(&[&at("tree"), "sh"], 127, "sh");
    bad(&[&at("tree"), "/text"], 126, "/text");
    bad(
        &["--storage", "1g", &at("tree"), "sh"],
        125,
        "--rootfs DIR:O",
    );
    bad(
        &["--start", "warm", &at("tree"), "sh"],
        125,
        "--rootfs do not go together",
    );
    // Without the flag it is an image as before.
    let image = format!("rootfs:{}", at("none"));
    vm().image(&image).run("true").exits(125);
    fs::remove_dir_all(host).unwrap();
}
