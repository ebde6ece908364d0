//! Files that go in and come out of containers, running or stopped; what they have changed, and images of that.

use std::fs;
use std::ops::Deref;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use tests::fixture::scratch;
use tests::run::Outcome;
use tests::{Container, hull};

/// A container of this name, removed when the test is over, and a directory of the host.
struct Box {
    container: Container,
    host: PathBuf,
}

impl Box {
    fn new(name: &'static str, script: &str) -> Self {
        let container = Container::detached(name, &[], script);
        let host = scratch(name).unwrap();
        Self { container, host }
    }

    fn exec(&self, script: &str) -> String {
        self.container.exec(script).exits(0).out()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.host.join(name)
    }

    /// `hull cp`, `@` being the container.
    fn cp(&self, words: &[&str]) -> Outcome {
        let words = words.iter().map(|word| match word.strip_prefix('@') {
            Some(path) => format!("{}:{path}", self.container.0),
            None if word.starts_with("./") => self.path(word).to_string_lossy().into_owned(),
            None => (*word).to_owned(),
        });
        let words = ["cp".to_owned()].into_iter().chain(words);
        hull(words).finish()
    }
}

impl Deref for Box {
    type Target = Container;

    fn deref(&self) -> &Container {
        &self.container
    }
}

impl Drop for Box {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.host);
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn files_go_in_and_out_of_a_container_that_runs_and_one_that_does_not() {
    let script = "mkdir -p /data/sub && echo one >/data/1 && ln /data/1 /data/same && ln -s 1 /data/link && \
                  ln -s /etc /data/out && chown 7:8 /data/1 && chmod 750 /data/sub; echo ready; \
                  trap exit TERM; while :; do sleep 0.1; done";
    let it = Box::new("copies", script);
    it.exec("while ! test -h /data/out; do sleep 0.1; done");
    // Out: a tree under a new name, then below what is there; a file; what a link leads to.
    it.cp(&["@/data", "./tree"]).exits(0);
    assert_eq!(read(&it.path("tree/1")), "one\n");
    let (one, same) = (
        fs::metadata(it.path("tree/1")).unwrap(),
        fs::metadata(it.path("tree/same")).unwrap(),
    );
    assert_eq!(one.ino(), same.ino());
    assert_eq!(fs::read_link(it.path("tree/link")).unwrap(), Path::new("1"));
    let sub = fs::metadata(it.path("tree/sub")).unwrap();
    assert_eq!(sub.mode() & 0o7777, 0o750);
    it.cp(&["@data/1", "./tree/sub/"]).exits(0);
    it.cp(&["-L", "@/data/link", "./followed"]).exits(0);
    assert_eq!(
        read(&it.path("tree/sub/1")) + &read(&it.path("followed")),
        "one\none\n"
    );
    it.cp(&["@/none", "./x"]).exits(1).complains("/none");
    it.cp(&["@/data", "@/x"]).exits(125).complains("One side");
    // In: a tree, links and all, owned by root; and with its owner.
    fs::write(it.path("tree/new"), "x".repeat(3_000_000)).unwrap();
    symlink("/nowhere", it.path("tree/dangling")).unwrap();
    it.cp(&["./tree", "@/tmp/in"]).exits(0);
    it.cp(&["./tree/.", "@/data"]).exits(0);
    let told = it.exec(
        "wc -c </tmp/in/new; readlink /tmp/in/dangling; stat -c '%u:%g %h' /tmp/in/1; ls /data",
    );
    assert!(told.starts_with("3000000\n/nowhere\n0:0 2\n"), "{told}");
    assert!(
        told.contains("dangling\n") && told.contains("new\n"),
        "{told}"
    );
    it.cp(&["./followed", "@/data"]).exits(0);
    it.cp(&["./followed", "@/data/none/"])
        .exits(1)
        .complains("/data/none");
    it.cp(&["./tree", "@/etc/hostname"])
        .exits(1)
        .complains("directory");
    // As a tar, both ways.
    let tar = it.cp(&["@/data/sub", "-"]);
    tar.exits(0);
    let into = hull(["cp", "-", "copies:/tmp"]).feed(tar.stdout.clone());
    into.finish().exits(0);
    assert_eq!(it.exec("cat /tmp/sub/1; stat -c %a /tmp/sub"), "one\n750\n");
    hull(["cp", "-", "copies:/tmp"])
        .feed("this is no tar ".repeat(100))
        .finish()
        .exits(1)
        .complains("checksum");
    // What it lists and has changed.
    let top = it.verb("top", &[], &[]).finish();
    top.exits(0);
    let first = top.out().lines().next().unwrap_or_default().to_owned();
    let heads: Vec<_> = first.split_whitespace().collect();
    assert_eq!(
        heads,
        ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    );
    assert!(top.out().contains("while :; do sleep 0.1; done"), "{top:?}");
    assert!(!top.out().contains("kthreadd"), "{top:?}");
    let top = hull(["top", "copies", "-o", "user,rss,comm"]).finish();
    let row = top.exits(0).out();
    let row: Vec<_> = row
        .lines()
        .nth(1)
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert!(
        matches!(row[..], ["root", rss, "sh" | "busybox"] if rss.parse::<u32>().is_ok_and(|rss| rss > 0)),
        "{top:?}"
    );
    hull(["top", "copies", "--forest"])
        .finish()
        .exits(125)
        .complains("There are -ef, aux");
    // The same where it does not run.
    it.verb("stop", &[], &[]).finish().exits(0);
    it.verb("top", &[], &[])
        .finish()
        .exits(125)
        .complains("does not run");
    it.cp(&["@/data/1", "./stopped"]).exits(0);
    assert_eq!(read(&it.path("stopped")), "one\n");
    it.cp(&["./followed", "@/data/put"]).exits(0);
    let diff = it.verb("diff", &[], &[]).finish();
    assert!(diff.exits(0).out().contains("A /data/put\n"), "{diff:?}");
    it.verb("start", &[], &[]).finish().exits(0);
    assert_eq!(it.exec("cat /data/put"), "one\n");
}

