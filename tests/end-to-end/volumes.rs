//! Volumes are directories and files of the host: what POSIX says of files holds on them, what is read-only stays as it is,
//! owners are right, and what is in a named volume outlives its containers.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tests::{as_user, fixture, hull, vm};

fn scratch(name: &str) -> PathBuf {
    fixture::scratch(name).unwrap().canonicalize().unwrap()
}

fn volume(path: &Path, target: &str) -> String {
    format!("--volume={}:{target}", path.display())
}

#[test]
fn a_volume_is_made_where_there_is_no_store_yet() {
    let root = scratch("volumes-first").join("new");
    let run = |words: &[&str]| {
        let outcome = hull(words.iter().copied()).host_env("HULL_ROOT", &root);
        outcome.finish().prints("first\n");
    };
    run(&["volume", "create", "first"]);
    run(&["volume", "ls", "-q"]);
}

#[test]
fn directories_and_files_are_shared_and_read_only_ones_stay() {
    let host = scratch("volumes");
    for directory in ["rw", "ro"] {
        std::fs::create_dir(host.join(directory)).unwrap();
        std::fs::write(host.join(directory).join("file"), directory).unwrap();
    }
    std::fs::write(host.join("single"), "single\n").unwrap();
    let options = [
        volume(&host.join("rw"), "/data/rw"),
        volume(&host.join("ro"), "/data/ro:ro"),
        volume(&host.join("single"), "/etc/single"),
        volume(&host.join("made/by/hull"), "/made"),
    ];
    let script = "
        cat /data/rw/file /data/ro/file /etc/single
        echo guest >/data/rw/new; echo guest >>/etc/single; mkdir /made/inner; ls /etc/single
        for change in 'touch /data/ro/x' 'rm /data/ro/file' 'chmod 0 /data/ro/file' 'mkdir /data/ro/d'; do
            $change 2>&1 | grep -c 'Read-only file system'
        done
        mount -o remount,rw /data/ro; rm /data/ro/file 2>&1 | grep -c 'Read-only file system'
        ls -a /dev | grep volumes || echo none";
    vm().options(&options)
        .option("--privileged")
        .run(script)
        .prints("rwrosingle\n/etc/single\n1\n1\n1\n1\n1\nnone\n");
    let read = |name: &str| std::fs::read_to_string(host.join(name)).unwrap();
    assert_eq!(read("rw/new"), "guest\n");
    assert_eq!(read("single"), "single\nguest\n");
    assert_eq!(read("ro/file"), "ro");
    assert!(host.join("made/by/hull/inner").is_dir());
    let missing = format!("--mount=type=bind,source={}/none,target=/x", host.display());
    vm().option(missing)
        .run("true")
        .exits(125)
        .complains("none");
}

#[test]
fn named_volumes_outlive_their_containers() {
    let store = scratch("named");
    let run = |words: &[&str]| hull(words).host_env("HULL_ROOT", &store).finish();
    let image = fixture::busybox();
    let with = |volume: &str, script: &str| {
        run(&["run", "--rm", "-v", volume, &image, "sh", "-c", script])
    };
    run(&["volume", "create", "--label", "a=b", "data"]).prints("data\n");
    // A new one gets what the image has there, and no second time.
    with("data:/etc", "cat /etc/passwd >/etc/copy; rm /etc/passwd").exits(0);
    with(
        "data:/etc",
        "ls /etc/passwd /etc/copy 2>/dev/null; ls -ld /etc | cut -c1-10",
    )
    .prints("/etc/copy\ndrwxr-xr-x\n");
    run(&["create", "--name", "user", "-v", "data:/x", &image]).exits(0);
    let inspected = run(&["inspect", "user"]).out();
    assert!(inspected.contains("\"Destination\": \"/x\""), "{inspected}");
    run(&["volume", "rm", "data"])
        .exits(1)
        .complains("in use by container user");
    run(&["volume", "prune", "--all"]).prints("");
    run(&["volume", "inspect", "--format", "{{.Labels.a}}", "data"]).prints("b\n");
    run(&["rm", "user"]).exits(0);
    run(&["volume", "rm", "data"]).prints("data\n");
    // One without a name goes with its container.
    run(&["run", "--rm", "-v", "/x", &image, "touch", "/x/y"]).exits(0);
    run(&["create", "--name", "other", "-v", "/x", &image]).exits(0);
    assert_eq!(run(&["volume", "ls", "-q"]).out().len(), 65);
    run(&["rm", "-v", "other"]).exits(0);
    run(&["volume", "ls", "-q"]).prints("");
}