#[test]
fn changes_are_told_and_become_an_image() {
    let script = "rm /usr/bin/wc; echo x >/etc/new; mkdir -p /a/b; chmod 700 /home; mv /usr/bin/tr /usr/bin/moved; \
                  echo ready >/ready; sleep 1000";
    let it = Box::new("changes", script);
    it.exec("while ! test -e /ready; do sleep 0.1; done");
    let diff = it.verb("diff", &[], &[]).finish();
    diff.exits(0);
    let mut lines: Vec<_> = diff.out().lines().map(str::to_owned).collect();
    lines.sort();
    let expected = [
        "A /a",
        "A /a/b",
        "A /etc/new",
        "A /ready",
        "A /usr/bin/moved",
        "C /etc",
        "C /home",
        "C /usr",
        "C /usr/bin",
        "D /usr/bin/tr",
        "D /usr/bin/wc",
    ];
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    assert_eq!(lines, expected);
    let tar = it.verb("export", &[], &[]).finish();
    tar.exits(0);
    let names = |bytes: &[u8], name: &[u8]| bytes.windows(name.len()).any(|window| window == name);
    assert!(names(&tar.stdout, b"etc/new\0") && names(&tar.stdout, b"ready\0"));
    assert!(!names(&tar.stdout, b"usr/bin/wc\0") && !names(&tar.stdout, b"proc/1"));
    let words = [
        "commit",
        "-m",
        "note",
        "-c",
        "ENV COLOUR=red",
        "changes",
        "committed:1",
    ];
    let image = hull(words).finish();
    assert!(image.exits(0).out().starts_with("sha256:"), "{image:?}");
    let run = hull(["run", "--rm", "committed:1", "sh", "-c"]);
    let shown =
        "cat /etc/new; echo $COLOUR; ls /usr/bin/wc 2>&1 | grep -c 'No such'; stat -c %a /home";
    let run = run.option(shown).finish();
    run.prints("x\nred\n1\n700\n");
    hull(["rmi", "committed:1"]).finish().exits(0);
}