/// What a Dockerfile says with VOLUME.
#[test]
fn an_images_volumes_are_its_containers_own() {
    let store = scratch("of-image");
    let run = |words: &[&str]| hull(words).host_env("HULL_ROOT", &store).finish();
    let image = fixture::busybox();
    let script = "mkdir -p /data/sub; echo seed >/data/sub/file; chown -R 7:8 /data/sub; chmod 2750 /data/sub; chmod 1777 /data";
    run(&["run", "--name", "seed", &image, "sh", "-c", script]).exits(0);
    let change = "VOLUME [\"/data\", \"/new\"]";
    run(&["commit", "-c", change, "seed", "with:volumes"]).exits(0);
    run(&["rm", "seed"]).exits(0);
    let names = || run(&["volume", "ls", "-q"]).out().lines().count();
    let look = "stat -c '%u:%g %a' /data /data/sub /data/sub/file; cat /data/sub/file; grep -c virtiofs /proc/mounts";
    let filled = "0:0 1777\n7:8 2750\n7:8 644\nseed\n2\n";
    run(&["run", "--rm", "with:volumes", "sh", "-c", look]).prints(filled);
    assert_eq!(names(), 0);
    // Kept from start to start, and not filled again.
    let once = "test -e /new/mark && cat /data/own; rm -rf /data/sub; echo own >/data/own; touch /new/mark; ls /data";
    let kept = ["run", "--name", "kept", "with:volumes", "sh", "-c", once];
    run(&kept).prints("own\n");
    run(&["start", "-a", "kept"]).prints("own\nown\n");
    assert_eq!(names(), 2);
    let mounts = run(&["inspect", "--format", "{{json .Mounts}}", "kept"]).out();
    assert!(
        mounts.contains("/data") && mounts.contains("/new"),
        "{mounts}"
    );
    run(&["rm", "kept"]).exits(0);
    assert_eq!(names(), 2);
    run(&["volume", "prune", "-f"]).exits(0);
    // What is mounted there by a flag is there instead.
    let words = [
        "run",
        "--rm",
        "-v",
        "mine:/data",
        "--tmpfs",
        "/new",
        "with:volumes",
        "sh",
        "-c",
    ];
    let shown =
        "cat /data/sub/file; grep -c tmpfs./new /proc/mounts; grep -c virtiofs /proc/mounts";
    run(&[&words[..], &[shown]].concat()).prints("seed\n1\n1\n");
    run(&["volume", "ls", "-q"]).prints("mine\n");
    run(&["create", "--name", "gone", "with:volumes"]).exits(0);
    assert_eq!(names(), 3);
    run(&["rm", "-v", "gone"]).exits(0);
    run(&["volume", "ls", "-q"]).prints("mine\n");
}

/// The same program on the host's file system and on a volume says the same.
#[test]
fn posix_holds_as_on_the_host() {
    let host = scratch("posix");
    for directory in ["reference", "volume"] {
        let (fresh, many) = (
            host.join(directory).join("fresh"),
            host.join(directory).join("many"),
        );
        std::fs::create_dir_all(fresh.join("d")).unwrap();
        std::fs::write(fresh.join("old"), "old").unwrap();
        std::os::unix::fs::symlink("old", fresh.join("way")).unwrap();
        std::os::unix::fs::symlink("none", fresh.join("astray")).unwrap();
        std::fs::create_dir(&many).unwrap();
        for number in 0..100_000 {
            std::fs::File::create(many.join(number.to_string())).unwrap();
        }
    }
    let script = include_str!("volumes/posix.py");
    let reference = Command::new("python3")
        .args(["-c", script])
        .arg(host.join("reference"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let meant = String::from_utf8_lossy(&reference.stdout).into_owned();
    assert!(reference.status.success(), "{reference:?}");
    assert!(meant.ends_with("all\n"), "{meant}");
    vm().image(&fixture::python())
        .option(volume(&host.join("volume"), "/volume"))
        .command(["python3", "-c", script, "/volume"])
        .finish()
        .prints(&meant);
}

/// An ordinary user's files are root's inside, and what others own is nobody's.
#[test]
fn an_ordinary_user_shares_its_own_files() {
    const USER: u32 = 4242;
    let host = scratch("ordinary");
    let chown = |path: &Path| std::os::unix::fs::chown(path, Some(USER), Some(USER)).unwrap();
    std::fs::write(host.join("other"), "of root\n").unwrap();
    std::fs::create_dir(host.join("store")).unwrap();
    chown(&host);
    chown(&host.join("store"));
    let inside = "cd /v; stat -c '%n %u:%g' other; echo mine >mine; chmod 0 mine; echo more >>mine; chmod 640 mine
        stat -c '%n %u:%g %a' mine; chown 5 mine 2>&1 | grep -c 'not permitted'; chown 0:0 mine && cat mine
        echo x 2>/dev/null >>other || echo not root; cat other; rm other; mkfifo pipe; ln -s /etc link; ls";
    let run = vm().under(as_user(USER)).option("--jail=strict");
    let run = run.host_env("HULL_ROOT", host.join("store"));
    run.option(volume(&host, "/v")).run(inside).prints(
        "other 65534:65534\nmine 0:0 640\n1\nmine\nmore\nnot root\nof root\nlink\nmine\npipe\nstore\n",
    );
    let mine = std::fs::metadata(host.join("mine")).unwrap();
    assert_eq!((mine.uid(), mine.gid()), (USER, USER));
}
